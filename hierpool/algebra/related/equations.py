"""Henderson's mixed model equations of a design with related levels, sparse.

The columns Z of all factors stand side by side, factor by factor and level by level; a related factor
has a level for every label of its relationship, with rows or without. Coefficients are u = Lambda v
with v ~ N(0, sigma^2 K^-1), K the precision of the relationship, or the identity, and

    M = Lambda'Z'Z Lambda + K        log det(I + K^-1 Lambda'Z'Z Lambda) = log det M - log det K

holds for a Lambda of any rank.

References
----------
Henderson (1976), Biometrics 32, 69-83.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement

import numpy as np
from scipy import sparse

from hierpool.algebra.factorisation import in_places_of_levels
from hierpool.algebra.related.sparse_factor import SparseFactor, SparsePattern
from hierpool.algebra.several.plan import ManyRows
from hierpool.core.design import Design


@dataclass(frozen=True, eq=False)
class FactorPlaces:
    """Where the columns of a factor stand.

    Attributes
    ----------
    start, size
        Its first column, and how many a level has (q).
    n_labels
        Levels, those without rows included (N).
    places
        Shape (J,): which of them the levels of the design are.
    precision
        Shape (N, N): of a relationship; None for independent levels.
    """

    start: int
    size: int
    n_labels: int
    places: np.ndarray
    precision: sparse.csc_array | None

    @property
    def columns(self) -> slice:
        """Its columns."""
        return slice(self.start, self.start + self.n_labels * self.size)


@dataclass(frozen=True, eq=False)
class PairBlocks:
    """Cross-products Z'Z of the levels of two factors, f <= g, that have rows in common.

    Attributes
    ----------
    f, g
        The factors.
    products
        Shape (blocks, q_f, q_g).
    rows, columns
        Shapes (blocks, q_f) and (blocks, q_g): columns of Z.
    of_row
        Shape (n,): the block of each row.
    """

    f: int
    g: int
    products: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    of_row: np.ndarray

    @classmethod
    def of(cls, f: int, g: int, factors: tuple[FactorPlaces, ...], rows: ManyRows) -> PairBlocks:
        """From the rows; where f = g each row has one block on the diagonal."""
        one, other = factors[f], factors[g]
        a, b = one.places[rows.codes[f]], other.places[rows.codes[g]]
        pairs, of_row = np.unique(a * other.n_labels + b, return_inverse=True)
        of_row = of_row.reshape(-1)
        products = np.zeros((len(pairs), one.size, other.size))
        np.add.at(products, of_row, rows.Z[f][:, :, None] * rows.Z[g][:, None, :])
        left, right = np.divmod(pairs, other.n_labels)
        at = one.start + one.size * left[:, None] + np.arange(one.size)
        across = other.start + other.size * right[:, None] + np.arange(other.size)
        return cls(f, g, products, at, across, of_row)

    @property
    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (blocks, q_f, q_g): row and column of each entry."""
        shape = self.products.shape
        rows = np.broadcast_to(self.rows[:, :, None], shape)
        return rows, np.broadcast_to(self.columns[:, None, :], shape)

    @property
    def upper(self) -> np.ndarray:
        """Shape (blocks, q_f, q_g): entries of the upper triangle."""
        rows, columns = self.coordinates
        return rows <= columns


