"""Log densities of all families at one row, compiled, with their derivatives by the linear predictor.

``terms(code, y, m, eta, par)`` gives (l, l', w, w_safe): the log density without what does not depend
on the predictor (``Family.constant``), its derivative, minus its second derivative, and a weight that
is never negative, with which a search for the maximum climbs. Nothing overflows: exponents are
bounded, and tails are worked out by their logs.

References
----------
Smyth, Verbyla (1999), Environmetrics 10, 695-709 (dispersion).  Lange, Little, Taylor (1989), JASA
84, 881-896 (weights of t).
"""

from __future__ import annotations

import math

from numba import njit

from hierpool.core.compiled import compiled
from hierpool.core.families.codes import (
    BETA,
    CLOGLOG,
    GAMMA,
    HURDLE_POISSON,
    LARGEST_SHAPE,
    LOGIT,
    NEGBINOMIAL,
    ORDINAL_LOGIT,
    ORDINAL_PROBIT,
    POISSON,
    PROBIT,
    STUDENT,
    ZERO_NEGBINOMIAL,
    ZERO_POISSON,
)

_LARGEST = 700.0  # exponent
_HALF_LOG_2PI = 0.9189385332046727


@njit(inline="always")
def log_ndtr(x):
    """Log of the normal cdf, by a continued fraction in the far tail."""
    if x > -5.0:
        return math.log(0.5 * math.erfc(-x * 0.7071067811865476))
    z = -x
    f = z + 12.0
    for k in range(12, 0, -1):
        f = z + k / f
    return -0.5 * x * x - _HALF_LOG_2PI - math.log(f)


@njit(inline="always")
def digamma(x):
    """Derivative of log gamma, for x > 0."""
    total = 0.0
    while x < 8.0:
        total -= 1.0 / x
        x += 1.0
    r = 1.0 / (x * x)
    series = r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r / 132))))
    return total + math.log(x) - 0.5 / x - series


@njit(inline="always")
def trigamma(x):
    """Second derivative of log gamma, for x > 0."""
    total = 0.0
    while x < 8.0:
        total += 1.0 / (x * x)
        x += 1.0
    r = 1.0 / (x * x)
    series = r * (1 / 6 - r * (1 / 30 - r * (1 / 42 - r * (1 / 30 - r * 5 / 66))))
    return total + 1.0 / x + 0.5 * r + series / x


@njit(error_model="numpy")
def terms(code, y, m, eta, par):
    """(value, value', w, w_safe) of one row: y of m trials, at the predictor eta; ``par`` (P,)."""
    if code == LOGIT:
        return _logit(y, m, eta)
    if code == POISSON:
        mu = math.exp(min(eta, _LARGEST))
        return y * eta - mu, y - mu, mu, mu
    if code == NEGBINOMIAL:
        return _negbinomial(y, eta, min(par[0], LARGEST_SHAPE))
    if code == STUDENT:
        return _student(y - eta, par[0], par[1])
    if code == PROBIT:
        return _probit(y, m, eta)
    if code == CLOGLOG:
        return _cloglog(y, m, eta)
    if code == GAMMA:
        a = min(par[0], LARGEST_SHAPE)
        x = a * y * math.exp(min(-eta, _LARGEST))
        return -a * eta - x, x - a, x, x
    if code == BETA:
        return _beta(y, eta, min(par[0], LARGEST_SHAPE))
    if code == ORDINAL_LOGIT:
        return _ordinal_logit(int(y), eta, par)
    if code == ORDINAL_PROBIT:
        return _ordinal_probit(int(y), eta, par)
    if code == ZERO_POISSON:
        return _zero_inflated(y, eta, 0.0, par[0])
    if code == ZERO_NEGBINOMIAL:
        return _zero_inflated(y, eta, min(par[0], LARGEST_SHAPE), par[1])
    if code == HURDLE_POISSON:
        return _hurdle(y, eta, 0.0)
    return _hurdle(y, eta, min(par[0], LARGEST_SHAPE))


@njit(inline="always", error_model="numpy")
def _logit(y, m, eta):
    e = math.exp(-abs(eta))
    share = 1.0 / (1.0 + e)
    p = share if eta > 0 else e * share
    w = m * e * share * share
    return y * eta - m * (max(eta, 0.0) + math.log1p(e)), y - m * p, w, w


@njit(inline="always", error_model="numpy")
def _probit(y, m, eta):
    up, down = log_ndtr(eta), log_ndtr(-eta)
    density = -0.5 * eta * eta - _HALF_LOG_2PI
    r1, r0 = math.exp(density - up), math.exp(density - down)
    value = 0.0
    if y > 0:
        value += y * up
    if m > y:
        value += (m - y) * down
    w = y * r1 * (r1 + eta) + (m - y) * r0 * (r0 - eta)
    return value, y * r1 - (m - y) * r0, w, max(w, 0.0)


@njit(inline="always", error_model="numpy")
def _cloglog(y, m, eta):
    t = math.exp(min(eta, _LARGEST))
    small = t < 1e-8
    log_p = eta - 0.5 * t if small else math.log(-math.expm1(-t))
    h = 1.0 - 0.5 * t if small else (t / math.expm1(t) if t < _LARGEST else 0.0)
    w = y * h * (0.5 * t if small else t + h - 1.0) + (m - y) * t
    return y * log_p - (m - y) * t, y * h - (m - y) * t, w, max(w, 0.0)


@njit(inline="always", error_model="numpy")
def _log1p_exp(eta, a):
    """log(1 + exp(eta) / a)."""
    if eta > _LARGEST:
        return eta - math.log(a)
    return math.log1p(math.exp(eta) / a)


