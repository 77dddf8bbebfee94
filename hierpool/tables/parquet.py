"""Frames to a Parquet file, one after the other, whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd

from hierpool.core.errors import DataError, MissingPackageError
from hierpool.core.writing import storage_errors


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
