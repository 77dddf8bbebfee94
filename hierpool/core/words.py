"""Words of sentences: joined, and begun with a capital letter."""

from __future__ import annotations

from collections.abc import Iterable


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
