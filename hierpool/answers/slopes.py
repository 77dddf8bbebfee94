"""Slopes: by how much the expected response changes with a number, averaged over what else there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers.adjustment import Adjust, choose_adjust
from hierpool.answers.effects_table import EffectsTable
from hierpool.answers.expected_values import ExpectedValues
from hierpool.answers.linear_predictors import Groups, Held, LinearPredictors
from hierpool.answers.marginal_means import families, key_index
from hierpool.answers.reference_grid import Grid, Predictors, Weights, make_grid, names_of
from hierpool.answers.response_scale import ResponseScale, Scale
from hierpool.answers.summarised import Asked, of_fit
from hierpool.answers.told import Told
from hierpool.core.arguments import takes_groups
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.core.options import probability_of, takes_prob


@takes_prob
@takes_groups
def slopes(
    fit: IntegratedPosterior | Optimum,
    what: str,
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    groups: Groups | None = None,
    adjust: Adjust = "none",
    scale: Scale = "response",
    prob: float | None = None,
) -> pd.DataFrame:
    """Change of the expected response per unit of a number, the other predictors averaged.

    The derivative of the marginal mean, by differences of the formula's columns: so it holds for
    polynomials, splines, logarithms and interactions alike. To compare the slopes of groups of
    rows: ``hp.contrast(fit, "trt", slope="age")``.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` or a ``LikelihoodFit``.
    what
        The number, ``"age"``.
    by
        Predictors whose values make groups of rows: a slope in each, ``"trt"``.
    at
        Values of predictors, ``{"sex": "Male"}``. Of ``what`` itself: where the slope is taken;
        several values, ``{"age": [8, 14]}``, give a slope at each.
    weights
        ``"equal"``, as emmeans' emtrends: at the mean of every number, ``what`` included, each
        combination of categories counting alike. ``"observed"``, as in marginaleffects: averaged
        over the rows of the fit, each at its own values; in a group of ``by`` over its own rows.
    groups, adjust
        As in ``marginal_means``.
    scale
        ``"response"``: in the units that were measured. With a logarithm or a square root on the
        left side of the formula it is the slope of the back-transformed marginal mean.
        ``"linear"``: the slope on the scale of the left side, as emtrends gives it. Of a family
        ``"response"`` is the derivative of the probability, rate or mean (averaged over rows, and
        with ``groups="new"`` over groups), as in marginaleffects.
    prob
        Probability of the interval; None: that of ``hp.options``.

    Returns
    -------
    DataFrame
        Index: the predictors of ``by``, and ``what`` where it has several values; without either
        ``predictor``. Columns as in ``marginal_means``; of a posterior ``p_direction`` too, the
        probability of the sign that is more probable. ``t`` and ``p`` are of the slope zero. A
        slope that is not estimable is NaN, with a finding.

    Raises
    ------
    NotEstimableError
        None of the slopes is estimable.
    """
    check_fit(fit, "slopes")
    probability_of(prob)
    adjust = choose_adjust(adjust, isinstance(fit, Posterior), "other")
    to, outer = ResponseScale.of(fit.design, scale), names_of(by)
    held = Held.usual(fit.design, groups, is_curved=to.mean is not None)
    made, means, grid = slopes_of_cells(held, what, outer, at, weights, to)
    index = key_index(grid.keys) if grid.keys.shape[1] else pd.Index([what], name="predictor")
    family = families(grid, outer)
    if what not in grid.keys:  # one slope in each group of rows: they are adjusted together
        family = np.zeros(len(family), dtype=int)
    if isinstance(made, ExpectedValues):
        asked = Asked.of_expected(index, made, family, is_difference=True)
    else:
        asked = Asked(index, made, family, means=means, is_difference=True)
    table = of_fit(fit, asked, to, adjust, prob)
    told = Told(fit, asked, to, adjust, weights, ("slope", "slopes"))
    title = f"Slopes of {to.measured_thing} in {what}"
    return EffectsTable.of(
        table, [title, *told.lines(grid, at)], told.findings(table), **told.attrs
    )


def slopes_of_cells(
    held: Held,
    what: str,
    shown: Sequence[str],
    at: Mapping[str, Any] | None,
    weights: Weights,
    scale: ResponseScale,
) -> tuple[LinearPredictors | ExpectedValues, LinearPredictors | None, Grid]:
    """The slope in each cell; the means at which it is taken, where it is back-transformed."""
    check_number(held.design, what)
    several = what in (at or {}) and len(names_of((at or {})[what])) > 1
    asked = [what] if several and what not in shown else []
    grid = make_grid(held.design, asked, shown, at, weights)
    if scale.mean is not None:
        exposed = {*(at or {}), *shown, *asked, what}
        return ExpectedValues.of_slopes(scale.mean, held, grid, what, exposed), None, grid
    linear = LinearPredictors.of_slopes(held, grid, what)
    if scale.back is None:
        return linear, None, grid
    if held.is_new:
        raise UnsupportedModelError(
            f"groups='new' averages means of {scale.measured} over groups, and there is no such "
            "average of slopes or contrasts of a back-transformed response. Take scale='linear', "
            "or groups='average'",
            "new-groups-transformed",
        )
    return linear, LinearPredictors.of_means(held, grid), grid


def check_number(design: Design, name: Any) -> None:
    """Raise unless it is a predictor that has a slope."""
    predictors = Predictors(design)
    predictors.check(name, "slopes()")
    is_boolean = pd.api.types.is_bool_dtype(predictors.frame[name])
    if predictors.is_text(name) or is_boolean:
        raise ArgumentError(
            f"{name!r} is {'true or false' if is_boolean else 'a category'} in this model and has "
            f"no slope. Compare its values: hp.contrast(fit, {name!r})",
            "no-slope",
        )
