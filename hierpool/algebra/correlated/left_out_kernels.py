"""Compiled loops over blocks with one factor or none: rows, and levels, given all others.

Blocks of one design are whitened and eliminated once; what is left of each is its responses. With W
their W, R^-1 = W'W, and a as in ``kernels.eliminate``, the inverse covariance of the rows of a block is
W'(I - a'a)W, less t't in between where the population's coefficients are integrated out too.
"""

from __future__ import annotations

import numpy as np

from hierpool.algebra.correlated.kernels import eliminate
from hierpool.core.compiled import compiled, inner

_M, _V, _W, _T = "f8[:,::1]", "i8[::1]", "f8[::1]", "f8[:,:,::1]"


@inner
def _whiten(roots, k, first, size, values, out):  # type: ignore[no-untyped-def]
    """W times values (size,); W is lower triangular, and a band of it where rows are Markov."""
    for i in range(size):
        out[i] = 0.0
        for j in range(i + 1):
            out[i] += roots[k, first + i, j] * values[j]


@compiled(f"void({_T}, {_T}, {_T}, {_M}, {_V}, {_V}, {_T}, {_T}, {_M}, {_V}, {_M}, {_M})")
def rows(white, roots, X, y, by_design, starts, Lambda, R, beta, place, off, variance):  # type: ignore[no-untyped-def]
    """y_i less its mean given y_-i, and the variance of that in units of sigma^2.

    ``white`` (K, U size, q + w) has whitened Z and X of the designs, ``roots`` (K, U size, size) their W,
    ``X`` (U, size, w) and ``y`` (B, size) are as they were; blocks ``by_design`` from ``starts`` on have
    one design. ``R`` and ``beta`` are of the population's system, ``place`` (n,) where each row stands.
    """
    q, w, size = Lambda.shape[1], R.shape[1], y.shape[1]
    a, L, of_a = np.empty((q, size)), np.empty((q, q)), np.empty(q)
    t, of_t, left = np.empty((w, size)), np.empty(w), np.empty(size)
    mean, inverse, variances = np.empty(size), np.empty(size), np.empty(y.shape)
    offs, raw = np.empty(y.shape), np.empty(size)
    for k in range(len(white)):
        for u in range(len(starts) - 1):
            first = u * size
            eliminate(white, k, first, size, Lambda, a, L)
            for c in range(w):
                for i in range(size):
                    t[c, i] = white[k, first + i, q + c]
                for v in range(q):
                    of_a[v] = 0.0
                    for i in range(size):
                        of_a[v] += a[v, i] * t[c, i]
                for v in range(q):
                    for i in range(size):
                        t[c, i] -= of_a[v] * a[v, i]
            for c in range(w):
                for d in range(c):
                    for i in range(size):
                        t[c, i] -= R[k, c, d] * t[d, i]
                scale = 1.0 / R[k, c, c]
                for i in range(size):
                    t[c, i] *= scale
            for j in range(size):
                total, mean[j] = 0.0, 0.0
                of_a[:], of_t[:] = 0.0, 0.0
                for i in range(j, size):
                    x = roots[k, first + i, j]
                    if x != 0.0:
                        total += x * x
                        for v in range(q):
                            of_a[v] += x * a[v, i]
                        for c in range(w):
                            of_t[c] += x * t[c, i]
                for v in range(q):
                    total -= of_a[v] * of_a[v]
                for c in range(w):
                    total -= of_t[c] * of_t[c]
                    mean[j] += X[u, j, c] * beta[k, c]
                inverse[j] = 1.0 / total
            for b in by_design[starts[u] : starts[u + 1]]:
                for i in range(size):
                    raw[i] = y[b, i] - mean[i]
                _whiten(roots, k, first, size, raw, left)
                for v in range(q):
                    of_a[v] = 0.0
                    for i in range(size):
                        of_a[v] += a[v, i] * left[i]
                for v in range(q):
                    for i in range(size):
                        left[i] -= a[v, i] * of_a[v]
                for j in range(size):
                    score = 0.0
                    for i in range(j, size):
                        score += roots[k, first + i, j] * left[i]
                    offs[b, j], variances[b, j] = score * inverse[j], inverse[j]
        flat_off, flat_variance = offs.reshape(-1), variances.reshape(-1)
        for i in range(len(place)):
            off[k, i], variance[k, i] = flat_off[place[i]], flat_variance[place[i]]


