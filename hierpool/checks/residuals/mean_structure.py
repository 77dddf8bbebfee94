"""Terms missing from the mean: curvature, group means, coefficients that vary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from hierpool.algebra.correlated.residuals import normalised
from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.checks.residuals.autocorrelation import time_of
from hierpool.checks.residuals.null_residuals import WARN_BELOW_P, Replicates, by_level_sums
from hierpool.core.design import Design, Grouping
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import noun, nouns
from hierpool.core.text import in_backticks, joined

NOTEWORTHY = 0.01  # part of the residual variance that a curve explains
CONTEXTUAL = 0.25  # part of the slope by which the one between groups has to differ
FEWEST_CODES, MOST_CODES = 3, 6  # values of a predictor that may be codes of categories
_NEW = 1e-6  # part of a column that the model's columns leave, below which it says nothing new


def curvature(maker: ResidualMaker) -> Iterator[Finding]:
    """A predictor with a curved effect.

    The score test of one more fixed effect: c'e over the root of its variance c'K c, by Student's
    t, times the number of predictors that are tried.

    References
    ----------
    Cox, Hinkley (1974), Theoretical Statistics, section 9.3.
    """
    tried = []
    for name, x in _numbers(maker.design):
        if len(np.unique(x)) > 2:
            centred = (x - x.mean()) / x.std()
            tried.append((name, centred**2, x.std()))
    for found in scored(maker, [(name, c) for name, c, _ in tried]):
        if found.t**2 / (found.t**2 + maker.df) < NOTEWORTHY:
            return
        scale = next(s for name, _, s in tried if name == found.name)
        x = dict(_numbers(maker.design))[found.name]
        if codes := codes_of(maker.design, found.name):
            yield _numeric_code(maker, found, codes)
            return
        bow = found.coefficient * ((np.ptp(x) / 2 / scale) ** 2)
        yield Finding(
            "curvature",
            "warning",
            f"{maker.design.spec.response} is not linear in {found.name} (p = {found.p:.2g}). Over its "
            f"range the curve departs from a line by about {abs(bow):.3g}.",
            "Straight lines fit badly, and predictions are off at the ends. Add a curve in "
            f"{found.name}, then check again.",
            evidence=found.table,
        )
        return


def codes_of(design: Design, name: str) -> list[int]:
    """Values of a predictor whose numbers may stand for categories; empty where they do not.

    A few whole numbers from 0 or 1 upwards without a gap, which do not order the rows of a group
    in time.
    """
    column = design.frame[name]
    values = np.unique(column.to_numpy(dtype=float))
    first = values[0]
    consecutive = bool(first in (0, 1) and np.array_equal(values, first + np.arange(len(values))))
    is_time = any(time_of(design, grouping) == name for grouping in design.groupings.values())
    if not consecutive or is_time or not FEWEST_CODES <= len(values) <= MOST_CODES:
        return []
    return [int(v) for v in values]


def _numeric_code(maker: ResidualMaker, found: Scored, codes: list[int]) -> Finding:
    """A predictor of few whole numbers whose effect is no line."""
    typed = in_backticks(found.name)
    return Finding(
        "numeric-code",
        "warning",
        f"{found.name} has only the values {joined([str(v) for v in codes])}, and "
        f"{maker.design.spec.response} is not linear in it (p = {found.p:.2g}).",
        f"If they stand for categories, the coefficient of {found.name} has no meaning: type "
        f"C({typed}) in its place. If they are amounts, add I({typed} ** 2).",
        evidence=found.table,
    )


def level_means(maker: ResidualMaker) -> Iterator[Finding]:
    """A predictor whose group means have an effect of their own.

    The slope between levels is then not that within them (a contextual effect), and the model's is
    a mixture of both. The same score test, for the level means.

    References
    ----------
    Neuhaus, Kalbfleisch (1998), Biometrics 54, 638-645.
    """
    for factor, grouping in maker.design.groupings.items():
        tried = []
        for name, x in _numbers(maker.design):
            means = _means(x, grouping)
            if np.ptp(x - means) > 0 and np.ptp(means) > 0:
                tried.append((name, means))
        for found in scored(maker, tried):
            if abs(found.coefficient) < CONTEXTUAL * abs(_slope_on(maker, found.name)):
                continue
            yield Finding(
                "contextual-effect",
                "warning",
                f"The slope on {found.name} between {nouns(factor)} differs from that within "
                f"{nouns(factor)} by {found.coefficient:.3g} (p = {found.p:.2g}).",
                f"The coefficient of {found.name} mixes the two. Add the mean of each {noun(factor)} "
                f"as a predictor: data[{_mean_of(found.name)!r}] = "
                f"data.groupby({_parts(factor)})[{found.name!r}].transform('mean').",
                evidence=found.table,
            )
            return


def _slope_on(maker: ResidualMaker, name: str) -> float:
    """Coefficient of a predictor, zero where it does not stand as it is."""
    design = maker.design
    if name not in design.terms:
        return 0.0
    beta = np.linalg.lstsq(design.X, maker.rows.sd * maker.population)[0]
    return float(beta[design.terms.index(name)])


def _parts(factor: str) -> str:
    """What a data frame is grouped by for a factor, typed."""
    parts = factor.split(":")
    return repr(parts if len(parts) > 1 else factor)


def _mean_of(name: str) -> str:
    """Name of a column for means of a predictor."""
    return f"{name}_mean"


def coefficients_that_vary(replicates: Replicates) -> Iterator[Finding]:
    """A common coefficient that varies between groups.

    The statistic is the sum over levels of squared (z_j'e_j): the score of a variance at zero.

    References
    ----------
    Lin (1997), Biometrika 84, 309-326.
    """
    maker = replicates.maker
    design, sums, tried = maker.design, [], []
    X, noise = maker.coordinates.x.work(design.X), np.broadcast_to(maker.rows.sd, (maker.n,))
    for factor, grouping in design.groupings.items():
        known = {t for g in design.groups if g.factor == factor for t in g.terms}
        for k, term in enumerate(design.terms):
            x = X[:, k]
            inside = x - _means(x, grouping)
            if term in known or (np.ptp(inside) < _NEW * max(np.ptp(x), 1e-300) and np.ptp(x) > 0):
                continue
            column = inside if np.ptp(x) > 0 else x
            w = by_level_sums((column / noise)[:, None], replicates.residuals, grouping)[:, 0]
            sums.append((w**2).sum(axis=0))
            tried.append((factor, term, maker.coordinates.x.scales[k]))
    if not sums:
        return
    judged = replicates.judge(np.column_stack(sums), one_sided=True)
    if judged.p >= WARN_BELOW_P:
        return
    factor, term, _ = tried[judged.which]
    # Score over information at zero: the score is excess / 2 and its variance a quarter of the sums'.
    size = 2 * judged.excess / judged.variance
    sd = maker.sigma * np.sqrt(np.maximum(size, 0)) / [s for _, _, s in tried]
    table = pd.DataFrame(
        {"factor": [f for f, _, _ in tried], "term": [t for _, t, _ in tried]}
        | {"z": judged.z, "sd_about": sd}
    )
    yield Finding(
        "coefficient-varies",
        "warning",
        f"The coefficient of {term} is the same for all {nouns(factor)} in the model, but differs "
        f"between them (sd about {sd[judged.which]:.2g}, p = {judged.p:.2g}).",
        f"Its standard error is too small. Let it vary over {nouns(factor)}."
        if term != "Intercept"
        else f"Observations of the same {noun(factor)} are alike, so standard errors are too small. "
        f"Add a varying intercept, (1 | {factor}).",
        evidence=table,
    )


@dataclass(frozen=True)
class Scored:
    """One column that would improve the fit.

    Attributes
    ----------
    name, coefficient, t, p
        What it would get, in standard errors, and the probability of that among all columns tried.
    table
        The same of every column.
    """

    name: str
    coefficient: float
    t: float
    p: float
    table: pd.DataFrame


def scored(
    maker: ResidualMaker, tried: list[tuple[str, np.ndarray]], rare: float = WARN_BELOW_P
) -> Iterator[Scored]:
    """The most unusual of some columns, if it is rare; columns in the units of the coefficient."""
    if not tried:
        return
    C = normalised(maker.design, np.column_stack([column for _, column in tried]), maker.phi)
    centred = C - C.mean(axis=0)
    kept = np.einsum("nm,nm->m", C, maker.residuals(C))
    # c'K c is what X leaves of the column, and rounding where X already spans it.
    new = kept > _NEW * (centred**2).sum(axis=0)
    score = np.where(new, C.T @ maker.observed, 0.0)
    kept = np.where(new, kept, 1.0)
    squared = score**2 / kept
    if maker.design.residual.has_sigma:
        left = np.maximum(maker.squares - squared, np.finfo(float).tiny) / (maker.df - 1)
        t = np.sign(score) * np.sqrt(squared / left)
        p = 2 * stats.t.sf(np.abs(t), maker.df - 1)
    else:
        t = score / np.sqrt(kept)
        p = 2 * stats.norm.sf(np.abs(t))
    p = np.minimum(1.0, p * len(tried))
    names = [name for name, _ in tried]
    table = pd.DataFrame(
        {"coefficient": score / kept, "t": t, "p": p}, index=pd.Index(names, name="predictor")
    )
    k = int(p.argmin())
    if p[k] < rare:
        yield Scored(names[k], float(score[k] / kept[k]), float(t[k]), float(p[k]), table)


def _numbers(design: Design) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of each numeric predictor that varies."""
    for name in design.predictors:
        column = design.frame[name]
        if name not in design.groupings and pd.api.types.is_numeric_dtype(column):
            values = column.to_numpy(dtype=float)
            if np.ptp(values) > 0:
                yield name, values


def _means(x: np.ndarray, grouping: Grouping) -> np.ndarray:
    """Shape (n,): mean of x over the level of each row."""
    sums = np.bincount(grouping.codes, x, grouping.n_levels)
    return np.asarray((sums / grouping.n_rows)[grouping.codes])
