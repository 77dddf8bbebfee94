"""What scores of the single rows of a model are made of, cell by cell, of a Gaussian response.

Given theta the leverage of a row is quadratic in what is summed of it, and its residual linear, with
coefficients that all rows of a cell share.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from hierpool.tables.joined import Held
from hierpool.tables.plan import Plan
from hierpool.tables.sigma_points import sigma_points

_LEFT = 1e-14  # share of a row's residual variance that is left at least
_OTHER_VALUES = 1e-6  # sds of the response by which a cell's mean may be another


_PASS_IT = (
    "Pass the table whose sums the model has; of several tables that were added, all of them as one"
)


class ScoredFit(IntegratedPosterior, Protocol):
    """A posterior with its coefficients integrated out, and its priors."""

    @property
    def priors(self) -> ModelPriors:
        """What it was fitted with."""


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


@dataclass(frozen=True, eq=False)
class SummedTable:
    """A table, and sums of it that one or several models were made of.

    Attributes
    ----------
    cells
        The sums.
    table
        Where the rows are.
    stem
        Before the names of what is asked, to tell it from what others ask.
    """

    cells: Cells
    table: nw.LazyFrame[Any]
    stem: str = ""

    @cached_property
    def question(self) -> Question:
        """What was summed, as expressions of the table."""
        plan = Plan.of(self.cells.spec, self.table.collect_schema())
        plan = replace(plan, pieces=self.cells.pieces)
        return Question(self.table, plan, self.cells.learned)

    @property
    def keys(self) -> list[str]:
        """Names of the keys in what is asked; one for all rows of a table without any."""
        return [f"{self.stem}key{k}_" for k in range(max(1, len(self.question.plan.keys)))]

    @property
    def weight(self) -> str | None:
        """Name of 1 / squared residual sd in what is asked; None where the rows are alike."""
        return None if self.question.weight is None else f"{self.stem}w_"

    def atom(self, k: int) -> nw.Expr:
        """An atom of a row, or after the last of them its response, as it was summed."""
        return nw.col(f"{self.stem}a{k}_")

    @property
    def asked(self) -> dict[str, nw.Expr]:
        """Keys, atoms and response of a row as they are summed, by name."""
        cells, question = self.cells, self.question
        keys = question.keys.values() or [nw.lit(1, nw.Int64)]
        named = dict(zip(self.keys, keys, strict=True))
        for k, e in enumerate(question.expressions):
            named[f"{self.stem}a{k}_"] = (e - float(cells.shift[k])) / float(cells.scale[k])
        if question.weight is not None:
            named[f"{self.stem}w_"] = question.weight
        return named

    @cached_property
    def held(self) -> Held:
        """The keys as the table has them, how many rows have each, and sums of the response."""
        rows = self.table.filter(self.question.is_complete).select(**self.asked)
        y = self.atom(len(self.cells.atoms))
        return Held.of(rows, rows.group_by(self.keys).agg(n_=nw.len(), y_=y.sum()))

    @cached_property
    def place(self) -> np.ndarray:
        """Shape (cells,): which of the keys held each cell has.

        Raises
        ------
        DataError
            The table has other rows than the sums.
        """
        frame, cells = self.held.frame, self.cells
        found = self.cells_of(frame)
        counts = frame["n_"].to_numpy(dtype=np.int64)
        if len(found) != len(cells) or (found < 0).any() or (cells.counts[found] != counts).any():
            n = int(counts.sum())
            raise DataError(
                f"the table has {n:,} complete rows in {len(frame):,} combinations of groups and "
                f"categories, and {cells.spec.formula} was summed over {cells.n:,} in "
                f"{len(cells):,}, or other rows. {_PASS_IT}",
                "other-table",
            )
        apart = np.abs(frame["y_"].to_numpy(dtype=float) - cells.plain[found, 0, -1])
        n_other = int((apart > _OTHER_VALUES * counts).sum())
        if n_other:
            raise DataError(
                f"{cells.spec.response} has other values in the table than when "
                f"{cells.spec.formula} was summed: its sums differ in {n_other:,} of {len(cells):,} "
                f"combinations of groups and categories. {_PASS_IT}",
                "other-table",
            )
        return np.argsort(found)

    def cells_of(self, frame: pd.DataFrame) -> np.ndarray:
        """Shape (n,): position of the cell of each row of a frame with keys; -1 where there is none."""
        if not self.question.plan.keys:
            return np.zeros(len(frame), dtype=np.intp)
        asked = frame[self.keys].set_axis(list(self.question.keys), axis=1)
        known, frame = self.cells.keys, self.question.labels(asked)
        shape = (len(known), len(self.keys)), (len(frame), len(self.keys))
        codes, found = (np.zeros(each, dtype=np.int64) for each in shape)
        for k, column in enumerate(known):
            labels = pd.Index(as_text(known[column]).unique())
            codes[:, k] = labels.get_indexer(pd.Index(as_text(known[column])))
            found[:, k] = labels.get_indexer(pd.Index(as_text(frame[column])))
        every = pd.MultiIndex.from_arrays(list(codes.T))
        return every.get_indexer(pd.MultiIndex.from_arrays(list(found.T)))


@dataclass(frozen=True, eq=False)
class CellScores:
    """A posterior, and what the scores of rows are made of in each of its cells.

    Attributes
    ----------
    fit
        The posterior.
    source
        The sums it was made of.
    stem
        Before the names of its columns.
    """

    fit: ScoredFit
    source: SummedTable
    stem: str = ""

    @classmethod
    def of_all(cls, fits: Sequence[ScoredFit], table: nw.LazyFrame[Any]) -> tuple[CellScores, ...]:
        """Those of several fits; what was summed alike is asked once."""
        sources: list[SummedTable] = []
        out = []
        for k, fit in enumerate(fits):
            rows: Any = rows_of(fit.design)
            known = next((s for s in sources if _are_alike(s.cells, rows.cells)), None)
            if known is None:
                known = SummedTable(rows.cells, table, f"t{len(sources)}_")
                sources.append(known)
            out.append(cls(fit, known, f"m{k}_"))
        return tuple(out)

    @cached_property
    def points(self) -> WorkingTheta:
        """A few values of theta: sigma points of its draws."""
        coordinates = self.fit.integrated.coordinates
        return ThetaMap.from_priors(self.fit.priors, coordinates).working(
            sigma_points(self.fit.theta)
        )

    @property
    def densities(self) -> list[str]:
        """Names of the log densities at these points."""
        return [f"{self.stem}l{s}_" for s in range(len(self.points))]

    @property
    def n_coefficients(self) -> int:
        """How many numbers each cell has."""
        m = len(self.source.cells.atoms)
        return len(self.points) * ((m + 1) * (m + 2) // 2 + m + 1)

    def log_density(self, s: int) -> nw.Expr:
        """Log density of a row at one sigma point, from atoms, response and joined coefficients."""
        source, stem = self.source, self.stem
        m = len(source.cells.atoms)
        a = [source.atom(k) for k in range(m)]
        leverage, fitted = [nw.col(f"{stem}h{s}_")], [nw.col(f"{stem}e{s}_")]
        for i in range(m):
            fitted.append(nw.col(f"{stem}e{s}_{i}_") * a[i])
            curved = nw.col(f"{stem}h{s}_{i}_") + nw.col(f"{stem}h{s}_{i}_{i}_") * a[i]
            leverage.append(curved * a[i])
            leverage += [nw.col(f"{stem}h{s}_{i}_{j}_") * a[i] * a[j] for j in range(i + 1, m)]
        h, e = total(leverage), total(fitted)
        e = e + source.atom(m) * float(source.cells.scale[-1])
        w = None if source.weight is None else nw.col(source.weight)
        left = nw.lit(1.0) - (h if w is None else h * w)
        left = nw.when(left > _LEFT).then(left).otherwise(nw.lit(_LEFT))
        precision = float(self.points.sigma[s]) ** -2.0
        square = e * e * precision / left
        constant = 0.5 * (float(np.log(precision)) - LOG_2PI)
        if w is None:
            return (left.log() - square) * 0.5 + constant
        return ((left * w).log() - square * w) * 0.5 + constant

    def coefficients(self, block: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> shape (cells,): leverages as quadratic forms in the atoms, residuals as linear ones.

        Both are worked out at as many points as they have coefficients: exact, whatever the model.
        """
        m, stem = len(self.source.cells.atoms), self.stem
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
            out |= {f"{stem}h{s}_": first[:, 0], f"{stem}e{s}_": e[s, :, 0]}
            for i in range(m):
                out[f"{stem}e{s}_{i}_"] = (e[s, :, 1 + i] - e[s, :, 1 + m + i]) / 2
                out[f"{stem}h{s}_{i}_"], out[f"{stem}h{s}_{i}_{i}_"] = linear[:, i], square[:, i]
            for k, (i, j) in enumerate(pairs):
                apart = linear[:, i] + linear[:, j] + square[:, i] + square[:, j]
                out[f"{stem}h{s}_{i}_{j}_"] = both[:, k] - first[:, 0] - apart
        return {name: np.ascontiguousarray(v) for name, v in out.items()}

    def of_rows(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Scores of rows that were asked for, by all draws of theta and by the sigma points.

        As ``sampled`` and ``approximate`` of ``Scores``, shapes (n, 3) and (n, 2).
        """
        fit, source = self.fit, self.source
        names = [f"{source.stem}a{k}_" for k in range(len(source.cells.atoms) + 1)]
        values = np.column_stack([frame[name].to_numpy(dtype=float) for name in names])
        weight = np.ones(len(frame))
        if source.weight is not None:
            weight = frame[source.weight].to_numpy(dtype=float)
        rows = rows_in_cells(fit.design, source.cells_of(frame), values)
        kept = fit.thinned_draws.ravel()
        efficiency = min(1.0, fit.efficiency * len(fit.theta) / len(kept))
        found = []
        for theta in (fit.working_theta[kept], self.points):
            found.append(Densities(theta).of(*fit.integrated.leverages(theta, rows), weight))
        exact = np.stack(psis.leave_one_out(found[0].T, efficiency), axis=1)
        near = np.column_stack([-_log_mean(-found[1]), _log_mean(found[1])])
        return exact, near


def total(parts: Sequence[nw.Expr]) -> nw.Expr:
    """Their sum."""
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out


def _are_alike(one: Cells, other: Cells) -> bool:
    """Whether two sums are of the same expressions and rows."""
    if one is other:
        return True
    same = np.array_equal(one.shift, other.shift) and np.array_equal(one.scale, other.scale)
    kept = (one.spec, one.atoms, one.learned, one.pieces, list(one.keys.columns), len(one))
    asked = (other.spec, other.atoms, other.learned, other.pieces, list(other.keys.columns))
    return same and kept == (*asked, len(other)) and one.digest == other.digest


def _log_mean(values: np.ndarray) -> np.ndarray:
    """Log of the mean of exp over the first axis."""
    most = values.max(axis=0)
    return np.asarray(most + np.log(np.exp(values - most).mean(axis=0)))
