"""Whether what was read fits together: draws and priors are those of a model of the design."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from hierpool.bayes.priors.model_priors import (
    CoefficientPriors,
    ModelPriors,
    VarianceComponentPriors,
    default_priors,
)
from hierpool.core.coding import Coding
from hierpool.core.results import variable_dims
from hierpool.core.schema import Schema


def check_draws(schema: Schema, datatree: xr.DataTree) -> None:
    """Raise where the draws are not those of a model of this design."""
    posterior = datatree["posterior"]
    n_theta = sum(len(group.terms) for group in schema.groups if group.is_pooled)
    theta = {"sigma": (), "sd": (n_theta,), "corr_chol": (n_theta, n_theta)}
    sampled = (posterior.sizes["chain"], posterior.sizes["draw"])
    for name, dims in variable_dims(schema).items():
        if name.startswith("corr_") and name not in posterior.data_vars:
            continue
        variable: Any = posterior[name]
        if variable.dims != ("chain", "draw", *dims) or variable.dtype.kind != "f":
            raise ValueError(f"draws of {name!r} with dims {variable.dims}")
    for key, variable in datatree["theta"].data_vars.items():
        name = str(key)
        if variable.shape != (*sampled, *theta[name]) or variable.dtype.kind != "f":
            raise ValueError(f"theta of shape {variable.shape} in {name!r}")
    for key, variable in datatree["sample_stats"].data_vars.items():
        if variable.shape[:2] != sampled:
            raise ValueError(f"sample_stats of shape {variable.shape} in {str(key)!r}")


def check_priors(schema: Schema, priors: ModelPriors) -> None:
    """Raise where the priors are not of the parameters that a model of this design has."""
    default = default_priors(schema)
    if _parameters(priors) != _parameters(default):
        raise ValueError("the priors belong to other parameters than the model has")
    for block, due in zip(_blocks(priors), _blocks(default), strict=True):
        if not _is_of(block.coding, due.coding):
            raise ValueError("the priors belong to columns that are coded differently")


def _is_of(coding: Coding, due: Coding) -> bool:
    """Whether it is the coding of the same columns, centred or on the user's own scale."""
    pairs = [(coding.constant, due.constant), (coding.scales, due.scales)]
    if coding.means.any():
        pairs.append((coding.means, due.means))
    return all(np.allclose(one, other, rtol=1e-6) for one, other in pairs)


def _blocks(priors: ModelPriors) -> list[CoefficientPriors | VarianceComponentPriors]:
    coefficients = [block for block in (priors.population, priors.own) if block is not None]
    return [*coefficients, *priors.spread]


def _parameters(priors: ModelPriors) -> list[Any]:
    """What the priors are about, whatever they say."""
    coefficients = [block for block in (priors.population, priors.own) if block is not None]
    for block in coefficients:
        if len(block.priors) != len(block.terms):
            raise ValueError(f"{len(block.priors)} priors of {len(block.terms)} coefficients")
    blocks = _blocks(priors)
    spread = [(b.factor, b.columns, len(b.sd)) for b in priors.spread]
    shapes = [a.shape for b in blocks for a in (b.coding.constant, b.coding.means, b.coding.scales)]
    terms = [block.terms for block in blocks]
    return [priors.sigma is None, priors.own_factor, spread, shapes, terms]
