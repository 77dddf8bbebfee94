"""The arrow-shaped algebra gives the numbers of dense normal densities."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hierpool.algebra.gaussian import BetaPrior, Conditional, condition
from hierpool.algebra.moments import Moments, Rows
from tests.laws.dense import Dense
from tests.support.cases import each
from tests.support.designs import DESIGNS, dense, prior, thetas

FINITE = slice(0, 4)  # of the thetas: those whose dense covariances are well conditioned


@cache
def both(name: str, kind: str) -> tuple[Rows, Conditional, list[Dense]]:
    """A design, its algebra at every theta, and the judge at each."""
    rows = DESIGNS[name]
    sigma, Lambda = thetas(rows.Z.shape[1])
    beta = prior(rows.X.shape[1], kind)
    at = condition(Moments.from_rows(rows), sigma, Lambda, beta)
    return rows, at, [dense(rows, s, L, beta) for s, L in zip(sigma, Lambda, strict=True)]


CASES = [(name, kind) for name in DESIGNS for kind in ("flat", "proper")]


@each(("name", "kind"), CASES)
def test_log_density_is_the_dense_one(name, kind):
    _, at, judges = both(name, kind)
    np.testing.assert_allclose(at.log_density, [j.log_density for j in judges], rtol=1e-9)


@each(("name", "kind"), CASES)
def test_coefficients_are_the_solution_of_the_mixed_model_equations(name, kind):
    rows, at, judges = both(name, kind)
    p = rows.X.shape[1]
    for k, judge in enumerate(judges):
        mean, _ = judge.coefficients
        np.testing.assert_allclose(at.beta[k], mean[:p], rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(at.deviations()[k].ravel(), mean[p:], rtol=1e-7, atol=1e-7)


@each(("name", "kind"), CASES)
def test_covariances_are_blocks_of_the_inverse(name, kind):
    """Of beta, of u (Henderson's prediction error variance) and of coefficients E beta + u."""
    rows, at, judges = both(name, kind)
    p, q, design_of = rows.X.shape[1], rows.Z.shape[1], at.moments.design_of
    into = np.eye(q, p)
    coefficients = at.coefficient_covariance(into)
    for k, judge in enumerate(judges[FINITE]):
        _, cov = judge.coefficients
        np.testing.assert_allclose(
            at.marginal.beta_covariance[k], cov[:p, :p], rtol=1e-8, atol=1e-10
        )
        for j in range(at.moments.n_levels):
            block = slice(p + j * q, p + (j + 1) * q)
            u, across = cov[block, block], cov[block, :p]
            pev = at.prediction_error_variance[k, design_of[j]]
            np.testing.assert_allclose(pev, u, rtol=1e-8, atol=1e-10)
            through = into @ across.T
            both_ = into @ cov[:p, :p] @ into.T + through + through.T + u
            np.testing.assert_allclose(coefficients[k, design_of[j]], both_, rtol=1e-8, atol=1e-10)


@each("name", DESIGNS)
def test_conditional_variance_takes_beta_for_known(name):
    """lme4's condVar: the covariance of u where beta is pinned by an infinite prior precision."""
    rows, at, judges = both(name, "proper")
    p, q = rows.X.shape[1], rows.Z.shape[1]
    for k, judge in enumerate(judges[FINITE]):
        _, cov = judge.coefficients
        given = cov[p:, p:] - cov[p:, :p] @ np.linalg.solve(cov[:p, :p], cov[:p, p:])
        for j in range(at.moments.n_levels):
            block = slice(j * q, (j + 1) * q)
            ours = at.covariance_given_beta[k, at.moments.design_of[j]]
            np.testing.assert_allclose(ours, given[block, block], rtol=1e-8, atol=1e-10)


@each("name", DESIGNS)
def test_row_given_all_others_is_the_dense_conditional(name):
    rows, at, judges = both(name, "proper")
    mean, sd = at.leave_one_out(rows)
    for k, judge in enumerate(judges[FINITE]):
        for i in range(len(rows.y)):
            expected, variance = judge.leave_out(np.array([i]))
            np.testing.assert_allclose(mean[k, i], expected[0], rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(sd[k, i] ** 2, variance[0, 0], rtol=1e-8)


@pytest.mark.parametrize(
    "name", ["balanced_slopes", "unbalanced_slopes", "own_with_common_columns"]
)
def test_draws_have_the_conditional_mean_and_covariance(name):
    rows, draws = DESIGNS[name], 40_000
    sigma, Lambda = (a[:1] for a in thetas(rows.Z.shape[1]))
    beta_prior = prior(rows.X.shape[1], "proper")
    judge = dense(rows, sigma[0], Lambda[0], beta_prior)
    at = condition(
        Moments.from_rows(rows),
        np.repeat(sigma, draws),
        np.repeat(Lambda, draws, axis=0),
        beta_prior,
    )
    beta, u = at.draw(np.random.default_rng(1))
    drawn = np.hstack([beta, u.reshape(draws, -1)])
    mean, cov = judge.coefficients
    sd = np.sqrt(np.diag(cov))
    z = (drawn.mean(axis=0) - mean) / sd * np.sqrt(draws)
    assert np.abs(z).max() < 4.5
    corr_error = np.cov(drawn.T) / np.outer(sd, sd) - cov / np.outer(sd, sd)
    assert np.abs(corr_error).max() < 4.5 * np.sqrt(2 / draws)


def test_zero_variance_is_least_squares_on_all_rows():
    rows = DESIGNS["unbalanced_slopes"]
    at = condition(Moments.from_rows(rows), np.ones(1), np.zeros((1, 2, 2)), BetaPrior.flat(2))
    one_line, ss = np.linalg.lstsq(rows.X, rows.y)[:2]
    np.testing.assert_allclose(at.beta[0], one_line, rtol=1e-10)
    np.testing.assert_allclose(at.marginal.penalized_ss[0], ss[0], rtol=1e-10)
    assert not at.deviations().any()


def test_infinite_variance_is_one_regression_a_level():
    rows = DESIGNS["balanced_slopes"]
    at = condition(Moments.from_rows(rows), np.ones(1), 1e6 * np.eye(2)[None], BetaPrior.flat(2))
    for j in range(6):
        mine = rows.codes == j
        own = np.linalg.lstsq(rows.Z[mine], rows.y[mine])[0]
        np.testing.assert_allclose(at.beta[0] + at.deviations()[0, j], own, rtol=1e-6)


def test_tight_prior_pins_beta():
    rows = DESIGNS["unbalanced_slopes"]
    pinned = BetaPrior(np.array([1.0, -1.0]), 1e12 * np.eye(2))
    sigma, Lambda = thetas(2)
    at = condition(Moments.from_rows(rows), sigma[:1], Lambda[:1], pinned)
    np.testing.assert_allclose(at.beta[0], [1.0, -1.0], atol=1e-8)
    np.testing.assert_allclose(
        at.prediction_error_variance, at.covariance_given_beta, rtol=1e-6, atol=1e-9
    )


def test_any_root_of_the_covariance_gives_the_same_density():
    rows = DESIGNS["unbalanced_slopes"]
    _, Lambda = thetas(2)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    stack = np.stack([Lambda[0], Lambda[0] @ turn, -Lambda[0]])
    at = condition(Moments.from_rows(rows), np.ones(3), stack, prior(2, "proper"))
    np.testing.assert_allclose(at.log_density, at.log_density[0], rtol=1e-12)
    np.testing.assert_allclose(
        at.deviations(), np.repeat(at.deviations()[:1], 3, axis=0), atol=1e-12
    )


def test_two_blocks_are_a_block_diagonal_covariance():
    """(1 | g) + (0 + x | g): independent parts add up in the response's covariance."""
    rows = DESIGNS["some_designs_shared"]
    Lambda = np.diag([0.8, 0.3])[None]
    at = condition(Moments.from_rows(rows), np.ones(1), Lambda, prior(3, "proper"))
    parts = [
        dense(
            Rows(rows.y, rows.X, rows.Z[:, [k]], rows.codes),
            1.0,
            Lambda[0][[k]][:, [k]],
            prior(3, "proper"),
        )
        for k in (0, 1)
    ]
    whole = dense(rows, 1.0, Lambda[0], prior(3, "proper"))
    np.testing.assert_allclose(whole.V, parts[0].V + parts[1].V - np.eye(len(rows.y)), atol=1e-12)
    np.testing.assert_allclose(at.log_density[0], whole.log_density, rtol=1e-12)


def test_flat_prior_of_one_coefficient_is_the_limit_of_wide_ones():
    """Densities are known up to a constant: their differences over theta are those of the limit."""
    moments = Moments.from_rows(DESIGNS["unbalanced_slopes"])
    sigma, Lambda = (a[FINITE] for a in thetas(2))
    mean = np.array([0.0, 1.5])
    flat = condition(moments, sigma, Lambda, BetaPrior(mean, np.diag([0.0, 2.0]), n_flat=1))
    wide = condition(moments, sigma, Lambda, BetaPrior(mean, np.diag([1e-9, 2.0])))
    gap = flat.log_density - wide.log_density
    np.testing.assert_allclose(gap, gap[0], atol=1e-4)
    np.testing.assert_allclose(flat.beta, wide.beta, rtol=1e-6)
