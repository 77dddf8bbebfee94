"""Pictures of rows and levels under a fit: the numbers drawn are those of the fit's tables."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool import plots
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError
from hierpool.plots.level_coefficients import ellipse
from hierpool.plots.sheet.style import NONE, OBSERVED, ODD, PARTIAL


def caption(figure) -> str:
    return " ".join(t.get_text() for t in figure.texts)


def dots(ax, color: str, marker: str = "o") -> np.ndarray:
    """Places of the markers of one colour that stand alone, without a line."""
    found = [
        c.get_xydata()
        for c in ax.lines
        if c.get_color() == color and c.get_marker() == marker and c.get_linestyle() == "None"
    ]
    return np.vstack([xy for xy in found if len(xy)]) if any(map(len, found)) else np.zeros((0, 2))


def looks(ax, look) -> np.ndarray:
    """Places of a look's markers."""
    found = [c.get_xydata() for c in ax.lines if c.get_markeredgecolor() == look.color]
    marked = [
        xy for xy, c in zip(found, _of(ax, look), strict=True) if c.get_marker() == look.marker
    ]
    return np.vstack(marked)


def _of(ax, look):
    return [c for c in ax.lines if c.get_markeredgecolor() == look.color]


@pytest.fixture(scope="module")
def bent():
    """Rows whose mean bends, of levels with long names, one row far out."""
    rng = np.random.default_rng(2)
    levels = [f"$boar$_{k} nº <b>{'x' * 30}</b>" for k in range(20)]
    data = pd.DataFrame({"boar": np.repeat(levels, 8), "time": np.tile(np.arange(8.0), 20)})
    level = np.repeat(rng.normal(0, 5, 20), 8)
    data["volume"] = 100 + level + (data["time"] - 3.5) ** 2 + rng.normal(size=len(data))
    data.loc[37, "volume"] += 60
    return data


# residuals


@pytest.mark.parametrize("kind", ["posterior", "reml"])
def test_residuals_are_those_of_the_fit(fitted, kind, assert_legible):
    fit = getattr(fitted["sleepstudy_slopes"], kind)
    figure = plots.residuals(fit)
    left, right = figure.axes
    rows = [c for c in left.lines if len(c.get_xdata()) == fit.design.n]
    np.testing.assert_allclose(rows[0].get_ydata(), fit.residuals())
    by_day = fit.residuals().groupby(fit.design.frame["Days"].to_numpy()).mean()
    (mean,) = [c for c in left.lines if c.get_color() == PARTIAL.color]
    np.testing.assert_allclose(mean.get_ydata(), by_day)
    assert right.patches[0].get_data().values.sum() == fit.design.n
    assert_legible(figure)


def test_outlying_rows_are_named_and_a_bend_is_seen(bent, assert_legible):
    fit = hp.varying_intercept("volume ~ time", bent, group="boar").reml()
    figure = plots.residuals(fit)
    left = figure.axes[0]
    assert dots(left, ODD)[:, 1] == pytest.approx(fit.residuals()[37])
    assert "(row 37)" in left.texts[0].get_text()
    assert "1 of 160 rows" in caption(figure)
    (mean,) = [c for c in left.lines if c.get_color() == PARTIAL.color]
    assert mean.get_ydata()[[0, -1]].min() > 4 > 0 > mean.get_ydata()[3]
    assert_legible(figure)


def test_local_lines_follow_a_line_and_smooth_many_values(fitted):
    from hierpool.plots.residuals import _local_lines

    x = np.sort(np.random.default_rng(1).uniform(size=300))
    heights, error = _local_lines(x, 2 + 3 * x, np.linspace(0, 1, 11), 1.0)
    np.testing.assert_allclose(heights, 2 + 3 * np.linspace(0, 1, 11))
    assert (error > 2 / np.sqrt(300)).all()


