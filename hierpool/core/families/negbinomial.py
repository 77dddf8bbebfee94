"""Counts whose variance exceeds their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from hierpool.core.families import codes
from hierpool.core.families.counts import CountFamily, negbinomial_constant
from hierpool.core.families.family import column
from hierpool.core.families.poisson import drawn_poisson


@dataclass(frozen=True)
class NegativeBinomial(CountFamily):
    """Counts with variance mean + mean^2 / shape: Poisson counts whose means vary by a Gamma factor."""

    name: ClassVar[str] = "negbinomial"
    parameters: ClassVar[tuple[str, ...]] = ("shape",)

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.NEGBINOMIAL

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Shape (K, n)."""
        return negbinomial_constant(y, column(par, 0))

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """The mean, or rate."""
        return self.inverse_link(eta)

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """mean + mean^2 / shape."""
        mu = self.inverse_link(eta)
        return np.asarray(mu + mu**2 / column(par, 0))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y)."""
        return negbinomial_cdf(y, self.inverse_link(eta), column(par, 0))

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Counts."""
        return drawn_negbinomial(self.inverse_link(eta), column(par, 0), rng)

    def latent_variance(self, par: np.ndarray, mean: float) -> np.ndarray | None:
        """Of a lognormal with the same coefficient of variation."""
        return np.log1p(1 / mean + 1 / par[:, 0])


def negbinomial_cdf(y: np.ndarray, mu: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """P(Y <= y) of counts with these means and shapes."""
    a = np.minimum(shape, codes.LARGEST_SHAPE)
    # Beyond this shape the incomplete beta function has fewer digits than the Poisson limit.
    limit = special.pdtr(y, mu)
    return np.asarray(np.where(a > 1e9, limit, special.betainc(a, np.floor(y) + 1, a / (a + mu))))


def drawn_negbinomial(mu: np.ndarray, shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts with these means and shapes."""
    a = np.broadcast_to(np.minimum(shape, codes.LARGEST_SHAPE), mu.shape)
    return drawn_poisson(mu * rng.standard_gamma(a) / a, rng)
