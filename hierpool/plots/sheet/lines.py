"""Lines of the levels: what a set of coefficients says over the range of each level's rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpool.core.design import Design, Grouping
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError, listed, nearest
from hierpool.core.fitted import Fit, Posterior
from hierpool.core.group_nouns import noun
from hierpool.core.label_matching import find_level
from hierpool.core.labels import as_shown
from hierpool.core.results import level_index
from hierpool.plots.sheet.style import POOLINGS
from hierpool.reml.pooling_limits import own_coefficients

_VALUES = ("value", "estimate", "mean")
GRID = 41


Table = pd.DataFrame | pd.Series
Source = Table | tuple[Table | None, Table]


@dataclass(frozen=True)
class Abscissa:
    """What the panels of levels are drawn over.

    Attributes
    ----------
    name
        Its label.
    kind
        ``"number"`` or ``"category"``: a predictor; ``"order"``: the rows of a level in order.
    values
        Shape (n,): position of each row.
    categories
        Those of a category, at 0, 1, ...; else empty.
    """

    name: str
    kind: Literal["number", "category", "order"]
    values: np.ndarray
    categories: tuple[object, ...] = ()

    def places(self, grouping: Grouping, codes: np.ndarray) -> np.ndarray:
        """Where each level's line is evaluated, shape (levels, m): no farther than its rows go.

        All categories for each level, those without rows too (see ``has_rows``).
        """
        if self.kind == "category":
            return np.tile(np.arange(len(self.categories), dtype=float), (len(codes), 1))
        ends = pd.Series(self.values).groupby(grouping.codes).agg(["min", "max"]).to_numpy()[codes]
        if self.kind == "order":
            return np.asarray(ends + np.array([-0.5, 0.5]))
        return np.linspace(ends[:, 0], ends[:, 1], GRID, axis=1)

    def has_rows(self, grouping: Grouping, codes: np.ndarray) -> np.ndarray:
        """Whether a level has rows at a place, shape (levels, m); a line is between its rows."""
        if self.kind != "category":
            return np.ones((len(codes), 1), dtype=bool)
        counts = np.zeros((grouping.n_levels, len(self.categories)), dtype=int)
        np.add.at(counts, (grouping.codes, self.values.astype(int)), 1)
        return counts[codes] > 0


def check_has_draws(fit: object, call: str) -> None:
    """Raise where a picture of a posterior is given something else.

    Parameters
    ----------
    fit
        What the user passed.
    call
        How the function is called, for the message: ``"standard_deviations(fit, reml)"``.
    """
    if isinstance(fit, Posterior):
        return
    raise UnsupportedModelError(
        f"this figure needs a posterior, and a {type(fit).__name__} has no draws. Call "
        f"hp.plots.{call} with fit = model.fit().",
        "no-draws",
    )


def check_drawable(given: object, kind: type[object], call: str) -> None:
    """Raise where a picture is given what it cannot be drawn from.

    Parameters
    ----------
    given
        What the user passed.
    kind
        What can be drawn.
    call
        How the function is called, for the message: ``"residuals(model.fit())"``.
    """
    if not isinstance(given, kind):
        raise ArgumentError(
            f"this figure cannot be drawn from a {type(given).__name__}. Write hp.plots.{call}.",
            "cannot-be-drawn",
        )


def check_fits_by_name(fits: object, call: str) -> None:
    """Raise where a picture of several fits is given anything but a dict of them."""
    if not isinstance(fits, Mapping):
        raise ArgumentError(
            f"this figure needs a dict of fits, not a {type(fits).__name__}. Write "
            f"hp.plots.{call} with fits = {{'pooled': fit_1, 'partial': fit_2}}.",
            "fits-by-name",
        )
    for name, fit in fits.items():
        if not isinstance(fit, Fit):
            raise ArgumentError(
                f"{name!r} is a {type(fit).__name__}, but this figure needs fits: model.fit() or "
                "model.reml().",
                "fit-needed",
            )


def of_fits(fits: Mapping[str, Fit]) -> tuple[Design, dict[str, Source]]:
    """Design and lines of the last fit of each pooling, the partially pooled one's design first.

    The lines of no pooling are least squares of each level, whatever the prior of its posterior.
    """
    last = {f"{fit.design.spec.pooling}_pooling": fit for fit in fits.values()}
    last = {{"none_pooling": "no_pooling"}.get(k, k): fit for k, fit in last.items()}
    if not last:
        raise ArgumentError(
            "the dict of fits is empty. Put fits into it by name, {'partial': model.fit()}",
            "fits-by-name",
        )
    first = next(
        last[k] for k in ("partial_pooling", "no_pooling", "complete_pooling") if k in last
    )
    return first.design, {name: _of_fit(fit) for name, fit in last.items()}


def _of_fit(fit: Fit) -> Source:
    if fit.design.spec.pooling == "none":
        return own_lines(fit.design)
    if not isinstance(fit, Posterior):
        own = fit.coefficients() if fit.design.groups else None
        return (own, fit.fixed_effects())
    means = fit.posterior_means
    fixed = pd.Series(
        means["beta"] if fit.design.terms else [],
        index=pd.Index(fit.design.terms, name="term"),
        dtype=float,
    )
    parts = []
    for group in fit.design.groups:
        values = means[f"coef_{group.factor}"].reshape(-1)
        keys: list[Any] = [[group.factor], group.grouping.levels, group.terms]
        index = pd.MultiIndex.from_product(keys, names=["factor", "level", "term"])
        parts.append(pd.Series(values, index=index))
    return (pd.concat(parts) if parts else None, fixed)


def own_lines(design: Design) -> Source:
    """Least squares of each level, of a design without pooling; a part that is not estimable is NaN."""
    beta, coefficients = own_coefficients(design)
    index = level_index(design.groups[0].schema)
    fixed = pd.Series(beta, index=pd.Index(design.terms, name="term"), dtype=float)
    return pd.Series(coefficients.ravel(), index=index), fixed


def level_coefficients(source: Source, design: Design, grouping: Grouping) -> pd.DataFrame:
    """Coefficients of every term for every level: levels x terms.

    A level's own coefficient comes first, the common one where it has none; a common one that is
    NaN says nothing that the levels' own do not, and counts as 0. ``source`` is a table over
    (factor, level, term), one over term, or a pair of both. Its labels are read as those of new
    data are: text ``"308"`` is the whole number 308, and a level that the design has not is an
    error. A level that the table has not is NaN.
    """
    own, fixed = source if isinstance(source, tuple) else (source, None)
    if own is not None and own.index.nlevels == 1:
        own, fixed = None, own
    table = pd.DataFrame(index=grouping.levels)
    if fixed is not None:
        for term, value in _values(fixed).items():
            table[term] = 0.0 if own is not None and np.isnan(value) else float(value)
    if own is not None:
        flat = _values(own)
        flat = flat[flat.index.get_level_values(0) == grouping.factor].droplevel(0)
        wide = flat.unstack()
        at = _positions(wide.index, grouping)
        for term in wide.columns:
            own_values = np.full(grouping.n_levels, np.nan)
            own_values[at] = wide[term].to_numpy(dtype=float)
            table[term] = own_values
    missing = [t for t in design.terms if t not in table.columns]
    if missing:
        raise ArgumentError(
            f"a line needs a coefficient for each term, but {listed(missing)} has none. For terms that "
            "do not vary, give a pair: (fit.coefficients(), fit.fixed_effects())",
            "unknown-choice",
        )
    return table


def _positions(labels: pd.Index[Any], grouping: Grouping) -> np.ndarray:
    """Positions of the levels that a table's labels name, typed as they may be."""
    at = grouping.levels.get_indexer(labels)
    unknown = np.flatnonzero(at < 0)
    at[unknown] = [find_level(label, grouping.known) for label in labels[unknown]]
    return at


