"""Positive numbers whose sd grows with their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy import special

from hierpool.core.errors import ResponseError
from hierpool.core.families import codes
from hierpool.core.families.family import Family, check_varies, column


@dataclass(frozen=True)
class Gamma(Family):
    """Positive numbers with a constant coefficient of variation, 1 / sqrt(shape)."""

    name: ClassVar[str] = "gamma"
    links: ClassVar[tuple[str, ...]] = ("log",)
    parameters: ClassVar[tuple[str, ...]] = ("shape",)
    is_discrete: ClassVar[bool] = False

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.GAMMA

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Shape (K, n)."""
        a = np.minimum(column(par, 0), codes.LARGEST_SHAPE)
        with np.errstate(over="ignore"):
            series = a + 0.5 * np.log(a / (2 * np.pi)) - 1 / (12 * a) + 1 / (360 * a**3)
        own = np.where(a > 1e3, series, a * np.log(a) - special.gammaln(a))
        return np.asarray(own + (a - 1) * np.log(y))

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """The mean."""
        return self.inverse_link(eta)

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """mean^2 / shape."""
        return np.asarray(self.inverse_link(eta) ** 2 / column(par, 0))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y)."""
        a = np.minimum(column(par, 0), codes.LARGEST_SHAPE)
        return np.asarray(special.gammainc(a, a * y / self.inverse_link(eta)))

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Positive numbers."""
        a = np.broadcast_to(np.minimum(column(par, 0), codes.LARGEST_SHAPE), np.shape(eta))
        return np.asarray(self.inverse_link(eta) * rng.standard_gamma(a) / a)

    def checked(self, y: np.ndarray, name: str, trials: np.ndarray | None) -> Self:
        """The same; an error unless every response is positive."""
        if (y <= 0).any():
            row = int(np.flatnonzero(y <= 0)[0])
            zeros = int((y == 0).sum())
            more = (
                f"{zeros} are zero: a zero needs a model of its own, such as "
                f"family='bernoulli' of I({name} > 0) beside one of the positive rows"
                if zeros and not (y < 0).any()
                else "use family='student', or leave family= out"
            )
            raise ResponseError(
                f"family='gamma' takes positive numbers, and {name!r} is {y[row]:g}",
                "not-positive-response",
                after=f"; {more}",
                place=row,
            )
        check_varies(y, name)
        return self

    def centre(
        self,
        y: np.ndarray,
        trials: np.ndarray | None,
        offset: np.ndarray | float,
        counts: np.ndarray | None = None,
    ) -> float:
        """Log of the mean response, per unit of exposure."""
        exposure = np.broadcast_to(np.exp(offset), y.shape)
        times = np.ones(len(y)) if counts is None else counts
        return float(np.log(times @ y) - np.log(times @ exposure))

    def latent_variance(self, par: np.ndarray, mean: float) -> np.ndarray | None:
        """Of a lognormal with the same coefficient of variation."""
        return np.log1p(1 / par[:, 0])
