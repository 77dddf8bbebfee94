"""Compiled loops over levels whose residual sds differ at random: the scale by quadrature.

A level's rows have the covariance sigma^2 (t R + Z Lambda Lambda' Z'), t = exp(2 omega s), s ~ N(0, 1).
With e = y - X beta and the eigenvalues l of Lambda'Z'R^-1 Z Lambda, g the products of its eigenvectors
with Lambda'Z'R^-1 e, c = g^2 / l, and W what e'R^-1 e has more than the sum of c, the log density at s
is in O(q):

    -1/2 [n log(2 pi sigma^2) + log det R + 2 n omega s + sum log(1 + l/t)
          + (W/t + sum c / (t + l)) / sigma^2] - s^2/2 - log(2 pi)/2

It is integrated by the trapezoidal rule around its mode, which is exact to the last digits for
functions that are analytic and fall off (Trefethen and Weideman 2014, SIAM Review 56, 385-458).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from hierpool.core.compiled import compiled

STEP = 0.6  # of the nodes, in sds of s given the rows
WIDEST = 0.3  # of the nodes, over omega: the strip in which exp(-2 omega s) is tame is as wide
DROP = 26.0  # of the log density from its top, where the nodes end
FINER = 4  # nodes to draw from, for each of those
_NEGLIGIBLE = 1e-13  # share of the largest eigenvalue, or of a sum of squares, that is none
_LOG_2PI = math.log(2 * math.pi)

_V, _M, _T, _I = "f8[::1]", "f8[:,::1]", "f8[:,:,::1]", "i8[::1]"


@njit(error_model="numpy")
def _eigen(M, Q):
    """Jacobi's rotations: the diagonal of M (q, q) becomes its eigenvalues, Q its eigenvectors."""
    q = len(M)
    for a in range(q):
        for b in range(q):
            Q[a, b] = 1.0 if a == b else 0.0
    for _ in range(1 if q == 2 else 30):
        off, on = 0.0, 0.0
        for a in range(q):
            on += M[a, a] * M[a, a]
            for b in range(a):
                off += M[a, b] * M[a, b]
        if off <= 1e-32 * on:
            return
        for a in range(1, q):
            for b in range(a):
                if M[a, b] == 0.0:
                    continue
                half = (M[b, b] - M[a, a]) / (2 * M[a, b])
                t = 1 / (abs(half) + math.sqrt(half * half + 1))
                t = t if half >= 0 else -t
                c = 1 / math.sqrt(t * t + 1)
                s = t * c
                for k in range(q):
                    x, y = M[k, a], M[k, b]
                    M[k, a], M[k, b] = c * x - s * y, s * x + c * y
                for k in range(q):
                    x, y = M[a, k], M[b, k]
                    M[a, k], M[b, k] = c * x - s * y, s * x + c * y
                for k in range(q):
                    x, y = Q[k, a], Q[k, b]
                    Q[k, a], Q[k, b] = c * x - s * y, s * x + c * y


@njit(error_model="numpy")
def _residual(y, X, beta, i):
    e = y[i]
    for a in range(X.shape[1]):
        e -= X[i, a] * beta[a]
    return e


@njit(error_model="numpy")
def _sums(y, X, Z, first, last, log_sd, classes, beta, sums):
    """Z'R^-1 Z, Z'R^-1 e, e'R^-1 e and log det R of the rows of a level, one after the other."""
    q = Z.shape[1]
    sums[:] = 0.0
    for i in range(first, last):
        e, own = _residual(y, X, beta, i), log_sd[classes[i]]
        w = math.exp(-2 * own)
        for a in range(q):
            for b in range(q):
                sums[a * q + b] += w * Z[i, a] * Z[i, b]
            sums[q * q + a] += w * Z[i, a] * e
        sums[q * q + q] += w * e * e
        sums[q * q + q + 1] += 2 * own


