"""A formula and a table to cells: two passes over the table, of which only sums come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from hierpool.core.cells import Cells
from hierpool.core.errors import DataError, listed
from hierpool.core.progress import named_steps
from hierpool.core.spec import Spec
from hierpool.core.summed_rows import Range
from hierpool.formula.tables import check_factor_names, select
from hierpool.tables.engines import fetch, n_combinations, unreadable
from hierpool.tables.expressions import Learned, Translator, as_double, number, product
from hierpool.tables.intervals import found_pieces, interval, powers
from hierpool.tables.plan import Plan

MOST_CELLS = 2_000_000  # about 2 GB of sums and what is made of them
FEW_ROWS = 100_000  # that fit into memory whether or not they are alike
MOST_OF_ROWS = 0.5  # that may differ where rows alike are counted


@dataclass(frozen=True)
class Totals:
    """What the first pass tells.

    Attributes
    ----------
    n_read, n
        Rows of the table, and those without missing values.
    missing
        Column -> rows without a value there.
    shift, scale
        Mean and sd of each atom and of the response.
    ranges
        Of the columns that the atoms are made of.
    """

    n_read: int
    n: int
    missing: Mapping[str, int]
    shift: np.ndarray
    scale: np.ndarray
    ranges: Mapping[str, Range]


@dataclass(frozen=True)
class Question:
    """A table, and what is summed of it.

    Attributes
    ----------
    table
        Where the rows are.
    plan
        Keys and atoms.
    known
        What functions of the formula remember.
    """

    table: nw.LazyFrame[Any]
    plan: Plan
    known: Mapping[str, Mapping[str, Any]]

    @property
    def is_complete(self) -> nw.Expr:
        """Whether a row has all values; a NaN is none."""
        parts = [~nw.col(c).is_null() for c in self.plan.used]
        parts += [~nw.col(c).is_nan() for c in self.plan.used if self.plan.schema[c].is_float()]
        return nw.all_horizontal(*parts, ignore_nulls=False)

    @property
    def weight(self) -> nw.Expr | None:
        """1 / squared residual sd in units of sigma; None where the rows are alike."""
        term = self.plan.spec.residual
        if not term.column or term.structure == "family":
            return None
        value = nw.col(term.column).cast(nw.Float64)
        return value if term.has_sigma else nw.lit(1.0) / (value * value)

    @property
    def names(self) -> tuple[str, ...]:
        """The atoms and the response, as they are named in messages."""
        atoms = [":".join(atom) for atom in self.plan.names]
        return (*atoms, " - ".join(f.text for f in self.plan.responses))

    @property
    def expressions(self) -> tuple[nw.Expr, ...]:
        """The atoms, and the response less its offsets; a zero in its place where it is a key."""
        if not self.plan.responses:
            return (as_double(nw.lit(0.0)),)
        translator = Translator(self.plan.spec.formula, self.known, [])
        atoms = [product([translator.expression(f) for f in atom]) for atom in self.plan.atoms]
        atoms += [e for c, own in self.plan.pieces.items() for e in powers(c, own)]
        response, *offsets = (translator.expression(f) for f in self.plan.responses)
        for offset in offsets:
            response = response - offset
        return (*atoms, response)

    @property
    def keys(self) -> dict[str, nw.Expr]:
        """The keys as they are asked for: of a number in intervals, which of them."""
        own = self.plan.pieces
        return {
            f"key{k}_": interval(c, own[c]) if c in own else nw.col(c)
            for k, c in enumerate(self.plan.keys)
        }

    def labels(self, found: pd.DataFrame) -> pd.DataFrame:
        """Keys as they were found, with the names of their columns; the middle of each interval."""
        keys = list(self.plan.keys)
        frame = found[list(self.keys)].set_axis(keys, axis=1)
        cut = {c: own.centres[frame[c].astype(int)] for c, own in self.plan.pieces.items()}
        return frame.assign(**cut)

    def totals(self) -> Totals:
        """The first pass: rows, missing values, means and sds."""
        used, schema = self.plan.used, self.plan.schema
        inner = {"complete_": self.is_complete}
        for k, column in enumerate(used):
            gone = nw.col(column).is_null()
            inner[f"gone{k}_"] = (
                gone | nw.col(column).is_nan() if schema[column].is_float() else gone
            )
        every = list(self.expressions)
        if self.weight is not None:
            every.append(self.weight)
        outer: dict[str, nw.Expr] = {"n_read_": nw.len(), "n_": _count(nw.col("complete_"))}
        outer |= {f"gone{k}_": _count(nw.col(f"gone{k}_")) for k in range(len(used))}
        for k, expression in enumerate(every):
            inner[f"a{k}_"] = expression
            a, there = nw.col(f"a{k}_"), nw.col("complete_")
            outer[f"odd{k}_"] = _count(there & (a.is_null() | ~a.is_finite()))
            kept = nw.when(there & a.is_finite()).then(a)
            outer |= {f"mean{k}_": kept.mean(), f"sd{k}_": kept.std(ddof=1)}
            if k == len(self.names):
                outer["least_weight_"] = kept.min()
        atoms = enumerate(self.plan.atoms)
        alone = {a[0].columns[0]: k for k, a in atoms if len(a) == 1 and a[0].kind == "column"}
        moments = {}  # of a column: that of the atom where it is one, which is asked for already
        for k, name in enumerate(self.plan.ranged):
            inner[f"v{k}_"] = number(name)
            v = nw.when(nw.col("complete_")).then(nw.col(f"v{k}_"))
            outer |= {f"v_low{k}_": v.min(), f"v_high{k}_": v.max()}
            moments[name] = f"mean{alone.get(name)}_", f"sd{alone.get(name)}_"
            if name not in alone:
                moments[name] = f"v_mean{k}_", f"v_sd{k}_"
                outer |= {f"v_mean{k}_": v.mean(), f"v_sd{k}_": v.std(ddof=1)}
        row = fetch(self.table.select(**inner).select(**outer)).iloc[0]
        n, n_read = int(row["n_"]), int(row["n_read_"])
        missing = {c: int(row[f"gone{k}_"]) for k, c in enumerate(used)}
        _check_there(n, n_read, missing)
        for k, name in enumerate(self.names):
            _check_finite(name, int(row[f"odd{k}_"]))
        if self.weight is not None:
            self._check_weight(row)
        m = len(self.names)
        shift = np.array([float(row[f"mean{k}_"]) for k in range(m)])
        scale = np.array([float(row[f"sd{k}_"] or 0.0) for k in range(m)])
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
        ranges = {
            name: Range(
                *(float(row[w] or 0.0) for w in (*moments[name], f"v_low{k}_", f"v_high{k}_"))
            )
            for k, name in enumerate(self.plan.ranged)
        }
        return Totals(n_read, n, missing, shift, scale, ranges)

    def _check_weight(self, row: pd.Series[Any]) -> None:
        term = self.plan.spec.residual
        _check_finite(term.column, int(row[f"odd{len(self.names)}_"]))
        if float(row["least_weight_"]) <= 0:
            raise DataError(
                f"column {term.column!r} is 0 or negative in some rows, and as "
                f"{next(iter(term.arguments))} it must be positive. Correct these values in the "
                "table, or set them to missing to leave the rows out",
                "not-positive",
            )

    def cells(self, totals: Totals, most_cells: int) -> Cells:
        """The second pass: the sums of each cell."""
        spec, keys, m = self.plan.spec, list(self.plan.keys), len(self.names)
        inner = {
            f"a{k}_": (e - float(totals.shift[k])) / float(totals.scale[k])
            for k, e in enumerate(self.expressions)
        }
        weight = self.weight
        if weight is not None:
            inner["w_"] = weight
        named = self.keys
        rows = self.table.filter(self.is_complete).select(**named, **inner)
        sums = _sums(m, weight is not None)
        asked = rows.group_by(*named).agg(**sums) if named else rows.select(**sums)
        found = fetch(asked)
        self._check_same(int(found["n_"].sum()), totals.n)
        frame = self.labels(found) if keys else found[[]]
        frame = self._in_own_order(select(frame, keys)) if keys else frame
        if keys:
            order = frame.sort_values(keys, kind="stable").index
            found, frame = found.loc[order], frame.loc[order]
        frame = frame.reset_index(drop=True)
        counts = found["n_"].to_numpy(dtype=float).astype(np.int64)
        plain = np.stack(
            [_numbers(found, [f"{v}{k}_" for k in range(m)]) for v in ("s", "q")], axis=1
        )
        S = _gram(found, m, weight is not None)
        log_sd, squared = np.zeros(len(frame)), counts.astype(float)
        if weight is not None:
            log_sd = -0.5 * _numbers(found, ["logw_"])[:, 0]
            squared = _numbers(found, ["invw_"])[:, 0]
        return Cells(
            spec=spec,
            keys=frame,
            counts=counts,
            S=S,
            plain=plain,
            log_sd=log_sd,
            squared_sd=squared,
            shift=totals.shift,
            scale=totals.scale,
            atoms=self.plan.names,
            learned=self.known,
            numbers=self.plan.numbers,
            missing=totals.missing,
            n_read=totals.n_read,
            ranges=totals.ranges,
            pieces=self.plan.pieces,
        )

    def _in_own_order(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Keys whose type has categories, with all of these in their order."""
        made = {
            name: pd.Categorical(frame[name], categories=list(dtype.categories))
            for name, dtype in self.plan.schema.items()
            if name in frame and isinstance(dtype, nw.Enum)
        }
        return frame.assign(**made)

    def _check_same(self, n: int, before: int) -> None:
        if n != before:
            raise DataError(
                f"the table changed while it was read: {before:,} complete rows, then {n:,}. Ask "
                "again when nothing writes to it, or of a copy",
                "table-changed",
            )

    def check_size(self, most_cells: int, n: int) -> None:
        """Raise where the sums would be as large as a table; nothing is summed yet."""
        keys, family = list(self.plan.keys), self.plan.spec.family
        if n <= (most_cells if family is None else min(most_cells, FEW_ROWS)) or not keys:
            return
        named = self.keys
        cells = n_combinations(self.table.filter(self.is_complete).select(**named))
        if family is not None and cells > MOST_OF_ROWS * n:
            raise DataError(
                f"about {min(cells, n):,} of {n:,} rows differ in {listed(keys)}, and "
                f"family={family.name!r} keeps every row that differs: counting rows that are alike "
                "gains too little. Round or bin the numbers in the table, leave a column out, or fit "
                "a sample of whole groups",
                "too-many-cells",
            )
        if cells > most_cells:
            raise DataError(
                f"there are about {cells:,} combinations of {listed(keys)} in {n:,} rows, and sums are "
                f"kept for at most {most_cells:,}: they would take as much memory as the table. "
                "Leave a factor or a category out, fit a sample of whole groups, or allow more: "
                f"hp.collect(formula, table, max_cells={cells})",
                "too-many-cells",
            )


