"""Coefficients of ESTIMATE and CONTRAST, which belong to SAS's columns, as weights of a model's terms.

SAS has a column for each level of a CLASS variable, more than can be told apart. A combination L of
its coefficients b means something where L b is the same for every b with the same fitted values: where
L = T X for the rows X of the data. The model here has columns of its own, Z = X A, so that b = A c
reproduces the fitted values Z c, and the weights of c are L A.

References
----------
SAS/STAT User's Guide, The GLM Procedure, Parameterization of PROC GLM Models: CLASS variables of an
effect stand in the order of the CLASS statement, the last one changes fastest, those in parentheses
slowest, and only combinations that occur have a column.
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
    A
        Shape (m, p): the model's own columns are X A.
    rows
        Shape (r, m): a basis of the rows of X.
    """

    X: np.ndarray
    places: dict[tuple[str, ...], slice]
    labels: dict[tuple[str, ...], list[str]]
    A: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(
        cls, effects: Sequence[Effect], has_intercept: bool, table: SasTable, design: Design
    ) -> SasColumns:
        """The columns of the intercept, if there is one, and of the effects in order."""
        n = design.n
        blocks, labels = [], {}
        every = [Effect(()), *effects] if has_intercept else list(effects)
        for effect in every:
            block, labels[effect.key] = _columns(effect, table, design)
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
        return cls(X, places, labels, A, Vt[:rank] * scale)

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


def _columns(effect: Effect, table: SasTable, design: Design) -> tuple[np.ndarray, list[str]]:
    """The columns of one effect, and what each stands for."""
    n = design.n
    number = np.ones(n)
    for column in effect.columns:
        if not table.is_class(column):
            number = number * _values(column, table, design)
    classes = in_class_order(effect, table)
    if not classes:
        return number[:, None], [str(effect)]
    codes = np.stack([_codes(c, table, design) for c in classes], axis=1)
    cells, of_row = np.unique(codes, axis=0, return_inverse=True)
    block = np.zeros((n, len(cells)))
    block[np.arange(n), of_row.ravel()] = number
    named = [
        " ".join(str(table.classes[c].labels[k]) for c, k in zip(classes, cell, strict=True))
        for cell in cells
    ]
    return block, named


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
