"""Compiled quadrature of one level: the trapezoid rule on nodes around its mode.

For integrands this smooth the rule is as good as any, takes skewed ones by reaching further on one
side, and says how wrong it is: with e the relative difference of the sums over even and odd nodes, its
error is of the order of e^2. Where that is large the nodes are moved closer.

Symbols: h is the step between nodes in posterior sds; drop how far g falls below its top at the
outermost nodes; V the nodes.
"""

from __future__ import annotations

import math

import numpy as np

from hierpool.algebra.quadrature.mode_search import mode_along, mode_at, solve_back
from hierpool.algebra.quadrature.node_sums import LANES, padded, prepare, values_along, values_at
from hierpool.core.compiled import inner, shared
from hierpool.core.elementary import fast_exp
from hierpool.core.families.codes import STUDENT
from hierpool.core.families.compiled import terms

HALF = 1000  # nodes on one side of the middle that the buffers hold
CENTRE = 4  # nodes on either side of the mode that every level has
BEGIN = 2 * LANES  # nodes that are worked at first
CLOSER = 3e-4  # e^2 above which the nodes of a level are moved closer
MOST_CLOSER = 3
FEW_ROWS = 12  # of a level of heavy tails, up to which each row may have a mode of its own
SHARPER = 1.5  # how much narrower a row's mode may be than the step between nodes
HALF_LOG_2PI = 0.9189385332046727


@inner
def modes_of_rows(code, y, trials, weight, eta, par, lo, hi, T, v, drop):
    """Least and largest v that nodes must reach, and the precision of the sharpest mode between.

    Heavy tails have modes at rows far apart, which may be sharper than the one that was found.
    """
    low, high, sharpest = v, v, 0.0
    if code != STUDENT or hi - lo > FEW_ROWS:
        return low, high, sharpest
    top = -np.inf
    for a in range(lo - 1, hi):
        at = v
        if a >= lo:
            if abs(T[a, 0]) < 1e-8:
                continue
            at = (y[a] - eta[a]) / T[a, 0]
        value, precision = -0.5 * at * at, 1.0
        for i in range(lo, hi):
            own, _, w, _ = terms(code, y[i], trials[i], eta[i] + T[i, 0] * at, par)
            value += weight[i] * own
            precision += weight[i] * max(w, 0.0) * T[i, 0] * T[i, 0]
        top = max(top, value)
        if value > top - drop:
            low, high = min(low, at), max(high, at)
            sharpest = max(sharpest, precision)
    return low, high, sharpest


@inner
def line(code, is_same, y, trials, weight, eta, par, fisher, lo, hi, T, v, h, drop, g, scratch):
    """Nodes of a level of one effect: v, the distance between nodes, first and last node.

    ``g`` (2 HALF + 1,) holds g at them; node r is v + (r - HALF) times the distance.
    """
    F, sums, e1, product, V, small, H, L = scratch
    if is_same:
        t = T[lo, 0] if hi > lo else 0.0
        prepare(code, y, trials, weight, eta, par, lo, hi, F, sums)
        v, precision = mode_along(code, y, trials, weight, eta, par, fisher, lo, hi, F, sums, t, v)
    else:
        t = 0.0
        small[0, 0] = v
        mode_at(code, y, trials, weight, eta, par, fisher, lo, hi, T, small[0], small[1], H, L)
        v, precision = small[0, 0], L[0, 0] * L[0, 0]
    step = h / math.sqrt(precision)
    low, high, sharpest = modes_of_rows(code, y, trials, weight, eta, par, lo, hi, T, v, drop)
    if step * math.sqrt(sharpest) > SHARPER * h:
        # Nodes further apart than a mode is wide miss it, even and odd ones alike.
        step = max(h / math.sqrt(sharpest), max(high - v, v - low) / (HALF - 2 * LANES))
    first, last = HALF, HALF
    top = -np.inf
    begin, count = HALF - BEGIN // 2, BEGIN
    while True:
        v0 = v + (begin - HALF) * step
        if is_same:
            values_along(
                code, y, trials, weight, eta, par, lo, hi, F, sums, t, v0, step, count,
                g[begin:], e1, product,
            )  # fmt: skip
        else:
            for r in range(padded(count)):
                V[0, r] = v0 + r * step
            values_at(
                code, y, trials, weight, eta, par, lo, hi, T, V, 0, count,
                g[begin:], product, e1,
            )  # fmt: skip
        for r in range(begin, begin + count):
            top = max(top, g[r])
        first, last, count = min(first, begin), max(last, begin + count - 1), LANES
        is_short = g[last] > top - drop or v + (last - HALF) * step < high
        if is_short and last < 2 * HALF - LANES:
            begin = last + 1
            continue
        is_short = g[first] > top - drop or v + (first - HALF) * step > low
        if not (is_short and first > LANES):
            break
        begin = first - LANES
    first, last = trimmed(
        g, first, last, top - drop, HALF + (low - v) / step, HALF + (high - v) / step
    )
    return v, step, first, last, top


