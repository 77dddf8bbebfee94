"""hierpool: Bayesian hierarchical models of grouped and longitudinal data.

The names below are loaded when first used: importing hierpool imports no sampler, no plotting
library and no ArviZ.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Model": "hierpool.model",
    "complete_pooling": "hierpool.builders",
    "no_pooling": "hierpool.builders",
    "varying_intercept": "hierpool.builders",
    "varying_slope": "hierpool.builders",
    "pooling_ladder": "hierpool.builders",
    "from_sas": "hierpool.builders",
    "Moments": "hierpool.tables.moments",
    "collect": "hierpool.tables.moments",
    "load_moments": "hierpool.tables.moments",
    "write_predictions": "hierpool.tables.predicted",
    "loo_from_table": "hierpool.tables.loo_from_table",
    "Prior": "hierpool.bayes.priors.prior",
    "PosteriorFit": "hierpool.fits.posterior",
    "LikelihoodFit": "hierpool.fits.optimum",
    "options": "hierpool.core.options",
    "load_fit": "hierpool.fits.posterior",
    "compare": "hierpool.tables.compare",
    "scores": "hierpool.checks.accuracy.scores",
    "compare_blups": "hierpool.checks.levels.blups",
    "shrinkage": "hierpool.checks.levels.shrinkage",
    "influence": "hierpool.checks.residuals.influence",
    "contrast": "hierpool.answers.contrasts",
    "marginal_means": "hierpool.answers.marginal_means",
    "slopes": "hierpool.answers.slopes",
    "term_effects": "hierpool.answers.term_effects",
    "ranks": "hierpool.answers.ranks",
    "breeding_values": "hierpool.answers.breeding_values",
    "heritability": "hierpool.fits.heritability",
    "check": "hierpool.studies.check",
    "calibrate": "hierpool.simulation.calibration",
    "recovery": "hierpool.simulation.recovery",
    "sensitivity": "hierpool.simulation.sensitivity",
    "lrt": "hierpool.fits.likelihood_ratio",
    "residual_ladder": "hierpool.studies.residual_ladder",
    "advise": "hierpool.studies.advise",
    "study": "hierpool.studies.run",
    "datasets": "hierpool.datasets",
    "families": "hierpool.core.families",
    "plots": "hierpool.plots",
}
_MODULES = {"datasets", "families", "plots"}

__all__ = [
    "LikelihoodFit",
    "Model",
    "Moments",
    "PosteriorFit",
    "Prior",
    "advise",
    "breeding_values",
    "calibrate",
    "check",
    "collect",
    "compare",
    "compare_blups",
    "complete_pooling",
    "contrast",
    "datasets",
    "families",
    "from_sas",
    "heritability",
    "influence",
    "load_fit",
    "load_moments",
    "loo_from_table",
    "lrt",
    "marginal_means",
    "no_pooling",
    "options",
    "plots",
    "pooling_ladder",
    "ranks",
    "recovery",
    "residual_ladder",
    "scores",
    "sensitivity",
    "shrinkage",
    "slopes",
    "study",
    "term_effects",
    "varying_intercept",
    "varying_slope",
    "write_predictions",
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
