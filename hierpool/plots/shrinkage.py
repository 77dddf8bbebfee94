"""Shrinkage: arrows from the own estimate of each group to the partially pooled one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.core.fitted import Fit, Optimum
from hierpool.core.group_nouns import counted
from hierpool.plots.sheet.layout import (
    WIDTH,
    Picture,
    dress,
    settle,
    sheet,
    titled,
    write_axis_labels,
)
from hierpool.plots.sheet.level_rows import (
    MANY,
    STRIP,
    LevelRows,
    add_panels,
    draw_strips,
    few_in_words,
    few_of,
    guide,
    level_rows,
)
from hierpool.plots.sheet.lines import check_drawable
from hierpool.plots.sheet.style import (
    COMPLETE,
    MUTED,
    NONE,
    PARTIAL,
    POPULATION,
    TINY,
    Look,
    styled,
)
from hierpool.plots.sheet.tables import LevelTable, read_levels, rounded, some
from hierpool.plots.sheet.terms import terms_in_words
from hierpool.plots.sheet.texts import elided_apart, write_names

_NEEDED = ["own_estimate", "partial_pooling", "population", "complete_pooling"]
_MOST_IN_PAIRS = 4
_ALL_NAMED, _SOME_NAMED = 30, 15
_ENDS: tuple[tuple[str, Look], ...] = (("complete_pooling", COMPLETE), ("population", POPULATION))


@dataclass(frozen=True)
class Pull:
    """Own and pooled estimates of the groups.

    Attributes
    ----------
    levels
        The table they are from.
    own, pooled
        Groups x terms; NaN in ``own`` where not estimable.
    ends
        ``"complete_pooling"``, ``"population"`` -> one number a term.
    names
        Term -> what it is called.
    """

    levels: LevelTable
    own: pd.DataFrame
    pooled: pd.DataFrame
    ends: dict[str, pd.Series]
    names: Mapping[str, str]

    @property
    def by_length(self) -> np.ndarray:
        """Positions of the levels that have an arrow, the longest first."""
        lengths = (self.own - self.pooled) / self.pooled.std().replace(0, np.nan).fillna(1.0)
        total = (lengths**2).sum(axis=1, skipna=False).to_numpy()
        return np.argsort(-total, kind="stable")[: int(np.isfinite(total).sum())]


def shrinkage(
    table: pd.DataFrame | IntegratedPosterior | Optimum,
    *,
    factor: str | None = None,
    terms: str | Sequence[str] | None = None,
    response: str = "",
    label: str = "",
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Shrinkage: arrows from the own estimate of each group to the partially pooled one.

    With two terms, one is drawn against the other, with complete pooling and the population of the
    fit marked. With one term there is a row per group; with more, a panel for each pair of the first
    four. A group without an own estimate has a dot and no arrow, and the caption names it.

    Parameters
    ----------
    table
        ``hp.shrinkage(fit)``, or a fit.
    factor
        Which factor; default: the first.
    terms
        One term or several; default: all.
    response, label
        Names of the response and the data for the title; taken from a fit.
    names
        Term -> what its axis says, e.g. ``{"Intercept": "height at age 0 (cm)"}``; made from a fit.
    """
    if not isinstance(table, pd.DataFrame):
        check_drawable(table, Fit, "shrinkage(model.fit())")
        response, label = response or table.design.spec.response, label or table.design.label
        names = terms_in_words(table.design.schema) if names is None else names
        from hierpool.checks.levels.shrinkage import shrinkage as pulled

        table = pulled(table)
    with styled():
        levels = read_levels(table, _NEEDED, factor, terms, _MOST_IN_PAIRS)
        own, pooled = levels.wide("own_estimate"), levels.wide("partial_pooling")
        ends = {name: levels.wide(name).iloc[0] for name, _ in _ENDS}
        called = {term: (names or {}).get(term, term) for term in levels.terms}
        pull = Pull(levels, own, pooled, ends, called)
        of = f" of {response}" if response else ""
        title = titled(f"Shrinkage{of} by {levels.factor}", label)
        draw = _draw_rows if len(levels.terms) == 1 else _draw_planes
        return draw(pull, title)


def _caption(pull: Pull, *more: str) -> str:
    return " ".join(filter(None, [_unknown(pull), *more, _factors(pull), pull.levels.note]))


def _unknown(pull: Pull) -> str:
    unknown = list(pull.own.index[pull.own.isna().any(axis=1)])
    if not unknown:
        return ""
    return f"No arrow (no own estimate): {some(unknown)}."


def _factors(pull: Pull) -> str:
    if "pooling_factor" not in pull.levels.values:
        return ""
    medians = pull.levels.wide("pooling_factor").median()
    words = ", ".join(f"{rounded(v)} ({term})" for term, v in medians.items())
    return f"Median pooling factor {words}: 0 is no shrinkage, 1 is complete pooling."


def _legend(size: float) -> list[Any]:
    return [
        NONE.dot_handle("own estimate (its own rows alone)", size),
        PARTIAL.dot_handle(size=size),
        *(look.dot_handle(size=6.0) for _, look in _ENDS),
    ]


