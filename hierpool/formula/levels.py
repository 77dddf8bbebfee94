"""Levels of factors and categories, in the rows of a model and in new rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.design import Grouping
from hierpool.core.errors import DataError, listed
from hierpool.core.label_matching import Place, as_known
from hierpool.core.labels import plain_labels
from hierpool.core.schema import FactorLevels, FactorPart
from hierpool.formula.table_column import TableColumn


def make_grouping(factor: str, columns: Sequence[TableColumn]) -> Grouping:
    """Rows to levels of a factor of one or several columns; an error where there is one level only."""
    is_one = len(columns) == 1
    grouping = _grouping(factor, *columns[0].levels) if is_one else _crossed(factor, columns)
    if grouping.n_levels < 2:
        raise DataError(
            f"the grouping factor {factor!r} has only one group, {listed(grouping.levels)}, so "
            "there is nothing to compare or to pool. Choose another column, or none",
            "one-level",
        )
    return grouping


def _crossed(factor: str, columns: Sequence[TableColumn]) -> Grouping:
    """``a:b``: each pair that has rows is a level, called ``"a1:b1"``."""
    parts = [column.levels for column in columns]
    sizes = [len(levels) for levels, _ in parts]
    if math.prod(sizes) > np.iinfo(np.intp).max:
        raise DataError(
            f"{factor!r} combines too many levels ({listed(sizes)}). Combine them in one column "
            "first",
            "unusable-levels",
        )
    flat = np.ravel_multi_index([codes for _, codes in parts], sizes)
    present, codes = np.unique(flat, return_inverse=True)
    places = np.unravel_index(present, sizes)
    made_of = tuple(
        FactorPart(column.name, labels, at)
        for column, (labels, _), at in zip(columns, parts, places, strict=True)
    )
    names = _joined([p.labels[p.places] for p in made_of])
    _check_distinct(names, factor)
    return _grouping(factor, names, codes.astype(np.intp), made_of)


def _grouping(
    factor: str,
    levels: pd.Index[Any],
    codes: np.ndarray,
    parts: tuple[FactorPart, ...] = (),
) -> Grouping:
    n_rows = np.bincount(codes, minlength=len(levels))
    return Grouping(FactorLevels(factor, levels, n_rows, parts), codes)


def _joined(parts: Sequence[pd.Index[Any]]) -> pd.Index[Any]:
    words = [map(str, labels) for labels in parts]
    return pd.Index([":".join(pair) for pair in zip(*words, strict=True)], dtype=object)


def _check_distinct(names: pd.Index[Any], factor: str) -> None:
    if not names.is_unique:
        raise DataError(
            f"two groups of {factor!r} would both be called {names[names.duplicated()][0]!r}. "
            "Remove the colons from the labels",
            "unusable-levels",
        )


def read_levels(
    grouping: FactorLevels, columns: Sequence[str], frame: pd.DataFrame, is_new: bool
) -> tuple[np.ndarray, pd.Index[Any]]:
    """Position of each new row's level in the model, -1 where it has none, and its label.

    Parameters
    ----------
    grouping
        Levels of the model.
    columns
        The columns that it is made of.
    frame
        The new rows.
    is_new
        Whether every level is another one than those of the model, whatever it is called.
    """
    known = [p.labels for p in grouping.parts] or [grouping.levels]
    labels = [plain_labels(pd.Index(frame[c])) for c in columns]
    if is_new:
        return np.full(len(frame), -1), labels[0] if len(labels) == 1 else _joined(labels)
    labels = [
        as_known(levels, given, Place(name, frame.index))
        for levels, given, name in zip(known, labels, columns, strict=True)
    ]
    places = [own.get_indexer(given) for own, given in zip(known, labels, strict=True)]
    if len(columns) == 1:
        return places[0].astype(np.intp), labels[0]
    codes, names = grouping.codes_of(places), _joined(labels)
    new = names[codes < 0]
    if len(new):
        pairs = pd.MultiIndex.from_arrays([given[codes < 0] for given in labels])
        _check_distinct(grouping.levels.append(new[~pairs.duplicated()]), grouping.factor)
    return codes, names
