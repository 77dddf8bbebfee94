"""What a term says, in one sentence: the thing, the number with its interval, the doubt."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from hierpool.answers.term_comparisons import Side, TermComparisons, category
from hierpool.core.text import capital, joined, short

POINTS = " percentage points"
VERBS = ("falls", "rises", "changes", "differs", "depends", "matters")  # of the sentences below


@dataclass(frozen=True)
class Said:
    """Numbers of a term.

    Attributes
    ----------
    of
        What was compared.
    values
        Shape (m, 3): estimate and bounds of each comparison.
    is_clear
        Whether the test of the term is clear.
    response
        What was measured.
    has_ratios
        Whether the numbers are ratios.
    is_share
        Whether each observation is 0 or 1, so that a mean is a share.
    apart
        The two effects whose difference is the largest comparison of an interaction, where known.
    is_odds
        Whether the ratios are of odds, whose changes are not told in percent.
    """

    of: TermComparisons
    values: np.ndarray
    is_clear: bool
    response: str
    has_ratios: bool
    is_share: bool = False
    apart: tuple[float, float] | None = None
    is_odds: bool = False

    @property
    def largest(self) -> int:
        """The comparison furthest from nothing; -1 where none is estimable."""
        values = self.values[:, 0]
        if not np.isfinite(values).any():
            return -1
        away = np.abs(np.log(values) if self.has_ratios else values)
        return int(np.nanargmax(away))

    @property
    def is_negative(self) -> bool:
        """Whether the largest comparison is below zero, or one for a ratio."""
        return bool(self.values[self.largest, 0] < (1 if self.has_ratios else 0))

    def kinds(self) -> list[str]:
        """The kinds of the sides."""
        return [side.kind for side in self.of.sides]

    def pair(self, side: Side, is_turned: bool) -> tuple[str, str]:
        """The two categories of a side in the largest comparison; turned, the second one first."""
        k = self.of.chosen[self.largest][self.of.sides.index(side)]
        first, second = (called(side.column, v) for v in side.pairs[k])
        return (second, first) if is_turned else (first, second)

    def amount(self, is_turned: bool = False) -> str:
        """The largest comparison with its interval; turned, of the opposite sign."""
        values = self.values[self.largest]
        if self.has_ratios:
            values = 1 / values[[0, 2, 1]] if is_turned else values
            if self.is_odds or not 0.5 < values[0] < 2:
                return f"a factor of {_interval(values)}"
            return _interval(100 * (values - 1), " %")
        values = -values[[0, 2, 1]] if is_turned else values
        if self.is_share:
            return _interval(100 * values).replace(" [", f"{POINTS} [", 1)
        return _interval(values)

    def ratio(self, is_turned: bool = False) -> str:
        """The largest comparison, a ratio, with its interval; turned, its inverse."""
        values = self.values[self.largest]
        return _interval(1 / values[[0, 2, 1]] if is_turned else values)

    def decrease(self) -> str:
        """The largest comparison, a ratio below one, as percent that are lost."""
        return _interval(100 * (1 - self.values[self.largest][[0, 2, 1]]), " %")

    def effect(self, value: float) -> str:
        """An effect without its interval."""
        if self.has_ratios:
            is_factor = self.is_odds or not 0.5 < value < 2
            return f"a factor of {short(value)}" if is_factor else _percent(value)
        return f"{short(100 * value)}{POINTS}" if self.is_share else short(value)

    @property
    def is_factor(self) -> bool:
        """Whether the largest comparison is told as a factor, not in percent."""
        value = self.values[self.largest, 0]
        return self.has_ratios and (self.is_odds or not 0.5 < value < 2)

    def change(self, value: float) -> str:
        """By how much the response rises or falls."""
        if self.has_ratios:
            if value < 1 and (text := self.effect(value)).startswith("-"):
                return f"{self.way(False)} by {text[1:]}"
            return f"{self.way(True) if value >= 1 else 'changes'} by {self.effect(value)}"
        return f"{self.way(value >= 0)} by {self.effect(abs(value))}"

    def way(self, is_up: bool) -> str:
        """The verb: other words where the response is one of them."""
        if self.response in VERBS:
            return "goes up" if is_up else "goes down"
        return "rises" if is_up else "falls"

    @property
    def subject(self) -> str:
        """The response as a subject of a verb; a column such as 'falls' would read as one."""
        return f"the mean of {self.response}" if self.response in VERBS else self.response


def sentence_of(said: Said) -> str:
    """The sentence of a term."""
    of = said.of
    if not of.sides:
        if said.response.startswith("the "):
            unit = 100 if said.is_share else 1
            values = _interval(unit * said.values[0], " %" if said.is_share else "")
            return f"{capital(said.response)} is {values}."
        if said.is_share:
            return f"The mean of {said.response} is {_interval(100 * said.values[0], ' %')}."
        return f"The mean of {said.response} is {_interval(said.values[0])}."
    if said.largest < 0:
        return f"{_begun(of.name)} is not estimable from these data."
    text, where = _plain(said), _where(of)
    if said.is_odds:
        text = _plural(text, said.response)
    return f"{where}{text}." if where else f"{_begun(text)}."


def _plural(text: str, subject: str) -> str:
    """A sentence whose subject is plural: the odds rise."""
    verbs = {"is": "are", "does": "do", "goes": "go"}

    def many(found: re.Match[str]) -> str:
        return f"{found[1]} {verbs.get(found[2], found[2].removesuffix('s'))}{found[3]}"

    pattern = rf"((?<!of ){re.escape(subject)}) (is|does|goes|[a-z]+s)( |$)"
    return re.sub(pattern, many, text)


def _begun(text: str) -> str:
    """A sentence with a capital, unless it begins with what has to stay as typed."""
    first = re.match(r"[a-z]{3,} ", text)
    return capital(text) if first else text


def _where(of: TermComparisons) -> str:
    """At what a term holds that others interact with, as the beginning of a sentence."""
    parts = [f"at the mean of {joined(of.at_mean)}"] if of.at_mean else []
    parts += [f"on average over {joined(of.averaged)}"] if of.averaged else []
    return f"{capital(' and '.join(parts))}, " if parts else ""


def _plain(said: Said) -> str:
    kinds = sorted(said.kinds())
    if kinds == ["difference"]:
        return _difference(said)
    if kinds == ["slope"]:
        return _slope(said)
    if kinds == ["ends"]:
        return _curve(said)
    if kinds == ["bend"]:
        return _bend(said)
    if kinds == ["difference", "slope"]:
        return _slopes(said)
    if kinds == ["difference", "difference"]:
        return _differences(said)
    if kinds == ["difference", "ends"]:
        return _curves(said)
    if kinds == ["ends", "slope"]:
        return _slope_along(said)
    return _other(said)


def _difference(said: Said) -> str:
    """Between the categories of one column."""
    (side,) = said.of.sides
    return _between(said, side, said.subject, "differ", f"between the levels of {side.column}")


def _between(said: Said, side: Side, what: str, verb: str, where: str) -> str:
    """How something differs between categories: which of two is higher, or the largest difference."""
    turn = said.is_negative
    one, other = said.pair(side, turn)
    if len(side.values) > 2:
        verbs = f"{verb}s" if said.is_clear else f"does not clearly {verb}"
        largest = f"difference is {one} against {other}, {said.amount(turn)}"
        if said.has_ratios:
            largest = f"ratio is {one} to {other}, {said.ratio(turn)}"
        return f"{what} {verbs} {where}; the largest {largest}"
    if said.is_clear:
        return f"{what} is higher for {one} than for {other}: by {said.amount(turn)}"
    size = f"the difference is {said.amount(turn)}"
    if said.has_ratios:
        size = f"the ratio of {one} to {other} is {said.ratio(turn)}"
    return f"{what} does not clearly differ between {one} and {other}: {size}"


def _slope(said: Said) -> str:
    """Of a straight line."""
    (side,), R = said.of.sides, said.subject
    per = f"per unit of {side.column}"
    if not said.is_clear:
        return f"{R} does not clearly change with {side.column}: by {said.amount()} {per}"
    if said.is_negative and not said.is_factor:
        amount = said.decrease() if said.has_ratios else said.amount(True)
        return f"{R} {said.way(False)} with {side.column}: by {amount} {per}"
    way = "changes" if said.is_negative else said.way(True)
    return f"{R} {way} with {side.column}: by {said.amount()} {per}"


def _curve(said: Said) -> str:
    """Of a curve: the change between its ends."""
    (side,), R = said.of.sides, said.subject
    verb = "changes" if said.is_clear else "does not clearly change"
    return (
        f"{R} {verb} along a curve of {side.column}: by {said.amount()} from one sd below its mean "
        "to one sd above it"
    )


def _bend(said: Said) -> str:
    """How a slope changes along its own number."""
    (side,), R = said.of.sides, said.subject
    verb = "changes" if said.is_clear else "does not clearly change"
    return (
        f"the slope of {R} in {side.column} {verb} along {side.column}: by {said.amount()} from one "
        "sd below its mean to one sd above it"
    )


def _slopes(said: Said) -> str:
    """How a slope depends on a category."""
    (slope,) = [s for s in said.of.sides if s.kind == "slope"]
    (side,) = [s for s in said.of.sides if s.kind == "difference"]
    what = f"the slope of {said.response} in {slope.column}"
    if said.has_ratios:
        what = f"the effect of {slope.column} on {said.response}"
    if said.apart is None:
        return _between(said, side, what, "depend", f"on {side.column}")
    turn = said.is_negative
    one, other = said.pair(side, turn)
    first, second = (said.change(v) for v in (said.apart[::-1] if turn else said.apart))
    second = second.removeprefix(f"{first.split(' by ')[0]} ")
    per = f"per unit of {slope.column}"
    if len(side.values) == 2:
        return (
            f"{what} depends on {side.column}: {per}, {said.subject} {first} for {one} and {second} "
            f"for {other}. {_told_apart(said, turn)}"
        )
    return (
        f"{what} depends on {side.column}. It differs most between {one} and {other}: {per}, "
        f"{said.subject} {first} for {one} and {second} for {other}. {_told_apart(said, turn)}"
    )


def _told_apart(said: Said, is_turned: bool) -> str:
    """The difference of two effects that have been told."""
    if not said.has_ratios:
        return f"The two differ by {said.amount(is_turned)}"
    return f"Their ratio is {said.ratio(is_turned)}"


def _curves(said: Said) -> str:
    """How a curve depends on a category."""
    (along,) = [s for s in said.of.sides if s.kind == "ends"]
    (side,) = [s for s in said.of.sides if s.kind == "difference"]
    verb = "depends" if said.is_clear else "does not clearly depend"
    one, other = said.pair(side, said.is_negative)
    return (
        f"the curve of {said.response} over {along.column} {verb} on {side.column}; from one sd "
        f"below the mean of {along.column} to one sd above it, {one} against {other} changes by "
        f"{said.amount(said.is_negative)}"
    )


def _differences(said: Said) -> str:
    """How a difference between categories depends on another category."""
    effect, other = said.of.sides
    turn = said.is_negative
    first, second = said.pair(effect, False)
    one, two = said.pair(other, turn)
    verb = "depends" if said.is_clear else "does not clearly depend"
    what = f"the effect of {effect.column} on {said.response} {verb} on {other.column}"
    if said.apart is not None:
        here, there = (said.effect(v) for v in (said.apart[::-1] if turn else said.apart))
        kind = "a change" if said.has_ratios else "a difference"
        where = ":" if len(said.values) == 1 else f". It differs most between {one} and {two}:"
        return (
            f"{what}{where} {first} against {second} makes {kind} of {here} for {one} and of "
            f"{there} for {two}. {_told_apart(said, turn)}"
        )
    which = "the difference" if len(said.values) == 1 else "the largest difference"
    return (
        f"{what}; {which} of {first} against {second} is between {one} and {two}: "
        f"{said.amount(turn)}"
    )


def _slope_along(said: Said) -> str:
    """How the slope in a number depends on another number."""
    (slope,) = [s for s in said.of.sides if s.kind == "slope"]
    (along,) = [s for s in said.of.sides if s.kind == "ends"]
    verb = "depends" if said.is_clear else "does not clearly depend"
    return (
        f"the slope of {said.response} in {slope.column} {verb} on {along.column}: it changes by "
        f"{said.amount()} from one sd below the mean of {along.column} to one sd above it"
    )


def _other(said: Said) -> str:
    """Interactions of three and more, and terms without their lower ones."""
    label = said.of.labels(" against ")[said.largest]
    verb = "matters" if said.is_clear else "does not clearly matter"
    most = "its estimate" if len(said.values) == 1 else "its largest effect"
    return f"{said.of.name} {verb} for {said.response}; {most} ({label}) is {said.amount()}"


def called(column: str, value: object) -> str:
    """A category in a sentence: by its own name where it is a word, else after its column.

    Examples
    --------
    >>> called("sex", "Male"), called("Diet", 3), called("arm", "B")
    ('Male', 'Diet 3', 'arm B')
    """
    text = category(value)
    is_word = isinstance(value, str) and len(text) > 2 and any(c.isalpha() for c in text)
    return text if is_word else f"{column} {text}"


def _percent(ratio: float) -> str:
    return f"{short(100 * (ratio - 1))} %"


def _interval(values: np.ndarray, unit: str = "") -> str:
    middle, low, high = (f"{short(float(v))}{unit}" for v in values)
    return f"{middle} [{low}, {high}]"
