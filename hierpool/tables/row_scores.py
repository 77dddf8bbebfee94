"""Scores of single rows of a table that is not in memory, each left out, by one or several models.

The coefficients of the cells of each model are joined to the rows of the table, and the table's
engine works the scores out. Theta is a few sigma points; a sample of rows is scored with all draws of
theta, which says how far off these are.

References
----------
Magnusson, Andersen, Jonasson, Vehtari (2020), Leave-one-out cross-validation for Bayesian model
comparison in large data, AISTATS: the difference estimator, of sums and of their differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from hierpool.core.errors import ComparisonError
from hierpool.tables.cell_scores import CellScores, ScoredFit, SummedTable, total
from hierpool.tables.engines import batches, fetch, rows_at, worked_once
from hierpool.tables.joined import Held

BATCH = 100_000  # rows in memory at a time
PREDICTS = "a new observation of a known group"
_NUMBERS = 40_000_000  # joined to a table at once


@dataclass(frozen=True)
class Scores:
    """Sums of the scores of all rows by K models, and a sample of them scored with all draws.

    Attributes
    ----------
    n
        Rows of the table.
    total
        Shape (K,): sum of their scores.
    variance
        Shape (K,): of the scores of single rows.
    lppd
        Shape (K,): sum of the log means of their densities.
    apart
        Shape (K, K): variance over the rows of the difference of two models' scores.
    sampled
        Shape (K, m, 3): score, Pareto k, and log mean density of sampled rows, by all draws of theta.
    approximate
        Shape (K, m, 2): their score, and log mean density, by the sigma points.
    """

    n: int
    total: np.ndarray
    variance: np.ndarray
    lppd: np.ndarray
    apart: np.ndarray
    sampled: np.ndarray
    approximate: np.ndarray

    @property
    def lacking(self) -> np.ndarray:
        """Shape (K, m, 2): what scores and log mean densities of the sampled rows lack."""
        return self.sampled[:, :, [0, 2]] - self.approximate

    @property
    def elpd(self) -> np.ndarray:
        """Shape (K,): sums of the scores, corrected by the sample."""
        return np.asarray(self.total + self.n * self.lacking[:, :, 0].mean(axis=1))

    @property
    def p(self) -> np.ndarray:
        """Shape (K,): effective numbers of parameters."""
        return np.asarray(self.lppd + self.n * self.lacking[:, :, 1].mean(axis=1) - self.elpd)

    @property
    def se(self) -> np.ndarray:
        """Shape (K,): standard errors of ``elpd`` by how scores vary over the rows, corrected too."""
        exact, near = self.sampled[:, :, 0], self.approximate[:, :, 0]
        variance = self.variance + exact.var(axis=1) - near.var(axis=1)
        return np.sqrt(self.n * np.maximum(variance, 0.0))

    @property
    def sampling_se(self) -> np.ndarray:
        """Shape (K,): standard errors of ``elpd`` by the sample's correction."""
        return self._error_of_sum(self.lacking[:, :, 0])

    def sampling_dse(self, other: int) -> np.ndarray:
        """Shape (K,): the same of the differences from one model."""
        lacking = self.lacking[:, :, 0]
        return self._error_of_sum(lacking - lacking[other])

    def dse(self, other: int) -> np.ndarray:
        """Shape (K,): standard errors of the differences from one model, by how they vary over the rows.

        The variance of the differences at the sigma points, corrected like the sums.
        """
        exact, near = (v[:, :, 0] - v[other, :, 0] for v in (self.sampled, self.approximate))
        variance = self.apart[other] + exact.var(axis=1) - near.var(axis=1)
        return np.sqrt(self.n * np.maximum(variance, 0.0))

    def _error_of_sum(self, lacking: np.ndarray) -> np.ndarray:
        """Shape (K,): standard error of a sum over all rows of what (K, m) sampled rows lack."""
        m = lacking.shape[1]
        spread = lacking.std(axis=1, ddof=1) if m > 1 else np.zeros(len(lacking))
        return np.asarray(self.n * spread * np.sqrt((1 / m) * (1 - m / self.n)))


