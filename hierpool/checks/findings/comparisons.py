"""Whether fits can be compared, and how uncertain the comparison is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hierpool.checks.accuracy.comparison import check_comparable
from hierpool.checks.accuracy.loo import ScoredLOO
from hierpool.core.errors import ComparisonError
from hierpool.core.findings import Finding
from hierpool.core.fitted import Posterior
from hierpool.core.group_nouns import called, nouns
from hierpool.core.text import sentence

FEW_ROWS = 100  # below which the error of a difference of elpd is rough (Sivula et al. 2020)
LARGE_GAP = 0.5  # between posterior mean and BLUP, in posterior sds


def scores(fits: Mapping[str, Posterior], said: Iterable[str]) -> Iterator[Finding]:
    """Warnings of the scores, and whether their standard errors are rough.

    References
    ----------
    Sivula, Magnusson, Matamoros, Vehtari (2020), arXiv:2008.10296.
    """
    known = {fit.fallback for fit in fits.values() if fit.fallback}
    for text in dict.fromkeys(said):
        if not any(reason in text for reason in known):
            yield Finding("comparison", "warning", sentence(text))
    n = next(iter(fits.values())).design.n
    if n < FEW_ROWS:
        text = f"With {n} observations the standard errors of differences in elpd are rough."
        meaning = "Rely on large differences only."
        yield Finding("few-rows", "note", text, meaning)


def not_comparable(fits: Mapping[str, Posterior]) -> Iterator[Finding]:
    """Fits of different rows or responses; those of sums are taken together or by group."""
    try:
        check_comparable(fits, side_by_side=False)
    except ComparisonError as error:
        meaning = "Neither elpd nor likelihoods of these fits can be compared."
        yield Finding("not-comparable", "problem", sentence(error.message), meaning)


def posterior_and_blups(table: pd.DataFrame) -> Iterator[Finding]:
    """The largest difference between posterior mean and BLUP, if it is large."""
    if table.empty:
        return
    gap = (table["difference"].abs() / table["posterior_sd"]).dropna()
    if len(gap) and gap.max() > LARGE_GAP:
        worst: Any = gap.idxmax()
        factor, level, term = worst
        text = (
            f"Posterior means and BLUPs differ by up to {gap.max():.2f} posterior sds "
            f"({term} of {called(factor, level)})."
        )
        meaning = (
            "Estimates of groups depend on the method. hp.compare_blups(fit, reml) shows how much is "
            "due to the prior of the fixed effects and how much to the standard deviations."
        )
        worst_first = table.loc[gap.sort_values(ascending=False).index[:10]]
        yield Finding("posterior-differs-from-blups", "note", text, meaning, evidence=worst_first)


def cost_of_dropping(larger: ScoredLOO, smaller: ScoredLOO, name: str, factor: str) -> str:
    """Loss in predicting left-out groups with the smaller model, in a sentence.

    Parameters
    ----------
    larger, smaller
        Scores of leaving out each level of one factor: ``fit.loo(factor)``.
    name
        Of the smaller model.
    factor
        Whose groups were left out.
    """
    differences = np.asarray(larger.elpd_i) - np.asarray(smaller.elpd_i)
    lost = float(differences.sum())
    error = float(np.sqrt(len(differences)) * differences.std())  # as in the table of az.compare
    way = "lower" if lost > 0 else "higher"
    return (
        f"Without it ({name}), the elpd of new {nouns(factor)} is {way} by {abs(lost):.1f} "
        f"(standard error {error:.1f})."
    )
