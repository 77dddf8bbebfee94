"""The compiled loops give the numbers of the algebra in numpy, on one thread and on two."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hierpool.algebra import one_factor_kernels, one_factor_row_kernels
from hierpool.algebra.gaussian import Conditional, condition
from hierpool.algebra.moments import Moments, Rows, by_level
from hierpool.core.threads import over_threads
from tests.support.cases import each
from tests.support.designs import DESIGNS, dense, prior, thetas

EXACT = {"rtol": 1e-10, "atol": 1e-10}
WITH_LEVELS = [name for name, rows in DESIGNS.items() if rows.Z.shape[1]]


def algebra(name: str) -> tuple[Rows, Conditional]:
    """A design and its algebra in numpy at four values of theta, beta under a proper prior."""
    rows = DESIGNS[name]
    sigma, Lambda = (a[:4] for a in thetas(rows.Z.shape[1], seed=5))
    return rows, condition(Moments.from_rows(rows), sigma, Lambda, prior(rows.X.shape[1], "proper"))


def sums_of(m: Moments, Lambda: np.ndarray) -> tuple[np.ndarray, ...]:
    """log det (K,), sums of G'G (K, p, p) and of G'g (K, p), and g'g (K,)."""
    log_det, GG, Gg, squared = one_factor_kernels.level_sums(
        Lambda, m.A, m.columns, m.counts.astype(float), m.p
    )
    return log_det, np.moveaxis(GG, -1, 0), Gg.T, squared


def deviations_of(at: Conditional, seed: int | None) -> np.ndarray:
    """Deviations u (K, J, q) with the kernels, draws with a seed and means without."""
    m, K = at.moments, len(at.sigma)
    out = np.empty((K, m.n_levels, m.q))
    nothing, no_coef = np.zeros((K, m.q)), np.zeros((0, 0, 0))
    rng = None if seed is None else np.random.default_rng(seed)
    by_level = m.A, m.C, m.b, m.design_of, at.sigma, rng, np.eye(m.q)
    one_factor_kernels.level_coefficients(
        at.Lambda, at.beta, *by_level, nothing, nothing, out, no_coef
    )
    return out


def leave_one_out_of(rows: Rows, at: Conditional) -> tuple[np.ndarray, np.ndarray]:
    m = at.moments
    A, C = (m.A, m.C) if m.q else (np.zeros((1, 0, 0)), np.zeros((1, 0, m.p)))
    return one_factor_row_kernels.leave_one_out(
        one_factor_row_kernels.Points(at.sigma, at.Lambda, at.marginal.R, at.beta),
        one_factor_row_kernels.Products(A, C, m.b),
        one_factor_row_kernels.RowPlan.from_rows(rows.X, rows.Z, rows.codes, m.design_of),
        one_factor_row_kernels.Columns(rows.y, rows.X, rows.Z),
    )


def leave_level_out_of(rows: Rows, at: Conditional) -> np.ndarray:
    m, p = at.moments, at.moments.p
    products = by_level(rows.X, np.hstack([rows.X, rows.y[:, None]]), rows.codes, m.n_levels)
    half = at.marginal.half[..., 0]
    R = at.marginal.R
    total = 0.5 * ((half**2).sum(axis=-1) / at.sigma**2 - at.marginal.log_det_population)
    S = R @ np.swapaxes(R, -1, -2)
    return one_factor_row_kernels.leave_level_out(
        one_factor_row_kernels.PopulationAt(at.sigma, at.Lambda, S, at.marginal.s, total),
        one_factor_row_kernels.LevelProducts(
            m.A[m.design_of],
            m.C[m.design_of],
            m.b,
            products[..., :p],
            products[..., p],
            np.bincount(rows.codes, weights=rows.y**2),
            m.n_rows.astype(float),
        ),
    )


@each("name", WITH_LEVELS)
def test_level_sums_are_those_of_numpy(name):
    _, at = algebra(name)
    log_det, GG, Gg, squared = sums_of(at.moments, at.Lambda)
    counts = at.moments.counts
    np.testing.assert_allclose(log_det, at.marginal.log_det_levels, **EXACT)
    np.testing.assert_allclose(GG, np.einsum("kuqp,kuqr,u->kpr", at.G, at.G, counts), **EXACT)
    np.testing.assert_allclose(squared, at.marginal.g_squared, **EXACT)
    scaled = at.sigma[:, None] ** 2 * at.marginal.prior.weighted_mean
    np.testing.assert_allclose(at.moments.Xy + scaled - Gg, at.marginal.s, **EXACT)


@each("name", WITH_LEVELS)
def test_log_density_is_that_of_numpy(name):
    _, at = algebra(name)
    m, beta = at.moments, at.marginal.prior
    found = one_factor_kernels.log_density(
        at.sigma,
        one_factor_kernels.level_sums(at.Lambda, m.A, m.columns, m.counts.astype(float), m.p),
        m.XX,
        m.Xy,
        beta.precision,
        beta.weighted_mean,
        np.array([m.yy, beta.mean @ beta.weighted_mean]),
        m.n - m.p,
        -0.5 * (m.n * np.log(2 * np.pi) - beta.log_det_precision),
    )
    np.testing.assert_allclose(found, at.log_density, **EXACT)


@each("name", WITH_LEVELS)
@each("seed", [None, 1])
def test_deviations_are_those_of_numpy(name, seed):
    _, at = algebra(name)
    noise = np.random.default_rng(seed).normal(size=(at.moments.n_levels, at.moments.q, 4))
    scaled = None if seed is None else np.moveaxis(noise * at.sigma, -1, 0)
    np.testing.assert_allclose(deviations_of(at, seed), at.deviations(noise=scaled), **EXACT)


