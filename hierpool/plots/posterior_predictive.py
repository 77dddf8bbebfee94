"""Posterior predictive check, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.core.design import Design, Grouping
from hierpool.core.fitted import Posterior
from hierpool.core.group_nouns import counted
from hierpool.draws.summary import summary
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import Picture, settle, sheet, titled
from hierpool.plots.sheet.level_rows import (
    LevelRows,
    add_panels,
    few_in_words,
    few_of,
    guide,
    level_rows,
    panel_titles,
)
from hierpool.plots.sheet.style import OBSERVED, ODD, PARTIAL, styled
from hierpool.plots.sheet.tables import Interval, find_interval, some

_MOST_NUMBERS = 1e7  # replicated responses that are made at once
_BESIDE = 0.17
_MEAN, _SMALLEST, _LARGEST = "mean", "smallest", "largest"


@dataclass(frozen=True)
class Replicated:
    """One summary of each group: observed, and in replicated data.

    Attributes
    ----------
    name
        Which: ``"mean"``, ``"smallest"``, ``"largest"``.
    observed
        Shape (levels,).
    table
        One row a level: mean and interval of the replicated ones.
    interval
        Its columns.
    """

    name: str
    observed: np.ndarray
    table: pd.DataFrame
    interval: Interval

    @property
    def is_outside(self) -> np.ndarray:
        """Shape (levels,): whether the observed one is outside of the interval."""
        low, high = self.table[self.interval.low], self.table[self.interval.high]
        return np.asarray((self.observed < low) | (self.observed > high))


def posterior_predictive(fit: Posterior, *, factor: str | None = None, seed: int = 0) -> Figure:
    """Posterior predictive check: mean, minimum and maximum of each group in the data and replicated.

    The bars are intervals over data sets simulated from the posterior for the same groups and rows.
    Nearly all means should be inside. Extremes outside show heavy tails, or a residual sd that
    differs between groups.

    Parameters
    ----------
    fit
        A posterior of a model with groups.
    factor
        Which factor; default: the first.
    seed
        Seed of the replicated data.

    Raises
    ------
    ArgumentError
        No such factor.
    UnsupportedModelError
        A fit without draws, or a model without groups.
    """
    line.check_has_draws(fit, "posterior_predictive(fit)")
    design = fit.design
    grouping = line.choose_grouping(design, factor)
    parts = _summaries(replicated_rows(fit, seed), design, grouping)
    with styled():
        figure = _draw(parts, design, grouping)
        settle(figure)
    return figure


def replicated_rows(fit: Posterior, seed: int, most: int | None = None) -> np.ndarray:
    """Shape (chains, draws, n): replicated responses, of every so-many-th draw where they are many.

    ``most`` draws, where fewer will do.
    """
    chains, draws = fit.n_draws
    wanted = min(most or chains * draws, _MOST_NUMBERS / fit.design.n)
    step = max(1, int(np.ceil(chains * draws / wanted)))
    some = fit.every(step) if step > 1 else fit
    tree = some.posterior_predictive(seed=seed).draws
    return np.asarray(tree["posterior_predictive"]["y"].to_numpy())


def _summaries(values: np.ndarray, design: Design, grouping: Grouping) -> list[Replicated]:
    order = np.argsort(grouping.codes, kind="stable")
    starts = np.cumsum(grouping.n_rows) - grouping.n_rows
    first = 1.0 if design.family is not None and design.family.has_thresholds else 0.0  # ratings
    values, y = values + first, design.y + first
    made = []
    for name, reduce in ((_MEAN, np.add), (_SMALLEST, np.minimum), (_LARGEST, np.maximum)):
        divisor = grouping.n_rows if name == _MEAN else 1
        replicated = reduce.reduceat(values[..., order], starts, axis=-1) / divisor
        observed = reduce.reduceat(y[order], starts) / divisor
        drawn = xr.DataArray(replicated, dims=("chain", "draw", "level"))
        table = summary(drawn, diagnostics=False)
        interval = find_interval(table.columns)
        assert interval is not None  # of ArviZ's own table
        made.append(Replicated(name, observed, table, interval))
    return made


def _draw(parts: Sequence[Replicated], design: Design, grouping: Grouping) -> Picture:
    order = np.argsort(-parts[0].observed, kind="stable")[few_of(grouping.n_levels)]
    rows = level_rows(list(grouping.levels[order]), 2)
    crowd = few_in_words(grouping.n_levels, grouping.factor)
    titles = panel_titles(rows, ["mean", "minimum and maximum"])
    figure = sheet(
        titled(f"Observed and replicated {design.spec.response}", design.label),
        rows.height + 0.5,
        caption=" ".join(filter(None, [_caption(parts, grouping), crowd, rows.note])),
        legend=_legend(parts[0].interval),
        x_label=design.spec.response,
    )
    for block, panels in zip(rows.blocks, add_panels(figure, rows, titles), strict=True):
        guide(panels, rows, block)
        chosen = order[block.start : block.stop]
        _draw_rows(panels[0], parts[0], chosen, rows, 0.0)
        for part, beside in zip(parts[1:], (-_BESIDE, _BESIDE), strict=True):
            _draw_rows(panels[1], part, chosen, rows, beside)
    return figure


def _legend(interval: Interval) -> list[Line2D]:
    bar: dict[str, Any] = {"color": PARTIAL.color, "linewidth": 1.6}
    odd: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4.5, "color": ODD}
    return [
        Line2D([], [], label=f"replicated, {interval.words}", **bar),
        OBSERVED.dot_handle("observed, inside", 4.0),
        Line2D([], [], label="observed, outside", **odd),
    ]


def _draw_rows(
    ax: Axes, part: Replicated, chosen: np.ndarray, rows: LevelRows, beside: float
) -> None:
    heights = -np.arange(len(chosen)) + beside
    low, high = (part.table[c].to_numpy()[chosen] for c in (part.interval.low, part.interval.high))
    size, alpha = rows.thickness, 0.5 if rows.is_crowded else 0.75
    ax.hlines(heights, low, high, color=PARTIAL.color, linewidth=1.5 * size, alpha=alpha, zorder=2)
    outside, values = part.is_outside[chosen], part.observed[chosen]
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0}
    small = 2.8 if not rows.is_crowded else 1.1
    ax.plot(
        values[~outside], heights[~outside], color=OBSERVED.color, markersize=small, zorder=3, **dot
    )
    ax.plot(
        values[outside],
        heights[outside],
        color=ODD,
        markersize=max(1.3 * small, 2.4),
        zorder=3.2,
        **dot,
    )


def _caption(parts: Sequence[Replicated], grouping: Grouping) -> str:
    J = grouping.n_levels
    counts = [f"{part.name} {int(part.is_outside.sum())}" for part in parts]
    usual = 100 * (1 - parts[0].interval.probability)
    expected = usual / 100 * J
    number = f"{expected:.0f}" if expected >= 10 else f"{expected:.1f}"
    words = [
        f"Outside, of {counted(J, grouping.factor)}: {', '.join(counts)}. At most {usual:.0f} % "
        f"({number}) are expected of each."
    ]
    odd = np.sum([part.is_outside for part in parts], axis=0)
    worst = np.flatnonzero(odd >= 2)
    if len(worst):
        words.append(f"Outside more than once: {some(grouping.levels[worst])}.")
    return " ".join(words)
