"""Spec and table to Design: labelled rows, checked, with a notice of all that happened to them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.coding import Coding, stable_mean
from hierpool.core.covariance import COVARIANCES
from hierpool.core.design import EXACT_FIT, Design, GroupDesign, Grouping, Observations
from hierpool.core.errors import DataError, listed
from hierpool.core.findings import Finding
from hierpool.core.schema import Block, GroupSchema, ResponseScale, Schema
from hierpool.core.spec import GroupTerm, Spec
from hierpool.core.text import joined
from hierpool.formula import tables
from hierpool.formula.aliasing import Span, own_columns
from hierpool.formula.categories import ordered_notices
from hierpool.formula.complete_rows import CompleteRows, EncodedFactors, EncodedText, ModelTexts
from hierpool.formula.encoder import EncodedRows, Encoder, Encoding, Piece
from hierpool.formula.missing import told
from hierpool.formula.parse import group_text
from hierpool.formula.tables import read_frame
from hierpool.formula.terms import MOST_COLUMNS, count_columns, terms_of

__all__ = ["CompleteRows", "EncodedRows", "Encoder", "build_design", "encode", "read_frame"]
SPLINES = ("cr(", "cc(", "cs(")  # they sum to a constant


@dataclass(frozen=True)
class TermColumns:
    """Columns of one group term, after no pooling has put the common ones aside."""

    term: GroupTerm
    piece: Piece
    Z: np.ndarray
    common: Piece
    notices: tuple[Finding, ...]


@dataclass(frozen=True)
class ModelColumns:
    """What the rows make of the texts of a spec.

    Attributes
    ----------
    texts
        The texts.
    groupings
        Factor -> its levels.
    factors
        The factors of the texts as columns.
    learned
        Text -> its encoding with what the rows can tell, and its columns.
    terms
        Columns of each group term.
    """

    texts: ModelTexts
    groupings: Mapping[str, Grouping]
    factors: EncodedFactors
    learned: Mapping[str, tuple[Encoding, np.ndarray]]
    terms: tuple[TermColumns, ...]

    @property
    def population(self) -> tuple[Piece, ...]:
        """What X is made of: the columns of the population, and those that stay common."""
        whole = self.learned[self.texts.spec.population][0]
        return (Piece(whole, whole.kept), *(t.common for t in self.terms))

    @property
    def X(self) -> np.ndarray:
        """The columns of the population, shape (n, p)."""
        made = {id(encoding): columns for encoding, columns in self.learned.values()}
        parts = [made[id(piece.encoding)][:, list(piece.columns)] for piece in self.population]
        return np.concatenate([np.zeros((len(self.factors.own), 0)), *parts], axis=1)


def build_design(spec: Spec, data: Any) -> Design:
    """The rows of a model as labelled columns of numbers.

    Rows with a missing value in any column of the model are left out and counted in a notice;
    so are categories without rows. Columns are called as formulaic calls them: ``"Intercept"``,
    ``"Days"``, ``"Sex[T.Female]"``. Text and categories are coded against their first category
    (category order, else sorted); booleans are 0 and 1.
    """
    return encode(spec, CompleteRows.from_table(spec, data))


def encode(spec: Spec, rows: CompleteRows) -> Design:
    """The design of a spec that needs no other columns than those of the rows."""
    with told(rows.dropped):
        return _design(model_columns(spec, rows), rows)


def model_columns(spec: Spec, rows: CompleteRows) -> ModelColumns:
    """What the rows make of the texts of a spec, checked."""
    texts = ModelTexts.from_spec(spec, rows.columns)
    tables.check_factor_names(spec.factors)
    rows.response(texts.response)
    groupings = {f: rows.grouping(f, columns) for f, columns in texts.made_of.items()}
    _check_groups(spec, groupings)
    factors = rows.encoded((*texts.factors, *texts.offsets))
    _check_group_predictors(texts, factors)
    _check_size(texts, factors)
    learned = {}
    for text, side in texts.sides.items():
        is_population = text == spec.population or spec.pooling == "none"
        where = "" if is_population else " among the varying columns"
        made = factors.encoded(side)
        learned[text] = _estimable(made, where, spec), made.X
    terms = tuple(_term_columns(t, *learned[t.columns], groupings) for t in spec.groups)
    return ModelColumns(texts, groupings, factors, learned, terms)


def _design(made: ModelColumns, rows: CompleteRows) -> Design:
    texts, spec, terms = made.texts, made.texts.spec, made.terms
    encoder, X = _encoder(made), made.X
    names = tuple(n for piece in encoder.population for n in piece.names)
    groups = tuple(_group(made.groupings[f], terms, X, names) for f in _pooled(spec))
    _check_distinct(groups)
    frame = rows.part(texts.columns)
    residual = tables.residual(frame, spec.residual)
    observations = Observations(
        y=rows.response(texts.response),
        X=X,
        Z={g.factor: g.Z for g in groups},
        codes={f: grouping.codes for f, grouping in made.groupings.items()},
        index=frame.index,
        frame=frame,
        residual_values=residual.values,
        offset=made.factors.joined(encoder.offsets).sum(axis=1) if spec.offsets else 0.0,
    )
    _check_varies(observations.y_less_offset, spec)
    scale = ResponseScale.from_response(observations.y_less_offset, residual)
    _check_left_to_chance(scale, spec)
    schema = Schema(
        spec=spec,
        n=len(frame),
        terms=names,
        groups=tuple(g.schema for g in groups),
        groupings=encoder.groupings,
        coding=Coding.from_columns(X),
        column_means=stable_mean(X),
        response_scale=scale,
        predictors=texts.predictors,
        notices=(
            *rows.notices(texts.columns),
            *_dropped(made.learned, terms, spec),
            *ordered_notices(texts.factors, frame),
            *(n for t in terms for n in t.notices),
            *_group_notices(spec, groups),
        ),
        label=rows.label,
        dropped=encoder.population[0].encoding.dropped,
        encoder=encoder,
    )
    return Design(schema, observations)


def _check_size(texts: ModelTexts, factors: EncodedFactors) -> None:
    """Raise where a side of the formula makes far too many columns; nothing is made yet."""
    categories = {
        factor: len(source.labels)
        for factor, sources in factors.found.items()
        for source in sources
        if source.categories is not None
    }
    for text, side in texts.sides.items():
        made = count_columns(terms_of(side.pieces), side.has_constant, categories)
        if made > MOST_COLUMNS:
            several = sorted(categories, key=lambda f: -categories[f])[:3]
            largest = ", ".join(f"{f.text} has {categories[f]:,} categories" for f in several)
            raise DataError(
                f"{text!r} makes {made:,} columns; the limit is "
                f"{MOST_COLUMNS:,}{largest and f' ({largest})'}. Leave out interactions, or use "
                "random effects for factors with many levels: (1 | a:b)",
                "too-many-columns",
            )


def _encoder(made: ModelColumns) -> Encoder:
    """What makes the same columns again from new data."""
    texts, terms = made.texts, made.terms
    return Encoder(
        made.factors.sources,
        made.population,
        {f: tuple(t.piece for t in terms if t.term.factor == f) for f in _pooled(texts.spec)},
        {f: grouping.known for f, grouping in made.groupings.items()},
        texts.made_of,
        tuple(map(made.factors.offset, texts.offsets)),
        texts.spec.residual,
    )


def _pooled(spec: Spec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(t.factor for t in spec.groups))


def _check_varies(y: np.ndarray, spec: Spec) -> None:
    """Raise where there is nothing to explain."""
    if (y == y[0]).all():
        less = f", minus {' and '.join(spec.offsets)}," if spec.offsets else ""
        raise DataError(
            f"the response {spec.response!r}{less} is {y[0]:.15g} in each of the {len(y)} rows, "
            "so there is nothing to explain. Check the column and the rows with missing values",
            "constant-response",
        )


def _check_left_to_chance(scale: ResponseScale, spec: Spec) -> None:
    """Raise where known residual sds are so small that sums over the rows would hold no digits."""
    if not spec.residual.has_sigma and scale.largest_sigma > 0.1 / EXACT_FIT:
        typical = scale.sd / scale.largest_sigma
        raise DataError(
            f"the residual sds in {spec.residual.column!r} are typically {typical:.2g}, less than "
            f"1/100,000 of the sd of {spec.response} ({scale.sd:.2g}). Check the unit of the column",
            "known-se-too-small",
        )


def _check_groups(spec: Spec, groupings: Mapping[str, Grouping]) -> None:
    for factor in _pooled(spec):
        n = len(groupings[factor].codes)
        if groupings[factor].n_levels >= n and spec.residual.has_sigma:
            raise DataError(
                f"each group of {factor!r} has one row only ({n} rows), so group effects and "
                "residuals cannot be separated. Choose a grouping factor with several rows in "
                "some groups, or leave it out; if the standard errors of the rows are known, "
                "pass known_se=",
                "levels-equal-rows",
            )


def _check_distinct(groups: Sequence[GroupDesign]) -> None:
    """Raise where two factors divide the rows alike and the same column varies over both."""
    for one, other in itertools.combinations(groups, 2):
        both = [t for t in one.terms if t in other.terms]
        J = one.grouping.n_levels
        if not both or other.grouping.n_levels != J:
            continue
        pairs = np.unique(one.grouping.codes * J + other.grouping.codes)
        if len(pairs) == J:
            raise DataError(
                f"{one.factor!r} and {other.factor!r} define the same groups, and {listed(both)} "
                "varies over both: only the sum of the two variances is estimable. Keep one of "
                "the two",
                "same-groups",
            )


def _check_group_predictors(texts: ModelTexts, factors: EncodedFactors) -> None:
    """Raise where a group is a categorical predictor too."""
    groups = {texts.made_of[f] for f in _pooled(texts.spec)}
    for sources in factors.found.values():
        for source in sources:
            if source.categories is not None and (source.column,) in groups:
                raise DataError(
                    f"{source.column!r} is a predictor with a coefficient for each level and also "
                    "a grouping factor; the two cannot be separated. Keep one of them",
                    "group-as-predictor",
                )


def _estimable(made: EncodedText, where: str, spec: Spec) -> Encoding:
    """The encoding with what its rows can tell; an error where nothing is left to estimate.

    More columns than rows all stay where residual sds are known: their posterior is proper.
    """
    encoding, X, names = made.encoding, made.X, made.encoding.names
    is_wide = not spec.residual.has_sigma and len(X) < len(names)
    span = Span(tuple(range(len(names)))) if is_wide else made.span
    twice = [n for i, n in enumerate(names) if n in names[:i]]
    if twice:
        raise DataError(
            f"two columns{where} would both be called {twice[0]!r}. Rename the column in the data",
            "repeated-term",
        )
    if names and not span.kept:
        raise DataError(
            f"{names[0]!r}{where} is 0 in every row that is used, and there is no other column, "
            "so nothing can be estimated. Leave it out of the formula",
            "constant-predictor",
        )
    n = len(span.kept)
    if spec.residual.has_sigma and len(X) < n + 1:
        raise DataError(
            f"there are {len(X)} rows and {n} coefficients{where} "
            f"({listed(names[k] for k in span.kept)}), so the residual variance cannot be "
            "estimated. Use fewer predictors or more rows",
            "too-few-rows",
        )
    return replace(encoding, span=span)


def _dropped(
    learned: Mapping[str, tuple[Encoding, np.ndarray]], terms: Iterable[TermColumns], spec: Spec
) -> Iterator[Finding]:
    """Say which columns are dropped, and why, of the population and of each bar."""
    population, pooled = learned[spec.population][0], spec.pooling != "none"
    found = [("the fixed effects", spec.population, population)] if pooled else []
    for part in terms:
        place = group_text(part.term) if pooled else "the formula"
        found.append((place, part.term.columns, part.piece.encoding))
    alike: dict[tuple[str, tuple[str, ...]], list[tuple[str, Encoding]]] = {}
    for place, text, encoding in found:
        if encoding.dropped:
            alike.setdefault((text, encoding.dropped), []).append((place, encoding))
    for (text, _), several in alike.items():
        yield _dropped_columns([place for place, _ in several], several[0][1], learned[text][1])


def _dropped_columns(places: list[str], encoding: Encoding, X: np.ndarray) -> Finding:
    span, names = encoding.span, encoding.names
    assert span is not None
    causes: dict[str, list[str]] = {}
    for k, parts in zip(span.dropped, span.made_of, strict=True):
        others = [names[i] for i in parts]
        causes.setdefault(_cause(X[:, k], others), []).append(names[k])
    told = "; ".join(f"{listed(cause)} {why}" for why, cause in causes.items())
    n, one = len(span.dropped), len(span.dropped) == 1
    text = (
        f"{n} {'column' if one else 'columns'} of {joined(places)} cannot be estimated from "
        f"these data and {'is' if one else 'are'} dropped: {told}"
    )
    meaning = (
        "Fitted values do not change. The other coefficients are those with the dropped ones set "
        "to zero. Predictions and contrasts that need a dropped column are refused as not "
        "estimable."
    )
    if any(name.startswith(SPLINES) for name in encoding.dropped):
        meaning += " With an intercept, write constraints='center' in the spline."
    return Finding("columns-dropped", "warning", text, meaning)


def _cause(column: np.ndarray, parts: list[str]) -> str:
    """Why a column is dropped, in words."""
    if (column == column[0]).all():
        return f"({column[0]:.15g} in every row)"
    shown = [name for name in parts if name != "Intercept"] or parts
    return f"(a combination of {listed(shown)})"


def _term_columns(
    term: GroupTerm, encoding: Encoding, Z: np.ndarray, groupings: Mapping[str, Grouping]
) -> TermColumns:
    """Columns of one group term."""
    grouping = groupings[term.factor]
    if term.covariance == "none":
        return _unpooled_columns(term, encoding, Z, grouping)
    whole = encoding
    if term.covariance == "uncorrelated":
        encoding = replace(encoding, span=Span.of_multiples(Z))
    notices = [
        _constant_within(encoding.names[k], term)
        for k in encoding.kept
        if encoding.names[k] != "Intercept" and _is_constant_within(Z[:, k], grouping)
    ]
    if term.covariance == "uncorrelated":
        notices += _diagonal_factors(encoding, term)
    piece = Piece(encoding, encoding.kept)
    return TermColumns(term, piece, Z[:, list(piece.columns)], Piece(whole, ()), tuple(notices))


def _unpooled_columns(
    term: GroupTerm, encoding: Encoding, Z: np.ndarray, grouping: Grouping
) -> TermColumns:
    """Columns of no pooling; those that no level can have as its own stay common."""
    every = encoding.kept
    within = own_columns(Z[:, every], grouping.codes, grouping.n_levels)
    own = tuple(every[k] for k in within.columns)
    common = Piece(encoding, tuple(k for k in every if k not in own))
    notices = [_stay_common(common, term)] if common.columns else []
    several = grouping.n_rows > 1
    notices += [
        _from_prior(grouping.levels[~told & several], encoding.names[k], term)
        for k, told in zip(own, within.told.T, strict=True)
        if (~told & several).any()
    ]
    return TermColumns(term, Piece(encoding, own), Z[:, list(own)], common, tuple(notices))


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


def _is_constant_within(column: np.ndarray, grouping: Grouping) -> bool:
    """Whether a column that is no constant has one value in each level."""
    first = np.zeros(grouping.n_levels)
    first[grouping.codes] = column
    return bool((column == first[grouping.codes]).all() and (column != column[0]).any())


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


def _group(
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
    Z = np.concatenate([t.Z for t in own], axis=1)
    places = np.array([_place(n, Z[:, k], X, population) for k, n in enumerate(names)], dtype=int)
    dropped = tuple(dict.fromkeys(n for t in own for n in t.piece.encoding.dropped))
    schema = GroupSchema.from_columns(
        grouping.known, tuple(names), tuple(blocks), places, Z, dropped
    )
    return GroupDesign(schema, grouping.codes, Z)


def _place(name: str, column: np.ndarray, X: np.ndarray, population: tuple[str, ...]) -> int:
    """Position of the same column in X, or -1."""
    at = population.index(name) if name in population else -1
    return at if at >= 0 and np.array_equal(X[:, at], column) else -1


def _group_notices(spec: Spec, groups: Iterable[GroupDesign]) -> tuple[Finding, ...]:
    found = []
    for group in groups:
        single = group.grouping.levels[group.grouping.n_rows == 1]
        n_levels, factor = group.grouping.n_levels, group.factor
        if len(single) and spec.residual.has_sigma:
            have = "has" if len(single) == 1 else "have"
            text = f"{len(single)} of {n_levels} groups of {factor!r} {have} one row: "
            found.append(Finding("levels-with-one-row", "note", text + listed(single)))
        n_effects = n_levels * len(group.terms)
        if n_effects >= len(group.codes) and spec.residual.has_sigma:
            text = (
                f"{factor!r} has {n_effects} coefficients ({n_levels} groups, {len(group.terms)} "
                f"each) for {len(group.codes)} rows, so their variances are hard to separate from "
                "the residual variance"
            )
            found.append(Finding("many-coefficients", "warning", text))
    return tuple(found)
