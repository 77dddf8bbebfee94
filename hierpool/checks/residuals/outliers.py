"""Outlying rows and groups."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from hierpool.algebra.gaussian import BetaPrior, condition
from hierpool.algebra.moments import Moments, Rows
from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.checks.residuals.null_residuals import LEAST_LEFT, WARN_BELOW_P
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import called, nouns

_SCALES = np.append(np.geomspace(0.03, 1.5, 30), 1.0)  # of standard deviations, without a level
_SHOWN = 10  # rows or levels in the evidence
_RANK = 1e-9  # eigenvalues below this share of the largest are none


def rows(maker: ResidualMaker) -> pd.DataFrame:
    """Each row against what all others predict: columns ``predicted``, ``sd``, ``t``, ``p``.

    y_i less its prediction is e_i / K_ii, with the sd sigma / sqrt(K_ii), sigma without row i: t is
    Student's with rows less columns less one df, standard deviations of the levels given. ``p`` is
    two-sided and times the number of rows.

    References
    ----------
    Cook, Weisberg (1982), Residuals and Influence in Regression, section 2.2.
    """
    K, e, design = maker.diagonal, maker.observed, maker.design
    known = LEAST_LEFT < K
    squared = np.where(known, e**2 / np.where(known, K, 1.0), 0.0)
    p, t, sigma2 = _student(maker, np.sign(e) * np.sqrt(squared))
    scale = np.broadcast_to(maker.rows.sd, (maker.n,))
    left = np.where(known, e / np.where(known, K, 1.0), np.nan)
    columns = {
        "observed": design.y,
        "predicted": design.y - scale * left,
        "sd": scale * np.sqrt(sigma2 / np.where(known, K, np.nan)),
        "t": np.where(known, t, np.nan),
        "p": np.where(known, np.minimum(1.0, p * known.sum()), np.nan),
    }
    table = pd.DataFrame(columns, index=design.rows)
    for factor, grouping in reversed(list(design.groupings.items())):
        table.insert(0, factor, grouping.levels[grouping.codes])
    return table


def _student(
    maker: ResidualMaker, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
    """Two-sided p, t and sigma^2 without the direction, of directions z of the residuals."""
    if not maker.design.residual.has_sigma:
        return 2 * stats.norm.sf(np.abs(z)), z, 1.0
    df = maker.df - 1
    sigma2 = np.maximum(maker.squares - z**2, np.finfo(float).tiny) / df
    t = z / np.sqrt(sigma2)
    return 2 * stats.t.sf(np.abs(t), df), t, sigma2


def levels(maker: ResidualMaker) -> pd.DataFrame:
    """Each level against what all others predict for its coefficients.

    Index (factor, level); ``df``: coefficients that its rows tell; ``F``: mean square of the shift
    that its rows ask for beside the distribution of the levels, over sigma^2 without it; ``p``, by
    the F distribution and times the number of levels. With r_j = Z_j'e_j the sum of squares is
    r_j' (Z_j'K Z_j)^- r_j, the squared Mahalanobis distance of the level.

    References
    ----------
    Christensen, Pearson, Johnson (1992), Technometrics 34, 38-45.
    """
    tables = []
    for f, group in enumerate(maker.design.groups):
        grouping, r = group.grouping, maker.level_sums(f, maker.observed[:, None])[..., 0]
        left, whole = maker.of_levels(f)
        values, vectors = np.linalg.eigh(left)
        plain = np.einsum("jaa->j", whole)
        # Against Z_j'Z_j: Z_j'K Z_j is what V^-1 and X leave of it, down to rounding.
        known = values > _RANK * np.maximum(plain, np.finfo(float).tiny)[:, None]
        along = np.einsum("jab,ja->jb", vectors, r) ** 2
        squares = np.where(known, along / np.where(known, values, 1.0), 0.0).sum(axis=1)
        df = known.sum(axis=1)
        F, p = _fisher(maker, squares, df)
        index = pd.MultiIndex.from_product(
            [[group.factor], grouping.levels], names=["factor", "level"]
        )
        columns = {"n": grouping.n_rows, "df": df, "F": F, "p": np.minimum(1, p * len(p))}
        tables.append(pd.DataFrame(columns, index=index))
    return pd.concat(tables) if tables else pd.DataFrame(columns=["n", "df", "F", "p"])


def _fisher(
    maker: ResidualMaker, squares: np.ndarray, df: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """F and its p for sums of squares of the residuals in so many directions."""
    own = np.maximum(df, 1)
    if not maker.design.residual.has_sigma:
        return squares / own, stats.chi2.sf(squares, own)
    rest = np.maximum(maker.df - own, 1)
    left = np.maximum(maker.squares - squares, np.finfo(float).tiny) / rest
    F = squares / own / left
    return F, np.where(df > 0, stats.f.sf(F, own, rest), 1.0)


def outlying_rows(maker: ResidualMaker) -> Iterator[Finding]:
    """Rows far from their prediction by all others."""
    table = rows(maker).sort_values("p")
    found = table[table["p"] < WARN_BELOW_P]
    if not len(found):
        return
    first = found.iloc[0]  # a row is of one type: its labels would be floats
    of = " of " + ", ".join(called(f, found[f].iloc[0]) for f in maker.design.groupings)
    yield Finding(
        "outlying-row",
        "warning",
        f"Row {found.index[0]}{of if maker.design.groupings else ''} is an outlier "
        f"(p = {first['p']:.2g}){_so_are(len(found) - 1)}. Its {maker.design.spec.response} is "
        f"{first['observed']:.4g}, where the other rows predict {first['predicted']:.4g} (sd "
        f"{first['sd']:.2g}).",
        "Check how it was recorded. Outliers inflate the residual sd and distort the estimates of "
        "their group.",
        evidence=table.head(max(_SHOWN, len(found))),
    )


def _so_are(n: int) -> str:
    """A clause about more of the same; empty where there are none."""
    return f", and so {'is' if n == 1 else 'are'} {n} more" if n else ""


def outlying_levels(maker: ResidualMaker) -> Iterator[Finding]:
    """Groups that do not fit the distribution of the groups."""
    table = levels(maker)
    if not len(table):
        return
    is_alone = len(maker.blocks) == 1 and not maker.apart
    if not (table["p"] < WARN_BELOW_P).any() and is_alone:
        table = _unmasked(maker, table)
    found = table[table["p"] < WARN_BELOW_P].sort_values("p")
    if not len(found):
        return
    factor, level = found.index[0]
    yield Finding(
        "outlying-level",
        "warning",
        f"{called(factor, level, begins=True)} is an outlier among the {nouns(factor)} "
        f"(F = {found['F'].iloc[0]:.3g}, p = {found['p'].iloc[0]:.2g}){_so_are(len(found) - 1)}.",
        f"It is shrunk towards {nouns(factor)} that it does not resemble, and inflates their standard "
        "deviation. Fit without it and compare.",
        evidence=table.sort_values("p").head(max(_SHOWN, len(found))),
    )


def _unmasked(maker: ResidualMaker, table: pd.DataFrame) -> pd.DataFrame:
    """The table with the furthest level judged by standard deviations of the others alone.

    Among few levels one that is far away makes their standard deviations so large that it cannot
    be known any more. These rest on the other levels only: F has levels less coefficients less one
    denominator df, which is right for balanced intercepts, and cautious otherwise.
    """
    p, F_of = table["p"].to_numpy(copy=True), table["F"].to_numpy(copy=True)
    j = int(p.argmin() if p.min() < 1 else F_of.argmax())
    df = int(table["df"].iloc[j])
    rest = len(table) - 1 - df
    if rest < 1 or df == 0 or not maker.factor.any():
        return table
    F = float(levels(maker.with_factor(_factor_without(maker, j)))["F"].iloc[j])
    F_of[j], p[j] = F, min(1.0, float(stats.f.sf(F, df, rest)) * len(table))
    return table.assign(F=F_of, p=p)


def _factor_without(maker: ResidualMaker, level: int) -> np.ndarray:
    """Lambda that suits the other levels: all sds together, then each, scaled by REML on a grid."""
    rows, z = maker.rows, maker.coordinates.zs[0]
    kept = rows.codes[0] != level
    own = Rows(rows.y, rows.X, rows.Z[0], rows.codes[0], rows.sd).take(kept)
    moments, q = Moments.from_rows(own), len(z.to_working)
    flat, factor = BetaPrior.flat(moments.p), maker.factor
    for term in [slice(None), *range(q), *range(q)]:
        scale = np.ones((len(_SCALES), q))
        scale[:, term] = _SCALES[:, None] if isinstance(term, slice) else _SCALES
        tried = z.to_working @ (scale[:, :, None] * (z.from_working @ factor))
        try:
            at = condition(moments, np.ones(len(tried)), tried, flat).marginal
        except np.linalg.LinAlgError:  # the others cannot tell some coefficient
            return maker.factor
        squares = at.penalized_ss
        fit = (
            (moments.n - moments.p) * np.log(squares)
            if maker.design.residual.has_sigma
            else squares
        )
        deviance = at.log_det_levels + at.log_det_population + fit
        if not np.isfinite(deviance).all():
            return maker.factor
        factor = tried[deviance.argmin()]
    return factor
