"""Which of many slopes a study starts from: those that vary most by REML, each tried alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hierpool.bayes.quadrature.limits import LARGEST_EFFECTS
from hierpool.core.design import Design
from hierpool.core.errors import HierpoolError
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import nouns
from hierpool.core.spec import Spec
from hierpool.core.text import joined
from hierpool.formula import pooling
from hierpool.formula.build import CellRows, CompleteRows, encode
from hierpool.formula.function_calls import quote
from hierpool.model import best_optimum

Screened = tuple[tuple[str, ...], tuple[str, ...]]
"""The slopes to start from, and those left out."""
MOST_SLOPES = 3  # columns of slopes that vary together: ten variances and covariances
SUPPORTED = 0.71  # deviance: p = 0.2 of half a chi-squared with one degree of freedom


def is_counted(spec: Spec, rows: object) -> bool:
    """Whether rows that are alike are counted: a sampler of single rows would take too long."""
    return isinstance(rows, CellRows) and spec.family is not None


def most_columns(design: Design, factor: str) -> int:
    """How many columns of slopes to start from: with the intercept two rows a group for each."""
    rows = float(np.median(design.groupings[factor].n_rows))
    return int(np.clip(rows // 2 - 1, 1, MOST_SLOPES))


def screened(
    spec: Spec, rows: CompleteRows | CellRows, factor: str, slopes: tuple[str, ...]
) -> Screened:
    """The slopes to start from, and those left out; all where they are few.

    Each slope is fitted alone beside the intercept, uncorrelated, by REML. Those with the largest
    gain in log-likelihood stay, as many as ``most_columns``, if the gain has p below 0.2 (half
    chi-squared); the best one always stays. Of counts of rows that are alike as many stay as the exact
    engine takes.
    """
    intercept = encode(pooling.varying_intercept_spec(spec, factor), rows)
    limit = LARGEST_EFFECTS - 1 if is_counted(spec, rows) else MOST_SLOPES
    most = min(most_columns(intercept, factor), limit)
    if len(slopes) <= 1:
        return slopes, ()
    alone: dict[str, Design] = {}
    for slope in slopes:
        made = pooling.varying_slope_spec(spec, rows, factor, [slope], correlated=False)
        alone[slope] = encode(made, rows)
    sizes = {slope: len(each.groups[0].terms) - 1 for slope, each in alone.items()}
    if sum(sizes.values()) <= limit:
        return slopes, ()
    before = _loglik(intercept)
    found = {slope: _loglik(each) for slope, each in alone.items()}
    gains = {s: 2 * (value - before) if value > before else 0.0 for s, value in found.items()}
    kept: list[str] = []
    for slope in sorted(slopes, key=lambda s: -gains[s]):
        is_room = sum(sizes[s] for s in (*kept, slope)) <= most
        if not kept or (is_room and gains[slope] > SUPPORTED):
            kept.append(slope)
    return tuple(s for s in slopes if s in kept), tuple(s for s in slopes if s not in kept)


def _loglik(design: Design) -> float:
    try:
        found = best_optimum(design)
    except HierpoolError:
        return -np.inf
    return -np.inf if found is None else found.loglik


def not_tried(formula: str, found: Mapping[str, Screened], counted: bool = False) -> list[Finding]:
    """A note for each factor that says which slopes were not tried, and how to try them.

    ``counted``: rows that are alike were counted, and the exact engine sets the limit.
    """
    return [
        Finding("slopes-not-tried", "note", *_words(formula, factor, *each, counted))
        for factor, each in found.items()
        if each[1]
    ]


def _words(
    formula: str, factor: str, stays: tuple[str, ...], slopes: tuple[str, ...], counted: bool
) -> tuple[str, str]:
    kept = joined(stays)
    slope, those = ("slope", "it") if len(slopes) == 1 else ("slopes", "them")
    why = f"The rows are too few to let every slope vary between {nouns(factor)}."
    how, longer = "REML", "which takes longer"
    if counted:
        why = (
            f"The exact engine takes at most {LARGEST_EFFECTS - 1} slopes that vary between "
            f"{nouns(factor)} of a response that is not Gaussian."
        )
        how, longer = "maximum likelihood", "with NUTS, which takes hours for a large table"
    return (
        f"{why} Fitted one by one "
        f"by {how}, that of {kept} varies most; the {slope} of {joined(slopes)} did not enter.",
        f"To try {those} too, {longer}, name the random effects: "
        f"hp.study('{with_all(formula, factor, (stays, slopes))}', data).",
    )


def with_all(formula: str, factor: str, found: Screened) -> str:
    """The question with every slope among its random effects."""
    return f"{formula} + ({' + '.join(['1', *found[0], *found[1]])} | {quote(factor)})"


def not_fitted(
    formula: str, found: Mapping[str, Screened], counted: bool = False
) -> dict[str, str]:
    """Formula -> why it was not fitted."""
    why = "the exact engine does not take" if counted else "the rows are too few for"
    return {
        with_all(formula, factor, each): f"{why} the slopes of {joined(each[1])}"
        for factor, each in found.items()
        if each[1]
    }
