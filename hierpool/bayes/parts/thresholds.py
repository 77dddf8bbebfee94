"""The thresholds between ratings: their prior is one of the probabilities of the ratings.

The probabilities of the C ratings, where every predictor is at its mean and the groups are average,
have a Dirichlet distribution. Broken off one after the other, each probability as a share of what
the ratings before it have left is independent of the others.

References
----------
Buerkner, Vuorre (2019), Adv. Methods Pract. Psychol. Sci. 2, 77-101 (cumulative models).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from hierpool.bayes.parts.part import Part, quantile
from hierpool.bayes.priors.power import scaled_prior
from hierpool.bayes.priors.prior import Prior, PriorRow
from hierpool.core.options import percent, tails
from hierpool.core.theta import Theta


@dataclass(frozen=True)
class _Share:
    """Beta distribution of a share."""

    first: float
    second: float

    @property
    def distribution(self) -> object:
        """Of scipy."""
        return stats.beta(self.first, self.second)


@dataclass(frozen=True)
class ThresholdsPart(Part):
    """C - 1 thresholds on the scale of the linear predictor.

    Attributes
    ----------
    link
        ``"logit"`` or ``"probit"``.
    n_categories
        C, the number of ratings.
    prior
        Dirichlet distribution of their probabilities.
    """

    link: str
    n_categories: int
    prior: Prior

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """``thresholds``, in increasing order."""
        return {"thresholds": (self.size,)}

    @property
    def size(self) -> int:
        """C - 1."""
        return self.n_categories - 1

    @property
    def _concentration(self) -> float:
        return float(self.prior.parameters["a"])

    def values(self, z: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """Thresholds at z (K, C - 1)."""
        a, left = self._concentration, np.zeros(z.shape)
        for k in range(self.size):
            # The share that is left has the mirrored distribution: exact where it is tiny.
            share = quantile(_Share(a * (self.size - k), a), -z[:, k])
            with np.errstate(divide="ignore"):
                left[:, k] = np.log(share)
        return {"thresholds": self._at(left.cumsum(axis=1))}

    def _at(self, log_above: np.ndarray) -> np.ndarray:
        """Thresholds from the logs of the probabilities of higher ratings."""
        if self.link == "probit":
            return np.asarray(-special.ndtri_exp(np.minimum(log_above, -1e-300)))
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(-np.expm1(log_above)) - log_above)

    def probabilities(self, thresholds: np.ndarray) -> np.ndarray:
        """Shape (K, C): of the ratings, where the linear predictor is 0."""
        cdf = special.ndtr if self.link == "probit" else special.expit
        edges = np.pad(cdf(thresholds), ((0, 0), (1, 0)))
        return np.diff(edges, axis=1, append=1.0)

    @property
    def components(self) -> tuple[str, ...]:
        """``thresholds``."""
        return ("thresholds",)

    def power_scaled(self, component: str, power: float) -> ThresholdsPart:
        """The same with the Dirichlet distribution raised to a power."""
        if component != "thresholds":
            return self
        return replace(self, prior=scaled_prior(self.prior, power))

    def log_priors(self, theta: Theta) -> dict[str, np.ndarray]:
        """Log prior density of the probabilities, shape (K,), up to a constant."""
        p = self.probabilities(theta.values["thresholds"])
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = (self._concentration - 1) * np.log(p)
        return {"thresholds": np.nan_to_num(logs, nan=0.0).sum(axis=1)}

    def table(self, response: str, common: tuple[str, ...] = ()) -> list[PriorRow]:
        """One row for all of them."""
        where = " at the mean of the predictors" if common else ""
        a = self._concentration
        low, high = stats.beta(a, a * self.size).ppf(tails())
        alike = "; every distribution is as probable as any other" if a == 1 else ""
        each = f"probability of each of the {self.n_categories} ratings of {response}{where}"
        meaning = f"{each}: {percent()} % in [{low:.3g}, {high:.3g}]{alike}"
        return [PriorRow("thresholds", str(self.prior), meaning)]
