"""Predictions of a posterior: draws for every row, and their table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.correlated.residuals import drawn
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers import coefficient_draws
from hierpool.answers.mean_response import MeanResponse
from hierpool.answers.new_data import FactorRows, Kind, NewRows, RowGroups, read_rows
from hierpool.answers.response_scale import ResponseScale, Scale
from hierpool.core.arguments import check_seed
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError
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
    check_kind(fit.design, kind, to)
    rows = read_rows(fit.design, data, groups, kind)
    n_chains, n_draws = fit.n_draws
    labels = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    labels[OBS_DIM] = index_labels(rows.index)
    parts = []
    for mean in asked_means(fit.design, kind, to):
        out = np.empty((n_chains, n_draws, len(rows)))
        for which, values, _ in _Asked(fit, rows, kind, to, mean, _seed(fit, seed)).blocks():
            out[..., which] = values
        parts.append(xr.DataArray(out, labels, ("chain", "draw", OBS_DIM), name=to.measured))
    if kind != "probability":
        return parts[0]
    ratings = pd.Index(ratings_of(fit.design), name="rating")
    return (
        xr.concat(parts, ratings).transpose(..., "rating").rename(f"probability of {to.response}")
    )


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
    to = ResponseScale.of(fit.design, scale)
    check_kind(fit.design, kind, to)
    rows = read_rows(fit.design, data, groups, kind)
    probability_of(prob)
    tables = [
        _table(_Asked(fit, rows, kind, to, mean, _seed(fit, seed)), prob)
        for mean in asked_means(fit.design, kind, to)
    ]
    return by_rating(fit.design, tables) if kind == "probability" else tables[0]


def _table(asked: _Asked, prob: float | None) -> pd.DataFrame:
    """Of one number a row."""
    fit, rows, tables, order, means = asked.fit, asked.rows, [], [], []
    for which, values, mean in asked.blocks():
        array = xr.DataArray(values, dims=("chain", "draw", OBS_DIM))
        tables.append(summary(array, diagnostics=False, prob=prob))
        order.append(which)
        means.append(mean)
    table = pd.concat(tables, ignore_index=True)
    if asked.mean is not None:
        table["mean"] = np.concatenate(means)
    table.index = pd.Index(np.concatenate(order))
    table = table.sort_index()
    if asked.scale.back is None and asked.mean is None:
        # new levels and residuals have the mean zero at each value of theta
        table["mean"] = coefficient_draws.means(fit, rows.combinations) + rows.offset
        if asked.kind == "response" and rows.structured is not None:
            table["mean"] += asked.borrowed
    return table.set_axis(rows.index, axis=0)


def check_kind(design: Design, kind: Kind, scale: ResponseScale) -> None:
    """Raise where the family has no such prediction."""
    family = design.family
    if kind == "probability" and (family is None or not family.has_thresholds):
        raise ArgumentError(
            "kind='probability' gives the probability of each rating of family='ordinal'. The "
            "probability of a binary response is its mean: kind='mean'",
            "unknown-choice",
        )
    is_linear = scale.mean is None and family is not None and family.link != "identity"
    if is_linear and kind in ("response", "probability"):
        raise ArgumentError(
            f"kind={kind!r} has no linear predictor: leave scale= out, or take kind='mean'",
            "unknown-choice",
        )


def asked_means(design: Design, kind: Kind, scale: ResponseScale) -> Sequence[MeanResponse | None]:
    """What is predicted of a family; None of a Gaussian response and of linear predictors."""
    family = design.family
    if kind == "probability" and family is not None:
        return [MeanResponse(family, k) for k in range(family.n_categories)]
    if kind == "response" and family is not None:
        return [MeanResponse(family)]
    return [scale.mean]


def ratings_of(design: Design) -> list[Any]:
    """Labels of the ratings, in order."""
    return list(getattr(design.family, "labels", ()))


def by_rating(design: Design, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of the ratings as one: all ratings of a row after each other."""
    n, labels = len(tables[0]), ratings_of(design)
    order = np.arange(n * len(tables)).reshape(len(tables), n).T.ravel()
    own = tables[0].index.to_frame(index=False).iloc[np.repeat(np.arange(n), len(labels))]
    own = own.set_axis([OBS_DIM if c in (0, None) else c for c in own], axis=1)
    index = pd.MultiIndex.from_frame(own.assign(rating=np.tile(labels, n)))
    return pd.concat(tables, ignore_index=True).iloc[order].set_axis(index, axis=0)


def _seed(fit: IntegratedPosterior, seed: int | None) -> int:
    return fit.seed if seed is None else check_seed(seed)


