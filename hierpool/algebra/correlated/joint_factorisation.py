"""Factorisation at one theta of residuals with a structure beside several factors.

The main factor's levels are eliminated block by block; what is left is one dense system of v, the
coefficients of the other factors, and beta: S = C'QC + (I, 0) with the whitened columns
C = [D Lambda, X] and Q = I - Z Lambda (..)^-1 Lambda'Z' of the main factor. Ordered so, the Cholesky
factor R of S has that of the population's part in its corner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.correlated.factorisation import CorrelatedFactorisation
from hierpool.algebra.correlated.others import OtherFactors
from hierpool.algebra.correlated.rows import CorrelatedRows
from hierpool.algebra.factorisation import Factorisation, LevelsOf, in_places_of_levels
from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.moments import Rows, by_level
from hierpool.algebra.triangular import solve_lower, solve_lower_transposed

_NO_INFORMATION = 1e150  # of a root: coefficients that are left out of a determinant


@dataclass(frozen=True)
class JointFactorisation(Factorisation):
    """Several factors at one Lambda and one set of parameters of the residuals.

    Attributes
    ----------
    inner
        The main factor, with C in the place of the population's columns.
    others
        The other factors.
    D
        Shape (n, d): their columns, whitened.
    Lambda
        Shape (Q, Q).
    """

    inner: CorrelatedFactorisation
    others: OtherFactors
    D: np.ndarray
    Lambda: np.ndarray

    @classmethod
    def from_correlated(
        cls,
        correlated: CorrelatedRows,
        factor: str,
        Lambda: np.ndarray,
        phi: np.ndarray,
        others: OtherFactors,
    ) -> JointFactorisation:
        """Of rows that are whitened here."""
        white, log_det = correlated.whitened(phi)
        w = white.X.shape[1]
        rows = replace(white, X=others.scaled(white.X[None], Lambda[None])[0])
        prior = BetaPrior(np.zeros(w), np.diag((np.arange(w) < others.size).astype(float)))
        main = Lambda[others.main_columns, others.main_columns]
        raw = correlated.rows
        raw = replace(raw, X=others.scaled(raw.X[None], Lambda[None])[0])
        inner = CorrelatedFactorisation.from_whitened(
            rows, raw, correlated, factor, main, phi, log_det, prior
        )
        return cls(inner, others, white.X[:, : others.size], Lambda)

    @property
    def whitened(self) -> tuple[Rows, dict[int, np.ndarray]]:
        """The population's rows, and the columns of the other factors' levels, before Lambda."""
        rows, own = self.inner.rows, self.others
        apart = {k: self.D[:, at] for k, at in zip(own.which, own.places, strict=True)}
        return replace(rows, X=rows.X[:, self.d :]), apart

    @property
    def d(self) -> int:
        """Coefficients of the other factors."""
        return self.others.size

    @property
    def _joint(self) -> Marginal:
        return self.inner.conditional.marginal

    @cached_property
    def marginal(self) -> Marginal:
        """The population's part."""
        p = self._joint.R.shape[-1] - self.d
        return self.others.population(self.inner.marginal, BetaPrior.flat(p))

    def _at(self, beta: np.ndarray | None) -> np.ndarray:
        """Shape (d + p,): v at its conditional mean, and beta."""
        return self._joint.beta[0] if beta is None else self.others.given_beta(self._joint, beta)

    def _of_log_det(self, is_reml: bool) -> CorrelatedFactorisation:
        """The main factor, with a root of S that leaves the population out for ML."""
        if is_reml:
            return self.inner
        R, d, c = self._joint.R.copy(), self.d, self.inner.conditional
        R[:, d:, :d] = 0.0
        R[:, d:, d:] *= _NO_INFORMATION
        return replace(self.inner, conditional=replace(c, marginal=replace(c.marginal, R=R)))

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda, shapes (Q, Q)."""
        at, own, main = self._at(beta), self._of_log_det(is_reml), self.others.main_columns
        by_det, by_ss = np.zeros_like(self.Lambda), np.zeros_like(self.Lambda)
        by_det[main, main], by_ss[main, main] = own.gradient(True, at)
        across, right = self._products
        half = solve_lower(own.conditional.marginal.R[0], np.eye(len(at)))
        log_det = 2 * across @ (half.T @ half[:, : self.d])
        score, v = right - across @ at, at[: self.d]
        for k, (J, q), here in zip(
            self.others.which, self.others.sizes, self.others.places, strict=True
        ):
            cols = self.others.group_columns[k]
            by_det[cols, cols] = np.einsum(
                "jajb->ab", log_det[here, here].reshape(J, q, J, q), optimize=True
            )
            by_ss[cols, cols] = -2 * score[here].reshape(J, q).T @ v[here].reshape(J, q)
        return by_det, by_ss

    @cached_property
    def _products(self) -> tuple[np.ndarray, np.ndarray]:
        """D'QC (d, d + p) and D'Q y (d,), D before Lambda."""
        rows, c, m = self.inner.rows, self.inner.conditional, self.inner.moments
        across, right = self.D.T @ rows.X, self.D.T @ rows.y
        if m.q:
            L, Lambda = c.L[0], self.inner.Lambda
            mixed = Lambda.T @ by_level(rows.Z, self.D, rows.codes, m.n_levels)
            of_D = solve_lower(L, mixed)
            of_y = solve_lower(L, (m.b @ Lambda)[..., None])
            across = across - np.einsum("jqd,jqw->dw", of_D, c.G[0], optimize=True)
            right = right - np.einsum("jqd,jq->d", of_D, of_y[..., 0])
        return across, right

    def residual_gradient(self, is_reml: bool, beta: np.ndarray | None = None) -> np.ndarray:
        """Derivatives by the free parameters of the residuals, shape (2, m)."""
        return self._of_log_det(is_reml).residual_gradient(True, self._at(beta))

    @cached_property
    def _v_given_beta(self) -> tuple[np.ndarray, np.ndarray]:
        """Covariance (d, d) of v given beta, and how its mean falls with beta (d, p)."""
        R, d = self._joint.R[0], self.d
        half = solve_lower(R[:d, :d], np.eye(d))
        return half.T @ half, solve_lower_transposed(R[:d, :d], R[d:, :d].T)

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels of each factor."""
        (covariance, falls), d, own = self._v_given_beta, self.d, self.others
        out: dict[int, LevelsOf] = {}
        if own.main is not None:
            inner = self.inner.levels()[0]
            of_v, of_beta = inner.sensitivity[..., :d], inner.sensitivity[..., d:]
            more = of_v @ covariance @ np.swapaxes(of_v, 1, 2)
            out[own.main] = LevelsOf(inner.u, inner.conditional + more, of_beta - of_v @ falls)
        u = own.levels(self._joint.beta[:, :d], self.Lambda[None])
        for k, (J, q), here in zip(own.which, own.sizes, own.places, strict=True):
            block = self.Lambda[own.group_columns[k], own.group_columns[k]]
            each = np.einsum("jajb->jab", covariance[here, here].reshape(J, q, J, q))
            sensitivity = block @ falls[here].reshape(J, q, -1)
            out[k] = LevelsOf(u[k][0], block @ each @ block.T, sensitivity)
        return tuple(out[k] for k in range(len(out)))

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response, not whitened."""
        at = self._joint.beta[0].copy()
        u = self.others.levels(at[None, : self.d], self.Lambda[None])
        at[: self.d] = np.concatenate([u[k].reshape(-1) for k in self.others.which])
        return self.inner.correlated.rows.residuals(at, self.inner.conditional.deviations()[0])

    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances of combinations, in units of sigma^2."""
        own = self.others
        weights = np.zeros((len(t), self.d))
        for k, (_, q), here in zip(own.which, own.sizes, own.places, strict=True):
            part = t.parts[k]
            at = here.start + part.levels[:, None] * q + np.arange(q)
            np.add.at(weights, (part.which[:, None], at), part.weights)
        X = np.hstack([own.scaled(weights[None], self.Lambda[None])[0], t.X])
        main = () if own.main is None else (t.parts[own.main],)
        return self.inner.variance(Combinations(X, main))

    @cached_property
    def columns(self) -> sparse.csr_array:
        """Shape (n, coefficients of all levels): whitened Z Lambda, factor by factor."""
        rows, own = self.inner.rows, self.others
        parts = {
            k: sparse.csr_array(rows.X[:, at]) for k, at in zip(own.which, own.places, strict=True)
        }
        if own.main is not None:
            Z = rows.Z @ self.inner.Lambda
            parts[own.main] = in_places_of_levels(Z, rows.codes, self.inner.moments.n_levels)
        return sparse.csr_array(sparse.hstack([parts[k] for k in range(len(parts))], format="csr"))
