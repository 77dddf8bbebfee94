"""Influence of each group on the fixed effects: case deletion from the cross-products.

The standard deviations and correlations stay at the optimum, so nothing is fitted again. With
S = X'V^-1 X, and S_j, s_j what the rows of level j add to S and to X'V^-1 y,

    beta without j  =  beta - (S - S_j)^-1 (s_j - S_j beta)

Of a model's only factor S_j = X_j'V_j^-1 X_j. Rows J that share levels of other factors with rows that
stay have, with X~ = V^-1 X and e = V^-1 (y - X beta),

    S_J = X~_J' [V^-1]_JJ^-1 X~_J        s_J - S_J beta = X~_J' [V^-1]_JJ^-1 e_J

The variance of the shift is that of beta without j less that of beta: what is expected of a level
with this design. A shift that is large and not larger than that is no sign of anything wrong.

References
----------
Cook (1977), Technometrics 19, 15-18.  Belsley, Kuh, Welsch (1980), Regression Diagnostics, 2.1.
Christensen, Pearson, Johnson (1992), Technometrics 34, 38-45.
Demidenko, Stukel (2005), Stat. Med. 24, 893-909.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg, stats

from hierpool.algebra.correlated.residuals import normalised
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.moments import by_level, single_group
from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.core.design import Grouping, check_gaussian
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.findings import Finding
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.core.group_nouns import and_more, called, nouns

LARGE_SHIFT = 1.0  # standard errors (Belsley, Kuh, Welsch 1980, section 2.1, absolute cutoff)
SURPRISING_SHIFT_PROBABILITY = (
    0.01  # probability, all levels and terms together, below which a shift surprises
)
_Z95 = 1.96  # standard errors of a 95 % interval
_ESTIMABLE = 1e-8  # part of S left without a level, below which a coefficient is lost


@dataclass(frozen=True)
class _Deleted:
    """One level at a time left out; terms in the user's coding.

    Attributes
    ----------
    shift, variance
        Shapes (J, p): beta less beta without the level, and the variance of that, in the units of
        beta; NaN where the coefficient is not estimable without the level.
    cook, mdffits
        Shape (J,).
    """

    shift: np.ndarray
    variance: np.ndarray
    cook: np.ndarray
    mdffits: np.ndarray


def influence(fit: IntegratedPosterior | Optimum, by: str = "group") -> pd.DataFrame:
    """Influence of each group: how much the fixed effects change without it.

    For REML and ML fits the variance parameters are kept at their estimates, so the influence is
    that on the coefficients only. For a posterior, the draws of theta are reweighted and the
    influence on the standard deviations is given too. No model is fitted again.

    Parameters
    ----------
    fit
        A ``LikelihoodFit``: ``model.reml()`` or ``model.ml()``, partially or completely pooled; or a
        ``PosteriorFit`` with one factor.
    by
        Name of the factor; ``"group"`` if there is only one.

    Returns
    -------
    DataFrame
        Index (factor, level). ``n``: number of rows. ``shift[<term>]``: coefficient minus the
        coefficient without the group, in standard errors of the fit (DFBETAS); NaN if it is not
        estimable without the group. ``cook``: Cook's distance. ``mdffits``: the same in the metric
        of the fit without the group. ``largest``: largest absolute shift. ``p``: probability of a
        shift as unusual as the group's most unusual one, given its design, if the model holds;
        corrected for the number of groups and terms.

        For a posterior: ``n``; ``pareto_k`` (above 0.7 the row is approximate); and for each fixed
        effect, standard deviation and sigma ``mean[...]``, ``without[...]`` and ``shift[...]``, their
        difference in posterior sds.

    Raises
    ------
    ArgumentError
        Not a fit, or an unknown factor.
    UnsupportedModelError
        No pooling, which has no common coefficients; a fit without fixed effects; a posterior with
        several factors; a response that is not Gaussian.

    References
    ----------
    Cook (1977), Technometrics 19, 15-18.
    Belsley, Kuh, Welsch (1980), Regression Diagnostics, section 2.1.
    Demidenko, Stukel (2005), Stat. Med. 24, 893-909.

    Examples
    --------
    >>> import hierpool as hp
    >>> sleep = hp.datasets.load("sleepstudy")
    >>> table = hp.influence(hp.Model("Reaction ~ Days + (Days | Subject)", sleep).reml())
    >>> print(table["cook"].idxmax()[1])
    309
    """
    from hierpool.checks.accuracy.loo import grouping_for

    check_fit(fit, "influence")
    check_gaussian(fit.design.schema, "influence()")
    if fit.design.spec.pooling == "none" or not fit.design.terms:
        raise UnsupportedModelError(
            f"{fit.design.spec.formula} has no common coefficients that a group could influence. "
            "Use a partially pooled model, e.g. hp.varying_slope(...).reml().",
            "no-common-coefficients",
        )
    grouping = grouping_for(fit.design, by)
    if isinstance(fit, Posterior):
        from hierpool.checks.accuracy.level_influence_on_variances import without_each_level

        single_group(fit.design)
        return without_each_level(fit, grouping)
    return table(ResidualMaker.from_fit(fit), grouping)


def table(maker: ResidualMaker, grouping: Grouping) -> pd.DataFrame:
    """The table of ``influence``."""
    left = _without_levels(maker, grouping)
    se = np.sqrt(_beta_variance(maker))
    shift = left.shift / se
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.abs(left.shift) / np.sqrt(left.variance)
    p = 2 * _tail(maker, np.nanmax(np.where(left.variance > 0, z, 0.0), axis=1, initial=0.0))
    columns: dict[str, np.ndarray] = {"n": grouping.n_rows}
    columns |= {f"shift[{t}]": shift[:, k] for k, t in enumerate(maker.design.terms)}
    columns |= {"cook": left.cook, "mdffits": left.mdffits}
    columns["largest"] = np.nanmax(np.abs(shift), axis=1, initial=0.0)
    columns["p"] = np.minimum(1.0, p * shift.size)
    index = pd.MultiIndex.from_product(
        [[grouping.factor], grouping.levels], names=["factor", "level"]
    )
    return pd.DataFrame(columns, index=index)


def _tail(maker: ResidualMaker, z: np.ndarray) -> np.ndarray:
    """P(larger than z), with sigma estimated without the direction of z where it is estimated."""
    if not maker.design.residual.has_sigma:
        return np.asarray(stats.norm.sf(z))
    z, df = z / maker.sigma, maker.df - 1
    # Externally studentised: the sum of squares without the direction of z, which has one df less.
    left = np.maximum(maker.df - z**2, 1e-12)
    return np.asarray(stats.t.sf(z * np.sqrt(df / left), df))


def _beta_variance(maker: ResidualMaker) -> np.ndarray:
    """Shape (p,): squared standard errors of the coefficients."""
    X, B = maker.rows.X, maker.coordinates.x.from_working
    S = X.T @ maker.whiten(X)
    inverse = linalg.pinvh(S)
    return np.asarray(maker.sigma**2 * np.einsum("ka,ab,kb->k", B, inverse, B))


def _without_levels(maker: ResidualMaker, grouping: Grouping) -> _Deleted:
    groups = maker.design.groups
    is_only = not groups or (len(groups) == 1 and groups[0].factor == grouping.factor)
    if is_only and not maker.apart:
        return _by_cross_products(maker, grouping)
    return _by_rows(maker, grouping)


def _by_cross_products(maker: ResidualMaker, grouping: Grouping) -> _Deleted:
    """Levels of the only factor, whose rows are independent of all others."""
    X, y, codes, J = maker.rows.X, maker.rows.y, grouping.codes, grouping.n_levels
    whitened = maker.whiten(X)
    S, beta = X.T @ whitened, _beta(maker)
    parts = by_level(whitened, np.hstack([X, y[:, None]]), codes, J)
    own, right = (parts[..., :-1] + np.swapaxes(parts[..., :-1], 1, 2)) / 2, parts[..., -1]
    return _deleted(maker, S, own, right - own @ beta)


def _beta(maker: ResidualMaker) -> np.ndarray:
    X, y = maker.rows.X, maker.rows.y
    whitened = maker.whiten(X)
    return np.asarray(linalg.pinvh(X.T @ whitened) @ (whitened.T @ y))


def _by_rows(maker: ResidualMaker, grouping: Grouping) -> _Deleted:
    """Rows that share levels of other factors with rows that stay."""
    X, J, p = maker.rows.X, grouping.n_levels, maker.rows.p
    whitened, e = maker.whiten(X), maker.observed
    S = X.T @ whitened
    own, score = np.empty((J, p, p)), np.empty((J, p))
    for j, rows in enumerate(grouping.by_level):
        chosen = np.zeros((maker.n, len(rows)))
        chosen[rows, np.arange(len(rows))] = 1.0
        if maker.apart:  # rows of a level are correlated with others
            chosen = normalised(maker.design, chosen, maker.phi)
            inner, right = chosen.T @ maker.whiten(chosen), chosen.T @ whitened
            left = chosen.T @ e
        else:
            inner, right, left = maker.whiten(chosen)[rows], whitened[rows], e[rows]
        half = np.linalg.solve(inner, right)
        own[j] = right.T @ half
        score[j] = half.T @ left
    return _deleted(maker, S, own, score)


def _deleted(maker: ResidualMaker, S: np.ndarray, own: np.ndarray, score: np.ndarray) -> _Deleted:
    """From S (p, p), what each level adds to it (J, p, p), and its part of the score at beta (J, p)."""
    B = maker.coordinates.x.from_working
    # A downdate: only rounding is left of a coefficient that this level alone determines, see _ESTIMABLE.
    rest = S - own
    root = np.sqrt(np.diag(S))
    # Scaled, or the unit of a column would decide whether its coefficient is lost.
    lost = np.linalg.eigvalsh(rest / np.outer(root, root))[:, 0] < _ESTIMABLE
    rest[lost] = np.nan
    with np.errstate(invalid="ignore"):
        inverse = np.linalg.inv(np.where(np.isnan(rest), S, rest))
    inverse[lost] = np.nan
    moved = np.einsum("jab,jb->ja", inverse, score)
    whole = linalg.pinvh(S)
    variance = np.einsum("ka,jab,kb->jk", B, inverse - whole, B)
    p, sigma2 = len(S), maker.sigma**2
    return _Deleted(
        moved @ B.T,
        np.maximum(variance, 0.0),
        np.einsum("ja,ab,jb->j", moved, S, moved) / (p * sigma2),
        np.einsum("ja,jab,jb->j", moved, rest, moved) / (p * sigma2),
    )


def influential_levels(maker: ResidualMaker) -> Iterator[Finding]:
    """Groups that change a coefficient by more than their design explains."""
    if not maker.design.terms:
        return
    for grouping in maker.design.groupings.values():
        found = table(maker, grouping)
        moving = found[found["largest"] >= LARGE_SHIFT].sort_values("largest", ascending=False)
        surprising = moving[moving["p"] < SURPRISING_SHIFT_PROBABILITY]
        if len(surprising):
            yield Finding(
                "influential-level",
                "warning",
                f"{_said(maker, surprising)} Such a change is unlikely for its design "
                f"(p = {surprising['p'].min():.2g}).",
                "Check its data, and report the coefficient with and without it.",
                evidence=surprising,
            )
        elif len(moving):
            decisive = _decisive(maker, moving)
            if len(decisive):
                yield Finding(
                    "influential-design",
                    "note",
                    f"{_said(maker, decisive)} With it the 95 % interval excludes zero, without it "
                    "not. Its data are not unusual.",
                    f"Few {nouns(grouping.factor)} determine this coefficient: report it with and "
                    "without this one.",
                    evidence=decisive,
                )


def _decisive(maker: ResidualMaker, moving: pd.DataFrame) -> pd.DataFrame:
    """Groups without which the interval of the coefficient that they move most has zero inside."""
    t = maker.coordinates.beta_to_user(_beta(maker)) / np.sqrt(_beta_variance(maker))
    shifts = moving[[f"shift[{term}]" for term in maker.design.terms]].to_numpy()
    k = np.nanargmax(np.abs(shifts), axis=1)
    without = t[k] - shifts[np.arange(len(k)), k]
    return moving[(np.abs(t[k]) > _Z95) & (np.abs(without) < _Z95)]


def _said(maker: ResidualMaker, moving: pd.DataFrame) -> str:
    """The most influential group, and the number of others."""
    factor, level = moving.index[0]
    terms = maker.design.terms
    shifts = moving[[f"shift[{t}]" for t in terms]].iloc[0].to_numpy()
    k = int(np.nanargmax(np.abs(shifts)))
    beta = maker.coordinates.beta_to_user(_beta(maker))[k]
    without = beta - shifts[k] * np.sqrt(_beta_variance(maker)[k])
    return (
        f"Without {called(factor, level)}, the coefficient of {terms[k]} changes from {beta:.3g} to "
        f"{without:.3g} ({abs(shifts[k]):.1f} standard errors).{and_more(len(moving) - 1, factor)}"
    )
