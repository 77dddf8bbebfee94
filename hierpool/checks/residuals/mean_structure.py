"""What the mean of the response leaves out: curvature, level means, coefficients that vary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from hierpool.checks.residuals.null_residuals import WARN_BELOW_P, Replicates, by_level_sums
from hierpool.checks.residuals.residual_maker import ResidualMaker
from hierpool.core.design import Design, Grouping
from hierpool.core.findings import Finding

_NEW = 1e-6  # part of a column that the model's columns leave, below which it says nothing new


def curvature(maker: ResidualMaker) -> Iterator[Finding]:
    """A predictor whose square would explain something.

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
        scale = next(s for name, _, s in tried if name == found.name)
        x = dict(_numbers(maker.design))[found.name]
        bow = found.coefficient * ((np.ptp(x) / 2 / scale) ** 2)
        yield Finding(
            "curvature",
            "warning",
            f"The response is not linear in {found.name}: its square would get a coefficient of "
            f"{found.coefficient / scale**2:.3g} ({found.t:+.1f} standard errors, p = "
            f"{found.p:.2g}), a bow of about {abs(bow):.3g} over its range.",
            f"Lines are the wrong shape, and predictions off at the ends. Add "
            f"I({found.name} ** 2) or bs({found.name}, df=4).",
            evidence=found.table,
        )
        return


def level_means(maker: ResidualMaker) -> Iterator[Finding]:
    """A predictor whose mean over a level would explain something beside its values.

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
            yield Finding(
                "contextual-effect",
                "warning",
                f"Between levels of {factor} the slope on {found.name} differs from that within "
                f"them by {found.coefficient:.3g} ({found.t:+.1f} standard errors, p = "
                f"{found.p:.2g}).",
                f"The model's coefficient of {found.name} mixes the two. Add the mean of "
                f"{found.name} by {factor} as a predictor.",
                evidence=found.table,
            )
            return


def coefficients_that_vary(replicates: Replicates) -> Iterator[Finding]:
    """A coefficient that the model takes for common and that varies over levels.

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
    size = 2 * judged.excess / judged.variance
    sd = maker.sigma * np.sqrt(np.maximum(size, 0)) / [s for _, _, s in tried]
    table = pd.DataFrame(
        {"factor": [f for f, _, _ in tried], "term": [t for _, t, _ in tried]}
        | {"z": judged.z, "sd_about": sd}
    )
    yield Finding(
        "coefficient-varies",
        "warning",
        f"The coefficient of {term} is taken to be the same for all levels of {factor}, and "
        f"differs between them, with an sd of about {sd[judged.which]:.2g} (p = {judged.p:.2g}).",
        f"Its standard error is too small as it is. Let it vary: ({term} | {factor})."
        if term != "Intercept"
        else f"Rows of a level are alike, and count as if they were not: (1 | {factor}).",
        evidence=table,
    )


@dataclass(frozen=True)
class Scored:
    """One column that would explain something.

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
    sd = np.broadcast_to(maker.rows.sd, (maker.n,))
    C = np.column_stack([column for _, column in tried]) / sd[:, None]
    centred = C - C.mean(axis=0)
    kept = np.einsum("nm,nm->m", C, maker.residuals(C))
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
