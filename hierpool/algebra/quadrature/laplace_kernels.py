"""Compiled Newton search for the joint mode of gamma and the levels' deviations, theta given.

gamma = (beta, v of the other factors) has a dense block, the levels v_j of the integrated factor one
each (an arrow):

    M = [ T'WT + I   T'WD ; D'WT   D'WD + P0 ]     S = D'WD + P0 - sum_j C_j' H_j^-1 C_j

with W the working weights. Levels alike are worked once and counted.

Symbols: D the columns of gamma, of which a row has a few that are not zero; S = root root'.
"""

from __future__ import annotations

import math

import numpy as np

from hierpool.algebra.quadrature.mode_search import (
    cholesky,
    copied,
    solve_back,
    solve_forward,
    spread,
)
from hierpool.core.compiled import compiled, inner, shared
from hierpool.core.families.compiled import terms

MOST_STEPS = 200
CLOSE = 1e-3  # posterior sds: a smaller step ends the search
CAP = 5.0  # largest change of a linear predictor in one step
HALVINGS = 30


@inner
def _predictor(i, offset, values, places, gamma, T, v):
    e = offset[i]
    for c in range(values.shape[1]):
        e += values[i, c] * gamma[places[i, c]]
    for c in range(len(v)):
        e += T[i, c] * v[c]
    return e


@inner
def _level(
    code, y, trials, weight, offset, values, places, gamma, par, fisher, lo, hi, T, v, count,
    g, H, C, r, S,
):  # fmt: skip
    """Add a level to r and S, set its g, H and C; returns its part of the objective."""
    q, a = len(v), values.shape[1]
    value = 0.0
    C[:] = 0.0
    for c in range(q):
        g[c] = -v[c]
        value -= 0.5 * v[c] * v[c]
        for d in range(q):
            H[c, d] = 1.0 if c == d else 0.0
    for i in range(lo, hi):
        e = _predictor(i, offset, values, places, gamma, T, v)
        own, l1, _, w = terms(code, y[i], trials[i], e, par)
        value += weight[i] * own
        l1, w = weight[i] * l1, weight[i] * w * fisher
        for c in range(q):
            g[c] += T[i, c] * l1
            tw = T[i, c] * w
            for d in range(c + 1):
                H[c, d] += tw * T[i, d]
            for d in range(a):
                C[c, places[i, d]] += tw * values[i, d]
        for c in range(a):
            at = places[i, c]
            r[at] += count * values[i, c] * l1
            xw = count * values[i, c] * w
            for d in range(c + 1):
                S[at, places[i, d]] += xw * values[i, d]
    return value


@shared(
    "UniTuple(f8, 2)(i8, f8[::1], f8[::1], f8[::1], f8[::1], f8[:,::1], i8[:,::1], f8[::1], f8[::1],"
    "f8, i8[::1], f8[::1], f8[:,::1], f8[:,::1], f8[::1], f8[:,::1], f8[:,::1], f8[:,:,::1],"
    "f8[:,:,::1], f8[:,::1], f8[::1], f8[:,::1])"
)
def _system(
    code, y, trials, weight, offset, values, places, gamma, par, fisher, edges, counts, T, v,
    mean, precision, g, L, C, H, r, S,
):  # fmt: skip
    """Objective and log det of the levels; r, S, and each level's L, L^-1 g, L^-1 C."""
    P, q = len(gamma), v.shape[1]
    value, log_det = 0.0, 0.0
    for c in range(P):
        s = 0.0
        for d in range(P):
            s += precision[c, d] * (gamma[d] - mean[d])
            S[c, d] = precision[c, d]
        r[c] = -s
        value -= 0.5 * s * (gamma[c] - mean[c])
    for u in range(len(edges) - 1):
        value += counts[u] * _level(
            code, y, trials, weight, offset, values, places, gamma, par, fisher,
            edges[u], edges[u + 1], T, v[u], counts[u], g[u], H, C[u], r, S,
        )  # fmt: skip
        cholesky(H, L[u])
        solve_forward(L[u], g[u])
        for c in range(q):
            log_det += counts[u] * math.log(L[u, c, c])
            for k in range(c):
                for d in range(P):
                    C[u, c, d] -= L[u, c, k] * C[u, k, d]
            for d in range(P):
                C[u, c, d] /= L[u, c, c]
        for c in range(q):
            for d in range(P):
                x = counts[u] * C[u, c, d]
                if x != 0.0:
                    r[d] -= x * g[u, c]
                    for k in range(d + 1):
                        S[d, k] -= x * C[u, c, k]
    return value, log_det


