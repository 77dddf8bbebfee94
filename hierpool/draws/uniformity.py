"""Whether ranks are uniform: simultaneous bands for their distribution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

BAND = 0.99  # probability that all of a uniform sample's distribution is inside the band
_NULL_SAMPLES = 20_000
_NULL_SEED = 20220511


@dataclass(frozen=True)
class UniformRanks:
    """How far the distribution of uniform ranks strays.

    Attributes
    ----------
    tails
        Shape (n_draws, simulations + 1): two-sided binomial tail probability of each count of
        ranks below 1, 2, ..., n_draws.
    closest
        Sorted closeness of simulated uniform samples.
    """

    tails: np.ndarray
    closest: np.ndarray

    @property
    def threshold(self) -> float:
        """Closeness below which a sample leaves its simultaneous band."""
        return float(np.quantile(self.closest, 1 - BAND))

    def closeness(self, ranks: np.ndarray) -> float:
        """Smallest two-sided tail probability over all points: small where the ranks stray."""
        counts = np.bincount(ranks, minlength=len(self.tails) + 1)
        return float(_closeness(self.tails, counts[None])[0])

    def p_value(self, closeness: float) -> float:
        """Share of uniform samples that stray as far."""
        below = np.searchsorted(self.closest, closeness, side="right")
        return float((1 + below) / (1 + len(self.closest)))

    def band(self) -> pd.DataFrame:
        """See ``Calibration.band``."""
        allowed = self.tails >= self.threshold
        n = self.tails.shape[1] - 1
        lower = allowed.argmax(axis=1) / n
        upper = 1 - allowed[:, ::-1].argmax(axis=1) / n
        rank = np.arange(1, len(self.tails) + 1)
        return pd.DataFrame({"rank": rank, "lower": lower, "upper": upper})


@lru_cache(maxsize=8)
def uniform_ranks(simulations: int, n_draws: int) -> UniformRanks:
    """What ranks from 0 to ``n_draws`` do in so many simulations if they are uniform."""
    at = np.arange(1, n_draws + 1)[:, None] / (n_draws + 1)
    counts = np.arange(simulations + 1)
    below = stats.binom.cdf(counts, simulations, at)
    above = stats.binom.sf(counts - 1, simulations, at)
    tails = np.minimum(1.0, 2 * np.minimum(below, above))
    rng = np.random.default_rng(_NULL_SEED)
    samples = rng.multinomial(simulations, np.full(n_draws + 1, 1 / (n_draws + 1)), _NULL_SAMPLES)
    return UniformRanks(tails, np.sort(_closeness(tails, samples)))


def _closeness(tails: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Shape (samples,): smallest tail probability of samples given as counts of each rank."""
    below = counts.cumsum(axis=1)[:, :-1]
    return np.asarray(tails[np.arange(len(tails)), below].min(axis=1))
