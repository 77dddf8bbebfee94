"""The figures of hierpool. Each function returns a matplotlib Figure; pyplot is not used.

Every figure is made from tables (``hp.shrinkage(fit)``, ``fit.random_effects()``,
``hp.compare_blups(fit, reml)``, ``hp.compare(fits)``), or from the fits themselves, and is as wide
as a page of text: 7.2 inches. ``figure.savefig("boars.pdf")`` writes it.
"""

from __future__ import annotations

from hierpool.plots.advice import advice
from hierpool.plots.calibration import calibration
from hierpool.plots.caterpillar import caterpillar
from hierpool.plots.comparison import comparison
from hierpool.plots.effects import effects
from hierpool.plots.fixed_effects import fixed_effects
from hierpool.plots.influence import influence
from hierpool.plots.ladder import ladder
from hierpool.plots.level_coefficients import level_coefficients
from hierpool.plots.loo_pit import loo_pit
from hierpool.plots.pareto_k import pareto_k
from hierpool.plots.posterior_against_blup import posterior_against_blup
from hierpool.plots.posterior_predictive import posterior_predictive
from hierpool.plots.prior_predictive import prior_predictive
from hierpool.plots.reliability import reliability
from hierpool.plots.residual_sds import residual_sds
from hierpool.plots.residual_structure import residual_structure
from hierpool.plots.residuals import residuals
from hierpool.plots.rootogram import rootogram
from hierpool.plots.shrinkage import shrinkage
from hierpool.plots.standard_deviations import correlations, standard_deviations
from hierpool.plots.trajectories import trajectories
from hierpool.plots.variance_partition import variance_partition

__all__ = [
    "calibration",
    "caterpillar",
    "comparison",
    "correlations",
    "effects",
    "fixed_effects",
    "influence",
    "ladder",
    "level_coefficients",
    "loo_pit",
    "pareto_k",
    "advice",
    "posterior_against_blup",
    "posterior_predictive",
    "prior_predictive",
    "reliability",
    "residual_sds",
    "residual_structure",
    "residuals",
    "rootogram",
    "shrinkage",
    "standard_deviations",
    "trajectories",
    "variance_partition",
]
