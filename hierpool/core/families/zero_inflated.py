"""Counts with more zeros than their distribution has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hierpool.core.families import codes
from hierpool.core.families.counts import CountFamily
from hierpool.core.families.family import column
from hierpool.core.families.inner_count import NegbinomialInside, PoissonInside


@dataclass(frozen=True)
class ZeroInflatedPoisson(PoissonInside, CountFamily):
    """Poisson counts, of which a share (``zero_inflation``) is zero beside the zeros of their own."""

    name: ClassVar[str] = "zero_inflated_poisson"
    parameters: ClassVar[tuple[str, ...]] = ("zero_inflation",)

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.ZERO_POISSON

    def _extra(self, par: np.ndarray) -> np.ndarray:
        """Shape (K, 1): the probability of an extra zero."""
        return column(par, self.parameters.index("zero_inflation"))

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Shape (K, n)."""
        counted = np.log1p(-self._extra(par)) + self._of_count(y, par)
        return np.asarray(np.where(y > 0, counted, 0.0))

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Mean of all counts, extra zeros included."""
        return np.asarray((1 - self._extra(par)) * self.inverse_link(eta))

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """Extra zeros included."""
        mu, extra = self.inverse_link(eta), self._extra(par)
        return np.asarray((1 - extra) * (self._spread(mu, par) + extra * mu**2))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y)."""
        extra = self._extra(par)
        return np.asarray(extra + (1 - extra) * self._cdf(y, self.inverse_link(eta), par))

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Counts."""
        is_extra = rng.uniform(size=np.shape(eta)) < self._extra(par)
        return np.where(is_extra, 0.0, self._draw(self.inverse_link(eta), par, rng))


@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(NegbinomialInside, ZeroInflatedPoisson):
    """Negative binomial counts, of which a share (``zero_inflation``) is zero beside their own zeros."""

    name: ClassVar[str] = "zero_inflated_negbinomial"
    parameters: ClassVar[tuple[str, ...]] = ("shape", "zero_inflation")

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.ZERO_NEGBINOMIAL
