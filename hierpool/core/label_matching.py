"""Labels of new data, or typed by the user, as the model has them.

Labels are read where there is one way only to do so: 308.0 and ``"308"`` for the whole number 308,
text in ISO 8601 for a date. Labels of any other kind are an error, not a new level.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from hierpool.core.errors import ArgumentError, DataError, listed, nearest
from hierpool.core.label_advice import ONE, column_advice, typed_advice
from hierpool.core.labels import EXACT, Kind, check_no_true_beside_one, kind_of, plain_labels
from hierpool.core.schema import FactorLevels

_PLAIN_WHOLE = re.compile(r"0|-?[1-9][0-9]*")  # 308, and not 0308, 308.0 or 3e2
_PLAIN_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))  # blanks of no width
_MOST_REPLACED = 10
_BAD = object()  # what stands for a label that cannot be read

Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where labels stand: in a column of new rows, or in an argument that the user typed.

    Attributes
    ----------
    name
        The column, or the factor.
    rows
        The user's index of the rows; None for a label that was typed.
    """

    name: str
    rows: pd.Index[Any] | None = None

    def holding(self, labels: pd.Index[Any], wanted: pd.Index[Any]) -> str:
        """Some labels, and the rows that hold them."""
        if self.rows is None:
            return listed(wanted)
        at = self.rows[labels.isin(wanted)]
        return f"{listed(wanted, 3)} in {'row' if len(at) == 1 else 'rows'} {listed(at)}"


def as_known(known: pd.Index[Any], given: pd.Index[Any], place: Place) -> pd.Index[Any]:
    """Plain labels as the model would have them, known or not.

    Parameters
    ----------
    known
        The model's labels.
    given
        The labels to be read.
    place
        Where these stand.

    Raises
    ------
    DataError
        Labels of another kind, or a label that differs from a known one by blanks or case only.
    """
    if given.dtype != known.dtype or (
        given.dtype == object and {kind_of(given), kind_of(known)} != {"text"}
    ):
        check_no_true_beside_one(given, place.name)
        different = _unique(given, place)
        read = list(map(_READERS[kind_of(known)](known), different))
        bad = different[[v is _BAD for v in read]]
        if len(bad):
            _fail_kind(known, given, bad, place)
        codes = different.get_indexer(given)
        given = plain_labels(pd.Index(read, dtype=object))[codes]
    _check_spelling(known, given, place)
    return given


def find_label(label: Any, known: pd.Index[Any], name: str) -> Any:
    """The model's label for one that the user typed."""
    if isinstance(label, Hashable) and not isinstance(label, tuple):
        given = as_known(known, plain_labels(pd.Index([label], dtype=object)), Place(name))
        at = int(known.get_indexer(given)[0])
        if at >= 0:
            return known[at]
    raise ArgumentError(
        f"{name!r} has no level {label!r}; {nearest(label, known)}", "unknown-choice"
    )


def find_level(label: Any, grouping: FactorLevels) -> int:
    """Position of the level that the user typed; of ``a:b`` also as a pair of labels."""
    parts = grouping.parts
    if isinstance(label, tuple) and len(label) == len(parts):
        found = [find_label(v, p.labels, p.column) for v, p in zip(label, parts, strict=True)]
        places = [p.labels.get_indexer(pd.Index([v])) for v, p in zip(found, parts, strict=True)]
        (code,) = grouping.codes_of(places)
        if code >= 0:
            return int(code)
        label = ":".join(map(str, found))
    found = find_label(label, grouping.levels, grouping.factor)
    (code,) = grouping.levels.get_indexer(pd.Index([found]))
    return int(code)


def _unique(labels: pd.Index[Any], place: Place) -> pd.Index[Any]:
    try:
        return labels.unique()
    except TypeError as error:  # lists and dicts
        raise DataError(
            f"{place.name!r} has labels that cannot be compared ({error}). Convert them to text, "
            "as in the model",
            "unusable-levels",
        ) from error


def _read_whole(known: pd.Index[Any]) -> Reader:
    def read(label: Any) -> Any:
        if isinstance(label, str):
            return int(label) if _PLAIN_WHOLE.fullmatch(label) else _BAD
        if not _is_number(label) or (abs(label) >= EXACT and isinstance(label, float)):
            return _BAD
        return int(label) if label == np.floor(label) else label

    return read


def _read_number(known: pd.Index[Any]) -> Reader:
    return lambda label: float(label) if _is_number(label) else _BAD


def _is_number(label: Any) -> bool:
    return isinstance(label, (int, float, np.number)) and not isinstance(label, bool)


