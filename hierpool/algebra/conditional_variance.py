"""Variance of the groups' effects given everything else, at the optimum of a response that is not Gaussian.

By the curvature of the log-likelihood at the conditional modes: standardised effects v of all factors, with
u = F v, have the precision I + F'Z'WZF, W the curvatures of the rows. With one factor it falls into groups;
crossed factors are tied together.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from hierpool.algebra.moments import Coordinates
from hierpool.core.design import Design
from hierpool.core.results import Estimate

_AT_ONCE = 500  # combinations


def user_roots(design: Design, estimate: Estimate) -> list[np.ndarray]:
    """By factor, shape (q, q): F with F F' the covariance of the effects in the user's coding."""
    zs, Lambda = Coordinates.from_design(design).zs, estimate.relative_covariance_factor
    return [z.from_working @ Lambda[at, at] for z, at in zip(zs, design.group_columns, strict=True)]


def conditional_variance(
    design: Design, estimate: Estimate, levels: list[np.ndarray], weights: list[np.ndarray]
) -> np.ndarray:
    """Shape (m,): Var(w'u | y, all other numbers at their estimates) of m combinations.

    By factor: ``levels`` (m,), the group whose effects each takes, -1 for none; ``weights`` (m, q).
    """
    own = estimate.family
    assert own is not None
    roots = user_roots(design, estimate)
    codes = [group.codes for group in design.groups]
    Z = [group.Z for group in design.groups]
    sizes = [group.grouping.n_levels for group in design.groups]
    V = _standardised(codes, Z, roots, sizes)
    curvature = sparse.diags_array(np.maximum(own.curvature, 0.0))
    whole = sparse.eye_array(V.shape[1]) + V.T @ curvature @ V
    solve = sparse_linalg.splu(sparse.csc_array(whole), permc_spec="MMD_AT_PLUS_A").solve
    W = _standardised(levels, weights, roots, sizes)
    out = np.zeros(W.shape[0])
    for start in range(0, len(out), _AT_ONCE):
        some = W[start : start + _AT_ONCE].toarray()
        out[start : start + _AT_ONCE] = (some.T * solve(some.T)).sum(axis=0)
    return out


def _standardised(
    levels: list[np.ndarray], columns: list[np.ndarray], roots: list[np.ndarray], sizes: list[int]
) -> sparse.csr_array:
    """Shape (m, all effects): combinations of the standardised effects of all factors."""
    parts = []
    for level, column, root, J in zip(levels, columns, roots, sizes, strict=True):
        m, q = column.shape
        values = np.where(level[:, None] >= 0, column @ root, 0.0)
        places = np.maximum(level, 0)[:, None] * q + np.arange(q)
        rows = np.repeat(np.arange(m), q)
        parts.append(
            sparse.csr_array((values.reshape(-1), (rows, places.reshape(-1))), shape=(m, J * q))
        )
    return sparse.csr_array(sparse.hstack(parts, format="csr"))
