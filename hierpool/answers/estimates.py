"""Predictions of a REML, ML or least-squares fit: estimates, standard errors, intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.conditional_variance import conditional_variance, user_roots
from hierpool.algebra.correlated.residuals import rows_sd
from hierpool.algebra.mixed_model_equations import Henderson
from hierpool.answers.mean_response import MeanResponse
from hierpool.answers.new_data import Kind, NewRows, RowGroups, read_rows
from hierpool.answers.response_scale import ResponseScale, Scale
from hierpool.core.errors import ArgumentError
from hierpool.core.families.links import LINKS
from hierpool.core.fitted import Optimum
from hierpool.core.options import probability_of
from hierpool.core.results import FamilyEstimate
from hierpool.draws.summary import normal_interval

_STEP = 1e-4  # of the free numbers, in differences


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
    phi = rows.structured.with_mean_scales(fit.residual_parameters)
    X = rows.X.copy()
    parts = [part._replace(weights=part.weights.copy()) for part in combinations.parts]
    borrowed, variance = np.zeros(n), np.zeros(n)
    for group in rows.structured.groups(np.arange(n)):
        for _, found in rows.structured.conditionals(phi, group):
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

    The standard error has the uncertainty of everything that maximum likelihood estimates, by the delta
    method, and for known groups the variance of their effects given that. On the linear scale that of a
    new group has the variance between groups.
    """
    design, own = fit.design, fit.estimate.family
    if kind != "mean":
        raise ArgumentError(
            f"kind={kind!r} of a family needs a posterior, model.fit(); a fit by maximum likelihood "
            "has kind='mean'",
            "posterior-needed",
        )
    rows = read_rows(design, data, groups, kind)
    probability_of(prob)
    assert own is not None
    p = _Predictors.of_rows(fit, rows)
    mean = to.mean
    if mean is None:
        variance = _squared(p.by, own.covariance) + p.within + p.between
        return estimates(p.eta, np.sqrt(variance), prob).set_axis(rows.index, axis=0)
    par = np.atleast_2d(fit.estimate.par)
    value = mean.at(p.eta[None], p.between, par)[0]
    slope = mean.at(p.eta[None], p.between, par, slope=True)[0]
    by = slope[:, None] * p.by + _by_parameters(p, mean, par, own)
    variance = _squared(by, own.covariance) + slope**2 * p.within
    link = LINKS[mean.link]  # where intervals are symmetric
    moved = link.of_mean(value)
    table = estimates(moved, np.sqrt(variance) / np.abs(link.slope(moved)), prob)
    back = table.apply(lambda column: link.inverse(column.to_numpy()))
    return back.assign(se=np.sqrt(variance)).set_axis(rows.index, axis=0)


@dataclass(frozen=True)
class _Predictors:
    """Linear predictors of m rows at an optimum of a family.

    Attributes
    ----------
    eta
        Shape (m,): with the effects of known groups.
    by
        Shape (m, D): derivatives by the free numbers.
    within
        Shape (m,): variance of the effects of known groups given the free numbers.
    between, between_by
        Shapes (m,), (m, D): variance of the effects of new groups, and its derivatives.
    """

    eta: np.ndarray
    by: np.ndarray
    within: np.ndarray
    between: np.ndarray
    between_by: np.ndarray

    @classmethod
    def of_rows(cls, fit: Optimum, rows: NewRows) -> _Predictors:
        """Of rows in the columns of the model."""
        design, estimate, own = fit.design, fit.estimate, fit.estimate.family
        assert own is not None
        m, D = len(rows), len(own.covariance)
        eta, by = rows.X @ estimate.beta + rows.offset, rows.X @ own.beta_by
        within, between, between_by = np.zeros(m), np.zeros(m), np.zeros((m, D))
        if design.spec.pooling != "partial":
            return cls(*_of_own_lines(fit, rows, eta, by), between, between_by)
        if rows.factors:
            levels = [f.codes for f in rows.factors]
            weights = [f.Z for f in rows.factors]
            within = conditional_variance(design, estimate, levels, weights)
        for k, root in enumerate(user_roots(design, estimate)):
            factor, at = rows.factors[k], design.group_columns[k]
            known, new = np.flatnonzero(factor.is_known), np.flatnonzero(factor.is_new)
            code, Z = factor.codes[known], factor.Z[known]
            eta[known] += (Z * estimate.factors[k].u[code]).sum(axis=1)
            by[known] += np.einsum("mq,mqd->md", Z, own.u_by[k][code])
            carried = factor.Z[new] @ root
            between[new] += np.square(carried).sum(axis=1)
            moved = np.einsum("mq,qrd->mrd", factor.Z[new], own.root_by[at, at])
            between_by[new] += 2 * np.einsum("mr,mrd->md", carried, moved)
        return cls(eta, by, within, between, between_by)


def _of_own_lines(
    fit: Optimum, rows: NewRows, eta: np.ndarray, by: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictors without partial pooling: a group's own coefficients, whose variance is all there is."""
    if not rows.factors or not fit.estimate.factors:
        return eta, by, np.zeros(len(rows))
    factor, found = rows.factors[0], fit.estimate.factors[0]
    code = np.maximum(factor.codes, 0)
    eta = eta + np.where(factor.is_known, (factor.Z * found.coef[code]).sum(axis=1), np.nan)
    variance = Henderson(fit.design, fit.estimate).variance(rows.combinations)
    return eta, by, np.where(factor.is_known, variance, np.nan)


def _by_parameters(
    p: _Predictors, mean: MeanResponse, par: np.ndarray, own: FamilyEstimate
) -> np.ndarray:
    """Shape (m, D): derivatives of means by the free numbers through parameters and variances."""
    out = np.zeros(p.by.shape)
    for d in range(p.by.shape[1]):
        moves = own.par_by[:, d], p.between_by[:, d]
        if not any(np.any(move) for move in moves):
            continue
        up, down = (
            mean.at(p.eta[None], np.maximum(p.between + h * moves[1], 0.0), par + h * moves[0])[0]
            for h in (_STEP, -_STEP)
        )
        out[:, d] = (up - down) / (2 * _STEP)
    return out


def _squared(by: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Shape (m,): variance by the delta method."""
    return np.maximum(np.einsum("md,de,me->m", by, covariance, by), 0.0)


def estimates(estimate: np.ndarray, se: np.ndarray, prob: float | None) -> pd.DataFrame:
    """Estimates with their standard errors and normal intervals."""
    table = pd.DataFrame({"estimate": estimate, "se": se})
    return table.assign(**normal_interval(estimate, se, prob))
