"""Residual variance that is not constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from hierpool.checks.residuals.null_residuals import SEED, WARN_BELOW_P, Replicates
from hierpool.core.design import Grouping
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import nouns
from hierpool.core.labels import as_shown

MOST_CATEGORIES = 20  # of a predictor whose categories are compared
NOTEWORTHY = 1.4  # ratio of residual sds from which it is said: variances that differ twofold
FEWEST_GROUPS = 5  # whose residual sds are compared
PERMUTATIONS = 999
_TENTH = 1.28  # sds of a normal distribution that cut off a tenth on either side
FITTED = "the fitted values"
_SHOWN = 5  # levels in the evidence


def by_rows(replicates: Replicates) -> Iterator[Finding]:
    """Residual variance that grows or falls with fitted values or a predictor.

    Fitted values are those of each row by all others: its own residual is a part of a fitted value,
    so that skewed residuals would be larger where those are. The statistics are correlations of
    absolute standardised residuals with each (roots of R2 for categories), which heavy tails do not
    upset; the most unusual is judged by that of simulated responses.

    References
    ----------
    Glejser (1969), J. Am. Stat. Assoc. 64, 316-323.  Koenker (1981), J. Econom. 17, 107-112.
    """
    size = np.abs(replicates.standardised)
    names, columns = [], []
    fitted = replicates.left_out
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
    ratio = parts["residual_sd"].max() / max(parts["residual_sd"].min(), np.finfo(float).tiny)
    if ratio < NOTEWORTHY or by_chance(x, size[:, 0]) >= WARN_BELOW_P:
        return
    if isinstance(x, pd.Series):
        parts = parts.sort_values("residual_sd")
    first, last = parts.iloc[0], parts.iloc[-1]
    where = [f"for {k}" for k in (parts.index[0], parts.index[-1])]
    if not isinstance(x, pd.Series):
        where = ["in their lowest third", "in their highest third"]
        where = where if name == FITTED else [w.replace("their", "its") for w in where]
    parts.attrs["column"] = name
    yield Finding(
        "unequal-variance",
        "warning",
        f"The residual sd depends on {name} (p = {judged.p:.2g}): {first['residual_sd']:.3g} "
        f"{where[0]}, {last['residual_sd']:.3g} {where[1]}.",
        "Intervals are too wide for some observations and too narrow for others.",
        evidence=parts,
    )


def by_chance(x: np.ndarray | pd.Series, size: np.ndarray) -> float:
    """Probability that sizes (rows,) in any other order go with x as closely.

    Heavy tails widen the null distribution, and the simulated responses have none.
    """
    rng = np.random.default_rng(SEED)
    shuffled = np.column_stack([size, *(rng.permutation(size) for _ in range(PERMUTATIONS))])
    if isinstance(x, pd.Series):
        found = _explained(pd.get_dummies(x).to_numpy(dtype=float), shuffled)
    else:
        found = np.abs(_correlations(x[:, None], shuffled))
    return float((1 + (found[1:] >= found[0]).sum()) / len(found))


def by_levels(replicates: Replicates) -> Iterator[Finding]:
    """Residual variance that differs between groups by more than their few rows explain.

    The statistic is the variance of the mean absolute standardised residuals between groups, as in
    Levene's F; what simulated responses leave of it says how far the groups' sds are apart.

    References
    ----------
    Levene (1960), in Contributions to Probability and Statistics, 278-292.
    """
    kept, size = replicates.kept, np.abs(replicates.standardised)
    for grouping in replicates.maker.design.groupings.values():
        codes = grouping.codes[kept]
        counts = np.bincount(codes, minlength=grouping.n_levels)
        known = counts >= 2
        if known.sum() < FEWEST_GROUPS:
            continue
        between = _between(codes, counts, size)
        judged = replicates.judge((between / size.var(axis=0))[:, None], one_sided=True)
        spread = _spread(judged.excess[0] * size[:, 0].var(), size[:, 0])
        low, high = (float(np.exp(z * spread)) for z in (-_TENTH, _TENTH))
        if judged.p >= WARN_BELOW_P or high / low < NOTEWORTHY:
            continue
        rng = np.random.default_rng(SEED)
        shuffled = np.column_stack([rng.permutation(size[:, 0]) for _ in range(PERMUTATIONS)])
        by_chance = _between(codes, counts, shuffled) >= between[0]
        if (1 + by_chance.sum()) / (1 + PERMUTATIONS) >= WARN_BELOW_P:
            continue
        parts = _by_level(replicates, grouping, codes, counts)
        parts.attrs["factor"] = grouping.factor
        middle = replicates.maker.sigma * np.exp(-(spread**2))  # sigma^2 is a mean of squares
        yield Finding(
            "unequal-variance-of-levels",
            "warning",
            f"The residual sd differs between {nouns(grouping.factor)} (p = {judged.p:.2g}): below "
            f"about {low * middle:.2g} in a tenth of them and above about {high * middle:.2g} in another "
            "tenth, chance allowed for.",
            f"Noisy {nouns(grouping.factor)} are shrunk too little, and the others too much; do not rely "
            "on the intervals of single ones.",
            evidence=parts,
        )


def _between(codes: np.ndarray, counts: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Shape (m,): rows times squared distance of the means of sizes (rows, m), summed over groups."""
    several = counts >= 2
    sums = sparse.csr_array(
        (np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(len(counts), len(codes))
    )
    means = (sums @ size)[several] / counts[several, None]
    return np.asarray(counts[several] @ (means - size.mean(axis=0)) ** 2)


def _spread(excess: float, size: np.ndarray) -> float:
    """Sd of the log of the groups' residual sds, from the excess of what is between them."""
    return float(np.sqrt(max(excess, 0.0) / len(size)) / size.mean())


def _by_level(
    replicates: Replicates, grouping: Grouping, codes: np.ndarray, counts: np.ndarray
) -> pd.DataFrame:
    """Residual sds of the groups with the highest and the lowest, as observed."""
    squares = np.bincount(codes, replicates.standardised[:, 0] ** 2, grouping.n_levels)
    sd = replicates.maker.sigma * np.sqrt(squares / np.maximum(counts, 1))
    index = pd.Index(grouping.levels, name=grouping.factor)
    table = pd.DataFrame({"n": grouping.n_rows, "residual_sd": sd}, index=index)[counts >= 2]
    table = table.sort_values("residual_sd", ascending=False)
    return pd.concat([table[:_SHOWN], table[_SHOWN:].tail(_SHOWN)])


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
