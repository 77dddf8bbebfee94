"""The model at one value of the relative factor, for one factor and for several alike.

Both kinds of algebra answer the same questions: what is left of the population once the levels are
eliminated, how the deviance changes with the factor, and how sure each coefficient is. Everything
is in working coordinates, with sigma = 1 and a flat prior on beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hierpool.algebra.gaussian import BetaPrior, Conditional, Marginal, condition
from hierpool.algebra.moments import Coordinates, Moments, Rows, RowsOverSd
from hierpool.algebra.several.plan import ManyRows
from hierpool.algebra.triangular import solve_lower, solve_lower_transposed
from hierpool.core.design import Design

if TYPE_CHECKING:
    from hierpool.algebra.several.factorise import Factored, Fronts


@dataclass(frozen=True)
class LevelsOf:
    """Coefficients of one factor's levels, covariances in units of sigma^2.

    Attributes
    ----------
    u
        Shape (J, q): conditional means.
    conditional
        Shape (J, q, q): Var(u | y, theta, beta).
    sensitivity
        Shape (J, q, p): W with E[u | y, theta, beta] = constant - W beta.
    """

    u: np.ndarray
    conditional: np.ndarray
    sensitivity: np.ndarray


class Point(Protocol):
    """The model at one relative factor."""

    @property
    def Lambda(self) -> np.ndarray:
        """Shape (Q, Q): the relative factor."""

    @property
    def marginal(self) -> Marginal:
        """The population's part (K = 1)."""

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda of the log determinants and of the penalised sum of squares, (Q, Q).

        The sum of squares is that at ``beta`` (p,); None: at the conditional mean.
        """

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels of each factor."""

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""


class Algebra(Protocol):
    """A design whose population and level coefficients can be eliminated."""

    @property
    def rows(self) -> RowsOverSd:
        """The rows, in working coordinates."""

    @property
    def moments(self) -> Moments:
        """Totals of the population columns and the response."""

    def marginal(self, Lambda: np.ndarray) -> Marginal:
        """The population's part at K relative factors (K, Q, Q)."""

    def at(self, Lambda: np.ndarray) -> Point:
        """The model at one of them (Q, Q)."""


def algebra(design: Design, coordinates: Coordinates) -> Algebra:
    """The algebra that suits the number of factors."""
    if len(design.groups) == 1:
        rows = Rows.from_design(design, coordinates)
        return OneFactorAlgebra(rows, Moments.from_rows(rows))
    from hierpool.algebra.several.factorise import Fronts  # compiled loops load when first needed

    many = ManyRows.from_design(design, coordinates)
    return SeveralFactorsAlgebra(many, Fronts.from_rows(many))


@dataclass(frozen=True)
class OneFactorAlgebra:
    """Level by level; levels with equal designs share a factorisation."""

    rows: Rows
    moments: Moments

    def marginal(self, Lambda: np.ndarray) -> Marginal:
        """The population's part at K relative factors."""
        return self._condition(Lambda).marginal

    def at(self, Lambda: np.ndarray) -> OneFactorPoint:
        """The model at one relative factor."""
        return OneFactorPoint(self, Lambda, self._condition(Lambda[None]))

    def _condition(self, Lambda: np.ndarray) -> Conditional:
        return condition(self.moments, np.ones(len(Lambda)), Lambda, BetaPrior.flat(self.moments.p))


@dataclass(frozen=True)
class OneFactorPoint:
    """One factor at one Lambda."""

    algebra: OneFactorAlgebra
    Lambda: np.ndarray
    conditional: Conditional

    @property
    def marginal(self) -> Marginal:
        """The population's part."""
        return self.conditional.marginal

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda, shapes (q, q)."""
        m, c = self.algebra.moments, self.conditional
        L, G, R = c.L[0], c.G[0], c.marginal.R[0]
        half = solve_lower(L, np.broadcast_to(np.eye(m.q), L.shape))
        P = np.swapaxes(half, -1, -2) @ half
        weighted_A = m.A * m.counts[:, None, None]
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
        return by_log_det, -2 * score.T @ v

    def _scores(self, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v (J, q) with u = Lambda v, and Z_j'(y_j - Z_j u_j - X_j beta), shape (J, q)."""
        m, c, Lambda = self.algebra.moments, self.conditional, self.Lambda
        design = m.design_of
        L = c.L[0][design]
        half = solve_lower(L, (m.b @ Lambda)[..., None]) - (c.G[0] @ beta)[design][..., None]
        v = solve_lower_transposed(L, half)[..., 0]
        score = m.b - np.einsum("jab,jb->ja", m.A[design], v @ Lambda.T) - (m.C @ beta)[design]
        return v, score

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels."""
        c, design = self.conditional, self.algebra.moments.design_of
        W = c.beta_sensitivity[0][design]
        return (LevelsOf(c.deviations()[0], c.covariance_given_beta[0][design], W),)

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""
        return self.algebra.rows.residuals(
            self.conditional.beta[0], self.conditional.deviations()[0]
        )


@dataclass(frozen=True)
class SeveralFactorsAlgebra:
    """Front by front, with a dense block for the factors that are crossed."""

    rows: ManyRows
    fronts: Fronts

    @property
    def moments(self) -> Moments:
        """Totals of the population columns and the response."""
        return self.fronts.moments

    def marginal(self, Lambda: np.ndarray) -> Marginal:
        """The population's part at K relative factors."""
        flat = BetaPrior.flat(self.moments.p)
        return self.fronts.marginal(np.ones(len(Lambda)), Lambda, flat)

    def at(self, Lambda: np.ndarray) -> SeveralFactorsPoint:
        """The model at one relative factor."""
        return SeveralFactorsPoint(self, Lambda, self.fronts.factored(Lambda))


@dataclass(frozen=True)
class SeveralFactorsPoint:
    """Several factors at one Lambda."""

    algebra: SeveralFactorsAlgebra
    Lambda: np.ndarray
    factored: Factored

    @cached_property
    def marginal(self) -> Marginal:
        """The population's part."""
        m = self.algebra.moments
        return Marginal.from_sums(m, BetaPrior.flat(m.p), np.ones(1), *self.factored.sums)

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda, shapes (Q, Q)."""
        at = self.marginal.beta[0] if beta is None else beta
        found = self.algebra.fronts.gradient(self.factored, self.marginal.R[0], at)
        population = found.log_det_population if is_reml else 0.0
        return found.log_det_levels + population, found.squares

    @cached_property
    def _u(self) -> tuple[np.ndarray, ...]:
        beta = self.marginal.beta
        return tuple(u[0] for u in self.algebra.fronts.deviations(self.Lambda[None], beta))

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels of each factor."""
        found = self.algebra.fronts.variances(self.factored, self.marginal.R[0])
        parts = zip(self._u, found.conditional, found.sensitivity, strict=True)
        return tuple(LevelsOf(*part) for part in parts)

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""
        return self.algebra.rows.residuals(self.marginal.beta[0], self._u)
