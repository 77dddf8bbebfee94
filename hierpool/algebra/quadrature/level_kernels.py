"""Compiled loop over points and levels: densities of levels.

Each point is worked by one thread from beginning to end, so that threads change nothing.
"""

from __future__ import annotations

import numpy as np

from hierpool.algebra.quadrature.level_nodes import level_nodes, room_for, scratch_of
from hierpool.algebra.quadrature.mode_search import copied, spread
from hierpool.core.compiled import compiled


@compiled(
    "void(i8, i8, i8, b1, f8[::1], f8[::1], f8[::1], f8[:,::1], i8[::1], f8[:,::1],"
    "f8[:,:,::1], f8[:,::1], f8[::1], f8[:,::1], f8, f8, f8[:,::1], i8[::1], i8[::1], f8, f8,"
    "f8[:,::1], f8[:,::1], f8[:,::1])"
)
def level_densities(
    begin, stop, code, is_same, y, trials, weight, Z, edges, eta, Lambda, par, fisher, modes,
    h, drop, nodes, is_even, ring_ends, rim_share, tail_share, density, error, rim,
):  # fmt: skip
    """Densities of the levels that differ at each point.

    density, error and rim (K, U): log p(rows of a level | eta, theta) without the families'
    constants, the relative difference of even and odd nodes, the share of the outermost ring.
    """
    n, q = Z.shape
    n_nodes = room_for(nodes)
    scratch = scratch_of(n, q, n_nodes)
    T, g, v = np.empty((n, q)), np.empty(n_nodes), np.empty(q)
    for k in range(begin, stop):
        spread(Z, Lambda[k], T)
        for u in range(len(edges) - 1):
            lo, hi = edges[u], edges[u + 1]
            copied(modes[u], v)
            _, density[k, u], error[k, u], rim[k, u], _ = level_nodes(
                code, is_same, y, trials, weight, eta[k], par[k], fisher[k], lo, hi, T, v,
                h, drop, nodes, is_even, ring_ends, rim_share, tail_share, g, scratch,
            )  # fmt: skip
