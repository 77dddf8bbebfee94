"""Columns of rare types as columns of common ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

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
