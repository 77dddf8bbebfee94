"""Columns of other factors that the rows of a block reach, in the place of all.

A pig lies in one of 200 pens: of their columns D its rows reach one. Cross-products are made of the
columns that a block reaches, and added where these stand among all, [D, X]. Where each block reaches
most of them, it has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hierpool.algebra.correlated.others import LevelColumns, OtherFactors
from hierpool.algebra.correlated.rows import CorrelatedRows
from hierpool.core.errors import UnsupportedModelError

MOST_NUMBERS = 40_000_000  # rows times columns of these factors that are held
_WORTH_IT = 2  # times as many columns as a block reaches


class Reach(NamedTuple):
    """Levels of one factor that units of rows reach.

    Attributes
    ----------
    levels
        Shape (units, most): which, -1 in the place of none.
    slots
        Shape (n,): position of each row's level among those of its unit.
    """

    levels: np.ndarray
    slots: np.ndarray

    @classmethod
    def of(cls, columns: LevelColumns, J: int, units: np.ndarray) -> Reach:
        """Of J levels; ``units`` (n,). Rows of zeros reach nothing."""
        rows = np.flatnonzero(columns.Z.any(axis=1))
        keys = units[rows] * J + columns.codes[rows]
        pairs, pair = np.unique(keys, return_inverse=True)
        unit, n_units = pairs // J, int(units.max(initial=-1)) + 1
        within = np.arange(len(pairs)) - np.searchsorted(unit, np.arange(n_units))[unit]
        levels = np.full((n_units, int(within.max(initial=0)) + 1), -1)
        levels[unit, within] = pairs % J
        slots = np.zeros(len(units), dtype=np.intp)
        slots[rows] = within[pair.reshape(-1)]
        return cls(levels, slots)

    def spread(self, Z: np.ndarray) -> np.ndarray:
        """Shape (n, most q): columns (n, q) in the place of each row's level."""
        n, q = Z.shape
        out = np.zeros((n, self.levels.shape[1], q))
        out[np.arange(n), self.slots] = Z
        return out.reshape(n, -1)


@dataclass(frozen=True)
class NearColumns:
    """Which columns blocks reach.

    Attributes
    ----------
    correlated
        The rows with these columns, before those of the population.
    others
        The other factors, with as many levels as a block reaches at most.
    every
        The other factors with all levels.
    which
        Shape (blocks, m): where the columns stand among all, those of the population at the end;
        ``size`` in the place of none. Shape (1, m) where all blocks have all.
    size
        Number of all columns, [D, X].
    """

    correlated: CorrelatedRows
    others: OtherFactors
    every: OtherFactors
    which: np.ndarray
    size: int

    @classmethod
    def of(
        cls,
        correlated: CorrelatedRows,
        others: OtherFactors,
        columns: Sequence[LevelColumns],
        units: np.ndarray | None = None,
    ) -> NearColumns:
        """Those that each block reaches; all where that spares little.

        Parameters
        ----------
        correlated
            The rows with the population's columns.
        others, columns
            The other factors.
        units
            Shape (n,): rows whose columns are put together, of whole blocks; the blocks by default.

        Raises
        ------
        UnsupportedModelError
            Too many numbers.
        """
        X, blocks, d = correlated.rows.X, correlated.blocks, others.size
        n, p = X.shape
        units = blocks if units is None else units
        pairs = list(zip(columns, others.sizes, strict=True))
        reached = [Reach.of(own, J, units) for own, (J, _) in pairs]
        width = sum(r.levels.shape[1] * q for r, (_, q) in zip(reached, others.sizes, strict=True))
        is_all = _WORTH_IT * width >= d
        _check_size(others, n, d if is_all else width)
        if is_all:
            reached = [Reach(np.arange(J)[None], own.codes) for own, (J, _) in pairs]
        places, D = [], []
        for r, (own, (_, q)), at in zip(reached, pairs, others.places, strict=True):
            D.append(r.spread(own.Z))
            found = at.start + r.levels[:, :, None] * q + np.arange(q)
            places.append(
                np.where(r.levels[:, :, None] < 0, d + p, found).reshape(len(r.levels), -1)
            )
        which = np.hstack([*places, np.broadcast_to(d + np.arange(p), (_length(places), p))])
        counts = [r.levels.shape[1] for r in reached]
        sizes = tuple((c, q) for c, (_, q) in zip(counts, others.sizes, strict=True))
        rows = replace(correlated.rows, X=np.hstack([*D, X]))
        marks = None
        if not is_all:
            first = np.unique(blocks, return_index=True)[1]
            which = which[units[first]]
            marks = which[blocks]
        near = CorrelatedRows(rows, correlated.structure, marks)
        return cls(near, replace(others, sizes=sizes), others, which, d + p)

    @property
    def is_all(self) -> bool:
        """Whether blocks have all columns."""
        return self.which.shape == (1, self.size)

    @property
    def d(self) -> int:
        """Columns of all levels of the other factors."""
        return self.every.size

    @property
    def p(self) -> int:
        """Columns of the population."""
        return self.size - self.d

    @property
    def of_levels(self) -> np.ndarray:
        """Shape (blocks, columns): the columns of the other factors among ``which``."""
        return self.which[:, : self.others.size]

    @cached_property
    def _into(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Where products (designs, m, m) and sums (designs, m) of the designs are added."""
        which, w = self.which[self.correlated.designs.first], self.size + 1
        pairs = (which[:, :, None] * w + which[:, None, :]).ravel()
        made = []
        for at, size in ((pairs, w * w), (which.ravel(), w)):
            entries = (np.ones(len(at)), (at, np.arange(len(at))))
            made.append(sparse.csr_array(entries, shape=(size, len(at))))
        return made[0], made[1]

    def added(self, products: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(size, size, K) and (size, K): products (K, designs, m, m) and sums (K, designs, m), added."""
        K, w = len(products), self.size
        pairs, singles = self._into
        squares = (pairs @ products.reshape(K, -1).T).reshape(w + 1, w + 1, K)
        return squares[:w, :w], (singles @ sums.reshape(K, -1).T)[:w]

    def of_blocks(self, values: np.ndarray) -> np.ndarray:
        """Shape (K, blocks, m), or (K, 1, m): of values (K, size) those that blocks reach."""
        if self.is_all:
            return values[:, None]
        padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1)
        return padded[:, self.which]


def _length(places: list[np.ndarray]) -> int:
    return len(places[0]) if places else 1


def _check_size(others: OtherFactors, n: int, width: int) -> None:
    if n * width > MOST_NUMBERS:
        raise UnsupportedModelError(
            f"{others.words}: correlated rows reach up to {width} coefficients of these factors, which "
            f"times {n} rows are too many to be held at once. Leave out the terms of the factor with "
            "most levels, or the residual structure",
            "residual-several-factors",
        )
