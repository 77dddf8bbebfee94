"""Columns that a DATA step makes, as functions inside a formula."""

from __future__ import annotations

from collections.abc import Sequence

from hierpool.formula.function_calls import quote
from hierpool.sas.options import closing
from hierpool.sas.statements import Statement
from hierpool.sas.table import SasTable
from hierpool.sas.tokens import Token

_FUNCTIONS = ("log", "log2", "log10", "exp", "sqrt", "abs")
_SIGNS = {s: f" {s} " for s in ("+", "-", "*", "/", "**", "<", ">", "<=", ">=")}
_SIGNS |= {"=": " == ", "^=": " != ", "~=": " != ", "(": "(", ")": ")"}


def in_formula(statement: Statement, tokens: Sequence[Token], table: SasTable) -> str:
    """An expression as a formula has it: ``log(x)`` as it is, other arithmetic in ``I()``."""
    own = tuple(tokens)
    while own[0].is_sign("(") and closing(statement, own, 0) == len(own) - 1 and len(own) > 2:
        own = own[1:-1]
    text = _arithmetic(statement, own, table)
    is_call = _is_function(own, 0) and closing(statement, own, 1) == len(own) - 1
    if is_call or len(own) == 1:
        return text if is_call or own[0].kind != "number" else f"I({text})"
    return f"I({text})"


def known_se(tokens: Sequence[Token]) -> Token | None:
    """The column of standard errors in ``1 / se**2``; None where it is something else."""
    words = [t.text for t in tokens]
    fits = len(tokens) == 5 and words[:2] == ["1", "/"] and words[3:] == ["**", "2"]
    return tokens[2] if fits and tokens[2].kind == "name" else None


def _is_function(tokens: Sequence[Token], at: int) -> bool:
    follows = at + 1 < len(tokens) and tokens[at + 1].is_sign("(")
    return tokens[at].kind == "name" and follows


def _arithmetic(statement: Statement, tokens: Sequence[Token], table: SasTable) -> str:
    words = []
    for k, token in enumerate(tokens):
        if token.kind == "number":
            words.append(token.text)
        elif token.kind == "sign" and token.text in _SIGNS:
            is_unary = token.text in "+-" and (k == 0 or tokens[k - 1].is_sign(*"(+-*/", "**"))
            words.append(token.text if is_unary else _SIGNS[token.text])
        elif _is_function(tokens, k) and token.word in _FUNCTIONS:
            words.append(token.word)
        elif token.kind == "name" and not _is_function(tokens, k):
            words.append(_column(statement, token, table))
        else:
            statement.fail(
                f"{token.text!r} is not read in a DATA step",
                "sas-statement",
                token,
                "make the column with pandas, and leave the DATA step out",
            )
    return "".join(words)


def _column(statement: Statement, token: Token, table: SasTable) -> str:
    name = table.find(statement, token)
    made = table.expressions.get(name)
    if made is None:
        return quote(name, in_call=True)
    return made[1:] if made.startswith("I(") else made
