"""Catalogue of the bundled tables: the entries of ``about.toml``, by name."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

from hierpool.core.errors import DataError, nearest

ColumnType = Literal["real", "integer", "category"]

LEVELS_SHOWN = 4  # of a category, before the printed form leaves the middle out
WIDTH = 88  # of the printed form


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a bundled table.

    Attributes
    ----------
    name
        As in the table.
    what
        What it says, in a few words.
    type
        ``"real"``, ``"integer"``, or ``"category"`` (text levels without an order of meaning).
    unit
        Unit of measurement; empty where there is none.
    n_levels
        Number of levels of a category; 0 for numbers.
    levels
        Levels of a category in order, the first one the reference of treatment coding; empty where
        they are whole numbers in ascending order, as text.
    """

    name: str
    what: str
    type: ColumnType
    unit: str = ""
    n_levels: int = 0
    levels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Type, with the levels of a category in their order."""
        if self.type != "category":
            return self.type
        if not self.levels:
            return f"{self.n_levels} levels, numbered in order"
        shown = ", ".join(self.levels)
        if len(self.levels) > LEVELS_SHOWN + 2:
            shown = f"{', '.join(self.levels[:LEVELS_SHOWN])} ... {self.levels[-1]}"
        return f"{self.n_levels} levels: {shown}"


@dataclass(frozen=True, slots=True, repr=False)
class About:
    """What a bundled table is and where it comes from. Prints as a page.

    Attributes
    ----------
    name
        Name to load it by.
    title
        One line.
    story
        What to know before a model is fitted.
    source
        Where the numbers were published.
    package
        Package, with its version, that the table was taken from.
    licence
        Licence of that package.
    rows
        Number of rows.
    columns
        The columns, in the table's order.
    simulated
        Whether somebody made the numbers up; they measure nothing then.
    truth
        For a table simulated here, the values that it was simulated from; empty otherwise.
    file
        File in the folder ``tables``.
    """

    name: str
    title: str
    story: str
    source: tuple[str, ...]
    package: str
    licence: str
    rows: int
    columns: tuple[Column, ...]
    simulated: bool
    file: str
    truth: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name for titles; says so where the numbers are made up."""
        return f"{self.name} (simulated)" if self.simulated else self.name

    def __repr__(self) -> str:
        cells = [(c.name, c.kind, _meaning(c)) for c in self.columns]
        wide = max(len(name) for name, _, _ in cells)
        lines = [f"{self.label}: {self.title}", f"{self.rows} rows, {len(cells)} columns", ""]
        for name, kind, meaning in cells:
            lines += [f"  {name:<{wide}}  {meaning}", *_wrapped(kind, " " * (wide + 4))]
        lines += ["", *textwrap.wrap(self.story, WIDTH), ""]
        lines += [line for key, text in self._facts() for line in _wrapped(f"{key}: {text}")]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{text}</th>" for text in ("column", "what it is", "type"))
        body = "".join(
            f"<tr><td><code>{escape(c.name)}</code></td><td>{escape(_meaning(c))}</td>"
            f"<td>{escape(c.kind)}</td></tr>"
            for c in self.columns
        )
        facts = "<br>".join(f"<b>{key}</b>: {escape(text)}" for key, text in self._facts())
        return (
            f"<p><b>{escape(self.label)}</b>: {escape(self.title)} "
            f"({self.rows} rows, {len(self.columns)} columns)</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{escape(self.story)}</p><p>{facts}</p>"
        )

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("Simulated", "these numbers are not measurements.")] if self.simulated else []
        if self.truth:
            values = (f"{key} = {value:g}" for key, value in self.truth.items())
            facts.append(("Truth", ", ".join(values)))
        facts += [("Source", text) for text in self.source]
        return [*facts, ("Taken from", f"{self.package}, {self.licence}")]


def names() -> list[str]:
    """Names of the bundled tables, those of the tutorials first.

    Examples
    --------
    >>> names()[:3]
    ['boars', 'sleepstudy', 'radon']
    """
    return list(_entries())


def about(name: str) -> About:
    """What a bundled table is: origin, licence, and what each column says.

    Parameters
    ----------
    name
        One of :func:`names`, in any case.

    Examples
    --------
    >>> page = about("eight_schools")
    >>> page.rows, [column.name for column in page.columns]
    (8, ['school', 'effect', 'se'])
    """
    entries = _entries()
    if not isinstance(name, str):
        raise DataError(
            f"a data set is named by text, not by {name!r}. Write for example "
            'datasets.load("sleepstudy").',
            "unknown-dataset",
        )
    known = {key.casefold(): key for key in entries}
    if name.casefold() not in known:
        raise DataError(
            f"there is no data set {name!r}; {nearest(name, entries)}\n"
            "datasets.names() lists them all.",
            "unknown-dataset",
        )
    return entries[known[name.casefold()]]


@cache
def _entries() -> Mapping[str, About]:
    text = (files(__package__) / "about.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: _page(name, raw) for name, raw in tomllib.loads(text).items()})


def _page(name: str, raw: dict[str, Any]) -> About:
    return About(
        name=name,
        title=raw["title"],
        story=raw["story"],
        source=tuple(raw["source"]),
        package=raw["package"],
        licence=raw["licence"],
        rows=raw["rows"],
        columns=tuple(_column(key, entry) for key, entry in raw["columns"].items()),
        simulated=raw.get("simulated", False),
        file=raw["file"],
        truth=MappingProxyType(raw.get("truth", {})),
    )


def _column(name: str, raw: dict[str, Any]) -> Column:
    levels = raw.get("levels", ())
    return Column(
        name=name,
        what=raw["what"],
        type=raw["type"],
        unit=raw.get("unit", ""),
        n_levels=raw.get("n", 0),
        levels=() if levels == "ascending" else tuple(levels),
    )


def _meaning(column: Column) -> str:
    return f"{column.what} [{column.unit}]" if column.unit else column.what


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent or "  ")
