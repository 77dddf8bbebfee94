"""Reading the tables that the pictures are made from, whoever made them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.errors import ArgumentError, DataError, listed, nearest
from hierpool.plots.sheet.style import SMALL
from hierpool.plots.sheet.texts import elided_apart

KEYS = ["factor", "level", "term"]
MOST_TERMS = 6


@dataclass(frozen=True)
class LevelTable:
    """A table over the levels of one factor.

    Attributes
    ----------
    factor
        Its name.
    terms
        The terms to show, in the order of the table.
    left_out
        How many terms the table has besides.
    values
        Index (level, term).
    """

    factor: str
    terms: tuple[str, ...]
    left_out: int
    values: pd.DataFrame

    def wide(self, column: str) -> pd.DataFrame:
        """One column as levels x terms."""
        order = list(dict.fromkeys(self.values.index.get_level_values("level")))
        wide = self.values[column].unstack("term")
        return wide.reindex(index=order, columns=list(self.terms))

    @property
    def note(self) -> str:
        """A sentence on terms that are not shown, empty where all are."""
        if not self.left_out:
            return ""
        total = self.left_out + len(self.terms)
        return f"{len(self.terms)} of {total} terms; choose others with terms=."


def read_levels(
    table: pd.DataFrame,
    needed: Iterable[str],
    factor: str | None = None,
    terms: str | Sequence[str] | None = None,
    most: int = MOST_TERMS,
) -> LevelTable:
    """One factor and some terms of a table over (factor, level, term), as index or as columns.

    Parameters
    ----------
    table
        The table.
    needed
        Columns that it must have.
    factor
        Which factor; default the first.
    terms
        Which terms; default all, at most ``most``.
    most
        As many terms as the picture has room for.

    Raises
    ------
    DataError
        A column is missing.
    ArgumentError
        An unknown factor or term.
    """
    flat = table.reset_index() if list(table.index.names) == KEYS else table
    missing = [c for c in (*KEYS, *needed) if c not in flat.columns]
    if missing or not len(flat):
        what = f"no column {listed(missing)}" if missing else "no rows"
        raise DataError(
            f"this table has {what}, but {listed(flat.columns, most=20)}. Pass a table over (factor, "
            "level, term) made by hierpool",
            "unknown-column",
        )
    factors = list(dict.fromkeys(flat["factor"]))
    chosen = _one_of(factor, factors, "factor") if factor is not None else factors[0]
    flat = flat[flat["factor"] == chosen]
    every = list(dict.fromkeys(flat["term"]))
    wanted = [terms] if isinstance(terms, str) else every[:most] if terms is None else list(terms)
    shown = tuple(_one_of(t, every, "term") for t in wanted)
    values = flat[flat["term"].isin(shown)].set_index(["level", "term"]).drop(columns="factor")
    left_out = len(every) - len(shown) if terms is None else 0
    return LevelTable(str(chosen), shown, left_out, values)


def _one_of(name: Any, choices: Sequence[Any], what: str) -> Any:
    if name not in choices:
        raise ArgumentError(f"no {what} {name!r}: {nearest(name, choices)}", "unknown-choice")
    return name


@dataclass(frozen=True)
class Interval:
    """Bounds of an interval, and what it is.

    Attributes
    ----------
    low, high
        Names of the columns.
    kind
        ``"eti"``, ``"hdi"``, ...
    probability
        Of the interval.
    """

    low: str
    high: str
    kind: str
    probability: float

    @property
    def words(self) -> str:
        """For a legend: ``"95 % interval"``; one of another kind than equal tails is named."""
        kind = "" if self.kind in ("eti", "ci") else f" ({self.kind.upper()})"
        return f"{100 * self.probability:g} % interval{kind}"


def find_interval(columns: Iterable[str]) -> Interval | None:
    """The interval whose bounds are among the columns, named as ArviZ does, e.g. ``eti95_lb``."""
    names = [str(c) for c in columns]
    for name in names:
        match = re.fullmatch(r"(?:.*_)?([a-z]+)([\d.]+)_lb", name)
        high = f"{name.removesuffix('_lb')}_ub"
        if match and high in names:
            return Interval(name, high, match[1], float(match[2]) / 100)
    return None


def some(names: Iterable[object], most: int = 8) -> str:
    """Names with commas for a caption, cut after ``most`` with the number left out."""
    every = elided_apart(list(names), 1.8, SMALL)
    if len(every) <= most:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {len(every) - most} more"


def rounded(value: float) -> str:
    """Two digits, as a reader would write it, with a true minus sign."""
    return np.format_float_positional(
        value, precision=2, unique=False, fractional=False, trim="-"
    ).replace("-", "−")
