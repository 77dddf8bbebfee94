"""Where a table is: a file, a database or a lazy frame, opened and asked without reading its rows."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from hierpool.core.errors import (
    ArgumentError,
    DataError,
    HierpoolError,
    MissingPackageError,
    listed,
)
from hierpool.formula.tables import read_frame

_READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".tsv": "read_csv", ".gz": "read_csv"}
_INSTALL = "pip install 'hierpool[duckdb]'"
_NO_LIMIT = 2**62  # rows, of a limit that limits nothing


def is_path(data: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a table is given as a path, a pattern of paths or a folder."""
    return isinstance(data, (str, os.PathLike))


def paths_of(data: Any) -> list[str]:
    """The paths that a table is given as, one or a list of them; empty where it is something else."""
    each = data if isinstance(data, (list, tuple)) else [data]
    return [os.fspath(path) for path in each] if all(map(is_path, each)) else []


def is_lazy(data: Any) -> bool:
    """Whether a table is not in memory: a path, a lazy frame, a relation or table of a database."""
    if paths_of(data) or _is_dataset(data):
        return True
    if isinstance(data, (pd.DataFrame, Mapping)):
        return False
    found = nw.from_native(data, pass_through=True)
    return isinstance(found, nw.LazyFrame)


def open_table(data: Any) -> nw.LazyFrame[Any]:
    """A table as something that can be asked for sums.

    Raises
    ------
    DataError
        Nothing is there, or it is no table.
    MissingPackageError
        DuckDB, which opens files, is not installed.
    """
    if paths := paths_of(data):
        return nw.from_native(_opened(paths))
    if _is_dataset(data) or isinstance(data, (pd.DataFrame, Mapping)):
        return nw.from_native(_from_memory(data))
    if isinstance(data, nw.LazyFrame):
        return data
    try:
        found = nw.from_native(data)
    except TypeError as error:
        raise DataError(
            f"the table must be a path or a list of paths, or a table of DuckDB, polars, ibis, Spark, "
            f"pyarrow or pandas; this is a {type(data).__name__}",
            "not-a-table",
        ) from error
    return found if isinstance(found, nw.LazyFrame) else found.lazy()


def columns_of(table: nw.LazyFrame[Any]) -> list[str]:
    """Names of the columns of a table.

    Raises
    ------
    DataError
        The engine cannot read them.
    """
    try:
        return list(table.collect_schema().names())
    except Exception as error:  # each engine raises its own
        raise unreadable(error) from error


def fetch(table: nw.LazyFrame[Any]) -> pd.DataFrame:
    """What a question to a table gives, in memory.

    Raises
    ------
    DataError
        The engine failed; its own first line is told.
    """
    try:
        return read_frame(table.collect().to_native())
    except Exception as error:  # each engine raises its own
        raise unreadable(error) from error


def unreadable(error: Exception) -> DataError:
    """The error for a table that its engine could not read, with the engine's own first line."""
    return DataError(
        f"the table could not be read: {_first_line(error)}. Check that it is complete and can be "
        "opened where it is, and ask again",
        "table-unreadable",
    )


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0].rstrip(".")


def n_combinations(table: nw.LazyFrame[Any]) -> int:
    """Number of different rows of a table, within a few per cent where the engine can estimate it."""
    if table.implementation is nw.Implementation.DUCKDB:
        # Exact distinct rows would take more memory than the sums that follow.
        row = ", ".join(f'"{name}"' for name in table.collect_schema().names())
        asked = table.to_native().aggregate(f"approx_count_distinct(({row})) AS n_")
        return int(fetch(nw.from_native(asked)).iloc[0]["n_"])
    return int(fetch(table.unique().select(n_=nw.len())).iloc[0]["n_"])


def _is_dataset(data: Any) -> bool:
    kind = type(data)
    return kind.__module__.startswith("pyarrow") and kind.__name__.endswith("Dataset")


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingPackageError(
            f"files and datasets are opened with DuckDB, which is not installed: {_INSTALL}. Or "
            "pass a lazy table of your own, such as polars.scan_parquet(path)",
            "duckdb-missing",
        ) from error
    return duckdb.connect()


def _from_memory(data: Any) -> Any:
    """Rows in memory, asked where they are."""
    own = (
        data
        if _is_dataset(data)
        else pd.DataFrame(dict(data))
        if isinstance(data, Mapping)
        else data
    )
    return _duckdb().from_arrow(own) if _is_dataset(own) else _duckdb().from_df(own)


def _opened(paths: Sequence[str]) -> Any:
    """A relation of DuckDB over the files of paths, patterns or folders."""
    files, kinds = zip(*map(_files, paths), strict=True)
    readers = {_READERS[kind] for kind in kinds}
    if len(readers) > 1:
        raise ArgumentError(
            f"{listed(paths)} are files of several kinds ({listed(dict.fromkeys(kinds))}). Pass those "
            "of one kind",
            "unknown-kind-of-table",
        )
    connection = _duckdb()
    try:
        return getattr(connection, readers.pop())(list(files) if len(files) > 1 else files[0])
    except Exception as error:
        raise DataError(
            f"{listed(paths)} cannot be opened: {_first_line(error)}. Check the file: it may be cut "
            "short, or not be what its name says",
            "table-unreadable",
        ) from error


