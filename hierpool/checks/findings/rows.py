"""Findings about rows, groups and columns before a model is fitted."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from hierpool.core.design import Design, GroupDesign, Grouping
from hierpool.core.errors import listed
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import called, counted, nouns
from hierpool.core.text import short

FEW_LEVELS = 5  # below which the prior of an sd dominates (Gelman 2006)
FAR_FROM_ZERO = 10.0  # widths of a predictor's range from which zero is an absurd place to be at
FAR_FOR_PARTS = 1.0  # the same where the model itself depends on the place of zero
_NO_COLUMNS = frozenset({"I", "T", "C", "poly", "bs", "cr", "center", "scale", "log", "sqrt"})
THIN = 1 / 3  # part of the groups that are thin from which it is said
INFLATED = 10.0  # variance inflation from which predictors are entangled (Marquardt 1970)


def few_levels(design: Design) -> Iterator[Finding]:
    """Too few groups to estimate how much they differ.

    References
    ----------
    Gelman (2006), Bayesian Anal. 1, 515-534, sections 2.2 and 5.2.
    """
    for factor, grouping in design.groupings.items():
        if grouping.n_levels < FEW_LEVELS:
            text = (
                f"There are only {counted(grouping.n_levels, factor)}, too few to estimate well how "
                "much they differ."
            )
            meaning = (
                "Shrinkage and predictions of new groups depend on the priors of the standard "
                f"deviations. hp.sensitivity(fit) shows how much. Consider {factor} as a fixed "
                "effect."
            )
            yield Finding("few-levels", "warning", text, meaning)


def thin_levels(design: Design) -> Iterator[Finding]:
    """Groups with fewer rows than varying coefficients."""
    if not design.residual.has_sigma:
        return
    for group in design.groups:
        q, grouping = len(group.terms), group.grouping
        thin = grouping.levels[grouping.n_rows < q]
        several = (grouping.n_rows[grouping.n_rows < q] > 1).any()  # of one row: a notice
        if len(thin) >= THIN * grouping.n_levels and several:
            text = (
                f"{len(thin)} of {counted(grouping.n_levels, group.factor)} have fewer observations "
                f"than the {q} varying coefficients: {listed(thin)}."
            )
            meaning = (
                f"Their coefficients come mostly from the other {nouns(group.factor)}. No pooling "
                "rests on the prior for some of them."
            )
            rows = pd.Series(grouping.n_rows, index=grouping.levels, name="rows")
            yield Finding("thin-levels", "note", text, meaning, evidence=rows.loc[thin].to_frame())


def slopes_of_few_levels(design: Design) -> Iterator[Finding]:
    """A varying slope of a predictor that varies within only a few groups."""
    for group in design.groups:
        if not group.is_pooled:
            continue
        varies = _varies_within(group)
        for k, term in enumerate(group.terms):
            if (varies[:, k].all() | ~varies[:, k].any()) or varies[:, k].sum() >= FEW_LEVELS:
                continue
            tell = group.grouping.levels[varies[:, k]]
            text = (
                f"{term} varies within only {len(tell)} of "
                f"{counted(group.grouping.n_levels, group.factor)}: {listed(tell)}. Only these show "
                "how its slope differs."
            )
            meaning = (
                "The sd of this slope depends largely on its prior. Consider one common slope "
                f"({_without(group, term)})."
            )
            yield Finding("slope-of-few-levels", "warning", text, meaning)


def _without(group: GroupDesign, term: str) -> str:
    return f"without {term} | {group.factor}"


def _varies_within(group: GroupDesign) -> np.ndarray:
    """Shape (groups, q): whether a column has more than one value within the group."""
    codes, J = group.grouping.codes, group.grouping.n_levels
    low, high = np.full((J, len(group.terms)), np.inf), np.full((J, len(group.terms)), -np.inf)
    np.minimum.at(low, codes, group.Z)
    np.maximum.at(high, codes, group.Z)
    return np.asarray(high > low)


def far_from_zero(design: Design) -> Iterator[Finding]:
    """A predictor with a varying slope and zero far outside its range.

    REML, ML and the default priors do not depend on where zero is, except with ``||``.
    """
    for group in design.groups:
        if not group.is_pooled:
            continue
        intercept = next((t for k, t in enumerate(group.terms) if np.ptp(group.Z[:, k]) == 0), None)
        apart = any(not block.covariance.keeps_its_form for block in group.blocks)
        apart = apart or len(group.blocks) > 1
        for k, term in enumerate(group.terms):
            low, high = group.Z[:, k].min(), group.Z[:, k].max()
            if (
                intercept is not None
                and high > low
                and max(low, -high) > (FAR_FOR_PARTS if apart else FAR_FROM_ZERO) * (high - low)
            ):
                yield _far(term, group.factor, low, high, apart)


def _far(term: str, factor: str, low: float, high: float, apart: bool) -> Finding:
    text = f"{term} runs from {short(low)} to {short(high)}, so zero is far outside the data."
    if apart:
        meaning = (
            f"`||` assumes that intercepts at {term} = 0 and slopes are uncorrelated. Centre {term}, "
            "or estimate the correlation."
        )
        return Finding("far-from-zero", "warning", text, meaning)
    meaning = (
        f"The sd of the intercept and its correlation with the slope refer to {term} = 0. Centre "
        f"{term} to interpret them; fit and predictions do not change."
    )
    return Finding("far-from-zero", "note", text, meaning)


def collinear(design: Design) -> Iterator[Finding]:
    """Predictors that are nearly collinear; interactions and powers are left aside.

    References
    ----------
    Marquardt (1970), Technometrics 12, 591-612 (a variance inflated tenfold).
    """
    moving = [k for k in range(len(design.terms)) if np.ptp(design.X[:, k]) > 0]
    lone = _lone([design.terms[k] for k in moving])
    kept = [k for k in moving if design.terms[k] in lone]
    if len(kept) < 2 or design.spec.pooling == "none":
        return
    inflated = _inflation(design.X[:, kept])
    table = pd.DataFrame({"inflation": inflated}, index=[design.terms[k] for k in kept])
    high = table[table["inflation"] > INFLATED].sort_values("inflation", ascending=False)
    if high.empty:
        return
    names = ", ".join(f"{t} {v:.0f}" for t, v in high["inflation"].head(3).items())
    text = f"Predictors are nearly collinear. Variance inflation factors: {names}."
    meaning = (
        "Their separate coefficients are uncertain and depend on their priors. Predictions near the "
        "data are fine. Keep one of the predictors, or combine them."
    )
    yield Finding("near-collinear", "warning", text, meaning, evidence=table)


def _inflation(columns: np.ndarray) -> np.ndarray:
    """Variance inflation factor of each column: diagonal of the inverse correlation matrix."""
    centred = columns - columns.mean(axis=0)
    _, R = np.linalg.qr(centred / np.linalg.norm(centred, axis=0))
    inverse = np.linalg.solve(R, np.eye(len(R)))
    return np.asarray((inverse**2).sum(axis=1))


def _lone(terms: list[str]) -> list[str]:
    """Terms that no other is built from: without interactions, powers and dummies of one category.

    Those are collinear by themselves, which is nothing to mend.
    """
    words = {t: set(re.findall(r"[^\W\d][\w.]*", t)) - _NO_COLUMNS for t in terms if ":" not in t}
    return [
        t
        for t, own in words.items()
        if t.isidentifier() or not any(own & other for u, other in words.items() if u != t)
    ]


def imbalance(design: Design) -> Iterator[Finding]:
    """A few groups with most of the rows."""
    for factor, grouping in design.groupings.items():
        effective = _effective_levels(grouping)
        if grouping.n_levels >= FEW_LEVELS and effective < FEW_LEVELS:
            largest = int(grouping.n_rows.argmax())
            share = grouping.n_rows[largest] / design.n
            text = (
                f"A few {nouns(factor)} have most of the observations: "
                f"{called(factor, grouping.levels[largest])} has {100 * share:.0f} %."
            )
            meaning = (
                f"Complete pooling and leave-one-out by row describe mostly the largest {nouns(factor)}. "
                'To weight all equally, use hp.compare(fits, by="group").'
            )
            rows = pd.DataFrame({"rows": grouping.n_rows}, index=grouping.levels)
            ordered = rows.sort_values("rows", ascending=False)
            yield Finding("imbalance", "warning", text, meaning, evidence=ordered)


def _effective_levels(grouping: Grouping) -> float:
    """Effective number of groups: the inverse of Simpson's index."""
    shares = grouping.n_rows / grouping.n_rows.sum()
    return float(1 / (shares**2).sum())
