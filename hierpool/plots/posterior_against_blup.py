"""Posterior means against BLUPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.core.fitted import Optimum, Posterior
from hierpool.plots.sheet.layout import (
    WIDTH,
    Picture,
    dress,
    settle,
    sheet,
    titled,
    write_axis_labels,
)
from hierpool.plots.sheet.lines import check_drawable
from hierpool.plots.sheet.style import (
    BLUP,
    COMPLETE,
    INK,
    PANEL,
    PARTIAL,
    RULE,
    SMALL,
    TINY,
    styled,
)
from hierpool.plots.sheet.tables import LevelTable, read_levels, rounded
from hierpool.plots.sheet.terms import terms_in_words
from hierpool.plots.sheet.texts import elided, elided_apart, wrapped, write_names

_NEEDED = ["posterior_mean", "blup", "difference"]
_MOST_COLUMNS = 3


def posterior_against_blup(
    table: pd.DataFrame | IntegratedPosterior,
    reml: Optimum | None = None,
    *,
    factor: str | None = None,
    terms: str | Sequence[str] | None = None,
    worst: int = 3,
    response: str = "",
    label: str = "",
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Posterior mean against BLUP of each group, with their difference; a panel per term.

    Top: agreement is the diagonal. Bottom: the difference, with two Monte Carlo standard errors. The
    groups that differ most are named at the bottom and ringed at the top.

    Parameters
    ----------
    table
        ``hp.compare_blups(fit, reml)``, or the fit together with ``reml``.
    reml
        The REML or ML fit, if ``table`` is a fit.
    factor, terms
        Which factor and terms; default: the first factor, all terms.
    worst
        How many groups to name in each panel.
    response, label
        Names of the response and the data for the title; taken from a fit.
    names
        Term -> what it is called above its panel; made from a fit.
    """
    if not isinstance(table, pd.DataFrame):
        call = "posterior_against_blup(model.fit(), model.reml())"
        check_drawable(table, Posterior, call)
        check_drawable(reml, Optimum, call)
        assert reml is not None
        response, label = response or table.design.spec.response, label or table.design.label
        names = terms_in_words(table.design.schema) if names is None else names
        from hierpool.checks.levels.blups import compare_blups

        table = compare_blups(table, reml)
    with styled():
        levels = read_levels(table, _NEEDED, factor, terms)
        of = f" on {response}" if response else ""
        blup = table.attrs.get("blup", BLUP.name)
        title = titled(f"Random effects of {levels.factor}{of}: posterior and {blup}", label)
        return _draw(levels, title, worst, names or {}, blup)


