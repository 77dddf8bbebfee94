"""Factorisation at one theta of a design whose residuals have a structure: that of whitened rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.algebra.correlated.rows import CorrelatedRows
from hierpool.algebra.correlated.slopes import slopes
from hierpool.algebra.correlated.whitening import Tables
from hierpool.algebra.factorisation import LevelsOf
from hierpool.algebra.gaussian import BetaPrior, Marginal, condition
from hierpool.algebra.moments import Moments, Rows
from hierpool.algebra.one_factor_factorisation import OneFactorFactorisation
from hierpool.algebra.triangular import solve_lower
from hierpool.core.errors import UnsupportedModelError


@dataclass(frozen=True)
class CorrelatedFactorisation(OneFactorFactorisation):
    """One factor, or none, at one Lambda and one set of parameters of the residuals.

    Attributes
    ----------
    raw
        The rows before they are whitened.
    correlated
        Their order and structure.
    phi
        Shape (m,): parameters of the residuals.
    log_det
        Log det R.
    tables
        What the rows were whitened by.
    """

    raw: Rows
    correlated: CorrelatedRows
    phi: np.ndarray
    log_det: float
    tables: Tables

    @classmethod
    def from_correlated(
        cls, correlated: CorrelatedRows, factor: str, Lambda: np.ndarray, phi: np.ndarray
    ) -> CorrelatedFactorisation:
        """Of rows that are whitened here."""
        rows, log_det, tables = correlated.whitened(phi)
        flat = BetaPrior.flat(rows.X.shape[1])
        given = correlated.rows, correlated, factor, Lambda, phi, log_det, tables
        return cls.from_whitened(rows, *given, flat)

    @classmethod
    def from_whitened(
        cls,
        rows: Rows,
        raw: Rows,
        correlated: CorrelatedRows,
        factor: str,
        Lambda: np.ndarray,
        phi: np.ndarray,
        log_det: float,
        tables: Tables,
        prior: BetaPrior,
    ) -> CorrelatedFactorisation:
        """Of whitened rows, and the same before; ``prior`` of the coefficients of their X."""
        moments = Moments.from_rows(rows, shared=False)
        at = condition(moments, np.ones(1), Lambda[None], prior)
        return cls(rows, moments, factor, Lambda, at, raw, correlated, phi, log_det, tables)

    @cached_property
    def marginal(self) -> Marginal:
        """The population's part, with log det R among the levels' log determinants."""
        own = self.conditional.marginal
        return replace(own, log_det_levels=own.log_det_levels + self.log_det)

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels; none without a factor."""
        return super().levels() if self.factor else ()

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response, not whitened."""
        u = self.conditional.deviations()[0]
        return self.correlated.rows.residuals(self.conditional.beta[0], u)

    def residual_gradient(self, is_reml: bool, beta: np.ndarray | None = None) -> np.ndarray:
        """Derivatives by the free parameters of the residuals, shape (2, m); at their optimum or ``beta``.

        Of the log determinants and of the penalised sum of squares. The minimisers stay as they are
        (they are minimisers), and so do the roots of the systems: what is left are sums of squares.
        """
        c, q, codes = self.conditional, self.rows.Z.shape[1], self.rows.codes
        at, own = c.beta[0] if beta is None else beta, self.raw
        X, left, roots = own.X, own.y - own.X @ at, np.zeros((len(own.y), 0))
        if q:
            L = c.L[0]
            half = np.swapaxes(solve_lower(L, np.broadcast_to(self.Lambda.T, L.shape)), -1, -2)
            roots = _times(own.Z, half[codes])
            left = left - np.einsum("nq,nq->n", own.Z, c.deviations(at[None])[0][codes])
        taken = [roots]
        if is_reml and X.shape[1]:
            if q:
                X = X - _times(roots, c.G[0][codes])
            taken.append(solve_lower(c.marginal.R[0], X.T).T)
        columns = np.column_stack([*taken, left])[self.correlated.order]
        return slopes(self.correlated.every.whitening, self.phi, self.tables, columns)


def _times(rows: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Shape (n, p): rows (n, q), few columns, each times its own matrix (n, q, p)."""
    out = rows[:, :1] * matrices[:, 0]
    for a in range(1, rows.shape[1]):
        out += rows[:, a : a + 1] * matrices[:, a]
    return np.asarray(out)


def unsupported() -> UnsupportedModelError:
    """The error of what does not know residual structures yet."""
    return UnsupportedModelError(
        "this is not available for models with residual structures yet (residual=, sigma=)",
        "residual-structure-unsupported",
    )
