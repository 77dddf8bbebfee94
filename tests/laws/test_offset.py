"""An offset is added with coefficient 1: the same as a response less it, in the response's units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool import plots
from hierpool.plots.sheet import lines

BUILDERS = ("complete_pooling", "no_pooling", "varying_intercept", "varying_slope")
Pair = tuple[hp.Model, hp.Model]


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    data = hp.datasets.load("sleepstudy")
    o = np.random.default_rng(4).normal(200.0, 60.0, len(data))
    return data.assign(o=o, late=data["Reaction"] + o)


@pytest.fixture(scope="module")
def pair(sleep: pd.DataFrame) -> Callable[[str], Pair]:
    """Models of the same thing: with an offset, and of the response less it."""

    def make(builder: str) -> Pair:
        build = getattr(hp, builder)
        return build("late ~ Days + offset(o)", sleep, "Subject"), build(
            "Reaction ~ Days", sleep, "Subject"
        )

    return make


@pytest.mark.parametrize("builder", BUILDERS)
def test_estimates_are_those_of_the_response_less_its_offset(pair, sleep, builder):
    one, other = (m.reml() for m in pair(builder))
    np.testing.assert_allclose(one.estimate.beta, other.estimate.beta, rtol=1e-6)
    for mine, theirs in zip(one.estimate.factors, other.estimate.factors, strict=True):
        np.testing.assert_allclose(mine.coef, theirs.coef, rtol=1e-5)
    assert one.loglik == pytest.approx(other.loglik, rel=1e-9)
    np.testing.assert_allclose(one.fitted(), other.fitted() + sleep["o"], rtol=1e-6)
    np.testing.assert_allclose(one.residuals(), other.residuals(), atol=1e-3)


@pytest.mark.parametrize("builder", BUILDERS)
def test_draws_are_those_of_the_response_less_its_offset(pair, sleep, builder):
    one, other = (m.fit("exact", seed=1, progress=False) for m in pair(builder))
    assert one.log_marginal_likelihood[0] == pytest.approx(other.log_marginal_likelihood[0])
    assert one.loo().elpd == pytest.approx(other.loo().elpd, abs=0.3)
    np.testing.assert_allclose(one.fitted(), other.fitted() + sleep["o"], atol=1.0)
    np.testing.assert_allclose(one.fitted() + one.residuals(), sleep["late"])
    draws = one.posterior_predictive(seed=1).datatree["posterior_predictive"]["y"]
    np.testing.assert_allclose(draws.mean(("chain", "draw")), one.fitted(), atol=4.0)
    assert one.with_log_likelihood("conditional").loo(form="conditional").elpd == pytest.approx(
        other.loo(form="conditional").elpd, abs=1.5
    )
    np.testing.assert_allclose(one.loo_pit(), other.loo_pit(), atol=0.02)


def test_predictions_of_left_out_rows_are_on_the_scale_of_the_response(pair, sleep):
    one, other = pair("varying_slope")
    at = [m.fit("exact", seed=1, draws=100, progress=False) for m in (one, other)]
    theta = at[0].working_theta[:3]
    means = [f.integrated.prediction_of_rows(theta)[0] for f in at]
    np.testing.assert_allclose(means[0], means[1] + sleep["o"].to_numpy(), rtol=1e-9)


def test_default_priors_are_those_of_the_response_less_its_offset(pair):
    one, other = (m.priors for m in pair("varying_slope"))
    np.testing.assert_allclose(one.population.mean, other.population.mean)
    np.testing.assert_allclose(one.population.sd, other.population.sd)
    sds = [[q.parameters["sigma"] for q in (p.sigma, *p.group_terms[0].sd)] for p in (one, other)]
    np.testing.assert_allclose(*sds)


def test_prior_predictive_holds_the_offset(pair, sleep):
    model, _ = pair("varying_intercept")
    drawn = model.prior_predictive(400, seed=1)["prior_predictive"]["y"].mean(("chain", "draw"))
    assert np.corrcoef(drawn, sleep["o"])[0, 1] > 0.5


def test_functions_and_several_offsets_add_up(sleep):
    data = sleep.assign(n=np.exp(sleep["o"] / 100), z=sleep["Days"] % 3)
    design = hp.Model("late ~ Days + offset(log(n)) + offset(2 * z) + offset(z)", data).design
    expected = np.log(data["n"]) + 3 * data["z"]
    np.testing.assert_allclose(design.offset, expected, rtol=1e-12)
    assert design.terms == ("Intercept", "Days")
    assert design.spec.formula == "late ~ Days + offset(log(n)) + offset(2 * z) + offset(z)"
    encoded = design.encoder.encode(data.iloc[[4, 2]].drop(columns="late"), factors="none")
    np.testing.assert_allclose(encoded.offset, expected[[4, 2]], rtol=1e-12)


def test_the_same_offset_twice_counts_twice(sleep):
    design = hp.Model("late ~ Days + offset(o) + offset(o)", sleep).design
    np.testing.assert_allclose(design.offset, 2 * sleep["o"])


def test_centred_offset_remembers_its_mean(sleep):
    design = hp.Model("late ~ Days + offset(center(o))", sleep).design
    np.testing.assert_allclose(design.offset, sleep["o"] - sleep["o"].mean(), atol=1e-9)
    new = design.encoder.encode(sleep.iloc[:5], factors="none").offset
    np.testing.assert_allclose(new, design.offset[:5], atol=1e-9)


def test_comparison_is_a_number_0_or_1(sleep):
    design = hp.Model("late ~ Days + offset(o > 200)", sleep).design
    np.testing.assert_array_equal(design.offset, (sleep["o"] > 200).astype(float))


def test_column_that_is_called_offset_stays_a_column(sleep):
    data = sleep.rename(columns={"o": "offset"})
    assert hp.Model("late ~ Days + offset", data).design.terms == ("Intercept", "Days", "offset")
    both = hp.Model("late ~ Days + offset(offset / 2)", data).design
    np.testing.assert_allclose(both.offset, data["offset"] / 2)


def test_rows_without_offset_are_left_out_and_named(sleep):
    data = sleep.assign(o=sleep["o"].where(sleep.index != 7))
    design = hp.Model("late ~ Days + offset(o)", data).design
    assert design.n == len(data) - 1
    assert "1 in 'o' (row 7)" in design.notices[0].text


def test_ladder_carries_the_offset_on_every_rung(sleep):
    ladder = hp.pooling_ladder("late ~ Days + offset(o)", sleep, group="Subject")
    assert len(ladder) == 6
    for model in ladder.values():
        assert "offset(o)" in model.formula
        np.testing.assert_array_equal(model.design.offset, sleep["o"])


def test_models_with_and_without_offset_are_compared_on_one_response(sleep):
    models = {
        "with": hp.varying_slope("late ~ Days + offset(o)", sleep, "Subject"),
        "without": hp.varying_slope("late ~ Days", sleep, "Subject"),
    }
    fits = {name: m.fit("exact", seed=1, progress=False) for name, m in models.items()}
    assert hp.compare(fits).index[0] == "with"


def test_own_lines_of_the_shrinkage_table_are_less_the_offset(pair):
    one, other = (hp.shrinkage(m.reml()) for m in pair("varying_slope"))
    for column in ("own_estimate", "complete_pooling"):
        np.testing.assert_allclose(one[column], other[column], rtol=1e-7)


def test_lines_of_the_panels_hold_the_offset(sleep):
    model = hp.varying_slope("late ~ Days + offset(o)", sleep, "Subject")
    fit = model.reml()
    design, sources = lines.of_fits({"fit": fit})
    grouping = lines.choose_grouping(design, None)
    abscissa = lines.choose_abscissa(design, grouping, None)
    assert abscissa.name == "Days"
    table = lines.level_coefficients(sources["partial_pooling"], design, grouping)
    heights = lines.evaluate(design, grouping, abscissa, {"partial_pooling": table}, np.arange(2))
    first = sleep[sleep["Subject"] == grouping.levels[0]]
    a, b = fit.coefficients().loc[("Subject", grouping.levels[0]), "estimate"]
    expected = a + b * abscissa.places(grouping, np.arange(2))[0] + first["o"].mean()
    np.testing.assert_allclose(heights["partial_pooling"][0], expected)
    plots.trajectories({"fit": fit})


def test_fit_comes_back_from_its_file(pair, tmp_path):
    fit = pair("varying_slope")[0].fit("exact", seed=1, draws=200, progress=False)
    fit.save(tmp_path / "fit.nc")
    again = hp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.design.offset, fit.design.offset)
    np.testing.assert_array_equal(again.fitted(), fit.fitted())


def test_model_with_offset_and_weights_is_calibrated(sleep):
    data = sleep.iloc[:60].assign(w=np.tile([1.0, 4.0, 9.0], 20))
    model = hp.varying_intercept("late ~ Days + offset(o)", data, "Subject", weights="w")
    assert hp.calibrate(model, 50, seed=1, progress=False).is_calibrated
