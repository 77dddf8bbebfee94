"""Consistency of a loaded fit: draws and priors must belong to its design."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.bayes.parts.part import Part
from hierpool.bayes.parts.unpooled import UnpooledPart
from hierpool.bayes.priors.model_priors import ModelPriors, default_priors
from hierpool.core.coding import Coding
from hierpool.core.results import variable_dims
from hierpool.core.schema import Schema


def check_draws(schema: Schema, datatree: xr.DataTree, has_levels: bool = True) -> None:
    """Raise where the draws are not those of a model of this design.

    Coefficients of levels may be missing where they are drawn on request (not ``has_levels``).
    """
    posterior = datatree["posterior"]
    theta = {k: v for part in default_priors(schema).parts for k, v in part.shapes.items()}
    sampled = (posterior.sizes["chain"], posterior.sizes["draw"])
    for name, dims in variable_dims(schema).items():
        may_lack = ("corr_",) if has_levels else ("corr_", "u_", "coef_")
        if name.startswith(may_lack) and name not in posterior.data_vars:
            continue
        variable: Any = posterior[name]
        if variable.dims != ("chain", "draw", *dims) or variable.dtype.kind != "f":
            raise ValueError(f"draws of {name!r} with dims {variable.dims}")
    if {str(key) for key in datatree["theta"].data_vars} != set(theta):
        raise ValueError(f"theta of {list(datatree['theta'].data_vars)}")
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
    for coding, due in zip(_codings(priors), _codings(default), strict=True):
        if not _is_of(coding, due):
            raise ValueError("the priors belong to columns that are coded differently")


def _is_of(coding: Coding, due: Coding) -> bool:
    """Whether it is the coding of the same columns, centred or on the user's own scale."""
    pairs = [(coding.constant, due.constant), (coding.scales, due.scales)]
    if coding.means.any():
        pairs.append((coding.means, due.means))
    return all(np.allclose(one, other, rtol=1e-6) for one, other in pairs)


def _codings(priors: ModelPriors) -> list[Coding]:
    return [priors.population.coding, *(part.coding for part in priors.group_parts)]


def _parameters(priors: ModelPriors) -> list[Any]:
    """What the priors are about, whatever they say."""
    coefficients = [priors.population]
    if priors.unpooled is not None:
        coefficients.append(priors.unpooled.coefficients)
    for block in coefficients:
        if len(block.priors) != len(block.terms):
            raise ValueError(f"{len(block.priors)} priors of {len(block.terms)} coefficients")
    shapes = [a.shape for c in _codings(priors) for a in (c.constant, c.means, c.scales)]
    return [priors.population.terms, *map(_about, priors.parts), *shapes]


def _about(part: Part) -> tuple[Any, ...]:
    if isinstance(part, GroupTermPart):
        return part.factor, part.name, part.covariance, part.terms, part.columns, len(part.sd)
    if isinstance(part, UnpooledPart):
        return part.factor, part.terms
    return tuple(part.shapes)
