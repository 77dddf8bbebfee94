"""Compiled sums over the rows of a level at many nodes.

g(v) = sum over the rows of a level of weight l(eta_i + T_i v), less |v|^2 / 2, where T_i = Lambda'z_i.
``row_at_nodes`` adds one row to all nodes. Where T is one number for all rows of all levels, the sums of
some families are written out here.

Symbols: t is T where it is one number for all rows of all levels; F exp(+-eta) of each row.
"""

from __future__ import annotations

import math

from hierpool.algebra.quadrature.row_at_nodes import add_row
from hierpool.core.compiled import inner, shared
from hierpool.core.elementary import fast_exp, fast_log1p
from hierpool.core.families import codes
from hierpool.core.families.special import LARGEST

SAFE_PRODUCT = 40.0  # largest |eta| at which 16 factors 1 + exp(eta) cannot overflow
FACTORS = 16  # of a product before its logarithm is taken
LANES = 8  # nodes that the processor works at once


@inner
def padded(n):
    """Nodes that are worked where n are asked for: full lanes, since what is left over is slow."""
    return n if n <= 2 else (n + LANES - 1) // LANES * LANES


@inner
def _flush(n, out, product):
    """Take the logarithm of products."""
    for r in range(n):
        out[r] -= fast_log1p(product[r] - 1.0)
        product[r] = 1.0


@shared("void(i8, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], i8, i8, f8[::1], f8[::1])")
def prepare(code, y, trials, weight, eta, par, lo, hi, F, sums):
    """Sums of a level that its nodes need: slope, amount, base, largest |eta|; and F of its rows."""
    slope, amount, base, reach = 0.0, 0.0, 0.0, 0.0
    shape = log_shape = 0.0
    if code == codes.GAMMA or code == codes.NEGBINOMIAL:
        shape = min(par[0], codes.LARGEST_SHAPE)
        log_shape = math.log(shape)
    for i in range(lo, hi):
        e = eta[i]
        reach = max(reach, abs(e))
        if code == codes.LOGIT:
            c = y[i] if 2.0 * y[i] <= trials[i] else y[i] - trials[i]
            F[i] = fast_exp(e if 2.0 * y[i] <= trials[i] else -e)
            slope += weight[i] * c
            base += weight[i] * c * e
        elif code == codes.POISSON:
            amount += weight[i] * fast_exp(e)
            slope += weight[i] * y[i]
            base += weight[i] * y[i] * e
        elif code == codes.GAMMA:
            amount += weight[i] * shape * y[i] * fast_exp(-e)
            slope -= weight[i] * shape
            base -= weight[i] * shape * e
        elif code == codes.NEGBINOMIAL:
            F[i] = fast_exp(e - log_shape)
            slope += weight[i] * y[i]
            base += weight[i] * y[i] * e
            reach = max(reach, abs(e - log_shape))
    sums[0] = slope
    sums[1] = amount
    sums[2] = base
    sums[3] = reach


@inner
def _along(code, y, trials, weight, eta, par, lo, hi, t, v0, step, n, out, linear, product):
    """Row by row."""
    count = 0
    for r in range(n):
        out[r] = 0.0
        product[r] = 1.0
    for i in range(lo, hi):
        e = eta[i]
        for r in range(n):
            linear[r] = e + t * (v0 + step * r)
        count += add_row(code, y[i], trials[i], weight[i], par, linear, n, out, product)
        if count >= FACTORS:
            _flush(n, out, product)
            count = 0
    if count:
        _flush(n, out, product)


@inner
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
                out[r] -= times * fast_log1p(f * e1[r])
        if count == FACTORS:
            _flush(n, out, product)
            count = 0
    if count:
        _flush(n, out, product)


@shared(
    "void(i8, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], i8, i8, f8[::1], f8[::1],"
    "f8, f8, f8, i8, f8[::1], f8[::1], f8[::1])"
)
def values_along(
    code, y, trials, weight, eta, par, lo, hi, F, sums, t, v0, step, n, out, e1, product
):
    """out[r] = g at v0 + r step, r < n, where T is t for every row; nodes beyond n are worked too."""
    n = padded(n)
    bound = sums[3] + abs(t) * max(abs(v0), abs(v0 + step * (n - 1)))
    if code == codes.LOGIT and bound < SAFE_PRODUCT:
        _logit_along(y, trials, weight, lo, hi, F, sums, t, v0, step, n, out, e1, product)
    elif code == codes.POISSON and bound < LARGEST:
        for r in range(n):
            x = t * (v0 + step * r)
            out[r] = sums[2] + sums[0] * x - sums[1] * fast_exp(x)
    elif code == codes.GAMMA and bound < LARGEST:
        for r in range(n):
            x = t * (v0 + step * r)
            out[r] = sums[2] + sums[0] * x - sums[1] * fast_exp(-x)
    elif code == codes.NEGBINOMIAL and bound < LARGEST:
        shape = min(par[0], codes.LARGEST_SHAPE)
        for r in range(n):
            x = t * (v0 + step * r)
            out[r] = sums[2] + sums[0] * x
            e1[r] = fast_exp(x)
        for i in range(lo, hi):
            f, times = F[i], weight[i] * (y[i] + shape)
            for r in range(n):
                out[r] -= times * fast_log1p(f * e1[r])
    else:
        _along(code, y, trials, weight, eta, par, lo, hi, t, v0, step, n, out, e1, product)
    for r in range(n):
        v = v0 + step * r
        out[r] -= 0.5 * v * v


@shared(
    "void(i8, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], i8, i8, f8[:,::1], f8[:,::1],"
    "i8, i8, f8[::1], f8[::1], f8[::1])"
)
def values_at(code, y, trials, weight, eta, par, lo, hi, T, V, first, last, out, product, linear):
    """out[r] = g at the nodes V[:, r], first <= r < last, where T differs between rows.

    Numbers beyond the last are worked as well, to fill lanes, and mean nothing.
    """
    n = padded(last - first)
    values = out[first:]
    for r in range(n):
        values[r] = 0.0
        product[r] = 1.0
    for c in range(len(V)):
        x = V[c, first:]
        for r in range(n):
            values[r] -= 0.5 * x[r] * x[r]
    count = 0
    for i in range(lo, hi):
        for r in range(n):
            linear[r] = eta[i]
        for c in range(len(V)):
            tc, x = T[i, c], V[c, first:]
            for r in range(n):
                linear[r] += tc * x[r]
        count += add_row(code, y[i], trials[i], weight[i], par, linear, n, values, product)
        if count >= FACTORS:
            _flush(n, values, product)
            count = 0
    if count:
        _flush(n, values, product)
