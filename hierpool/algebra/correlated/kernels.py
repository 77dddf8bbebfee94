"""Compiled loops of whitening: over values of the parameters, then over rows."""

from __future__ import annotations

import numpy as np

from hierpool.core.compiled import compiled, inner

_M, _V, _T = "float64[:, ::1]", "int64[::1]", "float64[:, :, ::1]"
_W = "float64[::1]"


@compiled(f"void({_M}, {_V}, {_V}, {_V}, {_M}, {_M}, {_T}, {_M})")
def markov(columns, where, classes, step, log_sd, r, out, log_det):  # type: ignore[no-untyped-def]
    """Each row less what the row before says of it."""
    n, w = columns.shape
    classes_of, steps = log_sd.shape[1], r.shape[1]
    scales = np.empty(classes_of)
    factors, logs = np.empty(steps), np.empty(steps)
    for k in range(len(log_sd)):
        for c in range(classes_of):
            scales[c] = np.exp(-log_sd[k, c])
        for t in range(steps):
            left = 1.0 - r[k, t] * r[k, t]
            factors[t], logs[t] = 1.0 / np.sqrt(left), 0.5 * np.log(left)
        for i in range(n):
            at, kind, scale = where[i], step[i], scales[classes[i]]
            log_det[k, i] = log_sd[k, classes[i]] + logs[kind]
            if kind == 0:
                for m in range(w):
                    out[k, at, m] = columns[i, m] * scale
            else:
                rho, factor, before = r[k, kind], factors[kind], scales[classes[i - 1]]
                for m in range(w):
                    own = columns[i, m] * scale - rho * columns[i - 1, m] * before
                    out[k, at, m] = own * factor


@compiled(f"void({_M}, {_V}, {_V}, {_V}, {_V}, {_M}, {_M}, {_T}, {_M})")
def by_pattern(columns, where, classes, starts, offsets, log_sd, inverse, out, log_det):  # type: ignore[no-untyped-def]
    """The rows of each group times the inverse Cholesky factor of its pattern."""
    w = columns.shape[1]
    scales = np.empty(log_sd.shape[1])
    for k in range(len(log_sd)):
        for c in range(len(scales)):
            scales[c] = np.exp(-log_sd[k, c])
        for g in range(len(starts) - 1):
            a = starts[g]
            n = starts[g + 1] - a
            for i in range(n):
                at = where[a + i]
                diagonal = inverse[k, offsets[g] + i * n + i]
                log_det[k, a + i] = log_sd[k, classes[a + i]] - np.log(diagonal)
                for j in range(i + 1):
                    entry = inverse[k, offsets[g] + i * n + j]
                    entry *= scales[classes[a + j]]
                    for m in range(w):
                        out[k, at, m] += entry * columns[a + j, m]


@compiled(f"void({_T}, int64, {_M})")
def inverse_roots(C, offset, out):  # type: ignore[no-untyped-def]
    """Inverse Cholesky factors of matrices (K, m, m), from ``offset`` on; NaN where there is none."""
    m = C.shape[1]
    L, inverse = np.empty((m, m)), np.empty((m, m))
    for k in range(len(C)):
        for i in range(m):
            for j in range(i + 1):
                value = C[k, i, j]
                for c in range(j):
                    value -= L[i, c] * L[j, c]
                L[i, j] = np.sqrt(value) if i == j else value / L[j, j]
        for i in range(m):
            for j in range(m):
                value = 1.0 if i == j else 0.0
                for c in range(j, i):
                    value -= L[i, c] * inverse[c, j]
                inverse[i, j] = value / L[i, i] if j <= i else 0.0
        failed = np.isnan(L[m - 1, m - 1])
        for i in range(m):
            for j in range(m):
                out[k, offset + i * m + j] = np.nan if failed else inverse[i, j]


@inner
def divide(a, size, L):  # type: ignore[no-untyped-def]
    """L (q, q) becomes the Cholesky factor of a a' + I, a (q, size) becomes L^-1 a; log det of L L'."""
    q, total = L.shape[0], 0.0
    for u in range(q):
        for v in range(u + 1):
            value = 1.0 if u == v else 0.0
            for i in range(size):
                value += a[u, i] * a[v, i]
            L[u, v] = value
    for u in range(q):
        for v in range(u):
            for c in range(v):
                L[u, v] -= L[u, c] * L[v, c]
            L[u, v] /= L[v, v]
            L[u, u] -= L[u, v] * L[u, v]
        L[u, u] = np.sqrt(L[u, u])
        total += 2.0 * np.log(L[u, u])
        for i in range(size):
            for v in range(u):
                a[u, i] -= L[u, v] * a[v, i]
            a[u, i] /= L[u, u]
    return total


@inner
def eliminate(white, k, first, size, Lambda, a, L):  # type: ignore[no-untyped-def]
    """L (q, q) and a (q, size) of a block, a its Z Lambda over L; the log determinant of L L'."""
    q = L.shape[0]
    for u in range(q):
        for i in range(size):
            value = 0.0
            for c in range(q):
                value += Lambda[k, c, u] * white[k, first + i, c]
            a[u, i] = value
    return divide(a, size, L)


@compiled(f"void({_T}, int64, int64, {_T}, {_W}, {_M}, {_W}, {_T}, {_M}, {_W})")
def sums(white, size, w, Lambda, counts, log_sd, log_det, GG, Gg, squared):  # type: ignore[no-untyped-def]
    """Levels eliminated, G'G - X'X, G'g - X'y and g'g - y'y summed over blocks.

    ``white`` has the columns Z, w of the population, the sum of the responses and their roots.
    """
    q, width = Lambda.shape[1], white.shape[2]
    a, L = np.empty((q, size)), np.empty((q, q))
    g = np.empty((q, width - q))
    for k in range(len(white)):
        log_det[k], squared[k] = 0.0, 0.0
        GG[k], Gg[k] = 0.0, 0.0
        for b in range(len(counts)):
            first = b * size
            total = eliminate(white, k, first, size, Lambda, a, L)
            log_det[k] += (total + 2.0 * log_sd[k, b]) * counts[b]
            for u in range(q):
                for c in range(width - q):
                    g[u, c] = 0.0
                for i in range(size):
                    for c in range(width - q):
                        g[u, c] += a[u, i] * white[k, first + i, q + c]
                for c in range(w):
                    for d in range(c + 1):
                        GG[k, c, d] += g[u, c] * g[u, d] * counts[b]
                    Gg[k, c] += g[u, c] * g[u, w]
                for c in range(w + 1, width - q):
                    squared[k] += g[u, c] * g[u, c]
            for i in range(size):
                row = white[k, first + i]
                for c in range(w):
                    for d in range(c + 1):
                        GG[k, c, d] -= row[q + c] * row[q + d] * counts[b]
                    Gg[k, c] -= row[q + c] * row[q + w]
                for c in range(q + w + 1, width):
                    squared[k] -= row[c] * row[c]
        for c in range(w):
            for d in range(c):
                GG[k, d, c] = GG[k, c, d]
