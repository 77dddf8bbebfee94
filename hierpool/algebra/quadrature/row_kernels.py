"""Compiled loops over rows: densities of rows given the other rows of their level, and nodes of them.

With W_r the normalised weights of a level's nodes,

    1 / p(y_i | y_j,-i, eta, theta) = sum_r W_r / f(y_i | v_r)

as long as the nodes reach as far as the density of v without row i does. Where they do not, or the row
is an outlier, the level less that row has a quadrature of its own. Of rows alike, one is left out.
"""

from __future__ import annotations

import math

import numpy as np

from hierpool.algebra.quadrature.level_nodes import level_nodes, room_for, scratch_of
from hierpool.algebra.quadrature.mode_search import copied, spread
from hierpool.algebra.quadrature.node_sums import padded
from hierpool.algebra.quadrature.row_at_nodes import add_row
from hierpool.core.compiled import compiled, inner
from hierpool.core.elementary import fast_exp
from hierpool.core.families import codes
from hierpool.core.families.compiled import terms
from hierpool.core.families.special import LARGEST

OUTLYING = -10.0  # log density of a row below which its level gets a quadrature without it
# Share of the outermost nodes, or of the outermost ring, in the density without a row: with more it
# has a quadrature of its own.
LEFT, LEFT_IN_RING = 1e-5, 1e-3


@inner
def inverse_densities(code, y, trials, unit, par, linear, n, out, product):
    """out[r] = exp(-unit l - shift) of one row at linear predictors, r < n; gives shift.

    Without its constants the log density l of a large count is thousands away from zero: shift makes
    the largest of them one.
    """
    far, wide = 0.0, padded(n)
    for r in range(n):
        far = max(far, abs(linear[r]))
    if code == codes.LOGIT and unit * trials == 1.0 and far < LARGEST:
        sign = 1.0 if 2.0 * y <= trials else -1.0
        for r in range(wide):
            out[r] = 1.0 + fast_exp(sign * linear[r])
        if y != 0.0 and y != trials:  # a share of one trial, by its weight
            for r in range(n):
                out[r] *= fast_exp(-unit * (y if sign > 0 else y - trials) * linear[r])
        return 0.0
    for r in range(wide):
        out[r] = 0.0
        product[r] = 1.0
    add_row(code, y, trials, unit, par, linear, wide, out, product)
    shift = -np.inf
    for r in range(n):
        out[r] = math.log(product[r]) - out[r]
        shift = max(shift, out[r])
    for r in range(wide):
        out[r] = fast_exp(out[r] - shift)
    return shift


