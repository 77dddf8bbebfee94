"""Henderson's equations of a REML fit with every matrix written out in full."""

from __future__ import annotations

import numpy as np

import hierpool as hp
from tests.laws.dense import wide

CROSSED = "diameter ~ 1 + (1 | plate) + (1 | sample)"


def dense(blup: hp.LikelihoodFit):
    """Inverse of Henderson's equations (beta, then roots of all factors), and their columns."""
    d, e = blup.design, blup.estimate
    roots, blocks = [], []
    for group, own in zip(d.groups, e.factors, strict=True):
        Sigma = np.nan_to_num(own.corr) * np.outer(own.sd, own.sd)
        values, vectors = np.linalg.eigh(Sigma)
        roots.append(vectors * np.sqrt(np.maximum(values, 0)))
        codes, J = group.grouping.codes, group.grouping.n_levels
        blocks.append(wide(group.Z @ roots[-1], codes, J))
    T = np.hstack([d.X, *blocks])
    M = T.T @ T / e.sigma**2
    p = d.X.shape[1]
    M[p:, p:] += np.eye(len(M) - p)
    return np.linalg.inv(M), roots


def new_columns(blup, roots, X, Zs, codes) -> np.ndarray:
    """Columns of new rows, zero where a level is not known (code -1)."""
    parts = [X]
    for group, root, Z, code in zip(blup.design.groups, roots, Zs, codes, strict=True):
        block = wide(Z @ root, np.maximum(code, 0), group.grouping.n_levels)
        parts.append(np.where((code < 0)[:, None], 0.0, block))
    return np.hstack(parts)