@compiled(
    f"void({_T}, {_T}, {_M}, {_V}, {_V}, {_V}, {_V}, {_V}, {_V}, {_T}, {_M}, {_W}, {_T}, {_M}, {_W}, {_M})"
)
def levels(  # type: ignore[no-untyped-def]
    white, roots, y, design_of, kinds, kind_starts, kind_designs, starts, blocks, Lambda, log_sd, sigma,
    R, s, n_rows, out,
):  # fmt: skip
    """Log density of the rows of each level given all others, less n_j log(2 pi) / 2.

    The blocks of level j are ``blocks`` from ``starts[j]`` on. Levels of one of the ``kinds`` (J,) have
    blocks of the same designs, ``kind_designs`` from ``kind_starts`` on. ``log_sd`` (K, U) is half of log
    det R, ``s`` the right-hand side of the population's system; others as in ``rows``.
    """
    q, w, size, U = Lambda.shape[1], R.shape[1], y.shape[1], log_sd.shape[1]
    n_kinds = len(kind_starts) - 1
    a, L, of_a, left = np.empty((U, q, size)), np.empty((q, q)), np.empty(q), np.empty(size)
    t, own, log_dets = np.empty((U, w, size)), np.empty((U, w, w)), np.empty(U)
    S, rest, of_kind = np.empty((w, w)), np.empty((n_kinds, w, w)), np.empty(n_kinds)
    half, right = np.empty(w), np.empty(w)
    for k in range(len(white)):
        for u in range(U):
            log_det = eliminate(white, k, u * size, size, Lambda, a[u], L)
            log_dets[u] = log_det + 2.0 * log_sd[k, u]
            for c in range(w):
                for i in range(size):
                    t[u, c, i] = white[k, u * size + i, q + c]
                for v in range(q):
                    of_a[v] = 0.0
                    for i in range(size):
                        of_a[v] += a[u, v, i] * t[u, c, i]
                for v in range(q):
                    for i in range(size):
                        t[u, c, i] -= of_a[v] * a[u, v, i]
                for d in range(c + 1):
                    own[u, c, d] = 0.0
                    for i in range(size):
                        own[u, c, d] += t[u, c, i] * white[k, u * size + i, q + d]
        log_det_all, explained_all = 0.0, 0.0
        for c in range(w):
            value = s[k, c]
            for d in range(c):
                value -= R[k, c, d] * half[d]
            half[c] = value / R[k, c, c]
            explained_all += half[c] * half[c]
            log_det_all += 2.0 * np.log(R[k, c, c])
            for d in range(c + 1):
                S[c, d] = 0.0
                for m in range(d + 1):
                    S[c, d] += R[k, c, m] * R[k, d, m]
        for e in range(n_kinds):
            of_kind[e] = log_det_all
            for c in range(w):
                for d in range(c + 1):
                    value = S[c, d]
                    for u in kind_designs[kind_starts[e] : kind_starts[e + 1]]:
                        value -= own[u, c, d]
                    for m in range(d):
                        value -= rest[e, c, m] * rest[e, d, m]
                    if c == d:
                        of_kind[e] -= np.log(value)
                        rest[e, c, c] = np.sqrt(value)
                    else:
                        rest[e, c, d] = value / rest[e, d, d]
            for u in kind_designs[kind_starts[e] : kind_starts[e + 1]]:
                of_kind[e] += log_dets[u]
        variance = sigma[k] * sigma[k]
        for j in range(len(kinds)):
            e, squares = kinds[j], -explained_all
            for c in range(w):
                right[c] = s[k, c]
            for b in blocks[starts[j] : starts[j + 1]]:
                u = design_of[b]
                _whiten(roots, k, u * size, size, y[b], left)
                for i in range(size):
                    squares += left[i] * left[i]
                for v in range(q):
                    value = 0.0
                    for i in range(size):
                        value += a[u, v, i] * left[i]
                    squares -= value * value
                for c in range(w):
                    for i in range(size):
                        right[c] -= t[u, c, i] * left[i]
            for c in range(w):
                for d in range(c):
                    right[c] -= rest[e, c, d] * half[d]
                half[c] = right[c] / rest[e, c, c]
                squares += half[c] * half[c]
            level = n_rows[j] * np.log(variance) + of_kind[e] + squares / variance
            out[k, j] = -0.5 * level
