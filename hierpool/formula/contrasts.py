"""Hypotheses of the terms of a formula, as contrasts of the population coefficients."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from hierpool.core.design import Design
from hierpool.core.schema import PopulationTerm
from hierpool.formula.aliasing import Span
from hierpool.formula.function_calls import quote

INTERCEPT = "1"
_SAME_SPAN = 1e-7  # what two codings of one formula may differ by, in sds of a column


def population_terms(design: Design) -> tuple[PopulationTerm, ...]:
    """Terms of the fixed effects in the order of the formula, the constant, ``"1"``, included."""
    if design.spec.pooling == "none" or not design.terms:
        return ()
    (piece, *_) = design.encoder.population
    shown = {source.key: source.column for source in design.encoder.sources}
    found = []
    for (name, where), term in zip(
        piece.encoding.terms, piece.encoding.memory.formula, strict=True
    ):
        keys = [key for factor in term.factors for key in re.findall(r"\w+", factor.expr)]
        columns = tuple(dict.fromkeys(shown[key] for key in keys if key in shown))
        places = tuple(piece.columns.index(k) for k in where if k in piece.columns)
        found.append(PopulationTerm(name, columns, places))
    return tuple(found)


def type_three(design: Design) -> tuple[tuple[str, np.ndarray], ...]:
    """Name of each term, without the constant, and its type III hypothesis L beta = 0, (r, p).

    A term is tested at the unweighted average over the levels of the categories that it interacts
    with, and where numeric predictors that it interacts with are zero. So the answer does not
    depend on which category comes first. Rows of L are scaled to 1 at the term's own coefficients,
    as lmerTest's are. A term in which another is nested (site in ``site/plot``) is tested at averages
    over what occurs in it, where not everything occurs everywhere. Of any other term that is
    estimable in part, as with empty cells, the part is tested and L has fewer rows, or none. Empty
    for no pooling, whose columns are not those of one formula.
    """
    if design.spec.pooling == "none" or not design.terms:
        return ()
    (piece, *_) = design.encoder.population
    summed = design.observations.summed
    other = design.encoder.sum_coded(design.frame) if summed is None else summed.profile.sum_coded()
    into = _coefficients_in(design, other)
    inestimable = _inestimable(other) if design.dropped else np.zeros((other.shape[1], 0))
    found = []
    for name, where in piece.encoding.terms:
        if name == INTERCEPT:
            continue
        L = _estimable(inestimable[list(where)])
        if len(L) < len(where) and (cells := _over_cells(design, other, name)) is not None:
            L = _estimable(_without_noise(cells @ inestimable)) @ cells @ into
        else:
            L = L @ into[list(where)]
        kept = [piece.columns.index(k) for k in where if k in piece.columns]
        own = L[:, kept]
        if len(L) == len(kept) and np.linalg.matrix_rank(own) == len(own):
            L = np.linalg.solve(own, L)
        found.append((name, np.where(np.abs(L) < 1e-10 * np.abs(L).max(initial=0.0), 0.0, L)))
    return tuple(found)


def _over_cells(design: Design, other: np.ndarray, name: str) -> np.ndarray | None:
    """Shape (r, k): the hypothesis of a term in which others are nested, from cells that occur.

    Each cell of the term is the average over what is nested in it, level by level. None where
    nothing is nested in it: where all that it interacts with stands elsewhere too.
    """
    terms = dict(design.encoder.population[0].encoding.terms)
    parts = {text: frozenset(text.split(":")) for text in terms if text != INTERCEPT}
    own, every = parts[name], [*parts.values()]
    inner = {p for t in every if t > own for p in t - own if all(own <= u for u in every if p in u)}
    sources = design.encoder.sources
    columns = {quote(s.column): s.column for s in sources if s.categories is not None}
    if not inner or not own | inner <= set(columns):
        return None
    nested = sorted(inner, key=lambda p: -sum(p in u for u in every))
    order = [columns[p] for p in (*sorted(own), *nested)]
    rows = np.zeros(other.shape)
    for text, where in terms.items():
        if parts.get(text, frozenset()) <= own | inner:
            rows[:, where] = other[:, where]
    summed = design.observations.summed
    labels = design.frame[order] if summed is None else summed.profile.keys_of_rows(order)
    table = pd.DataFrame(rows, index=pd.MultiIndex.from_frame(labels.astype(str)))
    for depth in range(len(order), len(own) - 1, -1):
        table = table.groupby(level=list(range(depth)), sort=False).mean()
    cells = table.index.to_frame(index=False).set_axis(sorted(own), axis=1)
    lower = [np.ones((len(cells), 1))]
    lower += [_dummies(cells[sorted(t)].agg(":".join, axis=1)) for t in every if t < own]
    return _estimable(np.concatenate(lower, axis=1)) @ table.to_numpy()


def _dummies(labels: pd.Series[str]) -> np.ndarray:
    return pd.get_dummies(labels).to_numpy(dtype=float)


def _without_noise(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) > _SAME_SPAN, values, 0.0)


def _inestimable(columns: np.ndarray) -> np.ndarray:
    """Shape (k, d): what the coefficients may change by and leave every row the same."""
    found = Span.of(columns).null_space
    size = np.abs(found) * np.abs(columns).max(axis=0)[:, None]
    zero = found == 1  # a column that is 0 in every row
    return np.where(zero | (size > _SAME_SPAN * size.max(axis=0)), found, 0.0)


def _estimable(inestimable: np.ndarray) -> np.ndarray:
    """Shape (r, k): the combinations of a term's k coefficients that the rows tell.

    Those that are orthogonal to what the coefficients may change by and leave every row the same.
    """
    if not inestimable.any():
        return np.eye(len(inestimable))
    largest = np.abs(inestimable).max(axis=0)
    left, size, _ = np.linalg.svd(inestimable / np.where(largest == 0, 1, largest))
    rank = int((size > _SAME_SPAN * size[0]).sum())
    return np.asarray(left[:, rank:].T)


def _coefficients_in(design: Design, other: np.ndarray) -> np.ndarray:
    """Shape (k, p): coefficients of the columns ``other`` from those of X, which span the same."""
    X, family = design.observations.X, design.family
    beside = 1 if family is not None and family.has_thresholds else 0  # thresholds are the constant
    if other.shape[1] != X.shape[1] + len(design.dropped) + beside:
        raise AssertionError("two codings of one formula have different numbers of columns")
    size = np.abs(other).max(axis=0, initial=0.0)
    size[size == 0] = 1.0
    scaled = other / size
    into = np.linalg.lstsq(scaled, X)[0]
    if np.abs(scaled @ into - X).max() > _SAME_SPAN * np.abs(X).max():
        raise AssertionError("two codings of one formula do not span the same")
    return np.asarray(into / size[:, None])
