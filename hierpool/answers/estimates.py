"""Predictions of a REML, ML or least-squares fit: estimates, standard errors, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.mixed_model_equations import Henderson
from hierpool.answers.new_data import Kind, RowGroups, read_rows
from hierpool.answers.response_scale import ResponseScale, Scale
from hierpool.core.fitted import Optimum
from hierpool.core.options import probability_of
from hierpool.draws.summary import normal_interval


def predict(
    fit: Optimum,
    data: Any,
    groups: RowGroups,
    kind: Kind,
    scale: Scale,
    prob: float | None,
) -> pd.DataFrame:
    """Estimate, standard error and interval of every row's prediction, with the user's index.

    On the scale of the response estimates and bounds are transformed, and standard errors follow
    from the delta method.
    """
    back = ResponseScale.of(fit.design, scale).back
    rows = read_rows(fit.design, data, groups, kind)
    probability_of(prob)
    equations, combinations = Henderson(fit.design, fit.estimate), rows.combinations
    variance = equations.variance(combinations)
    for k, factor in enumerate(rows.factors):
        if factor.is_new.any():
            variance[factor.is_new] += equations.between(k, factor.Z[factor.is_new])
    if kind == "response":
        variance = variance + np.square(rows.residual.sd(fit.estimate.sigma))
    estimate = np.where(np.isnan(variance), np.nan, equations.value(combinations) + rows.offset)
    table = estimates(estimate, np.sqrt(variance), prob).set_axis(rows.index, axis=0)
    if back is None:
        return table
    se = np.abs(back.first(estimate)) * table["se"]
    return table.apply(back.inverse).assign(se=se)


def estimates(estimate: np.ndarray, se: np.ndarray, prob: float | None) -> pd.DataFrame:
    """Estimates with their standard errors and normal intervals."""
    table = pd.DataFrame({"estimate": estimate, "se": se})
    return table.assign(**normal_interval(estimate, se, prob))