@inner
def trimmed(g, first, last, least, low, high):
    """First and last node less those beyond the first on either side that is below ``least``."""
    while first < HALF - CENTRE and g[first + 1] <= least and first + 1 <= low:
        first += 1
    while last > HALF + CENTRE and g[last - 1] <= least and last - 1 >= high:
        last -= 1
    return first, last


@inner
def ball(
    code, y, trials, weight, eta, par, lo, hi, T, v, scale,
    nodes, is_even, ring_ends, rim_share, tail_share, g, scratch,
):  # fmt: skip
    """Nodes around the mode v of a level of several effects: how many, top, total, even and rim.

    V[:, r] become the nodes, ``g`` (M,) what g is at them; sums are of exp(g - top).
    """
    e1, product, V, x, R, L = (
        scratch[2],
        scratch[3],
        scratch[4],
        scratch[5][0],
        scratch[6],
        scratch[7],
    )
    q = len(v)
    for d in range(q):  # R is L'^-1 times the scale
        for c in range(q):
            x[c] = scale if c == d else 0.0
        solve_back(L, x)
        for c in range(q):
            R[c, d] = x[c]
    top, total, even, rim, begin = -np.inf, 0.0, 0.0, 0.0, 0
    for ring in range(1, len(ring_ends)):
        end = ring_ends[ring]
        for c in range(q):
            for r in range(begin, end):
                V[c, r] = v[c]
            for d in range(q):
                for r in range(begin, end):
                    V[c, r] += R[c, d] * nodes[d, r]
        values_at(code, y, trials, weight, eta, par, lo, hi, T, V, begin, end, g, product, e1)
        old = top
        for r in range(begin, end):
            top = max(top, g[r])
        if top > old:
            total *= math.exp(old - top)
            even *= math.exp(old - top)
        for r in range(begin, end):
            e1[r] = fast_exp(g[r] - top)
        rim = 0.0
        for r in range(begin, end):
            total += e1[r]
            if is_even[r] == 1:
                even += e1[r]
            if r >= ring_ends[ring - 1]:
                rim += e1[r]
        begin = end
        if not rim > total * (rim_share if ring == 1 else tail_share):
            break
    return begin, top, total, even, rim


@inner
def _one_effect(
    code, is_same, y, trials, weight, eta, par, fisher, lo, hi, T, v, h, drop, g, scratch
):
    """``level_nodes`` for q = 1."""
    V, n, density, error, rim = scratch[4], 0, 0.0, 0.0, 0.0
    for _ in range(1 + MOST_CLOSER):
        middle, step, first, last, top = line(
            code, is_same, y, trials, weight, eta, par, fisher, lo, hi, T, v[0], h, drop,
            g, scratch,
        )  # fmt: skip
        even, total, n = 0.0, 0.0, last - first + 1
        for r in range(n):
            V[0, r] = middle + (first + r - HALF) * step
            g[r] = fast_exp(g[first + r] - top)
            total += g[r]
            if r % 2 == 0:
                even += g[r]
        density = top + math.log(total * step) - HALF_LOG_2PI
        error, rim = 2.0 * even / total - 1.0, max(g[0], g[n - 1]) / total
        if error * error <= CLOSER:
            break
        h, v[0] = 0.5 * h, middle
    return n, density, error, rim, n - 1


