"""A random sample of the rows of a table that is not in memory: of whole groups where it can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from hierpool.core.cells import as_text
from hierpool.core.design import Design
from hierpool.core.errors import DataError
from hierpool.core.group_nouns import nouns
from hierpool.formula.build import CellRows, rows_of
from hierpool.tables.collect import Question
from hierpool.tables.engines import fetch, rows_at
from hierpool.tables.joined import Held
from hierpool.tables.plan import Plan

MOST_ROWS = 10_000  # of a sample: residual checks of it take seconds
FEWEST_GROUPS = 20  # else rows are drawn, from all groups
_BATCH = 100_000  # rows in memory at a time
_SIZE = "n_rows_of_the_group_"


@dataclass(frozen=True)
class RowSample:
    """Some rows of a table.

    Attributes
    ----------
    frame
        The columns of a model, complete rows.
    words
        What it is a sample of: "a random sample of 400 of 100,000 boars (9,983 of 2,500,000 rows)".
    is_whole
        Whether it is all of them.
    """

    frame: pd.DataFrame
    words: str
    is_whole: bool = False


def sample_rows(
    design: Design, table: nw.LazyFrame[Any], seed: int, most: int = MOST_ROWS
) -> RowSample:
    """A sample of the rows that the sums of a design were taken of, the same for one seed.

    Parameters
    ----------
    design
        Made of sums.
    table
        The table whose sums they are.
    seed
        Of the draw.
    most
        Rows, about.

    Raises
    ------
    DataError
        The table has another number of rows, or cannot be read.
    """
    rows = rows_of(design)
    assert isinstance(rows, CellRows)
    schema = table.collect_schema()
    complete = Question(table, Plan.of(rows.cells.spec, schema), {}).is_complete
    asked = table.filter(complete).select(*Plan.of(design.spec, schema).used)
    rng, n = np.random.default_rng(seed), design.n
    whole = _whole_groups(design, asked, rng, most) if design.groupings and n > most else None
    if whole is not None:
        return whole
    _check_size(design, int(fetch(asked.select(n_=nw.len())).iloc[0]["n_"]))
    size = min(n, most)
    frame = rows_at(asked, np.sort(rng.choice(n, size, replace=False)), _BATCH)
    words = f"a random sample of {size:,} of {n:,} rows" if size < n else f"all {n:,} rows"
    return RowSample(frame, words, size == n)


def _whole_groups(
    design: Design, asked: nw.LazyFrame[Any], rng: np.random.Generator, most: int
) -> RowSample | None:
    """Whole groups of the factor that has most; None where too few of them are as many rows."""
    factor = max(design.groupings, key=lambda f: design.groupings[f].n_levels)
    columns = list(design.encoder.factor_columns[factor])
    held = Held.of(asked, asked.group_by(columns).agg(nw.len().alias(_SIZE)))
    sizes = held.frame[_SIZE].to_numpy(dtype=np.int64)
    _check_size(design, int(sizes.sum()))
    labels = held.frame[columns].apply(as_text)
    order = labels.sort_values(columns).index.to_numpy()[rng.permutation(len(labels))]
    n_groups = int(np.searchsorted(np.cumsum(sizes[order]), most, side="right"))
    if n_groups < FEWEST_GROUPS:
        return None
    found = fetch(held.beside(np.sort(order[:n_groups]), columns, {}))
    frame = found.sort_values(list(found.columns), ignore_index=True)
    words = (
        f"a random sample of {n_groups:,} of {len(labels):,} {nouns(factor)} "
        f"({len(frame):,} of {design.n:,} rows)"
    )
    return RowSample(frame, words)


def _check_size(design: Design, n: int) -> None:
    if n != design.n:
        raise DataError(
            f"the table has {n:,} complete rows, and the model was made of {design.n:,}. Pass the "
            "table whose sums the model has; of several tables that were added, all of them as one",
            "other-table",
        )
