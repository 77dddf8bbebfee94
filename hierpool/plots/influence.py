"""Case deletion: change of the fixed effects when a group is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.core.errors import ArgumentError, DataError, listed
from hierpool.core.fitted import Fit, Optimum
from hierpool.core.group_nouns import counted, noun, nouns
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import Picture, settle, sheet, titled
from hierpool.plots.sheet.level_rows import (
    LevelRows,
    add_panels,
    guide,
    level_rows,
    panel_titles,
    title_height,
)
from hierpool.plots.sheet.style import NONE, PARTIAL, RULE, styled
from hierpool.plots.sheet.tables import rounded, some

_MOST = 30
_MOST_TERMS = 4
_LARGE = 1.0  # standard errors, as in hp.check
_RARE = 0.01
_COOK = "Cook's distance"


def influence(
    table: pd.DataFrame | IntegratedPosterior | Optimum,
    *,
    factor: str | None = None,
    most: int = _MOST,
    response: str = "",
    label: str = "",
) -> Figure:
    """Influence of groups on the fixed effects: a panel per coefficient, and Cook's distance.

    Each bar is the change of the coefficient due to the group, in standard errors.

    Parameters
    ----------
    table
        ``hp.influence(reml)``; or the REML, ML or least-squares fit.
    factor
        Whose groups are left out, if ``table`` is a fit; default: the first.
    most
        How many groups to show, the most influential first.
    response, label
        Names of the response and the data for the title; taken from a fit.

    Raises
    ------
    ArgumentError
        A posterior, or no such factor.
    DataError
        A table that ``hp.influence`` did not make.
    UnsupportedModelError
        A model without groups, or without fixed effects.
    """
    if not isinstance(table, pd.DataFrame):
        from hierpool.checks.residuals.influence import influence as influences

        fit = table
        line.check_drawable(fit, Fit, "influence(model.reml())")
        table = influences(fit, line.choose_grouping(fit.design, factor).factor)
        response, label = response or fit.design.spec.response, label or fit.design.label
    if "pareto_k" in table.columns:
        raise ArgumentError(
            "this figure shows the influence on a REML, ML or least-squares fit. For a posterior, use "
            "the table hp.influence(fit), or write "
            "hp.plots.influence(model.reml()).",
            "cannot-be-drawn",
        )
    shifts = [c for c in table.columns if str(c).startswith("shift[")]
    missing = [c for c in ("cook", "largest") if c not in table.columns]
    if missing or not shifts or not len(table):
        raise DataError(
            f"this table has the columns {listed(table.columns, most=20)}. Pass hp.influence(reml) or "
            "the fit.",
            "unknown-column",
        )
    with styled():
        figure = _draw(table, shifts, most, response, label)
        settle(figure)
    return figure


def _draw(
    table: pd.DataFrame, shifts: Sequence[str], most: int, response: str, label: str
) -> Picture:
    factor = table.index.get_level_values("factor")[0]
    order = np.argsort(-table["largest"].to_numpy(), kind="stable")[:most]
    shown, columns = table.iloc[order], shifts[:_MOST_TERMS]
    rows = level_rows(list(shown.index.get_level_values("level")), len(columns) + 1)
    terms = [c.removeprefix("shift[").removesuffix("]") for c in columns]
    titles = panel_titles(rows, [*terms, _COOK])
    of = f" of {response}" if response else ""
    figure = sheet(
        titled(f"Influence of {nouns(factor)} on the fixed effects{of}", label),
        rows.height + title_height(titles),
        caption=_caption(table, shown, factor, len(shifts) - len(columns)),
        x_label="change in standard errors of the coefficient; Cook's distance",
    )
    (panels,) = add_panels(figure, rows, titles)
    guide(panels, rows, rows.blocks[0])
    odd = (shown["p"] < _RARE).to_numpy() if "p" in shown else np.zeros(len(shown), dtype=bool)
    for ax, column in zip(panels, [*columns, "cook"], strict=True):
        _draw_panel(ax, shown[column].to_numpy(dtype=float), odd, rows)
    reach = max(1.1 * float(np.nanmax(np.abs(shown[list(columns)].to_numpy()))), 1.1 * _LARGE)
    for ax in panels[:-1]:
        ax.set_xlim(-reach, reach)
        for side in (-_LARGE, _LARGE):
            ax.axvline(side, color=NONE.color, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    panels[-1].set_xlim(left=0)
    return figure


def _draw_panel(ax: Axes, values: np.ndarray, odd: np.ndarray, rows: LevelRows) -> None:
    heights = -np.arange(len(values), dtype=float)
    ax.axvline(0, color=RULE, linewidth=0.7, zorder=1)
    for chosen, look in ((~odd, PARTIAL), (odd, NONE)):
        at, long = heights[chosen], np.nan_to_num(values[chosen])
        ax.hlines(at, 0, long, color=look.color, linewidth=1.6 * rows.thickness, zorder=2)
        ax.plot(values[chosen], at, zorder=3, **look.dots(4.0 * max(rows.thickness, 0.5)))


def _caption(table: pd.DataFrame, shown: pd.DataFrame, factor: str, left_out: int) -> str:
    words = []
    if len(shown) < len(table):
        words.append(f"The {len(shown)} most influential of {counted(len(table), factor)}.")
    first = shown.iloc[0]
    name = first.name[-1] if isinstance(first.name, tuple) else first.name
    words.append(
        f"Change of the coefficient due to the {noun(factor)}; largest: "
        f"{rounded(float(first['largest']))} standard errors ({some([name])}). Dashed: one standard "
        "error."
    )
    if "p" in table:
        odd = table.index[table["p"] < _RARE].get_level_values("level")
        words.append(
            f"Rings: more than expected for its design ({some(odd)})."
            if len(odd)
            else "No influence is larger than expected for the design."
        )
    if left_out:
        words.append(f"{left_out} more coefficients are in the table.")
    return " ".join(words)
