"""Predictions of a REML, ML or least-squares fit: estimates, standard errors, intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.mixed_model_equations import Henderson
from hierpool.answers.new_data import Kind, Levels, read_rows
from hierpool.core.fitted import Optimum
from hierpool.core.options import probability_of
from hierpool.draws.summary import normal_interval


def predict(
    fit: Optimum,
    data: Any,
    levels: Levels | Mapping[str, Levels],
    kind: Kind,
    prob: float | None,
) -> pd.DataFrame:
    """Estimate, standard error and interval of every row's prediction, with the user's index."""
    rows = read_rows(fit.design, data, levels, kind)
    probability_of(prob)
    equations, combinations = Henderson(fit.design, fit.estimate), rows.combinations
    variance = equations.variance(combinations)
    for k, factor in enumerate(rows.factors):
        is_drawn = factor.is_new | (factor.levels == "average" and kind == "response")
        if is_drawn.any():
            variance[is_drawn] += equations.between(k, factor.Z[is_drawn])
    if kind == "response":
        variance = variance + np.square(rows.residual.sd(fit.estimate.sigma))
    estimate = np.where(np.isnan(variance), np.nan, equations.value(combinations) + rows.offset)
    return estimates(estimate, np.sqrt(variance), prob).set_axis(rows.index, axis=0)


def estimates(estimate: np.ndarray, se: np.ndarray, prob: float | None) -> pd.DataFrame:
    """Estimates with their standard errors and normal intervals."""
    table = pd.DataFrame({"estimate": estimate, "se": se})
    return table.assign(**normal_interval(estimate, se, prob))
