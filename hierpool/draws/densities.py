"""Densities of draws, by ArviZ's estimator."""

from __future__ import annotations

import numpy as np
from arviz_stats.base import array_stats

_AROUND = 1.5  # of the window: how far draws are looked at, so that its edge is no bound
_CLOSE = 0.1  # of the range of the draws: a bound that is nearer has them heaped against it
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
    mirrored, copies = _mirrored(near, bounds)
    pad = _CLOSE * np.ptp(mirrored)
    limits = (mirrored.min() - pad, mirrored.max() + pad)
    smooth = {"bw_fct": _SMOOTHER, "bound_correction": False, "custom_lims": limits}
    grid, height, _ = array_stats.kde(mirrored, **smooth)
    inside = (grid >= max(low, bounds[0])) & (grid <= min(high, bounds[1]))
    return grid[inside], height[inside] * copies * len(near) / len(every)


def _mirrored(near: np.ndarray, bounds: tuple[float, float]) -> tuple[np.ndarray, int]:
    """Draws with their mirror images at each bound that they come close to, and how many copies.

    A smoother would spill over a bound; what it spills comes back from the mirror.
    """
    room = _CLOSE * np.ptp(near)
    parts = [near]
    if near.min() - bounds[0] < room:
        parts.append(2 * bounds[0] - near)
    if bounds[1] - near.max() < room:
        parts.append(2 * bounds[1] - near)
    return np.concatenate(parts), len(parts)


def overlap(prior: np.ndarray, posterior: np.ndarray) -> float:
    """Share that two densities have in common, from draws: 0 apart, 1 the same."""
    edges = np.quantile(prior, np.linspace(0, 1, 41)[1:-1])
    fine = np.quantile(posterior, np.linspace(0, 1, 41)[1:-1])
    bins = np.unique([-np.inf, *edges, *fine, np.inf])
    shares = [np.histogram(v, bins)[0] / len(v) for v in (prior, posterior)]
    return float(np.minimum(*shares).sum())
