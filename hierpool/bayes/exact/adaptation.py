"""Adaptive multiple importance sampling, and independence chains over its last batch.

What is sampled, and what it is proposed from, are the engines' own: theta alone (``exact``), or
theta with coefficients beside it (``quadrature``).

References
----------
Cornuet, Marin, Mira, Robert (2012), Scand. J. Stat. 39, 798-812 (adaptive multiple importance
sampling).  Tierney (1994), Ann. Stat. 22, 1701-1728 (independence chains).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from hierpool.bayes.exact.proposal import log_sum

PILOTS, PART = 3, 4  # trials of the final batch at most, each with this part of its points
MAX_WEIGHT_RATIO_TRIAL = 10.0  # weight over the mean with which a trial fails
STOP_AT_EFFICIENCY = 0.65  # effective share of a round at which adaptation stops
MIN_EFFICIENCY, MIN_IMPROVEMENT = (
    0.35,
    0.03,
)  # share at which it stops once a round has not gained this much
ROUNDS = 12


class Evaluated(Protocol):
    """What is at points, besides their log targets."""

    def followed_by(self, other: Self) -> Self:
        """That of both, these first."""


type Batch[E: Evaluated] = tuple[np.ndarray, E, np.ndarray, np.ndarray]
"""Points (n, d), what is there, their log targets and log weights."""
type Evaluate[E: Evaluated] = Callable[[np.ndarray, np.ndarray], tuple[E, np.ndarray]]
"""Points (n, d) and their log densities under the proposal -> what is there, and log targets."""


class Proposal(Protocol):
    """A density that points are drawn from, and that learns from their weights."""

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Points (n, d)."""

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Shape (K,), at points (K, d)."""

    def learnt(self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> Self:
        """Refitted to points with weights that sum to one."""

    def patched(self, points: np.ndarray, weights: np.ndarray) -> Self:
        """With more where it is too thin; weights over their mean."""


@dataclass
class Adaptation[P: Proposal, E: Evaluated]:
    """Rounds of proposals with deterministic-mixture weights; grows by rounds.

    Attributes
    ----------
    evaluate
        What is at points (n, d) and their log targets, given their log densities under the proposal.
    proposal
        As it stands.
    n
        Points of a round.
    points, log_targets
        What was proposed so far, shapes (N, d) and (N,).
    densities
        Shape (rounds, N): log density of every round's proposal at every point.
    used, sizes
        The proposal of each round that was learnt from, and its number of points.
    shares
        Effective share of each round.
    """

    evaluate: Evaluate[E]
    proposal: P
    n: int
    points: np.ndarray
    log_targets: np.ndarray
    densities: np.ndarray
    used: list[P]
    sizes: list[int]
    shares: list[float]

    @classmethod
    def start(
        cls,
        evaluate: Evaluate[E],
        proposal: P,
        dimension: int,
        n: int,
    ) -> Adaptation[P, E]:
        """Before the first round."""
        empty = np.zeros((0, dimension)), np.zeros(0), np.zeros((0, 0))
        return cls(evaluate, proposal, n, *empty, used=[], sizes=[], shares=[])

    def run(self, rng: np.random.Generator, keeps_best: bool = False) -> None:
        """Rounds until the effective share is enough or stops growing.

        ``keeps_best``: the proposal of the best round is the last one, so that a bad one since then
        is no reason to go on.
        """
        tried = []
        for _ in range(ROUNDS):
            points, _, log_target, _ = self.propose(self.n, rng)
            tried.append(self.proposal)
            if _is_settled(self.shares, keeps_best):
                break
            self.remember(points, log_target)
            self.learn(rng)
        if keeps_best:
            self.proposal = tried[int(np.argmax(self.shares))]

    def last(
        self, n: int, rng: np.random.Generator, limit: float = MAX_WEIGHT_RATIO_TRIAL
    ) -> Batch[E]:
        """The final batch: its first part shows whether the proposal is too thin somewhere.

        ``limit``: weight over the mean from which it is.
        """
        for _ in range(PILOTS):
            pilot = self.propose(n // PART, rng)
            points, _, log_target, log_weight = pilot
            if log_weight.max() - evidence(log_weight)[0] < np.log(limit):
                break
            self.remember(points, log_target)
            self.patch(points, log_weight)
            self.learn(rng)
        else:
            return self.propose(n, rng)
        points, at, log_target, log_weight = self.propose(n - n // PART, rng)
        return (
            np.concatenate([pilot[0], points]),
            pilot[1].followed_by(at),
            np.concatenate([pilot[2], log_target]),
            np.concatenate([pilot[3], log_weight]),
        )

    def propose(self, n: int, rng: np.random.Generator) -> Batch[E]:
        """A round of n points."""
        points = self.proposal.draw(n, rng)
        log_proposal = self.proposal.log_density(points)
        at, log_target = self.evaluate(points, log_proposal)
        log_weight = log_target - log_proposal
        self.shares.append(effective_share(log_weight))
        return points, at, log_target, log_weight

    def remember(self, points: np.ndarray, log_target: np.ndarray) -> None:
        """Keep points of the present proposal to learn from."""
        before = [p.log_density(points) for p in self.used]
        own = self.proposal.log_density(np.concatenate([self.points, points]))
        old = np.hstack([self.densities, np.array(before).reshape(len(before), len(points))])
        self.densities = np.vstack([old, own])
        self.points = np.concatenate([self.points, points])
        self.log_targets = np.concatenate([self.log_targets, log_target])
        self.used.append(self.proposal)
        self.sizes.append(len(points))

    def patch(self, points: np.ndarray, log_weight: np.ndarray) -> None:
        """More of the proposal where it is too thin."""
        weights = np.exp(log_weight - evidence(log_weight)[0])
        self.proposal = self.proposal.patched(points, weights)

    def learn(self, rng: np.random.Generator) -> None:
        """Refit the proposal to all points so far."""
        sizes = np.array(self.sizes)
        # Deterministic mixture: each point is weighed against all rounds' proposals together, not its own
        # alone, so a point from a poor early round cannot carry a huge weight (Cornuet and others 2012).
        mixed = log_sum(self.densities + np.log(sizes / sizes.sum())[:, None])
        log_weight = self.log_targets - mixed
        weights = np.exp(log_weight - log_weight.max())
        weights /= weights.sum()
        if np.isfinite(weights).all():  # nothing is learnt where no point has a density
            self.proposal = self.proposal.learnt(self.points, weights, rng)


def _is_settled(shares: list[float], keeps_best: bool) -> bool:
    """Whether another round of adaptation is not worth its evaluations."""
    if len(shares) < 2 or shares[-1] > STOP_AT_EFFICIENCY:
        return len(shares) > 1
    return (
        len(shares) > 3
        and (max(shares) if keeps_best else min(shares[-2:])) > MIN_EFFICIENCY
        and max(shares[-2:]) < max(shares[:-2]) + MIN_IMPROVEMENT
    )


def effective_share(log_weight: np.ndarray) -> float:
    """Effective sample size of importance weights, as a share of their number."""
    weights = np.exp(log_weight - log_weight.max())
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def evidence(log_weight: np.ndarray) -> tuple[float, float]:
    """log of the mean weight, and its standard error."""
    top = log_weight.max()
    weights = np.exp(log_weight - top)
    mean = weights.mean()
    error = weights.std(ddof=1) / np.sqrt(len(weights)) / mean
    return float(top + np.log(mean)), float(error)


def independence_chains(log_weight: np.ndarray, thin: int, rng: np.random.Generator) -> np.ndarray:
    """Positions (chains, draws) in the flat list of proposals that independence chains stand on.

    ``log_weight`` has one row of proposals a chain. A chain starts at one of its own proposals,
    chosen by weight, so that it needs no warm-up.
    """
    chains, length = log_weight.shape
    threshold = np.log(rng.uniform(size=log_weight.shape))
    kept = np.empty((chains, length // thin), dtype=np.intp)
    for c in range(chains):
        # A start by weight is, up to the error of importance sampling, a draw from the target.
        weights = np.exp(log_weight[c] - log_weight[c].max())
        here = int(rng.choice(length, p=weights / weights.sum()))
        proposals, bars = log_weight[c].tolist(), threshold[c].tolist()
        current, path = proposals[here], []
        for t, proposed in enumerate(proposals):
            # Independence chains (Tierney 1994) accept by the ratio of the two weights.
            if bars[t] < proposed - current:
                here, current = t, proposed
            path.append(here)
        kept[c] = np.array(path[thin - 1 :: thin]) + c * length
    return kept
