"""Options of a statement: ``solution ddfm=kr subject=a(b) type=sp(pow)(x) at (x z)=(1 2)``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from hierpool.core.errors import nearest
from hierpool.sas.statements import Statement, fail_data_set_options
from hierpool.sas.tokens import Token


@dataclass(frozen=True, slots=True)
class Option:
    """An option with its value.

    Attributes
    ----------
    statement
        In which it stands.
    name
        Its word.
    value
        Tokens after its ``=``, or in its parentheses; empty for a word alone.
    """

    statement: Statement
    name: Token
    value: tuple[Token, ...] = ()

    @property
    def text(self) -> str:
        """Its value, in small letters and without blanks: ``"sp(pow)(time)"``."""
        return "".join(t.word for t in self.value)

    def fail(self, message: str, code: str, hint: str = "") -> NoReturn:
        """Raise with a caret under it."""
        self.statement.fail_over(message, code, [self.name, *self.value], hint)

    def number(self) -> float:
        """Its value, a number."""
        if len(self.value) != 1 or self.value[0].kind != "number":
            self.fail(f"{self.name.text}= needs a number", "sas-syntax")
        return float(self.value[0].text)


def at_slash(statement: Statement) -> tuple[tuple[Token, ...], tuple[Token, ...]]:
    """Tokens before and after the first slash outside parentheses."""
    depth = 0
    for k, token in enumerate(statement.tokens):
        depth += token.is_sign("(") - token.is_sign(")")
        if depth == 0 and token.is_sign("/"):
            return statement.tokens[:k], statement.tokens[k + 1 :]
    return statement.tokens, ()


def read_options(statement: Statement, tokens: Sequence[Token]) -> list[Option]:
    """The options in these tokens."""
    found: list[Option] = []
    at = 0
    while at < len(tokens):
        name = tokens[at]
        if name.kind != "name":
            statement.fail("an option starts with a word", "sas-syntax", name)
        at += 1
        value: tuple[Token, ...] = ()
        if name.word == "at":
            value, at = _at(statement, tokens, at)
        elif at < len(tokens) and tokens[at].is_sign("="):
            value, at = _value(statement, tokens, at)
            if name.word == "data" and any(t.is_sign("(") for t in value):
                fail_data_set_options(statement, next(t for t in value if t.is_sign("(")))
        elif at < len(tokens) and tokens[at].is_sign("("):
            stop = closing(statement, tokens, at)
            value, at = tuple(tokens[at + 1 : stop]), stop + 1
        elif name.word in ("subject", "group"):  # weights of groups in an ESTIMATE statement
            start = at
            while at < len(tokens) and tokens[at].kind == "number":
                at += 1
            value = tuple(tokens[start:at])
        found.append(Option(statement, name, value))
    return found


def _value(
    statement: Statement, tokens: Sequence[Token], equals: int
) -> tuple[tuple[Token, ...], int]:
    """What follows an equals sign: words joined by * @ , or a dot, with their parentheses."""
    at = equals + 1
    if at == len(tokens):
        statement.fail("a value is missing after =", "sas-syntax", tokens[equals])
    start = at
    if not tokens[at].is_sign("("):
        at += 1 + tokens[at].is_sign("-")
    while at < len(tokens) and tokens[at].is_sign("(", "*", "@", ".", ","):
        at = closing(statement, tokens, at) + 1 if tokens[at].is_sign("(") else at + 2
    return tuple(tokens[start:at]), at


def _at(statement: Statement, tokens: Sequence[Token], at: int) -> tuple[tuple[Token, ...], int]:
    """``at means``, ``at x=5`` or ``at (x z)=(1 2)``: the tokens, and where they end."""
    start = at
    if at < len(tokens) and tokens[at].word == "means":
        return (tokens[at],), at + 1
    if at < len(tokens) and tokens[at].is_sign("("):
        at = closing(statement, tokens, at)
    at += 1
    if at >= len(tokens) or not tokens[at].is_sign("="):
        statement.fail("AT needs a value", "sas-syntax", tokens[start - 1], "write at x=5")
    value, stop = _value(statement, tokens, at)
    return (*tokens[start : at + 1], *value), stop


def closing(statement: Statement, tokens: Sequence[Token], opening: int) -> int:
    """Where the parenthesis that opens at a position is closed."""
    depth = 0
    for k in range(opening, len(tokens)):
        depth += tokens[k].is_sign("(") - tokens[k].is_sign(")")
        if depth == 0:
            return k
    return statement.fail(
        "this parenthesis is not closed", "sas-syntax", tokens[opening], "add a )"
    )


def sort_out(
    options: Iterable[Option],
    used: Mapping[str, str],
    printed: Mapping[str, str],
    refused: Mapping[str, str],
) -> tuple[dict[str, Option], list[str]]:
    """Options that say something of the model, by their usual name; and notes on those that print.

    Parameters
    ----------
    options
        As they stand.
    used
        Spelling -> usual name.
    printed
        Spelling -> what takes its place here; empty where nothing is needed.
    refused
        Spelling -> what to write instead.
    """
    found: dict[str, Option] = {}
    notes = []
    for option in options:
        word = option.name.word
        if word in used:
            if used[word] in found:
                option.fail(f"{word} is given twice", "sas-syntax", "keep one of them")
            found[used[word]] = option
        elif word in printed:
            if printed[word]:
                notes.append(f"{option.name.text}: {printed[word]}")
        else:
            hint = refused.get(word, "" if word in refused else nearest(word, [*used, *printed]))
            what = "has no equivalent here" if word in refused else "is not known"
            option.fail(
                f"{option.name.text} of {option.statement.keyword.text.upper()} {what}",
                "sas-option",
                hint,
            )
    return found, notes
