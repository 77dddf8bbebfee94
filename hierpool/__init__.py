"""hierpool: Bayesian hierarchical models of grouped and longitudinal data.

The names below are loaded when first used: importing hierpool imports no sampler, no plotting
library and no ArviZ.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Model": "hierpool.models",
    "complete_pooling": "hierpool.models",
    "no_pooling": "hierpool.models",
    "varying_intercept": "hierpool.models",
    "varying_slope": "hierpool.models",
    "pooling_ladder": "hierpool.models",
    "Prior": "hierpool.bayes.priors",
    "PosteriorFit": "hierpool.fits",
    "BlupFit": "hierpool.fits",
    "load_fit": "hierpool.storage",
    "compare": "hierpool.checks.compare",
    "compare_blups": "hierpool.checks.blups",
    "shrinkage": "hierpool.checks.shrinkage",
    "influence": "hierpool.checks.influence",
    "contrast": "hierpool.answers.contrasts",
    "ranks": "hierpool.answers.ranks",
    "check": "hierpool.checking",
    "calibrate": "hierpool.calibrating",
    "recovery": "hierpool.calibrating",
    "sensitivity": "hierpool.calibrating",
    "lrt": "hierpool.calibrating",
    "advise": "hierpool.advising",
    "study": "hierpool.workflow",
    "datasets": "hierpool.data.datasets",
    "plots": "hierpool.show.plots",
}
_MODULES = {"datasets", "plots"}

__all__ = [
    "BlupFit",
    "Model",
    "PosteriorFit",
    "Prior",
    "advise",
    "calibrate",
    "check",
    "compare",
    "compare_blups",
    "complete_pooling",
    "contrast",
    "datasets",
    "influence",
    "load_fit",
    "lrt",
    "no_pooling",
    "plots",
    "pooling_ladder",
    "ranks",
    "recovery",
    "sensitivity",
    "shrinkage",
    "study",
    "varying_intercept",
    "varying_slope",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hierpool' has no attribute {name!r}")
    module = importlib.import_module(_HOME[name])
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
