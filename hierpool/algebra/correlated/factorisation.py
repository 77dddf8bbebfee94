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
        every, raw = correlated.every, correlated.rows
        white, log_sd = every.at(every.whitening.tables(phi[None]))
        flat = white.reshape(-1, white.shape[-1])[correlated.place]
        q = raw.Z.shape[1]
        rows = Rows(flat[:, -1], flat[:, q:-1], flat[:, :q], raw.codes)
        moments = Moments.from_rows(rows)
        at = condition(moments, np.ones(1), Lambda[None], BetaPrior.flat(moments.p))
        log_det = 2 * float(log_sd.sum())
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

    def residual_gradient(self, is_reml: bool) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by the free parameters of the residuals, shapes (m,).

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
        left = y - X @ self.conditional.beta[0][:, None]
        score = np.swapaxes(W, -1, -2) @ (left - np.swapaxes(a, -1, -2) @ (a @ left))
        taken = [a]
        if is_reml and X.shape[-1]:
            R = self.conditional.marginal.R[0]
            Xt = np.swapaxes(X, -1, -2) - np.swapaxes(a @ X, -1, -2) @ a
            taken.append(solve_lower(np.broadcast_to(R, (B, *R.shape)), Xt))
        rows = np.concatenate(taken, axis=-2) @ W
        of_log_det = np.swapaxes(W, -1, -2) @ W - np.swapaxes(rows, -1, -2) @ rows
        of_squares = -score @ np.swapaxes(score, -1, -2)
        return self._chain(of_log_det), self._chain(of_squares)

    @cached_property
    def _blocks(self) -> list[np.ndarray]:
        """Correlations of the rows of each pattern."""
        return self.correlated.every.whitening.blocks(self.phi[None])

    @cached_property
    def _slopes(self) -> list[np.ndarray]:
        """Their derivatives by the free parameters of their class."""
        way = self.correlated.every.whitening
        own = way.structure.correlation
        assert own is not None
        free = way.structure.correlations(way.structure.to_free(self.phi))
        return [own.slopes(free[by], places) for by, places in way.patterns]

    def _chain(self, bar: np.ndarray) -> np.ndarray:
        """Derivatives by the free parameters from those by R, shape (blocks, size, size)."""
        every = self.correlated.every
        way, m = every.whitening, every.size
        s = way.structure
        sd = np.exp(s.log_sds(self.phi[None])[0])[s.classes]
        blocks = self._blocks
        totals, by_class = [], np.zeros(s.n_classes)
        for k, C in enumerate(blocks):  # the groups of a pattern together
            rows = way.starts[:-1][way.pattern == k][:, None] + np.arange(C.shape[-1])
            block, at = every.where[rows[:, :1, None]] // m, every.where[rows] % m
            own = bar[block, at[:, :, None], at[:, None]] * sd[rows][:, :, None] * sd[rows][:, None]
            totals.append(own.sum(axis=0))
            weights = 2 * (own * C[0]).sum(axis=-1)
            by_class += np.bincount(s.classes[rows].ravel(), weights.ravel(), len(by_class))
        out = np.zeros(s.size)
        out[s.n_correlations : s.n_correlations + s.n_spread] = s.basis.T @ by_class
        if s.correlation is not None:
            size = s.correlation.size
            for (by, _), slopes, total in zip(way.patterns, self._slopes, totals, strict=True):
                out[by * size : (by + 1) * size] += np.einsum("kij,ij->k", slopes, total)
        return out


def unsupported() -> UnsupportedModelError:
    """The error of what does not know residual structures yet."""
    return UnsupportedModelError(
        "this is not available for models with residual structures yet (residual=, sigma=)",
        "residual-structure-unsupported",
    )