def _read_text(known: pd.Index[Any]) -> Reader:
    """Text as it is; whole numbers and dates where the model spells them plainly."""

    @cache
    def spells(pattern: re.Pattern[str]) -> bool:
        return all(map(pattern.fullmatch, known))

    def read(label: Any) -> Any:
        if isinstance(label, str):
            return label
        if _is_number(label) and label == np.floor(label) and abs(label) < EXACT:
            text, pattern = str(int(label)), _PLAIN_WHOLE
        elif isinstance(label, pd.Timestamp) and label.tz is None and label == label.normalize():
            text, pattern = label.date().isoformat(), _PLAIN_DATE
        else:
            return _BAD
        return text if text in known or spells(pattern) else _BAD

    return read


def _read_bool(known: pd.Index[Any]) -> Reader:
    return lambda label: bool(label) if isinstance(label, (bool, np.bool_)) else _BAD


def _read_date(known: pd.Index[Any]) -> Reader:
    zone = known.tz if isinstance(known, pd.DatetimeIndex) else None

    def read(label: Any) -> Any:
        date = _from_iso(label) if isinstance(label, str) else label
        if not isinstance(date, datetime.date):
            return _BAD
        date = pd.Timestamp(date)
        if (date.tz is None) != (zone is None):
            return _BAD
        return date if zone is None else date.tz_convert(zone)

    return read


def _from_iso(text: str) -> Any:
    try:
        datetime.datetime.fromisoformat(text)  # takes less than pandas, which takes "2024-1"
        return pd.to_datetime(text, format="ISO8601")
    except ValueError:
        return _BAD


def _read_alike(known: pd.Index[Any]) -> Reader:
    """Durations, periods and intervals: the same type, or text as a known one is shown."""
    shown = {str(label): label for label in known}

    def read(label: Any) -> Any:
        if isinstance(label, str):
            return shown.get(label, _BAD)
        return label if _type(label) == _type(known[0]) else _BAD

    return read


def _type(label: Any) -> tuple[Any, ...]:
    """What a label must share with another: months are not days, (0, 1] is not [0, 1)."""
    return (type(label), getattr(label, "freqstr", None), getattr(label, "closed", None))


def _read_any(known: pd.Index[Any]) -> Reader:
    """Labels of several kinds: the same, or one that is not even written like a known one."""
    shown = {str(label): label for label in known}

    def read(label: Any) -> Any:
        like = shown.get(str(label), label)
        is_same = type(like) is type(label) or (_is_number(like) and _is_number(label))
        return label if is_same else _BAD

    return read


_READERS: dict[Kind, Callable[[pd.Index[Any]], Reader]] = {
    "whole numbers": _read_whole,
    "numbers": _read_number,
    "True or False": _read_bool,
    "text": _read_text,
    "dates without a time zone": _read_date,
    "dates with a time zone": _read_date,
    "durations": _read_alike,
    "periods": _read_alike,
    "intervals": _read_alike,
    "values of several kinds": _read_any,
}


def _fail_kind(
    known: pd.Index[Any], given: pd.Index[Any], bad: pd.Index[Any], place: Place
) -> NoReturn:
    bad = plain_labels(pd.Index(list(bad), dtype=object))
    here, there = kind_of(bad), kind_of(known)
    held = place.holding(given, bad)
    if place.rows is None:
        raise DataError(
            f"{place.name!r} has no level {held}: it is {ONE[here]}, and the model has {there}. "
            f"{typed_advice(known)}",
            "level-type",
        )
    raise DataError(
        f"column {place.name!r} holds {here} here ({held}) and {there} in the model "
        f"({listed(known, 3)}). {column_advice(known, bad, here, place.name)}",
        "level-type",
    )


def _check_spelling(known: pd.Index[Any], given: pd.Index[Any], place: Place) -> None:
    """Raise where a new label is that of a known one, but for blanks or case."""
    if given.dtype != object:
        return
    new = given[~given.isin(known)]
    folded = {_folded(v): v for v in known if isinstance(v, str)} if len(new) else {}
    alike = {v: folded[_folded(v)] for v in new if isinstance(v, str) and _folded(v) in folded}
    if not alike:
        return
    pairs = [f"{one!r} for {other!r}" for one, other in alike.items()]
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    said = f"{', '.join(pairs[:3])}{more}"
    if place.rows is None:
        raise DataError(
            f"{place.name!r} has no level {next(iter(alike))!r}; the model spells it "
            f"{next(iter(alike.values()))!r}",
            "level-spelling",
        )
    column = f"data[{place.name!r}]"
    replaced = dict(list(alike.items())[:_MOST_REPLACED])
    raise DataError(
        f"column {place.name!r} has labels that differ from those of the model only in blanks or "
        f"case: {said} ({place.holding(given, pd.Index(list(alike), dtype=object))}). If they "
        f"mean the same, write {column} = {column}.astype(str).replace({replaced!r}); otherwise "
        "rename them",
        "level-spelling",
    )


def _folded(text: str) -> str:
    seen = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
    return "".join(seen.split()).casefold()
