"""Layout of a table in a file: delimiter, header, and the rows below it."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hierpool.core.errors import ArgumentError, DataError, listed
from hierpool.core.text import joined
from hierpool.formula.cell_numbers import MISSING, is_number

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
_CANDIDATES = [",", ";", "\t", "|"]
_SAMPLE = 100  # lines that tell the delimiter
_TITLES = 20  # lines above a header, at most
_TOTALS = {
    *("total", "totals", "grand total", "subtotal", "sum", "mean", "average"),
    *("summe", "gesamt", "gesamtsumme", "mittelwert", "durchschnitt", "moyenne", "somme", "totaal"),
}


@dataclass(frozen=True)
class Grid:
    """Rows of cells as they stand in a file.

    Attributes
    ----------
    name
        Of the file.
    rows
        Cells: text, or what a workbook holds; ``""`` where there is nothing.
    places
        Line of the file, or row of the sheet, in which each begins.
    place
        ``"line"`` or ``"row"``.
    assumed
        What was taken for granted so far.
    """

    name: str
    rows: Sequence[Sequence[object]]
    places: Sequence[int]
    place: str
    assumed: tuple[str, ...] = ()

    def at(self, which: Sequence[int]) -> str:
        """Words for some rows: ``"lines 4 and 9"``."""
        places = [str(self.places[k]) for k in which]
        shown = places[:6] + ([f"{len(places) - 6} more"] if len(places) > 6 else [])
        return f"{self.place}{'s' * (len(places) > 1)} {joined(shown)}"


@dataclass(frozen=True)
class Layout:
    """A header and the rows below it, all of one length.

    Attributes
    ----------
    names
        Of the columns.
    body
        The rows below the header.
    assumed
        What was taken for granted, a clause each.
    """

    names: Sequence[str]
    body: Grid
    assumed: tuple[str, ...]


def rows_of_text(text: str, name: str, delimiter: str | None, usual: str) -> Grid:
    """The rows of a text table, split at the delimiter that is given or that it shows.

    clevercsv weighs how regular the rows are, and what the cells look like. On files with title
    lines, decimal commas and notes it was right where csv.Sniffer was not; DuckDB's sniffer, as
    right on these, took the title of a spreadsheet for its header and is a database.
    """
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ArgumentError(
            f"--delimiter is {delimiter!r}; it is one character, e.g. ';'", "unknown-choice"
        )
    used = delimiter or _delimiter(text, name, usual)
    said: tuple[str, ...] = ()
    if delimiter is None and used != usual:
        said = (f"cells are separated by {DELIMITERS[used]}",)
    rows, places = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=used, strict=True)
    before = 0
    try:
        for row in reader:
            rows.append(row)
            places.append(before + 1)
            before = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{name} cannot be read from line {before + 1} on: {error}. A quotation mark there is "
            "not closed, or text follows a closing one.",
            "unreadable-file",
        ) from error
    return Grid(name, rows, places, "line", said)


def _delimiter(text: str, name: str, usual: str) -> str:
    from clevercsv import Sniffer
    from clevercsv.exceptions import Error

    sample = "".join(itertools.islice(io.StringIO(text, newline=""), _SAMPLE))
    if not any(sign in sample for sign in _CANDIDATES):
        if _is_even(sample, " "):
            raise DataError(
                f"{name} has one column, or its cells are separated by blanks, equally many in "
                "each line. Put quotation marks around texts with blanks, or use --delimiter ' '.",
                "which-delimiter",
            )
        return usual  # one column
    try:
        found = Sniffer().sniff(sample, delimiters=_CANDIDATES)
    except Error:
        found = None
    fitting = [d for d in _CANDIDATES if _is_even(sample, d)]
    chosen = found.delimiter if found else ""
    if not chosen and len(fitting) == 1:
        (chosen,) = fitting
    if len(fitting) > 1 or (fitting and chosen not in fitting):
        choices = [DELIMITERS[d] for d in dict.fromkeys([*fitting, chosen]) if d]
        raise DataError(
            f"the cells of {name} can be separated by {' or by '.join(choices)}: every line can "
            "be split at either. Choose one, e.g. --delimiter ';'.",
            "which-delimiter",
        )
    return chosen or usual


def _is_even(sample: str, delimiter: str) -> bool:
    """Whether every line has the same number of cells, more than one."""
    try:
        lengths = {len(row) for row in csv.reader(sample.splitlines(), delimiter=delimiter) if row}
    except csv.Error:
        return False
    return len(lengths) == 1 and lengths != {1}


def read_layout(grid: Grid) -> Layout:
    """The header and the rows below it; an error where a row does not fit them.

    Titles above the header, empty rows and empty columns are left out, and said.
    """
    filled = [[k for k, cell in enumerate(row) if not _is_empty(cell)] for row in grid.rows]
    kept = [i for i, places in enumerate(filled) if places]
    if not kept:
        raise DataError(f"{grid.name} has no cells.", "unreadable-file")
    first = _header(grid, filled, kept)
    said = list(grid.assumed)
    if titles := [i for i in kept if i < first]:
        shown = " ".join(str(cell) for cell in grid.rows[titles[0]] if not _is_empty(cell))
        said.append(f"the header is in {grid.at([first])}; above it are titles ({shown!r})")
    body = [i for i in kept if i > first]
    between = [i for i in range(first, kept[-1]) if not filled[i]]
    if between:
        said.append(f"{grid.at(between)} left out as empty")
    width = 1 + max((filled[i][-1] for i in (first, *body)), default=0)
    _check_even(grid, first, body, width)
    header = [str(cell).strip() for cell in (*grid.rows[first], *[""] * width)][:width]
    cells = [list(grid.rows[i])[:width] for i in body]
    used = [k for k in range(width) if header[k] or any(not _is_empty(row[k]) for row in cells)]
    if len(used) < width:
        said.append(f"{width - len(used)} empty columns left out")
    rows = Grid(
        grid.name,
        [[row[k] for k in used] for row in cells],
        [grid.places[i] for i in body],
        grid.place,
    )
    names, clauses = _named([header[k] for k in used], grid, first)
    _check_no_units(rows, names)
    _check_no_totals(rows, names)
    return Layout(names, rows, tuple(said + clauses))


def _is_empty(cell: object) -> bool:
    return isinstance(cell, str) and not cell.strip()


def _header(grid: Grid, filled: Sequence[Sequence[int]], kept: Sequence[int]) -> int:
    """The first row, or the first whole row of texts below titles that fill few cells."""
    width = Counter(len(filled[i]) for i in kept).most_common(1)[0][0]
    if width < 2:
        return kept[0]
    for i in kept[:_TITLES]:
        row = [grid.rows[i][k] for k in filled[i]]
        if len(row) >= width and not any(is_number(c) or c in MISSING for c in row):
            return i
        is_title = filled[i][0] == 0 and len(row) < width
        is_short = 2 * len(row) <= width or len(grid.rows[i]) < width
        if not (is_title and is_short):
            break
    return kept[0]


def _check_even(grid: Grid, first: int, body: Sequence[int], width: int) -> None:
    """Raise where rows have more or fewer cells than the others; empty ones at an end are none."""
    lengths = Counter(len(grid.rows[i]) for i in body)
    usual = max(lengths, key=lambda n: (lengths[n], n), default=width)
    odd = [i for i in body if len(grid.rows[i]) != usual]
    odd = [i for i in odd if len(grid.rows[i]) < min(width, usual) or _last(grid.rows[i]) > usual]
    if odd:
        sizes = sorted({len(grid.rows[i]) for i in odd})
        raise DataError(
            f"{grid.at(odd)} of {grid.name} {('has' if len(odd) == 1 else 'have')} "
            f"{' or '.join(map(str, sizes))} cell{'s' * (sizes != [1])}, and the others have "
            f"{usual}: a delimiter is missing, a text with a delimiter lacks quotation marks, or "
            "the row is a note. Correct or delete it.",
            "ragged-rows",
        )
    named = _last(grid.rows[first])
    if body and usual > len(grid.rows[first]) and width > named:
        raise DataError(
            f"the header of {grid.name} ({grid.at([first])}) has {named} names, and the rows below "
            f"have {width} cells. Give every column a name.",
            "ragged-rows",
        )
    if body and named > usual:
        raise DataError(
            f"the header of {grid.name} ({grid.at([first])}) has {named} names, and the rows below "
            f"have {usual} cells: a name may hold the delimiter. Put it in quotation marks.",
            "ragged-rows",
        )


def _last(row: Sequence[object]) -> int:
    """Number of cells up to the last that is filled."""
    return max((k + 1 for k, cell in enumerate(row) if not _is_empty(cell)), default=0)


def _named(header: Sequence[str], grid: Grid, first: int) -> tuple[list[str], list[str]]:
    """Names without blanks around them; a column without one is called by its place."""
    said = []
    raw = [str(cell) for cell in grid.rows[first]]
    if blank := [name for name in raw if name.strip() and name != name.strip()]:
        said.append(f"blanks around column names removed ({listed(blank, most=3)})")
    names = [name or f"Unnamed: {k}" for k, name in enumerate(header)]
    if unnamed := [name for name, given in zip(names, header, strict=True) if not given]:
        said.append(f"columns without a name are called {listed(unnamed, most=3)}")
    return names, said


def _check_no_units(rows: Grid, names: Sequence[str]) -> None:
    """Raise where the first row holds words above columns that are numbers all through."""
    if len(rows.rows) < 3:
        return
    head = rows.rows[0]
    columns = list(zip(*rows.rows[1:], strict=True))
    numeric = [
        k
        for k, column in enumerate(columns)
        if all(is_number(c) or c in MISSING for c in column) and any(map(is_number, column))
    ]
    words = [k for k in numeric if head[k] not in MISSING and not is_number(head[k])]
    if words and not any(is_number(cell) for cell in head):
        raise DataError(
            f"{rows.at([0])} of {rows.name} looks like a second header, with units or notes: "
            f"{listed([head[k] for k in words])} under {listed([names[k] for k in words])}, where "
            "all other rows have numbers. Delete this row.",
            "stray-row",
        )


def _check_no_totals(rows: Grid, names: Sequence[str]) -> None:
    """Raise where the last row is called a sum or a mean, and no other is."""
    if len(rows.rows) < 3:
        return
    for k, cell in enumerate(rows.rows[-1]):
        word = str(cell).strip().rstrip(":").casefold()
        if word in _TOTALS and all(row[k] != cell for row in rows.rows[:-1]):
            raise DataError(
                f"{rows.at([len(rows.rows) - 1])} of {rows.name} looks like a row of totals: no "
                f"other row has {cell!r} in {names[k]!r}. Delete this row, or give it another "
                "name if it is data.",
                "stray-row",
            )
