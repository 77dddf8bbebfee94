"""Whether a response is plainly not Gaussian: counts, two or few values, bounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hierpool.core.design import Design
from hierpool.core.findings import Finding
from hierpool.core.text import short

FEW_VALUES = 10  # whole numbers up to which a response is a scale of categories
LOW, SMALL = 3, 30  # least value and mean of whole numbers that are counts, nothing rounded
WIDE = 0.5  # part of 0 to 1 that proportions spread over
PILE, LEAST = 0.05, 5  # share and number of rows on the bound of a response that is cut off


def not_gaussian(design: Design) -> Iterator[Finding]:
    """A response whose values show that it is a count, a category, a proportion or cut off."""
    y, name = design.y, design.spec.response
    values, counts = np.unique(y, return_counts=True)
    whole = bool((values == np.round(values)).all())
    if len(values) == 2:
        yield _binary(name, values)
    elif whole and values[0] >= 0 and values[0] < LOW and y.mean() <= SMALL and _is_count(values):
        yield _count(name, y)
    elif whole and len(values) <= FEW_VALUES and values[0] <= 1:
        yield _ordinal(name, values)
    elif not whole and values[0] >= 0 and values[-1] <= 1 and np.ptp(values) > WIDE:
        yield _proportion(name, values)
    elif not whole and (piled := _piled(values, counts)) is not None:
        yield _cut_off(name, *piled, len(y))


def _is_count(values: np.ndarray) -> bool:
    """Whether whole numbers begin at zero, or go further than a scale of categories does."""
    return bool(values[0] == 0 or len(values) > FEW_VALUES)


def _binary(name: str, values: np.ndarray) -> Finding:
    low, high = (short(v) for v in values)
    return Finding(
        "binary-response",
        "warning",
        f"{name} has two values, {low} and {high}: it is not Gaussian.",
        "Standard errors, predictions and leave-one-out scores are those of a straight line through "
        "zeros and ones. A logistic model fits such data: lme4::glmer(family = binomial), brms or "
        "Bambi with family bernoulli.",
    )


def _count(name: str, y: np.ndarray) -> Finding:
    return Finding(
        "count-response",
        "warning",
        f"{name} looks like a count: whole numbers from {short(y.min())} to {short(y.max())}, mean "
        f"{short(y.mean())}.",
        "The variance of counts grows with their mean, and predictions can fall below zero here. "
        "Use glmmTMB, brms or Bambi with a Poisson or negative binomial family, or model "
        f"sqrt({name}) if it is far from zero.",
    )


def _ordinal(name: str, values: np.ndarray) -> Finding:
    return Finding(
        "few-values",
        "note",
        f"{name} has {len(values)} values, whole numbers from {short(values[0])} to "
        f"{short(values[-1])}.",
        "If they are ordered categories, differences between them need not be equal: the package "
        "ordinal, or brms with family cumulative, does not assume it.",
    )


def _proportion(name: str, values: np.ndarray) -> Finding:
    return Finding(
        "bounded-response",
        "warning",
        f"{name} lies between 0 and 1, from {short(values[0])} to {short(values[-1])}.",
        "A line leaves the bounds, and the variance shrinks near them. Model its logit, or use "
        "glmmTMB or brms with a beta family.",
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
        f"{rows} of {n} values of {name} are {short(bound)}, its end: it seems to be cut off there.",
        "Slopes and standard deviations come out too small where values are cut off. A censored "
        "model, brms with cens(), takes them for what they are.",
    )
