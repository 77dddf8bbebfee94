"""Tables as CSV that a spreadsheet shows and does not run."""

from __future__ import annotations

import re

import pandas as pd

_FORMULA = re.compile(
    "[=+\\-@\t\r\n＝＋－＠]"
)  # what a spreadsheet takes a text that begins so for


def csv_bytes(table: pd.DataFrame, index: bool = True) -> bytes:
    r"""The table as CSV in UTF-8, numbers with every digit.

    A name or a text that a spreadsheet would take for a formula, because it begins with ``=``,
    ``+``, ``-`` or ``@``, gets an apostrophe in front, which a spreadsheet takes for "this is
    text". Numbers are never changed, nor is a text that is a number.

    Parameters
    ----------
    table
        Any table; its index becomes the first columns.
    index
        Whether to write the index.

    Examples
    --------
    >>> csv_bytes(pd.DataFrame({"group": ["=1+1", "-2", "b"], "mean": [-0.1, 2, 3]}), index=False)
    b"group,mean\n'=1+1,-0.1\n-2,2.0\nb,3.0\n"
    """
    columns = [table.iloc[:, k] for k in range(table.shape[1])]
    if index:
        columns = [*_keys(table.index), *columns]
    flat = pd.concat([_guarded(c).reset_index(drop=True) for c in columns], axis=1)
    flat.columns = pd.Index(["" if c.name is None else _shown(c.name) for c in columns])
    return flat.to_csv(index=False, lineterminator="\n").encode("utf-8", "surrogatepass")


def _keys(index: pd.Index) -> list[pd.Series]:
    return [pd.Series(index.get_level_values(k), name=name) for k, name in enumerate(index.names)]


def _guarded(column: pd.Series) -> pd.Series:
    types = pd.api.types
    is_text = types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)
    if is_text or isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).map(_shown)
    return column


def _shown(value: object) -> object:
    if not isinstance(value, str) or not _FORMULA.match(value) or _is_number(value):
        return value
    return f"'{value}"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text, re.ASCII) is not None
