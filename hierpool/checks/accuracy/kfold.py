"""K-fold cross-validation: theta is drawn anew without each fold, coefficients integrated out.

By row, each held-out row is scored given the rows of the other folds. By group, whole levels are
held out and the rows of each are scored jointly, as in leave-one-group-out, so that the two can be
compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.utils import ELPDDataLOOKFold
from scipy import special

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.checks.accuracy.loo import densities_by_level, grouping_for
from hierpool.core.arguments import check_seed, is_whole, shown
from hierpool.core.design import Design, Grouping
from hierpool.core.errors import ArgumentError
from hierpool.core.group_nouns import noun, nouns
from hierpool.core.printable import printable
from hierpool.core.results import OBS_DIM, row_labels
from hierpool.core.theta import WorkingTheta
from hierpool.core.threads import in_threads

Refit = Callable[[np.ndarray, int], tuple[MarginalModel, WorkingTheta, bool]]
"""Held-out rows, seed -> model of the others, its draws of theta, whether they can be trusted."""
_FOLD_SEED = 1951


class ScoredKFold(ELPDDataLOOKFold):
    """ArviZ's ELPDData of K-fold cross-validation, with what was left out.

    Attributes
    ----------
    predicts
        What is predicted.
    folds
        Fold of each row, 0 to k - 1.
    n_distrusted
        Folds whose draws failed their checks.
    """

    predicts: str = ""
    folds: np.ndarray
    n_distrusted: int = 0

    def __str__(self) -> str:
        bad = f"In {self.n_distrusted} of {self.n_folds} folds the draws failed their checks."
        text = f"{self.predicts}\n{super().__str__()}\n{bad if self.n_distrusted else ''}"
        return printable(text).rstrip()

    __repr__ = __str__


@dataclass(frozen=True)
class _Plan:
    """What is scored (points: sets of rows) and in which fold; ``in_sample`` is for p."""

    fold_of: np.ndarray
    points: list[np.ndarray]
    dim: str
    labels: Any
    predicts: str
    grouping: Grouping | None


def kfold(
    fit: IntegratedPosterior,
    k: int,
    by: str | None,
    seed: int | None,
    refit: Refit,
    progress: bool = True,
) -> ScoredKFold:
    """Score of every row, or of every level, given the folds that it is not in.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` that can be integrated.
    k
        Number of folds.
    by
        None: rows at random. ``"group"`` or a factor: whole levels, scored jointly.
    seed
        Of the folds and of the refits; None: the same folds for every model of these rows.
    refit
        Draws of theta without some rows.
    progress
        Whether to show a bar.
    """
    plan = _plan(fit.design, k, by, _FOLD_SEED if seed is None else check_seed(seed))

    def one(fold: int) -> tuple[np.ndarray, np.ndarray, bool]:
        points = np.flatnonzero(plan.fold_of == fold)
        sets = [plan.points[i] for i in points]
        rest, theta, trusted = refit(np.concatenate(sets), (seed or 0) + fold)
        density = fit.integrated.density_of_sets(rest, theta, sets)
        return points, special.logsumexp(density, axis=1) - np.log(density.shape[1]), trusted

    cores = 1 if fit.design.samples_scales else None  # NUTS has threads of its own
    done = in_threads(one, range(k), f"{k} folds of {fit.design.spec.formula}", cores, progress)
    elpd = np.empty(len(plan.points))
    for points, scores, _ in done:
        elpd[points] = scores
    return _scored(fit, plan, k, elpd, sum(not trusted for _, _, trusted in done))


def _plan(design: Design, k: int, by: str | None, seed: int) -> _Plan:
    rng = np.random.default_rng(seed)
    if by is None:
        design.check_rows("the score of rows left out")
        fold_of = _folds(design.n, k, "rows", rng)
        points = [np.array([i]) for i in range(design.n)]
        return _Plan(
            fold_of, points, OBS_DIM, row_labels(design), "a new observation of a known group", None
        )
    grouping = grouping_for(design, by)
    fold_of = _folds(grouping.n_levels, k, nouns(grouping.factor), rng)
    points = grouping.by_level
    labels = [str(v) for v in grouping.levels]
    predicts = f"all observations of a new {noun(grouping.factor)}"
    return _Plan(fold_of, points, grouping.factor, labels, predicts, grouping)


def _folds(n: int, k: int, what: str, rng: np.random.Generator) -> np.ndarray:
    """Shape (n,): folds 0 to k - 1 of nearly equal size, at random."""
    if not is_whole(k) or not 2 <= k <= n:
        raise ArgumentError(
            f"k={shown(k)} must be a whole number from 2 to {n}, the number of {what}", "bad-count"
        )
    return rng.permutation(np.arange(n) % k)


def _scored(
    fit: IntegratedPosterior, plan: _Plan, k: int, elpd: np.ndarray, n_distrusted: int
) -> ScoredKFold:
    theta = fit.working_theta
    if plan.grouping is None:
        inside = np.concatenate(
            [
                special.logsumexp(fit.integrated.log_density_of_rows(theta, rows), axis=0)
                for rows in np.array_split(np.arange(len(elpd)), max(1, len(elpd) // 1000))
            ]
        )
        fold_of_rows = plan.fold_of
    else:
        each = densities_by_level(fit, theta, plan.grouping)
        inside = np.concatenate([special.logsumexp(density, axis=1) for _, density in each])
        fold_of_rows = plan.fold_of[plan.grouping.codes]
    inside = inside - np.log(len(theta))
    coords = {plan.dim: plan.labels}
    result = ScoredKFold(
        elpd=float(elpd.sum()),
        se=float(np.sqrt(len(elpd)) * elpd.std(ddof=1)),
        p=float((inside - elpd).sum()),
        n_samples=len(theta),
        n_data_points=len(elpd),
        scale="log",
        warning=n_distrusted > 0,
        good_k=None,  # as ArviZ's own K-fold has it
        elpd_i=xr.DataArray(elpd, coords=coords, dims=[plan.dim], name="y"),
        pareto_k=None,
        n_folds=k,
        p_kfold_i=xr.DataArray(inside - elpd, coords=coords, dims=[plan.dim], name="y"),
    )
    result.predicts = plan.predicts
    result.folds = fold_of_rows
    result.n_distrusted = n_distrusted
    return result
