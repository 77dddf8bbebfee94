"""Densities and distributions of rows and levels given the others, moments and draws of deviations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special

from hierpool.algebra.quadrature.draws import draw_deviations
from hierpool.algebra.quadrature.level_scores import log_density_of_levels
from hierpool.core.theta import FamilyPoint
from tests.algebra.quadrature.brute import Case, grid, made
from tests.algebra.quadrature.test_model import EVERY


def rows_agree(case: Case, tolerance: float) -> np.ndarray:
    found = case.model.log_density_of_rows(case.point)
    expected = np.stack([case.rows(k) for k in range(3)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    return found


@pytest.mark.parametrize("name", EVERY)
def test_rows_given_the_others_of_their_level_agree_with_a_dense_grid(name: str) -> None:
    rows_agree(made(name), 5e-3)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "gamma", "binomial"])
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (x | g)", "y ~ x + (1 | g) + (1 | h)"])
def test_rows_agree_whatever_the_groups_are(name: str, formula: str) -> None:
    rows_agree(made(name, formula), 1e-2)


@pytest.mark.parametrize("sd", [0.5, 2.0])
def test_an_outlying_row_has_a_quadrature_of_its_own(sd: float) -> None:
    data = pd.DataFrame({"y": np.r_[np.ones(11), 60.0, np.zeros(12)]})
    found = rows_agree(made("poisson", data=data, sd=sd), 5e-3)
    assert found.min() < -20


def test_the_row_of_a_level_of_one_has_the_density_of_the_level() -> None:
    case = made("negbinomial")
    single = np.flatnonzero(case.model.design.groups[0].codes == 0)
    assert len(single) == 1
    levels = log_density_of_levels(case.model, case.point, case.model.design.groups[0].codes, 4)
    found = case.model.log_density_of_rows(case.point, single)
    np.testing.assert_allclose(found[:, 0], levels[0], atol=1e-5)


def test_of_rows_alike_one_is_left_out() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.integers(0, 2, 24) * 1.0, "x": rng.integers(0, 2, 24) * 1.0})
    case = made("bernoulli", data=data)
    assert len(case.model.rows.y) < 20
    rows_agree(case, 1e-4)


def test_rows_with_weights_agree_with_a_dense_grid() -> None:
    weights = np.random.default_rng(2).choice([0.5, 1.0, 3.0], 24)
    for name in ("bernoulli", "poisson", "student"):
        rows_agree(made(name, weights=weights), 5e-3)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "gamma", "student", "ordinal"])
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g)", "y ~ x + (x | g)"])
def test_distribution_of_rows_agrees_with_a_dense_grid(name: str, formula: str) -> None:
    case = made(name, formula)
    model, n = case.model, case.model.design.n
    below, upto = model.cdf_of_rows(case.point, np.arange(n))
    v, _ = grid(model.q)
    for k in range(3):
        for j in range(case.n_levels):
            rows, values, prior = case.nodes(j, k)
            whole = values.sum(axis=0) + prior
            T = np.zeros((n, 0))
            if model.q:
                own = model.design.group_columns[0]
                T = model.coordinates.zs[0].work(model.design.groups[0].Z)
                T = T @ case.theta.Lambda[k][own, own]
            eta = case.predictor(k)[rows, None] + T[rows] @ v.T
            par = np.tile(case.theta.par[k], (len(v), 1))
            ones, y = np.ones(len(rows)), model.design.y[rows]
            cdf = model.family.cdf(y, eta.T, par, ones).T
            mass = np.exp(model.family.log_density(y, eta.T, par, ones)).T
            share = special.softmax(whole - values, axis=1)
            np.testing.assert_allclose(upto[rows, k], (share * cdf).sum(axis=1), atol=5e-3)
            if model.family.is_discrete:
                lower = (share * (cdf - mass)).sum(axis=1)
                np.testing.assert_allclose(below[rows, k], lower, atol=5e-3)
    if not model.family.is_discrete:
        np.testing.assert_array_equal(below, upto)


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)"])
def test_moments_of_deviations_agree_with_a_dense_grid(formula: str) -> None:
    case = made("bernoulli", formula)
    mean, covariance = case.model.conditional_moments(case.point)
    v, _ = grid(case.model.q)
    for k in range(3):
        for j in range(4):
            _, values, prior = case.nodes(j, k)
            share = special.softmax(values.sum(axis=0) + prior)
            expected = share @ v
            np.testing.assert_allclose(mean[k, j], expected, atol=2e-3)
            away = v - expected
            np.testing.assert_allclose(
                covariance[k, j], (away * share[:, None]).T @ away, atol=5e-3
            )


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)"])
def test_draws_of_deviations_have_the_moments_of_the_nodes(formula: str) -> None:
    case = made("bernoulli", formula, sd=2.0)
    many = np.zeros(20_000, dtype=int)
    point = case.point[many]
    mean, covariance = case.model.conditional_moments(case.point[:1])
    drawn = draw_deviations(case.model, point, 4)
    sd = np.sqrt(np.einsum("jqq->jq", covariance[0]))
    assert np.abs(drawn.mean(axis=0) - mean[0] < 4.5 * sd / np.sqrt(len(many))).all()
    np.testing.assert_allclose(drawn.std(axis=0) / sd, 1.0, atol=0.03)
    np.testing.assert_array_equal(drawn, draw_deviations(case.model, point, 4))


def test_draws_are_in_the_users_coding() -> None:
    case = made("poisson", "y ~ x + (x | g) + (1 | h)")
    model, point = case.model, case.point
    found = model.draw(point, 1)
    assert {name: values.shape for name, values in found.items()} == {
        "beta": (3, 2),
        "u_g": (3, 4, 2),
        "coef_g": (3, 4, 2),
        "u_h": (3, 3, 1),
        "coef_h": (3, 3, 1),
    }
    np.testing.assert_allclose(found["coef_g"], found["u_g"] + found["beta"][:, None], atol=1e-12)
    means = model.mean_coefficients(point)
    g, h = model.design.groups
    for k in range(3):
        eta = model.design.X @ means["beta"][k]
        eta = eta + (h.Z * means["u_h"][k][h.codes]).sum(axis=1)
        np.testing.assert_allclose(eta, case.predictor(k), atol=1e-10)
        own = model.design.group_columns[0]
        v = model.conditional_moments(point)[0][k] @ case.theta.Lambda[k][own, own].T
        working = (model.coordinates.zs[0].work(g.Z) * v[g.codes]).sum(axis=1)
        np.testing.assert_allclose(
            (g.Z * means["u_g"][k][g.codes]).sum(axis=1), working, atol=1e-10
        )


def test_levels_add_up_to_the_whole() -> None:
    case = made("gamma")
    codes = case.model.design.groups[0].codes
    levels = log_density_of_levels(case.model, case.point, codes, 4)
    expected = [[case.level(j, k) for k in range(3)] for j in range(4)]
    np.testing.assert_allclose(levels, expected, atol=2e-3)
    outer = log_density_of_levels(case.model, case.point, codes // 2, 2)
    np.testing.assert_allclose(outer, levels.reshape(2, 2, 3).sum(axis=1), atol=1e-10)


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | h)"])
def test_levels_across_the_integrated_ones_are_the_whole_less_the_rest(formula: str) -> None:
    case = made("poisson", formula)
    model = case.model
    codes = np.arange(model.design.n) % 3
    found = log_density_of_levels(model, case.point, codes, 3)
    own = np.zeros(model.design.n, int) if model.integrated < 0 else model.design.groups[0].codes
    whole = whole_density(case, np.ones(model.design.n, bool), own)
    for level in range(3):
        rest = whole_density(case, codes != level, own)
        np.testing.assert_allclose(found[level], whole - rest, atol=2e-3)


def whole_density(case: Case, keep: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Shape (3,): log density of some rows, from the judge's nodes."""
    out = np.zeros(3)
    for k in range(3):
        for j in range(case.n_levels):
            rows, values, prior = case.nodes(j, k)
            out[k] += special.logsumexp(values[keep[rows]].sum(axis=0) + prior)
    return out


def test_threads_change_no_score() -> None:
    case = made("bernoulli")
    many = np.arange(200) % 3
    point: FamilyPoint = case.point[many]
    found = case.model.log_density_of_rows(point)
    np.testing.assert_array_equal(found, case.model.log_density_of_rows(case.point)[many])
