"""Models with several factors: the fronts give the numbers of dense algebra."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import block_diag

from hierpool.algebra.gaussian import BetaPrior, Marginal, condition
from hierpool.algebra.moments import Moments, Rows
from hierpool.algebra.several import draws as front_draws
from hierpool.algebra.several import leave_out
from hierpool.algebra.several.draws import draw_many
from hierpool.algebra.several.factorise import Fronts, one_blas_thread
from hierpool.algebra.several.leave_out import (
    leave_one_out,
    leverages,
    log_density_of_levels,
    log_density_of_rows,
)
from hierpool.algebra.several.plan import ManyRows
from tests.support.cases import each

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def simulated(codes: list[np.ndarray], q: list[int], p: int, levels: list[int], seed: int):
    """Rows with standard normal columns; the first of each block is the constant."""
    rng, n = np.random.default_rng(seed), len(codes[0])
    Z = []
    for k in q:
        z = rng.normal(size=(n, k))
        z[:, 0] = 1.0
        Z.append(z)
    X = rng.normal(size=(n, p))
    X[:, :1] = 1.0
    y = rng.normal(size=n) * 2 + sum(
        rng.normal(size=j)[c] for j, c in zip(levels, codes, strict=True)
    )
    return ManyRows(y, X, tuple(Z), tuple(codes), tuple(levels))


def designs() -> dict[str, ManyRows]:
    rng = np.random.default_rng(0)
    n = 90
    draw = lambda j: rng.integers(0, j, n)  # noqa: E731
    school = np.arange(n) % 5
    group = school * 3 + rng.integers(0, 3, n)
    pupil = group * 3 + rng.integers(0, 3, n)
    site, item = draw(4), draw(6)
    grid = np.repeat(np.arange(12), 6), np.tile(np.arange(6), 12)
    same = draw(7)
    many = rng.integers(0, 90, 200), rng.integers(0, 80, 200), rng.integers(0, 9, 200)
    return {
        "one_factor": simulated([draw(9)], [2], 2, [9], 1),
        "crossed": simulated([draw(11), item], [1, 1], 2, [11, 6], 2),
        "crossed_slopes": simulated([draw(8), item], [2, 2], 3, [8, 6], 3),
        "outer_is_wider": simulated([draw(8), item], [1, 3], 3, [8, 6], 4),
        "complete_grid": simulated(list(grid), [1, 1], 1, [12, 6], 5),
        "chain": simulated([school, pupil, group], [2, 1, 1], 2, [5, 45, 15], 6),
        "chain_of_slopes": simulated([group, school, pupil], [2, 2, 2], 2, [15, 5, 45], 7),
        "nested_and_crossed": simulated(
            [site, group, school, item], [1, 1, 2, 2], 3, [4, 15, 5, 6], 8
        ),
        "no_population": simulated([group, school, item], [1, 2, 1], 0, [15, 5, 6], 9),
        "equal_sizes": simulated([draw(6), item], [1, 2], 2, [6, 6], 10),
        "one_level": simulated([np.zeros(n, int), item], [1, 2], 2, [1, 6], 11),
        "redundant": simulated([same, same.copy(), item], [1, 1, 1], 2, [7, 7, 6], 12),
        "empty_levels": simulated([2 * draw(6) + 1, item, pupil], [1, 1, 2], 2, [14, 8, 50], 13),
        "large_rest": simulated(list(many), [1, 1, 1], 3, [90, 80, 9], 14),
    }


DESIGNS = designs()


def lambdas(name: str, K: int = 3, seed: int = 20) -> np.ndarray:
    """Lower triangular relative factors (K, Q, Q), the last but one singular, the last zero."""
    rng, q = np.random.default_rng(seed), DESIGNS[name].q
    blocks = [rng.normal(size=(K, k, k)) * 0.7 for k in q]
    for b in blocks:
        b *= np.tri(b.shape[1])
    Lambda = np.stack([block_diag(*(b[k] for b in blocks)) for k in range(K)])
    Lambda[-2, : q[0], : q[0]] = 0
    Lambda[-2, -1, -1] = 0
    Lambda[-1] = 0
    return Lambda


@dataclass(frozen=True)
class Dense:
    """The same model at one theta, everything in full."""

    rows: ManyRows
    Lambda: np.ndarray
    sigma: float
    prior: BetaPrior

    @cached_property
    def Z(self) -> np.ndarray:
        parts = []
        for z, c, j in zip(self.rows.Z, self.rows.codes, self.rows.n_levels, strict=True):
            whole = np.zeros((len(z), j, z.shape[1]))
            whole[np.arange(len(z)), c] = z
            parts.append(whole.reshape(len(z), -1))
        return np.hstack(parts)

    @cached_property
    def lam(self) -> np.ndarray:
        parts, done = [], 0
        for k, j in zip(self.rows.q, self.rows.n_levels, strict=True):
            parts += [self.Lambda[done : done + k, done : done + k]] * j
            done += k
        return block_diag(*parts)

    @cached_property
    def ZL(self) -> np.ndarray:
        return self.Z @ self.lam

    @cached_property
    def levels(self) -> np.ndarray:
        return self.ZL.T @ self.ZL + np.eye(self.ZL.shape[1])

    @cached_property
    def M(self) -> np.ndarray:
        T = np.hstack([self.ZL, self.rows.X])
        total = self.ZL.shape[1]
        prior = block_diag(np.eye(total), self.sigma**2 * self.prior.precision)
        return T.T @ T + prior

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Conditional mean of (v, beta)."""
        T = np.hstack([self.ZL, self.rows.X])
        right = T.T @ self.rows.y
        right[self.ZL.shape[1] :] += self.sigma**2 * self.prior.weighted_mean
        return np.linalg.solve(self.M, right)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Of (u, beta), in units of sigma^2."""
        into = block_diag(self.lam, np.eye(self.rows.p))
        return into @ np.linalg.inv(self.M) @ into.T


def prior(p: int) -> BetaPrior:
    return BetaPrior(np.arange(p) * 0.3, np.diag(1.0 / (2.0 + np.arange(p))))


@cache
def fronts(name: str) -> Fronts:
    return Fronts.from_rows(DESIGNS[name])


SIGMA = np.array([0.8, 1.1, 1.7])


@cache
def marginal(name: str) -> Marginal:
    return fronts(name).marginal(SIGMA, lambdas(name), prior(DESIGNS[name].p))


@cache
def dense(name: str) -> list[Dense]:
    rows = DESIGNS[name]
    thetas = zip(lambdas(name), SIGMA, strict=True)
    return [Dense(rows, Lambda, sigma, prior(rows.p)) for Lambda, sigma in thetas]


def blocks(matrix: np.ndarray, rows: ManyRows) -> list[np.ndarray]:
    """Diagonal blocks (J, q, q) of a matrix over all level coefficients, per factor."""
    found, done = [], 0
    for k, j in zip(rows.q, rows.n_levels, strict=True):
        own = [slice(done + i * k, done + (i + 1) * k) for i in range(j)]
        found.append(np.stack([matrix[s, s] for s in own]))
        done += j * k
    return found


def test_the_largest_nested_chain_is_eliminated_level_by_level():
    assert fronts("chain").plan.order == (1, 2, 0)
    assert fronts("chain").n_rest == 0
    assert fronts("nested_and_crossed").plan.order[:2] == (1, 2)
    assert fronts("nested_and_crossed").n_rest == 16
    assert fronts("redundant").plan.order == (0, 1, 2)
    assert fronts("redundant").plan.n_chain == 2
    assert fronts("outer_is_wider").plan.order == (1, 0)
    assert fronts("large_rest").n_rest == 89


@each("name", DESIGNS)
def test_sums_are_those_of_dense_algebra(name):
    found = fronts(name).sums(lambdas(name))
    for k, d in enumerate(dense(name)):
        C, b = d.ZL.T @ d.rows.X, d.ZL.T @ d.rows.y
        np.testing.assert_allclose(found[0][k], np.linalg.slogdet(d.levels)[1], **EXACT)
        np.testing.assert_allclose(found[1][k], C.T @ np.linalg.solve(d.levels, C), **EXACT)
        np.testing.assert_allclose(found[2][k], C.T @ np.linalg.solve(d.levels, b), **EXACT)
        np.testing.assert_allclose(found[3][k], b @ np.linalg.solve(d.levels, b), **EXACT)


@each("name", DESIGNS)
def test_density_is_that_of_the_dense_normal(name):
    for k, d in enumerate(dense(name)):
        if not d.rows.p:
            continue
        cov = d.ZL @ d.ZL.T + np.eye(d.rows.n)
        cov = d.sigma**2 * cov + d.rows.X @ np.linalg.inv(d.prior.precision) @ d.rows.X.T
        left = d.rows.y - d.rows.X @ d.prior.mean
        expected = -0.5 * (
            left @ np.linalg.solve(cov, left) + np.linalg.slogdet(2 * np.pi * cov)[1]
        )
        np.testing.assert_allclose(marginal(name).log_density[k], expected, **EXACT)


def test_one_factor_is_the_judge_in_numpy():
    rows, Lambda = DESIGNS["one_factor"], lambdas("one_factor")
    one = Rows(rows.y, rows.X, rows.Z[0], rows.codes[0])
    judge = condition(Moments.from_rows(one), SIGMA, Lambda, prior(2))
    found = marginal("one_factor")
    np.testing.assert_allclose(found.log_density, judge.log_density, **EXACT)
    np.testing.assert_allclose(found.beta, judge.beta, **EXACT)
    noise = np.random.default_rng(3).normal(size=(3, rows.n_levels[0], 2))
    u = fronts("one_factor").deviations(Lambda, found.beta, noise.reshape(3, -1))[0]
    np.testing.assert_allclose(u, judge.deviations(noise=noise), **EXACT)
    mean, sd = leave_one_out(fronts("one_factor"), SIGMA, Lambda, found)
    np.testing.assert_allclose(mean, judge.leave_one_out(one)[0], **EXACT)
    np.testing.assert_allclose(sd, judge.leave_one_out(one)[1], **EXACT)


@each("name", DESIGNS)
def test_deviations_are_conditional_means(name):
    found = fronts(name).deviations(lambdas(name), marginal(name).beta)
    for k, d in enumerate(dense(name)):
        c = d.coefficients
        total = len(d.lam)
        np.testing.assert_allclose(marginal(name).beta[k], c[total:], **EXACT)
        expected = fronts(name).by_factor(d.lam @ c[:total])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[k], theirs, **EXACT)


@each("name", DESIGNS)
def test_noise_makes_draws_of_the_conditional_covariance(name):
    """The draws are linear in the noise: unit noises give a root of the covariance itself."""
    f, d = fronts(name), dense(name)[0]
    total = len(d.lam)
    Lambda = np.repeat(lambdas(name)[:1], total, axis=0)
    beta = np.repeat(marginal(name).beta[:1], total, axis=0)
    mean = f.deviations(Lambda, beta)
    moved = f.deviations(Lambda, beta, np.eye(total))
    root = np.hstack([(a - b).reshape(total, -1) for a, b in zip(moved, mean, strict=True)])
    expected = d.lam @ np.linalg.inv(d.levels) @ d.lam.T
    np.testing.assert_allclose(root.T @ root, expected, **EXACT)


@each("name", DESIGNS)
def test_variances_are_blocks_of_the_dense_inverse(name):
    f, rows = fronts(name), DESIGNS[name]
    for k, d in enumerate(dense(name)):
        found = f.variances(f.factored(d.Lambda), marginal(name).R[k])
        total = len(d.lam)
        full = d.covariance
        given = blocks(d.lam @ np.linalg.inv(d.levels) @ d.lam.T, rows)
        with_beta = f.by_factor(full[:total, total:].T)
        np.testing.assert_allclose(found.beta, full[total:, total:], **EXACT)
        for factor, block in enumerate(blocks(full[:total, :total], rows)):
            np.testing.assert_allclose(found.conditional[factor], given[factor], **EXACT)
            expected = np.moveaxis(with_beta[factor], 0, -1)
            E = np.random.default_rng(1).normal(size=(rows.q[factor], rows.p))
            cross = E @ np.swapaxes(expected, -1, -2)
            own = block + cross + np.swapaxes(cross, -1, -2) + E @ full[total:, total:] @ E.T
            np.testing.assert_allclose(found.coefficients(factor, E), own, **EXACT)


def criteria(f: Fronts, Lambda: np.ndarray) -> np.ndarray:
    """log det M_uu, log det of the Schur complement, penalised sum of squares: shape (3, K)."""
    m = f.marginal(np.ones(len(Lambda)), Lambda, BetaPrior.flat(f.rows.p))
    return np.stack([m.log_det_levels, m.log_det_population, m.penalized_ss])


@each("which", [0, 1, 2], ids=["regular", "singular", "zero"].__getitem__)
@each("name", DESIGNS)
def test_gradient_is_that_of_central_differences(name, which):
    f, Lambda = fronts(name), lambdas(name)[which]
    at = f.factored(Lambda)
    m = f.marginal(np.ones(1), Lambda[None], BetaPrior.flat(f.rows.p))
    found = f.gradient(at, m.R[0], m.beta[0])
    inside = block_diag(*(np.ones((k, k)) for k in f.rows.q)).astype(bool)
    for a, b in np.argwhere(inside):
        h = 1e-4
        steps = np.repeat(Lambda[None], 4, axis=0)
        steps[:, a, b] += h * np.array([-2, -1, 1, 2])
        c = criteria(f, steps)
        expected = (c[:, 0] - 8 * c[:, 1] + 8 * c[:, 2] - c[:, 3]) / (12 * h)
        ours = [found.log_det_levels, found.log_det_population, found.squares]
        np.testing.assert_allclose([o[a, b] for o in ours], expected, rtol=1e-6, atol=1e-6)
    for part in (found.log_det_levels, found.log_det_population, found.squares):
        assert not part[~inside].any()


@each("name", DESIGNS)
def test_leave_one_out_is_the_conditional_of_the_dense_normal(name):
    mean, sd = leave_one_out(fronts(name), SIGMA, lambdas(name), marginal(name))
    for k, d in enumerate(dense(name)):
        T = np.hstack([d.ZL, d.rows.X])
        h = np.einsum("ia,ab,ib->i", T, np.linalg.inv(d.M), T)
        e = d.rows.y - T @ d.coefficients
        np.testing.assert_allclose(mean[k], d.rows.y - e / (1 - h), **EXACT)
        np.testing.assert_allclose(sd[k], d.sigma / np.sqrt(1 - h), **EXACT)


def test_density_of_rows_is_that_of_their_normals():
    f, Lambda = fronts("nested_and_crossed"), lambdas("nested_and_crossed")
    m = marginal("nested_and_crossed")
    which = np.array([5, 2, 80])
    mean, sd = leave_one_out(f, SIGMA, Lambda, m, which)
    expected = stats.norm.logpdf(f.rows.y[which], mean, sd).T
    found = log_density_of_rows(f, SIGMA, Lambda, m, which)
    np.testing.assert_allclose(found, expected, **EXACT)


@cache
def conditional_of_levels(name: str, held: str) -> np.ndarray:
    """Shape (J, K): log p(rows of a level | all others) from the dense normal."""
    rows, (codes, J) = DESIGNS[name], held_out(name, held)
    out = np.zeros((J, 3))
    for k, d in enumerate(dense(name)):
        cov = d.ZL @ d.ZL.T + np.eye(rows.n)
        cov = d.sigma**2 * cov + rows.X @ np.linalg.inv(d.prior.precision) @ rows.X.T
        precision = np.linalg.inv(cov)
        right = precision @ (rows.y - rows.X @ d.prior.mean)
        for j in np.unique(codes):
            own = codes == j
            P = precision[np.ix_(own, own)]
            squares = right[own] @ np.linalg.solve(P, right[own])
            out[j, k] = 0.5 * (np.linalg.slogdet(P / (2 * np.pi))[1] - squares)
    return out


def held_out(name: str, held: str) -> tuple[np.ndarray, int]:
    rows = DESIGNS[name]
    if held == "foreign":
        return np.arange(rows.n) // 7, -(-rows.n // 7)
    f = 0 if held == "first" else len(rows.q) - 1
    return rows.codes[f], rows.n_levels[f]


@each("by", ["cost", "rows", "refit"])
@each("held", ["first", "last", "foreign"])
@each("name", [n for n in DESIGNS if n != "one_level"])
def test_levels_left_out_are_conditionals_of_the_dense_normal(name, held, by, monkeypatch):
    monkeypatch.setattr(leave_out, "_AGAIN", {"rows": np.inf, "refit": 0, "cost": 4}[by])
    arguments = SIGMA, lambdas(name), prior(DESIGNS[name].p)
    found = log_density_of_levels(fronts(name), *arguments, *held_out(name, held))
    expected = conditional_of_levels(name, held)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_some_rows_are_those_rows_of_all():
    which = np.array([3, 50, 7])
    every = leave_one_out(fronts("chain"), SIGMA, lambdas("chain"), marginal("chain"))
    some = leave_one_out(fronts("chain"), SIGMA, lambdas("chain"), marginal("chain"), which)
    np.testing.assert_array_equal(some[0], every[0][:, which])
    np.testing.assert_array_equal(some[1], every[1][:, which])


@pytest.mark.parametrize("name", ["nested_and_crossed", "large_rest"])
def test_one_thread_and_two_give_the_same_numbers(name, monkeypatch):
    f = fronts(name)
    Lambda = np.repeat(lambdas(name), 50, axis=0)
    m = f.marginal(np.ones(len(Lambda)), Lambda, prior(f.rows.p))
    noise = np.random.default_rng(1).normal(size=(len(Lambda), f.n_coefficients))

    def everything() -> list[np.ndarray]:
        u = f.deviations(Lambda, m.beta, noise)
        return [*f.sums(Lambda), *u, *leverages(f, Lambda, m)]

    results = []
    for cores in (1, 2):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        results.append(everything())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_factored_gives_nan_for_its_own_theta():
    for name in ("crossed", "large_rest"):
        Lambda = lambdas(name)
        Lambda[0] = np.nan
        log_det = fronts(name).sums(Lambda)[0]
        assert np.isnan(log_det[0])
        assert np.isfinite(log_det[1:]).all()


def whitened(name: str, Lambda: np.ndarray, sigma: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Draws (K, u and beta), standard normal if each comes from the posterior of its theta."""
    rows, out, own = DESIGNS[name], np.empty_like(draws), prior(DESIGNS[name].p)
    T = np.hstack([Dense(rows, Lambda[0], 1.0, own).Z, rows.X])
    TT, Ty = T.T @ T, T.T @ rows.y
    precision = np.linalg.inv(Lambda @ np.swapaxes(Lambda, -1, -2))
    edges = np.concatenate([[0], np.cumsum(rows.q)])
    with one_blas_thread():
        for k in range(len(draws)):
            parts = [
                np.kron(np.eye(j), precision[k, a:z, a:z])
                for j, a, z in zip(rows.n_levels, edges[:-1], edges[1:], strict=True)
            ]
            Q = TT + block_diag(*parts, sigma[k] ** 2 * own.precision)
            right = Ty.copy()
            right[len(Ty) - rows.p :] += sigma[k] ** 2 * own.weighted_mean
            root = np.linalg.cholesky(Q)
            out[k] = root.T @ (draws[k] - np.linalg.solve(Q, right)) / sigma[k]
    return out


