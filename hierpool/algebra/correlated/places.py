"""Where the sparse system of other factors has its entries, as compiled loops read it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Places(NamedTuple):
    """Index arrays of the compiled loops. Columns count in the order of elimination.

    Attributes
    ----------
    start, indices
        L by columns, below its diagonal: shapes (d + 1,) and (entries,).
    row_start, row_column, row_entry
        The same by rows: column and position of each entry.
    column, entry
        Shapes (designs, m) and (designs, m, m): where the columns that a design reaches stand, d in
        the place of none, and where their products are added: entries of L, then the diagonal, then
        one that nobody reads.
    scale
        Shape (m, 3): of each of these columns the first of its level, the first of its factor in
        Lambda, and how many it has.
    """

    start: np.ndarray
    indices: np.ndarray
    row_start: np.ndarray
    row_column: np.ndarray
    row_entry: np.ndarray
    column: np.ndarray
    entry: np.ndarray
    scale: np.ndarray
