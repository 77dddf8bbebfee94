"""Compiled loops over levels and rows for designs that cannot be compressed. Numba, cached on disk.

``hierpool.algebra.gaussian`` has the same algebra in numpy and is the judge of these. Each value of
theta is worked by one thread from beginning to end, sums over levels in their order: the same
seed gives the same draws on one thread and on two.

Symbols as in ``hierpool.algebra.gaussian``; D is a level's design, u its index.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

import numpy as np

from hierpool.core.compiled import compiled
from hierpool.core.threads import over_pieces, over_threads


@compiled("f8(f8)")
def log_near_one(x):
    """log(x) for 0.5 <= x <= 2, as 2 artanh((x - 1) / (x + 1))."""
    s = (x - 1.0) / (x + 1.0)
    q = s * s
    p = 1 / 29.0
    p = p * q + 1 / 27.0
    p = p * q + 1 / 25.0
    p = p * q + 1 / 23.0
    p = p * q + 1 / 21.0
    p = p * q + 1 / 19.0
    p = p * q + 1 / 17.0
    p = p * q + 1 / 15.0
    p = p * q + 1 / 13.0
    p = p * q + 1 / 11.0
    p = p * q + 1 / 9.0
    p = p * q + 1 / 7.0
    p = p * q + 1 / 5.0
    p = p * q + 1 / 3.0
    p = p * q + 1.0
    return 2.0 * s * p


HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)
_WIDTH = 64  # values of theta worked side by side
_PIECE = 256  # rows that one thread takes at a time
_ALONE = 64  # values of theta that one thread does by itself


@compiled("f8(f8[:,::1], f8[:,::1], f8[:,::1])")
def _factor(A, Lam, L):
    """L becomes the Cholesky factor of Lam'A Lam + I; returns the product of its diagonal."""
    q = Lam.shape[0]
    product = 1.0
    for i in range(q):
        for j in range(i + 1):
            value = 1.0 if i == j else 0.0
            for a in range(q):
                inner = 0.0
                for b in range(q):
                    inner += A[a, b] * Lam[b, j]
                value += Lam[a, i] * inner
            for m in range(j):
                value -= L[i, m] * L[j, m]
            if i == j:
                L[i, i] = np.sqrt(value)
                product *= L[i, i]
            else:
                L[i, j] = value / L[j, j]
    return product


@compiled("void(f8[:,::1], f8[:,::1], f8[:], f8[::1])")
def _whiten(L, Lam, column, out):
    """out becomes L^-1 Lam' column."""
    q = Lam.shape[0]
    for i in range(q):
        value = 0.0
        for a in range(q):
            value += Lam[a, i] * column[a]
        for m in range(i):
            value -= L[i, m] * out[m]
        out[i] = value / L[i, i]


@compiled(
    "void(i8, i8, b1, f8[:,:,::1], f8[:,:,::1], f8[:,:,::1], f8[::1], f8[::1],"
    "f8[:,:,::1], f8[:,::1], f8[::1])",
)
def _level_sums(start, stop, is_lower, Lambda, A, columns, counts, log_det, GG, Gg, squared):
    # theta runs in the innermost loops, _WIDTH values at a time: the compiler vectorises them.
    # columns (U, q, p + 1 + r) holds C, b_sum and b_root side by side; Lambda is (q, q, K).
    U, q, p = len(A), A.shape[1], len(Gg)
    width = columns.shape[2]
    L, G = np.empty((q, q, _WIDTH)), np.empty((p + 1, q, _WIDTH))
    t, inverse, product = np.empty(_WIDTH), np.empty((q, _WIDTH)), np.empty(_WIDTH)
    for first in range(start, stop, _WIDTH):
        w = min(_WIDTH, stop - first)
        for u in range(U):
            count = counts[u]
            for k in range(w):
                product[k] = 1.0
            for i in range(q):
                for j in range(i + 1):
                    for k in range(w):
                        t[k] = 1.0 if i == j else 0.0
                    for a in range(i if is_lower else 0, q):
                        for c in range(j if is_lower else 0, q):
                            x = A[u, a, c]
                            for k in range(w):
                                t[k] += Lambda[a, i, first + k] * x * Lambda[c, j, first + k]
                    for m in range(j):
                        for k in range(w):
                            t[k] -= L[i, m, k] * L[j, m, k]
                    if i == j:
                        for k in range(w):
                            root = np.sqrt(t[k])
                            product[k] *= root
                            inverse[i, k] = 1.0 / root
                            L[i, i, k] = root
                    else:
                        for k in range(w):
                            L[i, j, k] = t[k] * inverse[j, k]
            for k in range(w):
                log_det[first + k] += 2.0 * count * np.log(product[k])
            for c in range(width):
                g = min(c, p)  # rows 0..p-1 of G keep C whitened; row p is reused by the others
                for i in range(q):
                    for k in range(w):
                        t[k] = 0.0
                    for a in range(i if is_lower else 0, q):
                        x = columns[u, a, c]
                        for k in range(w):
                            t[k] += Lambda[a, i, first + k] * x
                    for m in range(i):
                        for k in range(w):
                            t[k] -= L[i, m, k] * G[g, m, k]
                    for k in range(w):
                        G[g, i, k] = t[k] * inverse[i, k]
                if c == p:
                    for d in range(p):
                        for a in range(q):
                            for k in range(w):
                                Gg[d, first + k] += G[d, a, k] * G[p, a, k]
                elif c > p:
                    for a in range(q):
                        for k in range(w):
                            squared[first + k] += G[p, a, k] * G[p, a, k]
            for c in range(p):
                for d in range(c + 1):
                    for a in range(q):
                        for k in range(w):
                            GG[c, d, first + k] += count * G[c, a, k] * G[d, a, k]
        for c in range(p):
            for d in range(c):
                for k in range(w):
                    GG[d, c, first + k] = GG[c, d, first + k]


