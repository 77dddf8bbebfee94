"""Draws from the prior and the responses that they predict, as a DataTree."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hierpool.bayes.prior_draws import draw_parameters, draw_spreads, simulate
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
        drawn.append(parameters.named(design))
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


def prior_spread(design: Design, priors: ModelPriors, draws: int, seed: int) -> xr.Dataset:
    """Standard deviations, correlations and sigma from their priors; one chain."""
    drawn = draw_spreads(design, priors, draws, np.random.default_rng(seed))
    dims, labels = variable_dims(design), coords(design)
    used = {dim for name in drawn for dim in dims[name]}
    return xr.Dataset(
        {name: (("chain", "draw", *dims[name]), values[None]) for name, values in drawn.items()},
        {
            "chain": [0],
            "draw": np.arange(draws),
            **{k: v for k, v in labels.items() if k in used},
        },
    )
