"""Whether coefficients run to infinity: a direction along which no row gets less likely, and some more.

A success wants its linear predictor up, a failure down, a count of zero down, a rating between its two
thresholds; all other rows want theirs left alone. Such a direction is found by linear programming.

References
----------
Albert, Anderson (1984), Biometrika 71, 1-10.
Konis (2007), Linear programming algorithms for detecting separated data in binary logistic regression
models. DPhil thesis, University of Oxford.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize, sparse

from hierpool.reml.families.glm import Glm, GlmRows

_FAR = 1e-4  # curvature of a row, a trial, below which its predictor may be on its way to infinity
_MOVES = 1e-7  # of a direction whose largest move of a predictor is one
_COUNTS = ("poisson", "negbinomial", "zero_inflated_poisson", "zero_inflated_negbinomial")
_BINARY = ("bernoulli", "binomial")


def direction(rows: GlmRows, found: Glm) -> np.ndarray | None:
    """Shape (m + P,): how coefficients, then thresholds, run to infinity; None where none does."""
    name = rows.family.name
    if name not in (*_COUNTS, *_BINARY, "ordinal"):
        return None
    if not (np.abs(found.curvature) < _FAR * rows.weight * rows.trials).any():
        return None
    wants, stays = _ordinal(rows) if name == "ordinal" else _by_predictor(rows)
    d, n = wants.shape[1], wants.shape[0]
    if not n:
        return None
    # s <= wants d, 0 <= s <= 1: what can be moved at all is moved by one.
    above = sparse.block_array([[-wants, sparse.eye_array(n)]], format="csr")
    same = sparse.block_array([[stays, sparse.csr_array((stays.shape[0], n))]], format="csr")
    bounds = [(None, None)] * d + [(0.0, 1.0)] * n
    cost = np.concatenate([np.zeros(d), -np.ones(n)])
    given: dict[str, Any] = {"A_ub": above, "b_ub": np.zeros(n), "bounds": bounds}
    if stays.shape[0]:
        given |= {"A_eq": same, "b_eq": np.zeros(stays.shape[0])}
    solved: Any = optimize.linprog(cost, method="highs", **given)
    if solved.x is None or not -solved.fun > 0.5:
        return None
    found_d = np.asarray(solved.x[:d])
    moved = np.abs(wants @ found_d).max(initial=0.0)
    found_d = np.where(np.abs(found_d) > _MOVES * moved, found_d, 0.0)
    P = rows.parameters.size if name == "ordinal" else 0
    return found_d if P else np.concatenate([found_d, np.zeros(rows.parameters.size)])


def _unique(A: sparse.csr_array) -> sparse.csr_array:
    """Rows that differ."""
    return sparse.csr_array(np.unique(A.toarray(), axis=0)) if A.shape[1] <= 50 else A


def _by_predictor(rows: GlmRows) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Rows (., m) of which the product with a direction must not be negative, and must be zero."""
    A, y = rows.columns, rows.y
    if rows.family.name in _COUNTS:
        return _unique(sparse.csr_array(-A[y == 0])), _unique(A[y > 0])
    one, none = y == rows.trials, y == 0
    wants = sparse.vstack([A[one], -A[none]], format="csr")
    return _unique(wants), _unique(A[~one & ~none])


def _ordinal(rows: GlmRows) -> tuple[sparse.csr_array, sparse.csr_array]:
    """The same for ratings, with the thresholds as further columns."""
    A, y, P = rows.columns, rows.y.astype(int), rows.parameters.size
    E = sparse.eye_array(P, format="csr")
    below, above = y < P, y > 0
    upper = sparse.hstack([-A[below], E[y[below]]], format="csr")
    lower = sparse.hstack([A[above], -E[y[above] - 1]], format="csr")
    return _unique(sparse.vstack([upper, lower], format="csr")), sparse.csr_array(
        (0, A.shape[1] + P)
    )
