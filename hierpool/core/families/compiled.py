"""Log densities of one row and their derivatives in the linear predictor, for compiled loops.

``terms(code, y, m, eta, par)`` gives (l, l', w, safe): the log density without what does not
depend on eta (``Family.constant``), its derivative, w = -l'', and a weight that is never negative,
for climbing: w itself where l is concave, the weight of the EM algorithm where it is not (Student's
t, the zeros of zero-inflated counts), Fisher's information for beta.

Symbols
    y     response; a rating from 0
    m     trials
    par   parameters as ``Family.parameters`` orders them; of ratings, their thresholds
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from hierpool.core.compiled import compiled, inner, shared
from hierpool.core.families import codes
from hierpool.core.families.special import (
    LOG_ROOT_2PI,
    digamma_times,
    exp_cut,
    expit_softplus,
    log_mills,
    normal_tail,
    positive_count,
    trigamma_times,
)

CLOSE = 0.02  # thresholds of a probit as close as this: series about their middle


@njit(inline="always")
def logit(y, m, eta):
    """Of m trials y successes."""
    p, q, softplus = expit_softplus(eta)
    value = (y - m) * eta - m * (softplus - eta) if eta > 0 else y * eta - m * softplus
    w = m * p * q
    return value, y * q - (m - y) * p, w, w


@njit(inline="always")
def probit(y, m, eta):
    """Of m trials y successes."""
    value = slope = w = 0.0
    if y > 0:
        log_p, ratio, rest = normal_tail(eta)
        value += y * log_p
        slope += y * ratio
        w += y * ratio * rest
    if y < m:
        log_p, ratio, rest = normal_tail(-eta)
        value += (m - y) * log_p
        slope -= (m - y) * ratio
        w += (m - y) * ratio * rest
    return value, slope, w, w


@njit(inline="always")
def cloglog(y, m, eta):
    """Of m trials y successes, each of probability 1 - exp(-exp(eta))."""
    mean = exp_cut(eta)
    value, slope, w = -(m - y) * mean, -(m - y) * mean, (m - y) * mean
    if y > 0:
        log_p, more, _, less = positive_count(mean)
        value += y * (log_p if eta > -600 else eta)
        slope += y * less
        w += y * less * more
    return value, slope, w, w


@njit(inline="always")
def poisson(y, eta):
    """Counts."""
    mean = exp_cut(eta)
    return y * eta - mean, y - mean, mean, mean


@njit(inline="always")
def negbinomial(y, eta, shape):
    """Counts of variance mean + mean^2 / shape."""
    log_shape = math.log(shape)
    t = eta - log_shape
    p, q, softplus = expit_softplus(t)
    if t > 0:
        value = y * log_shape - shape * t - (y + shape) * (softplus - t)
    else:
        value = y * eta - (y + shape) * softplus
    w = (y + shape) * p * q
    return value, y * q - shape * p, w, w


@njit(inline="always")
def student(y, eta, sigma, nu):
    """Around eta with scale sigma and nu degrees of freedom."""
    r, size = y - eta, nu * sigma * sigma
    whole = size + r * r
    em = (nu + 1.0) / whole
    value = -0.5 * (nu + 1.0) * math.log1p(r * r / size)
    return value, em * r, em * (size - r * r) / whole, em


@njit(inline="always")
def gamma(y, eta, shape):
    """Positive numbers of mean exp(eta)."""
    w = shape * y * exp_cut(-eta)
    return -shape * eta - w, w - shape, w, w


@inner
def beta(y, eta, precision, is_probit):
    """Shares of mean p: beta of p precision and (1 - p) precision."""
    if is_probit:
        log_p, to_p, _ = normal_tail(eta)  # to_p: p' / p, to_q: p' / (1 - p)
        log_q, to_q, _ = normal_tail(-eta)
        bend = -eta  # p'' / p'
    else:
        to_q, to_p, softplus = expit_softplus(eta)
        log_q, log_p = -softplus, -expit_softplus(-eta)[2]
        bend = to_p - to_q
    p, q = math.exp(log_p), math.exp(log_q)
    a, b = p * precision, q * precision
    size = math.log(precision)
    seen = math.log(y) - math.log1p(-y)
    # lgamma(a) = lgamma(1 + a) - log a, which holds where p is 0 in floating point.
    value = a * seen - math.lgamma(1.0 + a) - math.lgamma(1.0 + b) + (log_p + size) + (log_q + size)
    slope = to_p * a * seen - to_p * digamma_times(a) + to_q * digamma_times(b)
    fisher = to_p * to_p * trigamma_times(a) + to_q * to_q * trigamma_times(b)
    return value, slope, fisher - bend * slope, fisher


@njit(inline="always")
def ordinal_logit(y, eta, thresholds):
    """Ratings from 0.

    F(a) - F(b) = F(a) (1 - F(b)) (1 - exp(b - a)): no difference of two numbers near one.
    """
    rating = int(y)
    value = slope = w = 0.0
    if rating < len(thresholds):
        p, q, softplus = expit_softplus(eta - thresholds[rating])
        value -= softplus
        slope -= p
        w += p * q
    if rating > 0:
        p, q, softplus = expit_softplus(thresholds[rating - 1] - eta)
        value -= softplus
        slope += p
        w += p * q
        if rating < len(thresholds):
            value += math.log(-math.expm1(thresholds[rating - 1] - thresholds[rating]))
    return value, slope, w, w


@inner
def ordinal_probit(y, eta, thresholds):
    """Ratings from 0."""
    rating = int(y)
    if rating == 0:
        value, ratio, rest = normal_tail(thresholds[0] - eta)
        return value, -ratio, ratio * rest, ratio * rest
    if rating == len(thresholds):
        value, ratio, rest = normal_tail(eta - thresholds[rating - 1])
        return value, ratio, ratio * rest, ratio * rest
    low, high = thresholds[rating - 1], thresholds[rating]
    value, slope, w = normal_between(low - eta, high - eta, high - low)
    return value, slope, w, w


@njit(inline="always")
def normal_between(low, high, width):
    """log P(low < z < high), ``width`` apart, and its derivatives in a shift of both ends.

    The first, and the second negated.
    """
    middle = 0.5 * (low + high)
    if width * (1.0 + abs(middle)) < CLOSE:
        m2, d2 = middle * middle, width * width
        s = 1.0 + d2 * ((m2 - 1.0) / 24.0 + d2 * ((m2 - 6.0) * m2 + 3.0) / 1920.0)
        s1 = d2 * middle * (1.0 / 12.0 + d2 * (4.0 * m2 - 12.0) / 1920.0) / s
        s2 = d2 * (1.0 / 12.0 + d2 * (12.0 * m2 - 12.0) / 1920.0) / s
        value = -0.5 * m2 - LOG_ROOT_2PI + math.log(width) + math.log(s)
        return value, middle - s1, 1.0 - s2 + s1 * s1
    sign = 1.0
    if middle > 0:
        low, high, sign = -high, -low, -1.0
    density = -0.5 * high * high - LOG_ROOT_2PI
    q = math.exp(-0.5 * width * (-high - low))  # phi(low) / phi(high)
    if high <= 0:
        mass = math.exp(log_mills(high)) - q * math.exp(log_mills(low))
        value = density + math.log(mass)
        at_high = 1.0 / mass
    else:
        value = math.log(math.exp(normal_tail(high)[0]) - math.exp(normal_tail(low)[0]))
        at_high = math.exp(density - value)
    at_low = q * at_high
    slope = at_low - at_high
    return value, sign * slope, slope * slope + high * at_high - low * at_low


@njit(inline="always")
def no_count(s, s1, s2, inflation):
    """A zero of an inflated count that would be zero with probability exp(-s).

    s1, s2: the first two derivatives of s.
    """
    log_in, log_out = math.log(inflation), math.log1p(-inflation)
    excess = log_in - log_out + s  # log odds that the zero is of the other kind
    other, own, softplus = expit_softplus(excess)
    value = log_in + (softplus - excess) if excess > 0 else log_out - s + softplus
    em = own * s2
    return value, -own * s1, em - (own * s1) * (other * s1), em


@njit(inline="always")
def zero_inflated_poisson(y, eta, inflation):
    """Counts with zeros of another kind."""
    if y > 0:
        return poisson(y, eta)
    mean = exp_cut(eta)
    return no_count(mean, mean, mean, inflation)


@njit(inline="always")
def zero_inflated_negbinomial(y, eta, shape, inflation):
    """Counts with zeros of another kind."""
    if y > 0:
        return negbinomial(y, eta, shape)
    p, q, softplus = expit_softplus(eta - math.log(shape))
    return no_count(shape * softplus, shape * p, shape * p * q, inflation)


@njit(inline="always")
def hurdle_poisson(y, eta):
    """Positive counts of a truncated distribution; zeros say nothing of it."""
    if y == 0:
        return 0.0, 0.0, 0.0, 0.0
    mean = exp_cut(eta)
    log_p, more, less, _ = positive_count(mean)
    # less is 1 - E(N | 0 < N) + mean, so that the variance is (1 + more) less.
    value = (y - 1.0) * eta - mean if eta < -600 else y * eta - mean - log_p
    w = (1.0 + more) * less
    return value, y - 1.0 - more, w, w


@inner
def hurdle_negbinomial(y, eta, shape):
    """Positive counts of a truncated distribution; zeros say nothing of it."""
    if y == 0:
        return 0.0, 0.0, 0.0, 0.0
    value, slope, w, _ = negbinomial(y, eta, shape)
    t = eta - math.log(shape)
    p, q, softplus = expit_softplus(t)
    s, s1 = shape * softplus, shape * p
    s2 = s1 * q
    if s < 1e-4:  # log(1 - exp(-s)) is log s less s / 2, plus s^2 / 24
        if t < -11.5:  # log softplus(t) is t less x / 2, plus 5 x^2 / 24, of x = exp(t)
            x = math.exp(t)
            log_s, d1, d2 = (
                eta - x * (0.5 - x * 5 / 24),
                -x * (0.5 - x * 5 / 12),
                -x * (0.5 - x * 5 / 6),
            )
            value -= log_s - s * (0.5 - s / 24)
            slope = (y - 1.0) - (y + shape) * p - d1 + s1 * (0.5 - s / 12)
            w += d2 - s2 * (0.5 - s / 12) + s1 * s1 / 12
            return value, slope, w, max(w, 0.0)
        log_s, d1 = math.log(s), p / softplus
        d2 = d1 * (q - d1)
        value -= log_s - s * (0.5 - s / 24)
        slope -= d1 - s1 * (0.5 - s / 12)
        w += d2 - s2 * (0.5 - s / 12) + s1 * s1 / 12
        return value, slope, w, max(w, 0.0)
    there, gone = -math.expm1(-s), math.exp(-s)
    odds = gone / there  # 1 / (exp(s) - 1)
    value -= math.log(there)
    slope -= s1 * odds
    w += s2 * odds - (s1 * odds) * (s1 / there)
    return value, slope, w, max(w, 0.0)


@shared("UniTuple(f8, 4)(i8, f8, f8, f8, f8[::1])")
def terms(code, y, m, eta, par):
    """(l, l', w, safe) of one row, as the page above says."""
    if code == codes.LOGIT:
        return logit(y, m, eta)
    if code == codes.POISSON:
        return poisson(y, eta)
    if code == codes.NEGBINOMIAL:
        return negbinomial(y, eta, min(par[0], codes.LARGEST_SHAPE))
    if code == codes.PROBIT:
        return probit(y, m, eta)
    if code == codes.CLOGLOG:
        return cloglog(y, m, eta)
    if code == codes.STUDENT:
        return student(y, eta, par[0], par[1])
    if code == codes.GAMMA:
        return gamma(y, eta, min(par[0], codes.LARGEST_SHAPE))
    if code == codes.BETA or code == codes.BETA_PROBIT:
        return beta(y, eta, min(par[0], codes.LARGEST_SHAPE), code == codes.BETA_PROBIT)
    if code == codes.ORDINAL_LOGIT:
        return ordinal_logit(y, eta, par)
    if code == codes.ORDINAL_PROBIT:
        return ordinal_probit(y, eta, par)
    if code == codes.ZERO_POISSON:
        return zero_inflated_poisson(y, eta, par[0])
    if code == codes.ZERO_NEGBINOMIAL:
        return zero_inflated_negbinomial(y, eta, min(par[0], codes.LARGEST_SHAPE), par[1])
    if code == codes.HURDLE_POISSON:
        return hurdle_poisson(y, eta)
    if code == codes.HURDLE_NEGBINOMIAL:
        return hurdle_negbinomial(y, eta, min(par[0], codes.LARGEST_SHAPE))
    return np.nan, np.nan, np.nan, np.nan


@compiled(
    "void(int64, float64[::1], float64[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1])"
)
def densities(code, y, trials, eta, par, out):
    """out (K, n): log densities without constants, at predictors (K, n) and parameters (K, P)."""
    for k in range(len(eta)):
        for i in range(len(y)):
            out[k, i] = terms(code, y[i], trials[i], eta[k, i], par[k])[0]


@compiled("void(int64, float64[::1], float64[::1], float64[::1], float64[::1], float64[:, ::1])")
def derivatives(code, y, trials, eta, par, out):
    """out (4, n): value, slope, curvature and safe curvature of ``terms`` at predictors (n,)."""
    for i in range(len(y)):
        out[0, i], out[1, i], out[2, i], out[3, i] = terms(code, y[i], trials[i], eta[i], par)
