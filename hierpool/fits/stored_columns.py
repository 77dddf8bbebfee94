"""A column of the user's as numbers and the few words that it takes to make it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.errors import DataError, MissingPackageError
from hierpool.fits.stored_document import check_column
from hierpool.fits.stored_values import decode, encode


def pack_checked(column: pd.Series[Any], what: str) -> tuple[dict[str, Any], np.ndarray]:
    """A column packed, and seen to come back from that."""
    about, values = pack(column, what)
    try:
        check_column(about_as_stored := json.loads(json.dumps(encode(about))))
        back = unpack(decode(about_as_stored), values)
        if str(back.dtype) == str(column.dtype) and isinstance(column.dtype, pd.StringDtype):
            back = back.astype(column.dtype)  # whether python or pyarrow is behind it is no matter
        same = back.dtype == column.dtype and back.equals(column.reset_index(drop=True))
    except Exception:  # of pandas or pyarrow, which cannot make such a column from its parts
        same = False
    if not same:
        raise DataError(
            f"{what} is of type {column.dtype}, which a file cannot keep unchanged. Convert it to "
            "numbers or text, .astype(str), before fitting.",
            "label-not-storable",
        )
    return about, values


def pack(column: pd.Series[Any], what: str) -> tuple[dict[str, Any], np.ndarray]:
    """A column as numbers, and what is needed to read them: see ``unpack``."""
    dtype = column.dtype
    about: dict[str, Any] = {"kind": "numbers", "dtype": str(dtype)}
    if isinstance(dtype, pd.CategoricalDtype):
        inner, values = pack(pd.Series(dtype.categories), what)
        about |= {"kind": "categories", "ordered": bool(dtype.ordered)}
        about |= {"inner": inner, "values": values.tolist()}
        return about, column.cat.codes.to_numpy(dtype=np.int64)
    if isinstance(dtype, pd.PeriodDtype):
        about["kind"] = "periods"
        return about, np.asarray(pd.PeriodIndex(column).asi8)
    if dtype.kind in ("m", "M") and not isinstance(dtype, pd.ArrowDtype):
        return about, np.asarray(pd.Index(column).asi8)
    if pd.api.types.is_bool_dtype(dtype) and not column.isna().any():
        return about, column.to_numpy(dtype=np.int8)
    if pd.api.types.is_numeric_dtype(dtype) and "decimal" not in str(dtype):
        if isinstance(dtype, np.dtype) and dtype.itemsize > 2:
            return about, column.to_numpy()
        if not column.isna().any():
            whole = pd.api.types.is_integer_dtype(dtype)
            return about, np.asarray(column, dtype=np.int64 if whole else np.float64)
    codes, labels = pd.factorize(column.astype(object))
    about |= {"kind": "labels", "labels": [_label(v, what) for v in labels]}
    return about, codes.astype(np.int64)


def unpack(about: Mapping[str, Any], values: np.ndarray) -> pd.Series[Any]:
    """The column that ``pack`` packed."""
    kind, dtype = about["kind"], about["dtype"]
    if kind == "categories":
        kinds = {type(v) for v in about["values"]}
        stored = np.array(about["values"], dtype=object if str in kinds else None)
        categories = pd.Index(unpack(about["inner"], stored))
        chosen = pd.Categorical.from_codes(values, categories, ordered=about["ordered"])
        return pd.Series(chosen)
    if kind == "periods":
        return pd.Series(pd.arrays.PeriodArray(values, pd.PeriodDtype(dtype)))
    if kind == "labels":
        labels = np.empty(len(about["labels"]) + 1, dtype=object)
        labels[:-1] = about["labels"]
        labels[-1] = None  # code -1
        return pd.Series(labels[values], dtype=object).astype(_dtype(dtype))
    return pd.Series(values).astype(_dtype(dtype))


def _dtype(name: str) -> Any:
    """A type by its name; of pyarrow's also those with parameters, whose names pandas cannot read."""
    if not name.endswith("[pyarrow]"):
        return name
    if find_spec("pyarrow") is None:
        raise MissingPackageError(
            f"the saved fit has a column of type {name}, which needs the package pyarrow. "
            'Type: pip install "hierpool[parquet]"',
            "missing-package",
        )
    decimal = re.fullmatch(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)\[pyarrow\]", name)
    coded = re.fullmatch(
        r"dictionary<values=(\w+), indices=(\w+), ordered=([01])>\[pyarrow\]", name
    )
    if decimal is None and coded is None and name != "string[pyarrow]":
        return name
    import pyarrow as pa

    if name == "string[pyarrow]":  # to pandas the name of another type, which is called "string"
        made = pa.string()
    elif decimal is not None:
        made = getattr(pa, f"decimal{decimal[1]}")(int(decimal[2]), int(decimal[3]))
    else:
        index, values = pa.type_for_alias(coded[2]), pa.type_for_alias(coded[1])  # type: ignore[index]
        made = pa.dictionary(index, values, ordered=coded[3] == "1")  # type: ignore[index]
    return pd.ArrowDtype(made)


def _label(value: Any, what: str) -> Any:
    try:
        encode(value)
    except TypeError as error:
        raise DataError(
            f"{what} contains a {type(value).__name__}, {value!r}, which a file cannot keep. "
            "Convert it to text, .astype(str), before fitting.",
            "label-not-storable",
        ) from error
    return value
