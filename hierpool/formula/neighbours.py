"""Specs one step simpler or richer than another, the candidates of ``hp.advise``.

A step changes the group terms of a formula, or adds a column to its population. Where a
correlation goes, the columns that vary are centred first: ``(x || g)`` says that intercept and
slope are uncorrelated where x is zero, and is another model for each zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hierpool.core.coding import weighted_mean_and_sd
from hierpool.core.design import Design
from hierpool.core.schema import Schema
from hierpool.core.spec import GroupTerm, Spec
from hierpool.formula.function_calls import Factor, inside_call, parts_of, quote
from hierpool.formula.parse import make_like, parse, read_columns, split_factor

CONSTANT = "1"
CENTRED = 1e-6  # mean of a column, in its sds, up to which it counts as centred
CENTRE_BEYOND_RANGES = 5.0  # mean over sd from which a square is taken of the centred column
SHOWS = 1e-6  # share of a predictor's variance that must lie within, or between, levels


@dataclass(frozen=True, slots=True)
class VaryingTerm:
    """A term left of a bar.

    Attributes
    ----------
    text
        As it is typed; ``"1"`` for the constant.
    bar
        Position of its group term among those of the spec.
    columns
        Positions of its columns among those of the factor.
    """

    text: str
    bar: int
    columns: tuple[int, ...]

    @property
    def is_constant(self) -> bool:
        """Whether it is the intercept."""
        return self.text == CONSTANT

    @property
    def parts(self) -> frozenset[str]:
        """What an interaction is made of; nothing for the constant."""
        return frozenset() if self.is_constant else frozenset(parts_of(self.text))


def varying_terms(schema: Schema, factor: str) -> tuple[VaryingTerm, ...]:
    """The terms whose coefficients vary over a factor, bar by bar."""
    bars = [k for k, term in enumerate(schema.spec.groups) if term.factor == factor]
    found, start = [], 0
    for bar, piece in zip(bars, schema.encoder.groups[factor], strict=True):
        place = {column: start + k for k, column in enumerate(piece.columns)}
        for text, columns in piece.encoding.terms:
            own = tuple(place[c] for c in columns if c in place)
            if own:
                found.append(VaryingTerm(text, bar, own))
        start += len(piece.columns)
    return tuple(found)


def droppable(terms: Sequence[VaryingTerm]) -> tuple[VaryingTerm, ...]:
    """The terms that no other of the factor is built upon: slopes before their intercept."""
    return tuple(t for t in terms if not any(_builds_upon(other, t) for other in terms))


def _builds_upon(other: VaryingTerm, term: VaryingTerm) -> bool:
    """Whether one term is an interaction with the other, or a function of its column."""
    if term.parts < other.parts:
        return True
    functions = [f for f in read_columns(other.text).factors if f.kind != "column"]
    return other != term and any({quote(c) for c in f.columns} == term.parts for f in functions)


def without_correlation(spec: Spec, factor: str) -> Spec:
    """The spec with ``||`` in place of ``|`` in the terms of a factor."""
    groups = tuple(
        replace(term, covariance="uncorrelated")
        if term.factor == factor and term.covariance == "correlated"
        else term
        for term in spec.groups
    )
    return _made(spec, groups)


def without_term(schema: Schema, factor: str, gone: VaryingTerm, population: str) -> Spec:
    """The spec less one term of a factor; without groups at all it still names the levels.

    Where intercepts alone are left, the population is written as given: nothing needs centring.
    """
    spec, groups = schema.spec, list(schema.spec.groups)
    kept = [t for t in varying_terms(schema, factor) if t.bar == gone.bar and t != gone]
    if not kept:
        del groups[gone.bar]
    else:
        has_constant = any(t.is_constant for t in kept)
        texts = [str(int(has_constant)), *(t.text for t in kept if not t.is_constant)]
        columns = read_columns(" + ".join(texts)).text
        covariance = groups[gone.bar].covariance if len(kept) > 1 else "correlated"
        groups[gone.bar] = GroupTerm(columns, factor, covariance)
    plain = all(bar.columns == CONSTANT for bar in groups)
    made = _made(spec, groups, population if plain else None)
    return made if groups else replace(made, grouping=factor)


def with_equal_categories(design: Design, factor: str) -> Spec | None:
    """``(1 | g) + (1 | g:c)`` in place of ``(c | g)``: one variance and one correlation for all.

    None unless a category alone varies, and some level has several rows of one category.
    """
    bars = [t for t in design.spec.groups if t.factor == factor]
    if len(bars) != 1 or len(split_factor(factor)) != 1:
        return None
    (bar,), kinds = bars, categories(design.schema)
    factors = read_columns(bar.columns).factors
    if len(factors) != 1 or factors[0].columns[0] not in kinds:
        return None
    column, summed = factors[0].columns[0], design.observations.summed
    labels = design.frame if summed is None else summed.profile.keys_of_rows([column])
    cells = pd.DataFrame({"g": design.groupings[factor].codes})
    cells["c"] = labels[column].astype(str).to_numpy()
    has_several = summed is not None and bool((summed.shares.counts > 1).any())
    if design.residual.has_sigma and not (has_several or cells.duplicated().any()):
        return None
    both = f"{quote(factor)}:{quote(factors[0].columns[0])}"
    (inner,) = parse(f"y ~ (1 | {both})").groups
    at = design.spec.groups.index(bar)
    groups = list(design.spec.groups)
    groups[at : at + 1] = [GroupTerm("1", factor), inner]
    return _made(design.spec, groups)


def is_category(schema: Schema, term: VaryingTerm) -> bool:
    """Whether a term has columns of a category, which depend on its reference category."""
    if term.is_constant:
        return False
    known = categories(schema)
    factors = read_columns(term.text).factors
    return any(f.kind == "category" or known.intersection(f.columns) for f in factors)


def categories(schema: Schema) -> frozenset[str]:
    """The user's columns that are categories in this model."""
    return frozenset(s.column for s in schema.encoder.sources if s.categories is not None)


