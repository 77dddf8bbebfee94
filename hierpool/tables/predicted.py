"""Fitted values, predictions and residuals of a table that is not in memory, written batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from hierpool.core.design import Design, check_gaussian
from hierpool.core.errors import DataError, nearest
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.formula.parse import read_response
from hierpool.tables.engines import batches, open_table
from hierpool.tables.expressions import Translator
from hierpool.tables.parquet import check_target, write_frames

BATCH = 100_000  # rows in memory at a time
_RESPONSE = "response_of_the_formula_"


def write_predictions(
    fit: Posterior | Optimum,
    table: Any,
    path: str | PathLike[str],
    *,
    keep: Sequence[str] | None = None,
) -> int:
    """Write predicted values and residuals of a table's rows to a Parquet file; gives their number.

    The table is read in batches, so that it can be larger than the memory. A row of a group that the
    fit does not know gets the value of an average group. Rows without a predictor or a group are left
    out; a row without a response has no residual.

    Parameters
    ----------
    fit
        A REML or ML fit, or a posterior, of a Gaussian response, from rows or from sums.
    table
        As for ``hp.collect``.
    path
        The file, in Parquet. Nothing is left of it where the writing fails. It cannot be a part of the
        table, and replaces earlier predictions only.
    keep
        Columns of the table to write beside ``predicted`` and ``residual``, such as an id; None: the
        predictors and groups.

    Returns
    -------
    int
        Rows that were written.

    Raises
    ------
    DataError
        The table lacks a column, or cannot be read.
    StorageError
        The file cannot be written, or is another one that exists already.
    """
    check_fit(fit, "write_predictions")
    design: Design = fit.design
    check_gaussian(design.schema, "write_predictions()")
    target = check_target(path, table, "predicted")
    source = open_table(table)
    needed = _needed(design)
    kept = list(dict.fromkeys(needed if keep is None else keep))
    schema = source.collect_schema()
    for name in [*needed, *kept]:
        if name not in schema:
            raise DataError(
                f"column {name!r} is not in the table; {nearest(name, list(schema))}",
                "unknown-column",
            )
    complete = [~nw.col(c).is_null() for c in needed]
    complete += [~nw.col(c).is_nan() for c in needed if schema[c].is_float()]
    asked = [nw.col(c) for c in dict.fromkeys([*needed, *kept])]
    factor = read_response(design.spec.response)
    if set(factor.columns) <= set(schema):
        y = Translator(design.spec.formula, {}, []).expression(factor)
        asked.append(y.alias(_RESPONSE))
    rows = source.filter(*complete).select(*asked) if complete else source.select(*asked)
    known = _Coefficients(fit)

    def frames() -> Iterator[pd.DataFrame]:
        for frame in batches(rows, BATCH):
            made = frame[kept].assign(predicted=known.predicted(frame))
            if _RESPONSE in frame:
                made["residual"] = frame[_RESPONSE].to_numpy(dtype=float) - made["predicted"]
            yield made

    return write_frames(target, frames())


def _needed(design: Design) -> list[str]:
    """Columns without which a row has no prediction."""
    encoder = design.encoder
    names = [s.column for s in encoder.sources]
    names += [c for f in design.groupings for c in encoder.factor_columns[f] if _varies(design, f)]
    return list(dict.fromkeys(names))


def _varies(design: Design, factor: str) -> bool:
    return any(group.factor == factor for group in design.groups)


class _Coefficients:
    """Estimates, or posterior means, of all coefficients of a fit."""

    def __init__(self, fit: Posterior | Optimum) -> None:
        self.design: Design = fit.design
        if isinstance(fit, Posterior):
            means = fit.posterior_means
            self.beta = means.get("beta", np.zeros(0))
            self.u = {g.factor: means[g.level_variable] for g in self.design.groups}
            return
        assert isinstance(fit, Optimum)
        self.beta = fit.estimate.beta
        own = {f.factor: f for f in fit.estimate.factors}
        self.u = {
            g.factor: own[g.factor].u if g.is_pooled else own[g.factor].coef
            for g in self.design.groups
        }

    def predicted(self, frame: pd.DataFrame) -> np.ndarray:
        """Shape (n,): expected responses; NaN where own coefficients are not known."""
        encoded = self.design.encoder.encode(frame, [g.factor for g in self.design.groups])
        out = encoded.offset + encoded.X @ self.beta
        for group in self.design.groups:
            codes = encoded.codes[group.factor]
            unknown = 0.0 if group.is_pooled else np.nan
            u = np.concatenate([self.u[group.factor], np.full((1, len(group.terms)), unknown)])
            out = out + np.einsum("nq,nq->n", encoded.Z[group.factor], u[codes])
        return np.asarray(out)
