"""Numbers with heavy tails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy import special

from hierpool.core.families import codes
from hierpool.core.families.family import Family, column

LARGEST_NU = 1e10


@dataclass(frozen=True)
class Student(Family):
    """Student's t around the linear predictor: scale sigma, nu degrees of freedom."""

    name: ClassVar[str] = "student"
    links: ClassVar[tuple[str, ...]] = ("identity",)
    parameters: ClassVar[tuple[str, ...]] = ("sigma", "nu")
    is_discrete: ClassVar[bool] = False
    is_on_response_scale: ClassVar[bool] = True

    @property
    def code(self) -> int:
        """Of the compiled densities."""
        return codes.STUDENT

    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Shape (K, n)."""
        sigma, nu = column(par, 0), column(par, 1)
        gammas = np.where(
            nu > 1e6,
            0.5 * np.log(nu / 2) - 0.25 / nu,
            special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2),
        )
        whole = gammas - 0.5 * np.log(nu * np.pi) - np.log(sigma)
        return np.broadcast_to(whole, (len(whole), len(y)))

    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """The predictor; the median where nu <= 1 leaves no mean."""
        return np.asarray(eta)

    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """sigma^2 nu / (nu - 2); infinite for nu <= 2."""
        sigma, nu = column(par, 0), column(par, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            wide = np.where(nu > 2, sigma**2 * nu / (nu - 2), np.inf)
        return np.broadcast_to(wide, np.shape(eta))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y)."""
        return np.asarray(special.stdtr(column(par, 1), (y - eta) / column(par, 0)))

    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Numbers."""
        nu = np.broadcast_to(column(par, 1), np.shape(eta))
        return np.asarray(eta + column(par, 0) * rng.standard_t(nu))

    def checked(self, y: np.ndarray, name: str, trials: np.ndarray | None) -> Self:
        """The same: any numbers will do."""
        return self

    def latent_variance(self, par: np.ndarray, mean: float) -> np.ndarray | None:
        """sigma^2 nu / (nu - 2)."""
        return self.variance(np.zeros((len(par), 1)), par, np.ones(1))[:, 0]
