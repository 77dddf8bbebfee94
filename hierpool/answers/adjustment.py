"""Intervals and p values for several comparisons at once.

Tukey's method compares every pair of k means by the studentized range. Dunnett's compares each mean
with one reference by the largest of several t's that are correlated, with the probability

    P(some |T_j| >= c) = sum_j P(|T_j| >= c) E[1 / number of |T_l| >= c  |  |T_j| >= c],

which is averaged over points of a fixed low-discrepancy sequence: so it is precise in the far tail
too, and the same in every run. Where degrees of freedom differ between the rows, each row is judged
by its own. Holm's p values go with Bonferroni's intervals, as in emmeans.

References
----------
Tukey (1953), The problem of multiple comparisons. Dunnett (1955), JASA 50, 1096-1121.
Holm (1979), Scand. J. Stat. 6, 65-70. Besag, Green, Higdon, Mengersen (1995), Stat. Sci. 10, 3-41.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import numpy as np
from scipy import optimize, special, stats

from hierpool.core.errors import ArgumentError, listed

Adjust = Literal["tukey", "dunnett", "holm", "none", "simultaneous"]
_LARGE_DF = 1e6  # scipy's studentized range takes its limit from here on
_POINTS = 2**12
_SAME_DF = 6  # significant digits of df that count as one number


def choose_adjust(
    adjust: Adjust | None, is_posterior: bool, method: Literal["pairwise", "reference", "other"]
) -> Adjust:
    """The adjustment; None for the usual one of the method."""
    usual: dict[str, Adjust] = {"pairwise": "tukey", "reference": "dunnett"}
    if adjust is None:
        return "none" if is_posterior else usual.get(method, "none")
    if adjust not in get_args(Adjust):
        raise ArgumentError(
            f"adjust={adjust!r}: choose one of {listed(get_args(Adjust))}", "unknown-choice"
        )
    if is_posterior and adjust not in ("simultaneous", "none"):
        raise ArgumentError(
            f"adjust={adjust!r} belongs to REML, ML and least squares. A posterior has "
            "adjust='simultaneous', intervals that hold together, or 'none'",
            "bad-adjust",
        )
    if not is_posterior and adjust == "simultaneous":
        raise ArgumentError(
            "adjust='simultaneous' needs the draws of a posterior, model.fit(). Here choose "
            "'tukey', 'dunnett', 'holm' or 'none'",
            "bad-adjust",
        )
    for name, wanted, what in (
        ("tukey", "pairwise", "every pair of means"),
        ("dunnett", "reference", "each mean with one reference"),
    ):
        if adjust == name and method != wanted:
            raise ArgumentError(
                f"adjust={name!r} compares {what}: hp.contrast(fit, ..., method={wanted!r}). "
                "Elsewhere choose 'holm' or 'none'",
                "bad-adjust",
            )
    return adjust


def adjusted(
    adjust: Adjust,
    t: np.ndarray,
    df: np.ndarray,
    prob: float,
    n_means: int = 0,
    correlation: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """P values of one family, and half widths of its intervals in standard errors.

    Parameters
    ----------
    adjust
        The method.
    t, df
        Shape (m,): statistics and degrees of freedom, infinite for normal ones; NaN for rows that
        are not estimable, which do not count.
    prob
        Probability of the intervals.
    n_means
        How many means are compared, for Tukey's method.
    correlation
        Shape (m, m): of the estimates, for Dunnett's.
    """
    p, reach = np.full(len(t), np.nan), np.full(len(t), np.nan)
    at = np.flatnonzero(np.isfinite(t) & (df > 0))
    if not len(at):
        return p, reach
    t, df = np.abs(t[at]), df[at]
    # Tukey's family are the means, also those of rows that are not estimable.
    several = n_means > 2 if adjust == "tukey" else len(at) > 1
    plain = 2 * _t_tail(t, df)
    if not several or adjust == "none":
        p[at], reach[at] = plain, _t_quantile((1 - prob) / 2, df)
    elif adjust == "holm":
        order = np.argsort(plain)
        steps = np.maximum.accumulate(plain[order] * np.arange(len(at), 0, -1))
        p[at[order]] = np.minimum(steps, 1.0)
        reach[at] = _t_quantile((1 - prob) / 2 / len(at), df)
    elif adjust == "tukey":
        p[at] = stats.studentized_range.sf(np.sqrt(2) * t, n_means, np.minimum(df, _LARGE_DF))
        reach[at] = _tukey_reach(prob, n_means, df)
    else:
        assert correlation is not None
        R = correlation[np.ix_(at, at)]
        p[at] = [_some_beyond(c, v, R) for c, v in zip(t, df, strict=True)]
        quantiles = {v: _dunnett_reach(prob, v, R) for v in set(_rounded(df))}
        reach[at] = [quantiles[v] for v in _rounded(df)]
    return p, reach


def _t_tail(t: np.ndarray | float, df: np.ndarray | float) -> np.ndarray:
    """P(T >= t) for t > 0."""
    normal = np.isinf(df)
    tail = special.stdtr(np.where(normal, 1.0, df), -np.asarray(t))
    return np.asarray(np.where(normal, special.ndtr(-np.asarray(t)), tail))


def _t_quantile(tail: float | np.ndarray, df: np.ndarray | float) -> np.ndarray:
    """t with P(T >= t) = tail."""
    normal = np.isinf(df)
    upper = -special.stdtrit(np.where(normal, 1.0, df), tail)
    return np.asarray(np.where(normal, -special.ndtri(tail), upper))


def _rounded(df: np.ndarray) -> list[float]:
    return [float(f"{v:.{_SAME_DF}g}") for v in df]


def _tukey_reach(prob: float, k: int, df: np.ndarray) -> np.ndarray:
    """Shape (m,): quantiles of the studentized range over the root of 2."""
    rounded = np.minimum(_rounded(df), _LARGE_DF)
    different = np.unique(rounded)
    low, high = 1 / different[-1], 1 / different[0]
    nodes = 3 if high < 1.3 * low else 4 if high < 2 * low else 6
    if len(different) <= nodes:
        found = {v: _tukey_quantile(prob, k, v) for v in different}
        return np.array([found[v] for v in rounded])
    # A smooth function of 1 / df: a polynomial through Chebyshev points of its range.
    made = np.polynomial.Chebyshev.interpolate(
        np.vectorize(lambda inverse: _tukey_quantile(prob, k, 1 / inverse)), nodes - 1, [low, high]
    )
    return np.asarray(made(1 / rounded))


@cache
def _tukey_quantile(prob: float, k: int, df: float) -> float:
    """Half width of Tukey's intervals, between those of one comparison and of Bonferroni."""
    one = float(_t_quantile((1 - prob) / 2, df))
    several = float(_t_quantile((1 - prob) / (k * (k - 1)), df))

    def excess(c: float) -> float:
        return float(stats.studentized_range.sf(np.sqrt(2) * c, k, df)) - (1 - prob)

    return float(optimize.brentq(excess, one - 1e-6, several + 1e-6, xtol=1e-8)) if k > 2 else one


