"""Residuals that are not normal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hierpool.checks.residuals.null_residuals import WARN_BELOW_P, Replicates
from hierpool.core.findings import Finding

_TAILS = [0.5, 1.0, 2.5, 25.0, 75.0, 97.5, 99.0, 99.5]  # percent, in the evidence


def shape(replicates: Replicates) -> Iterator[Finding]:
    """Residuals with heavy tails, or skewed.

    Skewness, kurtosis and a skewness of quantiles of standardised residuals against those of
    simulated responses; the most unusual of the three. Heavy tails make the skewness of a sample
    large by chance, so with an unusual kurtosis only the quantiles show that residuals are skewed.

    References
    ----------
    Jarque, Bera (1987), Int. Stat. Rev. 55, 163-172.
    Kelley (1947), Fundamentals of Statistics (skewness of the outer tenths).
    """
    d = replicates.standardised - replicates.standardised.mean(axis=0)
    variance = (d * d).mean(axis=0)
    skewness = (d * d * d).mean(axis=0) / variance**1.5
    kurtosis = (d * d * d * d).mean(axis=0) / variance**2
    low, middle, high = np.quantile(d, [0.1, 0.5, 0.9], axis=0)
    lopsided = (high + low - 2 * middle) / (high - low)
    judged = replicates.judge(np.column_stack([skewness, kurtosis, lopsided]))
    if judged.p >= WARN_BELOW_P:
        return
    said = f"skewness {skewness[0]:.2g}, excess kurtosis {kurtosis[0] - 3:.2g}; p = {judged.p:.2g}"
    table = pd.DataFrame(
        {
            "observed": np.percentile(replicates.standardised[:, 0], _TAILS),
            "expected": np.percentile(replicates.standardised[:, 1:], _TAILS),
        },
        index=pd.Index(_TAILS, name="percent"),
    )
    advice = "Try another scale of the response, e.g. its log, and check the extreme rows."
    has_tails = replicates.judge(kurtosis[:, None]).p < WARN_BELOW_P
    if not has_tails or replicates.judge(lopsided[:, None]).p < WARN_BELOW_P:
        yield Finding(
            "skewed-residuals",
            "warning",
            f"Residuals are skewed ({said}).",
            f"Prediction intervals are too short on one side. {advice}",
            evidence=table,
        )
    elif judged.z[1] > 0:
        yield Finding(
            "heavy-tails",
            "warning",
            f"Residuals have heavier tails than a normal distribution ({said}).",
            f"A few rows have a large influence, and extreme values are more common than predicted. "
            f"{advice}",
            evidence=table,
        )
    else:
        yield Finding(
            "light-tails",
            "note",
            f"Residuals have lighter tails than a normal distribution ({said}).",
            "This is typical of a bounded response; predictions may leave its range.",
            evidence=table,
        )
