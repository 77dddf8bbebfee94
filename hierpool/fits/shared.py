"""Printed form of posteriors and optima, and errors for fits without groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.errors import UnsupportedModelError
from hierpool.core.group_nouns import counted
from hierpool.core.printable import printable
from hierpool.core.schema import GroupSchema, Schema
from hierpool.formula.missing import rows_used

WRITTEN = (
    "hp.write_predictions(fit, table, 'predicted.parquet') writes fitted values and residuals of the "
    "table's rows to a file"
)
R2_INDEX = pd.Index(["marginal", "conditional"], name="r2")


def pooled_groups(schema: Schema, what: str) -> tuple[GroupSchema, ...]:
    """The groups with a distribution of coefficients; an error where there are none."""
    groups = any_groups(schema, what)
    if not groups[0].is_pooled:
        raise UnsupportedModelError(
            f"no pooling has no {what}: its groups have no common distribution. Use "
            "coefficients().",
            "no-random-effects",
        )
    return groups


def check_has_parts(schema: Schema) -> None:
    """Raise where there is no distribution of groups whose variance could be a part."""
    if schema.spec.pooling == "none":
        raise UnsupportedModelError(
            "no pooling has no variance between groups: its groups have no common distribution. "
            "Use partial pooling, hp.varying_slope(...).",
            "no-random-effects",
        )


def any_groups(schema: Schema, what: str) -> tuple[GroupSchema, ...]:
    """The groups that coefficients vary over; an error where there are none."""
    if not schema.groups:
        raise UnsupportedModelError(
            f"complete pooling has no {what}: one line describes all groups. Use fixed_effects().",
            "no-levels",
        )
    return schema.groups


def size_in_words(schema: Schema) -> str:
    """Rows, groups and weights of a design, in words."""
    groups = ", ".join(counted(g.n_levels, f) for f, g in schema.groupings.items())
    known = schema.spec.residual.arguments
    named = ", ".join(f"{word} {column}" for word, column in known.items())
    return ", ".join(filter(None, [rows_used(schema.n, schema.notices), groups, named]))


def titled_tables(fixed: pd.DataFrame, spread: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of a printed fit, those without rows left out."""
    tables = {"Fixed effects": fixed, "Standard deviations and correlations": spread}
    return {title: table for title, table in tables.items() if len(table)}


def printed_tables(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Lines of the tables with their titles."""
    out = []
    with pd.option_context("display.width", 110, "display.max_columns", 20):
        for title, table in tables.items():
            out += [title, table.to_string(float_format=short_number), ""]
    return out[:-1]


def short_number(value: float) -> str:
    """A number of a printed table."""
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"


def as_html(head: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """The printed form as HTML: the lines of the head, then the tables."""
    from html import escape

    lines = [escape(line) for line in head.splitlines()]
    parts = [
        f"<h4>{escape(t)}</h4>{df.to_html(float_format=short_number)}" for t, df in tables.items()
    ]
    return printable("<p>" + "<br>".join(lines) + "</p>" + "".join(parts))


def laplace_told(info: Mapping[str, Any]) -> str:
    """By how much a Laplace approximation would have been wrong, of a fit by quadrature; else empty."""
    names = "log_marginal_likelihood", "laplace_log_marginal_likelihood"
    if not all(name in info for name in names):
        return ""
    exact, laplace = (float(info[name]) for name in names)
    exact_error, laplace_error = (float(info[f"{name}_error"]) for name in names)
    error = float(np.hypot(exact_error, laplace_error))
    if not np.isfinite([exact, laplace, error]).all():
        return ""
    gap, said = laplace - exact, f"(Monte Carlo error {error:.1g})"
    if abs(gap) < 2 * error:
        return f"a Laplace approximation of log p(y) would be right {said}"
    side = "too high" if gap > 0 else "too low"
    return f"a Laplace approximation of log p(y) would be {side} by {abs(gap):.2g} {said}"
