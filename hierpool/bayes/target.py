"""The log posterior of theta in standardised coordinates, and its local maxima.

What samples theta sees a ``LogDensity``: the exact one, or a polynomial in its place where one
evaluation is expensive (``surrogate``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from scipy import optimize

from hierpool.bayes.priors import ModelPriors
from hierpool.bayes.standardised import Standardised
from hierpool.bayes.theta import Theta, ThetaMap, integrate
from hierpool.core.design import EXACT_FIT, Design
from hierpool.core.integrated import Integrated, LevelSums


class LogDensity(Protocol):
    """Log posterior of theta, up to log p(y)."""

    @property
    def integrated(self) -> Integrated:
        """The model with its coefficients integrated out."""

    @property
    def theta_map(self) -> ThetaMap:
        """The way from theta to working coordinates and to the user's coding."""

    @property
    def coordinates(self) -> Standardised:
        """Coordinates in which the prior of theta is standard normal."""

    def at(self, z: np.ndarray) -> Evaluated:
        """Everything at K points, shape (K, d)."""

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta(z))."""

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta) + log p(z)."""


@dataclass(frozen=True)
class Target:
    """Log posterior of theta in standardised coordinates, up to log p(y)."""

    integrated: Integrated
    theta_map: ThetaMap
    coordinates: Standardised
    sd_y: float

    @classmethod
    def of(cls, design: Design, priors: ModelPriors) -> Target:
        """Target of a model whose coefficients have normal priors."""
        return cls(*integrate(design, priors), Standardised.of(priors), design.largest_sigma)

    def at(self, z: np.ndarray) -> Evaluated:
        """Everything at K points, shape (K, d); minus infinity where theta is out of range."""
        theta = self.coordinates.theta(z)
        factor = self.theta_map.relative_factor(theta)
        sums = self.integrated.level_sums(factor)
        with np.errstate(all="ignore"):
            out = self.integrated.log_density(theta.sigma, factor, sums)
        # below this the cross-products have no digits left, and their density is noise
        out[~np.isfinite(out) | (theta.sigma < EXACT_FIT * self.sd_y)] = -np.inf
        return Evaluated(theta, factor, sums, out)

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta(z))."""
        return self.at(z).log_likelihood

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
    factor: np.ndarray
    sums: LevelSums | None
    log_likelihood: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Evaluated:
        return Evaluated(
            self.theta[which],
            self.factor[which],
            None if self.sums is None else self.sums.at(which),
            self.log_likelihood[which],
        )


def climb(
    target: LogDensity, start: np.ndarray, free: np.ndarray, scale: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Local maximum over the free coordinates from a start, others held; quasi-Newton.

    ``scale`` are guesses of the posterior sds of the free coordinates; with them differences are
    taken on one side only, for a target whose evaluations are expensive.
    """
    h = 1e-4
    basis, k = h * np.eye(len(start))[free], len(free)
    sides = (basis, -basis) if scale is None else (basis,)
    steps = np.concatenate([np.zeros((1, len(start))), *sides])

    def downhill(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = start.copy()
        z[free] = np.clip(x, -8, 8)
        values = target(z + steps)
        below = values[0] if scale is not None else values[k + 1 :]
        gradient = (values[1 : k + 1] - below) / (h * len(sides))
        finite = np.isfinite(values).all()
        return (-float(values[0]), -gradient) if finite else (1e10, np.zeros(k))

    options: dict[str, Any] = {"gtol": 1e-2, "maxiter": 60}
    if scale is not None:
        options = {"maxiter": 60, "gtol": 0.1 / scale.max(), "hess_inv0": np.diag(scale**2)}
    found = optimize.minimize(
        downhill, start[free], jac=True, method="BFGS", options=cast(Any, options)
    )
    z = start.copy()
    z[free] = np.clip(found.x, -8, 8)
    return z, -float(found.fun)


def curvature(target: LogDensity, z: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Scale matrix over the free coordinates: inverse of minus the Hessian, variances at most 2."""
    h, k = 1e-3, len(free)
    basis = h * np.eye(len(z))[free]
    points = [
        z + s * basis[i] + t * basis[j]
        for i in range(k)
        for j in range(i + 1)
        for s in (1, -1)
        for t in (1, -1)
    ]
    values = target(np.array(points)).reshape(-1, 4)
    H = np.zeros((k, k))
    H[np.tril_indices(k)] = (values[:, 0] - values[:, 1] - values[:, 2] + values[:, 3]) / (4 * h**2)
    H = H + np.tril(H, -1).T
    H[~np.isfinite(H)] = 0.0
    eigenvalues, vectors = np.linalg.eigh(-H)
    return np.asarray((vectors / np.maximum(eigenvalues, 0.5)) @ vectors.T)
