"""How far each level is pulled: identities of the weights, and the two ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.gaussian import BetaPrior, condition
from hierpool.algebra.moments import Moments
from hierpool.core.errors import UnsupportedModelError

COLUMNS = [
    "n",
    "own_estimate",
    "partial_pooling",
    "population",
    "complete_pooling",
    "pooling_factor",
]
POOLED = [
    "sleepstudy_intercepts",
    "sleepstudy_slopes",
    "sleepstudy_uncorrelated",
    "radon_slopes",
    "dyestuff2",
]


def test_own_estimates_beside_a_residual_structure_are_generalised_least_squares():
    teeth = hp.datasets.load("Orthodont")
    model = hp.Model("distance ~ age + (age | Subject)", teeth, residual="ar1(age | Subject)")
    table = hp.shrinkage(model.reml()).loc["Subject"]
    rho = float(model.reml().residual_parameters[0, 0])
    R = np.linalg.inv(rho ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
    X = np.column_stack([np.ones(4), [8, 10, 12, 14]])
    for subject, rows in teeth.groupby("Subject"):
        own = np.linalg.solve(X.T @ R @ X, X.T @ R @ rows.sort_values("age")["distance"])
        np.testing.assert_allclose(table.loc[subject, "own_estimate"], own)


def weights(fit: hp.LikelihoodFit) -> np.ndarray:
    """Shape (J, q, q): W = Sigma A (Sigma A + sigma^2 I)^-1 of each level, user's coding."""
    (group,) = fit.design.groups
    e, q = fit.estimate, len(group.terms)
    corr = np.where(np.isnan(e.only.corr), np.eye(q), e.only.corr)
    Sigma = corr * np.outer(e.only.sd, e.only.sd)
    out = []
    for j in range(group.grouping.n_levels):
        Z = group.Z[group.grouping.codes == j]
        A = Z.T @ Z
        out.append(Sigma @ A @ np.linalg.inv(Sigma @ A + e.sigma**2 * np.eye(q)))
    return np.array(out)


def wide(table: pd.DataFrame, column: str) -> np.ndarray:
    """Shape (J, q)."""
    terms = table.index.get_level_values("term").nunique()
    return table[column].to_numpy().reshape(-1, terms)


