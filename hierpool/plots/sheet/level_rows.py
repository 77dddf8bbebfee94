"""Levels one under the other: how many to a column, how far apart, which of them named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from hierpool.core.group_nouns import counted
from hierpool.draws.densities import density_in
from hierpool.plots.sheet.layout import EDGE, WIDTH, dress
from hierpool.plots.sheet.style import FAINT, INK, PANEL, TINY, Look
from hierpool.plots.sheet.texts import elided_apart, text_width, wrapped

_CLOSEST = 0.125  # inches between named rows: 7 points and the accents of capitals
_ONE_COLUMN = 75
_TWO_COLUMNS = 150
MANY = 400  # levels, above which a page shows their density and a few of them
_EACH = 10  # of the highest, of the lowest, and of those between
STRIP = 0.9  # inches of a density above the rows
_TALLEST = 9.0  # inches of a page where not every level is named


@dataclass(frozen=True)
class LevelRows:
    """Levels one under the other, from the top, in one or two columns.

    Attributes
    ----------
    names
        What to write beside each row; empty for a row without a name.
    blocks
        The rows of each column.
    pitch
        Inches between rows.
    """

    names: tuple[str, ...]
    blocks: tuple[range, ...]
    pitch: float

    @property
    def height(self) -> float:
        """Inches that the rows need, with half a row above and below."""
        return self.pitch * len(self.blocks[0])

    @property
    def is_crowded(self) -> bool:
        """Whether rows are too close for a name each."""
        return self.pitch < _CLOSEST

    @property
    def n_named(self) -> int:
        """How many rows have a name."""
        return sum(1 for name in self.names if name)

    @property
    def thickness(self) -> float:
        """Factor for lines and markers: 1 where there is room, less in crowded rows."""
        return float(np.clip(self.pitch / _CLOSEST, 0.25, 1.0))

    @property
    def note(self) -> str:
        """A sentence on rows without a name; empty where all have one."""
        if self.n_named == len(self.names):
            return ""
        return f"{self.n_named} of {len(self.names)} groups are named."

    def positions(self, block: range) -> np.ndarray:
        """Heights of a column's rows: 0 for the first, -1 for the second."""
        return -np.arange(len(block), dtype=float)


