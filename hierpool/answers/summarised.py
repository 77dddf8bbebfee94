"""Linear predictors of a fit as tables: of draws, or of estimates with their degrees of freedom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.conditional_variance import user_roots
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.mixed_model_equations import Henderson
from hierpool.answers import coefficient_draws
from hierpool.answers.adjustment import Adjust, adjusted, simultaneous
from hierpool.answers.expected_values import ExpectedValues, variance_of_draws
from hierpool.answers.group_of_family import GroupOfFamily
from hierpool.answers.linear_predictors import LinearPredictors
from hierpool.answers.response_scale import ResponseScale
from hierpool.core.estimable import Beyond
from hierpool.core.families.links import LINKS, Link
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.options import bound_names, probability_of
from hierpool.core.results import FamilyEstimate
from hierpool.draws.summary import summary

_FREE_STEP = 1e-4  # of a derivative by a free number, less where a parameter moves fast with it
KNOWN_VARIANCES = "normal, the standard deviations taken for known"


@dataclass(frozen=True)
class Asked:
    """What a table has a row for, as linear predictors and what is made of them.

    Attributes
    ----------
    index
        Of the table.
    linear
        m linear predictors, one a row.
    means
        Of slopes in the units of the response: the linear predictors at which they are taken.
    family
        Shape (m,): rows with the same number are adjusted together.
    n_means
        How many means the rows of a family compare.
    is_difference
        Whether rows are tested against zero, as slopes and contrasts are.
    expected
        Of a family on the scale of its response: the same as expected values, which go before
        ``linear``; that has the rows of the grid.
    """

    index: pd.Index[Any]
    linear: LinearPredictors
    family: np.ndarray
    n_means: int = 0
    means: LinearPredictors | None = None
    is_difference: bool = False
    expected: ExpectedValues | None = None

    @classmethod
    def of_expected(
        cls,
        index: pd.Index[Any],
        expected: ExpectedValues,
        family: np.ndarray,
        n_means: int = 0,
        *,
        is_difference: bool = False,
    ) -> Asked:
        """Expected values of a family on the scale of its response."""
        return cls(
            index, expected.rows, family, n_means, is_difference=is_difference, expected=expected
        )

    @property
    def beyond(self) -> Beyond:
        """What the rows of the table need of columns that were dropped."""
        return self.linear.beyond if self.expected is None else self.expected.beyond

    @property
    def is_estimable(self) -> np.ndarray:
        """Shape (m,)."""
        return self.beyond.is_estimable


def of_fit(
    fit: IntegratedPosterior | Optimum,
    asked: Asked,
    scale: ResponseScale,
    adjust: Adjust,
    prob: float | None,
) -> pd.DataFrame:
    """The table of a fit of either kind."""
    if isinstance(fit, Posterior):
        return of_posterior(fit, asked, scale, adjust, prob)
    return of_optimum(fit, asked, scale, adjust, prob)


def of_posterior(
    fit: IntegratedPosterior, asked: Asked, scale: ResponseScale, adjust: Adjust, prob: float | None
) -> pd.DataFrame:
    """Mean, median, sd and interval of every row; of differences the probability of their sign.

    The mean of a ratio is geometric: its logarithm is the mean on the linear scale.
    """
    if asked.expected is not None:
        values = asked.expected.draws(fit)
        linear = np.log(values) if asked.expected.is_ratio else values
    else:
        linear = coefficient_draws.combined(fit, asked.linear.combinations) + asked.linear.offset
        values = linear
    if scale.back is not None:
        values = _back_transformed(fit, asked, scale, linear)
    shaped = xr.DataArray(values.reshape(*fit.n_draws, -1), dims=("chain", "draw", "row"))
    table = summary(shaped, diagnostics=False, prob=prob)
    if scale.back is None and asked.expected is None:
        means = coefficient_draws.means(fit, asked.linear.combinations)
        table["mean"] = means + asked.linear.offset
    if asked.is_difference and asked.means is None and scale.has_ratios:
        table["mean"] = np.exp(linear.mean(axis=0))
    if adjust == "simultaneous":
        table = _with_simultaneous(table, values, asked.family, probability_of(prob))
    if asked.is_difference:
        sides = [side.mean(axis=0) for side in (linear > 0, linear < 0)]
        table["p_direction"] = np.maximum(*sides)
    table[~asked.is_estimable] = np.nan
    return table.set_axis(asked.index, axis=0)


def _back_transformed(
    fit: IntegratedPosterior, asked: Asked, scale: ResponseScale, linear: np.ndarray
) -> np.ndarray:
    back = scale.back
    assert back is not None
    if asked.means is not None:  # a slope: chain rule
        at = coefficient_draws.combined(fit, asked.means.combinations) + asked.means.offset
        return np.asarray(back.first(at) * linear)
    if not asked.linear.held.is_new:
        return back.inverse(linear)
    return back.mean(linear, variance_of_draws(fit, asked.linear))


def _with_simultaneous(
    table: pd.DataFrame, values: np.ndarray, family: np.ndarray, prob: float
) -> pd.DataFrame:
    """The table with bounds that hold together in the place of those of single rows."""
    low, high = np.empty(len(table)), np.empty(len(table))
    for own in (np.flatnonzero(family == f) for f in np.unique(family)):
        low[own], high[own] = simultaneous(values[:, own], prob)
    bounds = bound_names("ci", prob)
    return table[["mean", "median", "sd"]].assign(**{bounds[0]: low, bounds[1]: high})


def of_optimum(
    fit: Optimum, asked: Asked, scale: ResponseScale, adjust: Adjust, prob: float | None
) -> pd.DataFrame:
    """Estimate, standard error, df, interval, t and p of every row.

    On the scale of the response estimates and intervals are transformed and standard errors follow
    from the delta method; t and p are those of the linear scale, but for slopes.
    """
    linear, test = asked.linear, _Optimum.of(fit, asked.linear)
    estimate, back = test.value(linear), scale.back
    factor = np.ones(len(asked.index))
    by_free = np.zeros((len(asked.index), 0))
    if asked.expected is not None:
        estimate, linear, by_free = _expected(fit, asked, asked.expected, test)
    if asked.means is not None and back is not None:  # a slope: chain rule, and the delta method
        at = test.value(asked.means)
        first, second = back.first(at), back.second(at)
        gradient = linear.scaled(first).plus(asked.means.scaled(second * estimate))
        estimate, linear, back = first * estimate, gradient, None
    se, df = test.se(linear, by_free), test.df(linear)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(asked.is_estimable & (se > 0), estimate / se, np.nan)
    p, reach = np.full(len(t), np.nan), np.full(len(t), np.nan)
    for own in (np.flatnonzero(asked.family == f) for f in np.unique(asked.family)):
        together = test.correlation(linear, own) if adjust == "dunnett" else None
        p[own], reach[own] = adjusted(
            adjust, t[own], df[own], probability_of(prob), asked.n_means, together
        )
    width = np.where(se == 0, 0.0, reach * se)  # what is known exactly, as the slope of an offset
    low, high = estimate - width, estimate + width
    if asked.expected is not None:
        link = _unbounded(asked)
        factor = np.abs(link.slope(estimate))
        estimate, low, high = (link.inverse(v) for v in (estimate, low, high))
    elif back is not None:
        move, slope = _moved(fit, asked, scale)
        factor = np.abs(slope(estimate))
        estimate, low, high = move(estimate), move(low), move(high)
    bounds = bound_names("ci", prob)
    columns = {"estimate": estimate, "se": factor * se, "df": df}
    columns |= {bounds[0]: low, bounds[1]: high, "t": t, "p": p}
    table = pd.DataFrame(columns, index=asked.index)
    table[~asked.is_estimable | np.isnan(se)] = np.nan
    return table


def _between(fit: Optimum, linear: LinearPredictors) -> np.ndarray:
    """Shape (m,): variance over new groups of linear predictors."""
    equations = Henderson(fit.design, fit.estimate)
    variance = np.zeros(len(linear))
    for k, Z in enumerate(linear.Z):
        variance = variance + equations.between(k, Z)
    return variance


def _between_by(fit: Optimum, own: FamilyEstimate, linear: LinearPredictors) -> np.ndarray:
    """Shape (m, D): derivatives of that variance by the free numbers."""
    out = np.zeros((len(linear), own.par_by.shape[1]))
    parts = zip(
        linear.Z, user_roots(fit.design, fit.estimate), fit.design.group_columns, strict=True
    )
    for Z, root, at in parts:
        moved = np.einsum("mq,qrd->mrd", Z, own.root_by[at, at])
        out += 2 * np.einsum("mr,mrd->md", Z @ root, moved)
    return out


def _expected(
    fit: Optimum, asked: Asked, expected: ExpectedValues, test: _Optimum
) -> tuple[np.ndarray, LinearPredictors, np.ndarray]:
    """Estimates, their gradients by coefficients, and what else moves them by the free numbers (m, D).

    That is the parameters of the family and the variances between groups. All on the scale where
    intervals are symmetric.
    """
    rows, slopes = expected.rows, np.zeros(len(expected.rows))
    variance: np.ndarray | float = 0.0
    if rows.held.is_new:
        variance = _between(fit, rows)
    if expected.derived is not None:
        slopes = test.value(expected.derived)
    par, eta = fit.estimate.par, test.value(rows)
    value, gradient = expected.linearised(eta, slopes, variance, par)
    own = fit.estimate.family
    assert own is not None
    between_by = (
        _between_by(fit, own, rows) if rows.held.is_new else np.zeros((1, own.par_by.shape[1]))
    )
    by_free = np.zeros((len(value), own.par_by.shape[1]))
    for d, move in enumerate(own.par_by.T):
        if np.any(move) or np.any(between_by[:, d]):
            h = _FREE_STEP / max(1.0, float(np.abs(move).max(initial=0.0)))
            up, down = (
                expected.linearised(
                    eta, slopes, np.maximum(variance + s * between_by[:, d], 0.0), par + s * move
                )[0]
                for s in (h, -h)
            )
            by_free[:, d] = (up - down) / (2 * h)
    link = _unbounded(asked)
    if link is LINKS["identity"] or expected.is_ratio:
        return value, gradient, by_free
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = link.of_mean(value)
        factor = 1 / link.slope(moved)
        return moved, gradient.scaled(factor), factor[:, None] * by_free


def _unbounded(asked: Asked) -> Link:
    """From expected values, differences or ratios to where their intervals are symmetric."""
    assert asked.expected is not None
    if asked.expected.is_ratio:
        return LINKS["log"]
    return LINKS["identity" if asked.is_difference else asked.expected.mean.link]


def _moved(
    fit: Optimum, asked: Asked, scale: ResponseScale
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """The way to the response's scale, averaged over new groups where they are asked, and its slope."""
    back = scale.back
    assert back is not None
    if not asked.linear.held.is_new:
        return back.inverse, back.first
    variance = _between(fit, asked.linear)
    return (
        lambda eta: back.mean(eta, variance),
        lambda eta: back.slope_of_mean(eta, variance),
    )


