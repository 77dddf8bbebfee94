"""Rows of a 0/1 or binomial response that a predictor, or a group without pooling, decides alone.

References
----------
Albert, Anderson (1984), Biometrika 71, 1-10.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hierpool.core.design import Design
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import nouns

FEWEST = 3  # rows of one kind from which a finding is made


def separated(design: Design) -> Iterator[Finding]:
    """A column that tells the events apart, and groups of no pooling that are all alike."""
    family = design.family
    if family is None or family.name not in ("bernoulli", "binomial"):
        return
    none, every = design.y == 0, design.y == design.trials
    for k, term in enumerate(design.terms):
        column = design.X[:, k]
        text = _of_two_values(term, column, (none, every)) if np.ptp(column) > 0 else ""
        if not text and np.ptp(column) > 0 and (none | every).all():
            text = _of_number(design, term, column, none)
        if text:
            yield Finding(
                "separation",
                "warning",
                text,
                f"The likelihood has no maximum in {term}: its estimate and interval rest on the prior. "
                "Say that the effect is large, not how large, or give an informative prior.",
            )
    yield from _alone(design, none, every)


def _of_two_values(term: str, column: np.ndarray, alike: tuple[np.ndarray, np.ndarray]) -> str:
    values = np.unique(column)
    if len(values) != 2:
        return ""
    for value in values:
        rows = column == value
        for word, same in zip(("no events", "nothing but events"), alike, strict=True):
            if rows.sum() >= FEWEST and same[rows].all():
                return f"The {rows.sum()} rows where {term} is {value:g} have {word}."
    return ""


def _of_number(design: Design, term: str, column: np.ndarray, none: np.ndarray) -> str:
    with_event, without = column[~none], column[none]
    if min(len(with_event), len(without)) == 0 or len(np.unique(column)) < FEWEST:
        return ""
    if with_event.min() > without.max() or with_event.max() < without.min():
        return f"{term} alone tells the rows with and without an event of {design.spec.response} apart."
    return ""


def _alone(design: Design, none: np.ndarray, every: np.ndarray) -> Iterator[Finding]:
    """Groups of no pooling without an event, or with nothing else."""
    if design.spec.pooling != "none":
        return
    for group in design.groups:
        codes, J = group.grouping.codes, group.grouping.n_levels
        rows = np.bincount(codes, minlength=J)
        counts = [int((np.bincount(codes[a], minlength=J) == rows).sum()) for a in (none, every)]
        if sum(counts):
            yield Finding(
                "separation",
                "note",
                f"{sum(counts)} of {J} {nouns(group.factor)} have no events ({counts[0]}) or nothing "
                f"but events ({counts[1]}).",
                "Without pooling their own estimates rest on the prior alone. Use partial pooling.",
            )