def test_categories_and_ties_are_not_joined(fitted, assert_legible):
    figure = plots.residuals(fitted["machines_slopes"].reml)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["A", "B", "C"]
    assert figure.legends[0].get_texts()[0].get_text() == "row"
    assert_legible(figure)
    assert_legible(plots.residuals(fitted["radon_slopes"].reml))
    assert_legible(plots.residuals(fitted["dyestuff"].reml))


def test_single_rows_of_levels_stand_in_their_order(assert_legible):
    data = pd.DataFrame(
        {"school": list("ABCDE"), "effect": [3.0, 1, 8, 2, 5], "se": [2.0, 3, 2, 2, 4]}
    )
    fit = hp.varying_intercept("effect ~ 1", data, group="school", known_se="se").reml()
    figure = plots.residuals(fit)
    assert figure.axes[0].get_xlabel() == "rows in order"
    assert figure.axes[0].lines[0].get_xdata()[::2].tolist() == [1, 2, 3, 4, 5]
    assert_legible(figure)


def test_weighted_residuals_are_divided_by_their_relative_sd(growth):
    data = growth(range(6)).assign(w=[1.0, 4, 1, 4] * 6)
    fit = hp.varying_intercept("volume ~ time", data, group="boar", weights="w").reml()
    figure = plots.residuals(fit)
    (rows, *_) = [c for c in figure.axes[0].lines if len(c.get_xdata()) == fit.design.n]
    np.testing.assert_allclose(rows.get_ydata(), fit.residuals() * np.sqrt(data["w"]))
    assert figure.axes[0].get_ylabel() == "residual / its relative sd"


# coefficients of levels in pairs


def test_ellipse_holds_its_probability():
    Sigma = np.array([[4.0, -1.5], [-1.5, 1.0]])
    draws = np.random.default_rng(1).multivariate_normal([1, 2], Sigma, 20_000)
    outline = ellipse(np.array([1.0, 2]), Sigma, 0.9)
    distance = [
        ((v - [1, 2]) @ np.linalg.inv(Sigma) * (v - [1, 2])).sum(axis=1) for v in (draws, outline)
    ]
    np.testing.assert_allclose(distance[1], stats.chi2.ppf(0.9, 2))
    assert (distance[0] < distance[1][0]).mean() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("kind", ["posterior", "reml"])
def test_level_coefficients_are_those_of_the_tables(fitted, kind, assert_legible):
    fit = getattr(fitted["sleepstudy_slopes"], kind)
    figure = plots.level_coefficients(fit)
    (ax,) = figure.axes
    column = "mean" if kind == "posterior" else "estimate"
    expected = fit.coefficients()[column].unstack()[["Intercept", "Days"]]
    np.testing.assert_allclose(looks(ax, PARTIAL), expected, rtol=1e-6)
    own = hp.shrinkage(fit)["own_estimate"].unstack()[["Intercept", "Days"]]
    np.testing.assert_allclose(looks(ax, NONE), own)
    assert len(ax.collections[0].get_paths()) == 18
    assert_legible(figure)


