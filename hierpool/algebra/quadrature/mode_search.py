"""Compiled search for the mode of a level's deviations, by Newton steps; and small Cholesky factors.

v, not u, is searched and integrated: its precision is never below 1, and an sd of zero is no special
case. Steps are capped on the scale of eta: where a count is far to the right a posterior sd is tiny, and
steps of a few of them would never arrive; where the rows say nothing it is wide, and steps of a few of
them leap over the mode and back for ever. Along a line the slope's sign also says on which side the
mode is.
"""

from __future__ import annotations

import math

from hierpool.core.compiled import inner, shared
from hierpool.core.elementary import fast_exp, fast_log1p
from hierpool.core.families import codes
from hierpool.core.families.compiled import terms
from hierpool.core.families.special import LARGEST

ENOUGH = 0.1  # posterior sds: a smaller step ends the search, the quadrature needs no exact mode
MOST_STEPS = 200
CAP = 2.5  # largest step on the scale of eta


@inner
def cholesky(H, L):
    """L (q, q) becomes the lower Cholesky factor of H, of which the lower half is read."""
    q = len(H)
    for i in range(q):
        for j in range(i + 1):
            s = H[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            if i == j:
                L[i, i] = math.sqrt(max(s, 1e-300))
            else:
                L[i, j] = s / L[j, j]


@inner
def solve_back(L, x):
    """x becomes L'^-1 x."""
    for i in range(len(x) - 1, -1, -1):
        for k in range(i + 1, len(x)):
            x[i] -= L[k, i] * x[k]
        x[i] /= L[i, i]


@inner
def solve_forward(L, x):
    """x becomes L^-1 x."""
    for i in range(len(x)):
        for k in range(i):
            x[i] -= L[i, k] * x[k]
        x[i] /= L[i, i]


@inner
def log_shape_of(code, par):
    """What ``climbing`` needs of the parameters."""
    is_needed = code == codes.NEGBINOMIAL or code == codes.ZERO_NEGBINOMIAL
    return math.log(min(par[0], codes.LARGEST_SHAPE)) if is_needed else 0.0


@inner
def _polygammas(z):
    """digamma(z) and trigamma(z), z >= 1, to 1e-8: four steps up, and their series."""
    one, two = 0.0, 0.0
    for _ in range(4):
        i = 1.0 / z
        one += i
        two += i * i
        z += 1.0
    i = 1.0 / z
    w = i * i
    first = w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w / 240)))
    second = i * (1.0 + i * (0.5 + i * (1 / 6 - w * (1 / 30 - w * (1 / 42 - w / 30)))))
    return fast_log1p(z - 1.0) - 0.5 * i - first - one, second + two


@inner
def _climbing_share(y, eta, precision):
    """``climbing`` of a share, by Fisher's information."""
    e = fast_exp(-abs(eta))
    small, large = e / (1.0 + e), 1.0 / (1.0 + e)
    p, q = (small, large) if eta < 0.0 else (large, small)
    a, b = p * precision, q * precision
    digamma_a, trigamma_a = _polygammas(1.0 + a)
    digamma_b, trigamma_b = _polygammas(1.0 + b)
    # x digamma(x) is x digamma(1 + x) - 1, x^2 trigamma(x) is x^2 trigamma(1 + x) + 1.
    slope = q * (a * (math.log(y / (1.0 - y)) - digamma_a) + 1.0) + p * (b * digamma_b - 1.0)
    return slope, q * q * (1.0 + a * a * trigamma_a) + p * p * (1.0 + b * b * trigamma_b)


@inner
def climbing(code, y, trials, eta, par, log_shape):
    """Derivative of the log density of a row, and the weight that is safe to climb by.

    As ``compiled.terms``, which is several times slower: its log density takes a logarithm.
    """
    if code == codes.LOGIT:
        p = 1.0 / (1.0 + fast_exp(-eta))
        return y - trials * p, trials * p * (1.0 - p)
    if code == codes.NEGBINOMIAL or (code == codes.ZERO_NEGBINOMIAL and y > 0):
        p, size = 1.0 / (1.0 + fast_exp(log_shape - eta)), y + min(par[0], codes.LARGEST_SHAPE)
        return y - size * p, size * p * (1.0 - p)
    if code == codes.STUDENT:
        off = y - eta
        em = (par[1] + 1.0) / (par[1] * par[0] * par[0] + off * off)
        return em * off, em
    if code == codes.BETA:
        return _climbing_share(y, eta, min(par[0], codes.LARGEST_SHAPE))
    _, slope, _, safe = terms(code, y, trials, eta, par)
    return slope, safe


