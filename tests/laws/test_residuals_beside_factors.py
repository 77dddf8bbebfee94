"""Correlated residuals beside several factors, nested and crossed, are what a dense Gaussian says.

The other factors' coefficients are eliminated in one dense matrix or in a sparse one: both are judged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.algebra.correlated import sparse_system
from hierpool.algebra.correlated.model import CorrelatedResiduals
from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.bayes.exact.target import LogPosterior
from hierpool.core.theta import ResidualTheta
from hierpool.reml.criterion import Criterion
from tests.laws.dense import normal_log_density, wide
from tests.laws.test_residual_structures import (
    correlation,
    dense_of,
    dense_reml,
    table,
    thetas,
)
from tests.support.gradients import value_with_checked_gradient

CASES = [
    ("(time | pig) + (1 | pen)", "ar1(time | pig)"),  # in pens, both around the groups
    ("(1 | pig) + (diet | time) + (1 | pen)", "ar1h(time | pig, by=diet)"),  # one of them crossed
    ("(1 | pen) + (1 | time)", "us(time | pig)"),  # groups inside the levels of the main factor
    ("(1 | time)", "car1(time | pig, nugget=True)"),  # none around the groups
    ("(1 | pen) + (0 + w | pig)", "arma11(slot | pen)"),  # of the outer factor
]


def data() -> pd.DataFrame:
    """The table with pens of pigs, and an order of the rows of each."""
    made = table()
    made["pen"] = made["pig"] // 4
    made["slot"] = made.groupby("pen").cumcount()
    return made


QUICK = (("dense", 1), ("dense", 3), ("sparse", 0))
PARAMS = [
    pytest.param(
        (way, *case), marks=[] if (way, k) in QUICK else pytest.mark.slow, id=f"{way} {case}"
    )
    for way in ("dense", "sparse")
    for k, case in enumerate(CASES)
]


@pytest.fixture(params=PARAMS)
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> hp.Model:
    way, terms, structure = request.param
    if way == "sparse":
        monkeypatch.setattr(sparse_system, "_SMALL", 0)
        monkeypatch.setattr(sparse_system, "_SPARSE", 10.0)
    made = hp.Model(f"y ~ time + diet + {terms}", data(), residual=structure, weights="w")
    algebra = LogPosterior.from_design(made.design, made.priors).integrated
    assert isinstance(algebra, CorrelatedResiduals)
    if way == "dense" or not algebra.near.is_all:
        assert (algebra.plan is None) == (way == "dense")
    return made


def columns(model: hp.Model, theta: ResidualTheta, k: int) -> list[np.ndarray]:
    """Z Lambda sigma of each factor, its levels side by side."""
    coordinates, design = LogPosterior.from_design(model.design, model.priors), model.design
    zs = coordinates.integrated.coordinates.zs
    return [
        wide(z.work(g.Z) @ theta.Lambda[k, at, at] * theta.sigma[k], g.codes, g.grouping.n_levels)
        for g, z, at in zip(design.groups, zs, design.group_columns, strict=True)
    ]


def test_density_and_what_is_left_out(model: hp.Model) -> None:
    target, z = thetas(model, 2)
    at = target.at(z)
    theta, algebra = at.working, target.integrated
    assert isinstance(theta, ResidualTheta)
    assert isinstance(algebra, CorrelatedResiduals)
    rows, (mean, sd) = algebra.log_density_of_rows(theta), algebra.prediction_of_rows(theta)
    groupings = model.design.groupings
    levels = {f: algebra.log_density_of_levels(theta, g) for f, g in groupings.items()}
    ahead = algebra.densities_ahead(theta)
    structured = groupings[model.design.residual_factor]
    of_groups = np.zeros_like(levels[structured.factor])
    np.add.at(of_groups, structured.codes, ahead)
    np.testing.assert_allclose(of_groups, levels[structured.factor], atol=1e-8)
    for k in range(2):
        y, _, m, cov, _ = dense_of(target, theta, k)
        whole = normal_log_density(y, m, cov)
        assert at.log_likelihood[k] == pytest.approx(whole, rel=1e-10, abs=1e-8)
        K = np.linalg.inv(cov)
        off, variance = (K @ (y - m)) / np.diag(K), 1 / np.diag(K)
        y_shift = algebra.coordinates.y_shift
        np.testing.assert_allclose(mean[k], y - off + y_shift, rtol=1e-9, atol=1e-8)
        np.testing.assert_allclose(sd[k], np.sqrt(variance), rtol=1e-8)
        expected = -0.5 * (np.log(2 * np.pi * variance) + off**2 / variance)
        np.testing.assert_allclose(rows[k], expected, atol=1e-8)
        for factor, found in levels.items():
            for j in range(len(found)):
                rest = groupings[factor].codes != j
                less = normal_log_density(y[rest], m[rest], cov[np.ix_(rest, rest)])
                assert found[j, k] == pytest.approx(whole - less, abs=1e-8), factor


def test_coefficients(model: hp.Model) -> None:
    target, z = thetas(model, 1)
    theta, algebra, design = target.at(z).working, target.integrated, model.design
    assert isinstance(theta, ResidualTheta)
    y, X, _, _, V = dense_of(target, theta, 0)
    Z = np.hstack(columns(model, theta, 0))
    T = np.hstack([X, Z])
    R = V - Z @ Z.T
    precision = T.T @ np.linalg.solve(R, T)
    p = X.shape[1]
    precision[:p, :p] += algebra.prior.precision
    precision[p:, p:] += np.eye(Z.shape[1])
    right = T.T @ np.linalg.solve(R, y)
    right[:p] += algebra.prior.weighted_mean
    found, both = algebra.mean_coefficients(theta), np.linalg.solve(precision, right)
    given_beta = np.linalg.inv(precision[p:, p:])
    variances = algebra.conditional_variances(theta)
    drawn = algebra.draw(theta[np.zeros(1000, dtype=int)], 1)
    np.testing.assert_allclose(
        found["beta"][0], algebra.coordinates.beta_to_user(both[:p]), rtol=1e-8
    )
    done = 0
    every = zip(design.groups, algebra.coordinates.zs, design.group_columns, strict=True)
    for k, (g, coding, at) in enumerate(every):
        J, q = g.grouping.n_levels, len(g.terms)
        own = slice(done, done + J * q)
        back = coding.from_working @ (theta.Lambda[0, at, at] * theta.sigma[0])
        u = both[p:][own].reshape(J, q) @ back.T
        np.testing.assert_allclose(found[f"u_{g.factor}"][0], u, rtol=1e-7, atol=1e-8)
        blocks = given_beta[own, own].reshape(J, q, J, q)
        expected = np.einsum("ab,jbjc,ac->ja", back, blocks, back)
        values, whose = variances[k]
        np.testing.assert_allclose(values[0][whose], expected, rtol=1e-8)
        draws = drawn[f"u_{g.factor}"]
        error = draws.std(axis=0) / np.sqrt(len(draws))
        assert (np.abs(draws.mean(axis=0) - u) < 5 * error).all()
        done = own.stop


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_deviance_gradient_and_errors(model: hp.Model, method: Any) -> None:
    c = Criterion.from_design(model.design, method)
    theta, value = value_with_checked_gradient(c)
    if method == "REML":
        assert value == pytest.approx(dense_reml(model, c, theta), abs=1e-7)


def test_errors_of_combinations_and_predictions(model: hp.Model) -> None:
    c = Criterion.from_design(model.design, "REML")
    assert c.structure is not None
    theta = np.concatenate([np.full(c.n_free, 0.7), np.full(c.structure.size, 0.3)])
    at, phi, design = c.at(theta), c.phi(theta), model.design
    assert phi is not None
    one = ResidualTheta(np.ones(1), c.factor(theta)[None], phi[None])
    target = LogPosterior.from_design(design, model.priors)
    y, X, _, _, V = dense_of(target, one, 0)
    Z = np.hstack(columns(model, one, 0))
    R, T = V - Z @ Z.T, np.hstack([X, Z])
    precision = T.T @ np.linalg.solve(R, T)
    p = X.shape[1]
    precision[p:, p:] += np.eye(Z.shape[1])
    inverse = np.linalg.inv(precision)
    both = inverse @ (T.T @ np.linalg.solve(R, y))
    known = 1 / np.sqrt(design.frame["w"].to_numpy())
    np.testing.assert_allclose(at.residuals(), y - T @ both, rtol=1e-7, atol=1e-8)
    assert np.ptp(known)
    parts, expected = [], [np.eye(p)[:2]]
    done = 0
    for k, (g, cols) in enumerate(zip(design.groups, design.group_columns, strict=True)):
        q, J = len(g.terms), g.grouping.n_levels
        weights = np.ones((2, q)) + np.arange(q)
        parts.append(LevelPart(np.arange(2), np.array([k, J - 1]), weights))
        spread = np.zeros((2, J, q))
        spread[np.arange(2), [k, J - 1]] = weights @ one.Lambda[0, cols, cols]
        expected.append(spread.reshape(2, -1))
        levels = at.levels()[k]
        own = slice(p + done, p + done + J * q)
        u = both[own].reshape(J, q) @ one.Lambda[0, cols, cols].T
        np.testing.assert_allclose(levels.u, u, rtol=1e-7, atol=1e-8)
        error = levels.conditional + levels.sensitivity @ inverse[:p, :p] @ np.swapaxes(
            levels.sensitivity, 1, 2
        )
        L = one.Lambda[0, cols, cols]
        blocks = np.einsum("jajb->jab", inverse[own, own].reshape(J, q, J, q))
        np.testing.assert_allclose(error, L @ blocks @ L.T, rtol=1e-7, atol=1e-9)
        done += J * q
    rows = np.hstack(expected)
    found = at.variance(Combinations(np.eye(p)[:2], tuple(parts)))
    np.testing.assert_allclose(found, np.einsum("mi,ij,mj->m", rows, inverse, rows), rtol=1e-8)


def nested() -> pd.DataFrame:
    """80 pens of 4 pigs with 6 rows, simulated."""
    rng = np.random.default_rng(5)
    n, T = 320, 6
    pig, time = np.repeat(np.arange(n), T), np.tile(np.arange(T), n)
    pen, e = pig // 4, np.empty((n, T))
    e[:, 0] = rng.standard_normal(n)
    for k in range(1, T):
        e[:, k] = 0.5 * e[:, k - 1] + np.sqrt(0.75) * rng.standard_normal(n)
    y = 2 + 0.3 * time + rng.normal(0, 0.7, 80)[pen] + rng.normal(0, 1, n)[pig] + e.ravel()
    return pd.DataFrame({"y": y, "time": time, "pen": pen, "pig": pig})


def test_nested_factors_are_those_of_glmmtmb_and_fill_in_nothing() -> None:
    """glmmTMB 1.1: y ~ time + (1|pen) + (1|pig) + ar1(0 + factor(time)|pig), dispformula = ~0, REML.

    Its residual variance is not zero but small, which moves the sixth decimal.
    """
    formula = "y ~ time + (1 | pen) + (1 | pig)"
    model = hp.Model(formula, nested(), residual="ar1(time | pig)")
    fit = model.reml()
    assert fit.loglik == pytest.approx(-2717.83864401, abs=1e-5)
    e = fit.estimate
    assert e.residual_parameters == pytest.approx([0.553], abs=6e-4)
    assert e.sigma == pytest.approx(1.02113, abs=2e-5)
    se = fit.fixed_effects("satterthwaite")["se"].to_numpy()
    assert se == pytest.approx([0.11877825, 0.01555231], rel=1e-4)
    algebra = LogPosterior.from_design(model.design, model.priors).integrated
    assert isinstance(algebra, CorrelatedResiduals)
    assert algebra.plan is not None
    assert algebra.near.others.size == 1  # a pig reaches one pen
    assert len(algebra.plan.pattern.indices) == 0


def test_residuals_of_groups_that_cross_a_factor_and_groups_left_out() -> None:
    model = hp.Model("y ~ time + diet + (1 | time)", data(), residual="ar1(time | pig)")
    fit = model.reml()
    maker, e = ResidualMaker.from_fit(fit), fit.estimate
    phi, design = e.residual_parameters, model.design
    assert phi is not None
    one = ResidualTheta(np.ones(1), e.relative_covariance_factor[None], phi[None])
    target = LogPosterior.from_design(design, model.priors)
    s = design.residual.structure
    assert s is not None
    R = correlation(s, phi)
    Z = columns(model, one, 0)[0]
    V, X = R + Z @ Z.T, design.X
    inverse = np.linalg.inv(V)
    K = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    y = design.y - target.integrated.coordinates.y_shift
    assert maker.squares == pytest.approx(y @ K @ y, rel=1e-8)
    assert maker.sigma == pytest.approx(e.sigma, rel=1e-6)
    plain = wide(np.ones((len(y), 1)), design.groups[0].codes, 5)
    assert maker.level_sums(0, maker.observed[:, None])[:, 0, 0] == pytest.approx(plain.T @ K @ y)
    assert maker.of_levels(0)[0][:, 0, 0] == pytest.approx(np.diag(plain.T @ K @ plain))
    found = hp.influence(fit, by="time")
    whole = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ design.y)
    se = e.sigma * np.sqrt(np.linalg.inv(X.T @ inverse @ X)[1, 1])
    for level in range(5):
        kept = design.groups[0].codes != level
        own = np.linalg.inv(V[np.ix_(kept, kept)])
        less = np.linalg.lstsq(X[kept].T @ own @ X[kept], X[kept].T @ own @ design.y[kept])[0]
        shift = (whole[1] - less[1]) / se
        assert found["shift[time]"].iloc[level] == pytest.approx(shift, rel=1e-6)
