"""Shares strictly between 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy import special

from hierpool.core.errors import ResponseError
from hierpool.core.families import codes
from hierpool.core.families.family import Family, check_varies, column


@dataclass(frozen=True)
class Beta(Family):
    """Shares with mean mu and variance mu (1 - mu) / (1 + precision)."""

    name: ClassVar[str] = "beta"
    links: ClassVar[tuple[str, ...]] = ("logit", "probit")
    parameters: ClassVar[tuple[str, ...]] = ("precision",)
    is_discrete: ClassVar[bool] = False

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.BETA if self.link == "logit" else codes.BETA_PROBIT

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Shape (K, n)."""
        phi = np.minimum(column(par, 0), codes.LARGEST_SHAPE)
        return np.asarray(special.gammaln(phi) + (phi - 1) * np.log1p(-y) - np.log(y))

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """The mean."""
        return self.inverse_link(eta)

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """mu (1 - mu) / (1 + precision)."""
        mu = self.inverse_link(eta)
        return np.asarray(mu * (1 - mu) / (1 + column(par, 0)))

    def _shapes(self, eta: np.ndarray, par: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phi = np.minimum(column(par, 0), codes.LARGEST_SHAPE)
        mu, rest = self.inverse_link(eta), self.inverse_link(-np.asarray(eta))
        return np.maximum(mu * phi, 1e-300), np.maximum(rest * phi, 1e-300)

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y)."""
        a, b = self._shapes(eta, par)
        return np.asarray(special.betainc(a, b, np.broadcast_to(y, a.shape)))

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Shares; those that would round to 0 or 1 stay just inside."""
        least = np.finfo(float).tiny
        return np.clip(rng.beta(*self._shapes(eta, par)), least, 1 - 1e-16)

    def checked(self, y: np.ndarray, name: str, trials: np.ndarray | None) -> Self:
        """The same; an error unless every response is inside of (0, 1)."""
        wrong = (y <= 0) | (y >= 1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            more = f"percentages are divided by 100: I({name} / 100)"
            if np.isin(y[wrong], (0.0, 1.0)).all():
                more = (
                    "shares of so many trials, with 0 and 1 among them, are counts: 'successes / "
                    "trials ~ ...' with family='binomial'"
                )
            elif y.min() < 0 or y.max() > 100:
                more = "measurements have no family=, amounts family='gamma'"
            raise ResponseError(
                f"family='beta' takes shares between 0 and 1, both left out, and {name!r} is "
                f"{y[row]:g}",
                "not-a-share",
                after=f"; {more}",
                place=row,
            )
        check_varies(y, name)
        return self