def collected(
    spec: Spec,
    table: nw.LazyFrame[Any],
    like: Cells | None = None,
    max_cells: int = MOST_CELLS,
    progress: bool = False,
) -> Cells:
    """The cells of a table for a formula.

    Parameters
    ----------
    spec
        The formula, read.
    table
        Where the rows are.
    like
        Cells whose shifts, scales and functions are taken, so that the sums can be added.
    max_cells
        Combinations of keys, at most.
    progress
        Whether a bar names the pass at work.
    """
    check_factor_names(spec.factors)
    plan = Plan.of(spec, _schema(table))
    with named_steps(3, progress) as begin:
        begin("functions of the formula")
        if like is None:
            own, knots = found_pieces(plan, table, Question(table, plan, {}).is_complete)
            plan = replace(plan, pieces=own)
            known: Mapping[str, Mapping[str, Any]] = {**knots, **_learned(plan, table)}
        else:
            plan, known = replace(plan, pieces=like.pieces), like.learned
        question = Question(table, plan, known)
        begin("first pass: means and missing values")
        totals = question.totals()
        if like is not None:
            totals = replace(totals, shift=like.shift, scale=like.scale)
        begin("second pass: sums of each cell")
        question.check_size(max_cells, totals.n)
        return question.cells(totals, max_cells)


