"""Optima that are easy to miss, and words that say what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import hierpool as hp
from hierpool.core.errors import DataError
from hierpool.reml.criterion import Criterion
from hierpool.reml.estimate import lower_root, minimise
from tests.laws.dense import restricted_log_density

SLOPES = "y ~ x + (x | g)"


def simulated(
    seed: int,
    levels: int = 129,
    rows: int = 4,
    sd: tuple[float, float] = (47.0, 8.0),
    corr: float = -0.2,
    sigma: float = 57.0,
) -> pd.DataFrame:
    """Levels with an intercept and a slope of their own; the default is shaped like the boars."""
    rng = np.random.default_rng([seed, levels, rows])
    x = np.tile(np.arange(1.0, 1 + rows), levels)
    g = np.repeat(np.arange(levels), rows)
    cov = np.outer(sd, sd) * np.array([[1, corr], [corr, 1]])
    u = rng.multivariate_normal([0, 0], cov, size=levels, method="eigh")
    y = 225 + 10 * x + u[g, 0] + u[g, 1] * x + sigma * rng.normal(size=len(x))
    return pd.DataFrame({"y": y, "x": x, "g": g})


def best_of_many_starts(criterion: Criterion, starts: int) -> float:
    """Smallest deviance by Nelder-Mead from the best of 1000 places, without a gradient."""
    places = np.random.default_rng(1).normal(size=(1000, 3)) * [1.0, 0.5, 0.5]
    order = np.argsort(criterion.deviance(places))
    apart = [places[order[0]], *places[order[20 : 20 * starts : 20]]]

    def deviance(theta: np.ndarray) -> float:
        return float(criterion.deviance(theta[None])[0])

    def descend(start: np.ndarray) -> float:
        options: Any = {"xatol": 1e-4, "fatol": 1e-8}
        return optimize.minimize(deviance, start, method="Nelder-Mead", options=options).fun

    return min(descend(start) for start in apart)


@pytest.mark.parametrize(
    ("method", "seeds", "starts"),
    [
        ("REML", range(10), 1),
        pytest.param("REML", range(30), 4, marks=pytest.mark.slow),
        pytest.param("ML", range(30), 4, marks=pytest.mark.slow),
    ],
)
def test_no_start_leads_below_our_optimum(method, seeds, starts):
    """Sets of 129 x 4 rows, half of them with a slope that does not vary."""
    behind = {}
    for seed in seeds:
        sd = (47.0, 8.0) if seed % 2 else (30.0, 0.0)
        criterion = Criterion.from_design(hp.Model(SLOPES, simulated(seed, sd=sd)).design, method)
        gap = minimise(criterion).deviance - best_of_many_starts(criterion, starts)
        if gap > 1e-6:
            behind[seed] = gap
    assert behind == {}


def test_optimum_is_flat_in_every_direction(fitted):
    for name in ("sleepstudy_slopes", "radon_slopes", "orthodont_sex", "machines_slopes"):
        optimum = minimise(Criterion.from_design(fitted[name].model.design, "REML"))
        assert np.abs(optimum.gradient).max() < 1e-6, name
        assert np.linalg.eigvalsh(optimum.hessian).min() > 0, name


def test_variance_of_zero_is_singular_and_exactly_zero(fitted):
    fit = fitted["dyestuff2"].reml
    assert fit.status.word == "singular"
    assert fit.status.is_trustworthy
    assert "the sd of Intercept between batches is estimated as zero" in fit.status.sentence
    assert fit.estimate.only.sd.tolist() == [0.0]
    assert not fit.estimate.only.u.any()
    line = hp.complete_pooling("Yield ~ 1", hp.datasets.load("Dyestuff2")).reml()
    assert fit.estimate.beta == pytest.approx(line.estimate.beta)
    assert fit.estimate.sigma == pytest.approx(line.estimate.sigma)


def test_standard_errors_on_the_boundary_are_missing(fitted):
    table = fitted["dyestuff2"].reml.variance_components()
    assert table["se"].isna().all()


def test_correlation_of_one_is_singular_and_named():
    data = simulated(3, levels=8, rows=6, sd=(20.0, 20.0), corr=1.0, sigma=30.0)
    fit = hp.Model(SLOPES, data).reml()
    assert fit.status.word == "singular"
    assert "correlation of Intercept and x over g is estimated as +-1" in fit.status.sentence
    assert abs(fit.estimate.only.corr[1, 0]) == pytest.approx(1.0, abs=1e-6)


def test_uncorrelated_slope_without_variance_is_named_and_has_no_correlation():
    fits = (
        hp.Model("y ~ x + (x || g)", simulated(s, levels=20, sd=(30.0, 0.0))).reml()
        for s in range(9)
    )
    fit = next(f for f in fits if f.status.word == "singular" and f.estimate.only.sd[0] > 0)
    assert "the sd of x between groups is estimated as zero" in fit.status.sentence
    assert fit.estimate.only.sd[1] == 0.0
    assert not fit.estimate.only.u[:, 1].any()


def test_factor_of_two_levels_has_an_optimum():
    data = hp.datasets.load("sleepstudy")
    two = data[data["Subject"].isin(["308", "309"])]
    fit = hp.Model("Reaction ~ Days + (1 | Subject)", two).reml()
    assert fit.status.is_trustworthy
    criterion = Criterion.from_design(fit.design, "REML")
    grid = np.linspace(0, 30, 3001)[:, None]
    assert -2 * fit.loglik <= criterion.deviance(grid).min() + 1e-9


def test_levels_that_are_nearly_all_have_an_optimum():
    """Intraclass correlation .99: the relative sd is 10 and more."""
    data = simulated(1, levels=30, rows=5, sd=(100.0, 0.0), sigma=10.0)
    fit = hp.Model("y ~ x + (1 | g)", data).reml()
    e = fit.estimate
    assert fit.status.word == "converged"
    assert e.only.sd[0] ** 2 / (e.only.sd[0] ** 2 + e.sigma**2) > 0.98
    # balanced: REML is the analysis of variance
    within = hp.no_pooling("y ~ 1", data.assign(y=data["y"] - e.beta[1] * data["x"]), "g").reml()
    means = within.estimate.only.coef[:, 0]
    assert e.only.sd[0] ** 2 == pytest.approx(means.var(ddof=1) - e.sigma**2 / 5, rel=1e-6)


def test_balanced_one_way_is_the_analysis_of_variance(fitted):
    fit, data = fitted["dyestuff"].reml, hp.datasets.load("Dyestuff")
    by_batch = data.groupby("Batch", observed=True)["Yield"]
    within = float(by_batch.var(ddof=1).mean())
    between = float(by_batch.mean().var(ddof=1))
    assert fit.estimate.sigma**2 == pytest.approx(within, rel=1e-9)
    assert fit.estimate.only.sd[0] ** 2 == pytest.approx(between - within / 5, rel=1e-7)


@pytest.mark.parametrize(
    ("formula", "size"),
    [("y ~ x + (x | g)", (6, 4)), ("y ~ x + (x || g)", (6, 4)), (SLOPES, (5, 8))],
)
def test_response_without_residual_is_refused(formula, size):
    data = simulated(1, *size, sigma=0.0)
    with pytest.raises(DataError, match=r"y ~ x \+ .* fits y exactly.*\[exact-fit\]"):
        hp.Model(formula, data).reml()


def test_standard_errors_of_spread_are_those_of_the_observed_information(fitted):
    """Curvature of the unprofiled deviance in (sd, sigma) itself, by differences."""
    fit = fitted["dyestuff"].reml
    e, design = fit.estimate, fit.design
    y, codes = design.y, design.groups[0].grouping.codes

    def deviance(point: np.ndarray) -> float:
        same = codes[:, None] == codes
        V = point[0] ** 2 * same + point[1] ** 2 * np.eye(len(y))
        return -2 * restricted_log_density(y, design.X, V)

    at, h = np.array([e.only.sd[0], e.sigma]), 0.05 * np.eye(2)

    def across(a: np.ndarray, b: np.ndarray) -> float:
        corners = [(s * t, deviance(at + s * a + t * b)) for s in (1, -1) for t in (1, -1)]
        return sum(sign * value for sign, value in corners) / (4 * 0.05**2)

    H = np.array([[across(a, b) for b in h] for a in h])
    se = np.sqrt(np.diag(2 * np.linalg.inv(H)))
    np.testing.assert_allclose([e.only.sd_se[0], e.sigma_se], se, rtol=1e-3)


def test_user_coding_decides_what_is_reported(fitted):
    """Days as 100..109: slope and its sd stay, intercept and correlation move as the map says."""
    data = hp.datasets.load("sleepstudy")
    moved = hp.Model(
        "Reaction ~ Days + (Days | Subject)", data.assign(Days=data["Days"] + 100)
    ).reml()
    here, there = fitted["sleepstudy_slopes"].reml.estimate, moved.estimate
    B = np.array([[1.0, -100.0], [0.0, 1.0]])
    np.testing.assert_allclose(there.beta, B @ here.beta, rtol=1e-8)
    Sigma = here.only.corr * np.outer(here.only.sd, here.only.sd)
    np.testing.assert_allclose(
        there.only.corr * np.outer(there.only.sd, there.only.sd), B @ Sigma @ B.T, rtol=1e-6
    )
    np.testing.assert_allclose(there.only.u, here.only.u @ B.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(there.only.u_pev, B @ here.only.u_pev @ B.T, rtol=1e-5)
    np.testing.assert_allclose(there.fitted, here.fitted, rtol=1e-8)


def test_fitted_values_are_columns_times_coefficients(fitted):
    for name in ("sleepstudy_slopes", "radon_slopes", "orthodont_sex", "machines_slopes"):
        fit = fitted[name].reml
        (group,) = fit.design.groups
        e = fit.estimate
        by_hand = fit.design.X @ e.beta + (group.Z * e.only.u[group.grouping.codes]).sum(axis=1)
        np.testing.assert_allclose(e.fitted, by_hand, rtol=1e-9)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_lower_root_is_triangular_with_the_same_square(rank):
    root = np.random.default_rng(rank).normal(size=(3, max(rank, 1))) * (rank > 0)
    L = lower_root(np.hstack([root, np.zeros((3, 3 - root.shape[1]))]))
    np.testing.assert_allclose(L @ L.T, root @ root.T, atol=1e-12)
    np.testing.assert_array_equal(L, np.tril(L))
    assert (np.diag(L) >= 0).all()
