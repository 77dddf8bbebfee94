"""Levels left out by algebra are levels left out by fitting again, variances held."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.checks.residuals.influence import table
from hierpool.core.errors import ArgumentError, UnsupportedModelError


def covariance(fit):
    """V in units of sigma^2, dense, rows divided by their sds."""
    design, coordinates = fit.design, Coordinates.from_design(fit.design)
    V = np.eye(design.n)
    for group, at, z in zip(design.groups, design.group_columns, coordinates.zs, strict=True):
        root = z.from_working @ fit.estimate.relative_covariance_factor[at, at]
        same = group.grouping.codes[:, None] == group.grouping.codes
        sd = np.broadcast_to(design.residual.relative_sd, (design.n,))[:, None]
        half = group.Z @ root / sd
        V += same * (half @ half.T)
    return V


def rows(fit):
    sd = np.broadcast_to(fit.design.residual.relative_sd, (fit.design.n,))
    return fit.design.X / sd[:, None], fit.design.y_less_offset / sd


def generalised(X, V, y):
    inverse = np.linalg.inv(V)
    S = X.T @ inverse @ X
    return np.linalg.solve(S, X.T @ inverse @ y), S


def brute_force(fit, grouping):
    """Shift, Cook's distance, MDFFITS and variance of the shift of every level, by dense algebra."""
    X, y = rows(fit)
    V, sigma2, p = covariance(fit), fit.estimate.sigma**2, X.shape[1]
    beta, S = generalised(X, V, y)
    out = []
    for j in range(grouping.n_levels):
        kept = grouping.codes != j
        left, rest = generalised(X[kept], V[np.ix_(kept, kept)], y[kept])
        moved = beta - left
        variance = sigma2 * (np.linalg.inv(rest) - np.linalg.inv(S))
        shift = moved / np.sqrt(np.diag(np.linalg.inv(S)) * sigma2)
        cook, mdffits = moved @ S @ moved / (p * sigma2), moved @ rest @ moved / (p * sigma2)
        out.append([*shift, cook, mdffits, *np.sqrt(np.maximum(np.diag(variance), 0))])
    return np.array(out)


@pytest.mark.parametrize(
    "name", ["sleepstudy_slopes", "orthodont_sex", "sleepstudy_complete", "dyestuff2"]
)
def test_a_level_left_out_is_generalised_least_squares_without_it(fitted, name):
    fit = fitted[name].reml
    found, grouping = hp.influence(fit), next(iter(fit.design.groupings.values()))
    p = len(fit.design.terms)
    wanted = brute_force(fit, grouping)[:, : p + 2]
    assert found.iloc[:, 1 : p + 3].to_numpy() == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("factor", ["Worker", "Worker:Machine"])
def test_levels_of_one_factor_of_several_are_left_out_as_well(factor):
    data = hp.datasets.load("Machines")
    fit = hp.Model("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", data).reml()
    found, p = hp.influence(fit, by=factor), len(fit.design.terms)
    wanted = brute_force(fit, fit.design.groupings[factor])[:, : p + 2]
    assert found.iloc[:, 1 : p + 3].to_numpy() == pytest.approx(wanted, rel=1e-6, abs=1e-8)


def test_weights_count_when_a_level_is_left_out():
    data = hp.datasets.load("sleepstudy").assign(w=lambda d: 1 + d.Days % 3)
    fit = hp.Model("Reaction ~ Days + (Days | Subject)", data, weights="w").reml()
    wanted = brute_force(fit, fit.design.groupings["Subject"])[:, :4]
    assert hp.influence(fit).iloc[:, 1:5].to_numpy() == pytest.approx(wanted, rel=1e-6)


def test_shifts_have_the_variance_that_they_are_judged_by(fitted):
    """Simulated responses of the fit itself: shifts over their sds are standard normal."""
    fit = fitted["orthodont_sex"].reml
    maker, rng = ResidualMaker.from_fit(fit), np.random.default_rng(3)
    X, _ = rows(fit)
    V, grouping = covariance(fit), fit.design.groupings["Subject"]
    sds = brute_force(fit, grouping)[:, -4:] / fit.estimate.sigma
    made = maker.simulate(rng, 2000)
    for j in (0, 13):
        kept = grouping.codes != j
        whole, _ = generalised(X, V, made)
        left, _ = generalised(X[kept], V[np.ix_(kept, kept)], made[kept])
        assert (whole - left).std(axis=1) == pytest.approx(sds[j], rel=0.08)


def test_a_coefficient_that_one_level_carries_is_missing_without_it():
    data = hp.datasets.load("sleepstudy").assign(one=lambda d: (d.Subject == d.Subject[0]) * 1.0)
    found = hp.influence(hp.Model("Reaction ~ Days + one + (1 | Subject)", data).reml())
    assert found.filter(like="shift").iloc[0].isna().all()
    assert found.filter(like="shift").iloc[1:].notna().all(axis=None)


def test_influence_says_what_it_takes(fitted):
    with pytest.raises(ArgumentError, match="fit-needed"):
        hp.influence(fitted["dyestuff"].model)
    with pytest.raises(UnsupportedModelError, match="no-common-coefficients"):
        hp.influence(fitted["sleepstudy_no_pooling"].reml)


def test_residuals_and_leverages_are_those_of_dense_algebra(fitted):
    data = hp.datasets.load("Machines")
    several = hp.Model("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", data).reml()
    for fit in (fitted["sleepstudy_slopes"].reml, fitted["radon_uranium"].reml, several):
        maker, (X, y), V = ResidualMaker.from_fit(fit), rows(fit), np.linalg.inv(covariance(fit))
        K = V - V @ X @ np.linalg.solve(X.T @ V @ X, X.T @ V)
        assert maker.observed == pytest.approx(K @ y, abs=1e-6 * np.abs(y).max())
        assert maker.observed == pytest.approx(fit.residuals().to_numpy(), abs=1e-6)
        assert maker.diagonal == pytest.approx(np.diag(K), abs=1e-8)
        assert maker.sigma == pytest.approx(fit.estimate.sigma, rel=1e-6)
        for f, group in enumerate(fit.design.groups):
            Z, (found, _) = maker.rows.Z[f], maker.of_levels(f)
            own = group.grouping.codes == 2
            assert found[2] == pytest.approx(Z[own].T @ K[np.ix_(own, own)] @ Z[own], abs=1e-7)


def test_influence_of_levels_agrees_between_its_two_ways(fitted):
    from hierpool.checks.residuals import influence

    fit = fitted["sleepstudy_slopes"].reml
    maker, grouping = ResidualMaker.from_fit(fit), fit.design.groupings["Subject"]
    one, other = influence._by_cross_products(maker, grouping), influence._by_rows(maker, grouping)
    assert one.shift == pytest.approx(other.shift, rel=1e-7)
    assert one.variance == pytest.approx(other.variance, rel=1e-6)
    assert len(table(maker, grouping)) == 18
