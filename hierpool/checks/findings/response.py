"""Whether a response is clearly not Gaussian: counts, two or few values, bounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from hierpool.core.design import Design
from hierpool.core.findings import Finding
from hierpool.core.text import short

FEW_VALUES = 10  # whole numbers up to which a response is a scale of categories
ROWS_PER_VALUE = 5  # of few values, or they are few because the rows are
LOW, SMALL = 3, 30  # least value and mean of whole numbers that may be counts
WITHOUT_ZEROS = 10  # the mean of those that have no zero
SKEWED = 0.5  # part of a Poisson distribution's skewness that counts have at least
DISPERSED = 0.5  # variance over mean that counts have at least
WIDE = 0.5  # part of 0 to 1 that proportions spread over
PILE, LEAST = 0.05, 5  # share and number of rows on the bound of a response that is cut off


def not_gaussian(design: Design) -> Iterator[Finding]:
    """A response that looks like a count, a category, a proportion, or is censored."""
    y, name = design.y, design.spec.response
    if design.family is not None:
        return
    values, counts = np.unique(y, return_counts=True)
    whole = bool((values == np.round(values)).all())
    if len(values) == 2:
        yield _binary(name, values)
    elif whole and is_count(y):
        yield _count(name, y)
    elif whole and _is_scale(values, len(y)):
        yield _ordinal(name, values)
    elif not whole and values[0] >= 0 and values[-1] <= 1 and np.ptp(values) > WIDE:
        yield _proportion(name, values)
    elif not whole and (piled := _piled(values, counts)) is not None:
        yield _cut_off(name, *piled, len(y))


def is_count(y: np.ndarray) -> bool:
    """Whether whole numbers behave like counts, and are not a score, an age or a rounded measurement.

    They begin near zero, and at zero unless their mean is small. They have a small mean, a variance
    at least half of it, and a right skew at least half that of a Poisson distribution, 1 / sqrt(mean).
    """
    mean = y.mean()
    most = SMALL if y.min() == 0 else WITHOUT_ZEROS
    if not (0 <= y.min() < LOW and 0 < mean <= most):
        return False
    if len(np.unique(y)) <= FEW_VALUES and y.min() > 0:
        return False  # ratings begin at 1
    return bool(y.var() >= DISPERSED * mean and stats.skew(y) >= SKEWED / np.sqrt(mean))


def _is_scale(values: np.ndarray, n: int) -> bool:
    """Whether there are few values at equal steps from 0 or 1 upwards, each of several rows."""
    steps = np.diff(values)
    return bool(
        len(values) <= FEW_VALUES
        and values[0] in (0, 1)
        and np.ptp(steps) == 0
        and n >= ROWS_PER_VALUE * len(values)
    )


def _binary(name: str, values: np.ndarray) -> Finding:
    low, high = (f"{v:g}" for v in values)
    return Finding(
        "binary-response",
        "warning",
        f"{name} has only two values, {low} and {high}.",
        "A Gaussian model can predict values beyond them, and its intervals do not hold. Use a "
        f"logistic model: {_bernoulli(values)}.",
    )


def _bernoulli(values: np.ndarray) -> str:
    """What to type for a logistic model of two values."""
    if tuple(values) == (0, 1):
        return 'family="bernoulli"'
    return f"family=hp.families.Bernoulli(event={values[1]:g})"


def _count(name: str, y: np.ndarray) -> Finding:
    return Finding(
        "count-response",
        "warning",
        f"{name} looks like a count: whole numbers from {y.min():.0f} to {y.max():.0f} with mean "
        f"{short(y.mean())}, skewed to the right.",
        "The variance of counts grows with their mean, so intervals of this model are wrong, and it "
        'can predict negative counts. Use family="negbinomial", or family="poisson" if the variance is '
        "about the mean.",
    )


def _ordinal(name: str, values: np.ndarray) -> Finding:
    return Finding(
        "few-values",
        "note",
        f"{name} has only {len(values)} different values, whole numbers from {values[0]:.0f} to "
        f"{values[-1]:.0f}.",
        "If they are ordered categories, the steps between them need not be equal, and differences in "
        'means depend on them. family="ordinal" does not assume equal steps.',
    )


def _proportion(name: str, values: np.ndarray) -> Finding:
    return Finding(
        "bounded-response",
        "warning",
        f"{name} looks like a proportion: it runs from {short(values[0])} to {short(values[-1])}.",
        "Predictions can leave the range from 0 to 1, and the variance is smaller near its ends. "
        f"{_share(values)}",
    )


def _share(values: np.ndarray) -> str:
    """What to type for proportions; beta has no place for its ends."""
    if values[0] > 0 and values[-1] < 1:
        return 'Use family="beta"; for successes out of n trials family="binomial".'
    return (
        'If they are successes out of n trials, use family="binomial", "successes / n ~ ...". '
        'family="beta" takes proportions strictly between 0 and 1.'
    )


def _piled(values: np.ndarray, counts: np.ndarray) -> tuple[float, int] | None:
    """The end of the range that rows pile up at, and how many: three times as many as anywhere inside."""
    for end, inside in ((0, counts[1:]), (-1, counts[:-1])):
        if counts[end] >= max(LEAST, PILE * counts.sum()) and counts[end] >= 3 * inside.max():
            return float(values[end]), int(counts[end])
    return None


def _cut_off(name: str, bound: float, rows: int, n: int) -> Finding:
    return Finding(
        "bounded-response",
        "warning",
        f"{name} seems to be censored at {short(bound)}: {rows} of {n} values are equal to it.",
        "Censoring makes slopes and standard deviations too small. Use a censored model, e.g. brms "
        "with cens().",
    )