@shared(
    "UniTuple(f8, 2)(f8[:,::1], i8[:,::1], i8[::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1],"
    "f8[:,::1], f8[:,::1], f8[::1], f8[:,::1])"
)
def _step(values, places, edges, T, L, C, g, root, r, dv):
    """Newton step of all: r becomes that of gamma, dv that of the levels; its sizes."""
    P, q = len(r), dv.shape[1]
    solve_forward(root, r)
    size = 0.0
    for c in range(P):
        size += r[c] * r[c]
    solve_back(root, r)
    change = 0.0
    for u in range(len(edges) - 1):
        own = 0.0
        for c in range(q):
            s = g[u, c]
            for d in range(P):
                s -= C[u, c, d] * r[d]
            dv[u, c] = s
            own += s * s
        size = max(size, own)
        solve_back(L[u], dv[u])
        for i in range(edges[u], edges[u + 1]):
            s = 0.0
            for c in range(values.shape[1]):
                s += values[i, c] * r[places[i, c]]
            for c in range(q):
                s += T[i, c] * dv[u, c]
            change = max(change, abs(s))
    return math.sqrt(size), change


@compiled(
    "void(i8, i8, i8, f8[::1], f8[::1], f8[::1], f8[::1], f8[:,::1], f8[:,::1], i8[:,::1],"
    "f8[:,::1], i8[::1], i8[::1], f8[::1], f8[:,:,::1], f8[:,:,::1], f8[:,::1],"
    "f8[::1], f8[::1], f8[:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[::1])"
)
def modes(
    begin, stop, code, y, trials, weight, offset, Z, X, places, other_columns, edges, blocks,
    counts, Lambda, Lambda_others, par, fisher, mean, precision, gamma, v, root, density,
):  # fmt: skip
    """Joint modes at each theta.

    gamma (K, P) and v (K, U, q) hold where to start and become the modes; density (K,) becomes
    the Laplace log p(y | theta), without constants of the family and of the prior of gamma.
    """
    n, q, p, P, U = len(y), Z.shape[1], X.shape[1], gamma.shape[1], len(edges) - 1
    T, values = np.empty((n, q)), np.empty((n, places.shape[1]))
    H, r, S = np.empty((q, q)), np.empty(P), np.empty((P, P))
    L, C = np.zeros((U, q, q)), np.empty((U, q, P))
    g, dv = np.empty((U, q)), np.empty((U, q))
    for k in range(begin, stop):
        spread(Z, Lambda[k], T)
        for i in range(n):
            for c in range(p):
                values[i, c] = X[i, c]
            for c in range(len(blocks)):
                s = 0.0
                for d in range(len(blocks)):
                    s += other_columns[i, d] * Lambda_others[k, d, c]
                values[i, p + c] = s
        # Deviations of another theta may put counts far to the right, where curvatures are beyond
        # the digits: from a start that is worse than no deviations, halving leads back to those.
        old, old_v, halvings = gamma[k].copy(), np.zeros((U, q)), 0
        best, _ = _system(
            code, y, trials, weight, offset, values, places, old, par[k], fisher[k],
            edges, counts, T, old_v, mean, precision, g, L, C, H, r, S,
        )  # fmt: skip
        for _ in range(MOST_STEPS):
            value, log_det = _system(
                code, y, trials, weight, offset, values, places, gamma[k], par[k], fisher[k],
                edges, counts, T, v[k], mean, precision, g, L, C, H, r, S,
            )  # fmt: skip
            if not value >= best - 1e-9 * (1.0 + abs(best)) and halvings < HALVINGS:
                for c in range(P):
                    gamma[k, c] = 0.5 * (gamma[k, c] + old[c])
                for u in range(U):
                    for c in range(q):
                        v[k, u, c] = 0.5 * (v[k, u, c] + old_v[u, c])
                halvings += 1
                continue
            best, halvings = value, 0
            cholesky(S, root[k])
            size, change = _step(values, places, edges, T, L, C, g, root[k], r, dv)
            density[k] = value - log_det
            for c in range(P):
                density[k] -= math.log(root[k, c, c])
            factor = 1.0 if change < CAP else CAP / change
            copied(gamma[k], old)
            for u in range(U):
                copied(v[k, u], old_v[u])
            for c in range(P):
                gamma[k, c] += factor * r[c]
            for u in range(U):
                for c in range(q):
                    v[k, u, c] += factor * dv[u, c]
            if size < CLOSE:
                break
