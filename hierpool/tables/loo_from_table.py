"""Leave-one-out scores of the single rows of a table that is not in memory."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import xarray as xr

from hierpool.checks.accuracy.loo import ScoredLOO, good_k
from hierpool.core.arguments import check_count, check_seed
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError, nearest
from hierpool.core.fitted import Fit, Posterior, check_fit
from hierpool.core.progress import named_steps
from hierpool.core.results import OBS_DIM
from hierpool.tables.engines import columns_of, open_table
from hierpool.tables.parquet import check_target, write_frames
from hierpool.tables.row_scores import PREDICTS, ScoredTable, Scores


def loo_from_table(
    fit: Posterior,
    table: Any,
    path: str | PathLike[str] | None = None,
    *,
    keep: Sequence[str] | None = None,
    n_checked: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> ScoredLOO:
    """Score of each row of a table given all others, for a posterior that was made of sums of it.

    The table's engine works the scores out where the rows are, from a few values of theta that have
    the means and the covariance of its draws. A sample of rows is then scored with all draws, as
    ``fit.loo()`` scores rows in memory: it corrects the sum, and its Pareto k are told.

    Parameters
    ----------
    fit
        A posterior of a Gaussian response, ``hp.Model(formula, table).fit()``.
    table
        The table whose sums the model has, as for ``hp.collect``.
    path
        A Parquet file for the score of each row, without the correction; None: only their sum.
    keep
        Columns of the table to write beside ``elpd``, such as an id; None: groups and categories.
    n_checked
        Rows that are scored with all draws; the more, the smaller the sampling error.
    seed
        Of the sample.
    progress
        Show a bar on anything over a second.

    Returns
    -------
    ScoredLOO
        As ``fit.loo()`` gives it, without ``elpd_i``; ``pareto_k`` is of the rows that were checked,
        and ``sampling_se`` the standard error that the correction leaves.

    Raises
    ------
    DataError
        The table has other rows than the model was made of, or cannot be read.
    UnsupportedModelError
        The model was not made of sums, or its response is not Gaussian: ``fit.loo()`` scores it.
    StorageError
        The file cannot be written.
    """
    check_fit(fit, "loo_from_table")
    _check(fit)
    check_count("n_checked", n_checked, 2)
    source = open_table(table)
    target = None if path is None else check_target(path, table, "elpd")
    scored = ScoredTable.of([fit], source)  # type: ignore[list-item]
    known = columns_of(source)
    kept = list(scored.sources[0].cells.keys.columns) if keep is None else list(keep)
    for name in kept:
        if name not in known:
            raise DataError(
                f"column {name!r} is not in the table; {nearest(name, known)}", "unknown-column"
            )
    with named_steps(3, progress) as begin:
        begin("which rows the table has")
        _ = scored.n
        begin("a sample of rows, by all draws")
        sample = scored.sampled(n_checked, check_seed(seed))
        begin("scores of all rows")
        if target is not None:
            write_frames(target, scored.frames(kept))
        return _result(fit, scored.sums(*sample))


def _check(fit: Fit) -> None:
    if not isinstance(fit, Posterior):
        raise ArgumentError(
            "loo_from_table() takes a posterior: model.fit(). REML has no leave-one-out score",
            "posterior-needed",
        )
    design: Design = fit.design
    if not design.is_summed or design.family is not None:
        raise UnsupportedModelError(
            f"{design.spec.formula} was not made from sums of a Gaussian response, so its rows are "
            "scored without a table: fit.loo()",
            "has-row-scores",
        )


def _result(fit: Posterior, scores: Scores) -> ScoredLOO:
    chains, draws = fit.n_draws
    k = scores.sampled[0, :, 1]
    limit = good_k(chains * draws)
    result = ScoredLOO(
        elpd=float(scores.elpd[0]),
        se=float(scores.se[0]),
        p=float(scores.p[0]),
        n_samples=chains * draws,
        n_data_points=scores.n,
        scale="log",
        warning=bool((k > limit).any()),
        good_k=limit,
        pareto_k=xr.DataArray(k, dims=[OBS_DIM], name="y"),
    )
    result.predicts = PREDICTS
    result.n_checked, result.sampling_se = len(k), float(scores.sampling_se[0])
    return result