def level_rows(levels: Sequence[object], n_panels: int) -> LevelRows:
    """Rows for levels in their order from the top, ``n_panels`` panels beside each other.

    A page holds 75 named rows. Up to 150 levels stand in two columns, or in one long column where
    there are more than two panels; above that the rows close up and some of them are named.
    """
    count = len(levels)
    two = _ONE_COLUMN < count <= _TWO_COLUMNS and n_panels <= 2
    first = -(-count // 2) if two else count
    blocks = (range(first), range(first, count)) if two else (range(count),)
    width = 1.5 if len(blocks) == 1 else 0.9
    if count > _TWO_COLUMNS:
        pitch = _TALLEST / count
        named = np.linspace(0, count - 1, int(_TALLEST / 0.15)).round().astype(int)
        shown = dict(zip(named, elided_apart([levels[k] for k in named], width, TINY), strict=True))
        return LevelRows(tuple(shown.get(k, "") for k in range(count)), blocks, pitch)
    pitch = float(np.clip(4.5 / first, _CLOSEST, 0.24))
    return LevelRows(tuple(elided_apart(levels, width, TINY)), blocks, pitch)


def few_of(count: int) -> np.ndarray:
    """Positions, of levels in order, of the few to show: all, or both ends and some between."""
    if count <= MANY:
        return np.arange(count)
    between = np.linspace(_EACH, count - 1 - _EACH, _EACH + 2)[1:-1].round().astype(int)
    return np.concatenate([np.arange(_EACH), between, np.arange(count - _EACH, count)])


def few_in_words(count: int, factor: str) -> str:
    """A sentence on the few that are shown; empty where all are."""
    if count <= MANY:
        return ""
    return (
        f"Rows: of {counted(count, factor)} the {_EACH} highest, the {_EACH} lowest and {_EACH} spread "
        "between them."
    )


def panel_titles(rows: LevelRows, titles: Sequence[str]) -> list[str]:
    """Titles in as many lines as the panels beside the names of the rows are wide for, three at most."""
    width = _panel_width(rows, len(titles))
    return ["\n".join(wrapped(title, width, PANEL, 3)) for title in titles]


def title_height(titles: Sequence[str]) -> float:
    """Inches that titles and tick labels of panels need."""
    return 0.5 + 0.15 * max(title.count("\n") for title in titles)


def _panel_width(rows: LevelRows, n_panels: int) -> float:
    beside = max(text_width(name, TINY) for name in rows.names)
    wide = n_panels * len(rows.blocks)
    return (WIDTH - 2 * EDGE - len(rows.blocks) * (beside + 0.1)) / wide - 0.1


def add_panels(
    figure: Figure, rows: LevelRows, titles: Sequence[str], strip: bool = False
) -> list[list[Axes]]:
    """Panels of each column of rows: a list of columns, each with one panel a title.

    ``titles`` are those of ``panel_titles``. With ``strip`` there is room above the panels, and the
    titles are written by ``draw_strips``.
    """
    wide = len(titles) * len(rows.blocks)
    heights = [STRIP, rows.height] if strip else [1.0]
    grid: GridSpec = figure.add_gridspec(len(heights), wide, height_ratios=heights)
    columns: list[list[Axes]] = []
    for b, block in enumerate(rows.blocks):
        panels: list[Axes] = []
        for t, title in enumerate(titles):
            left = panels[0] if panels else None
            above = columns[0][t] if columns else None
            ax = figure.add_subplot(grid[-1, b * len(titles) + t], sharey=left, sharex=above)
            dress(ax)
            if not strip:
                ax.set_title(title, loc="left", fontsize=PANEL, color=INK, pad=3)
            ax.spines["left"].set_visible(False)
            panels.append(ax)
        _name_rows(panels[0], rows, block)
        columns.append(panels)
    return columns


def draw_strips(
    panels: Sequence[Axes], titles: Sequence[str], estimates: Sequence[tuple[Look, pd.DataFrame]]
) -> None:
    """Above each panel the density of all levels: of each kind of estimate, a table levels x terms."""
    for k, (ax, title) in enumerate(zip(panels, titles, strict=True)):
        figure, spec = ax.get_figure(), ax.get_subplotspec()
        assert figure is not None
        assert spec is not None
        strip = figure.add_subplot(spec.get_gridspec()[0, k], sharex=ax)
        dress(strip)
        for look, table in estimates:
            values = table.iloc[:, k].dropna().to_numpy(dtype=float)
            if len(values) and np.ptp(values) > 0:
                at, height = density_in(values, values.min(), values.max(), (-np.inf, np.inf))
                strip.fill_between(at, height, color=look.color, alpha=0.16, linewidth=0)
                strip.plot(at, height, **look.line)
        strip.set_title(title, loc="left", fontsize=PANEL, color=INK, pad=3)
        strip.set_yticks([])
        strip.set_ylim(bottom=0)
        strip.spines["left"].set_visible(False)
        strip.tick_params(labelbottom=False)


def _name_rows(ax: Axes, rows: LevelRows, block: range) -> None:
    """Names left of the panel; as plain texts, which matplotlib draws much faster than ticks."""
    beside: dict[str, Any] = {"size": TINY, "color": INK, "ha": "right", "va": "center"}
    for row, height in zip(block, rows.positions(block), strict=True):
        if rows.names[row]:
            ax.text(-0.01, height, rows.names[row], transform=ax.get_yaxis_transform(), **beside)
    ax.set_yticks([])
    ax.set_ylim(-len(rows.blocks[0]) + 0.4, 0.6)


def guide(panels: Sequence[Axes], rows: LevelRows, block: range) -> None:
    """Faint lines that lead the eye along the rows, where they are not crowded."""
    if rows.is_crowded:
        return
    for ax in panels:
        ax.hlines(
            rows.positions(block), 0, 1, transform=ax.get_yaxis_transform(), color=FAINT,
            linewidth=0.35, zorder=0.5,
        )  # fmt: skip