def is_standard_normal(z: np.ndarray) -> None:
    """Means, variances and correlations of the columns of z within Monte Carlo error."""
    K, size = z.shape
    assert np.abs(z.mean(axis=0)).max() < 4.5 / np.sqrt(K)
    cov = np.cov(z.T)
    assert np.abs(np.diag(cov) - 1).max() < 5 * np.sqrt(2 / K)
    assert np.abs(cov - np.diag(np.diag(cov))).max() < 5.5 / np.sqrt(K)
    assert abs((z**2).sum() / (K * size) - 1) < 4 * np.sqrt(2 / (K * size))


def spread(name: str, K: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """K values of sigma and Lambda around one, apart by ``width`` in their logarithms."""
    rng = np.random.default_rng(7)
    scale = np.exp(width * rng.normal(size=(K, 1, sum(DESIGNS[name].q))))
    Lambda = (lambdas(name)[:1] + 0.2 * np.eye(scale.shape[2])) * scale
    return np.exp(0.1 * rng.normal(size=K)), Lambda


def flat_draws(name: str, sigma: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
    beta, u = draw_many(fronts(name), sigma, Lambda, prior(DESIGNS[name].p), seed=1)
    return np.hstack([part.reshape(len(sigma), -1) for part in u] + [beta])


@pytest.mark.slow
@each("by", ["factorisation", "gradients", "few_steps"])
@each("name", ["nested_and_crossed", "chain_of_slopes", "no_population"])
def test_every_draw_is_from_the_posterior_of_its_theta(name, by, monkeypatch):
    if by != "factorisation":
        monkeypatch.setattr(front_draws, "_SMALL_REST", -1)
    if by == "few_steps":
        monkeypatch.setattr(front_draws, "MOST_STEPS", 4)
    sigma, Lambda = spread(name, 400, 0.4)
    is_standard_normal(whitened(name, Lambda, sigma, flat_draws(name, sigma, Lambda)))


def test_draws_of_a_large_rest_are_from_the_posterior():
    sigma, Lambda = spread("large_rest", 300, 0.4)
    draws = flat_draws("large_rest", sigma, Lambda)
    is_standard_normal(whitened("large_rest", Lambda, sigma, draws))


def test_draws_at_vanishing_and_at_zero_variances_are_exact_too():
    """u is zero where its variance is, and the rest is drawn as if the factor were not there."""
    name, K = "large_rest", 400
    sigma, Lambda = spread(name, K, 0.3)
    Lambda[::2, 0, 0] = 0
    Lambda[1::2, 0, 0] *= 1e-5
    _, u = draw_many(fronts(name), sigma, Lambda, prior(3), seed=2)
    assert not u[0][::2].any()
    assert 0 < np.abs(u[0][1::2]).max() < 1e-3
    z = (u[1] - u[1].mean(axis=0)) / u[1].std(axis=0)
    assert np.abs(z[::2].mean(axis=0)).max() < 4.5 / np.sqrt(K)


def test_draws_do_not_depend_on_the_number_of_cores(monkeypatch):
    sigma, Lambda = spread("large_rest", 300, 0.3)
    results = []
    for cores in (1, 2):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        results.append(flat_draws("large_rest", sigma, Lambda))
    np.testing.assert_array_equal(*results)