def level_sums(
    Lambda: np.ndarray, A: np.ndarray, columns: np.ndarray, counts: np.ndarray, p: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the levels contribute at K values of theta.

    ``columns`` (U, q, p + 1 + r) holds C, b_sum and b_root side by side, ``counts`` (U,) floats.
    Returns, theta last: log det of the levels' blocks (K,), sums of G'G (p, p, K) and of G'g
    (p, K), and of g'g (K,), with g = L^-1 Lambda'b.
    """
    K = len(Lambda)
    log_det, squared = np.zeros(K), np.zeros(K)
    GG, Gg = np.zeros((p, p, K)), np.zeros((p, K))
    is_lower = not np.triu(Lambda, 1).any()
    last = np.ascontiguousarray(np.moveaxis(Lambda, 0, -1))
    over_threads(_level_sums, K, is_lower, last, A, columns, counts, log_det, GG, Gg, squared)
    return log_det, GG, Gg, squared


@compiled(
    "void(f8, f8, f8[::1], f8[:,::1], f8[::1], f8[:,::1], f8[::1], f8[::1], f8[::1], f8[:,:,::1],"
    "f8[:,::1], f8[::1], f8[::1])",
)
def _log_density(
    rows, constant, fixed, XX, Xy, precision, weighted_mean, sigma, log_det, GG, Gg, squared, out
):  # fmt: skip
    # fixed: yy and m0'P0 m0; rows: n - p; constant: what does not depend on theta
    p = len(Xy)
    R, half = np.empty((p, p)), np.empty(p)
    for k in range(len(sigma)):
        variance = sigma[k] * sigma[k]
        determinant, explained = log_det[k], squared[k]
        for i in range(p):
            right = Xy[i] + variance * weighted_mean[i] - Gg[i, k]
            for j in range(i + 1):
                value = XX[i, j] + variance * precision[i, j] - GG[i, j, k]
                for m in range(j):
                    value -= R[i, m] * R[j, m]
                if i == j:
                    R[i, i] = np.sqrt(value)
                    determinant += np.log(value)
                else:
                    R[i, j] = value / R[j, j]
            for m in range(i):
                right -= R[i, m] * half[m]
            half[i] = right / R[i, i]
            explained += half[i] * half[i]
        penalized = fixed[0] + variance * fixed[1] - explained
        out[k] = constant - 0.5 * (2 * rows * np.log(sigma[k]) + determinant + penalized / variance)


def log_density(
    sigma: np.ndarray,
    sums: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    XX: np.ndarray,
    Xy: np.ndarray,
    precision: np.ndarray,
    weighted_mean: np.ndarray,
    fixed: np.ndarray,
    rows: float,
    constant: float,
) -> np.ndarray:
    """Shape (K,): ``gaussian.Marginal.log_density`` from what ``level_sums`` returns.

    ``fixed`` is (yy, m0'P0 m0), ``rows`` n - p, ``constant`` what does not depend on theta. NaN
    where the population part is not positive definite.
    """
    out = np.empty(len(sigma))
    arrays = _dense(XX, Xy, precision, weighted_mean, sigma)
    XX, Xy, precision, weighted_mean, sigma = arrays
    _log_density(rows, constant, fixed, XX, Xy, precision, weighted_mean, sigma, *sums, out)
    return out


@compiled(
    "void(b1, f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], i8[::1],"
    "i8[::1], f8[::1], f8[:,:,::1], f8[:,::1], f8[:,::1], f8[:,:,:], f8[:,:,:])",
)
def _level_coefficients(
    is_lower, Lambda, root, beta, A, C, b, by_design, starts, sigma, noise, shift, population,
    u_out, coef_out,
):  # fmt: skip
    # theta in the innermost loops as in _level_sums; root (q, q, w) is Lambda in the user's coding
    U, q, p, w = len(A), A.shape[1], C.shape[2], len(sigma)
    is_noisy, has_coef = noise.shape[0] > 0, coef_out.shape[0] > 0
    L, inverse = np.empty((q, q, w)), np.empty((q, w))
    mean, left, v, t = np.empty((q, w)), np.empty((q, w)), np.empty((q, w)), np.empty(w)
    for d in range(U):
        for i in range(q):
            for j in range(i + 1):
                for k in range(w):
                    t[k] = 1.0 if i == j else 0.0
                for a in range(i if is_lower else 0, q):
                    for c in range(j if is_lower else 0, q):
                        x = A[d, a, c]
                        for k in range(w):
                            t[k] += Lambda[a, i, k] * x * Lambda[c, j, k]
                for m in range(j):
                    for k in range(w):
                        t[k] -= L[i, m, k] * L[j, m, k]
                for k in range(w):
                    if i == j:
                        L[i, i, k] = np.sqrt(t[k])
                        inverse[i, k] = 1.0 / L[i, i, k]
                    else:
                        L[i, j, k] = t[k] * inverse[j, k]
        for a in range(q):
            for k in range(w):
                mean[a, k] = 0.0
            for c in range(p):
                x = C[d, a, c]
                for k in range(w):
                    mean[a, k] += x * beta[c, k]
        for position in range(starts[d], starts[d + 1]):
            j = by_design[position]
            for a in range(q):
                x = b[j, a]
                for k in range(w):
                    left[a, k] = x - mean[a, k]
            for a in range(q):
                for k in range(w):
                    t[k] = 0.0
                for m in range(a if is_lower else 0, q):
                    for k in range(w):
                        t[k] += Lambda[m, a, k] * left[m, k]
                for m in range(a):
                    for k in range(w):
                        t[k] -= L[a, m, k] * v[m, k]
                for k in range(w):
                    v[a, k] = t[k] * inverse[a, k]
            if is_noisy:
                for a in range(q):
                    for k in range(w):
                        v[a, k] += sigma[k] * noise[j, a, k]
            for a in range(q - 1, -1, -1):
                for m in range(a + 1, q):
                    for k in range(w):
                        v[a, k] -= L[m, a, k] * v[m, k]
                for k in range(w):
                    v[a, k] *= inverse[a, k]
            for a in range(q):
                for k in range(w):
                    t[k] = shift[a, k]
                for m in range(q):
                    for k in range(w):
                        t[k] += root[a, m, k] * v[m, k]
                for k in range(w):
                    u_out[k, j, a] = t[k]
                if has_coef:
                    for k in range(w):
                        coef_out[k, j, a] = t[k] + population[a, k]


def level_coefficients(
    Lambda: np.ndarray,
    beta: np.ndarray,
    A: np.ndarray,
    C: np.ndarray,
    b: np.ndarray,
    design_of: np.ndarray,
    sigma: np.ndarray,
    rng: np.random.Generator | None,
    into_user: np.ndarray,
    shift: np.ndarray,
    population: np.ndarray,
    u_out: np.ndarray,
    coef_out: np.ndarray,
) -> None:
    """Fill ``u_out`` (K, J, q) with user_u = into_user u + shift, u drawn given theta and beta.

    ``coef_out`` becomes ``u_out`` + ``population`` (K, q), unless its shape is (0, 0, 0). Without
    a generator conditional means take the place of draws.
    """
    order = np.argsort(design_of, kind="stable").astype(np.int64)
    starts = np.searchsorted(design_of[order], np.arange(len(A) + 1)).astype(np.int64)
    fixed = [*_dense(A, C, b), order, starts]
    is_lower = not np.triu(Lambda, 1).any()
    noise = np.zeros((0, 0, 0))
    for first in range(0, len(beta), _WIDTH):
        some = slice(first, first + _WIDTH)
        moved = [
            np.moveaxis(a, 0, -1) for a in (Lambda[some], into_user @ Lambda[some], beta[some])
        ]
        by_draw = _dense(sigma[some], shift[some].T, population[some].T)
        if rng is not None:
            noise = rng.standard_normal((*b.shape, len(by_draw[0])))
        coef = coef_out[some] if len(coef_out) else coef_out
        _level_coefficients(
            is_lower, *_dense(*moved), *fixed, by_draw[0], noise, *by_draw[1:], u_out[some], coef
        )


@compiled(
    "void(i8, i8, f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1],"
    "i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], f8[::1], f8[:,::1], f8[:,::1],"
    "f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1])",
)
def _leave_one_out(
    start, stop, sigma, Lambda, R, beta, A, C, b, design_levels, design_patterns,
    levels, level_rows, rows, pattern, y, X, Z, pattern_X, pattern_Z, mean, sd,
):  # fmt: skip
    U, q, p = len(A), pattern_Z.shape[1], pattern_X.shape[1]
    L, G = np.empty((q, q)), np.empty((p, q))
    v, u, a, t = np.empty(q), np.empty(q), np.empty(q), np.empty(p)
    left = np.empty(len(pattern_X))
    for k in range(start, stop):
        Lam = Lambda[k]
        for d in range(U):
            if q > 0:
                _factor(A[d], Lam, L)
            for c in range(p if q > 0 else 0):
                _whiten(L, Lam, C[d, :, c], G[c])
            for i in range(design_patterns[d], design_patterns[d + 1]):
                leverage = 0.0
                if q > 0:
                    _whiten(L, Lam, pattern_Z[i], a)
                for m in range(q):
                    leverage += a[m] * a[m]
                for c in range(p):
                    value = pattern_X[i, c]
                    for m in range(q):
                        value -= G[c, m] * a[m]
                    for m in range(c):
                        value -= R[k, c, m] * t[m]
                    t[c] = value / R[k, c, c]
                    leverage += t[c] * t[c]
                left[i] = 1.0 - leverage
            for position in range(design_levels[d], design_levels[d + 1]):
                j = levels[position]
                if q > 0:
                    _whiten(L, Lam, b[j], v)
                    for m in range(q):
                        for c in range(p):
                            v[m] -= G[c, m] * beta[k, c]
                    for m in range(q - 1, -1, -1):
                        for r in range(m + 1, q):
                            v[m] -= L[r, m] * v[r]
                        v[m] /= L[m, m]
                    for m in range(q):
                        u[m] = 0.0
                        for r in range(q):
                            u[m] += Lam[m, r] * v[r]
                for place in range(level_rows[position], level_rows[position + 1]):
                    i = rows[place]
                    residual = y[i]
                    for m in range(q):
                        residual -= Z[i, m] * u[m]
                    for c in range(p):
                        residual -= X[i, c] * beta[k, c]
                    kept = left[pattern[i]]
                    mean[k, i] = y[i] - residual / kept
                    sd[k, i] = sigma[k] / np.sqrt(kept)


@dataclass(frozen=True)
class RowPlan:
    """Rows in the order of their levels' designs; equal rows of equal designs share a leverage.

    Attributes
    ----------
    designs
        The designs that have rows here.
    design_levels, design_patterns
        Shape (designs + 1,): where each of them begins in ``levels`` and among the patterns.
    levels
        Levels that have rows here, design after design.
    level_rows
        Shape (levels + 1,): where each of them begins in ``rows``.
    rows
        Rows, level after level.
    pattern
        Shape (n,): pattern of each row.
    pattern_X, pattern_Z
        Columns of each pattern, sorted by design.
    """

    designs: np.ndarray
    design_levels: np.ndarray
    design_patterns: np.ndarray
    levels: np.ndarray
    level_rows: np.ndarray
    rows: np.ndarray
    pattern: np.ndarray
    pattern_X: np.ndarray
    pattern_Z: np.ndarray

    @classmethod
    def from_rows(
        cls, X: np.ndarray, Z: np.ndarray, codes: np.ndarray, design_of: np.ndarray
    ) -> RowPlan:
        """Plan for rows with columns X (n, p) and Z (n, q) and levels ``codes`` (n,)."""
        of_row = design_of[codes] if len(design_of) else np.zeros(len(X), dtype=np.intp)
        rows = np.lexsort((codes, of_row))
        levels, first = _runs(codes[rows])
        level_designs = (
            design_of[levels] if len(design_of) else np.zeros(len(levels), dtype=np.intp)
        )
        labelled = np.hstack([of_row[:, None], X, Z])
        _, chosen, pattern = np.unique(labelled, axis=0, return_index=True, return_inverse=True)
        designs = np.unique(of_row)
        edges = np.append(designs, designs.max(initial=-1) + 1)
        return cls(
            designs,
            np.searchsorted(level_designs, edges),
            np.searchsorted(of_row[chosen], edges),
            levels,
            np.append(first, len(rows)),
            rows,
            pattern.reshape(-1),
            X[chosen],
            Z[chosen],
        )


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The value of each run of equal neighbours, and where it begins."""
    begins = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[begins], begins


def leave_one_out(
    sigma: np.ndarray,
    Lambda: np.ndarray,
    R: np.ndarray,
    beta: np.ndarray,
    A: np.ndarray,
    C: np.ndarray,
    b: np.ndarray,
    plan: RowPlan,
    y: np.ndarray,
    X: np.ndarray,
    Z: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of each row given all others at K values of theta: two arrays (K, n).

    Without a factor A, C and b have one empty design.
    """
    K, n, p = len(Lambda), len(y), plan
    mean, sd = np.empty((K, n)), np.empty((K, n))
    order = [p.design_levels, p.design_patterns, p.levels, p.level_rows, p.rows, p.pattern]
    integers = [np.ascontiguousarray(a, dtype=np.int64) for a in order]
    arrays = _dense(sigma, Lambda, R, beta, A[p.designs], C[p.designs], b)
    columns = _dense(y, X, Z, p.pattern_X, p.pattern_Z)
    over_threads(_leave_one_out, K, *arrays, *integers, *columns, mean, sd)
    return mean, sd


@compiled(
    "void(i8, i8, b1, i8, i8[::1], i8[::1], i8[::1], f8[::1], f8[::1], f8[:,:,::1], f8[:,:,::1],"
    "f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[::1], f8[:,::1], f8[:,::1], f8[:,::1])",
)
def _row_densities(
    start, stop, is_lower, d, levels, level_rows, rows, precision, constant, Lambda, R, beta,
    A, C, b, y, X, Z, out,
):  # fmt: skip
    # Log densities (rows, K) of the levels start..stop of ``levels``, all of design d; theta in the
    # innermost loops as in _level_sums. Lambda (q, q, K), R (p, p, K) with its diagonal inverted,
    # beta (p, K); precision 1 / sigma^2, constant - log sigma - log(2 pi) / 2.
    q, p, K = A.shape[1], C.shape[2], len(precision)
    L, inverse, G = np.empty((q, q, _WIDTH)), np.empty((q, _WIDTH)), np.empty((p, q, _WIDTH))
    t, v, u = np.empty(_WIDTH), np.empty((q, _WIDTH)), np.empty((q, _WIDTH))
    s, leverage, residual = np.empty((p, _WIDTH)), np.empty(_WIDTH), np.empty(_WIDTH)
    for first in range(0, K, _WIDTH):
        w = min(_WIDTH, K - first)
        for i in range(q):
            for j in range(i + 1):
                for k in range(w):
                    t[k] = 1.0 if i == j else 0.0
                for a in range(i if is_lower else 0, q):
                    for c in range(j if is_lower else 0, q):
                        x = A[d, a, c]
                        for k in range(w):
                            t[k] += Lambda[a, i, first + k] * x * Lambda[c, j, first + k]
                for m in range(j):
                    for k in range(w):
                        t[k] -= L[i, m, k] * L[j, m, k]
                for k in range(w):
                    if i == j:
                        L[i, i, k] = np.sqrt(t[k])
                        inverse[i, k] = 1.0 / L[i, i, k]
                    else:
                        L[i, j, k] = t[k] * inverse[j, k]
        for c in range(p):
            for i in range(q):
                for k in range(w):
                    t[k] = 0.0
                for a in range(i if is_lower else 0, q):
                    x = C[d, a, c]
                    for k in range(w):
                        t[k] += Lambda[a, i, first + k] * x
                for m in range(i):
                    for k in range(w):
                        t[k] -= L[i, m, k] * G[c, m, k]
                for k in range(w):
                    G[c, i, k] = t[k] * inverse[i, k]
        for position in range(start, stop):
            j = levels[position]
            for i in range(q):
                for k in range(w):
                    t[k] = 0.0
                for a in range(i if is_lower else 0, q):
                    x = b[j, a]
                    for k in range(w):
                        t[k] += Lambda[a, i, first + k] * x
                for m in range(i):
                    for k in range(w):
                        t[k] -= L[i, m, k] * v[m, k]
                for k in range(w):
                    v[i, k] = t[k] * inverse[i, k]
            for i in range(q):
                for c in range(p):
                    for k in range(w):
                        v[i, k] -= G[c, i, k] * beta[c, first + k]
            for i in range(q - 1, -1, -1):
                for m in range(i + 1, q):
                    for k in range(w):
                        v[i, k] -= L[m, i, k] * v[m, k]
                for k in range(w):
                    v[i, k] *= inverse[i, k]
            for i in range(q):
                for k in range(w):
                    u[i, k] = 0.0
                for m in range(i + 1 if is_lower else q):
                    for k in range(w):
                        u[i, k] += Lambda[i, m, first + k] * v[m, k]
            for place in range(level_rows[position], level_rows[position + 1]):
                r = rows[place]
                for k in range(w):
                    leverage[k] = 0.0
                    residual[k] = y[r]
                for i in range(q):
                    x = Z[r, i]
                    for k in range(w):
                        residual[k] -= x * u[i, k]
                for i in range(q):
                    for k in range(w):
                        t[k] = 0.0
                    for a in range(i if is_lower else 0, q):
                        x = Z[r, a]
                        for k in range(w):
                            t[k] += Lambda[a, i, first + k] * x
                    for m in range(i):
                        for k in range(w):
                            t[k] -= L[i, m, k] * v[m, k]
                    for k in range(w):
                        v[i, k] = t[k] * inverse[i, k]
                        leverage[k] += v[i, k] * v[i, k]
                for c in range(p):
                    x = X[r, c]
                    for k in range(w):
                        residual[k] -= x * beta[c, first + k]
                        t[k] = x
                    for m in range(q):
                        for k in range(w):
                            t[k] -= G[c, m, k] * v[m, k]
                    for m in range(c):
                        for k in range(w):
                            t[k] -= R[c, m, first + k] * s[m, k]
                    for k in range(w):
                        s[c, k] = t[k] * R[c, c, first + k]
                        leverage[k] += s[c, k] * s[c, k]
                large = 0
                for k in range(w):
                    large += leverage[k] > 0.5
                if large == 0:
                    for k in range(w):
                        t[k] = log_near_one(1.0 - leverage[k])
                else:
                    for k in range(w):
                        t[k] = np.log(1.0 - leverage[k])
                for k in range(w):
                    scaled = residual[k] * residual[k] * precision[first + k]
                    out[r, first + k] = constant[first + k] + 0.5 * (
                        t[k] - scaled / (1.0 - leverage[k])
                    )


def row_densities(
    sigma: np.ndarray,
    Lambda: np.ndarray,
    R: np.ndarray,
    beta: np.ndarray,
    A: np.ndarray,
    C: np.ndarray,
    b: np.ndarray,
    plan: RowPlan,
    y: np.ndarray,
    X: np.ndarray,
    Z: np.ndarray,
) -> np.ndarray:
    """Log density of each row given all others at K values of theta, shape (n, K).

    The densities that belong to ``leave_one_out``, a point's draws side by side as importance
    sampling reads them.
    """
    out = np.empty((len(y), len(sigma)))
    is_lower = not np.triu(Lambda, 1).any()
    moved = [np.moveaxis(a, 0, -1).copy() for a in (Lambda, R, beta)]
    diagonal = np.arange(R.shape[-1])
    moved[1][diagonal, diagonal] = 1.0 / moved[1][diagonal, diagonal]
    scales = 1.0 / sigma**2, -np.log(sigma) - HALF_LOG_2PI
    integers = [np.asarray(a, dtype=np.int64) for a in (plan.levels, plan.level_rows, plan.rows)]
    arrays = _dense(*integers, *scales, *moved, A[plan.designs], C[plan.designs], b, y, X, Z)
    units = _units(plan)

    def work(run: tuple[int, int]) -> None:
        for d, a, z in units[slice(*run)]:
            _row_densities(a, z, is_lower, d, *arrays, out)

    n_runs = 4 * min(os.cpu_count() or 1, len(units))
    edges = np.linspace(0, len(units), n_runs + 1).astype(int).tolist()
    over_pieces(work, list(itertools.pairwise(edges)))
    return out


def _units(plan: RowPlan) -> list[tuple[int, int, int]]:
    """(design, first level, last level + 1) of pieces of about _PIECE rows."""
    units = []
    for d, (a, z) in enumerate(itertools.pairwise(plan.design_levels.tolist())):
        start = a
        for position in range(a, z):
            if plan.level_rows[position + 1] - plan.level_rows[start] >= _PIECE:
                units.append((d, start, position + 1))
                start = position + 1
        if start < z:
            units.append((d, start, z))
    return units


@compiled(
    "void(i8, i8, f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[::1], f8[:,:,::1], f8[:,:,::1],"
    "f8[:,::1], f8[:,:,::1], f8[:,::1], f8[::1], f8[::1], f8[:,::1])",
)
def _leave_level_out(start, stop, sigma, Lambda, S, s, total, A, C, b, XX, Xy, yy, n_rows, out):
    J, q, p = len(b), b.shape[1], XX.shape[1]
    L, G, g = np.empty((q, q)), np.empty((p, q)), np.empty(q)
    R, t = np.empty((p, p)), np.empty(p)
    for k in range(start, stop):
        Lam, log_sigma, precision = Lambda[k], np.log(sigma[k]), 1.0 / sigma[k] ** 2
        for j in range(J):
            # half the change of the log dets, of the sum of squares, when level j goes
            log_det, squares = 0.0, yy[j]
            if q > 0:
                log_det += np.log(_factor(A[j], Lam, L))
                for c in range(p):
                    _whiten(L, Lam, C[j, :, c], G[c])
                _whiten(L, Lam, b[j], g)
                for a in range(q):
                    squares -= g[a] * g[a]
            left = 0.0
            for c in range(p):
                right = s[k, c] - Xy[j, c]
                for a in range(q):
                    right += G[c, a] * g[a]
                for d in range(c + 1):
                    value = S[k, c, d] - XX[j, c, d]
                    for a in range(q):
                        value += G[c, a] * G[d, a]
                    for m in range(d):
                        value -= R[c, m] * R[d, m]
                    if c == d:
                        R[c, c] = np.sqrt(value)
                        log_det -= np.log(R[c, c])
                    else:
                        R[c, d] = value / R[d, d]
                for m in range(c):
                    right -= R[c, m] * t[m]
                t[c] = right / R[c, c]
                left += t[c] * t[c]
            squares += left
            out[j, k] = (
                total[k]
                - n_rows[j] * (HALF_LOG_2PI + log_sigma)
                - log_det
                - 0.5 * squares * precision
            )


def leave_level_out(
    sigma: np.ndarray,
    Lambda: np.ndarray,
    S: np.ndarray,
    s: np.ndarray,
    A: np.ndarray,
    C: np.ndarray,
    b: np.ndarray,
    XX: np.ndarray,
    Xy: np.ndarray,
    yy: np.ndarray,
    n_rows: np.ndarray,
    total: np.ndarray,
) -> np.ndarray:
    """Shape (J, K): log p(rows of level j, jointly, given all other rows and theta).

    Everything per level: cross-products A, C, b with the factor's columns (q may be 0), XX, Xy, yy
    and n_rows of the level's rows. S, s as in ``hierpool.algebra.gaussian`` for all rows; ``total``
    (K,) is half of (s'S^-1 s / sigma^2 - log det S), what the population part was worth before.
    """
    out = np.empty((len(b), len(sigma)))
    arrays = _dense(sigma, Lambda, S, s, total, A, C, b, XX, Xy, yy, n_rows.astype(float))
    over_threads(_leave_level_out, len(sigma), *arrays, out)
    return out


def _dense(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays in C order, as the compiled loops expect them."""
    return [np.ascontiguousarray(a) for a in arrays]
