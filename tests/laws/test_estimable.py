"""What is not estimable: dropped columns, and predictions, contrasts, priors and tests that need them.

Numbers of lme4 and emmeans: ``tests/reference/estimable``, with the script that made them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import DataError, NotEstimableError, PriorError
from tests.support.references import FOLDER, reference

ROWS = pd.read_csv(FOLDER / "estimable" / "rows.csv")
NUMBERS = reference("estimable", "numbers")
CELLS = "y ~ a * b + x + (1 | g)"
TWICE = "y ~ a + x + twice + (1 | g)"
NESTED = "y ~ site/plot + (1 | g)"
EVERY = {"empty_cell": CELLS, "collinear": TWICE, "nested": NESTED}


@pytest.fixture(scope="module")
def cells():
    """Fits with an empty cell, a3 with b2: REML, posterior, least squares."""
    model = hp.Model(CELLS, ROWS)
    line = hp.complete_pooling("y ~ a * b + x", ROWS, "g").reml()
    return {"reml": model.reml(), "posterior": model.fit(draws=250, seed=1), "line": line}


@pytest.fixture(scope="module")
def twice():
    """Fits with a predictor that is twice another, plus 3."""
    model = hp.Model(TWICE, ROWS)
    return {"reml": model.reml(), "posterior": model.fit(draws=250, seed=1)}


def refused(make) -> NotEstimableError:
    with pytest.raises(NotEstimableError) as caught:
        make()
    assert caught.value.code == "not-estimable"
    return caught.value


# --- the fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_reml_keeps_the_columns_of_lme4_and_reaches_its_likelihood(name):
    reml, want = hp.Model(EVERY[name], ROWS).reml(), NUMBERS[name]
    assert reml.loglik == pytest.approx(want["loglik"], abs=1e-7)
    assert len(reml.design.terms) == len(want["terms"])
    if name != "nested":  # R orders the columns of site:plot otherwise
        np.testing.assert_allclose(reml.estimate.beta, want["beta"], atol=1e-6)


def test_dropped_columns_are_named_with_the_reason():
    (notice,) = hp.Model("y ~ a * b + x + twice + (1 | g)", ROWS).notices
    assert notice.code == "columns-dropped"
    assert "'twice' (a combination of 'x'); 'a[T.a3]:b[T.b2]' (0 in every row)" in notice.text


def test_dropped_columns_are_in_no_table(cells):
    for name in ("reml", "posterior"):
        assert "a[T.a3]:b[T.b2]" not in cells[name].fixed_effects().index
        assert len(cells[name].fixed_effects()) == 6


# --- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_f_tests_have_the_degrees_of_freedom_that_emmeans_counts(name):
    table = hp.Model(EVERY[name], ROWS).reml().anova(df="kenward-roger")
    want = {row["model term"]: row for row in NUMBERS[name]["joint_tests"]}
    for term, row in table.iterrows():
        if term not in want:  # nothing of it is estimable
            assert row["num_df"] == 0
            assert np.isnan(row["F"])
            assert np.isnan(row["p"])
            continue
        assert row["num_df"] == want[term]["df1"]
        one = row["num_df"] == 1  # emmeans has another approximation of den_df for several
        assert row["den_df"] == pytest.approx(want[term]["df2"], rel=0 if one else 0.02, abs=0.006)
        assert row["F"] == pytest.approx(want[term]["F.ratio"], abs=0.0006)
        assert row["p"] == pytest.approx(want[term]["p.value"], abs=1e-4 if one else 1e-3)


def test_f_test_of_a_nesting_factor_is_that_of_the_means_of_what_is_nested_in_it():
    reml = hp.Model(NESTED, ROWS).reml()
    means = hp.Model("y ~ 0 + plot + (1 | g)", ROWS).reml()
    each = {s: [f"plot[{p}]" for p in sorted(d["plot"].unique())] for s, d in ROWS.groupby("site")}
    table = means.fixed_effects()["estimate"]
    moved = [table[each[s]].mean() - table[each["A"]].mean() for s in "BC"]
    L = np.array([[(t in each[s]) / 2 - (t in each["A"]) / 2 for t in table.index] for s in "BC"])
    F = moved @ np.linalg.solve(L @ means.estimate.beta_covariance @ L.T, moved) / 2
    assert reml.anova().loc["site", "num_df"] == 2
    assert reml.anova().loc["site", "F"] == pytest.approx(F)


def test_f_test_of_complete_cells_does_not_change_beside_a_repeated_predictor():
    one = hp.Model("y ~ a + x + (1 | g)", ROWS).reml().anova().loc["a"]
    pd.testing.assert_series_equal(hp.Model(TWICE, ROWS).reml().anova().loc["a"], one, rtol=1e-6)


# --- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reml", "posterior", "line"])
def test_prediction_of_an_empty_cell_is_refused_and_the_rows_are_named(cells, name):
    new = ROWS.head(4).assign(a=["a1", "a3", "a2", "a3"], b="b2").set_axis([10, 20, 30, 40])
    error = refused(lambda: cells[name].predict(new))
    assert error.labels == [20, 40]
    assert "rows 20, 40 are not estimable" in str(error)
    assert "'a[T.a3]:b[T.b2]'" in str(error)
    assert np.isfinite(cells[name].predict(new.drop(error.labels))).all().all()


def test_draws_of_an_empty_cell_are_refused(cells):
    new = ROWS.head(1).assign(a="a3", b="b2")
    refused(lambda: cells["posterior"].predict_draws(new, groups="average"))


def test_marginal_means_of_cells_are_those_of_emmeans(cells):
    want = NUMBERS["empty_cell"]["means"][2]
    grid = pd.DataFrame(want)[["a", "b"]].assign(x=ROWS["x"].mean())
    error = refused(lambda: cells["reml"].predict(grid, groups="average"))
    assert error.labels == [i for i, row in enumerate(want) if row["emmean"] is None]
    found = cells["reml"].predict(grid.drop(error.labels), groups="average")
    for i, row in found.iterrows():
        assert row["estimate"] == pytest.approx(want[i]["emmean"], abs=1e-6)


@pytest.mark.parametrize("name", ["reml", "posterior"])
def test_collinear_predictor_that_keeps_to_its_rule_is_predicted_right(twice, name):
    new = ROWS.head(3).assign(x=[0.3, -4.0, 100.0])
    one = hp.Model("y ~ a + x + (1 | g)", ROWS)
    fit = one.reml() if name == "reml" else one.fit(draws=250, seed=1)
    kept = new.assign(twice=2 * new["x"] + 3)
    np.testing.assert_allclose(twice[name].predict(kept), fit.predict(new), rtol=1e-6)
    error = refused(lambda: twice[name].predict(kept.assign(twice=[3.6, -5.0, 203.5])))
    assert error.labels == [2]


def test_constant_predictor_with_another_value_is_refused():
    reml = hp.Model("y ~ x + dose + (1 | g)", ROWS.assign(dose=7.0)).reml()
    assert len(reml.predict(ROWS.assign(dose=7.0))) == len(ROWS)
    assert "'dose'" in str(refused(lambda: reml.predict(ROWS.head(2).assign(dose=[7.0, 8.0]))))


def test_spline_beside_a_constant_predicts_as_the_centred_one():
    new = ROWS.assign(x=np.linspace(-1, 1, len(ROWS)))
    plain = hp.Model("y ~ cr(x, df=3) + (1 | g)", ROWS).reml()
    centred = hp.Model("y ~ cr(x, df=3, constraints='center') + (1 | g)", ROWS).reml()
    assert len(plain.design.terms) == 3
    wide = hp.Model("y ~ cr(x, df=4, constraints='center') + (1 | g)", ROWS).reml()
    assert len(centred.design.terms) == 4
    assert len(wide.design.terms) == 5
    bare = hp.Model("y ~ 0 + cr(x, df=3) + (1 | g)", ROWS).reml()
    np.testing.assert_allclose(plain.predict(new), bare.predict(new), rtol=1e-6)


def test_empty_cell_of_what_varies_asks_for_an_average_level():
    reml = hp.Model("y ~ x + (0 + a:b | g)", ROWS).reml()
    assert "'a[a3]:b[b2]' (0 in every row)" in reml.design.notices[0].text
    new = ROWS.head(1).assign(a="a3", b="b2")
    assert "groups='average'" in str(refused(lambda: reml.predict(new)))
    assert np.isfinite(reml.predict(new, groups="average")).all().all()


@pytest.mark.parametrize("name", ["reml", "posterior"])
def test_no_pooling_refuses_what_no_level_tells(name):
    model = hp.no_pooling("y ~ x + twice", ROWS, "g")
    fit = model.reml() if name == "reml" else model.fit(draws=250, seed=1)
    assert fit.design.groups[0].dropped == ("twice",)
    assert np.isfinite(fit.predict(ROWS)).all().all()
    refused(lambda: fit.predict(ROWS.assign(twice=0.0)))


# --- contrasts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reml", "posterior", "line"])
def test_contrast_over_an_empty_cell_is_missing_and_its_advice_works(cells, name):
    table = hp.contrast(cells[name], "a")
    assert table.index[table.isna().all(axis=1)].tolist() == ["a1 - a3", "a2 - a3"]
    (finding,) = table.findings
    assert "contrasts 'a1 - a3', 'a2 - a3' are not estimable" in finding.text
    assert refused(lambda: hp.contrast(cells[name], "a", ["a1", "a3"])).labels == ["a1 - a3"]
    pd.testing.assert_frame_equal(
        hp.contrast(cells[name], "a", levels=["a1", "a2"]),
        hp.contrast(cells[name], "a", adjust="none").dropna(),
    )
    assert np.isfinite(hp.contrast(cells[name], "a", at={"b": "b1"})).all().all()


def test_contrasts_within_a_category_are_those_of_emmeans(cells):
    want = {row["contrast"]: row for row in NUMBERS["empty_cell"]["pairs"][2]}
    found = hp.contrast(cells["reml"], "a", at={"b": "b1"})
    for label, row in found.iterrows():
        one, other = label.split(" - ")
        reference = want[f"{one} b1 - {other} b1"]
        assert row["estimate"] == pytest.approx(reference["estimate"], abs=1e-6)
        assert row["se"] == pytest.approx(reference["SE"], rel=1e-4)


def test_combination_that_cancels_the_empty_cell_is_estimable(cells):
    weights = {"a1": 1, "a2": -1, "a3": 0}
    one = hp.contrast(cells["reml"], "a", levels=weights)
    two = hp.contrast(cells["reml"], "a", levels=["a1", "a2"])
    np.testing.assert_allclose(one, two)


def test_contrast_of_a_collinear_predictor_alone_is_refused(twice):
    assert "'twice'" in str(refused(lambda: hp.contrast(twice["reml"], "x", [1, 0])))
    alone = hp.Model("y ~ a + x + (1 | g)", ROWS).reml()
    assert len(hp.contrast(alone, "x", [1, 0])) == 1


def test_dropped_coefficient_has_no_contrast(twice):
    refused(lambda: hp.contrast(twice["reml"], {"twice": 1}))
    varying = hp.Model("y ~ x + (x + twice | g)", ROWS).reml()
    refused(lambda: hp.contrast(varying, "g", term="twice"))


# --- everything else -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["twice", "beta[twice]"])
def test_prior_of_a_dropped_term_says_that_it_is_not_estimable(name):
    with pytest.raises(PriorError, match="not estimable") as caught:
        hp.Model(TWICE, ROWS, priors={name: hp.Prior("Normal", mu=0, sigma=1)})
    assert caught.value.code == "not-estimable"
    with pytest.raises(PriorError, match="not estimable"):
        hp.pooling_ladder(
            "y ~ x + twice", ROWS, "g", priors={name: hp.Prior("Normal", mu=0, sigma=1)}
        )


def test_prior_of_a_dropped_slope_that_varies_says_so():
    prior = hp.Prior("HalfNormal", sigma=1)
    with pytest.raises(PriorError, match="not estimable"):
        hp.Model("y ~ x + (x + twice | g)", ROWS, priors={"sd_g[twice]": prior})


def test_ladder_is_that_without_the_dropped_column():
    ladder = hp.pooling_ladder("y ~ x + twice", ROWS, "g")
    plain = hp.pooling_ladder("y ~ x", ROWS, "g")
    assert list(ladder) == list(plain)
    for name, model in ladder.items():
        assert [f.code for f in model.notices].count("columns-dropped") >= 1
        assert model.design.terms == plain[name].design.terms
        assert [g.terms for g in model.design.groups] == [
            g.terms for g in plain[name].design.groups
        ]


def test_saved_fit_remembers_what_is_not_estimable(cells, tmp_path):
    cells["posterior"].save(tmp_path / "cells.nc")
    loaded = hp.load_fit(tmp_path / "cells.nc")
    assert loaded.design.dropped == ("a[T.a3]:b[T.b2]",)
    refused(lambda: loaded.predict(ROWS.head(1).assign(a="a3", b="b2")))
    assert loaded.predict(ROWS).equals(cells["posterior"].predict(ROWS))


def test_nothing_left_of_a_formula_is_an_error():
    zero = ROWS.assign(zero=0.0)
    with pytest.raises(DataError) as caught:
        hp.Model("y ~ 0 + zero", zero)
    assert caught.value.code == "constant-predictor"
    assert hp.Model("y ~ zero", zero).design.terms == ("Intercept",)
