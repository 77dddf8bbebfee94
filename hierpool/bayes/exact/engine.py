"""The exact engine: draws of theta without a chain over coefficients, then the coefficients.

All coefficients are integrated out (``algebra.marginal_model``); theta has 2 to about 15 dimensions
whatever the number of levels. In coordinates where its prior is standard normal, a mixture
proposal is adapted by multiple importance sampling and then used for independence
Metropolis-Hastings; the importance weights give the marginal likelihood and a Pareto k.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from hierpool.algebra.marginal_model import LevelsOnRequest, MarginalModel
from hierpool.bayes.exact.adaptation import Adaptation, evidence, independence_chains
from hierpool.bayes.exact.log_posterior import log_posterior
from hierpool.bayes.exact.random_scale import ScalePosterior
from hierpool.bayes.exact.surrogate import Surrogate
from hierpool.bayes.exact.target import Evaluated, LogDensity, LogPosterior, log_normal
from hierpool.bayes.exact.theta_proposal import ThetaProposal
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import (
    LARGEST_STORED,
    LARGEST_SUMS,
    EngineRun,
    SamplerSettings,
    log_likelihood_is,
    make_tree,
    variance_components,
)
from hierpool.core.design import EXACT_FIT, Design, exact_fit
from hierpool.core.threads import one_blas_thread

EXACT_FIT_RATIO = 10.0  # typical sigma over the smallest one there is, below which the fit is exact
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
    proposal
        As adapted from the rng alone; None where starts were widened, or a polynomial stood in.
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
    proposal: ThetaProposal | None = None

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
    if target.integrated.flops_per_density > SURROGATE_ABOVE_FLOPS:
        density = Surrogate.from_log_posterior(target, rng)
    adaptation = _adapted(density, rng, widen)
    adapted = adaptation.proposal if widen == 1.0 and density is target else None
    thin = _thinning(density)
    n = chains * draws * thin
    points, at, log_target, log_weight = adaptation.last(n, rng)
    kept = independence_chains(log_weight.reshape(chains, -1), thin, rng)
    log_evidence, error = evidence(log_weight)
    evaluations, discrepancy = 0, 0.0
    if isinstance(density, Surrogate):
        moved, inexact = density.log_correction
        log_evidence, error = log_evidence + moved, float(np.hypot(error, inexact))
        evaluations = density.n_evaluations
        discrepancy = float(density.errors.std()) if density.is_close else np.inf
    previous = np.concatenate([np.full((chains, 1), -1), kept[:, :-1]], axis=1)
    return ThetaDraws(
        z=points[kept],
        log_posterior=log_target[kept] - log_evidence,
        log_weight=log_weight[kept] - log_evidence,
        accepted=kept != previous,
        log_evidence=log_evidence,
        log_evidence_error=error,
        evaluated=at[kept.reshape(-1)],
        importance_points=points,
        importance_weights=log_weight,
        effective_share=adaptation.shares[-1],
        rounds=len(adaptation.shares),
        evaluations=evaluations,
        discrepancy=discrepancy,
        proposal=adapted,
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
    return THIN_CHEAP if target.integrated.flops_per_density <= ALWAYS_THIN_BELOW_FLOPS else 1


def adapted_proposal(target: LogPosterior, rng: np.random.Generator) -> ThetaProposal | None:
    """A proposal fit for importance sampling of the target; None where theta is empty."""
    if target.coordinates.size == 0:
        return None
    with np.errstate(all="ignore"), one_blas_thread():
        return _adapted(target, rng, 1.0).proposal


def adapting(
    density: LogDensity, start: ThetaProposal, n: int
) -> Adaptation[ThetaProposal, Evaluated]:
    """A proposal before it has learnt from the target; ``n`` points a round."""

    def evaluate(z: np.ndarray, _: np.ndarray) -> tuple[Evaluated, np.ndarray]:
        at = density.at(z)
        return at, at.log_likelihood + log_normal(z)

    return Adaptation.start(evaluate, start, density.coordinates.size, n)


def _adapted(
    density: LogDensity, rng: np.random.Generator, widen: float
) -> Adaptation[ThetaProposal, Evaluated]:
    """The proposal fitted to the target, with all that it has learnt from."""
    start = ThetaProposal.from_target(density, rng, widen)
    adaptation = adapting(density, start, max(500, 100 * density.coordinates.size))
    adaptation.run(rng)
    return adaptation


def run(
    design: Design, priors: ModelPriors, settings: SamplerSettings, widen: float = 1.0
) -> EngineRun:
    """Draw theta by independence sampling, then every coefficient from its exact conditional.

    ``widen`` above one starts from wider proposals: the retry after a bad verdict.
    """
    start = time.perf_counter()
    target = log_posterior(design, priors)
    rng = np.random.default_rng(settings.seed)
    with one_blas_thread():
        draws = sample_theta(target, settings.chains, settings.draws, rng, widen)
    at = draws.evaluated
    if isinstance(target, ScalePosterior):
        at = target.with_scales(at, rng)
    theta = at.theta
    _check_residual(design, theta.sigma)
    components = variance_components(design, target.theta_map, theta)
    # Without pooling, of known sds, coefficients of levels are all that there is to judge the draws by.
    has_more = bool(design.terms) or any(values.size for values in components.values())
    coefficients, stored_levels = _coefficients(target.integrated, at, settings.seed, has_more)
    found = {**coefficients, **components}
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
        "log_likelihood": log_likelihood_is(design, len(theta)),
        "levels": "stored" if stored_levels else "on request",
        "importance_log_weights": draws.importance_weights,
    }
    words, more = {"sigma", "sd", "corr"}, {"beta", *design.schema.residual_dims}
    checked = [k for k in variables if k in more or k.split("_", 1)[0] in words]
    return EngineRun(tree, info, tuple(checked or variables), proposal=draws.proposal)


def _check_residual(design: Design, sigma: np.ndarray) -> None:
    typical = float(np.median(sigma))
    if not typical > EXACT_FIT_RATIO * EXACT_FIT * design.schema.response_scale.largest_sigma:
        raise exact_fit(design.schema, typical)


def _coefficients(
    integrated: MarginalModel, at: Evaluated, seed: int, may_leave_out: bool
) -> tuple[dict[str, np.ndarray], bool]:
    """Draws of beta, and of the levels' coefficients unless they are too many to store."""
    size = len(at.theta) * integrated.n_random_effects
    if (
        may_leave_out
        and isinstance(integrated, LevelsOnRequest)
        and (size > LARGEST_STORED or integrated.draws_are_dear)
    ):
        beta = integrated.draw_beta(at.working, seed, at.sums)
        return {"beta": integrated.coordinates.beta_to_user(beta)}, False
    return integrated.draw(at.working, seed, at.sums, size <= LARGEST_SUMS), True
