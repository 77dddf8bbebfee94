"""Compiled loops over the rows of designs with one factor or none: rows and levels left out. Numba.

Apart from ``one_factor_kernels`` because a fit without them need not compile them. Symbols as in
``hierpool.algebra.gaussian``.
"""

from __future__ import annotations

import itertools
import os
from typing import NamedTuple

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI
from hierpool.algebra.one_factor_kernels import (
    WIDTH,
    dense,
    factor_batch,
    is_lower_triangular,
    solve_back_batch,
    whiten_batch,
)
from hierpool.core.compiled import compiled
from hierpool.core.threads import over_pieces, over_threads

_PIECE = 256  # rows that one thread takes at a time
_FACTORS = 16  # pivots multiplied before a logarithm is taken


class Products(NamedTuple):
    """A (U, q, q) and C (U, q, p) by design, b (J, q) by level; one empty design without a factor."""

    A: np.ndarray
    C: np.ndarray
    b: np.ndarray


class Columns(NamedTuple):
    """Response (n,) and columns (n, p), (n, q) of the rows."""

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray


class RowPlan(NamedTuple):
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
        where = (
            designs,
            np.searchsorted(level_designs, edges),
            np.searchsorted(of_row[chosen], edges),
            levels,
            np.append(first, len(rows)),
            rows,
            pattern.reshape(-1),
        )
        integers = (np.ascontiguousarray(a, dtype=np.int64) for a in where)
        return cls(*integers, *dense(X[chosen], Z[chosen]))


class Points(NamedTuple):
    """K values of theta, and the Cholesky factor of S and the mean of beta at each."""

    sigma: np.ndarray
    Lambda: np.ndarray
    R: np.ndarray
    beta: np.ndarray


class PointsLast(NamedTuple):
    """The same with theta last, the diagonal of R inverted, and sigma as densities take it.

    That is ``precision``, 1 / sigma^2, and ``constant``, - log sigma - log(2 pi) / 2.
    """

    precision: np.ndarray
    constant: np.ndarray
    Lambda: np.ndarray
    R: np.ndarray
    beta: np.ndarray

    @classmethod
    def from_points(cls, at: Points) -> PointsLast:
        """Those of ``at``."""
        Lambda, R, beta = (np.moveaxis(a, 0, -1).copy() for a in (at.Lambda, at.R, at.beta))
        diagonal = np.arange(len(R))
        R[diagonal, diagonal] = 1.0 / R[diagonal, diagonal]
        scales = 1.0 / at.sigma**2, -np.log(at.sigma) - 0.5 * LOG_2PI
        return cls(*dense(*scales, Lambda, R, beta))


class PopulationAt(NamedTuple):
    """K values of theta, and S and s of all rows at each.

    ``total`` (K,) is half of (s'S^-1 s / sigma^2 - log det S), what the population part is worth.
    """

    sigma: np.ndarray
    Lambda: np.ndarray
    S: np.ndarray
    s: np.ndarray
    total: np.ndarray


class LevelProducts(NamedTuple):
    """Cross-products of the rows of each level (J, ...), and their number as floats.

    A, C and b with the factor's columns (q may be 0), the others with the population's.
    """

    A: np.ndarray
    C: np.ndarray
    b: np.ndarray
    XX: np.ndarray
    Xy: np.ndarray
    yy: np.ndarray
    n_rows: np.ndarray


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


@compiled("f8(f8)")
def log_near_one(x):
    """log(x) for 0.5 <= x <= 2, as 2 artanh((x - 1) / (x + 1))."""
    # |s| is at most 1/3 here: the first term left out, s^30 / 31, is 1.6e-16.
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


