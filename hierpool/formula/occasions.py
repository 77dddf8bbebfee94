"""Occasions of correlated residuals: which rows follow each other, and how far apart they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from hierpool.core.correlation import BY_OCCASION, Correlation, WithNugget, structure_of
from hierpool.core.design import GroupDesign, Grouping
from hierpool.core.errors import DataError, UnsupportedModelError, listed
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.residual import RandomScale, RowStructure
from hierpool.core.spec import CorrelationTerm, ResidualTerm, Spec
from hierpool.formula.table_column import TableColumn

_TAKES_NUGGET = ("ar1", "ar1h", "car1", "ad1", "ad1h")
_WHOLE = 1e-6  # how near a multiple of a step a time must be, in steps
PRIOR_OF_CLASS, PRIOR_OF_COVARIATE = np.sqrt(0.5), 0.5  # prior sds of the weights of log sds


class Occasions(NamedTuple):
    """Where rows stand in time: positions (n,), and the labels of positions, if they have any."""

    places: np.ndarray
    labels: tuple[str, ...]
    unit: float = 1.0


def row_structure(
    spec: Spec,
    columns: Mapping[str, TableColumn],
    groupings: Mapping[str, Grouping],
    groups: Sequence[GroupDesign],
) -> RowStructure | None:
    """How residuals vary together, and which sds they have; None for independent rows alike."""
    term = spec.residual
    if not term.is_structured:
        return None
    n = len(next(iter(columns.values())).cells)
    zeros, own = np.zeros(n, dtype=np.intp), term.correlation
    if own is None:
        spread = _spread(term, columns, [])
        made = RowStructure(None, zeros, np.zeros(n), zeros, (), (), *spread)
        return _with_scale(made, groupings[term.scale]) if term.scale else made
    group = groupings[own.factor]
    if group.n_rows.max() < 2:
        raise DataError(
            f"residual {own}: each of the {nouns(own.factor)} has one row, and a correlation needs "
            "groups of several rows. Leave the structure out",
            "levels-equal-rows",
        )
    at = _occasions(own, columns[own.time], group)
    _check_distinct(own, columns[own.time], group, at.places)
    _check_told_apart(own, spec, groups, group, at.places)
    by, by_labels = _by(own, columns, group)
    correlation = _correlation(own, at, group)
    _check_identified(own, correlation, at, group)
    classed = [(by, by_labels)] if by_labels else []
    labels = at.labels
    if own.word in BY_OCCASION:
        used, codes = np.unique(np.round(at.places).astype(int), return_inverse=True)
        classed.append((codes, tuple(labels[k] for k in used)))
    spread = _spread(term, columns, classed)
    return RowStructure(correlation, group.codes, at.places, by, by_labels, labels, *spread)


def _with_scale(made: RowStructure, group: Grouping) -> RowStructure:
    """The same sds, times one of each group."""
    rows_a_group = np.bincount(group.codes, minlength=group.n_levels)
    if rows_a_group.max() < 2:
        raise DataError(
            f"sigma='~ (1 | {group.factor})': every one of the {nouns(group.factor)} has one row, so "
            f"their residual sds cannot be told apart. Leave (1 | {group.factor}) out of sigma=",
            "sigma-class-of-one",
        )
    pairs = np.column_stack([made.classes, group.codes])
    different, classes = np.unique(pairs, axis=0, return_inverse=True)
    labels = tuple(map(str, group.levels))
    scale = RandomScale(group.factor, labels, different[:, 0], different[:, 1])
    return replace(made, classes=classes.reshape(-1), scale=scale)


def structure_notices(structure: RowStructure | None, term: ResidualTerm) -> Iterable[Finding]:
    """A note of groups that miss an occasion."""
    own = term.correlation
    if structure is None or own is None or structure.correlation is None:
        return
    T, J = structure.correlation.n_occasions, int(structure.groups.max()) + 1
    if own.word in ("us", "symm") and J < 2 * T:
        yield Finding(
            "few-groups-for-us",
            "warning",
            f"{own}: {T} occasions have {T * (T + 1) // 2} variances and covariances, and there are "
            f"{counted(J, own.factor)}.",
            "Its estimates are unstable, and standard errors of the fixed effects too small. toeph, ar1h "
            "or ar1 have fewer parameters; hp.residual_ladder compares them.",
        )
    made = structure_of(own.word)
    if made.takes_times or not made.is_ordered:
        return
    order = np.lexsort((structure.places, structure.groups))
    codes, places = structure.groups[order], structure.places[order]
    far = (np.diff(codes) == 0) & (np.diff(places) > 1.5)
    if far.any():
        n, J = len(np.unique(codes[1:][far])), int(codes.max()) + 1
        yield Finding(
            "gaps",
            "note",
            f"{n} of {counted(J, own.factor)} {'misses' if n == 1 else 'miss'} an occasion of "
            f"{own.time!r}: rows are as far apart as their occasions, in {own}",
        )


def _correlation(own: CorrelationTerm, at: Occasions, group: Grouping) -> Correlation:
    made = structure_of(own.word)
    n_occasions = len(at.labels) or round(float(at.places.max())) + 1
    arguments = (n_occasions, int(group.n_rows.max()), at.unit)
    inner = made(*arguments)
    return WithNugget(*arguments, inner=inner) if own.nugget else inner


def _by(
    own: CorrelationTerm, columns: Mapping[str, TableColumn], group: Grouping
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class of each row, and the labels of the classes."""
    if not own.by:
        return np.zeros(len(group.codes), dtype=np.intp), ()
    labels, codes = columns[own.by].levels
    if len(np.unique(group.codes * len(labels) + codes)) > group.n_levels:
        raise DataError(
            f"residual {own}: {own.by!r} changes within {nouns(own.factor)}, and by= takes a column "
            f"that is the same in all rows of a group. For an sd of each class: sigma='~ {own.by}'",
            "by-changes-within-groups",
        )
    return codes, tuple(map(str, labels))


