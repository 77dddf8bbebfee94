"""Counts whose variance is their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from hierpool.core.families import codes
from hierpool.core.families.counts import CountFamily


@dataclass(frozen=True)
class Poisson(CountFamily):
    """Counts; ``offset(log(exposure))`` makes the mean a rate."""

    name: ClassVar[str] = "poisson"

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.POISSON

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """-log y!, shape (n,)."""
        return np.asarray(-special.gammaln(y + 1))

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """The mean, or rate."""
        return self.inverse_link(eta)

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """The mean again."""
        return self.inverse_link(eta)

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y)."""
        return np.asarray(special.pdtr(y, self.inverse_link(eta)))

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Counts."""
        return drawn_poisson(self.inverse_link(eta), rng)

    def latent_variance(self, par: np.ndarray, mean: float) -> np.ndarray | None:
        """Of a lognormal with the same coefficient of variation."""
        return np.full(len(par), np.log1p(1 / mean))


def drawn_poisson(mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poisson counts; rounded normal ones where the mean is beyond what the generator takes."""
    large = mean > 1e15
    counts = rng.poisson(np.where(large, 1.0, mean)).astype(float)
    return np.where(large, np.round(mean + np.sqrt(mean) * rng.standard_normal(mean.shape)), counts)
