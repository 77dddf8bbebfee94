"""Marginal means: expected values for categories or numbers, averaged over what else there is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers.adjustment import Adjust, choose_adjust
from hierpool.answers.effects_table import EffectsTable
from hierpool.answers.expected_values import ExpectedValues, per_unit
from hierpool.answers.linear_predictors import Groups, Held, LinearPredictors
from hierpool.answers.reference_grid import Grid, Weights, make_grid, names_of
from hierpool.answers.response_scale import ResponseScale, Scale
from hierpool.answers.summarised import Asked, of_fit
from hierpool.answers.told import Told
from hierpool.core.arguments import takes_groups
from hierpool.core.errors import ArgumentError
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.core.options import probability_of, takes_prob
from hierpool.core.text import capital


@takes_prob
@takes_groups
def marginal_means(
    fit: IntegratedPosterior | Optimum,
    what: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    groups: Groups | None = None,
    adjust: Adjust = "none",
    scale: Scale = "response",
    prob: float | None = None,
) -> pd.DataFrame:
    """Expected values of the response for each category of a predictor, the others averaged.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` or a ``LikelihoodFit``.
    what
        A predictor, ``"Treatment"``, or several for all their combinations,
        ``["Treatment", "sex"]``. A number has a mean at each value that ``at=`` gives.
    by
        Predictors whose values make groups of rows: a mean for each category in each of them.
    at
        Values of predictors, ``{"age": 14}``; several of one in ``what`` or ``by``,
        ``{"age": [8, 11, 14]}``.
    weights
        How the other predictors are averaged. ``"equal"``, as in emmeans: each combination of
        their categories counts alike, numbers are at their mean over the rows (a number with two
        values counts as a category). ``"observed"``, as in marginaleffects: over the rows of the
        fit, with ``what`` put in place of what they have; in a group of ``by``, over its own rows.
    groups
        For which groups. ``"average"``: a group whose random effects are zero.
        ``{"boar": "b7"}``: this one, others at their average. ``"new"``: averaged over all groups
        that the population could send; it differs from ``"average"`` only where the response was
        transformed and is back-transformed, and for families: the probability for a new group is
        not that of an average one. None: ``"new"`` for the means of a family whose link is not the
        identity, else ``"average"``.
    adjust
        Of REML, ML and least squares ``"none"`` or ``"holm"`` (p values; intervals are
        Bonferroni's, as in emmeans). Of a posterior ``"none"`` or ``"simultaneous"``: intervals
        that all hold together with the probability, within each group of ``by``.
    scale
        ``"response"``: in the units that were measured. With log(y), log2, log10, log1p or sqrt
        on the left side of the formula the means are averaged as they are modelled, then
        back-transformed, as ``type="response"`` in emmeans; those of a logarithm are geometric
        means. Any other left side is not transformed. ``"linear"``: on the scale of the left side.
        Of a family ``"response"`` are probabilities (of a success in one trial), rates, means, mean
        ratings, counted from 1; rows are averaged on this scale, as emmeans does with
        ``regrid="response"``. With a log link and an offset they are rates per unit of exposure,
        unless ``at=`` gives a value to its column. ``"linear"``: the linear predictor.
    prob
        Probability of the interval; None: that of ``hp.options``.

    Returns
    -------
    DataFrame
        Index: the predictors of ``by`` and ``what``. Of a posterior ``mean``, ``median``, ``sd``,
        interval. Of a LikelihoodFit ``estimate``, ``se``, ``df``, interval, ``t`` and ``p`` of
        the hypothesis that the mean is zero on the linear scale; df are Kenward and Roger's for
        REML where they can be had, else Satterthwaite's (``fit.df_method``), and infinite for a
        single group, whose standard errors take the standard deviations for known. The head of
        the printed table and its ``attrs`` say all this. A mean that is not estimable is NaN, with
        a finding.

    Raises
    ------
    NotEstimableError
        None of the means is estimable.

    References
    ----------
    Searle, Speed, Milliken (1980), The American Statistician 34, 216-221.
    """
    check_fit(fit, "marginal_means")
    probability_of(prob)
    adjust = choose_adjust(adjust, isinstance(fit, Posterior), "other")
    to = ResponseScale.of(fit.design, scale)
    shown, outer = names_of(what), names_of(by)
    if not shown:
        raise ArgumentError("marginal_means() needs the name of a predictor", "bad-grid")
    grid = make_grid(fit.design, shown, outer, at, weights)
    held = Held.usual(fit.design, groups, is_curved=to.mean is not None)
    asked = means_of_cells(held, grid, to, families(grid, outer), {*(at or {}), *shown, *outer})
    table = of_fit(fit, asked, to, adjust, prob)
    told = Told(fit, asked, to, adjust, weights, ("marginal mean", "marginal means"))
    what_by = f"{to.measured} by {', '.join(map(str, shown))}"
    title = f"Marginal {'geometric ' if to.has_ratios else ''}means of {what_by}"
    if fit.design.family is not None and to.measured != to.response:
        title = capital(what_by)
    return EffectsTable.of(
        table, [title, *told.lines(grid, at)], told.findings(table), **told.attrs
    )


def means_of_cells(
    held: Held, grid: Grid, scale: ResponseScale, family: np.ndarray, exposed: Collection[str]
) -> Asked:
    """The mean of each cell as what a table has a row for."""
    if scale.mean is not None:
        expected = ExpectedValues.of_means(scale.mean, held, grid, exposed)
        return Asked.of_expected(key_index(grid.keys), expected, family)
    linear = per_unit(LinearPredictors.of_means(held, grid), exposed)
    return Asked(key_index(grid.keys), linear, family)


def key_index(keys: pd.DataFrame) -> pd.Index[Any]:
    """What tells cells apart, as an index."""
    if not keys.shape[1]:
        return pd.RangeIndex(len(keys))
    if keys.shape[1] == 1:
        return pd.Index(keys.iloc[:, 0], name=keys.columns[0])
    return pd.MultiIndex.from_frame(keys)


def families(grid: Grid, by: Iterable[str]) -> np.ndarray:
    """Shape (cells,): number of each cell's group of ``by``."""
    columns = list(by)
    if not columns:
        return np.zeros(len(grid.keys), dtype=int)
    return grid.keys.groupby(columns, sort=False, observed=True).ngroup().to_numpy()
