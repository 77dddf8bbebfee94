"""How far each level was pulled, and towards what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import arviz_stats as azs
import numpy as np
import pandas as pd
import xarray as xr
from arviz_base import rcParams

from hierpool.core.coding import Coding
from hierpool.core.design import Block, Design, GroupDesign
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.gaussian import BetaPrior, condition
from hierpool.core.moments import Coordinates, Moments, Rows, single_group
from hierpool.core.sweep import own_least_squares
from hierpool.core.tables import level_index


def shrinkage(fit: Any) -> pd.DataFrame:
    """Own estimate, partially pooled estimate and pooling factor of each level and term.

    Parameters
    ----------
    fit
        A partially pooled ``PosteriorFit`` (posterior means, pooling factor with interval), or
        ``BlupFit`` (BLUPs, pooling factor at the optimum).

    Returns
    -------
    DataFrame
        Index (factor, level, term). ``n``: rows of the level. ``no_pooling``: least squares on the
        level's own rows, less the terms that do not vary; NaN where the rows cannot tell it.
        ``partial_pooling``: the fit's coefficient. ``population``: the fit's own beta, which it is
        pulled towards (0 for a term without one). ``complete_pooling``: the one-line fit of the
        same columns. ``pooling_factor``: Var(u | y, theta, beta) / Var(u), in [0, 1]: 0 keeps the
        level's own estimate, 1 is complete pooling. Interval as ArviZ's rcParams say.

    References
    ----------
    Gelman and Pardoe (2006), Technometrics 48, 241-251.
    """
    if not hasattr(fit, "draws") and not hasattr(fit, "estimate"):
        raise ArgumentError(
            f"shrinkage() takes a fit, model.fit() or model.reml(); given: {type(fit).__name__}.",
            "fit-needed",
        )
    design: Design = fit.design
    group = single_group(design)
    if group is None or not group.is_pooled:
        raise UnsupportedModelError(
            f"{design.spec.formula} does not pool partially, so nothing is shrunk. "
            "Fit varying_intercept(...) or varying_slope(...).",
            "no-shrinkage",
        )
    is_posterior = hasattr(fit, "draws")
    if is_posterior:
        means = {k: v.mean(axis=0) for k, v in fit.conditional_means().items()}
        beta, coef = means["beta"], means["coef"]
        factors = _factor_draws(fit.integrated, fit.theta.sigma, fit.relative_factor, group)
    else:
        beta, coef = fit.estimate.beta, fit.estimate.only.coef
        coordinates = Coordinates.of(design)
        moments = Moments.of(Rows.of(design, coordinates))
        sigma, factor = np.array([fit.estimate.sigma]), fit.estimate.relative_factor[None]
        at = condition(moments, sigma, factor, BetaPrior.flat(moments.p))
        factors = _pooling_factors(at.covariance_given_beta, sigma, factor, coordinates.z)
    design_of = Moments.of_design(design).design_of
    own, one_line = own_estimates(design, group, beta), one_line_fit(design)
    population = _at_terms(beta, group, fill=0.0)
    shape = coef.shape
    levels = level_index(group)
    table = pd.DataFrame(
        {
            "n": np.repeat(group.grouping.n_rows, shape[1]),
            "no_pooling": own.reshape(-1),
            "partial_pooling": coef.reshape(-1),
            "population": np.tile(population, shape[0]),
            "complete_pooling": np.tile(_at_terms(one_line, group, fill=np.nan), shape[0]),
            "pooling_factor": factors.mean(axis=0)[design_of].reshape(-1),
        },
        index=levels,
    )
    return table.join(_interval(factors, design_of, levels, fit.n_draws)) if is_posterior else table


def own_estimates(design: Design, group: GroupDesign, beta: np.ndarray) -> np.ndarray:
    """Shape (J, q): least squares of each level's rows on the group columns, user's coding.

    The terms that do not vary are taken off at ``beta`` (p,) first; NaN where the rows of a level
    cannot tell a coefficient.
    """
    fixed = np.setdiff1d(np.arange(len(design.terms)), group.population)
    own_blocks = replace(group, blocks=(Block(0, len(group.terms), "none"),))
    y, none = design.y - design.X[:, fixed] @ beta[fixed], np.zeros((design.n, 0))
    alone = replace(design, y=y, X=none, terms=(), groups=(own_blocks,))
    coordinates = Coordinates.of(alone)
    moments = Moments.of(Rows.of(alone, coordinates))
    own = own_least_squares(moments.A[moments.design_of], moments.b)
    user = coordinates.u_to_user(np.nan_to_num(own)[None], np.zeros((1, 0)))[0]
    return np.where(np.isnan(own), np.nan, user)


def one_line_fit(design: Design) -> np.ndarray:
    """Shape (p,): least squares of all rows on the population columns, user's coding."""
    one_line = replace(design, groups=())
    coordinates = Coordinates.of(one_line)
    rows = Rows.of(one_line, coordinates)
    return coordinates.beta_to_user(np.linalg.lstsq(rows.X, rows.y)[0])


def _at_terms(beta: np.ndarray, group: GroupDesign, fill: float) -> np.ndarray:
    """Shape (q,): the population coefficients of the group's terms, ``fill`` where there is none."""
    return np.append(beta, fill)[group.population]


def _factor_draws(
    integrated: Any, sigma: np.ndarray, factor: np.ndarray, group: GroupDesign
) -> np.ndarray:
    """Shape (draws, U, q): pooling factors of each unique level design."""
    m, z = integrated.moments, integrated.coordinates.z
    parts = [
        _pooling_factors(
            integrated.condition(sigma[part], factor[part]).covariance_given_beta,
            sigma[part],
            factor[part],
            z,
        )
        for part in integrated.blocks(len(sigma), 4 * len(m.counts) * m.q**2)
    ]
    return np.concatenate(parts)


def _pooling_factors(
    conditional: np.ndarray, sigma: np.ndarray, factor: np.ndarray, z: Coding | None
) -> np.ndarray:
    """Shape (K, U, q): condVar_kk / Sigma_kk in the user's coding; 1 where Sigma_kk is zero."""
    assert z is not None
    root = z.from_working @ factor * sigma[:, None, None]
    total = (root**2).sum(axis=-1)[:, None]
    left = np.einsum("ka,nuab,kb->nuk", z.from_working, conditional, z.from_working)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, np.clip(left / total, 0.0, 1.0), 1.0)


def _interval(
    factors: np.ndarray, design_of: np.ndarray, levels: pd.MultiIndex, n_draws: tuple[int, int]
) -> pd.DataFrame:
    kind, probability = rcParams["stats.ci_kind"], float(rcParams["stats.ci_prob"])
    draws = factors.reshape(*n_draws, *factors.shape[1:])
    data = xr.Dataset({"v": (("chain", "draw", "design", "term"), draws)})
    bounds = (azs.hdi if kind == "hdi" else azs.eti)(data, prob=probability)["v"]
    percent = f"{100 * probability:g}"
    return pd.DataFrame(
        {
            f"pooling_factor_{kind}{percent}_{label}": bounds.sel(ci_bound=bound)
            .to_numpy()[design_of]
            .reshape(-1)
            for bound, label in (("lower", "lb"), ("upper", "ub"))
        },
        index=levels,
    )
