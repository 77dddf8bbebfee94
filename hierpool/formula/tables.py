"""Rows of a table: read from any data frame, cleaned, checked and counted.

Columns are named in every message, and rows by the user's own index.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd

from hierpool.core.errors import DataError, listed, nearest
from hierpool.core.findings import Finding
from hierpool.core.residual import Residual
from hierpool.core.row_labels import rows_named
from hierpool.core.spec import ResidualTerm
from hierpool.formula.column_types import check_text, objects, plain_type
from hierpool.formula.function_calls import quote
from hierpool.formula.parse import split_factor
from hierpool.formula.table_column import ColumnKind, TableColumn, kind_of
from hierpool.formula.written_numbers import fail_not_number

LEAST, LARGEST = 1e-50, 1e50  # between which the largest value of a column has to lie


def read_frame(data: Any) -> pd.DataFrame:
    """The table as a pandas DataFrame; the user's own object is never changed.

    Takes pandas, polars, pyarrow and whatever else narwhals reads in memory, and a dict of columns.
    A lazy table is not read: it may be larger than the memory. An Enum of polars keeps its order; its
    Categorical does not.
    """
    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, Mapping):
        try:
            return pd.DataFrame(dict(data))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"this dict is not a table: {error}. Give every column the same length: {{'y': "
                f"[1.0, 2.0], 'g': ['a', 'b']}}",
                "not-a-table",
            ) from error
    if isinstance(data, (str, PurePath)):
        raise DataError(
            f"data must be a table, and this is a path or text. Read it first: "
            f"data = pandas.read_csv({str(data)!r})",
            "not-a-table",
        )
    try:
        table = nw.from_native(data)
    except TypeError as error:
        raise DataError(
            f"data must be a table (pandas, polars, pyarrow, or a dict of columns); this is a "
            f"{type(data).__name__}. {_instead_of(data)}",
            "not-a-table",
        ) from error
    if nw.get_level(table) == "interchange":
        raise DataError(
            f"a {type(data).__name__} cannot be read as a table here. Write data.to_pandas()",
            "not-a-table",
        )
    if isinstance(table, nw.LazyFrame):
        raise DataError(
            f"this is a lazy table ({type(data).__name__}), and rows are needed here. Read them "
            "yourself if they fit in memory, for example with table.collect() or .df(); hp.Model, "
            "hp.collect and hp.study take lazy tables",
            "lazy-table",
        )
    return pd.DataFrame({name: _to_pandas(table[name]) for name in table.columns})


def _instead_of(data: Any) -> str:
    """What to write in the place of an object that is no table."""
    if isinstance(data, Sequence) and data and all(isinstance(d, (str, PurePath)) for d in data):
        return "Several files are given by their folder or a pattern: 'data/*.parquet'"
    asked = {"duckdb": "sql('select ...')", "_duckdb": "sql('select ...')", "ibis": "table('name')"}
    library = type(data).__module__.split(".")[0]
    if library in asked:
        return f"Ask the connection for a table: connection.{asked[library]}"
    if library in ("sqlalchemy", "sqlite3", "psycopg", "psycopg2", "pyodbc"):
        return "Read a query: pandas.read_sql('select ...', connection)"
    return "Write pandas.DataFrame(...) around it, with named columns"


def _to_pandas(column: nw.Series[Any]) -> pd.Series[Any]:
    """One column of another library, with plain dtypes."""
    if isinstance(column.dtype, nw.Enum):
        categories = column.cat.get_categories().to_list()
        return pd.Series(pd.Categorical(column.to_list(), categories=categories))
    if isinstance(column.dtype, nw.Categorical):
        cells = column.to_list()
        are_labels = all(cell is None or isinstance(cell, Hashable) for cell in cells)
        return pd.Series(pd.Categorical(cells)) if are_labels else objects(cells)
    exact = column.dtype.is_decimal() or isinstance(column.dtype, nw.Int128 | nw.UInt128)
    is_whole = column.dtype.is_integer() and not exact
    if is_whole and column.null_count():  # numpy would make them floats
        is_unsigned = column.dtype == nw.UInt64
        whole = pd.UInt64Dtype() if is_unsigned else pd.Int64Dtype()
        return pd.Series(column.to_list(), dtype=whole)
    if column.dtype.is_numeric() and not exact:
        return pd.Series(column.to_numpy())
    return objects(column.to_list())


def select(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The named columns, under their names as text, with the user's index."""
    if table.columns.nlevels > 1:
        raise DataError(
            f"the columns of the data have {table.columns.nlevels} levels of names, and a formula "
            "needs a single name for each. Write data.columns = ['_'.join(c) for c in "
            "data.columns]",
            "columns-with-levels",
        )
    if len(table) == 0:
        raise DataError("the data have no rows. Pass a table with rows", "no-rows")
    written = [str(c) for c in table.columns]
    chosen: dict[str, pd.Series[Any]] = {}
    for name in names:
        places = [i for i, w in enumerate(written) if w == name]
        if not places:
            _fail_unknown(name, table, written)
        if len(places) > 1:
            raise DataError(
                f"{len(places)} columns of the data are called {name!r}. Rename or drop all but "
                "one",
                "duplicated-column",
            )
        chosen[name] = plain_type(table.iloc[:, places[0]])
        check_text(chosen[name], name)
    return pd.DataFrame(chosen, index=table.index)


def _fail_unknown(name: str, table: pd.DataFrame, written: Sequence[str]) -> None:
    if name in [str(n) for n in table.index.names if n is not None]:
        advice = "it is in the index: pass data.reset_index()"
    elif alike := [w for w in written if _folded(w) == _folded(name)]:
        advice = (
            f"{alike[0]!r} looks the same but contains different characters. Write data = "
            f"data.rename(columns={{{alike[0]!r}: {name!r}}})"
        )
    elif parted := [w for w in written if name in re.findall(r"\w+", w)]:
        advice = f"for the column {parted[0]!r} write {quote(parted[0])}, in backticks"
    else:
        advice = nearest(name, written)
    raise DataError(f"column {name!r} is not in the data; {advice}", "unknown-column")


