"""Compiled loops over levels at one theta, for designs with many different levels: factors and slopes.

``hierpool.algebra.gaussian`` has the same in numpy, a stack of levels at a time, and is the judge.
Sums are taken over blocks of levels first, so that those of a hundred thousand lose no more digits
than numpy's.

Symbols as in ``hierpool.algebra.gaussian``.
"""

from __future__ import annotations

import numpy as np

from hierpool.algebra.moments import Moments
from hierpool.core.compiled import compiled

_BLOCK = 256  # levels whose sums are added up before they join the others


@compiled(
    "void(f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1],"
    "f8[::1], f8[::1])"
)
def _factorise(Lambda, A, columns, counts, L, G, GG, Gg, totals):
    # columns (U, q, p + 1 + r) holds C, b_sum and b_root side by side; totals: log det, squares
    U, q, p, width = len(A), A.shape[1], len(Gg), columns.shape[2]
    AL, g = np.empty((q, q)), np.empty(q)
    own_GG, own_Gg = np.zeros((p, p)), np.zeros(p)
    log_det, squares = 0.0, 0.0
    for u in range(U):
        for a in range(q):
            for j in range(q):
                AL[a, j] = 0.0
                for c in range(q):
                    AL[a, j] += A[u, a, c] * Lambda[c, j]
        product = 1.0
        for i in range(q):
            for j in range(i + 1):
                t = 1.0 if i == j else 0.0
                for a in range(q):
                    t += Lambda[a, i] * AL[a, j]
                for m in range(j):
                    t -= L[u, i, m] * L[u, j, m]
                if i == j:
                    L[u, i, i] = np.sqrt(t)
                    product *= L[u, i, i]
                else:
                    L[u, i, j] = t / L[u, j, j]
        log_det += 2.0 * counts[u] * np.log(product)
        for c in range(width):
            for i in range(q):
                t = 0.0
                for a in range(q):
                    t += Lambda[a, i] * columns[u, a, c]
                for m in range(i):
                    t -= L[u, i, m] * g[m]
                g[i] = t / L[u, i, i]
            if c < p:
                for i in range(q):
                    G[u, i, c] = g[i]
            elif c == p:
                for d in range(p):
                    for i in range(q):
                        own_Gg[d] += G[u, i, d] * g[i]
            else:
                for i in range(q):
                    squares += g[i] * g[i]
        for c in range(p):
            for d in range(c + 1):
                t = 0.0
                for i in range(q):
                    t += G[u, i, c] * G[u, i, d]
                own_GG[c, d] += counts[u] * t
        if u % _BLOCK == _BLOCK - 1 or u == U - 1:
            totals[0] += log_det
            totals[1] += squares
            log_det, squares = 0.0, 0.0
            for c in range(p):
                Gg[c] += own_Gg[c]
                own_Gg[c] = 0.0
                for d in range(c + 1):
                    GG[c, d] += own_GG[c, d]
                    own_GG[c, d] = 0.0
    for c in range(p):
        for d in range(c):
            GG[d, c] = GG[c, d]


