"""Linear predictors, averaged or combined, as weights of the coefficients of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.answers.new_data import check_has_groups
from hierpool.answers.reference_grid import Grid, Predictors
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError, nearest
from hierpool.core.estimable import Beyond
from hierpool.core.group_nouns import nouns
from hierpool.core.label_matching import find_level
from hierpool.core.text import joined

Groups = Literal["average", "new"] | Mapping[str, Any]
_STEP = 1e-4  # of a numerical derivative, in units of the predictor's range


@dataclass(frozen=True)
class Held:
    """Where the groups stand: at their average, at one of their levels, or at all new ones.

    Attributes
    ----------
    design
        The design.
    levels
        Position of the level of each factor; None for an average one.
    is_new
        Whether back-transformed means are averaged over new groups.
    """

    design: Design
    levels: tuple[int | None, ...]
    is_new: bool = False

    @classmethod
    def usual(cls, design: Design, groups: Groups | None, *, is_curved: bool) -> Held:
        """What the user wrote; None: new groups where means are curved in the predictor.

        ``is_curved``: whether the mean of a family is asked whose link is not the identity. The
        mean over all groups is then another than that of an average one.
        """
        if groups is None:
            pooled = bool(design.groups) and all(g.is_pooled for g in design.groups)
            groups = "new" if is_curved and pooled else "average"
        return cls.of(design, groups)

    @classmethod
    def of(cls, design: Design, groups: Groups) -> Held:
        """What the user wrote in ``groups=``."""
        factors = [g.factor for g in design.groups]
        given: Mapping[str, Any] = groups if isinstance(groups, Mapping) else {}
        if not isinstance(groups, Mapping) and groups not in ("average", "new"):
            level = {f: str(design.group(f).grouping.levels[0]) for f in factors[:1]}
            raise ArgumentError(
                f"groups={groups!r}: choose 'average', 'new' or a level of a group"
                f"{f', e.g. groups={level}' if level else ''}",
                "unknown-choice",
            )
        check_has_groups(design, groups)
        for name in given:
            if name not in factors:
                raise ArgumentError(
                    f"groups= names {name!r}, and no coefficients vary over it in "
                    f"{design.spec.formula}; {nearest(name, factors)}",
                    "unknown-choice",
                )
        for group in design.groups:
            if not group.is_pooled and group.factor not in given:
                raise UnsupportedModelError(
                    f"no pooling has no mean or effect that is common to the levels of "
                    f"{group.factor!r}. Name one of them, "
                    f"groups={{{group.factor!r}: {str(group.grouping.levels[0])!r}}}, or pool "
                    "partially with hp.varying_slope",
                    "no-random-effects",
                )
        levels = [
            find_level(given[f], design.schema.group(f).grouping) if f in given else None
            for f in factors
        ]
        return cls(design, tuple(levels), groups == "new")

    @property
    def words(self) -> str:
        """Where the groups stand, for the head of a table; empty where there are none."""
        groups = self.design.groups
        if not groups:
            return ""
        if self.is_new:
            return f"averaged over new {joined(dict.fromkeys(nouns(g.factor) for g in groups))}"
        at = [
            f"{g.factor} {g.grouping.levels[k]}"
            for g, k in zip(groups, self.levels, strict=True)
            if k is not None
        ]
        average = [g.factor for g, k in zip(groups, self.levels, strict=True) if k is None]
        of = f"for an average {' and '.join(average)}" if average else ""
        return ", ".join(filter(None, [f"for {', '.join(at)}" if at else "", of]))

    def beyond(self, encoded: Any) -> Beyond:
        """What encoded rows need of dropped columns, those of a level's own included."""
        found: Beyond = encoded.beyond
        for group, level in zip(self.design.groups, self.levels, strict=True):
            if level is not None or self.is_new:
                found = found.beside(encoded.varying_beyond[group.factor])
        return found