@njit(error_model="numpy")
def _in_eigenvectors(sums, Lambda, n, work, lam, squares):
    """Eigenvalues l, and squares c = g^2 / l of e within their directions; returns those outside, W.

    What is left of e'R^-1 e outside of as many directions as there are rows is zero, and must not be
    what rounding leaves: it is divided by t, which may be small.
    """
    q = len(lam)
    M, Q = work[0], work[1]
    for a in range(q):
        for b in range(q):
            total = 0.0
            for c in range(q):
                for d in range(q):
                    total += Lambda[c, a] * sums[c * q + d] * Lambda[d, b]
            M[a, b] = total
    _eigen(M, Q)
    largest, rank, ss = 0.0, 0, sums[q * q + q]
    left = ss
    for a in range(q):
        largest = max(largest, M[a, a])
    for a in range(q):
        total = 0.0
        for b in range(q):
            for c in range(q):
                total += Q[b, a] * Lambda[c, b] * sums[q * q + c]
        lam[a], squares[a] = 0.0, 0.0
        if M[a, a] > _NEGLIGIBLE * largest:
            lam[a], squares[a] = M[a, a], total * total / M[a, a]
            left -= squares[a]
            rank += 1
    return max(left, _NEGLIGIBLE * ss) if n > rank else 0.0


@njit(error_model="numpy")
def _at(s, n, left, lam, squares, variance, omega):
    """The log density at s, less what does not depend on it."""
    t = math.exp(2 * omega * s)
    total, quadratic = 2 * n * omega * s, left / t
    for a in range(len(lam)):
        total += math.log1p(lam[a] / t)
        quadratic += squares[a] / (t + lam[a])
    return -0.5 * (total + quadratic / variance + s * s)


@njit(error_model="numpy")
def _mode(n, left, lam, squares, variance, omega):
    """Mode of s, and minus the curvature there, at least 1/2."""
    s, curvature = 0.0, 1.0
    here = _at(s, n, left, lam, squares, variance, omega)
    for _ in range(60):
        t = math.exp(2 * omega * s)
        slope, second = n - left / (t * variance), left / (t * variance)
        for a in range(len(lam)):
            u = t + lam[a]
            slope -= lam[a] / u + squares[a] * t / (u * u * variance)
            second += lam[a] * t / (u * u) + squares[a] * t * (t - lam[a]) / (u * u * u * variance)
        gradient = -omega * slope - s
        curvature = max(1 + 2 * omega * omega * second, 0.5)
        step = max(min(gradient / curvature, 2.0), -2.0)
        moved = False
        for _ in range(30):
            there = _at(s + step, n, left, lam, squares, variance, omega)
            if there >= here - 1e-12:
                s, here, moved = s + step, there, True
                break
            step /= 2
        if not moved or abs(step) * math.sqrt(curvature) < 1e-4:
            break
    return s, curvature


@njit(error_model="numpy")
def _log_integral(n, left, log_det, lam, squares, sigma, omega):
    """Log density of the rows of a level, s integrated."""
    variance = sigma * sigma
    s, curvature = _mode(n, left, lam, squares, variance, omega)
    top = _at(s, n, left, lam, squares, variance, omega)
    step = STEP / math.sqrt(curvature)
    if omega > 0:
        step = min(step, WIDEST / omega)
    total = 1.0
    for side in (-1.0, 1.0):
        for k in range(1, 2000):
            drop = _at(s + side * k * step, n, left, lam, squares, variance, omega) - top
            if not drop > -DROP:
                break
            total += math.exp(drop)
    constant = n * (_LOG_2PI + math.log(variance)) + log_det + _LOG_2PI
    return top + math.log(total * step) - 0.5 * constant


@compiled(f"void(i8, i8, {_V}, {_M}, {_M}, {_I}, {_I}, {_M}, {_M}, {_V}, {_T}, {_V}, {_M})")
def levels(begin, end, y, X, Z, starts, classes, log_sd, beta, sigma, Lambda, omega, out):
    """Log density of the rows of each level given beta and theta, out (K, J)."""
    q = Z.shape[1]
    sums, lam, squares = np.empty(q * q + q + 2), np.empty(q), np.empty(q)
    work = np.empty((2, q, q))
    for k in range(begin, end):
        for j in range(len(starts) - 1):
            first, last = starts[j], starts[j + 1]
            if first == last:
                out[k, j] = 0.0
                continue
            _sums(y, X, Z, first, last, log_sd[k], classes, beta[k], sums)
            n = last - first
            left = _in_eigenvectors(sums, Lambda[k], n, work, lam, squares)
            log_det = sums[q * q + q + 1]
            out[k, j] = _log_integral(n, left, log_det, lam, squares, sigma[k], omega[k])


