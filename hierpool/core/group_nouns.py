"""What the groups of a factor are called in a sentence: 129 boars, subject 332, a new county.

The name of the column is the noun where it is a word, else it is 'group'.
"""

from __future__ import annotations

import re
from typing import Any

from hierpool.core.text import capital

GROUP = "group"
_WORD = re.compile(r"[A-Za-z][a-z]+([ _-][a-z]+)*")
_NO_NOUNS = {
    "who",
    "which",
    "grp",
    "grps",
    "ids",
    "idx",
    "key",
    "code",
    "no",
    "nr",
    "num",
    "number",
    "factor",
}
_SHORT = {"subj": "subject", "ppt": "participant", "obs": "observation", "pid": "patient"}
_IRREGULAR = {"child": "children", "person": "people", "mouse": "mice", "foot": "feet"}
_IRREGULAR |= {"man": "men", "woman": "women", "species": "species", "series": "series"}
_IRREGULAR |= {"sheep": "sheep", "fish": "fish", "ox": "oxen", "goose": "geese", "leaf": "leaves"}
_SINGULAR = {many: one for one, many in _IRREGULAR.items()}


def noun(factor: str) -> str:
    """One group of a factor: ``"boar"`` of ``"boar"``, ``"child"`` of ``"child_id"``, else ``"group"``.

    Examples
    --------
    >>> noun("Subject"), noun("schools"), noun("school:class"), noun("g")
    ('subject', 'school', 'school-class combination', 'group')
    """
    parts = factor.split(":")
    if len(parts) > 1:
        words = [noun(part) for part in parts]
        return GROUP if GROUP in words else f"{'-'.join(words)} combination"
    bare = re.sub(r"(?i)[_. -]*id$", "", factor) if len(factor) > 4 else factor
    word = bare.replace("_", " ").lower()
    word = _SHORT.get(word, word)
    if not _WORD.fullmatch(bare) or not _is_word(word):
        return GROUP
    return _singular(word)


def nouns(factor: str) -> str:
    """Several groups of a factor.

    Examples
    --------
    >>> nouns("boar"), nouns("county"), nouns("child_id"), nouns("g")
    ('boars', 'counties', 'children', 'groups')
    """
    return _plural(noun(factor))


def counted(n: int, factor: str) -> str:
    """So many groups of a factor.

    Examples
    --------
    >>> counted(129, "boar"), counted(1, "Batch"), counted(4, "g")
    ('129 boars', '1 batch', '4 groups')
    """
    return f"{n} {noun(factor) if n == 1 else nouns(factor)}"


def called(factor: str, level: Any, begins: bool = False) -> str:
    """One group by its label, as a sentence ``begins`` or within it.

    Called by the name of the column where that is no noun.

    Examples
    --------
    >>> called("Subject", 332), called("school:class", "a:1")
    ('subject 332', 'class 1 in school a')
    """
    parts, labels = factor.split(":"), str(level).split(":")
    if len(parts) > 1 and len(parts) == len(labels):  # no label has a colon of its own
        inner, *outer = (called(*each) for each in zip(parts[::-1], labels[::-1], strict=True))
        return " in ".join([capital(inner) if begins else inner, *outer])
    word = noun(factor)
    if isinstance(level, float) and level.is_integer():
        level = int(level)
    if word == GROUP or ":" in factor:
        return f"{factor} {level}"
    return f"{capital(word) if begins else word} {level}"


def and_more(n: int, factor: str) -> str:
    """A sentence about others that do the same; empty where there are none.

    Examples
    --------
    >>> and_more(1, "boar"), and_more(3, "boar"), and_more(0, "boar")
    (' 1 more boar has a similar influence.', ' 3 more boars have a similar influence.', '')
    """
    if not n:
        return ""
    who = f"{noun(factor)} has" if n == 1 else f"{nouns(factor)} have"
    return f" {n} more {who} a similar influence."


def _is_word(text: str) -> bool:
    """Whether it can be read out; an abbreviation without a vowel cannot."""
    return len(text) > 2 and text not in _NO_NOUNS and bool(re.search("[aeiouy]", text))


def _singular(word: str) -> str:
    *before, last = word.split(" ")
    one = _SINGULAR.get(last, last)
    if one != last or last in _IRREGULAR:
        return " ".join([*before, one])
    if last.endswith("ies") and len(last) > 4:
        one = f"{last[:-3]}y"
    elif re.search(r"(ch|sh|ss|x)es$", last):
        one = last[:-2]
    elif last.endswith("s") and not last.endswith(("ss", "us", "is")):
        one = last[:-1]
    return " ".join([*before, one])


def _plural(word: str) -> str:
    *before, last = word.split(" ")
    if last in _IRREGULAR:
        many = _IRREGULAR[last]
    elif re.search(r"[^aeiou]y$", last):
        many = f"{last[:-1]}ies"
    elif re.search(r"(s|x|ch|sh)$", last):
        many = f"{last}es"
    else:
        many = f"{last}s"
    return " ".join([*before, many])
