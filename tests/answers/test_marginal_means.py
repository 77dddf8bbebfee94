"""Marginal means: emmeans' documented examples, averages of predictions, limits, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError, NotEstimableError, UnsupportedModelError
from tests.answers.effects import agrees, data, model, reml
from tests.support.cases import each

P = {"prob": 0.95}


def means(name: str, *arguments, **keywords) -> pd.DataFrame:
    return hp.marginal_means(reml(name), *arguments, **{**P, **keywords})


# --- examples that emmeans documents --------------------------------------------------------------


def test_pigs_are_back_transformed_from_the_logarithm_and_left_on_it():
    agrees(means("pigs", "source"), "pigs_source")
    agrees(means("pigs", "source", scale="linear"), "pigs_source_log")
    table = means("pigs_covariate", "source", scale="linear")
    agrees(table, "pigs_source_covariate")
    assert table.index.tolist() == ["fish", "soy", "skim"]


def test_square_roots_are_back_transformed():
    agrees(means("pigs_sqrt", "source", by="percent"), "pigs_sqrt")


def test_fibers_are_adjusted_to_their_mean_diameter():
    agrees(means("fiber", "machine"), "fiber_machine")


def test_warp_cells_and_unbalanced_means():
    table = means("warp", "tension", by="wool")
    agrees(table, "warp_cells")
    assert table.index.names == ["wool", "tension"]
    agrees(means("warp_unbalanced", "tension"), "warp_unbalanced")


def test_oats_have_the_degrees_of_freedom_of_kenward_and_roger():
    table = means("oats", "nitro")
    agrees(table, "oats_nitro_kenward-roger")
    assert table.attrs["df_method"] == "Kenward-Roger"
    assert "df: Kenward-Roger" in repr(table)


def test_the_head_stays_through_rounding_and_goes_where_tables_are_put_together():
    one, other = means("oats", "Variety"), means("oats", "nitro")
    lines = repr(one.round(1)).splitlines()
    assert lines[0] == "Marginal means of grain by Variety"
    assert lines[1] == "equal weights; for an average Block and Block:Variety"
    assert "Kenward-Roger" in one.sort_values("estimate")._repr_html_()
    both = pd.concat([one, other])
    assert "Kenward-Roger" not in repr(both)
    assert "Kenward-Roger" not in both._repr_html_()
    assert both._repr_html_() == pd.DataFrame(both)._repr_html_()
    assert repr(both) == repr(pd.DataFrame(both))


def test_oats_by_ml_have_those_of_satterthwaite():
    table = hp.marginal_means(model("oats").ml(), "nitro", **P)
    agrees(table, "oats_nitro_satterthwaite")
    assert table.attrs["df_method"] == "Satterthwaite"


def test_oats_at_two_amounts_of_nitrogen():
    table = means("oats_sqrt", "Variety", by="nitro", at={"nitro": [0, 0.3]})
    agrees(table, "oats_sqrt")


def test_oranges_by_day_and_at_two_prices():
    agrees(means("oranges", "day"), "oranges_day")
    agrees(means("oranges", "price1", at={"price1": [40, 60], "price2": 50}), "oranges_price")


def test_noise_is_averaged_over_the_side():
    agrees(means("noise", "size", by="type"), "noise")


def test_nutrition_has_means_that_are_not_estimable():
    table = means("nutrition", "race", by=["group", "age"])
    order = table.reset_index().sort_values(["age", "group", "race"]).index
    agrees(table.iloc[order], "nutrition_cells")
    (finding,) = table.findings
    assert finding.code == "row-not-estimable"
    assert "are not estimable: they need " in finding.text
    assert "warning: marginal means" in repr(table)
    agrees(means("nutrition", "race"), "nutrition_race")


def test_nested_plots_are_averaged_within_their_site():
    agrees(means("nested", "site"), "nested")


# --- averages of predictions ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def growth(fitted):
    return fitted["orthodont_sex"]


def test_observed_weights_average_predictions_over_the_rows(growth):
    rows = hp.datasets.load("Orthodont").iloc[:70]
    fit = hp.Model("distance ~ poly(age, 2) * Sex + (age | Subject)", rows).reml()
    table = hp.marginal_means(fit, "Sex", weights="observed")
    for sex in ("Male", "Female"):
        value = fit.predict(rows.assign(Sex=sex), groups="average")["estimate"].mean()
        assert table.loc[sex, "estimate"] == pytest.approx(value)
    by = hp.marginal_means(fit, "age", by="Sex", at={"age": [9]}, weights="observed")
    one = fit.predict({"age": [9], "Sex": ["Male"]}, groups="average")["estimate"].item()
    assert by.loc[("Male", 9), "estimate"] == pytest.approx(one)


def test_groups_of_by_have_their_own_rows_under_observed_weights():
    rows = data("nutrition").iloc[::-1]
    fit = hp.complete_pooling("gain ~ C(age) + group + race", rows, "age").reml()
    table = hp.marginal_means(fit, "group", by="race", weights="observed")
    own = rows[rows["race"] == "White"]
    for group in ("FoodStamps", "NoAid"):
        value = fit.predict(own.assign(group=group))["estimate"].mean()
        assert table.loc[("White", group), "estimate"] == pytest.approx(value)


def test_posterior_means_and_draws_are_those_of_predictions(growth):
    fit = growth.posterior
    table = hp.marginal_means(fit, "Sex", by="age", at={"age": [8, 14]})
    new = table.index.to_frame(index=False)
    want = fit.predict(new, groups="average")
    np.testing.assert_allclose(table, want, rtol=1e-10)
    assert list(table) == ["mean", "median", "sd", "eti95_lb", "eti95_ub"]


def test_reml_agrees_with_predictions_but_for_the_adjusted_errors(growth):
    table = hp.marginal_means(growth.reml, "Sex", by="age", at={"age": [8, 14]})
    want = growth.reml.predict(table.index.to_frame(index=False), groups="average")
    np.testing.assert_allclose(table["estimate"], want["estimate"])
    assert (table["se"] >= want["se"].to_numpy() * (1 - 1e-9)).all()
    assert (table["df"] > 10).all()


@pytest.mark.parametrize("kind", ["posterior", "reml"])
def test_means_of_one_group_are_its_predictions(growth, kind):
    fit = getattr(growth, kind)
    table = hp.marginal_means(
        fit, "age", at={"age": [8, 14], "Sex": "Male"}, groups={"Subject": "M01"}
    )
    new = pd.DataFrame({"age": [8, 14], "Sex": "Male", "Subject": "M01"})
    want = fit.predict(new)
    np.testing.assert_allclose(table.iloc[:, 0], want.iloc[:, 0])
    column = "sd" if kind == "posterior" else "se"
    np.testing.assert_allclose(table[column], want[column])
    assert table.attrs["groups"] == "for Subject M01"


def test_own_lines_of_no_pooling_have_means_of_one_group(fitted):
    fit = fitted["sleepstudy_no_pooling"].reml
    table = hp.marginal_means(fit, "Days", at={"Days": [0, 9]}, groups={"Subject": "308"})
    want = fit.predict({"Subject": ["308"] * 2, "Days": [0, 9]})
    np.testing.assert_allclose(table[["estimate", "se"]], want[["estimate", "se"]])
    with pytest.raises(UnsupportedModelError, match=r"groups=\{'Subject': '308'\}"):
        hp.marginal_means(fit, "Days", at={"Days": 0})


def test_own_lines_do_not_tell_what_does_not_vary_within_a_group():
    fit = hp.no_pooling("distance ~ age + Sex", hp.datasets.load("Orthodont"), "Subject").reml()
    table = hp.marginal_means(fit, "Sex", groups={"Subject": "M01"})
    assert table.loc["Male"].notna().all()
    assert table.loc["Female"].isna().all()
    (finding,) = table.findings
    assert "'Female' is not estimable: the rows of Subject M01 do not determine it" in finding.text


def test_new_groups_matter_where_the_response_is_back_transformed(growth):
    linear = growth.reml
    pd.testing.assert_frame_equal(
        hp.marginal_means(linear, "Sex", groups="new"), hp.marginal_means(linear, "Sex")
    )
    rows = hp.datasets.load("Orthodont")
    logs = hp.Model("log(distance) ~ Sex + (1 | Subject)", rows).reml()
    roots = hp.Model("sqrt(distance) ~ Sex + (1 | Subject)", rows).reml()
    for fit, expected in (
        (logs, lambda eta, v: np.exp(eta + v / 2)),
        (roots, lambda eta, v: eta**2 + v),
    ):
        variance = fit.estimate.only.sd[0] ** 2
        eta = hp.marginal_means(fit, "Sex", scale="linear")["estimate"]
        table = hp.marginal_means(fit, "Sex", groups="new")
        np.testing.assert_allclose(table["estimate"], expected(eta, variance))


def test_back_transformed_posterior_is_that_of_the_draws():
    rows = hp.datasets.load("Orthodont")
    fit = hp.Model("log(distance) ~ Sex + (1 | Subject)", rows).fit(seed=1, progress=False)
    table = hp.marginal_means(fit, "Sex")
    draws = fit.predict_draws({"Sex": ["Male", "Female"]}, groups="average")
    np.testing.assert_allclose(table["mean"], draws.mean(("chain", "draw")))
    np.testing.assert_allclose(table["median"], draws.median(("chain", "draw")))


def test_weights_do_not_matter_where_the_rows_are_balanced():
    equal, observed = (means("noise", "size", weights=w) for w in ("equal", "observed"))
    np.testing.assert_allclose(equal.to_numpy(), observed.to_numpy())


def test_a_boolean_counts_as_a_category_and_offsets_are_added():
    rows = data("pigs").assign(big=lambda d: d["percent"] > 12, extra=1.5)
    fit = hp.complete_pooling("conc ~ source + big + offset(extra)", rows, "percent").reml()
    table = hp.marginal_means(fit, "source")
    new = pd.DataFrame({"source": "fish", "big": [False, True], "extra": 1.5})
    assert table.loc["fish", "estimate"] == pytest.approx(fit.predict(new)["estimate"].mean())
    assert hp.marginal_means(fit, "big").index.tolist() == [False, True]
    with pytest.raises(ArgumentError, match="true or false in this model, and cannot be 'yes'"):
        hp.marginal_means(fit, "source", at={"big": "yes"})


# --- several at once ------------------------------------------------------------------------------


def test_holm_orders_the_p_values_and_bonferroni_widens_the_intervals():
    plain, holm = means("warp", "tension"), means("warp", "tension", adjust="holm")
    order = plain["p"].to_numpy().argsort()
    np.testing.assert_allclose(holm["p"].iloc[order], plain["p"].iloc[order] * [3, 2, 1])
    wide = means("warp", "tension", prob=1 - 0.05 / 3)
    np.testing.assert_allclose(holm["ci95_lb"], wide.filter(like="_lb").iloc[:, 0])


def test_simultaneous_intervals_hold_together_as_often_as_they_say(growth):
    fit = growth.posterior
    at = {"age": [8, 10, 12, 14]}
    table = hp.marginal_means(fit, ["Sex", "age"], at=at, adjust="simultaneous", prob=0.9)
    new = table.index.to_frame(index=False)
    draws = fit.predict_draws(new, groups="average").to_numpy().reshape(-1, len(new))
    inside = (draws >= table["ci90_lb"].to_numpy()) & (draws <= table["ci90_ub"].to_numpy())
    assert inside.all(axis=1).mean() == pytest.approx(0.9, abs=0.005)
    assert inside.mean() > 0.93


# --- bad input ------------------------------------------------------------------------------------


@each(
    ("arguments", "code", "words"),
    [
        ({"what": "Sxe"}, "unknown-choice", "did you mean 'Sex'"),
        ({"what": "Subject"}, "unknown-choice", "groups={'Subject': ...}"),
        ({"what": "age"}, "bad-grid", r"at={'age': \[8.00, 11.0, 14.0\]}"),
        ({"what": []}, "bad-grid", "needs the name"),
        ({"what": "Sex", "by": "Sex"}, "bad-grid", "'Sex' is named twice"),
        ({"what": "Sex", "by": "sxe"}, "unknown-choice", "by= names 'sxe'"),
        ({"what": "Sex", "at": {"Age": 8}}, "unknown-choice", "at= names 'Age'"),
        ({"what": "Sex", "at": {"age": "old"}}, "bad-grid", "cannot be 'old'"),
        ({"what": "Sex", "at": {"age": [8, 9]}}, "bad-grid", "name it in by="),
        ({"what": "Sex", "at": {"age": []}}, "bad-grid", "no value"),
        ({"what": "Sex", "at": 8}, "bad-grid", "must be a dict"),
        ({"what": "Sex", "at": {"Sex": "male"}}, None, "Male"),
        ({"what": "Sex", "weights": "cells"}, "unknown-choice", "'equal'"),
        ({"what": "Sex", "groups": "M01"}, "unknown-choice", "groups={'Subject': "),
        ({"what": "Sex", "groups": {"Sbject": "M01"}}, "unknown-choice", "did you mean 'Subject'"),
        ({"what": "Sex", "groups": {"Subject": "M99"}}, "unknown-choice", "no level 'M99'"),
        ({"what": "Sex", "scale": "log"}, "unknown-choice", "'response'"),
        ({"what": "Sex", "adjust": "scheffe"}, "unknown-choice", "'holm'"),
        ({"what": "Sex", "adjust": "tukey"}, "bad-adjust", "method='pairwise'"),
        ({"what": "Sex", "adjust": "simultaneous"}, "bad-adjust", "posterior"),
        ({"what": "Sex", "prob": 95}, "bad-probability", "0.95"),
    ],
)
def test_bad_input_is_refused_in_the_users_words(growth, arguments, code, words):
    with pytest.raises((ArgumentError, ValueError), match=words.replace("{", r"\{")) as caught:
        hp.marginal_means(growth.reml, **arguments)
    assert code is None or caught.value.code == code


def test_a_posterior_has_no_tukey(growth):
    with pytest.raises(ArgumentError, match="adjust='simultaneous'"):
        hp.marginal_means(growth.posterior, "Sex", adjust="holm")
    with pytest.raises(ArgumentError, match="takes a fit"):
        hp.marginal_means(growth.model, "Sex")


def test_means_of_which_none_is_estimable_are_refused():
    fit = hp.complete_pooling("gain ~ (C(age) + group + race)**2", data("nutrition"), "age").reml()
    with pytest.raises(NotEstimableError, match="marginal mean"):
        hp.marginal_means(fit, "race", at={"race": "Hispanic"})


def test_grids_that_are_too_large_are_refused(growth, monkeypatch):
    monkeypatch.setattr("hierpool.answers.reference_grid.MOST_ROWS", 3)
    with pytest.raises(UnsupportedModelError, match="4 rows"):
        hp.marginal_means(growth.reml, ["Sex", "age"], at={"age": [8, 9]})
