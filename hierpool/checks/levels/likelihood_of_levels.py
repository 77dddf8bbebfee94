"""Own estimates of groups whose response is not Gaussian: maximum likelihood of each group's rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hierpool.core.design import Design, GroupDesign
from hierpool.core.families.family import Family

STEP = 1e-3  # of the predictor, from which slope and curvature of a log density are taken
ROUNDS, LONGEST = 60, 2.0  # of climbing, and how far a predictor moves in one of them
STILL = 1e-6  # of a predictor: converged
BEYOND = 12.0  # distance of a predictor from its start at which an estimate has run away


def own_estimates(
    design: Design,
    family: Family,
    group: GroupDesign,
    means: Mapping[str, np.ndarray],
    par: np.ndarray,
) -> np.ndarray:
    """Shape (J, q): maximum likelihood of each level's rows on the group columns, user's coding.

    The terms that do not vary, other factors, and the parameters of the family ``par`` (P,) are held.
    NaN where a coefficient is not estimable, as where all rows of a level are alike and it runs away.
    """
    fixed = np.setdiff1d(np.arange(len(design.terms)), group.population)
    offset = design.offset + design.observations.X[:, fixed] @ means["beta"][fixed]
    for other in design.groups:
        if other is not group:
            u = means[other.level_variable][other.grouping.codes]
            offset = offset + np.einsum("nq,nq->n", other.Z, u)
    codes = group.grouping.codes
    return _climbed(design, family, (group.Z, codes, group.grouping.n_levels), offset, par)


def one_line(design: Design, family: Family, par: np.ndarray) -> np.ndarray:
    """Shape (p,): maximum likelihood of all rows on the population columns, user's coding."""
    X = design.observations.X
    none = np.zeros(len(X), dtype=np.int64)
    offset = np.broadcast_to(design.offset, (len(X),))
    return _climbed(design, family, (X, none, 1), offset, par)[0]


def _climbed(
    design: Design,
    family: Family,
    columns: tuple[np.ndarray, np.ndarray, int],
    offset: np.ndarray,
    par: np.ndarray,
) -> np.ndarray:
    """Shape (J, q): Newton's method in every level at once; NaN where there is no maximum."""
    Z, codes, J = columns
    scale = np.sqrt(np.maximum(np.square(Z).mean(axis=0), np.finfo(float).tiny))
    Z = Z / scale
    weights = design.likelihood_weights
    b = np.zeros((J, Z.shape[1]))
    moved, lost = np.full(J, np.inf), _rank_deficient(Z, codes, J)
    for _ in range(ROUNDS):
        eta = offset + np.einsum("nq,nq->n", Z, b[codes])
        slope, curvature = _derivatives(design, family, eta, par)
        gradient = np.zeros_like(b)
        np.add.at(gradient, codes, Z * (weights * slope)[:, None])
        hessian = np.zeros((J, b.shape[1], b.shape[1]))
        np.add.at(hessian, codes, Z[:, :, None] * Z[:, None] * (weights * curvature)[:, None, None])
        ridge = 1e-9 * (1.0 + np.trace(hessian, axis1=1, axis2=2))
        step = np.linalg.solve(
            hessian + ridge[:, None, None] * np.eye(b.shape[1]), gradient[..., None]
        )
        change = np.zeros(J)
        np.maximum.at(change, codes, np.abs(np.einsum("nq,nq->n", Z, step[codes, :, 0])))
        b += step[..., 0] * np.minimum(1.0, LONGEST / np.maximum(change, STILL))[:, None]
        moved = np.where(lost, 0.0, change)
        if (moved < STILL).all():
            break
    away = np.zeros(J)
    np.maximum.at(away, codes, np.abs(np.einsum("nq,nq->n", Z, b[codes])))
    is_off = lost | (moved > 100 * STILL) | (away > BEYOND)
    return np.where(is_off[:, None], np.nan, b / scale)


def _derivatives(
    design: Design, family: Family, eta: np.ndarray, par: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slope and curvature (positive) of every row's log density by its predictor, shapes (n,)."""
    around = eta + STEP * np.array([[-1.0], [0.0], [1.0]])
    below, here, above = family.log_density(
        design.observations.y, around, np.tile(par, (3, 1)), design.trials
    )
    curvature = -(above - 2 * here + below) / STEP**2
    return (above - below) / (2 * STEP), np.maximum(curvature, 1e-6)


def _rank_deficient(Z: np.ndarray, codes: np.ndarray, J: int) -> np.ndarray:
    """Shape (J,): levels whose rows do not tell their columns apart."""
    products = np.zeros((J, Z.shape[1], Z.shape[1]))
    np.add.at(products, codes, Z[:, :, None] * Z[:, None])
    values = np.linalg.eigvalsh(products)
    return np.asarray(values[:, 0] <= 1e-10 * np.maximum(values[:, -1], 1e-300))
