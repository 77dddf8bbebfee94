"""Draws of theta and coefficients by independence chains, and what tells whether to trust them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.bayes.exact.adaptation import (
    Adaptation,
    effective_share,
    evidence,
    independence_chains,
)
from hierpool.bayes.exact.theta_proposal import ThetaProposal
from hierpool.bayes.quadrature.first_proposal import first_proposal
from hierpool.bayes.quadrature.polish import Polished, polished
from hierpool.bayes.quadrature.proposal import ProductProposal
from hierpool.bayes.quadrature.stand_in import stands_in
from hierpool.bayes.quadrature.target import EvaluatedPoints, FamilyPosterior, JointTarget

POINTS, POINTS_A_DIMENSION = 500, 60  # of a round; dimensions of theta alone count
THINNED = ((0.5, 1), (0.3, 2), (0.2, 5), (0.12, 10), (0.0, 20))  # from which share, and by how much
THIN_CHEAP = 5  # where a polynomial stands in for the target, at least
CHECKED = 64  # draws at which the quadrature is done again on a finer grid
MAX_WEIGHT_RATIO = 6.0  # weight over the mean from which the proposal counts as too thin
FOUND = 500  # points that an attempt leaves to the next one
LARGEST_PART = 0.05  # of their weight, that one point may have
TRUNCATIONS = 20


@dataclass(frozen=True)
class PointDraws:
    """What sampling theta and coefficients gave.

    Attributes
    ----------
    at
        The draws, chains one after the other, and what was worked out there.
    log_posterior, log_weight, accepted
        Shape (chains, draws).
    log_evidence, log_evidence_error
        log p(y), corrected by the finer grid, and its Monte Carlo standard error.
    importance_weights
        Shape (M,): log target minus log proposal of the final batch.
    effective_share
        Of the final batch.
    rounds
        How many rounds of adaptation.
    quadrature_sd
        How much the quadrature's error of the log likelihood varies over the posterior, at most.
    polish_shift
        How far, in posterior sds, the mode was from where the Laplace approximation had it.
    laplace_evidence
        log p(y) as that approximation has it, and the standard error of that.
    found
        Shape (FOUND, d + P): z and coefficients where the posterior is, as far as this batch knows: for
        another attempt. A few points that have all the weight are not all that is left.
    evaluations, discrepancy
        Where a polynomial stood in for the log posterior: exact evaluations that it took, and the
        sd of exact less approximate log posterior at draws. 0 where it was exact.
    """

    at: EvaluatedPoints
    log_posterior: np.ndarray
    log_weight: np.ndarray
    accepted: np.ndarray
    log_evidence: float
    log_evidence_error: float
    importance_weights: np.ndarray
    effective_share: float
    rounds: int
    quadrature_sd: float
    polish_shift: float
    laplace_evidence: tuple[float, float]
    found: np.ndarray
    evaluations: int = 0
    discrepancy: float = 0.0


def sample_points(
    posterior: FamilyPosterior,
    chains: int,
    draws: int,
    rng: np.random.Generator,
    widen: float = 1.0,
    before: np.ndarray | None = None,
) -> PointDraws:
    """Adapt a proposal and run independence chains from it.

    ``widen`` multiplies the scales of the starting components; ``before`` is what a failed attempt
    found: another one proposes there too.
    """
    start = polished(posterior, rng)
    target = start.target
    if target.size == 0:
        return _nothing_to_sample(target, chains, draws, start)
    stand_in = stands_in(start, rng)
    adaptation = Adaptation.start(
        target.evaluate if stand_in is None else stand_in.evaluate,
        _proposal(start, widen, stand_in is None, before, rng),
        target.size,
        POINTS + POINTS_A_DIMENSION * target.posterior.dimension,
    )
    adaptation.run(rng, keeps_best=True)
    thin = next(by for share, by in THINNED if max(adaptation.shares) >= share)
    thin = thin if stand_in is None else max(thin, THIN_CHEAP)
    points, at, log_target, log_weight = adaptation.last(
        chains * draws * thin, rng, MAX_WEIGHT_RATIO
    )
    kept = independence_chains(log_weight.reshape(chains, -1), thin, rng)
    log_evidence, error = evidence(log_weight)
    checked, evaluations, discrepancy = _spread(kept), 0, 0.0
    exact = at[checked]
    if stand_in is not None:
        exact, differences = stand_in.differences(points[checked])
        moved, inexact = stand_in.log_correction
        log_evidence, error = log_evidence + moved, float(np.hypot(error, inexact))
        evaluations = stand_in.n_evaluations + len(checked)
        discrepancy = float(differences.std())
    off, quadrature_sd = _quadrature_error(target.posterior, exact)
    log_evidence += off
    previous = np.concatenate([np.full((chains, 1), -1), kept[:, :-1]], axis=1)
    return PointDraws(
        at=at[kept.reshape(-1)],
        log_posterior=log_target[kept] - log_evidence,
        log_weight=log_weight[kept] - log_evidence,
        accepted=kept != previous,
        log_evidence=log_evidence,
        log_evidence_error=error,
        importance_weights=log_weight,
        effective_share=effective_share(log_weight),
        rounds=len(adaptation.used),
        quadrature_sd=quadrature_sd,
        polish_shift=start.shift,
        laplace_evidence=start.laplace_evidence,
        found=_found(target, points, log_weight),
        evaluations=evaluations,
        discrepancy=discrepancy,
    )


def _proposal(
    start: Polished,
    widen: float,
    is_exact: bool,
    before: np.ndarray | None,
    rng: np.random.Generator,
) -> ThetaProposal | ProductProposal:
    """The first proposal, with what an attempt before has found."""
    proposal = first_proposal(start, widen, is_exact)
    if before is None:
        return proposal
    d = start.target.posterior.dimension
    z, gamma = before[:, :d], before[:, d:]
    found = np.hstack([z, start.target.map.e(z, gamma)])
    return proposal.also_at(found[np.isfinite(found).all(axis=1)], rng)


def _found(target: JointTarget, points: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
    """Points (FOUND, d + P) as often as their weights say, these truncated."""
    weights = np.exp(log_weight - log_weight.max())
    for _ in range(TRUNCATIONS):
        if weights.max() <= LARGEST_PART * weights.sum():
            break
        weights = np.minimum(weights, LARGEST_PART * weights.sum())
    upto = np.cumsum(weights)
    places = np.searchsorted(upto, upto[-1] * (np.arange(FOUND) + 0.5) / FOUND)
    chosen = points[np.minimum(places, len(points) - 1)]
    return np.hstack([target.split(chosen)[0], target.gamma(chosen)])


def _spread(kept: np.ndarray) -> np.ndarray:
    """Some of the draws, evenly spread."""
    flat = kept.reshape(-1)
    return flat[np.linspace(0, len(flat) - 1, min(CHECKED, len(flat))).astype(np.intp)]


def _quadrature_error(posterior: FamilyPosterior, at: EvaluatedPoints) -> tuple[float, float]:
    """By how much the log evidence is off, and the sd of the error over the posterior.

    The mean of exp(finer - used) over the posterior is the ratio of the evidences. Draws made on
    the finer grid have no finer one beside them: they are off by the square of their levels' e.
    """
    model = posterior.model
    if posterior.is_finer:
        return 0.0, float(model.total_error(at.point, finer=True).max(initial=0.0))
    difference = model.density_and_error(at.point, finer=True)[0] - at.log_likelihood
    if not np.isfinite(difference).all():
        return 0.0, np.inf
    return float(np.log(np.mean(np.exp(difference)))), float(difference.std())


def _nothing_to_sample(target: JointTarget, chains: int, draws: int, start: Polished) -> PointDraws:
    """The answer where all that there is are levels' coefficients with known priors."""
    zeros = np.zeros((chains, draws))
    at, found = target.evaluate(np.zeros((1, 0)), np.zeros(1))
    off, quadrature_sd = _quadrature_error(target.posterior, at)
    log_evidence = float(found[0]) + off
    return PointDraws(
        at[np.zeros(zeros.size, dtype=np.intp)],
        *(zeros, zeros, zeros == 0),
        log_evidence,
        0.0,
        np.full(zeros.size, log_evidence),
        1.0,
        0,
        quadrature_sd,
        start.shift,
        start.laplace_evidence,
        np.zeros((0, 0)),
    )
