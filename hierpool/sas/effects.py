"""Effects as SAS writes them: ``a b a*b b(a) x x*a a|b|c@2``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hierpool.sas.options import closing
from hierpool.sas.statements import Statement
from hierpool.sas.table import SasTable
from hierpool.sas.tokens import Token

INTERCEPT = ("intercept", "int")


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect of a statement.

    Attributes
    ----------
    crossed
        Columns that are multiplied, as the table calls them; none for the intercept.
    nested
        Those in parentheses.
    tokens
        Where it stands.
    """

    crossed: tuple[str, ...]
    nested: tuple[str, ...] = ()
    tokens: tuple[Token, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All of its columns; those that contain others first."""
        return (*self.nested, *self.crossed)

    @property
    def is_intercept(self) -> bool:
        """Whether it is the intercept."""
        return not self.crossed

    @property
    def key(self) -> tuple[str, ...]:
        """The same for the same columns in any order."""
        return tuple(sorted(self.columns))

    def times(self, other: Effect) -> Effect:
        """Both crossed."""
        nested = dict.fromkeys((*self.nested, *other.nested))
        return Effect((*self.crossed, *other.crossed), tuple(nested), (*self.tokens, *other.tokens))

    def __str__(self) -> str:
        inner = f"({' '.join(self.nested)})" if self.nested else ""
        return f"{'*'.join(self.crossed) or 'intercept'}{inner}"


def read_effects(
    statement: Statement, tokens: Sequence[Token], table: SasTable, intercept: bool = False
) -> list[Effect]:
    """The effects in these tokens, bars multiplied out, each once.

    Parameters
    ----------
    statement, tokens
        Where they stand.
    table
        Its columns.
    intercept
        Whether the word ``intercept`` is one.
    """
    found: list[Effect] = []
    at = 0
    while at < len(tokens):
        made, at = _barred(statement, tokens, at, table, intercept)
        found += made
    known = {effect.key: effect for effect in reversed(found)}
    return [effect for effect in found if known[effect.key] is effect]


def _barred(
    statement: Statement, tokens: Sequence[Token], at: int, table: SasTable, intercept: bool
) -> tuple[list[Effect], int]:
    """``a|b|c@2`` from a position, as single effects; and where it ends."""
    first, at = read_effect(statement, tokens, at, table, intercept)
    found = [first]
    while at < len(tokens) and tokens[at].is_sign("|"):
        bar = tokens[at]
        following, at = read_effect(statement, tokens, at + 1, table, False, bar)
        if first.is_intercept:
            statement.fail("the intercept cannot be crossed", "sas-syntax", bar)
        found += [following, *(e.times(following) for e in found)]
    found = [e for e in found if not set(e.crossed) & set(e.nested)]
    if at < len(tokens) and tokens[at].is_sign("@"):
        if at + 1 == len(tokens) or not tokens[at + 1].text.isdigit():
            statement.fail("@ needs a number", "sas-syntax", tokens[at], "a|b|c@2")
        most = int(tokens[at + 1].text)
        found, at = [e for e in found if len(e.columns) <= most], at + 2
    return found, at


def read_effect(
    statement: Statement,
    tokens: Sequence[Token],
    at: int,
    table: SasTable,
    intercept: bool = False,
    before: Token | None = None,
) -> tuple[Effect, int]:
    """The effect at a position, and where it ends."""
    start = at
    crossed: list[str] = []
    nested: tuple[str, ...] = ()
    while True:
        if at == len(tokens):
            statement.fail("a column is missing after this", "sas-syntax", before or tokens[at - 1])
        token = tokens[at]
        if token.kind != "name":
            statement.fail(f"a column is expected, not {token.text!r}", "sas-syntax", token)
        if token.word in INTERCEPT and intercept and not crossed and not table.has(token.text):
            return Effect((), (), (token,)), at + 1
        crossed.append(table.find(statement, token))
        at += 1
        if at < len(tokens) and tokens[at].is_sign("("):
            stop = closing(statement, tokens, at)
            inner = [t for t in tokens[at + 1 : stop] if not t.is_sign("*", ",")]
            nested = (*nested, *(table.find(statement, t) for t in inner))
            at = stop + 1
        if at == len(tokens) or not tokens[at].is_sign("*"):
            return Effect(tuple(crossed), nested, tuple(tokens[start:at])), at
        at += 1
