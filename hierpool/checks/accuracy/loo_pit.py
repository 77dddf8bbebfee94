"""Whether leave-one-out predictions are calibrated: the distribution of their PITs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import special

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.checks.accuracy import loo
from hierpool.checks.residuals.every import can_judge
from hierpool.checks.residuals.null_residuals import WARN_BELOW_P, Replicates
from hierpool.core.findings import Finding
from hierpool.core.fitted import Optimum
from hierpool.core.options import tails

DRAWS = 400  # of theta that are used
MOST_ROWS = 10_000
_PARTS = 10  # of the interval, in the evidence


def judged(fit: IntegratedPosterior, blup: Optimum | None) -> Iterator[Finding]:
    """Leave-one-out PITs that are not uniform.

    Anderson and Darling's statistic. PITs of one level depend on each other, so its null is that
    of PITs of responses simulated from the optimum (Student's t of each left-out row, standard
    deviations held).

    References
    ----------
    Gelfand, Dey, Chang (1992), in Bayesian Statistics 4, 147-167.
    Anderson, Darling (1954), J. Am. Stat. Assoc. 49, 765-769.
    """
    if blup is None or not fit.is_integrable or not fit.status.is_trustworthy:
        return
    if not can_judge(blup) or fit.design.n > MOST_ROWS:
        return
    replicates = Replicates.from_residual_maker(ResidualMaker.from_fit(blup))
    observed = loo.loo_pit(fit, DRAWS).to_numpy()[replicates.kept]
    pit = np.column_stack([observed, of_left_out_rows(replicates)[:, 1:]])
    judged = replicates.judge(distance(pit)[:, None], one_sided=True)
    if judged.p >= WARN_BELOW_P:
        return
    edges = np.linspace(0, 1, _PARTS + 1)
    counts = np.array([np.histogram(column, edges)[0] for column in pit.T])
    expected = np.quantile(counts[1:], tails(), axis=0)
    table = pd.DataFrame(
        {
            "rows": counts[0],
            "expected": counts[1:].mean(axis=0),
            "expected_lb": expected[0],
            "expected_ub": expected[1],
        },
        index=pd.Index(edges[:-1].round(1), name="pit_from"),
    )
    yield Finding(
        "loo-pit",
        "warning",
        _shape(observed, judged.p),
        "Predictions of new observations are not calibrated. The findings about residuals may show "
        "why.",
        evidence=table,
    )


def of_left_out_rows(replicates: Replicates) -> np.ndarray:
    """Shape (rows kept, 1 + B): PITs of rows given all others, standard deviations held."""
    d, maker = replicates.standardised, replicates.maker
    if not maker.design.residual.has_sigma:
        return np.asarray(special.ndtr(d))
    df = maker.df - 1
    left = np.maximum(maker.df - d * d, np.finfo(float).tiny) / df
    return np.asarray(special.stdtr(df, d / np.sqrt(left)))


def distance(pit: np.ndarray) -> np.ndarray:
    """Shape (m,): Anderson and Darling's statistic of columns (n, m) against uniform numbers."""
    u = np.clip(np.sort(pit, axis=0), 1e-12, 1 - 1e-12)
    n = len(u)
    weights = (2 * np.arange(1, n + 1) - 1)[:, None]
    return np.asarray(-n - (weights * (np.log(u) + np.log1p(-u[::-1]))).mean(axis=0))


def _shape(pit: np.ndarray, p: float) -> str:
    """What is wrong with the predictions, in a sentence or two."""
    ends, middle = np.mean(np.abs(pit - 0.5) > 0.45), np.mean(np.abs(pit - 0.5) < 0.25)
    if abs(middle - 0.5) >= abs(pit.mean() - 0.5):
        word = "wide" if middle > 0.5 else "narrow"
        return (
            f"Predictive intervals are too {word}: 50 % intervals hold {100 * middle:.0f} % of the "
            f"observations (p = {p:.2g})."
        )
    word, side = ("low", "above") if pit.mean() > 0.5 else ("high", "below")
    share = np.mean(pit > 0.5) if side == "above" else np.mean(pit < 0.5)
    return (
        f"Predictions are too {word}: {100 * share:.0f} % of the observations lie {side} the "
        f"predictive median (p = {p:.2g}). 90 % intervals hold {100 * (1 - ends):.0f} % of them."
    )
