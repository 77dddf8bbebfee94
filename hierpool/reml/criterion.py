"""Profiled ML and REML deviance of one grouping factor, with its analytic gradient.

theta holds the free entries of T, the relative factor in scaled coordinates: lower triangular for
a correlated block, diagonal for an uncorrelated one. Signs are free, so that a variance of zero
is an inner point where the deviance is smooth and even, and no bound is needed.

    REML: d = log det M_u + log det S + (n - p) [1 + log(2 pi r2 / (n - p))]
    ML:   d = log det M_u + n [1 + log(2 pi r2 / n)]

with r2 the penalised residual sum of squares (beta and u at their conditional means). Where the
residual sds are known there is no sigma to profile out, and with df the n - p or n above the
bracket times df becomes df log(2 pi) + r2. Weights add - sum log w, as in lme4.

References
----------
Bates, Maechler, Bolker, Walker (2015), J. Stat. Softw. 67(1), equations 34 and 39.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import linalg

from hierpool.core.coding import Coding
from hierpool.core.design import Design
from hierpool.core.gaussian import LOG_2PI, BetaPrior, Conditional, condition
from hierpool.core.moments import Coordinates, Moments, Rows, single_group
from hierpool.core.triangular import solve_lower, solve_lower_transposed

Method = Literal["REML", "ML"]


@dataclass(frozen=True)
class Criterion:
    """The deviance of a partially pooled design as a function of theta.

    Attributes
    ----------
    moments
        Cross-products in working coordinates.
    coordinates
        Those coordinates.
    basis
        Shape (q, q): Lambda = basis T.
    free
        Pair of index arrays: the free entries of T, in the order of theta.
    method
        "REML" or "ML".
    has_sigma
        Whether sigma is profiled out; False where it is 1, the residual sds being known.
    """

    moments: Moments
    coordinates: Coordinates
    basis: np.ndarray
    free: tuple[np.ndarray, np.ndarray]
    method: Method
    has_sigma: bool = True

    @classmethod
    def of(cls, design: Design, method: Method) -> Criterion:
        """Criterion of a design with one factor, partially pooled."""
        coordinates = Coordinates.of(design)
        group, z = single_group(design), coordinates.z
        assert group is not None
        assert z is not None
        rows_used = Rows.of(design, coordinates)
        codings, rows, cols = [], [], []
        for block in group.blocks:
            coding = Coding.of(group.Z[:, block.columns])
            correlated = block.covariance == "correlated"
            codings.append((coding if correlated else coding.uncentred()).from_working)
            r, c = np.tril_indices(block.size) if correlated else (np.arange(block.size),) * 2
            rows.append(r + block.start)
            cols.append(c + block.start)
        free = (np.concatenate(rows), np.concatenate(cols))
        # theta 1 is an sd of the typical residual's size, whatever the unit of weights or known sds
        unit = 1 / np.sqrt(np.mean(np.square(1 / np.asarray(rows_used.sd))))
        basis = z.to_working @ linalg.block_diag(*codings) * unit
        return cls(Moments.of(rows_used), coordinates, basis, free, method, design.has_sigma)

    @property
    def df(self) -> int:
        """Degrees of freedom of sigma: n - p for REML, n for ML."""
        return self.moments.n - (self.moments.p if self.method == "REML" else 0)

    @cached_property
    def coding_constant(self) -> float:
        """Added to a REML deviance to state it in the user's coding of X."""
        return 2 * float(np.log(self.coordinates.x.scales).sum()) if self.method == "REML" else 0.0

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        """Shape (..., q, q): T from theta (..., k)."""
        T = np.zeros((*theta.shape[:-1], self.moments.q, self.moments.q))
        T[..., self.free[0], self.free[1]] = theta
        return T

    def theta(self, T: np.ndarray) -> np.ndarray:
        """Shape (k,): the free entries of T."""
        return T[self.free]

    def condition(self, theta: np.ndarray) -> Conditional:
        """Factorisations at K values of theta, shape (K, k), with sigma = 1 and a flat prior."""
        Lambda = self.basis @ self.matrix(theta)
        return condition(self.moments, np.ones(len(theta)), Lambda, BetaPrior.flat(self.moments.p))

    def deviance(self, theta: np.ndarray) -> np.ndarray:
        """Shape (K,): profiled deviance in the user's coding at K values of theta, shape (K, k)."""
        return self._deviance(self.condition(theta))

    def _deviance(self, c: Conditional) -> np.ndarray:
        ss = np.maximum(c.marginal.penalized_ss, np.finfo(float).tiny)
        population = c.marginal.log_det_population if self.method == "REML" else 0.0
        residual = self.df * (1 + np.log(ss / self.df)) if self.has_sigma else ss
        constant = self.df * LOG_2PI + self.coding_constant + 2 * self.moments.log_sd
        return c.marginal.log_det_levels + population + residual + constant

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Profiled deviance and its gradient at one theta, shape (k,)."""
        c = self.condition(theta[None])
        log_det, ss = self.gradient_parts(c)
        gradient = log_det + (self.df / c.marginal.penalized_ss[0] if self.has_sigma else 1.0) * ss
        return float(self._deviance(c)[0]), gradient

    def gradient_parts(self, c: Conditional) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of the log determinants and of the penalised sum of squares, shapes (k,)."""
        m, Lambda, L, G, R = self.moments, c.Lambda[0], c.L[0], c.G[0], c.marginal.R[0]
        half = solve_lower(L, np.broadcast_to(np.eye(m.q), L.shape))
        P = np.swapaxes(half, -1, -2) @ half
        weighted_A = m.A * m.counts[:, None, None]
        by_log_det = 2 * np.einsum("uab,bc,ucd->ad", weighted_A, Lambda, P)
        if self.method == "REML" and m.p:
            W = solve_lower_transposed(L, G)
            half_beta = solve_lower(R, np.swapaxes(W, -1, -2))
            P_beta = np.swapaxes(half_beta, -1, -2) @ half_beta
            by_log_det += 2 * np.einsum("uab,bc,ucd->ad", weighted_A, Lambda, P_beta)
            Q = solve_lower_transposed(R, half_beta)
            weighted_C = m.C * m.counts[:, None, None]
            by_log_det -= 2 * np.einsum("uap,upb->ab", weighted_C, Q)
        v, score = self._level_scores(c)
        by_ss = -2 * score.T @ v
        into = self.basis.T
        return (into @ by_log_det)[self.free], (into @ by_ss)[self.free]

    def _level_scores(self, c: Conditional) -> tuple[np.ndarray, np.ndarray]:
        """v (J, q) with u = Lambda v, and Z_j'(y_j - Z_j u_j - X_j beta), shape (J, q)."""
        m, Lambda = self.moments, c.Lambda[0]
        beta, design = c.beta[0], m.design_of
        L = c.L[0][design]
        half = solve_lower(L, (m.b @ Lambda)[..., None]) - (c.G[0] @ beta)[design][..., None]
        v = solve_lower_transposed(L, half)[..., 0]
        score = m.b - np.einsum("jab,jb->ja", m.A[design], v @ Lambda.T) - (m.C @ beta)[design]
        return v, score
