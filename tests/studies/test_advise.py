"""advise(): the order of the path, its numbers, its words, and what it proposes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.checks.advice import NEEDED_BELOW, Advice
from hierpool.core.errors import ArgumentError
from hierpool.formula import neighbours

SLOPES = "Reaction ~ Days + (Days | Subject)"
CENTRED = "Reaction ~ center(Days) + (center(Days) || Subject)"
AS_CODED = "Reaction ~ Days + (Days || Subject)"
INTERCEPTS = "Reaction ~ Days + (1 | Subject)"


@pytest.fixture(scope="module")
def sleep(fitted) -> Advice:
    return hp.advise(fitted["sleepstudy_slopes"].posterior)


@pytest.fixture(scope="module")
def machines(fitted) -> Advice:
    return hp.advise(fitted["machines_slopes"].reml, seed=1, draws=300)


@pytest.fixture(scope="module")
def dyestuff2(fitted) -> Advice:
    return hp.advise(fitted["dyestuff2"].posterior)


def grouped(seed: int = 3, levels: int = 30, rows: int = 8) -> pd.DataFrame:
    """Intercepts vary; x varies within and between levels."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rows)
    x = rng.normal(size=len(g)) + rng.normal(size=levels)[g]
    y = 2 + x + rng.normal(size=levels)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": x, "y": y})


def added(advice: Advice) -> list[str]:
    return [s.change for s in advice.steps if s.kind == "richer" and s.verdict == "needed"]


def test_correlations_go_first_then_the_slope_then_the_intercept(sleep):
    assert list(sleep.table.index) == [SLOPES, CENTRED, AS_CODED, INTERCEPTS, "Reaction ~ Days"]
    assert list(sleep.table["kind"]) == ["given", "other zero", *["simpler"] * 2, "comparison"]


def test_correlation_of_sleepstudy_can_go_at_day_0_and_not_at_the_mean(sleep):
    assert sleep.recommended == AS_CODED
    verdicts = sleep.table["verdict"]
    assert verdicts[CENTRED] == "needed"
    assert verdicts[AS_CODED] == "not needed"
    assert verdicts[INTERCEPTS] == "needed"
    assert "The correlation of Intercept and Days where Days is 0 is not needed" in sleep.sentence
    assert "The varying slope of Days by Subject is needed" in sleep.sentence
    assert any("depends on where x is zero" in note for note in sleep.notes)


def test_numbers_are_those_of_lrt_and_compare(sleep, fitted):
    row = sleep.table.loc[INTERCEPTS]
    small, large = (fitted[f"sleepstudy_{n}"].reml for n in ("intercepts", "uncorrelated"))
    test = hp.lrt(small, large)
    assert row["statistic"] == pytest.approx(test.statistic, abs=1e-6)
    assert row["p"] == pytest.approx(test.p, rel=1e-6)
    assert row["null"] == test.null
    fits = {name: sleep.fits[name] for name in (AS_CODED, INTERCEPTS)}
    for by, column in (("row", "row"), ("group", "group")):
        table = hp.compare(fits, by=by)
        assert row[f"{column}_diff"] == pytest.approx(table["elpd_diff"][INTERCEPTS], abs=1e-6)
        assert row[f"{column}_dse"] == pytest.approx(table["dse"][INTERCEPTS], rel=1e-6)


def test_centring_leaves_likelihood_and_fixed_effects_alone(sleep):
    centred, coded = (
        sleep.blups[CENTRED],
        hp.Model(
            "Reaction ~ Days + (center(Days) || Subject)", hp.datasets.load("sleepstudy")
        ).reml(),
    )
    assert centred.loglik == pytest.approx(coded.loglik, abs=1e-5)
    assert sleep.table["shift"].max() < 1e-4  # balanced: every model has these fixed effects


def test_share_of_a_slope_is_its_part_in_the_variance_of_the_fitted_response(sleep):
    fit = sleep.fits[AS_CODED]
    sd = fit.variable("sd_Subject").to_numpy()
    Z = fit.design.groups[0].Z
    each = np.square(sd).mean(axis=(0, 1)) * np.square(Z).mean(axis=0)
    fixed = np.var(fit.design.X @ sleep.blups[AS_CODED].estimate.beta, ddof=1)
    share = sleep.table["variance_share"]
    assert share[INTERCEPTS] == pytest.approx(each[1] / (each.sum() + fixed), rel=1e-6)
    assert np.isnan(share[AS_CODED])


def test_proposals_are_models_to_be_fitted(sleep):
    (proposal,) = sleep.proposals
    assert proposal.formula == AS_CODED
    assert isinstance(proposal.model, hp.Model)
    assert proposal.costs["p"] == sleep.table["p"][AS_CODED]
    assert "is not needed (LR" in proposal.reason


