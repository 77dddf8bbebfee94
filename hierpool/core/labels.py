"""Labels of groups and categories, and their type: whole numbers, text, dates."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpool.core.errors import DataError

Kind = Literal[
    "whole numbers",
    "numbers",
    "True or False",
    "text",
    "dates without a time zone",
    "dates with a time zone",
    "durations",
    "periods",
    "intervals",
    "values of several kinds",
]
EXACT = 2.0**53  # from here on floats do not tell all whole numbers apart
_INDICES: tuple[tuple[type, Kind], ...] = (
    (pd.TimedeltaIndex, "durations"),
    (pd.PeriodIndex, "periods"),
    (pd.IntervalIndex, "intervals"),
)
_OBJECTS: dict[str, Kind] = {
    "string": "text",
    "integer": "whole numbers",
    "boolean": "True or False",
}


def plain_labels(labels: pd.Index[Any]) -> pd.Index[Any]:
    """Labels as plain Python text, numpy numbers or Timestamps, whatever dtype carried them."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        labels = pd.Index(labels.astype(labels.dtype.categories.dtype))
    if isinstance(labels.dtype, pd.ArrowDtype):
        labels = pd.Index(labels.to_numpy(dtype=object), dtype=object)
    if isinstance(labels, pd.MultiIndex):  # pandas makes one of tuples
        return pd.Index(list(labels), dtype=object, tupleize_cols=False)
    if labels.dtype == object:
        labels = _from_objects(labels)
    dtype = labels.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return pd.Index(labels.to_numpy(dtype=bool))
    if pd.api.types.is_integer_dtype(dtype):
        is_large = bool(len(labels)) and labels.max() > np.iinfo(np.int64).max
        return pd.Index(labels.to_numpy(dtype=object if is_large else np.int64))
    if pd.api.types.is_float_dtype(dtype):
        return pd.Index(labels.to_numpy(dtype=np.float64))
    if pd.api.types.is_string_dtype(dtype):
        return pd.Index(labels.to_numpy(dtype=object), dtype=object)
    unnamed: pd.Index[Any] = labels.rename(None)
    return unnamed


def _from_objects(labels: pd.Index[Any]) -> pd.Index[Any]:
    holds = pd.api.types.infer_dtype(labels, skipna=False)
    if holds == "date":
        return pd.DatetimeIndex(labels)
    if holds == "decimal":
        finite = all(v.is_finite() for v in labels)
        whole = [finite and v == v.to_integral_value() for v in labels]
        return pd.Index([int(v) if w else float(v) for v, w in zip(labels, whole, strict=True)])
    return labels.infer_objects()


def kind_of(labels: pd.Index[Any]) -> Kind:
    """The kind of plain labels; numbers without decimals are whole, also as floats."""
    if isinstance(labels, pd.DatetimeIndex):
        return "dates without a time zone" if labels.tz is None else "dates with a time zone"
    for index, kind in _INDICES:
        if isinstance(labels, index):
            return kind
    if labels.dtype.kind in "iu":
        return "whole numbers"
    if labels.dtype.kind == "b":
        return "True or False"
    if labels.dtype.kind == "f":
        values = labels.to_numpy()
        is_whole = np.isfinite(values).all() and (values == np.floor(values)).all()
        return "whole numbers" if is_whole else "numbers"
    return _OBJECTS.get(pd.api.types.infer_dtype(labels, skipna=False), "values of several kinds")


def shown_labels(labels: pd.Index[Any], column: str) -> pd.Index[Any]:
    """Plain labels as a model keeps them: whole numbers as integers.

    One missing number makes a column of integers one of floats; its labels stay 308 and 309.

    Raises
    ------
    DataError
        Floats so large that different labels may have become one; True beside 1.
    """
    kind = kind_of(labels)
    if kind == "whole numbers" and labels.dtype.kind == "f":
        if np.abs(labels.to_numpy()).max() >= EXACT:
            raise DataError(
                f"the labels in column {column!r} are decimal numbers of up to "
                f"{np.abs(labels.to_numpy()).max():.3g}. These keep only 15 digits, so different "
                "labels may have become the same. Read the column as text, pandas.read_csv(..., "
                f"dtype={{{column!r}: str}})",
                "unusable-levels",
            )
        return labels.astype(np.int64)
    if kind == "values of several kinds":
        check_no_true_beside_one(labels, column)
    return labels


def as_shown(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    """A column of labels as they are shown: 308 also where a missing cell made the column floats."""
    labels = shown_labels(plain_labels(pd.Index(column)), name)
    return pd.Series(labels, index=column.index)


def check_no_true_beside_one(labels: pd.Index[Any], column: str) -> None:
    """Raise where labels are both numbers and True or False, which are equal to 1 and 0."""
    numbers = [v for v in labels if isinstance(v, (bool, np.bool_, int, float, np.number))]
    if len({isinstance(v, (bool, np.bool_)) for v in numbers}) > 1:
        raise DataError(
            f"column {column!r} mixes True or False with numbers, and True equals 1. Convert them "
            f"to text: data[{column!r}] = data[{column!r}].astype(str)",
            "unusable-levels",
        )
