"""Family: what a response that is not Gaussian is, given its linear predictor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from hierpool.core.errors import ArgumentError, DataError, nearest
from hierpool.core.families.links import LINKS


@dataclass(frozen=True)
class Family(ABC):
    """A distribution of the response, its link, and its parameters beside the linear predictor.

    Attributes
    ----------
    link
        From the mean of the response to the linear predictor. Empty: the family's usual one.
    """

    link: str = ""

    name: ClassVar[str]
    links: ClassVar[tuple[str, ...]]
    parameters: ClassVar[tuple[str, ...]] = ()
    is_discrete: ClassVar[bool] = True
    takes_trials: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = False
    has_thresholds: ClassVar[bool] = False
    is_on_response_scale: ClassVar[bool] = False
    n_categories: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not self.link:
            object.__setattr__(self, "link", self.links[0])
        if self.link not in self.links:
            raise ArgumentError(
                f"family {self.name!r} has no link {self.link!r}: {nearest(self.link, self.links)}",
                "unknown-link",
            )

    @property
    def threshold_labels(self) -> list[str]:
        """Names of the thresholds between ratings; none for other responses."""
        return []

    @property
    @abstractmethod
    def code(self) -> int:
        """Which of the compiled densities it has (``core.families.compiled``)."""

    @abstractmethod
    def constant(self, y: np.ndarray, trials: np.ndarray, par: np.ndarray) -> np.ndarray:
        """What log densities have that does not depend on the predictor, (n,) or (K, n).

        ``par`` (K, P) as ``parameters`` names them, thresholds of ratings in their place.
        """

    @abstractmethod
    def mean(self, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Expected response per trial at predictors (K, n), shape (K, n)."""

    @abstractmethod
    def variance(self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """Variance of the response (of the number of successes in the trials), shape (K, n)."""

    @abstractmethod
    def cdf(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y <= y) at predictors (K, n), shape (K, n)."""

    @abstractmethod
    def draw(
        self, eta: np.ndarray, par: np.ndarray, trials: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """A response at each predictor (K, n), shape (K, n)."""

    @abstractmethod
    def checked(self, y: np.ndarray, name: str, trials: np.ndarray | None) -> Self:
        """The family with what the rows tell of it; an error for a response that it cannot have."""

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """Log density, or log probability, of responses (n,) at predictors (K, n), shape (K, n)."""
        from hierpool.core.families.compiled import densities  # numba loads when first needed

        eta = np.ascontiguousarray(eta, dtype=float)
        out = np.empty(eta.shape)
        rows = (np.array(a, dtype=float, order="C") for a in (y, trials))
        par = np.array(np.broadcast_to(par, (len(eta), np.shape(par)[-1])), dtype=float, order="C")
        densities(self.code, *rows, eta, par, out)
        return out + self.constant(y, trials, par)

    def derivatives(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """Shape (4, n): log density less its constant, its slope, curvature, and a safe curvature.

        At predictors (n,) and parameters (P,); curvatures are minus the second derivative, and the
        safe one is never negative.
        """
        from hierpool.core.families.compiled import derivatives  # numba loads when first needed

        out = np.empty((4, len(y)))
        rows = (np.array(a, dtype=float, order="C") for a in (y, trials, eta, par))
        derivatives(self.code, *rows, out)
        return out

    def cdf_below(
        self, y: np.ndarray, eta: np.ndarray, par: np.ndarray, trials: np.ndarray
    ) -> np.ndarray:
        """P(Y < y) of a discrete response: zero at its lowest value, which is 0 for every family."""
        at = self.cdf(np.maximum(y - 1, 0), eta, par, trials)
        return np.where(np.asarray(y) > 0, at, 0.0)

    def from_numbers(
        self, y: np.ndarray, name: str, trials: np.ndarray | None
    ) -> tuple[np.ndarray, Self]:
        """The response as the algebra takes it, and the family with what the rows tell of it."""
        return y, self.checked(y, name, trials)

    def from_labels(self, cells: pd.Series[Any], name: str) -> tuple[np.ndarray, Self]:
        """The same of a column of labels, of families that take them."""
        raise NotImplementedError

    def inverse_link(self, eta: np.ndarray) -> np.ndarray:
        """The mean at a predictor."""
        return LINKS[self.link].inverse(eta)

    def link_of(self, mean: np.ndarray) -> np.ndarray:
        """The predictor of a mean."""
        return LINKS[self.link].of_mean(mean)

    def inverse_slope(self, eta: np.ndarray) -> np.ndarray:
        """Derivative of the mean by the predictor."""
        return LINKS[self.link].slope(eta)

    def centre(
        self,
        y: np.ndarray,
        trials: np.ndarray | None,
        offset: np.ndarray | float,
        counts: np.ndarray | None = None,
    ) -> float:
        """Where the prior of an intercept is centred, on the scale of the predictor.

        Row i counts ``counts[i]`` times; None: each once.
        """
        return 0.0

    def latent_variance(self, par: np.ndarray, mean: float) -> np.ndarray | None:
        """Shape (K,): variance of the response on the scale of the predictor; None where it has none.

        ``mean`` is that of the response.

        References
        ----------
        Nakagawa, Johnson, Schielzeth (2017), J. R. Soc. Interface 14, 20170213.
        """
        return None

    def __str__(self) -> str:
        usual = self.link == self.links[0]
        return self.name if usual else f"{self.name}, {self.link} link"


LATENT = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}


def check_varies(y: np.ndarray, name: str) -> None:
    """Raise where there is nothing to explain."""
    if (y == y[0]).all():
        raise DataError(
            f"the response {name!r} is {y[0]:g} in every row, so there is nothing to explain. "
            "Check the column and the rows with missing values",
            "constant-response",
        )


def column(par: np.ndarray, k: int) -> np.ndarray:
    """Shape (K, 1): one parameter of the family, to stand beside predictors (K, n)."""
    return np.asarray(par)[..., k : k + 1]
