"""A profile of a family: few and short searches, since each value of the likelihood is dear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize

from hierpool.reml.profiles import STEPS, Profile

FLAT = 1e-2  # slope of a deviance, per standard error, at an optimum: it is then off by half the square


class FamilyProfile(Profile):
    """Searches begin where the last two minima point to, in coordinates of standard errors."""

    closeness = 1e-4

    def _starts(self, value: float) -> list[np.ndarray]:
        """On the line through the minima at the two nearest values."""
        near = sorted(self.known, key=lambda pair: abs(pair[0] - value))[:2]
        (a, at_a), *more = near
        if self.held.kind == "corr" or not more or more[0][0] == a:
            return super()._starts(value) if self.held.kind == "corr" else [at_a]
        b, at_b = more[0]
        share = float(np.clip((value - a) / (b - a), -2.0, 2.0))
        return [at_a + share * (at_b - at_a)]

    def _search(self, value: float, start: np.ndarray) -> tuple[float, np.ndarray, bool]:
        return whitened_search(
            lambda free: self._value_and_gradient(free, value), start, self.inverse
        )


def whitened_search(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    inverse: np.ndarray,
) -> tuple[float, np.ndarray, bool]:
    """The smallest value near a start, infinite where there is none; where, and whether it ended.

    ``inverse`` is about the inverse Hessian.
    """
    root = np.linalg.cholesky(inverse)

    def at(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = value_and_gradient(start + root @ z)
        return value, root.T @ gradient

    with np.errstate(all="ignore"):
        zero = np.zeros(len(start))
        if not len(start):
            return at(zero)[0], start, True
        found = optimize.minimize(
            at, zero, jac=True, method="BFGS", options={"gtol": FLAT, "maxiter": STEPS}
        )
    value = float(found.fun)
    # a search that stops for want of precision (2) is at a minimum as far as it can tell
    return (value if np.isfinite(value) else np.inf), start + root @ found.x, found.status in (0, 2)