def _spread(
    term: ResidualTerm,
    columns: Mapping[str, TableColumn],
    classed: list[tuple[np.ndarray, tuple[str, ...]]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...], bool, float]:
    """Class of each row, log sds of the classes by weights, their prior sds, labels, kind."""
    classed = list(classed)
    column = columns[term.spread_column] if term.spread else None
    if column is not None and (column.kind == "number") and not classed:
        return _by_covariate(term, column)
    if column is not None:
        if column.kind == "number":
            raise UnsupportedModelError(
                f"sigma='~ {term.spread}' beside {term.correlation} with an sd for each class: keep "
                "one of the two",
                "sigma-and-classes",
            )
        labels, codes = column.levels
        classed.append((codes, tuple(map(str, labels))))
    if not classed:
        n = len(next(iter(columns.values())).cells)
        return np.zeros(n, dtype=np.intp), np.zeros((1, 0)), np.zeros(0), (), True, 1.0
    sizes = [len(labels) for _, labels in classed]
    flat = np.ravel_multi_index([codes for codes, _ in classed], sizes)
    present, codes, counts = np.unique(flat, return_inverse=True, return_counts=True)
    places = np.unravel_index(present, sizes)
    named = [
        ", ".join(labels[at[k]] for (_, labels), at in zip(classed, places, strict=True))
        for k in range(len(present))
    ]
    if len(present) < 2 or counts.min() < 2:
        _fail_classes(term, named, counts)
    basis = linalg.helmert(len(present)).T
    prior = np.full(basis.shape[1], PRIOR_OF_CLASS)
    return codes, basis, prior, tuple(named), True, 1.0