@dataclass(frozen=True)
class LinearPredictors:
    """m linear predictors.

    Attributes
    ----------
    held
        Where the groups stand.
    X, offset
        Shapes (m, p) and (m,).
    Z
        For each factor, shape (m, q).
    beyond
        What they need of columns that were dropped.
    """

    held: Held
    X: np.ndarray
    offset: np.ndarray
    Z: tuple[np.ndarray, ...]
    beyond: Beyond

    def __len__(self) -> int:
        return len(self.X)

    @classmethod
    def of_means(cls, held: Held, grid: Grid) -> LinearPredictors:
        """Mean of each cell."""
        rows = _encoded(held, grid.rows)
        return cls._averaged(held, grid, _parts(held, rows), held.beyond(rows))

    @classmethod
    def of_slopes(cls, held: Held, grid: Grid, name: str) -> LinearPredictors:
        """Mean over the rows of each cell of the derivative by a number, by differences.

        The parabola through three points is derived: central differences, and at the ends of the
        predictor's range, which a spline cannot leave, one-sided ones of the same order.
        """
        predictors = Predictors(held.design)
        known, x = predictors.numbers(name), predictors.coded(grid.rows, name)
        spread = float(np.ptp(known)) or 1.0
        step = _STEP * spread
        low, high = np.minimum(known.min(), x), np.maximum(known.max(), x)
        centre = np.clip(x, low + step, high - step)
        points = [centre - step, centre, centre + step]
        encoded = [_encoded(held, grid.rows.assign(**{name: p})) for p in points]
        wide, aside = points[2] - points[0], x - centre
        turn = 4 * aside / wide**2
        weights = np.stack([turn - 1 / wide, -2 * turn, turn + 1 / wide])
        parts = [_parts(held, rows) for rows in encoded]
        made = [
            sum(w[:, None] * part for w, part in zip(weights, same, strict=True))
            for same in zip(*parts, strict=True)
        ]
        each = [held.beyond(rows) for rows in encoded]
        excess = sum(w[:, None] * b.excess for w, b in zip(weights, each, strict=True))
        beyond = Beyond(each[1].terms, excess * spread, each[1].slack)
        return cls._averaged(held, grid, made, beyond)

    @classmethod
    def _averaged(
        cls, held: Held, grid: Grid, parts: list[np.ndarray], beyond: Beyond
    ) -> LinearPredictors:
        X, offset, *Z = (grid.average(part) for part in parts)
        mean = Beyond(beyond.terms, grid.average(beyond.excess), grid.average(beyond.slack))
        return cls(held, X, offset[:, 0], tuple(Z), mean)

    def part(self, some: slice) -> LinearPredictors:
        """Some of them."""
        beyond = Beyond(self.beyond.terms, self.beyond.excess[some], self.beyond.slack[some])
        Z = tuple(Z[some] for Z in self.Z)
        return LinearPredictors(self.held, self.X[some], self.offset[some], Z, beyond)

    def scaled(self, factors: np.ndarray) -> LinearPredictors:
        """Each times a number, factors (m,)."""
        Z = tuple(factors[:, None] * Z for Z in self.Z)
        X, offset = factors[:, None] * self.X, factors * self.offset
        return LinearPredictors(self.held, X, offset, Z, self.beyond)

    def plus(self, other: LinearPredictors) -> LinearPredictors:
        """Each with the one in its place among others."""
        Z = tuple(one + two for one, two in zip(self.Z, other.Z, strict=True))
        X, offset = self.X + other.X, self.offset + other.offset
        return LinearPredictors(self.held, X, offset, Z, self.beyond)

    def combined(self, weights: np.ndarray) -> LinearPredictors:
        """Sums of them, weights (r, m)."""
        return LinearPredictors(
            self.held,
            weights @ self.X,
            weights @ self.offset,
            tuple(weights @ Z for Z in self.Z),
            self.beyond.combined(weights),
        )

    @property
    def combinations(self) -> Combinations:
        """The same as combinations of coefficients."""
        groups = zip(self.held.design.groups, self.held.levels, self.Z, strict=True)
        return Combinations(self.X, tuple(_part(g, level, Z) for g, level, Z in groups))


def _encoded(held: Held, rows: Any) -> Any:
    """Rows of a grid in the model's columns; an error names the function and not the row."""
    try:
        return held.design.encoder.encode(rows, factors=())
    except DataError as error:
        if error.code != "infinite-values":
            raise
        what = error.message.split(" is not a finite number")[0]
        raise ArgumentError(
            f"{what} is not a finite number at all values that are asked: ask for others with "
            "at={...}, such as the data have",
            "bad-grid",
        ) from None


def _parts(held: Held, rows: Any) -> list[np.ndarray]:
    """X, offset and Z of each factor, all (rows, k)."""
    Z = [rows.Z[g.factor] for g in held.design.groups]
    return [rows.X, np.reshape(rows.offset, (-1, 1)), *Z]


def _part(group: GroupDesign, level: int | None, Z: np.ndarray) -> LevelPart:
    if level is None:
        none = np.zeros(0, dtype=np.intp)
        return LevelPart(none, none, np.zeros((0, len(group.terms))))
    return LevelPart(np.arange(len(Z)), np.full(len(Z), level, dtype=np.intp), Z)
