"""Standard deviations and correlations: prior, posterior and REML estimate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, UnsupportedModelError, nearest
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.schema import Schema
from hierpool.plots.beliefs import MOST, draw_beliefs, read_belief
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import titled
from hierpool.plots.sheet.tables import Interval, find_interval
from hierpool.plots.sheet.terms import predictor_in_words

_RESIDUAL = "residual"
_LEANS = 0.1  # mean of a correlation's prior from which it is explained
Key = tuple[str, str, str, str]


def standard_deviations(
    fit: Posterior, reml: Optimum | None = None, *, factor: str | None = None
) -> Figure:
    """Prior and posterior of every standard deviation and of sigma, with the REML estimate.

    One panel each, at most nine. If a posterior looks like its prior, the data say little about it.
    With few groups, a REML estimate of zero is common where the posterior is well away from zero.

    Parameters
    ----------
    fit
        A posterior.
    reml
        The REML or ML fit of the same model; its estimates are marked.
    factor
        Show only the standard deviations of this factor, and sigma. Default: all.

    Raises
    ------
    ArgumentError
        No such factor.
    UnsupportedModelError
        Nothing to show, e.g. no pooling with known residual sds.
    """
    line.check_has_draws(fit, "standard_deviations(fit, reml)")
    design = fit.design
    keys = [k for k in _keys(fit, factor) if k[1] == "sd"]
    if not keys:
        raise UnsupportedModelError(
            f"{design.spec.formula} has no standard deviation to estimate. Use partial pooling, "
            "hp.varying_intercept(...).",
            "no-random-effects",
        )
    title = titled(
        f"Standard deviations of {design.spec.response}: prior and posterior", design.label
    )
    return _draw(fit, reml, keys, title)


def correlations(
    fit: Posterior, reml: Optimum | None = None, *, factor: str | None = None
) -> Figure:
    """Prior and posterior of each correlation of random effects, with the REML estimate.

    One panel each, at most nine. The prior is drawn in the coding of the data: a prior that is flat
    at the mean of the predictors need not be flat where they are zero.

    Parameters
    ----------
    fit
        A posterior.
    reml
        The REML or ML fit of the same model.
    factor
        Show only the correlations of this factor. Default: all.

    Raises
    ------
    ArgumentError
        No such factor.
    UnsupportedModelError
        The model has no correlation.
    """
    line.check_has_draws(fit, "correlations(fit, reml)")
    design = fit.design
    keys = [k for k in _keys(fit, factor) if k[1] == "corr"]
    if not keys:
        raise UnsupportedModelError(
            f"{design.spec.formula} has no correlation of random effects. Draw the standard deviations, "
            "hp.plots.standard_deviations(fit), or fit a model with one, e.g. y ~ x + (x | g).",
            "no-correlation",
        )
    title = titled("Correlations of random effects: prior and posterior", design.label)
    return _draw(fit, reml, keys, title)


def _keys(fit: Posterior, factor: str | None) -> list[Key]:
    keys: list[Any] = list(fit.variance_components().index)
    if factor is None:
        return keys
    factors = list(dict.fromkeys(k[0] for k in keys if k[0] != _RESIDUAL))
    if factor not in factors:
        raise ArgumentError(f"no factor {factor!r}: {nearest(factor, factors)}", "unknown-choice")
    return [k for k in keys if k[0] in (factor, _RESIDUAL)]


def _draw(fit: Posterior, reml: Optimum | None, keys: list[Key], title: str) -> Figure:
    table, prior = fit.variance_components(), fit.prior_spread()
    interval = find_interval(table.columns) or Interval("mean", "mean", "mean", 0.0)
    estimates = pd.Series(dtype=float) if reml is None else reml.variance_components()["estimate"]
    rows = dict(zip(table.index, table.to_dict("records"), strict=True))
    beliefs = [
        read_belief(
            key,
            rows[key],
            interval,
            name=_name(key),
            unit=_unit(fit.design, key),
            prior=_draws_of(prior[_variable(key)], fit.design.schema, key),
            posterior=_draws_of(fit.variable(_variable(key)), fit.design.schema, key),
            estimate=float(estimates.get(key, np.nan)),
        )
        for key in keys[:MOST]
    ]
    left = len(keys) - len(beliefs)
    note = f"{len(beliefs)} of {len(keys)}; choose a factor with factor=. " if left else ""
    if any(b.bounds[0] < 0 and abs(b.prior.mean()) > _LEANS for b in beliefs):
        note += (
            "Priors are flat at the means of the predictors. At zero, far from there, intercept and "
            "slope are correlated a priori."
        )
    return draw_beliefs(beliefs, title, interval, reml.method if reml is not None else "", note)


def _name(key: Key) -> str:
    factor, parameter, term, other = key
    if factor == _RESIDUAL:
        return "residual sd (sigma)"
    return f"{term} and {other}, {factor}" if parameter == "corr" else f"sd of {term}, {factor}"


def _unit(design: Design, key: Key) -> str:
    """What one unit of the panel's axis is."""
    factor, parameter, term, _ = key
    response = design.spec.response if design.family is None else predictor_in_words(design.schema)
    if parameter == "corr":
        return "correlation"
    per = term if factor != _RESIDUAL and term in design.predictors else ""
    return f"{response} per {per}" if per and line.is_number(design, per) else response


def _variable(key: Key) -> str:
    """Name of the variable that holds it."""
    factor, parameter, _, _ = key
    return "sigma" if factor == _RESIDUAL else f"{parameter}_{factor}"


def _draws_of(variable: xr.DataArray, schema: Schema, key: Key) -> np.ndarray:
    """Draws of one number, flat."""
    factor, parameter, term, other = key
    values = variable.to_numpy()
    if factor == _RESIDUAL:
        return np.asarray(values.ravel())
    terms = schema.group(factor).terms
    at: tuple[Any, ...] = (..., terms.index(term))
    if parameter == "corr":
        at = (*at, terms.index(other))
    return np.asarray(values[at].ravel())
