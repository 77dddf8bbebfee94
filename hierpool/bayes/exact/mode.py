"""Local maxima of the log posterior of theta, and its curvature there.

One evaluation at many points costs little more than at one point, so that Newton's method from all
starts at once, with Hessians by differences, needs the fewest calls. Where an evaluation is dear
(``surrogate``) every point counts, and a quasi-Newton search from one start needs the fewest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import optimize

LARGEST_COORDINATE = 8.0  # largest absolute value of a standardised coordinate
LEAST_CURVATURE = 0.5  # half of the prior's own: no posterior variance is taken for more than 2
DIFFERENCE = 1e-3  # of coordinates, for derivatives
_ITERATIONS = 20
_STOP_AT_STEP = 0.1  # step, in posterior sds, with which the search ends
_SHARES = np.array([1.0, 0.5, 0.2, 0.05])  # of a Newton step that are tried
_LONGEST = 2.0  # step in any coordinate


@dataclass(frozen=True)
class Search:
    """How Newton's method searches.

    Attributes
    ----------
    difference
        By which coordinates differ for the derivatives: wider where the target has errors.
    pairs
        Positions (m,), (m,) of the pairs of coordinates whose curvature is looked at, others
        counting as zero; None for all.
    largest
        Absolute value, shape () or (d,), that coordinates keep within.
    """

    difference: float = DIFFERENCE
    pairs: tuple[np.ndarray, np.ndarray] | None = None
    largest: float | np.ndarray = LARGEST_COORDINATE


def climb_all(
    target: Callable[[np.ndarray], np.ndarray],
    starts: np.ndarray,
    free: np.ndarray,
    search: Search | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local maxima over the free coordinates from several starts, the others held.

    Parameters
    ----------
    target
        Log posterior.
    starts, free
        Shapes (S, d): where to start, and whether a coordinate may move.
    search
        How to search; None for a target that is smooth to the last digits.

    Returns
    -------
    tuple
        The maxima, shape (S, d); the log posterior there, (S,); scale matrices, (S, d, d): the
        inverse of minus the Hessian over the free coordinates, the identity elsewhere.
    """
    how = Search() if search is None else search
    z, lanes = starts.copy(), np.arange(len(starts))
    for _ in range(_ITERATIONS):
        values, gradient, hessian = _derivatives(target, z, how)
        eigenvalues, vectors = _spectrum(hessian, free)
        along = np.einsum("sij,si->sj", vectors, np.where(free, gradient, 0.0)) / eigenvalues
        step = np.einsum("sij,sj->si", vectors, along)
        # Step times root of curvature: the length in posterior sds.
        if (np.abs(along) * np.sqrt(eigenvalues)).max() < _STOP_AT_STEP:
            break
        step *= np.minimum(1.0, _LONGEST / np.abs(step).max(axis=1, initial=1e-300))[:, None]
        tried = np.clip(z[:, None] + _SHARES[:, None] * step[:, None], -how.largest, how.largest)
        found = _finite(target(tried.reshape(-1, z.shape[1]))).reshape(len(z), -1)
        best = found.argmax(axis=1)
        better = found[lanes, best] > values
        if not better.any():
            break
        z[better] = tried[lanes, best][better]
    scale = np.einsum("sij,sj,skj->sik", vectors, 1 / eigenvalues, vectors)
    return z, values, scale


def _derivatives(
    target: Callable[[np.ndarray], np.ndarray],
    z: np.ndarray,
    search: Search,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (S,), gradients (S, d) and Hessians (S, d, d) by central differences."""
    d = z.shape[1]
    basis = search.difference * np.eye(d)
    i, j = np.triu_indices(d, 1) if search.pairs is None else search.pairs
    both = basis[i] + basis[j]
    steps = np.concatenate([np.zeros((1, d)), basis, -basis, both, -both])
    values = _finite(target((z[:, None] + steps).reshape(-1, d))).reshape(len(z), -1)
    here, up, down, both_up, both_down = np.split(values, np.cumsum([1, d, d, len(i)]), axis=1)
    single = up + down - 2 * here
    hessian = np.zeros((len(z), d, d))
    hessian[:, np.arange(d), np.arange(d)] = single
    # f(+ +) + f(- -) - 2 f = f_ii + 2 f_ij + f_jj: two points a pair instead of four.
    cross = (both_up + both_down - 2 * here - single[:, i] - single[:, j]) / 2
    hessian[:, i, j] = hessian[:, j, i] = cross
    return here[:, 0], (up - down) / (2 * search.difference), hessian / search.difference**2


def _finite(values: np.ndarray) -> np.ndarray:
    """Values with a floor where theta is out of range."""
    return np.maximum(np.nan_to_num(values, nan=-np.inf), -1e10)


def _spectrum(hessian: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (S, d), floored, and vectors (S, d, d) of minus the Hessian; identity where held."""
    moves = free[:, :, None] & free[:, None, :]
    eigenvalues, vectors = np.linalg.eigh(np.where(moves, -hessian, np.eye(free.shape[1])))
    return np.maximum(eigenvalues, LEAST_CURVATURE), vectors


def climb_dear(
    target: Callable[[np.ndarray], np.ndarray], start: np.ndarray, sds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local maximum from one start, shape (d,), and the scale matrix there; in few evaluations.

    ``sds`` are guesses of the posterior sds of the coordinates.
    """
    steps = 0.1 * DIFFERENCE * np.concatenate([np.zeros((1, len(start))), np.eye(len(start))])

    def downhill(x: np.ndarray) -> tuple[float, np.ndarray]:
        values = target(np.clip(x, -LARGEST_COORDINATE, LARGEST_COORDINATE) + steps)
        if not np.isfinite(values).all():
            return 1e10, np.zeros(len(x))
        return -float(values[0]), -(values[1:] - values[0]) / (0.1 * DIFFERENCE)

    options: dict[str, Any] = {
        "maxiter": 60,
        "gtol": 0.1 / sds.max(),
        "hess_inv0": np.diag(sds**2),
    }
    found = optimize.minimize(downhill, start, jac=True, method="BFGS", options=cast(Any, options))
    z = np.clip(found.x, -LARGEST_COORDINATE, LARGEST_COORDINATE)
    _, _, hessian = _derivatives(target, z[None], Search())
    eigenvalues, vectors = _spectrum(hessian, np.ones((1, len(z)), dtype=bool))
    return z, (vectors[0] / eigenvalues[0]) @ vectors[0].T
