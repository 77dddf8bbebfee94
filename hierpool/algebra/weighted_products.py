"""Cross-products of the levels' columns weighted by W = V^-1: what Kenward and Roger's method asks.

With B = Z'WZ and C = Z'WX no array has rows times rows. Everything is in units of sigma, and Z in the
coordinates in which T is free (Lambda = basis T).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy import linalg, sparse

from hierpool.algebra.factorisation import Factorisation, in_places_of_levels
from hierpool.algebra.moments import Moments

if TYPE_CHECKING:
    from hierpool.algebra.several.plan import ManyRows


class CovarianceParameter(NamedTuple):
    """A free entry of T T': the factor, the block-diagonal pattern E that it multiplies, its value."""

    factor: int
    E: np.ndarray
    gamma: float


class WeightedProducts(Protocol):
    """Cross-products of the levels' columns weighted by W = V^-1."""

    @property
    def trace(self) -> float:
        """Of W."""

    def diagonal(self, f: int) -> np.ndarray:
        """Shape (q, q): sum over the levels of a factor of their block of B."""

    def squares(self, f: int, g: int) -> np.ndarray:
        """Shape (q, q, r, r): [a, b, c, d] is the sum over blocks of B_fg[a, d] B_fg[b, c]."""

    def first(self, r: CovarianceParameter) -> np.ndarray:
        """Shape (p, p): C'E C."""

    def second(self, r: CovarianceParameter, s: CovarianceParameter) -> np.ndarray:
        """Shape (p, p): C'E_r B E_s C."""


@dataclass(frozen=True)
class OneFactorProducts:
    """One factor: levels with equal designs count for one (arrays with U first)."""

    counts: np.ndarray
    B: np.ndarray
    C: np.ndarray
    trace: float

    @classmethod
    def from_moments(cls, m: Moments, basis: np.ndarray, T: np.ndarray) -> OneFactorProducts:
        """At Lambda = basis T."""
        A, C = basis.T @ m.A @ basis, basis.T @ m.C
        M = T.T @ A @ T + np.eye(len(T))
        L = np.linalg.cholesky(M)
        half = np.linalg.solve(L, T.T @ A)
        # Z'WZ = A - A T (T'A T + I)^-1 T'A (Woodbury). A downdate: where variances are much larger than
        # A^-1, B is much smaller than A and keeps fewer digits.
        B = A - np.swapaxes(half, 1, 2) @ half
        weighted = C - np.swapaxes(half, 1, 2) @ np.linalg.solve(L, T.T @ C)
        # tr W = n - tr(I - M^-1), summed over the levels.
        left = np.trace(np.linalg.inv(M), axis1=1, axis2=2) - len(T)
        return cls(m.counts, B, weighted, m.n + float(m.counts @ left))

    def diagonal(self, f: int) -> np.ndarray:
        """As in ``WeightedProducts``."""
        return np.asarray(np.einsum("u,uab->ab", self.counts, self.B))

    def squares(self, f: int, g: int) -> np.ndarray:
        """As in ``WeightedProducts``."""
        return np.asarray(np.einsum("u,uad,ubc->abcd", self.counts, self.B, self.B))

    def first(self, r: CovarianceParameter) -> np.ndarray:
        """As in ``WeightedProducts``."""
        return np.asarray(np.einsum("u,uap,ab,ubs->ps", self.counts, self.C, r.E, self.C))

    def second(self, r: CovarianceParameter, s: CovarianceParameter) -> np.ndarray:
        """As in ``WeightedProducts``."""
        left = self.counts[:, None, None] * (r.E @ self.C)
        return np.asarray(np.einsum("uap,uab,ubs->ps", left, self.B, s.E @ self.C))


