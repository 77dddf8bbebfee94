"""Residuals that are not normal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hierpool.checks.residuals.null_residuals import WARN_BELOW_P, Replicates
from hierpool.core.findings import Finding
from hierpool.core.text import joined

SKEWED = 0.5  # skewness below which a distribution is about symmetric (Bulmer 1979)
HEAVY = 1.0  # excess kurtosis of Student's t with 10 df
_NAMED = 3  # rows
_TAILS = [0.5, 1.0, 2.5, 25.0, 75.0, 97.5, 99.0, 99.5]  # percent, in the evidence


def shape(replicates: Replicates) -> Iterator[Finding]:
    """Residuals with heavy tails, or skewed, so much that intervals are wrong.

    Skewness, kurtosis and a skewness of quantiles of standardised residuals against those of
    simulated responses; the most unusual of the three. Heavy tails make the skewness of a sample
    large by chance, so with an unusual kurtosis only the quantiles show that residuals are skewed.

    References
    ----------
    Jarque, Bera (1987), Int. Stat. Rev. 55, 163-172.
    Kelley (1947), Fundamentals of Statistics (skewness of the outer tenths).
    Bulmer (1979), Principles of Statistics, section 4 (what skewness is large).
    """
    d = replicates.standardised - replicates.standardised.mean(axis=0)
    variance = (d * d).mean(axis=0)
    skewness = (d * d * d).mean(axis=0) / variance**1.5
    kurtosis = (d * d * d * d).mean(axis=0) / variance**2
    low, middle, high = np.quantile(d, [0.1, 0.5, 0.9], axis=0)
    lopsided = (high + low - 2 * middle) / (high - low)
    if replicates.judge(np.column_stack([skewness, kurtosis, lopsided])).p >= WARN_BELOW_P:
        return
    of_skewness, of_kurtosis = (replicates.judge(s[:, None]).p for s in (skewness, kurtosis))
    has_tails = of_kurtosis < WARN_BELOW_P and kurtosis[0] > 3
    is_lopsided = replicates.judge(lopsided[:, None]).p < WARN_BELOW_P
    is_skewed = of_skewness < WARN_BELOW_P and (is_lopsided or not has_tails)
    if is_skewed and abs(skewness[0]) >= SKEWED:
        side = "right" if skewness[0] > 0 else "left"
        yield Finding(
            "skewed-residuals",
            "warning",
            f"Residuals are skewed to the {side} (skewness {skewness[0]:.2g}, p = {of_skewness:.2g}).",
            "Intervals for new observations are too short on that side. Coefficients are affected "
            "less.",
            evidence=_percentiles(replicates),
        )
    elif has_tails and kurtosis[0] - 3 >= HEAVY:
        furthest = np.argsort(-np.abs(replicates.standardised[:, 0]))[:_NAMED]
        rows = [str(label) for label in replicates.maker.design.rows[replicates.kept[furthest]]]
        yield Finding(
            "heavy-tails",
            "warning",
            "Residuals have heavier tails than a normal distribution (excess kurtosis "
            f"{kurtosis[0] - 3:.2g}, p = {of_kurtosis:.2g}).",
            "Extreme values are more common than the model predicts, and a few rows have a large "
            f"influence. Check the most extreme ones, rows {joined(rows)}, and compare a fit without "
            "them.",
            evidence=_percentiles(replicates),
        )


def _percentiles(replicates: Replicates) -> pd.DataFrame:
    """Standardised residuals in the tails, beside those of simulated responses."""
    return pd.DataFrame(
        {
            "observed": np.percentile(replicates.standardised[:, 0], _TAILS),
            "expected": np.percentile(replicates.standardised[:, 1:], _TAILS),
        },
        index=pd.Index(_TAILS, name="percent"),
    )
