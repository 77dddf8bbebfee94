"""Pareto k of leave-one-out by importance sampling, for rows and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.checks.accuracy.loo import ScoredLOO
from hierpool.core.design import Design, Grouping
from hierpool.core.fitted import Posterior
from hierpool.core.group_nouns import noun, nouns
from hierpool.core.text import capital
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import (
    WIDTH,
    Picture,
    dress,
    settle,
    sheet,
    titled,
    write_axis_labels,
)
from hierpool.plots.sheet.style import INK, MUTED, NONE, PANEL, PARTIAL, RULE, TINY, styled
from hierpool.plots.sheet.texts import elided, elided_apart, text_width, write_names

_HEIGHT = 1.75
_NAMED = 5
_NOT_SMALL = 0.5  # k above which the variance of the weights is infinite
_LEAST_TOP = 0.85  # of the axis of k, so that the threshold is always seen


@dataclass(frozen=True)
class Left:
    """What was left out, point by point.

    Attributes
    ----------
    title
        Of its panel.
    places
        Shape (points,): position along the panel.
    k
        Shape (points,): Pareto k; NaN where the weights have no tail.
    names
        Of each point.
    threshold
        k above which importance sampling is not trusted.
    is_rescued
        Whether ``fit.loo()`` scores the points above it exactly.
    """

    title: str
    places: np.ndarray
    k: np.ndarray
    names: Sequence[str]
    threshold: float
    is_rescued: bool

    @property
    def notable(self) -> np.ndarray:
        """Positions of the few points with the largest k, where it is not small; worst first."""
        large = np.flatnonzero(self.k > _NOT_SMALL)
        return large[np.argsort(-self.k[large], kind="stable")][:_NAMED]

    @property
    def high(self) -> np.ndarray:
        """Positions of the points above the threshold, the worst first."""
        above = np.flatnonzero(self.k > self.threshold)
        return above[np.argsort(-self.k[above], kind="stable")]


def pareto_k(fit: Posterior, *, factor: str | None = None) -> Figure:
    """Pareto k for leaving out each row and each group, with the threshold.

    A high k is not a fault of the model: leaving that row or group out changes the posterior of the
    standard deviations too much for importance sampling, so ``fit.loo()`` computes the score
    exactly. Rows and groups with a high k are influential.

    Parameters
    ----------
    fit
        A posterior.
    factor
        Whose groups are left out; default: the first.

    Raises
    ------
    ArgumentError
        No such factor.
    UnsupportedModelError
        A fit that has no draws, or whose coefficients cannot be integrated out.
    """
    line.check_has_draws(fit, "pareto_k(fit)")
    design = fit.design
    known = bool(design.groupings) or factor is not None
    grouping = line.choose_grouping(design, factor) if known else None
    panels = [_rows(fit, grouping)]
    if grouping is not None:
        panels.append(_levels(fit, grouping))
    with styled():
        return _draw(panels, design, grouping)


def _rows(fit: Posterior, grouping: Grouping | None) -> Left:
    score, design = fit.loo(exact=False), fit.design
    labels = [f"row {v}" for v in design.rows]
    if grouping is None:
        places = np.arange(design.n, dtype=float)
    else:
        order = np.argsort(grouping.codes, kind="stable")
        within = np.empty(design.n)
        starts = np.cumsum(grouping.n_rows) - grouping.n_rows
        within[order] = np.arange(design.n) - np.repeat(starts, grouping.n_rows)
        places = grouping.codes + 0.8 * (within + 0.5) / grouping.n_rows[grouping.codes] - 0.4
        labels = [
            f"{label} ({level})"
            for label, level in zip(labels, grouping.levels[grouping.codes], strict=True)
        ]
    return Left("leave one row out", places, *_of(score, labels))


def _levels(fit: Posterior, grouping: Grouping) -> Left:
    score = fit.loo(by=grouping.factor, exact=False)
    places = np.arange(grouping.n_levels, dtype=float)
    title = f"leave one {noun(grouping.factor)} out"
    return Left(title, places, *_of(score, [str(v) for v in grouping.levels]))


def _of(score: ScoredLOO, names: Sequence[str]) -> tuple[np.ndarray, Sequence[str], float, bool]:
    k = np.asarray(score.pareto_k.to_numpy(), dtype=float).ravel()
    return k, names, float(score.good_k), score.n_left == 0


def _draw(panels: Sequence[Left], design: Design, grouping: Grouping | None) -> Picture:
    over = f"{nouns(grouping.factor)} in order" if grouping else "rows in order"
    figure = sheet(
        titled("Influential rows and groups: Pareto k", design.label),
        _HEIGHT * len(panels) + 0.1,
        caption=" ".join([_caption(panel) for panel in panels]),
        legend=_legend(panels[0]),
        x_label=over,
    )
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, panel)
    axes[-1].set_xlim(panels[-1].places.min() - 0.7, panels[-1].places.max() + 0.7)
    if grouping is not None:
        _name_levels(axes[-1], grouping)
    settle(figure)
    for ax, panel in zip(axes, panels, strict=True):
        _name_points(ax, panel)
    return figure


def _legend(panel: Left) -> list[Line2D]:
    after = "computed exactly by fit.loo()" if panel.is_rescued else "score unreliable"
    return [
        PARTIAL.dot_handle("importance sampling is reliable", 4.0),
        NONE.dot_handle(f"k above {panel.threshold:.2f}: {after}", 5.0),
    ]


def _draw_panel(ax: Axes, panel: Left) -> None:
    dress(ax)
    size = float(np.clip(4.5 * (60 / max(len(panel.k), 60)) ** 0.35, 1.2, 4.5))
    high = panel.high
    fine = np.flatnonzero(panel.k <= panel.threshold)
    ax.plot(panel.places[fine], panel.k[fine], alpha=0.8, zorder=2, **PARTIAL.dots(size))
    ax.plot(panel.places[high], panel.k[high], zorder=3, **NONE.dots(max(size, 3.5)))
    ax.axhline(panel.threshold, color=NONE.color, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    ax.axhline(0, color=RULE, linewidth=0.5, zorder=0.8)
    known = panel.k[np.isfinite(panel.k)]
    low, top = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    top = max(_LEAST_TOP, 1.15 * top)
    ax.set_ylim(min(0.0, low) - 0.08 * (top - min(0.0, low)), top)
    write_axis_labels(ax, "", "Pareto k", WIDTH, _HEIGHT)
    ax.set_title(elided(panel.title, WIDTH - 0.8, PANEL), loc="left", size=PANEL, color=INK, pad=3)


def _name_levels(ax: Axes, grouping: Grouping) -> None:
    """Names of as many levels, evenly spread, as have room beside each other."""
    every = elided_apart(list(grouping.levels), 1.1, TINY)
    widest = max(text_width(name, TINY) for name in every)
    most = max(2, int((WIDTH - 0.8) / (widest + 0.12)))
    step = int(np.ceil(grouping.n_levels / most))
    at = np.arange(0, grouping.n_levels, step)
    ax.set_xticks(at, [every[k] for k in at], size=TINY, color=MUTED)


def _name_points(ax: Axes, panel: Left) -> None:
    worst = panel.notable
    if not len(worst):
        return
    known = np.isfinite(panel.k)
    points = np.column_stack([panel.places, panel.k])
    names = elided_apart([panel.names[i] for i in worst], 1.6, TINY)
    write_names(ax, points[worst], names, obstacles=points[known], most_covered=8)


def _caption(panel: Left) -> str:
    lost = int(np.isnan(panel.k).sum())
    count = f"{len(panel.high)} of {len(panel.k)} above {panel.threshold:.2f}"
    note = f", {lost} without an estimate" if lost else ""
    return f"{capital(panel.title)}: {count}{note}."
