"""What a term of the fixed effects says, as differences, slopes and their changes.

A term is made of the user's columns. Each column is a side of what is compared: the pairs of a
category, the slope of a number, or the ends between which a second number moves. The effect of an
interaction is the product of its sides: for ``Time:Diet`` the differences between the diets in the
slope of Time. All else is averaged: categories with equal weights, numbers at their means, as in
emmeans. So no answer depends on the reference category, or on where a number is zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hierpool.answers.linear_predictors import Held, LinearPredictors
from hierpool.answers.reference_grid import Predictors, make_grid
from hierpool.core.schema import PopulationTerm
from hierpool.core.text import short

INTERCEPT = "1"
Kind = Literal["difference", "each", "slope", "ends", "bend"]
MOST_PAIRS = 15  # of categories; more are compared with the first
_LINEAR = 1e-6  # second differences of a straight line, in units of its rise
_SAME_SPAN = 1e-6


@dataclass(frozen=True)
class Side:
    """One column of a term, and how its values are compared.

    Attributes
    ----------
    column
        The user's column.
    kind
        ``"difference"`` between categories; ``"each"``: in each category; ``"slope"`` of a number
        at its mean; ``"ends"``: from one sd below the mean of a number to one above it;
        ``"bend"``: how the slope changes between these.
    values
        Where the column is taken.
    weights
        Shape (comparisons, values).
    pairs
        What each comparison compares; empty of a number.
    """

    column: str
    kind: Kind
    values: tuple[Any, ...]
    weights: np.ndarray
    pairs: tuple[tuple[Any, ...], ...] = ((),)

    @property
    def is_derived(self) -> bool:
        """Whether the slope in this column is taken."""
        return self.kind in ("slope", "bend")


@dataclass(frozen=True)
class Within:
    """The effect of one side in each value of a category, of which a term has the differences.

    Attributes
    ----------
    side
        Position of the category among the sides of the term.
    linear
        The effects as linear predictors.
    chosen
        For each of them the position of its comparison in each side; that of the category is the
        position of its value.
    """

    side: int
    linear: LinearPredictors
    chosen: tuple[tuple[int, ...], ...]

    def apart(self, of: TermComparisons, row: int) -> tuple[int, int] | None:
        """The two effects whose difference is a comparison; None where one cannot be had."""
        category, place = of.sides[self.side], list(of.chosen[row])
        found = []
        for value in category.pairs[place[self.side]]:
            place[self.side] = category.values.index(value)
            found.append(tuple(place))
        if not set(found) <= set(self.chosen):
            return None
        return self.chosen.index(found[0]), self.chosen.index(found[1])


@dataclass(frozen=True)
class TermComparisons:
    """The comparisons of a term, and the hypothesis that all that it says is zero.

    Attributes
    ----------
    term
        The term.
    sides
        One for each column.
    linear
        The m comparisons as linear predictors.
    chosen
        For each of them the position of its comparison in each side.
    hypothesis
        Shape (r, p): independent combinations of the fixed effects.
    averaged, at_mean
        Columns that interact with the term: categories, and numbers.
    within
        Of two sides, a category the one that the other depends on: the effect of the other in each
        of its values.
    """

    term: PopulationTerm
    sides: tuple[Side, ...]
    linear: LinearPredictors
    chosen: tuple[tuple[int, ...], ...]
    hypothesis: np.ndarray
    averaged: tuple[str, ...]
    at_mean: tuple[str, ...]
    within: Within | None = None

    @property
    def name(self) -> str:
        """The term as typed; ``"Intercept"`` for the constant."""
        return "Intercept" if self.term.name == INTERCEPT else self.term.name

    @property
    def order(self) -> int:
        """How many columns interact in it."""
        return len(self.sides)

    def is_within(self, other: TermComparisons) -> bool:
        """Whether the columns of this term are among those of another, which has more."""
        return set(self.term.columns) < set(other.term.columns)

    def labels(self, joint: str) -> list[str]:
        """A label for each comparison; ``joint`` stands between what is compared."""
        return [
            ", ".join(
                _label(side, side.pairs[k], joint, len(self.sides) > 1)
                for side, k in zip(self.sides, row, strict=True)
            )
            or "mean"
            for row in self.chosen
        ]


def comparisons_of_terms(held: Held) -> list[TermComparisons]:
    """Of every term in the order of the formula; the constant only where there is nothing else."""
    design = held.design
    terms = design.encoder.terms(design)
    every = [t for t in terms if t.name != INTERCEPT]
    if not every:
        return [_of_constant(held, t) for t in terms]
    tests = dict(design.encoder.type_three(design))
    made = _Terms(held, Predictors(design), tuple(every))
    return [made.compared(term, tests[term.name]) for term in every]


def _of_constant(held: Held, term: PopulationTerm) -> TermComparisons:
    grid = make_grid(held.design, [], [], None, "equal")
    linear = LinearPredictors.of_means(held, grid)
    return TermComparisons(term, (), linear, ((),), linear.X, (), ())


@dataclass(frozen=True)
class _Terms:
    """All terms of a model, which decide what each of them says."""

    held: Held
    predictors: Predictors
    every: tuple[PopulationTerm, ...]

    def compared(self, term: PopulationTerm, type_three: np.ndarray) -> TermComparisons:
        """The comparisons of one term."""
        sides = self._sides(term)
        linear, chosen = self._combined(sides)
        beside = [
            c
            for other in self.every
            if set(other.columns) > set(term.columns)
            for c in other.columns
            if c not in term.columns
        ]
        averaged = tuple(dict.fromkeys(c for c in beside if self._is_category(c)))
        at_mean = tuple(dict.fromkeys(c for c in beside if not self._is_category(c)))
        hypothesis = type_three
        if not self._is_type_three(term, sides, at_mean):
            hypothesis = _independent(_estimable(linear))
        within = self._within(sides)
        return TermComparisons(term, sides, linear, chosen, hypothesis, averaged, at_mean, within)

    def _within(self, sides: tuple[Side, ...]) -> Within | None:
        """The slopes, or the differences, that a term of two sides compares between categories."""
        kinds = [side.kind for side in sides]
        if len(sides) != 2 or "difference" not in kinds or not {"slope", "difference"} >= {*kinds}:
            return None
        place = kinds.index("difference") if "slope" in kinds else 1
        values = sides[place].values
        each = _side_of_category(sides[place].column, values, is_alone=True, is_paired=True)
        linear, chosen = self._combined([each if k == place else s for k, s in enumerate(sides)])
        return Within(place, linear, chosen)

    def _is_type_three(
        self, term: PopulationTerm, sides: Sequence[Side], at_mean: Sequence[str]
    ) -> bool:
        """Whether the term's own coefficients are tested: where the comparisons are not all of them.

        Curves have more coefficients than comparisons. A category is tested by its type III
        hypothesis, which knows empty cells and nested categories, unless a number interacts
        with it: type III would be at zero of the number, and the comparisons are at its mean.
        """
        numbers = [side.column for side in sides if not self._is_category(side.column)]
        if numbers:
            is_curved = any(side.kind == "bend" for side in sides)
            return is_curved or not all(self._is_straight(term, x) for x in numbers)
        return not at_mean and self._has_constant

    @property
    def _has_constant(self) -> bool:
        return "Intercept" in self.held.design.terms

    def _is_category(self, column: str) -> bool:
        return column in self.predictors.categories

    def _sides(self, term: PopulationTerm) -> tuple[Side, ...]:
        found: dict[str, Side] = {}
        numbers = [c for c in term.columns if not self._is_category(c)]
        for place, x in enumerate(numbers):
            found[x] = self._side_of_number(term, x, is_first=place == 0, is_only=len(numbers) == 1)
        categories = [c for c in term.columns if self._is_category(c)]
        every = {frozenset(t.columns) for t in self.every}
        alone = [
            c
            for c in categories
            if len(term.columns) > 1 and frozenset(term.columns) - {c} not in every
        ]
        if len(alone) == len(term.columns):  # cells: of each but the last
            alone = alone[:-1]
        sizes = [len(self.predictors.categories[c]) for c in categories if c not in alone]
        is_paired = math.prod(math.comb(k, 2) for k in sizes) <= MOST_PAIRS
        for c in categories:
            found[c] = _side_of_category(
                c, self.predictors.categories[c], c in alone, is_paired=is_paired
            )
        return tuple(found[c] for c in term.columns)

    def _side_of_number(
        self, term: PopulationTerm, x: str, *, is_first: bool, is_only: bool
    ) -> Side:
        values = self.predictors.numbers(x)
        mean, sd = self.predictors.mean(x), self.predictors.sd(x)
        low, high = max(mean - sd, float(values.min())), min(mean + sd, float(values.max()))
        ends, rise = (low, high), np.array([[-1.0, 1.0]])
        if not is_first:
            return Side(x, "ends", ends, rise)
        if not is_only or self._is_straight(term, x):
            return Side(x, "slope", (mean,), np.ones((1, 1)))
        same = [t for t in self.every if t.columns == term.columns and t != term]
        straight = [t for t in same if self._is_straight(t, x)]
        if not straight:
            return Side(x, "ends", ends, rise)
        earlier = [
            t for t in same if t not in straight and self.every.index(t) < self.every.index(term)
        ]
        if earlier:  # I(x ** 3) after I(x ** 2): the change of the change
            return Side(x, "bend", (low, mean, high), np.array([[1.0, -2.0, 1.0]]))
        return Side(x, "bend", ends, rise)

    def _is_straight(self, term: PopulationTerm, x: str) -> bool:
        """Whether the columns of a term are straight lines in a number."""
        values = self.predictors.numbers(x)
        points = np.linspace(values.min(), values.max(), 5).tolist()
        grid = make_grid(self.held.design, [x], [], {x: points}, "equal")
        columns = LinearPredictors.of_means(self.held, grid).X[:, list(term.places)]
        bent = np.abs(np.diff(columns, 2, axis=0)).max(initial=0.0)
        return bool(bent <= _LINEAR * np.abs(np.diff(columns, axis=0)).max(initial=0.0))

    def _combined(
        self, sides: Sequence[Side]
    ) -> tuple[LinearPredictors, tuple[tuple[int, ...], ...]]:
        """Products of the sides' comparisons; those with a cell that cannot occur are left out."""
        at = {s.column: list(s.values) for s in sides if not self._is_category(s.column)}
        names = [side.column for side in sides]
        grid = make_grid(self.held.design, names, [], at, "equal")
        derived = [side.column for side in sides if side.is_derived]
        cells = (
            LinearPredictors.of_slopes(self.held, grid, derived[0])
            if derived
            else LinearPredictors.of_means(self.held, grid)
        )
        keys = list(grid.keys[names].itertuples(index=False, name=None))
        place = {key: k for k, key in enumerate(keys)}
        weights, chosen = [], []
        for row in itertools.product(*(range(len(side.weights)) for side in sides)):
            own, each = np.zeros(len(keys)), list(zip(sides, row, strict=True))
            used = [np.flatnonzero(side.weights[k]) for side, k in each]
            cells_used = {
                tuple(
                    side.values[v] for (side, _), v in zip(each, at_values, strict=True)
                ): math.prod(
                    float(side.weights[k, v]) for (side, k), v in zip(each, at_values, strict=True)
                )
                for at_values in itertools.product(*used)
            }
            if all(cell in place for cell in cells_used):
                for cell, weight in cells_used.items():
                    own[place[cell]] = weight
                weights.append(own)
                chosen.append(row)
        return cells.combined(np.reshape(weights, (-1, len(keys)))), tuple(chosen)


