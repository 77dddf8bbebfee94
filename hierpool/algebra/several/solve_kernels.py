"""Compiled loops over many columns at once: products with Z'Z, solves with the fronts. Numba.

Columns are the last axis and run in the innermost loops, one column for each right-hand side.
Symbols as in ``hierpool.algebra.several.kernels``.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from hierpool.algebra.several.plan import Products, Structure
from hierpool.core.compiled import compiled

I8 = types.int64
F1, F2, F3 = (types.Array(types.float64, n, "C") for n in (1, 2, 3))
STRUCTURE = types.NamedUniTuple(types.Array(I8, 1, "C"), len(Structure._fields), Structure)
PRODUCTS = types.NamedTuple((F1, F1, F2), Products)


@njit(inline="always")
def _add(out, x, column, m):
    """out += x column."""
    for k in range(m):
        out[k] += x * column[k]


@compiled(types.void(STRUCTURE, PRODUCTS, F2, F2))
def times(s, products, u, out):
    """out becomes Z'Z u, for columns u (columns of Z, m) in internal order."""
    start, m = s.sizes[2], u.shape[1]
    raw = products.fronts
    out[:] = 0.0
    for e in range(s.sizes[1]):
        f, o, row = s.front_factor[e], s.offset[e], s.front_col[e]
        q = s.q[f]
        for c in range(q):
            for a in range(q):
                _add(out[row + a], raw[o + c * q + a], u[row + c], m)
        for t in range(s.nb_start[e], s.nb_start[e + 1]):
            here, col = o + s.nb_local[t] * q, s.nb_col[t]
            for c in range(s.q[s.nb_factor[t]]):
                for a in range(q):
                    x = raw[here + c * q + a]
                    _add(out[row + a], x, u[col + c], m)
                    _add(out[col + c], x, u[row + a], m)
    for t in range(len(s.pair_row)):
        q, w = s.q[s.pair_rows_of[t]], s.q[s.pair_cols_of[t]]
        row, col, here = start + s.pair_row[t], start + s.pair_col[t], s.pair_offset[t]
        for c in range(w):
            for a in range(q):
                x = products.pairs[here + c * q + a]
                _add(out[row + a], x, u[col + c], m)
                if row != col:
                    _add(out[col + c], x, u[row + a], m)


@compiled(types.void(STRUCTURE, F1, F2))
def solve_chain(s, values, x):
    """Solve back for the fronts, the rest of x (columns of M, m) being solved already."""
    m = x.shape[1]
    for e in range(s.sizes[1] - 1, -1, -1):
        f, o, row = s.front_factor[e], s.offset[e], s.front_col[e]
        q = s.q[f]
        for t in range(s.nb_start[e], s.nb_start[e + 1]):
            here = o + s.nb_local[t] * q
            for c in range(s.q[s.nb_factor[t]]):
                other = x[s.nb_col[t] + c]
                for a in range(q):
                    h, own = values[here + c * q + a], x[row + a]
                    for k in range(m):
                        own[k] -= h * other[k]
        for a in range(q - 1, -1, -1):
            own = x[row + a]
            for b in range(a + 1, q):
                h, other = values[o + a * q + b], x[row + b]
                for k in range(m):
                    own[k] -= h * other[k]
            scale = 1.0 / values[o + a * q + a]
            for k in range(m):
                own[k] *= scale


@compiled(types.void(STRUCTURE, F1, F2, F2))
def solve_fronts(s, values, U, x):
    """Solve back (F, H, U) x = x for right-hand sides x (columns of M, m)."""
    start, N, m = s.sizes[2], s.sizes[3], x.shape[1]
    for i in range(N - 1, -1, -1):
        own = x[start + i]
        for c in range(i + 1, N):
            h, other = U[i, c], x[start + c]
            for k in range(m):
                own[k] -= h * other[k]
        for k in range(m):
            own[k] /= U[i, i]
    solve_chain(s, values, x)


@compiled(types.void(STRUCTURE, F1, F2, F2))
def whitened_xy(s, values, W, x):
    """x (columns of M, p + 1) becomes F^-1 Lambda'Z'(X, y), what ``solve_fronts`` starts from."""
    start, N, p = s.sizes[2], s.sizes[3], s.sizes[4]
    for e in range(s.sizes[1]):
        q, row = s.q[s.front_factor[e]], s.front_col[e]
        here = s.offset[e + 1] - (p + 1) * q
        for r in range(p + 1):
            for a in range(q):
                x[row + a, r] = values[here + r * q + a]
    for i in range(N):
        for r in range(p + 1):
            x[start + i, r] = W[r, i]


