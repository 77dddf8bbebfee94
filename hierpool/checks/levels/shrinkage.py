"""Shrinkage of each group towards the population."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import arviz_stats as azs
import numpy as np
import pandas as pd
import xarray as xr
from arviz_base import rcParams

from hierpool.algebra.correlated.residuals import normalised
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.moments import Coordinates, Moments, Rows, by_level
from hierpool.algebra.one_factor import OneFactor
from hierpool.algebra.sweep import own_least_squares
from hierpool.checks.levels import likelihood_of_levels
from hierpool.core.coding import Coding
from hierpool.core.covariance import Fixed
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.core.options import bound_names, options
from hierpool.core.results import FactorEstimate, level_index
from hierpool.core.schema import Block

OwnEstimate = Callable[[GroupDesign, Mapping[str, np.ndarray]], np.ndarray]
SOME_DRAWS = 200  # draws of theta from which pooling factors of several factors are made


def shrinkage(fit: IntegratedPosterior | Optimum) -> pd.DataFrame:
    """Shrinkage: own estimate, partially pooled estimate and pooling factor of each group and term.

    Parameters
    ----------
    fit
        A partially pooled ``PosteriorFit`` (posterior means, pooling factor with interval), or
        ``LikelihoodFit`` (BLUPs, pooling factor at the optimum).

    Returns
    -------
    DataFrame
        Index (factor, level, term). ``n``: number of rows. ``own_estimate``: least squares on the
        group's own rows, with the terms that do not vary subtracted; NaN if not estimable; generalised
        least squares where residuals have a structure, at the estimates of its parameters. With a
        family it is maximum likelihood, and all are on the scale of the linear predictor.
        ``partial_pooling``: the coefficient of the group in the fit. ``population``: the fixed
        effect that it is shrunk towards (0 for a term without one). ``complete_pooling``: least
        squares on all rows. ``pooling_factor``: Var(u | y, theta, beta) / Var(u), from 0 (no
        shrinkage) to 1 (complete shrinkage), with an interval of ``hp.options.prob``.

    References
    ----------
    Gelman and Pardoe (2006), Technometrics 48, 241-251.
    """
    check_fit(fit, "shrinkage")
    design = fit.design
    if not design.groups or not design.groups[0].is_pooled:
        raise UnsupportedModelError(
            f"{design.spec.formula} does not pool partially, so nothing is shrunk. "
            "Fit varying_intercept(...) or varying_slope(...).",
            "no-shrinkage",
        )
    if isinstance(fit, Posterior):
        means = fit.posterior_means
        factors = _factor_draws(fit)
    else:
        e = fit.estimate
        means = {"beta": e.beta} | {f"u_{f.factor}": f.u for f in e.factors}
        factors = [_at_optimum(f) for f in e.factors]
    one_line, own_estimate = _estimates(fit)
    tables = []
    for group, pooled in zip(design.groups, factors, strict=True):
        own = own_estimate(group, means)
        tables.append(_table(group, means, own, one_line, pooled))
    return pd.concat(tables)


def _estimates(fit: IntegratedPosterior | Optimum) -> tuple[np.ndarray, OwnEstimate]:
    """Estimates from all rows, and what gives those of each level's rows."""
    design, family = fit.design, fit.design.family
    if family is None and design.residual.structure is not None:
        return _generalised(design, fit)
    if family is None:
        return one_line_fit(design), partial(own_estimates, design)
    if isinstance(fit, Posterior):
        par = fit.family_parameters.mean(axis=0)
    else:
        point: Any = fit.estimate.working_theta  # a FamilyPoint
        par = point.par[0]
    return (
        likelihood_of_levels.one_line(design, family, par),
        lambda group, means: likelihood_of_levels.own_estimates(design, family, group, means, par),
    )


def _generalised(
    design: Design, fit: IntegratedPosterior | Optimum
) -> tuple[np.ndarray, OwnEstimate]:
    """The same by generalised least squares, the parameters of the residuals at their estimates."""
    phi: Any = fit.residual_parameters
    phi = phi.mean(axis=0) if phi.ndim > 1 else phi  # draws

    def own(group: GroupDesign, means: Mapping[str, np.ndarray]) -> np.ndarray:
        Z = normalised(design, group.Z, phi)
        y = normalised(design, _left_to(design, group, means), phi)
        products = by_level(
            Z, np.column_stack([Z, y]), group.grouping.codes, len(group.grouping.levels)
        )
        return own_least_squares(products[..., :-1], products[..., -1])

    X, y = (normalised(design, v, phi) for v in (design.X, design.y_less_offset))
    return np.linalg.lstsq(X, y)[0], own


