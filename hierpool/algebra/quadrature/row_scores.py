"""Densities and distributions of rows given the other rows of their level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra.factorisation import runs
from hierpool.core.families.ordinal import Ordinal
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


Expected = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Iterable[np.ndarray]]
"""Predictors (K, m), parameters of the family (K, P), responses and trials (m,) -> arrays (K, m)."""


def cdf_of_rows(
    model: QuadratureModel, point: FamilyPoint, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """P(Y < y_i) and P(Y <= y_i) given the other rows of the level, beta and theta; (rows, K)."""
    family = model.family

    def distribution(
        eta: np.ndarray, par: np.ndarray, y: np.ndarray, trials: np.ndarray
    ) -> Iterator[np.ndarray]:
        yield family.cdf(y, eta, par, trials)
        if family.is_discrete:
            yield family.cdf_below(y, eta, par, trials)

    upto, *below = expected_of_rows(model, point, rows, distribution)
    return (below[0] if below else upto), upto


def probabilities_of_rows(
    model: QuadratureModel, point: FamilyPoint, rows: np.ndarray
) -> np.ndarray:
    """Shape (m, rows, K): probabilities given the other rows of the level, beta and theta.

    Of a success (m = 1); of ratings that the rating is at most the k-th, for all but the last.
    """
    family = model.family

    def probabilities(
        eta: np.ndarray, par: np.ndarray, _: np.ndarray, trials: np.ndarray
    ) -> Iterator[np.ndarray]:
        if isinstance(family, Ordinal):
            yield from np.moveaxis(family.at_most(eta, par), -1, 0)
        else:
            yield family.mean(eta, par)

    return expected_of_rows(model, point, rows, probabilities)


def expected_of_rows(
    model: QuadratureModel, point: FamilyPoint, rows: np.ndarray, of: Expected
) -> np.ndarray:
    """Shape (m, rows, K): what ``of`` yields, expected given the other rows of each row's level."""
    from hierpool.algebra.quadrature import row_kernels

    asked, back = np.unique(model.rows.place[rows], return_inverse=True)
    is_heavy = model.q == 1 and model.family.name == "student"
    most = _MOST_OF_HEAVY_TAILS if is_heavy else _MOST_NODES[model.q]
    step = max(1, min(len(asked), _AT_ONCE // (most * max(1, min(len(point), 64)))))
    pieces = []
    for first in range(0, len(asked), step):
        own = asked[first : first + step]
        parts = []
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
            parts.append(_averages(model, part, own, eta, share, of))
        pieces.append(np.concatenate(parts, axis=-1))
    return np.concatenate(pieces, axis=1)[:, back]


def _averages(
    model: QuadratureModel,
    point: FamilyPoint,
    rows: np.ndarray,
    eta: np.ndarray,
    share: np.ndarray,
    of: Expected,
) -> np.ndarray:
    """Shape (m, rows, K): what ``of`` yields at predictors (K, rows, nodes), averaged over the nodes.

    Row by row, since most have far fewer nodes than there is room for, and a cdf takes long.
    """
    found = []
    for i, row in enumerate(rows):
        n = int(np.flatnonzero(share[:, i].any(axis=0))[-1]) + 1
        y, trials = (np.repeat(a[row], n) for a in (model.rows.y, model.rows.trials))
        values = of(np.ascontiguousarray(eta[:, i, :n]), point.par, y, trials)
        found.append([np.einsum("km,km->k", v, share[:, i, :n]) for v in values])
    return np.array(found).swapaxes(0, 1)