def _draw_planes(pull: Pull, title: str) -> Picture:
    pairs = list(combinations(pull.levels.terms, 2))
    n_columns = min(len(pairs), 3)
    n_rows = -(-len(pairs) // n_columns)
    width = WIDTH / n_columns
    height = 4.8 if len(pairs) == 1 else 0.95 * width
    count, few = len(pull.pooled), len(pairs) == 1
    named = (count if count <= _ALL_NAMED else _SOME_NAMED) if few else 5
    which = f"Named: the longest arrows, at most {named}." if named < count else ""
    if count > MANY:
        which = f"Arrows: the {named} longest of {counted(count, pull.levels.factor)}."
    legend = _legend(max(_dot_size(count), 3.0))
    figure = sheet(title, n_rows * height, caption=_caption(pull, which), legend=legend)
    grid = figure.add_gridspec(n_rows, n_columns)
    planes = []
    for k, (x, y) in enumerate(pairs):
        ax = figure.add_subplot(grid[divmod(k, n_columns)])
        dress(ax)
        write_axis_labels(ax, pull.names[x], pull.names[y], 0.8 * width, 0.8 * height)
        planes.append((ax, _draw_plane(ax, pull, [x, y], named)))
    settle(figure)
    for ax, (points, obstacles) in planes:
        chosen = pull.by_length[:named]
        names = elided_apart(list(pull.pooled.index[chosen]), 0.22 * width, TINY)
        write_names(ax, points[chosen], names, obstacles=obstacles)
    return figure


def _dot_size(count: int) -> float:
    return float(np.clip(4.0 * (40 / max(count, 40)) ** 0.4, 1.2, 4.0))


def _draw_plane(ax: Axes, pull: Pull, pair: list[str], named: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one plane; where the arrows start, and all that a name should not cover."""
    own, pooled = pull.own[pair].to_numpy(), pull.pooled[pair].to_numpy()
    known = np.isfinite(own).all(axis=1)
    count = len(pooled)
    size, crowd = _dot_size(count), count > 200
    faint = 0.35 if count > MANY else 1.0  # where dots lie over each other they show their density
    ax.plot(*own[known].T, zorder=2, alpha=faint, **NONE.dots(size))
    ax.plot(*pooled.T, zorder=3, alpha=faint, **PARTIAL.dots(size))
    drawn = pull.by_length[:named] if count > MANY else np.flatnonzero(known)
    _draw_arrows(ax, own[drawn], pooled[drawn], 0.4 if crowd else 0.75, 0.65 if crowd else 1.0)
    marks = [pull.ends[name][pair].to_numpy() for name, _ in _ENDS]
    for mark, (_, look) in zip(marks, _ENDS, strict=True):
        ax.plot(*mark[:, None], zorder=4, **look.dots(7.0))
    ax.margins(0.08)
    steps = np.linspace(0, 1, int(np.clip(4000 / len(own), 9, 40)))[:, None, None]
    along = own[known] + steps * (pooled - own)[known]
    return own, np.vstack([along.reshape(-1, 2), pooled[~known], *marks])


def _draw_rows(pull: Pull, title: str) -> Picture:
    term = pull.levels.terms[0]
    pooled = pull.pooled[term].sort_values(ascending=False, kind="stable")
    count = len(pooled)
    pooled = pooled.iloc[few_of(count)]
    own = pull.own[term].reindex(pooled.index)
    rows = level_rows(list(pooled.index), 1)
    crowd = few_in_words(count, pull.levels.factor)
    crowd = crowd and f"Top: densities of the estimates of all groups. {crowd}"
    figure = sheet(
        title,
        rows.height + 0.5 + STRIP * (count > MANY),
        caption=_caption(pull, crowd, rows.note),
        legend=[*_legend(4.0)[:2], *(look.handle() for _, look in _ENDS)],
        x_label=pull.names[term],
    )
    columns = add_panels(figure, rows, [""], strip=count > MANY)
    if count > MANY:
        draw_strips(columns[0], [""], [(NONE, pull.own), (PARTIAL, pull.pooled)])
    for block, (ax,) in zip(rows.blocks, columns, strict=True):
        guide([ax], rows, block)
        for name, look in _ENDS:
            ax.axvline(float(pull.ends[name][term]), zorder=1.2, **look.line)
        part = slice(block.start, block.stop)
        _draw_row_arrows(ax, own.to_numpy()[part], pooled.to_numpy()[part], rows)
    settle(figure)
    return figure


def _draw_row_arrows(ax: Axes, own: np.ndarray, pooled: np.ndarray, rows: LevelRows) -> None:
    heights = -np.arange(len(pooled), dtype=float)
    size = max(rows.thickness, 0.4)
    known = np.isfinite(own)
    starts, ends = (np.column_stack([x[known], heights[known]]) for x in (own, pooled))
    ax.plot(own, heights, zorder=2, **NONE.dots(3.6 * size))
    ax.plot(pooled, heights, zorder=3, **PARTIAL.dots(3.4 * size))
    _draw_arrows(ax, starts, ends, 0.75, size)


def _draw_arrows(ax: Axes, starts: np.ndarray, ends: np.ndarray, alpha: float, size: float) -> None:
    """Arrows whose heads show behind a dot at their end."""
    ax.quiver(
        *starts.T,
        *(ends - starts).T,
        angles="xy",
        scale_units="xy",
        scale=1,
        units="inches",
        width=0.0095 * size,
        headwidth=5.5,
        headlength=8,
        headaxislength=7,
        color=MUTED,
        alpha=alpha,
        zorder=2.5,
    )