@dataclass(frozen=True)
class _Pooled:
    """Pooling factors of the designs of one factor: means and bounds (U, q), the design of each level.

    ``bounds`` by the names of their columns; none where there are no draws.
    """

    mean: np.ndarray
    bounds: Mapping[str, np.ndarray]
    design_of: np.ndarray

    @classmethod
    def of(cls, draws: np.ndarray, design_of: np.ndarray) -> _Pooled:
        """Of draws (chains, draws, U, q)."""
        return cls(draws.mean(axis=(0, 1)), _interval(draws), design_of)

    @classmethod
    def joined(cls, parts: Sequence[_Pooled]) -> _Pooled:
        """Of designs in parts, which all know the design of each level."""
        first = parts[0]
        bounds = {k: np.concatenate([p.bounds[k] for p in parts]) for k in first.bounds}
        return cls(np.concatenate([p.mean for p in parts]), bounds, first.design_of)


def _table(
    group: GroupDesign,
    means: Mapping[str, np.ndarray],
    own: np.ndarray,
    one_line: np.ndarray,
    pooled: _Pooled,
) -> pd.DataFrame:
    u, population = means[f"u_{group.factor}"], _at_terms(means["beta"], group, fill=0.0)
    n_levels, index = len(u), level_index(group.schema)
    table = pd.DataFrame(
        {
            "n": np.repeat(group.grouping.n_rows, u.shape[1]),
            "own_estimate": own.reshape(-1),
            "partial_pooling": (population + u).reshape(-1),
            "population": np.tile(population, n_levels),
            "complete_pooling": np.tile(_at_terms(one_line, group, fill=np.nan), n_levels),
            "pooling_factor": pooled.mean[pooled.design_of].reshape(-1),
        },
        index=index,
    )
    return table.assign(
        **{
            f"pooling_factor_{name}": bound[pooled.design_of].reshape(-1)
            for name, bound in pooled.bounds.items()
        }
    )


