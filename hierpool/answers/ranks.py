"""Ranks of the groups, and the probability of being among the best."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers import coefficient_draws
from hierpool.answers.arguments import (
    check_top,
    choose_group,
    choose_terms,
)
from hierpool.core.errors import ArgumentError, listed
from hierpool.core.fitted import Posterior, check_fit
from hierpool.core.options import probability_of, takes_prob
from hierpool.core.results import level_index
from hierpool.core.schema import GroupSchema
from hierpool.draws.summary import summary

MOST_NUMBERS = 50_000_000  # draws x levels; above, every m-th draw is used
_LEVELS_AT_ONCE = 4096


@takes_prob
def ranks(
    fit: IntegratedPosterior,
    factor: str | None = None,
    *,
    term: str | None = None,
    top: int = 1,
    highest: bool = True,
    prob: float | None = None,
) -> pd.DataFrame:
    """Ranks of the groups of a factor by one of their coefficients, rank 1 for the best.

    The groups are ranked in every posterior draw. The rank of a group with few rows is uncertain,
    so the group with the largest mean is not always the most likely best.

    Parameters
    ----------
    fit
        A ``PosteriorFit``.
    factor
        The group; None for the only one.
    term
        The coefficient by which they are ranked; None for the only one.
    top
        How many count as the top, for ``p_top``.
    highest
        Whether the largest coefficient is the best; False: the smallest.
    prob
        Probability of the interval; None: that of ``hp.options``.

    Returns
    -------
    DataFrame
        Index (factor, level, term), the best mean rank first: ``coefficient`` (posterior mean),
        ``mean_rank``, ``median_rank``, interval of the rank, and ``p_top``, the probability of
        being among the ``top`` best; the column adds up to ``top``. If draws times groups exceed
        5e7, every m-th draw is used.
    """
    _check_posterior(fit)
    probability_of(prob)
    group = choose_group(fit.design.schema, factor)
    if term is None and len(group.terms) > 1:
        raise ArgumentError(
            f"{group.factor!r} has {len(group.terms)} coefficients per group: choose one to rank "
            f"by, term= one of {listed(group.terms)}",
            "unknown-choice",
        )
    (name,) = choose_terms(group, term)
    J = group.grouping.n_levels
    check_top(top, group)
    values = _coefficients(fit, group, group.terms.index(name))
    order = np.argsort(-values if highest else values, axis=-1, kind="stable")
    rank = np.empty(values.shape)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(1.0, J + 1), values.shape), axis=-1)
    table = summary(xr.DataArray(rank, dims=("chain", "draw", "level")), False, prob)
    bounds = {c: f"rank_{c}" for c in table.columns[3:]}
    columns = {"mean": "mean_rank", "median": "median_rank", **bounds}
    table = table.rename(columns=columns).drop(columns="sd")
    mean = fit.posterior_means[f"coef_{group.factor}"][:, group.terms.index(name)]
    table.insert(0, "coefficient", mean)
    table["p_top"] = (rank <= top).mean(axis=(0, 1))
    where = level_index(group)
    table.index = where[where.get_level_values("term") == name]
    return table.sort_values("mean_rank", kind="stable")


def _check_posterior(fit: object) -> None:
    check_fit(fit, "ranks")
    if not isinstance(fit, Posterior):
        raise ArgumentError(
            "ranks(fit) needs draws of a posterior: pass model.fit(). To sort BLUPs, write "
            "fit.blup().sort_values('estimate'); that order does not show its uncertainty.",
            "posterior-needed",
        )


def _coefficients(fit: IntegratedPosterior, group: GroupSchema, k: int) -> np.ndarray:
    """Shape (chains, draws, J): one coefficient of every level."""
    n_chains, n_draws = fit.n_draws
    J, at = group.grouping.n_levels, group.population[k]
    step = -(-n_chains * n_draws * J // MOST_NUMBERS)
    out = np.empty((n_chains, -(-n_draws // step), J))
    for start in range(0, J, _LEVELS_AT_ONCE):
        some = np.arange(start, min(start + _LEVELS_AT_ONCE, J))
        own = coefficient_draws.level_draws(fit, group, some)[..., k].reshape(n_chains, n_draws, -1)
        out[..., some] = own[:, ::step]
    if group.is_pooled and at >= 0:
        beta = coefficient_draws.beta_draws(fit)[:, at].reshape(n_chains, n_draws, 1)
        out += beta[:, ::step]
    return out