@compiled(f"void(i8, i8, {_V}, {_M}, {_M}, {_I}, {_I}, {_M}, {_M}, {_V}, {_T}, {_V}, {_I}, {_M})")
def rows_left_out(
    begin, end, y, X, Z, starts, classes, log_sd, beta, sigma, Lambda, omega, rows, out
):
    """Log density of rows given the others of their level, beta and theta, out (K, rows).

    ``rows`` are in order, so that those of a level follow each other.
    """
    q = Z.shape[1]
    sums, lam, squares = np.empty(q * q + q + 2), np.empty(q), np.empty(q)
    less, work = np.empty(q * q + q + 2), np.empty((2, q, q))
    for k in range(begin, end):
        j, whole, last_j = 0, 0.0, -1
        for r in range(len(rows)):
            i = rows[r]
            while starts[j + 1] <= i:
                j += 1
            first, last = starts[j], starts[j + 1]
            n = last - first
            if j != last_j:
                _sums(y, X, Z, first, last, log_sd[k], classes, beta[k], sums)
                left = _in_eigenvectors(sums, Lambda[k], n, work, lam, squares)
                log_det, last_j = sums[q * q + q + 1], j
                whole = _log_integral(n, left, log_det, lam, squares, sigma[k], omega[k])
            if n == 1:
                out[k, r] = whole
                continue
            e, own = _residual(y, X, beta[k], i), log_sd[k, classes[i]]
            w = math.exp(-2 * own)
            for a in range(q):
                for b in range(q):
                    less[a * q + b] = sums[a * q + b] - w * Z[i, a] * Z[i, b]
                less[q * q + a] = sums[q * q + a] - w * Z[i, a] * e
            less[q * q + q] = max(sums[q * q + q] - w * e * e, 0.0)
            less[q * q + q + 1] = sums[q * q + q + 1] - 2 * own
            left = _in_eigenvectors(less, Lambda[k], n - 1, work, lam, squares)
            log_det = less[q * q + q + 1]
            rest = _log_integral(n - 1, left, log_det, lam, squares, sigma[k], omega[k])
            out[k, r] = whole - rest


@njit(error_model="numpy")
def _drawn(n, outside, lam, squares, variance, omega, uniform, density):
    """Where the distribution of s, linear between fine nodes, reaches a uniform number."""
    mode, curvature = _mode(n, outside, lam, squares, variance, omega)
    top = _at(mode, n, outside, lam, squares, variance, omega)
    step = STEP / math.sqrt(curvature)
    if omega > 0:
        step = min(step, WIDEST / omega)
    step /= FINER
    left, right, half = 0, 0, len(density) // 2
    while (
        left < half
        and _at(mode - left * step, n, outside, lam, squares, variance, omega) > top - DROP
    ):
        left += FINER
    while (
        right < half
        and _at(mode + right * step, n, outside, lam, squares, variance, omega) > top - DROP
    ):
        right += FINER
    total, size = 0.0, left + right + 1
    for m in range(size):
        at = mode + (m - left) * step
        density[m] = math.exp(_at(at, n, outside, lam, squares, variance, omega) - top)
        if m:
            total += (density[m - 1] + density[m]) / 2
    rest = uniform * total
    for m in range(1, size):
        own = (density[m - 1] + density[m]) / 2
        if rest <= own or m == size - 1:
            low, rise = density[m - 1], density[m] - density[m - 1]
            root = math.sqrt(max(low * low + 2 * rise * rest, 0.0))
            share = 2 * rest / (low + root) if low + root > 0 else 0.0
            return mode + (m - 1 - left + min(share, 1.0)) * step
        rest -= own
    return mode


@compiled(f"void(i8, i8, {_V}, {_M}, {_M}, {_I}, {_I}, {_M}, {_M}, {_V}, {_T}, {_V}, {_M})")
def draws(begin, end, y, X, Z, starts, classes, log_sd, beta, sigma, Lambda, omega, s):
    """s (K, J), uniform numbers at first, become draws of s given the rows, beta and theta."""
    q = Z.shape[1]
    sums, lam, squares = np.empty(q * q + q + 2), np.empty(q), np.empty(q)
    work, density = np.empty((2, q, q)), np.empty(4000 * FINER + 1)
    for k in range(begin, end):
        for j in range(len(starts) - 1):
            first, last = starts[j], starts[j + 1]
            _sums(y, X, Z, first, last, log_sd[k], classes, beta[k], sums)
            n, variance = last - first, sigma[k] ** 2
            left = _in_eigenvectors(sums, Lambda[k], n, work, lam, squares)
            own = lam, squares, variance, omega[k]
            s[k, j] = _drawn(n, left, *own, s[k, j], density)