@inner
def sum_of_rows(code, y, trials, weight, eta, par, lo, hi):
    """Log density of the rows of a level without effects."""
    total = 0.0
    for i in range(lo, hi):
        value, _, _, _ = terms(code, y[i], trials[i], eta[i], par)
        total += weight[i] * value
    return total


@shared(
    "Tuple((i8, f8, f8, f8, i8))(i8, b1, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8, i8, i8,"
    "f8[:,::1], f8[::1], f8, f8, f8[:,::1], i8[::1], i8[::1], f8, f8, f8[::1],"
    "Tuple((f8[::1], f8[::1], f8[::1], f8[::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1])))"
)
def level_nodes(
    code, is_same, y, trials, weight, eta, par, fisher, lo, hi, T, v, h, drop,
    nodes, is_even, ring_ends, rim_share, tail_share, g, scratch,
):  # fmt: skip
    """Nodes of a level of q >= 1 effects: how many, log density, e, share of the rim, where it begins.

    v is where the search begins. V[:, r] (in ``scratch``) become the nodes, ``g`` their weights, r
    from 0. Of one effect the rim is the first node and the last, of several the nodes from the number
    returned on; h is then the log volume of a cell.
    """
    if len(v) == 1:
        return _one_effect(
            code, is_same, y, trials, weight, eta, par, fisher, lo, hi, T, v, h, drop, g,
            scratch,
        )  # fmt: skip
    small, H, L = scratch[5], scratch[6], scratch[7]
    if len(v) == 0:
        g[0] = 1.0
        return 1, sum_of_rows(code, y, trials, weight, eta, par, lo, hi), 0.0, 0.0, 0
    q, scale, log_det = len(v), 1.0, 0.0
    mode_at(code, y, trials, weight, eta, par, fisher, lo, hi, T, v, small[0], H, L)
    for c in range(q):
        log_det += math.log(L[c, c])
    n, top, total, even, rim = ball(
        code, y, trials, weight, eta, par, lo, hi, T, v, scale,
        nodes, is_even, ring_ends, rim_share, tail_share, g, scratch,
    )  # fmt: skip
    for _ in range(MOST_CLOSER - 1):
        if (2.0 * even / total - 1.0) ** 2 <= CLOSER:
            break
        scale /= 1.5
        n, top, total, even, rim = ball(
            code, y, trials, weight, eta, par, lo, hi, T, v, scale,
            nodes, is_even, ring_ends, 0.0, tail_share, g, scratch,
        )  # fmt: skip
    first = 0
    for ring in range(len(ring_ends) - 1):
        if ring_ends[ring + 1] == n:
            first = ring_ends[ring]
    for r in range(n):
        g[r] = fast_exp(g[r] - top)
    density = top + math.log(total) + h + q * math.log(scale) - log_det - q * HALF_LOG_2PI
    return n, density, 2.0 * even / total - 1.0, rim / total, first


@inner
def room_for(nodes):
    """Nodes that buffers must hold: those of one effect, or of a lattice (q, M), and full lanes."""
    return max(nodes.shape[1], 2 * HALF + 1) + LANES


@inner
def scratch_of(n, q, n_nodes):
    """Room that the helpers work in."""
    return (
        np.empty(n),
        np.empty(4),
        np.empty(n_nodes),
        np.empty(n_nodes),
        np.zeros((q, n_nodes)),
        np.empty((2, max(q, 1))),
        np.empty((q, q)),
        np.zeros((q, q)),
    )
