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

from hierpool.core.compiled import compiled
from hierpool.core.elementary import fast_exp
from hierpool.core.threads import over_threads

PRIOR_SCALE = 3.0  # of the grid of Zhang and Stephens
PRIOR_SHAPE, PRIOR_COUNT = 0.5, 10.0  # shape and weight of the prior of k
_EVERY = 8  # of the draws are looked at to guess where the tail begins
_LOWEST = -650.0  # logarithms below which ratios are not taken directly
_LARGE = 1e100  # factors are multiplied up to this size before a logarithm is taken
_MODERATE = 1e50  # factors of which four can be multiplied onto such a number


@compiled("f8(f8[::1], f8)")
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


@compiled("void(f8[::1], f8[::1], f8[::1])")
def _grid_mean_log1p(x, b, out):
    """Mean of log(1 + b_j x) for every b_j of a grid, which is what the compiler vectorises over."""
    n, size = len(x), len(b)
    if np.abs(b).max() * x[n - 1] > _MODERATE:  # products of four factors could overflow
        for j in range(size):
            out[j] = _mean_log1p(x, b[j])
        return
    product = np.ones(size)
    out[:] = 0.0
    for start in range(0, n, 4):
        for i in range(start, min(start + 4, n)):
            for j in range(size):
                product[j] *= 1.0 + b[j] * x[i]
        for j in range(size):
            if product[j] > _LARGE or product[j] < 1.0 / _LARGE:
                out[j] += np.log(product[j])
                product[j] = 1.0
    for j in range(size):
        out[j] = (out[j] + np.log(product[j])) / n


@compiled("UniTuple(f8, 2)(f8[::1])")
def _fit_tail(x):
    """Shape and scale of a generalised Pareto distribution for sorted excesses, shape regularised."""
    n = len(x)
    quartile = x[int(n / 4 + 0.5) - 1]
    if not quartile > x[0]:
        return np.nan, np.nan
    size = 30 + int(n**0.5)
    b, score, means = np.empty(size), np.empty(size), np.empty(size)
    for j in range(size):
        # Zhang and Stephens (2009): a grid of b = -k / scale around the quartile, averaged by profile
        # likelihood; no iteration that could fail.
        b[j] = (1 - np.sqrt(size / (j + 0.5))) / (PRIOR_SCALE * quartile) + 1 / x[n - 1]
    _grid_mean_log1p(x, -b, means)
    for j in range(size):
        # Positive for heavy tails, as in Vehtari and others (2024): minus the k of Zhang and Stephens.
        k = means[j]
        score[j] = n * (np.log(-b[j] / k) - k - 1)
    weight = np.exp(score - score.max())
    weight /= weight.sum()
    for j in range(size):
        # As ArviZ does.
        if weight[j] < 10 * 2.220446049250313e-16:
            weight[j] = 0.0
    weight /= weight.sum()
    posterior = 0.0
    for j in range(size):
        if weight[j] > 0:
            posterior += b[j] * weight[j]
    k = _mean_log1p(x, -posterior)
    scale = -k / posterior
    # Weak prior of Vehtari et al. (2024), worth PRIOR_COUNT excesses.
    k = (n * k + PRIOR_COUNT * PRIOR_SHAPE) / (n + PRIOR_COUNT)
    return (np.inf, np.nan) if np.isnan(k) else (k, scale)


@compiled("f8(f8[::1], i8)")
def _guess(x, tail):
    """A number that a few more than ``tail`` values of x exceed, from an eighth of them."""
    n = (len(x) + _EVERY - 1) // _EVERY
    expected = tail * n / len(x)
    above = int(expected + 3 * np.sqrt(expected)) + 2
    if above >= n:
        return -np.inf
    kept = np.full(above, -np.inf)  # the largest so far, ascending
    for m in range(0, len(x), _EVERY):
        if x[m] > kept[0]:
            place = 1
            while place < above and kept[place] < x[m]:
                kept[place - 1] = kept[place]
                place += 1
            kept[place - 1] = x[m]
    return kept[0]


