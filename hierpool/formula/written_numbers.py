"""Numbers and dates stored as text, detected with advice on how to read them.

A spreadsheet makes text of a whole column for one stray cell, a decimal comma, a percent sign or a
second row of headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hierpool.core.errors import DataError, listed
from hierpool.core.row_labels import rows_named
from hierpool.formula.function_calls import quote

_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_THOUSANDS = r"[-+]?[1-9][0-9]{0,2},[0-9]{3}"  # or a number with three decimals
_ISO = r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*"
_DATES = (  # formats in which dates are written; several may fit
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y"),
)
_MISSING = {"", "na", "n/a", "nan", "null", "none", "nil", "missing", "unknown", "?", "-", ".", "*"}


class _Step(NamedTuple):
    """One way in which a number is written, and what undoes it."""

    called: str
    written: str
    never: str
    undone: tuple[tuple[str, str, bool], ...]


_STEPS = (
    _Step("blanks around them", r"\s.*|.*\s", "", ((r"^\s+|\s+$", "", True),)),
    _Step("minus signs other than hyphens", r"−.*", "", (("−", "-", False),)),
    _Step("percent signs", r".*[0-9]\s*%", "", ((r"\s*%$", "", True),)),
    _Step(
        "thousands separated by blanks or apostrophes",
        r"[-+]?[0-9]{1,3}(?:[\s'’][0-9]{3})+(?:[.,][0-9]+)?",
        "",
        ((r"(?<=[0-9])[\s'’](?=[0-9]{3})", "", True),),
    ),
    _Step(
        "decimal commas and points between thousands",
        r"[-+]?[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+",
        r"[-+]?[0-9]*\.(?:[0-9]{1,2}|[0-9]{4,})",
        ((".", "", False), (",", ".", False)),
    ),
    _Step(
        "commas between thousands",
        r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+|[-+]?[0-9]{1,3}(?:,[0-9]{3}){2,}",
        r"[-+]?[0-9]*,(?:[0-9]{1,2}|[0-9]{4,})",
        ((",", "", False),),
    ),
    _Step("decimal commas", r"[-+]?[0-9]*,[0-9]+", "", ((",", ".", False),)),
)


_SEVERAL = ("these cells", "them", "are")


@dataclass(frozen=True)
class Reading:
    """How a column of text can be read as numbers.

    Attributes
    ----------
    column
        The cells as they are, none missing.
    codes, different
        The different cells as text, and the position among them of each cell, shape (n,).
    is_number
        Whether the cell can be read, shape (n,).
    typed
        What the user types for the text that ``pandas.to_numeric`` can read.
    called
        What else is written in the cells, such as "decimal commas".
    ambiguous
        Whether the commas can also stand between thousands.
    """

    column: pd.Series[Any]
    codes: np.ndarray
    different: pd.Series[Any]
    is_number: pd.Series[bool]
    typed: str
    called: tuple[str, ...]
    ambiguous: bool

    @classmethod
    def of(cls, column: pd.Series[Any], name: str) -> Reading:
        """Undo what is written around the numbers, and see how many there are."""
        all_text = pd.api.types.infer_dtype(column, skipna=False) == "string"
        codes, labels = pd.factorize(column if all_text else column.astype(object).map(str))
        text = different = pd.Series(np.asarray(labels, dtype=object), dtype=object)
        typed = f"data[{name!r}]{'' if all_text else '.astype(str)'}"
        called: list[str] = []
        ambiguous = False
        for step in _STEPS:
            if not _any(text, step.written) or (step.never and _any(text, step.never)):
                continue
            called.append(step.called)
            ambiguous = step.called == "decimal commas" and _parts_thousands(text)
            for old, new, regex in step.undone:
                text = text.str.replace(old, new, regex=regex)
                typed += f".str.replace({old!r}, {new!r}{', regex=True' if regex else ''})"
        found = text.str.fullmatch(_NUMBER).to_numpy(dtype=bool)[codes]
        is_number = pd.Series(found, index=column.index)
        typed = typed if called else f"data[{name!r}]"
        return cls(column, codes, different, is_number, typed, tuple(called), ambiguous)

    @property
    def is_mostly_numbers(self) -> bool:
        """Whether more than half of the cells are numbers."""
        return bool(self.is_number.mean() > 0.5)

    @property
    def stray(self) -> pd.Series[Any]:
        """The cells that are no numbers."""
        return self.column[~self.is_number].astype(object)

    def advice(self, name: str, in_file: bool = False) -> str:
        """What the column holds, and what to type, or what to change in the file."""
        n, stray = len(self.column), self.stray
        how = f" with {' and '.join(self.called)}" if self.called else ""
        how += " (or with commas between thousands)" if self.ambiguous else ""
        numbers = self.column[self.is_number].astype(object)
        examples = listed(dict.fromkeys(numbers.map(_shown)), 3)
        if not len(stray):
            if in_file:
                return f"all {n} cells are numbers{how}, e.g. {examples}. Write them without that"
            return f"all {n} cells are numbers{how}, e.g. {examples}. Write {self._typed(name)}"
        cells = listed(list(dict.fromkeys(stray.map(_shown)))[:3])
        cells = f"{cells} in {rows_named(stray.index.rename(None))}"
        these, them, are = ("this cell", "it", "is") if len(stray) == 1 else _SEVERAL
        said = f"{n - len(stray)} of {n} cells are numbers{how}, and {cells} {are} not. Correct {these}"
        if in_file:
            return (
                f"{said} in the file, or empty {them} to leave out the "
                f"{'row' if len(stray) == 1 else 'rows'}; the first row under the header is row 0"
            )
        return f"{said}, or make {them} missing: {self._typed(name, ', errors=' + repr('coerce'))}"

    def _typed(self, name: str, errors: str = "") -> str:
        ways = [self.typed]
        if self.ambiguous:
            ways.append(self.typed.replace("(',', '.')", "(',', '')"))
        return " or, for thousands, ".join(
            f"data[{name!r}] = pandas.to_numeric({way}{errors})" for way in ways
        )


def _any(text: pd.Series[Any], pattern: str) -> bool:
    return bool(text.str.fullmatch(pattern).any())


def _parts_thousands(text: pd.Series[Any]) -> bool:
    """Whether each comma may stand between thousands."""
    return bool(text[text.str.contains(",", regex=False)].str.fullmatch(_THOUSANDS).all())


def check_no_written_numbers(column: pd.Series[Any], name: str) -> None:
    """Raise where a column of text that stands as a predictor holds mostly numbers, or dates."""
    reading = Reading.of(column, name)
    categories = f"write C({quote(name)}) in the formula where categories are meant"
    why = "As a category, every distinct cell would get a coefficient"
    if reading.is_mostly_numbers:
        said, in_file = (
            f"column {name!r} is text, but {advice}. {why}; {categories}"
            for advice in (reading.advice(name), reading.advice(name, in_file=True))
        )
        raise DataError(said, "text-not-number", in_file)
    dates = _dates_advice(reading, name)
    if dates:
        raise DataError(
            f"column {name!r} is text that {dates}. {why}; {categories}",
            "text-dates",
            f"column {name!r} is text that {_in_file(dates)}. {why}; {categories}",
        )


def fail_not_number(column: pd.Series[Any], name: str, role: str) -> None:
    """Raise for text or categories where a number must stand."""
    reading = Reading.of(column, name)
    dates = "" if reading.is_mostly_numbers else _dates_advice(reading, name)
    if dates:
        raise DataError(
            f"column {name!r} is text that {dates}; {role} must be a number",
            "text-dates",
            f"column {name!r} is text that {_in_file(dates)}; {role} must be a number",
        )
    said = f"column {name!r} is text or categories, and {role} must be a number"
    if reading.is_mostly_numbers:
        typed, in_file = (f"{said}: {reading.advice(name, way)}" for way in (False, True))
        raise DataError(typed, "text-not-number", in_file)
    cells = list(dict.fromkeys(map(_shown, reading.column.astype(object))))
    advice = ""
    if role == "the response" and len(cells) == 2:
        event = sorted(cells)[1]
        advice = f". For the probability of {event!r} write family='bernoulli'"
    raise DataError(f"{said}: it holds e.g. {listed(cells[:3])}{advice}", "text-not-number")


def _shown(cell: Any) -> Any:
    """A cell as text that can stand in a dict."""
    return cell if isinstance(cell, str) else str(cell)


def _dates_advice(reading: Reading, name: str) -> str:
    """What to type for text that holds mostly dates; empty where it does not."""
    has_digits = reading.different.str.contains(r"[0-9]{2}", regex=True).to_numpy(dtype=bool)
    is_written = has_digits[reading.codes]
    if is_written.mean() <= 0.5:
        return ""
    text = reading.different.take(reading.codes).set_axis(reading.column.index)
    written = text[is_written]
    iso = text.str.fullmatch(_ISO)
    if iso.mean() > 0.5:
        fits, parsed = ["ISO8601"], pd.to_datetime(text, format="ISO8601", errors="coerce").notna()
    else:
        sample = written.drop_duplicates()
        share = {f: pd.to_datetime(sample, format=f, errors="coerce").notna() for f in _DATES}
        best = max(found.mean() for found in share.values())
        fits = [f for f, found in share.items() if found.mean() == best > 0.5]
        if not fits:
            return ""
        parsed = pd.to_datetime(text, format=fits[0], errors="coerce").notna()
    errors = "" if parsed.all() else ", errors='coerce'"
    typed = f"data[{name!r}]"
    which = fits[0] if len(fits) == 1 else "..."
    said = f" (the format is one of {listed(fits)})" if len(fits) > 1 else ""
    return (
        f"holds dates, e.g. {listed(list(dict.fromkeys(text))[:2])}. Make a number of them: "
        f"{typed} = pandas.to_datetime({typed}, format={which!r}{errors}){said}, then "
        f"data['days'] = ({typed} - {typed}.min()).dt.days, and use days"
    )


def _in_file(dates: str) -> str:
    """The same for a table in a file, where no Python can be typed."""
    return (
        f"{dates.split('. Make a number of them: ')[0]}. Add a column of numbers to the file, the "
        "days since the first date (in a spreadsheet =A2-MIN(A:A), shown as a number), and use that"
    )


def check_no_unit_row(frame: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise where the first row holds units instead of numbers in the named columns."""
    units: dict[str, str] = {}
    for name in dict.fromkeys(names):
        first = frame[name].iloc[0]
        if not isinstance(first, str) or not _is_unit(first):
            continue
        cells = frame[name].dropna()
        if len(cells) < 3:
            continue
        is_number = Reading.of(cells, name).is_number.to_numpy()
        if is_number[1:].all() and not is_number[0]:
            units[name] = first
    if not units:
        return
    held = ", ".join(f"{unit!r} in {name!r}" for name, unit in units.items())
    plain = all(not Reading.of(frame[name].iloc[1:].dropna(), name).called for name in units)
    types = "{" + ", ".join(f"{name!r}: float" for name in units) + "}"
    types = f".astype({types})" if plain else ""
    said = (
        f"{rows_named(frame.index[:1])} holds {held}, above numbers: it looks like a second header "
        "with units. "
    )
    raise DataError(
        f"{said}Leave it out: data = data.iloc[1:]{types}, or read the file with skiprows=[1]",
        "unit-row",
        f"{said}Delete that row from the file, the first under the header",
    )


def _is_unit(cell: str) -> bool:
    return cell.strip().casefold() not in _MISSING and not re.match(r"\s*[-+]?[.,]?[0-9]", cell)
