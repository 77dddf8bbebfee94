"""Posterior means compared with BLUPs, and why they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import ArgumentError, ComparisonError, UnsupportedModelError
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.results import CONDITIONAL_MODE, Estimate, FactorEstimate, level_index
from hierpool.core.theta import WorkingTheta
from hierpool.draws.summary import monte_carlo_error


def compare_blups(fit: IntegratedPosterior, reml: Optimum) -> pd.DataFrame:
    """Compare posterior means of the random effects with BLUPs.

    The difference has two parts that add up exactly, with theta_hat the optimum of ``reml``:
    ``due_to_coefficient_prior`` = E[u | y, theta_hat, prior on beta] - BLUP, and
    ``due_to_variances`` = E[u | y] - E[u | y, theta_hat, prior on beta], due to the prior and the
    uncertainty of the standard deviations and correlations. Of a response that is not Gaussian
    ``reml`` is ``model.ml()``, conditional modes stand in for BLUPs, and the first part is the
    conditional mean at the optimum less the mode.

    Parameters
    ----------
    fit
        A partially pooled ``PosteriorFit``.
    reml
        The ``LikelihoodFit`` of the same model: ``model.reml()`` or ``model.ml()``.

    Returns
    -------
    DataFrame
        Index (factor, level, term); columns ``posterior_mean`` (the average of the conditional
        means over the draws of theta), ``posterior_sd``, ``mcse`` (Monte Carlo error of
        ``posterior_mean``), ``blup``, ``blup_se`` (root of the prediction error variance),
        ``difference``, ``due_to_coefficient_prior``, ``due_to_variances``. With a family ``blup`` are
        conditional modes, and ``due_to_coefficient_prior`` is conditional mean less mode at the ML
        estimates.

    Raises
    ------
    ComparisonError
        The two are not fits of the same model to the same rows.
    UnsupportedModelError
        The model does not pool partially.
    """
    _check_kinds(fit, reml)
    design = fit.design
    _check_same(design, reml.design)
    if not design.groups or not design.groups[0].is_pooled:
        raise UnsupportedModelError(
            f"{design.spec.formula} does not pool partially, so it has no BLUPs. "
            "Fit varying_intercept(...) or varying_slope(...).",
            "no-random-effects",
        )
    estimate, means = reml.estimate, fit.conditional_means()
    with_prior = fit.integrated.mean_coefficients(_at_optimum(fit, estimate))
    tables = []
    for group in design.groups:
        name = f"u_{group.factor}"
        tables.append(
            _compared(
                group,
                fit.thinned_draws.shape,
                means[name],
                _spread(fit, group),
                with_prior[name][0],
                estimate.of(group.factor),
            )
        )
    table = pd.concat(tables)
    if design.family is not None:
        table.attrs["blup"] = CONDITIONAL_MODE
    return table


def _at_optimum(fit: IntegratedPosterior, estimate: Estimate) -> WorkingTheta:
    """Theta of the estimate; of a family with its coefficients."""
    if fit.design.family is None:
        return estimate.working_theta
    algebra: Any = fit.integrated  # a QuadratureModel
    u = {f.factor: f.u[None] for k, f in enumerate(estimate.factors) if k != algebra.integrated}
    point: WorkingTheta = algebra.point_of_draws(estimate.working_theta, estimate.beta[None], u)
    return point


def _spread(fit: IntegratedPosterior, group: GroupDesign) -> np.ndarray:
    """Shape (J, q): posterior sds of the deviations, which may be too many to be kept."""
    if fit.keeps_levels:
        sd: np.ndarray = fit.variable(f"u_{group.factor}").std(("chain", "draw"), ddof=1).to_numpy()
        return sd
    sds = fit.random_effects(diagnostics=False)["sd"].xs(group.factor, level="factor")
    return sds.to_numpy().reshape(-1, len(group.terms))


def _compared(
    group: GroupDesign,
    n_draws: tuple[int, ...],
    draws: np.ndarray,
    sd: np.ndarray,
    with_prior: np.ndarray,
    estimate: FactorEstimate,
) -> pd.DataFrame:
    """The table of one factor: conditional means (K, J, q), sds (J, q), and the estimate."""
    chained = xr.DataArray(
        draws.reshape(*n_draws, *draws.shape[1:]), dims=("chain", "draw", "level", "term")
    )
    mean, blup = draws.mean(axis=0), estimate.u
    pev = np.diagonal(estimate.u_pev, axis1=1, axis2=2)
    columns = {
        "posterior_mean": mean,
        "posterior_sd": sd,
        "mcse": monte_carlo_error(chained),
        "blup": blup,
        "blup_se": np.sqrt(pev),
        "difference": mean - blup,
        "due_to_coefficient_prior": with_prior - blup,
        "due_to_variances": mean - with_prior,
    }
    index = level_index(group.schema)
    return pd.DataFrame({k: np.asarray(v).reshape(-1) for k, v in columns.items()}, index=index)


def _check_kinds(fit: object, reml: object) -> None:
    if not isinstance(fit, Posterior) or not isinstance(reml, Optimum):
        raise ArgumentError(
            "compare_blups(fit, reml) takes model.fit() and model.reml(), in this order; given: "
            f"{type(fit).__name__}, {type(reml).__name__}.",
            "posterior-needed",
        )


def _check_same(one: Design, other: Design) -> None:
    if one.fingerprint != other.fingerprint:
        raise ComparisonError(
            f"the posterior has {one.n} rows of {one.spec.response}, the BLUPs {other.n} rows of "
            f"{other.spec.response}, or their values differ. Fit both from one model, "
            "model.fit() and model.reml().",
            "different-rows",
        )
    if one.spec != other.spec:
        raise ComparisonError(
            f"the posterior is of {one.spec.formula}, the BLUPs of {other.spec.formula}. "
            "Fit both from one model, model.fit() and model.reml().",
            "different-models",
        )
