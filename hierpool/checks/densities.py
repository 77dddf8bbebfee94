"""Densities of draws, by ArviZ's estimator."""

from __future__ import annotations

import numpy as np
from arviz_stats.base import array_stats

_AROUND = 1.5  # of the window: how far draws are looked at, so that its edge is no bound
_SMOOTHER = 1.4  # times ArviZ's bandwidth: a thousand draws should not show as bumps


def density_in(
    values: np.ndarray, low: float, high: float, bounds: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Density of draws at points of a window: two arrays of one length.

    Draws far outside are counted, and else left aside: of a prior with heavy tails they would
    take all points of the grid.

    Parameters
    ----------
    values
        Draws, any shape.
    low, high
        The window.
    bounds
        Smallest and largest value that there can be; infinite where there is none.
    """
    every = values.ravel()[np.isfinite(values.ravel())]
    middle, reach = (low + high) / 2, _AROUND * (high - low) / 2
    near = every[(every >= middle - 2 * reach) & (every <= middle + 2 * reach)]
    if len(near) < 2 or np.ptp(near) == 0:
        return np.array([low, high]), np.zeros(2)
    smooth = {"bw_fct": _SMOOTHER, "bound_correction": _is_bound(near, bounds)}
    grid, height, _ = array_stats.kde(near, **smooth)
    inside = (grid >= low) & (grid <= high)
    return grid[inside], height[inside] * len(near) / len(every)


def _is_bound(near: np.ndarray, bounds: tuple[float, float]) -> bool:
    """Whether draws come close enough to a bound to be heaped there by a smoother."""
    room = 0.1 * np.ptp(near)
    return bool(near.min() - bounds[0] < room or bounds[1] - near.max() < room)


def overlap(prior: np.ndarray, posterior: np.ndarray) -> float:
    """Share that two densities have in common, from draws: 0 apart, 1 the same."""
    edges = np.quantile(prior, np.linspace(0, 1, 41)[1:-1])
    fine = np.quantile(posterior, np.linspace(0, 1, 41)[1:-1])
    bins = np.unique([-np.inf, *edges, *fine, np.inf])
    shares = [np.histogram(v, bins)[0] / len(v) for v in (prior, posterior)]
    return float(np.minimum(*shares).sum())