@cache
def _points(n: int) -> np.ndarray:
    """Shape (points, n): a Sobol sequence, scrambled with a fixed seed."""
    return np.asarray(stats.qmc.Sobol(n, rng=np.random.default_rng(1)).random(_POINTS))


def _some_beyond(c: float, df: float, R: np.ndarray) -> float:
    """P(some |T_j| >= c) of correlated t's."""
    m = len(R)
    uniform = _points(m + 1)
    tail = float(_t_tail(c, df))
    own = _t_quantile(np.maximum(uniform[:, 0] * tail, 1e-300), df)  # |T_j| given that it is beyond
    scale = np.ones(len(own))
    if np.isfinite(df):  # given T_j the others are t's with one more degree of freedom
        chi = 2 * special.gammaincinv((df + 1) / 2, uniform[:, 1]) / (df + 1)
        scale = np.sqrt((df + own**2) / (df + 1) / chi)
    normal, total = special.ndtri(uniform[:, 2:]), 0.0
    for j in range(m):
        rest = np.delete(np.arange(m), j)
        left = R[np.ix_(rest, rest)] - np.outer(R[rest, j], R[rest, j])
        values, vectors = np.linalg.eigh(left)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        others = own[:, None] * R[rest, j] + scale[:, None] * (normal @ root.T)
        total += 2 * tail * float((1 / (1 + (np.abs(others) >= c).sum(axis=1))).mean())
    return min(total, 1.0)


def _dunnett_reach(prob: float, df: float, R: np.ndarray) -> float:
    """c with P(some |T_j| >= c) = 1 - prob."""
    low = float(_t_quantile((1 - prob) / 2, df))
    high = float(_t_quantile((1 - prob) / 2 / len(R), df))
    if high - low < 1e-9:
        return low

    def excess(c: float) -> float:
        return _some_beyond(c, df, R) - (1 - prob)

    if excess(low) <= 0:  # all are one
        return low
    if excess(high) >= 0:
        return high
    return float(optimize.brentq(excess, low, high, xtol=1e-5))


def simultaneous(draws: np.ndarray, prob: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that all hold together with a probability, from draws (K, m).

    The same order statistics from below and above for each column, so that they do not depend on
    its scale: that many that a share ``prob`` of the draws lies within all bounds.
    """
    K = len(draws)
    ordered = np.sort(draws, axis=0)
    rank = np.argsort(np.argsort(draws, axis=0, kind="stable"), axis=0, kind="stable") + 1
    farthest = np.maximum(rank, K + 1 - rank).max(axis=1)
    last = int(np.sort(farthest)[min(int(np.ceil(prob * K)), K) - 1])
    return ordered[K - last], ordered[last - 1]