def _schema(table: nw.LazyFrame[Any]) -> Mapping[str, Any]:
    try:
        return table.collect_schema()
    except Exception as error:
        raise unreadable(error) from error


def _learned(plan: Plan, table: nw.LazyFrame[Any]) -> dict[str, dict[str, Any]]:
    """Means and sds that functions such as ``center(x)`` remember, inner ones first."""
    known: dict[str, dict[str, Any]] = {}
    factors = [*plan.responses, *(f for atom in plan.atoms for f in atom)]
    while True:
        translator = Translator(plan.spec.formula, known, [])
        for factor in factors:
            translator.expression(factor)
        if not translator.asked:
            return known
        first = translator.asked[0]
        known[first.text] = _state(first, Question(table, plan, known))


def _state(call: Learned, question: Question) -> dict[str, Any]:
    """What formulaic keeps of ``center``, ``scale`` and ``standardize``."""
    rows = question.table.filter(question.is_complete).select(a_=call.inner)
    near = float(fetch(rows.select(m=nw.col("a_").mean())).iloc[0]["m"])
    # Around a number near the mean: an engine's own mean and sd lose digits at a large offset.
    away = nw.col("a_") - near
    sums = fetch(rows.select(n=nw.len(), s=away.sum(), q=(away * away).sum())).iloc[0]
    n, mean = int(sums["n"]), near + float(sums["s"]) / int(sums["n"])
    squares = max(float(sums["q"]) - float(sums["s"]) ** 2 / n, 0.0)
    flags = call.flags
    state: dict[str, Any] = {"ddof": flags["ddof"], "center": None, "scale": None}
    if flags["center"]:
        state["center"] = mean
    else:
        squares += n * mean**2
    if flags["scale"]:
        state["scale"] = float(np.sqrt(squares / (n - flags["ddof"])))
    return state