@dataclass(frozen=True)
class ScoredTable:
    """A table, and the posteriors of models that were made of its sums.

    Attributes
    ----------
    models
        What each needs of its cells.
    table
        Where the rows are.
    """

    models: tuple[CellScores, ...]
    table: nw.LazyFrame[Any]

    @classmethod
    def of(cls, fits: Sequence[ScoredFit], table: nw.LazyFrame[Any]) -> ScoredTable:
        """Those of some fits."""
        return cls(CellScores.of_all(fits, table), table)

    @cached_property
    def sources(self) -> tuple[SummedTable, ...]:
        """The sums, each once."""
        return tuple(dict.fromkeys(model.source for model in self.models))

    @cached_property
    def n(self) -> int:
        """Rows of the table, the same for all models.

        Raises
        ------
        DataError
            The table has other rows than the sums of a model.
        ComparisonError
            The models have different rows.
        """
        for source in self.sources:
            _ = source.place
        used = [set(source.question.plan.used) for source in self.sources]
        counts = [source.cells.n for source in self.sources]
        both = counts[0]
        if any(own != used[0] for own in used):
            both = int(fetch(self._complete.select(n_=nw.len())).iloc[0]["n_"])
        if set(counts) == {both}:
            return both
        each = [f"{s.cells.spec.formula} has {s.cells.n:,} complete rows" for s in self.sources]
        lacking = dict.fromkeys(c for s in self.sources for c, k in s.cells.missing.items() if k)
        where = f", as values are missing in {', '.join(lacking)}" if lacking else ""
        raise ComparisonError(
            f"{', '.join(each)}, and {both:,} are complete for all{where}. Filter the table to the "
            "rows that have all values, and fit all models to it",
            "different-rows",
        )

    @property
    def _complete(self) -> nw.LazyFrame[Any]:
        """The rows that have all values for each model."""
        rows = self.table
        for source in self.sources:
            rows = rows.filter(source.question.is_complete)
        return rows

    def asked(self, keep: Sequence[str] = ()) -> nw.LazyFrame[Any]:
        """Keys, atoms and response of the complete rows as they are summed, and columns to keep."""
        named = {name: e for source in self.sources for name, e in source.asked.items()}
        named |= {f"keep{k}_": nw.col(name) for k, name in enumerate(keep)}
        return self._complete.select(**named)

    def _blocks(self, source: SummedTable) -> list[np.ndarray]:
        """The cells of a source in blocks whose coefficients can be joined at once."""
        n = len(source.cells)
        each = sum(model.n_coefficients for model in self.models if model.source is source)
        return np.array_split(np.arange(n), max(1, -(-n * each // _NUMBERS)))

    def scored(self, keep: Sequence[str] = ()) -> Iterator[nw.LazyFrame[Any]]:
        """The rows with ``elpd0_`` and ``lppd0_`` of the first model and so on, block by block."""
        _ = self.n
        for blocks in product(*map(self._blocks, self.sources)):
            rows = self.asked(keep)
            for source, block in zip(self.sources, blocks, strict=True):
                own = [model for model in self.models if model.source is source]
                columns = {k: v for m in own for k, v in m.coefficients(block).items()}
                held = Held(rows, source.held.answer)
                rows = held.beside(source.place[block], source.keys, columns)
            yield self._at_points(rows, [f"keep{k}_" for k in range(len(keep))])

    def _at_points(self, rows: nw.LazyFrame[Any], kept: Sequence[str]) -> nw.LazyFrame[Any]:
        """Scores from the log densities at the sigma points, of rows with coefficients beside them."""
        each = {name: m.log_density(s) for m in self.models for s, name in enumerate(m.densities)}
        rows = worked_once(rows.select(*kept, **each))
        ends: dict[str, nw.Expr] = {}
        for k, model in enumerate(self.models):
            ends[f"low{k}_"] = nw.min_horizontal(*model.densities)
            ends[f"high{k}_"] = nw.max_horizontal(*model.densities)
        rows = worked_once(rows.with_columns(**ends))
        scores: dict[str, nw.Expr] = {}
        for k, model in enumerate(self.models):
            low, high = nw.col(f"low{k}_"), nw.col(f"high{k}_")
            n = float(len(model.densities))
            above = [(low - nw.col(name)).exp() for name in model.densities]
            below = [(nw.col(name) - high).exp() for name in model.densities]
            scores[f"elpd{k}_"] = low - (total(above) / n).log()
            scores[f"lppd{k}_"] = high + (total(below) / n).log()
        return rows.select(*kept, **scores)

    def sampled(self, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores of rows drawn at random, by all draws of theta and by the sigma points.

        As ``sampled`` and ``approximate`` of ``Scores``.
        """
        n = self.n
        chosen = np.sort(np.random.default_rng(seed).choice(n, min(n_rows, n), replace=False))
        frame = rows_at(self.asked(), chosen, BATCH)
        found = [model.of_rows(frame) for model in self.models]
        return np.stack([exact for exact, _ in found]), np.stack([near for _, near in found])

    def sums(self, sampled: np.ndarray, approximate: np.ndarray) -> Scores:
        """The sums of all rows' scores; ``sampled`` and ``approximate`` as they are handed on."""
        K = len(self.models)
        middle = approximate[:, :, 0].mean(axis=1)
        pairs = list(combinations(range(K), 2))
        away = {k: nw.col(f"elpd{k}_") - float(middle[k]) for k in range(K)}
        asked: dict[str, nw.Expr] = {"n_": nw.len()}
        for k in range(K):
            asked[f"s{k}_"], asked[f"q{k}_"] = away[k].sum(), (away[k] * away[k]).sum()
            asked[f"l{k}_"] = (nw.col(f"lppd{k}_") - float(middle[k])).sum()
        for j, k in pairs:
            apart = away[k] - away[j]
            asked[f"d{j}_{k}_"], asked[f"r{j}_{k}_"] = apart.sum(), (apart * apart).sum()
        every = [fetch(rows.select(**asked)).iloc[0] for rows in map(worked_once, self.scored())]
        summed = pd.DataFrame(every).sum()
        n = int(summed["n_"])

        def of(name: str) -> np.ndarray:
            return np.array([float(summed[f"{name}{k}_"]) for k in range(K)])

        variances = np.zeros((K, K))
        for j, k in pairs:
            d, r = float(summed[f"d{j}_{k}_"]), float(summed[f"r{j}_{k}_"])
            variances[j, k] = variances[k, j] = r / n - (d / n) ** 2
        variance = (of("q") - of("s") ** 2 / n) / max(n - 1, 1)
        totals, lppd = of("s") + n * middle, of("l") + n * middle
        return Scores(n, totals, variance, lppd, variances, sampled, approximate)

    def frames(self, keep: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The first model's score of each row, with columns to keep, in batches."""
        for rows in self.scored(keep):
            for batch in batches(rows, BATCH):
                named = {f"keep{k}_": name for k, name in enumerate(keep)}
                found = batch.rename(columns={**named, "elpd0_": "elpd"})
                yield found[[*named.values(), "elpd"]]
