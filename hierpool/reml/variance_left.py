"""What is left of the variance of the groups' deviations once their rows are known."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from hierpool.core.design import Design
from hierpool.core.results import Estimate

FLAT = 1e-8  # share of a term's variance that counts as none given the terms before it


def variance_left(design: Design, estimate: Estimate, factor: str) -> np.ndarray:
    """Variance of each term's deviations given the rows, over that without them, at an optimum.

    Of centred columns, of each term given those before it, and averaged over the levels: 0 where
    the rows of a level say all, 1 where they say nothing or where the term does not vary.

    Returns
    -------
    ndarray
        Shape (q,), in [0, 1].

    References
    ----------
    Gelman, Pardoe (2006), Technometrics 48, 241-251: the pooling factor.
    """
    group = next(g for g in design.groups if g.factor == factor)
    found = estimate.of(factor)
    q = len(group.terms)
    to_centred = linalg.block_diag(*(c.to_centred for c in group.schema.block_codings))
    corr = found.corr if found.corr.shape == (q, q) else np.eye(q)
    before = to_centred @ (found.sd[:, None] * np.nan_to_num(corr) * found.sd) @ to_centred.T
    after = to_centred @ found.u_condvar @ to_centred.T
    left = np.ones(q)
    for k in range(q):
        weights = np.zeros(q)
        weights[k] = 1.0
        weights[:k] = -np.linalg.pinv(before[:k, :k], hermitian=True) @ before[:k, k]
        own = weights @ before @ weights
        if own > FLAT * before[k, k]:
            left[k] = np.clip((after @ weights @ weights).mean() / own, 0.0, 1.0)
    return left
