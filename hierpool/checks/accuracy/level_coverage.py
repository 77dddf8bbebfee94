"""Coverage of predictive intervals for new groups: each group predicted from all others.

Given theta, the mean of a level's rows is normal with the mean of beta without that level, and the
variance of a new level, its residuals and that beta. theta is weighted for the level being left out
(Pareto-smoothed), as in leave-one-group-out.

References
----------
Vehtari, Gelman, Gabry (2017), Stat. Comput. 27, 1413-1432.
Marshall, Spiegelhalter (2007), Bayesian Anal. 2, 409-444 (cross-validatory predictive checks).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from scipy import special, stats

from hierpool.algebra.correlated.residuals import rows_sd, variances_of_means
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.moments import by_level, single_group
from hierpool.checks.accuracy import loo
from hierpool.checks.residuals.null_residuals import SEED, WARN_BELOW_P
from hierpool.core.design import Design, GroupDesign, Grouping, check_gaussian
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import nouns
from hierpool.core.options import bound_names, tails
from hierpool.core.theta import ResidualTheta, ScaleTheta, WorkingTheta

DRAWS = 400  # of theta that are used
_FEWEST = 100
_NUMBERS = 4_000_000  # of rows and draws, where that leaves enough draws
JUDGED = 0.8  # probability of the intervals that are counted
NOTEWORTHY = 0.05  # part of the groups by which their coverage has to be off
_HALVINGS = 60  # of an interval that brackets a quantile


@dataclass(frozen=True)
class _Predicted:
    """Mixtures of normals over draws of theta, shapes (items, K); weights sum to 1 a row."""

    mean: np.ndarray
    sd: np.ndarray
    weights: np.ndarray

    def cdf(self, at: np.ndarray) -> np.ndarray:
        """Shape (items,)."""
        scaled = (at[:, None] - self.mean) / self.sd
        return np.asarray((self.weights * special.ndtr(scaled)).sum(axis=1))

    def quantile(self, p: float) -> np.ndarray:
        """Shape (items,), by halving."""
        low = (self.mean - 40 * self.sd).min(axis=1)
        high = (self.mean + 40 * self.sd).max(axis=1)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = self.cdf(middle) < p
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd, shapes (items,)."""
        mean = (self.weights * self.mean).sum(axis=1)
        away = self.sd**2 + (self.mean - mean[:, None]) ** 2
        return mean, np.sqrt((self.weights * away).sum(axis=1))


def level_coverage(fit: IntegratedPosterior, prob: float | None = None) -> pd.DataFrame:
    """The table of ``PosteriorFit.level_coverage``."""
    design = fit.design
    check_gaussian(design.schema, "level_coverage()")
    if design.spec.pooling == "none":
        raise UnsupportedModelError(
            f"{design.spec.formula}: no pooling cannot predict a new group. Use partial or complete "
            "pooling.",
            "no-random-effects",
        )
    group = single_group(design)
    grouping = loo.grouping_for(design, "group" if group is None else group.factor)
    if not _has_new_groups(design, grouping):
        raise UnsupportedModelError(
            f"level_coverage() predicts a new one of the {nouns(grouping.factor)} from all others: not "
            f"available where residuals are correlated across {nouns(grouping.factor)} "
            f"({design.spec.residual.words}). fit.loo(by=...) scores them",
            "residual-structure-unsupported",
        )
    means, rows = _predictions(fit, group, grouping)
    outside, _ = tails(prob)
    mean, sd = means.moments()
    observed = np.bincount(grouping.codes, design.y) / grouping.n_rows
    low, high = means.quantile(outside), means.quantile(1 - outside)
    inside = np.abs(rows.cdf(design.y) - 0.5) <= 0.5 - outside
    bounds = bound_names("eti", prob)
    columns = {
        "n": grouping.n_rows,
        "observed": observed,
        "mean": mean,
        "sd": sd,
        bounds[0]: low,
        bounds[1]: high,
        "pit": means.cdf(observed),
        "covered": (low <= observed) & (observed <= high),
        "rows_covered": np.bincount(grouping.codes, inside) / grouping.n_rows,
    }
    index = pd.MultiIndex.from_product(
        [[grouping.factor], grouping.levels], names=["factor", "level"]
    )
    return pd.DataFrame(columns, index=index)


