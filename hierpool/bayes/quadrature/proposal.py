"""The proposal of theta, and of the coefficients given theta, in the coordinates of the map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.bayes.exact.proposal import Mixture, Student
from hierpool.bayes.exact.theta_proposal import ThetaProposal

INFLATIONS, SHARES = (1.1, 1.7, 4.0), (0.82, 0.13, 0.05)  # of the covariance of e: components
LEARNT_FROM = 10  # effective points per coefficient of lines and scales from which those are learnt
SHRUNK_BY = 5  # effective points per coefficient that what stood so far counts as
CORRELATED_FROM = 5  # effective points per squared dimension from which correlations are learnt
REACH = 3.0  # posterior sds of z up to which the mean of e follows it


@dataclass(frozen=True)
class Line:
    """The mean of e given z: a line, level beyond the reach.

    Attributes
    ----------
    centre, reach
        Shape (d,), of z.
    mean, slope
        Shapes (P,) and (d, P).
    """

    centre: np.ndarray
    reach: np.ndarray
    mean: np.ndarray
    slope: np.ndarray

    def moved(self, z: np.ndarray) -> np.ndarray:
        """Shape (K, d): z (K, d) less the centre, within reach."""
        return np.clip(z - self.centre, -self.reach, self.reach)

    def at(self, z: np.ndarray) -> np.ndarray:
        """Shape (K, P), at z (K, d)."""
        return np.asarray(self.mean + self.moved(z) @ self.slope)

    def refitted(self, z: np.ndarray, e: np.ndarray, weights: np.ndarray, share: float) -> Line:
        """By weighted least squares, with this share; the line so far has the rest."""
        x = np.hstack([np.ones((len(z), 1)), self.moved(z)])
        root = np.sqrt(weights)[:, None]
        found = np.linalg.lstsq(x * root, e * root, rcond=None)[0]
        mixed = share * found + (1 - share) * np.vstack([self.mean, self.slope])
        return replace(self, mean=mixed[0], slope=mixed[1:])


@dataclass(frozen=True)
class ProductProposal:
    """q(z) q(e | z): a mixture that adapts, and normals about a line.

    Attributes
    ----------
    theta
        Proposal of z; None where theta is empty.
    line
        Mean of e given z.
    covariance
        Shape (P, P), of e given z.
    """

    theta: ThetaProposal | None
    line: Line
    covariance: np.ndarray

    @cached_property
    def rest(self) -> Mixture:
        """q(e) about its line."""
        P = len(self.covariance)
        if P == 0:
            return Mixture((Student(np.zeros(0), np.zeros((0, 0)), np.inf),), np.ones(1))
        scales = [factor * self.covariance for factor in INFLATIONS]
        components = [Student.with_scale(np.zeros(P), scale, np.inf) for scale in scales]
        return Mixture(tuple(components), np.array(SHARES))

    def _split(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d = len(self.line.centre)
        return points[:, :d], points[:, d:]

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Points (n, d + P)."""
        z = np.zeros((n, 0)) if self.theta is None else self.theta.draw(n, rng)
        return np.hstack([z, self.line.at(z) + self.rest.draw(n, rng)])

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Shape (K,), at points (K, d + P)."""
        z, e = self._split(points)
        rest = self.rest.log_density(e - self.line.at(z))
        return rest if self.theta is None else rest + self.theta.log_density(z)

    def learnt(
        self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator
    ) -> ProductProposal:
        """Refitted to weighted points: e by its moments, where there are points enough to know them."""
        z, e = self._split(points)
        theta = None if self.theta is None else self.theta.learnt(z, weights, rng)
        d, P = self.line.slope.shape
        n_line, effective = P * (1 + d), 1 / float((weights**2).sum())
        if effective <= LEARNT_FROM * n_line:
            # From few points for its size a proposal comes out worse than it was.
            return replace(self, theta=theta)
        share = effective / (effective + SHRUNK_BY * n_line)
        line = self.line.refitted(z, e, weights, share)
        off = e - line.at(z)
        seen = off.T @ (off * weights[:, None])
        if effective <= CORRELATED_FROM * P**2:
            ratio = np.sqrt(np.diag(seen) / np.diag(self.covariance))
            seen = ratio[:, None] * self.covariance * ratio
        covariance = share * seen + (1 - share) * self.covariance
        return ProductProposal(theta, line, covariance)

    def also_at(self, points: np.ndarray, rng: np.random.Generator) -> ProductProposal:
        """With components of z where another attempt found points (n, d + P)."""
        if self.theta is None:
            return self
        return replace(self, theta=self.theta.also_at(self._split(points)[0], rng))

    def patched(self, points: np.ndarray, weights: np.ndarray) -> ProductProposal:
        """A further component of z where the proposal is too thin."""
        if self.theta is None:
            return self
        return replace(self, theta=self.theta.patched(self._split(points)[0], weights))