def test_nothing_that_the_user_holds_is_changed(sleep, fitted):
    assert sleep.formula == SLOPES
    assert sleep.fits[SLOPES] is fitted["sleepstudy_slopes"].posterior


def test_advice_prints_its_sentence_and_table_and_escapes_names(sleep):
    text = repr(sleep)
    assert text.startswith(f"Advice on {SLOPES}, sleepstudy")
    assert "- the varying slope of Days by Subject" in text
    assert max(map(len, text.splitlines())) < 130
    assert "<h3>Advice on" in sleep._repr_html_()


def test_dyestuff2_keeps_its_batches_though_nothing_is_between_them(dyestuff2):
    assert dyestuff2.recommended == "Yield ~ 1 + (1 | Batch)"
    assert dyestuff2.table["verdict"]["Yield ~ 1"] == "not needed"
    assert dyestuff2.table["p"]["Yield ~ 1"] == 1.0
    assert any("singular" in note for note in dyestuff2.notes)
    assert any("effect of Batch, which stays" in note for note in dyestuff2.notes)


def test_a_category_gives_way_to_equal_variances_and_correlations(machines):
    simpler = "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"
    assert [s.name for s in machines.path] == [
        "score ~ Machine + (Machine | Worker)",
        simpler,
        "score ~ Machine + (1 | Worker)",
        "score ~ Machine",
    ]
    assert machines.recommended == simpler
    row = machines.table.loc[simpler]
    larger, smaller = machines.blups[machines.formula], machines.blups[simpler]
    assert row["df"] == 4
    assert row["statistic"] == pytest.approx(2 * (larger.loglik - smaller.loglik), abs=1e-6)


def test_radon_keeps_its_counties_and_cannot_tell_their_slopes(fitted):
    advice = hp.advise(fitted["radon_slopes"].posterior)
    assert not advice.decided
    assert advice.candidates[-1] == "log_radon ~ floor + (1 | county)"
    assert advice.recommended == advice.candidates[0]
    assert advice.table["verdict"]["log_radon ~ floor"] == "needed"
    assert "The data do not decide whether the varying slope of floor" in advice.sentence


@pytest.mark.slow
def test_random_effects_of_several_factors_are_simplified_in_turn():
    data = grouped(levels=12, rows=6).assign(h=lambda d: np.arange(len(d)) % 6)
    advice = hp.advise(hp.Model("y ~ x + (x | g) + (1 | h)", data), seed=1, draws=300)
    assert advice.recommended == "y ~ x + (1 | g) + (1 | h)"
    compared = [s.name for s in advice.steps if s.kind == "comparison"]
    assert compared == ["y ~ x + (1 | g)", "y ~ x + (1 | h)"]


def test_curvature_is_found_and_a_square_proposed():
    data = grouped().assign(y=lambda d: d["y"] + 0.4 * d["x"] ** 2)
    advice = hp.advise(hp.Model("y ~ x + (1 | g)", data), seed=1, draws=300)
    assert added(advice)[0] == "I(x**2)"
    assert advice.proposals[0].formula == "y ~ x + I(x ** 2) + (1 | g)"
    assert "the relation of y with x is curved" in advice.sentence


def test_a_slope_that_varies_is_found_and_proposed():
    data = grouped()
    slope = np.random.default_rng(2).normal(size=30)
    data["y"] += slope[data["g"]] * data["x"]
    advice = hp.advise(hp.Model("y ~ x + (1 | g)", data), seed=1, draws=300)
    assert added(advice)[0] == "a varying slope of x by g"
    row = advice.table.loc["y ~ x + (x | g)"]
    assert row["row_diff"] > 4
    assert "Stram and Lee" in row["null"]


def test_means_over_levels_are_found_and_proposed_with_their_column():
    data = grouped()
    data["y"] += 1.5 * data.groupby("g")["x"].transform("mean")
    advice = hp.advise(hp.Model("y ~ x + (1 | g)", data), seed=1, draws=300)
    assert added(advice) == ["x_mean"]
    model = advice.proposals[0].model
    expected = data.groupby("g")["x"].transform("mean")
    np.testing.assert_allclose(model.design.frame["x_mean"], expected)


def test_what_is_well_is_left_alone():
    advice = hp.advise(hp.Model("y ~ x + (1 | g)", grouped()), seed=1, draws=300)
    assert advice.recommended == advice.formula
    assert advice.proposals == ()
    assert advice.sentence.startswith("We recommend y ~ x + (1 | g). It has what was asked for")


