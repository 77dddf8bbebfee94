"""Rows with missing values: left out, counted, and named in every error that follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from hierpool.core.errors import DataError
from hierpool.core.findings import Finding
from hierpool.core.row_labels import rows_named
from hierpool.formula.table_column import kind_of

_MISSING = (
    "Results apply to all rows only if whether a value is missing does not depend on the value "
    "itself. Find out why values are missing."
)
_MERGED = 0.5  # share of empty cells from which a column may come from merged cells


def drop_missing(
    frame: pd.DataFrame, factors: Iterable[str]
) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Rows without a missing value, and one Finding that counts the others for each column."""
    missing = frame.isna()
    incomplete = missing.any(axis=1).to_numpy()
    if not incomplete.any():
        return frame, ()
    groups = set(factors)
    is_often = missing.mean() >= _MERGED
    for name in frame.columns[is_often.to_numpy()]:
        column = frame[name]
        if name in groups or kind_of(column) in ("text", "category"):
            _check_not_merged(column, str(name), name in groups)
    counts = ", ".join(
        f"{count} in {'group ' if name in groups else ''}{name!r}"
        for name, count in missing.sum().items()
        if count
    )
    dropped = int(incomplete.sum())
    if dropped == len(frame):
        raise DataError(
            f"no rows are left: each of the {dropped} rows has a missing value ({counts}). Fill "
            "them in, or leave the emptiest column out of the formula",
            "no-rows",
        )
    text = (
        f"{dropped} of {len(frame)} rows left out because of missing values: {counts} "
        f"({rows_named(frame.index[incomplete])})"
    )
    return frame.loc[~incomplete], (Finding("rows-dropped", "warning", text, _MISSING),)


def _check_not_merged(column: pd.Series[Any], name: str, is_group: bool) -> None:
    """Raise where labels stand in the first row of each block only, as from merged cells."""
    there = column.notna().to_numpy()
    if not there[0] or there.sum() < 2:
        return
    followed = ~there[1:][there[:-1]]  # whether an empty cell comes after each label
    if not (followed.all() or (column[there].is_unique and followed.mean() > _MERGED)):
        return
    said = (
        f"{int((~there).sum())} of {len(column)} rows have no "
        f"{'group ' if is_group else ''}{name!r}: only the first row of each block has one, as "
        "with merged cells in a spreadsheet. "
    )
    raise DataError(
        f"{said}Fill it down: data[{name!r}] = data[{name!r}].ffill(). If it is truly missing in "
        f"these rows, leave them out yourself: data = data.dropna(subset=[{name!r}])",
        "merged-cells",
        f"{said}In the spreadsheet, unmerge the cells, copy each label down to the rows of its "
        "block, and save the file again. If it is truly missing in these rows, delete them",
    )


def rows_used(n: int, notices: Iterable[Finding]) -> str:
    """The rows of a model as its head says them: ``"118 of 120 rows"`` where some were left out."""
    for notice in notices:
        if notice.code == "rows-dropped" and (read := re.match(r"\d+ of (\d+) rows", notice.text)):
            return f"{n} of {read[1]} rows"
    return f"{n} rows"


@contextmanager
def with_notices(notices: Iterable[Finding]) -> Iterator[None]:
    """Say in each DataError raised inside which rows had been left out before."""
    try:
        yield
    except DataError as error:
        for notice in notices:
            if notice.code == "rows-dropped":
                error.add(f"Note: {notice.text}")
        raise


def missing_notice(n_read: int, n: int, missing: Mapping[str, int]) -> tuple[Finding, ...]:
    """The Finding of ``drop_missing`` where rows are only counted."""
    if n_read == n:
        return ()
    counts = ", ".join(f"{count:,} in {name!r}" for name, count in missing.items() if count)
    text = f"{n_read - n:,} of {n_read:,} rows left out because of missing values: {counts}"
    return (Finding("rows-dropped", "warning", text, _MISSING),)
