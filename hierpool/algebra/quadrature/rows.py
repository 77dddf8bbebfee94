"""The rows of a model by level: rows alike within a level counted once, levels alike evaluated once.

Symbols: N rows that differ, U levels that differ, q columns of the integrated factor, p of the
population, Q_B coefficients of the levels of all other factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hierpool.algebra.moments import Coordinates
from hierpool.core.design import Design

_LARGEST_KEY = 2**62


@dataclass(frozen=True)
class OtherFactors:
    """What the rows have of the factors that are not integrated.

    Attributes
    ----------
    columns
        Shape (N, b): the columns of all of them side by side, in working coordinates.
    places
        Shape (N, b): which of the Q_B coefficients multiplies each.
    blocks
        Shape (b,): which columns of Lambda (Q, Q) they belong to.
    n_effects
        Q_B.
    mean
        Shape (Q_B,): prior mean of the coefficients.
    """

    columns: np.ndarray
    places: np.ndarray
    blocks: np.ndarray
    n_effects: int
    mean: np.ndarray

    def take(self, rows: np.ndarray) -> OtherFactors:
        """Some of the rows."""
        return replace(self, columns=self.columns[rows], places=self.places[rows])


@dataclass(frozen=True)
class LevelRows:
    """The rows of the levels that differ, one level after the other.

    Attributes
    ----------
    y, trials
        Shapes (N,).
    weight
        Shape (N,): how often a row's log density counts: its own weight times the rows alike.
    unit
        Shape (N,): weight of one of the rows alike.
    offset
        Shape (N,): what the linear predictor has beside the coefficients.
    X, Z
        Shapes (N, p) and (N, q), in working coordinates.
    others
        The factors that are not integrated.
    start
        Shape (U + 1,): where each level begins.
    counts
        Shape (U,): levels alike.
    level_of
        Shape (J,): which of the U each of the design's levels is; one level without a factor.
    place
        Shape (n,): where each of the design's rows, or one alike, is.
    times
        Shape (n,): how many rows of the table each of the design's rows stands for.
    """

    y: np.ndarray
    trials: np.ndarray
    weight: np.ndarray
    unit: np.ndarray
    offset: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    others: OtherFactors
    start: np.ndarray
    counts: np.ndarray
    level_of: np.ndarray
    place: np.ndarray
    times: np.ndarray

    @property
    def n_levels(self) -> int:
        """U."""
        return len(self.counts)

    @property
    def levels(self) -> np.ndarray:
        """Shape (N,): which of the U levels each row is in."""
        return np.repeat(np.arange(self.n_levels), np.diff(self.start))

    @classmethod
    def from_design(
        cls,
        design: Design,
        coordinates: Coordinates,
        integrated: int,
        u_mean: np.ndarray,
    ) -> LevelRows:
        """Rows of a design; ``integrated`` is the position of the integrated factor, -1 for none."""
        rows, unit, times = design.observations, design.row_weights, design.row_counts
        n, X = len(rows.y), coordinates.x.work(rows.X)
        Z, codes, offset = np.zeros((n, 0)), np.zeros(n, dtype=np.intp), np.zeros(n) + design.offset
        n_levels = 1
        if integrated >= 0:
            group = design.groups[integrated]
            Z, codes = coordinates.zs[integrated].work(group.Z), group.codes
            offset = offset + Z @ u_mean[design.group_columns[integrated]]
            n_levels = group.grouping.n_levels
        whole = cls(
            y=np.asarray(rows.y, dtype=float),
            trials=np.asarray(design.trials, dtype=float),
            weight=np.ones(n),
            unit=np.ones(n) if unit is None else np.asarray(unit, dtype=float),
            offset=offset,
            X=X,
            Z=Z,
            others=_others(design, coordinates, integrated, u_mean),
            start=np.array([0, n]),
            counts=np.ones(1),
            level_of=np.zeros(1, dtype=np.intp),
            place=np.arange(n),
            times=np.ones(n) if times is None else np.asarray(times, dtype=float),
        )
        return whole._merged(codes, n_levels, whole.times)

    def take(self, rows: np.ndarray) -> LevelRows:
        """The N rows at these positions; start, counts and places are left as they are."""
        names = ("y", "trials", "weight", "unit", "offset", "X", "Z")
        values = {name: np.ascontiguousarray(getattr(self, name)[rows]) for name in names}
        return replace(self, **values, others=self.others.take(rows))

    def regrouped(self, rows: np.ndarray, codes: np.ndarray, n_levels: int) -> LevelRows:
        """Some of the design's rows, by position and each as often as it stands there, in new levels."""
        return self.take(self.place[rows])._merged(codes, n_levels, self.times[rows])

    def _merged(self, codes: np.ndarray, n_levels: int, times: np.ndarray) -> LevelRows:
        """Rows alike counted once within their level, levels alike once; ``times`` as the rows."""
        content = _labels(self._columns())
        # Successes first: the compiled loops then run over rows whose products have one sign.
        order = np.lexsort((content, 2 * self.y <= self.trials, codes))
        level, kind = codes[order], content[order]
        is_new = np.ones(len(order), dtype=bool)
        is_new[1:] = (level[1:] != level[:-1]) | (kind[1:] != kind[:-1])
        merged = np.cumsum(is_new) - 1
        first = order[is_new]
        alike = np.bincount(merged, times[order], minlength=len(first))
        edges = np.searchsorted(codes[first], np.arange(n_levels + 1))
        signature = np.column_stack([content[first], alike])
        level_of, chosen, counts = _alike(signature, edges)
        sizes = np.diff(edges)
        start = np.concatenate([[0], np.cumsum(sizes[chosen])])
        kept = np.concatenate([np.arange(edges[j], edges[j + 1]) for j in chosen])
        within = merged - edges[level]
        place = np.empty(len(order), dtype=np.intp)
        place[order] = start[level_of[level]] + within
        rows = self.take(first[kept])
        return replace(
            rows,
            weight=rows.unit * alike[kept],
            start=start,
            counts=counts.astype(float),
            level_of=level_of,
            place=place,
            times=times,
        )

    def _columns(self) -> list[np.ndarray]:
        """All that a row's density depends on, but its level."""
        parts = (self.X, self.Z, self.others.columns, self.others.places)
        wide = [part[:, c] for part in parts for c in range(part.shape[1])]
        return [self.y, self.trials, self.unit, self.offset, *wide]