@compiled(
    "void(i8, i8, i8, b1, f8[::1], f8[::1], f8[::1], f8[:,::1], i8[::1], f8[:,::1],"
    "f8[:,:,::1], f8[:,::1], f8[::1], f8[:,::1], f8, f8, f8[:,::1], i8[::1], i8[::1], f8, f8,"
    "f8[::1], i8[::1], i8[::1], f8[:,::1])"
)
def row_densities(
    begin, stop, code, is_same, y, trials, weight, Z, edges, eta, Lambda, par, fisher, modes,
    h, drop, nodes, is_even, ring_ends, rim_share, tail_share, unit, asked, levels, density,
):  # fmt: skip
    """Densities of rows given the other rows of their level.

    asked (R,): rows, in the order of their levels (R,). density (K, R) has their constants on entry.
    """
    n, q = Z.shape
    n_nodes = room_for(nodes)
    scratch, others = scratch_of(n, q, n_nodes), scratch_of(n, q, n_nodes)
    T, g, v, without = np.empty((n, q)), np.empty(n_nodes), np.empty(q), weight.copy()
    g2, linear = np.empty(n_nodes), np.empty(n_nodes)
    ratio, product = np.empty(n_nodes), np.empty(n_nodes)
    V = scratch[4]
    for k in range(begin, stop):
        spread(Z, Lambda[k], T)
        level, count, rim, whole, total = -1, 0, 0, 0.0, 0.0
        for a in range(len(asked)):
            i = asked[a]
            if q == 0:
                value, _, _, _ = terms(code, y[i], trials[i], eta[k, i], par[k])
                density[k, a] += unit[i] * value
                continue
            lo, hi = edges[levels[a]], edges[levels[a] + 1]
            if levels[a] != level:
                level = levels[a]
                copied(modes[level], v)
                count, whole, _, _, rim = level_nodes(
                    code, is_same, y, trials, weight, eta[k], par[k], fisher[k], lo, hi, T, v,
                    h, drop, nodes, is_even, ring_ends, rim_share, tail_share, g, scratch,
                )  # fmt: skip
                total = 0.0
                for r in range(count):
                    total += g[r]
            constant = density[k, a]
            if hi - lo == 1 and weight[i] <= unit[i]:
                density[k, a] = constant + whole
                continue
            for r in range(count):
                linear[r] = eta[k, i]
            for c in range(q):
                for r in range(count):
                    linear[r] += T[i, c] * V[c, r]
            shift = inverse_densities(
                code, y[i], trials[i], unit[i], par[k], linear, count, ratio, product
            )
            rest = 0.0
            for r in range(count):
                ratio[r] *= g[r]
                rest += ratio[r]
            outer = ratio[0] if q == 1 else 0.0
            for r in range(rim, count):
                outer += ratio[r]
            density[k, a] = constant + math.log(total / rest) - shift
            share = LEFT if q == 1 else LEFT_IN_RING
            # Written so that what is not a number has a quadrature of its own too.
            if not (outer <= share * rest and density[k, a] > OUTLYING):
                without[i] = weight[i] - unit[i]
                copied(modes[level], v)
                _, left, _, _, _ = level_nodes(
                    code, is_same, y, trials, without, eta[k], par[k], fisher[k], lo, hi, T,
                    v, h, drop, nodes, is_even, ring_ends, rim_share, tail_share, g2, others,
                )  # fmt: skip
                without[i] = weight[i]
                density[k, a] = constant + whole - left


@compiled(
    "void(i8, i8, i8, b1, f8[::1], f8[::1], f8[::1], f8[:,::1], i8[::1], f8[:,::1],"
    "f8[:,:,::1], f8[:,::1], f8[::1], f8[:,::1], f8, f8, f8[:,::1], i8[::1], i8[::1], f8, f8,"
    "f8[::1], i8[::1], i8[::1], f8[:,:,::1], f8[:,:,::1])"
)
def rows_without(
    begin, stop, code, is_same, y, trials, weight, Z, edges, eta, Lambda, par, fisher, modes,
    h, drop, nodes, is_even, ring_ends, rim_share, tail_share, unit, asked, levels, predictor, share,
):  # fmt: skip
    """Nodes of levels without one of their rows.

    Linear predictors (K, R, M) of rows at the nodes of their level without them, and the nodes'
    shares; those beyond the last are zero. Of more than M nodes the outermost are left out.
    """
    n, q = Z.shape
    n_nodes, most = room_for(nodes), predictor.shape[2]
    scratch = scratch_of(n, q, n_nodes)
    T, g, v, without = np.empty((n, q)), np.empty(n_nodes), np.empty(q), weight.copy()
    V = scratch[4]
    for k in range(begin, stop):
        spread(Z, Lambda[k], T)
        for a in range(len(asked)):
            i = asked[a]
            predictor[k, a, :] = eta[k, i]
            share[k, a, :] = 0.0
            if q == 0:
                share[k, a, 0] = 1.0
                continue
            lo, hi = edges[levels[a]], edges[levels[a] + 1]
            copied(modes[levels[a]], v)
            without[i] = weight[i] - unit[i]
            count, _, _, _, _ = level_nodes(
                code, is_same, y, trials, without, eta[k], par[k], fisher[k], lo, hi, T, v,
                h, drop, nodes, is_even, ring_ends, rim_share, tail_share, g, scratch,
            )  # fmt: skip
            without[i] = weight[i]
            first = 0
            while count - first > most:
                if q == 1 and g[first] < g[count - 1]:
                    first += 1
                else:
                    count -= 1
            total = 0.0
            for r in range(first, count):
                total += g[r]
                share[k, a, r - first] = g[r]
                for c in range(q):
                    predictor[k, a, r - first] += T[i, c] * V[c, r]
            for r in range(count - first):
                share[k, a, r] /= total