@each("name", DESIGNS)
def test_leave_one_out_is_that_of_numpy(name):
    rows, at = algebra(name)
    mean, sd = at.leave_one_out(rows)
    found = leave_one_out_of(rows, at)
    np.testing.assert_allclose(found[0], mean, **EXACT)
    np.testing.assert_allclose(found[1], sd, **EXACT)


def test_equal_rows_of_equal_designs_share_a_leverage():
    rows = DESIGNS["balanced_slopes"]
    plan = one_factor_row_kernels.RowPlan.from_rows(
        rows.X, rows.Z, rows.codes, Moments.from_rows(rows).design_of
    )
    assert len(plan.pattern_X) == 4
    np.testing.assert_array_equal(plan.pattern_X[plan.pattern], rows.X)
    np.testing.assert_array_equal(plan.pattern_Z[plan.pattern], rows.Z)
    assert sorted(plan.rows.tolist()) == list(range(len(rows.y)))


@each("name", WITH_LEVELS)
def test_level_given_all_others_is_the_difference_of_two_densities(name):
    rows, at = algebra(name)
    found = leave_level_out_of(rows, at)
    beta = at.marginal.prior
    for j in range(at.moments.n_levels):
        kept = rows.codes != j
        less = Rows(rows.y[kept], rows.X[kept], rows.Z[kept], rows.codes[kept])
        rest = condition(Moments.from_rows(less), at.sigma, at.Lambda, beta)
        np.testing.assert_allclose(
            found[j], at.log_density - rest.log_density, rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("name", ["unbalanced_slopes", "own_with_common_columns"])
def test_level_given_all_others_is_the_dense_conditional(name):
    rows, at = algebra(name)
    found = leave_level_out_of(rows, at)
    for k in range(len(at.sigma)):
        judge = dense(rows, at.sigma[k], at.Lambda[k], at.marginal.prior)
        for j in range(at.moments.n_levels):
            mine = np.flatnonzero(rows.codes == j)
            mean, cov = judge.leave_out(mine)
            z = np.linalg.solve(np.linalg.cholesky(cov), rows.y[mine] - mean)
            log_det = np.linalg.slogdet(2 * np.pi * cov)[1]
            np.testing.assert_allclose(found[j, k], -0.5 * (log_det + z @ z), rtol=1e-9)


def many(name: str, K: int = 300) -> tuple[Rows, Conditional]:
    """A design at enough values of theta to be worth two threads."""
    rows = DESIGNS[name]
    q = rows.Z.shape[1]
    rng = np.random.default_rng(2)
    Lambda = np.tril(rng.normal(size=(K, q, q)))
    sigma = rng.uniform(0.5, 2, K)
    return rows, condition(Moments.from_rows(rows), sigma, Lambda, prior(rows.X.shape[1], "proper"))


def test_one_slice_gives_what_two_give():
    _, at = many("unbalanced_slopes")
    m, K = at.moments, len(at.sigma)
    Lambda = np.ascontiguousarray(np.moveaxis(at.Lambda, 0, -1))
    arrays = Lambda, m.A, m.columns, m.counts.astype(float)

    def empty() -> tuple[np.ndarray, ...]:
        return np.zeros(K), np.zeros((m.p, m.p, K)), np.zeros((m.p, K)), np.zeros(K)

    whole, parts = empty(), empty()
    one_factor_kernels._level_sums(0, K, False, *arrays, *whole)
    one_factor_kernels._level_sums(0, 101, False, *arrays, *parts)
    one_factor_kernels._level_sums(101, K, False, *arrays, *parts)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("cores", [1, 2, 3, None])
def test_numbers_do_not_depend_on_the_cores(monkeypatch, cores):
    rows, at = many("unbalanced_slopes")

    def everything() -> list[np.ndarray]:
        return [
            *sums_of(at.moments, at.Lambda),
            deviations_of(at, 1),
            *leave_one_out_of(rows, at),
            leave_level_out_of(rows, at),
        ]

    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    expected = everything()
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    for one, other in zip(everything(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_cover_every_value_once():
    seen = np.zeros(1000, dtype=int)

    def mark(start: int, stop: int, out: np.ndarray) -> None:
        out[start:stop] += 1

    over_threads(mark, 1000, seen)
    assert seen.tolist() == [1] * 1000


def test_error_in_a_thread_is_raised():
    def fail(start: int, stop: int) -> None:
        raise RuntimeError(f"at {start}:{stop}")

    with pytest.raises(RuntimeError, match="at 0:"):
        over_threads(fail, 1000)


def test_log_near_one():
    x = np.concatenate([np.linspace(0.5, 2, 5000), 1 + np.geomspace(-1e-16, -0.4, 50)])
    np.testing.assert_allclose(
        [one_factor_row_kernels.log_near_one(v) for v in x], np.log(x), rtol=1e-15, atol=0.0
    )


@each("name", WITH_LEVELS)
def test_conditional_variances_are_those_of_the_covariance_in_the_users_coding(name):
    _, at = algebra(name)
    into_user = np.triu(np.arange(1.0, at.moments.q**2 + 1).reshape(at.moments.q, -1))
    found = one_factor_kernels.conditional_variances(at.sigma, at.Lambda, at.moments.A, into_user)
    covariance = into_user @ at.covariance_given_beta @ into_user.T
    expected = np.diagonal(covariance, axis1=-2, axis2=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
