"""Residual sds of classes beside several factors, against one dense normal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.algebra.several.by_class import SeveralFactorsByClass
from hierpool.bayes.exact.log_posterior import log_posterior
from hierpool.core.theta import ResidualTheta
from hierpool.reml.criterion import Criterion

CASES = [
    ("y ~ x + (1 | a) + (1 | b)", "~ k"),
    ("y ~ x + (x | a) + (1 | b)", "~ d"),
    ("y ~ 1 + (1 | a) + (1 | a:b)", "~ k"),
]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 90
    a, b, k = rng.integers(0, 6, n), rng.integers(0, 4, n), rng.choice(["u", "v", "w"], n)
    x = rng.normal(size=n)
    sd = np.select([k == "u", k == "v"], [0.5, 1.0], 2.0)
    y = 2 + x + rng.normal(0, 1, 6)[a] + rng.normal(0, 0.7, 4)[b] + rng.normal(size=n) * sd
    named = {"a": [f"a{i}" for i in a], "b": [f"b{i}" for i in b], "k": k}
    return pd.DataFrame({**named, "d": rng.integers(0, 4, n), "x": x, "y": y})


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]}, {c[1]}")
def model(request: Any, table: pd.DataFrame) -> hp.Model:
    return hp.Model(request.param[0], table, sigma=request.param[1])


def covariance(model: hp.Model, algebra: Any, Lambda: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Of the rows in units of sigma^2, given beta."""
    s = model.design.residual.structure
    assert s is not None
    V = np.diag(np.exp(2 * s.log_sds(phi[None])[0][s.classes]))
    start = 0
    for Z, codes, J in zip(algebra.rows.Z, algebra.rows.codes, algebra.rows.n_levels, strict=True):
        at = slice(start, start + Z.shape[1])
        start = at.stop
        T = np.einsum("nj,nq->njq", np.eye(J)[codes], Z @ Lambda[at, at]).reshape(len(Z), -1)
        V += T @ T.T
    return V


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_deviance_and_gradient(model: hp.Model, method: Any) -> None:
    criterion = Criterion.from_design(model.design, method)
    algebra: Any = criterion.algebra
    structure = model.design.residual.structure
    assert structure is not None
    theta = np.random.default_rng(1).normal(0.4, 0.2, criterion.n_free + structure.size)
    phi = criterion.phi(theta)
    assert phi is not None
    V = covariance(model, algebra, criterion.factor(theta), phi)
    X, y = model.design.X, model.design.y
    n, p = X.shape
    inside = X.T @ np.linalg.solve(V, X)
    left = y - X @ np.linalg.solve(inside, X.T @ np.linalg.solve(V, y))
    df = n - p if method == "REML" else n
    expected = np.linalg.slogdet(V)[1]
    expected += df * (1 + np.log(2 * np.pi * left @ np.linalg.solve(V, left) / df))
    expected += np.linalg.slogdet(inside)[1] if method == "REML" else 0.0
    value, gradient = criterion.value_and_gradient(theta)
    assert value == pytest.approx(expected, abs=1e-8)
    steps = 1e-5 * np.eye(len(theta))
    ends = criterion.deviance(np.concatenate([theta + steps, theta - steps]))
    differences = (ends[: len(theta)] - ends[len(theta) :]) / 2e-5
    assert gradient == pytest.approx(differences, abs=1e-5)


def test_density_and_rows_and_levels_left_out(model: hp.Model) -> None:
    target = log_posterior(model.design, model.priors)
    algebra: Any = target.integrated
    assert isinstance(algebra, SeveralFactorsByClass)
    at = target.at(0.5 * np.random.default_rng(2).normal(size=(2, target.coordinates.size)))
    working, rows = at.working, algebra.rows
    assert isinstance(working, ResidualTheta)
    prior, n = algebra.prior, model.design.n
    found = algebra.densities_by_row(working, np.arange(n), algebra.marginal(working))
    grouping = model.design.groupings["a"]
    levels = algebra.log_density_of_levels(working, grouping)
    for k in range(2):
        V = working.sigma[k] ** 2 * covariance(model, algebra, working.Lambda[k], working.phi[k])
        V += rows.X @ np.linalg.solve(prior.precision, rows.X.T)
        e = rows.y - rows.X @ prior.mean
        whole = stats.multivariate_normal.logpdf(e, cov=V)
        assert at.log_likelihood[k] == pytest.approx(whole, abs=1e-7)
        K = np.linalg.inv(V)
        variance = 1 / np.diag(K)
        of_rows = stats.norm.logpdf(K @ e * variance, scale=np.sqrt(variance))
        assert found[:, k] == pytest.approx(of_rows, abs=1e-7)
        kept = grouping.codes != 0
        rest = stats.multivariate_normal.logpdf(e[kept], cov=V[np.ix_(kept, kept)])
        assert levels[0, k] == pytest.approx(whole - rest, abs=1e-7)


def test_equal_sds_give_what_one_sd_gives(table: pd.DataFrame) -> None:
    formula = "y ~ x + (1 | a) + (1 | b)"
    plain, scaled = hp.Model(formula, table), hp.Model(formula, table, sigma="~ k")
    one, other = (log_posterior(m.design, m.priors) for m in (plain, scaled))
    z = 0.3 * np.random.default_rng(3).normal(size=(80, one.coordinates.size))
    theta = one.theta_map.working(one.coordinates.theta(z))
    same = ResidualTheta(theta.sigma, theta.Lambda, np.zeros((80, 2)))
    assert other.integrated.log_density(same) == pytest.approx(one.integrated.log_density(theta))
    drawn = other.integrated.draw(same, 4)["u_a"]
    means = other.integrated.mean_coefficients(same)["u_a"]
    variance, _ = other.integrated.conditional_variances(same)[0]
    z_scores = (drawn - means).mean(axis=0)[:, 0] / np.sqrt(variance.mean() / 80)
    assert np.abs(z_scores).max() < 6
