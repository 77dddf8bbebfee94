"""Factorisation at one theta of a design whose residuals have a structure: that of whitened rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.algebra.correlated.rows import CorrelatedRows
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
    correlated
        The rows before they are whitened.
    phi
        Shape (m,): parameters of the residuals.
    log_det
        Log det R.
    """

    correlated: CorrelatedRows
    phi: np.ndarray
    log_det: float

    @classmethod
    def from_correlated(
        cls, correlated: CorrelatedRows, factor: str, Lambda: np.ndarray, phi: np.ndarray
    ) -> CorrelatedFactorisation:
        """Of rows that are whitened here."""
        rows, log_det = correlated.whitened(phi)
        flat = BetaPrior.flat(rows.X.shape[1])
        return cls.from_whitened(rows, correlated, factor, Lambda, phi, log_det, flat)

    @classmethod
    def from_whitened(
        cls,
        rows: Rows,
        correlated: CorrelatedRows,
        factor: str,
        Lambda: np.ndarray,
        phi: np.ndarray,
        log_det: float,
        prior: BetaPrior,
    ) -> CorrelatedFactorisation:
        """Of whitened rows; ``prior`` of the coefficients of their X."""
        moments = Moments.from_rows(rows, shared=False)
        at = condition(moments, np.ones(1), Lambda[None], prior)
        return cls(rows, moments, factor, Lambda, at, correlated, phi, log_det)

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

        Of the log determinants and of the penalised sum of squares. With H = I - a'a - t't in
        whitened rows (ML: I - a'a) and e the whitened residuals, tr(W'HW dR) and -e'W dR W'e.
        """
        every = self.correlated.every
        W = every.roots(every.whitening.tables(self.phi[None]))[0]
        B, m = len(W), every.size
        padded = np.zeros((B * m, self.rows.X.shape[1] + self.rows.Z.shape[1] + 1))
        columns = np.column_stack([self.rows.Z, self.rows.X, self.rows.y])
        padded[self.correlated.place] = columns
        white = padded.reshape(B, m, -1)
        q = self.rows.Z.shape[1]
        X, y = white[..., q:-1], white[..., -1:]
        T = np.swapaxes(white[..., :q] @ self.Lambda, -1, -2)
        L = np.linalg.cholesky(T @ np.swapaxes(T, -1, -2) + np.eye(q))
        a = solve_lower(L, T)
        left = y - X @ (self.conditional.beta[0] if beta is None else beta)[:, None]
        score = np.swapaxes(W, -1, -2) @ (left - np.swapaxes(a, -1, -2) @ (a @ left))
        taken = [a]
        if is_reml and X.shape[-1]:
            R = self.conditional.marginal.R[0]
            Xt = np.swapaxes(X, -1, -2) - np.swapaxes(a @ X, -1, -2) @ a
            taken.append(solve_lower(np.broadcast_to(R, (B, *R.shape)), Xt))
        rows = np.concatenate(taken, axis=-2) @ W
        of_log_det = np.swapaxes(W, -1, -2) @ W - np.swapaxes(rows, -1, -2) @ rows
        of_squares = -score @ np.swapaxes(score, -1, -2)
        return self._chain(np.stack([of_log_det, of_squares]))

    def _chain(self, bars: np.ndarray) -> np.ndarray:
        """Derivatives by the free parameters (c, m) from those by R, shape (c, blocks, size, size)."""
        every = self.correlated.every
        way, m = every.whitening, every.size
        s, padded = way.structure, way.by_pattern
        at = every.where[padded.rows] % m
        block = every.where[padded.rows[:, :1]] // m
        begins = m == at.shape[1] and not at[:, 0].any()  # each group is a block, padded with zeros
        own = (
            bars[:, block[:, 0]]
            if begins
            else bars[:, block[..., None], at[:, :, None], at[:, None]]
        )
        if s.n_spread or not begins:
            sd = np.exp(s.log_sds(self.phi[None])[0])[s.classes[padded.rows]] * padded.is_row
            own = own * sd[:, :, None] * sd[:, None]
        out = np.zeros((len(bars), s.size))
        if s.n_spread:
            C = padded.spread(way.blocks(self.phi[None]))
            weights = 2 * (own * C[padded.whose, 0]).sum(axis=-1)
            classes = s.classes[padded.rows].ravel()
            by_class = [np.bincount(classes, w.ravel(), s.n_classes) for w in weights]
            out[:, s.n_correlations : s.n_correlations + s.n_spread] = by_class @ s.basis
        if s.correlation is not None:
            totals = np.add.reduceat(own, padded.first, axis=1)
            each = np.einsum("pkij,cpij->cpk", padded.spread(self._slopes), totals)
            classes = np.eye(s.n_by)[[by for by, _ in way.patterns]]
            out[:, : s.n_correlations] = np.einsum("cpk,pb->cbk", each, classes).reshape(
                len(bars), -1
            )
        return out

    @cached_property
    def _slopes(self) -> list[np.ndarray]:
        """Derivatives of the patterns' correlations by the free parameters of their class."""
        way = self.correlated.every.whitening
        own = way.structure.correlation
        assert own is not None
        free = way.structure.correlations(way.structure.to_free(self.phi))
        out = [np.zeros(0)] * len(way.patterns)
        for g in range(way.structure.n_by):
            which = [k for k, (by, _) in enumerate(way.patterns) if by == g]
            found = own.slopes(free[g], [way.patterns[k][1] for k in which])
            for k, slopes in zip(which, found, strict=True):
                out[k] = slopes
        return out


def unsupported() -> UnsupportedModelError:
    """The error of what does not know residual structures yet."""
    return UnsupportedModelError(
        "this is not available for models with residual structures yet (residual=, sigma=)",
        "residual-structure-unsupported",
    )
