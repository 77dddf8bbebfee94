"""Predictive performance of each pooling: new observations and new groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierpool.core.errors import ComparisonError, listed
from hierpool.core.fitted import Posterior
from hierpool.core.group_nouns import nouns
from hierpool.plots.comparison import read_scores
from hierpool.plots.sheet.layout import WIDTH, Picture, dress, settle, sheet, titled
from hierpool.plots.sheet.lines import check_fits_by_name
from hierpool.plots.sheet.style import (
    FAINT,
    INK,
    MUTED,
    NONE,
    PANEL,
    PARTIAL,
    RULE,
    SMALL,
    TINY,
    styled,
)
from hierpool.plots.sheet.tables import some
from hierpool.plots.sheet.texts import elided, elided_apart

_PITCH = 0.27
_NAME_WIDTH = 1.7


def ladder(
    by_row: pd.DataFrame | Mapping[str, Posterior],
    by_group: pd.DataFrame | None = None,
    *,
    order: Sequence[str] | None = None,
    group: str = "group",
    response: str = "",
    label: str = "",
) -> Figure:
    """Leave-one-out by observation and by group, side by side, with the models in their order.

    Left: new observations of known groups. Right: new groups. Differences in elpd from the best model
    of each panel, with one standard error of the difference. A richer model can be better in one
    and worse in the other.

    Parameters
    ----------
    by_row
        ``hp.compare(fits)``; or the fits by name, from which both tables are made.
    by_group
        ``hp.compare(fits, by="group")``, of the same models.
    order
        Names from the top; default: as in the fits, or in the first table.
    group
        Name of the factor whose groups are left out; taken from the fits if given.
    response, label
        Names of the response and the data for the title; taken from the fits if given.

    Raises
    ------
    ComparisonError
        Tables of different models, or no second table.
    DataError
        A column of ``az.compare`` is missing.
    """
    if not isinstance(by_row, pd.DataFrame):
        from hierpool.checks.accuracy.comparison import compared

        check_fits_by_name(by_row, "ladder(fits)")
        fits = by_row
        order = list(fits) if order is None else order
        design = next(iter(fits.values())).design if fits else None
        if design is not None:
            response, label = response or design.spec.response, label or design.label
            group = next(iter(design.groupings), group)
        by_row, by_group = compared(fits), compared(fits, by="group")
    tables = [read_scores(by_row), _second(by_group, by_row)]
    names = list(by_row.index if order is None else order)
    with styled():
        figure = _draw(tables, names, group, response, label)
        settle(figure)
    return figure


def _second(by_group: pd.DataFrame | None, by_row: pd.DataFrame) -> pd.DataFrame:
    if by_group is None:
        raise ComparisonError(
            "this figure needs two tables. Pass the fits by name, or hp.compare(fits) and "
            'hp.compare(fits, by="group").',
            "two-questions",
        )
    odd = sorted(map(str, set(by_row.index) ^ set(by_group.index)))
    if odd:
        raise ComparisonError(
            f"the two tables have different models: only one has {listed(odd)}. Make both from the "
            "same fits.",
            "two-questions",
        )
    return read_scores(by_group)


def _draw(
    tables: Sequence[pd.DataFrame], names: Sequence[str], group: str, response: str, label: str
) -> Picture:
    of = f" of {response}" if response else ""
    titles = [f"new observations of known {nouns(group)}", f"new {nouns(group)}"]
    figure = sheet(
        titled(f"Predictive performance{of}", label),
        _PITCH * len(names) + 0.75,
        caption=_caption(tables, titles),
        x_label="difference in elpd from the best model of the panel",
    )
    axes = figure.subplots(1, 2)
    heights = -np.arange(len(names), dtype=float)
    shown = elided_apart(list(names), _NAME_WIDTH, TINY)
    for ax, table, title in zip(axes, tables, titles, strict=True):
        _draw_panel(ax, table.reindex(list(names)), heights)
        ax.set_title(
            elided(title, WIDTH / 2 - 0.9, PANEL), loc="left", size=PANEL, color=INK, pad=3
        )
    for height, name in zip(heights, shown, strict=True):
        place = axes[0].get_yaxis_transform()
        axes[0].text(
            -0.02, height, name, size=TINY, color=INK, ha="right", va="center", transform=place
        )
    return figure


def _draw_panel(ax: Axes, table: pd.DataFrame, heights: np.ndarray) -> None:
    dress(ax)
    ax.hlines(
        heights, 0, 1, transform=ax.get_yaxis_transform(), color=FAINT, linewidth=0.35, zorder=0.5
    )
    ax.axvline(0, color=RULE, linewidth=0.7, zorder=1)
    middle, half = table["elpd_diff"].to_numpy(), np.nan_to_num(table["dse"].to_numpy())
    ax.hlines(heights, middle - half, middle + half, color=PARTIAL.color, linewidth=1.4, zorder=2)
    noted = (table["note"] != "").to_numpy()
    ax.plot(middle[~noted], heights[~noted], zorder=3, **PARTIAL.dots(4.5))
    ax.plot(middle[noted], heights[noted], zorder=3, **NONE.dots(4.5))
    beside: dict[str, Any] = {"size": TINY, "va": "center", "transform": ax.get_yaxis_transform()}
    for height, diff, dse in zip(heights, middle, half, strict=True):
        words = "best" if diff == 0 else f"{diff:.1f} ± {dse:.1f}".replace("-", "−")
        ax.text(1.02, height, words, color=INK if diff == 0 else MUTED, ha="left", **beside)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    ax.set_ylim(heights[-1] - 0.6, 0.6)


def _caption(tables: Sequence[pd.DataFrame], titles: Sequence[str]) -> str:
    words = [
        "Bars: one standard error of the difference. Differences below 4 or below two standard "
        "errors are not clear."
    ]
    for table, title in zip(tables, titles, strict=True):
        best = table.iloc[0]
        score = f"{best['elpd']:.1f} (se {best['se']:.1f})".replace("-", "−")
        words.append(f"Best for {title}: {elided(table.index[0], 1.8, SMALL)}, elpd {score}.")
    notes: dict[str, list[str]] = {}
    for table in tables:
        for name, note in table["note"].items():
            if note:
                notes.setdefault(str(note), []).append(str(name))
    words += [f"Ringed: {note} ({some(named, 3)})." for note, named in notes.items()]
    return " ".join(words)
