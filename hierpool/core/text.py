"""Numbers as text with the digits that matter, and words joined into sentences."""

from __future__ import annotations

import keyword
from collections.abc import Iterable

import numpy as np


def number(value: float) -> str:
    """Four digits that matter, for a table."""
    return digits(value, 4)


def short(value: float) -> str:
    """Three digits that matter, for a sentence."""
    return digits(value, 3)


def digits(value: float, count: int) -> str:
    """So many digits that matter; whole numbers are written out, tiny ones with an exponent."""
    if not np.isfinite(value) or value == 0:
        return f"{value:g}"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{count - 1}e}"
    return f"{value:.{max(count - 1 - int(np.floor(np.log10(abs(value)))), 0)}f}"


def joined(words: Iterable[str]) -> str:
    """One after the other, with "and" before the last.

    Examples
    --------
    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def capital(text: str) -> str:
    """The same with its first letter as a capital; names further on stay as they are.

    Examples
    --------
    >>> capital("the sd of x")
    'The sd of x'
    """
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """The same as a sentence: with a capital and one full stop.

    Examples
    --------
    >>> sentence("nothing varies")
    'Nothing varies.'
    """
    return f"{capital(text).rstrip('.')}."


def in_backticks(name: str) -> str:
    """A column's name as it can be typed in a formula: in backticks unless it is a plain word."""
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"`{name}`"
