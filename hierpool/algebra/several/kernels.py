"""Compiled loops of models with several factors: fill, eliminate, solve back, select. Numba.

One value of theta is worked by one thread from beginning to end, BLAS on one thread: the same
numbers on one core and on two.

Symbols: M = Lambda'Z'Z Lambda + I in the internal order of ``hierpool.algebra.several.plan``; of a front
F (q, q) is the lower Cholesky factor of its block and H = F^-1 M_front,others, both in the place of
the front's values. U (N, N) is the upper Cholesky factor of the rest, W (p + 1, N) holds its X and y
columns, T (p + 1, p + 1) what the levels explain of X and y.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from hierpool.algebra.several.solve_kernels import (
    F1,
    F2,
    F3,
    I8,
    PRODUCTS,
    STRUCTURE,
    solve_fronts,
    unwhiten,
    whitened_xy,
)
from hierpool.core.compiled import compiled

BY_HAND = 64  # size of the rest up to which its Cholesky factor is not left to LAPACK
_BIG, _SMALL = 1e100, 1e-100


@njit(inline="always")
def _sandwich(Lam, i, q, j, w, source, source_at, target, at):
    """Target block (q, w) becomes Lam_i' block Lam_j."""
    if q == 1 and w == 1:
        target[at] = Lam[i, i] * source[source_at] * Lam[j, j]
        return
    for c in range(w):
        for a in range(q):
            x = 0.0
            for d in range(w):
                y = 0.0
                for b in range(q):
                    y += Lam[i + b, i + a] * source[source_at + d * q + b]
                x += y * Lam[j + d, j + c]
            target[at + c * q + a] = x


@compiled(types.void(STRUCTURE, PRODUCTS, F2, F1, F2, F2))
def fill(s, products, Lam, values, U, W):
    """Entries of M: the fronts' in ``values``, the rest's in U (upper triangle) and W."""
    n_fronts, start, N, p = s.sizes[1], s.sizes[2], s.sizes[3], s.sizes[4]
    raw = products.fronts
    for e in range(n_fronts):
        f, o = s.front_factor[e], s.offset[e]
        q, i = s.q[f], s.at[f]
        _sandwich(Lam, i, q, i, q, raw, o, values, o)
        for a in range(q):
            # The identity, so that M is positive definite for a singular Lambda as well.
            values[o + a * q + a] += 1.0
        for t in range(s.nb_start[e], s.nb_start[e + 1]):
            g, here = s.nb_factor[t], o + s.nb_local[t] * q
            _sandwich(Lam, i, q, s.at[g], s.q[g], raw, here, values, here)
        for here in range(s.offset[e + 1] - (p + 1) * q, s.offset[e + 1], q):
            for a in range(q):
                x = 0.0
                for b in range(q):
                    x += Lam[i + b, i + a] * raw[here + b]
                values[here + a] = x
    for c in range(N):
        for d in range(c, N):
            U[c, d] = 0.0
    largest = 1
    for q in s.q:
        largest = max(largest, q)
    block = np.empty(largest * largest)
    for t in range(len(s.pair_row)):
        f, g = s.pair_rows_of[t], s.pair_cols_of[t]
        q, w = s.q[f], s.q[g]
        _sandwich(Lam, s.at[f], q, s.at[g], w, products.pairs, s.pair_offset[t], block, 0)
        row, col = s.pair_row[t], s.pair_col[t]
        for c in range(w):
            for a in range(q):
                U[row + a, col + c] = block[c * q + a]
    for c in range(N):
        U[c, c] += 1.0
    for f in range(s.sizes[0], len(s.q)):
        q, i = s.q[f], s.at[f]
        for c in range(s.first[f] - start, s.first[f + 1] - start, q):
            for r in range(p + 1):
                for a in range(q):
                    x = 0.0
                    for b in range(q):
                        x += Lam[i + b, i + a] * products.xy[r, c + b]
                    W[r, c + a] = x


