"""Whether a response is clearly not Gaussian: counts, two or few values, bounds."""

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
    """A response that looks like a count, a category, a proportion, or is censored."""
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
        f"{name} has only two values, {low} and {high}.",
        "A Gaussian model does not suit a binary response. Use a logistic model: "
        "lme4::glmer(family = binomial), or brms or Bambi with family bernoulli.",
    )


def _count(name: str, y: np.ndarray) -> Finding:
    return Finding(
        "count-response",
        "warning",
        f"{name} looks like a count: whole numbers from {short(y.min())} to {short(y.max())} with "
        f"mean {short(y.mean())}.",
        "The variance of counts grows with their mean, and this model can predict negative counts. "
        "Use glmmTMB, brms or Bambi with a Poisson or negative binomial family. If the counts are "
        f"large, you can model sqrt({name}).",
    )


def _ordinal(name: str, values: np.ndarray) -> Finding:
    return Finding(
        "few-values",
        "note",
        f"{name} has only {len(values)} different values, whole numbers from {short(values[0])} to "
        f"{short(values[-1])}.",
        "If they are ordered categories, the steps between them need not be equal. The R package "
        "ordinal and brms (family cumulative) do not assume equal steps.",
    )


def _proportion(name: str, values: np.ndarray) -> Finding:
    return Finding(
        "bounded-response",
        "warning",
        f"{name} looks like a proportion: it runs from {short(values[0])} to {short(values[-1])}.",
        "Predictions can leave the range from 0 to 1, and the variance is smaller near its ends. "
        "Model the logit, or use glmmTMB or brms with a beta family.",
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
