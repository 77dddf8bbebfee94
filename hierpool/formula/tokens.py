"""The pieces of a formula's text: factors, numbers and operators, each with its position."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from hierpool.core.errors import FormulaError
from hierpool.formula.call_reader import read_call
from hierpool.formula.function_calls import Factor, closing, column_factor
from hierpool.formula.functions import ALLOWED_FUNCTIONS, OFFSET

_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d*)?)|(?P<quoted>`[^`]*`)|(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)"
    r"|(?P<op>\*\*|\|\||[~+\-*:/^|()])"
)
_HINTS = {
    ".": "a dot does not mean all columns here: name them; a dot in a name needs backticks: `a.b`",
    "=": "write ~ between the response and the right-hand side",
    "`": "a backtick is not closed",
    "%": "write a:b or a/b for nested columns",
    "$": "a formula names columns of the table: x, not data$x",
    "[": "a formula names columns of the table: x, not data['x']",
    "'": "put the name in backticks: `my col`",
    '"': "put the name in backticks: `my col`",
    ",": "a formula has no commas; write what varies as a group term: y ~ x + (x | g)",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text: a factor, a number or an operator."""

    text: str
    start: int
    factor: Factor | None = None
    is_number: bool = False

    @property
    def is_operator(self) -> bool:
        """Whether it is a sign, a bar or a parenthesis."""
        return self.factor is None and not self.is_number


def tokens_of(text: str) -> tuple[Token, ...]:
    """Every token of the text; an error with a caret at a character that starts none."""
    found: list[Token] = []
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        token, position = _token(text, position)
        found.append(token)
    return tuple(found)


def _token(text: str, start: int) -> tuple[Token, int]:
    """The token at a position, and where the next may start."""
    match = _TOKEN.match(text, start)
    if match is None:
        raise FormulaError(
            f"{text[start]!r} is not allowed in a formula",
            "unknown-character",
            text,
            start,
            hint=_HINTS.get(text[start], "a column with such a name needs backticks: `my col`"),
        )
    stop, word = match.end(), match[0]
    if match["number"]:
        return Token(word, start, is_number=True), stop
    if match["op"]:
        return Token(word, start), stop
    if match["quoted"]:
        if not word.strip("` "):
            raise FormulaError("the backticks are empty", "not-allowed", text, start, 2)
        return Token(word, start, column_factor(word[1:-1])), stop
    stop = _end_of_name(text, stop)
    word = text[start:stop]
    opening = len(text) - len(text[stop:].lstrip(" "))
    is_function = opening == stop or word in (*ALLOWED_FUNCTIONS, OFFSET)
    is_call = text[opening : opening + 1] == "(" and is_function
    if is_call:
        end = closing(text, opening)
        if end is None:
            fail_open(text, opening)
        return Token(text[start:end], start, read_call(text, start, end)), end
    if "." in word:
        raise FormulaError(
            f"{word!r} contains a dot, and a formula cannot access attributes of objects",
            "not-allowed",
            text,
            start + word.index("."),
            hint=f"a column with a dot in its name needs backticks: `{word}`",
        )
    return Token(word, start, column_factor(word)), stop


def _end_of_name(text: str, stop: int) -> int:
    """Where a name ends: some scripts write vowels as marks, which belong to it."""
    while stop < len(text) and f"a{text[stop]}".isidentifier():
        stop += 1
    return stop


def fail_open(text: str, position: int) -> NoReturn:
    """Raise for a parenthesis that is not closed."""
    raise FormulaError(
        "this parenthesis is not closed", "unbalanced-parenthesis", text, position, hint="add a )"
    )
