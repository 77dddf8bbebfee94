"""Scores of single rows of a table that is not in memory, each left out, of a Gaussian response.

Given theta the leverage of a row is quadratic in what is summed of it, and its residual linear, with
coefficients that all rows of a cell share. The coefficients are joined to the rows of the table, and
the table's engine works the scores out. Theta is a few sigma points; a sample of rows is scored with
all draws of theta, which says how far off these are.

References
----------
Magnusson, Andersen, Jonasson, Vehtari (2020), Leave-one-out cross-validation for Bayesian model
comparison in large data, AISTATS: the difference estimator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from hierpool.algebra.gaussian import LOG_2PI
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.theta import ThetaMap
from hierpool.core.cells import Cells, as_text
from hierpool.core.errors import DataError
from hierpool.core.theta import WorkingTheta
from hierpool.draws import psis
from hierpool.formula.build import rows_in_cells, rows_of
from hierpool.tables.collect import Question
from hierpool.tables.engines import batches, fetch, rows_at, worked_once
from hierpool.tables.joined import Held
from hierpool.tables.plan import Plan
from hierpool.tables.sigma_points import sigma_points

BATCH = 100_000  # rows in memory at a time
_NUMBERS = 40_000_000  # joined to a table at once
_LEFT = 1e-14  # share of a row's residual variance that is left at least
_EVERYWHERE = "key_"  # the key of a table without groups and categories


class ScoredFit(IntegratedPosterior, Protocol):
    """A posterior with its coefficients integrated out, and its priors."""

    @property
    def priors(self) -> ModelPriors:
        """What it was fitted with."""


@dataclass(frozen=True)
class Scores:
    """Sums of the scores of all rows, and a sample of them that was scored with all draws.

    Attributes
    ----------
    n
        Rows of the table.
    total
        Sum of their scores.
    variance
        Of the scores of single rows.
    lppd
        Sum of the log means of their densities.
    sampled
        Shape (m, 3): score, Pareto k, and log mean density of sampled rows, by all draws of theta.
    approximate
        Shape (m, 2): their score, and log mean density, by the sigma points.
    n_points
        How many of these there are.
    """

    n: int
    total: float
    variance: float
    lppd: float
    sampled: np.ndarray
    approximate: np.ndarray
    n_points: int

    @property
    def off(self) -> tuple[np.ndarray, np.ndarray]:
        """Estimated sums over all rows of what score and log mean density lack, and standard errors."""
        apart = self.sampled[:, [0, 2]] - self.approximate
        m = len(apart)
        spread = apart.std(axis=0, ddof=1) if m > 1 else np.zeros(2)
        return self.n * apart.mean(axis=0), self.n * spread * np.sqrt((1 / m) * (1 - m / self.n))


@dataclass(frozen=True)
class Densities:
    """Log densities of rows given all others, at some values of theta."""

    theta: WorkingTheta

    def of(self, leverage: np.ndarray, residual: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Shape (K, n), from leverages and residuals (K, n) at weight one, and weights (n,)."""
        left = np.maximum(1 - weight * leverage, _LEFT)
        precision = weight / self.theta.sigma[:, None] ** 2
        return np.asarray(
            0.5 * (np.log(precision * left) - precision * residual**2 / left - LOG_2PI)
        )


