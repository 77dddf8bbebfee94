"""FitRecord: what a posterior is made of and a file keeps, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.design import Design
from hierpool.core.results import Status


@dataclass(frozen=True, repr=False)
class FitRecord:
    """Draws from the posterior of a model, checked.

    Attributes
    ----------
    design, priors
        What was fitted.
    draws
        An ArviZ DataTree: all groups, or as many as have been needed.
    status
        Whether to trust it: one word, one sentence.
    info
        How it was made: engine, why, sampler, seed, versions, seconds.
    """

    design: Design
    priors: ModelPriors
    draws: xr.DataTree
    status: Status
    info: Mapping[str, Any] = field(default_factory=dict)
