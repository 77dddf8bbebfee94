"""The reference grid: at which values of the predictors a mean or a slope is taken.

Equal weights, as in emmeans: every combination of the categories counts alike, numbers are held at
their means. Observed weights, as in marginaleffects: the rows of the fit, with what is asked put in
the place of what they have.

References
----------
Searle, Speed, Milliken (1980), The American Statistician 34, 216-221.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, UnsupportedModelError, listed, nearest
from hierpool.core.label_matching import find_label
from hierpool.core.summed_rows import Range
from hierpool.core.text import short

Weights = Literal["equal", "observed"]
MOST_ROWS = 200_000
_CONTINUOUS = 3  # a number with fewer different values counts as a category, as in emmeans


@dataclass(frozen=True)
class Predictors:
    """The predictors of a design, as a grid sees them.

    Attributes
    ----------
    design
        The design.
    """

    design: Design

    @property
    def names(self) -> tuple[str, ...]:
        """The user's columns."""
        return self.design.predictors

    @cached_property
    def categories(self) -> Mapping[str, Sequence[Any]]:
        """Column -> its values, for categories and for numbers with two values at most."""
        frame, found = self.frame, {}
        for source in self.design.encoder.sources:
            if source.categories is not None:
                found[source.column] = list(source.categories)
        for name in self.names:
            values = frame[name].drop_duplicates()
            if name not in self._ranges and name not in found and len(values) < _CONTINUOUS:
                found[name] = sorted(values)
        return {name: found[name] for name in self.names if name in found}

    @property
    def frame(self) -> pd.DataFrame:
        """The rows of the fit; of sums, their combinations of values, and means of other numbers."""
        summed = self.design.observations.summed
        return self.design.frame if summed is None else summed.profile.frame

    @property
    def counts(self) -> np.ndarray | None:
        """Shape (rows of ``frame``,): rows of the table in each; None where each is one."""
        summed = self.design.observations.summed
        return None if summed is None else summed.profile.counts

    @property
    def _ranges(self) -> Mapping[str, Range]:
        """Numbers of which only the range is known."""
        summed = self.design.observations.summed
        return {} if summed is None else summed.profile.ranges

    def loses(self, names: Collection[str]) -> bool:
        """Whether the values of some of these predictors in the rows are not known."""
        return bool(set(self._ranges) & set(names))

    def is_text(self, name: str) -> bool:
        """Whether a predictor is made of categories, not of a number."""
        sources = self.design.encoder.sources
        return any(s.column == name and s.categories is not None for s in sources)

    def numbers(self, name: str) -> np.ndarray:
        """Shape (n,): values of a number in the rows of the fit; where only sums are known, its ends."""
        if name in self._ranges:
            own = self._ranges[name]
            return np.array([own.low, own.mean, own.high])
        return self.coded(self.frame, name)

    def coded(self, frame: pd.DataFrame, name: str) -> np.ndarray:
        """Shape (rows,): a column as numbers that are equal where its values are."""
        for source in self.design.encoder.sources:
            if source.column == name and (source.categories is not None) == self.is_text(name):
                values = source.values(frame.reset_index(drop=True), "a predictor")
                return np.asarray(getattr(values, "codes", values), dtype=float)
        raise AssertionError(f"{name} is no predictor")

    def matches(self, frame: pd.DataFrame, name: str, value: Any) -> np.ndarray:
        """Shape (rows,): where a column has a value."""
        wanted = self.coded(pd.DataFrame({name: [value]}), name)
        return np.asarray(self.coded(frame, name) == wanted)

    def mean(self, name: str) -> float:
        """Mean of a number over the rows of the fit."""
        if name in self._ranges:
            return self._ranges[name].mean
        return float(np.average(self.numbers(name), weights=self.counts))

    def sd(self, name: str) -> float:
        """Sd of a number over the rows of the fit."""
        if name in self._ranges:
            return self._ranges[name].sd
        values, counts = self.numbers(name), self.counts
        if counts is None:
            return float(np.std(values, ddof=1))
        squares = (counts * (values - self.mean(name)) ** 2).sum()
        return float(np.sqrt(squares / (counts.sum() - 1)))

    def find(self, name: str, value: Any) -> Any:
        """A value that the user typed, as the model has it."""
        if self.is_text(name):
            return find_label(value, pd.Index(self.categories[name]), name)
        is_number = isinstance(value, (int, float, np.number, np.bool_))
        if not is_number or not math.isfinite(value):
            is_boolean = pd.api.types.is_bool_dtype(self.frame[name])
            raise ArgumentError(
                f"{name!r} is {'true or false' if is_boolean else 'a number'} in this model, and "
                f"cannot be {value!r}. Give "
                + ("True or False" if is_boolean else f"a number, e.g. {short(self.mean(name))}"),
                "bad-grid",
            )
        return value

    def check(self, name: Any, role: str) -> str:
        """The name, where it is a predictor."""
        if isinstance(name, str) and name in self.names:
            return name
        factors = [g.factor for g in self.design.groups]
        if name in factors:
            raise ArgumentError(
                f"{role} names {name!r}, a grouping factor, not a predictor of the fixed effects. "
                f"groups={{{name!r}: ...}} chooses one of its groups, and "
                f"hp.contrast(fit, {name!r}) compares them",
                "unknown-choice",
            )
        raise ArgumentError(
            f"{role} names {name!r}, and {self.design.spec.formula} has no such predictor; "
            f"{nearest(name, self.names)}",
            "unknown-choice",
        )


