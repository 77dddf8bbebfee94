"""The words of a SAS program, each with its position; comments left out, errors with a caret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from hierpool.core.errors import ArgumentError, FormulaError

Kind = Literal["name", "string", "number", "sign"]

MOST_CHARACTERS = 100_000
_TOKEN = re.compile(
    r"(?P<literal>'(?:[^']|'')*'n\b|\"(?:[^\"]|\"\")*\"n\b)"
    r"|(?P<string>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<sign>\*\*|<=|>=|\^=|~=|[=|*@(),/;+\-:<>.$#?!{}\[\]])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the program.

    Attributes
    ----------
    text
        As it means: a text in quotes without them.
    start, stop
        Where it stands.
    kind
        What it is; ``'my col'n`` is a name.
    """

    text: str
    start: int
    stop: int
    kind: Kind

    @property
    def word(self) -> str:
        """In small letters: SAS does not tell them apart in names."""
        return self.text.lower()

    def is_sign(self, *signs: str) -> bool:
        """Whether it is one of these signs."""
        return self.kind == "sign" and self.text in signs


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a program."""

    text: str

    def fail(self, message: str, code: str, start: int, stop: int, hint: str = "") -> NoReturn:
        """Raise with the line in question, and a caret under the place."""
        first = self.text.rfind("\n", 0, start) + 1
        last = self.text.find("\n", start)
        line = self.text[first : len(self.text) if last < 0 else last].expandtabs(1)
        length = max(min(stop - start, len(line) - (start - first)), 1)
        raise FormulaError(message, code, line, start - first, length, hint)

    def fail_at(self, message: str, code: str, token: Token, hint: str = "") -> NoReturn:
        """The same, at a token."""
        self.fail(message, code, token.start, token.stop, hint)

    def tokens(self) -> list[Token]:
        """Every token; an error at a character that starts none."""
        found: list[Token] = []
        at, text = 0, self.text
        while at < len(text):
            if text[at].isspace():
                at += 1
            elif text.startswith("/*", at):
                at = self._after(at, "*/", "this comment is not closed", "close it with */")
            elif (text[at] == "*" and (not found or found[-1].is_sign(";"))) or text.startswith(
                "%*", at
            ):
                at = self._after(at, ";", "this comment is not closed", "close it with ;")
            elif text[at] in "%&":
                self._fail_macro(at)
            else:
                found.append(self._token(at))
                at = found[-1].stop
        return found

    def _after(self, at: int, end: str, message: str, hint: str) -> int:
        stop = self.text.find(end, at + 1)
        if stop < 0:
            self.fail(message, "sas-syntax", at, at + 2, hint)
        return stop + len(end)

    def _token(self, at: int) -> Token:
        match = _TOKEN.match(self.text, at)
        if match is None:
            is_quote = self.text[at] in "'\""
            message = (
                "this quote is not closed" if is_quote else f"{self.text[at]!r} has no meaning"
            )
            hint = "close it" if is_quote else ""
            self.fail(f"{message} in PROC MIXED", "sas-syntax", at, at + 1, hint)
        kind, word = match.lastgroup, match[0]
        if kind in ("literal", "string"):
            inside = word[1:-2] if kind == "literal" else word[1:-1]
            if word[0] == '"' and re.search(r"[&%]\w", inside):
                self._fail_macro(at)
            inside = inside.replace(word[0] * 2, word[0])
            return Token(inside, at, match.end(), "name" if kind == "literal" else "string")
        plain: Kind = "number" if kind == "number" else "name" if kind == "name" else "sign"
        return Token(word, at, match.end(), plain)

    def _fail_macro(self, at: int) -> NoReturn:
        word = re.match(r"[%&\"]*\w*", self.text[at:])
        stop = at + (len(word[0]) if word else 1)
        self.fail(
            "this belongs to SAS's macro language, which is not read",
            "sas-macro",
            at,
            stop,
            "write what it stands for; options mprint; shows it in the log of SAS",
        )


def source_of(program: object) -> Source:
    """The program, if it is text."""
    if not isinstance(program, str):
        raise ArgumentError(
            f"from_sas() takes the text of a PROC MIXED step; this is a {type(program).__name__}",
            "sas-not-text",
        )
    if len(program) > MOST_CHARACTERS:
        raise ArgumentError(
            f"the program has {len(program):,} characters; the limit is {MOST_CHARACTERS:,}. Pass the "
            "PROC MIXED step alone",
            "sas-not-text",
        )
    return Source(program)
