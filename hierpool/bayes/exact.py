"""The exact engine: draws of theta without a chain over coefficients, then the coefficients.

All coefficients are integrated out (``core.integrated``); theta has 2 to about 15 dimensions
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
from scipy import optimize, special, stats

from hierpool.bayes.priors import ModelPriors
from hierpool.bayes.proposal import Mixture, Student, refit
from hierpool.bayes.runs import (
    EngineRun,
    Settings,
    add_log_likelihood,
    coefficient_names,
    make_tree,
    spread_names,
)
from hierpool.bayes.standardised import Standardised
from hierpool.bayes.theta import ThetaMap, integrate
from hierpool.core.design import Design
from hierpool.core.integrated import Integrated

ADAPTED_NU, WIDE_NU = 6.0, 4.0
WIDE_SHARE = PRIOR_SHARE = 0.05
COLLAPSE_LEAST, COLLAPSE_MOST = 0.01, 0.10
ADAPTED_COMPONENTS = 4
ENOUGH = 0.7  # effective share of a round at which adaptation stops
PASSABLE, GAIN = 0.35, 0.03  # share at which it stops once a round has not gained this much
ROUNDS = 12
THIN_FROM, THIN = 7, 5  # dimensions from which the chain is thinned, and by how much


@dataclass(frozen=True)
class Target:
    """Log posterior of theta in standardised coordinates, up to log p(y)."""

    integrated: Integrated
    theta_map: ThetaMap
    coordinates: Standardised

    @classmethod
    def of(cls, design: Design, priors: ModelPriors) -> Target:
        """Target of a model whose coefficients have normal priors."""
        return cls(*integrate(design, priors), Standardised.of(priors))

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta(z)); minus infinity where theta is out of range."""
        theta = self.coordinates.theta(z)
        factor = self.theta_map.relative_factor(theta)
        with np.errstate(all="ignore"):
            out = self.integrated.log_density(theta.sigma, factor)
        return np.where(np.isfinite(out), out, -np.inf)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta) + log p(z)."""
        d = z.shape[1]
        return self.log_likelihood(z) - 0.5 * (z**2).sum(axis=1) - 0.5 * d * np.log(2 * np.pi)


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
    importance_points, importance_weights
        All proposals of the last stage, shape (M, d), and log target minus log proposal, (M,).
    effective_share
        Of the last round of adaptation.
    rounds
        How many rounds of adaptation.
    """

    z: np.ndarray
    log_posterior: np.ndarray
    log_weight: np.ndarray
    accepted: np.ndarray
    log_evidence: float
    log_evidence_error: float
    importance_points: np.ndarray
    importance_weights: np.ndarray
    effective_share: float
    rounds: int


def sample_theta(
    target: Target, chains: int, draws: int, rng: np.random.Generator, widen: float = 1.0
) -> ThetaDraws:
    """Adapt a proposal and run independence chains from it.

    ``widen`` multiplies the scales of the starting components; more than one after a bad verdict.
    """
    adapted = adapt(target, rng, widen)
    d = target.coordinates.size
    thin = THIN if d >= THIN_FROM else 1
    points = adapted.proposal.draw(chains * draws * thin, rng)
    log_target = target(points)
    log_weight = log_target - adapted.proposal.log_density(points)
    kept = _independence_chains(log_weight.reshape(chains, -1), thin, rng)
    evidence, error = _evidence(log_weight)
    previous = np.concatenate([np.full((chains, 1), -1), kept[:, :-1]], axis=1)
    return ThetaDraws(
        z=points[kept],
        log_posterior=log_target[kept] - evidence,
        log_weight=log_weight[kept] - evidence,
        accepted=kept != previous,
        log_evidence=evidence,
        log_evidence_error=error,
        importance_points=points,
        importance_weights=log_weight,
        effective_share=adapted.effective_share,
        rounds=adapted.rounds,
    )


