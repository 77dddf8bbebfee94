"""Special functions in compiled loops, right to the last digits far out in the tails.

References
----------
Abramowitz, Stegun (1964), 6.3.18, 6.4.12 (digamma, trigamma) and 26.2.14 (Mills' ratio).
"""

from __future__ import annotations

import math

from numba import njit

from hierpool.core.compiled import inner

LARGEST = 600.0  # exponents beyond are cut: the density is 0 there, and squares stay finite
LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
ROOT_HALF = math.sqrt(0.5)
FAR = -6.0  # normal tail by continued fraction below
SHIFT = 8.0  # digamma and trigamma by their asymptotic series above


@njit(inline="always")
def exp_cut(x):
    """exp(x), at most exp(600)."""
    return math.exp(min(x, LARGEST))


@njit(inline="always")
def expit_softplus(x):
    """1 / (1 + exp(-x)), 1 / (1 + exp(x)) and log(1 + exp(x))."""
    e = math.exp(-abs(x))
    small = e / (1.0 + e)
    large = 1.0 / (1.0 + e)
    if x > 0:
        return large, small, x + math.log1p(e)
    return small, large, math.log1p(e)


@inner
def normal_tail(x):
    """log Phi(x), phi(x) / Phi(x), and phi(x) / Phi(x) + x, which is 1 / |x| far on the left."""
    if x < FAR:
        t = -x
        rest = t  # Mills' ratio is 1 / (t + 1 / (t + 2 / (t + 3 / ...)))
        for k in range(30, 1, -1):
            rest = t + k / rest
        rest = 1.0 / rest
        ratio = t + rest
        return -0.5 * x * x - LOG_ROOT_2PI - math.log(ratio), ratio, rest
    upper = 0.5 * math.erfc(x * ROOT_HALF)
    log_p = math.log1p(-upper) if x > 0 else math.log(0.5 * math.erfc(-x * ROOT_HALF))
    ratio = math.exp(-0.5 * x * x - LOG_ROOT_2PI - log_p)
    return log_p, ratio, ratio + x


@njit(inline="always")
def log_mills(x):
    """Log of Mills' ratio Phi(x) / phi(x), for x <= 0."""
    return -math.log(normal_tail(x)[1])


@njit(inline="always")
def positive_count(mean):
    """For N Poisson of this mean: log P(N > 0), E(N given N > 0) less 1, and the rest of it.

    With M = mean / (1 - exp(-mean)): M - 1, mean + 1 - M, and M - mean.
    """
    if mean < 1e-4:
        more = mean * (0.5 + mean / 12.0)
        return (
            math.log(max(mean, 1e-300)) - mean * (0.5 - mean / 24.0),
            more,
            mean - more,
            1 + more - mean,
        )
    gone = math.exp(-mean)
    there = -math.expm1(-mean)
    less = mean * gone / there
    return math.log(there), mean / there - 1.0, 1.0 - less, less


@inner
def digamma_times(x):
    """x digamma(x), x > 0 or so small that it is 0: -1 there."""
    z, total = 1.0 + x, 0.0
    while z < SHIFT:
        total -= 1.0 / z
        z += 1.0
    i = 1.0 / (z * z)
    series = i * (
        1 / 12 - i * (1 / 120 - i * (1 / 252 - i * (1 / 240 - i * (1 / 132 - i * 691 / 32760))))
    )
    return x * (total + math.log(z) - 0.5 / z - series) - 1.0


@inner
def trigamma_times(x):
    """x^2 trigamma(x), x > 0 or so small that it is 0: 1 there."""
    z, total = 1.0 + x, 0.0
    while z < SHIFT:
        total += 1.0 / (z * z)
        z += 1.0
    i = 1.0 / (z * z)
    series = i * (
        1 / 6 - i * (1 / 30 - i * (1 / 42 - i * (1 / 30 - i * (5 / 66 - i * 691 / 2730))))
    )
    return 1.0 + x * x * (total + (1.0 + 0.5 / z + series) / z)
