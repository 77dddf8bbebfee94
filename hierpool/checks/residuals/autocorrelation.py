"""Serial correlation of the residuals within groups."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from hierpool.checks.residuals.null_residuals import WARN_BELOW_P, Replicates
from hierpool.core.design import Design, Grouping
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import noun
from hierpool.core.text import joined

_NAMES = re.compile(
    r"(?<![a-z])"  # wage and dosage are no times
    r"(time|day|week|month|year|age|hour|minute|visit|date|session|trial|occasion|wave|period)",
    re.IGNORECASE,
)
NOTEWORTHY = 0.2  # correlation below which little depends on it
_NAMED = 3  # coefficients
_DISTINCT = 0.9  # of the levels with several rows have no time twice
_SHARED = 0.5  # values over rows below which levels were observed at common times


def over_time(replicates: Replicates) -> Iterator[Finding]:
    """Consecutive residuals of a group that are more alike than expected, or alternate.

    The statistic is the sum of products of neighbours: the score of an AR(1) correlation at zero.
    Residuals of short levels alternate by themselves, since a level's own line runs through them;
    simulated responses say how much of it to expect.

    References
    ----------
    Jones (1993), Longitudinal Data with Serial Correlation, chapter 3.
    """
    design = replicates.maker.design
    for factor, grouping in design.groupings.items():
        name = time_of(design, grouping)
        if name is None:
            continue
        first, second = neighbours(design, grouping, name)
        if not len(first):
            continue
        e = replicates.residuals
        judged = replicates.judge((e[first] * e[second]).sum(axis=0)[:, None])
        if judged.p >= WARN_BELOW_P:
            continue
        # One step from zero: the score of an AR(1) correlation over its variance.
        rho = float(np.clip(judged.excess[0] / judged.variance[0], -1, 1))
        if abs(rho) < NOTEWORTHY:
            continue
        word = "more" if rho > 0 else "less"
        by_lag = _by_lag(replicates, grouping, name)
        by_lag.attrs |= {"time": name, "factor": factor}
        yield Finding(
            "autocorrelation",
            "warning",
            f"Consecutive residuals of a {noun(factor)}, ordered by {name}, are {word} alike than the "
            f"model implies: a lag-1 correlation of about {rho:.2g}, corrected for the fitted lines (p = "
            f"{judged.p:.2g}).",
            _meaning(design, grouping, rho),
            evidence=by_lag,
        )
        return


def _meaning(design: Design, grouping: Grouping, rho: float) -> str:
    """Which standard errors to distrust, and what to do."""
    factor = grouping.factor
    varying = {t for g in design.groups if g.factor == factor for t in g.terms}
    first = np.zeros((grouping.n_levels, len(design.terms)))
    first[grouping.codes] = design.X
    inside = (first[grouping.codes] != design.X).any(axis=0)
    common = [t for t, is_inside in zip(design.terms, inside, strict=True) if is_inside]
    common = [t for t in common if t not in varying]
    if common:
        size = "small" if rho > 0 else "large"
        named = (
            joined(common) if len(common) <= _NAMED else f"the {len(common)} common coefficients"
        )
        means = f"Standard errors of {named} may be too {size}."
    else:
        means = (
            "Standard errors of the coefficients hardly depend on it here, but predictions of the "
            f"next observation of a {noun(factor)} do."
        )
    return means


def time_of(design: Design, grouping: Grouping) -> str | None:
    """The predictor that orders the rows of a group: a time by its name, or common to the groups."""
    found = []
    for name in design.predictors:
        column = design.frame[name]
        if name in design.groupings or pd.api.types.is_bool_dtype(column):
            continue
        if not pd.api.types.is_numeric_dtype(column):
            continue
        each = pd.Series(column.to_numpy()).groupby(grouping.codes)
        several = each.size() > 1
        if not several.any() or column.nunique() < 3:
            continue
        if (each.nunique() == each.size())[several].mean() < _DISTINCT:
            continue
        named, shared = bool(_NAMES.search(name)), column.nunique() <= _SHARED * len(column)
        if named or shared:
            found.append((not named, name))
    return min(found)[1] if found else None


def neighbours(design: Design, grouping: Grouping, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of rows and of those that follow them in the same level."""
    time = design.frame[name].to_numpy(dtype=float)
    order = np.lexsort((time, grouping.codes))
    same = (np.diff(grouping.codes[order]) == 0) & (np.diff(time[order]) > 0)
    return order[:-1][same], order[1:][same]


def _by_lag(replicates: Replicates, grouping: Grouping, name: str) -> pd.DataFrame:
    """Correlation of residuals by lag, with its expectation under the model."""
    design, e = replicates.maker.design, replicates.residuals
    time = design.frame[name].to_numpy(dtype=float)
    order = np.lexsort((time, grouping.codes))
    codes, rows = grouping.codes[order], []
    for lag in range(1, min(4, int(grouping.n_rows.max()))):
        same = codes[lag:] == codes[:-lag]
        products = e[order[lag:][same]] * e[order[:-lag][same]]
        r = products.mean(axis=0) / (e**2).mean(axis=0)
        rows.append([lag, int(same.sum()), r[0], r[1:].mean()])
    return pd.DataFrame(rows, columns=["lag", "pairs", "correlation", "expected"]).set_index("lag")