@njit(inline="always")
def _factor_block(values, o, q):
    """The block (q, q) at ``o`` becomes its lower Cholesky factor."""
    for j in range(q):
        for i in range(j, q):
            x = values[o + j * q + i]
            for m in range(j):
                x -= values[o + m * q + i] * values[o + m * q + j]
            values[o + j * q + i] = np.sqrt(x) if i == j else x / values[o + j * q + j]


@njit(inline="always")
def _product(values, i, j, q):
    """Product of two columns of q entries."""
    x = 0.0
    for a in range(q):
        x += values[i + a] * values[j + a]
    return x


@njit(inline="always")
def _update_ancestors(s, e, values):
    """Take front e's share from the rows of its ancestors."""
    p = s.sizes[4]
    q, o, begin = s.q[s.front_factor[e]], s.offset[e], s.nb_start[e]
    count = s.nb_start[e + 1] - begin
    for t in range(s.sizes[0] - 1 - s.front_factor[e]):
        ancestor = s.nb_front[begin + t]
        qa, oa = s.q[s.nb_factor[begin + t]], s.offset[ancestor]
        own = o + s.nb_local[begin + t] * q
        for other in range(t, count):
            col = o + s.nb_local[begin + other] * q
            target = oa + s.ancestor_cols[s.map_start[e] + t * count + other] * qa
            for c in range(s.q[s.nb_factor[begin + other]]):
                for a in range(qa):
                    values[target + c * qa + a] -= _product(values, own + a * q, col + c * q, q)
        for r in range(p + 1):
            col, target = s.offset[e + 1] - (r + 1) * q, s.offset[ancestor + 1] - (r + 1) * qa
            for a in range(qa):
                values[target + a] -= _product(values, own + a * q, col, q)


@njit(inline="always")
def _update_rest(s, e, values, U, W, T):
    """Take front e's share from the rest, and add it to what is explained of X and y."""
    p, q = s.sizes[4], s.q[s.front_factor[e]]
    xy = s.offset[e + 1] - (p + 1) * q
    cols = s.rest_cols[s.rest_start[e] : s.rest_start[e + 1]]
    n = len(cols)
    first = xy - n * q
    if q == 1:
        H = values[first:xy]
        for c in range(n):
            x, row = H[c], U[cols[c]]
            for d in range(c, n):
                row[cols[d]] -= x * H[d]
    else:
        for c in range(n):
            row = U[cols[c]]
            for d in range(c, n):
                row[cols[d]] -= _product(values, first + c * q, first + d * q, q)
    for r in range(p + 1):
        for c in range(n):
            W[r, cols[c]] -= _product(values, first + c * q, xy + r * q, q)
        for c in range(r + 1):
            x = _product(values, xy + r * q, xy + c * q, q)
            T[r, c] += x
            if c != r:
                T[c, r] += x


@compiled(types.float64(STRUCTURE, F1, F2, F2, F2))
def eliminate(s, values, U, W, T):
    """Eliminate the fronts; returns half of their log determinant."""
    half, product, scale = 0.0, 1.0, np.empty(s.q.sum())
    for e in range(s.sizes[1]):
        q, o = s.q[s.front_factor[e]], s.offset[e]
        _factor_block(values, o, q)
        for a in range(q):
            product *= values[o + a * q + a]
        # One logarithm for many pivots, taken before the product leaves the range of floats.
        if not _SMALL < product < _BIG:
            half += np.log(product)
            product = 1.0
        for a in range(q):
            scale[a] = 1.0 / values[o + a * q + a]
        for col in range(o + q * q, s.offset[e + 1], q):
            for a in range(q):
                x = values[col + a]
                for m in range(a):
                    x -= values[o + m * q + a] * values[col + m]
                values[col + a] = x * scale[a]
        _update_ancestors(s, e, values)
        _update_rest(s, e, values, U, W, T)
    return half + np.log(product)


