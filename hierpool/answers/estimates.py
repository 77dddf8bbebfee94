"""Predictions of a REML, ML or least-squares fit: estimates, standard errors, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.correlated.residuals import rows_sd
from hierpool.algebra.mixed_model_equations import Henderson
from hierpool.answers.new_data import Kind, NewRows, RowGroups, read_rows
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
    borrowed, left = np.zeros(len(rows)), np.zeros(len(rows))
    if kind == "response":
        combinations, borrowed, left = _observation(fit, rows, combinations)
    variance = equations.variance(combinations)
    for k, factor in enumerate(rows.factors):
        if factor.is_new.any():
            variance[factor.is_new] += equations.between(k, factor.Z[factor.is_new])
    variance = variance + left
    value = equations.value(combinations) + rows.offset + borrowed
    estimate = np.where(np.isnan(variance), np.nan, value)
    table = estimates(estimate, np.sqrt(variance), prob).set_axis(rows.index, axis=0)
    if back is None:
        return table
    se = np.abs(back.first(estimate)) * table["se"]
    return table.apply(back.inverse).assign(se=se)


def _observation(
    fit: Optimum, rows: NewRows, combinations: Combinations
) -> tuple[Combinations, np.ndarray, np.ndarray]:
    """Of new observations: combinations of coefficients, what is added to them, residual variances.

    With weights w of the observed rows of its group, a new observation is predicted by
    w'y + (x - X'w)'beta + (z - Z'w)'u: what it borrows is taken off its columns.
    """
    design, estimate = fit.design, fit.estimate
    n, sigma = len(rows), estimate.sigma
    if rows.structured is None:
        sds = rows_sd(rows.residual, np.array([sigma]), fit.residual_parameters)[0]
        return combinations, np.zeros(n), np.broadcast_to(np.square(sds), (n,))
    assert fit.residual_parameters is not None
    X = rows.X.copy()
    parts = [part._replace(weights=part.weights.copy()) for part in combinations.parts]
    borrowed, variance = np.zeros(n), np.zeros(n)
    for group in rows.structured.groups(np.arange(n)):
        for _, found in rows.structured.conditionals(fit.residual_parameters, group):
            w, o = found.weights[0], found.observed
            variance[found.new] = sigma**2 * np.square(found.root[0]).sum(axis=-1)
            borrowed[found.new] = w @ design.y_less_offset[o]
            X[found.new] -= w @ design.X[o]
            for part, own in zip(parts, design.groups, strict=True):
                is_known = np.isin(found.new, part.which)
                place = np.searchsorted(part.which, found.new[is_known])
                part.weights[place] -= (w @ own.Z[o])[is_known]
    return Combinations(X, tuple(parts)), borrowed, variance


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