def _files(path: str) -> tuple[str, str]:
    """The pattern to open, and the kind of its files by their ending."""
    place = Path(path)
    if place.is_dir():
        kinds = [k for k in (".parquet", ".csv", ".tsv") if next(place.rglob(f"*{k}"), None)]
        if len(kinds) != 1:
            raise DataError(
                f"the folder {path} holds {'files of several kinds' if kinds else 'no tables'} "
                f"({listed(kinds) if kinds else 'no .parquet, .csv or .tsv'}). Name the files: "
                f"{path.rstrip('/')}/*.parquet",
                "no-such-table",
            )
        return str(place / "**" / f"*{kinds[0]}"), kinds[0]
    kind = place.suffix.lower()
    if kind not in _READERS:
        raise ArgumentError(
            f"{path!r} is no .parquet, .csv or .tsv file. Other tables: open them yourself, and pass "
            "the lazy table or the DataFrame",
            "unknown-kind-of-table",
        )
    is_pattern = any(mark in path for mark in "*?[")
    if not is_pattern and not place.exists():
        raise DataError(f"there is no file {path}. Check the path", "no-such-table")
    if is_pattern and "://" not in path and not glob.glob(path, recursive=True):
        raise DataError(
            f"no file matches {path}, seen from {Path.cwd()}. Check the pattern", "no-such-table"
        )
    return path, kind


def is_file_of(table: str | os.PathLike[str], file: Path) -> bool:
    """Whether a file is, or when it is written will be, one of those that a path stands for."""
    pattern, _ = _files(os.fspath(table))
    if "://" in pattern:
        return False
    pattern = os.path.realpath(pattern).replace(f"**{os.sep}", "*")  # * of fnmatch passes folders
    return fnmatch.fnmatch(str(file.resolve()), pattern)


def batches(table: nw.LazyFrame[Any], size: int) -> Iterator[pd.DataFrame]:
    """The rows of a table, about so many at a time.

    Raises
    ------
    DataError
        The engine failed on the way.
    """
    yield from map(_as_frame, _native_batches(table, size))


def rows_at(table: nw.LazyFrame[Any], positions: np.ndarray, size: int) -> pd.DataFrame:
    """Rows of a table by their sorted positions, as it is read from its beginning to the last of them.

    Raises
    ------
    DataError
        The engine failed on the way.
    """
    found, start, last = [], 0, int(positions[-1])
    for batch in _native_batches(table, size):
        n = len(batch)
        own = positions[slice(*np.searchsorted(positions, [start, start + n]))] - start
        if len(own):
            is_frame = isinstance(batch, pd.DataFrame)
            taken = batch.iloc[own] if is_frame else _taken(batch, own)
            found.append(_as_frame(taken))
        start += n
        if start > last:
            break
    return pd.concat(found, ignore_index=True)


def _taken(batch: Any, which: np.ndarray) -> Any:
    """Some rows of what an engine gives: a batch of Arrow or a frame of polars."""
    return (
        batch.take(which)
        if hasattr(batch, "to_pandas") and hasattr(batch, "num_rows")
        else batch[which]
    )


def worked_once(table: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """The same, with columns that a database works out once and not wherever they are used.

    Postgres writes the expressions of a subquery out in the query around it, where sums of sums
    grow beyond all bounds; not so behind a limit. DuckDB 2 does the same where sums of a join are
    taken: of three models that takes seconds, however few the rows are.
    """
    is_database = table.implementation in (nw.Implementation.DUCKDB, nw.Implementation.IBIS)
    return table.head(_NO_LIMIT) if is_database else table


def _native_batches(table: nw.LazyFrame[Any], size: int) -> Iterator[Any]:
    """Batches of Arrow, or frames of polars or pandas."""
    native, engine = table.to_native(), table.implementation
    try:
        if engine is nw.Implementation.DUCKDB:
            yield from native.to_arrow_reader(size)
        elif engine is nw.Implementation.POLARS:
            yield from native.collect_batches(chunk_size=size)
        elif engine is nw.Implementation.IBIS:
            yield from _batches_of_ibis(native, size)
        elif engine.is_spark_like():
            columns, rows = table.collect_schema().names(), native.toLocalIterator()
            while part := list(itertools.islice(rows, size)):
                yield pd.DataFrame.from_records([tuple(row) for row in part], columns=columns)
        else:
            yield read_frame(table.collect().to_native())
    except HierpoolError:
        raise
    except Exception as error:  # each engine raises its own
        raise DataError(
            f"the table could not be read to its end: {_first_line(error)}. Check that it is "
            "complete and can be opened where it is, and ask again",
            "table-unreadable",
        ) from error


def _batches_of_ibis(native: Any, size: int) -> Any:
    """Record batches; from DuckDB itself where that is below, whose reader ibis 12 does not find."""
    backend = native.get_backend()
    if backend.name == "duckdb":
        return backend.con.sql(str(backend.compile(native))).to_arrow_reader(size)
    return native.to_pyarrow_batches(chunk_size=size)


def _as_frame(batch: Any) -> pd.DataFrame:
    if isinstance(batch, pd.DataFrame):
        return batch
    if type(batch).__module__.startswith("pyarrow"):
        import pyarrow as pa

        return read_frame(pa.Table.from_batches([batch]))
    return read_frame(batch)
