"""Draws for checks that fit again, of responses that are not Gaussian: other responses, priors, rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.algebra.quadrature.model import QuadratureModel
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.exact.refit_with_priors import Judge
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.quadrature.engine import in_user_coding
from hierpool.bayes.quadrature.sampling import PointDraws, sample_points
from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.bayes.quadrature.verdict import doubts
from hierpool.bayes.theta import integrate_family
from hierpool.core.design import Design
from hierpool.core.theta import FamilyPoint
from hierpool.core.threads import one_blas_thread

WIDENED = (1.0, 1.5, 1.5)  # scales of the starting proposals, tried until one is good


def sample_judged(
    posterior: FamilyPosterior, chains: int, draws: int, rng: np.random.Generator, judge: Judge
) -> tuple[PointDraws, bool]:
    """Draws from the first proposal that the judge trusts; whether there was one."""
    before = None
    for widen in WIDENED:
        with one_blas_thread(), np.errstate(all="ignore"):
            found = sample_points(posterior, chains, draws, rng, widen, before)
        before = found.found
        if judge(found.importance_weights) and not doubts(found):
            return found, True
    return found, False


@dataclass(frozen=True)
class Redrawn:
    """Draws of everything under some priors, and whether they can be trusted.

    Attributes
    ----------
    draws
        Of theta and the coefficients that are not integrated.
    is_trusted
        Whether the proposal was good.
    variables
        Name -> shape (kept, ...): as in a posterior, in the user's coding.
    """

    draws: PointDraws
    is_trusted: bool
    variables: dict[str, np.ndarray]


def redrawn(
    design: Design,
    priors: ModelPriors,
    chains: int,
    draws: int,
    rng: np.random.Generator,
    judge: Judge,
) -> Redrawn:
    """The posterior of a design under its priors, drawn anew."""
    model, theta_map = integrate_family(design, priors)
    coordinates = PriorCoordinates.from_priors(priors)
    posterior = FamilyPosterior(model, theta_map.of_family, coordinates)
    found, is_trusted = sample_judged(posterior, chains, draws, rng, judge)
    variables = in_user_coding(model, theta_map, found, int(rng.integers(2**62)))
    return Redrawn(found, is_trusted, variables)


def points_without(
    design: Design,
    priors: ModelPriors,
    rows: np.ndarray,
    *,
    chains: int,
    draws: int,
    seed: int,
    judge: Judge,
) -> tuple[QuadratureModel, FamilyPoint, bool]:
    """The model less some rows, draws of theta and beta without them, whether these can be trusted."""
    full = FamilyPosterior.from_design(design, priors)
    rest = replace(full, model=full.model.without(rows))
    found, is_trusted = sample_judged(rest, chains, draws, np.random.default_rng(seed), judge)
    return rest.model, found.at.point, is_trusted
