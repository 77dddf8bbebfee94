"""What can be said of rows, levels and columns before a model is fitted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hierpool.core.design import Design, GroupDesign, Grouping
from hierpool.core.errors import listed
from hierpool.core.findings import Finding
from hierpool.core.text import short

FEW_LEVELS = 5  # below which the prior of an sd speaks louder than the levels (Gelman 2006)
FAR_FROM_ZERO_RANGES = 1.0  # widths of a predictor's range that zero lies outside of it
INFLATED = 10.0  # variance inflation from which predictors are entangled (Marquardt 1970)


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
            meaning = (
                "Shrinkage and predictions of new levels depend on those priors; hp.sensitivity(fit) "
                f"says how much. With so few, {factor} as a fixed effect is an alternative."
            )
            yield Finding("few-levels", "warning", text, meaning)


def thin_levels(design: Design) -> Iterator[Finding]:
    """Levels with fewer rows than coefficients that vary."""
    if not design.residual.has_sigma:
        return
    for group in design.groups:
        q, grouping = len(group.terms), group.grouping
        thin = grouping.levels[grouping.n_rows < q]
        if len(thin) and (grouping.n_rows[grouping.n_rows < q] > 1).any():  # of one row: a notice
            text = (
                f"{len(thin)} of {grouping.n_levels} levels of {group.factor} have fewer rows than "
                f"the {q} coefficients that vary: {listed(thin)}."
            )
            meaning = (
                "Their own coefficients come mostly from the other levels; no pooling has only its "
                "prior for some of them."
            )
            rows = pd.Series(grouping.n_rows, index=grouping.levels, name="rows")
            yield Finding("thin-levels", "note", text, meaning, evidence=rows.loc[thin].to_frame())


def slopes_of_few_levels(design: Design) -> Iterator[Finding]:
    """A slope that varies over levels, of a predictor that varies within few of them."""
    for group in design.groups:
        if not group.is_pooled:
            continue
        varies = _varies_within(group)
        for k, term in enumerate(group.terms):
            if (varies[:, k].all() | ~varies[:, k].any()) or varies[:, k].sum() >= FEW_LEVELS:
                continue
            tell = group.grouping.levels[varies[:, k]]
            text = (
                f"{term} varies within {len(tell)} of {group.grouping.n_levels} levels of "
                f"{group.factor}: {listed(tell)}. How its slope differs between levels rests on "
                "these."
            )
            meaning = (
                "The sd of that slope rests largely on its prior; a model with one slope for all "
                f"levels ({_without(group, term)}) asks less of the data."
            )
            yield Finding("slope-of-few-levels", "warning", text, meaning)


def _without(group: GroupDesign, term: str) -> str:
    return f"without {term} | {group.factor}"


def _varies_within(group: GroupDesign) -> np.ndarray:
    """Shape (levels, q): whether a column has more than one value within the level."""
    codes, J = group.grouping.codes, group.grouping.n_levels
    low, high = np.full((J, len(group.terms)), np.inf), np.full((J, len(group.terms)), -np.inf)
    np.minimum.at(low, codes, group.Z)
    np.maximum.at(high, codes, group.Z)
    return np.asarray(high > low)


def far_from_zero(design: Design) -> Iterator[Finding]:
    """A predictor with a slope that varies, and zero far outside its range.

    REML, ML and the default priors are unmoved by where zero is, unless bars are uncorrelated.
    """
    for group in design.groups:
        if not group.is_pooled:
            continue
        intercept = next((t for k, t in enumerate(group.terms) if np.ptp(group.Z[:, k]) == 0), None)
        apart = any(block.covariance == "uncorrelated" for block in group.blocks)
        apart = apart or len(group.blocks) > 1
        for k, term in enumerate(group.terms):
            low, high = group.Z[:, k].min(), group.Z[:, k].max()
            if (
                intercept is not None
                and high > low
                and max(low, -high) > FAR_FROM_ZERO_RANGES * (high - low)
            ):
                yield _far(term, group.factor, low, high, apart)


def _far(term: str, factor: str, low: float, high: float, apart: bool) -> Finding:
    text = f"{term} runs from {short(low)} to {short(high)}, far from zero."
    if apart:
        meaning = (
            f"Uncorrelated bars say that intercepts at {term} = 0 and slopes are unrelated, far from "
            f"where the data are: another zero is another model. Centre {term}, or let them correlate."
        )
        return Finding("far-from-zero", "warning", text, meaning)
    meaning = (
        f"The sd of the intercept between levels of {factor} is that of their lines at {term} = 0, "
        "and its correlation with the slope follows from that. Fit and predictions do not depend "
        f"on it; centre {term} to read them."
    )
    return Finding("far-from-zero", "note", text, meaning)


def collinear(design: Design) -> Iterator[Finding]:
    """Population predictors that are nearly combinations of the others.

    References
    ----------
    Marquardt (1970), Technometrics 12, 591-612 (a variance inflated tenfold).
    """
    moving = [k for k in range(len(design.terms)) if np.ptp(design.X[:, k]) > 0]
    if len(moving) < 2 or design.spec.pooling == "none":
        return
    inflated = _inflation(design.X[:, moving])
    table = pd.DataFrame({"inflation": inflated}, index=[design.terms[k] for k in moving])
    high = table[table["inflation"] > INFLATED].sort_values("inflation", ascending=False)
    if high.empty:
        return
    shared = _share_a_column([str(term) for term in high.index])
    names = ", ".join(f"{t} ({v:.0f} times)" for t, v in high["inflation"].head(4).items())
    text = f"Predictors are nearly collinear: the variances of {names} are inflated by the others."
    meaning = (
        "That is how powers and interactions are; centre their predictors, and read them together."
        if shared
        else "Their separate coefficients are hardly told apart, and rest on their priors; their sum "
        "and predictions near the data are fine. Keep one of them, or a combination."
    )
    severity = "note" if shared else "warning"
    yield Finding("near-collinear", severity, text, meaning, evidence=table)  # type: ignore[arg-type]


def _inflation(columns: np.ndarray) -> np.ndarray:
    """Variance inflation factor of each column: diagonal of the inverse correlation matrix."""
    centred = columns - columns.mean(axis=0)
    _, R = np.linalg.qr(centred / np.linalg.norm(centred, axis=0))
    inverse = np.linalg.solve(R, np.eye(len(R)))
    return np.asarray((inverse**2).sum(axis=1))


def _share_a_column(terms: list[str]) -> bool:
    """Whether each term is built from what another is built from too: x and x:z, x and I(x ** 2)."""
    words = [set("".join(c if c.isalnum() or c in "_." else " " for c in t).split()) for t in terms]
    words = [w - {"I", "poly", "bs", "cr", "1", "2", "3"} for w in words]
    return all(any(w & other for other in words if other is not w) for w in words)


def imbalance(design: Design) -> Iterator[Finding]:
    """Levels of which a few have nearly all rows."""
    for factor, grouping in design.groupings.items():
        effective = _effective_levels(grouping)
        if grouping.n_levels >= FEW_LEVELS and effective < FEW_LEVELS:
            largest = int(grouping.n_rows.argmax())
            share = grouping.n_rows[largest] / design.n
            text = (
                f"Levels of {factor} are far from equal: {grouping.levels[largest]} has "
                f"{grouping.n_rows[largest]} of {design.n} rows ({100 * share:.0f} %), and all "
                f"{grouping.n_levels} weigh like {effective:.1f} equal ones."
            )
            meaning = (
                "Complete pooling, and scores of left-out rows, speak of the largest levels; for "
                'what holds for a level see hp.compare(fits, by="group").'
            )
            rows = pd.DataFrame({"rows": grouping.n_rows}, index=grouping.levels)
            ordered = rows.sort_values("rows", ascending=False)
            yield Finding("imbalance", "warning", text, meaning, evidence=ordered)


def _effective_levels(grouping: Grouping) -> float:
    """Number of equal levels with the same chance that two rows share one (Simpson's index)."""
    shares = grouping.n_rows / grouping.n_rows.sum()
    return float(1 / (shares**2).sum())
