"""Prior and posterior density of one quantity in a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from hierpool.draws.densities import density_in, overlap
from hierpool.plots.sheet.layout import WIDTH, Picture, dress, settle, sheet
from hierpool.plots.sheet.style import BLUP, INK, LABEL, PANEL, PARTIAL, PRIOR, styled
from hierpool.plots.sheet.tables import Interval
from hierpool.plots.sheet.texts import elided, elided_apart

MOST = 9  # panels
_COLUMNS = 3
_PANEL_HEIGHT = 1.35
_FOOT = 0.2  # of the height of the densities: room under them for the interval
_TALLER = 1.3
_SAME = 0.5  # overlap of prior and posterior from which it is said


@dataclass(frozen=True)
class Belief:
    """One quantity: its prior, its posterior and its estimate.

    Attributes
    ----------
    name, unit
        Above and below its panel.
    prior, posterior
        Draws, shapes (k,) and (m,).
    mean, low, high
        Of the posterior: its mean and the bounds of its interval.
    estimate
        Of REML, ML or least squares; NaN where there is none.
    bounds
        Smallest and largest value that there can be.
    """

    name: str
    unit: str
    prior: np.ndarray
    posterior: np.ndarray
    mean: float
    low: float
    high: float
    estimate: float
    bounds: tuple[float, float]

    @property
    def window(self) -> tuple[float, float]:
        """Where to look: all that there can be, or what posterior, estimate and prior reach."""
        low, high = self.bounds
        if np.isfinite(high):
            return low, high
        top = float(np.quantile(self.posterior, 0.999))
        if np.isfinite(self.estimate):
            top = max(top, 1.1 * self.estimate)
        return low, max(top, min(1.5 * float(np.median(self.prior)), 2.5 * top))


def read_belief(
    key: tuple[str, str, str, str], row: Mapping[Any, Any], interval: Interval, **known: Any
) -> Belief:
    """A belief from its row of ``fit.variance_components()``; ``known`` are its other fields."""
    return Belief(
        mean=float(row["mean"]),
        low=float(row[interval.low]),
        high=float(row[interval.high]),
        bounds=(-1.0, 1.0) if key[1] == "corr" else (0.0, np.inf),
        **known,
    )


def draw_beliefs(
    beliefs: Sequence[Belief], title: str, interval: Interval, method: str, note: str = ""
) -> Picture:
    """A panel for each: prior dashed, posterior filled, under them its interval and the estimate.

    Parameters
    ----------
    beliefs
        At most nine.
    title
        Of the figure.
    interval
        What is drawn under the densities.
    method
        Whose the estimates are, "" where there are none.
    note
        Added to the caption.
    """
    columns = 2 if len(beliefs) == 4 else min(_COLUMNS, len(beliefs))
    width = WIDTH if columns > 1 else 0.7 * WIDTH
    rows = -(-len(beliefs) // columns)
    with styled():
        figure = sheet(
            title,
            rows * (_PANEL_HEIGHT + 0.3 if len(beliefs) > 1 else 2.2),
            caption=" ".join(filter(None, [_caption(beliefs), note])),
            legend=_legend(interval, method),
            width=width,
        )
        room = width / columns - 0.15
        names = elided_apart([b.name for b in beliefs], room - 0.1, PANEL)
        for k, (belief, name) in enumerate(zip(beliefs, names, strict=True)):
            ax = figure.add_subplot(rows, columns, k + 1)
            _draw_panel(ax, belief, room)
            ax.set_title(name, loc="left", size=PANEL, color=INK, pad=3)
        settle(figure)
    return figure


def _draw_panel(ax: Axes, belief: Belief, width: float) -> None:
    dress(ax)
    low, high = belief.window
    before = density_in(belief.prior, low, high, belief.bounds)
    after = density_in(belief.posterior, low, high, belief.bounds)
    top = float(after[1].max()) or 1.0  # a prior that is heaped at a bound may leave the panel
    top = max(top, min(float(before[1].max()), _TALLER * top))
    ax.fill_between(*after, color=PARTIAL.color, alpha=0.22, linewidth=0, zorder=2)
    ax.plot(*after, zorder=3, **PARTIAL.line)
    ax.plot(*before, zorder=2.5, **PRIOR.line)
    foot = -_FOOT / 2 * top
    ax.hlines(foot, belief.low, belief.high, color=PARTIAL.color, linewidth=1.8, zorder=3)
    ax.plot(belief.mean, foot, zorder=3.2, **PARTIAL.dots(4.5))
    if np.isfinite(belief.estimate):
        ax.vlines(belief.estimate, 0, 1.04 * top, zorder=3.1, **_estimate_line())
        ax.plot(belief.estimate, foot, zorder=3.4, clip_on=False, **BLUP.dots(5.0))
    ax.set_ylim(-_FOOT * top, 1.06 * top)
    ax.set_xlim(low, high)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(elided(belief.unit, width, LABEL), size=LABEL, labelpad=2)


def _estimate_line() -> dict[str, Any]:
    return {"color": BLUP.color, "linestyle": (0, (1, 1.2)), "linewidth": 1.2}


def _legend(interval: Interval, method: str) -> list[Line2D]:
    words = f"posterior; below: mean, {interval.words}"
    handles = [PRIOR.handle(), Line2D([], [], label=words, **PARTIAL.line)]
    if method:
        handles.append(
            Line2D([], [], label=f"{method} estimate", **{**BLUP.dots(5.0), **_estimate_line()})
        )
    return handles


def _caption(beliefs: Sequence[Belief]) -> str:
    words = "A posterior much narrower than the prior is determined by the data."
    shared = {b.name: overlap(b.prior, b.posterior) for b in beliefs}
    alike = [f"{name} ({100 * share:.0f} %)" for name, share in shared.items() if share > _SAME]
    if alike:
        words += f" Posterior and prior overlap by more than half: {', '.join(alike)}."
    if edge := [b.name for b in beliefs if b.bounds[0] == 0 and b.estimate == 0]:
        words += f" Estimated as zero: {', '.join(edge)}."
    return words