def test_moments_of_coefficients_are_those_of_their_draws(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    means, covariances = fit.coefficient_moments("Subject")
    draws = fit.variable("coef_Subject").to_numpy().reshape(-1, 18, 2)
    np.testing.assert_allclose(means.ravel(), fit.coefficients(False)["mean"])
    assert (np.abs(means - draws.mean(axis=0)) / draws.std(axis=0)).max() < 6 / np.sqrt(len(draws))
    np.testing.assert_allclose(covariances[3], np.cov(draws[:, 3].T))
    table = fitted["sleepstudy_slopes"].reml.coefficients()["se"].to_numpy().reshape(18, 2)
    _, errors = fitted["sleepstudy_slopes"].reml.coefficient_moments("Subject")
    np.testing.assert_allclose(np.sqrt(np.diagonal(errors, axis1=1, axis2=2)), table)


def test_moments_of_levels_that_are_not_stored_are_the_same(fitted, monkeypatch):
    stored = fitted["radon_slopes"].posterior
    monkeypatch.setattr("hierpool.bayes.exact.engine.LARGEST_STORED", 1)
    monkeypatch.setattr("hierpool.algebra.one_factor.LEVELS_PER_PASS", 64)
    fit = fitted["radon_slopes"].model.fit("exact", seed=1, progress=False)
    assert fit.info["levels"] == "on request"
    for found, expected in zip(
        fit.coefficient_moments("county"), stored.coefficient_moments("county"), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_pairs_of_several_terms_long_names_and_many_levels_are_legible(
    fitted, growth, names, assert_legible, monkeypatch
):
    assert_legible(plots.level_coefficients(fitted["machines_slopes"].posterior))
    figure = plots.level_coefficients(
        fitted["machines_slopes"].reml, terms=["Machine[T.B]", "Machine[T.C]"]
    )
    assert figure.axes[0].get_xlabel() == "difference in score, Machine B − A"
    data = growth(names(60, "long names"))
    figure = plots.level_coefficients(hp.varying_slope("volume ~ time", data, group="boar").reml())
    assert "Named: the 8 of " in caption(figure)
    own = hp.shrinkage(hp.varying_slope("volume ~ time", data, group="boar").reml())["own_estimate"]
    own = own.unstack()[["Intercept", "time"]].to_numpy()
    assert "farther out" not in caption(figure)
    monkeypatch.setattr(sys.modules["hierpool.plots.level_coefficients"], "_FARTHEST", 0.0)
    figure = plots.level_coefficients(hp.varying_slope("volume ~ time", data, group="boar").reml())
    ax = figure.axes[0]
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    beyond = ((own < low) | (own > high)).any(axis=1).sum()
    assert f"own estimates farther out ({beyond} boars)" in caption(figure)
    edge = [line for line in ax.lines if line.get_marker() in ("<", ">", "v", "^")]
    points = np.vstack([line.get_xydata() for line in edge])
    assert len(points) == beyond > 0
    assert ((points == low) | (points == high)).any(axis=1).all()
    assert len(figure.axes[0].collections[0].get_paths()) == 8
    assert_legible(figure)


# before and after


def test_prior_predictive_shows_data_and_what_was_simulated(fitted, assert_legible):
    model = fitted["sleepstudy_slopes"].model
    figure = plots.prior_predictive(model, draws=200, seed=3)
    simulated = model.prior_predictive(draws=200, seed=3)["prior_predictive"]["y"].to_numpy()[0]
    y = model.design.y
    codes = model.design.groupings["Subject"].codes
    of_levels = pd.Series(y).groupby(codes).mean().std()
    seen = [ax.collections[-1].get_segments()[0][0, 0] for ax in figure.axes[1:]]
    np.testing.assert_allclose(seen[:2], [y.mean(), of_levels])
    within = np.sqrt(pd.Series(y).groupby(codes).var().mean())
    assert seen[2] == pytest.approx(within)
    below = (simulated.mean(axis=1) < y.mean()).mean()
    assert f"mean of all rows {100 * below:.0f} %" in caption(figure)
    assert_legible(figure)


def test_prior_predictive_without_levels_and_with_narrow_priors(fitted, assert_legible):
    data = hp.datasets.load("sleepstudy")
    assert_legible(plots.prior_predictive(hp.complete_pooling("Reaction ~ Days", data), draws=100))
    narrow = {
        "sigma": hp.Prior("HalfNormal", sigma=1.0),
        "beta[Days]": hp.Prior("Normal", mu=0, sigma=1),
    }
    narrow["beta[Intercept]"] = hp.Prior("Normal", mu=50, sigma=1)
    model = hp.complete_pooling("Reaction ~ Days", data, priors=narrow)
    assert "far out in the prior predictive distribution: mean of all rows" in caption(
        plots.prior_predictive(model, draws=100)
    )


def test_posterior_predictive_shows_observed_rows_and_replicated_intervals(fitted, assert_legible):
    fit = fitted["sleepstudy_slopes"].posterior
    figure = plots.posterior_predictive(fit, seed=2)
    means, extremes = figure.axes
    by_level = pd.Series(fit.design.y).groupby(fit.design.groupings["Subject"].codes)
    drawn = np.vstack([dots(means, OBSERVED.color), dots(means, ODD)])
    np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(by_level.mean()))
    drawn = np.vstack([dots(extremes, OBSERVED.color), dots(extremes, ODD)])
    np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort([*by_level.min(), *by_level.max()]))
    posterior_predictive = (
        fit.posterior_predictive(seed=2).datatree["posterior_predictive"]["y"].to_numpy()
    )
    lowest = by_level.mean().idxmin()
    rows = fit.design.groupings["Subject"].codes == lowest
    expected = np.quantile(posterior_predictive[..., rows].mean(axis=-1), [0.025, 0.975])
    bars = [c for c in means.collections if np.allclose(c.get_linewidth(), 1.5)]
    np.testing.assert_allclose(bars[0].get_segments()[-1][:, 0], expected, rtol=1e-6)
    assert_legible(figure)