def _draw(
    levels: LevelTable, title: str, worst: int, called: Mapping[str, str], blup: str
) -> Picture:
    count = len(levels.terms)
    n_columns = min(count, _MOST_COLUMNS)
    n_rows = -(-count // n_columns)
    width = WIDTH / max(n_columns, 2)
    figure = sheet(
        title,
        n_rows * 1.75 * width,
        caption=" ".join(filter(None, [_caption(levels, blup), levels.note])),
        width=WIDTH if count > 1 else 0.75 * WIDTH,
    )
    grid: GridSpec = figure.add_gridspec(2 * n_rows, n_columns, height_ratios=[3, 2] * n_rows)
    below = []
    for k, term in enumerate(levels.terms):
        row, column = divmod(k, n_columns)
        above = figure.add_subplot(grid[2 * row, column])
        under = figure.add_subplot(grid[2 * row + 1, column], sharex=above)
        one = _of_term(levels, term)
        order = one["difference"].abs().to_numpy().argsort(kind="stable")[::-1][:worst]
        _draw_scatter(above, one, order, width, is_first=column == 0)
        _draw_difference(under, one)
        write_axis_labels(under, blup, "difference" if column == 0 else "", width, 0.55 * width)
        words = wrapped(called.get(term, term), 0.8 * width, PANEL, 3)
        above.set_title("\n".join(words), loc="left", fontsize=PANEL, pad=3)
        below.append((under, one, order))
    figure.align_ylabels()
    settle(figure)
    for ax, one, order in below:
        points = one[["blup", "difference"]].to_numpy()
        bars = [points + [[0.0, k]] * _bar(one)[:, None] for k in (-1.0, -0.5, 0.0, 0.5, 1.0)]
        names = elided_apart(list(one.index[order]), 0.35 * width, TINY)
        write_names(ax, points[order], names, obstacles=np.vstack(bars), most_covered=np.inf)
    return figure


def _of_term(levels: LevelTable, term: str) -> pd.DataFrame:
    columns = [*_NEEDED, *(c for c in ("mcse", "blup_se") if c in levels.values)]
    return pd.DataFrame({column: levels.wide(column)[term] for column in columns})


def _bar(one: pd.DataFrame) -> np.ndarray:
    """Two Monte Carlo standard errors of each difference; 0 where the table has none."""
    return 2 * one["mcse"].to_numpy() if "mcse" in one else np.zeros(len(one))


def _dot_size(count: int) -> float:
    return 4.0 if count <= 200 else 2.0


def _draw_scatter(
    ax: Axes, one: pd.DataFrame, order: np.ndarray, width: float, is_first: bool
) -> None:
    dress(ax)
    both = one[["blup", "posterior_mean"]].to_numpy()
    low, high = float(np.nanmin(both)), float(np.nanmax(both))
    pad = 0.06 * (high - low) or 1.0
    ax.set_xlim(low - pad, high + pad)
    ax.set_ylim(low - pad, high + pad)
    ax.axline((low, low), slope=1, zorder=1, **{**COMPLETE.line, "color": RULE})
    ax.plot(*both.T, zorder=2, alpha=0.8, **PARTIAL.dots(_dot_size(len(one))))
    ring: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "markersize": 8,
        "markerfacecolor": "none",
    }
    ax.plot(*both[order].T, zorder=3, markeredgecolor=INK, markeredgewidth=0.7, **ring)
    ax.tick_params(labelbottom=False)
    write_axis_labels(ax, "", "posterior mean" if is_first else "", width, 0.9 * width)


def _draw_difference(ax: Axes, one: pd.DataFrame) -> None:
    dress(ax)
    error, crowd = _bar(one), len(one) > 200
    ax.axhline(0, zorder=1, **{**COMPLETE.line, "color": RULE})
    bars = (one["difference"] - error, one["difference"] + error)
    thin: dict[str, Any] = {"linewidth": 0.4 if crowd else 0.8, "alpha": 0.25 if crowd else 0.6}
    ax.vlines(one["blup"], *bars, color=PARTIAL.color, zorder=1.8, **thin)
    ax.plot(one["blup"], one["difference"], zorder=2, **PARTIAL.dots(0.75 * _dot_size(len(one))))
    reach = float(np.nanmax(np.abs(np.concatenate(bars)))) or 1.0
    ax.set_ylim(-1.25 * reach, 1.25 * reach)


def _caption(levels: LevelTable, blup: str) -> str:
    """The largest difference of each term, in its own units and in standard errors of the BLUP."""
    parts = []
    for term in levels.terms:
        one = _of_term(levels, term)
        k = int(one["difference"].abs().argmax())
        level, value = one.index[k], float(one["difference"].iloc[k])
        se = float(one["blup_se"].iloc[k]) if "blup_se" in one else np.nan
        scale = f", {rounded(abs(value) / se)} {blup} se" if se > 0 else ""
        name = elided(level, 1.8, SMALL)
        parts.append(f"{term} {rounded(value)} ({name}{scale})")
    bars = " Bars: two Monte Carlo standard errors." if "mcse" in levels.values else ""
    return f"Largest difference (posterior mean − {blup}): {', '.join(parts)}.{bars}"