@compiled(
    "void(i8, i8, f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1],"
    "f8[:,::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], f8[::1], f8[:,::1],"
    "f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1])",
)
def _leave_one_out(
    start, stop, sigma, Lambda, R, beta, A, C, b, design_levels, design_patterns, levels,
    level_rows, rows, pattern, y, X, Z, pattern_X, pattern_Z, mean, sd,
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
                    # 1 - h_i (Cook and Weisberg 1982), near zero where only this row tells a
                    # coefficient. Not clipped: a large sd is then the answer.
                    kept = left[pattern[i]]
                    mean[k, i] = y[i] - residual / kept
                    sd[k, i] = sigma[k] / np.sqrt(kept)


def leave_one_out(
    at: Points, products: Products, plan: RowPlan, columns: Columns
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of each row given all others at K values of theta: two arrays (K, n)."""
    shape = len(at.sigma), len(columns.y)
    mean, sd = np.empty(shape), np.empty(shape)
    p = plan
    order = p.design_levels, p.design_patterns, p.levels, p.level_rows, p.rows, p.pattern
    patterns = p.pattern_X, p.pattern_Z
    arrays = *dense(*at), *_planned(products, p), *order, *dense(*columns), *patterns
    over_threads(_leave_one_out, len(at.sigma), *arrays, mean, sd)
    return mean, sd


def _planned(products: Products, plan: RowPlan) -> Products:
    """Those of the designs that have rows, in the order of the plan."""
    return Products(*dense(products.A[plan.designs], products.C[plan.designs], products.b))


@compiled(
    "void(i8, i8, b1, i8, f8[::1], f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,:,::1],"
    "f8[:,:,::1], f8[:,::1], i8[::1], i8[::1], i8[::1], f8[::1], f8[:,::1], f8[:,::1], f8[:,::1])",
)
def _row_densities(
    start, stop, is_lower, d, precision, constant, Lambda, R, beta, A, C, b, levels, level_rows,
    rows, y, X, Z, out,
):  # fmt: skip
    # Log densities (rows, K) of the levels start..stop of ``levels``, all of design d.
    q, p, K = A.shape[1], C.shape[2], len(precision)
    L, inverse, G = np.empty((q, q, WIDTH)), np.empty((q, WIDTH)), np.empty((p, q, WIDTH))
    t, v, u = np.empty(WIDTH), np.empty((q, WIDTH)), np.empty((q, WIDTH))
    s, leverage, residual = np.empty((p, WIDTH)), np.empty(WIDTH), np.empty(WIDTH)
    for first in range(0, K, WIDTH):
        w = min(WIDTH, K - first)
        factor_batch(A, d, Lambda, first, w, is_lower, t, L, inverse, leverage)
        for c in range(p):
            whiten_batch(C[d, :, c], Lambda, first, w, is_lower, t, L, inverse, G[c])
        for position in range(start, stop):
            whiten_batch(b[levels[position]], Lambda, first, w, is_lower, t, L, inverse, v)
            for i in range(q):
                for c in range(p):
                    for k in range(w):
                        v[i, k] -= G[c, i, k] * beta[c, first + k]
            solve_back_batch(L, inverse, w, v)
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
                whiten_batch(Z[r], Lambda, first, w, is_lower, t, L, inverse, v)
                for i in range(q):
                    for k in range(w):
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
                # log_near_one vectorises; one leverage above 0.5 sends the batch to np.log.
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


def row_densities(at: Points, products: Products, plan: RowPlan, columns: Columns) -> np.ndarray:
    """Log density of each row given all others at K values of theta, shape (n, K).

    The densities that belong to ``leave_one_out``, a point's draws side by side as importance
    sampling reads them.
    """
    out = np.empty((len(columns.y), len(at.sigma)))
    triangle = is_lower_triangular(at.Lambda)
    order = plan.levels, plan.level_rows, plan.rows
    arrays = *PointsLast.from_points(at), *_planned(products, plan), *order, *dense(*columns)
    units = _units(plan)

    def work(run: tuple[int, int]) -> None:
        for d, a, z in units[slice(*run)]:
            _row_densities(a, z, triangle, d, *arrays, out)

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


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The value of each run of equal neighbours, and where it begins."""
    begins = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[begins], begins


@compiled(
    "void(i8, i8, b1, f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[::1], f8[:,:,::1],"
    "f8[:,:,::1], f8[:,::1], f8[:,:,::1], f8[:,::1], f8[::1], f8[::1], f8[:,::1])",
)
def _leave_level_out(
    start, stop, is_lower, sigma, Lambda, S, s, total, A, C, b, XX, Xy, yy, n_rows, out
):  # fmt: skip
    # theta in the innermost loops: Lambda (q, q, K), S (p, p, K), s (p, K)
    J, q, p = len(b), b.shape[1], XX.shape[1]
    L, G, g = np.empty((q, q, WIDTH)), np.empty((p, q, WIDTH)), np.empty((q, WIDTH))
    R, half = np.empty((p, p, WIDTH)), np.empty((p, WIDTH))
    t, inverse, product = np.empty(WIDTH), np.empty((q, WIDTH)), np.empty(WIDTH)
    squares, log_det, log_sigma = np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH)
    for first in range(start, stop, WIDTH):
        w = min(WIDTH, stop - first)
        for k in range(w):
            log_sigma[k] = np.log(sigma[first + k])
        for j in range(J):
            # half the change of the log dets, of the sum of squares, when level j goes
            for k in range(w):
                squares[k], log_det[k], product[k] = yy[j], 0.0, 1.0
            if q > 0:
                factor_batch(A, j, Lambda, first, w, is_lower, t, L, inverse, product)
                for c in range(p):
                    whiten_batch(C[j, :, c], Lambda, first, w, is_lower, t, L, inverse, G[c])
                whiten_batch(b[j], Lambda, first, w, is_lower, t, L, inverse, g)
                for a in range(q):
                    for k in range(w):
                        squares[k] -= g[a, k] * g[a, k]
            # The Schur complement less the level, factored anew: a downdate of the old factor
            # loses digits where the level held most of the information.
            for c in range(p):
                for d in range(c + 1):
                    for k in range(w):
                        t[k] = S[c, d, first + k] - XX[j, c, d]
                    for a in range(q):
                        for k in range(w):
                            t[k] += G[c, a, k] * G[d, a, k]
                    for m in range(d):
                        for k in range(w):
                            t[k] -= R[c, m, k] * R[d, m, k]
                    if c == d:
                        for k in range(w):
                            R[c, c, k] = np.sqrt(t[k])
                            product[k] /= R[c, c, k]
                    else:
                        for k in range(w):
                            R[c, d, k] = t[k] / R[d, d, k]
                for k in range(w):
                    t[k] = s[c, first + k] - Xy[j, c]
                for a in range(q):
                    for k in range(w):
                        t[k] += G[c, a, k] * g[a, k]
                for m in range(c):
                    for k in range(w):
                        t[k] -= R[c, m, k] * half[m, k]
                for k in range(w):
                    half[c, k] = t[k] / R[c, c, k]
                    squares[k] += half[c, k] * half[c, k]
                if c % _FACTORS == _FACTORS - 1:  # a product of very many could overflow
                    for k in range(w):
                        log_det[k] += np.log(product[k])
                        product[k] = 1.0
            for k in range(w):
                at = first + k
                out[j, at] = (
                    total[at]
                    - n_rows[j] * (0.5 * LOG_2PI + log_sigma[k])
                    - log_det[k]
                    - np.log(product[k])
                    - 0.5 * squares[k] / sigma[at] ** 2
                )


def leave_level_out(at: PopulationAt, levels: LevelProducts) -> np.ndarray:
    """Shape (J, K): log p(rows of level j, jointly, given all other rows and theta)."""
    out = np.empty((len(levels.b), len(at.sigma)))
    Lambda, S, s = (np.moveaxis(a, 0, -1) for a in (at.Lambda, at.S, at.s))
    arrays = *dense(at.sigma, Lambda, S, s, at.total), *dense(*levels), out
    over_threads(_leave_level_out, len(at.sigma), is_lower_triangular(at.Lambda), *arrays)
    return out