def test_replicates_of_very_many_rows_come_from_fewer_draws(fitted, monkeypatch):
    posterior_predictive = importlib.import_module("hierpool.plots.posterior_predictive")

    fit = fitted["sleepstudy_slopes"].posterior
    monkeypatch.setattr(posterior_predictive, "_MOST_NUMBERS", 180 * 4 * 100)
    assert posterior_predictive.replicated_rows(fit, 1).shape == (4, 100, 180)


# case deletion


def test_influence_shows_its_table_the_largest_first(fitted, assert_legible):
    reml = fitted["sleepstudy_slopes"].reml
    table = hp.influence(reml)
    figure = plots.influence(reml)
    top = table.sort_values("largest", ascending=False)
    for ax, column in zip(figure.axes, ["shift[Intercept]", "shift[Days]", "cook"], strict=True):
        np.testing.assert_allclose(looks(ax, PARTIAL)[:, 0], top[column])
    assert_legible(figure)
    assert_legible(plots.influence(table, most=5, response="Reaction"))


def test_influence_of_several_factors_takes_the_first_or_the_named(assert_legible):
    data = hp.datasets.load("Penicillin")
    fit = hp.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", data).reml()
    assert "plate" in caption(plots.influence(fit))
    figure = plots.influence(fit, factor="sample")
    expected = hp.influence(fit, by="sample")["cook"].sort_values(ascending=False)
    np.testing.assert_allclose(np.sort(looks(figure.axes[1], PARTIAL)[:, 0]), np.sort(expected))
    assert_legible(figure)
    with pytest.raises(ArgumentError, match="name one of 'plate', 'sample'"):
        hp.influence(fit)


def test_influence_names_who_moves_more_than_chance(bent, assert_legible):
    odd = bent.copy()
    odd.loc[odd["boar"] == odd["boar"][0], "volume"] += 200 * odd["time"]
    fit = hp.varying_intercept("volume ~ time", odd, group="boar").reml()
    figure = plots.influence(fit)
    assert "more than expected for its design" in caption(figure)
    assert_legible(figure)


@pytest.mark.parametrize("count", [2, 12, 60])
def test_long_names_are_legible(count, names, growth, assert_legible):
    data = growth(names(count, "long names"), rows=5, uneven=True)
    data.loc[3, "volume"] += 400
    model = hp.varying_slope("volume ~ time", data, group="boar")
    fit, reml = model.fit(draws=100, seed=1, progress=False), model.reml()
    assert_legible(plots.posterior_predictive(fit))
    assert_legible(plots.level_coefficients(fit))
    assert_legible(plots.residuals(reml))
    assert_legible(plots.influence(reml))
    assert_legible(plots.prior_predictive(model, draws=50))


@pytest.mark.slow
def test_two_thousand_levels_are_legible(growth, names, assert_legible):
    data = growth(names(2000, "numbers"), rows=3)
    reml = hp.varying_slope("volume ~ time", data, group="boar").reml()
    assert_legible(plots.residuals(reml))
    assert_legible(plots.level_coefficients(reml))
    written = assert_legible(plots.influence(reml))
    assert "The 30 most influential of 2000" in " ".join(written)


