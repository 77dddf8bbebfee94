"""What a model says of another response, whichever its family."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.core.design import Design
from hierpool.core.results import Estimate


@dataclass(frozen=True)
class Refit:
    """What a model says of another response.

    Attributes
    ----------
    values
        Fixed effects, then what ``tables.variance_component_index`` names.
    loglik
        Of the fit.
    """

    values: np.ndarray
    loglik: float


def new_effects(design: Design, estimate: Estimate, rng: np.random.Generator) -> np.ndarray:
    """Shape (n,): random part of the linear predictor, with new levels of every factor."""
    total = np.zeros(design.n)
    for group in design.groups:
        own = estimate.of(group.factor)
        # A correlation is NaN where an sd is zero, which it is multiplied by.
        covariance = np.nan_to_num(own.corr) * np.outer(own.sd, own.sd)
        # eigh and not Cholesky: a singular fit has eigenvalues of zero, with rounding below it.
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        u = rng.standard_normal((group.grouping.n_levels, len(root))) @ root.T
        total += np.einsum("nq,nq->n", group.Z, u[group.grouping.codes])
    return total
