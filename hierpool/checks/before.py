"""What can be said of rows, levels and columns before a model is fitted."""

from __future__ import annotations

from collections.abc import Iterator

from hierpool.core.design import Design
from hierpool.core.findings import Finding

FEW_LEVELS = 5  # below which the prior of an sd speaks louder than the levels (Gelman 2006)


def few_levels(design: Design) -> Iterator[Finding]:
    """Too few levels to tell how much they differ.

    References
    ----------
    Gelman (2006), Bayesian Anal. 1, 515-534, sections 2.2 and 5.2.
    """
    for factor, grouping in design.groupings.items():
        if grouping.n_levels < FEW_LEVELS:
            text = (
                f"{factor} has {grouping.n_levels} levels: how much they differ rests largely on "
                "the priors of the standard deviations."
            )
            yield Finding("few-levels", "warning", text)
