"""The log density of the response with its slopes by the rows' linear predictors and by Lambda."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hierpool.core.theta import FamilyPoint
from hierpool.core.threads import over_threads

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel


class Slopes(NamedTuple):
    """At K points.

    Attributes
    ----------
    log_density
        Shape (K,): log p(y | beta, effects, theta).
    beta
        Shape (K, p): its slopes by the population coefficients.
    Lambda
        Shape (K, q, q): by the covariance factor of the integrated factor.
    """

    log_density: np.ndarray
    beta: np.ndarray
    Lambda: np.ndarray


def slopes(model: QuadratureModel, point: FamilyPoint, finer: bool) -> Slopes:
    """Of whole points, run by run."""
    parts = [_of_run(model, point[some], finer) for some in _runs(model, len(point))]
    return Slopes(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _runs(model: QuadratureModel, n_points: int) -> list[slice]:
    from hierpool.algebra.factorisation import runs

    return list(runs(n_points, len(model.rows.y) * (2 + model.q)))


def _of_run(model: QuadratureModel, point: FamilyPoint, finer: bool) -> Slopes:
    from hierpool.algebra.quadrature import slope_kernels  # numba loads when first needed

    rows, K = model.rows, len(point)
    density, slope = np.empty((K, rows.n_levels)), np.empty((K, len(rows.y)))
    slope_v = np.empty((K, len(rows.y), model.q))
    over_threads(
        slope_kernels.level_slopes,
        K,
        *model.for_kernels(point, finer),
        *(density, slope, slope_v),
        alone=max(1, min(64, 20_000 // max(len(rows.y), 1))),
    )
    alike = rows.counts[rows.levels]
    total = density @ rows.counts + model.constants.total(point.par)
    beta = (slope * alike) @ rows.X
    Lambda = np.einsum("na,knb->kab", rows.Z * alike[:, None], slope_v)
    return Slopes(np.where(np.isfinite(total), total, -np.inf), beta, Lambda)
