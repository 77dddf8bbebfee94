"""All residual checks of a fit, from one set of simulations."""

from __future__ import annotations

from collections.abc import Iterator

from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.checks.residuals import (
    autocorrelation,
    heteroscedasticity,
    influence,
    mean_structure,
    outliers,
)
from hierpool.checks.residuals.normality import shape
from hierpool.checks.residuals.null_residuals import Replicates
from hierpool.core.findings import Finding
from hierpool.core.fitted import Optimum
from hierpool.core.threads import one_blas_thread

MOST_LEVELS = 5_000  # coefficients of levels of several factors: more would take minutes
MOST_ROWS = 20_000  # more simulations would take seconds
OF_MAKER = (
    outliers.outlying_rows,
    outliers.outlying_levels,
    influence.influential_levels,
    mean_structure.curvature,
    mean_structure.level_means,
)
OF_REPLICATES = (
    mean_structure.coefficients_that_vary,
    heteroscedasticity.by_rows,
    heteroscedasticity.by_levels,
    autocorrelation.over_time,
    shape,
)


def judged(blup: Optimum) -> Iterator[Finding]:
    """Findings about rows, levels, variances and the mean of a fit.

    No pooling has no distribution of levels to hold residuals against and is not judged; nor is a
    fit that failed, or one of several factors with thousands of levels. What needs simulations is
    left out where there are more than 20,000 rows.
    """
    if not can_judge(blup):
        return
    maker = ResidualMaker.from_fit(blup)
    with one_blas_thread():
        found = [f for check in OF_MAKER for f in check(maker)]
        if maker.n <= MOST_ROWS:
            replicates = Replicates.from_residual_maker(maker)
            found += [f for judge in OF_REPLICATES for f in judge(replicates)]
    yield from found


def influential(blup: Optimum) -> Iterator[Finding]:
    """Of these what needs no rows: groups that change a coefficient."""
    if can_judge(blup):
        yield from influence.influential_levels(ResidualMaker.from_fit(blup))


def can_judge(blup: Optimum) -> bool:
    """Whether residuals of a fit have a distribution to be held against, and it is cheap to know."""
    design, rows = blup.design, blup.design.n - len(blup.design.terms)
    columns = sum(g.grouping.n_levels * len(g.terms) for g in design.groups)
    too_large = len(design.groups) > 1 and max(columns, design.n / 10) > MOST_LEVELS
    has_rows = rows >= max(2, len(blup.estimate.relative_covariance_factor))
    is_pooled = design.spec.pooling != "none"
    return bool(is_pooled and has_rows and blup.status.is_trustworthy and not too_large)