@dataclass(frozen=True)
class ScoredTable:
    """A table, and the posterior of a model that was made of its sums.

    Attributes
    ----------
    fit
        The posterior.
    table
        Where the rows are.
    """

    fit: ScoredFit
    table: nw.LazyFrame[Any]

    @cached_property
    def cells(self) -> Cells:
        """What the model was made of."""
        rows: Any = rows_of(self.fit.design)
        return rows.cells

    @cached_property
    def question(self) -> Question:
        """What was summed, as expressions of the table."""
        plan = Plan.of(self.cells.spec, self.table.collect_schema())
        plan = replace(plan, pieces=self.cells.pieces)
        return Question(self.table, plan, self.cells.learned)

    @property
    def keys(self) -> list[str]:
        """Names of the keys in what is asked."""
        return [f"key{k}_" for k in range(len(self.question.plan.keys))] or [_EVERYWHERE]

    def asked(self, keep: Sequence[str] = ()) -> nw.LazyFrame[Any]:
        """Keys, atoms and response of the complete rows as they are summed, and columns to keep."""
        cells, question = self.cells, self.question
        named = dict(question.keys) or {_EVERYWHERE: nw.lit(1, nw.Int64)}
        for k, e in enumerate(question.expressions):
            named[f"a{k}_"] = (e - float(cells.shift[k])) / float(cells.scale[k])
        if question.weight is not None:
            named["w_"] = question.weight
        named |= {f"keep{k}_": nw.col(name) for k, name in enumerate(keep)}
        return self.table.filter(question.is_complete).select(**named)

    @cached_property
    def held(self) -> Held:
        """The keys as the table has them, and how many rows have each."""
        asked = self.asked()
        return Held.of(asked, asked.group_by(self.keys).agg(n_=nw.len()))

    @cached_property
    def place(self) -> np.ndarray:
        """Shape (cells,): which of the keys held each cell has.

        Raises
        ------
        DataError
            The table has other rows than the model was made of.
        """
        frame, cells = self.held.frame, self.cells
        n = int(frame["n_"].sum())
        found = self._cells_of(frame)
        counts = frame["n_"].to_numpy(dtype=np.int64)
        if len(found) != len(cells) or (found < 0).any() or (cells.counts[found] != counts).any():
            raise DataError(
                f"the table has {n:,} complete rows in {len(frame):,} combinations of groups and "
                f"categories, and the model was made of {cells.n:,} in {len(cells):,}, or other "
                "rows. Pass the table whose sums the model has; of several tables that were added, "
                "all of them as one",
                "other-table",
            )
        return np.argsort(found)

    def _cells_of(self, frame: pd.DataFrame) -> np.ndarray:
        """Shape (n,): position of the cell of each row of a frame with keys; -1 where there is none."""
        if self.keys == [_EVERYWHERE]:
            return np.zeros(len(frame), dtype=np.intp)
        known, frame = self.cells.keys, self.question.labels(frame)
        codes = np.zeros((len(known), len(self.keys)), dtype=np.int64)
        asked = np.zeros((len(frame), len(self.keys)), dtype=np.int64)
        for k, column in enumerate(known):
            labels = pd.Index(as_text(known[column]).unique())
            codes[:, k] = labels.get_indexer(pd.Index(as_text(known[column])))
            asked[:, k] = labels.get_indexer(pd.Index(as_text(frame[column])))
        every = pd.MultiIndex.from_arrays(list(codes.T))
        return every.get_indexer(pd.MultiIndex.from_arrays(list(asked.T)))

    @cached_property
    def points(self) -> WorkingTheta:
        """The sigma points."""
        coordinates = self.fit.integrated.coordinates
        return ThetaMap.from_priors(self.fit.priors, coordinates).working(
            sigma_points(self.fit.theta)
        )

    @cached_property
    def _blocks(self) -> list[np.ndarray]:
        """The cells in blocks whose coefficients can be joined at once."""
        m, K = len(self.cells.atoms), len(self.points)
        each = K * ((m + 1) * (m + 2) // 2 + m + 1)
        n_blocks = max(1, -(-len(self.cells) * each // _NUMBERS))
        return np.array_split(np.arange(len(self.cells)), n_blocks)

    def scored(self, keep: Sequence[str] = ()) -> Iterator[nw.LazyFrame[Any]]:
        """The rows of the table with ``elpd_`` and ``lppd_``, block by block."""
        K, m = len(self.points), len(self.cells.atoms)
        asked = self.asked(keep)
        held = Held(asked, self.held.answer)
        for block in self._blocks:
            columns = self._coefficients(block)
            rows = held.beside(self.place[block], self.keys, columns)
            w = nw.col("w_") if self.question.weight is not None else None
            each = {f"l{s}_": self._log_density(s, m, w) for s in range(K)}
            kept = [f"keep{k}_" for k in range(len(keep))]
            rows = worked_once(rows.select(*kept, **each))
            names = list(each)
            rows = worked_once(
                rows.with_columns(low_=nw.min_horizontal(*names), high_=nw.max_horizontal(*names))
            )
            low = [(nw.col("low_") - nw.col(name)).exp() for name in names]
            high = [(nw.col(name) - nw.col("high_")).exp() for name in names]
            yield rows.select(
                *kept,
                elpd_=nw.col("low_") - (_total(low) / float(K)).log(),
                lppd_=nw.col("high_") + (_total(high) / float(K)).log(),
            )

    def _log_density(self, s: int, m: int, w: nw.Expr | None) -> nw.Expr:
        """Log density of a row at one sigma point, from atoms, response and joined coefficients."""
        a = [nw.col(f"a{k}_") for k in range(m)]
        leverage, fitted = [nw.col(f"h{s}_")], [nw.col(f"e{s}_")]
        for i in range(m):
            fitted.append(nw.col(f"e{s}_{i}_") * a[i])
            leverage.append((nw.col(f"h{s}_{i}_") + nw.col(f"h{s}_{i}_{i}_") * a[i]) * a[i])
            leverage += [nw.col(f"h{s}_{i}_{j}_") * a[i] * a[j] for j in range(i + 1, m)]
        h, e = _total(leverage), _total(fitted)
        e = e + nw.col(f"a{m}_") * float(self.cells.scale[-1])
        left = nw.lit(1.0) - (h if w is None else h * w)
        left = nw.when(left > _LEFT).then(left).otherwise(nw.lit(_LEFT))
        precision = float(self.points.sigma[s]) ** -2.0
        square = e * e * precision / left
        constant = 0.5 * (float(np.log(precision)) - LOG_2PI)
        if w is None:
            return (left.log() - square) * 0.5 + constant
        return ((left * w).log() - square * w) * 0.5 + constant

    def _coefficients(self, block: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> shape (cells,): leverages as quadratic forms in the atoms, residuals as linear ones.

        Both are worked out at as many points as they have coefficients: exact, whatever the model.
        """
        m = len(self.cells.atoms)
        one = np.eye(m + 1)[:m]
        pairs = [(i, j) for i in range(m) for j in range(i + 1, m)]
        sums = [one[i] + one[j] for i, j in pairs]
        asked = np.stack([np.zeros(m + 1), *one, *-one, *sums])
        cell, values = np.repeat(block, len(asked)), np.tile(asked, (len(block), 1))
        points = rows_in_cells(self.fit.design, cell, values)
        h, e = self.fit.integrated.leverages(self.points, points)
        h, e = (v.reshape(len(self.points), len(block), len(asked)) for v in (h, e))
        out: dict[str, np.ndarray] = {}
        for s in range(len(self.points)):
            first, up, down, both = np.split(h[s], [1, m + 1, 2 * m + 1], axis=1)
            linear, square = (up - down) / 2, (up + down) / 2 - first
            out |= {f"h{s}_": first[:, 0], f"e{s}_": e[s, :, 0]}
            for i in range(m):
                out[f"e{s}_{i}_"] = (e[s, :, 1 + i] - e[s, :, 1 + m + i]) / 2
                out[f"h{s}_{i}_"], out[f"h{s}_{i}_{i}_"] = linear[:, i], square[:, i]
            for k, (i, j) in enumerate(pairs):
                apart = linear[:, i] + linear[:, j] + square[:, i] + square[:, j]
                out[f"h{s}_{i}_{j}_"] = both[:, k] - first[:, 0] - apart
        return {name: np.ascontiguousarray(v) for name, v in out.items()}

    def sampled(self, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores of rows drawn at random, by all draws of theta and by the sigma points.

        As ``sampled`` and ``approximate`` of ``Scores``.
        """
        from hierpool.checks.accuracy.loo import relative_efficiency

        fit, n = self.fit, self.cells.n
        chosen = np.sort(np.random.default_rng(seed).choice(n, min(n_rows, n), replace=False))
        frame = rows_at(self.asked(), chosen, BATCH)
        m = len(self.cells.atoms)
        values = np.column_stack([frame[f"a{k}_"].to_numpy(dtype=float) for k in range(m + 1)])
        weight = frame["w_"].to_numpy(dtype=float) if "w_" in frame else np.ones(len(frame))
        rows = rows_in_cells(fit.design, self._cells_of(frame), values)
        kept = fit.thinned_draws.ravel()
        efficiency = min(1.0, relative_efficiency(fit) * len(fit.theta) / len(kept))
        found = []
        for theta in (fit.working_theta[kept], self.points):
            found.append(Densities(theta).of(*fit.integrated.leverages(theta, rows), weight))
        exact = np.stack(psis.leave_one_out(found[0].T, efficiency), axis=1)
        near = np.column_stack([-_log_mean(-found[1]), _log_mean(found[1])])
        return exact, near

    def sums(self, sampled: np.ndarray, approximate: np.ndarray) -> Scores:
        """The sums of all rows' scores; ``sampled`` and ``approximate`` as they are handed on."""
        middle = float(approximate[:, 0].mean())
        n, total, squares, lppd = 0, 0.0, 0.0, 0.0
        for rows in map(worked_once, self.scored()):
            away = nw.col("elpd_") - middle
            asked = rows.select(
                n_=nw.len(),
                s_=away.sum(),
                q_=(away * away).sum(),
                l_=(nw.col("lppd_") - middle).sum(),
            )
            row = fetch(asked).iloc[0]
            n, total = n + int(row["n_"]), total + float(row["s_"])
            squares, lppd = squares + float(row["q_"]), lppd + float(row["l_"])
        variance = (squares - total**2 / n) / max(n - 1, 1)
        return Scores(
            n,
            total + n * middle,
            variance,
            lppd + n * middle,
            sampled,
            approximate,
            len(self.points),
        )

    def frames(self, keep: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The score of each row, with columns to keep, in batches."""
        for rows in self.scored(keep):
            for batch in batches(rows, BATCH):
                named = {f"keep{k}_": name for k, name in enumerate(keep)}
                yield batch.drop(columns="lppd_").rename(columns={**named, "elpd_": "elpd"})


def _total(parts: Sequence[nw.Expr]) -> nw.Expr:
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out


def _log_mean(values: np.ndarray) -> np.ndarray:
    """Log of the mean of exp over the first axis."""
    most = values.max(axis=0)
    return np.asarray(most + np.log(np.exp(values - most).mean(axis=0)))
