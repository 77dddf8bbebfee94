"""Shares of the variance of the response, intraclass correlations and R2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.algebra.variance_partition import FIXED, RESIDUAL
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.schema import Schema
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import dress, settle, sheet, titled
from hierpool.plots.sheet.style import BLUP, FAINT, INK, MUTED, PARTIAL, TINY, styled
from hierpool.plots.sheet.tables import find_interval
from hierpool.plots.sheet.texts import elided_apart, text_width

_FACTORS = ("#0072b2", "#56b4e9", "#9a5b93", "#007a5a")
_ENDS = {FIXED: "#d9a441", RESIDUAL: "#b8b8b8"}
_PITCH = 0.25
_NAME_WIDTH = 1.9
_BAR_WIDTH = 4.6  # inches, at least


@dataclass(frozen=True)
class Row:
    """One share: its name, its colour, its posterior and its estimate, all in [0, 1]."""

    name: str
    color: str
    mean: float
    low: float
    high: float
    estimate: float

    @property
    def is_nothing(self) -> bool:
        """Whether it is zero by construction: fixed effects that are an intercept alone."""
        return self.high == 0 and not self.estimate > 0


def variance_partition(fit: Posterior, reml: Optimum | None = None) -> Figure:
    """Shares of the variance of the response: fixed effects, each factor and the residual.

    Top: posterior means as a bar. Bottom: each share with its interval, and the intraclass
    correlations and R2. REML estimates are marked.

    Parameters
    ----------
    fit
        A posterior with partial or complete pooling.
    reml
        The REML or ML fit of the same model.

    Raises
    ------
    UnsupportedModelError
        No pooling, which has no variance between groups.
    """
    line.check_has_draws(fit, "variance_partition(fit, reml)")
    design = fit.design
    made: list[Row] = []
    shares = _rows(fit.variance_partition(), None if reml is None else reml.variance_partition())
    if design.groups:
        iccs = None if reml is None else reml.icc()
        made += _rows(fit.icc(), iccs, "intraclass correlation of {}")
    made += _rows(fit.r2(), None if reml is None else reml.r2(), "{} R²")
    interval = find_interval(fit.r2().columns)
    with styled():
        words = f"posterior mean, {interval.words}" if interval else "posterior mean"
        title = titled(f"Shares of the variance of {design.spec.response}", design.label)
        shares, made = ([r for r in rows if not r.is_nothing] for rows in (shares, made))
        figure = sheet(
            title,
            0.5 + _PITCH * (len(shares) + len(made)) + 0.55,
            caption=_caption(design.schema),
            legend=_legend(words, reml),
            x_label=f"share of the variance of {design.spec.response}",
        )
        _draw(figure, shares, made)
        settle(figure)
    return figure


def _rows(table: pd.DataFrame, estimates: pd.DataFrame | None, words: str = "{}") -> list[Row]:
    interval = find_interval(table.columns)
    low, high = (interval.low, interval.high) if interval else ("mean", "mean")
    out = []
    for k, (name, row) in enumerate(table.iterrows()):
        color = _ENDS.get(str(name), _FACTORS[(k - 1) % len(_FACTORS)])
        if words != "{}":
            color = PARTIAL.color
        # The last column of an optimum's table is the share, or the only one; rows are the same.
        known = np.nan if estimates is None else float(estimates.iloc[:, -1].to_numpy()[k])
        label = {FIXED: "fixed effects", RESIDUAL: "residual"}.get(str(name), str(name))
        mean = float(row["mean"]) if "mean" in table else np.nan
        bounds = (float(row[low]), float(row[high])) if interval else (np.nan, np.nan)
        out.append(Row(words.format(label), color, mean, *bounds, known))
    return out


def _legend(words: str, reml: Optimum | None) -> list[Line2D]:
    handles = [Line2D([], [], label=words, **PARTIAL.both(4.5))]
    if reml is not None:
        handles.append(BLUP.dot_handle(f"{reml.method} estimate"))
    return handles


def _caption(schema: Schema) -> str:
    words = "Shares add up to 1."
    if schema.groups:
        words += (
            " The intraclass correlation is the correlation of two rows of a group, without the fixed "
            "effects."
        )
        if any(len(group.terms) > 1 for group in schema.groups):
            words += " With varying slopes it refers to the mean of the predictors."
    return f"{words} Marginal R²: fixed effects; conditional R²: fixed and random effects."


def _draw(figure: Figure, shares: Sequence[Row], made: Sequence[Row]) -> None:
    bar, ax = figure.subplots(
        2, 1, sharex=True, height_ratios=[0.5, _PITCH * (len(shares) + len(made)) + 0.15]
    )
    _draw_bar(bar, shares)
    heights = [-float(k) for k in range(len(shares))]
    heights += [-len(shares) - 0.6 - k for k in range(len(made))]
    dress(ax)
    for height, row in zip(heights, [*shares, *made], strict=True):
        ax.hlines(height, 0, 1, color=FAINT, linewidth=0.35, zorder=0.5)
        ax.hlines(height, row.low, row.high, color=PARTIAL.color, linewidth=1.6, zorder=2)
        ax.plot(row.mean, height, zorder=3, clip_on=False, **PARTIAL.dots(4.5))
        if np.isfinite(row.estimate):
            ax.plot(row.estimate, height, zorder=3.2, clip_on=False, **BLUP.dots(5.0))
    ax.axhline(-len(shares) + 0.2, color=FAINT, linewidth=0.6)
    _write_sides(ax, heights, [*shares, *made])
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(min(heights) - 0.6, 0.6)


def _draw_bar(ax: Axes, shares: Sequence[Row]) -> None:
    ax.set_axis_off()
    ax.set_ylim(0, 1)
    at = 0.0
    for row in shares:
        ax.barh(0.5, row.mean, left=at, height=0.8, color=row.color, edgecolor="white")
        if text_width(row.name, TINY) < _BAR_WIDTH * row.mean - 0.1:
            dark = row.color in (_FACTORS[0], *_FACTORS[2:])
            style: dict[str, Any] = {"color": "white" if dark else INK, "size": TINY}
            ax.text(at + row.mean / 2, 0.5, row.name, ha="center", va="center", **style)
        at += row.mean


def _write_sides(ax: Axes, heights: Sequence[float], rows: Sequence[Row]) -> None:
    """Names on the left, percentages on the right."""
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    names = elided_apart([row.name for row in rows], _NAME_WIDTH, TINY)
    beside: dict[str, Any] = {"size": TINY, "va": "center", "transform": ax.get_yaxis_transform()}
    for height, row, name in zip(heights, rows, names, strict=True):
        ax.text(-0.01, height, name, color=INK, ha="right", **beside)
        ax.text(1.01, height, f"{100 * row.mean:.0f} %", color=MUTED, ha="left", **beside)
