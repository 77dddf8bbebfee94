"""How the pieces of a formula may follow each other; every error draws a caret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from hierpool.core.errors import ArgumentError, FormulaError
from hierpool.core.spec import GroupTerm
from hierpool.formula.function_calls import Factor, quote
from hierpool.formula.terms import MOST_COMBINED, MOST_TERMS, TooManyTermsError, terms_of
from hierpool.formula.tokens import Token, fail_open, tokens_of

MOST_CHARACTERS = 20_000
DEEPEST = 50  # parentheses within parentheses
MOST_GROUP_TERMS = 50  # factors with covariances of their own
HIGHEST_POWER = 5  # (a + b)**5: interactions of five; the number of terms grows with it


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of one side of a formula or of a bar, checked and written in one way.

    Attributes
    ----------
    has_constant
        Whether the constant is among them.
    pieces
        What follows the constant: signs, operators and factors, in order.
    offsets
        What makes no column and is added as it is.
    """

    has_constant: bool
    pieces: tuple[str | Factor, ...]
    offsets: tuple[Factor, ...] = ()

    @property
    def text(self) -> str:
        """With the constant written out: ``"1 + Days"``."""
        return self.written({})

    @property
    def short(self) -> str:
        """With the constant left out where it goes without saying: ``"Days"``."""
        return self.text.removeprefix("1 + ")

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Every factor, each once."""
        return tuple(dict.fromkeys(p for p in self.pieces if isinstance(p, Factor)))

    def written(self, other: dict[Factor, str]) -> str:
        """The text with another spelling for some factors."""
        spelled = (p if isinstance(p, str) else other.get(p, p.text) for p in self.pieces)
        return ("1" if self.has_constant else "0") + "".join(spelled)


def reader_of(text: str) -> Reader:
    """Reader of a text whose tokens and parentheses are in order."""
    if not isinstance(text, str):
        raise ArgumentError(
            f"a formula is text such as 'y ~ x + (x | g)'; this is a {type(text).__name__}",
            "formula-not-text",
        )
    flat = re.sub(r"`[^`]*`|\s", lambda m: m[0] if m[0][0] == "`" else " ", text)
    if len(flat) > MOST_CHARACTERS:
        raise FormulaError(
            f"the formula has {len(flat)} characters; the limit is {MOST_CHARACTERS}", "too-deep"
        )
    reader = Reader(flat, tokens_of(flat))
    if not reader.tokens:
        raise FormulaError("the formula is empty", "empty-side", hint="write y ~ x + (x | g)")
    reader.check_parentheses()
    return reader


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the tokens of one text; positions are indices of tokens."""

    text: str
    tokens: tuple[Token, ...]

    def fail(self, message: str, code: str, at: int, hint: str = "") -> NoReturn:
        """Raise with a caret under the token at a position."""
        token = self.tokens[at]
        raise FormulaError(message, code, self.text, token.start, len(token.text), hint)

    def check_parentheses(self) -> None:
        """Raise at the first parenthesis without a partner."""
        open_at: list[int] = []
        for i, token in enumerate(self.tokens):
            if token.text == "(":
                open_at.append(i)
            elif token.text == ")":
                if not open_at:
                    self.fail(
                        "this parenthesis was never opened",
                        "unbalanced-parenthesis",
                        i,
                        "remove it",
                    )
                open_at.pop()
            if len(open_at) > DEEPEST:
                self.fail(f"more than {DEEPEST} parentheses are nested here", "too-deep", i)
        if open_at:
            fail_open(self.text, self.tokens[open_at[-1]].start)

    def top(self, lo: int, hi: int, operators: tuple[str, ...]) -> list[int]:
        """Where these operators stand between ``lo`` and ``hi``, outside inner parentheses."""
        depth, found = 0, []
        for i in range(lo, hi):
            word = self.tokens[i].text
            depth += {"(": 1, ")": -1}.get(word, 0)
            if depth == 0 and word in operators and self.tokens[i].is_operator:
                found.append(i)
        return found

    def left(self, tilde: int) -> tuple[Factor, str]:
        """The response left of the ~, and the column of trials that it is divided by."""
        slashes = self.top(0, tilde, ("/",))
        divisor = self.tokens[tilde - 1].factor if slashes == [1] and tilde == 3 else None
        if divisor is None or divisor.kind != "column" or self.tokens[0].factor is None:
            return self.response(0, tilde), ""
        return self.response(0, 1), divisor.columns[0]

    def response(self, lo: int, hi: int) -> Factor:
        """The one factor left of the ~."""
        if lo == hi:
            self.fail(
                "the response on the left of the ~ is missing", "empty-side", hi, "write y ~ x"
            )
        factor = self.tokens[lo].factor
        if hi - lo > 1 or factor is None:
            at = min(lo + 1, hi - 1) if factor else lo
            written = self.text[self.tokens[lo].start : self._end(hi - 1)]
            hint = f"put arithmetic into I(): I({written}) ~ ..."
            if factor and self.top(lo, hi, ("/",)) == [lo + 1]:
                trials = self.text[self.tokens[lo + 2].start : self._end(hi - 1)]
                hint += f"; the trials of a binomial response are a column: data['n'] = {trials}, "
                hint += f"{factor.text} / n ~ ..."
            self.fail(
                "the response is one column, or one function of columns",
                "bad-response",
                at,
                hint,
            )
        if factor.kind == "category":
            self.fail("the response must be a number", "bad-response", lo, "leave C() away")
        if factor.kind == "offset":
            self._fail_offset(lo, "an offset belongs on the right of the ~")
        return factor

    def right(self, tilde: int) -> tuple[Columns, tuple[GroupTerm, ...]]:
        """Population columns and group terms right of the ~."""
        lo, hi = tilde + 1, len(self.tokens)
        if lo == hi:
            self.fail("nothing follows the ~", "empty-side", tilde, "write y ~ 1 or more")
        columns, groups = self.side(lo, hi)
        if not columns.pieces and not columns.has_constant and not groups:
            self.fail("nothing is left to estimate", "empty-side", lo, "write y ~ 1")
        return columns, groups

    def side(self, lo: int, hi: int) -> tuple[Columns, tuple[GroupTerm, ...]]:
        """Columns and group terms of a sum."""
        bars = self.top(lo, hi, ("|", "||"))
        if bars:
            self._fail_bar_outside(lo, bars[0], hi)
        summands = list(self._summands(lo, hi))
        has_constant = True
        pieces: list[str | Factor] = []
        groups: list[GroupTerm] = []
        offsets: list[Factor] = []
        for sign, a, b in summands:
            offset = self._offset(sign, a, b)
            if offset is not None:
                offsets.append(offset)
                continue
            inner_bars = self._bars_of_group(a, b)
            if inner_bars and sign == "-":
                self._fail_group_inside(a)
            if inner_bars:
                groups += self._group(a + 1, inner_bars, b - 1)
            elif b - a == 1 and self.tokens[a].is_number:
                has_constant = self._constant(a) == (sign == "+")
            else:
                pieces += [f" {sign} ", *self._product(a, b)]
        self._check_size(lo, pieces, groups)
        return Columns(has_constant, tuple(pieces), tuple(offsets)), tuple(groups)

    def _check_size(
        self, lo: int, pieces: Sequence[str | Factor], groups: Sequence[GroupTerm]
    ) -> None:
        """Raise where terms are so many that making them would exhaust the machine."""
        hint = "(a + b + c)**2 gives the two-way interactions only"
        try:
            terms = terms_of(pieces)
        except TooManyTermsError as error:
            self._fail_size(lo, str(error), MOST_TERMS, hint)
        if len(terms) > MOST_TERMS:
            self._fail_size(lo, f"{len(terms):,} terms", MOST_TERMS, hint)
        if terms.combined > MOST_COMBINED:
            what = f"an interaction of {terms.combined:,} columns"
            self._fail_size(lo, what, MOST_COMBINED, hint)
        if len(groups) > MOST_GROUP_TERMS:
            hint = "keep the grouping factors with several rows in a group"
            self._fail_size(lo, f"{len(groups):,} group terms", MOST_GROUP_TERMS, hint)

    def _fail_size(self, lo: int, what: str, most: int, hint: str) -> NoReturn:
        self.fail(f"this makes {what}; the limit is {most:,}", "too-many-terms", lo, hint)

    def _summands(self, lo: int, hi: int) -> Iterable[tuple[str, int, int]]:
        """Sign, start and stop of each summand; parentheses around sums are opened."""
        cuts = self.top(lo, hi, ("+", "-"))
        if not cuts or cuts[0] != lo:
            cuts = [lo - 1, *cuts]
        for cut, stop in zip(cuts, [*cuts[1:], hi], strict=True):
            sign = self.tokens[cut].text if cut >= lo else "+"
            a = cut + 1
            if a == stop:
                self._fail_dangling(cut)
            is_sum = self._is_enclosed(a, stop) and not self._bars_of_group(a, stop)
            if is_sum and stop - a == 2:
                self.fail("the parentheses are empty", "empty-side", a)
            if is_sum and sign == "+":
                yield from self._summands(a + 1, stop - 1)
            else:
                yield sign, a, stop

    def _offset(self, sign: str, a: int, b: int) -> Factor | None:
        """The offset that a summand is; None where it is something else."""
        factor = self.tokens[a].factor
        if b - a > 1 or factor is None or factor.kind != "offset":
            return None
        if sign == "-":
            self._fail_offset(a, "an offset can only be added", "write + offset(-x) to subtract")
        return factor

    def _fail_offset(
        self, at: int, message: str, hint: str = "write y ~ x + offset(z)"
    ) -> NoReturn:
        self.fail(message, "misplaced-offset", at, hint)

    def _is_enclosed(self, a: int, b: int) -> bool:
        """Whether one pair of parentheses encloses the whole range."""
        return self.tokens[a].text == "(" and self.top(a, b, (")",))[:1] == [b - 1]

    def _bars_of_group(self, a: int, b: int) -> list[int]:
        return self.top(a + 1, b - 1, ("|", "||")) if self._is_enclosed(a, b) else []

    def _constant(self, at: int) -> bool:
        number = self.tokens[at].text
        if number not in ("0", "1"):
            self.fail(
                f"the number {number} is not allowed in a formula",
                "number-in-formula",
                at,
                "0 and 1 only remove or add the intercept; arithmetic goes into I(): I(2 * x)",
            )
        return number == "1"

    def _product(self, lo: int, hi: int) -> list[str | Factor]:
        """One summand, checked: factors with ``:``, ``*``, ``/`` or ``**`` between them."""
        pieces: list[str | Factor] = []
        at = self._operand(lo, hi, pieces)
        while at < hi:
            token = self.tokens[at]
            if not token.is_operator or token.text in ("(", ")", "~"):
                self.fail(
                    "there is no operator between two terms",
                    "missing-operator",
                    at,
                    "write a + between them",
                )
            if at + 1 == hi:
                self._fail_dangling(at)
            if token.text in ("**", "^"):
                if pieces[-1] != ")":
                    self._fail_power(at + 1)
                pieces.append(f"**{self._power(at + 1)}")
                at += 2
            else:
                pieces.append(" * " if token.text == "*" else token.text)
                at = self._operand(at + 1, hi, pieces)
        return pieces

    def _operand(self, at: int, hi: int, pieces: list[str | Factor]) -> int:
        """Adds the operand at a position to the pieces; returns where the next operator is."""
        token = self.tokens[at]
        if token.factor is not None:
            if token.factor.kind == "offset":
                self._fail_offset(at, "an offset must be a term of its own")
            pieces.append(token.factor)
            return at + 1
        if token.is_number:
            self._constant(at)
            self.fail("0 and 1 must be terms of their own", "number-in-formula", at)
        if token.text != "(":
            self._fail_dangling(at, "before")
        stop = self.top(at, hi, (")",))[0] + 1
        if self._bars_of_group(at, stop):
            self._fail_group_inside(at)
        inner: list[str | Factor] = []
        for sign, a, b in self._summands(at + 1, stop - 1):
            if self._bars_of_group(a, b):
                self._fail_group_inside(a)
            inner += [f" {sign} ", *self._product(a, b)]
        pieces += ["(", *([] if inner[0] == " + " else ["-"]), *inner[1:], ")"]
        return stop

    def _power(self, at: int) -> int:
        token = self.tokens[at]
        if token.text not in [str(n) for n in range(2, HIGHEST_POWER + 1)]:
            self._fail_power(at)
        return int(token.text)

    def _fail_power(self, at: int) -> NoReturn:
        self.fail(
            f"a power of terms needs a sum in parentheses and a number from 2 to {HIGHEST_POWER}",
            "bad-power",
            at,
            "(a + b)**2 means a + b + a:b; the square of a column is I(x**2)",
        )

    def _fail_dangling(self, at: int, side: str = "after") -> NoReturn:
        self.fail(
            f"a column is missing {side} this {self.tokens[at].text}",
            "dangling-operator",
            at,
            "write the column or remove the sign",
        )

    def _group(self, lo: int, bars: list[int], hi: int) -> list[GroupTerm]:
        """The group terms of one pair of parentheses."""
        if len(bars) > 1:
            self.fail("a group term has one bar, and this is the second", "two-bars", bars[1])
        bar = bars[0]
        if bar == lo:
            self.fail(
                "nothing precedes the bar", "empty-bar-side", bar, "(1 | g) is a varying intercept"
            )
        if bar == hi - 1:
            self.fail("nothing follows the bar", "empty-bar-side", bar, "name a column")
        columns, inner = self.side(lo, bar)
        if inner:
            self._fail_group_inside(lo)
        if columns.offsets:
            at = next(i for i in range(lo, bar) if self.tokens[i].factor in columns.offsets)
            self._fail_offset(at, "an offset has no coefficient that could vary")
        if not columns.pieces and not columns.has_constant:
            self.fail("no term is left that could vary", "empty-bar-side", lo, "write (1 | g)")
        covariance = "uncorrelated" if self.tokens[bar].text == "||" else "correlated"
        return [GroupTerm(columns.text, f, covariance) for f in self._factors(bar + 1, hi)]

    def _factors(self, lo: int, hi: int) -> list[str]:
        """Right of a bar: ``a``, ``a:b``, or ``a/b``, which is ``a`` and ``a:b``."""
        names: list[str] = []
        found: list[str] = []
        for i in range(lo, hi):
            token = self.tokens[i]
            is_name = token.factor is not None and token.factor.kind == "column"
            if is_name != ((i - lo) % 2 == 0) or not (is_name or token.text in (":", "/")):
                self._fail_factor(lo, i, hi)
            if token.factor is not None:
                names.append(token.factor.columns[0])
            elif token.text == "/":
                found.append(_joined(names))
            if len(names) > MOST_COMBINED:
                n = sum(t.factor is not None for t in self.tokens[lo:hi])
                hint = "make one column of them first: data['g'] = ..., then (1 | g)"
                self._fail_size(lo, f"a group of {n:,} columns", MOST_COMBINED, hint)
        if (hi - lo) % 2 == 0:
            self._fail_factor(lo, hi - 1, hi)
        return [*found, _joined(names)]

    def _fail_factor(self, lo: int, at: int, hi: int) -> NoReturn:
        hint = "(1 | g), (1 | a:b) and (1 | a/b) are supported"
        if self.tokens[at].text == "+":
            hint = "write one term for each: (1 | a) + (1 | b)"
        elif self.tokens[at].text == "*":
            hint = "write each: (1 | a) + (1 | b) + (1 | a:b)"
        elif self.tokens[at].factor is not None and "(" in self.tokens[at].text:
            hint = "make a column first: data['g'] = ..., then (1 | g)"
        self.fail("the bar must be followed by the name of a column", "bad-factor", at, hint)

    def _fail_group_inside(self, at: int) -> NoReturn:
        self.fail("a group term can only be added", "group-term-inside", at, "write ... + (x | g)")

    def _fail_bar_outside(self, lo: int, bar: int, hi: int) -> NoReturn:
        before = self.text[self.tokens[lo].start : self._end(bar - 1)] if bar > lo else "1"
        after = self.text[self.tokens[bar + 1].start : self._end(hi - 1)] if bar + 1 < hi else "g"
        hint = f"write ({before} {self.tokens[bar].text} {after})"
        if "(" not in before + after:
            hint = (
                f"write {before} + ({before} {self.tokens[bar].text} {after}); for separate "
                "coefficients use hp.no_pooling"
            )
        self.fail("a bar is allowed only inside parentheses", "bar-outside-parentheses", bar, hint)

    def fail_bar_here(self) -> NoReturn:
        """Raise at the first bar: this text takes no group terms."""
        at = next(i for i, t in enumerate(self.tokens) if t.text in ("|", "||"))
        self.fail("a group term is not allowed here", "group-term-inside", at)

    def _end(self, at: int) -> int:
        return self.tokens[at].start + len(self.tokens[at].text)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ":".join(quote(n) for n in names)
