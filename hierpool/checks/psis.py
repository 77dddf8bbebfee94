"""Pareto-smoothed importance sampling for many points at once. Numba, cached on disk.

The same numbers as arviz-stats, to rounding, a hundred times faster: leave-one-out needs only the
sum of the smoothed weights and their sum against the densities, not the weights themselves.

References
----------
Vehtari, Simpson, Gelman, Yao, Gabry (2024), J. Mach. Learn. Res. 25(72).
Zhang and Stephens (2009), Technometrics 51, 316-325 (the fit of the tail).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hierpool.core.kernels import over_threads

PRIOR_SCALE = 3.0  # of the grid of Zhang and Stephens
PRIOR_SHAPE, PRIOR_COUNT = 0.5, 10.0  # shape and weight of the prior of k
_BINS = 512
_LARGE = 1e100  # factors are multiplied up to this size before a logarithm is taken
_OPTIONS = {"cache": True, "error_model": "numpy", "nogil": True}


@njit("f8(f8[::1], f8)", **_OPTIONS)
def _mean_log1p(x, b):
    """Mean of log(1 + b x), with as few logarithms as the range of numbers allows."""
    total, product = 0.0, 1.0
    for i in range(len(x)):
        factor = 1.0 + b * x[i]
        if factor > _LARGE:
            total += np.log(factor)
            continue
        product *= factor
        if product > _LARGE or product < 1.0 / _LARGE:
            total += np.log(product)
            product = 1.0
    return (total + np.log(product)) / len(x)


@njit("UniTuple(f8, 2)(f8[::1])", **_OPTIONS)
def _fit_tail(x):
    """Shape and scale of a generalised Pareto distribution for sorted excesses, shape regularised."""
    n = len(x)
    quartile = x[int(n / 4 + 0.5) - 1]
    if not quartile > x[0]:
        return np.nan, np.nan
    size = 30 + int(n**0.5)
    b, score = np.empty(size), np.empty(size)
    for j in range(size):
        b[j] = (1 - np.sqrt(size / (j + 0.5))) / (PRIOR_SCALE * quartile) + 1 / x[n - 1]
        k = _mean_log1p(x, -b[j])
        score[j] = n * (np.log(-b[j] / k) - k - 1)
    weight = np.exp(score - score.max())
    weight /= weight.sum()
    for j in range(size):
        if weight[j] < 10 * 2.220446049250313e-16:
            weight[j] = 0.0
    weight /= weight.sum()
    posterior = 0.0
    for j in range(size):
        if weight[j] > 0:
            posterior += b[j] * weight[j]
    k = _mean_log1p(x, -posterior)
    scale = -k / posterior
    k = (n * k + PRIOR_COUNT * PRIOR_SHAPE) / (n + PRIOR_COUNT)
    return (np.inf, np.nan) if np.isnan(k) else (k, scale)


@njit("UniTuple(f8[::1], 2)(f8[::1], i8)", **_OPTIONS)
def _split(x, tail):
    """All but the ``tail`` largest of x, whose largest is 0, in any order; and these, sorted.

    A count by bins finds where the tail begins; only the bins above are sorted.
    """
    low = x.min()
    counts = np.zeros(_BINS, dtype=np.int64)
    scale = _BINS / -low if low < 0 else 0.0
    for m in range(len(x)):
        counts[min(int((x[m] - low) * scale), _BINS - 1)] += 1
    edge, above = _BINS, 0
    while above < tail:
        edge -= 1
        above += counts[edge]
    if above > 8 * tail:
        split = np.partition(x, len(x) - tail)
        return split[: len(x) - tail].copy(), np.sort(split[len(x) - tail :])
    body, upper = np.empty(len(x) - tail), np.empty(above)
    below, place = 0, 0
    for m in range(len(x)):
        if min(int((x[m] - low) * scale), _BINS - 1) < edge:
            body[below] = x[m]
            below += 1
        else:
            upper[place] = x[m]
            place += 1
    upper = np.sort(upper)
    for m in range(above - tail):
        body[below + m] = upper[m]
    return body, upper[above - tail :].copy()


@njit("void(i8, i8, f8[:,::1], i8, f8[:,::1])", **_OPTIONS)
def _points(start, stop, log_density, tail, out):
    draws = log_density.shape[1]
    for i in range(start, stop):
        ratios = -log_density[i]
        top = ratios.max()
        body, ends = _split(ratios - top, tail)
        cutoff = np.exp(body.max())
        excess = np.exp(ends) - cutoff
        smoothed = ends.copy()
        k, scale = _fit_tail(excess)
        if np.isfinite(k):
            for m in range(tail):
                p = (m + 0.5) / tail
                if k == 0.0:
                    value = cutoff - scale * np.log1p(-p)
                else:
                    value = cutoff + scale * np.expm1(-k * np.log1p(-p)) / k
                smoothed[m] = min(np.log(value), ends[tail - 1])
        weight, scored, density = 0.0, float(len(body)), 0.0
        low = body.min()  # density over its largest value is exp(low) over the raw weight
        least = np.exp(low)
        for m in range(len(body)):
            raw = np.exp(body[m])
            weight += raw
            density += least / raw if least > 1e-290 else np.exp(low - body[m])
        for m in range(tail):
            weight += np.exp(smoothed[m])
            scored += np.exp(smoothed[m] - ends[m])
            density += np.exp(low - ends[m])
        out[i, 0] = np.log(scored) - np.log(weight) - top
        out[i, 1] = k
        out[i, 2] = np.log(density / draws) - low - top


def leave_one_out(
    log_density: np.ndarray, r_eff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave-one-out log density, Pareto k, and log mean density of each point.

    Parameters
    ----------
    log_density
        Shape (points, draws): log p(y_i | y_-i, theta) for the integrated form, or
        log p(y_i | coefficients, theta).
    r_eff
        Effective sample size of the draws over their number; sets the length of the tail.

    Returns
    -------
    tuple of arrays
        Shape (points,) each: elpd_i, k_i (NaN where the tail cannot be fitted), lppd_i.
    """
    n, draws = log_density.shape
    tail = int(np.floor(3 * np.sqrt(draws / r_eff) if draws * r_eff > 225 else draws / 5))
    out = np.empty((n, 3))
    over_threads(_points, n, np.ascontiguousarray(log_density), max(tail, 5), out)
    return out[:, 0], out[:, 1], out[:, 2]
