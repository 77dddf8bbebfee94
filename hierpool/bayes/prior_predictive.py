"""Draws from the prior and the responses that they predict, as a DataTree."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hierpool.bayes.prior_draws import Parameters, draw_parameters, simulate
from hierpool.bayes.priors import ModelPriors
from hierpool.core.design import Design
from hierpool.core.results import (
    OBS_DIM,
    RESPONSE,
    coords,
    observed_data,
    row_labels,
    variable_dims,
)


def prior_tree(design: Design, priors: ModelPriors, draws: int, seed: int) -> xr.DataTree:
    """DataTree with the groups prior, prior_predictive and observed_data; one chain."""
    rng = np.random.default_rng(seed)
    drawn, responses = [], []
    for _ in range(draws):
        parameters = draw_parameters(design, priors, rng)
        drawn.append(_named(design, parameters))
        responses.append(simulate(design, parameters, rng))
    dims, labels = variable_dims(design), coords(design)
    prior = {
        name: (("chain", "draw", *dims[name]), np.stack([d[name] for d in drawn])[None])
        for name in drawn[0]
    }
    used = {dim for name in prior for dim in dims[name]}
    sampled = {"chain": [0], "draw": np.arange(draws)}
    observed = {**sampled, OBS_DIM: row_labels(design)}
    predicted = {RESPONSE: (("chain", "draw", OBS_DIM), np.stack(responses)[None])}
    return xr.DataTree.from_dict(
        {
            "prior": xr.Dataset(
                prior, {**sampled, **{k: v for k, v in labels.items() if k in used}}
            ),
            "prior_predictive": xr.Dataset(predicted, observed),
            "observed_data": observed_data(design),
        }
    )


def _named(design: Design, parameters: Parameters) -> dict[str, np.ndarray]:
    """One draw under the names of the vocabulary, user's coding."""
    out = {"sigma": np.asarray(parameters.sigma)}
    if design.terms:
        out["beta"] = parameters.beta
    for group in design.groups:
        if not group.is_pooled:
            out[f"coef_{group.factor}"] = parameters.levels
            continue
        out[f"u_{group.factor}"] = parameters.levels
        population = np.append(parameters.beta, 0.0)[group.population]
        out[f"coef_{group.factor}"] = parameters.levels + population
        out[f"sd_{group.factor}"] = parameters.sd
        if group.has_correlation:
            out[f"corr_{group.factor}"] = parameters.corr
    return out
