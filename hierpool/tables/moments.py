"""Moments: the sums of a table that a model needs, to keep, to add, and to fit without the table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.cells import Cells
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError
from hierpool.core.families.family import Family
from hierpool.core.families.table import resolve
from hierpool.core.group_nouns import counted
from hierpool.core.printable import one_line
from hierpool.core.spec import Spec
from hierpool.core.summed_rows import Range
from hierpool.core.text import short
from hierpool.formula.parse import parse, with_family, with_residuals
from hierpool.tables.collect import MOST_CELLS, collected
from hierpool.tables.engines import is_lazy, open_table
from hierpool.tables.stored import read, written


@dataclass(frozen=True, repr=False, eq=False)
class Moments:
    """Sums over the rows of a table: all that a model's REML fit and posterior need of them.

    Made by ``hp.collect``. Those of two tables without common rows can be added, where the second was
    collected with ``like=`` the first.

    Attributes
    ----------
    cells
        The sums, one entry for each combination of groups and categories.
    """

    cells: Cells

    @property
    def spec(self) -> Spec:
        """The formula that they were collected for."""
        return self.cells.spec

    @property
    def n_rows(self) -> int:
        """Number of rows that were summed."""
        return self.cells.n

    @property
    def smallest(self) -> int:
        """Rows of the smallest cell: of a cell with one row, the sums are that row."""
        return int(self.cells.counts.min())

    def __add__(self, other: object) -> Moments:
        """The moments of both tables together.

        Raises
        ------
        DataError
            Another formula, other shifts or categories, or a table that is in both.
        """
        if not isinstance(other, Moments):
            return NotImplemented
        return Moments(_added(self.cells, other.cells))

    def save(self, path: str | PathLike[str], least: int = 1) -> None:
        """Write them to a file, from which ``hp.load_moments`` reads them.

        Parameters
        ----------
        path
            The file.
        least
            Refuse where a cell has fewer rows: the sums of few rows tell much about each of them.

        Raises
        ------
        DataError
            A cell has fewer rows than ``least``.
        StorageError
            The file cannot be written.
        """
        small = int((self.cells.counts < least).sum())
        if small:
            raise DataError(
                f"{small:,} of {len(self.cells):,} cells have fewer than {least} rows, the smallest "
                f"{self.smallest}; nothing was written. Collect with fewer or coarser categories, or "
                "leave small groups out of the table",
                "small-cells",
            )
        written(self.cells, path)

    def __repr__(self) -> str:
        cells, spec = self.cells, self.spec
        cut = cells.pieces
        keys = ", ".join(f"{c} in intervals" if c in cut else str(c) for c in cells.keys) or "none"
        powers = {name for c, own in cut.items() for name in own.atoms(c)}
        whole = [":".join(atom) for atom in cells.atoms if not powers & set(atom)]
        sums = ", ".join([*whole, *(f"powers of {c} to {own.degree}" for c, own in cut.items())])
        sums = sums or "none"
        kept = f"sums    of {sums} and {spec.response}"
        if spec.family is not None:
            kept = f"family  {spec.family}; counts of rows that are alike"
        lines = [
            f"Moments of {spec.formula}",
            f"rows    {cells.n:,} of {cells.n_read:,}",
            *(f"groups  {counted(_n_levels(cells, f), f)}" for f in spec.factors),
            f"cells   {len(cells):,}, by {keys}; the smallest has {self.smallest:,} rows",
            f"{kept}; {_size(cells.nbytes)}",
        ]
        for text, state in cells.learned.items():
            if "knots" in state:
                knots = ", ".join(map(short, dict.fromkeys(state["knots"])))
                how = "" if "knots=" in text else ", the ends and quantiles of the table"
                lines.append(f"knots   of {text.replace('`', '')}: {knots}{how}")
        if len(cells.added) > 1:
            lines.append(f"added   from {len(cells.added)} tables")
        return "\n".join(map(one_line, lines))


def collect(
    formula: str | Spec,
    table: Any,
    *,
    like: Moments | None = None,
    family: str | Family | None = None,
    link: str | None = None,
    trials: str | None = None,
    weights: str | None = None,
    known_se: str | None = None,
    max_cells: int = MOST_CELLS,
    progress: bool = True,
) -> Moments:
    """The sums of a table that a model needs, read in two passes where the table is.

    The table can have any number of rows: what is kept grows with the combinations of groups and
    categories. ``hp.Model(moments)`` is then an ordinary model.

    Parameters
    ----------
    formula
        As for ``hp.Model``. Numbers enter as sums, so that powers and products, ``log(x)``,
        ``center(x)`` and the like can be used. ``poly(x, 2)``, ``bs(x, df=5)`` and ``cr`` of a column
        are summed by powers on the intervals between knots, which are quantiles of the table, by
        DuckDB's estimate beyond five million rows; ``C(...)`` of a number needs a column with few
        different values.
    table
        A path to Parquet or CSV files (``"data/*.parquet"``, a folder), or a list of them, a relation
        of DuckDB, a lazy frame of polars, a table of ibis, a DataFrame of Spark, a dataset of pyarrow.
        Tables in memory are taken too.
    like
        Moments that these are to be added to: the same shifts and scales are used.
    family, link, trials, weights, known_se
        As for ``hp.Model``. With a family, rows that are alike in all columns of the model are
        counted, and the counts are kept.
    max_cells
        Combinations of groups and categories, at most.
    progress
        Show a bar on anything over a second.

    Raises
    ------
    FormulaError
        The formula needs the values of a number one by one.
    DataError
        A column is not there or not usable, or there would be too many cells.
    """
    spec = formula if isinstance(formula, Spec) else parse(formula)
    spec = with_residuals(spec, weights, known_se)
    if not isinstance(formula, Spec):
        spec = with_family(spec, resolve(family, link), trials)
    _check_summable(spec)
    known = None
    if like is not None:
        if not isinstance(like, Moments):
            raise ArgumentError(
                f"like= takes what hp.collect() gives; this is a {type(like).__name__}",
                "moments-needed",
            )
        known = like.cells
        if spec != known.spec:
            raise ArgumentError(
                f"like= was collected for {known.spec.formula}, and this is for {spec.formula}. "
                "Collect both for the same formula, weights= and known_se=",
                "other-moments",
            )
    return Moments(collected(spec, open_table(table), known, max_cells, progress))


def summed(spec: Spec, data: Any) -> tuple[Spec, Any]:
    """The data of a model as they are, or cells: of moments, and of a table that is not in memory.

    The spec has then the weights, or known residual sds, that the moments were collected with.
    """
    if not isinstance(data, Moments):
        if not is_lazy(data):
            return spec, data
        data = collect(spec, data)
    own = data.spec
    if spec.family is None and own.family is not None:
        spec = with_family(spec, own.family, own.trials if own.trials != spec.trials else None)
    _check_summable(spec)
    if not spec.residual.column:
        spec = replace(spec, residual=own.residual)
    return spec, data.cells


def _check_summable(spec: Spec) -> None:
    if any(term.relationship is not None for term in spec.groups):
        raise UnsupportedModelError(
            "related groups (relationship=) need the rows, and this model has sums of them. Read the "
            "columns of the model into memory, or leave relationship= out",
            "needs-rows",
        )
    if spec.residual.is_structured:
        why, what = "do not tell which stand side by side", "residual= and sigma="
        if spec.residual.correlation is None:
            why, what = "would be needed for each residual sd", "sigma="
        raise UnsupportedModelError(
            f"residuals with a structure ({spec.residual.words}) need the rows, and sums of them {why}. "
            f"Fit the model to rows in memory, or leave {what} out",
            "needs-rows",
        )


def load_moments(path: str | PathLike[str]) -> Moments:
    """Moments that were saved with ``moments.save``.

    Raises
    ------
    StorageError
        The file cannot be read, or holds something else.
    """
    return Moments(read(path))


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.0f} kB"


def _n_levels(cells: Cells, factor: str) -> int:
    from hierpool.formula.tables import factor_columns

    columns = list(factor_columns(factor, list(cells.keys.columns)))
    return len(cells.keys[columns].drop_duplicates())


def _added(one: Cells, other: Cells) -> Cells:
    """Cells of both, cells with equal keys added."""
    if one.spec != other.spec or one.atoms != other.atoms:
        raise DataError(
            f"these are the moments of {one.spec.formula} and of {other.spec.formula}. Only moments "
            "of one formula can be added, with the same weights= or known_se=",
            "other-moments",
        )
    same = np.array_equal(one.shift, other.shift) and np.array_equal(one.scale, other.scale)
    if not same or one.learned != other.learned or one.pieces != other.pieces:
        raise DataError(
            "the second table was summed around other means, so the sums cannot be added. Collect it "
            "again with like=: hp.collect(formula, table, like=first)",
            "other-shifts",
        )
    twice = set(one.added) & set(other.added)
    if twice:
        raise DataError(
            "a table is in both, and its rows would count twice. Add each table once",
            "added-twice",
        )
    keys, place = _joined_keys(one.keys, other.keys)
    n = len(keys)

    def total(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        both = np.concatenate([first, second])
        out = np.zeros((n, *both.shape[1:]), dtype=both.dtype)
        np.add.at(out, place, both)
        return out

    ranges = {c: _range(one, other, c) for c in one.ranges}
    missing = {c: one.missing.get(c, 0) + other.missing.get(c, 0) for c in one.missing}
    return replace(
        one,
        keys=keys,
        counts=total(one.counts, other.counts),
        S=total(one.S, other.S),
        plain=total(one.plain, other.plain),
        log_sd=total(one.log_sd, other.log_sd),
        squared_sd=total(one.squared_sd, other.squared_sd),
        missing=missing,
        ranges=ranges,
        n_read=one.n_read + other.n_read,
        sources=(*one.added, *other.added),
    )


def _range(one: Cells, other: Cells, name: str) -> Range:
    """Where a number lies in the rows of both."""
    a, b, n, m = one.ranges[name], other.ranges[name], one.n, other.n
    mean = a.mean + (b.mean - a.mean) * m / (n + m)
    squares = (n - 1) * a.sd**2 + (m - 1) * b.sd**2 + (b.mean - a.mean) ** 2 * n * m / (n + m)
    return Range(
        mean, float(np.sqrt(squares / (n + m - 1))), min(a.low, b.low), max(a.high, b.high)
    )


def _joined_keys(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The different keys of both, sorted, and the place of each row of one after the other."""
    if not len(one.columns):
        return one, np.zeros(len(one) + len(other), dtype=np.intp)
    columns = {}
    for name in one.columns:
        first, second = one[name], other[name]
        if isinstance(first.dtype, pd.CategoricalDtype) != isinstance(
            second.dtype, pd.CategoricalDtype
        ) or (first.dtype.kind in "iufb") != (second.dtype.kind in "iufb"):
            raise DataError(
                f"{name!r} has {first.dtype} in one table and {second.dtype} in the other, so its "
                "values cannot be matched. Give it the same type in both",
                "other-moments",
            )
        if isinstance(first.dtype, pd.CategoricalDtype):
            every = first.cat.categories.union(second.cat.categories, sort=False)
            first, second = first.cat.set_categories(every), second.cat.set_categories(every)
        columns[name] = pd.concat([first, second], ignore_index=True)
    both = pd.DataFrame(columns)
    names = list(both.columns)
    keys = both.drop_duplicates().sort_values(names, kind="stable").reset_index(drop=True)
    places = pd.concat([keys, both]).groupby(names, sort=False, observed=True).ngroup().to_numpy()
    return keys, places[len(keys) :]
