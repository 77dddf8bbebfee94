"""Residual variance that is not constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from hierpool.checks.residuals.null_residuals import WARN_BELOW_P, Replicates, by_level_sums
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import called, nouns
from hierpool.core.labels import as_shown

MOST_CATEGORIES = 20  # of a predictor whose categories are compared
FITTED = "the fitted values"
_SHOWN = 5  # levels in the evidence


def by_rows(replicates: Replicates) -> Iterator[Finding]:
    """Residual variance that grows or falls with fitted values or a predictor.

    The statistics are correlations of absolute standardised residuals with each (roots of R2 for
    categories), which heavy tails do not upset; the most unusual is judged by that of simulated
    responses.

    References
    ----------
    Glejser (1969), J. Am. Stat. Assoc. 64, 316-323.  Koenker (1981), J. Econom. 17, 107-112.
    """
    size = np.abs(replicates.standardised)
    names, columns = [], []
    fitted = replicates.fitted[replicates.kept]
    if fitted[:, 0].std() > 0:
        names.append(FITTED)
        columns.append(_correlations(fitted, size))
    for name, values in _predictors(replicates):
        names.append(name)
        if isinstance(values, pd.Series):
            columns.append(_explained(pd.get_dummies(values).to_numpy(dtype=float), size))
        else:
            columns.append(_correlations(values[:, None], size))
    if not names:
        return
    judged = replicates.judge(np.column_stack(columns))
    if judged.p >= WARN_BELOW_P:
        return
    name = names[judged.which]
    x = fitted[:, 0] if name == FITTED else dict(_predictors(replicates))[name]
    parts = _sds(x, replicates.standardised[:, 0] * replicates.maker.sigma)
    if isinstance(x, pd.Series):
        parts = parts.sort_values("residual_sd")
    first, last = parts.iloc[0], parts.iloc[-1]
    where = [f"for {k}" for k in (parts.index[0], parts.index[-1])]
    if not isinstance(x, pd.Series):
        where = ["in its lowest third", "in its highest third"]
    yield Finding(
        "unequal-variance",
        "warning",
        f"The residual sd depends on {name} (p = {judged.p:.2g}): {first['residual_sd']:.3g} "
        f"{where[0]}, {last['residual_sd']:.3g} {where[1]}.",
        "Intervals are too wide for some observations and too narrow for others. Try another scale "
        "of the response, e.g. its log, or weights.",
        evidence=parts,
    )


def by_levels(replicates: Replicates) -> Iterator[Finding]:
    """Residual variance that differs between groups.

    The statistic is Levene's F of absolute standardised residuals over the levels.

    References
    ----------
    Levene (1960), in Contributions to Probability and Statistics, 278-292.
    """
    kept, size = replicates.kept, np.abs(replicates.standardised)
    for grouping in replicates.maker.design.groupings.values():
        whole = np.zeros((replicates.maker.n, size.shape[1]))
        whole[kept] = size
        present = np.zeros((replicates.maker.n, 1))
        present[kept] = 1.0
        counts = by_level_sums(present, present, grouping)[:, 0, 0]
        known = counts >= 2
        if known.sum() < 2:
            continue
        means = by_level_sums(present, whole, grouping)[known, 0] / counts[known, None]
        between = counts[known] @ (means - size.mean(axis=0)) ** 2
        judged = replicates.judge((between / size.var(axis=0))[:, None], one_sided=True)
        if judged.p >= WARN_BELOW_P:
            continue
        squares = np.zeros_like(whole[:, :1])
        squares[kept, 0] = replicates.standardised[:, 0] ** 2
        sums = by_level_sums(present, squares, grouping)[:, 0, 0]
        sd = replicates.maker.sigma * np.sqrt(sums / np.maximum(counts, 1))
        table = pd.DataFrame(
            {"n": grouping.n_rows, "residual_sd": sd},
            index=pd.Index(grouping.levels, name=grouping.factor),
        )
        table = table[known].sort_values("residual_sd", ascending=False)
        top = table["residual_sd"]
        yield Finding(
            "unequal-variance-of-levels",
            "warning",
            f"The residual sd differs between {nouns(grouping.factor)} (p = {judged.p:.2g}): from "
            f"{top.iloc[-1]:.3g} for {called(grouping.factor, top.index[-1])} to {top.iloc[0]:.3g} for "
            f"{called(grouping.factor, top.index[0])}.",
            f"Noisy {nouns(grouping.factor)} are shrunk too little, and the others too much.",
            evidence=pd.concat([table[:_SHOWN], table[_SHOWN:].tail(_SHOWN)]),
        )


def _predictors(replicates: Replicates) -> Iterator[tuple[str, np.ndarray | pd.Series]]:
    """Name and values (rows,) of each predictor: an array of numbers, a series of categories."""
    design, kept = replicates.maker.design, replicates.kept
    for name in design.predictors:
        if name in design.groupings:
            continue
        column = design.frame[name].iloc[kept]
        if pd.api.types.is_numeric_dtype(column) and column.nunique() > 2:
            yield name, column.to_numpy(dtype=float)
        elif 2 <= column.nunique() <= MOST_CATEGORIES:
            yield name, as_shown(column, name).astype(str)


def _correlations(x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Shape (1 + B,): correlations of columns x (n, 1 or 1 + B) with sizes (n, 1 + B)."""
    x, size = x - x.mean(axis=0), size - size.mean(axis=0)
    scale = np.sqrt((x**2).sum(axis=0) * (size**2).sum(axis=0))
    return np.asarray((x * size).sum(axis=0) / np.maximum(scale, np.finfo(float).tiny))


def _explained(indicators: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Shape (1 + B,): root of the share of the variance of sizes that categories explain."""
    counts = indicators.sum(axis=0)
    means = (indicators.T @ size) / counts[:, None]
    between = counts @ (means - size.mean(axis=0)) ** 2
    return np.asarray(np.sqrt(between / (len(size) * size.var(axis=0))))


def _sds(x: np.ndarray | pd.Series, residuals: np.ndarray) -> pd.DataFrame:
    """Residual sd in thirds of a number, or in each category."""
    part: Any = (
        x.to_numpy()
        if isinstance(x, pd.Series)
        else np.searchsorted(np.quantile(x, [1 / 3, 2 / 3]), x)
    )
    frame = pd.DataFrame({"part": part, "squared": residuals**2})
    parts = frame.groupby("part").agg(n=("squared", "size"), residual_sd=("squared", "mean"))
    parts["residual_sd"] = np.sqrt(parts["residual_sd"])
    return parts
