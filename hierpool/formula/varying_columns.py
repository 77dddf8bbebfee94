"""Columns that vary over the groups of a factor, and notices about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.covariance import COVARIANCES
from hierpool.core.design import GroupDesign, Grouping
from hierpool.core.errors import DataError, listed
from hierpool.core.findings import Finding
from hierpool.core.schema import Block, GroupSchema
from hierpool.core.spec import GroupTerm, Spec
from hierpool.core.summed_rows import SummedColumns
from hierpool.formula.aliasing import Span, own_columns
from hierpool.formula.encoder import Encoding, Piece
from hierpool.formula.parse import group_text
from hierpool.formula.relationships import related_levels, related_notices

_ROUNDED = 1e-9  # of its sd, within which means of a column are one value


@dataclass(frozen=True)
class TermColumns:
    """Columns of one group term, after no pooling has put the common ones aside."""

    term: GroupTerm
    piece: Piece
    Z: np.ndarray
    common: Piece
    notices: tuple[Finding, ...]
    summed: SummedColumns | None = None


def term_columns(
    term: GroupTerm,
    encoding: Encoding,
    Z: np.ndarray,
    groupings: Mapping[str, Grouping],
    summed: SummedColumns | None = None,
) -> TermColumns:
    """Columns of one group term; ``summed`` where their rows stand in for many."""
    grouping = groupings[term.factor]
    if term.covariance == "none":
        return _unpooled_columns(term, encoding, Z, grouping, summed)
    whole = encoding
    if term.covariance == "uncorrelated":
        encoding = replace(encoding, span=Span.of_multiples(Z))
    notices = [
        _constant_within(encoding.names[k], term)
        for k in encoding.kept
        if encoding.names[k] != "Intercept"
        and _is_constant_within(Z[:, k], grouping, 0.0 if summed is None else summed.sds[k])
    ]
    if term.covariance == "uncorrelated":
        notices += _diagonal_factors(encoding, term)
    piece = Piece(encoding, encoding.kept)
    own = list(piece.columns)
    known = None if summed is None else summed.take(own)
    is_whole = known is not None and own == list(range(Z.shape[1]))  # many stand-ins, not copied
    mine = Z if is_whole else Z[:, own]
    return TermColumns(term, piece, mine, Piece(whole, ()), tuple(notices), known)


def _unpooled_columns(
    term: GroupTerm,
    encoding: Encoding,
    Z: np.ndarray,
    grouping: Grouping,
    summed: SummedColumns | None,
) -> TermColumns:
    """Columns of no pooling; those that no level can have as its own stay common."""
    every = encoding.kept
    within = own_columns(Z[:, every], grouping.codes, grouping.n_levels)
    own = tuple(every[k] for k in within.columns)
    common = Piece(encoding, tuple(k for k in every if k not in own))
    notices = [_stay_common(common, term)] if common.columns else []
    several = grouping.n_rows > 1
    notices += [
        _from_prior(grouping.levels[~estimable & several], encoding.names[k], term)
        for k, estimable in zip(own, within.estimable.T, strict=True)
        if (~estimable & several).any()
    ]
    known = None if summed is None else summed.take(list(own))
    return TermColumns(term, Piece(encoding, own), Z[:, list(own)], common, tuple(notices), known)


def _diagonal_factors(encoding: Encoding, term: GroupTerm) -> list[Finding]:
    """Say it where ``||`` stands beside a category, which other programs read otherwise."""
    several = [text for text, columns in encoding.terms if len(columns) > 1]
    if not several:
        return []
    text = (
        f"{group_text(term)}: no two coefficients are correlated, including those of "
        f"{listed(several)}; lme4 1.1 reads || differently and keeps the coefficients of one "
        "category correlated"
    )
    return [Finding("diagonal-categories", "note", text)]


def _is_constant_within(column: np.ndarray, grouping: Grouping, sd: float) -> bool:
    """Whether a column that is no constant has one value in each level.

    ``sd``: its sd where the rows stand in for many, whose numbers are means; else 0.
    """
    first = np.zeros(grouping.n_levels)
    first[grouping.codes] = column
    near = _ROUNDED * sd
    within = np.abs(column - first[grouping.codes]) <= near
    return bool(within.all() and (np.abs(column - column[0]) > near).any())


def _stay_common(common: Piece, term: GroupTerm) -> Finding:
    one = len(common.names) == 1
    text = (
        f"{listed(common.names)} cannot be estimated within the groups of {term.factor!r}, so "
        f"{'it has' if one else 'each has'} one common coefficient"
    )
    return Finding("common-coefficient", "note", text)


def _from_prior(levels: pd.Index[Any], column: str, term: GroupTerm) -> Finding:
    one = len(levels) == 1
    text = (
        f"{len(levels)} {'group' if one else 'groups'} of {term.factor!r} with several rows "
        f"{'does' if one else 'do'} not identify {'its' if one else 'their'} own coefficient "
        f"of {column!r}, which rests on its prior alone: {listed(levels)}"
    )
    return Finding("own-from-prior", "warning", text)


def _constant_within(column: str, term: GroupTerm) -> Finding:
    text = (
        f"{column!r} does not vary within the groups of {term.factor!r}: its random effect in "
        f"{group_text(term)} lets the variance between groups depend on {column!r}. It is not a "
        "slope within groups"
    )
    return Finding("constant-within-levels", "note", text)


def group_design(
    grouping: Grouping, terms: Iterable[TermColumns], X: np.ndarray, population: tuple[str, ...]
) -> GroupDesign:
    """All columns that vary over one factor, a block for each term of the formula."""
    names: list[str] = []
    blocks: list[Block] = []
    own = [t for t in terms if t.term.factor == grouping.factor]
    for part in own:
        twice = [n for n in part.piece.names if n in names]
        if twice:
            raise DataError(
                f"{twice[0]!r} varies twice over {grouping.factor!r}, in "
                f"{' + '.join(group_text(t.term) for t in own)}, and its two standard "
                "deviations cannot be separated. Keep one, e.g. (x | g), or (1 | g) + (0 + x | g)",
                "repeated-group-column",
            )
        covariance = COVARIANCES[part.term.covariance]
        blocks.append(Block(len(names), len(names) + len(part.piece.names), covariance))
        names += part.piece.names
    Z = own[0].Z if len(own) == 1 else np.concatenate([t.Z for t in own], axis=1)
    places = np.array([_place(n, Z[:, k], X, population) for k, n in enumerate(names)], dtype=int)
    dropped = tuple(dict.fromkeys(n for t in own for n in t.piece.encoding.dropped))
    parts = [t.summed for t in own if t.summed is not None]
    summed = SummedColumns.beside(parts) if parts else None
    related = related_levels(own[0].term, grouping.levels)
    schema = GroupSchema.from_columns(
        grouping.known, tuple(names), tuple(blocks), places, Z, dropped, summed, related
    )
    return GroupDesign(schema, grouping.codes, Z)


def _place(name: str, column: np.ndarray, X: np.ndarray, population: tuple[str, ...]) -> int:
    """Position of the same column in X, or -1."""
    at = population.index(name) if name in population else -1
    return at if at >= 0 and np.array_equal(X[:, at], column) else -1


def group_notices(spec: Spec, groups: Iterable[GroupDesign]) -> tuple[Finding, ...]:
    """What there is to say of groups with few rows, or with too many coefficients."""
    found, every = [], list(groups)
    for group in every:
        if group.schema.related is not None:  # relatives' rows tell the two variances apart
            found += related_notices(spec, group, every)
            continue
        single = group.grouping.levels[group.grouping.n_rows == 1]
        n_levels, factor = group.grouping.n_levels, group.factor
        if len(single) and spec.residual.has_sigma:
            have = "has" if len(single) == 1 else "have"
            text = f"{len(single)} of {n_levels} groups of {factor!r} {have} one row: "
            found.append(Finding("levels-with-one-row", "note", text + listed(single)))
        n_effects, n = n_levels * len(group.terms), group.grouping.n_rows.sum()
        if n_effects >= n and spec.residual.has_sigma:
            text = (
                f"{factor!r} has {n_effects} coefficients ({n_levels} groups, {len(group.terms)} "
                f"each) for {n} rows, so their variances are hard to separate from "
                "the residual variance"
            )
            found.append(Finding("many-coefficients", "warning", text))
    return tuple(found)
