"""Columns of rare types as columns of common ones."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.errors import DataError

_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair
_RARE = (  # types of arrow that pandas holds and cannot compute with
    *("list", "large_list", "fixed_size_list", "struct", "map", "run_end_encoded", "halffloat"),
    *("string_view", "binary_view", "month_day_nano_interval"),
)


def plain_type(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column in a type that all of pandas can take; itself nearly always."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iufcMm":
        if dtype == np.float16:
            return column.astype(np.float64)
        return column if dtype.isnative else column.astype(dtype.newbyteorder("="))
    if isinstance(dtype, pd.ArrowDtype) and str(dtype.pyarrow_dtype).startswith(_RARE):
        return objects(list(column), column.index)
    return column


def objects(cells: Any, index: pd.Index[Any] | None = None) -> pd.Series[Any]:
    """Any Python objects as a column, of a better type where they share one."""
    made = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        made[place] = cell
    return pd.Series(made, index=index, dtype=object).infer_objects()


def check_text(column: pd.Series[Any], name: str) -> None:
    """Raise where a cell holds half of a surrogate pair, which pandas' own text type cannot hold."""
    of_categories = isinstance(column.dtype, pd.CategoricalDtype)
    cells = column.cat.categories if of_categories else column
    if cells.dtype != object and not isinstance(cells.dtype, pd.StringDtype):
        return
    if isinstance(cells.dtype, pd.StringDtype) and cells.dtype.storage == "pyarrow":
        return
    every = cells.to_numpy(dtype=object)
    try:
        if all(map(str.isascii, every)):
            return
    except TypeError:  # a cell that is missing, or no text
        pass
    words = (cell for cell in every if isinstance(cell, str))
    first = next((word for word in words if not word.isascii() and _HALF.search(word)), None)
    if first is not None:
        raise DataError(
            f"column {name!r} contains {first!r}, with half of a character that no file can "
            "store. The data were probably read in the wrong encoding. Read them again in the "
            f"right one, or replace such characters by question marks: data[{name!r}] = "
            f"data[{name!r}].str.encode('utf-8', 'replace').str.decode('utf-8')",
            "broken-text",
        )
