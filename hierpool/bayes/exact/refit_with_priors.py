"""Draws of theta for checks that fit again: without some rows, to other responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hierpool.algebra.marginal_model import MarginalModel
from hierpool.bayes.exact.engine import ThetaDraws, sample_theta
from hierpool.bayes.exact.log_posterior import log_posterior
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.design import Design
from hierpool.core.theta import WorkingTheta

Judge = Callable[[np.ndarray], bool]
"""Importance log weights -> whether the proposal that they belong to can be trusted."""
PROPOSAL_SCALES = (1.0, 1.5, 2.0)  # scales of the starting proposals, tried until one is good


def sample_judged(
    target: LogPosterior, chains: int, draws: int, rng: np.random.Generator, judge: Judge
) -> tuple[ThetaDraws, bool]:
    """Draws of theta from the first proposal that the judge trusts; whether there was one."""
    for widen in PROPOSAL_SCALES:
        with np.errstate(invalid="ignore"):  # where the search leaves the range of theta
            found = sample_theta(target, chains, draws, rng, widen)
        if judge(found.importance_weights) and np.isfinite(found.discrepancy):
            return found, True
    return found, False


def theta_without(
    design: Design,
    priors: ModelPriors,
    rows: np.ndarray,
    *,
    chains: int,
    draws: int,
    seed: int,
    judge: Judge,
) -> tuple[MarginalModel, WorkingTheta, bool]:
    """The model less some rows, and draws of theta from its posterior.

    Coordinates, centring and priors are those of all rows.

    Returns
    -------
    tuple
        The integrated model of the other rows; the draws of theta; whether they can be trusted.
    """
    full = log_posterior(design, priors)
    rest = replace(full, integrated=full.integrated.without(rows))
    found, trusted = sample_judged(rest, chains, draws, np.random.default_rng(seed), judge)
    theta = full.coordinates.theta(found.flat)
    return rest.integrated, full.theta_map.working(theta), trusted
