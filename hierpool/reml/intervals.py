"""Intervals of fixed effects, standard deviations and correlations: profile, bootstrap, Wald."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from scipy import special

from hierpool.core.arguments import check_choice
from hierpool.core.design import Design
from hierpool.core.errors import (
    ArgumentError,
    FitError,
    HierpoolWarning,
    UnsupportedModelError,
    nearest,
)
from hierpool.core.options import bound_names, probability_of
from hierpool.core.results import (
    Estimate,
    FamilyEstimate,
    pair_values,
    root_of_diagonal,
    variance_component_index,
    variance_component_name,
)
from hierpool.reml import profiles
from hierpool.reml.bootstrap import Each, refits, reported_of_residuals, seeds, simulate
from hierpool.reml.f_tests import quantile
from hierpool.reml.families.parameters import PROBABILITIES
from hierpool.reml.inference import residual_df
from hierpool.reml.refit import Refit

if TYPE_CHECKING:
    from hierpool.reml.random_scale_profiles import ScaleSurface

IntervalMethod = Literal["profile", "bootstrap", "wald"]


@dataclass(frozen=True)
class Simulations:
    """How a bootstrap is run: how often, from which seed, in a loop or in threads."""

    number: int
    seed: int | None
    each: Each[np.random.SeedSequence, Refit | None]


def confidence_intervals(
    design: Design,
    estimate: Estimate,
    method: IntervalMethod,
    prob: float | None,
    chosen: Sequence[str] | None,
    simulations: Simulations,
) -> pd.DataFrame:
    """One row a quantity: estimate and interval. ``attrs`` says how they were made."""
    check_choice("method", method, get_args(IntervalMethod))
    if design.family is not None and method != "wald":
        _check_has_optimum(design, estimate)
    bounds = bound_names("ci", prob)
    prob = probability_of(prob)
    estimates = _estimates(design, estimate)
    names = _chosen(list(estimates), chosen)
    attrs: dict[str, object] = {"method": method, "prob": prob}
    if method == "bootstrap":
        found, more = _bootstrap(design, estimate, prob, simulations)
        attrs.update(more)
    elif estimate.method == "least squares":
        found = _exact(design, estimate, prob)
    elif method == "wald":
        found = _wald(design, estimate, prob)
    else:
        found = _profile(design, estimate, prob, names)
    table = pd.DataFrame(
        [(estimates[name], *found.get(name, (np.nan, np.nan))) for name in names],
        index=pd.Index(names, name="quantity"),
        columns=["estimate", *bounds],
        dtype=float,
    )
    table.attrs.update(attrs)
    return table


type Bounds = dict[str, tuple[float, float]]


def _estimates(design: Design, estimate: Estimate) -> dict[str, float]:
    """Name -> estimate: fixed effects, sds and correlations, sigma."""
    names = [f"beta[{term}]" for term in design.terms]
    names += [
        variance_component_name(*key) for key in variance_component_index(design.schema).index
    ]
    values = [*estimate.beta]
    for group in design.schema.groups:
        if group.is_pooled:
            own = estimate.of(group.factor)
            values += [*own.sd, *pair_values(group, own.corr)]
    values += [estimate.sigma] if design.residual.has_sigma else []
    values += reported_of_residuals(design, estimate.sigma, estimate.residual_parameters)
    values += [*estimate.par]
    return dict(zip(names, map(float, values), strict=True))


def _chosen(names: list[str], chosen: Sequence[str] | None) -> list[str]:
    if chosen is None:
        return names
    for name in chosen:
        if name not in names:
            raise ArgumentError(f"no quantity {name!r}: {nearest(name, names)}", "unknown-choice")
    return [name for name in names if name in chosen]


def _profile(design: Design, estimate: Estimate, prob: float, names: Sequence[str]) -> Bounds:
    # The square of a normal quantile is that of chi-squared with 1 df, by which a deviance may rise.
    cut = float(special.ndtri((1 + prob) / 2)) ** 2
    if design.family is not None:
        from hierpool.reml.families.surface import FamilySurface

        family = FamilySurface.from_estimate(design, estimate)
        return {
            held.name: family.in_user_coding(held, profiles.interval(family, held, cut))
            for held in family.quantities
            if held.name in names
        }
    surface: profiles.GaussianSurface | ScaleSurface
    if design.scale_factor:
        from hierpool.reml.random_scale_profiles import ScaleSurface

        surface = ScaleSurface.from_estimate(design, estimate)
    else:
        surface = profiles.GaussianSurface.from_design(design)
    found: Bounds = {}
    known: dict[tuple[int, tuple[int, int]], str] = {}  # correlations at one lag are one
    for held in surface.quantities:
        if held.name not in names:
            continue
        same = known.setdefault((held.position, held.pair), held.name)
        if held.kind == "occasions" and same in found:
            found[held.name] = found[same]
        else:
            found[held.name] = surface.in_user_coding(held, profiles.interval(surface, held, cut))
    return found


def _wald(design: Design, estimate: Estimate, prob: float) -> Bounds:
    half = float(special.ndtri((1 + prob) / 2)) * root_of_diagonal(estimate.beta_covariance)
    ends = zip(design.terms, estimate.beta - half, estimate.beta + half, strict=True)
    found = {f"beta[{term}]": (float(low), float(high)) for term, low, high in ends}
    if estimate.family is None:
        return found
    return found | _wald_of_spread(design, estimate, estimate.family, prob)


def _wald_of_spread(design: Design, estimate: Estimate, own: FamilyEstimate, prob: float) -> Bounds:
    """Of sds, correlations and parameters, on scales without bounds: log, Fisher's z, log, logit."""
    z, found = float(special.ndtri((1 + prob) / 2)), {}
    rows: list[tuple[float, float, str]] = []
    for group in design.schema.groups:
        if group.is_pooled:
            e = estimate.of(group.factor)
            rows += [(v, s, "log") for v, s in zip(e.sd, e.sd_se, strict=True)]
            pairs = zip(pair_values(group, e.corr), pair_values(group, e.corr_se), strict=True)
            rows += [(v, s, "fisher") for v, s in pairs]
    kinds = [_kind(name) for name in own.names]
    rows += list(zip(estimate.par, own.par_se, kinds, strict=True))
    names = list(_estimates(design, estimate))[len(design.terms) :]
    for name, (value, se, kind) in zip(names, rows, strict=True):
        to, slope, back = _SCALES[kind]
        with np.errstate(all="ignore"):
            at, half = to(value), z * se * slope(value)
            found[name] = float(back(at - half)), float(back(at + half))
    return found


