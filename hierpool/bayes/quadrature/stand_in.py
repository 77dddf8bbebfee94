"""A polynomial in place of the log posterior of theta and coefficients where there are many rows.

An evaluation passes through all rows that differ, and sampling asks for some ten thousand of them.
The mode and the curvature there are known (``polish``); what is left to the polynomial is what the
target has over a standard normal density of all its coordinates, theta and coefficients alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.exact.polynomial import Counted, Polynomial, Start
from hierpool.bayes.exact.target import log_normal
from hierpool.bayes.quadrature.polish import Polished
from hierpool.bayes.quadrature.target import EvaluatedPoints, JointTarget

ABOVE_FLOPS = 1_000_000  # operations of one evaluation from which a polynomial stands in for it
LARGEST_SIZE = 8  # of theta and coefficients together: with more it takes too many evaluations
SCATTERED = 16  # draws of the prior at which it is asked what is missed


@dataclass(frozen=True)
class Whitened:
    """A joint target as a likelihood over a standard normal prior of all coordinates."""

    joint: JointTarget

    @property
    def coordinates(self) -> PriorCoordinates:
        """Of theta, the first of the coordinates."""
        return self.joint.posterior.coordinates

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): the log target less the log normal density, at (K, d + P)."""
        return self.joint(z) - log_normal(z)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): the log target."""
        return self.joint(z)


class StandIn(Polynomial[Whitened]):
    """The polynomial of theta and coefficients."""

    @classmethod
    def from_mode(cls, start: Polished, rng: np.random.Generator) -> StandIn:
        """Fit around a mode and its curvature."""
        counted = Counted(Whitened(start.target))
        scattered = rng.standard_normal((SCATTERED, start.target.size))
        values = counted.log_likelihood(scattered)
        return cls.around(counted, Start(start.mode, start.scale, scattered, values), rng)

    def evaluate(
        self, x: np.ndarray, log_proposal: np.ndarray
    ) -> tuple[EvaluatedPoints, np.ndarray]:
        """As ``JointTarget.evaluate``; errors of the quadrature are not known, and NaN."""
        theta, point, rest = self.target.joint.placed(x)
        log_target = self(x)
        unknown = np.full(len(x), np.nan)
        return EvaluatedPoints(theta, point, log_target - rest, unknown), log_target

    def differences(self, x: np.ndarray) -> tuple[EvaluatedPoints, np.ndarray]:
        """What is exactly at x (K, d + P), and exact less approximate log target (K,)."""
        at, exact = self.target.joint.evaluate(x, self(x))
        return at, exact - self(x)


def stands_in(start: Polished, rng: np.random.Generator) -> StandIn | None:
    """The polynomial where evaluations are expensive and it is close; None: there is none."""
    target = start.target
    if not 0 < target.size <= LARGEST_SIZE:
        return None
    if target.posterior.model.flops_per_theta <= ABOVE_FLOPS:
        return None
    found = StandIn.from_mode(start, rng)
    return found if found.is_close else None
