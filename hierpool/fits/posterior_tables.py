"""Tables of a posterior: draws summed up, the means being those that predictions use too."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers.coefficient_draws import levels_on_request
from hierpool.core.results import (
    level_index,
    pair_positions,
    residual_entries,
    variance_component_index,
    variance_component_name,
)
from hierpool.core.schema import GroupSchema


def fixed_effects(fit: IntegratedPosterior) -> pd.DataFrame:
    """Index ``term``."""
    index = pd.Index(fit.design.terms, name="term")
    if not len(index):
        return pd.DataFrame(index=index)
    table = _summed_up(fit.variable("beta"))
    return table.assign(mean=fit.population_means).set_index(index)


def of_levels(
    fit: IntegratedPosterior, groups: Sequence[GroupSchema], key: str, diagnostics: bool
) -> pd.DataFrame:
    """Deviations (``"u"``) or coefficients (``"coef"``): index (factor, level, term)."""
    tables = []
    for group in groups:
        name = f"{key}_{group.factor}"
        runs = [_summed_up(run, diagnostics) for run in _runs(fit, name)]
        mean = fit.posterior_means[name].ravel()
        table = pd.concat(runs, ignore_index=True)
        tables.append(table.assign(mean=mean).set_index(level_index(group)))
    return pd.concat(tables)


def covariances(fit: IntegratedPosterior, factor: str) -> np.ndarray:
    """Shape (J, q, q): of the coefficients of each level of a factor."""
    out, K = [], int(np.prod(fit.n_draws))
    for run in _runs(fit, f"coef_{factor}"):
        flat = run.to_numpy().reshape(K, *run.shape[2:])
        off = flat - flat.mean(axis=0)
        out.append(np.einsum("kjq,kjr->jqr", off, off, optimize=True) / (K - 1))
    return np.concatenate(out)


def _runs(fit: IntegratedPosterior, name: str) -> Iterator[xr.DataArray]:
    """Draws of what belongs to levels, all at once where they are kept, else some levels at a time."""
    stored = fit.draws["posterior"]
    if name in stored or f"u_{name.removeprefix('coef_')}" in stored:
        yield fit.variable(name)
        return
    for _, run in levels_on_request(fit):
        drawn = run[name].reshape(*fit.n_draws, *run[name].shape[1:])
        yield xr.DataArray(drawn, dims=("chain", "draw", "level", "term"))


def variance_components(
    fit: IntegratedPosterior, without_mean: Collection[str] = ()
) -> pd.DataFrame:
    """Index (factor, parameter, term, term2), the residual sd or the family's parameters last.

    ``without_mean``: parameters of the family whose posterior has no mean.
    """
    index, parts = variance_component_index(fit.design.schema).index, []
    for group in fit.design.schema.groups:
        if not group.is_pooled:
            continue
        parts.append(fit.variable(f"sd_{group.factor}"))
        if group.has_correlation:
            corr = fit.variable(f"corr_{group.factor}")
            parts += [corr[..., i, j] for i, j in pair_positions(group)]
    if fit.design.residual.has_sigma:
        parts.append(fit.variable("sigma"))
    for _, name, at in residual_entries(fit.design.schema):
        parts.append(fit.variable(name)[(..., *at)])
    if fit.design.family is not None:
        parts += [fit.variable(name) for name in fit.design.family.parameters]
        if fit.design.family.has_thresholds:
            parts.append(fit.variable("thresholds"))
    if not parts:
        return pd.DataFrame(index=index)
    table = pd.concat(map(_summed_up, parts), ignore_index=True).set_index(index)
    infinite = index.get_level_values("parameter").isin(list(without_mean))
    table.loc[infinite, ["mean", "sd"]] = np.nan
    return table


def of_quantities(
    fit: IntegratedPosterior, values: np.ndarray, index: pd.Index[Any]
) -> pd.DataFrame:
    """Mean, median, sd and interval of draws (K, quantities)."""
    shaped = values.reshape(*fit.n_draws, -1)
    named = xr.DataArray(shaped, dims=("chain", "draw", "quantity"))
    return _summed_up(named, diagnostics=False).set_index(index)


def summary(fit: IntegratedPosterior, without_mean: Collection[str] = ()) -> pd.DataFrame:
    """Fixed effects, standard deviations and correlations: index ``quantity``."""
    fixed, spread = fixed_effects(fit), variance_components(fit, without_mean)
    fixed.index = pd.Index([f"beta[{term}]" for term in fixed.index])
    spread.index = pd.Index([variance_component_name(*key) for key in spread.index])
    return pd.concat([fixed, spread]).rename_axis("quantity")


def _summed_up(values: xr.DataArray, diagnostics: bool = True) -> pd.DataFrame:
    from hierpool.draws import summary as draws_summary  # ArviZ loads when first needed

    return draws_summary.summary(values, diagnostics)
