"""A polynomial in place of a log posterior of theta whose evaluations are expensive.

Crossed factors with a large dense block take hundredths of a second for one theta.
"""

from __future__ import annotations

import numpy as np

from hierpool.algebra.marginal_model import MarginalModel
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.exact.mode import climb_dear
from hierpool.bayes.exact.polynomial import Counted, Polynomial, Start
from hierpool.bayes.exact.target import Evaluated, LogPosterior, log_normal
from hierpool.bayes.theta import ThetaMap

_STARTS = 16  # prior draws among which the search for the mode begins


class Surrogate(Polynomial[LogPosterior]):
    """The polynomial of theta; it answers what a ``LogDensity`` answers."""

    @classmethod
    def from_log_posterior(cls, target: LogPosterior, rng: np.random.Generator) -> Surrogate:
        """Find the mode, and fit around it."""
        counted = Counted(target)
        starts = rng.standard_normal((_STARTS, target.coordinates.size))
        starts[0] = 0.0
        at_starts = counted.log_likelihood(starts)
        best = starts[int(np.argmax(at_starts + log_normal(starts)))]
        centre, covariance = climb_dear(counted, best, _guessed_sds(target, best))
        return cls.around(counted, Start(centre, covariance, starts, at_starts), rng)

    @property
    def integrated(self) -> MarginalModel:
        """The model with its coefficients integrated out."""
        return self.target.integrated

    @property
    def theta_map(self) -> ThetaMap:
        """The way from theta to working coordinates and to the user's coding."""
        return self.target.theta_map

    @property
    def coordinates(self) -> PriorCoordinates:
        """Coordinates in which the prior of theta is standard normal."""
        return self.target.coordinates

    def at(self, z: np.ndarray) -> Evaluated:
        """Theta and the approximate log likelihood at K points."""
        theta = self.coordinates.theta(z)
        return Evaluated(theta, self.theta_map.working(theta), None, self.log_likelihood(z))


def _guessed_sds(target: LogPosterior, z: np.ndarray) -> np.ndarray:
    """Shape (d,): rough posterior sds of z, from the number of levels or rows behind each scalar.

    The log of an sd that is estimated from N independent values has the sd 1 / sqrt(2 N).
    """
    coordinates, h = target.coordinates, 1e-3
    at, d = coordinates.scale_positions, coordinates.size
    behind = coordinates.n_behind(target.integrated.design)
    here, moved = coordinates.theta(z[None]), coordinates.theta(z + h * np.eye(d)[at])
    ratio = coordinates.scales(moved) / coordinates.scales(here)
    per_z = np.abs(np.diagonal(np.log(ratio))) / h
    guessed = np.full(d, 0.5)
    guessed[at] = np.minimum(1 / np.sqrt(2 * behind) / np.maximum(per_z, 1e-3), 1.0)
    return guessed