@pytest.mark.slow
def test_posterior_of_two_thousand_levels_is_legible(growth, names, assert_legible):
    data = growth(names(2000, "numbers"), rows=3)
    model = hp.varying_slope("volume ~ time", data, group="boar")
    fit = model.fit(draws=250, seed=1, progress=False)
    for picture in (
        plots.posterior_predictive, plots.pareto_k, plots.loo_pit, plots.level_coefficients,
        plots.standard_deviations, plots.variance_partition,
    ):  # fmt: skip
        assert_legible(picture(fit))
    assert_legible(plots.prior_predictive(model, draws=100))


def test_wrong_input_is_answered(fitted):
    intercepts, complete = fitted["sleepstudy_intercepts"], fitted["sleepstudy_complete"]
    with pytest.raises(UnsupportedModelError, match=r"only one coefficient.*one-coefficient"):
        plots.level_coefficients(intercepts.reml)
    with pytest.raises(UnsupportedModelError, match="does not pool partially"):
        plots.level_coefficients(complete.reml)
    with pytest.raises(ArgumentError, match=r"no factor 'subject': did you mean 'Subject'"):
        plots.level_coefficients(fitted["sleepstudy_slopes"].reml, factor="subject")
    with pytest.raises(ArgumentError, match=r"no predictor 'days': did you mean 'Days'"):
        plots.residuals(intercepts.reml, x="days")
    with pytest.raises(UnsupportedModelError, match="has no draws"):
        plots.posterior_predictive(intercepts.reml)
    with pytest.raises(ArgumentError, match=r"takes a model.*LikelihoodFit.*model-needed"):
        plots.prior_predictive(intercepts.reml)
    with pytest.raises(DataError, match=r"Pass hp\.influence"):
        plots.influence(hp.shrinkage(intercepts.reml))


# residual structure


def test_correlations_by_lag_and_sds_by_time(assert_legible):
    data = hp.datasets.load("Orthodont")
    fit = hp.Model("distance ~ age", data, residual="us(age | Subject)").ml()
    figure = plots.residual_structure(fit)
    assert_legible(figure)
    left, right = figure.axes
    fitted, observed = (row.get_ydata() for row in right.lines[:2])
    np.testing.assert_allclose(observed, fitted, rtol=0.03)  # us takes any sds
    fitted, observed = (row.get_ydata() for row in left.lines[:2])
    np.testing.assert_allclose(observed, fitted, atol=0.05)
    np.testing.assert_array_equal(left.lines[0].get_xdata(), [2, 4, 6])


def test_independent_residuals_beside_an_intercept_are_drawn_over_named_columns():
    fit = hp.Model("distance ~ age + (1 | Subject)", hp.datasets.load("Orthodont")).reml()
    left, _ = plots.residual_structure(fit, over="age | Subject").axes
    e = fit.estimate
    np.testing.assert_allclose(
        left.lines[0].get_ydata(), e.only.sd[0] ** 2 / (e.only.sd[0] ** 2 + e.sigma**2)
    )


def test_no_time_no_residual_structure():
    fit = hp.Model("distance ~ age", hp.datasets.load("Orthodont")).reml()
    with pytest.raises(UnsupportedModelError, match="no residual structure"):
        plots.residual_structure(fit)


def test_sds_of_two_classes_observed_and_fitted(assert_legible):
    data = hp.datasets.load("Orthodont")
    model = hp.Model("distance ~ age + (1 | Subject)", data, sigma="~ Sex")
    fit = model.fit(seed=1, draws=100, progress=False)
    figure = plots.residual_sds(fit, by=["Sex", "Subject", "age"])
    assert_legible(figure)
    observed = figure.axes[0].lines[-1].get_ydata()
    np.testing.assert_allclose(
        observed, fit.variable("sd_residual").mean(("chain", "draw")), rtol=0.1
    )
    assert observed.max() / observed.min() > 1.8  # boys and girls
    with pytest.raises(ArgumentError, match="not a column of the model"):
        plots.residual_sds(fit, by="sex")