@shared(
    "UniTuple(f8, 2)(i8, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8, i8, i8, f8[::1], f8[::1],"
    "f8, f8)"
)
def mode_along(code, y, trials, weight, eta, par, fisher, lo, hi, F, sums, t, v):
    """Mode of g where T is t for every row, and the precision there."""
    H, log_shape, low, high = 1.0, log_shape_of(code, par), -math.inf, math.inf
    shape = min(par[0], codes.LARGEST_SHAPE) if code == codes.NEGBINOMIAL else 0.0
    for _ in range(MOST_STEPS):
        gradient, H = 0.0, 0.0
        if code == codes.LOGIT and sums[3] < LARGEST:
            e0 = fast_exp(t * v)
            e1 = 1.0 / e0
            gradient = sums[0]
            for i in range(lo, hi):
                is_success = 2.0 * y[i] > trials[i]
                x = min(F[i] * (e1 if is_success else e0), 1e200)
                p = x / (1.0 + x)
                times = weight[i] * trials[i]
                gradient += times * p if is_success else -times * p
                H += times * p * (1.0 - p)
        elif code == codes.POISSON:
            H = min(sums[1] * fast_exp(t * v), 1e200)
            gradient = sums[0] - H
        elif code == codes.GAMMA:
            H = min(sums[1] * fast_exp(-t * v), 1e200)
            gradient = sums[0] + H
        elif code == codes.NEGBINOMIAL and sums[3] < LARGEST:
            gradient, e0 = sums[0], fast_exp(t * v)
            for i in range(lo, hi):
                x = min(F[i] * e0, 1e200)
                p = x / (1.0 + x)
                times = weight[i] * (y[i] + shape)
                gradient -= times * p
                H += times * p * (1.0 - p)
        else:
            for i in range(lo, hi):
                l1, w = climbing(code, y[i], trials[i], eta[i] + t * v, par, log_shape)
                gradient += weight[i] * l1
                H += weight[i] * w
        H = 1.0 + t * t * H
        step, sd = (t * gradient - v) / H, math.sqrt(H)
        cap = max(CAP / max(abs(t), 1e-8), 3.0 / sd)
        if abs(step) > cap:
            step = math.copysign(cap, step)
        if step > 0.0:
            low = v
            if v + step >= high:
                step = 0.5 * (high - v)
        elif step < 0.0:
            high = v
            if v + step <= low:
                step = 0.5 * (low - v)
        v += step
        if abs(step) * sd < ENOUGH:
            break
    return v, 1.0 + (H - 1.0) * fisher


@shared(
    "void(i8, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8, i8, i8, f8[:,::1], f8[::1], f8[::1],"
    "f8[:,::1], f8[:,::1])"
)
def mode_at(code, y, trials, weight, eta, par, fisher, lo, hi, T, v, g, H, L):
    """v becomes the mode of g where T differs between rows, L the factor of the precision there."""
    q, log_shape = len(v), log_shape_of(code, par)
    for _ in range(MOST_STEPS):
        for c in range(q):
            g[c] = -v[c]
            for d in range(q):
                H[c, d] = 0.0
        for i in range(lo, hi):
            e = eta[i]
            for c in range(q):
                e += T[i, c] * v[c]
            l1, w = climbing(code, y[i], trials[i], e, par, log_shape)
            l1, w = weight[i] * l1, weight[i] * w
            for c in range(q):
                g[c] += T[i, c] * l1
                for d in range(c + 1):
                    H[c, d] += T[i, c] * T[i, d] * w
        for c in range(q):
            H[c, c] += 1.0
        cholesky(H, L)
        solve_forward(L, g)
        size = 0.0
        for c in range(q):
            size += g[c] * g[c]
        size = math.sqrt(size)
        solve_back(L, g)
        change = 0.0
        for i in range(lo, hi):
            e = 0.0
            for c in range(q):
                e += T[i, c] * g[c]
            change = max(change, abs(e))
        factor = min(1.0, CAP / max(change, 1e-8))
        for c in range(q):
            v[c] += factor * g[c]
        if size < ENOUGH:
            break
    if fisher != 1.0:
        for c in range(q):
            for d in range(c + 1):
                one = 1.0 if c == d else 0.0
                H[c, d] = one + (H[c, d] - one) * fisher
        cholesky(H, L)


@inner
def copied(source, target):
    """target becomes source. Assigning a slice would bring a message on shapes, and compile long."""
    for c in range(len(target)):
        target[c] = source[c]


@inner
def spread(Z, Lambda, T):
    """T (N, q) becomes Z Lambda."""
    q = Z.shape[1]
    for i in range(len(Z)):
        for c in range(q):
            s = 0.0
            for d in range(q):
                s += Z[i, d] * Lambda[d, c]
            T[i, c] = s