def _independence_chains(log_weight: np.ndarray, thin: int, rng: np.random.Generator) -> np.ndarray:
    """Positions (chains, draws) in the flat list of proposals that independence chains stand on.

    ``log_weight`` has one row of proposals a chain. A chain starts at one of its own proposals,
    chosen by weight, so that it needs no warm-up.
    """
    chains, length = log_weight.shape
    threshold = np.log(rng.uniform(size=log_weight.shape))
    kept = np.empty((chains, length // thin), dtype=np.intp)
    for c in range(chains):
        weights = np.exp(log_weight[c] - log_weight[c].max())
        here = int(rng.choice(length, p=weights / weights.sum()))
        proposals, bars = log_weight[c].tolist(), threshold[c].tolist()
        current, path = proposals[here], []
        for t, proposed in enumerate(proposals):
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


@dataclass(frozen=True)
class Adapted:
    """A proposal fit for independence sampling, and how good it was in its last round."""

    proposal: Mixture
    effective_share: float
    rounds: int


def adapt(target: Target, rng: np.random.Generator, widen: float = 1.0) -> Adapted:
    """Adapt a mixture of t components by multiple importance sampling (deterministic mixture)."""
    moving, fixed = _start(target, rng, widen)
    n = max(500, 100 * target.coordinates.size)
    collapse = np.full(len(fixed.components) - 2, COLLAPSE_LEAST)
    points, log_targets, used, shares = [], [], [], []
    for r in range(1, ROUNDS + 1):
        proposal, fixed = _combined(moving, fixed, collapse)
        z = proposal.draw(n, rng)
        points.append(z)
        log_targets.append(target(z))
        used.append(proposal)
        share = _effective_share(log_targets[-1] - proposal.log_density(z))
        shares.append(share)
        if _is_settled(shares):
            break
        every = np.concatenate(points)
        densities = np.stack([p.log_density(every) for p in used])
        log_weight = np.concatenate(log_targets) - special.logsumexp(densities, axis=0)
        weights = np.exp(log_weight - special.logsumexp(log_weight))
        if len(moving.components) < ADAPTED_COMPONENTS:
            moving = _spread_out(moving, every, weights, rng)
        moving, explained = refit(moving, fixed, 1 - _moving_share(collapse), every, weights)
        collapse = np.clip(explained[2:], COLLAPSE_LEAST, COLLAPSE_MOST)
    return Adapted(_combined(moving, fixed, collapse)[0], share, r)


def _is_settled(shares: list[float]) -> bool:
    """Whether another round of adaptation is not worth its evaluations."""
    if len(shares) < 2 or shares[-1] > ENOUGH:
        return len(shares) > 1
    return len(shares) > 3 and min(shares[-2:]) > PASSABLE and max(shares[-2:]) < max(shares[:-2]) + GAIN


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


def _spread_out(moving: Mixture, z: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> Mixture:
    """Components added at weighted points, with the weighted covariance of all of them."""
    missing = ADAPTED_COMPONENTS - len(moving.components)
    mean = weights @ z
    scale = (z - mean).T @ ((z - mean) * weights[:, None])
    chosen = rng.choice(len(z), size=missing, p=weights)
    new = tuple(Student.with_scale(z[i], scale, ADAPTED_NU) for i in chosen)
    count = len(moving.components)
    shares = np.concatenate([moving.weights * count, np.ones(missing)])
    return Mixture(moving.components + new, shares / shares.sum())


def _start(target: Target, rng: np.random.Generator, widen: float) -> tuple[Mixture, Mixture]:
    """The first component, at the mode, and the fixed ones: wide, prior, one per vanishing sd."""
    d = target.coordinates.size
    tried = rng.standard_normal((64 + 16 * d, d))
    tried[0] = 0.0
    values = target(tried)
    order = np.argsort(-values)
    free = np.arange(d)
    modes = [_climb(target, tried[i], free) for i in order[:2]]
    mode = max(modes, key=lambda m: m[1])[0]
    scale = _curvature(target, mode, free) * widen**2
    first = Student.with_scale(mode, scale, ADAPTED_NU)
    wide = Student.with_scale(mode, 4 * scale + 0.05 * np.eye(d), WIDE_NU)
    prior = Student(np.zeros(d), np.eye(d), np.inf)
    vanishing = [_collapse(target, mode, k) for k in range(1, 1 + target.coordinates.n_sds)]
    return Mixture((first,), np.ones(1)), Mixture((wide, prior, *vanishing), np.ones(2 + len(vanishing)))


def _climb(target: Target, start: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, float]:
    """Local maximum over the free coordinates from a start, others held; quasi-Newton."""
    h = 1e-4
    steps = np.concatenate([np.zeros((1, len(start))), h * np.eye(len(start))[free], -h * np.eye(len(start))[free]])
    k = len(free)

    def downhill(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = start.copy()
        z[free] = np.clip(x, -8, 8)
        values = target(z + steps)
        gradient = (values[1 : k + 1] - values[k + 1 :]) / (2 * h)
        finite = np.isfinite(values).all()
        return (-float(values[0]), -gradient) if finite else (1e10, np.zeros(k))

    found = optimize.minimize(downhill, start[free], jac=True, method="BFGS", options={"gtol": 1e-2, "maxiter": 60})
    z = start.copy()
    z[free] = np.clip(found.x, -8, 8)
    return z, -float(found.fun)


def _curvature(target: Target, z: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Scale matrix over the free coordinates: inverse of minus the Hessian, variances at most 2."""
    h, k = 1e-3, len(free)
    basis = h * np.eye(len(z))[free]
    points = [z + s * basis[i] + t * basis[j] for i in range(k) for j in range(i + 1) for s in (1, -1) for t in (1, -1)]
    values = target(np.array(points)).reshape(-1, 4)
    H = np.zeros((k, k))
    H[np.tril_indices(k)] = (values[:, 0] - values[:, 1] - values[:, 2] + values[:, 3]) / (4 * h**2)
    H = H + np.tril(H, -1).T
    H[~np.isfinite(H)] = 0.0
    eigenvalues, vectors = np.linalg.eigh(-H)
    return np.asarray((vectors / np.maximum(eigenvalues, 0.5)) @ vectors.T)


def _collapse(target: Target, mode: np.ndarray, sd: int) -> Student:
    """Component where one sd is too small to matter: its correlations are at their prior there."""
    d = len(mode)
    pairs = target.coordinates.correlations_of(sd - 1)
    held = np.array([sd, *pairs])
    free = np.setdiff1d(np.arange(d), held)
    start = mode.copy()
    start[sd], start[pairs] = -6.0, 0.0
    at, _ = _climb(target, start, free)
    line = np.repeat(at[None], 25, axis=0)
    line[:, sd] = np.linspace(-6.0, 2.0, 25)
    likelihood = target.log_likelihood(line)
    matters = np.abs(likelihood - likelihood[0]) > 1.0
    edge = line[np.argmax(matters), sd] if matters.any() else 2.0
    below = stats.truncnorm(-8.0, edge)
    at[sd] = below.mean()
    scale = np.eye(d)
    scale[sd, sd] = 1.5 * below.var()
    scale[np.ix_(free, free)] = _curvature(target, at, free)
    return Student.with_scale(at, scale, ADAPTED_NU)


def run(design: Design, priors: ModelPriors, settings: Settings, widen: float = 1.0) -> EngineRun:
    """Draw theta by independence sampling, then every coefficient from its exact conditional.

    ``widen`` above one starts from wider proposals: the retry after a bad verdict.
    """
    start = time.perf_counter()
    target = Target.of(design, priors)
    rng = np.random.default_rng(settings.seed)
    draws = sample_theta(target, settings.chains, settings.draws, rng, widen)
    theta = target.coordinates.theta(draws.z.reshape(-1, target.coordinates.size))
    factor = target.theta_map.relative_factor(theta)
    coefficients = target.integrated.draw_coefficients(theta.sigma, factor, rng)
    variables = {
        **coefficient_names(design, coefficients),
        **spread_names(design, target.theta_map, theta),
    }
    stats = {
        "lp": draws.log_posterior.reshape(-1),
        "log_weight": draws.log_weight.reshape(-1),
        "accepted": draws.accepted.reshape(-1),
    }
    tree = make_tree(design, variables, theta, stats, settings.chains)
    stored = add_log_likelihood(tree, target.integrated, theta.sigma, factor)
    info = {
        "engine": "exact",
        "seed": settings.seed,
        "seconds": time.perf_counter() - start,
        "acceptance": float(draws.accepted.mean()),
        "effective_share": draws.effective_share,
        "adaptation_rounds": draws.rounds,
        "log_marginal_likelihood": draws.log_evidence,
        "log_marginal_likelihood_error": draws.log_evidence_error,
        "log_likelihood": "stored" if stored else "on request",
        "importance_log_weights": draws.importance_weights,
    }
    checked = [k for k in variables if k == "beta" or k.split("_", 1)[0] in {"sigma", "sd", "corr"}]
    return EngineRun(tree, info, tuple(checked))