@compiled(types.void(F2))
def factor_by_hand(U):
    """U becomes its upper Cholesky factor; the lower triangle is left alone."""
    N = len(U)
    for i in range(N):
        root = np.sqrt(U[i, i])
        scale = 1.0 / root
        U[i, i] = root
        for c in range(i + 1, N):
            U[i, c] *= scale
        for j in range(i + 1, N):
            x = U[i, j]
            for c in range(j, N):
                U[j, c] -= x * U[i, c]


@compiled(types.void(F2))
def _factor_by_lapack(U):
    """As ``factor_by_hand``; NaN where the matrix is not positive definite."""
    N = len(U)
    try:
        L = np.linalg.cholesky(U.T)
        for i in range(N):
            for c in range(i, N):
                U[i, c] = L[c, i]
    except Exception:
        U[:] = np.nan


@compiled(types.float64(F2, F2, F2))
def whiten_rest(U, W, T):
    """Whiten X and y of the factored rest; returns half of its log determinant."""
    N = len(U)
    half = 0.0
    for i in range(N):
        half += np.log(U[i, i])
        for r in range(len(W)):
            x = W[r, i] / U[i, i]
            W[r, i] = x
            for c in range(i + 1, N):
                W[r, c] -= x * U[i, c]
    for r in range(len(W)):
        for c in range(r + 1):
            x = 0.0
            for i in range(N):
                x += W[r, i] * W[c, i]
            T[r, c] += x
            if c != r:
                T[c, r] += x
    return half


@compiled(types.float64(STRUCTURE, PRODUCTS, F2, F1, F2, F2, F2))
def reduce(s, products, Lam, values, U, W, T):
    """Fill M at one theta and eliminate the fronts; returns half of their log determinant."""
    fill(s, products, Lam, values, U, W)
    T[:] = 0.0
    return eliminate(s, values, U, W, T)


@compiled(types.float64(STRUCTURE, PRODUCTS, F2, F1, F2, F2, F2))
def factor(s, products, Lam, values, U, W, T):
    """Factor M at one theta into ``values``, U and W; returns its log determinant."""
    half = reduce(s, products, Lam, values, U, W, T)
    if len(U) <= BY_HAND:
        factor_by_hand(U)
    else:
        _factor_by_lapack(U)
    return 2.0 * (half + whiten_rest(U, W, T))


@compiled(types.void(I8, I8, STRUCTURE, PRODUCTS, F3, F1, F3))
def sums(start, stop, s, products, Lambda, log_det, T):
    """Log det of M and what the levels explain of X and y, at theta ``start`` to ``stop``."""
    N, p = s.sizes[3], s.sizes[4]
    values, U, W = np.empty(s.offset[-1]), np.empty((N, N)), np.empty((p + 1, N))
    for k in range(start, stop):
        log_det[k] = factor(s, products, Lambda[k], values, U, W, T[k])


@compiled(types.void(I8, I8, STRUCTURE, PRODUCTS, F3, F2, F2, F2))
def deviations(start, stop, s, products, Lambda, beta, noise, out):
    """Deviations u (K, columns in the user's order) given beta; ``noise`` likewise, or (0, 0)."""
    N, p, total = s.sizes[3], s.sizes[4], s.first[-1]
    values, U, W = np.empty(s.offset[-1]), np.empty((N, N)), np.empty((p + 1, N))
    T, xy, v = np.empty((p + 1, p + 1)), np.empty((total, p + 1)), np.empty((total, 1))
    for k in range(start, stop):
        factor(s, products, Lambda[k], values, U, W, T)
        whitened_xy(s, values, W, xy)
        for c in range(total):
            x = xy[c, p]
            for r in range(p):
                x -= xy[c, r] * beta[k, r]
            v[c, 0] = x
        if len(noise):
            for f in range(len(s.q)):
                move = s.place[f] - s.first[f]
                for c in range(s.first[f], s.first[f + 1]):
                    v[c, 0] += noise[k, c + move]
        solve_fronts(s, values, U, v)
        unwhiten(s, Lambda[k], v[:, 0].copy(), out[k])


