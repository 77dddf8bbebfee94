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
NOTEWORTHY = 0.07  # part of the rows by which an interval of 50 %, or a median, has to be off
_PARTS = 10  # of the interval, in the evidence


def judged(fit: IntegratedPosterior, blup: Optimum | None) -> Iterator[Finding]:
    """Leave-one-out predictions whose 50 % intervals, or medians, are off by 7 % of the rows or more.

    The statistics are the share of PITs in the middle half and that above one half. PITs of one
    level depend on each other, so their null is that of PITs of responses simulated from the
    optimum (Student's t of each left-out row, standard deviations held). All PITs together have to
    be unusual too, by Anderson and Darling's statistic.

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
    shares = np.column_stack([(np.abs(pit - 0.5) < 0.25).mean(axis=0), (pit > 0.5).mean(axis=0)])
    judged = replicates.judge(shares)
    share = float(shares[0, judged.which])
    if judged.p >= WARN_BELOW_P or abs(share - 0.5) < NOTEWORTHY:
        return
    if replicates.judge(distance(pit)[:, None], one_sided=True).p >= WARN_BELOW_P:
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
        _middle(share, judged.p) if judged.which == 0 else _median(share, judged.p),
        "Do not rely on intervals for new observations. The coefficients of the model are affected "
        "less; hp.plots.residuals(fit) may show why.",
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


def _middle(share: float, p: float) -> str:
    """Intervals that hold too many or too few."""
    word = "wide" if share > 0.5 else "narrow"
    return (
        f"Predictive intervals are too {word}: 50 % intervals hold {100 * share:.0f} % of the "
        f"observations (p = {p:.2g})."
    )


def _median(above: float, p: float) -> str:
    """Medians that are too low or too high."""
    word, side = ("low", "above") if above > 0.5 else ("high", "below")
    share = max(above, 1 - above)
    return (
        f"Predictions are too {word}: {100 * share:.0f} % of the observations lie {side} the "
        f"predictive median (p = {p:.2g})."
    )