@njit(inline="always", error_model="numpy")
def _negbinomial(y, eta, a):
    mu = math.exp(min(eta, 300.0))
    share = mu / (a + mu)
    w = (y + a) * share * (a / (a + mu))
    return y * eta - (y + a) * _log1p_exp(eta, a), y - (y + a) * share, w, w


@njit(inline="always", error_model="numpy")
def _student(r, sigma, nu):
    scale = nu * sigma * sigma
    d = scale + r * r
    safe = (nu + 1.0) / d
    value = -0.5 * (nu + 1.0) * math.log1p(r * r / scale)
    return value, safe * r, safe * ((scale - r * r) / d), safe


@njit(inline="always", error_model="numpy")
def _beta(y, eta, phi):
    e = math.exp(-abs(eta))
    share = 1.0 / (1.0 + e)
    high, low = share, e * share
    mu, rest = (high, low) if eta > 0 else (low, high)
    a, b = max(mu * phi, 1e-300), max(rest * phi, 1e-300)
    slope = phi * high * low
    log_odds = math.log(y) - math.log1p(-y)
    gap = log_odds - (digamma(a) - digamma(b))
    fisher = slope * slope * (trigamma(max(a, 1e-100)) + trigamma(max(b, 1e-100)))
    value = mu * phi * log_odds - math.lgamma(a) - math.lgamma(b)
    return value, slope * gap, fisher - (rest - mu) * slope * gap, fisher


@njit(inline="always", error_model="numpy")
def _sigmoid(x):
    e = math.exp(-abs(x))
    return 1.0 / (1.0 + e) if x > 0 else e / (1.0 + e)


@njit(inline="always", error_model="numpy")
def _softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@njit(inline="always", error_model="numpy")
def _ordinal_logit(y, eta, par):
    # F(a) - F(b) = F(a) (1 - F(b)) (1 - exp(b - a)): no difference of two numbers near one.
    value, l1, w = 0.0, 0.0, 0.0
    if y < len(par):
        a = par[y] - eta
        F = _sigmoid(-a)
        value -= _softplus(-a)
        l1 -= F
        w += F * (1.0 - F)
    if y > 0:
        b = par[y - 1] - eta
        F = _sigmoid(b)
        value -= _softplus(b)
        l1 += F
        w += F * (1.0 - F)
        if y < len(par):
            value += math.log(-math.expm1(par[y - 1] - par[y]))
    return value, l1, w, w


@njit(inline="always", error_model="numpy")
def _ordinal_probit(y, eta, par):
    if y == 0 or y == len(par):
        x = par[0] - eta if y == 0 else eta - par[y - 1]
        sign = -1.0 if y == 0 else 1.0
        value = log_ndtr(x)
        r = math.exp(-0.5 * x * x - _HALF_LOG_2PI - value)
        w = r * (r + x)
        return value, sign * r, w, max(w, 0.0)
    a, b = par[y] - eta, par[y - 1] - eta
    high, low = (a, b) if a + b < 0 else (-b, -a)  # the nearer tail
    top = log_ndtr(high)
    value = top + math.log(-math.expm1(log_ndtr(low) - top))
    ra = math.exp(-0.5 * a * a - _HALF_LOG_2PI - value)
    rb = math.exp(-0.5 * b * b - _HALF_LOG_2PI - value)
    l1 = rb - ra
    w = l1 * l1 + a * ra - b * rb
    return value, l1, w, max(w, 0.0)


@njit(inline="always", error_model="numpy")
def _of_count(y, eta, a):
    """(value, value', w) of a Poisson count, a = 0, or of a negative binomial one."""
    if a == 0.0:
        mu = math.exp(min(eta, _LARGEST))
        return y * eta - mu, y - mu, mu
    value, l1, w, _ = _negbinomial(y, eta, a)
    return value, l1, w


@njit(inline="always", error_model="numpy")
def _zero_inflated(y, eta, a, extra):
    value, l1, w = _of_count(y, eta, a)
    if y > 0:
        return value, l1, w, w
    # value is the log probability of a zero, -l1 and w its derivatives; mixed with the extra zeros.
    counted = (1.0 - extra) * math.exp(value)
    total = extra + counted
    if total <= 0.0:
        return value + math.log1p(-extra), l1, w, w
    share = counted / total
    mixed = share * w - share * (1.0 - share) * l1 * l1
    return math.log(total), share * l1, mixed, max(mixed, 0.5 * share * w)


@njit(inline="always", error_model="numpy")
def _hurdle(y, eta, a):
    if y == 0:
        return 0.0, 0.0, 0.0, 0.0
    value, l1, w = _of_count(y, eta, a)
    log_zero, s, slope = _of_count(0.0, eta, a)
    if log_zero < -_LARGEST:
        return value, l1, w, w
    positive = -math.expm1(log_zero)
    if positive < 1e-8:  # a count of one or more is as rare as its mean is small
        return value - eta, l1 - 1.0, max(w, 0.0), max(w, 0.0)
    h = math.exp(log_zero) / positive
    truncated = w + slope * h - s * s * h * (1.0 + h)
    return value - math.log(positive), l1 + s * h, truncated, max(truncated, 0.0)


@compiled(
    "void(int64, float64[::1], float64[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1])"
)
def densities(code, y, trials, eta, par, out):
    """out (K, n): log densities without constants, at predictors (K, n) and parameters (K, P)."""
    for k in range(len(eta)):
        for i in range(len(y)):
            out[k, i] = terms(code, y[i], trials[i], eta[k, i], par[k])[0]
