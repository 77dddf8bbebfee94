"""Spec and table to Design: labelled rows, checked, with a notice of all that happened to them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hierpool.core.cells import Cells
from hierpool.core.coding import Coding, stable_mean
from hierpool.core.design import EXACT_FIT, Design, GroupDesign, Grouping, Observations
from hierpool.core.errors import DataError, listed
from hierpool.core.families.family import Family
from hierpool.core.findings import Finding
from hierpool.core.residual import Residual
from hierpool.core.schema import ResponseScale, Schema
from hierpool.core.spec import Spec
from hierpool.core.summed_rows import Shares, SummedColumns
from hierpool.formula import tables
from hierpool.formula.aliasing import Span
from hierpool.formula.categories import ordered_notices
from hierpool.formula.cell_rows import CellFactors, CellRows
from hierpool.formula.complete_rows import CompleteRows, EncodedFactors, EncodedText, ModelTexts
from hierpool.formula.dropped_columns import dropped_notices
from hierpool.formula.encoder import EncodedRows, Encoder, Encoding, Piece
from hierpool.formula.missing import with_notices
from hierpool.formula.occasions import row_structure, structure_notices
from hierpool.formula.relationships import check_related_size
from hierpool.formula.tables import read_frame
from hierpool.formula.terms import MOST_COLUMNS, count_columns, terms_of
from hierpool.formula.varying_columns import TermColumns, group_design, group_notices, term_columns

__all__ = [
    "CellRows",
    "CompleteRows",
    "EncodedRows",
    "Encoder",
    "build_design",
    "encode",
    "read_frame",
    "rows_in_cells",
    "rows_of",
]

_LARGEST_OFFSET = 100.0  # of a family: exposures of e^100 are none


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
    summed
        Text -> what is known of its columns beside, where the rows stand in for many.
    """

    texts: ModelTexts
    groupings: Mapping[str, Grouping]
    factors: EncodedFactors | CellFactors
    learned: Mapping[str, tuple[Encoding, np.ndarray]]
    terms: tuple[TermColumns, ...]
    summed: Mapping[str, SummedColumns]

    @property
    def population(self) -> tuple[Piece, ...]:
        """What X is made of: the columns of the population, and those that stay common.

        Thresholds of ratings stand in for an intercept.
        """
        whole = self.learned[self.texts.spec.population][0]
        family, kept = self.texts.spec.family, whole.kept
        if family is not None and family.has_thresholds:
            kept = tuple(k for k in kept if whole.names[k] != "Intercept")
        return (Piece(whole, kept), *(t.common for t in self.terms))

    @property
    def X(self) -> np.ndarray:
        """The columns of the population, shape (n, p)."""
        return self.X_of({text: X for text, (_, X) in self.learned.items()})

    def X_of(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The columns of the population, shape (n, p), from those of each text (n, ...)."""
        texts = (self.texts.spec.population, *(t.term.columns for t in self.terms))
        return self._beside(columns, zip(texts, self.population, strict=True))

    def Z_of(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Factor -> the columns that vary over it, shape (n, q), from those of each text."""
        return {
            f: self._beside(
                columns, [(t.term.columns, t.piece) for t in self.terms if t.term.factor == f]
            )
            for f in _pooled(self.texts.spec)
        }

    def _beside(
        self, columns: Mapping[str, np.ndarray], pieces: Iterable[tuple[str, Piece]]
    ) -> np.ndarray:
        """Columns of pieces of texts side by side, shape (n, k)."""
        named = [(columns[text], list(piece.columns)) for text, piece in pieces if piece.columns]
        if self.summed and len(named) == 1 and named[0][1] == list(range(named[0][0].shape[1])):
            return named[0][0]  # stand-ins are many, and nobody writes into their columns
        n = max(len(one) for one in columns.values())
        parts = [np.broadcast_to(one, (n, one.shape[1]))[:, which] for one, which in named]
        return np.concatenate([np.zeros((n, 0)), *parts], axis=1)

    @property
    def summed_X(self) -> SummedColumns | None:
        """What is known of the columns of X beside; None where the rows stand for themselves."""
        if not self.summed:
            return None
        text_of = {id(encoding): text for text, (encoding, _) in self.learned.items()}
        pieces = self.population
        parts = [self.summed[text_of[id(p.encoding)]].take(list(p.columns)) for p in pieces]
        return SummedColumns.beside(parts)


def build_design(spec: Spec, data: Any) -> Design:
    """The rows of a model as labelled columns of numbers.

    Rows with a missing value in any column of the model are left out and counted in a notice;
    so are categories without rows. Columns are called as formulaic calls them: ``"Intercept"``,
    ``"Days"``, ``"Sex[T.Female]"``. Text and categories are coded against their first category
    (category order, else sorted); booleans are 0 and 1.
    """
    return encode(spec, complete_rows(spec, data))


def complete_rows(spec: Spec, data: Any) -> CompleteRows | CellRows:
    """Rows of a table, or stand-ins for those that cells are the sums of."""
    return (
        CellRows.of(data, spec) if isinstance(data, Cells) else CompleteRows.from_table(spec, data)
    )


def rows_of(design: Design) -> CompleteRows | CellRows:
    """The rows of a design, for others that need no other columns."""
    summed = design.observations.summed
    if summed is None:
        return CompleteRows.from_table(design.spec, design.frame)
    assert isinstance(summed.profile, CellFactors)
    return summed.profile.rows


def rows_in_cells(design: Design, cell: np.ndarray, values: np.ndarray) -> Design:
    """Rows of given values in the cells of a design that was made of sums, each of weight one.

    Parameters
    ----------
    cell
        Shape (n,): position of the cell of each row.
    values
        Shape (n, m + 1): atoms and response, as they are summed.
    """
    rows = rows_of(design)
    assert isinstance(rows, CellRows)
    made = model_columns(design.spec, rows)
    assert isinstance(made.factors, CellFactors)
    sides = {text: made.factors.at(side, cell, values) for text, side in made.texts.sides.items()}
    columns, rests = ({text: pair[k] for text, pair in sides.items()} for k in (0, 1))
    whole, n, at = design.observations, len(cell), rows.first_of_cell
    assert whole.summed is not None
    summed = replace(
        whole.summed,
        shares=Shares(np.ones(n), np.zeros(n)),
        y_rest=rows.cells.scale[-1] * values[:, -1],
        X_rest=made.X_of(rests),
        Z_rest=made.Z_of(rests),
    )
    observations = replace(
        whole,
        y=np.full(n, rows.cells.shift[-1]),
        X=made.X_of(columns),
        Z=made.Z_of(columns),
        codes={f: codes[at][cell] for f, codes in whole.codes.items()},
        residual_values=None if whole.residual_values is None else np.ones(n),
        summed=summed,
    )
    return Design(design.schema, observations)


def encode(spec: Spec, rows: CompleteRows | CellRows) -> Design:
    """The design of a spec that needs no other columns than those of the rows."""
    with with_notices(rows.dropped):
        return _design(model_columns(spec, rows), rows)


def model_columns(spec: Spec, rows: CompleteRows | CellRows) -> ModelColumns:
    """What the rows make of the texts of a spec, checked."""
    texts = ModelTexts.from_spec(spec, rows.columns)
    tables.check_factor_names(spec.factors)
    rows.response(texts)
    groupings = {f: rows.grouping(f, columns) for f, columns in texts.made_of.items()}
    _check_groups(spec, groupings)
    needed = (*texts.factors, *texts.offsets)
    population = texts.sides[spec.population]
    factors = (
        rows.encoded(needed, population) if isinstance(rows, CellRows) else rows.encoded(needed)
    )
    _check_group_predictors(texts, factors)
    _check_size(texts, factors)
    learned, summed = {}, {}
    for text, side in texts.sides.items():
        is_population = text == spec.population or spec.pooling == "none"
        where = "" if is_population else " among the varying columns"
        made = factors.encoded(side)
        learned[text] = _estimable(made, where, spec, rows.n), made.X
        if made.summed is not None:
            summed[text] = made.summed
    terms = tuple(
        term_columns(t, *learned[t.columns], groupings, summed.get(t.columns)) for t in spec.groups
    )
    return ModelColumns(texts, groupings, factors, learned, terms, summed)


def _design(made: ModelColumns, rows: CompleteRows | CellRows) -> Design:
    texts, spec, terms = made.texts, made.texts.spec, made.terms
    encoder, X, summed = _encoder(made), made.X, made.summed_X
    names = tuple(n for piece in encoder.population for n in piece.names)
    groups = tuple(group_design(made.groupings[f], terms, X, names) for f in _pooled(spec))
    _check_distinct(groups)
    frame = rows.part(texts.columns)
    structure = row_structure(spec, rows.columns, made.groupings, groups)
    residual = replace(rows.residual(spec.residual), structure=structure)
    response = rows.response(texts)
    observations = Observations(
        y=response.y,
        X=X,
        Z={g.factor: g.Z for g in groups},
        codes={f: grouping.codes for f, grouping in made.groupings.items()},
        index=frame.index,
        frame=frame,
        residual_values=residual.values,
        offset=made.factors.joined(encoder.offsets).sum(axis=1) if spec.offsets else 0.0,
        trials=response.trials,
        structure=structure,
    )
    if isinstance(rows, CellRows):
        rests: dict[str, list[SummedColumns | None]] = {t.term.factor: [] for t in terms}
        for t in terms:
            rests[t.term.factor] += [t.summed]
        assert isinstance(made.factors, CellFactors)
        carried = rows.summed(response, summed, rests, made.factors)
        off = observations.offset if spec.family is not None else 0.0  # else off the response
        observations = replace(observations, offset=off, summed=carried)
    scale = response.scale or _response_scale(observations, residual, response.family, spec)
    schema = Schema(
        spec=spec,
        n=rows.n,
        terms=names,
        groups=tuple(g.schema for g in groups),
        groupings=encoder.groupings,
        coding=_coding(X, response.family, summed),
        column_means=stable_mean(X) if summed is None else summed.means,
        response_scale=scale,
        predictors=texts.predictors,
        notices=(
            *_notices(made, rows),
            *group_notices(spec, groups),
            *structure_notices(structure, spec.residual),
        ),
        label=rows.label,
        dropped=encoder.population[0].encoding.dropped,
        encoder=encoder,
        family=response.family,
        residual_dims={} if structure is None else structure.dims,
        residual_coords={} if structure is None else structure.coords,
        residual_priors=None if structure is None else structure.bounds_and_priors,
    )
    return Design(schema, observations)


def _coding(X: np.ndarray, family: Family | None, summed: SummedColumns | None) -> Coding:
    """How the population's columns are centred; beside thresholds as if there were a constant."""
    coding = Coding.from_columns(X, summed)
    if family is None or not family.has_thresholds:
        return coding
    beside = None
    if summed is not None:
        ones = SummedColumns(np.zeros((1, 1)), np.ones(1), np.zeros(1))
        beside = SummedColumns.beside([ones, summed])
    centred = Coding.from_columns(np.column_stack([np.ones(len(X)), X]), beside)
    return Coding(np.zeros(X.shape[1]), centred.means[1:], centred.scales[1:])


def _check_offset(offset: np.ndarray, spec: Spec, link: str) -> None:
    """Raise at an exposure that was given without its logarithm: its exponential has no number."""
    largest = float(np.abs(offset).max(initial=0.0))
    if largest > _LARGEST_OFFSET:
        raise DataError(
            f"{' + '.join(spec.offsets)} is up to {largest:.4g}, and is added on the scale of the {link} "
            "link, where numbers of that size are the mean of nothing. An exposure is given by its "
            "logarithm: offset(log(...))",
            "out-of-range",
        )


def _response_scale(
    rows: Observations, residual: Residual, family: Family | None, spec: Spec
) -> ResponseScale:
    """Where the response lies: on the scale of the linear predictor where a family has another."""
    if family is None or family.is_on_response_scale:
        _check_varies(rows.y_less_offset, spec)
        scale = ResponseScale.from_response(rows.y_less_offset, residual, rows.shares)
        _check_left_to_chance(scale, spec)
        return scale
    counts = None if rows.shares is None else rows.shares.counts
    _check_offset(np.asarray(rows.offset), spec, family.link)
    return ResponseScale(family.centre(rows.y, rows.trials, rows.offset, counts), 1.0, 1.0)


def _notices(made: ModelColumns, rows: CompleteRows | CellRows) -> Iterator[Finding]:
    """What happened to the rows and the columns on the way."""
    texts = made.texts
    yield from rows.notices(texts.columns)
    yield from dropped_notices(made.learned, made.terms, texts.spec)
    yield from ordered_notices(texts.factors, rows.frame)
    for term in made.terms:
        yield from term.notices


def _check_size(texts: ModelTexts, factors: EncodedFactors | CellFactors) -> None:
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
        texts.spec.trials,
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
    if spec.residual.structure == "known_se" and scale.largest_sigma > 0.1 / EXACT_FIT:
        typical = scale.sd / scale.largest_sigma
        raise DataError(
            f"the residual sds in {spec.residual.column!r} are typically {typical:.2g}, less than "
            f"1/100,000 of the sd of {spec.response} ({scale.sd:.2g}). Check the unit of the column",
            "known-se-too-small",
        )


def _check_groups(spec: Spec, groupings: Mapping[str, Grouping]) -> None:
    related = {t.factor for t in spec.groups if t.relationship is not None}
    for factor in _pooled(spec):
        if factor in related:
            check_related_size(spec, factor, groupings[factor].n_levels)
            continue
        n = int(groupings[factor].n_rows.sum())
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
        if (one.schema.related is None) != (other.schema.related is None):
            continue  # what is inherited, and what is not
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


def _check_group_predictors(texts: ModelTexts, factors: EncodedFactors | CellFactors) -> None:
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


def _estimable(made: EncodedText, where: str, spec: Spec, n_rows: int) -> Encoding:
    """The encoding with what its rows can tell; an error where nothing is left to estimate.

    More columns than rows all stay where residual sds are known: their posterior is proper.
    """
    encoding, names = made.encoding, made.encoding.names
    is_wide = spec.residual.structure == "known_se" and n_rows < len(names)
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
    if spec.residual.has_sigma and n_rows < n + 1:
        raise DataError(
            f"there are {n_rows} rows and {n} coefficients{where} "
            f"({listed(names[k] for k in span.kept)}), so the residual variance cannot be "
            "estimated. Use fewer predictors or more rows",
            "too-few-rows",
        )
    return replace(encoding, span=span)
