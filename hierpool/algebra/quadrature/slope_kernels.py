"""Compiled loop over levels: how the log density of each level changes with its rows' predictors.

d log p(y_j) / d eta_i = E[ l_i'(eta_i + T_i v) | y_j ]      (Fisher's identity)
d log p(y_j) / d T_i   = E[ l_i'(eta_i + T_i v) v | y_j ]
"""

from __future__ import annotations

import numpy as np

from hierpool.algebra.quadrature.level_nodes import level_nodes, room_for, scratch_of
from hierpool.algebra.quadrature.mode_search import climbing, copied, log_shape_of, spread
from hierpool.core.compiled import compiled


@compiled(
    "void(i8, i8, i8, b1, f8[::1], f8[::1], f8[::1], f8[:,::1], i8[::1], f8[:,::1],"
    "f8[:,:,::1], f8[:,::1], f8[::1], f8[:,::1], f8, f8, f8[:,::1], i8[::1], i8[::1], f8, f8,"
    "f8[:,::1], f8[:,::1], f8[:,:,::1])"
)
def level_slopes(
    begin, stop, code, is_same, y, trials, weight, Z, edges, eta, Lambda, par, fisher, modes,
    h, drop, nodes, is_even, ring_ends, rim_share, tail_share, density, slope, slope_v,
):  # fmt: skip
    """density (K, U) of the levels, slope (K, N) and slope_v (K, N, q) of their rows, times weights."""
    n, q = Z.shape
    n_nodes = room_for(nodes)
    scratch = scratch_of(n, q, n_nodes)
    T, g, v = np.empty((n, q)), np.empty(n_nodes), np.empty(q)
    V = scratch[4]
    for k in range(begin, stop):
        spread(Z, Lambda[k], T)
        log_shape = log_shape_of(code, par[k])
        for u in range(len(edges) - 1):
            lo, hi = edges[u], edges[u + 1]
            copied(modes[u], v)
            count, density[k, u], _, _, _ = level_nodes(
                code, is_same, y, trials, weight, eta[k], par[k], fisher[k], lo, hi, T, v,
                h, drop, nodes, is_even, ring_ends, rim_share, tail_share, g, scratch,
            )  # fmt: skip
            total = 0.0
            for r in range(count):
                total += g[r]
            for r in range(count):
                g[r] /= total
            for i in range(lo, hi):
                slope[k, i] = 0.0
                slope_v[k, i, :] = 0.0
                for r in range(count):
                    e = eta[k, i]
                    for c in range(q):
                        e += T[i, c] * V[c, r]
                    l1, _ = climbing(code, y[i], trials[i], e, par[k], log_shape)
                    x = weight[i] * g[r] * l1
                    slope[k, i] += x
                    for c in range(q):
                        slope_v[k, i, c] += x * V[c, r]
