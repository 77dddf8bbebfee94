"""The log posterior of theta and coefficients, in coordinates where it is close to normal.

x = (z, e): theta through the cdfs of its priors, and the coefficients that are not integrated,
through ``LaplaceMap``. Their levels' effects are integrated by quadrature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.exact.mode import LARGEST_COORDINATE
from hierpool.bayes.exact.target import log_normal
from hierpool.bayes.quadrature.laplace_map import LaplaceMap
from hierpool.bayes.theta import integrate_family
from hierpool.core.theta import FamilyPoint, FamilyTheta, Theta

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.laplace import Laplace, Start
    from hierpool.algebra.quadrature.model import QuadratureModel
    from hierpool.bayes.priors.model_priors import ModelPriors
    from hierpool.core.design import Design

LOOKED_AT = 20  # heaviest points whose quadrature is looked at before they are believed
SUSPICIOUS = 0.05  # e^2 of a level from which a point is worked out on the finer grid
PASSES = 4


@dataclass(frozen=True)
class FamilyPosterior:
    """A model with its priors: theta in standardised coordinates, coefficients as they are.

    Attributes
    ----------
    model
        The rows, a density of theta and coefficients.
    working
        From theta, as its priors see it, to working coordinates.
    coordinates
        In which the prior of theta is standard normal.
    is_finer
        Whether the finer grid is used throughout.
    """

    model: QuadratureModel
    working: Callable[[Theta], FamilyTheta]
    coordinates: PriorCoordinates
    is_finer: bool = False

    @classmethod
    def from_design(
        cls, design: Design, priors: ModelPriors, is_finer: bool = False
    ) -> FamilyPosterior:
        """The posterior of a design under its priors."""
        model, theta_map = integrate_family(design, priors)
        return cls(model, theta_map.of_family, PriorCoordinates.from_priors(priors), is_finer)

    @property
    def dimension(self) -> int:
        """d: scalars of theta."""
        return self.coordinates.size

    def theta(self, z: np.ndarray) -> tuple[Theta, FamilyTheta]:
        """Theta at z (K, d), as its priors and as the algebra see it."""
        theta = self.coordinates.theta(z)
        return theta, self.working(theta)

    def laplace(self, z: np.ndarray, start: Start | None = None) -> Laplace:
        """Laplace approximations given theta at z (K, d)."""
        return self.model.laplace(self.theta(z)[1], start)

    def started_at(self, start: Start) -> FamilyPosterior:
        """The same, the searches for modes beginning elsewhere."""
        return replace(self, model=self.model.started_at(start))

    @cached_property
    def _log_prior_at_mean(self) -> float:
        """Log prior density of the coefficients at their mean; flat directions left out."""
        prior = self.model.prior
        proper = self.model.n_gamma - (len(prior.mean) if prior.is_flat else prior.n_flat)
        return 0.5 * prior.log_det_precision - 0.5 * proper * LOG_2PI

    def log_prior(self, gamma: np.ndarray) -> np.ndarray:
        """Shape (K,): log prior density of the coefficients (K, P)."""
        off = gamma - self.model.gamma_mean
        squared = np.einsum("ka,ab,kb->k", off, self.model.gamma_precision, off, optimize=True)
        return np.asarray(self._log_prior_at_mean - 0.5 * squared)


@dataclass(frozen=True)
class EvaluatedPoints:
    """Values of theta and coefficients with what has been worked out there, K of each.

    Attributes
    ----------
    theta
        In the coordinates of the priors.
    point
        The same with the coefficients, as the algebra takes them.
    log_likelihood
        Shape (K,): log p(y | theta, coefficients).
    error
        Shape (K,): largest e^2 of a level, about the error of its quadrature.
    """

    theta: Theta
    point: FamilyPoint
    log_likelihood: np.ndarray
    error: np.ndarray

    def __getitem__(self, which: np.ndarray) -> EvaluatedPoints:
        return EvaluatedPoints(
            self.theta[which], self.point[which], self.log_likelihood[which], self.error[which]
        )

    def followed_by(self, other: EvaluatedPoints) -> EvaluatedPoints:
        """Those of both, these first."""
        return EvaluatedPoints(
            self.theta.followed_by(other.theta),
            self.point.followed_by(other.point),
            np.concatenate([self.log_likelihood, other.log_likelihood]),
            np.concatenate([self.error, other.error]),
        )


@dataclass(frozen=True)
class JointTarget:
    """The log posterior of x = (z, e), up to log p(y).

    Attributes
    ----------
    posterior
        The model and its priors.
    map
        Coefficients from e, at any z.
    """

    posterior: FamilyPosterior
    map: LaplaceMap

    @property
    def size(self) -> int:
        """d + P."""
        return self.posterior.dimension + self.map.n_gamma

    def split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z (K, d), kept in range, and e (K, P)."""
        d = self.posterior.dimension
        return np.clip(x[:, :d], -LARGEST_COORDINATE, LARGEST_COORDINATE), x[:, d:]

    def gamma(self, x: np.ndarray) -> np.ndarray:
        """Shape (K, P): the coefficients at x."""
        return self.map.gamma(*self.split(x))[0]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | x) + log p(x); -inf out of range."""
        return self._at(x)[1]

    def placed(self, x: np.ndarray) -> tuple[Theta, FamilyPoint, np.ndarray]:
        """Theta and the point at x, and the log target less the log likelihood (K,)."""
        z, e = self.split(x)
        theta, working = self.posterior.theta(z)
        with np.errstate(all="ignore"):
            gamma, log_jacobian = self.map.gamma(z, e)
            point = self.posterior.model.point(gamma, working)
            rest = self.posterior.log_prior(gamma) + log_jacobian + log_normal(z)
        return theta, point, rest

    def _at(self, x: np.ndarray) -> tuple[EvaluatedPoints, np.ndarray]:
        """What is at x, and the log target."""
        z, _ = self.split(x)
        theta, point, rest = self.placed(x)
        with np.errstate(all="ignore"):
            likelihood, error = self.posterior.model.density_and_error(
                point, self.posterior.is_finer
            )
            likelihood = np.where((z == x[:, : z.shape[1]]).all(axis=1), likelihood, -np.inf)
            target = likelihood + rest
        target[~np.isfinite(target)] = -np.inf
        return EvaluatedPoints(theta, point, likelihood, error), target

    def evaluate(
        self, x: np.ndarray, log_proposal: np.ndarray
    ) -> tuple[EvaluatedPoints, np.ndarray]:
        """What is at x (K, d + P), and the log target (K,); heavy points are looked at twice.

        A narrow peak between coarse nodes shows as a large weight and an error of the order of one:
        the heaviest points are worked out on the finer grid where their error is large.
        """
        at, target = self._at(x)
        seen = np.zeros(len(x), dtype=bool)
        for _ in range(0 if self.posterior.is_finer else PASSES):
            heaviest = np.argsort(log_proposal - target)[:LOOKED_AT]
            doubtful = heaviest[
                ~seen[heaviest] & np.isfinite(target[heaviest]) & (at.error[heaviest] > SUSPICIOUS)
            ]
            if not doubtful.size:
                break
            seen[doubtful] = True
            again, error = self.posterior.model.density_and_error(at.point[doubtful], finer=True)
            with np.errstate(invalid="ignore"):
                target[doubtful] += again - at.log_likelihood[doubtful]
            at.log_likelihood[doubtful], at.error[doubtful] = again, error
        return at, target
