"""Cells as they are written in a file to columns: numbers, truth values, dates, text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.errors import DataError, listed
from hierpool.formula.cell_numbers import (
    COMMA,
    MISSING,
    MISSING_AMONG_NUMBERS,
    POINT,
    WHOLE,
    is_number,
    tidy,
)
from hierpool.formula.layout import Grid, Layout

_TRUTH = {
    **dict.fromkeys(("True", "TRUE", "true"), True),
    **dict.fromkeys(("False", "FALSE", "false"), False),
}
_EXACT = 2**53  # whole numbers up to here are floats exactly
_SIGNS = {".": "decimal points", ",": "decimal commas"}


def read_columns_of_cells(
    laid: Layout, decimal: str | None, labels: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The columns of a table, and what was assumed to read them, a clause each.

    Parameters
    ----------
    laid
        Names and rows.
    decimal
        The decimal sign of all columns; None to recognise that of each.
    labels
        Columns in which codes such as ``007`` stay text.
    """
    cells = [list(column) for column in zip(*laid.body.rows, strict=True)]
    if not cells:
        cells = [[] for _ in laid.names]
    shown = [
        _Column(name, column, laid.body) for name, column in zip(laid.names, cells, strict=True)
    ]
    signs = _signs(shown, decimal)
    said = _said_signs(shown, signs, decimal)
    columns = []
    for column, sign in zip(shown, signs, strict=True):
        values, clauses = column.values(sign, column.name in labels)
        columns.append(values)
        said += clauses
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    frame.columns = pd.Index(list(laid.names))
    return frame, said


class _Column:
    """Cells of one column; those that are text are weighed, those of a workbook are taken."""

    def __init__(self, name: str, cells: Sequence[object], grid: Grid) -> None:
        self.name, self.grid = name, grid
        self.cells = ["" if _is_missing(cell) else cell for cell in cells]
        self.spelled = {str(c) for c in cells if c in MISSING and c != ""}
        kept = [c for c in self.cells if c != ""]
        odd = {c for c in kept if isinstance(c, str) and c.strip() in MISSING_AMONG_NUMBERS}
        rest = [c for c in kept if c not in odd]
        self.is_numbers = bool(rest) and all(map(is_number, rest))
        self.odd = odd if self.is_numbers else set()
        texts = [tidy(c) for c in rest if isinstance(c, str)] if self.is_numbers else []
        self.is_percent = bool(texts) and all(t.endswith("%") for t in texts)
        if any(t.endswith("%") for t in texts) and len(texts) != sum(
            t.endswith("%") for t in texts
        ):
            self.is_numbers = False
        self.texts = [t.removesuffix("%").rstrip() for t in texts] if self.is_numbers else []

    def where(self, holds: Callable[[str], bool]) -> str:
        """Words for the rows whose text is such."""
        texts = [
            tidy(c).removesuffix("%").rstrip() if isinstance(c, str) else "" for c in self.cells
        ]
        return self.grid.at([i for i, text in enumerate(texts) if text and holds(text)])

    @property
    def sign(self) -> str:
        """``"."``, ``","``, ``""`` where there is neither, ``"?"`` where it can be either."""
        marked = [t for t in self.texts if "." in t or "," in t]
        points = all(map(POINT.fullmatch, self.texts))
        commas = all(map(COMMA.fullmatch, self.texts))
        if not marked:
            return ""
        if not points and not commas:
            self._fail_mixed()
        if points and commas:
            return "?"
        other = "," if points else "."  # between thousands
        apart = [t for t in marked if other in t]
        proven = any(
            t.count(other) > 1 or (points and "." in t) or (commas and "," in t) for t in apart
        )
        own = any(("." if points else ",") in t for t in marked)
        if apart and own and not proven:
            return "?"
        return "." if points else ","

    def _fail_mixed(self) -> None:
        commas = self.where(lambda t: not POINT.fullmatch(t))
        points = self.where(lambda t: not COMMA.fullmatch(t))
        raise DataError(
            f"column {self.name!r} of {self.grid.name} mixes decimal commas ({commas}) and "
            f"decimal points ({points}). Use one of them throughout.",
            "which-decimal",
        )

    def fail_ambiguous(self) -> None:
        """Raise, with both readings of the first such number."""
        first = next(t for t in self.texts if "," in t or "." in t)
        where = self.where(lambda t: "," in t or "." in t)
        point, comma = (f"{_value(first, sign):.15g}" for sign in ".,")
        raise DataError(
            f"column {self.name!r} of {self.grid.name} can be read in two ways: {first} ({where}) "
            f"is {point} with decimal points and {comma} with decimal commas. Choose one: "
            "--decimal . or --decimal ,",
            "which-decimal",
        )

    def values(self, sign: str, is_label: bool) -> tuple[pd.Series[Any], list[str]]:
        """The column, and what was assumed for it."""
        name, cells = self.name, self.cells
        said = []
        if self.is_numbers:
            texts = [t.lstrip("+-") for t in self.texts]
            zeros = [t for t in texts if len(t) > 1 and t[0] == "0" and WHOLE.fullmatch(t)]
            coded = bool(zeros) and all(map(WHOLE.fullmatch, texts))
            if not (coded and is_label) and not self._is_too_long():
                if self.odd:
                    said.append(
                        f"{listed(sorted(self.odd))} in column {name!r} "
                        f"({self.where(lambda t: t in self.odd)}) read as missing"
                    )
                if self.is_percent:
                    said.append(
                        f"percent signs of column {name!r} removed ({texts[0]}% is {texts[0]})"
                    )
                if coded:
                    said.append(f"leading zeros of column {name!r} removed ({zeros[0]!r})")
                return self._numbers(sign), said
        kept = [c for c in cells if c != ""]
        if self.spelled and kept:
            said.append(f"{listed(sorted(self.spelled))} in column {name!r} read as missing")
        return _others(cells, kept), said

    def _is_too_long(self) -> bool:
        """Whether floats, or 64 bits, would make two such whole numbers one: they are labels."""
        if not self.texts or not all(map(WHOLE.fullmatch, self.texts)):
            return False
        largest = max(abs(int(t)) for t in self.texts)
        has_missing = "" in self.cells or bool(self.odd)
        return largest >= (_EXACT if has_missing else 2**63)

    def _numbers(self, sign: str) -> pd.Series[Any]:
        made: list[Any] = []
        for cell in self.cells:
            if cell == "" or cell in self.odd:
                made.append(None)
            elif isinstance(cell, str):
                text = tidy(cell).removesuffix("%").rstrip()
                made.append(int(text) if WHOLE.fullmatch(text) else _value(text, sign))
            else:
                made.append(cell)
        is_whole = all(isinstance(v, int) for v in made)
        if is_whole:
            return pd.Series(np.array(made, dtype=np.int64))
        return pd.Series([np.nan if v is None else float(v) for v in made], dtype=float)