def _values(table: Table) -> pd.Series:
    if isinstance(table, pd.Series):
        return table
    name = next((c for c in _VALUES if c in table.columns), None)
    if name is None and table.shape[1] != 1:
        raise DataError(
            f"a table of coefficients needs a column {listed(_VALUES)}; this one has "
            f"{listed(table.columns)}. Choose one, e.g. table[['mean']]",
            "unknown-column",
        )
    return table[name] if name else table.iloc[:, 0]


def check_names(lines: Mapping[str, Any]) -> None:
    """Raise where a line is not one of the three poolings."""
    for name in lines:
        if name not in POOLINGS:
            raise ArgumentError(f"no line {name!r}: {nearest(name, POOLINGS)}", "unknown-choice")


def choose_grouping(design: Design, factor: str | None) -> Grouping:
    """The factor whose levels get a panel each: the one asked for, else the first."""
    if not design.groupings:
        raise UnsupportedModelError(
            f"{design.spec.formula} has no groups to draw. Use complete_pooling(..., group=...).",
            "no-levels",
        )
    if factor is None:
        return next(iter(design.groupings.values()))
    if factor not in design.groupings:
        raise ArgumentError(
            f"no factor {factor!r}: {nearest(factor, design.groupings)}", "unknown-choice"
        )
    return design.groupings[factor]