@dataclass(frozen=True)
class _Asked:
    """Rows to be predicted from a posterior."""

    fit: IntegratedPosterior
    rows: NewRows
    kind: Kind
    scale: ResponseScale
    mean: MeanResponse | None
    seed: int

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Positions of some rows, their draws (chains, draws, rows), and means of families."""
        size = max(1, _BLOCK_NUMBERS // len(self._beta))
        order = np.arange(len(self.rows))
        if not self.fit.keeps_levels:  # rows of a level together, so that it is drawn once
            order = np.argsort(self.rows.factors[0].codes, kind="stable")
        for start in range(0, len(order), size):
            which = order[start : start + size]
            values, means = self._of(which)
            yield which, values.reshape(*self.fit.n_draws, -1), means

    def _of(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (K, rows) and (rows,): draws, and of a family their means over all new groups."""
        rows = self.rows
        out = self._beta @ rows.X[which].T + rows.offset[which]
        if self.mean is not None:
            return self._of_family(self.mean, which, out)
        variance = np.zeros((1, len(which)))
        is_structured = rows.residual.term.is_structured
        if self.kind == "response" and not is_structured:
            variance = np.square(rows.residual.sd(self._sigma, which))
        self._add_groups(out, which)
        if self.kind == "response" and is_structured:
            out += self._structured(which)[0]
        elif self.kind == "response":
            for at, i in enumerate(which):
                noise = coefficient_draws.own_generator(self.seed, "row", i).standard_normal(
                    len(out)
                )
                out[:, at] += noise * np.sqrt(variance[:, at])
        back = self.scale.back
        return (out if back is None else back.inverse(out)), np.zeros(0)

    def _structured(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (K, rows) and (rows,): residuals of new observations, and their mean given y."""
        own, K = self.rows.structured, len(self._beta)
        phi, sigma = self.fit.residual_parameters, self._sigma
        assert phi is not None
        if own is None:  # new observations of the rows of the fit, all groups anew
            return self._replicated[:, which], np.zeros(len(which))
        phi = own.with_scales(phi, self._scales(own.new_scales))
        out, mean = np.zeros((K, len(self.rows))), np.zeros(len(self.rows))
        for group in own.groups(which):
            for run, found in own.conditionals(phi, group):
                z = np.stack([self._noise(i)[run] for i in found.new], axis=1)
                drawn_here = np.einsum("kab,kb->ka", found.root, z) * sigma[run, None]
                if len(found.observed):
                    left = self._left(found.observed, run)
                    borrowed = np.einsum("kab,kb->ka", found.weights, left)
                    mean[found.new] += borrowed.sum(axis=0) / K
                    drawn_here += borrowed
                out[run, found.new] = drawn_here
        return out[:, which], mean[which]

    def _scales(self, new: tuple[int, ...]) -> np.ndarray:
        """Shape (K, new): standard normals of the residual sds of new groups."""
        K = len(self._beta)
        each = [coefficient_draws.own_generator(self.seed, "scale", k) for k in new]
        return np.array([own.standard_normal(K) for own in each]).reshape(len(new), K).T

    @property
    def borrowed(self) -> np.ndarray:
        """Shape (rows,): mean residual of new observations, given those of their groups."""
        return self._structured(np.arange(len(self.rows)))[1]

    def _noise(self, row: int) -> np.ndarray:
        own = coefficient_draws.own_generator(self.seed, "row", row)
        return np.asarray(own.standard_normal(len(self._beta)))

    @cached_property
    def _replicated(self) -> np.ndarray:
        """Shape (K, n): residuals of new observations of all rows of the fit."""
        z = np.stack([self._noise(i) for i in range(len(self.rows))], axis=1)
        return drawn(self.fit.design, self._sigma, self.fit.residual_parameters, z)

    def _left(self, observed: np.ndarray, run: slice) -> np.ndarray:
        """Shape (k, a): residuals of rows of the fit at some of the draws."""
        design = self.fit.design
        out = design.y_less_offset[observed] - self._beta[run] @ design.X[observed].T
        for group in design.groups:
            levels, place = np.unique(group.codes[observed], return_inverse=True)
            u = coefficient_draws.level_draws(self.fit, group.schema, levels)[run]
            out = out - np.einsum("aq,kaq->ka", group.Z[observed], u[:, place])
        return np.asarray(out)

    def _add_groups(self, out: np.ndarray, which: np.ndarray) -> None:
        for factor, root in zip(self.rows.factors, self._roots, strict=True):
            if factor.is_known.any():
                self._add_known(out, factor, which)
            if factor.is_new.any():
                self._add_new(out, factor, root, which)

    def _of_family(
        self, mean: MeanResponse, which: np.ndarray, eta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same on the scale of the response; of new observations of the number of successes."""
        rows, variance = self.rows, np.zeros(eta.shape)
        average = eta.copy()
        for factor, root in zip(rows.factors, self._roots, strict=True):
            if factor.is_known.any():
                self._add_known(average, factor, which)
            at = np.flatnonzero(factor.is_new[which])
            if len(at):
                each = np.einsum("mq,kqr->kmr", factor.Z[which[at]], root)
                variance[:, at] += np.square(each).sum(axis=2)
        self._add_groups(eta, which)
        means = mean.at(average, variance, self._par).mean(axis=0)
        if self.kind != "response":
            return mean.at(eta, 0.0, self._par), means
        family, first = mean.family, 1.0 if mean.family.has_thresholds else 0.0
        out = np.empty(eta.shape)
        for k, i in enumerate(which):
            own = coefficient_draws.own_generator(self.seed, "row", i)
            trials = np.full(1, rows.trials[i])
            out[:, k] = first + family.draw(eta[:, [k]], self._par, trials, own)[:, 0]
        return out, means * rows.trials[which]

    @cached_property
    def _par(self) -> np.ndarray:
        return coefficient_draws.family_draws(self.fit)

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
