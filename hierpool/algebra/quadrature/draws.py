"""Coefficients of the levels given theta and gamma: draws, means and covariances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra.factorisation import runs
from hierpool.algebra.quadrature import lattice
from hierpool.core.theta import FamilyPoint
from hierpool.core.threads import over_threads

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel


def moments(model: QuadratureModel, point: FamilyPoint) -> tuple[np.ndarray, np.ndarray]:
    """Mean (K, U, q) and covariance (K, U, q, q) of v of the levels that differ."""
    K, U, q = len(point), model.rows.n_levels, model.q
    mean, covariance = np.empty((K, U, q)), np.empty((K, U, q, q))
    for some in runs(K, len(model.rows.y) + U * q * (q + 1)):
        part = point[some]
        found = mean[some], covariance[some], np.empty((len(part), 0, q))
        none = np.empty((len(part), 0, 0))
        _run(model, part, none, none, *found)
    return mean, covariance


def draw_deviations(model: QuadratureModel, point: FamilyPoint, *seed: int) -> np.ndarray:
    """Shape (K, J, q): a draw of v of each level at each point; the same on any number of threads."""
    from hierpool.algebra.quadrature.draw_kernels import METROPOLIS_STEPS as STEPS

    K, J, U, q = len(point), len(model.rows.level_of), model.rows.n_levels, model.q
    drawn = np.empty((K, J, q))
    width = len(model.rows.y) + J * (1 + 2 * q + STEPS * (q + 1)) + U * q * (q + 1)
    for block, some in enumerate(runs(K, width)):
        rng, part = np.random.default_rng([*seed, block]), point[some]
        size = len(part)
        uniform = rng.uniform(size=(size, J, 1 + q + STEPS))
        normal = rng.standard_normal((size, J, STEPS * q))
        room = np.empty((size, U, q)), np.empty((size, U, q, q))
        _run(model, part, uniform, normal, *room, drawn[some])
    return drawn


def _run(model: QuadratureModel, point: FamilyPoint, *arrays: np.ndarray) -> None:
    from hierpool.algebra.quadrature import draw_kernels  # numba loads when first needed

    level_of = model.rows.level_of
    order = np.argsort(level_of, kind="stable").astype(np.int64)
    first = np.searchsorted(level_of[order], np.arange(model.rows.n_levels + 1)).astype(np.int64)
    over_threads(
        draw_kernels.deviations,
        len(point),
        *model.for_kernels(point, is_wide=True),
        *(lattice.STEP, order, first, *arrays),
        alone=max(1, min(64, 50_000 // max(len(model.rows.y), 1))),
    )