@dataclass(frozen=True)
class SeveralFactorsProducts:
    """Several factors: all their columns side by side."""

    B: np.ndarray
    C: np.ndarray
    shapes: tuple[tuple[int, int], ...]
    trace: float

    @classmethod
    def from_rows(cls, rows: ManyRows, basis: np.ndarray, T: np.ndarray) -> SeveralFactorsProducts:
        """At Lambda = basis T."""
        shapes = tuple(zip(rows.n_levels, rows.q, strict=True))
        edges = np.cumsum([0, *rows.q])
        Z = sparse.hstack(
            [
                in_places_of_levels(z @ basis[a:b, a:b], codes, J)
                for z, codes, (J, _), a, b in zip(
                    rows.Z, rows.codes, shapes, edges[:-1], edges[1:], strict=True
                )
            ],
            format="csr",
        )
        roots = [
            sparse.kron(sparse.eye(J), T[a:b, a:b])
            for (J, _), a, b in zip(shapes, edges[:-1], edges[1:], strict=True)
        ]
        root = sparse.block_diag(roots, format="csr")
        A = (Z.T @ Z).toarray()
        right = np.hstack([A, Z.T @ rows.X])
        moved = root.T @ right
        M = moved[:, : len(A)] @ root + np.eye(len(A))
        L = linalg.cholesky(M, lower=True, overwrite_a=True)
        half = linalg.solve_triangular(L, moved, lower=True, overwrite_b=True)
        inverse = linalg.lapack.dtrtri(L, lower=1)[0]
        right -= half[:, : len(A)].T @ half
        # tr M^-1 is the sum of squares of L^-1.
        trace = rows.n_summed - len(A) + float((inverse**2).sum())
        return cls(right[:, : len(A)], right[:, len(A) :], shapes, trace)

    def _at(self, f: int) -> slice:
        start = sum(J * q for J, q in self.shapes[:f])
        return slice(start, start + self.shapes[f][0] * self.shapes[f][1])

    def _block(self, f: int, g: int) -> np.ndarray:
        """Shape (J_f, q_f, J_g, q_g)."""
        return self.B[self._at(f), self._at(g)].reshape(*self.shapes[f], *self.shapes[g])

    def diagonal(self, f: int) -> np.ndarray:
        """As in ``WeightedProducts``."""
        return np.asarray(np.einsum("jajb->ab", self._block(f, f)))

    def squares(self, f: int, g: int) -> np.ndarray:
        """As in ``WeightedProducts``."""
        q, r = self.shapes[f][1], self.shapes[g][1]
        flat = np.moveaxis(self._block(f, g), 2, 1).reshape(-1, q * r)
        return (flat.T @ flat).reshape(q, r, q, r).transpose(0, 2, 3, 1)

    def _turned(self, r: CovarianceParameter) -> np.ndarray:
        """E C of the levels of the parameter's factor, (columns, p)."""
        levels = self.C[self._at(r.factor)].reshape(*self.shapes[r.factor], -1)
        return (r.E @ levels).reshape(-1, self.C.shape[1])

    def first(self, r: CovarianceParameter) -> np.ndarray:
        """As in ``WeightedProducts``."""
        return np.asarray(self.C[self._at(r.factor)].T @ self._turned(r))

    def second(self, r: CovarianceParameter, s: CovarianceParameter) -> np.ndarray:
        """As in ``WeightedProducts``."""
        B = self.B[self._at(r.factor), self._at(s.factor)]
        return np.asarray(self._turned(r).T @ (B @ self._turned(s)))


@dataclass(frozen=True)
class DenseProducts:
    """Any factors, all pairs of coefficients at once: related levels share rows through relatives."""

    B: tuple[tuple[np.ndarray, ...], ...]
    C: tuple[np.ndarray, ...]
    trace: float

    @classmethod
    def of(
        cls,
        at: Factorisation,
        X: np.ndarray,
        blocks: Sequence[np.ndarray],
        sizes: Sequence[int],
    ) -> DenseProducts:
        """Of columns (n, J_f q_f) of each factor, levels of q_f, whose coefficients are independent."""
        n = len(X)
        weighted = [at.whiten(block) for block in blocks]
        B = tuple(
            tuple(
                (a.T @ w).reshape(-1, q, w.shape[1] // r, r)
                for w, r in zip(weighted, sizes, strict=True)
            )
            for a, q in zip(blocks, sizes, strict=True)
        )
        C = tuple(
            (w.T @ X).reshape(-1, q, X.shape[1]) for w, q in zip(weighted, sizes, strict=True)
        )
        return cls(B, C, n - float(at.leverage_of_levels().sum()))

    def diagonal(self, f: int) -> np.ndarray:
        """As in ``WeightedProducts``."""
        return np.asarray(np.einsum("jajb->ab", self.B[f][f]))

    def squares(self, f: int, g: int) -> np.ndarray:
        """As in ``WeightedProducts``."""
        own = self.B[f][g]
        return np.asarray(np.einsum("iajd,ibjc->abcd", own, own, optimize=True))

    def first(self, r: CovarianceParameter) -> np.ndarray:
        """As in ``WeightedProducts``."""
        own = self.C[r.factor]
        return np.asarray(np.einsum("jap,ab,jbs->ps", own, r.E, own, optimize=True))

    def second(self, r: CovarianceParameter, s: CovarianceParameter) -> np.ndarray:
        """As in ``WeightedProducts``."""
        left = r.E @ self.C[r.factor]
        right = s.E @ self.C[s.factor]
        found = np.einsum(
            "iap,iajb,jbs->ps", left, self.B[r.factor][s.factor], right, optimize=True
        )
        return np.asarray(found)
