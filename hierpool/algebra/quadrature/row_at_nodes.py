"""Compiled log densities of one row at many nodes.

The density of a family is that of ``core.families.compiled``; here the commoner ones are written out
for many nodes at a time, without calls, so that the compiler vectorises over nodes.
"""

from __future__ import annotations

import math

from numba import njit

from hierpool.core.compiled import inner, shared
from hierpool.core.elementary import fast_exp, fast_log1p
from hierpool.core.families import codes
from hierpool.core.families.compiled import terms
from hierpool.core.families.special import LARGEST, LOG_ROOT_2PI


@inner
def _add_logit(y, times, weight, linear, n, out, product):
    """``add_row`` of successes among trials; ``times`` is the trials by their weight."""
    if times == 1.0:
        for r in range(n):
            out[r] += weight * y * linear[r] - max(linear[r], 0.0)
            product[r] *= 1.0 + fast_exp(-abs(linear[r]))
        return 1
    for r in range(n):
        softplus = max(linear[r], 0.0) + fast_log1p(fast_exp(-abs(linear[r])))
        out[r] += weight * y * linear[r] - times * softplus
    return 0


@inner
def _add_rating(rating, weight, thresholds, linear, n, out, product):
    """``add_row`` of ratings, as ``compiled.ordinal_logit``."""
    factors = 0
    for side in range(2):
        if side == 0 and rating < len(thresholds):
            sign, threshold = 1.0, thresholds[rating]
        elif side == 1 and rating > 0:
            sign, threshold = -1.0, thresholds[rating - 1]
        else:
            continue
        if weight == 1.0:
            for r in range(n):
                x = sign * (linear[r] - threshold)
                out[r] -= max(x, 0.0)
                product[r] *= 1.0 + fast_exp(-abs(x))
            factors += 1
        else:
            for r in range(n):
                x = sign * (linear[r] - threshold)
                out[r] -= weight * (max(x, 0.0) + fast_log1p(fast_exp(-abs(x))))
    if 0 < rating < len(thresholds):
        between = weight * math.log(-math.expm1(thresholds[rating - 1] - thresholds[rating]))
        for r in range(n):
            out[r] += between
    return factors


@inner
def _add_inflated_zero(code, weight, par, linear, n, out):
    """``add_row`` of zeros of two kinds, as ``compiled.no_count``: one would be with chance exp(-s)."""
    inflation = par[len(par) - 1]
    log_in, log_out = math.log(inflation), math.log1p(-inflation)
    if code == codes.ZERO_POISSON:
        for r in range(n):
            excess = log_in - log_out + fast_exp(min(linear[r], LARGEST))
            out[r] += weight * (log_in - min(excess, 0.0) + fast_log1p(fast_exp(-abs(excess))))
        return
    shape = min(par[0], codes.LARGEST_SHAPE)
    log_shape = math.log(shape)
    for r in range(n):
        x = linear[r] - log_shape
        s = shape * (max(x, 0.0) + fast_log1p(fast_exp(-abs(x))))
        excess = log_in - log_out + s
        out[r] += weight * (log_in - min(excess, 0.0) + fast_log1p(fast_exp(-abs(excess))))


@njit(inline="always")
def _series(i):
    """What Stirling's formula adds to log gamma of 1 / i, up to i = 1/8: the next term is 1e-14."""
    w = i * i
    p = 1 / 1188 - w * 691 / 360360
    return i * (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w * p))))


@inner
def _add_share(y, weight, precision, linear, n, out):
    """``add_row`` of shares, as ``compiled.beta``; log gamma by seven steps up, and Stirling's series."""
    seen = math.log(y) - math.log1p(-y)
    constant = 2.0 * (math.log(precision) - LOG_ROOT_2PI) + precision + 16.0
    for r in range(n):
        x = linear[r]
        e = fast_exp(-abs(x))
        large = 1.0 / (1.0 + e)
        small = e * large
        p, q = (small, large) if x < 0.0 else (large, small)
        a = precision * p
        u, v = a + 1.0, precision * q + 1.0
        steps = u * (u + 1.0) * (u + 2.0) * (u + 3.0) * (u + 4.0) * (u + 5.0) * (u + 6.0)
        steps *= v * (v + 1.0) * (v + 2.0) * (v + 3.0) * (v + 4.0) * (v + 5.0) * (v + 6.0)
        u, v = u + 7.0, v + 7.0
        i = 1.0 / (u * v)
        value = fast_log1p(steps * large * large - 1.0) - _series(v * i) - _series(u * i)
        value -= (u - 0.5) * fast_log1p(u - 1.0) + (v - 0.5) * fast_log1p(v - 1.0)
        # log gamma(a) is log gamma(1 + a) - log a, which holds where a is 0 in floating point.
        out[r] += weight * (value + a * seen - abs(x) + constant)


