"""The compiled loops give the numbers of the algebra in numpy, on one thread and on two."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hierpool.core import kernels
from hierpool.core.gaussian import Conditional, condition
from hierpool.core.moments import Moments, Rows, by_level
from tests.agreement.designs import DESIGNS, dense, prior, thetas

EXACT = {"rtol": 1e-10, "atol": 1e-10}
WITH_LEVELS = [name for name, rows in DESIGNS.items() if rows.Z.shape[1]]


def algebra(name: str) -> tuple[Rows, Conditional]:
    """A design and its algebra in numpy at four values of theta, beta under a proper prior."""
    rows = DESIGNS[name]
    sigma, Lambda = (a[:4] for a in thetas(rows.Z.shape[1], seed=5))
    return rows, condition(Moments.of(rows), sigma, Lambda, prior(rows.X.shape[1], "proper"))


def sums_of(m: Moments, Lambda: np.ndarray) -> tuple[np.ndarray, ...]:
    return kernels.level_sums(Lambda, m.A, m.C, m.b_sum, m.b_root, m.counts.astype(float))


def deviations_of(
    m: Moments, Lambda: np.ndarray, beta: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    by_design = np.argsort(m.design_of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(m.counts)]).astype(np.intp)
    return kernels.deviations(Lambda, beta, m.A, m.C, m.b, by_design, starts, noise)


def leave_one_out_of(
    rows: Rows, at: Conditional, is_density: bool
) -> tuple[np.ndarray, np.ndarray]:
    m = at.moments
    A, C = (m.A, m.C) if m.q else (np.zeros((1, 0, 0)), np.zeros((1, 0, m.p)))
    plan = kernels.RowPlan.of(rows.X, rows.Z, rows.codes, m.design_of)
    columns = rows.y, rows.X, rows.Z
    return kernels.leave_one_out(
        at.sigma, at.Lambda, at.marginal.R, at.beta, A, C, m.b, plan, *columns, is_density
    )


def leave_level_out_of(rows: Rows, at: Conditional) -> np.ndarray:
    m, p = at.moments, at.moments.p
    products = by_level(rows.X, np.hstack([rows.X, rows.y[:, None]]), rows.codes, m.n_levels)
    half = at.marginal.half[..., 0]
    R = at.marginal.R
    return kernels.leave_level_out(
        at.sigma,
        at.Lambda,
        R @ np.swapaxes(R, -1, -2),
        at.marginal.s,
        m.A[m.design_of],
        m.C[m.design_of],
        m.b,
        products[..., :p],
        products[..., p],
        np.bincount(rows.codes, weights=rows.y**2),
        m.n_rows,
        0.5 * ((half**2).sum(axis=-1) / at.sigma**2 - at.marginal.log_det_population),
    )


@pytest.mark.parametrize("name", WITH_LEVELS)
def test_level_sums_are_those_of_numpy(name):
    _, at = algebra(name)
    log_det, GG, Gg, squared = sums_of(at.moments, at.Lambda)
    counts = at.moments.counts
    np.testing.assert_allclose(log_det, at.marginal.log_det_levels, **EXACT)
    np.testing.assert_allclose(GG, np.einsum("kuqp,kuqr,u->kpr", at.G, at.G, counts), **EXACT)
    np.testing.assert_allclose(squared, at.marginal.g_squared, **EXACT)
    scaled = at.sigma[:, None] ** 2 * at.marginal.prior.weighted_mean
    np.testing.assert_allclose(at.moments.Xy + scaled - Gg, at.marginal.s, **EXACT)


@pytest.mark.parametrize("name", WITH_LEVELS)
@pytest.mark.parametrize("is_noisy", [False, True])
def test_deviations_are_those_of_numpy(name, is_noisy):
    _, at = algebra(name)
    noise = np.random.default_rng(1).normal(size=(4, at.moments.n_levels, at.moments.q))
    given = noise if is_noisy else np.zeros((0, 0, 0))
    found = deviations_of(at.moments, at.Lambda, at.beta, given)
    np.testing.assert_allclose(found, at.deviations(noise=noise if is_noisy else None), **EXACT)


@pytest.mark.parametrize("name", DESIGNS)
def test_leave_one_out_is_that_of_numpy(name):
    rows, at = algebra(name)
    mean, sd = at.leave_one_out(rows)
    found = leave_one_out_of(rows, at, False)
    np.testing.assert_allclose(found[0], mean, **EXACT)
    np.testing.assert_allclose(found[1], sd, **EXACT)
    density, nothing = leave_one_out_of(rows, at, True)
    scaled = (rows.y - mean) / sd
    expected = -0.5 * scaled**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(density, expected, **EXACT)
    assert nothing.shape[0] == 0


def test_equal_rows_of_equal_designs_share_a_leverage():
    rows = DESIGNS["balanced_slopes"]
    plan = kernels.RowPlan.of(rows.X, rows.Z, rows.codes, Moments.of(rows).design_of)
    assert len(plan.pattern_X) == 4
    np.testing.assert_array_equal(plan.pattern_X[plan.pattern], rows.X)
    np.testing.assert_array_equal(plan.pattern_Z[plan.pattern], rows.Z)
    assert sorted(plan.rows.tolist()) == list(range(len(rows.y)))


@pytest.mark.parametrize("name", WITH_LEVELS)
def test_level_given_all_others_is_the_difference_of_two_densities(name):
    rows, at = algebra(name)
    found = leave_level_out_of(rows, at)
    beta = at.marginal.prior
    for j in range(at.moments.n_levels):
        kept = rows.codes != j
        less = Rows(rows.y[kept], rows.X[kept], rows.Z[kept], rows.codes[kept])
        rest = condition(Moments.of(less), at.sigma, at.Lambda, beta)
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
    return rows, condition(Moments.of(rows), sigma, Lambda, prior(rows.X.shape[1], "proper"))


def test_one_slice_gives_what_two_give():
    _, at = many("unbalanced_slopes")
    m, K = at.moments, len(at.sigma)
    columns = np.concatenate([m.C, m.b_sum[..., None], m.b_root], axis=2)
    Lambda, counts = np.moveaxis(at.Lambda, 0, -1), m.counts.astype(float)
    arrays = [np.ascontiguousarray(a) for a in (Lambda, m.A, columns, counts)]

    def empty() -> tuple[np.ndarray, ...]:
        return np.zeros(K), np.zeros((m.p, m.p, K)), np.zeros((m.p, K)), np.zeros(K)

    whole, parts = empty(), empty()
    kernels._level_sums(0, K, False, *arrays, *whole)
    kernels._level_sums(0, 101, False, *arrays, *parts)
    kernels._level_sums(101, K, False, *arrays, *parts)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("cores", [1, 2, 3, None])
def test_numbers_do_not_depend_on_the_cores(monkeypatch, cores):
    rows, at = many("unbalanced_slopes")
    noise = np.random.default_rng(1).normal(size=(300, at.moments.n_levels, 2))

    def everything() -> list[np.ndarray]:
        return [
            *sums_of(at.moments, at.Lambda),
            deviations_of(at.moments, at.Lambda, at.beta, noise),
            *leave_one_out_of(rows, at, False),
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

    kernels.over_threads(mark, 1000, seen)
    assert seen.tolist() == [1] * 1000


def test_error_in_a_thread_is_raised():
    def fail(start: int, stop: int) -> None:
        raise RuntimeError(f"at {start}:{stop}")

    with pytest.raises(RuntimeError, match="at 0:"):
        kernels.over_threads(fail, 1000)
