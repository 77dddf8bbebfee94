"""Compiled loops over levels for designs that cannot be compressed. Numba, cached on disk.

``hierpool.algebra.gaussian`` has the same algebra in numpy and is the judge of these. Each value of
theta is worked by one thread from beginning to end, sums over levels in their order: the same
seed gives the same draws on one thread and on two.

Values of theta run in the innermost loops, ``WIDTH`` side by side, so that the compiler vectorises
them. The inlined helpers take the whole of Lambda and where to begin in it: of a slice the compiler
would not know that theta is contiguous.

Symbols as in ``hierpool.algebra.gaussian``; D is a level's design, u its index.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hierpool.core.compiled import compiled
from hierpool.core.threads import over_threads

WIDTH = 64  # values of theta worked side by side


@njit(inline="always")
def factor_batch(A, d, Lambda, first, w, is_lower, t, L, inverse, product):
    """L (q, q, w) becomes the Cholesky factors of Lambda'A[d] Lambda + I.

    For the w values of theta from ``first``; ``inverse`` (q, w) becomes 1 / their diagonals,
    ``product`` (w,) their products. Not of A + (Lambda Lambda')^-1, which does not exist where an
    sd is zero; this is the identity there.
    """
    q = A.shape[1]
    for k in range(w):
        product[k] = 1.0
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
            if i == j:
                for k in range(w):
                    root = np.sqrt(t[k])
                    product[k] *= root
                    inverse[i, k] = 1.0 / root
                    L[i, i, k] = root
            else:
                for k in range(w):
                    L[i, j, k] = t[k] * inverse[j, k]


@njit(inline="always")
def whiten_batch(column, Lambda, first, w, is_lower, t, L, inverse, out):
    """out (q, w) becomes L^-1 Lambda' column."""
    q = len(column)
    for i in range(q):
        for k in range(w):
            t[k] = 0.0
        for a in range(i if is_lower else 0, q):
            x = column[a]
            for k in range(w):
                t[k] += Lambda[a, i, first + k] * x
        for m in range(i):
            for k in range(w):
                t[k] -= L[i, m, k] * out[m, k]
        for k in range(w):
            out[i, k] = t[k] * inverse[i, k]


@njit(inline="always")
def solve_back_batch(L, inverse, w, v):
    """v (q, w) becomes L'^-1 v."""
    q = len(v)
    for a in range(q - 1, -1, -1):
        for m in range(a + 1, q):
            for k in range(w):
                v[a, k] -= L[m, a, k] * v[m, k]
        for k in range(w):
            v[a, k] *= inverse[a, k]


@compiled(
    "void(i8, i8, b1, f8[:,:,::1], f8[:,:,::1], f8[:,:,::1], f8[::1], f8[::1], f8[:,:,::1],"
    "f8[:,::1], f8[::1])",
)
def _level_sums(start, stop, is_lower, Lambda, A, columns, counts, log_det, GG, Gg, squared):
    # columns (U, q, p + 1 + r) holds C, b_sum and b_root side by side; Lambda is (q, q, K).
    U, q, p = len(A), A.shape[1], len(Gg)
    L, G = np.empty((q, q, WIDTH)), np.empty((p + 1, q, WIDTH))
    t, inverse, product = np.empty(WIDTH), np.empty((q, WIDTH)), np.empty(WIDTH)
    for first in range(start, stop, WIDTH):
        w = min(WIDTH, stop - first)
        for u in range(U):
            count = counts[u]
            factor_batch(A, u, Lambda, first, w, is_lower, t, L, inverse, product)
            for k in range(w):
                # 2: product holds roots of pivots. One logarithm a design, not one a pivot.
                log_det[first + k] += 2.0 * count * np.log(product[k])
            for c in range(columns.shape[2]):
                g = min(c, p)  # rows 0..p-1 of G keep C whitened; row p is reused by the others
                whiten_batch(columns[u, :, c], Lambda, first, w, is_lower, t, L, inverse, G[g])
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
    """What the levels contribute at K values of theta: the fields of ``LevelSums``.

    ``columns`` (U, q, p + 1 + r) holds C, b_sum and b_root side by side, ``counts`` (U,) floats.
    """
    K = len(Lambda)
    sums = np.zeros(K), np.zeros((p, p, K)), np.zeros((p, K)), np.zeros(K)
    last = np.ascontiguousarray(np.moveaxis(Lambda, 0, -1))
    over_threads(_level_sums, K, is_lower_triangular(Lambda), last, A, columns, counts, *sums)
    return sums


@compiled(
    "void(f8, f8, f8[:,::1], f8[::1], f8[:,::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[:,:,::1],"
    "f8[:,::1], f8[::1], f8[::1])",
)
def _log_density(
    rows, constant, XX, Xy, precision, weighted_mean, fixed, sigma, log_det, GG, Gg, squared, out
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
                    # NaN where S is not positive definite, and so is then the density.
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
    arrays = dense(XX, Xy, precision, weighted_mean, fixed, sigma)
    _log_density(rows, constant, *arrays, *sums, out)
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
        factor_batch(A, d, Lambda, 0, w, is_lower, t, L, inverse, v[0])
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
            if is_noisy:  # L'^-1 (v + sigma z) has the mean and the covariance sigma^2 M^-1 at once
                for a in range(q):
                    for k in range(w):
                        v[a, k] += sigma[k] * noise[j, a, k]
            solve_back_batch(L, inverse, w, v)
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
    fixed = [*dense(A, C, b), order, starts]
    is_lower = is_lower_triangular(Lambda)
    noise = np.zeros((0, 0, 0))
    for first in range(0, len(beta), WIDTH):
        some = slice(first, first + WIDTH)
        moved = [
            np.moveaxis(a, 0, -1) for a in (Lambda[some], into_user @ Lambda[some], beta[some])
        ]
        by_draw = dense(sigma[some], shift[some].T, population[some].T)
        if rng is not None:
            noise = rng.standard_normal((*b.shape, len(by_draw[0])))
        coef = coef_out[some] if len(coef_out) else coef_out
        _level_coefficients(
            is_lower, *dense(*moved), *fixed, by_draw[0], noise, *by_draw[1:], u_out[some], coef
        )


@compiled(
    "void(i8, i8, b1, f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,:,::1])",
)
def _conditional_variances(start, stop, is_lower, sigma, Lambda, A, into_user, out):
    U, q = len(A), A.shape[1]
    L, v = np.empty((q, q, WIDTH)), np.empty((q, WIDTH))
    t, inverse, product = np.empty(WIDTH), np.empty((q, WIDTH)), np.empty(WIDTH)
    for first in range(start, stop, WIDTH):
        w = min(WIDTH, stop - first)
        for u in range(U):
            factor_batch(A, u, Lambda, first, w, is_lower, t, L, inverse, product)
            for i in range(q):
                whiten_batch(into_user[i], Lambda, first, w, is_lower, t, L, inverse, v)
                for k in range(w):
                    t[k] = 0.0
                for a in range(q):
                    for k in range(w):
                        t[k] += v[a, k] * v[a, k]
                for k in range(w):
                    out[first + k, u, i] = sigma[first + k] * sigma[first + k] * t[k]


def conditional_variances(
    sigma: np.ndarray, Lambda: np.ndarray, A: np.ndarray, into_user: np.ndarray
) -> np.ndarray:
    """Shape (K, U, q): Var(u_i | y, beta, theta) of the user's coefficients, by design.

    Those of sigma^2 T Lambda M^-1 Lambda'T' with T ``into_user``, from squares: L^-1 Lambda'T'.
    """
    out = np.empty((len(sigma), *A.shape[:2]))
    last = np.moveaxis(Lambda, 0, -1)
    arrays = *dense(sigma, last, A, into_user), out
    over_threads(_conditional_variances, len(sigma), is_lower_triangular(Lambda), *arrays)
    return out


def is_lower_triangular(Lambda: np.ndarray) -> bool:
    """Whether there is nothing above the diagonal, so that the loops may leave it out."""
    return not np.triu(Lambda, 1).any()


def dense(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays in C order, as the compiled loops expect them."""
    return [np.ascontiguousarray(a) for a in arrays]
