"""Stacking weights: the mixture of several models that predicts left-out points best.

The mean log score of a mixture is concave in its weights. So the slopes at any weights bound what
other weights could still gain, and that bound, not the word of an optimiser, says whether they are
the best (the Karush-Kuhn-Tucker conditions are the case of a bound of zero).

References
----------
Yao, Vehtari, Simpson, Gelman (2018), Bayesian Analysis 13, 917-1007.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

GAP = 1e-2  # elpd that other weights may still gain where these count as the best: none is told
_GOAL = 1e-4  # the same, at which the search ends
_STEPS = 20_000  # of expectation maximisation


@dataclass(frozen=True)
class Stacking:
    """Weights, and how much better others could be.

    Attributes
    ----------
    weights
        Shape (K,): not negative, and they add up to one.
    gap
        Bound on what the sum of log scores could gain by other weights; infinite where no point
        has a finite score.
    """

    weights: np.ndarray
    gap: float

    @property
    def is_best(self) -> bool:
        """Whether no other weights are better by more than ``GAP``."""
        return self.gap <= GAP


def stacking(log_densities: np.ndarray) -> Stacking:
    """Weights of K models from their log densities of n left-out points, shape (n, K).

    Points that no model gives a finite density say nothing and are left out. Each row is divided
    by its largest density first, which moves no weight and keeps joint densities of many rows
    from vanishing.
    """
    top = log_densities.max(axis=1)
    finite = np.isfinite(top)
    densities = np.exp(log_densities[finite] - top[finite, None])
    K = log_densities.shape[1]
    if not len(densities):
        return Stacking(np.full(K, 1 / K), np.inf)
    found = _quadratic_steps(densities)
    if found.gap <= _GOAL:
        return found
    other = _maximised(densities, found.weights)
    return min(found, other, key=lambda one: one.gap)


def _slopes(densities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Shape (K,): derivative of the mean log score; all are at most one at the best weights."""
    return np.asarray((1.0 / (densities @ weights)) @ densities / len(densities))


def _judged(densities: np.ndarray, weights: np.ndarray) -> Stacking:
    with np.errstate(all="ignore"):
        gap = len(densities) * (float(_slopes(densities, weights).max()) - 1)
    return Stacking(weights, gap if np.isfinite(gap) else np.inf)


def _quadratic_steps(densities: np.ndarray) -> Stacking:
    """Sequential quadratic programming of the mean log score."""
    K = densities.shape[1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(densities @ weights, np.finfo(float).tiny)
        return -float(np.log(mixed).mean()), -(densities / mixed[:, None]).mean(axis=0)

    found = optimize.minimize(
        loss,
        np.full(K, 1 / K),
        jac=True,
        method="SLSQP",
        bounds=optimize.Bounds(np.zeros(K), np.ones(K)),
        constraints=optimize.LinearConstraint(np.ones(K), 1.0, 1.0),
        options={"ftol": 1e-13, "maxiter": 500},
    )
    weights = np.clip(np.nan_to_num(found.x), 0.0, 1.0)
    total = weights.sum()
    return _judged(densities, weights / total if total > 0 else np.full(K, 1 / K))


def _maximised(densities: np.ndarray, start: np.ndarray) -> Stacking:
    """Expectation maximisation, which raises the score in every step, from weights none of them 0."""
    weights = 0.99 * start + 0.01 / len(start)
    for step in range(_STEPS):
        weights = weights * _slopes(densities, weights)
        weights = weights / weights.sum()
        if step % 50 == 0 and _judged(densities, weights).gap <= _GOAL:
            break
    return _judged(densities, weights)