@dataclass(frozen=True)
class Grid:
    """Rows of predictors in cells, each cell an average over its rows.

    Attributes
    ----------
    keys
        One row a cell: the values that tell it from the others.
    rows
        Rows of predictors, those of one cell after those of another.
    cell
        Shape (rows,): position of each row's cell.
    weight
        Shape (rows,): adds up to 1 in each cell.
    """

    keys: pd.DataFrame
    rows: pd.DataFrame
    cell: np.ndarray
    weight: np.ndarray

    @property
    def by_row(self) -> Grid:
        """The same rows, each a cell of its own."""
        each = np.arange(len(self.rows))
        return Grid(self.rows, self.rows, each, np.ones(len(self.rows)))

    def average(self, values: np.ndarray) -> np.ndarray:
        """Shape (cells, k): weighted means of the rows' values (rows, k)."""
        out = np.zeros((len(self.keys), values.shape[1]))
        np.add.at(out, self.cell, self.weight[:, None] * values)
        return out


def names_of(given: Any) -> list[Any]:
    """One name or several, as a list."""
    if given is None:
        return []
    return [given] if isinstance(given, (str, bytes)) or not np.iterable(given) else list(given)


def make_grid(
    design: Design,
    asked: Sequence[str],
    by: Sequence[str],
    at: Mapping[str, Any] | None,
    weights: Weights,
) -> Grid:
    """The grid of what is asked, in each group of rows that ``by`` makes.

    Parameters
    ----------
    design
        The design.
    asked
        Predictors whose values tell the cells apart; none for one cell (a group of ``by``).
    by
        Predictors whose values make groups of cells; their cells come one after the other.
    at
        Values of predictors; of the others all categories are taken, and the mean of numbers.
    weights
        How the rows of a cell are averaged.
    """
    if weights not in get_args(Weights):
        raise ArgumentError(
            f"weights={weights!r}: choose 'equal' (each combination of categories counts alike) or "
            "'observed' (averaged over the rows of the fit)",
            "unknown-choice",
        )
    predictors = Predictors(design)
    shown = [*by, *asked]
    for role, names in (("by=", by), ("what=", asked)):
        for name in names:
            predictors.check(name, role)
    twice = [name for k, name in enumerate(shown) if name in shown[:k]]
    if twice:
        raise ArgumentError(f"{twice[0]!r} is named twice: name it once", "bad-grid")
    values = _values(predictors, shown, at or {})
    make = _equal if weights == "equal" else _observed
    return make(predictors, by, shown, values)