def own_estimates(
    design: Design, group: GroupDesign, means: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Shape (J, q): least squares of each level's rows on the group columns, user's coding.

    The terms that do not vary, and other factors, are taken off at ``means`` ("beta" and
    "u_<factor>") first; NaN where a coefficient is not estimable.
    """
    rows, y = design.observations, _left_to(design, group, means)
    unpooled = replace(group.schema, blocks=(Block(0, len(group.terms), Fixed()),))
    none = np.zeros((len(y), 0))
    columns = {"terms": (), "coding": Coding.from_columns(none), "column_means": none[0]}
    summed = None if rows.summed is None else replace(rows.summed, X_rest=none)
    schema = replace(design.schema, groups=(unpooled,), **columns)
    alone = Design(schema, replace(rows, X=none, offset=0.0, summed=summed)).with_response(y)
    coordinates = Coordinates.from_design(alone)
    moments = Moments.from_rows(Rows.from_design(alone, coordinates))
    own = own_least_squares(moments.A[moments.design_of], moments.b)
    user = coordinates.u_to_user(np.nan_to_num(own)[None], np.zeros((1, 0)))[0]
    return np.where(np.isnan(own), np.nan, user)


def _left_to(design: Design, group: GroupDesign, means: Mapping[str, np.ndarray]) -> np.ndarray:
    """Shape (n,): the response less the terms that do not vary over a factor, and other factors."""
    fixed = np.setdiff1d(np.arange(len(design.terms)), group.population)
    rows = design.observations
    y = rows.y_less_offset - rows.X[:, fixed] @ means["beta"][fixed]
    for other in design.groups:
        if other is not group:
            u = means[f"u_{other.factor}"][other.grouping.codes]
            y = y - np.einsum("nq,nq->n", other.Z, u)
    return np.asarray(y)


def one_line_fit(design: Design) -> np.ndarray:
    """Shape (p,): least squares of all rows on the population columns, user's coding."""
    one_line = design.with_schema(groups=())
    coordinates = Coordinates.from_design(one_line)
    rows = Rows.from_design(one_line, coordinates)
    return coordinates.beta_to_user(np.linalg.lstsq(rows.X, rows.y)[0])


def _at_terms(beta: np.ndarray, group: GroupDesign, fill: float) -> np.ndarray:
    """Shape (q,): the population coefficients of the group's terms, ``fill`` where there is none."""
    return np.append(beta, fill)[group.population]


def _factor_draws(fit: IntegratedPosterior) -> list[_Pooled]:
    """Pooling factors of every factor at the draws of theta; at some of them where that is dear."""
    design, algebra = fit.design, fit.integrated
    kept = fit.thinned_draws
    if len(design.groups) > 1:
        kept = kept[:, :: max(1, kept.size // SOME_DRAWS)]
    if design.family is not None:
        return [_of_family(fit, f) for f in range(len(design.groups))]
    theta = fit.working_theta[kept.ravel()]
    to_user = algebra.coordinates.u_from_working
    total = ((to_user @ theta.Lambda * theta.sigma[:, None, None]) ** 2).sum(axis=-1)

    def pooled(left: np.ndarray, design_of: np.ndarray, at: slice) -> _Pooled:
        share = _share(left, total[:, None, at])
        return _Pooled.of(share.reshape(*kept.shape, *share.shape[1:]), design_of)

    if isinstance(algebra, OneFactor):  # whose designs may be a hundred thousand
        of, (every,) = algebra.moments.design_of, design.group_columns
        parts = [pooled(left, of, every) for _, left in algebra.variances_by_design(theta)]
        return [_Pooled.joined(parts)]
    found = algebra.conditional_variances(theta)
    return [pooled(*own, at) for own, at in zip(found, design.group_columns, strict=True)]


def _of_family(fit: IntegratedPosterior, f: int) -> _Pooled:
    """Pooling factors of a factor of another response than a Gaussian one.

    Of the factor whose levels are integrated at each draw of theta and beta; of the others the
    variance over the draws, in all of them.
    """
    group = fit.design.groups[f]
    algebra: Any = fit.integrated  # a QuadratureModel
    n_levels = np.arange(group.grouping.n_levels)
    total = np.square(fit.variable(f"sd_{group.factor}").to_numpy())
    if f != algebra.integrated:
        left = fit.variable(group.level_variable).to_numpy().var(axis=(0, 1))
        share = _share(left, np.broadcast_to(total.mean(axis=(0, 1)), left.shape))
        return _Pooled(share, {}, n_levels)
    every = np.arange(total.shape[0] * total.shape[1]).reshape(total.shape[:2])
    kept = every[:, :: max(1, every.size // SOME_DRAWS)]
    point: Any = fit.working_theta[kept.ravel()]
    covariance = algebra.conditional_moments(point)[1]
    own = fit.design.group_columns[f]
    root = algebra.coordinates.zs[f].from_working @ point.Lambda[:, own, own]
    left = np.einsum("kab,kjbc,kac->kja", root, covariance, root)
    share = _share(left, np.square(root).sum(axis=-1)[:, None])
    return _Pooled.of(share.reshape(*kept.shape, *share.shape[1:]), n_levels)


def _at_optimum(e: FactorEstimate) -> _Pooled:
    share = _share(np.diagonal(e.u_condvar, axis1=-2, axis2=-1), e.sd**2)
    return _Pooled(share, {}, np.arange(len(share)))


def _share(left: np.ndarray, total: np.ndarray) -> np.ndarray:
    """condVar_kk / Sigma_kk; 1 where Sigma_kk is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, np.clip(left / total, 0.0, 1.0), 1.0)


def _interval(draws: np.ndarray) -> dict[str, np.ndarray]:
    """Bounds (U, q) of draws (chains, draws, U, q), by their names."""
    kind = rcParams["stats.ci_kind"]
    data = xr.Dataset({"v": (("chain", "draw", "design", "term"), draws)})
    bounds = (azs.hdi if kind == "hdi" else azs.eti)(data, prob=options.prob)["v"]
    return {
        name: bounds.sel(ci_bound=bound).to_numpy()
        for bound, name in zip(("lower", "upper"), bound_names(kind), strict=True)
    }
