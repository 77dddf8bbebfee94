"""A column of the rows of a model, with the type of its cells determined once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpool.core.errors import DataError
from hierpool.core.labels import plain_labels, shown_labels

ColumnKind = Literal["number", "boolean", "text", "category", "time", "mixed"]
_OBJECTS: dict[str, ColumnKind] = {
    "string": "text",
    "boolean": "boolean",
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "empty": "number",
    "datetime": "time",
    "datetime64": "time",
    "date": "time",
    "timedelta": "time",
    "period": "time",
}


def kind_of(column: pd.Series[Any]) -> ColumnKind:
    """What a column holds, whatever its dtype."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_complex_dtype(dtype):
        return "mixed"
    if pd.api.types.is_numeric_dtype(dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        return "time"
    if pd.api.types.is_timedelta64_dtype(dtype):
        return "time"
    return _OBJECTS.get(pd.api.types.infer_dtype(column, skipna=True), "mixed")


@dataclass(frozen=True, eq=False)
class TableColumn:
    """A column of complete rows.

    Attributes
    ----------
    name
        The user's name of it.
    cells
        Its cells, with the user's index; none is missing.
    """

    name: str
    cells: pd.Series[Any]

    @cached_property
    def kind(self) -> ColumnKind:
        """What it holds, whatever its dtype."""
        return kind_of(self.cells)

    @cached_property
    def distinct(self) -> tuple[np.ndarray, pd.Index[Any]]:
        """Position of each row's cell among the different ones, and these as they come.

        All cells where Python takes different ones for equal, as it does ``1`` and ``True``.
        """
        dtype = self.cells.dtype
        is_plain = isinstance(dtype, np.dtype) and dtype.kind in "iufbMm"
        if is_plain or self.kind == "text":
            codes, different = pd.factorize(self.cells)
            return codes, pd.Index(different)
        return np.arange(len(self.cells)), pd.Index(self.cells)

    @cached_property
    def levels(self) -> tuple[pd.Index[Any], np.ndarray]:
        """Labels in category order, else sorted, and the position of each row's label."""
        cells = self.cells
        if isinstance(cells.dtype, pd.CategoricalDtype):
            used = cells.cat.remove_unused_categories()
            labels = shown_labels(plain_labels(used.cat.categories), self.name)
            return labels, used.cat.codes.to_numpy(dtype=np.intp)
        places, different = self.distinct
        labels = shown_labels(plain_labels(different), self.name)
        try:
            codes, levels = pd.factorize(labels, sort=True)
        except TypeError as error:
            raise DataError(
                f"the values of column {self.name!r} cannot be compared and sorted ({error}). "
                f"Convert them to text: data[{self.name!r}] = data[{self.name!r}].astype(str)",
                "unusable-levels",
            ) from error
        return levels, codes[places].astype(np.intp)