def _others(
    design: Design, coordinates: Coordinates, integrated: int, u_mean: np.ndarray
) -> OtherFactors:
    """Columns of the factors that are not integrated."""
    columns, places, blocks, mean, first = [], [], [], [], 0
    for f, group in enumerate(design.groups):
        if f == integrated:
            continue
        own, q = design.group_columns[f], len(group.terms)
        columns.append(coordinates.zs[f].work(group.Z))
        places.append(first + group.codes[:, None] * q + np.arange(q))
        blocks.append(np.arange(own.start, own.stop))
        mean.append(np.tile(u_mean[own], group.grouping.n_levels))
        first += group.grouping.n_levels * q
    n = len(design.observations.y)
    return OtherFactors(
        np.hstack([np.zeros((n, 0)), *columns]),
        np.hstack([np.zeros((n, 0), dtype=np.intp), *places]),
        np.concatenate([np.zeros(0, dtype=np.intp), *blocks]),
        first,
        np.concatenate([np.zeros(0), *mean]),
    )


def _labels(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Shape (n,): numbers that are equal where all columns are."""
    key, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        codes, different = pd.factorize(column)
        if size * len(different) > _LARGEST_KEY:
            key, known = pd.factorize(key)
            size = len(known)
        key, size = key * len(different) + codes, size * len(different)
    return np.asarray(pd.factorize(key)[0])


def _alike(signature: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of the levels that differ each is, the first of each kind, and how many are alike."""
    known: dict[bytes, int] = {}
    level_of = np.empty(len(edges) - 1, dtype=np.intp)
    chosen: list[int] = []
    for level in range(len(edges) - 1):
        found = signature[edges[level] : edges[level + 1]].tobytes()
        if found not in known:
            known[found] = len(chosen)
            chosen.append(level)
        level_of[level] = known[found]
    return level_of, np.array(chosen, dtype=np.intp), np.bincount(level_of)
