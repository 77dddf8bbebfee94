"""Rows of a design with related levels: their columns turned until the levels are independent.

With u ~ N(0, A Sigma), A = L L' known, the columns Z L have independent coefficients. Of one factor
with one column, the main one, they are turned further, by the eigenvectors of L'Z'Z L, until their
cross-products are a diagonal D: its levels then cost no more than those of an ordinary varying
intercept. Those of the other factors are held side by side, dense.

Symbols:  T (n, r) main columns, T'T = diag(D)    B (n, N) columns of the others    W = [B X y]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hierpool.algebra.several.plan import ManyRows
from hierpool.core.design import Design

_NOTHING = 1e-11  # eigenvalues of Z'Z, relative to the largest, of combinations without rows


@dataclass(frozen=True)
class FactorColumns:
    """Where the columns of a factor stand.

    Attributes
    ----------
    at
        Its columns in B; empty for the main factor.
    size
        Coefficients of a level, q.
    into
        Shape (J, r): a root of the relationship, turned for the main factor. None where levels are
        independent.
    """

    at: slice
    size: int
    into: np.ndarray | None

    def levels(self, v: np.ndarray) -> np.ndarray:
        """Coefficients (..., r, q) of columns as those of the levels (..., J, q)."""
        return v if self.into is None else np.asarray(self.into @ v)


@dataclass(frozen=True)
class RelatedColumns:
    """Columns of all factors, and their cross-products.

    Attributes
    ----------
    rows
        In working coordinates.
    roots
        For each factor a root (J, r) of its relationship; None for independent levels.
    main
        Position of the factor that is turned to a diagonal.
    T, D, B
        As above.
    factors
        Where the columns of each factor stand.
    """

    rows: ManyRows
    roots: tuple[np.ndarray | None, ...]
    main: int
    T: np.ndarray
    D: np.ndarray
    B: np.ndarray
    factors: tuple[FactorColumns, ...]

    @classmethod
    def from_design(cls, design: Design, rows: ManyRows) -> RelatedColumns:
        """Of a design, the related factor with most levels being the main one."""
        related = [g.schema.related for g in design.groups]
        roots = tuple(None if r is None else r.root for r in related)
        able = [
            k for k, g in enumerate(design.groups) if roots[k] is not None and len(g.terms) == 1
        ]
        main = max(able, key=lambda k: design.groups[k].grouping.n_levels)
        return cls.from_rows(rows, roots, main)

    @classmethod
    def from_rows(
        cls, rows: ManyRows, roots: tuple[np.ndarray | None, ...], main: int
    ) -> RelatedColumns:
        """Of rows, some of whose levels may have none."""
        root, codes, z = roots[main], rows.codes[main], rows.Z[main][:, 0]
        assert root is not None
        own = np.bincount(codes, z**2, len(root))
        D, U = np.linalg.eigh(root.T @ (own[:, None] * root))
        D = np.where(_NOTHING * max(D.max(initial=0.0), 1e-300) < D, D, 0.0)
        turned = root @ U
        T = z[:, None] * turned[codes]
        blocks, factors, start = [np.zeros((rows.n, 0))], [], 0
        for k, (L, Z, level, J) in enumerate(
            zip(roots, rows.Z, rows.codes, rows.n_levels, strict=True)
        ):
            if k == main:
                factors.append(FactorColumns(slice(0, 0), 1, turned))
                continue
            spread = np.eye(J)[level] if L is None else L[level]
            block = (spread[:, :, None] * Z[:, None, :]).reshape(rows.n, -1)
            factors.append(FactorColumns(slice(start, start + block.shape[1]), Z.shape[1], L))
            blocks.append(block)
            start += block.shape[1]
        return cls(rows, roots, main, T, D, np.hstack(blocks), tuple(factors))

    def take(self, which: np.ndarray) -> RelatedColumns:
        """Of some of the rows, turned anew."""
        return self.from_rows(self.rows.take(which), self.roots, self.main)

    @property
    def n_others(self) -> int:
        """N: columns of the factors beside the main one."""
        return self.B.shape[1]

    @property
    def p(self) -> int:
        """Columns of the population."""
        return self.rows.X.shape[1]

    @cached_property
    def W(self) -> np.ndarray:
        """Shape (n, N + p + 1)."""
        return np.column_stack([self.B, self.rows.X, self.rows.y])

    @cached_property
    def C(self) -> np.ndarray:
        """Shape (r, N + p + 1): T'W."""
        return np.asarray(self.T.T @ self.W)

    @cached_property
    def along(self) -> np.ndarray:
        """Shape (k, N + p + 1): W along the k directions of T in which there are rows."""
        some = self.D > 0
        return np.asarray(self.C[some] / np.sqrt(self.D[some])[:, None])

    @cached_property
    def across(self) -> np.ndarray:
        """Shape (N + p + 1, N + p + 1): W'W of what is left of W beside T."""
        # Taken off the rows, not off W'W: where T spans nearly all rows no digit of that would be left.
        some = self.D > 0
        left = self.W - (self.T[:, some] / np.sqrt(self.D[some])) @ self.along
        return np.asarray(left.T @ left)

    def weighted(self, d: np.ndarray) -> np.ndarray:
        """Shape (N + p + 1, N + p + 1): W'V_a^-1 W, a sum of squares, at d = 1 + lambda^2 D."""
        scaled = self.along / d[self.D > 0][:, None]
        return np.asarray(self.across + self.along.T @ scaled)

    def main_sd(self, Lambda: np.ndarray, group_columns: tuple[slice, ...]) -> np.ndarray:
        """Shape (...): the relative sd of the main factor, from Lambda (..., Q, Q)."""
        at = group_columns[self.main].start
        return np.asarray(Lambda[..., at, at])

    def others(
        self,
        M: np.ndarray,
        Lambda: np.ndarray,
        group_columns: tuple[slice, ...],
        transposed: bool = False,
    ) -> np.ndarray:
        """Lambda of the other factors (one (Q, Q)), or its transpose, times the rows of M (N, m)."""
        out = np.empty_like(M)
        for k, (factor, at) in enumerate(zip(self.factors, group_columns, strict=True)):
            if k == self.main:
                continue
            own = Lambda[at, at].T if transposed else Lambda[at, at]
            each = M[factor.at].reshape(-1, factor.size, M.shape[1])
            out[factor.at] = (own @ each).reshape(-1, M.shape[1])
        return out
