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
_CHUNK = 8  # factors multiplied before a logarithm is taken
_OPTIONS = {"cache": True, "error_model": "numpy", "nogil": True}


@njit("f8(f8[::1], f8)", **_OPTIONS)
def _mean_log1p(x, b):
    """Mean of log(1 + b x), a logarithm for every few factors."""
    n, total, m = len(x), 0.0, 0
    while m < n:
        product = 1.0
        for i in range(m, min(m + _CHUNK, n)):
            product *= 1.0 + b * x[i]
        total += np.log(product)
        m += _CHUNK
    return total / n


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


@njit("void(i8, i8, f8[:,::1], i8, f8[:,::1])", **_OPTIONS)
def _points(start, stop, log_density, tail, out):
    draws = log_density.shape[1]
    for i in range(start, stop):
        ratios = -log_density[i]
        top = ratios.max()
        split = np.partition(ratios - top, draws - tail)
        body, ends = split[: draws - tail], np.sort(split[draws - tail :])
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
        for m in range(len(body)):
            weight += np.exp(body[m])
        for m in range(tail):
            weight += np.exp(smoothed[m])
            scored += np.exp(smoothed[m] - ends[m])
        low = -ratios.min()
        for m in range(draws):
            density += np.exp(-ratios[m] - low)
        out[i, 0] = np.log(scored) - np.log(weight) - top
        out[i, 1] = k
        out[i, 2] = low + np.log(density / draws)


def leave_one_out(log_density: np.ndarray, r_eff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
