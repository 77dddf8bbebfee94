"""Factorisation of a design with one factor or none: level by level, equal designs together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.factorisation import (
    Factorisation,
    LevelsOf,
    by_whitening,
    in_places_of_levels,
    population_part,
)
from hierpool.algebra.gaussian import BetaPrior, Conditional, Marginal, condition
from hierpool.algebra.moments import Moments, Rows, by_level
from hierpool.algebra.triangular import solve_lower, solve_lower_transposed
from hierpool.core.design import Grouping


@dataclass(frozen=True)
class OneFactorFactorisation(Factorisation):
    """One factor, or none, at one Lambda.

    Attributes
    ----------
    rows, moments
        Of the model.
    factor
        Name of the factor; empty without one.
    Lambda
        Shape (q, q).
    conditional
        The coefficients given theta.
    """

    rows: Rows
    moments: Moments
    factor: str
    Lambda: np.ndarray
    conditional: Conditional

    @classmethod
    def from_rows(
        cls, rows: Rows, moments: Moments, factor: str, Lambda: np.ndarray
    ) -> OneFactorFactorisation:
        """Of rows and their cross-products."""
        flat, one = BetaPrior.flat(moments.p), np.ones(1)
        if not moments.has_many_designs:
            return cls(rows, moments, factor, Lambda, condition(moments, one, Lambda[None], flat))
        from hierpool.algebra import one_factor_point_kernels  # numba loads when first needed

        L, G, sums = one_factor_point_kernels.factorise(moments, Lambda)
        marginal = Marginal.from_sums(moments, flat, one, *sums)
        conditional = Conditional(moments, marginal, Lambda[None], L[None], G[None])
        return cls(rows, moments, factor, Lambda, conditional)

    @property
    def marginal(self) -> Marginal:
        """The population's part."""
        return self.conditional.marginal

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda, shapes (q, q)."""
        m, c = self.moments, self.conditional
        L, G, R = c.L[0], c.G[0], c.marginal.R[0]
        if m.has_many_designs:
            from hierpool.algebra import one_factor_point_kernels

            at = c.beta[0] if beta is None else beta
            with_population = is_reml and m.p > 0
            return one_factor_point_kernels.gradient(m, self.Lambda, L, G, R, at, with_population)
        half = solve_lower(L, np.broadcast_to(np.eye(m.q), L.shape))
        P = np.swapaxes(half, -1, -2) @ half
        weighted_A = m.A * m.counts[:, None, None]
        # d log det(Lambda'A Lambda + I) = 2 tr(A Lambda P dLambda'): Lambda stands in it twice, hence
        # each 2. Nothing divides by Lambda: a variance of zero is a point like any other.
        by_log_det = 2 * np.einsum("uab,bc,ucd->ad", weighted_A, self.Lambda, P)
        if is_reml and m.p:
            W = solve_lower_transposed(L, G)
            half_beta = solve_lower(R, np.swapaxes(W, -1, -2))
            P_beta = np.swapaxes(half_beta, -1, -2) @ half_beta
            by_log_det += 2 * np.einsum("uab,bc,ucd->ad", weighted_A, self.Lambda, P_beta)
            Q = solve_lower_transposed(R, half_beta)
            weighted_C = m.C * m.counts[:, None, None]
            by_log_det -= 2 * np.einsum("uap,upb->ab", weighted_C, Q)
        v, score = self._scores(c.beta[0] if beta is None else beta)
        # v minimises |y - X beta - Z Lambda v|^2 + |v|^2, so its own change with Lambda does not count.
        return by_log_det, -2 * score.T @ v

    def _scores(self, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v (J, q) with u = Lambda v, and Z_j'(y_j - Z_j u_j - X_j beta), shape (J, q)."""
        m, c, Lambda = self.moments, self.conditional, self.Lambda
        design = m.design_of
        L = c.L[0][design]
        half = solve_lower(L, (m.b @ Lambda)[..., None]) - (c.G[0] @ beta)[design][..., None]
        v = solve_lower_transposed(L, half)[..., 0]
        score = m.b - np.einsum("jab,jb->ja", m.A[design], v @ Lambda.T) - (m.C @ beta)[design]
        return v, score

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels."""
        c, design = self.conditional, self.moments.design_of
        W = c.beta_sensitivity[0][design]
        return (LevelsOf(c.deviations()[0], c.covariance_given_beta[0][design], W),)

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""
        return self.rows.residuals(self.conditional.beta[0], self.conditional.deviations()[0])

    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances of combinations, in units of sigma^2."""
        c, left, out = self.conditional, t.X, np.zeros(len(t))
        for part in t.parts:
            design = c.moments.design_of[part.levels]
            # t in v: a combination of u is one of v through Lambda'.
            weights = (part.weights @ self.Lambda)[..., None]
            h = solve_lower(c.L[0][design], weights)[..., 0]
            left = left - t.by_combination(part, np.einsum("eqp,eq->ep", c.G[0][design], h))
            out += t.by_combination(part, np.square(h).sum(axis=1))
        return out + population_part(c.marginal.R[0], left)

    @cached_property
    def _own(self) -> tuple[np.ndarray, np.ndarray]:
        """Z Lambda (n, q), and Lambda'Z'Z Lambda + I of each level (J, q, q)."""
        T, J = self.rows.Z @ self.Lambda, self.moments.n_levels
        return T, by_level(T, T, self.rows.codes, J) + np.eye(T.shape[1])

    @cached_property
    def columns(self) -> sparse.csr_array:
        """Shape (n, J q): Z Lambda in the places of each row's level."""
        if not self.moments.q:
            return sparse.csr_array((len(self.rows.y), 0))
        return in_places_of_levels(self._own[0], self.rows.codes, self.moments.n_levels)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Level by level."""
        M = self._own[1]
        each = right.reshape(*M.shape[:2], right.shape[1])
        return np.linalg.solve(M, each).reshape(right.shape)

    def leverage_of_levels(self) -> np.ndarray:
        """Shape (n,): level by level."""
        if not self.moments.q:
            return np.zeros(len(self.rows.y))
        T, M = self._own
        return np.einsum("na,nab,nb->n", T, np.linalg.inv(M)[self.rows.codes], T)

    def whitened_products(self, columns: np.ndarray, grouping: Grouping) -> np.ndarray:
        """Shape (J, q, q): of the levels of the factor itself each by itself."""
        codes, J = grouping.codes, grouping.n_levels
        plain = by_level(columns, columns, codes, J)
        if not self.moments.q:
            return plain
        if grouping.factor != self.factor:
            return by_whitening(self, columns, grouping)
        T, M = self._own
        half = by_level(T, columns, codes, J)
        return np.asarray(plain - np.swapaxes(half, 1, 2) @ np.linalg.solve(M, half))
