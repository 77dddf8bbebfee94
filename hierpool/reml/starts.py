"""Where the search for an optimum starts, and the quasi-Newton steps that lead away from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from hierpool.reml.criterion import Criterion
from hierpool.reml.no_maximum import Search, Valley

_SURVEY_SLOPE, _SURVEY_STEPS = 0.05, 30  # of the searches from several starts, before the last one
_HOPELESS = 150.0  # deviance above that of the best start from which another is not followed
_START_SCALES = np.array([0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])


class Look(NamedTuple):
    """Points tried at one start of the residuals, (s, k), and the deviances there."""

    points: np.ndarray
    deviances: np.ndarray


def first_looks(criterion: Criterion) -> list[Look]:
    """Deviances at a few scales of T, beside each start of the residuals."""
    grid = np.array([criterion.theta(np.eye(criterion.size) * s) for s in _START_SCALES])
    apart = [grid]
    if criterion.structure is not None:
        own = grid if criterion.size else grid[:1]
        apart = [np.hstack([own, np.tile(x, (len(own), 1))]) for x in criterion.structure.begins]
    values = finite_values(criterion, np.concatenate(apart)).reshape(len(apart), -1)
    return [Look(*look) for look in zip(apart, values, strict=True)]


def starts(criterion: Criterion, looks: Sequence[Look]) -> list[np.ndarray]:
    """Where to start: the best two points of all, and the best one tilted."""
    grid = np.concatenate([look.points for look in looks])
    order = np.argsort(np.concatenate([look.deviances for look in looks]))
    best, second = order[0], order[min(1, len(order) - 1)]
    return [grid[best], grid[second], _tilted(criterion, grid[best])]


def finite_values(criterion: Criterion, grid: np.ndarray) -> np.ndarray:
    """Deviances, infinite where there is none."""
    values = criterion.deviance(grid)
    return np.where(np.isfinite(values), values, np.inf)


def surveyed(criterion: Criterion, looks: Sequence[Look], known: Valley) -> list[End]:
    """Ends of short searches from each start of the residuals that do not lead to a known optimum."""
    best = min(float(look.deviances.min()) for look in looks)
    ends = []
    for look in looks:
        lowest = int(np.argmin(look.deviances))
        if best < look.deviances[lowest] <= best + _HOPELESS:  # the best one has been followed
            begin = look.points[lowest]
            ends.append(quasi_newton(criterion, begin, _SURVEY_SLOPE, _SURVEY_STEPS, known))
    return [end for end in ends if not known.holds(end.theta, end.deviance)]


class End(NamedTuple):
    """Where a search ended, and the deviance there; ``ran_away`` where it grows without bound."""

    theta: np.ndarray
    deviance: float
    ran_away: bool = False


def quasi_newton(
    criterion: Criterion,
    start: np.ndarray,
    slope: float,
    steps: int = 500,
    known: Valley | None = None,
) -> End:
    """Where a quasi-Newton search ends; at the start where it found no number."""
    options: Any = {"gtol": slope, "maxiter": steps}
    if criterion.structure is not None:  # log sds: a step as long as the slope overflows
        size = float(np.linalg.norm(criterion.value_and_gradient(start)[1]))
        options["hess_inv0"] = np.eye(len(start)) / (max(size, 1.0) if np.isfinite(size) else 1.0)
    search = Search(criterion, known)
    found = optimize.minimize(
        search, start, jac=True, method="BFGS", callback=search.check, options=options
    )
    # Where the columns fit the response exactly a step may end in no number at all.
    is_number = np.isfinite(found.fun)
    if np.isfinite(found.x).all() and (is_number or criterion.structure is None):
        value = float(found.fun) if is_number else np.inf
        return End(np.asarray(found.x), value, search.ran_away)
    return End(start, np.inf)


def _tilted(criterion: Criterion, theta: np.ndarray) -> np.ndarray:
    """A start with correlations and unequal variances, away from the symmetric ones."""
    # Correlations of zero with equal sds can be a saddle, where the gradient shows no way out.
    rows, columns, _ = criterion.free
    tilted, largest = (
        np.zeros((criterion.size,) * 2),
        np.abs(theta[: criterion.n_free]).max(initial=0.0),
    )
    tilted[rows, columns] = np.where(rows == columns, largest * 3.0 / (1.0 + rows), 0.3 * largest)
    return criterion.theta(tilted, theta)
