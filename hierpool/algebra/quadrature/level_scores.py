"""Joint densities of the rows of a level given all other rows, of the integrated factor or another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra.factorisation import runs
from hierpool.core.theta import FamilyPoint

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel


def log_density_of_levels(
    model: QuadratureModel, point: FamilyPoint, codes: np.ndarray, n_levels: int
) -> np.ndarray:
    """Shape (levels, K): log p(rows of a level | all other rows, beta, effects, theta).

    ``codes`` (n,) say which level each row is in. The deviations of the integrated factor are
    integrated; a level that holds several of its levels takes their densities together, of levels
    that it holds in part the density is that of all rows less that of the rows left.
    """
    if model.integrated < 0:
        return _sums_of_rows(model, point, codes, n_levels)
    own = model.design.groups[model.integrated].codes
    if np.array_equal(codes, own):
        return np.ascontiguousarray(_levels(model, point)[:, model.rows.level_of].T)
    held = np.unique(np.column_stack([codes, own]), axis=0)
    level, inner = held.T
    pair = np.unique(codes * (own.max() + 1) + own, return_inverse=True)[1].reshape(-1)
    is_part = np.bincount(pair) < np.bincount(own)[inner]
    rest = _rows_left(model, codes, own, held[is_part])
    out = np.zeros((n_levels, len(point)))
    for some in model.runs(len(point)):
        whole = _levels(model, point[some])[:, model.rows.level_of[inner]]
        for k, values in enumerate(whole):
            out[:, some.start + k] = np.bincount(level, values, n_levels)
    if rest is not None:
        for some in rest.runs(len(point)):
            left = _levels(rest, point[some])[:, rest.rows.level_of]
            for k, values in enumerate(left):
                out[:, some.start + k] -= np.bincount(level[is_part], values, n_levels)
    return out


def _levels(model: QuadratureModel, point: FamilyPoint) -> np.ndarray:
    """Shape (K, U): log p(rows of a level | beta, effects, theta) with the family's constants."""
    rows, out = model.rows, np.empty((len(point), model.rows.n_levels))
    for some in model.runs(len(point)):
        part = point[some]
        constant = model.constants.of_rows(part.par, np.arange(len(rows.y))) * rows.weight
        out[some] = model.levels(part).log_density
        out[some] += np.add.reduceat(constant, rows.start[:-1], axis=1)
    return out


def _sums_of_rows(
    model: QuadratureModel, point: FamilyPoint, codes: np.ndarray, n_levels: int
) -> np.ndarray:
    """Densities of levels of a model without groups, whose rows are independent."""
    out = np.empty((n_levels, len(point)))
    for some in runs(len(point), len(codes)):
        for k, values in enumerate(model.log_density_of_rows(point[some])):
            out[:, some.start + k] = np.bincount(codes, values * model.rows.times, n_levels)
    return out


def _rows_left(
    model: QuadratureModel, codes: np.ndarray, own: np.ndarray, pairs: np.ndarray
) -> QuadratureModel | None:
    """A model whose levels are what is left of the integrated levels, less a level's rows."""
    if not len(pairs):
        return None
    order = np.argsort(own, kind="stable")
    edges = np.searchsorted(own[order], np.arange(own.max() + 2))
    kept, of_pair = [], []
    for number, (level, inner) in enumerate(pairs):
        rows = order[edges[inner] : edges[inner + 1]]
        rows = rows[codes[rows] != level]
        kept.append(rows)
        of_pair.append(np.full(len(rows), number))
    rows_left = model.rows.regrouped(np.concatenate(kept), np.concatenate(of_pair), len(pairs))
    return model.of_rows(rows_left)
