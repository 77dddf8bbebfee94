"""F tests of the fixed effects, and the protocol of approximations to their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special


@dataclass(frozen=True, slots=True)
class FTest:
    """An F test.

    Attributes
    ----------
    num_df, den_df
        Degrees of freedom; the second may be infinite.
    F
        The statistic.
    """

    num_df: int
    den_df: float
    F: float

    @property
    def p(self) -> float:
        """Probability of an F as large under the hypothesis."""
        if np.isnan(self.F):
            return np.nan
        if np.isinf(self.den_df):
            # num_df F is chi-squared when den_df goes to infinity.
            return float(special.chdtrc(self.num_df, self.num_df * self.F))
        return float(special.fdtrc(self.num_df, self.den_df, self.F))


class Uncertainty(Protocol):
    """How sure the fixed effects are."""

    @property
    def covariance(self) -> np.ndarray:
        """Shape (p, p): of the fixed effects, in the user's coding."""

    def test(self, L: np.ndarray, beta: np.ndarray) -> FTest:
        """F test of L beta = 0, L (r, p)."""


@dataclass(frozen=True)
class Plain:
    """Wald tests with given degrees of freedom, the same for every contrast."""

    covariance: np.ndarray
    df: float

    def test(self, L: np.ndarray, beta: np.ndarray) -> FTest:
        """F test of L beta = 0, L (r, p)."""
        moved = L @ beta
        if not np.isfinite(moved).all():  # a coefficient that the rows cannot tell
            return FTest(len(L), self.df, np.nan)
        F = float(moved @ np.linalg.solve(L @ self.covariance @ L.T, moved)) / len(L)
        return FTest(len(L), self.df, F)


def two_sided(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Probability of a t as far from zero; of a z where df is infinite."""
    known = np.isfinite(df)
    # Twice the lower tail at -|t|: 1 - cdf(|t|) has no digits left in the far tail.
    tail = special.stdtr(np.where(known, df, 1.0), -np.abs(t))
    return np.asarray(2 * np.where(np.isinf(df), special.ndtr(-np.abs(t)), tail))


def quantile(level: float, df: np.ndarray) -> np.ndarray:
    """Half width of a two-sided interval in standard errors."""
    known = np.isfinite(df)
    upper = (1 + level) / 2
    return np.where(
        np.isinf(df), special.ndtri(upper), special.stdtrit(np.where(known, df, 1.0), upper)
    )
