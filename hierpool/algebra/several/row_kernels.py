"""Compiled loops over rows: each row, and the rows of each level, given all the others. Numba.

Symbols as in ``hierpool.algebra.several.kernels``.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from hierpool.algebra.gaussian import LOG_2PI
from hierpool.algebra.several.kernels import factor, invert_rest, select
from hierpool.algebra.several.solve_kernels import (
    F1,
    F2,
    F3,
    I8,
    PRODUCTS,
    STRUCTURE,
    solve_fronts,
    whitened_xy,
)
from hierpool.core.compiled import compiled

I1 = types.Array(I8, 1, "C")
I8_TABLE = types.Array(I8, 2, "C")
_ROWS = (
    F1,
    F2,
    F2,
    I8_TABLE,
    I8_TABLE,
)  # y (n,), X (n, p), Z (n, Q), and two tables of each row's levels


@compiled(types.void(STRUCTURE, F2, F1, F2, F2, F1, F2, *_ROWS, F1, F1))
def leave_row_out_density(
    s, Lam, selected, rest, solved, beta, R, y, X, Z, cols, blocks, leverage, residual
):  # fmt: skip
    """Leverages and residuals of rows at one theta.

    ``solved`` (columns of M, p + 1) is M_uu^-1 Lambda'Z'(X, y). ``cols`` (n, F) holds the first
    column of the level of each factor, ``blocks`` (n, F F) where chain factors' blocks of
    ``selected`` begin.
    """
    F, n_chain, start, p = len(s.q), s.sizes[0], s.sizes[2], s.sizes[4]
    a, t = np.empty(Z.shape[1]), np.empty(p)
    for i in range(len(y)):
        e, h = y[i], 0.0
        for r in range(p):
            t[r] = X[i, r]
            e -= X[i, r] * beta[r]
        for f in range(F):
            q, at = s.q[f], s.at[f]
            for c in range(q):
                x = 0.0
                for b in range(q):
                    x += Lam[at + b, at + c] * Z[i, at + b]
                a[at + c] = x
                row = cols[i, f] + c
                e -= x * solved[row, p]
                for r in range(p):
                    t[r] -= x * solved[row, r]
                    e += x * solved[row, r] * beta[r]
        for f in range(F):
            q, at = s.q[f], s.at[f]
            for g in range(f, F):
                w, other, x = s.q[g], s.at[g], 0.0
                for c in range(w):
                    for b in range(q):
                        if f < n_chain:
                            value = selected[blocks[i, f * F + g] + c * q + b]
                        else:
                            value = rest[cols[i, f] - start + b, cols[i, g] - start + c]
                        x += a[at + b] * value * a[other + c]
                h += x if f == g else 2.0 * x
        for r in range(p):
            x = t[r]
            for c in range(r):
                x -= R[r, c] * t[c]
            t[r] = x / R[r, r]
            h += t[r] * t[r]
        leverage[i] = h
        residual[i] = e


@compiled(types.void(I8, I8, STRUCTURE, PRODUCTS, F3, F2, F3, *_ROWS, F2, F2))
def judge_many(
    start, stop, s, products, Lambda, beta, R, y, X, Z, cols, blocks, leverage, residual
):  # fmt: skip
    """Leverages and residuals (K, n) at theta ``start`` to ``stop``, for a small rest."""
    N, p, total = s.sizes[3], s.sizes[4], s.first[-1]
    values, U, W = np.empty(s.offset[-1]), np.empty((N, N)), np.empty((p + 1, N))
    T, solved = np.empty((p + 1, p + 1)), np.empty((total, p + 1))
    selected, rest = np.empty(s.offset[-1]), np.empty((N, N))
    for k in range(start, stop):
        factor(s, products, Lambda[k], values, U, W, T)
        whitened_xy(s, values, W, solved)
        solve_fronts(s, values, U, solved)
        invert_rest(U, rest)
        select(s, values, rest, selected)
        leave_row_out_density(
            s, Lambda[k], selected, rest, solved, beta[k], R[k], y, X, Z, cols, blocks,
            leverage[k], residual[k],
        )  # fmt: skip


@njit(inline="always")
def _half_row(s, Lam, values, Z, cols, i, y, w, t):
    """Solve row i forward through the chain: y (chain's columns), w (N), t (p) what is left of X."""
    n_chain, start, p = s.sizes[0], s.sizes[2], s.sizes[4]
    for f in range(len(s.q)):
        q, at = s.q[f], s.at[f]
        for c in range(q):
            x = 0.0
            for b in range(q):
                x += Lam[at + b, at + c] * Z[i, at + b]
            if f < n_chain:
                y[at + c] = x
            else:
                w[cols[i, f] - start + c] = x
    for f in range(n_chain):
        q, at = s.q[f], s.at[f]
        e = s.first_front[f] + (cols[i, f] - s.first[f]) // q
        o, begin = s.offset[e], s.nb_start[e]
        for a in range(q):
            x = y[at + a]
            for b in range(a):
                x -= values[o + b * q + a] * y[at + b]
            y[at + a] = x / values[o + a * q + a]
        for k in range(begin, s.nb_start[e + 1]):
            g, here = s.nb_factor[k], o + s.nb_local[k] * q
            for c in range(s.q[g]):
                x = 0.0
                for a in range(q):
                    x += values[here + c * q + a] * y[at + a]
                if g < n_chain:
                    y[s.at[g] + c] -= x
                else:
                    w[s.nb_col[k] - start + c] -= x
        here = s.offset[e + 1] - (p + 1) * q
        for r in range(p):
            for a in range(q):
                t[r] -= values[here + r * q + a] * y[at + a]


@njit(inline="always")
def _joint_leverage(s, cols, first, rest, y, w, t, support, touched, n_touched, kept, H):
    """Lower triangle of I - H for the rows of one level, from their halves.

    ``support`` has the columns of the rest that any of the rows touches, ``touched`` those of each.
    """
    m, n_chain = len(H), s.sizes[0]
    for i in range(m):
        for c in support:
            kept[c] = 0.0
        for d in touched[i, : n_touched[i]]:
            x, row = w[i, d], rest[d]
            for c in support:
                kept[c] += x * row[c]
        for k in range(i + 1):
            h = 1.0 if i == k else 0.0
            for c in touched[k, : n_touched[k]]:
                h -= kept[c] * w[k, c]
            for f in range(n_chain):
                if cols[first + i, f] == cols[first + k, f]:
                    for a in range(s.at[f], s.at[f] + s.q[f]):
                        h -= y[i, a] * y[k, a]
            for r in range(t.shape[1]):
                h -= t[i, r] * t[k, r]
            H[i, k] = h


@njit(inline="always")
def _log_density(H, e):
    """Half the log det of I - H, and e'(I - H)^-1 e; H and e are overwritten."""
    m, half, squares = len(H), 0.0, 0.0
    for i in range(m):
        for k in range(i):
            x = H[i, k]
            for d in range(k):
                x -= H[i, d] * H[k, d]
            H[i, k] = x / H[k, k]
        x = H[i, i]
        for d in range(i):
            x -= H[i, d] * H[i, d]
        H[i, i] = np.sqrt(x)
        half += 0.5 * np.log(x)
        x = e[i]
        for d in range(i):
            x -= H[i, d] * e[d]
        e[i] = x / H[i, i]
        squares += e[i] * e[i]
    return half, squares


# starts (J + 1,), rows and squares of the response that compression left out (J,), y, X, Z, cols
_LEVELS = (I1, F1, F1, F1, F2, F2, I8_TABLE)


@compiled(types.void(STRUCTURE, F2, F1, F2, F2, types.float64, F1, F2, *_LEVELS, I8, F2))
def leave_level_out_density(
    s, Lam, values, rest, solved, sigma, beta, R, starts, n_rows, left_out, y, X, Z, cols, k, out
):
    """Column k of out (J, K): log density of the rows of each level given all others, at one theta.

    Rows are sorted by level; level j has ``starts[j]`` to ``starts[j + 1]``.
    """
    F, start, N, p = len(s.q), s.sizes[2], s.sizes[3], s.sizes[4]
    most = 0
    for j in range(len(starts) - 1):
        most = max(most, starts[j + 1] - starts[j])
    w, half = np.zeros((most, N)), np.zeros((most, Z.shape[1]))
    t, e, H = np.empty((most, p)), np.empty(most), np.empty((most, most))
    kept, support, is_in = np.empty(N), np.empty(N, np.int64), np.zeros(N, np.bool_)
    touched, n_touched = np.empty((most, N), np.int64), np.zeros(most, np.int64)
    precision = 1.0 / (sigma * sigma)
    for j in range(len(starts) - 1):
        first, m = starts[j], starts[j + 1] - starts[j]
        for i in range(m):
            row = first + i
            for r in range(p):
                t[i, r] = X[row, r]
            _half_row(s, Lam, values, Z, cols, row, half[i], w[i], t[i])
            e[i] = y[row]
            for r in range(p):
                e[i] -= X[row, r] * beta[r]
            for f in range(F):
                at, q = s.at[f], s.q[f]
                for c in range(q):
                    v = solved[cols[row, f] + c, p]
                    for r in range(p):
                        v -= solved[cols[row, f] + c, r] * beta[r]
                    for b in range(q):
                        e[i] -= Z[row, at + b] * Lam[at + b, at + c] * v
        n = 0
        for i in range(m):
            n_touched[i] = 0
            for c in range(N):
                if w[i, c] != 0.0:
                    touched[i, n_touched[i]] = c
                    n_touched[i] += 1
                    for r in range(p):
                        t[i, r] -= w[i, c] * solved[start + c, r]
                    if not is_in[c]:
                        is_in[c] = True
                        support[n] = c
                        n += 1
            for r in range(p):
                x = t[i, r]
                for d in range(r):
                    x -= R[r, d] * t[i, d]
                t[i, r] = x / R[r, r]
        _joint_leverage(
            s, cols, first, rest, half, w, t[:m], support[:n], touched, n_touched, kept, H[:m, :m]
        )
        log_det, squares = _log_density(H[:m, :m], e[:m])
        for c in support[:n]:
            is_in[c] = False
            for i in range(m):
                w[i, c] = 0.0
        out[j, k] = (
            log_det
            - n_rows[j] * (0.5 * LOG_2PI + np.log(sigma))
            - 0.5 * (squares + left_out[j]) * precision
        )


@compiled(types.void(I8, I8, STRUCTURE, PRODUCTS, F3, F1, F2, F3, *_LEVELS, F2))
def judge_levels_many(
    start, stop, s, products, Lambda, sigma, beta, R,
    starts, n_rows, left_out, y, X, Z, cols, out,
):  # fmt: skip
    """As ``judge_levels`` at theta ``start`` to ``stop``, for a small rest."""
    N, p, total = s.sizes[3], s.sizes[4], s.first[-1]
    values, U, W = np.empty(s.offset[-1]), np.empty((N, N)), np.empty((p + 1, N))
    T, solved = np.empty((p + 1, p + 1)), np.empty((total, p + 1))
    rest = np.empty((N, N))
    for k in range(start, stop):
        factor(s, products, Lambda[k], values, U, W, T)
        whitened_xy(s, values, W, solved)
        solve_fronts(s, values, U, solved)
        invert_rest(U, rest)
        leave_level_out_density(
            s, Lambda[k], values, rest, solved, sigma[k], beta[k], R[k],
            starts, n_rows, left_out, y, X, Z, cols, k, out,
        )  # fmt: skip