@pytest.mark.parametrize("name", POOLED)
def test_pooling_factor_is_condvar_over_variance(fitted, name):
    fit = fitted[name].reml
    e, table = fit.estimate, hp.shrinkage(fitted[name].reml)
    condvar = np.diagonal(e.only.u_condvar, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        expected = np.where(e.only.sd > 0, condvar / e.only.sd**2, 1.0)
    np.testing.assert_allclose(wide(table, "pooling_factor"), expected, rtol=1e-9)
    assert table["pooling_factor"].between(0, 1).all()


@pytest.mark.parametrize("name", ["sleepstudy_intercepts", "radon_intercepts", "dyestuff"])
def test_pooling_factor_of_one_term_is_one_minus_its_weight(fitted, name):
    fit = fitted[name].reml
    e, n = fit.estimate, fit.design.groups[0].grouping.n_rows
    table = hp.shrinkage(fit)
    weight = n * e.only.sd[0] ** 2 / (n * e.only.sd[0] ** 2 + e.sigma**2)
    np.testing.assert_allclose(table["pooling_factor"], 1 - weight, rtol=1e-9)
    np.testing.assert_allclose(weights(fit)[:, 0, 0], weight, rtol=1e-9)


@pytest.mark.parametrize(
    "name", ["sleepstudy_intercepts", "sleepstudy_slopes", "radon_intercepts", "machines_slopes"]
)
def test_partial_pooling_is_the_weighted_mean_of_own_and_population(fitted, name):
    """For matrices too, and whatever the levels' designs."""
    fit = fitted[name].reml
    table, W = hp.shrinkage(fit), weights(fit)
    own, population = wide(table, "own_estimate"), wide(table, "population")
    expected = population + np.einsum("jab,jb->ja", W, own - population)
    np.testing.assert_allclose(wide(table, "partial_pooling"), expected, rtol=1e-8, atol=1e-8)


def test_columns_of_the_limits_are_those_of_their_fits(fitted):
    table = hp.shrinkage(fitted["sleepstudy_slopes"].reml)
    assert table.columns.tolist() == COLUMNS
    own = fitted["sleepstudy_no_pooling"].reml.coefficients()["estimate"]
    np.testing.assert_allclose(table["own_estimate"], own.to_numpy(), rtol=1e-9)
    line = fitted["sleepstudy_complete"].reml.estimate.beta
    np.testing.assert_allclose(wide(table, "complete_pooling"), np.tile(line, (18, 1)), rtol=1e-9)
    beta = fitted["sleepstudy_slopes"].reml.estimate.beta
    np.testing.assert_allclose(wide(table, "population"), np.tile(beta, (18, 1)), rtol=1e-12)
    coef = fitted["sleepstudy_slopes"].reml.estimate.only.coef
    np.testing.assert_array_equal(wide(table, "partial_pooling"), coef)


def test_term_that_does_not_vary_is_taken_off_first(fitted):
    """With (1 | Subject) the own intercept is the mean of y less the common slope's part."""
    fit, data = fitted["sleepstudy_intercepts"].reml, hp.datasets.load("sleepstudy")
    left = data["Reaction"] - fit.estimate.beta[1] * data["Days"]
    own = left.groupby(data["Subject"], observed=True).mean()
    np.testing.assert_allclose(hp.shrinkage(fit)["own_estimate"], own, rtol=1e-9)


def test_zero_variance_pulls_all_the_way(fitted):
    table = hp.shrinkage(fitted["dyestuff2"].reml)
    assert (table["pooling_factor"] == 1).all()
    np.testing.assert_allclose(table["partial_pooling"], table["population"], rtol=1e-12)


def test_pooling_factor_goes_from_one_to_zero_with_the_variance(fitted):
    design = fitted["sleepstudy_slopes"].model.design
    scales = np.array([1e-4, 1e-2, 1.0, 1e2, 1e4])
    at = condition(
        Moments.from_design(design),
        np.ones(5),
        scales[:, None, None] * np.eye(2),
        BetaPrior.flat(2),
    )
    share = np.diagonal(at.covariance_given_beta[:, 0], axis1=1, axis2=2) / scales[:, None] ** 2
    assert (np.diff(share, axis=0) < 0).all()
    np.testing.assert_allclose(share[0], 1.0, atol=1e-5)
    np.testing.assert_allclose(share[-1], 0.0, atol=1e-5)


@pytest.mark.parametrize("name", ["sleepstudy_slopes", "dyestuff2", "machines_slopes"])
def test_posterior_table_has_means_and_an_interval(fitted, name):
    fit = fitted[name].posterior
    table = hp.shrinkage(fit)
    low, high = table.columns[-2:]
    assert (low, high) == ("pooling_factor_eti95_lb", "pooling_factor_eti95_ub")
    assert table["pooling_factor"].between(0, 1).all()
    assert (table[low] <= table[high]).all()
    (group,) = fit.design.groups
    means = fit.conditional_means()[f"coef_{group.factor}"].mean(axis=0)
    np.testing.assert_allclose(wide(table, "partial_pooling"), means, rtol=1e-10)


def test_posterior_pooling_factor_is_the_mean_over_theta(fitted):
    fit = fitted["dyestuff"].posterior
    posterior = fit.datatree["posterior"]
    sigma, tau = (posterior[v].to_numpy().reshape(-1) for v in ("sigma", "sd_Batch"))
    factor = sigma**2 / (5 * tau**2 + sigma**2)
    np.testing.assert_allclose(hp.shrinkage(fit)["pooling_factor"], factor.mean(), rtol=1e-10)


def test_level_that_cannot_tell_its_slope_has_no_own_estimate_of_it(fitted):
    table = hp.shrinkage(fitted["radon_slopes"].reml)
    own = table["own_estimate"].unstack("term")
    one_row = table["n"].unstack("term")["floor"] == 1
    assert one_row.sum() == 3
    assert own.loc[one_row, "floor"].isna().all()
    assert own["Intercept"].notna().all()
    assert table["partial_pooling"].notna().all()


def test_term_without_population_coefficient_is_pulled_to_zero():
    data = hp.datasets.load("sleepstudy")
    table = hp.shrinkage(hp.Model("Reaction ~ 1 + (Days | Subject)", data).reml())
    slopes = table.xs("Days", level="term")
    assert (slopes["population"] == 0).all()
    assert slopes["complete_pooling"].isna().all()


@pytest.mark.parametrize("name", ["sleepstudy_complete", "sleepstudy_no_pooling"])
def test_nothing_is_shrunk_without_partial_pooling(fitted, name):
    for fit in (fitted[name].reml, fitted[name].posterior):
        with pytest.raises(UnsupportedModelError, match=r"nothing is shrunk.*\[no-shrinkage\]"):
            hp.shrinkage(fit)


def test_many_levels_are_asked_some_at_a_time(fitted, monkeypatch):
    """Scores, shrinkage and means of levels that are too many to keep are those of all at once."""
    fit = fitted["sleepstudy_slopes"].posterior
    many = replace(fit, info={**fit.info, "levels": "on request"})
    judge = fit.loo(by="Subject"), hp.shrinkage(fit)
    np.testing.assert_array_equal(many.population_means, fit.posterior_means["beta"])
    monkeypatch.setattr("hierpool.algebra.factorisation._BLOCK_FLOATS", 8000)
    loo, table = many.loo(by="Subject"), hp.shrinkage(many)
    np.testing.assert_allclose(loo.elpd_i, judge[0].elpd_i, rtol=1e-12)
    np.testing.assert_allclose(loo.pareto_k, judge[0].pareto_k, rtol=1e-6)
    np.testing.assert_allclose(table, judge[1], rtol=1e-10)
    # of as few draws of theta as can be afforded, which says what that costs
    own = fit.integrated.flops_per_theta * 100
    monkeypatch.setattr("hierpool.fits.posterior.AFFORDABLE_ON_REQUEST", own)
    fewer = replace(many)
    assert fewer.thinned_draws.size == 100
    some = fewer.loo(by="Subject")
    assert abs(some.elpd - loo.elpd) < 4 * some.mcse
    assert "Based on 100 of" in str(some)
    sd = fit.fixed_effects()["sd"]
    assert (np.abs(fewer.population_means - many.population_means) < 0.1 * sd).all()
    np.testing.assert_allclose(fewer.population_means, fewer.posterior_means["beta"], rtol=1e-12)
