"""The pictures of hierpool. Each function returns a matplotlib Figure; pyplot is never touched.

Every picture is made from tables (``hp.shrinkage(fit)``, ``fit.random_effects()``,
``hp.compare_blups(fit, reml)``, ``hp.compare(fits)``), or from the fits themselves, and is as wide
as a page of text: 7.2 inches. ``figure.savefig("boars.pdf")`` writes it.
"""

from __future__ import annotations

from hierpool.show.agreement import posterior_against_blup
from hierpool.show.calibration import calibration
from hierpool.show.caterpillar import caterpillar
from hierpool.show.comparison import comparison
from hierpool.show.deletion import influence
from hierpool.show.expected import prior_predictive
from hierpool.show.ladder import ladder
from hierpool.show.levelpairs import level_coefficients
from hierpool.show.pareto import pareto_k
from hierpool.show.partition import variance_partition
from hierpool.show.path import path
from hierpool.show.pit import loo_pit
from hierpool.show.replicated import posterior_predictive
from hierpool.show.residuals import residuals
from hierpool.show.shrinkage import shrinkage
from hierpool.show.spreads import correlations, standard_deviations
from hierpool.show.trajectories import trajectories

__all__ = [
    "calibration",
    "caterpillar",
    "comparison",
    "correlations",
    "influence",
    "ladder",
    "level_coefficients",
    "loo_pit",
    "pareto_k",
    "path",
    "posterior_against_blup",
    "posterior_predictive",
    "prior_predictive",
    "residuals",
    "shrinkage",
    "standard_deviations",
    "trajectories",
    "variance_partition",
]
