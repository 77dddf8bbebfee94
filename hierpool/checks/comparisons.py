"""Whether fits can be compared, and what the comparison is worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from hierpool.core.findings import Finding

FEW_ROWS = 100  # below which the error of a difference of elpd is rough (Sivula et al. 2020)
LARGE_GAP = 0.5  # between posterior mean and BLUP, in posterior sds


def scores(fits: Mapping[str, Any], said: Iterable[str]) -> Iterator[Finding]:
    """What was said while the scores were made, and how rough their errors are.

    References
    ----------
    Sivula, Magnusson, Matamoros, Vehtari (2020), arXiv:2008.10296.
    """
    told = {str(fit.info.get("reason")) for fit in fits.values() if fit.info.get("reason")}
    for text in dict.fromkeys(said):
        if not any(reason in text for reason in told):
            yield Finding("comparison", "warning", f"{text.rstrip('.')}.")
    n = next(iter(fits.values())).design.n
    if n < FEW_ROWS:
        text = f"With {n} rows the standard errors of differences in elpd are rough."
        yield Finding("few-rows", "note", text)


def posterior_and_blups(table: pd.DataFrame) -> Iterator[Finding]:
    """The widest gap between posterior mean and BLUP, where it is wide: of ``hp.compare_blups``."""
    gap = (table["difference"].abs() / table["posterior_sd"]).dropna()
    if len(gap) and gap.max() > LARGE_GAP:
        worst: Any = gap.idxmax()
        factor, level, term = worst
        text = (
            f"Posterior means and BLUPs differ by up to {gap.max():.2f} posterior sds "
            f"({term} of {factor} {level}); compare_blups says how much is due to the priors."
        )
        yield Finding("posterior-differs-from-blups", "note", text)
