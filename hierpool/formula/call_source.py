"""One call of a formula as Python that holds no name and no text of the user's."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from hierpool.formula.function_calls import quoting
from hierpool.formula.functions import ALLOWED_FUNCTIONS

MEANS = "write columns, numbers, + - * / ** and comparisons, and the functions " + ", ".join(
    ALLOWED_FUNCTIONS
)
Fail = Callable[..., NoReturn]


@dataclass(frozen=True, slots=True)
class Quoted:
    """A name in backticks, or a text in quotes, and where it ends in the plain call."""

    mark: str
    inside: str
    stop: int


@dataclass
class CallSource:
    """A call as it was typed, and as the parser sees it.

    Python would read a full-width x as x, and text in quotes as more than text. So backticks and
    quotes reach the parser as underscores, names are taken from what was typed, and each place of
    the one is known in the other.

    Attributes
    ----------
    call
        As it was typed.
    fail
        Raises with a caret at a position of the call.
    plain
        As Python, ``^`` as a power.
    origin
        For each character of ``plain`` its position in the call.
    quoted
        What stands in backticks and quotes, by where it begins in ``plain``.
    """

    call: str
    fail: Fail
    plain: str = ""
    origin: list[int] = field(default_factory=list)
    quoted: dict[int, Quoted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The call as Python: names in backticks and texts as underscores, ``^`` as a power."""
        pieces: list[str] = []
        start = at = None
        for position, char, mark in quoting(self.call):
            piece = "_" if mark else "**" if char == "^" else char
            pieces.append(piece)
            self.origin += [position] * len(piece)
            if not mark:
                continue
            if start is None or at is None:
                start, at = position, len(self.origin) - 1
            elif char == mark:
                inside = self.call[start + 1 : position]
                self.quoted[at] = Quoted(mark, inside, len(self.origin))
                start = at = None
        self.plain = re.sub(r"\bas\.(?=\w)", "as_", "".join(pieces))

    def span(self, node: ast.expr | ast.keyword) -> tuple[int, int]:
        """Where a node begins and ends in the plain call, in characters (the tree counts bytes)."""
        encoded = self.plain.encode()
        ends = (node.col_offset, node.end_col_offset or node.col_offset + 1)
        first, last = (len(encoded[:end].decode(errors="ignore")) for end in ends)
        return first, last

    def source(self, node: ast.expr) -> str:
        """What was typed for a node."""
        first, last = self.span(node)
        return self.call[self.origin[first] : self.origin[last - 1] + 1]

    def refuse(self, node: ast.expr, message: str, hint: str = MEANS) -> NoReturn:
        """Raise at a node that a formula may not hold."""
        self.blame(node, message, "not-allowed", hint)

    def blame(self, node: ast.expr, message: str, code: str, hint: str) -> NoReturn:
        """Raise with a caret under a node."""
        self.fail(message, code, self.origin[self.span(node)[0]], len(self.source(node)), hint)

    def held(self, node: ast.expr) -> Quoted | None:
        """What stands in quotes or backticks at a name; None for a plain one."""
        first, last = self.span(node)
        held = self.quoted.get(first)
        if held is not None and held.stop == last:
            if held.mark == "`" and not held.inside.strip():
                self.refuse(node, "the backticks are empty", "")
            return held
        if any(mark in self.source(node) for mark in "'\"`"):
            self.refuse(node, "a quote cannot touch a name or another quote", "")
        return None