def _folded(name: str) -> str:
    """A name less what cannot be seen: how its letters are composed, blanks at its ends."""
    return unicodedata.normalize("NFKC", name).strip()


def factor_columns(factor: str, names: Collection[str]) -> tuple[str, ...]:
    """Columns that a factor is made of: itself, or ``a`` and ``b`` for ``a:b``."""
    return (factor,) if factor in names else split_factor(factor)


def to_numbers(column: pd.Series[Any], name: str, role: str) -> np.ndarray:
    """The column as floats; an error where it holds no numbers or infinite ones."""
    kind = kind_of(column)
    if kind not in ("number", "boolean"):
        _fail_not_number(column, name, kind, role)
    if isinstance(column.dtype, pd.SparseDtype):
        column = pd.Series(np.asarray(column), index=column.index)
    try:
        values = column.to_numpy(dtype=float)
    except OverflowError:  # a whole number of Python's that no float can hold
        values = np.array([_as_float(value) for value in column])
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"column {name!r} is infinite in {rows_named(column.index[infinite])}; a model needs "
            "finite numbers. Correct these values, or set them to missing to leave the rows out",
            "infinite-values",
        )
    return values


def check_magnitude(values: np.ndarray, name: str) -> None:
    """Raise where the largest of some numbers is so far from one that products of them are lost."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0 or LEAST <= largest <= LARGEST:
        return
    unit = f"1e{int(np.floor(np.log10(largest)))}"
    far = "large" if largest > LARGEST else "small"
    raise DataError(
        f"the values of {name!r} are too {far} to calculate with: the largest is {largest:.2g}, "
        f"and products of such numbers cannot be represented. Change its unit: divide it by {unit}",
        "out-of-range",
    )


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def to_positive(column: pd.Series[Any], name: str, role: str) -> np.ndarray:
    """The column of weights or of known residual sds, shape (n,); an error where one is not positive."""
    values = to_numbers(column, name, role)
    check_magnitude(values, name)
    bad = values <= 0
    if bad.any():
        means = "" if role == "weights" else ": it is the residual sd of a row"
        raise DataError(
            f"column {name!r} is 0 or negative in {rows_named(column.index[bad])}, and as {role} "
            f"it must be positive{means}. Correct these values, or set them to missing to leave "
            "the rows out",
            "not-positive",
        )
    return values


def to_trials(column: pd.Series[Any], name: str) -> np.ndarray:
    """Numbers of trials of new rows, shape (n,); an error where one is not a whole number from 1."""
    values = to_numbers(column, name, "trials")
    bad = (values < 1) | (values != np.floor(values))
    if bad.any():
        raise DataError(
            f"the number of trials {name!r} is no whole number of at least 1 in "
            f"{rows_named(column.index[bad])}. Correct these values, or ask for probabilities, "
            "kind='mean'",
            "not-counts",
        )
    return values


def residual(frame: pd.DataFrame, term: ResidualTerm) -> Residual:
    """How the rows of a table vary about their means."""
    if not term.column:
        return Residual(term)
    (word,) = term.arguments
    return Residual(term, to_positive(frame[term.column], term.column, word))


def _fail_not_number(column: pd.Series[Any], name: str, kind: ColumnKind, role: str) -> None:
    if kind == "time":
        typed = f"data[{name!r}]"
        raise DataError(
            f"column {name!r} holds dates or times, and {role} must be a number. Make one, e.g. "
            f"data['days'] = ({typed} - {typed}.min()).dt.days, and use it",
            "time-not-number",
        )
    fail_not_number(column, name, role)


def unused_categories(column: TableColumn) -> tuple[Finding, ...]:
    """A note for a categorical column with categories that have no rows."""
    cells, name = column.cells, column.name
    if not isinstance(cells.dtype, pd.CategoricalDtype):
        return ()
    unused = list(cells.cat.categories.difference(pd.Index(cells.unique()), sort=False))
    if not unused:
        return ()
    one = len(unused) == 1
    several = "one category" if one else f"{len(unused)} categories"
    text = (
        f"{several} of {name!r} {'has' if one else 'have'} no rows and {'is' if one else 'are'} "
        f"left out: {listed(unused)}"
    )
    return (Finding("unused-categories", "note", text),)


def check_factor_names(factors: Iterable[str]) -> None:
    """Raise where a factor's name is, or makes, a name that the results need for something else."""
    owner = {
        "beta": "the common coefficients",
        "sigma": "the residual sd",
        "term": "the names of the coefficients",
        "chain": "the chains",
        "draw": "the draws",
        "obs": "the rows",
    }
    for factor in factors:
        made = [factor, f"{factor}_term", f"{factor}_term2"]
        made += [f"{v}_{factor}" for v in ("u", "coef", "sd", "corr")]
        clash = next((name for name in made if name in owner), None)
        if clash is None and "/" not in factor:
            owner |= dict.fromkeys(made, f"the grouping factor {factor!r}")
            continue
        why = (
            f"its results would be called {clash!r}, which is the name of {owner[clash]}"
            if clash
            else "a / separates the parts of a path where results are stored"
        )
        new = f"{factor.replace('/', '_')}{'_group' if clash else ''}"
        raise DataError(
            f"the grouping factor cannot be called {factor!r} in the results: {why}. Rename the "
            f"column, data = data.rename(columns={{{factor!r}: {new!r}}}), and write {quote(new)} "
            "in the formula",
            "reserved-name",
        )