def test_the_best_of_twelve_additions_has_to_be_better_than_one_alone():
    rng = np.random.default_rng(20)
    level = np.repeat(np.arange(20), 6)
    data = pd.DataFrame(rng.normal(size=(120, 4)), columns=list("abcd")).assign(g=level)
    data["y"] = data["a"] + rng.normal(size=20)[level] + rng.normal(size=120)
    data["d_mean"] = data.groupby("g")["d"].transform("mean")
    formula = "y ~ a + b + c + d + (1 | g)"
    without, with_mean = (hp.Model(f, data).ml() for f in (formula, f"{formula} + d_mean"))
    assert hp.lrt(without, with_mean).p < NEEDED_BELOW
    assert added(hp.advise(hp.Model(formula, data), seed=1, draws=300)) == []


def test_no_pooling_is_compared_with_partial_pooling_by_leave_one_out(fitted):
    advice = hp.advise(fitted["boars_no_pooling"].posterior)
    step = advice.path[1]
    assert step.name == "volume ~ time + (time | boar)"
    assert step.verdict == "not needed"
    assert np.isnan(step.evidence.p)
    assert step.evidence.group is None


def test_complete_pooling_is_asked_whether_rows_of_a_level_are_alike():
    pooled = hp.complete_pooling("y ~ x", grouped(), group="g")
    assert added(hp.advise(pooled, seed=1, draws=300)) == ["(1 | g)"]


def test_priors_of_the_user_stay_where_they_can():
    priors = {"sigma": hp.Prior("HalfNormal", sigma=3)}
    model = hp.Model("y ~ x + (1 | g)", grouped(), priors=priors)
    advice = hp.advise(model, seed=1, draws=300)
    assert advice.models["y ~ x"].priors.sigma == priors["sigma"]
    assert any(note.startswith("Your priors") for note in advice.notes)


def test_where_no_posterior_can_be_had_the_tests_decide_and_it_says_so():
    priors = {"x": hp.Prior("StudentT", nu=4, mu=0, sigma=2)}
    advice = hp.advise(hp.Model("y ~ x + (x | g)", grouped(), priors=priors), seed=1)
    assert advice.formula not in advice.fits
    assert [s.kind for s in advice.path] == ["given", *["simpler"] * 2, "comparison"]
    assert advice.table["verdict"]["y ~ x"] == "needed"
    assert any(note.startswith("Leave-one-out was not computed") for note in advice.notes)


def test_square_is_dropped_before_what_it_is_a_square_of():
    data = hp.datasets.load("sleepstudy")
    model = hp.Model("Reaction ~ Days + I(Days**2) + (Days + I(Days**2) | Subject)", data)
    terms = neighbours.varying_terms(model.design.schema, "Subject")
    assert [t.text for t in neighbours.droppable(terms)] == ["I(Days ** 2)"]


def test_advice_on_something_else_says_what_to_give():
    with pytest.raises(ArgumentError, match="takes a fit, a model or a study") as caught:
        hp.advise({})
    assert caught.value.code == "advice-needs-model"


def test_candidate_that_cannot_be_had_is_left_out_and_said():
    rows = grouped(levels=4, rows=3).assign(row=lambda d: [f"r{i}" for i in d.index])
    found = hp.advise(hp.complete_pooling("y ~ x", rows, "row").reml(), seed=1, draws=100)
    assert any(
        "y ~ x + (1 | row) could not be tried: each group of 'row' has one row only" in note
        for note in found.notes
    )


def test_block_with_one_row_a_cell_is_not_asked_for_the_cell_as_a_group():
    rng = np.random.default_rng(4)
    rows = pd.DataFrame({"block": np.repeat(list("abcdef"), 4), "dose": list("wxyz") * 6})
    rows["y"] = rng.normal(size=24) + np.repeat(rng.normal(size=6), 4)
    once = hp.varying_slope("y ~ dose", rows, "block").design
    assert neighbours.with_equal_categories(once, "block") is None
    again = pd.concat([rows, rows.assign(y=rows["y"] ** 2)])
    twice = hp.varying_slope("y ~ dose", again, "block").design
    equal = neighbours.with_equal_categories(twice, "block")
    assert equal.formula == "y ~ dose + (1 | block) + (1 | block:dose)"


def test_column_that_would_be_dropped_is_no_addition():
    rows = grouped(levels=8, rows=6)
    rows["x"] = np.where(rows["x"] > 0, 1.0, -1.0) + 0.0
    rows["z"] = rows["x"] ** 3
    found = hp.advise(hp.varying_intercept("y ~ x + z", rows, "g").reml(), seed=1, draws=100)
    assert not any(step.change == "I(x**2)" for step in found.steps)


def test_models_that_are_tried_say_which_rows_were_left_out():
    boars = hp.datasets.load("boars").astype({"volume": float})
    boars.loc[3, "volume"] = None
    advice = hp.advise(hp.Model("volume ~ time + (time | boar)", boars), draws=100, seed=1)
    told = {n: [f.code for f in m.notices] for n, m in advice.models.items()}
    assert len(told) > 2
    assert all(codes.count("rows-dropped") == 1 for codes in told.values()), told