def choose_abscissa(design: Design, grouping: Grouping, x: str | None) -> Abscissa:
    """The predictor asked for, else the first number or else category that varies within levels.

    Without one the rows of each level are drawn in their order.
    """
    if x is not None and x not in design.predictors:
        raise ArgumentError(
            f"no predictor {x!r}: {nearest(x, design.predictors)}", "unknown-choice"
        )
    names = [x] if x is not None else varying(design, grouping)
    numbers = [n for n in names if is_number(design, n)]
    if numbers:
        return Abscissa(numbers[0], "number", design.frame[numbers[0]].to_numpy(dtype=float))
    if names:
        codes, categories = pd.factorize(design.frame[names[0]], sort=True)
        shown = as_shown(pd.Series(categories), names[0])
        return Abscissa(names[0], "category", codes.astype(float), tuple(shown))
    order = pd.Series(grouping.codes).groupby(grouping.codes).cumcount().to_numpy(dtype=float) + 1
    return Abscissa(f"row within the {noun(grouping.factor)}", "order", order)


def varying(design: Design, grouping: Grouping) -> list[str]:
    """Predictors that vary within levels of the factor."""
    frame = design.frame
    names = [n for n in design.predictors if n in frame.columns]
    return [n for n in names if frame[n].groupby(grouping.codes).nunique().max() > 1]


def is_number(design: Design, name: str) -> bool:
    """Whether a predictor is a number, and is used as one."""
    summed = design.observations.summed
    column = (design.frame if summed is None else summed.profile.frame)[name]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return False
    sources = design.encoder.sources if design.encoder is not None else ()
    return all(s.categories is None for s in sources if s.column == name)


def typical_rows(design: Design, grouping: Grouping) -> pd.DataFrame:
    """One row a level: numbers at the level's mean, all else at its commonest value."""
    first = np.unique(grouping.codes, return_index=True)[1]
    typical = design.frame.iloc[first].reset_index(drop=True)
    for name in varying(design, grouping):
        by_level = design.frame[name].reset_index(drop=True).groupby(grouping.codes)
        if is_number(design, name):
            typical[name] = by_level.mean().to_numpy(dtype=float)
        else:
            commonest = by_level.agg(lambda column: column.mode().iloc[0])
            typical[name] = commonest.astype(design.frame[name].dtype).to_numpy()
    return typical


def evaluate(
    design: Design,
    grouping: Grouping,
    abscissa: Abscissa,
    lines: Mapping[str, pd.DataFrame],
    codes: np.ndarray,
) -> dict[str, np.ndarray]:
    """Height of each line at the level's places, shape (chosen levels, m).

    NaN where a level has no such line or no rows of a category, or where the line would need
    columns that the model had to drop.

    Parameters
    ----------
    design, grouping, abscissa
        What is drawn.
    lines
        Name -> levels x terms.
    codes
        Positions of the chosen levels.
    """
    places = abscissa.places(grouping, codes)
    m = places.shape[1]
    frame = typical_rows(design, grouping).iloc[np.repeat(codes, m)].reset_index(drop=True)
    if abscissa.kind == "number":
        frame[abscissa.name] = places.ravel()
    elif abscissa.kind == "category":
        labels = np.array(abscissa.categories, dtype=object)[places.ravel().astype(int)]
        frame[abscissa.name] = pd.Series(labels).astype(design.frame[abscissa.name].dtype)
    encoded = design.encoder.encode(frame)
    columns = encoded_columns(design, encoded)
    heights = {
        name: _height(columns, table.iloc[np.repeat(codes, m)]) for name, table in lines.items()
    }
    estimable = encoded.beyond.is_estimable
    for own in encoded.varying_beyond.values():
        estimable = estimable & own.is_estimable
    estimable &= np.broadcast_to(abscissa.has_rows(grouping, codes), places.shape).ravel()
    offset = np.where(estimable, encoded.offset, np.nan)
    return {name: (v + offset).reshape(len(codes), m) for name, v in heights.items()}


def encoded_columns(design: Design, encoded: Any) -> dict[str, np.ndarray]:
    """Term -> its column for new rows, from the population's columns, else from a group's."""
    columns = dict(zip(design.terms, encoded.X.T, strict=True))
    for group in design.groups:
        for term, values in zip(group.terms, encoded.Z[group.factor].T, strict=True):
            columns.setdefault(term, values)
    return columns


def _height(columns: Mapping[str, np.ndarray], coefficients: pd.DataFrame) -> np.ndarray:
    _check_terms(coefficients.columns, columns)
    height = np.zeros(len(coefficients))
    for term in coefficients.columns:
        column = columns[term]
        # A coefficient that the rows cannot tell does no harm where its column is zero.
        height += np.where(column == 0, 0.0, column * coefficients[term].to_numpy(dtype=float))
    return height


def _check_terms(terms: Iterable[str], columns: Mapping[str, np.ndarray]) -> None:
    for term in terms:
        if term not in columns:
            raise ArgumentError(
                f"a line has a coefficient for {term!r}, but the model has no such column: "
                f"{nearest(term, columns)}",
                "unknown-choice",
            )
