"""Differences between levels, between categories, and any other combination of coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.mixed_model_equations import Henderson
from hierpool.answers import coefficient_draws
from hierpool.answers.arguments import check_probability
from hierpool.answers.contrast_spec import Compared, Of, read
from hierpool.answers.estimates import estimates
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.draws.summary import summary


def contrast(
    fit: IntegratedPosterior | Optimum,
    what: str | Mapping[Any, Any],
    levels: Sequence[Any] | Mapping[Any, float] | None = None,
    *,
    term: str | None = None,
    at: Mapping[str, Any] | None = None,
    of: Of = "coefficients",
    prob: float | None = None,
) -> pd.DataFrame:
    """Differences and other combinations of coefficients, with what is known of them jointly.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` or a ``LikelihoodFit``.
    what
        **A group**, ``"Subject"``: its levels are compared, term by term. **A predictor**,
        ``"Machine"`` or ``"Days"``: expected values are compared where it has one value and
        another, for an average level, the other predictors as they are in the rows, averaged.
        **A dict**, name -> weight: a combination of coefficients. A name is a term of the fixed
        effects, ``"Machine[T.B]"``, or (factor, level, term), ``("Subject", "308", "Days")``. A
        dict of such dicts, label -> dict, makes a row of each.
    levels
        Of a group or a predictor: two, ``["308", "309"]`` for the first less the second; several,
        for every pair; a dict, level -> weight, for one combination. None: every pair there is.
    term
        Of a group: the coefficient that is compared; None: each.
    at
        Of a predictor: other predictors held at a value, ``{"Sex": "Male"}``.
    of
        Of levels: their ``"coefficients"``, or their ``"deviations"`` from the population. It
        matters only where the weights do not add up to zero.
    prob
        Probability of the interval; None: that of ArviZ's rcParams.

    Returns
    -------
    DataFrame
        Index ``contrast``; for a group (factor, contrast, term). Of a posterior: ``mean``,
        ``median``, ``sd``, interval, and ``p_direction``, the probability of the sign that is more
        probable. Of a LikelihoodFit: ``estimate``, ``se``, normal interval; ``se`` is the root of the
        joint prediction error variance (Henderson's equations), the standard deviations of the
        model taken for known.
    """
    check_fit(fit, "contrast")
    check_probability(prob)
    asked = read(fit.design, what, levels, term, at, of)
    if isinstance(fit, Posterior):
        values = xr.DataArray(
            _draws(fit, asked).reshape(*fit.n_draws, -1), dims=("chain", "draw", "contrast")
        )
        table = summary(values, diagnostics=False, prob=prob)
        table["mean"] = coefficient_draws.means(fit, asked.combinations) + asked.constant
        sides = [(s.mean(("chain", "draw"))).to_numpy() for s in (values > 0, values < 0)]
        table["p_direction"] = np.maximum(*sides)
    else:
        equations = Henderson(fit.design, fit.estimate)
        se = np.sqrt(equations.variance(asked.combinations))
        estimate = equations.value(asked.combinations) + asked.constant
        table = estimates(np.where(np.isnan(se), np.nan, estimate), se, prob)
    return table.set_axis(asked.index, axis=0)


def _draws(fit: IntegratedPosterior, asked: Compared) -> np.ndarray:
    """Shape (K, m): draws of the combinations."""
    t = asked.combinations
    out = coefficient_draws.beta_draws(fit) @ t.X.T + asked.constant
    for group, part in zip(fit.design.groups, t.parts, strict=True):
        if not len(part.which):
            continue
        levels, place = np.unique(part.levels, return_inverse=True)
        own = coefficient_draws.level_draws(fit, group, levels)
        for e, i in enumerate(part.which):
            out[:, i] += own[:, place[e]] @ part.weights[e]
    return np.asarray(out)