@compiled("UniTuple(f8[::1], 2)(f8[::1], f8, i8)")
def _largest(x, guess, tail):
    """The values of x above ``guess`` but for the tail; and the tail, its largest, sorted.

    All values of x where those above the guess are too few.
    """
    count = 0
    for m in range(len(x)):
        count += x[m] > guess
    if count <= tail:
        guess, count = -np.inf, len(x)
    some, place = np.empty(count), 0
    for m in range(len(x)):
        if x[m] > guess:
            some[place] = x[m]
            place += 1
    some = np.sort(some)
    return some[: count - tail].copy(), some[count - tail :].copy()


@compiled("UniTuple(f8, 2)(f8[::1])", fastmath={"nnan", "nsz", "reassoc"})
def _range(x):
    low, high = x[0], x[0]
    for m in range(len(x)):
        low = x[m] if x[m] < low else low
        high = x[m] if x[m] > high else high
    return low, high


@compiled("UniTuple(f8, 2)(f8[::1], f8)", fastmath={"reassoc", "contract", "nsz"})
def _sums(x, guess):
    """Sum of exp(x) up to the guess, and of exp(-x)."""
    weight, density = 0.0, 0.0
    for m in range(len(x)):
        raw = fast_exp(x[m])
        weight += raw if x[m] <= guess else 0.0
        density += 1.0 / raw
    return weight, density


@compiled("void(i8, i8, f8[:,::1], f8[::1], f8[:,::1])")
def _points(start, stop, log_density, log_left, out):
    draws, tail = log_density.shape[1], len(log_left)
    x, raw = np.empty(draws), np.empty(tail)
    for i in range(start, stop):
        bottom, best = _range(log_density[i])
        top, low = -bottom, bottom - best
        for m in range(draws):
            x[m] = -log_density[i, m] - top
        guess = _guess(x, tail)
        middle, ends = _largest(x, guess, tail)
        if len(middle) + tail == draws:
            guess = -np.inf
        # a density over its largest is exp(low) over its raw weight
        if low > _LOWEST:
            weight, density = _sums(x, guess)
            density *= np.exp(low)
        else:
            weight, density = 0.0, 0.0
            for m in range(draws):
                weight += np.exp(x[m]) if x[m] <= guess else 0.0
                density += np.exp(low - x[m])
        for m in range(len(middle)):
            weight += np.exp(middle[m])
        cutoff = np.exp(middle.max())
        for m in range(tail):
            raw[m] = np.exp(ends[m])
        k, scale = _fit_tail(raw - cutoff)
        # A raw weight is 1 / density, so each draw outside the tail adds exactly 1 to weight x density.
        scored = float(draws - tail)
        for m in range(tail):
            if not np.isfinite(k):
                weight += raw[m]
                scored += 1.0
                continue
            if k == 0.0:
                value = cutoff - scale * log_left[m]
            else:
                value = cutoff + scale * np.expm1(-k * log_left[m]) / k
            # Smoothed weights are cut off at the largest raw one (Vehtari and others 2024).
            value = min(value, raw[tail - 1])
            weight += value
            if ends[m] > _LOWEST:
                scored += value / raw[m]
            else:
                scored += np.exp(np.log(value) - ends[m])
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
    # The smaller of S / 5 and 3 sqrt(S / r_eff) (Vehtari and others 2024); equal where S r_eff = 225.
    tail = int(np.floor(3 * np.sqrt(draws / r_eff) if draws * r_eff > 225 else draws / 5))
    out = np.empty((n, 3))
    tail = max(tail, 5)
    log_left = np.log1p(-(np.arange(tail) + 0.5) / tail)
    over_threads(_points, n, np.ascontiguousarray(log_density), log_left, out)
    return out[:, 0], out[:, 1], out[:, 2]