@compiled(types.void(F2, F2))
def invert_rest(U, inverse):
    """Inverse of U'U, for a small rest."""
    N = len(U)
    half = np.zeros((N, N))  # row i: U^-1, upper triangle
    for i in range(N - 1, -1, -1):
        half[i, i] = 1.0
        for c in range(i + 1, N):
            x = U[i, c]
            for d in range(c, N):
                half[i, d] -= x * half[c, d]
        scale = 1.0 / U[i, i]
        for d in range(i, N):
            half[i, d] *= scale
    for i in range(N):
        for j in range(i, N):
            x = 0.0
            for d in range(j, N):
                x += half[i, d] * half[j, d]
            inverse[i, j] = x
            inverse[j, i] = x


@compiled(types.void(F2))
def mirror(A):
    """The lower triangle of A becomes that of its upper one, tile by tile."""
    n, tile = len(A), 32
    for i in range(0, n, tile):
        for j in range(i, n, tile):
            for a in range(i, min(i + tile, n)):
                for b in range(max(j, a + 1), min(j + tile, n)):
                    A[b, a] = A[a, b]


@njit(inline="always")
def _gains(s, e, values, G):
    """G becomes F'^-1 H of front e, the columns of its neighbours."""
    q, o = s.q[s.front_factor[e]], s.offset[e]
    stop = s.offset[e + 1] - (s.sizes[4] + 1) * q - o
    for here in range(q * q, stop, q):
        for a in range(q - 1, -1, -1):
            x = values[o + here + a]
            for b in range(a + 1, q):
                x -= values[o + a * q + b] * G[here + b]
            G[here + a] = x / values[o + a * q + a]


@njit(inline="always")
def _select_neighbours(s, e, G, rest, selected):
    """Blocks of M^-1 between front e and its neighbours: -G times the neighbours' own block."""
    q, o, begin = s.q[s.front_factor[e]], s.offset[e], s.nb_start[e]
    count = s.nb_start[e + 1] - begin
    stop = s.offset[e + 1] - (s.sizes[4] + 1) * q
    for here in range(o + q * q, stop):
        selected[here] = 0.0
    for t in range(s.sizes[0] - 1 - s.front_factor[e]):
        qa, oa = s.q[s.nb_factor[begin + t]], s.offset[s.nb_front[begin + t]]
        own = s.nb_local[begin + t]
        for other in range(t, count):
            col = s.nb_local[begin + other]
            source = oa + s.ancestor_cols[s.map_start[e] + t * count + other] * qa
            for c in range(s.q[s.nb_factor[begin + other]]):
                for i in range(qa):
                    x = selected[source + c * qa + i]
                    for a in range(q):
                        selected[o + (col + c) * q + a] -= G[(own + i) * q + a] * x
                        if other > t:
                            selected[o + (own + i) * q + a] -= G[(col + c) * q + a] * x
    cols = s.rest_cols[s.rest_start[e] : s.rest_start[e + 1]]
    n = len(cols)
    first = stop - n * q
    for c in range(n):
        row = rest[cols[c]]
        for a in range(q):
            x = 0.0
            for d in range(n):
                x += G[first - o + d * q + a] * row[cols[d]]
            selected[first + c * q + a] -= x


@compiled(types.void(STRUCTURE, F1, F2, F1))
def select(s, values, rest, selected):
    """Blocks of M^-1 in the places of the blocks of M, from the inverse of the rest (N, N).

    Takahashi's recurrence, from the last front to the first. The places of X and y stay as they are.
    """
    largest, widest = 1, 1
    for e in range(s.sizes[1]):
        largest = max(largest, s.q[s.front_factor[e]])
        widest = max(widest, s.offset[e + 1] - s.offset[e])
    # Last front first: a front's block of the inverse needs those of its neighbours, which all come later.
    G, half = np.empty(widest), np.empty((largest, largest))
    for e in range(s.sizes[1] - 1, -1, -1):
        q, o = s.q[s.front_factor[e]], s.offset[e]
        stop = s.offset[e + 1] - (s.sizes[4] + 1) * q
        _gains(s, e, values, G)
        _select_neighbours(s, e, G, rest, selected)
        for c in range(q):  # half: F^-1
            for a in range(q):
                x = 1.0 if a == c else 0.0
                for b in range(c, a):
                    x -= values[o + b * q + a] * half[b, c]
                half[a, c] = x / values[o + a * q + a] if a >= c else 0.0
        for c in range(q):
            for a in range(q):
                x = 0.0
                for b in range(max(a, c), q):
                    x += half[b, a] * half[b, c]
                for here in range(o + q * q, stop, q):
                    x -= selected[here + a] * G[here - o + c]
                # The minus adds: selected holds -G times the neighbours' inverse.
                selected[o + c * q + a] = x


