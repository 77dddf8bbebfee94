"""Mixtures of Student t components: densities, draws, and refitting to weighted points.

References
----------
Cappe, Douc, Guillin, Marin, Robert (2008), Stat. Comput. 18, 447-459 (weighted EM).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

EM_STEPS = 4
LEAST_SHARE = 0.005  # of the weight that a component must explain to stay


@dataclass(frozen=True)
class Student:
    """Multivariate t with location (d,), a root of its scale (d, d) and degrees of freedom.

    ``nu = inf`` is a normal distribution.
    """

    location: np.ndarray
    factor: np.ndarray
    nu: float

    @classmethod
    def with_scale(cls, location: np.ndarray, scale: np.ndarray, nu: float) -> Student:
        """Component with scale matrix (d, d), made positive definite where rounding is not kind."""
        # The symmetric root: eigenvectors alone have the signs that rounding gives them, and one seed
        # would give other draws on another processor or beside another process.
        values, vectors = np.linalg.eigh((scale + scale.T) / 2)
        floor = 1e-10 * max(values.max(), 1e-300)
        root = (vectors * np.sqrt(np.maximum(values, floor))) @ vectors.T
        return cls(location, root, nu)

    @cached_property
    def whitening(self) -> np.ndarray:
        """Shape (d, d): W with ((z - location) W)^2 summed the squared Mahalanobis distance."""
        return np.linalg.inv(self.factor).T

    @cached_property
    def log_constant(self) -> float:
        """Log density at the location."""
        d, nu = len(self.location), self.nu
        log_det = float(np.linalg.slogdet(self.factor)[1])
        if np.isinf(nu):
            return -0.5 * d * float(np.log(2 * np.pi)) - log_det
        gammas = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2)
        return gammas - 0.5 * d * math.log(nu * math.pi) - log_det

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Points (n, d)."""
        normal = rng.standard_normal((n, len(self.location))) @ self.factor.T
        if not np.isinf(self.nu):
            normal /= np.sqrt(rng.chisquare(self.nu, n) / self.nu)[:, None]
        return self.location + normal


def log_sum(logs: np.ndarray) -> np.ndarray:
    """log of the sum of exponentials over the first axis, shape (K,) from (components, K)."""
    # By hand: scipy.special.logsumexp takes 10 to 70 times as long on few components.
    top = logs.max(axis=0)
    return np.asarray(top + np.log(np.exp(logs - top).sum(axis=0)))


@dataclass(frozen=True)
class Mixture:
    """Weighted components; the weights sum to one."""

    components: tuple[Student, ...]
    weights: np.ndarray

    def distances(self, z: np.ndarray) -> np.ndarray:
        """Shape (components, K): squared Mahalanobis distances of points (K, d)."""
        W = np.concatenate([c.whitening for c in self.components], axis=1)
        centres = np.concatenate([c.location @ c.whitening for c in self.components])
        white = W.T @ z.T
        white -= centres[:, None]
        np.square(white, out=white)
        return white.reshape(len(self.components), *z.T.shape).sum(axis=1)

    def log_densities(self, z: np.ndarray) -> np.ndarray:
        """Shape (components, K): log of weight times density of each component."""
        return self._log_densities(self.distances(z), z.shape[1])

    def _log_densities(self, distances: np.ndarray, d: int) -> np.ndarray:
        nu = np.array([c.nu for c in self.components])
        is_normal = np.isinf(nu)
        out = np.empty_like(distances)
        out[is_normal] = -0.5 * distances[is_normal]
        nu = nu[~is_normal, None]
        out[~is_normal] = -0.5 * (nu + d) * np.log1p(distances[~is_normal] / nu)
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.weights)
        out += (log_weights + [c.log_constant for c in self.components])[:, None]
        return out

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """Log density at points (K, d)."""
        return log_sum(self.log_densities(z))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Points (n, d) in random order."""
        # Not rng.multinomial: its binomials turn over where a share is 0.5 more or less a rounding error.
        ends = np.cumsum(self.weights)[:-1]
        chosen = np.searchsorted(ends, rng.random(n), side="right")
        counts = np.bincount(chosen, minlength=len(self.components))
        points = [c.draw(int(k), rng) for c, k in zip(self.components, counts, strict=True)]
        return rng.permutation(np.concatenate(points))


def refit(
    adapted: Mixture, fixed: Mixture, fixed_share: float, z: np.ndarray, weights: np.ndarray
) -> tuple[Mixture, np.ndarray]:
    """Weighted EM of the adapted components, fixed ones in the mixture.

    Parameters
    ----------
    adapted, fixed
        Components to move, and components that stay.
    fixed_share
        Weight of the fixed components together.
    z, weights
        Points (K, d) and their importance weights, summing to one.

    Returns
    -------
    Mixture, array
        The adapted components with weights summing to one, and the share of the points that each
        fixed component explains.
    """
    components, shares = list(adapted.components), adapted.weights.copy()
    d = z.shape[1]
    with np.errstate(divide="ignore"):
        fixed_log = fixed.log_densities(z) + np.log(fixed_share)
    responsibility = np.zeros((len(components) + len(fixed.components), len(z)))
    for _ in range(EM_STEPS):
        current = Mixture(tuple(components), shares / shares.sum() * (1 - fixed_share))
        distances = current.distances(z)
        logs = np.concatenate([current._log_densities(distances, d), fixed_log])
        responsibility = np.exp(logs - log_sum(logs)) * weights
        shares = responsibility[: len(components)].sum(axis=1)
        keep = shares > LEAST_SHARE
        if not keep.any():
            break
        components = [c for c, k in zip(components, keep, strict=True) if k]
        responsibility = np.concatenate(
            [responsibility[: len(keep)][keep], responsibility[len(keep) :]]
        )
        shares, distances = shares[keep], distances[keep]
        for k, c in enumerate(components):
            # EM for mixtures of t (Peel and McLachlan 2000): far points count less in location and scale,
            # and the scale is divided by the responsibilities alone.
            gain = responsibility[k] * (c.nu + d) / (c.nu + distances[k])
            location = gain @ z / gain.sum()
            centred = z - location
            scale = (centred * gain[:, None]).T @ centred / responsibility[k].sum()
            components[k] = Student.with_scale(location, scale, c.nu)
    explained = responsibility[len(components) :].sum(axis=1)
    return Mixture(tuple(components), shares / shares.sum()), explained
