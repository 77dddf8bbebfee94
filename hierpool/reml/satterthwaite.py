"""Satterthwaite's degrees of freedom: how uncertain the variance of a contrast is.

With V = Var(L beta_hat) as a function of the variance parameters, g its gradient at the optimum and
A their covariance (twice the inverse Hessian of the deviance), df = 2 V^2 / (g'A g). An F test of
several contrasts splits into independent ones, whose df are put together so that F has the right
mean. A parameter at zero has g = 0 there, since V is an even function of each relative sd, and so
drops out.

References
----------
Giesbrecht, Burns (1985), Biometrics 41, 477-486.
Fai, Cornelius (1996), J. Stat. Comput. Simul. 54, 363-378.
Kuznetsova, Brockhoff, Christensen (2017), J. Stat. Softw. 82(13): lmerTest, which is followed here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.core.design import Design
from hierpool.core.results import Estimate
from hierpool.reml.criterion import Criterion
from hierpool.reml.estimate import hessian_at, information_of
from hierpool.reml.f_tests import FTest

_FLAT = 1e-8  # eigenvalue of the scaled information below which a direction is not identified
_EQUAL = 1e-8  # df nearer than this are one number


@dataclass(frozen=True)
class Satterthwaite:
    """Covariance of the fixed effects, and how it varies with the variance parameters.

    Attributes
    ----------
    covariance
        Shape (p, p), in the user's coding.
    gradient
        Shape (m, p, p): its derivatives by the variance parameters.
    parameters
        Shape (m, m): covariance of the variance parameters.
    """

    covariance: np.ndarray
    gradient: np.ndarray
    parameters: np.ndarray

    @classmethod
    def from_estimate(cls, design: Design, estimate: Estimate) -> Satterthwaite:
        """From the curvature of the criterion that the fit minimised."""
        assert estimate.method != "least squares"
        criterion = Criterion.from_design(design, estimate.method)
        Lambda, phi = estimate.relative_covariance_factor, estimate.residual_parameters
        theta, sigma = criterion.theta_of(Lambda, phi), estimate.sigma
        hessian = hessian_at(criterion, theta)
        information = information_of(criterion, hessian, criterion.at(theta), sigma)
        gradient = sigma**2 * _gradient_by_theta(criterion, theta)
        if design.residual.has_sigma:
            # By log sigma, as in information_of: the covariance is proportional to sigma^2, hence 2.
            gradient = np.concatenate([gradient, 2 * estimate.beta_covariance[None]])
        else:
            information = information[:-1, :-1]
        return cls(estimate.beta_covariance, gradient, 2 * _inverse(information))

    def test(self, L: np.ndarray, beta: np.ndarray) -> FTest:
        """F test of L beta = 0, L (r, p)."""
        if not (np.isfinite(self.covariance).all() and np.isfinite(self.parameters).all()):
            return FTest(len(L), np.nan, np.nan)  # a fit that failed
        values, vectors = np.linalg.eigh(L @ self.covariance @ L.T)
        kept = values > max(values.max(), 0.0) * len(L) * np.finfo(float).eps
        # Contrasts that are independent at the estimate, one df each (Fai and Cornelius 1996).
        values, own = values[kept], vectors[:, kept].T @ L
        F = float(np.mean((own @ beta) ** 2 / values))
        # Relative slopes g / V, with which 2 V^2 / g'A g becomes 2 / spread.
        slopes = np.einsum("ra,mab,rb->rm", own, self.gradient, own) / values[:, None]
        spread = np.einsum("rm,mk,rk->r", slopes, self.parameters, slopes)
        with np.errstate(divide="ignore"):
            df = np.where(spread > 0, 2 / np.maximum(spread, 0.0), np.inf)
        return FTest(len(values), _together(df), F)


def _gradient_by_theta(criterion: Criterion, theta: np.ndarray) -> np.ndarray:
    """Shape (k, p, p): derivatives of Var(beta) / sigma^2 in the user's coding."""
    steps = 1e-5 * np.maximum(1.0, np.abs(theta))
    moves = np.diag(steps)
    found = criterion.population(np.concatenate([theta + moves, theta - moves])).beta_covariance
    k, into = len(theta), criterion.coordinates.x.from_working
    working = (found[:k] - found[k:]) / (2 * steps[:, None, None])
    return np.asarray(into @ working @ into.T)


def _inverse(information: np.ndarray) -> np.ndarray:
    """Inverse on the directions that the data identify; zero on the others."""
    if not np.isfinite(information).all():
        return np.full_like(information, np.nan)
    diagonal = np.diag(information)
    size = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(information / np.outer(size, size))
    inverse = np.where(values > _FLAT, 1 / np.where(values > _FLAT, values, 1.0), 0.0)
    return np.asarray((vectors * inverse) @ vectors.T / np.outer(size, size))


def _together(df: np.ndarray) -> float:
    """Df of the mean of independent squared t's, so that its mean is that of an F."""
    if len(df) == 1 or np.isinf(df).all() or np.abs(np.diff(df)).max() < _EQUAL:
        return float(df.mean())
    # An F with 2 df or fewer has no finite mean to match.
    if df.min() <= 2:
        return 2.0
    expected = float(np.sum(np.where(np.isinf(df), 1.0, df / np.where(np.isinf(df), 1.0, df - 2))))
    return 2 * expected / (expected - len(df))
