"""Tables as cells: what the page shows, and what the download holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import pandas as pd

from hierpool.core.text import number as four_digits

MISSING = "–"
ROW = "row"  # what an index without a name is called
_WHOLE = ("ess_bulk", "ess_tail")
_USUAL = {
    **dict.fromkeys(_WHOLE, 0),
    "r_hat": 3,
    "elpd": 1,
    "elpd_diff": 1,
    "se": None,
    "dse": 1,
    "p": None,
    "weight": 2,
    "pooling_factor": 3,
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry.

    Attributes
    ----------
    shown
        As on the page, rounded.
    exact
        As in the download where that differs: a float with every digit. None where it does not.
    """

    shown: str
    exact: str | None = None


@dataclass(frozen=True)
class Cells:
    """A table ready to be written.

    Attributes
    ----------
    columns
        Names, those of the index first.
    is_number
        Whether each column holds numbers.
    n_keys
        How many of the columns name the row.
    rows
        One list of cells a row.
    """

    columns: Sequence[str]
    is_number: Sequence[bool]
    n_keys: int
    rows: Sequence[Sequence[Cell]]


def read_cells(frame: pd.DataFrame, digits: Mapping[str, int]) -> Cells:
    """The cells of a table; an index becomes columns, but for one that only counts the rows."""
    index = frame.index
    is_plain = isinstance(index, pd.RangeIndex) and index.name is None
    names = [ROW if name is None else str(name) for name in index.names]
    keys = pd.DataFrame({k: index.get_level_values(k) for k in range(index.nlevels)})
    keys = keys.set_axis(names, axis=1).iloc[:, : 0 if is_plain else None]
    flat = pd.concat([keys, frame.reset_index(drop=True)], axis=1)
    n_keys = keys.shape[1]
    columns = [str(c) for c in flat.columns]
    series = [flat.iloc[:, k] for k in range(len(columns))]
    written = [
        [_cell(value, _decimals(name, digits)) for value in column.tolist()]
        for name, column in zip(columns, series, strict=True)
    ]
    is_number = [_holds_numbers(column) for column in series]
    return Cells(columns, is_number, n_keys, list(zip(*written, strict=True)))


def _holds_numbers(column: pd.Series[Any]) -> bool:
    is_numeric = pd.api.types.is_numeric_dtype(column.dtype)
    return bool(is_numeric and not pd.api.types.is_bool_dtype(column.dtype))


def _decimals(name: str, digits: Mapping[str, int]) -> int | None:
    return digits[name] if name in digits else _USUAL.get(name)


def _cell(value: Any, decimals: int | None) -> Cell:
    if value is None or value is pd.NA or value is pd.NaT:
        return Cell(MISSING, "")
    if isinstance(value, bool) or not isinstance(value, Real):
        text = str(value)
        return Cell(text, None if text == text.strip() else text)
    if isinstance(value, Integral):
        return Cell(str(int(value)))
    if math.isnan(value):
        return Cell(MISSING, "")
    shown = f"{float(value):.{decimals}f}" if decimals is not None else four_digits(float(value))
    return Cell(shown.replace("-", "−"), repr(float(value)))
