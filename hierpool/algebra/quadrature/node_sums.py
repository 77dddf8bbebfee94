"""Compiled sums over the rows of a level at many nodes.

g(v) = sum over the rows of a level of weight l(eta_i + T_i v), less |v|^2 / 2, where T_i = Lambda'z_i.
The density of a family is that of ``core.families.compiled``; for some (``FAST``) the rows of a level
are summed without a transcendental function for each row and node.

Symbols: t is T where it is one number for all rows of all levels; F exp(+-eta) of each row.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from hierpool.core.families.codes import LARGEST_SHAPE
from hierpool.core.families.compiled import terms

GENERAL, LOGIT, POISSON, GAMMA = range(4)
FAST = {
    ("bernoulli", "logit"): LOGIT,
    ("binomial", "logit"): LOGIT,
    ("poisson", "log"): POISSON,
    ("gamma", "log"): GAMMA,
}

SAFE_PRODUCT = 40.0  # largest |eta| at which 16 factors 1 + exp(eta) cannot overflow
SAFE_EXP = 600.0


@njit(inline="always")
def fast_exp(x):
    """exp, clamped to |x| <= 700; without a call, so that loops over it are vectorised."""
    x = min(max(x, -700.0), 700.0)
    shifted = x * 1.4426950408889634 + 6755399441055744.0
    n = shifted - 6755399441055744.0
    r = x - n * 6.93147180369123816490e-01
    r -= n * 1.90821492927058770002e-10
    p = 1 / 39916800.0
    p = p * r + 1 / 3628800.0
    p = p * r + 1 / 362880.0
    p = p * r + 1 / 40320.0
    p = p * r + 1 / 5040.0
    p = p * r + 1 / 720.0
    p = p * r + 1 / 120.0
    p = p * r + 1 / 24.0
    p = p * r + 1 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)


@njit(error_model="numpy")
def prepare(code, kind, y, trials, weight, eta, par, lo, hi, F, sums):
    """Sums of a level that its nodes need: slope, amount, base, largest |eta|; and F of its rows."""
    slope, amount, base, reach = 0.0, 0.0, 0.0, 0.0
    shape = min(par[0], LARGEST_SHAPE) if kind == GAMMA else 0.0
    for i in range(lo, hi):
        e = eta[i]
        reach = max(reach, abs(e))
        if kind == LOGIT:
            c = y[i] if 2.0 * y[i] <= trials[i] else y[i] - trials[i]
            F[i] = fast_exp(e if 2.0 * y[i] <= trials[i] else -e)
            slope += weight[i] * c
            base += weight[i] * c * e
        elif kind == POISSON:
            amount += weight[i] * fast_exp(e)
            slope += weight[i] * y[i]
            base += weight[i] * y[i] * e
        elif kind == GAMMA:
            amount += weight[i] * shape * y[i] * fast_exp(-e)
            slope -= weight[i] * shape
            base -= weight[i] * shape * e
    sums[0] = slope
    sums[1] = amount
    sums[2] = base
    sums[3] = reach


@njit(error_model="numpy")
def values_along(
    code, kind, y, trials, weight, eta, par, lo, hi, F, sums, t, v0, step, n, out, e1, product
):
    """out[r] = g at v0 + r step, r < n, where T is t for every row."""
    bound = sums[3] + abs(t) * max(abs(v0), abs(v0 + step * (n - 1)))
    if kind == LOGIT and bound < SAFE_PRODUCT:
        _logit_along(y, trials, weight, lo, hi, F, sums, t, v0, step, n, out, e1, product)
    elif kind == POISSON and bound < SAFE_EXP:
        for r in range(n):
            x = t * (v0 + step * r)
            out[r] = sums[2] + sums[0] * x - sums[1] * fast_exp(x)
    elif kind == GAMMA and bound < SAFE_EXP:
        for r in range(n):
            x = t * (v0 + step * r)
            out[r] = sums[2] + sums[0] * x - sums[1] * fast_exp(-x)
    else:
        for r in range(n):
            x = 0.0
            for i in range(lo, hi):
                value, _, _, _ = terms(code, y[i], trials[i], eta[i] + t * (v0 + step * r), par)
                x += weight[i] * value
            out[r] = x
    for r in range(n):
        v = v0 + step * r
        out[r] -= 0.5 * v * v


@njit(error_model="numpy")
def _logit_along(y, trials, weight, lo, hi, F, sums, t, v0, step, n, out, e1, product):
    """Log of products over rows, 16 at a time: a multiplication and an addition a row and node."""
    for r in range(n):
        x = t * (v0 + step * r)
        out[r] = sums[2] + sums[0] * x
        e1[r] = fast_exp(-x)
        product[r] = 1.0
    count, was_success = 0, True
    for i in range(lo, hi):
        if was_success and 2.0 * y[i] <= trials[i]:  # successes come first
            was_success = False
            for r in range(n):
                e1[r] = 1.0 / e1[r]
        f, times = F[i], weight[i] * trials[i]
        if times == 1.0:
            for r in range(n):
                product[r] *= 1.0 + f * e1[r]
            count += 1
        else:
            for r in range(n):
                out[r] -= times * math.log1p(f * e1[r])
        if count == 16:
            for r in range(n):
                out[r] -= math.log(product[r])
                product[r] = 1.0
            count = 0
    if count:
        for r in range(n):
            out[r] -= math.log(product[r])


@njit(error_model="numpy")
def values_at(
    code, kind, y, trials, weight, eta, par, lo, hi, T, V, first, last, out, product, linear
):
    """out[r] = g at the nodes V[:, r], first <= r < last, where T differs between rows."""
    q = len(V)
    far = 0.0
    for r in range(first, last):
        x = 0.0
        for c in range(q):
            x += V[c, r] * V[c, r]
        far = max(far, x)
        out[r] = -0.5 * x
        product[r] = 1.0
    count = 0
    for i in range(lo, hi):
        bound = 0.0
        for c in range(q):
            bound += T[i, c] * T[i, c]
        bound = abs(eta[i]) + math.sqrt(bound * far)
        for r in range(first, last):
            linear[r] = eta[i]
        for c in range(q):
            tc = T[i, c]
            for r in range(first, last):
                linear[r] += tc * V[c, r]
        w = weight[i]
        if kind == LOGIT and bound < SAFE_PRODUCT:
            sign = 1.0 if 2.0 * y[i] <= trials[i] else -1.0
            c1 = w * (y[i] if sign > 0 else y[i] - trials[i])
            if c1 != 0.0:
                for r in range(first, last):
                    out[r] += c1 * linear[r]
            if w * trials[i] == 1.0:
                for r in range(first, last):
                    product[r] *= 1.0 + fast_exp(sign * linear[r])
                count += 1
            else:
                for r in range(first, last):
                    out[r] -= w * trials[i] * math.log1p(fast_exp(sign * linear[r]))
        elif kind == POISSON and bound < SAFE_EXP:
            for r in range(first, last):
                out[r] += w * (y[i] * linear[r] - fast_exp(linear[r]))
        elif kind == GAMMA and bound < SAFE_EXP:
            shape = min(par[0], LARGEST_SHAPE)
            for r in range(first, last):
                out[r] -= w * shape * (linear[r] + y[i] * fast_exp(-linear[r]))
        else:
            for r in range(first, last):
                value, _, _, _ = terms(code, y[i], trials[i], linear[r], par)
                out[r] += w * value
        if count == 16:
            for r in range(first, last):
                out[r] -= math.log(product[r])
                product[r] = 1.0
            count = 0
    if count:
        for r in range(first, last):
            out[r] -= math.log(product[r])
