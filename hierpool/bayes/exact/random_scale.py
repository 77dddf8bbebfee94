"""The log posterior of a location-scale model: theta and beta are sampled, the scales integrated.

Given beta levels are independent, so that the scale of each is integrated by quadrature; beta has a
normal prior and is standardised by it. Where a coefficient has a flat prior its coordinate is
standard normal all the same, about least squares, and what it is not is in the likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
from scipy import linalg

from hierpool.algebra.correlated.random_scale import RandomScaleResiduals
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.triangular import solve_lower_transposed
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.exact.target import Evaluated, LogPosterior
from hierpool.bayes.parts.residual_structure import DEVIATION, ResidualStructurePart
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.theta import integrate
from hierpool.core.design import Design
from hierpool.core.theta import BETA, ScaleTheta, Theta, WorkingTheta

FLAT_SDS = 100.0  # sds of least squares that a coefficient with a flat prior is standardised by


@dataclass(frozen=True)
class ScaleCoordinates(PriorCoordinates):
    """Theta, then beta, in coordinates where their prior is standard normal.

    Attributes
    ----------
    centre, root
        Shapes (p,) and (p, p): beta is centre + root^-T z.
    """

    centre: np.ndarray
    root: np.ndarray

    @cached_property
    def size(self) -> int:
        """Number of scalars."""
        return self.n_theta + len(self.centre)

    @cached_property
    def n_theta(self) -> int:
        """Those of theta."""
        return sum(part.size for part in self.parts)

    def theta(self, z: np.ndarray) -> Theta:
        """Values at z, shape (K, d)."""
        found = super().theta(z[:, : self.n_theta])
        of_beta = z[:, self.n_theta :]
        moved = solve_lower_transposed(self.root[None], of_beta[..., None])[..., 0]
        return Theta(found.n, {**found.values, BETA: self.centre + moved})


@dataclass(frozen=True)
class ScalePosterior(LogPosterior):
    """Log posterior of theta and beta, up to log p(y), the scales of the groups integrated."""

    @property
    def model(self) -> RandomScaleResiduals:
        """The rows."""
        return cast(RandomScaleResiduals, self.integrated)

    def at(self, z: np.ndarray) -> Evaluated:
        """Everything at K points."""
        found = super().at(z)
        own = cast(ScaleCoordinates, self.coordinates)
        if self.model.prior.n_flat:
            beta = found.theta.values[BETA]
            gap = log_prior(self.model.prior, beta) - _log_normal(own, beta)
            return replace(found, log_likelihood=found.log_likelihood + gap)
        return found

    def with_scales(self, at: Evaluated, rng: np.random.Generator) -> Evaluated:
        """Values of theta with the scales of the groups drawn, and beta left out."""
        theta = self._with_scales(at.theta, at.working, rng)
        return Evaluated(theta, self.theta_map.working(theta), None, at.log_likelihood)

    def drawn(self, z: np.ndarray, rng: np.random.Generator) -> tuple[Theta, WorkingTheta]:
        """Theta at draws z (K, d), with the scales of the groups drawn, and beta left out."""
        theta = self.coordinates.theta(z)
        theta = self._with_scales(theta, self.theta_map.working(theta), rng)
        return theta, self.theta_map.working(theta)

    def _with_scales(self, theta: Theta, working: WorkingTheta, rng: np.random.Generator) -> Theta:
        scales = self.model.draw_scales(cast(ScaleTheta, working), rng)
        kept = {k: v for k, v in theta.values.items() if k != BETA}
        return Theta(theta.n, {**kept, DEVIATION: scales})


def scale_posterior(design: Design, priors: ModelPriors) -> ScalePosterior:
    """Target of a model whose groups differ in their residual sd."""
    model, theta_map = integrate(design, priors)
    assert isinstance(model, RandomScaleResiduals)
    plain = PriorCoordinates.from_priors(priors).parts
    parts = tuple(p.collapsed if isinstance(p, ResidualStructurePart) else p for p in plain)
    own = ScaleCoordinates(parts, *_standardised(model))
    return ScalePosterior(model, theta_map, own, design.schema.response_scale.largest_sigma)


def _standardised(model: RandomScaleResiduals) -> tuple[np.ndarray, np.ndarray]:
    """Centre of beta, and the root of its precision: those of its prior, unless that is flat."""
    prior, X, y = model.prior, model.scaled_rows.X, model.scaled_rows.y
    if not prior.n_flat:
        return prior.mean, np.linalg.cholesky(prior.precision)
    information = X.T @ X / (FLAT_SDS**2 * max(float(y @ y) / len(y), 1e-300))
    precision = prior.precision + information
    right = prior.weighted_mean + information @ np.linalg.lstsq(X, y)[0]
    return linalg.solve(precision, right, assume_a="pos"), np.linalg.cholesky(precision)


def _log_normal(own: ScaleCoordinates, beta: np.ndarray) -> np.ndarray:
    """Shape (K,): the log density that the coordinates take beta to have."""
    z = (beta - own.centre) @ own.root
    constant = np.log(np.diag(own.root)).sum() - 0.5 * len(own.centre) * np.log(2 * np.pi)
    return np.asarray(constant - 0.5 * np.square(z).sum(axis=1))


def log_prior(prior: BetaPrior, beta: np.ndarray) -> np.ndarray:
    """Shape (K,): log prior density of beta, of flat coefficients up to a constant."""
    off = beta - prior.mean
    squares = np.einsum("ka,ab,kb->k", off, prior.precision, off)
    n = len(prior.mean) - prior.n_flat
    return np.asarray(0.5 * (prior.log_det_precision - squares - n * np.log(2 * np.pi)))
