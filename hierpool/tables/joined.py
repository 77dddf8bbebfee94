"""What a question to a table gave, kept so that its engine can join it to the rows of the table again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from hierpool.core.errors import UnsupportedModelError
from hierpool.formula.tables import read_frame
from hierpool.tables.engines import unreadable


@dataclass(frozen=True)
class Held:
    """What a question to a table gave, as its engine has it: keys that can be joined to it again.

    Attributes
    ----------
    table
        The table that was asked.
    answer
        A table of Arrow, or a frame of polars.
    """

    table: nw.LazyFrame[Any]
    answer: Any

    @classmethod
    def of(cls, table: nw.LazyFrame[Any], asked: nw.LazyFrame[Any]) -> Held:
        """The answer to ``asked``, a question to a table.

        Raises
        ------
        DataError
            The engine failed.
        """
        is_polars = table.implementation is nw.Implementation.POLARS
        try:
            answer = asked.collect() if is_polars else asked.collect("pyarrow")
            return cls(table, answer.to_native())
        except Exception as error:  # each engine raises its own
            raise unreadable(error) from error

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The answer in memory."""
        return read_frame(self.answer)

    def beside(
        self, rows: np.ndarray, keys: Sequence[str], columns: Mapping[str, np.ndarray]
    ) -> nw.LazyFrame[Any]:
        """The rows of the table that have some of the keys, with columns of numbers beside them.

        Parameters
        ----------
        rows
            Positions in the answer.
        keys
            Columns by which the rows are found.
        columns
            Name -> shape (len(rows),).
        """
        engine, native = self.table.implementation, self.table.to_native()
        if engine is nw.Implementation.POLARS:
            own: Any = self.answer.select(keys)[rows].hstack(_polars_columns(columns)).lazy()
        else:
            arrow = self.answer.select(list(keys)).take(rows)
            for name, values in columns.items():
                arrow = arrow.append_column(name, [values])
            own = _into_engine(arrow, engine, native)
        return self.table.join(nw.from_native(own), on=list(keys), how="inner")


def _polars_columns(columns: Mapping[str, np.ndarray]) -> Any:
    import polars

    return [polars.Series(name, values) for name, values in columns.items()]


def _into_engine(arrow: Any, engine: nw.Implementation, native: Any) -> Any:
    """A table of Arrow as one of the engine that has another table."""
    if engine is nw.Implementation.DUCKDB:
        return native.query("rows_", "SELECT * FROM arrow")  # found by its name, on that connection
    if engine is nw.Implementation.IBIS:
        import ibis  # type: ignore[import-untyped]

        backend = native.get_backend()
        if backend.name == "duckdb":  # a table of ibis' own is not seen where batches are read
            backend.con.register(name := f"hierpool_{secrets.token_hex(4)}", arrow)
            return backend.table(name)
        return ibis.memtable(arrow)
    if engine.is_spark_like():
        return native.sparkSession.createDataFrame(arrow.to_pandas())
    raise UnsupportedModelError(
        f"numbers cannot be joined to a table of {engine.value}. Write it to Parquet and pass the path",
        "unknown-kind-of-table",
    )
