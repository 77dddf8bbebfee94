"""Nodes of the quadrature of two or three effects a level: a lattice in rings around the mode.

The trapezoid rule in several dimensions: integer vectors times a step, in units of the local
Cholesky factor. The two colours of the chess board say how wrong the rule is, the share of the
outermost ring whether it reaches far enough; where it does not, a level takes further rings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

STEP = 1.1  # posterior sds between neighbours
REACH = 4.6  # radius of the rings that every level has
FARTHEST = 11.0  # and of those that skewed levels may take
TAIL_SHARE = 1e-4  # of a further ring, above which yet another is taken


@dataclass(frozen=True)
class Lattice:
    """Nodes in rings.

    Attributes
    ----------
    nodes
        Shape (q, M), by distance from the origin.
    is_even
        Shape (M,): 1 for one colour of the chess board, 0 for the other.
    ring_ends
        Nodes up to the end of each ring; the first is a ball, the second the outermost ring of
        those that every level has.
    rim_share
        Share of that ring above which further ones are needed: twice that of a normal density.
    log_cell
        Log volume of a cell.
    """

    nodes: np.ndarray
    is_even: np.ndarray
    ring_ends: np.ndarray
    rim_share: float
    log_cell: float


@cache
def lattice(q: int, step: float = STEP, reach: float = REACH) -> Lattice:
    """Lattice in q dimensions."""
    most = int(np.ceil(FARTHEST / step))
    axis = np.arange(-most, most + 1)
    cells = np.stack(np.meshgrid(*[axis] * q, indexing="ij"), axis=-1).reshape(-1, q)
    distance = step * np.sqrt((cells**2).sum(axis=1))
    order = np.argsort(distance, kind="stable")
    cells, distance = cells[order], distance[order]
    radii = np.arange(reach - step, FARTHEST + 1e-9, step)
    outermost = stats.chi2.sf((reach - step) ** 2, q) - stats.chi2.sf(reach**2, q)
    return Lattice(
        nodes=np.ascontiguousarray(cells.T * step),
        is_even=(cells.sum(axis=1) % 2 == 0).astype(np.int64),
        ring_ends=np.searchsorted(distance, radii, side="right"),
        rim_share=float(2 * outermost),
        log_cell=float(q * np.log(step)),
    )
