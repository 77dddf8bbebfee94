"""The log posterior of theta in standardised coordinates.

What samples theta sees a ``LogDensity``: the exact one, or a polynomial in its place where one
evaluation is expensive (``surrogate``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hierpool.algebra.marginal_model import LevelSums, MarginalModel
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.theta import ThetaMap, integrate
from hierpool.core.design import EXACT_FIT, Design
from hierpool.core.theta import ScaleTheta, Theta, WorkingTheta


class LogDensity(Protocol):
    """Log posterior of theta, up to log p(y)."""

    @property
    def integrated(self) -> MarginalModel:
        """The model with its coefficients integrated out."""

    @property
    def theta_map(self) -> ThetaMap:
        """The way from theta to working coordinates and to the user's coding."""

    @property
    def coordinates(self) -> PriorCoordinates:
        """Coordinates in which the prior of theta is standard normal."""

    def at(self, z: np.ndarray) -> Evaluated:
        """Everything at K points, shape (K, d)."""

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta(z))."""

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta) + log p(z)."""


@dataclass(frozen=True)
class LogPosterior:
    """Log posterior of theta in standardised coordinates, up to log p(y)."""

    integrated: MarginalModel
    theta_map: ThetaMap
    coordinates: PriorCoordinates
    sd_y: float

    @classmethod
    def from_design(cls, design: Design, priors: ModelPriors) -> LogPosterior:
        """Target of a model whose coefficients have normal priors."""
        sd_y = design.schema.response_scale.largest_sigma
        return cls(*integrate(design, priors), PriorCoordinates.from_priors(priors), sd_y)

    def at(self, z: np.ndarray) -> Evaluated:
        """Everything at K points, shape (K, d); minus infinity where theta is out of range."""
        theta = self.coordinates.theta(z)
        working = self.theta_map.working(theta)
        sums = None if isinstance(working, ScaleTheta) else self.integrated.level_sums(working)
        with np.errstate(all="ignore"):
            out = self.integrated.log_density(working, sums)
        # below this the cross-products have no digits left, and their density is noise
        out[~np.isfinite(out) | (theta.sigma < EXACT_FIT * self.sd_y)] = -np.inf
        return Evaluated(theta, working, sums, out)

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta(z))."""
        return self.at(z).log_likelihood

    def drawn(self, z: np.ndarray, rng: np.random.Generator) -> tuple[Theta, WorkingTheta]:
        """Theta at draws z (K, d), with whatever of it was integrated out drawn given the rest."""
        theta = self.coordinates.theta(z)
        return theta, self.theta_map.working(theta)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta) + log p(z)."""
        return self.log_likelihood(z) + log_normal(z)


def log_normal(z: np.ndarray) -> np.ndarray:
    """Shape (K,): log density of the prior, standard normal in these coordinates."""
    return -0.5 * (np.einsum("kd,kd->k", z, z) + z.shape[1] * np.log(2 * np.pi))


@dataclass(frozen=True)
class Evaluated:
    """Values of theta with what has been worked out there, K of each."""

    theta: Theta
    working: WorkingTheta
    sums: LevelSums | None
    log_likelihood: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Evaluated:
        return Evaluated(
            self.theta[which],
            self.working[which],
            None if self.sums is None else self.sums.at(which),
            self.log_likelihood[which],
        )

    def followed_by(self, other: Evaluated) -> Evaluated:
        """The values of both, these first."""
        joined = np.concatenate
        return Evaluated(
            self.theta.followed_by(other.theta),
            self.working.followed_by(other.working),
            self.sums.followed_by(other.sums) if self.sums and other.sums else None,
            joined([self.log_likelihood, other.log_likelihood]),
        )
