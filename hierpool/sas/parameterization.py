"""Coefficients of ESTIMATE and CONTRAST, which belong to SAS's columns, as weights of a model's terms.

SAS has a column for each level of a CLASS variable, more than can be told apart. A combination L of
its coefficients b means something where L b is the same for every b with the same fitted values: where
L = T X for the rows X of the data. The model here has columns of its own, Z = X A, so that b = A c
reproduces the fitted values Z c, and the weights of c are L A.

References
----------
SAS/STAT User's Guide, The GLM Procedure, Parameterization of PROC GLM Models: CLASS variables of an
effect stand in the order of the CLASS statement, the last one changes fastest, those in parentheses
slowest, and only combinations that occur have a column. Specification of ESTIMATE Expressions:
coefficients of an effect that a statement leaves out are made from those of the effects in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hierpool.core.design import Design
from hierpool.formula.table_column import TableColumn
from hierpool.sas.effects import Effect
from hierpool.sas.table import SasTable

_ESTIMABLE = 1e-6  # how far L may lie outside the rows, relative to its largest coefficient
_RANK = 1e-10


@dataclass(frozen=True)
class Cells:
    """The columns of one effect.

    Attributes
    ----------
    classes
        Its CLASS variables, the slowest first.
    numbers
        Its other columns, in alphabetical order.
    levels
        Shape (cells, CLASS variables): the level of each, by number, of each column of the effect.
    """

    classes: tuple[str, ...]
    numbers: tuple[str, ...]
    levels: np.ndarray

    def lies_in(self, other: Cells) -> bool:
        """Whether the other effect contains this one: more CLASS variables, the same numbers."""
        return self.numbers == other.numbers and set(self.classes) < set(other.classes)

    def margins(self, of: Cells) -> np.ndarray:
        """Shape (cells, cells of the other): the cells of another effect that lie in each of these."""
        at = [of.classes.index(c) for c in self.classes]
        return (self.levels[:, None] == of.levels[None, :, at]).all(axis=2).astype(float)


@dataclass(frozen=True)
class SasColumns:
    """The columns of one MODEL statement in the rows of a design.

    Attributes
    ----------
    X
        Shape (n, m).
    places
        Effect -> its columns.
    labels
        Effect -> the combination of levels of each of its columns.
    cells
        Effect -> its columns by their levels.
    A
        Shape (m, p): the model's own columns are X A.
    rows
        Shape (r, m): a basis of the rows of X.
    """

    X: np.ndarray
    places: dict[tuple[str, ...], slice]
    labels: dict[tuple[str, ...], list[str]]
    cells: dict[tuple[str, ...], Cells]
    A: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(
        cls, effects: Sequence[Effect], has_intercept: bool, table: SasTable, design: Design
    ) -> SasColumns:
        """The columns of the intercept, if there is one, and of the effects in order."""
        n = design.n
        blocks, labels, cells = [], {}, {}
        every = [Effect(()), *effects] if has_intercept else list(effects)
        for effect in every:
            block, cells[effect.key], _ = effect_columns(effect, table, design)
            labels[effect.key] = _labels(effect, cells[effect.key], table)
            blocks.append(block)
        stops = np.cumsum([b.shape[1] for b in blocks])
        starts = [0, *stops[:-1]]
        places = {
            e.key: slice(int(a), int(b)) for e, a, b in zip(every, starts, stops, strict=True)
        }
        X = np.hstack(blocks) if blocks else np.zeros((n, 0))
        scale = np.maximum(np.abs(X).max(axis=0), np.finfo(float).tiny)
        _, s, Vt = np.linalg.svd(np.linalg.qr(X / scale, mode="r"))
        rank = int((s > _RANK * max(s[0], 1)).sum()) if len(s) else 0
        A = np.linalg.lstsq(X / scale, design.X, rcond=_RANK)[0] / scale[:, None]
        return cls(X, places, labels, cells, A, Vt[:rank] * scale)

    def with_containing(self, L: np.ndarray, given: Iterable[tuple[str, ...]]) -> np.ndarray:
        """L (m,) with coefficients of the effects that contain the given ones, and are not given.

        As in SAS, they are spread evenly over the levels in question: ``a 1 -1`` takes the means over
        b of ``a*b``. Of effects that lie in one another the largest counts.
        """
        out, own = L.copy(), list(given)
        for key, cells in self.cells.items():
            inner = [k for k in own if self.cells[k].lies_in(cells)]
            if key in own:
                continue
            for k in inner:
                if any(self.cells[k].lies_in(self.cells[other]) for other in inner):
                    continue
                margins = self.cells[k].margins(cells)
                share = L[self.places[k]] / np.maximum(margins.sum(axis=1), 1)
                out[self.places[key]] += share @ margins
        return out

    def is_estimable(self, L: np.ndarray) -> bool:
        """Whether L b is the same for all b with the same fitted values."""
        found = np.linalg.lstsq(self.rows.T, L, rcond=None)[0]
        return bool(np.abs(self.rows.T @ found - L).max() < _ESTIMABLE * max(np.abs(L).max(), 1))

    def weights(self, L: np.ndarray) -> np.ndarray:
        """Shape (p,): the weights of the model's terms, with the digits that least squares leaves."""
        weights = L @ self.A
        size = max(float(np.abs(weights).max()), np.finfo(float).tiny)
        kept = np.where(np.abs(weights) < 1e-10 * size, 0.0, weights)
        return np.array([float(f"{w:.12g}") for w in kept])


def effect_columns(
    effect: Effect, table: SasTable, design: Design
) -> tuple[np.ndarray, Cells, np.ndarray]:
    """The columns of one effect (n, m), what each stands for, and which one each row has (n,)."""
    n = design.n
    number = np.ones(n)
    numbers = sorted(c for c in effect.columns if not table.is_class(c))
    for column in numbers:
        number = number * _values(column, table, design)
    classes = in_class_order(effect, table)
    codes = np.stack([np.zeros(n, dtype=int), *(_codes(c, table, design) for c in classes)], axis=1)
    levels, of_row = np.unique(codes, axis=0, return_inverse=True)
    block = np.zeros((n, len(levels)))
    block[np.arange(n), of_row.ravel()] = number
    return block, Cells(tuple(classes), tuple(numbers), levels[:, 1:]), of_row.ravel()


def _labels(effect: Effect, cells: Cells, table: SasTable) -> list[str]:
    """The levels of each column; the effect itself where it has no CLASS variable."""
    if not cells.classes:
        return [str(effect)]
    return [
        " ".join(str(table.classes[c].labels[k]) for c, k in zip(cells.classes, cell, strict=True))
        for cell in cells.levels
    ]


def in_class_order(effect: Effect, table: SasTable) -> list[str]:
    """CLASS variables of an effect, the slowest first."""

    def ordered(columns: Iterable[str]) -> list[str]:
        return [c for c in table.classes if c in set(columns)]

    return [*ordered(effect.nested), *ordered(set(effect.crossed) - set(effect.nested))]


def _codes(column: str, table: SasTable, design: Design) -> np.ndarray:
    levels, codes = TableColumn(column, design.observations.frame[column]).levels
    order = table.classes[column].labels.get_indexer(levels)
    return order[codes]


def _values(column: str, table: SasTable, design: Design) -> np.ndarray:
    """Numbers of a column; of one that a DATA step made, those of its term."""
    if column in table.expressions:
        return design.X[:, design.terms.index(table.expressions[column])]
    return pd.to_numeric(design.observations.frame[column]).to_numpy(dtype=float)
