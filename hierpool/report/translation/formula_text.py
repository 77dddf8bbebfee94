"""Pieces of a formula as text: calls, names in quotes, the parts of an interaction."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_QUOTED = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"")

CALL = re.compile(r"(?P<function>(?:np\.)?[A-Za-z_]\w*)\(")


def masked(text: str) -> tuple[str, list[str]]:
    """The text with a number for each name or label in quotes, which may hold anything; and those."""
    names = _QUOTED.findall(text)
    numbers = itertools.count()
    return _QUOTED.sub(lambda _: f"\0{next(numbers)}\0", text), names


def unmasked(text: str, names: Sequence[str]) -> str:
    """The text that ``masked`` was given."""
    return re.sub("\0(\\d+)\0", lambda m: names[int(m[1])], text)


def closing(text: str, start: int) -> int:
    """Position behind the bracket that closes the one at ``start``."""
    depth = 0
    for k in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[k], 0)
        if depth == 0:
            return k + 1
    return len(text)


def functions(text: str) -> list[str]:
    """Names of the functions that a text calls."""
    return [match["function"] for match in CALL.finditer(masked(text)[0])]


def pieces(term: str) -> list[str]:
    """Pieces of an interaction; a colon within a call, a name or a label does not part them."""
    text, names = masked(term)
    out, depth = [""], 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == ":" and depth == 0:
            out.append("")
        else:
            out[-1] += char
    return [unmasked(piece, names) for piece in out]


def factor_parts(factor: str) -> list[str]:
    """Columns whose combinations are the levels of a factor."""
    return [part.strip("`") for part in factor.split(":")]