def factorise(
    m: Moments, Lambda: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """L (U, q, q) and G (U, q, p) at one Lambda (q, q); and sums over the levels, of K = 1.

    The sums are the log determinants (1,), GG (1, p, p), Gg (1, p) and the squares (1,), as
    ``gaussian.Marginal.from_sums`` takes them.
    """
    L, G = np.zeros((len(m.A), m.q, m.q)), np.empty((len(m.A), m.q, m.p))
    GG, Gg, totals = np.zeros((m.p, m.p)), np.zeros(m.p), np.zeros(2)
    fixed = (np.ascontiguousarray(v) for v in (Lambda, m.A, m.columns))
    _factorise(*fixed, m.counts.astype(float), L, G, GG, Gg, totals)
    return L, G, (totals[:1], GG[None], Gg[None], totals[1:])


@compiled(
    "void(b1, f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1], i8[::1], i8[::1], f8[:,:,::1],"
    "f8[:,:,::1], f8[:,::1], f8[::1], f8[:,::1], f8[:,::1])"
)
def _gradient(
    with_population, Lambda, A, C, b, by_design, starts, L, G, R, beta, by_log_det, by_squares
):  # fmt: skip
    U, q, p = len(A), A.shape[1], len(beta)
    AL, inverse, P = np.empty((q, q)), np.zeros((q, q)), np.empty((q, q))
    W, half, Q = np.empty((q, p)), np.empty(p), np.empty((q, p))
    known, common, left, v = np.empty(q), np.empty(q), np.empty(q), np.empty(q)
    own_log_det, own_squares = np.zeros((q, q)), np.zeros((q, q))
    for u in range(U):
        count = starts[u + 1] - starts[u]
        for a in range(q):
            for j in range(q):
                AL[a, j] = 0.0
                for c in range(q):
                    AL[a, j] += A[u, a, c] * Lambda[c, j]
        for j in range(q):  # L^-1, and P = L'^-1 L^-1
            for i in range(j, q):
                t = 1.0 if i == j else 0.0
                for m in range(j, i):
                    t -= L[u, i, m] * inverse[m, j]
                inverse[i, j] = t / L[u, i, i]
        for a in range(q):
            for c in range(q):
                P[a, c] = 0.0
                for m in range(max(a, c), q):
                    P[a, c] += inverse[m, a] * inverse[m, c]
        if with_population:  # P + W S^-1 W' with W = L'^-1 G, and Q = W S^-1
            for a in range(q):
                for c in range(p):
                    W[a, c] = 0.0
                    for m in range(a, q):
                        W[a, c] += inverse[m, a] * G[u, m, c]
                for c in range(p):
                    t = W[a, c]
                    for m in range(c):
                        t -= R[c, m] * half[m]
                    half[c] = t / R[c, c]
                for c in range(p - 1, -1, -1):
                    t = half[c]
                    for m in range(c + 1, p):
                        t -= R[m, c] * Q[a, m]
                    Q[a, c] = t / R[c, c]
            for a in range(q):
                for c in range(q):
                    for m in range(p):
                        P[a, c] += W[a, m] * Q[c, m]
            for a in range(q):
                for c in range(q):
                    for m in range(p):
                        own_log_det[a, c] -= 2.0 * count * C[u, a, m] * Q[c, m]
        for a in range(q):
            for c in range(q):
                for m in range(q):
                    own_log_det[a, c] += 2.0 * count * AL[a, m] * P[m, c]
        for a in range(q):
            known[a] = common[a] = 0.0
            for c in range(p):
                known[a] += G[u, a, c] * beta[c]
                common[a] += C[u, a, c] * beta[c]
        for position in range(starts[u], starts[u + 1]):
            j = by_design[position]
            for a in range(q):
                left[a] = -known[a]
                for m in range(a + 1):
                    t = 0.0
                    for c in range(q):
                        t += Lambda[c, m] * b[j, c]
                    left[a] += inverse[a, m] * t
            for a in range(q):
                v[a] = 0.0
                for m in range(a, q):
                    v[a] += inverse[m, a] * left[m]
            for a in range(q):
                score = b[j, a] - common[a]
                for m in range(q):
                    score -= AL[a, m] * v[m]
                for c in range(q):
                    own_squares[a, c] -= 2.0 * score * v[c]
        if u % _BLOCK == _BLOCK - 1 or u == U - 1:
            for a in range(q):
                for c in range(q):
                    by_log_det[a, c] += own_log_det[a, c]
                    by_squares[a, c] += own_squares[a, c]
                    own_log_det[a, c] = own_squares[a, c] = 0.0


def gradient(
    m: Moments,
    Lambda: np.ndarray,
    L: np.ndarray,
    G: np.ndarray,
    R: np.ndarray,
    beta: np.ndarray,
    with_population: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives by Lambda, shapes (q, q), of the log determinants and of the penalised sum of squares.

    ``with_population``: that of the Schur complement R R' (p, p) among the determinants.
    """
    by_log_det, by_squares = np.zeros((m.q, m.q)), np.zeros((m.q, m.q))
    arrays = [np.ascontiguousarray(v) for v in (Lambda, m.A, m.C, m.b)]
    _gradient(with_population, *arrays, *m.by_design, L, G, R, beta, by_log_det, by_squares)
    return by_log_det, by_squares