def _fail_classes(term: ResidualTerm, named: list[str], counts: np.ndarray) -> None:
    if len(named) < 2:
        raise DataError(
            f"{term.words}: all rows are in one class, {named[0]!r}, so there is one residual sd. "
            "Leave it out",
            "sigma-constant",
        )
    raise DataError(
        f"{term.words}: class {named[int(counts.argmin())]!r} has one row, so its residual sd cannot "
        "be estimated. Leave the row out, or put the class together with another",
        "sigma-class-of-one",
    )


def _by_covariate(
    term: ResidualTerm, column: TableColumn
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...], bool, float]:
    """Log sd as a multiple of a column, centred and scaled."""
    values = column.cells.to_numpy(dtype=float)
    if term.is_log:
        if values.min() <= 0:
            raise DataError(
                f"sigma='~ {term.spread}': {column.name!r} has values that are not positive, and "
                f"their logarithm does not exist. Write sigma='~ {column.name}'",
                "sigma-log-of-zero",
            )
        values = np.log(values)
    if values.max() == values.min():
        raise DataError(
            f"sigma='~ {term.spread}': {column.name!r} is the same in all rows, so there is one "
            "residual sd. Leave it out",
            "sigma-constant",
        )
    scaled = (values - values.mean()) / values.std(ddof=1)
    different, codes = np.unique(scaled, return_inverse=True)
    prior = np.full(1, PRIOR_OF_COVARIATE)
    return codes, different[:, None], prior, (term.spread,), False, float(values.std(ddof=1))


def _occasions(own: CorrelationTerm, column: TableColumn, group: Grouping) -> Occasions:
    made = structure_of(own.word)
    is_number = column.kind == "number"
    if made.takes_times:
        if not is_number:
            _fail_not_ordered(own, column)
        times = column.cells.to_numpy(dtype=float)
        order = np.lexsort((times, group.codes))
        gaps = np.diff(times[order])[np.diff(group.codes[order]) == 0]
        gaps = gaps[gaps > 0]
        return Occasions(times - times.min(), (), float(np.median(gaps)) if len(gaps) else 1.0)
    is_ordered = getattr(column.cells.dtype, "ordered", False)
    if made.is_ordered and not (is_number or is_ordered):
        _fail_not_ordered(own, column)
    if is_ordered and own.word in ("ar1", "ar1h", "toep", "toeph", "arma11"):
        every = column.cells.cat.categories
        return Occasions(column.cells.cat.codes.to_numpy(dtype=float), tuple(map(str, every)))
    if is_number and own.word in ("ar1", "ar1h", "toep", "toeph", "arma11"):
        return _whole_steps(own, column)
    labels, codes = column.levels
    return Occasions(codes.astype(float), tuple(map(str, labels)))


def _whole_steps(own: CorrelationTerm, column: TableColumn) -> Occasions:
    """Times as numbers of the smallest step between them."""
    times = column.cells.to_numpy(dtype=float)
    different = np.unique(times)
    steps = np.diff(different)
    if not len(steps):
        return Occasions(np.zeros(len(times)), (str(different[0]),))
    places = (times - different[0]) / steps.min()
    if np.abs(places - np.round(places)).max() > _WHOLE or places.max() > 100_000:
        some = [f"{s:g}" for s in np.unique(np.round(steps, 10))[:3]]
        raise DataError(
            f"{own}: steps of {own.time!r} are {listed(some)}, no multiples of one step. "
            f"car1({own.time} | {own.factor}) takes any times; {own.word} takes occasions: "
            f"data['occasion'] = data.groupby({own.factor!r})[{own.time!r}].rank()",
            "times-not-whole",
        )
    places = np.round(places)
    n = int(places.max()) + 1
    labels = [f"{different[0] + k * steps.min():.12g}" for k in range(n)]
    return Occasions(places, tuple(labels))


