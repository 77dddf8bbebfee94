"""The exact engine: draws of theta without a chain over coefficients, then the coefficients.

All coefficients are integrated out (``algebra.marginal_model``); theta has 2 to about 15 dimensions
whatever the number of levels. In coordinates where its prior is standard normal, a mixture
proposal is adapted by multiple importance sampling and then used for independence
Metropolis-Hastings; the importance weights give the marginal likelihood and a Pareto k.

References
----------
Cornuet, Marin, Mira, Robert (2012), Scand. J. Stat. 39, 798-812 (adaptive multiple importance
sampling).  Tierney (1994), Ann. Stat. 22, 1701-1728 (independence chains).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hierpool.algebra.marginal_model import IndependentLevels, MarginalModel
from hierpool.bayes.exact.mode import LARGEST_COORDINATE, climb_all
from hierpool.bayes.exact.proposal import LEAST_SHARE, Mixture, Student, log_sum, refit
from hierpool.bayes.exact.surrogate import Surrogate
from hierpool.bayes.exact.target import Evaluated, LogDensity, LogPosterior, log_normal
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import (
    LARGEST_STORED,
    LARGEST_SUMS,
    EngineRun,
    SamplerSettings,
    keeps_log_likelihood,
    make_tree,
    variance_components,
)
from hierpool.core.design import EXACT_FIT, Design, exact_fit
from hierpool.core.threads import one_blas_thread

ADAPTED_NU, WIDE_NU = 6.0, 4.0
PILOTS, PART = 3, 4  # trials of the final batch at most, each with this part of its points
MAX_WEIGHT_RATIO_TRIAL = 10.0  # weight over the mean with which a trial fails
WIDE_SHARE = PRIOR_SHARE = 0.05
COLLAPSE_LEAST, COLLAPSE_MOST = 0.04, 0.10
COLLAPSE_TOGETHER = 0.60  # of all of them, however many sds there are
ZERO_SD_COORDINATE = -6.0  # z of an sd that is as good as zero
COLLAPSE_WIDENED = 3.0  # variance of that component over the prior's below the edge
ADAPTED_COMPONENTS = 4
MAX_WEIGHT_RATIO = 3.0  # weight over the mean from which the proposal counts as too thin
EXACT_FIT_RATIO = 10.0  # typical sigma over the smallest one there is, below which the fit is exact
STOP_AT_EFFICIENCY = 0.65  # effective share of a round at which adaptation stops
MIN_EFFICIENCY, MIN_IMPROVEMENT = (
    0.35,
    0.03,
)  # share at which it stops once a round has not gained this much
ROUNDS = 12
THIN_FROM, THIN = 7, 5  # dimensions from which the chain is thinned, and by how much
SURROGATE_ABOVE_FLOPS = (
    10_000_000  # operations of one evaluation from which a polynomial stands in for it
)
ALWAYS_THIN_BELOW_FLOPS, THIN_CHEAP = (
    1000,
    4,
)  # designs x squared columns up to which it is thinned in any case


@dataclass(frozen=True)
class ThetaDraws:
    """What sampling theta gave.

    Attributes
    ----------
    z
        Shape (chains, draws, d).
    log_posterior, log_weight, accepted
        Shape (chains, draws).
    log_evidence, log_evidence_error
        log p(y) and its Monte Carlo standard error.
    evaluated
        Theta and what was worked out there, chains one after the other.
    importance_points, importance_weights
        All proposals of the last stage, shape (M, d), and log target minus log proposal, (M,).
    effective_share
        Of the last round of adaptation.
    rounds
        How many rounds of adaptation.
    evaluations, discrepancy
        Where a polynomial stood in for the log posterior: exact evaluations that it took, and the
        sd of exact less approximate log posterior at draws of theta. 0 where it was exact.
    """

    z: np.ndarray
    log_posterior: np.ndarray
    log_weight: np.ndarray
    accepted: np.ndarray
    log_evidence: float
    log_evidence_error: float
    evaluated: Evaluated
    importance_points: np.ndarray
    importance_weights: np.ndarray
    effective_share: float
    rounds: int
    evaluations: int = 0
    discrepancy: float = 0.0

    @property
    def flat(self) -> np.ndarray:
        """Shape (chains x draws, d): z with the chains one after the other."""
        chains, draws, d = self.z.shape
        return self.z.reshape(chains * draws, d)


def sample_theta(
    target: LogPosterior, chains: int, draws: int, rng: np.random.Generator, widen: float = 1.0
) -> ThetaDraws:
    """Adapt a proposal and run independence chains from it.

    ``widen`` multiplies the scales of the starting components; more than one after a bad verdict.
    """
    with np.errstate(all="ignore"):  # theta out of range has a density of zero, not a warning
        return _sample_theta(target, chains, draws, rng, widen)


def _sample_theta(
    target: LogPosterior, chains: int, draws: int, rng: np.random.Generator, widen: float
) -> ThetaDraws:
    if target.coordinates.size == 0:
        return _nothing_to_sample(target, chains, draws)
    density: LogDensity = target
    if target.integrated.flops_per_theta > SURROGATE_ABOVE_FLOPS:
        density = Surrogate.from_log_posterior(target, rng)
    adaptation = Adaptation.start(density, rng, widen)
    adaptation.run(rng)
    thin = _thinning(density)
    n = chains * draws * thin
    points, at, log_target, log_weight = adaptation.last(n, rng)
    kept = _independence_chains(log_weight.reshape(chains, -1), thin, rng)
    evidence, error = _evidence(log_weight)
    evaluations, discrepancy = 0, 0.0
    if isinstance(density, Surrogate):
        moved, inexact = density.log_correction
        evidence, error = evidence + moved, float(np.hypot(error, inexact))
        evaluations = density.n_evaluations
        discrepancy = float(density.errors.std()) if density.is_close else np.inf
    previous = np.concatenate([np.full((chains, 1), -1), kept[:, :-1]], axis=1)
    return ThetaDraws(
        z=points[kept],
        log_posterior=log_target[kept] - evidence,
        log_weight=log_weight[kept] - evidence,
        accepted=kept != previous,
        log_evidence=evidence,
        log_evidence_error=error,
        evaluated=at[kept.reshape(-1)],
        importance_points=points,
        importance_weights=log_weight,
        effective_share=adaptation.shares[-1],
        rounds=len(adaptation.shares),
        evaluations=evaluations,
        discrepancy=discrepancy,
    )


def _nothing_to_sample(target: LogPosterior, chains: int, draws: int) -> ThetaDraws:
    """The answer where sigma is known and no sd is asked for: theta is empty."""
    z, zeros = np.zeros((chains, draws, 0)), np.zeros((chains, draws))
    evidence = float(target(np.zeros((1, 0)))[0])
    points, weights = np.zeros((zeros.size, 0)), np.full(zeros.size, evidence)
    at = target.at(points)
    return ThetaDraws(z, zeros, zeros, zeros == 0, evidence, 0.0, at, points, weights, 1.0, 0)


def _thinning(target: LogDensity) -> int:
    """Proposals per kept draw: several where they are needed, or where they cost next to nothing."""
    if isinstance(target, Surrogate):
        return THIN
    if target.coordinates.size >= THIN_FROM:
        return THIN
    return THIN_CHEAP if target.integrated.flops_per_theta <= ALWAYS_THIN_BELOW_FLOPS else 1


def _independence_chains(log_weight: np.ndarray, thin: int, rng: np.random.Generator) -> np.ndarray:
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


def _evidence(log_weight: np.ndarray) -> tuple[float, float]:
    """log of the mean weight, and its standard error."""
    top = log_weight.max()
    weights = np.exp(log_weight - top)
    mean = weights.mean()
    error = weights.std(ddof=1) / np.sqrt(len(weights)) / mean
    return float(top + np.log(mean)), float(error)


def adapted_proposal(target: LogPosterior, rng: np.random.Generator) -> Mixture:
    """A proposal fit for importance sampling of the target."""
    if target.coordinates.size == 0:
        return Mixture((Student(np.zeros(0), np.zeros((0, 0)), np.inf),), np.ones(1))
    with np.errstate(all="ignore"), one_blas_thread():
        adaptation = Adaptation.start(target, rng, 1.0)
        adaptation.run(rng)
    return adaptation.proposal


@dataclass
class Adaptation:
    """Adaptive multiple importance sampling with deterministic-mixture weights; grows by rounds.

    Attributes
    ----------
    target
        What to sample.
    moving, fixed
        Components that are refitted, and those that stay: wide, prior, one per vanishing sd.
    collapse
        Weights of the vanishing-sd components in the proposal.
    points, log_targets
        What was proposed so far, shapes (N, d) and (N,).
    densities
        Shape (rounds, N): log density of every round's proposal at every point.
    used, sizes
        The proposal of each round that was learnt from, and its number of points.
    shares
        Effective share of each round.
    """

    target: LogDensity
    moving: Mixture
    fixed: Mixture
    collapse: np.ndarray
    points: np.ndarray
    log_targets: np.ndarray
    densities: np.ndarray
    used: list[Mixture]
    sizes: list[int]
    shares: list[float]

    @classmethod
    def start(cls, target: LogDensity, rng: np.random.Generator, widen: float) -> Adaptation:
        """Components from the mode, the prior and the vanishing sds."""
        moving, fixed = _start(target, rng, widen)
        collapse = _bounded(np.full(len(fixed.components) - 2, COLLAPSE_LEAST))
        d = target.coordinates.size
        empty = np.zeros((0, d)), np.zeros(0), np.zeros((0, 0))
        return cls(target, moving, fixed, collapse, *empty, used=[], sizes=[], shares=[])

    @property
    def proposal(self) -> Mixture:
        """The whole proposal as it stands."""
        return _combined(self.moving, self.fixed, self.collapse)[0]

    def run(self, rng: np.random.Generator) -> None:
        """Rounds until the effective share is enough or stops growing."""
        n = max(500, 100 * self.target.coordinates.size)
        for _ in range(ROUNDS):
            z, _, log_target, _ = self.propose(n, rng)
            if _is_settled(self.shares):
                break
            self.remember(z, log_target)
            self.learn(rng)

    def last(
        self, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Evaluated, np.ndarray, np.ndarray]:
        """The final batch: its first part shows whether the proposal is too thin somewhere."""
        for _ in range(PILOTS):
            pilot = self.propose(n // PART, rng)
            points, _, log_target, log_weight = pilot
            if log_weight.max() - _evidence(log_weight)[0] < np.log(MAX_WEIGHT_RATIO_TRIAL):
                break
            self.remember(points, log_target)
            self.patch(points, log_weight)
            self.learn(rng)
        else:
            return self.propose(n, rng)
        z, at, log_target, log_weight = self.propose(n - n // PART, rng)
        return (
            np.concatenate([pilot[0], z]),
            pilot[1].followed_by(at),
            np.concatenate([pilot[2], log_target]),
            np.concatenate([pilot[3], log_weight]),
        )

    def propose(
        self, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Evaluated, np.ndarray, np.ndarray]:
        """A round: points (n, d), what is there, their log targets and log weights."""
        proposal = self.proposal
        z = proposal.draw(n, rng)
        at = self.target.at(z)
        log_target = at.log_likelihood + log_normal(z)
        log_weight = log_target - proposal.log_density(z)
        self.shares.append(_effective_share(log_weight))
        return z, at, log_target, log_weight

    def remember(self, z: np.ndarray, log_target: np.ndarray) -> None:
        """Keep points of the present proposal to learn from."""
        proposal = self.proposal
        before = [p.log_density(z) for p in self.used]
        own = proposal.log_density(np.concatenate([self.points, z]))
        old = np.hstack([self.densities, np.array(before).reshape(len(before), len(z))])
        self.densities = np.vstack([old, own])
        self.points = np.concatenate([self.points, z])
        self.log_targets = np.concatenate([self.log_targets, log_target])
        self.used.append(proposal)
        self.sizes.append(len(z))

    def patch(self, z: np.ndarray, log_weight: np.ndarray) -> None:
        """A further component where the proposal is too thin: fitted to the excess of the weights."""
        weights = np.exp(log_weight - _evidence(log_weight)[0])
        excess = np.maximum(weights - MAX_WEIGHT_RATIO, 0.0)
        share = excess.sum() / weights.sum()
        if share == 0.0:
            return
        excess = excess / excess.sum()
        mean = excess @ z
        spread = (z - mean).T @ ((z - mean) * excess[:, None]) + 0.01 * np.eye(z.shape[1])
        new = Student.with_scale(mean, spread, ADAPTED_NU)
        weights = np.append(self.moving.weights * (1 - share), max(share, 2 * LEAST_SHARE))
        self.moving = Mixture((*self.moving.components, new), weights / weights.sum())

    def learn(self, rng: np.random.Generator) -> None:
        """Refit the moving components and the weights of the fixed ones to all points so far."""
        every, sizes = self.points, np.array(self.sizes)
        # Deterministic mixture: each point is weighed against all rounds' proposals together, not its own
        # alone, so a point from a poor early round cannot carry a huge weight (Cornuet and others 2012).
        mixed = log_sum(self.densities + np.log(sizes / sizes.sum())[:, None])
        log_weight = self.log_targets - mixed
        weights = np.exp(log_weight - log_weight.max())
        weights /= weights.sum()
        if len(self.moving.components) < ADAPTED_COMPONENTS:
            self.moving = _spread_out(self.moving, every, weights, rng)
        fixed = _combined(self.moving, self.fixed, self.collapse)[1]
        share = 1 - _moving_share(self.collapse)
        self.moving, explained = refit(self.moving, fixed, share, every, weights)
        # Never below the floor: a narrow ridge at zero that no point has found yet must stay within reach.
        self.collapse = _bounded(np.clip(explained[2:], COLLAPSE_LEAST, COLLAPSE_MOST))


def _is_settled(shares: list[float]) -> bool:
    """Whether another round of adaptation is not worth its evaluations."""
    if len(shares) < 2 or shares[-1] > STOP_AT_EFFICIENCY:
        return len(shares) > 1
    return (
        len(shares) > 3
        and min(shares[-2:]) > MIN_EFFICIENCY
        and max(shares[-2:]) < max(shares[:-2]) + MIN_IMPROVEMENT
    )


def _bounded(collapse: np.ndarray) -> np.ndarray:
    """The weights, made smaller where so many sds would leave nothing for the moving components."""
    return collapse * min(1.0, COLLAPSE_TOGETHER / max(float(collapse.sum()), COLLAPSE_LEAST))


def _moving_share(collapse: np.ndarray) -> float:
    return 1 - WIDE_SHARE - PRIOR_SHARE - float(collapse.sum())


def _combined(moving: Mixture, fixed: Mixture, collapse: np.ndarray) -> tuple[Mixture, Mixture]:
    """The whole proposal, and the fixed components with their present weights."""
    shares = np.concatenate([[WIDE_SHARE, PRIOR_SHARE], collapse])
    weights = np.concatenate([moving.weights * _moving_share(collapse), shares])
    whole = Mixture(moving.components + fixed.components, weights / weights.sum())
    return whole, Mixture(fixed.components, shares / shares.sum())


def _effective_share(log_weight: np.ndarray) -> float:
    weights = np.exp(log_weight - log_weight.max())
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def _spread_out(
    moving: Mixture, z: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> Mixture:
    """Components added at weighted points, with the weighted covariance of all of them."""
    missing = ADAPTED_COMPONENTS - len(moving.components)
    mean = weights @ z
    scale = (z - mean).T @ ((z - mean) * weights[:, None])
    chosen = rng.choice(len(z), size=missing, p=weights)
    new = tuple(Student.with_scale(z[i], scale, ADAPTED_NU) for i in chosen)
    count = len(moving.components)
    shares = np.concatenate([moving.weights * count, np.ones(missing)])
    return Mixture(moving.components + new, shares / shares.sum())


def _start(target: LogDensity, rng: np.random.Generator, widen: float) -> tuple[Mixture, Mixture]:
    """The first component, at the mode, and the fixed ones: wide, prior, one per vanishing sd."""
    d = target.coordinates.size
    tried = rng.standard_normal((64 + 16 * d, d))
    tried[0] = 0.0
    starts = tried[np.argsort(-target(tried))[:2]]
    modes, heights, scales = climb_all(target, starts, np.ones_like(starts, dtype=bool))
    mode, scale = modes[np.argmax(heights)], scales[np.argmax(heights)] * widen**2
    first = Student.with_scale(mode, scale, ADAPTED_NU)
    # Defensive components (Hesterberg 1995): with the prior in the mixture no weight exceeds the
    # likelihood over PRIOR_SHARE, wherever the adapted components are too thin.
    wide = Student.with_scale(mode, 4 * scale + 0.05 * np.eye(d), WIDE_NU)
    prior = Student(np.zeros(d), np.eye(d), np.inf)
    vanishing = _collapses(target, mode)
    return Mixture((first,), np.ones(1)), Mixture(
        (wide, prior, *vanishing), np.ones(2 + len(vanishing))
    )


def _collapses(target: LogDensity, mode: np.ndarray) -> list[Student]:
    """Components where one sd is too small to matter; its correlations are at their prior there."""
    vanishing = target.coordinates.vanishing
    Q = len(vanishing)
    if not Q:
        return []
    starts, free = np.repeat(mode[None], Q, axis=0), np.ones((Q, len(mode)), dtype=bool)
    for k, (sd, linked) in enumerate(vanishing):
        # With this sd at zero its correlations do not matter: they are held at their prior's centre.
        starts[k, sd], starts[k, list(linked)] = ZERO_SD_COORDINATE, 0.0
        free[k, [sd, *linked]] = False
    found, _, scales = climb_all(target, starts, free)
    grid = np.linspace(ZERO_SD_COORDINATE, 2.0, 25)
    lines = np.repeat(found[:, None], len(grid), axis=1)
    for k, (sd, _) in enumerate(vanishing):
        lines[k, :, sd] = grid
    likelihood = target.log_likelihood(lines.reshape(-1, len(mode))).reshape(Q, -1)
    out = []
    for k, (sd, _) in enumerate(vanishing):
        # Below the edge the likelihood is flat in this sd: the posterior is the prior, cut off there.
        matters = np.abs(likelihood[k] - likelihood[k, 0]) > 1.0
        edge = grid[np.argmax(matters)] if matters.any() else grid[-1]
        below = stats.truncnorm(-LARGEST_COORDINATE, edge)
        at, scale = found[k], scales[k]
        at[sd], scale[sd, sd] = below.mean(), COLLAPSE_WIDENED * below.var()
        out.append(Student.with_scale(at, scale, ADAPTED_NU))
    return out


def run(
    design: Design, priors: ModelPriors, settings: SamplerSettings, widen: float = 1.0
) -> EngineRun:
    """Draw theta by independence sampling, then every coefficient from its exact conditional.

    ``widen`` above one starts from wider proposals: the retry after a bad verdict.
    """
    start = time.perf_counter()
    target = LogPosterior.from_design(design, priors)
    rng = np.random.default_rng(settings.seed)
    with one_blas_thread():
        draws = sample_theta(target, settings.chains, settings.draws, rng, widen)
    theta = draws.evaluated.theta
    _check_residual(design, theta.sigma)
    coefficients, stored_levels = _coefficients(target.integrated, draws.evaluated, settings.seed)
    found = {**coefficients, **variance_components(design, target.theta_map, theta)}
    variables = {name: values for name, values in found.items() if values.size}
    stats = {
        "lp": draws.log_posterior.reshape(-1),
        "log_weight": draws.log_weight.reshape(-1),
        "accepted": draws.accepted.reshape(-1),
    }
    tree = make_tree(design, variables, theta, stats, settings.chains)
    info = {
        "engine": "exact",
        "seed": settings.seed,
        "seconds": time.perf_counter() - start,
        "acceptance": float(draws.accepted.mean()),
        "effective_share": draws.effective_share,
        "adaptation_rounds": draws.rounds,
        **({"exact_evaluations": draws.evaluations} if draws.evaluations else {}),
        **({"discrepancy": draws.discrepancy} if draws.evaluations else {}),
        "log_marginal_likelihood": draws.log_evidence,
        "log_marginal_likelihood_error": draws.log_evidence_error,
        "log_likelihood": ("stored" if keeps_log_likelihood(design, len(theta)) else "on request"),
        "levels": "stored" if stored_levels else "on request",
        "importance_log_weights": draws.importance_weights,
    }
    checked = [k for k in variables if k == "beta" or k.split("_", 1)[0] in {"sigma", "sd", "corr"}]
    return EngineRun(tree, info, tuple(checked or variables))


def _check_residual(design: Design, sigma: np.ndarray) -> None:
    typical = float(np.median(sigma))
    if not typical > EXACT_FIT_RATIO * EXACT_FIT * design.schema.response_scale.largest_sigma:
        raise exact_fit(design.schema, typical)


def _coefficients(
    integrated: MarginalModel, at: Evaluated, seed: int
) -> tuple[dict[str, np.ndarray], bool]:
    """Draws of beta, and of the levels' coefficients unless they are too many to store."""
    size = len(at.theta) * integrated.n_random_effects
    if size > LARGEST_STORED and isinstance(integrated, IndependentLevels):
        beta = integrated.draw_beta(at.working, seed, at.sums)
        return {"beta": integrated.coordinates.beta_to_user(beta)}, False
    return integrated.draw(at.working, seed, at.sums, size <= LARGEST_SUMS), True
