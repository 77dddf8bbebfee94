"""Hypotheses of the terms of a formula, as contrasts of the population coefficients."""

from __future__ import annotations

import numpy as np

from hierpool.core.design import Design
from hierpool.data.span import Span

INTERCEPT = "1"
_SAME_SPAN = 1e-7  # what two codings of one formula may differ by, in sds of a column


def type_three(design: Design) -> tuple[tuple[str, np.ndarray], ...]:
    """Name of each term, without the constant, and its type III hypothesis L beta = 0, (r, p).

    A term is tested at the unweighted average over the levels of the categories that it interacts
    with, and where numeric predictors that it interacts with are zero. So the answer does not
    depend on which category comes first. Rows of L are scaled to 1 at the term's own coefficients,
    as lmerTest's are. Of a term that is estimable in part, as with empty cells, the part is tested
    and L has fewer rows, or none. Empty for no pooling, whose columns are not those of one formula.
    """
    if design.spec.pooling == "none" or not design.terms:
        return ()
    (piece, *_) = design.encoder.population
    other = design.encoder.sum_coded(design.frame)
    into = _coefficients_in(design, other)
    untold = Span.of(other).null_space if design.dropped else np.zeros((other.shape[1], 0))
    found = []
    for name, where in piece.encoding.terms:
        if name == INTERCEPT:
            continue
        L = _estimable(untold[list(where)]) @ into[list(where)]
        kept = [piece.columns.index(k) for k in where if k in piece.columns]
        own = L[:, kept]
        if len(L) == len(kept) and np.linalg.matrix_rank(own) == len(own):
            L = np.linalg.solve(own, L)
        found.append((name, np.where(np.abs(L) < 1e-10 * np.abs(L).max(initial=0.0), 0.0, L)))
    return tuple(found)


def _estimable(untold: np.ndarray) -> np.ndarray:
    """Shape (r, k): the combinations of a term's k coefficients that the rows tell.

    Those that are orthogonal to what the coefficients may change by and leave every row the same.
    """
    if not untold.any():
        return np.eye(len(untold))
    left, size, _ = np.linalg.svd(untold / np.abs(untold).max())
    rank = int((size > _SAME_SPAN * size[0]).sum())
    return np.asarray(left[:, rank:].T)


def _coefficients_in(design: Design, other: np.ndarray) -> np.ndarray:
    """Shape (k, p): coefficients of the columns ``other`` from those of X, which span the same."""
    X = design.X
    if other.shape[1] != X.shape[1] + len(design.dropped):
        raise AssertionError("two codings of one formula have different numbers of columns")
    size = np.abs(other).max(axis=0, initial=0.0)
    size[size == 0] = 1.0
    scaled = other / size
    into = np.linalg.lstsq(scaled, X)[0]
    if np.abs(scaled @ into - X).max() > _SAME_SPAN * np.abs(X).max():
        raise AssertionError("two codings of one formula do not span the same")
    return np.asarray(into / size[:, None])
