"""Advice on labels of another type than those of the model."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from hierpool.core.errors import listed
from hierpool.core.labels import EXACT, Kind, kind_of

# How one label of a kind is called.
ONE: dict[Kind, str] = {
    "whole numbers": "a whole number",
    "numbers": "a number",
    "True or False": "True or False",
    "text": "text",
    "dates without a time zone": "a date without a time zone",
    "dates with a time zone": "a date with a time zone",
    "durations": "a duration",
    "periods": "a period",
    "intervals": "an interval",
    "values of several kinds": "something else",
}
_DAY_AND_MONTH = re.compile(r"[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{4}")
_NUMBERS = ("whole numbers", "numbers")


def typed_advice(known: pd.Index[Any]) -> str:
    """What to type for one level."""
    if isinstance(known, pd.DatetimeIndex):
        return f"Write the date in ISO 8601: {known[0].isoformat()!r}"
    return f"Type it as the model has it: {listed(known[:3])}"


def column_advice(known: pd.Index[Any], bad: pd.Index[Any], here: Kind, name: str) -> str:
    """What to do with a column of new data, some labels of which cannot be read."""
    there, column = kind_of(known), f"data[{name!r}]"
    if there in _NUMBERS and here in (*_NUMBERS, "text", "True or False"):
        return _to_numbers(bad, here, column)
    if there == "text":
        return _to_text(known, bad, here, column)
    if there == "True or False":
        return _to_bool(bad, column)
    if isinstance(known, pd.DatetimeIndex) and (
        here == "text" or isinstance(bad, pd.DatetimeIndex)
    ):
        return _to_dates(known, bad, here, column)
    return f"Give {there}, such as {listed(known[:2])}"


def _to_numbers(bad: pd.Index[Any], here: Kind, column: str) -> str:
    if here == "True or False":
        return f"Write {column} = {column}.astype(int) if 1 stands for True"
    if here != "text":
        return (
            f"Decimal numbers from {EXACT:.0f} on cannot represent every whole number: read the "
            "column as text"
        )
    if pd.to_numeric(pd.Series(bad), errors="coerce").isna().any():
        return "Some of these are not numbers: correct them, or leave the rows out"
    return (
        f"Text counts as a whole number only in its plain spelling, such as '308'. Write {column} "
        f"= pandas.to_numeric({column})"
    )


def _to_text(known: pd.Index[Any], bad: pd.Index[Any], here: Kind, column: str) -> str:
    size = len(known[0])
    if here == "whole numbers" and all(v.isdigit() and len(v) == size for v in known):
        return f"Write {column} = {column}.astype(int).astype(str).str.zfill({size})"
    if here == "True or False" and set(known) == {"True", "False"}:
        return f"Write {column} = {column}.astype(str)"
    formats = _formats(known[:1])
    if isinstance(bad, pd.DatetimeIndex) and formats:
        return f"Write {column} = pandas.to_datetime({column}).dt.strftime({formats[0]!r})"
    return f"Spell the text as in the model: {listed(known[:3])}"


def _to_bool(bad: pd.Index[Any], column: str) -> str:
    if bad.isin([0, 1]).all():
        return f"Write {column} = {column}.astype(bool) if 1 stands for True"
    if bad.isin(["True", "False"]).all():
        return f"Write {column} = {column}.map({{'True': True, 'False': False}})"
    return "Give True or False"


def _to_dates(known: pd.DatetimeIndex, bad: pd.Index[Any], here: Kind, column: str) -> str:
    zone = f".dt.tz_localize({None if known.tz is None else str(known.tz)!r})"
    is_iso = (
        here != "text"
        or not pd.to_datetime(
            pd.Series(bad, dtype=str), format="ISO8601", errors="coerce", utc=True
        )
        .isna()
        .any()
    )
    if is_iso:
        clock = ", which keeps the hour of the clock" if known.tz is None else ""
        return f"Write {column} = pandas.to_datetime({column}){zone}{clock}"
    after = "" if known.tz is None else zone
    why = "Only ISO 8601, such as '2024-01-31', is read from text"
    formats = _formats(bad)
    if not formats:
        return f"{why}. Write {column} = pandas.to_datetime({column}, format=...){after} with the format"
    day, month = (f"{column} = pandas.to_datetime({column}, format={f!r}){after}" for f in formats)
    return f"{why}. Write {day} if the day comes first, {month} if the month does"


def _formats(texts: pd.Index[Any]) -> tuple[str, ...]:
    """Both ways to read dates such as 02.01.2024; none where they are written otherwise."""
    found = [_DAY_AND_MONTH.fullmatch(v) for v in texts if isinstance(v, str)]
    signs = {m[1] if m else "" for m in found}
    if len(signs) != 1 or "" in signs:
        return ()
    (sign,) = signs
    return (f"%d{sign}%m{sign}%Y", f"%m{sign}%d{sign}%Y")
