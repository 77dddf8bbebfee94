"""Which columns of a model with several factors are eliminated level by level, and in what order.

A chain of nested factors (pupils in classes in schools) is eliminated blockwise: each of its levels
is a front, its own columns and the columns it shares rows with. The columns of the factors outside
the chain, the rest, form one dense block. Columns have an internal order: the chain's factors,
innermost first, then the rest; within a factor level by level.

Blocks of cross-products are stored column by column: entry (a, c) of a q-row block that begins at
``o`` is ``values[o + c * q + a]``.

References
----------
Duff, Reid (1983), ACM Trans. Math. Softw. 9, 302-325 (fronts).
Bates, Maechler, Bolker, Walker (2015), J. Stat. Softw. 67(1), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hierpool.algebra.moments import Coordinates, Moments, Rows, RowsOverSd, by_level
from hierpool.core.design import Design
from hierpool.core.summed_rows import Shares


@dataclass(frozen=True)
class ManyRows(RowsOverSd):
    """Rows of a design with one factor or more, in working coordinates.

    Each is divided by its residual sd in units of sigma, as in ``moments.Rows``.

    Attributes
    ----------
    y, X
        Shapes (n,) and (n, p).
    Z
        For each factor its columns, shape (n, q_f).
    codes
        For each factor the level of each row, shape (n,).
    n_levels
        Number of levels of each factor; levels without rows are allowed.
    sd
        Shape (n,): what each row was divided by; the number 1 where nothing was.
    shares
        What each row stands for; None where it is a row of a table.
    """

    y: np.ndarray
    X: np.ndarray
    Z: tuple[np.ndarray, ...]
    codes: tuple[np.ndarray, ...]
    n_levels: tuple[int, ...]
    sd: np.ndarray | float = 1.0
    shares: Shares | None = None

    @classmethod
    def from_design(cls, design: Design, coordinates: Coordinates) -> ManyRows:
        """Rows of a design."""
        groups, whiten, rows = design.groups, design.residual.over_known_sd, design.observations
        codings = zip(coordinates.zs, groups, strict=True)
        return cls(
            whiten(rows.shifted_response(coordinates.y_shift)),
            whiten(rows.working_X(coordinates.x)),
            tuple(whiten(rows.working_Z(g.factor, z)) for z, g in codings),
            tuple(g.grouping.codes for g in groups),
            tuple(g.grouping.n_levels for g in groups),
            design.residual.known_sd,
            rows.shares,
        )

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def p(self) -> int:
        """Number of population columns."""
        return int(self.X.shape[1])

    @property
    def q(self) -> tuple[int, ...]:
        """Number of columns of each factor."""
        return tuple(int(z.shape[1]) for z in self.Z)

    @cached_property
    def moments(self) -> Moments:
        """Totals of the population columns and the response; nothing of the factors."""
        none = np.zeros((self.n, 0)), np.zeros(self.n, dtype=np.intp)
        return Moments.from_rows(Rows(self.y, self.X, *none, self.sd, self.shares))

    @property
    def counts_alone(self) -> Moments:
        """The same with products of zero, for models that work them out at each theta.

        Where levels span nearly all rows, a difference of cross-products would have no digits left.
        """
        m = self.moments
        return replace(m, XX=np.zeros_like(m.XX), Xy=np.zeros_like(m.Xy), yy=0.0)

    def residuals(self, beta: np.ndarray, u: Sequence[np.ndarray]) -> np.ndarray:
        """Shape (n,): residuals of the response at coefficients (p,) and (J_f, q_f)."""
        left = self.y - self.X @ beta
        for Z, codes, own in zip(self.Z, self.codes, u, strict=True):
            left = left - np.einsum("nq,nq->n", Z, own[codes])
        return left * self.sd

    def take(self, which: np.ndarray) -> ManyRows:
        """Some of the rows (positions or a mask); the levels stay."""
        return ManyRows(
            self.y[which],
            self.X[which],
            tuple(z[which] for z in self.Z),
            tuple(c[which] for c in self.codes),
            self.n_levels,
            np.broadcast_to(self.sd, self.y.shape)[which],
            None if self.shares is None else self.shares.take(which),
        )


class Structure(NamedTuple):
    """Index arrays of the elimination plan, int64, in the layout of the compiled loops.

    Attributes
    ----------
    sizes
        Factors in the chain, fronts, eliminated columns, columns of the rest (N), p.
    q, at, place, first
        Per factor in internal order: columns a level; where it begins in Lambda, among all
        coefficients in the user's order, and in the internal order.
    first_front
        Shape (chain + 1,): the first front of each of the chain's factors.
    front_factor, front_col
        Per front: its factor, and its first column.
    offset
        Shape (fronts + 1,): where each front begins in the values. A front has the columns: its
        own, its neighbours', X, y.
    nb_start
        Shape (fronts + 1,): where each front's neighbours begin, ancestors first, then the rest.
    nb_factor, nb_col, nb_local, nb_front
        Per neighbour: factor, first column, first column within the front, and for ancestors
        their front (-1 for the rest).
    rest_start, rest_cols
        The columns of the rest that each front touches, counted within the rest.
    map_start, ancestor_cols
        Per front a table (ancestors, neighbours): the neighbour's first column within the ancestor.
    pair_row, pair_col, pair_rows_of, pair_cols_of, pair_offset
        Blocks of cross-products within the rest (upper triangle): first row and column within the
        rest, factors, and where the values begin.
    """

    sizes: np.ndarray
    q: np.ndarray
    at: np.ndarray
    place: np.ndarray
    first: np.ndarray
    first_front: np.ndarray
    front_factor: np.ndarray
    front_col: np.ndarray
    offset: np.ndarray
    nb_start: np.ndarray
    nb_factor: np.ndarray
    nb_col: np.ndarray
    nb_local: np.ndarray
    nb_front: np.ndarray
    rest_start: np.ndarray
    rest_cols: np.ndarray
    map_start: np.ndarray
    ancestor_cols: np.ndarray
    pair_row: np.ndarray
    pair_col: np.ndarray
    pair_rows_of: np.ndarray
    pair_cols_of: np.ndarray
    pair_offset: np.ndarray


class Products(NamedTuple):
    """Cross-products Z'Z of the fronts and of the pairs of the rest, and (X, y)'Z of the rest."""

    fronts: np.ndarray
    pairs: np.ndarray
    xy: np.ndarray


@dataclass(frozen=True)
class Plan:
    """Structure and cross-products of a design.

    Attributes
    ----------
    order
        Factors as given, in internal order: the chain, then the rest.
    n_chain
        How many of them are in the chain.
    structure, products
        What the compiled loops read.
    """

    order: tuple[int, ...]
    n_chain: int
    structure: Structure
    products: Products

    @classmethod
    def from_rows(cls, rows: ManyRows) -> Plan:
        """Plan for these rows."""
        chain = _longest_chain(rows)
        weight = np.array(rows.n_levels) * np.array(rows.q)
        others = [f for f in np.argsort(-weight, kind="stable").tolist() if f not in chain]
        order = (*chain, *others)
        structure, products = _Builder(rows, order, len(chain)).build()
        return cls(order, len(chain), structure, products)


def is_nested(inner: np.ndarray, outer: np.ndarray, n_inner: int) -> bool:
    """Whether each of the ``n_inner`` levels of one factor lies within one level of the other."""
    return bool((_parents(inner, outer, n_inner)[inner] == outer).all())


def _parents(inner: np.ndarray, outer: np.ndarray, n_inner: int) -> np.ndarray:
    """Shape (n_inner,): a level of ``outer`` for each level of ``inner``; 0 where it has no row."""
    parents = np.zeros(n_inner, dtype=np.int64)
    parents[inner] = outer
    return parents


def _longest_chain(rows: ManyRows) -> list[int]:
    """Factors, each nested in the next, that together have the most columns."""
    # Nested factors fill in nothing: a level that is eliminated touches the levels that contain it and no
    # others. So the chain goes first, and crossed factors are what is left as one dense block.
    n_levels, q = rows.n_levels, rows.q
    by_levels = sorted(range(len(q)), key=lambda f: (-n_levels[f], -n_levels[f] * q[f], f))
    chains: dict[int, list[int]] = {}
    for position, f in reversed(list(enumerate(by_levels))):
        outer = [
            chains[g]
            for g in by_levels[position + 1 :]
            if is_nested(rows.codes[f], rows.codes[g], n_levels[f])
        ]
        best = max(outer, key=lambda c: sum(n_levels[g] * q[g] for g in c), default=[])
        chains[f] = [f, *best]
    return max(
        (chains[f] for f in by_levels), key=lambda c: sum(n_levels[g] * q[g] for g in c), default=[]
    )


class _Builder:
    """Builds the structure; factors below are counted in internal order."""

    def __init__(self, rows: ManyRows, order: tuple[int, ...], n_chain: int) -> None:
        self.n_chain, self.n_factors, self.p = n_chain, len(order), rows.p
        self.Z = [rows.Z[f] for f in order]
        self.codes = [np.asarray(rows.codes[f], dtype=np.int64) for f in order]
        self.J = np.array([rows.n_levels[f] for f in order], dtype=np.int64)
        self.q = np.array([rows.q[f] for f in order], dtype=np.int64)
        self.xy = np.hstack([rows.X, rows.y[:, None]])
        self.first = _starts(self.J * self.q)
        self.start = int(self.first[n_chain])
        self.fronts = _starts(self.J[:n_chain])
        user_q = np.array(rows.q, dtype=np.int64)
        inside = np.array(order, dtype=np.int64)
        self.at = _starts(user_q)[inside]
        self.place = _starts(user_q * np.array(rows.n_levels, dtype=np.int64))[inside]

    def build(self) -> tuple[Structure, Products]:
        """Structure and cross-products."""
        entries = [self._neighbours(f) for f in range(self.n_chain)]
        groups = [group for own in entries for group in own]
        front, factor, col, parent = (
            np.concatenate([g[k] for g in groups]) if groups else np.zeros(0, dtype=np.int64)
            for k in range(4)
        )
        order = np.lexsort((col, front))
        front, factor, col, parent = front[order], factor[order], col[order], parent[order]
        n_fronts = int(self.fronts[-1])
        front_factor = np.repeat(np.arange(self.n_chain), self.J[: self.n_chain])
        own = self.q[front_factor]
        widths = self.q[factor]
        nb_start = np.searchsorted(front, np.arange(n_fronts + 1))
        before = _starts(widths)
        local = before[:-1] - before[nb_start[front]] + own[front]
        n_cols = own + np.diff(before[nb_start]) + self.p + 1
        offset = _starts(n_cols * own)
        front_col = np.concatenate(
            [self.first[f] + self.q[f] * np.arange(self.J[f]) for f in range(self.n_chain)]
            or [np.zeros(0)]
        ).astype(np.int64)
        values = np.zeros(int(offset[-1]))
        where = np.empty(len(order), dtype=np.int64)
        where[order] = offset[front] + local * own[front]
        self._fill(values, offset, n_cols, groups, where)
        is_rest = factor >= self.n_chain
        in_rest = np.concatenate([[0], np.cumsum(np.where(is_rest, widths, 0))])
        map_start, ancestor_cols = self._ancestors(
            front, col, parent, local, nb_start, front_factor, front_col
        )
        pairs, pair_values = self._pairs()
        structure = Structure(
            np.array([self.n_chain, n_fronts, self.start, self.first[-1] - self.start, self.p]),
            self.q,
            self.at,
            self.place,
            self.first,
            self.fronts,
            front_factor,
            front_col,
            offset,
            nb_start,
            factor,
            col,
            local,
            parent,
            in_rest[nb_start],
            _spread(col[is_rest] - self.start, widths[is_rest]),
            map_start,
            ancestor_cols,
            *pairs,
        )
        whole = Structure(*(np.ascontiguousarray(a, dtype=np.int64) for a in structure))
        return whole, Products(values, pair_values, self._xy_of_rest())

    def _neighbours(self, f: int) -> list[tuple[np.ndarray, ...]]:
        """Per later factor: front, factor, column, parent front and cross-products of neighbours."""
        found: list[tuple[np.ndarray, ...]] = []
        for g in range(f + 1, self.n_factors):
            if g < self.n_chain:
                level = np.arange(self.J[f])
                other = _parents(self.codes[f], self.codes[g], int(self.J[f]))
                blocks = by_level(self.Z[f], self.Z[g], self.codes[f], int(self.J[f]))
                parent = self.fronts[g] + other
            else:
                level, other, blocks = self._cells(f, g)
                parent = np.full(len(level), -1)
            found.append(
                (
                    self.fronts[f] + level,
                    np.full(len(level), g),
                    self.first[g] + self.q[g] * other,
                    parent,
                    blocks,
                )
            )
        return found

    def _cells(self, f: int, g: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Levels of f and g that share rows, and Z_f'Z_g over those rows (cells, q_f, q_g)."""
        keys, cell = np.unique(self.codes[f] * self.J[g] + self.codes[g], return_inverse=True)
        blocks = by_level(self.Z[f], self.Z[g], cell, len(keys))
        return keys // self.J[g], keys % self.J[g], blocks

    def _fill(
        self,
        values: np.ndarray,
        offset: np.ndarray,
        n_cols: np.ndarray,
        groups: list[tuple[np.ndarray, ...]],
        where: np.ndarray,
    ) -> None:
        """Write the cross-products of the fronts into ``values``."""
        for f in range(self.n_chain):
            fronts = slice(int(self.fronts[f]), int(self.fronts[f + 1]))
            J, q = int(self.J[f]), int(self.q[f])
            _write(values, offset[fronts], by_level(self.Z[f], self.Z[f], self.codes[f], J))
            last = offset[fronts] + (n_cols[fronts] - self.p - 1) * q
            _write(values, last, by_level(self.Z[f], self.xy, self.codes[f], J))
        done = 0
        for group in groups:
            _write(values, where[done : done + len(group[0])], group[4])
            done += len(group[0])

    def _ancestors(
        self,
        front: np.ndarray,
        col: np.ndarray,
        parent: np.ndarray,
        local: np.ndarray,
        nb_start: np.ndarray,
        front_factor: np.ndarray,
        front_col: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per front a table: each neighbour's first column within each of the ancestors."""
        total = int(self.first[-1])
        keys = front * total + col
        count = np.diff(nb_start)
        n_ancestors = self.n_chain - 1 - front_factor
        map_start = _starts(n_ancestors * count)
        table = np.full(int(map_start[-1]), -1, dtype=np.int64)
        position = np.arange(len(front)) - nb_start[front]
        for t in range(self.n_chain - 1):
            entries = np.flatnonzero((n_ancestors[front] > t) & (position >= t))
            e = front[entries]
            ancestor = parent[nb_start[e] + t]
            is_own = col[entries] == front_col[ancestor]
            found = np.searchsorted(keys, ancestor * total + col[entries])
            found[is_own] = 0
            places = map_start[e] + t * count[e] + position[entries]
            table[places] = np.where(is_own, 0, local[found])
        return map_start, table

    def _pairs(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Blocks of cross-products within the rest: the last fields of the structure, and values."""
        parts: list[list[np.ndarray]] = [[], [], [], [], []]
        values, size = [np.zeros(0)], 0
        for f in range(self.n_chain, self.n_factors):
            for g in range(f, self.n_factors):
                level, other, blocks = self._cells(f, g)
                q = int(self.q[f] * self.q[g])
                found = [
                    self.first[f] - self.start + self.q[f] * level,
                    self.first[g] - self.start + self.q[g] * other,
                    np.full(len(level), f),
                    np.full(len(level), g),
                    size + q * np.arange(len(level)),
                ]
                for part, array in zip(parts, found, strict=True):
                    part.append(array)
                values.append(np.swapaxes(blocks, 1, 2).ravel())
                size += q * len(level)
        none = [np.zeros(0, dtype=np.int64)]
        return [np.concatenate(part or none) for part in parts], np.concatenate(values)

    def _xy_of_rest(self) -> np.ndarray:
        """Shape (p + 1, N): (X, y)'Z of the rest."""
        parts = [np.zeros((0, self.p + 1))]
        for f in range(self.n_chain, self.n_factors):
            products = by_level(self.Z[f], self.xy, self.codes[f], int(self.J[f]))
            parts.append(products.reshape(-1, self.p + 1))
        return np.ascontiguousarray(np.concatenate(parts).T)


def _starts(sizes: Any) -> np.ndarray:
    """Where runs of these sizes begin, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _spread(first: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Runs first, first + 1, ... of these widths, one after the other."""
    starts = _starts(widths)
    return np.repeat(first - starts[:-1], widths) + np.arange(starts[-1])


def _write(values: np.ndarray, where: np.ndarray, blocks: np.ndarray) -> None:
    """Write blocks (m, q, w), column by column, at the places ``where`` (m,)."""
    _, q, w = blocks.shape
    places = where[:, None, None] + np.arange(w)[:, None] * q + np.arange(q)
    values[places] = np.swapaxes(blocks, 1, 2)
