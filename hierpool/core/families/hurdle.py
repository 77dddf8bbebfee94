"""Counts whose zeros have a probability of their own, and are not of the counts' distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hierpool.core.families import codes
from hierpool.core.families.counts import CountFamily, log_rate
from hierpool.core.families.family import column
from hierpool.core.families.inner_count import NegbinomialInside, PoissonInside

_MOST_TRIES = 1000


@dataclass(frozen=True)
class HurdlePoisson(PoissonInside, CountFamily):
    """A zero with probability ``hurdle``; otherwise a Poisson count of at least one."""

    name: ClassVar[str] = "hurdle_poisson"
    parameters: ClassVar[tuple[str, ...]] = ("hurdle",)

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.HURDLE_POISSON

    def _zero(self, par: np.ndarray) -> np.ndarray:
        """Shape (K, 1): the probability of a zero."""
        return column(par, self.parameters.index("hurdle"))

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Shape (K, n)."""
        zero = self._zero(par)
        with np.errstate(divide="ignore"):
            return np.where(y > 0, np.log1p(-zero) + self._of_count(y, par), np.log(zero))

    def _positive_mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Mean of the counts of at least one."""
        mu = self.inverse_link(eta)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = mu / -np.expm1(self._log_zero(mu, par))
        return np.where(mu < 1e-8, 1.0, found)

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Mean of all counts, zeros included."""
        return np.asarray((1 - self._zero(par)) * self._positive_mean(eta, par))

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """Zeros included."""
        mu, above = self.inverse_link(eta), 1 - self._zero(par)
        positive = self._positive_mean(eta, par)
        with np.errstate(divide="ignore", invalid="ignore"):
            square = (self._spread(mu, par) + mu**2) / -np.expm1(self._log_zero(mu, par))
        square = np.where(mu < 1e-8, 1.0, square)
        return np.asarray(above * square - (above * positive) ** 2)

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y)."""
        mu, zero = self.inverse_link(eta), self._zero(par)
        none = np.exp(self._log_zero(mu, par))
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = (self._cdf(y, mu, par) - none) / -np.expm1(self._log_zero(mu, par))
        inside = np.where(mu < 1e-8, (np.asarray(y) >= 1).astype(float), inside)
        return np.asarray(zero + (1 - zero) * np.clip(inside, 0.0, 1.0))

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Counts; those of at least one are drawn until they are, where that is not too rare."""
        mu = self.inverse_link(eta)
        is_zero = rng.uniform(size=mu.shape) < self._zero(par)
        counts = np.zeros(mu.shape)
        left = ~is_zero
        for _ in range(_MOST_TRIES):
            if not left.any():
                break
            drawn = self._draw(mu, par, rng)
            counts = np.where(left & (drawn > 0), drawn, counts)
            left = left & (drawn == 0)
        return np.where(left, 1.0, counts)  # so rare that two at once are rarer still

    def centre(
        self,
        y: np.ndarray,
        trials: np.ndarray | None,
        offset: np.ndarray | float,
        counts: np.ndarray | None = None,
    ) -> float:
        """Log of all counts over the exposure of the rows that have some; of all where none has."""
        some = y > 0 if y.any() else y == 0
        counted = None if counts is None else counts[some]
        return log_rate(y[some], np.broadcast_to(offset, y.shape)[some], counted)


@dataclass(frozen=True)
class HurdleNegativeBinomial(NegbinomialInside, HurdlePoisson):
    """A zero with probability ``hurdle``; otherwise a negative binomial count of at least one."""

    name: ClassVar[str] = "hurdle_negbinomial"
    parameters: ClassVar[tuple[str, ...]] = ("shape", "hurdle")

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.HURDLE_NEGBINOMIAL
