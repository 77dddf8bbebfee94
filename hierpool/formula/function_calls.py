"""The factors of a formula: columns and functions of columns, as they are typed."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from hierpool.formula.category_coding import BY_DEFAULT, CategoryCoding
from hierpool.formula.functions import ALLOWED_FUNCTIONS

FactorKind = Literal["column", "number", "category", "offset"]


@dataclass(frozen=True, slots=True)
class Factor:
    """One piece of a formula between its operators: a column, or a function of columns.

    Attributes
    ----------
    text
        As it stands in the formula, spacing made uniform: ``"Days"``, ``"I(Days ** 2)"``.
    columns
        The user's columns it needs, in order, each once.
    kind
        ``"column"``: a column alone; ``"number"``: a function, which needs numbers;
        ``"category"``: ``C(...)``; ``"offset"``: ``offset(...)``.
    code
        The text with its i-th column written as ``_column_i_``.
    coding
        What stands after the column of a ``C(...)``.
    width
        Columns of numbers that it makes, at most; 1 for a category, which has as many as the data.
    """

    text: str
    columns: tuple[str, ...]
    kind: FactorKind
    code: str = "_column_0_"
    coding: CategoryCoding = BY_DEFAULT
    width: int = 1

    def called(self, text: str) -> Factor:
        """The same under another text."""
        return replace(self, text=text)

    def with_names(self, names: tuple[str, ...]) -> str:
        """The text with other names for its columns."""
        if self.kind == "category":
            return self.coding.text(names[0])
        known = {f"_column_{i}_": name for i, name in enumerate(names)}
        return re.sub(r"_column_\d+_", lambda m: known.get(m[0], m[0]), self.code)


def quote(name: str, in_call: bool = False) -> str:
    """A column's name as it must be typed in a formula, in backticks where it needs them.

    Examples
    --------
    >>> quote("time"), quote("my col")
    ('time', '`my col`')
    """
    plain = name.isidentifier() and not keyword.iskeyword(name)
    plain = plain and re.match(r"[^\W\d]", name) is not None
    plain = plain and unicodedata.normalize("NFKC", name) == name
    if in_call:
        plain = plain and not is_reserved(name)
    return name if plain else f"`{name}`"


def inside_call(factor: Factor) -> str:
    """A factor as it is typed inside a function."""
    return quote(factor.columns[0], in_call=True) if factor.kind == "column" else factor.text


def is_reserved(name: str) -> bool:
    """Whether an unquoted name means something else than a column inside a call."""
    return name in ALLOWED_FUNCTIONS or name == "np" or name.startswith("_")


def column_factor(name: str) -> Factor:
    """The factor that is one column."""
    return Factor(quote(name), (name,), "column")


def closing(text: str, start: int) -> int | None:
    """Index just after the parenthesis that closes the one at ``start``; None where none does."""
    depth = 0
    for position, char in unquoted(text, start):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if depth == 0:
            return position + 1
    return None


def unquoted(text: str, start: int = 0) -> Iterator[tuple[int, str]]:
    """Each character that stands outside quotes and backticks, with its position."""
    return ((p, char) for p, char, quoted_by in quoting(text, start) if not quoted_by)


def parts_of(term: str) -> tuple[str, ...]:
    """The factors of a term; a colon within a call or in backticks does not part them.

    Examples
    --------
    >>> parts_of("`a:b`:C(x, levels=['u:v', 'w']):z")
    ('`a:b`', "C(x, levels=['u:v', 'w'])", 'z')
    """
    cuts, depth = [-1], 0
    for position, char in unquoted(term):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == ":" and depth == 0:
            cuts.append(position)
    return tuple(term[a + 1 : b] for a, b in zip(cuts, [*cuts[1:], len(term)], strict=True))


def quoting(text: str, start: int = 0) -> Iterator[tuple[int, str, str]]:
    """Each position, its character, and the quote it belongs to (empty outside quotes)."""
    quoted_by = ""
    for position in range(start, len(text)):
        char = text[position]
        if quoted_by:
            yield position, char, quoted_by
            quoted_by = "" if char == quoted_by else quoted_by
        else:
            quoted_by = char if char in "'\"`" else ""
            yield position, char, quoted_by
