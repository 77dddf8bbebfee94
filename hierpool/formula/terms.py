"""The terms that a formula comes to, and their columns, counted before any is made.

A term is a set of factors, here the bits of a whole number. Operators bind as in R: ``**`` before
``:`` before ``*`` and ``/`` before ``+`` and ``-``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hierpool.formula.function_calls import Factor

MOST_TERMS = 1000  # of one side of a formula, or of one bar
MOST_COMBINED = 8  # columns in one interaction
MOST_COLUMNS = 5000  # that one side may make
_MOST_COUNTED = 150_000  # terms that are made for the sake of their number
_MOST_BITS = 60  # beyond, whole numbers of few bits share their hashes
_MOST_MULTIPLIED = 200_000  # combinations of one power
_MOST_PRODUCTS = 1_000_000  # products of two terms, before equal ones become one

_Sets = dict[int, None]  # a set that keeps its order


class TooManyTermsError(Exception):
    """More terms than can be counted; the message says what is known of them."""


@dataclass(frozen=True)
class Terms:
    """The terms of one side of a formula.

    Attributes
    ----------
    factors
        Every factor, each once.
    sets
        Each term as the bits of its factors.
    """

    factors: tuple[Factor, ...]
    sets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sets)

    @property
    def combined(self) -> int:
        """Factors in the largest interaction."""
        return max(map(int.bit_count, self.sets), default=0)

    def __iter__(self) -> Iterator[tuple[Factor, ...]]:
        for term in self.sets:
            yield tuple(f for k, f in enumerate(self.factors) if term >> k & 1)


def terms_of(pieces: Sequence[str | Factor]) -> Terms:
    """What some pieces of ``Columns`` come to.

    Raises
    ------
    TooManyTermsError
        There are too many to count them.
    """
    factors = tuple(dict.fromkeys(p for p in pieces if isinstance(p, Factor)))
    bits = {factor: 1 << k for k, factor in enumerate(factors)}
    sets = _Counter([p.strip() if isinstance(p, str) else bits[p] for p in pieces]).total()
    return Terms(factors, tuple(sets))


class _Counter:
    """Reads pieces from left to right."""

    def __init__(self, pieces: Sequence[str | int]) -> None:
        self.pieces = pieces
        self.bits = max((p for p in pieces if isinstance(p, int)), default=0).bit_length()
        self.at = 0
        self.products = 0

    @property
    def next(self) -> str | int | None:
        return self.pieces[self.at] if self.at < len(self.pieces) else None

    def total(self) -> _Sets:
        terms: _Sets = {}
        while self.next is not None and self.next != ")":
            sign = "+"
            if self.next in ("+", "-"):
                sign = str(self.next)
                self.at += 1
            summand = self._product()
            if sign == "+":
                terms |= summand
            else:
                terms = {t: None for t in terms if t not in summand}
        return terms

    def _product(self) -> _Sets:
        left = self._interaction()
        while self.next in ("*", "/"):
            sign = self.next
            self.at += 1
            right = self._interaction()
            if sign == "*":
                left = left | right | self._products(left, right)
            else:
                every = 0
                for term in left:
                    every |= term
                left = left | {every | term: None for term in right}
        return left

    def _interaction(self) -> _Sets:
        left = self._power()
        while self.next == ":":
            self.at += 1
            left = self._products(left, self._power())
        return left

    def _power(self) -> _Sets:
        base = self._operand()
        while isinstance(self.next, str) and self.next.startswith("**"):
            power = int(self.next[2:])
            self.at += 1
            made = base
            for _ in range(power - 1):
                made = self._products(made, base)
            multiplied = len(base) ** power  # by the library, one by one
            if len(made) <= MOST_TERMS and multiplied > _MOST_MULTIPLIED:
                raise TooManyTermsError(f"{multiplied:,} products of terms")
            base = made
        return base

    def _products(self, left: _Sets, right: _Sets) -> _Sets:
        """Each term of one with each of the other."""
        largest, made = max(len(left), len(right)), len(left) * len(right)
        self.products += made
        if largest > MOST_TERMS and made > _MOST_COUNTED:
            raise TooManyTermsError(f"more than {largest:,} terms")
        if self.bits > _MOST_BITS and made > _MOST_COUNTED:
            raise TooManyTermsError(f"{made:,} products of terms")
        if self.products > _MOST_PRODUCTS:
            raise TooManyTermsError(f"more than {_MOST_PRODUCTS:,} products of terms")
        return {a | b: None for a, b in itertools.product(left, right)}

    def _operand(self) -> _Sets:
        piece = self.next
        self.at += 1
        if isinstance(piece, int):
            return {piece: None}
        inside = self.total()
        self.at += 1  # the parenthesis that closes
        return inside


def count_columns(
    terms: Iterable[Sequence[Factor]], has_constant: bool, categories: Mapping[Factor, int]
) -> int:
    """Columns that the terms make, at most: categories are coded by contrasts where they can be.

    A term's categories span all products of their contrasts; what an earlier term spans is not
    made twice.

    Parameters
    ----------
    terms
        As ``terms_of`` gives them.
    has_constant
        Whether the constant is among the columns.
    categories
        Factor -> how many categories it has; factors that are numbers are not in it.
    """
    made: dict[tuple[frozenset[Factor], frozenset[Factor]], int] = {}
    if has_constant:
        made[frozenset(), frozenset()] = 1
    for term in terms:
        numbers = frozenset(f for f in term if f not in categories)
        width = 1
        for factor in numbers:
            width *= factor.width
        for chosen in _subsets([f for f in term if f in categories]):
            columns = width
            for factor in chosen:
                columns *= categories[factor] - 1
            made[numbers, frozenset(chosen)] = columns
    return sum(made.values())


def _subsets(factors: Sequence[Factor]) -> Iterator[tuple[Factor, ...]]:
    for size in range(len(factors) + 1):
        yield from itertools.combinations(factors, size)
