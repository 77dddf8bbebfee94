"""Predictions of a posterior: draws for every row, and their table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers import coefficient_draws
from hierpool.answers.new_data import FactorRows, Kind, NewRows, RowGroups, read_rows
from hierpool.answers.response_scale import BackTransform, ResponseScale, Scale
from hierpool.core.arguments import check_seed
from hierpool.core.options import probability_of
from hierpool.core.results import OBS_DIM, index_labels
from hierpool.draws.summary import summary

_BLOCK_NUMBERS = 4_000_000  # draws x rows at once


def predict_draws(
    fit: IntegratedPosterior,
    data: Any = None,
    groups: RowGroups = "own",
    kind: Kind = "mean",
    scale: Scale = "response",
    seed: int | None = None,
) -> xr.DataArray:
    """Draws of every row's prediction, dims (chain, draw, obs); arguments as in ``fit.predict``."""
    to = ResponseScale.of(fit.design, scale)
    rows = read_rows(fit.design, data, groups, kind)
    asked = _Asked(fit, rows, kind, to.back, _seed(fit, seed))
    n_chains, n_draws = fit.n_draws
    out = np.empty((n_chains, n_draws, len(rows)))
    for which, values in asked.blocks():
        out[..., which] = values
    labels = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    labels[OBS_DIM] = index_labels(rows.index)
    return xr.DataArray(out, labels, ("chain", "draw", OBS_DIM), name=to.measured)


def predict(
    fit: IntegratedPosterior,
    data: Any,
    groups: RowGroups,
    kind: Kind,
    scale: Scale,
    prob: float | None,
    seed: int | None,
) -> pd.DataFrame:
    """Mean, median, sd and interval of every row's prediction, with the user's index."""
    back = ResponseScale.of(fit.design, scale).back
    rows = read_rows(fit.design, data, groups, kind)
    probability_of(prob)
    asked, tables, order = _Asked(fit, rows, kind, back, _seed(fit, seed)), [], []
    for which, values in asked.blocks():
        array = xr.DataArray(values, dims=("chain", "draw", OBS_DIM))
        tables.append(summary(array, diagnostics=False, prob=prob))
        order.append(which)
    table = pd.concat(tables, ignore_index=True)
    table.index = pd.Index(np.concatenate(order))
    table = table.sort_index()
    if back is not None:
        return table.set_axis(rows.index, axis=0)
    # new levels and residuals have the mean zero at each value of theta
    mean = coefficient_draws.means(fit, rows.combinations) + rows.offset
    return table.assign(mean=mean).set_axis(rows.index, axis=0)


def _seed(fit: IntegratedPosterior, seed: int | None) -> int:
    return fit.seed if seed is None else check_seed(seed)


@dataclass(frozen=True)
class _Asked:
    """Rows to be predicted from a posterior."""

    fit: IntegratedPosterior
    rows: NewRows
    kind: Kind
    back: BackTransform | None
    seed: int

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of some rows and their draws, shape (chains, draws, rows), block by block."""
        size = max(1, _BLOCK_NUMBERS // len(self._beta))
        order = np.arange(len(self.rows))
        if not self.fit.keeps_levels:  # rows of a level together, so that it is drawn once
            order = np.argsort(self.rows.factors[0].codes, kind="stable")
        for start in range(0, len(order), size):
            which = order[start : start + size]
            yield which, self._of(which).reshape(*self.fit.n_draws, -1)

    def _of(self, which: np.ndarray) -> np.ndarray:
        """Shape (K, rows)."""
        rows = self.rows
        out = self._beta @ rows.X[which].T + rows.offset[which]
        variance = np.zeros((1, len(which)))
        if self.kind == "response":
            variance = np.square(rows.residual.sd(self._sigma, which))
        for factor, root in zip(rows.factors, self._roots, strict=True):
            if factor.is_known.any():
                self._add_known(out, factor, which)
            if factor.is_new.any():
                self._add_new(out, factor, root, which)
        if self.kind == "response":
            for at, i in enumerate(which):
                noise = coefficient_draws.own_generator(self.seed, "row", i).standard_normal(
                    len(out)
                )
                out[:, at] += noise * np.sqrt(variance[:, at])
        return out if self.back is None else self.back.inverse(out)

    def _add_known(self, out: np.ndarray, factor: FactorRows, which: np.ndarray) -> None:
        at = np.flatnonzero(factor.is_known[which])
        levels, place = np.unique(factor.codes[which[at]], return_inverse=True)
        own = coefficient_draws.level_draws(self.fit, factor.group.schema, levels)
        for q, column in enumerate(factor.Z[which[at]].T):
            out[:, at] += own[:, place, q] * column

    def _add_new(
        self, out: np.ndarray, factor: FactorRows, root: np.ndarray, which: np.ndarray
    ) -> None:
        """One draw a level and draw of the posterior, the same in every row of the level."""
        at, name = np.flatnonzero(factor.is_new[which]), factor.group.factor
        assert factor.labels is not None
        place, labels = pd.factorize(factor.labels[which[at]])
        for j, label in enumerate(labels):
            own = coefficient_draws.own_generator(self.seed, "level", name, label)
            u = np.einsum("kqr,kr->kq", root, own.standard_normal(root.shape[:2]))
            mine = at[place == j]
            out[:, mine] += u @ factor.Z[which[mine]].T

    @cached_property
    def _beta(self) -> np.ndarray:
        return coefficient_draws.beta_draws(self.fit)

    @cached_property
    def _sigma(self) -> np.ndarray:
        if self.fit.design.residual.has_sigma:
            return coefficient_draws.flat(self.fit, "sigma")
        return np.ones(len(self._beta))

    @cached_property
    def _roots(self) -> tuple[np.ndarray, ...]:
        """Roots of the covariances of the factors whose levels are drawn; empty for the others."""
        none = np.zeros((0, 0, 0))
        return tuple(
            coefficient_draws.spread_roots(self.fit, f.group.schema) if f.is_new.any() else none
            for f in self.rows.factors
        )