@njit(inline="always")
def _trace_block(raw, o, inverse, io, Lam, i, q, j, w, out, both):
    """Add A_ij Lam_j S_ji to block i of out, and A_ji Lam_i S_ij to block j."""
    for c in range(w):
        for d in range(w):
            lam = Lam[j + c, j + d]
            for a in range(q):
                for b in range(q):
                    out[i + a, i + b] += raw[o + c * q + a] * lam * inverse[io + d * q + b]
    if both:
        for c in range(q):
            for d in range(q):
                lam = Lam[i + c, i + d]
                for a in range(w):
                    for b in range(w):
                        out[j + a, j + b] += raw[o + a * q + c] * lam * inverse[io + b * q + d]


@compiled(types.void(STRUCTURE, PRODUCTS, F2, F1, F2, F2))
def trace_parts(s, products, Lam, selected, rest, out):
    """out (Q, Q) += the sums over levels of the diagonal blocks of Z'Z Lambda M^-1."""
    for e in range(s.sizes[1]):
        f, o = s.front_factor[e], s.offset[e]
        q, i = s.q[f], s.at[f]
        _trace_block(products.fronts, o, selected, o, Lam, i, q, i, q, out, False)
        for t in range(s.nb_start[e], s.nb_start[e + 1]):
            g, here = s.nb_factor[t], o + s.nb_local[t] * q
            j, w = s.at[g], s.q[g]
            _trace_block(products.fronts, here, selected, here, Lam, i, q, j, w, out, True)
    largest = 1
    for q in s.q:
        largest = max(largest, q)
    block = np.empty(largest * largest)
    for t in range(len(s.pair_row)):
        f, g = s.pair_rows_of[t], s.pair_cols_of[t]
        q, w, row, col = s.q[f], s.q[g], s.pair_row[t], s.pair_col[t]
        for c in range(w):
            for a in range(q):
                block[c * q + a] = rest[row + a, col + c]
        i, j, here = s.at[f], s.at[g], s.pair_offset[t]
        _trace_block(products.pairs, here, block, 0, Lam, i, q, j, w, out, row != col)


@compiled(types.void(STRUCTURE, F2, F1, F2, F1))
def diagonal_blocks(s, Lam, selected, rest, out):
    """Blocks Lambda [M^-1]_jj Lambda' of every level, (q, q) each, factors in internal order."""
    done = 0
    largest = 1
    for q in s.q:
        largest = max(largest, q)
    block = np.empty(largest * largest)
    for f in range(len(s.q)):
        q, i = s.q[f], s.at[f]
        front = 0
        while front < s.sizes[1] and s.front_factor[front] < f:
            front += 1
        for c in range(s.first[f], s.first[f + 1], q):
            for a in range(q):
                for b in range(q):
                    if f < s.sizes[0]:
                        block[b * q + a] = selected[s.offset[front] + b * q + a]
                    else:
                        block[b * q + a] = rest[c - s.sizes[2] + a, c - s.sizes[2] + b]
            front += 1
            for a in range(q):
                for b in range(q):
                    x = 0.0
                    for d in range(q):
                        for g in range(q):
                            x += Lam[i + a, i + d] * block[g * q + d] * Lam[i + b, i + g]
                    out[done + a * q + b] = x
            done += q * q