def _values(
    predictors: Predictors, shown: Sequence[str], at: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Predictor -> the values that it takes, for those shown and those held by the user."""
    if not isinstance(at, Mapping):
        raise ArgumentError(
            f"at={at!r} must be a dict, predictor -> value, e.g. at={{'age': 14}}", "bad-grid"
        )
    found: dict[str, list[Any]] = {}
    for name, given in at.items():
        predictors.check(name, "at=")
        several = [predictors.find(name, v) for v in names_of(given)]
        if not several:
            raise ArgumentError(f"at= gives no value of {name!r}: give one", "bad-grid")
        if len(several) > 1 and name not in shown:
            raise ArgumentError(
                f"at= holds {name!r} at {len(several)} values: name it in by= for one result at "
                "each, or hold it at one",
                "bad-grid",
            )
        found[name] = list(dict.fromkeys(several))
    for name in shown:
        if name not in found and name not in predictors.categories:
            low, middle, high = np.quantile(predictors.numbers(name), [0.0, 0.5, 1.0])
            example = ", ".join(map(short, dict.fromkeys((low, middle, high))))
            raise ArgumentError(
                f"{name!r} is a number with many values: say at which, e.g. "
                f"at={{{name!r}: [{example}]}}",
                "bad-grid",
            )
        found.setdefault(name, list(predictors.categories.get(name, [])))
    return found


def _equal(
    predictors: Predictors,
    by: Sequence[str],
    shown: Sequence[str],
    values: Mapping[str, Sequence[Any]],
) -> Grid:
    """Every combination of categories, those of nested ones that occur."""
    held = [n for n in predictors.names if n not in shown]
    taken = {n: values[n] for n in shown}
    for name in held:
        own = values.get(name) or predictors.categories.get(name)
        taken[name] = list(own) if own else [predictors.mean(name)]
    _check_size(math.prod(map(len, taken.values())))
    rows = pd.DataFrame(list(itertools.product(*taken.values())), columns=list(taken))
    if not taken:  # a constant alone
        rows = pd.DataFrame(index=pd.RangeIndex(1))
    nested = {n: p for n, p in predictors.design.encoder.nested.items() if n in taken}
    for name, parents in nested.items():
        rows = _occurring(predictors, rows, [*parents, name])
    weight = np.ones(len(rows))
    for name in held:
        if len(taken[name]) > 1:
            beside = [*shown, *nested.get(name, ())]
            weight /= _different(rows, list(dict.fromkeys(b for b in beside if b != name)), name)
    cell, keys = _cells(rows, shown)
    total = np.bincount(cell, weight)
    return Grid(keys, rows, cell, weight / total[cell])


def _occurring(predictors: Predictors, rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Rows whose values of some columns occur together in the data."""

    def together(frame: pd.DataFrame) -> list[tuple[float, ...]]:
        return list(zip(*(predictors.coded(frame, n).tolist() for n in names), strict=True))

    known = set(together(predictors.frame))
    return rows[[values in known for values in together(rows)]].reset_index(drop=True)


def _different(rows: pd.DataFrame, beside: list[str], name: str) -> np.ndarray:
    """Shape (rows,): how many values of a column the rows have that agree in others."""
    if not beside:
        return np.full(len(rows), rows[name].nunique())
    groups = rows.groupby(beside, sort=False, observed=True)[name]
    return np.asarray(groups.transform("nunique"), dtype=float)


def _cells(rows: pd.DataFrame, shown: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """Position of each row's cell, and what tells the cells apart."""
    if not shown:
        return np.zeros(len(rows), dtype=int), pd.DataFrame(index=pd.RangeIndex(1))
    cell = rows.groupby(list(shown), sort=False, observed=True).ngroup().to_numpy()
    return cell, rows[list(shown)].drop_duplicates().reset_index(drop=True)


def _observed(
    predictors: Predictors,
    by: Sequence[str],
    shown: Sequence[str],
    values: Mapping[str, Sequence[Any]],
) -> Grid:
    """The rows of the fit, once for each cell; the cells of a category of ``by`` have its own rows."""
    names = list(predictors.names)
    if predictors.loses(set(names) - set(values)):
        predictors.design.check_rows(
            "weights='observed' beside numbers of which only sums are known"
        )
    frame, known = predictors.frame[names], predictors.counts
    for name in (n for n in values if n not in shown):
        frame = frame.assign(**{name: values[name][0]})
    counts = pd.Series(np.ones(len(frame)) if known is None else known)
    if names:  # rows that agree in every predictor count as one, with their number as weight
        code = frame.groupby(names, sort=False, observed=True).ngroup().to_numpy()
        counts = pd.Series(np.bincount(code, counts, minlength=1).astype(float))
        frame = frame.drop_duplicates()
    frame = frame.reset_index(drop=True)
    own = [n for n in by if _are_known(predictors, n, values[n])]
    keys = list(itertools.product(*(values[n] for n in shown)))
    _check_size(len(frame) * len(keys))
    parts, cells, weight = [], [], []
    kept: list[tuple[Any, ...]] = []
    for key in keys:
        given = dict(zip(shown, key, strict=True))
        inside = np.ones(len(frame), dtype=bool)
        for name in own:
            inside &= predictors.matches(frame, name, given[name])
        if not inside.any():
            continue
        parts.append(frame[inside].assign(**given))
        cells.append(np.full(len(parts[-1]), len(kept)))
        weight.append(counts[inside] / counts[inside].sum())
        kept.append(key)
    if not kept:
        raise ArgumentError(
            f"no row has any of these combinations of {listed(own)}: weights='observed' averages "
            "over rows. Use weights='equal'",
            "bad-grid",
        )
    table = pd.DataFrame(kept, columns=list(shown), index=pd.RangeIndex(len(kept)))
    rows = pd.concat(parts, ignore_index=True)
    return Grid(table, rows, np.concatenate(cells), np.concatenate(weight))


def _are_known(predictors: Predictors, name: str, values: Sequence[Any]) -> bool:
    """Whether all of a predictor's values are categories, whose rows are there to be averaged."""
    return all(value in predictors.categories.get(name, ()) for value in values)


def _check_size(n: int) -> None:
    if n > MOST_ROWS:
        raise UnsupportedModelError(
            f"the grid would have {n:,} rows; {MOST_ROWS:,} are the most. Hold some predictors at "
            "one value with at={...}, or ask for fewer values",
            "grid-too-large",
        )
