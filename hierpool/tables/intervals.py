"""Splines and polynomials of a number with many values: powers on the intervals between its knots."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Sequence
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from hierpool.core.cells import Pieces
from hierpool.core.errors import HierpoolError, UnsupportedModelError
from hierpool.formula.cell_functions import knots_of, users_text
from hierpool.formula.function_calls import Factor
from hierpool.formula.terms import terms_of
from hierpool.tables.engines import fetch
from hierpool.tables.expressions import Translator, number
from hierpool.tables.plan import Plan, has_basis

MOST_VALUES = 64  # of a number whose values are told apart
MOST_DEGREE = 5  # powers are summed up to twice that
MOST_SORTED = 5_000_000  # rows of which DuckDB has to give exact quantiles


def found_pieces(
    plan: Plan, table: nw.LazyFrame[Any], is_complete: nw.Expr
) -> tuple[dict[str, Pieces], dict[str, dict[str, Any]]]:
    """Intervals of each number that needs them, and knots of functions, by their text.

    Raises
    ------
    FormulaError
        A function of such a number is no polynomial on intervals.
    """
    many = [c for c in dict.fromkeys(c for _, c in plan.bases) if _has_many(table, c)]
    pieces: dict[str, Pieces] = {}
    knots: dict[str, dict[str, Any]] = {}
    if many:
        _check_terms(plan, many)
    for column in many:
        own = [f for f, c in plan.bases if c == column]
        rows = table.filter(is_complete).select(v_=number(column))
        low, high, n = fetch(
            rows.select(low=nw.col("v_").min(), high=nw.col("v_").max(), n=nw.len())
        ).iloc[0]
        edges, degree = {float(low), float(high)}, 3
        for factor in own:
            call = ast.parse(factor.code, mode="eval").body
            if not _is_bare(call):
                _refuse(plan, factor, column)
            if "poly(" in factor.code:
                degree = max(degree, factor.width)
                continue
            state, probabilities = knots_of(factor, float(low), float(high))
            degree = max(degree, int(state.pop("degree", 3)))
            values = _quantiles(rows, sorted(set(probabilities.values())), int(n))
            found = [values.get(probabilities.get(k, -1.0), float(k)) for k in state["knots"]]
            knots[users_text(factor)] = {**state, "knots": found}
            edges |= {float(k) for k in found if low < k < high}
        if degree > MOST_DEGREE:
            _refuse(plan, own[0], column)
        pieces[column] = Pieces(degree, tuple(sorted(edges)))
    return pieces, knots


def interval(column: str, own: Pieces) -> nw.Expr:
    """Which interval a number is in, counted from 0."""
    parts = [
        nw.when(number(column) >= edge).then(nw.lit(1)).otherwise(nw.lit(0))
        for edge in own.edges[1:-1]
    ]
    if not parts:
        return nw.when(number(column).is_null()).then(nw.lit(1)).otherwise(nw.lit(0))
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out


def powers(column: str, own: Pieces) -> list[nw.Expr]:
    """Powers of a number that goes from -1 to 1 on its interval."""
    centre, half = (_by_interval(column, own, v) for v in (own.centres, own.halves))
    t = (number(column) - centre) / half
    return list(itertools.accumulate([t] * own.degree, lambda one, other: one * other))


def _by_interval(column: str, own: Pieces, values: np.ndarray) -> nw.Expr:
    out: nw.Expr = nw.lit(float(values[-1]))
    for edge, value in zip(own.edges[-2:0:-1], values[-2::-1], strict=True):
        out = nw.when(number(column) < edge).then(nw.lit(float(value))).otherwise(out)
    return out


def _has_many(table: nw.LazyFrame[Any], column: str) -> bool:
    """Whether a number has too many values for all of them to be told apart."""
    return len(fetch(table.select(column).unique().head(MOST_VALUES + 2))) > MOST_VALUES


def _is_bare(call: ast.expr) -> bool:
    """Whether it is a function of a column alone, without what has to be learned of all rows."""
    return isinstance(call, ast.Call) and isinstance(call.args[0], ast.Name)


def _check_terms(plan: Plan, many: Sequence[str]) -> None:
    """Raise where a function of intervals is multiplied with another number, or rows have weights."""
    if plan.spec.residual.column or plan.spec.family is not None:
        factor, column = next((f, c) for f, c in plan.bases if c in many)
        _refuse(plan, factor, column)
    for side in plan.texts.sides.values():
        for term in terms_of(side.pieces):
            cut = [f for f in term if set(f.columns) & set(many)]
            summed = [f for f in term if not set(f.columns) <= set(plan.keys)]
            if cut and len(cut) + len(summed) > 1:
                based = next((f for f in cut if has_basis(f)), cut[0])
                _refuse(plan, based, next(c for c in based.columns if c in many))


def _refuse(plan: Plan, factor: Factor, column: str) -> None:
    Translator(plan.spec.formula, {}, []).refuse_values(factor, column, MOST_VALUES)


def _quantiles(
    rows: nw.LazyFrame[Any], probabilities: Sequence[float], n: int
) -> dict[float, float]:
    """Quantiles of the column v_; approximate ones where DuckDB would have to keep too many rows."""
    if not probabilities:
        return {}
    try:
        if rows.implementation is nw.Implementation.DUCKDB and n > MOST_SORTED:
            asked = ", ".join(
                f"approx_quantile(v_, {p!r}) AS q{k}" for k, p in enumerate(probabilities)
            )
            row = fetch(nw.from_native(rows.to_native().aggregate(asked))).iloc[0]
        else:
            each = {
                f"q{k}": nw.col("v_").quantile(p, interpolation="linear")
                for k, p in enumerate(probabilities)
            }
            row = fetch(rows.select(**each)).iloc[0]
    except HierpoolError:
        raise
    except Exception as error:  # narwhals has none for every engine
        raise UnsupportedModelError(
            f"{rows.implementation.value} gives no quantiles for the knots of a spline. Name them: "
            "bs(x, knots=[...])",
            "not-in-sql",
        ) from error
    return {p: float(row[f"q{k}"]) for k, p in enumerate(probabilities)}
