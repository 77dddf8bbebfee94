"""Compiled loops of structures beside several factors: blocks eliminated, then a sparse system. Numba.

Symbols: a block has whitened columns Z of the main factor, m of others (near it), p of the
population, the sum of its responses and their roots. S_vv = L D L' with a unit diagonal of L.
"""

from __future__ import annotations

import numpy as np
from numba import types

from hierpool.algebra.correlated.kernels import divide
from hierpool.algebra.correlated.places import Places
from hierpool.core.compiled import compiled, inner

I8 = types.int64
I1, I2, I3 = (types.Array(I8, n, "C") for n in (1, 2, 3))
F1, F2, F3 = (types.Array(types.float64, n, "C") for n in (1, 2, 3))
PLACES = types.NamedTuple((I1, I1, I1, I1, I1, I2, I3, I2), Places)


@inner
def _read(white, first, size, q, scale, Lambda, x):
    """x (size, width - q) becomes the columns behind Z, those of others times Lambda."""
    m = len(scale)
    for i in range(size):
        row = white[first + i]
        for c in range(m):
            level, own, count = scale[c, 0], scale[c, 1], scale[c, 2]
            value = 0.0
            for e in range(count):
                value += row[q + level + e] * Lambda[own + e, own + c - level]
            x[i, c] = value
        for c in range(m, len(row) - q):
            x[i, c] = row[q + c]


@inner
def _eliminate(white, first, size, Lambda, at, q, a, L):
    """L (q, q) becomes the Cholesky factor of Lambda'Z'Z Lambda + I, and a (q, size) L^-1 Lambda'Z'."""
    for u in range(q):
        for i in range(size):
            value = 0.0
            for c in range(q):
                value += Lambda[at + c, at + u] * white[first + i, c]
            a[u, i] = value
    return divide(a, size, L)


@inner
def _products(x, size, a, q, w, N, g):
    """N (w, w + 1) becomes x'(I - a'a)x, lower triangle, and x'(I - a'a)y; returns that of the roots."""
    width, squares = x.shape[1], 0.0
    N[:] = 0.0
    for i in range(size):
        row = x[i]
        for c in range(w):
            own = row[c]
            if own != 0.0:
                for e in range(c + 1):
                    N[c, e] += own * row[e]
                N[c, w] += own * row[w]
        for c in range(w + 1, width):
            squares += row[c] * row[c]
    for u in range(q):
        g[:] = 0.0
        for i in range(size):
            for c in range(width):
                g[c] += a[u, i] * x[i, c]
        for c in range(w):
            for e in range(c + 1):
                N[c, e] -= g[c] * g[e]
            N[c, w] -= g[c] * g[w]
        for c in range(w + 1, width):
            squares -= g[c] * g[c]
    return squares


@inner
def _factor(places, values, d, work):
    """values (entries of S_vv on the pattern of L, its diagonal) become L and D; returns log det."""
    start, indices, n, log_det = places.start, places.indices, len(places.indices), 0.0
    for k in range(d):
        a, b = start[k], start[k + 1]
        for e in range(a, b):
            work[indices[e]] = values[e]
        own = values[n + k]
        for r in range(places.row_start[k], places.row_start[k + 1]):
            j, e = places.row_column[r], places.row_entry[r]
            x = values[e]
            scaled = x * values[n + j]
            own -= x * scaled
            for f in range(e + 1, start[j + 1]):
                work[indices[f]] -= values[f] * scaled
        values[n + k] = own
        log_det += np.log(own)
        for e in range(a, b):
            values[e] = work[indices[e]] / own
    return log_det


@inner
def _forward(places, values, d, half):
    """half (d, m) becomes D^-1/2 L^-1 half."""
    n = len(places.indices)
    for k in range(d):
        row = half[k]
        for e in range(places.start[k], places.start[k + 1]):
            i, x = places.indices[e], values[e]
            for c in range(half.shape[1]):
                half[i, c] -= x * row[c]
        root = 1.0 / np.sqrt(values[n + k])
        for c in range(half.shape[1]):
            row[c] *= root


@compiled(types.void(F3, I8, PLACES, F3, I1, F1, F2, F1, F3, F2, F1, F2, F3))
def sums(white, size, places, Lambda, main, counts, log_sd, log_det, GG, Gg, squared, values, half):
    """Main factor and others eliminated: G'G - X'X, G'g - X'y and g'g - y'y summed over blocks.

    ``white`` has the columns Z, m of others, p of the population, the sum of the responses and
    their roots; ``main`` where the main factor stands in Lambda and its number of columns. ``values``
    and ``half`` are kept for each theta where there are as many, or used again.
    """
    at, q = main[0], main[1]
    p, m, d, n = GG.shape[1], len(places.scale), half.shape[1] - 1, len(places.indices)
    width, w = white.shape[2] - q, m + p
    x, a, L = np.empty((size, width)), np.empty((q, size)), np.empty((q, q))
    N, g, work = np.empty((w, w + 1)), np.empty(width), np.zeros(d)
    for k in range(len(white)):
        held = k if len(values) > 1 else 0
        S, C = values[held], half[held]
        S[:], C[:], GG[k], Gg[k] = 0.0, 0.0, 0.0, 0.0
        S[n : n + d] = 1.0
        log_det[k], squared[k] = 0.0, 0.0
        for b in range(len(counts)):
            count, first = counts[b], b * size
            _read(white[k], first, size, q, places.scale, Lambda[k], x)
            total = _eliminate(white[k], first, size, Lambda[k], at, q, a, L)
            log_det[k] += count * (total + 2.0 * log_sd[k, b])
            squared[k] -= _products(x, size, a, q, w, N, g)
            column, entry = places.column[b], places.entry[b]
            for c in range(m):
                for e in range(c + 1):
                    S[entry[c, e]] += count * N[c, e]
                row = C[column[c]]
                for e in range(p):
                    row[e] += count * N[m + e, c]
                row[p] += N[c, w]
            for c in range(p):
                for e in range(c + 1):
                    GG[k, c, e] -= count * N[m + c, m + e]
                Gg[k, c] -= N[m + c, w]
        log_det[k] += _factor(places, S, d, work)
        C[d] = 0.0
        _forward(places, S, d, C)
        for i in range(d):
            row = C[i]
            for c in range(p):
                for e in range(c + 1):
                    GG[k, c, e] += row[c] * row[e]
                Gg[k, c] += row[c] * row[p]
            squared[k] += row[p] * row[p]
        for c in range(p):
            for e in range(c):
                GG[k, e, c] = GG[k, c, e]
