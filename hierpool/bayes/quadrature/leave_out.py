"""Exact predictive densities of rows that are left out, of responses that are not Gaussian.

The ratio of two marginal likelihoods, p(y) / p(y without the rows), each from a proposal of its own.
Coordinates, centring and priors stay those of the full data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.bayes.exact.leave_out import LeftOut
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.quadrature.sampling import PointDraws, sample_points
from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.bayes.quadrature.verdict import doubts
from hierpool.core.design import Design
from hierpool.core.theta import FamilyPoint
from hierpool.core.threads import one_blas_thread

CHAINS, DRAWS = 4, 1000  # proposals of each: the error of the log density is then about .013
DRAWS_OF_ALL = 4000  # of all rows, which every set of rows shares
LARGEST_ERROR = 0.02  # from which there was a weight among them as is rare, and others are drawn


@dataclass(frozen=True)
class Whole:
    """What scores of rows that are left out share.

    Attributes
    ----------
    evidence
        log p(y) of all rows.
    points
        Draws of theta and the coefficients beside it.
    efficiency
        Of these draws, from how many the chains accepted.
    is_trusted
        Whether they are good enough to compute scores from.
    """

    evidence: LeftOut
    points: FamilyPoint
    efficiency: float
    is_trusted: bool


def whole(design: Design, priors: ModelPriors, seed: int) -> Whole:
    """Evidence and draws of all rows."""
    found = _sampled(FamilyPosterior.from_design(design, priors), DRAWS_OF_ALL, seed)
    accepted = float(found.accepted.mean())
    return Whole(
        LeftOut(found.log_evidence, found.log_evidence_error),
        found.at.point,
        max(accepted / (2 - accepted), 1e-3),
        not doubts(found),
    )


def log_evidence(
    design: Design, priors: ModelPriors, seed: int, without: np.ndarray | None = None
) -> LeftOut:
    """log p(y), or that of the other rows where some (positions) are left out, and its error."""
    posterior = FamilyPosterior.from_design(design, priors)
    if without is not None:
        posterior = replace(posterior, model=posterior.model.without(np.asarray(without)))
    found = _sampled(posterior, DRAWS, seed)
    if not found.log_evidence_error <= LARGEST_ERROR:
        again = _sampled(posterior, DRAWS, seed + 1)
        found = min(found, again, key=lambda each: each.log_evidence_error)
    return LeftOut(found.log_evidence, found.log_evidence_error)


def _sampled(posterior: FamilyPosterior, draws: int, seed: int) -> PointDraws:
    with one_blas_thread(), np.errstate(all="ignore"):
        return sample_points(posterior, CHAINS, draws, np.random.default_rng(seed))


def joint_log_density(
    design: Design, priors: ModelPriors, rows: np.ndarray, seed: int, whole: LeftOut | None = None
) -> LeftOut:
    """log p(rows, jointly | all other rows), theta and coefficients integrated out.

    ``whole`` is ``log_evidence`` of all rows, which many sets of rows share; None: it is worked out.
    """
    full = log_evidence(design, priors, seed) if whole is None else whole
    rest = log_evidence(design, priors, seed, rows)
    return LeftOut(full.log_density - rest.log_density, float(np.hypot(full.error, rest.error)))
