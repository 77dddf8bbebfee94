"""Posteriors of tiny models by brute force: dense densities on a grid, or at draws of the prior.

Nothing of hierpool is used. The priors are hierpool's defaults, written out once more: half
Student t with 4 degrees of freedom for standard deviations, normal for coefficients at the mean of
the predictors, uniform correlations in centred columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from tests.laws.dense import wide


def half_t(z: np.ndarray, scale: float) -> np.ndarray:
    """Values of a half Student t at standard normal z."""
    return scale * stats.t(4).isf(special.ndtr(-z) / 2)


def log_densities(y: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Shape (K,): zero-mean normal log densities for stacked covariances (K, n, n)."""
    L = np.linalg.cholesky(covariances)
    white = np.linalg.solve(L, np.broadcast_to(y[:, None], (len(L), len(y), 1)))[..., 0]
    log_det = 2 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)
    return -0.5 * (len(y) * np.log(2 * np.pi) + log_det + (white**2).sum(axis=1))


@dataclass(frozen=True)
class OneWay:
    """y_ij = beta + u_j + e_ij: two parameters in theta, on a grid of standardised coordinates.

    Attributes
    ----------
    y, codes
        The rows that are seen.
    mean, scale
        Mean and sd of the response that the priors refer to: of all rows, seen or not.
    """

    y: np.ndarray
    codes: np.ndarray
    mean: float
    scale: float

    @classmethod
    def of(cls, y: np.ndarray, codes: np.ndarray) -> OneWay:
        """All rows seen."""
        return cls(y, codes, float(y.mean()), float(y.std(ddof=1)))

    def without(self, rows: list[int]) -> OneWay:
        """The same model less some rows, its priors as they were."""
        keep = np.setdiff1d(np.arange(len(self.y)), rows)
        return OneWay(self.y[keep], self.codes[keep], self.mean, self.scale)

    def covariances(self, sigma: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """Shape (K, n, n), the common mean integrated out."""
        n = len(self.y)
        same = (self.codes[:, None] == self.codes).astype(float)
        parts = sigma[:, None, None] ** 2 * np.eye(n) + tau[:, None, None] ** 2 * same
        return parts + (2.5 * self.scale) ** 2

    def log_joint(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y, z) at standardised z (K, 2) of sigma and tau."""
        V = self.covariances(half_t(z[:, 0], self.scale), half_t(z[:, 1], self.scale))
        prior = -0.5 * (z**2).sum(axis=1) - np.log(2 * np.pi)
        return log_densities(self.y - self.mean, V) + prior

    def grid(self, points: int = 50) -> tuple[np.ndarray, np.ndarray, float]:
        """Points (K, 2), their posterior weights, and log p(y); trapezoids where the mass is."""
        widest = np.array([[-2.5, 6.0], [-7.0, 6.0]])  # sigma is never less than .008 scales
        box = widest
        for size, below in ((25, 60.0), (25, 40.0), (points, np.inf)):
            axes = [np.linspace(low, high, size) for low, high in box]
            z = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
            value = self.log_joint(z)
            near = z[value > value.max() - below]
            margin = np.array([axis[1] - axis[0] for axis in axes])
            cell = float(margin.prod())
            box = np.stack([near.min(axis=0) - margin, near.max(axis=0) + margin], axis=1)
            box = np.clip(box, widest[:, :1], widest[:, 1:])
        evidence = float(special.logsumexp(value) + np.log(cell))
        return z, np.exp(value + np.log(cell) - evidence), evidence

    @property
    def log_evidence(self) -> float:
        """log p(y)."""
        return self.grid()[2]

    def moments(self) -> dict[str, tuple[float, float]]:
        """Posterior mean and sd of sigma, tau and the common mean."""
        z, weight, _ = self.grid()
        sigma, tau = half_t(z[:, 0], self.scale), half_t(z[:, 1], self.scale)
        V = self.covariances(sigma, tau)
        prior = (2.5 * self.scale) ** 2
        ones = np.ones((len(self.y), 2))
        ones[:, 1] = self.y - self.mean
        solved = np.linalg.solve(V, np.broadcast_to(ones, (len(V), *ones.shape)))
        total, scored = solved.sum(axis=1).T
        beta, variance = self.mean + prior * scored, prior - prior**2 * total

        def mean_and_sd(value: np.ndarray, inner: np.ndarray | float = 0.0) -> tuple[float, float]:
            mean = float(weight @ value)
            return mean, float(np.sqrt(weight @ ((value - mean) ** 2 + inner)))

        return {
            "sigma": mean_and_sd(sigma),
            "tau": mean_and_sd(tau),
            "beta": mean_and_sd(beta, variance),
        }


@dataclass(frozen=True)
class Slopes:
    """y = (1, x) beta + (1, x) u_j + e with correlated u, by draws from the prior.

    Attributes
    ----------
    log_weight
        Shape (K,): log p(y | theta) at draws of theta from its prior.
    sigma, sd, corr
        Shapes (K,), (K, 2), (K,): the draws, sds and correlation in the user's coding.
    """

    log_weight: np.ndarray
    sigma: np.ndarray
    sd: np.ndarray
    corr: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray, x: np.ndarray, codes: np.ndarray, draws: int, seed: int) -> Slopes:
        """Draw theta from its prior and weigh it."""
        rng = np.random.default_rng(seed)
        sd_y, sd_x, centre = y.std(ddof=1), x.std(ddof=1), x.mean()
        scales = np.array([sd_y, sd_y / sd_x])
        sigma = np.abs(stats.t(4).rvs(draws, random_state=rng)) * sd_y
        centred = np.abs(stats.t(4).rvs((draws, 2), random_state=rng)) * scales
        corr = rng.uniform(-1, 1, draws)
        Sigma = centred[:, :, None] * centred[:, None, :]
        Sigma[:, 0, 1] *= corr
        Sigma[:, 1, 0] *= corr
        columns = np.column_stack([np.ones_like(x), x - centre])
        Z = wide(columns, codes, codes.max() + 1).reshape(len(y), -1, 2)
        common = columns * 2.5 * scales
        base = common @ common.T
        log_weight = np.empty(draws)
        for part in np.array_split(np.arange(draws), max(1, draws // 20_000)):
            V = np.einsum("nja,kab,mjb->knm", Z, Sigma[part], Z, optimize=True)
            V += sigma[part, None, None] ** 2 * np.eye(len(y)) + base
            log_weight[part] = log_densities(y - y.mean(), V)
        back = np.array([[1.0, -centre], [0.0, 1.0]])
        user = back @ Sigma @ back.T
        sd = np.sqrt(np.diagonal(user, axis1=1, axis2=2))
        return cls(log_weight, sigma, sd, user[:, 0, 1] / sd.prod(axis=1))

    @property
    def log_evidence(self) -> tuple[float, float]:
        """log p(y) and its Monte Carlo standard error."""
        weight = np.exp(self.log_weight - self.log_weight.max())
        error = weight.std(ddof=1) / np.sqrt(len(weight)) / weight.mean()
        return float(self.log_weight.max() + np.log(weight.mean())), float(error)

    def mean(self, of: Callable[[Slopes], np.ndarray]) -> tuple[float, float]:
        """Posterior mean of a function of theta and its Monte Carlo standard error."""
        weight = np.exp(self.log_weight - self.log_weight.max())
        weight /= weight.sum()
        value = of(self)
        mean = float(weight @ value)
        return mean, float(np.sqrt(weight**2 @ (value - mean) ** 2))