@dataclass(frozen=True, eq=False)
class Equations:
    """The rows and their columns, and the pattern of M.

    Attributes
    ----------
    rows
        In working coordinates.
    factors
        Where their columns stand.
    """

    rows: ManyRows
    factors: tuple[FactorPlaces, ...]

    @classmethod
    def from_design(cls, design: Design, rows: ManyRows) -> Equations:
        """Of a design, whose relationships all have a precision."""
        factors, start = [], 0
        for group in design.groups:
            related, q = group.schema.related, len(group.terms)
            J = group.grouping.n_levels
            places = np.arange(J) if related is None else related.places
            precision = None if related is None else related.relationship.precision
            N = J if precision is None else precision.shape[0]
            factors.append(FactorPlaces(start, q, N, places, precision))
            start += N * q
        return cls(rows, tuple(factors))

    def take(self, which: np.ndarray) -> Equations:
        """Of some of the rows."""
        return Equations(self.rows.take(which), self.factors)

    @property
    def size(self) -> int:
        """Columns of Z."""
        last = self.factors[-1]
        return last.columns.stop

    @property
    def p(self) -> int:
        """Columns of the population."""
        return self.rows.p

    @cached_property
    def Z(self) -> sparse.csr_array:
        """Shape (n, columns)."""
        parts = [
            in_places_of_levels(Z, own.places[codes], own.n_labels)
            for own, Z, codes in zip(self.factors, self.rows.Z, self.rows.codes, strict=True)
        ]
        return sparse.csr_array(sparse.hstack(parts, format="csr"))

    @cached_property
    def Xy(self) -> np.ndarray:
        """Shape (n, p + 1): columns of the population, and the response."""
        return np.column_stack([self.rows.X, self.rows.y])

    @cached_property
    def ZXy(self) -> np.ndarray:
        """Shape (columns, p + 1): Z'[X y]."""
        return np.asarray(self.Z.T @ self.Xy)

    @cached_property
    def K(self) -> sparse.csc_array:
        """Shape (columns, columns): the prior's precision."""
        parts = [
            sparse.eye_array(own.n_labels * own.size)
            if own.precision is None
            else sparse.kron(own.precision, sparse.eye_array(own.size))
            for own in self.factors
        ]
        return sparse.csc_array(sparse.block_diag(parts, format="csc"))

    @cached_property
    def prior(self) -> SparseFactor:
        """K, factorised."""
        upper = sparse.csc_array(sparse.triu(self.K, format="csc"))
        upper.sort_indices()
        return SparsePattern(upper).factor(upper.data)

    @cached_property
    def pairs(self) -> tuple[PairBlocks, ...]:
        """Cross-products of every two factors."""
        every = combinations_with_replacement(range(len(self.factors)), 2)
        return tuple(PairBlocks.of(f, g, self.factors, self.rows) for f, g in every)

    @cached_property
    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Entries of the upper triangle of every level's own block, with rows or without."""
        rows, columns = [], []
        for own in self.factors:
            a, b = np.triu_indices(own.size)
            at = own.start + own.size * np.arange(own.n_labels)[:, None]
            rows.append((at + a).ravel())
            columns.append((at + b).ravel())
        return np.concatenate(rows), np.concatenate(columns)

    @cached_property
    def _plan(self) -> tuple[SparsePattern, np.ndarray, list[np.ndarray]]:
        """The pattern of M, entries of K in it, and where the cross-products of each pair stand."""
        K = sparse.coo_array(sparse.triu(self.K))
        own = self._levels
        entries = [(K.row, K.col), own]
        for pair in self.pairs:
            rows, columns = pair.coordinates
            entries.append((rows[pair.upper], columns[pair.upper]))
        keys = np.concatenate(
            [np.asarray(c, dtype=np.int64) * self.size + np.asarray(r) for r, c in entries]
        )
        different, where = np.unique(keys, return_inverse=True)
        parts = np.split(where.reshape(-1), np.cumsum([len(r) for r, _ in entries])[:-1])
        values = np.zeros(len(different))
        values[parts[0]] = K.data
        start = np.searchsorted(different, np.arange(self.size + 1) * self.size)
        some = values.copy()
        some[parts[1]] += np.where(own[0] == own[1], 1.0, 0.0)  # definite, whatever the pairs are
        upper = sparse.csc_array((some, different % self.size, start), shape=(self.size, self.size))
        return SparsePattern(upper), values, parts[2:]

    @property
    def pattern(self) -> SparsePattern:
        """Of M."""
        return self._plan[0]

    def factor(self, Lambda: tuple[np.ndarray, ...]) -> SparseFactor:
        """M, factorised, at the relative factor of each factor (q, q)."""
        pattern, values, places = self._plan
        values = values.copy()
        for pair, at in zip(self.pairs, places, strict=True):
            own = Lambda[pair.f].T @ pair.products @ Lambda[pair.g]
            values[at] += own[pair.upper]
        return pattern.factor(values)

    @cached_property
    def inverse_places(self) -> tuple[np.ndarray, ...]:
        """For each pair where the entries of its blocks stand in the inverse of M."""
        return tuple(self.pattern.entries(*pair.coordinates) for pair in self.pairs)

    def level_places(self, k: int) -> np.ndarray:
        """Shape (N, q, q): where the block of each level of a factor stands in the inverse of M."""
        own = self.factors[k]
        at = own.start + own.size * np.arange(own.n_labels)[:, None] + np.arange(own.size)
        shape = (own.n_labels, own.size, own.size)
        rows = np.broadcast_to(at[:, :, None], shape)
        return self.pattern.entries(rows, np.broadcast_to(at[:, None, :], shape))

    def times(
        self, Lambda: tuple[np.ndarray, ...], M: np.ndarray, transposed: bool = False
    ) -> np.ndarray:
        """Lambda of the factors, or its transpose, times the rows of M (columns, m)."""
        out = np.empty_like(M)
        for own, L in zip(self.factors, Lambda, strict=True):
            each = M[own.columns].reshape(own.n_labels, own.size, -1)
            moved = (L.T if transposed else L) @ each
            out[own.columns] = moved.reshape(-1, M.shape[1])
        return out