def _fail_not_ordered(own: CorrelationTerm, column: TableColumn) -> None:
    name = column.name
    some = ", ".join(repr(str(v)) for v in column.levels[0][:3])
    if column.kind == "time":
        raise DataError(
            f"{own}: {name!r} holds dates or times. Make a number of them, e.g. "
            f"data['days'] = (data[{name!r}] - data[{name!r}].min()).dt.days, and use it",
            "times-not-ordered",
        )
    raise DataError(
        f"{own}: {name!r} is text or an unordered category ({some}), which has no order in time. "
        f"Make it an ordered category, data[{name!r}] = pandas.Categorical(data[{name!r}], [...], "
        "ordered=True), or use a number",
        "times-not-ordered",
    )


def _check_distinct(
    own: CorrelationTerm, column: TableColumn, group: Grouping, places: np.ndarray
) -> None:
    """Raise where a group has two rows at one time."""
    pairs = np.column_stack([group.codes.astype(float), places])
    different, whose, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    if counts.max() == 1:
        return
    at = int(np.flatnonzero(counts > 1)[0])
    rows = np.flatnonzero(whose.reshape(-1) == at)
    label: Any = group.levels[int(different[at, 0])]
    time: Any = column.cells.iloc[rows[0]]
    shown = listed(str(column.cells.index[k]) for k in rows[:4])
    raise DataError(
        f"residual {own}: {own.factor} {label} has {len(rows)} rows at {own.time} {time} (rows "
        f"{shown}), and a correlation by time needs one row at a time. Average them, or name what "
        f"tells them apart: {own.word}({own.time} | {own.factor}:side), with your own column for side",
        "duplicated-times",
    )


def _check_told_apart(
    own: CorrelationTerm,
    spec: Spec,
    groups: Sequence[GroupDesign],
    group: Grouping,
    places: np.ndarray,
) -> None:
    """Raise for a structure that has in it what a nugget, or random effects of its groups, would add."""
    if own.nugget and own.word not in _TAKES_NUGGET:
        raise UnsupportedModelError(
            f"{own}: {own.word} with a nugget is {own.word} with other parameters, so data cannot tell "
            f"the nugget apart. Leave nugget=True out; {listed(_TAKES_NUGGET)} take it",
            "nugget-not-identified",
        )
    if own.word not in ("cs", "us", "symm", "toep"):
        return
    for beside in groups:
        J = beside.grouping.n_levels
        if beside.schema.related is not None:
            continue  # relatives share too
        if group.n_levels != J or len(np.unique(group.codes * J + beside.codes)) != J:
            continue  # another factor, that the groups lie in or cross
        by = places if own.word == "us" else np.zeros(len(places))
        of_place = np.unique(by, return_inverse=True)[1].reshape(-1)
        first = np.zeros(of_place.max() + 1, dtype=np.intp)
        first[of_place] = np.arange(len(of_place))
        if (beside.Z[first[of_place]] == beside.Z).all(axis=0).any():
            terms = " + ".join(str(t) for t in spec.groups if t.factor == beside.factor)
            raise DataError(
                f"{own} beside {terms}: both say that rows of one of the {nouns(own.factor)} share "
                "something, and data cannot tell the two apart. Keep one; "
                f"{own.word} also allows negative correlations",
                "cs-beside-intercept",
            )


def _check_identified(
    own: CorrelationTerm, correlation: Correlation, at: Occasions, group: Grouping
) -> None:
    """Raise where a pair of occasions is in no group at all."""
    if own.word not in ("us", "symm"):
        return
    T = correlation.n_occasions
    seen = np.zeros((group.n_levels, T))
    seen[group.codes, at.places.astype(int)] = 1.0
    pairs = (seen.T @ seen)[np.tril_indices(T, -1)]
    if T > 1 and pairs.min() < 1:
        raise DataError(
            f"{own}: {T} occasions have {T * (T + 1) // 2} variances and covariances, and there "
            f"{'is' if group.n_levels == 1 else 'are'} {counted(group.n_levels, own.factor)}; "
            "some pair of occasions is seen in none of them. Use toeph, ar1h or ar1",
            "us-too-many",
        )
