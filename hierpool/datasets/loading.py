"""A bundled table as a pandas DataFrame."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from hierpool.datasets.catalogue import Column, about

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = {"real": "float64", "integer": "int64"}


def load(name: str) -> pd.DataFrame:
    """A bundled table, its grouping factors and other categories as pandas categories.

    Levels are text and stand in the order in which R has them, so that treatment coding takes the
    same reference level; none is marked as ordered, so that it is treatment coding. What the
    columns mean, and where the numbers come from, is in :func:`about`.

    Parameters
    ----------
    name
        One of :func:`names`, in any case.

    Returns
    -------
    DataFrame
        A new one at each call. ``attrs["hierpool"]`` holds ``name``, ``label`` (for titles) and
        ``simulated``.

    Examples
    --------
    >>> load("orthodont")["Sex"].cat.categories.tolist()
    ['Male', 'Female']
    >>> load("boars").attrs["hierpool"]["label"]
    'boars (simulated)'
    """
    import pandas as pd  # a list of names or a page about a table does not wait for it

    page = about(name)
    with (files(__package__) / "tables" / page.file).open("rb") as file:
        table = pd.read_csv(
            file,
            compression="gzip" if page.file.endswith(".gz") else None,
            dtype={column.name: NUMBERS.get(column.type, "str") for column in page.columns},
            keep_default_na=False,
        )
    for column in page.columns:
        if column.type == "category":
            levels = _levels(column, table[column.name])
            table[column.name] = pd.Categorical(table[column.name], categories=levels)
    table.attrs["hierpool"] = {"name": page.name, "label": page.label, "simulated": page.simulated}
    return table


def _levels(column: Column, values: pd.Series[str]) -> list[str]:
    """Levels in order: those of the catalogue, or whole numbers upwards."""
    return list(column.levels) or sorted(values.unique(), key=int)
