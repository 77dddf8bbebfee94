"""Scores of leave-one-out predictions: log score, Brier score, ranked probability score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hierpool.checks.accuracy.comparison import check_comparable
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError
from hierpool.core.fitted import Posterior

LOG, BRIER, RANKED = "log", "brier", "ranked_probability"


def scores(fits: Posterior | Mapping[str, Posterior]) -> pd.DataFrame:
    """Scores of the prediction of each row from all others, averaged over the rows; lower is better.

    Every coefficient is integrated out, as in ``fit.loo()``.

    Parameters
    ----------
    fits
        A ``PosteriorFit``, or name -> ``PosteriorFit``, all of the same rows and response.

    Returns
    -------
    DataFrame
        Index ``score``, or (score, model), best first. ``mean``: average over the rows, with its
        standard error ``se``. ``baseline``: the same of a prediction that ignores all predictors
        and groups, the shares in the other rows (of 0/1, binomial responses and ratings; else
        NaN). Of several fits, ``difference`` from the best and its standard error
        ``difference_se``. The scores are

        - ``log``: minus the log probability, or log density, of the row;
          ``-fit.loo().elpd / n``.
        - ``brier``: squared difference of outcome and probability, 0 or 1 less p, of
          ``family="bernoulli"``; averaged over the trials of ``"binomial"``.
        - ``ranked_probability``: of ratings, squared differences of the cumulative probabilities
          from 0 and 1, summed over the thresholds. Of two ratings it is the Brier score.

    References
    ----------
    Gneiting, Raftery (2007), J. Am. Stat. Assoc. 102, 359-378.

    Raises
    ------
    ArgumentError
        Something else than posteriors.
    ComparisonError
        The fits have different rows or responses, or densities beside probabilities.
    """
    if isinstance(fits, Posterior):
        return _of_one(fits)[["mean", "se", "baseline"]]
    if not isinstance(fits, Mapping):
        raise ArgumentError(
            "scores() takes a posterior, hp.scores(model.fit()), or a dict of them, "
            "hp.scores({'pooled': fit_1, 'partial': fit_2})",
            "fits-by-name",
        )
    check_comparable(fits)
    return _of_several({name: _rows(fit) for name, fit in fits.items()}, fits)


def _of_one(fit: Posterior) -> pd.DataFrame:
    rows, baseline = _rows(fit), _baseline(fit.design)
    table = pd.DataFrame({name: _mean(values) for name, values in rows.items()}).T
    table.columns = pd.Index(["mean", "se"])
    table["baseline"] = [baseline.get(name, np.nan) for name in rows]
    return table.rename_axis("score")


def _of_several(
    rows: Mapping[str, Mapping[str, np.ndarray]], fits: Mapping[str, Posterior]
) -> pd.DataFrame:
    """The tables of each score below each other, with differences from the best."""
    first = next(iter(rows.values()))
    common = [name for name in first if all(name in own for own in rows.values())]
    parts = {}
    for score in common:
        own = {model: _mean(values[score]) for model, values in rows.items()}
        table = pd.DataFrame(own, index=["mean", "se"]).T.sort_values("mean", kind="stable")
        best = rows[str(table.index[0])][score]
        table["difference"], table["difference_se"] = np.transpose(
            [_mean(rows[str(model)][score] - best) for model in table.index]
        )
        table["baseline"] = _baseline(next(iter(fits.values())).design).get(score, np.nan)
        parts[score] = table
    return pd.concat(parts, names=["score", "model"])


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean of rows and its standard error."""
    n = len(values)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def _rows(fit: Posterior) -> dict[str, np.ndarray]:
    """The scores of each row, shape (n,) each."""
    design, family = fit.design, fit.design.family
    made = {LOG: -np.asarray(fit.loo().elpd_i, dtype=float)}
    if family is None:
        return made
    if family.has_thresholds:
        p = fit.loo_probabilities().to_numpy().cumsum(axis=1)[:, :-1]
        made[RANKED] = ranked_probability(p, design.y)
    elif family.name in ("bernoulli", "binomial"):
        made[BRIER] = brier(fit.loo_probabilities().to_numpy(), design.y, _trials(design))
    return made


def _trials(design: Design) -> np.ndarray:
    """Shape (n,)."""
    return np.broadcast_to(np.asarray(design.trials, dtype=float), (design.n,))


def brier(p: np.ndarray, y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Shape (n,): squared difference of outcome and probability, averaged over the trials of a row."""
    return np.asarray((y * (1 - p) ** 2 + (trials - y) * p**2) / trials)


def ranked_probability(cumulative: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shape (n,): of ratings y from 0, with P(Y <= k) (n, C - 1)."""
    happened = y[:, None] <= np.arange(cumulative.shape[1])
    return np.asarray(((cumulative - happened) ** 2).sum(axis=1))


def _baseline(design: Design) -> dict[str, float]:
    """Scores of the shares in the other rows."""
    family, y = design.family, design.y
    if family is None or design.n < 2:
        return {}
    if family.has_thresholds:
        ratings = y[:, None] == np.arange(family.n_categories)
        share = (ratings.sum(axis=0) - ratings) / (design.n - 1)
        found = share[ratings]
        log = -np.log(found).mean() if (found > 0).all() else np.inf
        below = share.cumsum(axis=1)[:, :-1]
        return {LOG: float(log), RANKED: float(ranked_probability(below, y).mean())}
    if family.name not in ("bernoulli", "binomial"):
        return {}
    trials = _trials(design)
    share = (y.sum() - y) / (trials.sum() - trials)
    made = {BRIER: float(brier(share, y, trials).mean())}
    if family.name == "bernoulli":
        found = np.where(y == 1, share, 1 - share)
        made[LOG] = float(-np.log(found).mean()) if (found > 0).all() else np.inf
    return made
