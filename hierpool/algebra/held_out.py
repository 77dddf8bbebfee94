"""Density of held-out rows given the others, with one factor or none: for K-fold cross-validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hierpool.algebra.factorisation import runs
from hierpool.algebra.gaussian import LOG_2PI, BetaPrior, Marginal, condition
from hierpool.algebra.moments import Moments, Rows
from hierpool.algebra.triangular import cholesky, log_det, solve_lower
from hierpool.core.theta import WorkingTheta


def of_rows(rest: Moments, prior: BetaPrior, theta: WorkingTheta, held: Rows) -> np.ndarray:
    """Shape (rows, K): log density of each held-out row given the others and theta."""
    sigma = theta.sigma
    m = with_levels(rest, int(held.codes.max(initial=-1)) + 1)
    per_draw = max(1, len(m.counts) * m.q * (m.q + m.p) + len(held.y) * (m.q + m.p + 2) * 2)
    out = np.empty((len(held.y), len(sigma)))
    for part in runs(len(theta), per_draw):
        at = condition(m, sigma[part], theta.Lambda[part], prior)
        leverage, residual = at.leverage(held)
        # 1 + h and not 1 - h as in leave_one_out: M does not hold these rows.
        variance = sigma[part, None] ** 2 * (1 + leverage)
        out[:, part] = -0.5 * (LOG_2PI + np.log(variance) + residual**2 / variance).T
    return out - held.log_sd[:, None]


def of_level(marginal: Marginal, theta: WorkingTheta, level: Rows) -> np.ndarray:
    """Shape (K,): joint log density of a new level's rows given the others' ``marginal`` and theta.

    y ~ N(X beta, sigma^2 (I + W W')) with W = [Z Lambda, X R^-T]; worked through W'W, whose size
    does not grow with the rows.
    """
    sigma, Lambda = theta.sigma, theta.Lambda
    K, n, p = len(sigma), len(level.y), level.X.shape[1]
    n_summed = level.n_summed
    residual = level.y - marginal.beta @ level.X.T
    out = np.empty(K)
    for part in runs(K, n * (p + level.Z.shape[1]) + 1):
        through_u = level.Z @ Lambda[part]
        x = np.broadcast_to(level.X.T, (len(through_u), p, n))
        through_beta = np.swapaxes(solve_lower(marginal.R[part], x), 1, 2)
        W = np.concatenate([through_u, through_beta], axis=2)
        Wt = np.swapaxes(W, 1, 2)
        L = cholesky(Wt @ W + np.eye(W.shape[2]))
        half = solve_lower(L, Wt @ residual[part, :, None])[..., 0]
        # Woodbury for the quadratic form; det(I + W W') = det(I + W'W) for the determinant.
        left = (residual[part] ** 2).sum(axis=1) - (half**2).sum(axis=1)
        scale = sigma[part] ** 2
        out[part] = -0.5 * (n_summed * (LOG_2PI + np.log(scale)) + log_det(L) + left / scale)
    return out - level.log_sd.sum()


def with_levels(moments: Moments, n_levels: int) -> Moments:
    """The same moments with levels at the end that have no rows."""
    missing = n_levels - moments.n_levels
    if missing <= 0 or not moments.q:
        return moments
    m, q, p = moments, moments.q, moments.p
    width = m.b_root.shape[2]
    return replace(
        m,
        # No rows, no cross-products: L is the identity there, and u has its prior.
        A=np.concatenate([m.A, np.zeros((1, q, q))]),
        C=np.concatenate([m.C, np.zeros((1, q, p))]),
        b=np.concatenate([m.b, np.zeros((missing, q))]),
        n_rows=np.concatenate([m.n_rows, np.zeros(missing, dtype=m.n_rows.dtype)]),
        design_of=np.concatenate([m.design_of, np.full(missing, len(m.counts))]),
        counts=np.append(m.counts, missing),
        b_sum=np.concatenate([m.b_sum, np.zeros((1, q))]),
        b_root=np.concatenate([m.b_root, np.zeros((1, q, width))]),
    )
