"""NUTS on the full PyMC model, returned in the same form as the exact engine's draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from hierpool.bayes.nuts import collapsed, pymc_model, samplers
from hierpool.bayes.nuts.parameterization import Seen
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import (
    LARGEST_SUMS,
    EngineRun,
    SamplerSettings,
    log_likelihood_is,
    make_tree,
    variance_components,
)
from hierpool.bayes.theta import integrate
from hierpool.core.design import Design
from hierpool.core.results import variable_dims
from hierpool.core.theta import Theta

INTEGRATED = "integrated"  # of terms whose coefficients are not among what NUTS samples


def run(
    design: Design, priors: ModelPriors, settings: SamplerSettings, parameterization: Seen
) -> EngineRun:
    """Draw every parameter and coefficient by NUTS, each as ``parameterization`` says.

    ``log_likelihood`` is the integrated form, from the draws of theta; for a model with priors
    that are not normal on its coefficients, which cannot be integrated out, it is left out.
    """
    model = pymc_model.build(design, priors, parameterization.by_term, parameterization.near)
    sampled = _sampled(model, settings)
    theta = pymc_model.theta_of(sampled.posterior, design, priors)
    variables = {
        k: _flat(sampled.posterior[k])
        for k in variable_dims(design.schema)
        if k in sampled.posterior
    }
    tree = make_tree(design, variables, theta, _stats(sampled), settings.chains)
    info = _info(sampled, settings, parameterization.by_term)
    kept = log_likelihood_is(design, len(theta))
    is_integrable = priors.is_integrable and not design.schema.is_only_sampled
    info["log_likelihood"] = kept if is_integrable else "not integrable"
    checked = [k for k in variables if not k.startswith("coef_") or f"u_{k[5:]}" not in variables]
    return EngineRun(tree, info, tuple(checked))


def run_collapsed(
    design: Design, priors: ModelPriors, settings: SamplerSettings
) -> EngineRun | None:
    """Draw theta by NUTS with every coefficient integrated out, then these from their conditionals.

    Of models that ``samples_scales``, with normal priors on their coefficients; None where the full
    model is faster.
    """
    found = sample_theta(design, priors, settings)
    if found is None:
        return None
    sampled, theta = found
    model, theta_map = integrate(design, priors)
    keeps_sums = len(theta) * model.n_random_effects <= LARGEST_SUMS
    coefficients = model.draw(theta_map.working(theta), settings.seed, None, keeps_sums)
    every = {**coefficients, **variance_components(design, theta_map, theta)}
    variables = {name: values for name, values in every.items() if values.size}
    tree = make_tree(design, variables, theta, _stats(sampled), settings.chains)
    words = {g.factor: dict.fromkeys(g.terms, INTEGRATED) for g in design.groups}
    info = _info(sampled, settings, words)
    info["log_likelihood"] = log_likelihood_is(design, len(theta))
    checked = [k for k in variables if not k.startswith(("coef_", "u_"))]
    return EngineRun(tree, info, tuple(checked))


def sample_theta(
    design: Design, priors: ModelPriors, settings: SamplerSettings
) -> tuple[samplers.Sampled, Theta] | None:
    """Draws of theta by NUTS, every coefficient integrated out; None where that is too large."""
    cells = collapsed.Cells.from_design(design, priors)
    if cells is None:
        return None
    sampled = _sampled(collapsed.build(design, priors, cells), settings)
    return sampled, pymc_model.theta_of(sampled.posterior, design, priors)


def _sampled(model: pm.Model, settings: SamplerSettings) -> samplers.Sampled:
    return samplers.sample(
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


def _stats(sampled: samplers.Sampled) -> dict[str, np.ndarray]:
    return {str(k): _flat(v) for k, v in sampled.sample_stats.data_vars.items() if v.ndim == 2}


def _info(
    sampled: samplers.Sampled,
    settings: SamplerSettings,
    by_term: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    return {
        "engine": "nuts",
        "sampler": sampled.sampler,
        "seed": sampled.seed,
        "tune": settings.tune,
        "parameterization": {factor: dict(terms) for factor, terms in by_term.items()},
        "versions": dict(sampled.versions),
        "seconds": sampled.seconds,
    }


def _flat(values: xr.DataArray) -> np.ndarray:
    array = np.asarray(values.transpose("chain", "draw", ...).to_numpy())
    return array.reshape(-1, *array.shape[2:])
