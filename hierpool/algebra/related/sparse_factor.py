"""Sparse symmetric matrices of one pattern, factorised: P M P' = L D L'."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
from scipy import sparse


class SparsePattern:
    """A pattern whose elimination is planned once; every matrix with it is then factorised.

    Parameters
    ----------
    upper
        Shape (N, N): the upper triangle of a positive definite matrix, diagonal included, columns in
        ascending order; entries that may become non-zero are stored, as zeros if need be.
    """

    def __init__(self, upper: sparse.csc_array) -> None:
        import qdldl

        self.upper = sparse.csc_matrix(upper)
        self._solver = qdldl.Solver(self.upper, upper=True)
        self._lock = Lock()  # the solver holds one factorisation at a time
        L, _, order = self._solver.factors()
        self.start = np.ascontiguousarray(L.indptr, dtype=np.int32)
        self.indices = np.array(L.indices, dtype=np.int32)
        self.order = np.array(order, dtype=np.intp)
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(len(self.order))

    @property
    def size(self) -> int:
        """N."""
        return len(self.order)

    @cached_property
    def flops(self) -> int:
        """Operations of a factorisation, about."""
        return int(np.square(np.diff(self.start).astype(float)).sum())

    def factor(self, values: np.ndarray) -> SparseFactor:
        """Factorise the matrix with these entries in the upper triangle, in the pattern's order."""
        matrix = sparse.csc_matrix(
            (values, self.upper.indices, self.upper.indptr), shape=self.upper.shape
        )
        with self._lock:
            self._solver.update(matrix, upper=True)
            L, D, _ = self._solver.factors()
            return SparseFactor(self, np.array(L.data), np.array(D))

    @cached_property
    def _keys(self) -> np.ndarray:
        columns = np.repeat(np.arange(self.size), np.diff(self.start))
        return columns * self.size + self.indices

    def entries(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Where entries of the matrix stand in ``SparseFactor.inverse``; -1 where L has none."""
        a, b = self.place[rows], self.place[columns]
        keys = np.minimum(a, b) * self.size + np.maximum(a, b)
        at = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
        found = np.full(keys.shape, -1)
        if len(self._keys):
            found = np.where(self._keys[at] == keys, at, -1)
        return np.where(a == b, len(self._keys) + a, found)


@dataclass(frozen=True, eq=False)
class SparseFactor:
    """A factorisation.

    Attributes
    ----------
    pattern
        L's, and the order of elimination.
    values
        Shape (entries,): of L below its diagonal.
    D
        Shape (N,).
    """

    pattern: SparsePattern
    values: np.ndarray
    D: np.ndarray

    @property
    def log_det(self) -> float:
        """Log determinant."""
        return float(np.log(self.D).sum())

    def _solve_unit(self, right: np.ndarray, transposed: bool) -> None:
        from hierpool.algebra.related import sparse_kernels  # compiled when it is first needed

        own = self.pattern
        sparse_kernels.solve_unit(own.start, own.indices, self.values, right, transposed)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """M^-1 times right (N, m)."""
        moved = np.ascontiguousarray(right[self.pattern.order], dtype=float)
        self._solve_unit(moved, False)
        moved /= self.D[:, None]
        self._solve_unit(moved, True)
        return moved[self.pattern.place]

    def spread(self, noise: np.ndarray) -> np.ndarray:
        """Of standard normals (N, m): normals with covariance M^-1."""
        moved = np.ascontiguousarray(noise / np.sqrt(self.D)[:, None])
        self._solve_unit(moved, True)
        return moved[self.pattern.place]

    def times_root(self, noise: np.ndarray) -> np.ndarray:
        """Of standard normals (N, m): normals with covariance M."""
        own, scaled = self.pattern, np.sqrt(self.D)[:, None] * noise
        L = sparse.csc_array((self.values, own.indices, own.start), shape=(own.size, own.size))
        return np.asarray((scaled + L @ scaled)[own.place])

    @cached_property
    def inverse(self) -> np.ndarray:
        """Entries of M^-1 on the pattern of L, then its diagonal: see ``SparsePattern.entries``."""
        from hierpool.algebra.related import sparse_kernels

        out = np.empty(len(self.values) + len(self.D))
        own = self.pattern
        sparse_kernels.inverse_on_pattern(own.start, own.indices, self.values, self.D, out)
        return out

    @property
    def inverse_diagonal(self) -> np.ndarray:
        """Shape (N,): the diagonal of M^-1."""
        return self.inverse[len(self.values) + self.pattern.place]
