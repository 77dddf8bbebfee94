"""Made-up tables: a response, and columns of every type that pandas, polars and arrow have.

``tables()`` draws a small table in one of four containers, with what it needs to be described.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

Maker = Callable[[np.random.Generator, int], Any]

NAMES = [
    *("x", "z", "age", "Days", "g", "site", "my col", "class", "yield", "C", "I", "np", "log"),
    *("µg", "µg", "ｘ", "hp2c", "_column_0_", "a:b", "a/b", "mg/dl", "obs", "chain", "beta"),
    *(
        "é",
        "é",
        "sd_g",
        "1st",
        "tab\tname",
        "red[bold]",
        "\x1b[31m",
        "=1+1",
        "`tick`",
        "back\\slash",
    ),
]
DAY = pd.Timestamp("2024-01-01")


def _codes(rng: np.random.Generator, n: int, k: int = 4) -> np.ndarray:
    return rng.integers(0, k, n)


def _objects(values: Any) -> pd.Series:
    out = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        out[place] = value
    return pd.Series(out)


def _some_missing(rng: np.random.Generator, column: pd.Series) -> pd.Series:
    return column.where(rng.uniform(size=len(column)) > 0.15)


def _text(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.array(["a", "b", "c", "d "])[_codes(rng, n)]


NUMBERS: dict[str, Maker] = {
    "float64": lambda r, n: pd.Series(r.normal(size=n)),
    "float32": lambda r, n: pd.Series(r.normal(size=n).astype(np.float32)),
    "float16": lambda r, n: pd.Series(r.normal(size=n).astype(np.float16)),
    "big-endian": lambda r, n: pd.Series(r.normal(size=n).astype(">f8")),
    "integers": lambda r, n: pd.Series(r.integers(0, 9, n)),
    "int8": lambda r, n: pd.Series(r.integers(-5, 5, n).astype(np.int8)),
    "uint64": lambda r, n: pd.Series(r.integers(0, 2**63, n).astype(np.uint64)),
    "far from zero": lambda r, n: pd.Series(1e9 + r.normal(size=n)),
    "large": lambda r, n: pd.Series(1e40 * r.normal(size=n)),
    "huge": lambda r, n: pd.Series(1e200 * r.normal(size=n)),
    "tiny": lambda r, n: pd.Series(1e-200 * r.normal(size=n)),
    "constant": lambda r, n: pd.Series(np.full(n, 3.0)),
    "zeros": lambda r, n: pd.Series(np.zeros(n)),
    "with infinite": lambda r, n: pd.Series(np.where(r.uniform(size=n) < 0.1, np.inf, 1.0)),
    "with missing": lambda r, n: _some_missing(r, pd.Series(r.normal(size=n))),
    "all missing": lambda r, n: pd.Series(np.full(n, np.nan)),
    "Int64": lambda r, n: _some_missing(r, pd.Series(r.integers(0, 5, n)).astype("Int64")),
    "Float32": lambda r, n: _some_missing(r, pd.Series(r.normal(size=n)).astype("Float32")),
    "decimal": lambda r, n: _objects([Decimal(int(v)) / 4 for v in r.integers(0, 9, n)]),
    "arrow decimal": lambda r, n: _arrow(pa.array([Decimal(int(v)) for v in _codes(r, n)])),
    "arrow double": lambda r, n: _arrow(pa.array(r.normal(size=n))),
    "sparse": lambda r, n: pd.Series(pd.arrays.SparseArray(np.float64(_codes(r, n)))),
    "complex": lambda r, n: pd.Series(r.normal(size=n) + 1j),
    "numbers as text": lambda r, n: pd.Series(r.integers(0, 90, n).astype(str)),
    "decimal commas": lambda r, n: pd.Series(
        [f"{v:.2f}".replace(".", ",") for v in r.normal(size=n)]
    ),
}
LABELS: dict[str, Maker] = {
    "text": lambda r, n: pd.Series(_text(r, n)),
    "objects": lambda r, n: pd.Series(_text(r, n), dtype=object),
    "string": lambda r, n: _some_missing(r, pd.Series(_text(r, n), dtype="string")),
    "category": lambda r, n: pd.Series(pd.Categorical(_text(r, n))),
    "ordered": lambda r, n: pd.Series(
        pd.Categorical(_text(r, n), categories=["d ", "c", "b", "a", "e"], ordered=True)
    ),
    "integers": lambda r, n: pd.Series(300 + _codes(r, n)),
    "floats of ids": lambda r, n: _some_missing(r, pd.Series(300.0 + _codes(r, n))),
    "bool": lambda r, n: pd.Series(r.uniform(size=n) < 0.5),
    "boolean": lambda r, n: _some_missing(r, pd.Series(r.uniform(size=n) < 0.5).astype("boolean")),
    "one level": lambda r, n: pd.Series(np.full(n, "only")),
    "every row": lambda r, n: pd.Series([f"id{k}" for k in range(n)]),
    "alike": lambda r, n: pd.Series(np.array(["s1", "S1", "s1 ", "s2"])[_codes(r, n)]),
    "mixed": lambda r, n: _objects([[1, "a", 2.5, None][k] for k in _codes(r, n)]),
    "controls": lambda r, n: pd.Series(np.array(["\x1b[2J", "b\n", "‮c", "=cmd"])[_codes(r, n)]),
    "dates": lambda r, n: pd.Series(DAY + pd.to_timedelta(_codes(r, n), unit="D")),
    "zoned": lambda r, n: pd.Series(
        DAY.tz_localize("Europe/Berlin") + pd.to_timedelta(_codes(r, n), unit="D")
    ),
    "spans": lambda r, n: pd.Series(pd.to_timedelta(_codes(r, n), unit="h")),
    "periods": lambda r, n: pd.Series(
        pd.PeriodIndex(DAY + pd.to_timedelta(31 * _codes(r, n), unit="D"), freq="M")
    ),
    "intervals": lambda r, n: pd.Series(pd.cut(r.uniform(size=n), [0, 0.3, 0.6, 1.0])),
    "days": lambda r, n: _objects([datetime.date(2024, 1, 1 + int(k)) for k in _codes(r, n)]),
    "clock": lambda r, n: _objects([datetime.time(int(k)) for k in _codes(r, n)]),
    "lists": lambda r, n: _objects([[int(k)] for k in _codes(r, n)]),
    "tuples": lambda r, n: _objects([(int(k), "a") for k in _codes(r, n)]),
    "bytes": lambda r, n: _objects([b"ab"[: int(k)] for k in _codes(r, n, 3)]),
    "arrow text": lambda r, n: _arrow(pa.array(_text(r, n).tolist())),
    "arrow dictionary": lambda r, n: _arrow(pa.array(_text(r, n).tolist()).dictionary_encode()),
    "arrow dates": lambda r, n: _arrow(pa.array(_codes(r, n).astype("int32"), pa.date32())),
    "arrow times": lambda r, n: _arrow(pa.array(_codes(r, n), pa.timestamp("us", "UTC"))),
    "arrow lists": lambda r, n: _arrow(pa.array([[int(k)] for k in _codes(r, n)])),
    "arrow structs": lambda r, n: _arrow(pa.array([{"a": int(k)} for k in _codes(r, n)])),
}
POLARS: dict[str, Maker] = {
    "polars Enum": lambda r, n: pl.Series(
        _text(r, n).tolist(), dtype=pl.Enum(["d ", "c", "b", "a"])
    ),
    "polars Categorical": lambda r, n: pl.Series(_text(r, n).tolist(), dtype=pl.Categorical),
    "polars Date": lambda r, n: pl.Series(_codes(r, n)).cast(pl.Int32).cast(pl.Date),
    "polars List": lambda r, n: pl.Series([[int(k)] for k in _codes(r, n)]),
    "polars Struct": lambda r, n: pl.Series([{"a": int(k)} for k in _codes(r, n)]),
    "polars Null": lambda r, n: pl.Series([None] * n),
    "polars Int128": lambda r, n: pl.Series(_codes(r, n)).cast(pl.Int128),
    "polars Duration": lambda r, n: pl.Series(_codes(r, n)).cast(pl.Duration("ms")),
    "polars Boolean": lambda r, n: pl.Series(
        [None, True, False, True][int(k)] for k in _codes(r, n)
    ),
}
INDICES: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "range": lambda r, n: pd.RangeIndex(n),
    "shuffled": lambda r, n: pd.Index(r.permutation(n)),
    "text": lambda r, n: pd.Index([f"row {k}" for k in range(n)]),
    "repeated": lambda r, n: pd.Index(_codes(r, n)),
    "dates": lambda r, n: pd.date_range(DAY, periods=n),
    "two levels": lambda r, n: pd.MultiIndex.from_arrays([np.arange(n) // 2, np.arange(n) % 2]),
}


def _arrow(array: Any) -> pd.Series:
    return pd.Series(array, dtype=pd.ArrowDtype(array.type))


@dataclass(frozen=True)
class Made:
    """A table, the names of its columns with their types, and how it was put together."""

    table: Any
    kinds: dict[str, str]
    container: str
    index: str

    def __repr__(self) -> str:
        return f"Made({self.kinds}, {self.container}, {self.index} index, {_size(self.table)} rows)"


def _size(table: Any) -> int:
    return len(next(iter(table.values()))) if isinstance(table, dict) else len(table)


@st.composite
def tables(draw: st.DrawFn) -> Made:
    """A table of 3 to 40 rows: ``y``, a tame ``g`` or none, and up to four columns of any type."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from([3, 8, 24, 24, 24, 40]))
    container = draw(st.sampled_from(["pandas", "pandas", "pandas", "polars", "arrow", "dict"]))
    g = _codes(rng, n, draw(st.sampled_from([2, 5, 8])))
    columns: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    if draw(st.integers(0, 5)):
        columns["g"], kinds["g"] = pd.Series(g), "tame group"
        columns["x"], kinds["x"] = pd.Series(rng.normal(size=n)), "tame number"
    makers = {**NUMBERS, **LABELS, **(POLARS if container == "polars" else {})}
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(NAMES))
        kind = draw(st.sampled_from(sorted(makers)))
        columns[name], kinds[name] = makers[kind](rng, n), kind
    if draw(st.integers(0, 9)):
        y = rng.normal(size=n) + 2 * rng.normal(size=9)[g]
        columns["y"], kinds["y"] = pd.Series(y), "response"
    else:
        kind = draw(st.sampled_from(sorted(makers)))
        columns["y"], kinds["y"] = makers[kind](rng, n), kind
    index = draw(st.sampled_from(sorted(INDICES))) if container == "pandas" else "range"
    return Made(_contained(columns, container, INDICES[index](rng, n)), kinds, container, index)


def _contained(columns: dict[str, Any], container: str, index: Any) -> Any:
    if container == "polars":
        made = []
        for name, column in columns.items():
            try:
                own = column if isinstance(column, pl.Series) else pl.from_pandas(column)
            except Exception:  # what polars itself cannot hold
                own = pl.Series([str(v) for v in column])
            made.append(own.alias(name))
        return pl.DataFrame(made)
    frame = pd.DataFrame({k: v.to_numpy() if v.dtype == object else v for k, v in columns.items()})
    if container == "arrow":
        try:
            return pa.Table.from_pandas(frame, preserve_index=False)
        except Exception:  # what arrow itself cannot hold
            return frame
    if container == "dict":
        return {name: list(frame[name]) for name in frame}
    return frame.set_axis(index, axis=0)
