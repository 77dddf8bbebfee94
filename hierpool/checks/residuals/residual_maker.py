"""Residuals of a fit as a linear map of its response, standard deviations held at the optimum.

With V = Z Lambda Lambda'Z' + I, the covariance of the response in units of sigma^2, and

    K = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1

the residuals of the response, fixed effects and levels taken off, are e = K y. They have the
covariance sigma^2 K, and 1 - K_ii is the leverage of a row. So the null distribution of whatever is
made of residuals is known: that of normal vectors with this covariance, and not that of independent
ones. V is never made: its inverse is I - Z Lambda M^-1 Lambda'Z' with M = Lambda'Z'Z Lambda + I.

Rows are in working coordinates and divided by their residual sds, as in ``core.moments``.

References
----------
Henderson (1975), Biometrics 31, 423-447.
Christensen, Pearson, Johnson (1992), Technometrics 34, 38-45 (case deletion, variances held).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from hierpool.algebra.moments import Coordinates, by_level
from hierpool.algebra.several.plan import ManyRows
from hierpool.core.design import Design, Grouping
from hierpool.core.fitted import Optimum

_AT_ONCE = 4_000_000  # numbers in one block of columns
_RANK = 1e-9  # singular values below this share of the largest are none


@dataclass(frozen=True)
class ResidualMaker:
    """A partially or completely pooled design at an optimum.

    Attributes
    ----------
    design
        What was fitted.
    coordinates
        Working coordinates of its columns.
    rows
        The rows in them.
    factor
        Shape (Q, Q): Lambda, block diagonal over the factors.
    """

    design: Design
    coordinates: Coordinates
    rows: ManyRows
    factor: np.ndarray

    @classmethod
    def from_fit(cls, blup: Optimum) -> ResidualMaker:
        """That of a ``LikelihoodFit``; the levels of no pooling are no random effects, and have none."""
        coordinates = Coordinates.from_design(blup.design)
        rows = ManyRows.from_design(blup.design, coordinates)
        return cls(blup.design, coordinates, rows, blup.estimate.relative_covariance_factor)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    @cached_property
    def blocks(self) -> tuple[np.ndarray, ...]:
        """Lambda of each factor, shapes (q_f, q_f)."""
        return tuple(self.factor[at, at] for at in self.design.group_columns)

    @cached_property
    def levels(self) -> sparse.csr_array:
        """Shape (n, columns of all levels): Z Lambda, factor by factor and level by level."""
        rows, made = self.rows, [sparse.csr_array((self.n, 0))]
        for Z, codes, J, block in zip(rows.Z, rows.codes, rows.n_levels, self.blocks, strict=True):
            made.append(_spread(Z @ block, codes, J))
        return sparse.csr_array(sparse.hstack(made, format="csr"))

    @cached_property
    def _factored(self) -> SuperLU:
        """M of several factors."""
        M = self.levels.T @ self.levels + sparse.eye_array(self.levels.shape[1])
        return splu(sparse.csc_array(M))

    @cached_property
    def _of_one(self) -> tuple[np.ndarray, np.ndarray]:
        """Z Lambda (n, q) of the only factor, and M of each of its levels (J, q, q)."""
        (Z,), (codes,), (J,), (block,) = *self._one, self.blocks
        T = Z @ block
        return T, by_level(T, T, codes, J) + np.eye(T.shape[1])

    def _solve(self, right: np.ndarray) -> np.ndarray:
        """M^-1 times (columns of all levels, m); of one factor level by level."""
        if len(self.blocks) > 1:
            return np.asarray(self._factored.solve(right))
        M = self._of_one[1]
        each = right.reshape(*M.shape[:2], right.shape[1])
        return np.linalg.solve(M, each).reshape(right.shape)

    def whiten(self, columns: np.ndarray) -> np.ndarray:
        """V^-1 times columns (n, m)."""
        if not self.levels.shape[1]:
            return columns
        return np.asarray(columns - self.levels @ self._solve(self.levels.T @ columns))

    @cached_property
    def basis(self) -> np.ndarray:
        """Shape (n, r): orthonormal columns that span X."""
        U, values, _ = np.linalg.svd(self.rows.X, full_matrices=False)
        return np.asarray(U[:, values > _RANK * values.max(initial=0.0)])

    @cached_property
    def _population(self) -> tuple[np.ndarray, np.ndarray]:
        """W (n, r) with K = V^-1 - W W', and V^-1 times the basis."""
        whitened = self.whiten(self.basis)
        L = np.linalg.cholesky(self.basis.T @ whitened) if whitened.shape[1] else np.eye(0)
        return np.linalg.solve(L, whitened.T).T, whitened

    @property
    def df(self) -> int:
        """Rows less columns of the population."""
        return self.n - self.basis.shape[1]

    def residuals(self, responses: np.ndarray) -> np.ndarray:
        """K times responses (n, m)."""
        W = self._population[0]
        return self.whiten(responses) - W @ (W.T @ responses)

    @cached_property
    def observed(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""
        return self.residuals(self.rows.y[:, None])[:, 0]

    @cached_property
    def population(self) -> np.ndarray:
        """Shape (n,): what the fixed effects say of the rows."""
        whitened = self._population[1]
        beta = np.linalg.solve(self.basis.T @ whitened, whitened.T @ self.rows.y)
        return np.asarray(self.basis @ beta)

    @cached_property
    def squares(self) -> float:
        """y'K y: the penalised residual sum of squares."""
        return float(self.rows.y @ self.observed)

    @property
    def sigma(self) -> float:
        """REML's residual sd at this Lambda; 1 where those of the rows are known."""
        return float(np.sqrt(self.squares / self.df)) if self.design.residual.has_sigma else 1.0

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Shape (n,): K_ii, one less the leverage of each row."""
        W, T = self._population[0], self.levels
        inner = np.zeros(self.n)
        if len(self.blocks) == 1:
            inner = self._within_levels()
        elif self.blocks:
            for some in self._runs(self.n, T.shape[1]):
                rows = T[some].toarray()
                inner[some] = np.einsum("nm,mn->n", rows, self._factored.solve(rows.T))
        return np.asarray(1 - inner - np.square(W).sum(axis=1))

    def _within_levels(self) -> np.ndarray:
        """Shape (n,): t'M^-1 t of one factor, level by level."""
        T, M = self._of_one
        return np.einsum("na,nab,nb->n", T, np.linalg.inv(M)[self.rows.codes[0]], T)

    @property
    def _one(self) -> tuple[Any, Any, Any]:
        return self.rows.Z, self.rows.codes, self.rows.n_levels

    def _runs(self, length: int, width: int) -> Iterator[slice]:
        step = max(1, _AT_ONCE // max(width, 1))
        for start in range(0, length, step):
            yield slice(start, min(start + step, length))

    def simulate(self, rng: np.random.Generator, m: int) -> np.ndarray:
        """Shape (n, m): responses with new levels, sigma 1 and no fixed effects (K takes them off)."""
        v = rng.standard_normal((self.levels.shape[1], m))
        return np.asarray(self.levels @ v + rng.standard_normal((self.n, m)))

    def of_levels(self, columns: np.ndarray, grouping: Grouping) -> np.ndarray:
        """Shape (J, q, q): Z_j'K Z_j for columns Z (n, q) of the rows of each level of a factor."""
        codes, J, q = grouping.codes, grouping.n_levels, columns.shape[1]
        W = by_level(columns, self._population[0], codes, J)
        through = W @ np.swapaxes(W, 1, 2)
        own = [f for f, g in enumerate(self.design.groups) if g.factor == grouping.factor]
        if not self.blocks:
            return np.asarray(by_level(columns, columns, codes, J) - through)
        if len(self.blocks) == 1 and own:
            T, M = self._of_one
            half = by_level(T, columns, codes, J)
            inner = np.linalg.solve(M, half)
            plain = by_level(columns, columns, codes, J)
            return np.asarray(plain - np.swapaxes(half, 1, 2) @ inner - through)
        spread, out = sparse.csc_array(_spread(columns, codes, J)), np.empty((J, q, q))
        for some in self._runs(J, 3 * self.n * q):
            dense = spread[:, some.start * q : some.stop * q].toarray()
            each = (dense.T @ self.whiten(dense)).reshape(-1, q, some.stop - some.start, q)
            out[some] = np.einsum("jajb->jab", each)
        return out - through


def _spread(columns: np.ndarray, codes: np.ndarray, n_levels: int) -> sparse.csr_array:
    """Shape (n, J q): columns (n, q) in the places of each row's level."""
    n, q = columns.shape
    at = codes[:, None] * q + np.arange(q)
    entries = (columns.reshape(-1), at.reshape(-1), np.arange(0, n * q + 1, q))
    return sparse.csr_array(entries, shape=(n, n_levels * q))
