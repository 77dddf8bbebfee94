"""Densities of whole responses and of levels against dense grids, for every family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from hierpool.core.families.table import FAMILIES
from hierpool.core.theta import FamilyTheta
from tests.algebra.quadrature.brute import Case, made
from tests.support.cases import each

LINKS = ["bernoulli:probit", "bernoulli:cloglog", "binomial:cloglog", "ordinal:probit"]
EVERY = [*FAMILIES, *LINKS]


def agrees(case: Case, tolerance: float, finer: bool = False) -> None:
    found = case.model.log_density(case.gamma, case.theta, finer)
    expected = [case.total(k) for k in range(len(case.theta))]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", EVERY)
def test_one_effect_a_level_agrees_with_a_dense_grid(name: str) -> None:
    agrees(made(name), 2e-3)
    agrees(made(name), 2e-4, finer=True)


@pytest.mark.parametrize("name", EVERY)
def test_without_groups_it_is_the_plain_likelihood(name: str) -> None:
    agrees(made(name, "y ~ x"), 1e-9)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "gamma", "negbinomial", "ordinal"])
def test_two_effects_a_level_agree_with_a_dense_grid(name: str) -> None:
    agrees(made(name, "y ~ x + (x | g)"), 5e-3)


@pytest.mark.parametrize("name", ["bernoulli", "poisson"])
def test_three_effects_a_level_agree_with_a_dense_grid(name: str) -> None:
    agrees(made(name, "y ~ x + (x + w | g)", n=14), 2e-2)


@pytest.mark.parametrize("name", ["binomial", "poisson", "gamma", "student"])
def test_a_slope_alone_agrees_with_a_dense_grid(name: str) -> None:
    agrees(made(name, "y ~ x + (0 + x | g)"), 2e-3)


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g) + (1 | h)", "y ~ x + (1 | g) + (x | h)"])
def test_effects_of_another_factor_are_part_of_gamma(formula: str) -> None:
    case = made("poisson", formula)
    assert case.model.n_gamma == 2 + 3 * (2 if "x |" in formula else 1)
    agrees(case, 2e-3)


@each("name", EVERY)
def test_an_sd_of_zero_is_the_plain_likelihood(name: str) -> None:
    """All nodes of a level are then at the rows' predictors: densities at many nodes are judged."""
    case, plain = made(name, "y ~ x + (0 + x | g)", sd=0.0), made(name, "y ~ x")
    no_groups = replace(case.theta, Lambda=np.zeros((3, 0, 0)))
    for size in (1.0, 12.0, 60.0):
        found = case.model.log_density(size * case.gamma, case.theta)
        expected = plain.model.log_density(size * case.gamma, no_groups)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-7)


HARD = {
    "all zeros": ("bernoulli", lambda n: np.zeros(n)),
    "no events": ("poisson", lambda n: np.zeros(n)),
    "separation": ("bernoulli", lambda n: np.arange(n) % 4 == 0),
    "thousands": ("poisson", lambda n: 1000.0 * (1 + np.arange(n) % 4)),
    "thousands, overdispersed": ("negbinomial", lambda n: 1000.0 * (1 + np.arange(n) % 4)),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("sd", [0.5, 4.0])
def test_hard_responses_agree_with_a_dense_grid(kind: str, sd: float) -> None:
    name, values = HARD[kind]
    level = [f"g{i % 4}" for i in range(24)]
    data = pd.DataFrame({"y": np.asarray(values(24), float), "g": level})
    # The rows of a level of thousands pin it down to less than the judge's step of 0.01.
    case = made(name, data=data, sd=sd)
    finer = case.model.log_density(case.gamma, case.theta, finer=True)
    found = case.model.log_density(case.gamma, case.theta)
    np.testing.assert_allclose(found, finer, atol=5e-3)
    if "thousands" not in kind:
        agrees(case, 5e-3)


def test_rows_alike_are_counted_and_levels_alike_worked_once() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        {
            "y": rng.integers(0, 2, 24) * 1.0,
            "x": rng.integers(0, 2, 24) * 1.0,
            "g": [f"g{i // 4}" for i in range(24)],
        }
    )
    case = made("bernoulli", data=data)
    rows = case.model.rows
    assert len(rows.y) < 24
    assert rows.n_levels <= len(rows.level_of) == 6
    assert rows.weight @ rows.counts[rows.levels] == 24
    np.testing.assert_array_equal(rows.y[rows.place], case.model.design.y)
    agrees(case, 1e-4)


def test_a_weight_multiplies_the_log_density_of_its_row() -> None:
    weights = np.random.default_rng(2).choice([0.0, 0.5, 1.0, 3.0], 24)
    for name in ("bernoulli", "poisson", "gamma", "student"):
        agrees(made(name, weights=weights), 2e-3)