def centred(design: Design, factor: str) -> tuple[Spec, tuple[str, ...]]:
    """The spec with the numbers that vary over a factor centred at their mean over the rows.

    They are centred wherever they stand alone or in an interaction, so that fixed effects and
    levels keep one coding. The second answer names them; it is empty where all are centred.
    """
    spec, known = design.spec, categories(design.schema)
    Z = design.group(factor).Z
    off: list[Factor] = []
    for term in varying_terms(design.schema, factor):
        if term.is_constant or len(term.parts) > 1 or len(term.columns) > 1:
            continue
        (found,) = read_columns(term.text).factors
        mean, sd = weighted_mean_and_sd(Z[:, term.columns[0]], design.row_counts)
        numeric = found.kind != "category" and not known.intersection(found.columns)
        if numeric and abs(mean) > CENTRED * sd:
            off.append(found)
    spelled = {f: f"center({inside_call(f)})" for f in off}
    groups = tuple(
        replace(t, columns=read_columns(t.columns).written(spelled)) if t.factor == factor else t
        for t in spec.groups
    )
    population = read_columns(spec.population).written(spelled)
    return _made(spec, groups, population), tuple(f.text for f in off)


def with_slope(spec: Spec, factor: str, term: str) -> Spec | None:
    """The spec with one more term that varies over a factor, in its first bar with a constant."""
    groups = list(spec.groups)
    for k, bar in enumerate(groups):
        if bar.factor == factor and read_columns(bar.columns).has_constant:
            columns = read_columns(f"{bar.columns} + {term}").text
            groups[k] = replace(bar, columns=columns, covariance=_joined(bar))
            return _made(spec, groups)
    return None


def _joined(bar: GroupTerm) -> str:
    return bar.covariance if read_columns(bar.columns).factors else "correlated"


def with_groups(spec: Spec, groups: Iterable[GroupTerm]) -> Spec:
    """The spec with other group terms."""
    return _made(spec, groups)


def with_column(spec: Spec, term: str) -> Spec:
    """The spec with one more term in its population."""
    return _made(spec, spec.groups, f"{spec.population} + {term}")


def with_response(spec: Spec, response: str) -> Spec:
    """The spec of another response, as text."""
    return replace(
        spec, response=response, formula=f"{response} ~ {spec.formula.split('~', 1)[1].strip()}"
    )


def term_of(schema: Schema, name: str) -> str | None:
    """The term of the population, as it is typed, that has a column of this name."""
    for piece in schema.encoder.population:
        for text, columns in piece.encoding.terms:
            if name in [piece.encoding.names[k] for k in columns]:
                return text
    return None


def lone_numbers(schema: Schema) -> tuple[str, ...]:
    """The user's numeric columns that stand in the population as they are, in order."""
    known = categories(schema)
    factors = read_columns(schema.spec.population).factors
    return tuple(f.columns[0] for f in factors if f.kind == "column" and f.columns[0] not in known)


def square_of(design: Design, column: str) -> str | None:
    """The term that adds curvature in a column; None where two values or a function have no need."""
    others = read_columns(design.spec.population).factors
    if any(column in f.columns and f.kind != "column" for f in others):
        return None
    values = design.frame[column].to_numpy(dtype=float)
    if len(np.unique(values)) < 3:
        return None
    name = quote(column, in_call=True)
    far = abs(values.mean()) > CENTRE_BEYOND_RANGES * values.std()
    return f"I(center({name})**2)" if far else f"I({name}**2)"


def varies_within(design: Design, column: str, factor: str) -> bool:
    """Whether a column varies within levels of a factor."""
    return _share_within(design, column, factor) > SHOWS


def level_means(design: Design, column: str, factor: str) -> tuple[str, pd.DataFrame] | None:
    """The means of a column over the levels, as a new column; None where they say nothing new."""
    share = _share_within(design, column, factor)
    name = f"{column}_mean"
    if not SHOWS < share < 1 - SHOWS or name in design.frame:
        return None
    codes = design.groupings[factor].codes
    return name, design.frame.assign(**{name: _means(design, column, codes)})


def _share_within(design: Design, column: str, factor: str) -> float:
    values = design.frame[column].to_numpy(dtype=float)
    within = values - _means(design, column, design.groupings[factor].codes)
    return float(within.var() / values.var())


def _means(design: Design, column: str, codes: np.ndarray) -> np.ndarray:
    values = design.frame[column].to_numpy(dtype=float)
    return np.asarray((np.bincount(codes, values) / np.bincount(codes))[codes])


def _made(spec: Spec, groups: Iterable[GroupTerm], population: str | None = None) -> Spec:
    right = " + ".join([population or spec.population, *spec.offsets])
    made = make_like(spec, read_columns(right), tuple(groups))
    return replace(made, grouping=spec.grouping)
