"""Frames to a Parquet file, one after the other, whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from hierpool.core.errors import DataError, MissingPackageError, StorageError
from hierpool.core.writing import check_file, storage_errors
from hierpool.tables.engines import is_file_of, paths_of


def check_target(path: str | os.PathLike[str], table: Any, column: str) -> Path:
    """The file, if it can be written; asked before the work.

    Raises
    ------
    StorageError
        It would be a part of the table, or exists and has no column of that name: then it is no earlier
        result, and is not replaced.
    """
    target = check_file(path)
    if target.suffix.lower() != ".parquet":
        raise StorageError(
            f"the result is written in Parquet, and {target.name!r} ends otherwise. Write "
            f"{str(target.with_suffix('.parquet'))!r}",
            "in-the-way",
        )
    for part in paths_of(table):
        if is_file_of(part, target):
            raise StorageError(
                f"{str(target)!r} would be a part of the table {part!r}. Write into another folder",
                "in-the-way",
            )
    if target.exists() and column not in _column_names(target):
        raise StorageError(
            f"{str(target)!r} exists and has no column {column!r}, so it is no earlier result and is not "
            "replaced. Give another name",
            "in-the-way",
        )
    return target


def _column_names(path: Path) -> list[str]:
    """Columns of a Parquet file; none of another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return []


def write_frames(target: Path, frames: Iterator[pd.DataFrame]) -> int:
    """Write frames with equal columns to one file; gives the number of rows.

    Raises
    ------
    DataError
        There is no frame.
    StorageError
        The file cannot be written; nothing is left of it.
    MissingPackageError
        pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPackageError(
            "Parquet is written with pyarrow, which is not installed: pip install 'hierpool[duckdb]'",
            "duckdb-missing",
        ) from error
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    writer, n = None, 0
    try:
        for frame in frames:
            part = pa.Table.from_pandas(frame, preserve_index=False)
            with storage_errors(target):
                if writer is None:
                    writer = pq.ParquetWriter(partial, part.schema)
                writer.write_table(part.cast(writer.schema))
            n += len(frame)
        if writer is None:
            raise DataError("the table has no complete rows, so nothing was written", "no-rows")
        with storage_errors(target):
            writer.close()
            os.replace(partial, target)
    finally:
        if writer is not None and writer.is_open:
            with suppress(OSError):  # told already, by what failed before
                writer.close()
        partial.unlink(missing_ok=True)
    return n