@njit(inline="always")
def _log_some(s, log_s):
    """log(1 - exp(-s)), s > 0; its logarithm is taken for it where s is next to nothing."""
    gone = fast_exp(-s)
    near = s * (1.0 - s * (0.5 - s * (1 / 6 - s * (1 / 24 - s * (1 / 120 - s / 720)))))
    far = 1.0 - gone
    there = near if s < 0.01 else far
    found = -fast_log1p(gone / there)  # of a number above one, which loses no digits
    return log_s if s < 1e-250 else found


@inner
def _add_positive(code, y, weight, par, linear, n, out):
    """``add_row`` of a positive count behind a hurdle: that of a count, given that it is not zero."""
    if code == codes.HURDLE_POISSON:
        for r in range(n):
            x = linear[r]
            mean = fast_exp(min(x, LARGEST))
            out[r] += weight * (y * x - mean - _log_some(mean, x))
        return
    shape = min(par[0], codes.LARGEST_SHAPE)
    log_shape = math.log(shape)
    for r in range(n):
        x = linear[r] - log_shape
        softplus = max(x, 0.0) + fast_log1p(fast_exp(-abs(x)))
        value = y * linear[r] - (y + shape) * softplus
        out[r] += weight * (value - _log_some(shape * softplus, linear[r]))


@inner
def _add_cloglog(y, trials, weight, linear, n, out):
    """``add_row`` of successes of probability 1 - exp(-exp(eta))."""
    for r in range(n):
        mean = fast_exp(min(linear[r], LARGEST))
        out[r] -= weight * (trials - y) * mean
        if y > 0.0:
            out[r] += weight * y * _log_some(mean, linear[r])


@shared("i8(i8, f8, f8, f8, f8[::1], f8[::1], i8, f8[::1], f8[::1])")
def add_row(code, y, trials, weight, par, linear, n, out, product):
    """Add weight l(linear[r]) of one row to out[r] + log(1 / product[r]), r < n.

    Gives how many factors between 1 and 2 product was multiplied by.
    """
    if code == codes.LOGIT:
        return _add_logit(y, weight * trials, weight, linear, n, out, product)
    if code == codes.ORDINAL_LOGIT:
        return _add_rating(int(y), weight, par, linear, n, out, product)
    if code == codes.NEGBINOMIAL or (code == codes.ZERO_NEGBINOMIAL and y > 0):
        shape = min(par[0], codes.LARGEST_SHAPE)
        log_shape, times = math.log(shape), weight * (y + shape)
        for r in range(n):
            x = linear[r] - log_shape
            softplus = max(x, 0.0) + fast_log1p(fast_exp(-abs(x)))
            out[r] += weight * y * linear[r] - times * softplus
    elif code == codes.POISSON or (code == codes.ZERO_POISSON and y > 0):
        for r in range(n):
            out[r] += weight * (y * linear[r] - fast_exp(min(linear[r], LARGEST)))
    elif code == codes.ZERO_POISSON or code == codes.ZERO_NEGBINOMIAL:
        _add_inflated_zero(code, weight, par, linear, n, out)
    elif code == codes.GAMMA:
        times = weight * min(par[0], codes.LARGEST_SHAPE)
        for r in range(n):
            out[r] -= times * (linear[r] + y * fast_exp(min(-linear[r], LARGEST)))
    elif code == codes.STUDENT:
        times, scale = weight * 0.5 * (par[1] + 1.0), 1.0 / (par[1] * par[0] * par[0])
        for r in range(n):
            off = y - linear[r]
            out[r] -= times * fast_log1p(min(off * off * scale, 1e300))
    elif code == codes.BETA:
        _add_share(y, weight, min(par[0], codes.LARGEST_SHAPE), linear, n, out)
    elif code == codes.HURDLE_POISSON or code == codes.HURDLE_NEGBINOMIAL:
        if y > 0:  # zeros say nothing
            _add_positive(code, y, weight, par, linear, n, out)
    elif code == codes.CLOGLOG:
        _add_cloglog(y, trials, weight, linear, n, out)
    else:
        for r in range(n):
            value, _, _, _ = terms(code, y, trials, linear[r], par)
            out[r] += weight * value
    return 0
