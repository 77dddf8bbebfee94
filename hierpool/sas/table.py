"""The user's table as SAS sees it: names without capitals, CLASS variables with their levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpool.core.errors import nearest
from hierpool.formula.category_coding import CategoryCoding, Label
from hierpool.formula.function_calls import quote
from hierpool.formula.table_column import TableColumn, kind_of
from hierpool.sas.statements import STATEMENTS, Statement
from hierpool.sas.tokens import Token


@dataclass(frozen=True)
class Levels:
    """A CLASS variable.

    Attributes
    ----------
    labels
        Its levels in the order of SAS: the last one is the reference.
    coding
        How a formula codes it.
    """

    labels: pd.Index[Any]
    coding: CategoryCoding


@dataclass
class SasTable:
    """Columns by their names; what is added to them on the way.

    Attributes
    ----------
    frame
        The user's table; columns that had to be made are added to a copy.
    expressions
        Column of a DATA step -> what stands for it in a formula.
    classes
        Column -> its levels, in the order of the CLASS statement.
    copies
        Column of a DATA step that is another one under a new name -> its name in the table.
    added
        Lines of Python that add the columns which the table lacks.
    """

    frame: pd.DataFrame
    expressions: dict[str, str] = field(default_factory=dict)
    classes: dict[str, Levels] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether there is such a column, capitals or not."""
        return bool(self._alike(name))

    def _alike(self, name: str) -> list[str]:
        names = [*self.copies, *self.expressions, *map(str, self.frame.columns)]
        same = [name] if name in names else [n for n in names if n.casefold() == name.casefold()]
        return list(dict.fromkeys(self.copies.get(n, n) for n in same))

    def find(self, statement: Statement, token: Token) -> str:
        """The column that a token names, as the table spells it."""
        alike = self._alike(token.text) if token.kind == "name" else []
        if len(alike) == 1:
            return alike[0]
        if alike:
            statement.fail(
                f"the columns {', '.join(map(repr, alike))} differ in capitals only, which SAS ignores",
                "sas-column",
                token,
                "spell it as the table does",
            )
        names = [*self.expressions, *map(str, self.frame.columns)]
        hint = nearest(token.text, names)
        if token.word in STATEMENTS:
            hint = f"is the ; before {token.text!r} missing?"
        return statement.fail(
            f"column {token.text!r} is not in the data",
            "sas-column",
            token,
            hint,
        )

    def is_class(self, column: str) -> bool:
        """Whether it is named in CLASS."""
        return column in self.classes

    def written(self, column: str) -> str:
        """A column in a formula, outside functions."""
        if column in self.expressions:
            return self.expressions[column]
        return quote(column)

    def coded(self, column: str) -> str:
        """A CLASS variable in a formula: ``C(a, SAS)``."""
        return self.classes[column].coding.text(quote(column, in_call=True))

    def check_number(self, statement: Statement, column: str, token: Token) -> None:
        """Raise where a column outside CLASS is text."""
        if column in self.expressions:
            return
        kind = kind_of(self.frame[column])
        if kind not in ("number", "boolean"):
            statement.fail(
                f"{column!r} is {'text' if kind != 'time' else 'a date'}, and not named in CLASS",
                "sas-column",
                token,
                f"add it: class {token.text};",
            )

    def add_class(
        self,
        column: str,
        reference: str | None,
        order: Literal["", "data"] = "",
        is_reversed: bool = False,
    ) -> str | None:
        """Make a column a CLASS variable; what is wrong with its reference, if something is."""
        cells = self.frame[column].dropna()
        known = TableColumn(column, cells).levels[0]
        labels = _as_sas_sorts(known, cells)
        if order == "data":
            labels = pd.Index(pd.unique(cells.astype(object)))
        if is_reversed:
            labels = labels[::-1]
        typed: tuple[Label, ...] = ()
        if list(labels) != list(known):
            typed = tuple(_plain(label) for label in labels)
        if reference in (None, "last"):
            self.classes[column] = Levels(labels, CategoryCoding("SAS", levels=typed))
            return None
        place = 0 if reference == "first" else _place(labels, reference or "")
        if place is None:
            return f"{reference!r} is no level of {column}: {nearest(reference, labels)}"
        coding = CategoryCoding("Treatment", _plain(labels[place]), levels=typed)
        rest = [k for k in range(len(labels)) if k != place]
        self.classes[column] = Levels(labels[[*rest, place]], coding)
        return None

    def add_column(self, name: str, values: pd.Series[Any], code: str) -> str:
        """A new column, under a name that is free; the line of Python that makes it."""
        free = name
        while free in self.frame.columns:
            free += "_"
        self.frame = self.frame.assign(**{free: values})
        self.added.append(f"data[{free!r}] = {code}")
        return free


def _as_sas_sorts(labels: pd.Index[Any], cells: pd.Series[Any]) -> pd.Index[Any]:
    """Text by its letters, numbers by size, also where a category has an order without meaning."""
    if not isinstance(cells.dtype, pd.CategoricalDtype) or cells.cat.ordered:
        return labels
    numbers = pd.to_numeric(pd.Series(labels), errors="coerce")
    keys = labels.astype(str) if numbers.isna().any() else pd.Index(numbers)
    return labels[keys.argsort()]


def _plain(label: Any) -> Label:
    plain = label.item() if isinstance(label, np.generic) else label
    return plain if isinstance(plain, str | int | float | bool) else str(plain)


def _place(labels: Sequence[Any] | pd.Index[Any], text: str) -> int | None:
    """Position of a level that SAS names by its printed form."""
    for k, label in enumerate(labels):
        if str(label) == text or (isinstance(label, float) and f"{label:g}" == text):
            return k
    return None