@compiled(types.void(STRUCTURE, F2, F1, F1))
def unwhiten(s, Lam, v, out):
    """out (columns in the user's order) becomes u = Lambda v."""
    for f in range(len(s.q)):
        q, i, move = s.q[f], s.at[f], s.place[f] - s.first[f]
        for c in range(s.first[f], s.first[f + 1], q):
            for a in range(q):
                x = 0.0
                for b in range(q):
                    x += Lam[i + a, i + b] * v[c + b]
                out[c + move + a] = x


@compiled(types.void(STRUCTURE, F1, F2))
def forward_chain(s, values, x):
    """Solve forward for the fronts and take their share from what follows, the rest included."""
    m = x.shape[1]
    for e in range(s.sizes[1]):
        o, row = s.offset[e], s.front_col[e]
        q = s.q[s.front_factor[e]]
        for a in range(q):
            own = x[row + a]
            for b in range(a):
                _add(own, -values[o + b * q + a], x[row + b], m)
            scale = 1.0 / values[o + a * q + a]
            for k in range(m):
                own[k] *= scale
        for t in range(s.nb_start[e], s.nb_start[e + 1]):
            here = o + s.nb_local[t] * q
            for c in range(s.q[s.nb_factor[t]]):
                other = x[s.nb_col[t] + c]
                for a in range(q):
                    _add(other, -values[here + c * q + a], x[row + a], m)


@compiled(types.void(STRUCTURE, F1, F2, F2))
def multiply_chain(s, values, z, out):
    """out += (F, H)' z, the fronts' part of the Cholesky factor of M times z."""
    m = z.shape[1]
    for e in range(s.sizes[1]):
        o, row = s.offset[e], s.front_col[e]
        q = s.q[s.front_factor[e]]
        for a in range(q):
            for b in range(a + 1):
                _add(out[row + a], values[o + b * q + a], z[row + b], m)
        for t in range(s.nb_start[e], s.nb_start[e + 1]):
            here = o + s.nb_local[t] * q
            for c in range(s.q[s.nb_factor[t]]):
                for a in range(q):
                    _add(out[s.nb_col[t] + c], values[here + c * q + a], z[row + a], m)


@compiled(types.void(STRUCTURE, F2, F2))
def scale_levels(s, B, x):
    """x becomes B x level by level, B (Q, Q) block diagonal over factors."""
    m = x.shape[1]
    largest = 1
    for q in s.q:
        largest = max(largest, q)
    kept = np.empty((largest, m))
    for f in range(len(s.q)):
        q, i = s.q[f], s.at[f]
        for c in range(s.first[f], s.first[f + 1], q):
            for a in range(q):
                kept[a] = x[c + a]
                x[c + a] = 0.0
            for a in range(q):
                for b in range(q):
                    _add(x[c + a], B[i + a, i + b], kept[b], m)


@compiled(types.void(STRUCTURE, F3, F2, F2))
def add_scaled_levels(s, B, x, out):
    """out += B_k x_k level by level, with a B (Q, Q, m) of its own for each column."""
    m = x.shape[1]
    for f in range(len(s.q)):
        q, i = s.q[f], s.at[f]
        for c in range(s.first[f], s.first[f + 1], q):
            for a in range(q):
                target = out[c + a]
                for b in range(q):
                    scale, column = B[i + a, i + b], x[c + b]
                    for k in range(m):
                        target[k] += scale[k] * column[k]


@compiled(types.void(F2, F2, F1))
def dots(a, b, out):
    """out (m,) becomes the products of the columns of a and b."""
    out[:] = 0.0
    for c in range(len(a)):
        left, right = a[c], b[c]
        for k in range(len(out)):
            out[k] += left[k] * right[k]


@compiled(types.void(F1, F2, F2))
def add_columns(scale, x, out):
    """out += scale x, column by column."""
    for c in range(len(x)):
        target, column = out[c], x[c]
        for k in range(len(scale)):
            target[k] += scale[k] * column[k]


@compiled(types.void(F1, F2, F2))
def turn_columns(scale, x, out):
    """out becomes x + scale out, column by column."""
    for c in range(len(x)):
        target, column = out[c], x[c]
        for k in range(len(scale)):
            target[k] = column[k] + scale[k] * target[k]