def _is_missing(cell: object) -> bool:
    if isinstance(cell, str):
        return cell in MISSING or not cell.strip()
    return cell is None or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell))


def _value(text: str, sign: str) -> float:
    other = "." if sign == "," else ","
    return float(text.replace(other, "").replace(",", "."))


def _signs(columns: Sequence[_Column], decimal: str | None) -> list[str]:
    """Decimal sign of each column: the given one, its own, or that of all others."""
    signs = [column.sign for column in columns]
    if decimal is not None:
        fitting = {".": POINT, ",": COMMA}[decimal]
        for column, sign in zip(columns, signs, strict=True):
            if sign and not all(map(fitting.fullmatch, column.texts)):
                where = column.where(lambda t: not fitting.fullmatch(t))
                raise DataError(
                    f"column {column.name!r} of {column.grid.name} has numbers that cannot be "
                    f"read with {_SIGNS[decimal]} ({where}). Leave --decimal out, or correct "
                    "these cells.",
                    "which-decimal",
                )
        return [decimal] * len(signs)
    has_commas = "," in signs
    for k, (column, sign) in enumerate(zip(columns, signs, strict=True)):
        is_comma = sign == "?" and not any("." in t for t in column.texts)
        if is_comma and has_commas and "." not in signs:
            signs[k] = ","
        elif sign == "?" and not has_commas and not any("," in t for t in column.texts):
            signs[k] = "."  # 1.234 in a table without a comma among its numbers
        elif sign == "?":
            column.fail_ambiguous()
    return signs


def _said_signs(columns: Sequence[_Column], signs: Sequence[str], decimal: str | None) -> list[str]:
    if decimal is not None:
        return []
    commas = [c for c, sign in zip(columns, signs, strict=True) if sign == ","]
    said = []
    if commas:
        first = next(t for t in commas[0].texts if "," in t)
        names = listed([c.name for c in commas], most=4)
        said.append(f"decimal commas in {names} ({first} is {_value(first, ','):.15g})")
    for column, sign in zip(columns, signs, strict=True):
        other = {".": ",", ",": "."}.get(sign, "none")
        if apart := [t for t in column.texts if other in t]:
            value = f"{_value(apart[0], sign):.15g}"
            said.append(f"thousands separators removed in {column.name!r} ({apart[0]} is {value})")
    return said


def _others(cells: Sequence[object], kept: Sequence[object]) -> pd.Series[Any]:
    """Truth values, dates of a workbook, else text."""
    if kept and all(isinstance(c, bool) or c in _TRUTH for c in kept):
        truth = [None if c == "" else _TRUTH.get(str(c), c) for c in cells]
        return pd.Series(truth, dtype=object if None in truth else bool)
    if kept and all(isinstance(c, (date, datetime)) for c in kept):
        dates = pd.Series([None if c == "" else c for c in cells], dtype=object)
        return pd.to_datetime(dates)
    if not kept:
        return pd.Series([np.nan] * len(cells), dtype=float)
    return pd.Series([None if c == "" else _as_text(c) for c in cells], dtype="str")


def _as_text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell) if not isinstance(cell, Real) else f"{cell}"