def _predictions(
    fit: IntegratedPosterior, group: GroupDesign | None, grouping: Grouping
) -> tuple[_Predicted, _Predicted]:
    """Means of the levels and single rows, each from all other levels."""
    most = int(np.clip(_NUMBERS // fit.design.n, _FEWEST, DRAWS))
    picks = np.unique(np.linspace(0, len(fit.theta) - 1, most).astype(int))
    theta = fit.working_theta[picks]
    density = fit.integrated.log_density_of_levels(theta, grouping)
    log_weights = np.full(density.shape, -np.log(len(picks)))
    if np.ptp(density, axis=1).any():  # else theta is empty, and every draw says the same
        log_weights, _ = array_stats.psislw(density, r_eff=fit.efficiency)
    weights = np.exp(log_weights)
    phi = _of_new_groups(fit, theta, picks)
    at_mean, at_row = _Columns.from_fit(fit, group, grouping, phi)
    J, n, p = grouping.n_levels, fit.design.n, fit.integrated.totals.p
    of_means, of_rows = [], []
    for some in fit.integrated.blocks(len(picks), 4 * J * (p + 1) ** 2 + 4 * n * (p + 1)):
        beta, inverse = _population(fit, theta[some], grouping)
        of_means.append(at_mean.at(some).predict(theta[some], beta, inverse))
        of_rows.append(at_row.at(some).predict(theta[some], beta, inverse))
    (mean, sd), (row_mean, row_sd) = (np.concatenate(m, axis=-1) for m in (of_means, of_rows))
    means = _Predicted(mean, sd, weights)
    return means, _Predicted(row_mean, row_sd, weights[grouping.codes])


def _of_new_groups(
    fit: IntegratedPosterior, theta: WorkingTheta, picks: np.ndarray
) -> np.ndarray | None:
    """Parameters of the residuals (K, m); random scales are those of new groups."""
    s = fit.design.residual.structure
    if s is None or s.scale is None or fit.residual_parameters is None:
        return theta.phi if isinstance(theta, ResidualTheta) else None
    K, J = len(picks), len(s.scale.labels)
    strata = np.tile((np.arange(K)[:, None] + 0.5) / K, (1, J))
    z = special.ndtri(np.random.default_rng(SEED).permuted(strata, axis=0))
    return s.with_new_groups(fit.residual_parameters[picks], z)


def _population(
    fit: IntegratedPosterior, theta: WorkingTheta, grouping: Grouping
) -> tuple[np.ndarray, np.ndarray]:
    """Each level's beta without it (K, J, p), and S^-1 (K, J, p, p): zero where beta is drawn."""
    if isinstance(theta, ScaleTheta):
        beta = np.repeat(theta.beta[:, None], grouping.n_levels, axis=1)
        return beta, np.zeros((*beta.shape, beta.shape[-1]))
    S, s = fit.integrated.population_without_levels(theta, grouping)
    return np.linalg.solve(S, s[..., None])[..., 0], np.linalg.inv(S)


@dataclass(frozen=True)
class _Columns:
    """What is predicted: columns of the model in working coordinates, and their residual variance.

    Attributes
    ----------
    x, z, shift, variance
        Shapes (items, p), (items, q), (items,) and (items, K), or (items, 1) where theta does not
        say otherwise; variance in units of sigma^2.
    level
        Shape (items,): which level each is of.
    """

    x: np.ndarray
    z: np.ndarray
    shift: np.ndarray
    variance: np.ndarray
    level: np.ndarray

    @classmethod
    def from_fit(
        cls,
        fit: IntegratedPosterior,
        group: GroupDesign | None,
        grouping: Grouping,
        phi: np.ndarray | None,
    ) -> tuple[_Columns, _Columns]:
        """Means of levels, and rows."""
        design, coordinates, n = fit.design, fit.integrated.coordinates, fit.design.n
        x = coordinates.x.work(design.X)
        z = np.zeros((n, 0)) if group is None else coordinates.zs[0].work(group.Z)
        shift = np.broadcast_to(coordinates.y_shift + design.offset, (n,))
        codes, J, one = grouping.codes, grouping.n_levels, np.ones((n, 1))
        if phi is None:
            variance = design.residual.relative_sds(n)[:, None] ** 2.0
            spread = by_level(one, variance, codes, J)[:, 0] / grouping.n_rows[:, None] ** 2
        else:
            variance = rows_sd(design.residual, np.ones(len(phi)), phi).T ** 2
            spread = variances_of_means(design, codes, J, phi).T
        rows = cls(x, z, shift, variance, codes)
        sums = by_level(one, np.column_stack([x, z, shift]), codes, J)[:, 0]
        each = sums / grouping.n_rows[:, None]
        p = x.shape[1]
        return cls(each[:, :p], each[:, p:-1], each[:, -1], spread, np.arange(J)), rows

    def at(self, some: slice) -> _Columns:
        """Of some of the values of theta."""
        is_one = self.variance.shape[1] == 1
        return self if is_one else replace(self, variance=self.variance[:, some])

    def predict(
        self, theta: WorkingTheta, beta: np.ndarray, inverse: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means and sds, shapes (items, K), given each level's beta (K, J, p) and S^-1."""
        own, covariance = beta[:, self.level], inverse[:, self.level]
        mean = np.einsum("ip,kip->ik", self.x, own) + self.shift[:, None]
        from_beta = np.einsum("ip,kipr,ir->ik", self.x, covariance, self.x)
        between = np.square(np.einsum("iq,kqr->ikr", self.z, theta.Lambda)).sum(axis=-1)
        return mean, theta.sigma * np.sqrt(from_beta + between + self.variance)


def _has_new_groups(design: Design, grouping: Grouping) -> bool:
    """Whether a new group is independent of all others."""
    s = design.residual.structure
    return s is None or s.lies_within(grouping.codes)


def judged(fit: IntegratedPosterior, _: object) -> Iterator[Finding]:
    """Intervals for new groups that cover too many or too few."""
    design = fit.design
    is_asked = design.spec.pooling == "partial" and len(design.groups) == 1
    is_asked = is_asked and not design.samples_scales
    is_asked = is_asked and _has_new_groups(design, design.groups[0].grouping)
    if not is_asked or not fit.is_integrable or not fit.status.is_trustworthy:
        return
    table = level_coverage(fit, JUDGED)
    n, covered = len(table), int(table["covered"].sum())
    p = stats.binomtest(covered, n, JUDGED).pvalue
    if p >= WARN_BELOW_P or abs(covered / n - JUDGED) < NOTEWORTHY:
        return
    factor = table.index[0][0]
    word = "narrow" if covered < JUDGED * n else "wide"
    yield Finding(
        "level-coverage",
        "warning",
        f"Predictive intervals for new {nouns(factor)} are too {word}: {100 * JUDGED:g} % intervals "
        f"hold {100 * covered / n:.0f} % of the {nouns(factor)} (p = {p:.2g}).",
        f"The {nouns(factor)} do not follow a normal distribution around the fixed effects. "
        "fit.level_coverage() shows each of them.",
        evidence=table,
    )
