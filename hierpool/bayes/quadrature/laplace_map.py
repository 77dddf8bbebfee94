"""Coordinates in which coefficients are close to standard normal whatever theta is.

gamma, the coefficients that are sampled, is centred and scaled by its Laplace approximation given
theta: gamma = centre(z) + root(z)^-T e, with root root' its precision. Laplace fits at some z are
regressed on z, so that a point costs a small matrix product. The map need not be right, only smooth:
it is a change of variables, and its Jacobian is exact.

Symbols: z standardised theta, e standardised coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra.factorisation import runs
from hierpool.algebra.triangular import solve_lower_transposed
from hierpool.bayes.exact.adaptation import evidence
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.exact.proposal import Mixture, Student
from hierpool.bayes.exact.target import log_normal
from hierpool.bayes.run import NoProposalError

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.laplace import Laplace

FITS, FITS_A_DIMENSION = 30, 15
SPREAD = 1.5  # posterior sds over which the fits are spread
ABROAD_A_DIMENSION, ABROAD = 10, 1.5  # further fits, and over how many prior sds
NEAR_ZERO = (-1.5, -2.5, -3.5, -5.0)  # z of each sd at which there are further fits
FAR_UP = (2.0, 3.0, 4.0)
FLOOR = 0.02  # added to a squared sd, in units of its prior median, before the log
NEAR, DECAY = 9.0, 16.0  # squared distance up to which the near fit holds, and its decay from there
FAR_WEIGHT = 1e-6  # of a point in the near fit, however far it is
WILDEST = 1e8  # largest coefficient of a fit that counts

type Fit = Callable[[np.ndarray], Laplace]
"""z (K, d) -> Laplace approximations there."""


@dataclass(frozen=True)
class LaplaceMap:
    """The change of variables between coefficients and e, at any z.

    Attributes
    ----------
    coordinates
        Of theta.
    n_gamma
        P, the number of coefficients.
    centre, whitening
        Shapes (d,) and (d, d): (z - centre) whitening has the distance in posterior sds.
    low, high
        Shapes (d,): range of the fits, beyond which the map stays as it is at its edge.
    near, far
        Shapes (features, outputs): regressions that count near points, and all alike.
    log_evidence
        Log marginal likelihood as the Laplace approximation has it, and the standard error of that.
    """

    coordinates: PriorCoordinates
    n_gamma: int
    centre: np.ndarray
    whitening: np.ndarray
    low: np.ndarray
    high: np.ndarray
    near: np.ndarray
    far: np.ndarray
    log_evidence: tuple[float, float]

    @classmethod
    def from_fits(
        cls,
        fit: Fit,
        coordinates: PriorCoordinates,
        centre: np.ndarray,
        scale: np.ndarray,
        rng: np.random.Generator,
    ) -> LaplaceMap:
        """Map around a mode (d,) of theta with covariance ``scale`` (d, d)."""
        z = _places(coordinates, centre, scale, rng)
        found = fit(z)
        P = found.gamma.shape[1]
        log_evidence = _evidence(found, z, centre, scale)
        good = _is_usable(found)
        if not good.any():
            raise NoProposalError
        z, outputs = z[good], _outputs(found)[good]
        whitening = np.linalg.inv(np.linalg.cholesky(scale)).T if len(centre) else scale
        blank = np.zeros((0, outputs.shape[1]))
        low, high = z.min(axis=0), z.max(axis=0)
        bare = cls(coordinates, P, centre, whitening, low, high, blank, blank, log_evidence)
        x = bare._features(z)
        weight = np.sqrt(np.exp(-bare._distance(z) / DECAY) + FAR_WEIGHT)[:, None]
        near = np.linalg.lstsq(x * weight, outputs * weight, rcond=None)[0]
        far = np.linalg.lstsq(x, outputs, rcond=None)[0]
        return replace(bare, near=near, far=far)

    @cached_property
    def _medians(self) -> np.ndarray:
        """Standard deviations at the median of their priors."""
        middle = np.zeros((1, self.coordinates.size))
        return self.coordinates.scales(self.coordinates.theta(middle))[0]

    def _features(self, z: np.ndarray) -> np.ndarray:
        """Shape (K, features): a quadratic in z and the logs of the sds."""
        z = np.clip(z, self.low, self.high)
        x = z
        if self._medians.size:
            sds = self.coordinates.scales(self.coordinates.theta(z)) / self._medians
            x = np.hstack([z, np.log(sds**2 + FLOOR)])
        i, j = np.triu_indices(x.shape[1])
        return np.hstack([np.ones((len(z), 1)), x, x[:, i] * x[:, j]])

    def _distance(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): squared distance from the mode, in posterior sds."""
        return np.asarray((((z - self.centre) @ self.whitening) ** 2).sum(axis=1))

    def _regressed(self, z: np.ndarray) -> np.ndarray:
        x = self._features(z)
        share = np.exp(-np.maximum(self._distance(z) - NEAR, 0.0) / DECAY)[:, None]
        return np.asarray(share * (x @ self.near) + (1 - share) * (x @ self.far))

    def centre_and_root(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (K, P) and (K, P, P), lower: centre of gamma, and the root of its precision."""
        found, P = self._regressed(z), self.n_gamma
        root = np.zeros((len(z), P, P))
        root[:, *np.tril_indices(P)] = found[:, P:]
        on = np.arange(P)
        root[:, on, on] = np.exp(root[:, on, on])
        return found[:, :P], root

    def gamma(self, z: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (K, P), and the log Jacobian (K,) of gamma with respect to e."""
        gamma, log_jacobian = np.empty_like(e), np.empty(len(e))
        for some in runs(len(z), 3 * self.near.shape[1]):
            gamma[some], log_jacobian[some] = self._gamma(z[some], e[some])
        return gamma, log_jacobian

    def _gamma(self, z: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centre, root = self.centre_and_root(z)
        # Far out the regressed root may be singular: no error, but a density of zero.
        moved = solve_lower_transposed(root, e[..., None])[..., 0]
        log_jacobian = -np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        return centre + moved, log_jacobian

    def shifted(self, by: np.ndarray) -> LaplaceMap:
        """The map with centres of the coefficients that are by (P,) further on."""
        near, far = self.near.copy(), self.far.copy()
        near[0, : self.n_gamma] += by  # the first feature is the constant
        far[0, : self.n_gamma] += by
        return replace(self, near=near, far=far)

    def e(self, z: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        """Shape (K, P): the e that gamma (K, P) has at z."""
        centre, root = self.centre_and_root(z)
        return np.einsum("kba,kb->ka", root, gamma - centre)


def _places(
    coordinates: PriorCoordinates, centre: np.ndarray, scale: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shape (K, d): where the approximation is fitted; the first of them at random."""
    d = len(centre)
    if d == 0:
        return np.zeros((1, 0))
    scattered = rng.standard_normal((FITS + FITS_A_DIMENSION * d, d))
    z = centre + SPREAD * scattered @ np.linalg.cholesky(scale).T
    far = (*NEAR_ZERO, *FAR_UP)
    positions = np.repeat(coordinates.scale_positions, len(far))
    further = z[np.arange(len(positions)) % len(z)]
    further[np.arange(len(positions)), positions] = np.tile(far, len(coordinates.scale_positions))
    # Where a posterior has an arm far from its mode, the regressions must not be extrapolated to it.
    abroad = ABROAD * rng.standard_normal((ABROAD_A_DIMENSION * d, d))
    return np.concatenate([z, further, abroad])


def _evidence(
    found: Laplace, z: np.ndarray, centre: np.ndarray, scale: np.ndarray
) -> tuple[float, float]:
    """Log marginal likelihood by the scattered fits, and its standard error."""
    d = len(centre)
    if d == 0:
        return float(found.log_density[0]), 0.0
    n = FITS + FITS_A_DIMENSION * d
    proposal = Student.with_scale(centre, SPREAD**2 * scale, np.inf)
    log_proposal = Mixture((proposal,), np.ones(1)).log_density(z[:n])
    log_weight = found.log_density[:n] + log_normal(z[:n]) - log_proposal
    finite = np.isfinite(log_weight)
    return evidence(log_weight[finite]) if finite.sum() > 1 else (np.nan, np.inf)


def _outputs(found: Laplace) -> np.ndarray:
    """Shape (K, outputs): centre, and the root's entries, on the diagonal their logs."""
    P = found.gamma.shape[1]
    row, column = np.tril_indices(P)
    root = found.root[:, row, column].copy()
    with np.errstate(all="ignore"):
        root[:, row == column] = np.log(root[:, row == column])
    return np.hstack([found.gamma, root])


def _is_usable(found: Laplace) -> np.ndarray:
    finite = np.isfinite(_outputs(found)).all(axis=1)
    return np.asarray(finite & (np.abs(found.gamma) < WILDEST).all(axis=1))