def _kind(parameter: str) -> str:
    """The scale on which a parameter of a family is nearly normal."""
    if parameter.startswith("thresholds"):
        return "identity"
    return "logit" if parameter in PROBABILITIES else "log"


def _check_has_optimum(design: Design, estimate: Estimate) -> None:
    """Raise where a family has nothing to profile or to simulate from."""
    if design.spec.pooling == "none":
        raise UnsupportedModelError(
            f"{design.spec.formula} is not pooled, and intervals of a family without pooling are "
            "Wald's: fit.coefficients() has each group's standard errors, and "
            "fit.confint(method='wald') intervals of common coefficients",
            "wald-only",
        )
    if not estimate.status.is_trustworthy:
        raise FitError(
            f"{design.spec.formula} has no optimum to start from: {estimate.status.sentence} "
            "fit.confint(method='wald') has what can be told",
            "no-optimum",
        )


type Scale = Callable[[float], float]
# A scale without bounds, its slope, and the way back.
_SCALES: dict[str, tuple[Scale, Scale, Scale]] = {
    "identity": (float, lambda v: 1.0, float),
    "log": (np.log, lambda v: 1 / v, np.exp),
    "fisher": (np.arctanh, lambda v: 1 / (1 - v**2), np.tanh),
    "logit": (special.logit, lambda v: 1 / (v * (1 - v)), special.expit),
}


def _exact(design: Design, estimate: Estimate, prob: float) -> Bounds:
    """Of least squares: t for the coefficients, chi-squared for sigma."""
    df = residual_df(design, estimate)
    half = float(quantile(prob, np.array(df))) * root_of_diagonal(estimate.beta_covariance)
    ends = zip(design.terms, estimate.beta - half, estimate.beta + half, strict=True)
    found = {f"beta[{term}]": (float(low), float(high)) for term, low, high in ends}
    if design.residual.has_sigma:
        tails = np.array([(1 - prob) / 2, (1 + prob) / 2])
        # chdtri takes an upper tail: the first of the tails gives the large quantile, and the low end.
        low, high = estimate.sigma * np.sqrt(df / special.chdtri(df, tails))
        found["sigma"] = (float(low), float(high))
    return found


def _bootstrap(
    design: Design, estimate: Estimate, prob: float, simulations: Simulations
) -> tuple[Bounds, dict[str, object]]:
    seed, own = seeds(simulations.number, simulations.seed)
    model = refits(design, estimate)

    def work(seed: np.random.SeedSequence) -> Refit | None:
        return model.to(simulate(design, estimate, seed))

    done = simulations.each(work, own)
    good = [r.values for r in done if r is not None]
    failed = len(done) - len(good)
    if failed:
        warnings.warn(
            f"{failed} of {len(done)} refits of {design.spec.formula} failed and were left out "
            "of the bootstrap.",
            HierpoolWarning,
            stacklevel=2,
        )
    tails = [(1 - prob) / 2, (1 + prob) / 2]
    names = list(_estimates(design, estimate))
    ends = np.full((2, len(names)), np.nan)
    for k, values in enumerate(np.array(good).reshape(-1, len(names)).T):
        if np.isfinite(values).any():
            ends[:, k] = np.nanquantile(values, tails)
    found = {name: (float(low), float(high)) for name, low, high in zip(names, *ends, strict=True)}
    return found, {"simulations": len(done), "failed": failed, "seed": seed}
