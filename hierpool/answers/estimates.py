"""Predictions of a REML, ML or least-squares fit: estimates, standard errors, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.mixed_model_equations import Henderson
from hierpool.answers.new_data import Kind, RowGroups, read_rows
from hierpool.answers.response_scale import ResponseScale, Scale
from hierpool.core.errors import ArgumentError
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
    to = ResponseScale.of(fit.design, scale)
    if fit.design.family is not None:
        return _of_family(fit, data, groups, kind, to, prob)
    back = to.back
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


def _of_family(
    fit: Optimum,
    data: Any,
    groups: RowGroups,
    kind: Kind,
    to: ResponseScale,
    prob: float | None,
) -> pd.DataFrame:
    """Plug-in predictions of a family: means at the estimates, and of new groups over all of them.

    The standard error is that of the fixed effects, by the delta method; NaN where a group's own
    effects take part, whose uncertainty a posterior knows.
    """
    design, estimate = fit.design, fit.estimate
    if kind != "mean":
        raise ArgumentError(
            f"kind={kind!r} of a family needs a posterior, model.fit(); a fit by maximum likelihood "
            "has kind='mean'",
            "posterior-needed",
        )
    rows = read_rows(design, data, groups, kind)
    probability_of(prob)
    eta = rows.X @ estimate.beta + rows.offset
    variance, is_own = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    equations = Henderson(design, estimate)
    for k, (factor, found) in enumerate(zip(rows.factors, estimate.factors, strict=True)):
        own = np.flatnonzero(factor.is_known)
        eta[own] += (factor.Z[own] * found.u[factor.codes[own]]).sum(axis=1)
        is_own[own] = True
        if factor.is_new.any():
            variance[factor.is_new] += equations.between(k, factor.Z[factor.is_new])
    X = rows.X
    se = np.sqrt(np.maximum(np.einsum("mp,pr,mr->m", X, fit.covariance(), X), 0.0))
    se[is_own] = np.nan
    if design.family is not None and design.family.has_thresholds:
        se[:] = np.nan
    table = estimates(eta, se, prob)
    if to.mean is None:
        return table.set_axis(rows.index, axis=0)
    mean, par = to.mean, np.atleast_2d(estimate.par)

    def moved(values: pd.Series[Any]) -> np.ndarray:
        return mean.at(values.to_numpy()[None], variance, par)[0]

    slope = mean.at(eta[None], variance, par, slope=True)[0]
    return table.apply(moved).assign(se=np.abs(slope) * se).set_axis(rows.index, axis=0)


def estimates(estimate: np.ndarray, se: np.ndarray, prob: float | None) -> pd.DataFrame:
    """Estimates with their standard errors and normal intervals."""
    table = pd.DataFrame({"estimate": estimate, "se": se})
    return table.assign(**normal_interval(estimate, se, prob))
