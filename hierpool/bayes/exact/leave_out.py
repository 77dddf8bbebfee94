"""Exact predictive densities of rows that are left out: theta is sampled anew without them.

Coordinates, centring and priors stay those of the full data. The density is the ratio of two
marginal likelihoods, p(y) / p(y without the rows). All sets of rows share the first. For the second,
the proposal of the posterior of all rows is carried to where the other has its mode, and stretched by
how the curvatures there differ: so it is about as good as that of all rows, and nothing is learnt.
Both are estimated from a proposal of their own, as many points as the error asks for, with the
components of the mixture as control variates: how often each is drawn is known.

References
----------
Hesterberg (1995), Technometrics 37, 185-194 (mixture proposals, and what is known of them).
Owen, Zhou (2000), J. Am. Stat. Assoc. 95, 135-143 (components as control variates).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.bayes.exact.adaptation import ROUNDS
from hierpool.bayes.exact.engine import adapted_proposal, adapting
from hierpool.bayes.exact.log_posterior import log_posterior
from hierpool.bayes.exact.proposal import log_sum
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.exact.theta_proposal import Peak, ThetaProposal
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.design import Design
from hierpool.core.threads import one_blas_thread

ERROR, ERROR_OF_ALL = 0.007, 0.005  # Monte Carlo errors of the two evidences that are aimed for
LEAST, MOST = 2000, 16_000  # points that each is estimated from
GOOD_SHARE = 0.35  # effective share with which a proposal that was carried over is good enough


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Log predictive density of a set of rows, or a log evidence, and its Monte Carlo standard error."""

    log_density: float
    error: float


@dataclass(frozen=True, slots=True)
class Whole:
    """What scores of rows that are left out share.

    Attributes
    ----------
    target
        The posterior of theta given all rows.
    proposal, peak
        For it, and where it has its mode; None where theta is empty.
    evidence
        log p(y) of all rows.
    """

    target: LogPosterior
    proposal: ThetaProposal | None
    peak: Peak | None
    evidence: LeftOut


def whole_proposal(design: Design, priors: ModelPriors, seed: int) -> ThetaProposal | None:
    """The proposal for the posterior of all rows; None where theta is empty."""
    return adapted_proposal(log_posterior(design, priors), np.random.default_rng(seed))


def whole(
    design: Design, priors: ModelPriors, seed: int, known: ThetaProposal | None = None
) -> Whole:
    """Evidence of all rows, and the proposal that it is from.

    ``known`` is that of ``whole_proposal``, where it is at hand.
    """
    target = log_posterior(design, priors)
    proposal = known or whole_proposal(design, priors, seed)
    if proposal is None:
        return Whole(target, None, None, LeftOut(float(target(np.zeros((1, 0)))[0]), 0.0))
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"), one_blas_thread():
        pilot = proposal.draw(_n_pilot(target), rng)
        found = _evidence(target, proposal, pilot, target(pilot), ERROR_OF_ALL, rng)
        return Whole(target, proposal, Peak.near(target, proposal.centre), found)


def joint_log_density(
    design: Design,
    priors: ModelPriors,
    rows: np.ndarray,
    seed: int,
    known: Whole | None = None,
) -> LeftOut:
    """log p(rows, jointly | all other rows), theta and coefficients integrated out.

    Parameters
    ----------
    design, priors
        The model; normal priors on its coefficients.
    rows
        Positions of the rows to leave out.
    seed
        Seed of the proposals.
    known
        That of ``whole``, where it is at hand.
    """
    every = known or whole(design, priors, seed)
    rest = replace(every.target, integrated=every.target.integrated.without(np.asarray(rows)))
    if every.proposal is None or every.peak is None:
        return LeftOut(every.evidence.log_density - float(rest(np.zeros((1, 0)))[0]), 0.0)
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"), one_blas_thread():
        start = every.proposal.carried(every.peak, Peak.near(rest, every.peak.mode))
        proposal, pilot, log_targets = _good_enough(rest, start, rng)
        others = _evidence(rest, proposal, pilot, log_targets, ERROR, rng)
    error = float(np.hypot(every.evidence.error, others.error))
    return LeftOut(every.evidence.log_density - others.log_density, error)


def _n_pilot(target: LogPosterior) -> int:
    return max(500, 100 * target.coordinates.size)


def _good_enough(
    target: LogPosterior, start: ThetaProposal, rng: np.random.Generator
) -> tuple[ThetaProposal, np.ndarray, np.ndarray]:
    """The proposal, adapted where it is poor, with points (n, d) of it and their log targets."""
    adaptation = adapting(target, start, _n_pilot(target))
    for left in reversed(range(ROUNDS)):
        points, _, log_target, _ = adaptation.propose(adaptation.n, rng)
        if adaptation.shares[-1] > GOOD_SHARE or not left:
            break
        adaptation.remember(points, log_target)
        adaptation.learn(rng)
    return adaptation.proposal, points, log_target


def _evidence(
    target: LogPosterior,
    proposal: ThetaProposal,
    pilot: np.ndarray,
    log_targets: np.ndarray,
    error: float,
    rng: np.random.Generator,
) -> LeftOut:
    """Log evidence of the target with about this error, from points of their own.

    ``pilot`` (n, d) and its log targets say how many it takes.
    """
    tried = _with_known_shares(proposal, pilot, log_targets).error * np.sqrt(len(pilot))
    n = (tried / error) ** 2
    points = proposal.draw(int(np.clip(n, LEAST, MOST)) if np.isfinite(n) else MOST, rng)
    return _with_known_shares(proposal, points, target(points))


def _with_known_shares(
    proposal: ThetaProposal, points: np.ndarray, log_targets: np.ndarray
) -> LeftOut:
    """Log mean weight of points (n, d), the components of their mixture as control variates.

    Of each point the components' parts in its density sum to one, and their means are the components'
    weights. So the mean weight is what a regression of the weights on the parts predicts for these.
    """
    mixture = proposal.whole
    logs = mixture.log_densities(points)
    log_proposal = log_sum(logs)
    log_weights = log_targets - log_proposal
    top = log_weights.max()
    weights, parts = np.exp(log_weights - top), np.exp(logs - log_proposal).T
    n, used = parts.shape
    coefficients = np.linalg.lstsq(parts, weights, rcond=1e-10)[0]
    mean = float(mixture.weights @ coefficients)
    left = weights - parts @ coefficients
    error = np.sqrt(left @ left / (n * max(n - used, 1))) / mean
    return LeftOut(float(top + np.log(mean)), float(error))
