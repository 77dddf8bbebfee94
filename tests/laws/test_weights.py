"""Weights: residual variance sigma^2 / w, by way of every layer, against dense densities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import linalg, stats

import hierpool as hp
from hierpool.algebra.gaussian import BetaPrior, condition
from hierpool.algebra.moments import Coordinates, Moments, Rows
from tests.laws.dense import normal_log_density, restricted_log_density, wide

FORMULA, GROUP = "Reaction ~ Days", "Subject"


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    """Sleepstudy less some rows, with a column of weights."""
    data = hp.datasets.load("sleepstudy").iloc[3:].drop(index=[40, 41, 99]).reset_index(drop=True)
    return data.assign(w=np.random.default_rng(5).uniform(0.3, 6.0, len(data)))


@pytest.fixture(scope="module")
def model(sleep: pd.DataFrame) -> hp.Model:
    return hp.varying_slope(FORMULA, sleep, GROUP, weights="w")


@pytest.fixture(scope="module")
def reml(model: hp.Model) -> hp.LikelihoodFit:
    return model.reml()


@pytest.fixture(scope="module")
def fit(model: hp.Model) -> hp.PosteriorFit:
    return model.fit("exact", seed=1, progress=False)


def covariance(blup: hp.LikelihoodFit) -> np.ndarray:
    """Of the response, beta given, at the optimum; every matrix in full."""
    e, d = blup.estimate, blup.design
    (group,) = d.groups
    Sigma = e.only.corr * np.outer(e.only.sd, e.only.sd)
    Z = wide(group.Z, group.grouping.codes, group.grouping.n_levels)
    return Z @ linalg.block_diag(*[Sigma] * group.grouping.n_levels) @ Z.T + e.sigma**2 * np.diag(
        1 / d.residual.values
    )


def test_reml_log_likelihood_is_the_dense_one(reml):
    d = reml.design
    expected = restricted_log_density(d.y, d.X, covariance(reml))
    assert reml.loglik == pytest.approx(expected, rel=1e-10)


def test_ml_log_likelihood_is_the_dense_one(model):
    ml = model.ml()
    expected = normal_log_density(ml.design.y, ml.design.X @ ml.estimate.beta, covariance(ml))
    assert ml.loglik == pytest.approx(expected, rel=1e-10)


def test_optimum_is_one_of_the_dense_density(model, reml):
    e, d = reml.estimate, reml.design
    best = restricted_log_density(d.y, d.X, covariance(reml))
    for name in ("sigma", "sd"):
        for factor in (0.98, 1.02):
            own = replace(e.only, sd=e.only.sd * factor) if name == "sd" else e.only
            sigma = e.sigma * factor if name == "sigma" else e.sigma
            moved = replace(e, sigma=sigma, factors=(own,))
            other = hp.LikelihoodFit(d, moved)
            assert restricted_log_density(d.y, d.X, covariance(other)) < best


def test_blups_and_their_errors_are_those_of_hendersons_equations(reml):
    e, d = reml.estimate, reml.design
    (group,) = d.groups
    J, p = group.grouping.n_levels, d.X.shape[1]
    T = np.hstack([d.X, wide(group.Z, group.grouping.codes, J)])
    left = T.T @ (T * d.residual.values[:, None]) / e.sigma**2
    Sigma = e.only.corr * np.outer(e.only.sd, e.only.sd)
    left[p:, p:] += linalg.block_diag(*[np.linalg.inv(Sigma)] * J)
    inverse = np.linalg.inv(left)
    solved = inverse @ (T.T @ (d.residual.values * d.y)) / e.sigma**2
    np.testing.assert_allclose(e.beta, solved[:p], rtol=1e-8)
    np.testing.assert_allclose(e.only.u.ravel(), solved[p:], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(e.beta_covariance, inverse[:p, :p], rtol=1e-7)
    pev = np.stack(
        [inverse[p + 2 * j : p + 2 * j + 2, p + 2 * j : p + 2 * j + 2] for j in range(J)]
    )
    np.testing.assert_allclose(e.only.u_pev, pev, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(reml.fitted(), T @ solved, rtol=1e-8)
    np.testing.assert_allclose(reml.residuals(), d.y - T @ solved, atol=1e-6)


def test_a_row_of_weight_w_is_the_mean_of_w_rows():
    """It gives the beta that the w rows give; their sigma it cannot know."""
    rng = np.random.default_rng(2)
    w = rng.integers(1, 6, 60)
    means = pd.DataFrame({"g": np.repeat(list("abcdef"), 10), "x": rng.normal(size=60), "w": w})
    means["y"] = means["x"] + rng.normal(size=6)[means["g"].factorize()[0]]
    rows = means.loc[means.index.repeat(w)].reset_index()
    noise = pd.Series(rng.normal(size=len(rows)))
    means["y"] += noise.groupby(rows["index"]).mean()
    rows["y"] = means.loc[rows["index"], "y"].to_numpy()
    rows["y"] += noise - noise.groupby(rows["index"]).transform("mean")
    weighted = hp.varying_intercept("y ~ x", means, "g", weights="w")
    plain = hp.varying_intercept("y ~ x", rows, "g")
    sigma, factor = np.array([0.9, 1.1]), np.array([[[0.7]], [[1.3]]])
    beta = []
    for one in (weighted, plain):
        coordinates = Coordinates.from_design(one.design)
        moments = Moments.from_rows(Rows.from_design(one.design, coordinates))
        at = condition(moments, sigma, factor, BetaPrior.flat(2))
        beta.append(coordinates.beta_to_user(at.beta))
    np.testing.assert_allclose(beta[0], beta[1], rtol=1e-10)
    complete = [
        hp.complete_pooling("y ~ x", means, "g", weights="w").reml(),
        hp.complete_pooling("y ~ x", rows, "g").reml(),
    ]
    np.testing.assert_allclose(*(c.estimate.beta for c in complete), rtol=1e-10)
    assert complete[0].estimate.sigma != pytest.approx(complete[1].estimate.sigma, rel=1e-3)


def test_equal_weights_change_the_meaning_of_sigma_and_nothing_else(sleep):
    plain = hp.varying_slope(FORMULA, sleep, GROUP)
    four = hp.varying_slope(FORMULA, sleep.assign(w=4.0), GROUP, weights="w")
    one, other = plain.reml(), four.reml()
    assert other.loglik == pytest.approx(one.loglik, rel=1e-10)
    assert other.estimate.sigma == pytest.approx(2 * one.estimate.sigma, rel=1e-6)
    np.testing.assert_allclose(other.estimate.only.coef, one.estimate.only.coef, rtol=1e-5)
    one, other = (m.fit("exact", seed=1, progress=False) for m in (plain, four))
    (first, error), (second, its_error) = (f.log_marginal_likelihood for f in (one, other))
    assert abs(first - second) < 4 * np.hypot(error, its_error) < 0.1
    assert other.loo().elpd == pytest.approx(one.loo().elpd, abs=0.3)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_unit_of_the_weights_does_not_matter_to_reml(sleep, model, reml, unit):
    other = hp.varying_slope(FORMULA, sleep.assign(w=sleep["w"] * unit), GROUP, weights="w").reml()
    assert other.status.word == reml.status.word == "converged"
    assert other.loglik == pytest.approx(reml.loglik, rel=1e-9)
    np.testing.assert_allclose(other.estimate.only.sd, reml.estimate.only.sd, rtol=1e-4)
    np.testing.assert_allclose(other.estimate.only.sd_se, reml.estimate.only.sd_se, rtol=1e-3)


def test_least_squares_are_those_of_r(sleep):
    complete = hp.complete_pooling(FORMULA, sleep, GROUP, weights="w").reml()
    d, w = complete.design, sleep["w"].to_numpy()
    beta = np.linalg.solve(d.X.T @ (d.X * w[:, None]), d.X.T @ (w * d.y))
    residual = d.y - d.X @ beta
    ss, n = w @ residual**2, d.n
    np.testing.assert_allclose(complete.estimate.beta, beta, rtol=1e-9)
    assert complete.estimate.sigma == pytest.approx(np.sqrt(ss / (n - 2)))
    # logLik.lm: (sum(log(w)) - n (log(2 pi) + 1 - log(n) + log(sum(w res^2)))) / 2
    loglik = 0.5 * (np.log(w).sum() - n * (np.log(2 * np.pi) + 1 - np.log(n) + np.log(ss)))
    assert complete.loglik == pytest.approx(loglik)
    np.testing.assert_allclose(complete.residuals(), residual, atol=1e-8)


def test_no_pooling_is_weighted_least_squares_in_each_level(sleep):
    own = hp.no_pooling(FORMULA, sleep, GROUP, weights="w").reml().coefficients()["estimate"]
    for level, part in sleep.groupby(GROUP):
        slope, intercept = np.polyfit(part["Days"], part["Reaction"], 1, w=np.sqrt(part["w"]))
        np.testing.assert_allclose(own.loc[GROUP, level], [intercept, slope], rtol=1e-8)


def test_draws_of_the_levels_are_centred_on_the_conditional_means(fit):
    drawn = fit.coefficients(diagnostics=False)
    mean = fit.conditional_means()[f"coef_{fit.design.groups[0].factor}"].mean(axis=0).ravel()
    assert np.abs((drawn["mean"] - mean) / drawn["sd"]).max() < 0.1


def test_stored_densities_are_those_of_the_rows_one_by_one(fit):
    theta, some = fit.working_theta, np.array([7, 100, 3])
    algebra = fit.integrated
    stored = fit.datatree["log_likelihood"]["y"].to_numpy().reshape(-1, fit.design.n)[:, some]
    by_row = algebra.densities_by_row(theta, some, algebra.marginal(theta))
    np.testing.assert_allclose(by_row.T, stored, rtol=1e-9)


def test_left_out_rows_and_levels_are_scored_as_by_sampling_without_them(fit):
    rows = fit.loo()
    for i in (0, 50):
        assert rows.elpd_i[i] == pytest.approx(fit._score_exactly(np.array([i])), abs=0.03)
    levels = fit.loo(by="group")
    held = np.flatnonzero(fit.design.groups[0].grouping.codes == 4)
    assert levels.elpd_i[4] == pytest.approx(fit._score_exactly(held), abs=0.05)


def test_as_many_folds_as_points_are_leave_one_out(sleep):
    few = hp.varying_intercept(FORMULA, sleep.iloc[:30], GROUP, weights="w")
    fit = few.fit("exact", seed=1, progress=False)
    rows, levels = fit.kfold(30, seed=1, progress=False), fit.kfold(4, "group", seed=1)
    assert rows.elpd == pytest.approx(fit.loo().elpd, abs=0.1)
    assert levels.elpd == pytest.approx(fit.loo(by="group").elpd, abs=0.4)


def test_conditional_density_is_normal_with_the_weighted_variance(fit):
    draws = fit.datatree["posterior"].isel(chain=0, draw=0)
    coef, (group,) = draws[f"coef_{GROUP}"].to_numpy(), fit.design.groups
    mean = (group.Z * coef[group.grouping.codes]).sum(axis=1)
    sd = float(draws["sigma"]) / np.sqrt(fit.design.residual.values)
    found = fit.with_log_likelihood("conditional").datatree["log_likelihood"]["y"][0, 0]
    np.testing.assert_allclose(found, stats.norm(mean, sd).logpdf(fit.design.y), rtol=1e-9)


def test_replicated_responses_spread_by_their_weights(fit):
    replicated = fit.posterior_predictive(seed=1).datatree["posterior_predictive"]["y"]
    away = replicated.to_numpy().reshape(-1, fit.design.n) - fit.fitted().to_numpy()
    noise = (fit.theta.sigma**2).mean() / fit.design.residual.values
    level = fit.datatree["posterior"][f"coef_{GROUP}"].to_numpy().reshape(4000, -1, 2)
    (group,) = fit.design.groups
    expected = (group.Z * level[:, group.grouping.codes]).sum(axis=2)
    ratio = away.var(axis=0) / (noise + expected.var(axis=0))
    assert np.abs(ratio - 1).max() < 0.12


def test_unweighted_and_weighted_fits_can_be_compared(sleep, fit):
    plain = hp.varying_slope(FORMULA, sleep, GROUP).fit("exact", seed=1, progress=False)
    table = hp.compare({"plain": plain, "weighted": fit})
    assert table.loc["plain", "elpd"] > table.loc["weighted", "elpd"]  # the weights mean nothing


def test_default_prior_of_sigma_follows_the_unit_of_the_weights(sleep):
    one, other = (
        hp.varying_slope(FORMULA, sleep.assign(w=sleep["w"] * u), GROUP, weights="w").priors
        for u in (1, 100)
    )
    assert other.sigma.parameters["sigma"] == pytest.approx(10 * one.sigma.parameters["sigma"])
    np.testing.assert_array_equal(other.population.sd, one.population.sd)
    assert "where w is 1" in one.table()["meaning"]["sigma"]


def test_own_and_common_lines_of_the_shrinkage_table_are_weighted(sleep, fit, reml):
    for source in (fit, reml):
        table = hp.shrinkage(source)
        own = hp.no_pooling(FORMULA, sleep, GROUP, weights="w").reml().coefficients()["estimate"]
        np.testing.assert_allclose(table["own_estimate"], own, rtol=1e-8)
        line = hp.complete_pooling(FORMULA, sleep, GROUP, weights="w").reml().estimate.beta
        np.testing.assert_allclose(table["complete_pooling"].to_numpy()[:2], line, rtol=1e-8)


def test_differences_from_blups_add_up(fit, reml):
    table = hp.compare_blups(fit, reml)
    parts = table["due_to_coefficient_prior"] + table["due_to_variances"]
    np.testing.assert_allclose(table["difference"], parts, atol=1e-9)
    assert table["due_to_coefficient_prior"].abs().max() < 0.5


def test_fit_comes_back_from_its_file(fit, tmp_path):
    fit.save(tmp_path / "fit.nc")
    again = hp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.design.residual.values, fit.design.residual.values)
    assert again.loo().elpd == fit.loo().elpd
    xr.testing.assert_identical(
        again.datatree["constant_data"].to_dataset(), fit.datatree["constant_data"].to_dataset()
    )


@pytest.mark.slow
def test_weighted_model_is_calibrated(sleep):
    model = hp.varying_intercept(FORMULA, sleep.iloc[:60], GROUP, weights="w")
    assert hp.calibrate(model, 60, seed=3, progress=False).is_calibrated


@pytest.mark.slow
def test_nuts_agrees(model, fit):
    nuts = model.fit("nuts", seed=1, progress=False)
    a, b = nuts.summary(), fit.summary()
    error = np.sqrt(a["sd"] ** 2 / a["ess_bulk"] + b["sd"] ** 2 / b["ess_bulk"])
    assert ((a["mean"] - b["mean"]) / error).abs().max() < 5
