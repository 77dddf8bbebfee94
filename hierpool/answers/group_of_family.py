"""Linear predictors of known groups of a family by maximum likelihood: conditional modes, and errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.conditional_variance import conditional_variance
from hierpool.core.fitted import Optimum


@dataclass(frozen=True)
class GroupOfFamily:
    """What ``Henderson`` is to a Gaussian fit."""

    fit: Optimum

    def value(self, combinations: Combinations) -> np.ndarray:
        """Shape (m,): at the estimates and the conditional modes."""
        out = combinations.X @ self.fit.estimate.beta
        for own, part in zip(self.fit.estimate.factors, combinations.parts, strict=True):
            each = (part.weights * own.u[part.levels]).sum(axis=1)
            out = out + combinations.by_combination(part, each)
        return np.asarray(out)

    def variance(self, combinations: Combinations, by_free: np.ndarray | float = 0.0) -> np.ndarray:
        """Shape (m,): by the delta method, and that of the effects given all numbers of the estimate.

        ``by_free`` (m, D): what else moves them by the free numbers.
        """
        own, m = self.fit.estimate.family, len(combinations)
        assert own is not None
        free = combinations.X @ own.beta_by + by_free
        levels, weights = [], []
        for part, u_by in zip(combinations.parts, own.u_by, strict=True):
            moved = np.einsum("eq,eqd->ed", part.weights, u_by[part.levels])
            free = free + combinations.by_combination(part, moved)
            level, weight = np.full(m, -1), np.zeros((m, part.weights.shape[1]))
            level[part.which], weight[part.which] = part.levels, part.weights
            levels.append(level)
            weights.append(weight)
        within = conditional_variance(self.fit.design, self.fit.estimate, levels, weights)
        return np.asarray(np.einsum("md,de,me->m", free, own.covariance, free) + within)
