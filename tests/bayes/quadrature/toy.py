"""A model in the form of ``QuadratureModel`` of which everything is known in closed form.

y ~ N(X gamma, sigma^2 I + tau^2 Z Z'), sigma and tau through half-t priors, gamma standard normal
times ``WIDTH``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import special

from hierpool.algebra.gaussian import BetaPrior
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.bayes.parts.residual import ResidualPart
from hierpool.bayes.priors.prior import Prior
from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.core.coding import Coding
from hierpool.core.covariance import Unstructured
from hierpool.core.theta import FamilyPoint, FamilyTheta, Theta

WIDTH = 2.0
HALF_T = Prior("HalfStudentT", nu=4, sigma=1.0)


class Found(NamedTuple):
    """As ``algebra.quadrature.laplace.Laplace``."""

    gamma: np.ndarray
    root: np.ndarray
    log_density: np.ndarray
    start: None


@dataclass(frozen=True)
class Toy:
    """Rows, and a shift with which the proposal is misled."""

    y: np.ndarray
    X: np.ndarray
    codes: np.ndarray
    misled: float = 0.0

    @property
    def n_gamma(self) -> int:
        return self.X.shape[1]

    @cached_property
    def prior(self) -> BetaPrior:
        return BetaPrior(self.gamma_mean, self.gamma_precision)

    @property
    def gamma_mean(self) -> np.ndarray:
        return np.zeros(self.n_gamma)

    @property
    def gamma_precision(self) -> np.ndarray:
        return np.eye(self.n_gamma) / WIDTH**2

    @property
    def flops_per_theta(self) -> int:
        return len(self.y)

    def started_at(self, start: None) -> Toy:
        return self

    def _variances(self, theta: FamilyTheta) -> tuple[np.ndarray, np.ndarray]:
        """Shape (K,): sigma^2, and what a level's mean has more of: m tau^2."""
        tau = theta.Lambda[:, 0, 0] if theta.Lambda.shape[1] else np.zeros(len(theta))
        return theta.par[:, 0] ** 2 + 1e-6, self.rows_a_level * tau**2

    @cached_property
    def rows_a_level(self) -> int:
        return len(self.y) // (int(self.codes.max()) + 1)

    def _products(self, left: np.ndarray, right: np.ndarray, theta: FamilyTheta) -> np.ndarray:
        """left' V^-1 right for each theta; left, right (..., n)."""
        variance, of_mean = self._variances(theta)
        levels = (self.codes == np.arange(self.codes.max() + 1)[:, None]) / self.rows_a_level**0.5
        within = left @ np.swapaxes(right, -1, -2)
        between = (left @ levels.T) @ np.swapaxes(right @ levels.T, -1, -2)
        share = (of_mean / (variance + of_mean))[:, None, None]
        return np.asarray((within - share * between) / variance[:, None, None])

    def _log_det(self, theta: FamilyTheta) -> np.ndarray:
        variance, of_mean = self._variances(theta)
        J, n = self.codes.max() + 1, len(self.y)
        return np.asarray((n - J) * np.log(variance) + J * np.log(variance + of_mean))

    def laplace(self, theta: FamilyTheta, start: None = None) -> Found:
        """Exact, but for the shift."""
        X, y = self.X.T, self.y[None]
        precision = self._products(X, X, theta) + self.gamma_precision
        right = self._products(X, y, theta)
        gamma = np.linalg.solve(precision, right)[..., 0]
        squared = self._products(y, y, theta)[:, 0, 0] - (right[..., 0] * gamma).sum(axis=1)
        log_det = self._log_det(theta) + np.linalg.slogdet(precision)[1]
        log_det += 2 * self.n_gamma * np.log(WIDTH)
        density = -0.5 * (squared + log_det + len(self.y) * np.log(2 * np.pi))
        return Found(gamma + self.misled, np.linalg.cholesky(precision), density, start)

    def point(self, gamma: np.ndarray, theta: FamilyTheta) -> FamilyPoint:
        return FamilyPoint.at(theta, gamma, np.zeros((len(theta), 0)))

    def density_and_error(
        self, point: FamilyPoint, finer: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        residual = (self.y - point.beta @ self.X.T)[:, None]
        squared = self._products(residual, residual, point)[:, 0, 0]
        out = -0.5 * (squared + self._log_det(point) + len(self.y) * np.log(2 * np.pi))
        return out, np.zeros(len(out))

    def total_error(self, point: FamilyPoint, finer: bool = False) -> np.ndarray:
        return np.zeros(len(point))


def coordinates(has_theta: bool = True) -> PriorCoordinates:
    """Sigma and tau; or nothing."""
    if not has_theta:
        return PriorCoordinates(())
    coding = Coding.from_columns(np.ones((2, 1)))
    names = "g", "g", Unstructured()
    part = GroupTermPart(*names, coding, ("Intercept",), slice(0, 1), (HALF_T,), None)
    return PriorCoordinates((ResidualPart(HALF_T), part))


def posterior(toy: Toy, has_theta: bool = True) -> FamilyPosterior:
    """The toy with its priors; without theta, sigma is one and tau zero."""

    def working(theta: Theta) -> FamilyTheta:
        Lambda = theta.values.get("sd_g", np.zeros((len(theta), 0)))[:, :, None]
        return FamilyTheta(
            np.ones(len(theta)), Lambda[:, :, : Lambda.shape[1]], theta.sigma[:, None]
        )

    return FamilyPosterior(toy, working, coordinates(has_theta))  # type: ignore[arg-type]


def evidence(of: FamilyPosterior) -> float:
    """log p(y), by a grid over the two scalars of theta."""
    axis = np.linspace(-6, 6, 241)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    log = of.model.laplace(of.theta(z)[1]).log_density - 0.5 * (z**2).sum(1) - np.log(2 * np.pi)
    return float(special.logsumexp(log) + 2 * np.log(axis[1] - axis[0]))
