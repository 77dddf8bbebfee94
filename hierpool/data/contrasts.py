"""Hypotheses of the terms of a formula, as contrasts of the population coefficients."""

from __future__ import annotations

import numpy as np

from hierpool.core.design import Design

INTERCEPT = "1"
_SAME_SPAN = 1e-7  # what two codings of one formula may differ by, in sds of a column


def type_three(design: Design) -> tuple[tuple[str, np.ndarray], ...]:
    """Name of each term, without the constant, and its type III hypothesis L beta = 0, (r, p).

    A term is tested at the unweighted average over the levels of the categories that it interacts
    with, and where numeric predictors that it interacts with are zero. So the answer does not
    depend on which category comes first. Rows of L are scaled to 1 at the term's own coefficients,
    as lmerTest's are. Empty for no pooling, whose columns are not those of one formula.
    """
    if design.spec.pooling == "none" or not design.terms:
        return ()
    (piece, *_) = design.encoder.population
    into = _coefficients_in(design.X, design.encoder.sum_coded(design.frame))
    found = []
    for name, where in piece.encoding.terms:
        if name == INTERCEPT:
            continue
        L, own = into[list(where)], into[np.ix_(list(where), list(where))]
        if np.linalg.matrix_rank(own) == len(own):
            L = np.linalg.solve(own, L)
        found.append((name, np.where(np.abs(L) < 1e-10 * np.abs(L).max(), 0.0, L)))
    return tuple(found)


def _coefficients_in(X: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Shape (p, p): coefficients of the columns ``other`` from those of X, which span the same."""
    if other.shape != X.shape:
        raise AssertionError("two codings of one formula have different numbers of columns")
    size = np.abs(other).max(axis=0)
    scaled = other / size
    into = np.linalg.lstsq(scaled, X)[0]
    if np.abs(scaled @ into - X).max() > _SAME_SPAN * np.abs(X).max():
        raise AssertionError("two codings of one formula do not span the same")
    return np.asarray(into / size[:, None])
