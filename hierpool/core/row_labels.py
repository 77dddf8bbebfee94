"""Words for some rows of a table, by the labels of its index."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from hierpool.core.errors import listed

OF_CELLS = "cells of rows that are alike"  # name of an index whose labels are nobody's rows
OF_FILE = "rows of a file"  # name of an index that counts the rows of a file, from 0


def rows_named(labels: Iterable[object]) -> str:
    """Words for some rows: ``"rows 5, 17, 23 and 9 more"``; those of cells have no labels.

    A file has no index that one could look up, so its rows come with how they are counted.
    """
    name = labels.name if isinstance(labels, pd.Index) else None
    if name == OF_CELLS:
        return "some rows"
    every = list(labels)
    named = f"{'row' if len(every) == 1 else 'rows'} {listed(every)}"
    return f"{named}, counted from 0 under the header" if name == OF_FILE else named
