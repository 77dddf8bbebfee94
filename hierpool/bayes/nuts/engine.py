"""NUTS on the full PyMC model, returned in the same form as the exact engine's draws."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hierpool.bayes.nuts import pymc_model, samplers
from hierpool.bayes.nuts.parameterization import Seen
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import (
    EngineRun,
    SamplerSettings,
    log_likelihood_is,
    make_tree,
)
from hierpool.core.design import Design
from hierpool.core.results import variable_dims


def run(
    design: Design, priors: ModelPriors, settings: SamplerSettings, parameterization: Seen
) -> EngineRun:
    """Draw every parameter and coefficient by NUTS, each as ``parameterization`` says.

    ``log_likelihood`` is the integrated form, from the draws of theta; for a model with priors
    that are not normal on its coefficients, which cannot be integrated out, it is left out.
    """
    model = pymc_model.build(design, priors, parameterization.by_term, parameterization.near)
    sampled = samplers.sample(
        model,
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        seed=settings.seed,
        sampler=settings.sampler,  # type: ignore[arg-type]
        target_accept=settings.target_accept,
        progress=settings.progress,
        options=settings.options,
    )
    theta = pymc_model.theta_of(sampled.posterior, design, priors)
    variables = {
        k: _flat(sampled.posterior[k])
        for k in variable_dims(design.schema)
        if k in sampled.posterior
    }
    stats = {str(k): _flat(v) for k, v in sampled.sample_stats.data_vars.items() if v.ndim == 2}
    tree = make_tree(design, variables, theta, stats, settings.chains)
    info = {
        "engine": "nuts",
        "sampler": sampled.sampler,
        "seed": sampled.seed,
        "tune": settings.tune,
        "parameterization": {
            factor: dict(terms) for factor, terms in parameterization.by_term.items()
        },
        "versions": dict(sampled.versions),
        "seconds": sampled.seconds,
    }
    kept = log_likelihood_is(design, len(theta))
    info["log_likelihood"] = kept if priors.is_integrable else "not integrable"
    checked = [k for k in variables if not k.startswith("coef_") or f"u_{k[5:]}" not in variables]
    return EngineRun(tree, info, tuple(checked))


def _flat(values: xr.DataArray) -> np.ndarray:
    array = np.asarray(values.transpose("chain", "draw", ...).to_numpy())
    return array.reshape(-1, *array.shape[2:])