def _count(is_so: nw.Expr) -> nw.Expr:
    # Not a cast of the truth values: Postgres has none to whole numbers.
    return nw.when(is_so).then(nw.lit(1)).otherwise(nw.lit(0)).sum()


def _sums(m: int, is_weighted: bool) -> dict[str, nw.Expr]:
    """Sums of each cell, by name: ``s`` and ``q`` count rows alike, ``t`` and ``g`` by weight."""
    a = [nw.col(f"a{k}_") for k in range(m)]
    out: dict[str, nw.Expr] = {"n_": nw.len()}
    out |= {f"s{k}_": a[k].sum() for k in range(m)}
    out |= {f"q{k}_": (a[k] * a[k]).sum() for k in range(m)}
    if not is_weighted:
        return out | {f"g{i}_{j}_": (a[i] * a[j]).sum() for i in range(m) for j in range(i + 1, m)}
    w = nw.col("w_")
    out |= {"w_": w.sum(), "logw_": w.log().sum(), "invw_": (nw.lit(1.0) / w).sum()}
    out |= {f"t{k}_": (w * a[k]).sum() for k in range(m)}
    return out | {f"g{i}_{j}_": (w * a[i] * a[j]).sum() for i in range(m) for j in range(i, m)}


def _gram(found: pd.DataFrame, m: int, is_weighted: bool) -> np.ndarray:
    S = np.empty((len(found), m + 1, m + 1))
    first, diagonal = ("t", "g{0}_{0}_") if is_weighted else ("s", "q{0}_")
    S[:, 0, 0] = _numbers(found, ["w_" if is_weighted else "n_"])[:, 0]
    for i in range(m):
        S[:, 0, i + 1] = S[:, i + 1, 0] = _numbers(found, [f"{first}{i}_"])[:, 0]
        S[:, i + 1, i + 1] = _numbers(found, [diagonal.format(i)])[:, 0]
        for j in range(i + 1, m):
            S[:, i + 1, j + 1] = S[:, j + 1, i + 1] = _numbers(found, [f"g{i}_{j}_"])[:, 0]
    return S


def _numbers(found: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    return np.column_stack([found[name].to_numpy(dtype=float) for name in names])


def _check_there(n: int, n_read: int, missing: Mapping[str, int]) -> None:
    if n_read == 0:
        raise DataError("the table has no rows. Pass a table with rows", "no-rows")
    if n == 0:
        counts = ", ".join(f"{count:,} in {name!r}" for name, count in missing.items() if count)
        raise DataError(
            f"no rows are left: each of the {n_read:,} rows has a missing value ({counts}). Fill "
            "them in, or leave the emptiest column out of the formula",
            "no-rows",
        )


def _check_finite(name: str, odd: int) -> None:
    if odd:
        raise DataError(
            f"{name!r} is not a finite number in {odd:,} rows. Correct these values in the table, or "
            "leave the rows out, for example with a filter",
            "infinite-values",
        )
