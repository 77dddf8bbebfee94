"""The exact engine of families: theta and population coefficients by weights, levels by quadrature.

The levels of the largest factor are integrated by quadrature, level by level, never by a Laplace
approximation; that one only proposes. What is left, theta and the other coefficients, has a
posterior that is close to normal in the coordinates of ``laplace_map``, is proposed from a mixture
that adapts, and drawn by independence chains; the weights give the marginal likelihood.
"""

from __future__ import annotations

import time

import numpy as np

from hierpool.algebra.quadrature.model import QuadratureModel
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.quadrature.sampling import PointDraws, sample_points
from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.bayes.quadrature.verdict import doubts
from hierpool.bayes.run import (
    LARGEST_STORED,
    EngineRun,
    SamplerSettings,
    log_likelihood_is,
    make_tree,
    thresholds_for_user,
    variance_components,
)
from hierpool.bayes.theta import ThetaMap, integrate_family
from hierpool.core.design import Design
from hierpool.core.threads import one_blas_thread

LARGEST_WORK = (
    10**10
)  # draws x operations of an evaluation above which levels are drawn when asked for


def run(
    design: Design,
    priors: ModelPriors,
    settings: SamplerSettings,
    widen: float = 1.0,
    before: np.ndarray | None = None,
) -> EngineRun:
    """Draw theta and coefficients by independence sampling, then every level's given them.

    ``widen`` above one starts from wider proposals and takes the finer grid: the retry after a
    bad verdict. ``before`` is what the run before that has found.
    """
    start = time.perf_counter()
    model, theta_map = integrate_family(design, priors)
    coordinates = PriorCoordinates.from_priors(priors)
    posterior = FamilyPosterior(model, theta_map.of_family, coordinates, widen > 1.0)
    rng = np.random.default_rng(settings.seed)
    with one_blas_thread(), np.errstate(all="ignore"):
        draws = sample_points(posterior, settings.chains, settings.draws, rng, widen, before)
    theta = draws.at.theta
    stores_levels = not draws_levels_on_request(model, len(theta))
    found = in_user_coding(model, theta_map, draws, settings.seed, stores_levels)
    variables = {name: values for name, values in found.items() if values.size}
    stats = {
        "lp": draws.log_posterior.reshape(-1),
        "log_weight": draws.log_weight.reshape(-1),
        "accepted": draws.accepted.reshape(-1),
        **({} if draws.evaluations else {"quadrature_error": draws.at.error}),
    }
    tree = make_tree(design, variables, theta, stats, settings.chains)
    info = {
        "engine": "exact",
        "seed": settings.seed,
        "seconds": time.perf_counter() - start,
        **_measured(draws),
        "log_likelihood": log_likelihood_is(design, len(theta)),
        "levels": "stored" if stores_levels else "on request",
    }
    checked = [k for k in variables if not k.startswith(("u_", "coef_"))]
    return EngineRun(tree, info, tuple(checked or variables), doubts(draws), draws.found)


def draws_levels_on_request(model: QuadratureModel, n_draws: int) -> bool:
    """Whether levels are so many, or have so many rows, that they are drawn when they are asked for.

    With several factors the effects of the smaller ones are part of what is sampled. Without pooling
    coefficients of levels may be all that there is to judge the draws by.
    """
    if len(model.design.groups) != 1 or model.design.spec.pooling == "none":
        return False
    size, work = n_draws * model.n_random_effects, n_draws * model.flops_per_theta
    return size > LARGEST_STORED or work > LARGEST_WORK


def in_user_coding(
    model: QuadratureModel,
    theta_map: ThetaMap,
    draws: PointDraws,
    seed: int,
    with_levels: bool = True,
) -> dict[str, np.ndarray]:
    """Every variable of a posterior by name, shapes (K, ...): the levels' coefficients drawn too."""
    design, theta, point = model.design, draws.at.theta, draws.at.point
    coefficients = model.draw(point, seed) if with_levels else model.draw_population(point)
    return {
        **coefficients,
        **thresholds_for_user(design, theta, coefficients["beta"]),
        **variance_components(design, theta_map, theta),
    }


def _measured(draws: PointDraws) -> dict[str, object]:
    """What sampling says of itself."""
    return {
        "acceptance": float(draws.accepted.mean()),
        "effective_share": draws.effective_share,
        "adaptation_rounds": draws.rounds,
        **({"exact_evaluations": draws.evaluations} if draws.evaluations else {}),
        **({"discrepancy": draws.discrepancy} if draws.evaluations else {}),
        "log_marginal_likelihood": draws.log_evidence,
        "log_marginal_likelihood_error": draws.log_evidence_error,
        "laplace_log_marginal_likelihood": draws.laplace_evidence[0],
        "laplace_log_marginal_likelihood_error": draws.laplace_evidence[1],
        "quadrature_sd": draws.quadrature_sd,
        "polish_shift": draws.polish_shift,
        "importance_log_weights": draws.importance_weights,
    }