def _side_of_category(
    column: str, values: Sequence[Any], is_alone: bool, *, is_paired: bool
) -> Side:
    """Pairs, the later minus the earlier; each minus the first where pairs are many."""
    k, unit = len(values), np.eye(len(values))
    if is_alone:
        return Side(column, "each", tuple(values), unit, tuple((v,) for v in values))
    pairs = [(a, b) for b in range(k) for a in range(b + 1, k)]
    if not is_paired:
        pairs = [(a, 0) for a in range(1, k)]
    weights = np.array([unit[a] - unit[b] for a, b in pairs]).reshape(-1, k)
    compared = tuple((values[a], values[b]) for a, b in pairs)
    return Side(column, "difference", tuple(values), weights, compared)


def _estimable(linear: LinearPredictors) -> np.ndarray:
    """Shape (r, p): the combinations of some linear predictors that the rows tell."""
    beyond = linear.beyond
    needed = np.where(beyond.is_needed, beyond.excess, 0.0)
    if not needed.any():
        return linear.X
    left, size, _ = np.linalg.svd(needed)
    rank = int((size > _SAME_SPAN * size[0]).sum())
    return np.asarray(left[:, rank:].T @ linear.X)


def _independent(rows: np.ndarray) -> np.ndarray:
    """Shape (r, p): independent rows that span the same."""
    size = np.abs(rows).max(axis=0, initial=0.0)
    size[size == 0] = 1.0
    _, values, right = np.linalg.svd(rows / size, full_matrices=False)
    rank = int((values > _SAME_SPAN * max(values, default=0.0)).sum())
    return np.asarray(right[:rank] * size)


def _label(side: Side, pair: tuple[Any, ...], joint: str, is_named: bool) -> str:
    if side.kind == "slope":
        is_ratio = "/" in joint
        return f"ratio per unit of {side.column}" if is_ratio else f"slope in {side.column}"
    if side.kind in ("ends", "bend"):
        ends = f"{side.column} {short(side.values[0])} to {short(side.values[-1])}"
        return ends if side.kind == "ends" else f"change of slope, {ends}"
    text = joint.join(map(category, pair))
    return f"{side.column} {text}" if is_named or side.kind == "each" else text


def category(value: Any) -> str:
    """A category as text: a number without its decimal point."""
    return f"{value:g}" if isinstance(value, float) else str(value)