def test_threads_change_nothing() -> None:
    case = made("poisson")
    many = np.arange(300) % 3
    theta = case.theta[many]
    found = case.model.log_density(case.gamma[many], theta)
    alone = case.model.log_density(case.gamma, case.theta)
    np.testing.assert_array_equal(found, alone[many])


def test_levels_of_heavy_tails_may_have_several_modes() -> None:
    # Two rows of a level at -6 and 6, many sds apart: a mode near each, and a valley between.
    level = np.arange(24) // 2
    data = pd.DataFrame(
        {"y": np.tile([-6.0, 6.0], 12) + 0.05 * level, "g": [f"g{j}" for j in level]}
    )
    case = made("student", data=data, sd=2.0)
    par = np.array([[0.1, 10.0], [0.1, 6.0], [0.15, 20.0]])
    theta = FamilyTheta(np.ones(3), np.full((3, 1, 1), 4.0), par)
    agrees(Case(case.model, case.gamma, theta), 2e-2)


def test_modes_at_rows_are_not_missed_between_the_nodes_of_a_wider_one() -> None:
    # Even and odd nodes missed them alike: the log density was off by up to 0.3, and said to be right.
    levels = [
        [24.937, 4.952, 5.183, 5.028, 5.049, 4.954],
        [3.608],
        [6.082, 6.056, 6.088, 6.088, 6.032],
        [-0.846],
        [4.256, 4.123, 3.989, 4.149],
        [1.208, 0.971],
    ]
    rows = [(f"g{j}", y) for j, own in enumerate(levels) for y in own]
    data, rng, k = pd.DataFrame(rows, columns=["g", "y"]), np.random.default_rng(0), 60
    case = made("student", "y ~ 1 + (1 | g)", data=data, n=len(data))
    par = np.column_stack([rng.uniform(0.04, 0.08, k), rng.uniform(0.3, 1.5, k)])
    theta = FamilyTheta(np.ones(k), rng.uniform(1.5, 3, k)[:, None, None], par)
    agrees(Case(case.model, rng.uniform(3, 6.5, k)[:, None], theta), 2e-2)


def test_nodes_move_closer_where_a_level_is_steep() -> None:
    case = made("bernoulli", "y ~ x + (0 + x | g)")
    assert (case.model.quadrature_errors(case.gamma, case.theta) < 3e-4).all()
    steep = FamilyTheta(np.ones(3), 20.0 * case.theta.Lambda, case.theta.par)
    agrees(Case(case.model, case.gamma, steep), 5e-3)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "gamma", "negbinomial", "ordinal"])
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g) + (1 | h)", "y ~ x + (x | g)"])
def test_the_laplace_mode_is_the_joint_maximum(name: str, formula: str) -> None:
    case = made(name, formula)
    model, theta = case.model, case.theta[:1]
    found = model.laplace(theta)
    rows, (own, others) = model.rows, model.factors_of(theta)
    U, q, P = rows.n_levels, model.q, model.n_gamma
    T = rows.Z @ own[0]
    B = rows.others.columns @ others[0]

    def minus(x: np.ndarray) -> float:
        gamma, v = x[:P], x[P:].reshape(U, q)
        p = P - rows.others.n_effects
        eta = rows.offset + rows.X @ gamma[:p] + (T * v[rows.levels]).sum(axis=1)
        eta = eta + (B * gamma[p:][rows.others.places]).sum(axis=1)
        value = model.family.log_density(rows.y, eta[None], theta.par, rows.trials)[0]
        away = gamma - model.gamma_mean
        total = (value * rows.weight * rows.counts[rows.levels]).sum()
        total -= 0.5 * away @ model.gamma_precision @ away
        return float(-(total - 0.5 * (rows.counts[:, None] * v**2).sum()))

    best = optimize.minimize(minus, np.zeros(P + U * q), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(found.gamma[0], best.x[:P], atol=2e-3)
    np.testing.assert_allclose(found.start.v.reshape(-1), best.x[P:], atol=2e-3)
    # Levels alike would be counted once by the judge's Hessian.
    assert (rows.counts == 1).all()
    H = hessian(minus, np.r_[found.gamma[0], found.start.v.reshape(-1)])
    S = np.linalg.inv(np.linalg.inv(H)[:P, :P])
    np.testing.assert_allclose(found.root[0] @ found.root[0].T, S, rtol=2e-3, atol=2e-3)
    log_det = np.linalg.slogdet(H)[1] - model.prior.log_det_precision
    assert found.log_density[0] == pytest.approx(-best.fun - 0.5 * log_det, abs=2e-3)


def hessian(f: object, x: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """Second differences."""
    assert callable(f)
    n = len(x)
    H, e = np.empty((n, n)), h * np.eye(n)
    for i in range(n):
        for j in range(i + 1):
            plus = f(x + e[i] + e[j]) + f(x - e[i] - e[j])
            H[i, j] = H[j, i] = (plus - f(x + e[i] - e[j]) - f(x - e[i] + e[j])) / (4 * h * h)
    return H
