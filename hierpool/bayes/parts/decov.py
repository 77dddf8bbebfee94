"""The prior of rstanarm for the covariance of a factor: sds in units of sigma, jointly.

The sds of the q terms of a correlated block are sigma t sqrt(q s): t is their size, with a gamma
distribution, and s their shares of the variance, with a symmetric Dirichlet distribution. Where
terms do not correlate, each has a size of its own. Correlations have an LKJ prior.

References
----------
Stan Development Team, "Prior distributions for rstanarm models": covariance matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from hierpool.bayes.priors.prior import Prior


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution that is no prior of the user's."""

    distribution: Any


@dataclass(frozen=True, slots=True)
class Decov:
    """A decov prior of one block: its scalars, and the way from them to the sds.

    Attributes
    ----------
    size
        q, the number of terms.
    is_joint
        Whether the terms share one size, as those of a correlated block do.
    shape, scale
        Of the gamma distribution of a size.
    concentration
        Of the Dirichlet distribution of the shares.
    """

    size: int
    is_joint: bool
    shape: float
    scale: float
    concentration: float

    @classmethod
    def from_prior(cls, prior: Prior, size: int, is_joint: bool) -> Decov:
        """That of a block of ``size`` terms."""
        given = prior.parameters
        return cls(size, is_joint, given["shape"], given["scale"], given["concentration"])

    @property
    def laws(self) -> tuple[Law, ...]:
        """Independent priors of q scalars: the size and, by breaking a stick, q - 1 shares."""
        size = Law(stats.gamma(self.shape, 0, self.scale))
        if not self.is_joint:
            return (size,) * self.size
        a = self.concentration
        shares = [Law(stats.beta(a, a * left)) for left in range(self.size - 1, 0, -1)]
        return (size, *shares)

    def sds(self, scalars: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Shape (K, q): standard deviations from the scalars, shape (K, q), and sigma, (K,)."""
        if not self.is_joint:
            return np.asarray(sigma[:, None] * scalars)
        shares, left = np.empty_like(scalars), np.ones(len(scalars))
        for j in range(self.size - 1):
            shares[:, j] = left * scalars[:, j + 1]
            left = left * (1 - scalars[:, j + 1])
        shares[:, -1] = left
        return np.asarray((sigma * scalars[:, 0])[:, None] * np.sqrt(self.size * shares))

    def log_density(self, sds: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Shape (K,): log density of the sds, shape (K, q), given sigma."""
        law = stats.gamma(self.shape, 0, self.scale)
        if not self.is_joint:
            return np.asarray(
                (law.logpdf(sds / sigma[:, None]) - np.log(sigma)[:, None]).sum(axis=1)
            )
        q, radius = self.size, np.sqrt((sds**2).sum(axis=1))
        shares = (sds / radius[:, None]) ** 2
        size = radius / (np.sqrt(q) * sigma)
        dirichlet = stats.dirichlet(np.full(q, self.concentration)).logpdf(
            (shares / shares.sum(axis=1, keepdims=True)).T
        )
        # d sds = radius^(q - 1) / 2^(q - 1) / sqrt(prod shares) d radius d shares
        jacobian = (q - 1) * np.log(2 / radius) + 0.5 * np.log(shares).sum(axis=1)
        # The radius is sqrt(q) sigma times the size: one more Jacobian.
        return np.asarray(law.logpdf(size) - np.log(np.sqrt(q) * sigma) + dirichlet + jacobian)
