"""Densities and distributions of rows given the other rows of their level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra.factorisation import runs
from hierpool.core.theta import FamilyPoint
from hierpool.core.threads import over_threads

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel

DROP = 16.0  # reach of the nodes: further than a level's own density needs, for those without a row
_MOST_NODES = (1, 80, 120, 700)  # of the distribution of a row, by effects of a level
_MOST_OF_HEAVY_TAILS = 400  # where the modes of one effect can lie far apart
_AT_ONCE = 2_000_000  # linear predictors of a block


def log_density_of_rows(model: QuadratureModel, point: FamilyPoint, rows: np.ndarray) -> np.ndarray:
    """Shape (K, rows): log p(y_i | other rows of the level, beta, theta); whole level where alone."""
    from hierpool.algebra.quadrature import row_kernels  # numba loads when first needed

    asked, back = np.unique(model.rows.place[rows], return_inverse=True)
    unit, n = model.rows.unit, len(model.rows.y)
    out = np.empty((len(point), len(rows)))
    for some in runs(len(point), n + len(rows)):
        part = point[some]
        density = np.ascontiguousarray(unit[asked] * model.constants.of_rows(part.par, asked))
        over_threads(
            row_kernels.row_densities,
            len(part),
            *model.for_kernels(part, drop=DROP, is_wide=True),
            *(unit, asked, model.rows.levels[asked], density),
            alone=max(1, min(64, 50_000 // max(n, 1))),
        )
        out[some] = density[:, back]
    return out


def cdf_of_rows(
    model: QuadratureModel, point: FamilyPoint, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """P(Y < y_i) and P(Y <= y_i) given the other rows of the level, beta and theta; (rows, K)."""
    from hierpool.algebra.quadrature import row_kernels

    asked, back = np.unique(model.rows.place[rows], return_inverse=True)
    is_heavy = model.q == 1 and model.family.name == "student"
    most = _MOST_OF_HEAVY_TAILS if is_heavy else _MOST_NODES[model.q]
    below, upto = np.empty((len(asked), len(point))), np.empty((len(asked), len(point)))
    step = max(1, min(len(asked), _AT_ONCE // (most * max(1, min(len(point), 64)))))
    for first in range(0, len(asked), step):
        own = asked[first : first + step]
        for some in runs(len(point), 2 * most * len(own) + len(model.rows.y)):
            part = point[some]
            eta, share = np.empty((2, len(part), len(own), most))
            over_threads(
                row_kernels.rows_without,
                len(part),
                # A distribution is less smooth than a density: nodes of one effect stand closer.
                *model.for_kernels(part, finer=model.q == 1, is_wide=True),
                *(model.rows.unit, own, model.rows.levels[own], eta, share),
                alone=1,
            )
            found = _distribution(model, part, own, eta, share)
            below[first : first + step, some], upto[first : first + step, some] = found
    return below[back], upto[back]


def _distribution(
    model: QuadratureModel,
    point: FamilyPoint,
    rows: np.ndarray,
    eta: np.ndarray,
    share: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """P(Y < y) and P(Y <= y) of rows, shapes (rows, K), from predictors and shares (K, rows, M)."""
    K, R, M = eta.shape
    y, trials = np.repeat(model.rows.y[rows], M), np.repeat(model.rows.trials[rows], M)
    flat = eta.reshape(K, R * M)

    def mixed(values: np.ndarray) -> np.ndarray:
        return np.einsum("krm,krm->rk", values.reshape(K, R, M), share)

    upto = mixed(model.family.cdf(y, flat, point.par, trials))
    if not model.family.is_discrete:
        return upto, upto
    # Never below zero: some families say nothing of a count of -1.
    before = model.family.cdf(np.maximum(y - 1, 0), flat, point.par, trials)
    return mixed(np.where(y >= 1, before, 0.0)), upto