@dataclass(frozen=True)
class _Optimum:
    """How sure an optimum is of linear predictors."""

    fit: Optimum
    equations: Henderson | GroupOfFamily | None

    @classmethod
    def of(cls, fit: Optimum, linear: LinearPredictors) -> _Optimum:
        """By the tests of the fixed effects; by the equations of all coefficients for one group."""
        if not any(level is not None for level in linear.held.levels):
            return cls(fit, None)
        if fit.design.family is not None and fit.design.spec.pooling == "partial":
            return cls(fit, GroupOfFamily(fit))
        return cls(fit, Henderson(fit.design, fit.estimate))

    def value(self, linear: LinearPredictors) -> np.ndarray:
        """Shape (m,): estimates."""
        if self.equations is not None:
            return self.equations.value(linear.combinations) + linear.offset
        return np.asarray(linear.X @ self.fit.estimate.beta + linear.offset)

    def se(self, linear: LinearPredictors, by_free: np.ndarray) -> np.ndarray:
        """Shape (m,): standard errors; with what else moves them by the free numbers (m, D)."""
        own = self.fit.estimate.family
        if isinstance(self.equations, GroupOfFamily):
            more = by_free if by_free.shape[1] else 0.0
            return np.sqrt(self.equations.variance(linear.combinations, more))
        if own is not None and by_free.shape[1] and self.equations is None:
            free = linear.X @ own.beta_by + by_free
            variance = np.einsum("md,de,me->m", free, own.covariance, free)
            return np.asarray(np.sqrt(np.maximum(variance, 0.0)))
        if self.equations is not None:
            return np.sqrt(self.equations.variance(linear.combinations))
        variance = np.einsum("mp,pr,mr->m", linear.X, self.fit.covariance(), linear.X)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    def df(self, linear: LinearPredictors) -> np.ndarray:
        """Shape (m,): degrees of freedom, infinite for normal tests; NaN for what is zero."""
        if self.equations is not None:
            return np.full(len(linear), self._df_of_levels)
        if self.fit.design.family is not None:
            return np.full(len(linear), np.inf)
        return np.asarray(self.fit.degrees_of_freedom(linear.X))

    @property
    def _df_of_levels(self) -> float:
        """Those of the residual for least squares, whose levels have own lines; else infinite."""
        estimate, design = self.fit.estimate, self.fit.design
        if estimate.method != "least squares" or not design.residual.has_sigma:
            return np.inf
        return float(design.n - estimate.n_parameters + 1)

    def correlation(self, linear: LinearPredictors, rows: np.ndarray) -> np.ndarray:
        """Shape (m, m): of the estimates of some rows."""
        if self.equations is None:
            X = linear.X[rows]
            covariance = X @ self.fit.covariance() @ X.T
        else:
            covariance = _polarised(self.equations, linear, rows)
        sd = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
        return np.asarray(covariance / np.outer(sd, sd))


def _polarised(
    equations: Henderson | GroupOfFamily, linear: LinearPredictors, rows: np.ndarray
) -> np.ndarray:
    """Covariance of some rows from variances of their sums."""
    m = len(rows)
    chosen = np.eye(len(linear))[rows]
    one, other = np.triu_indices(m)
    sums = equations.variance(linear.combined(chosen[one] + chosen[other]).combinations)
    own = equations.variance(linear.combined(chosen).combinations)
    out = np.zeros((m, m))
    out[one, other] = (sums - own[one] - own[other]) / 2
    return np.asarray(out + np.triu(out, 1).T)
