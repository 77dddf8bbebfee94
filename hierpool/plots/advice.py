"""Differences in elpd of the models that advice tried, for new observations and new groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from hierpool.checks.advice import MIN_ELPD_DIFFERENCE, Advice, format_p
from hierpool.core.errors import DataError
from hierpool.core.group_nouns import nouns
from hierpool.core.text import joined
from hierpool.plots.sheet.layout import Picture, dress, number, settle, sheet, titled
from hierpool.plots.sheet.lines import check_drawable
from hierpool.plots.sheet.style import FAINT, INK, MUTED, RULE, TINY, Look, styled
from hierpool.plots.sheet.texts import elided, wrapped

LOOKS = {
    "needed": Look("needed", "#d55e00", "-", 1.4, "s"),
    "undecided": Look("undecided", "#4d4d4d", "-", 1.4, "D", is_filled=False),
    "not needed": Look("not needed", "#0072b2", "-", 1.4, "o"),
}
_TICKS = (4.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 100_000.0)
_NAMES = 2.1  # inches of the names on the left
_PITCH = 0.32


def advice(advice: Advice) -> Picture:
    """Models that advice tried: difference in elpd from the model that each one changes.

    Left of zero, a model predicts worse. The axis is linear up to 4, below which a difference is
    not clear, and logarithmic beyond. Colours and markers show whether the term is needed, not
    needed or undecided; p belongs to the likelihood ratio test.

    Parameters
    ----------
    advice
        ``hp.advise(fit)``, or ``study.advice``.

    Raises
    ------
    ArgumentError
        Not advice.
    DataError
        Nothing was tried, or nothing could be scored by leave-one-out.
    """
    check_drawable(advice, Advice, "advice(hp.advise(model.fit()))")
    table = advice.table.iloc[1:]
    if not len(table) or table["row_diff"].isna().all():
        raise DataError(
            f"the advice on {advice.formula} has no leave-one-out scores to draw. Print it instead.",
            "nothing-to-draw",
        )
    left_out = next((name for name in table["left_out"] if name), "")
    panels = {"row": "new observations"}
    if table["group_diff"].notna().any():
        panels["group"] = f"new {nouns(left_out)}"
    with styled():
        figure = sheet(
            titled(f"Simpler and richer models than {advice.formula}", advice.label),
            _PITCH * len(table) + 0.75,
            caption=_caption(advice),
            legend=[look.dot_handle() for look in LOOKS.values()],
            x_label="difference in elpd from the model that is changed (± one standard error)",
        )
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (by, title) in zip(axes, panels.items(), strict=True):
            _panel(ax, table, by, elided(title, 1.6, TINY))
        _write_names(axes[0], table)
        _write_tests(axes[-1], table)
        settle(figure)
    return figure


def _panel(ax: Axes, table: pd.DataFrame, by: str, title: str) -> None:
    dress(ax)
    middle, half = table[f"{by}_diff"].to_numpy(), table[f"{by}_dse"].to_numpy()
    ax.set_xscale("symlog", linthresh=MIN_ELPD_DIFFERENCE, linscale=0.7)
    right = max(float(np.nanmax(middle + half, initial=0.0)), 1.5 * MIN_ELPD_DIFFERENCE)
    left = max(float(np.nanmax(half - middle, initial=0.0)), 1.5 * MIN_ELPD_DIFFERENCE)
    ax.set_xlim(-1.15 * left, 1.15 * right)
    ax.xaxis.set_major_locator(FixedLocator(_ticks(left, right)))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.xaxis.set_major_formatter(FuncFormatter(number))
    ax.axvspan(
        -MIN_ELPD_DIFFERENCE, MIN_ELPD_DIFFERENCE, color=FAINT, alpha=0.45, linewidth=0, zorder=0
    )
    ax.axvline(0, color=RULE, linewidth=0.7, zorder=1)
    for k, verdict in enumerate(table["verdict"]):
        look = LOOKS[verdict]
        if np.isnan(middle[k]):
            continue
        ax.hlines(-k, middle[k] - half[k], middle[k] + half[k], color=look.color, linewidth=1.4)
        ax.plot(middle[k], -k, zorder=3, **look.dots(4.5))
    ax.set_title(title, size=TINY, color=MUTED, pad=3)
    ax.set_ylim(-len(table) + 0.4, 0.6)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _ticks(left: float, right: float) -> list[float]:
    """Zero, the ends of the band, and at most two round numbers beyond on either side."""
    below, above = ([t for t in _TICKS if t <= end] for end in (left, right))
    return [*(-t for t in _thinned(below)[::-1]), 0.0, *_thinned(above)]


def _thinned(ticks: list[float]) -> list[float]:
    return ticks if len(ticks) < 3 else [ticks[0], ticks[len(ticks) // 2], ticks[-1]]


def _write_names(ax: Axes, table: pd.DataFrame) -> None:
    signs = ["+" if kind == "richer" else "−" for kind in table["kind"]]
    for k, (sign, change) in enumerate(zip(signs, table["change"], strict=True)):
        name = "\n".join(wrapped(f"{sign} {change}", _NAMES, TINY, 2))
        ax.text(
            *(-0.02, -k, name),
            transform=ax.get_yaxis_transform(),
            size=TINY,
            color=INK,
            ha="right",
            va="center",
        )


def _write_tests(ax: Axes, table: pd.DataFrame) -> None:
    for k, p in enumerate(table["p"]):
        words = "" if np.isnan(p) else f"p {format_p(p)}"
        ax.text(
            *(1.02, -k, words),
            transform=ax.get_yaxis_transform(),
            size=TINY,
            color=MUTED,
            ha="left",
            va="center",
        )


def _caption(advice: Advice) -> str:
    said = f"Recommended: {advice.recommended}."
    if not advice.decided:
        said = f"No clear choice between {joined(advice.candidates)}; the first is recommended."
    return (
        f"{said} Each model is compared with the one that it changes. Shaded: differences below 4, "
        "which are not clear. p: likelihood ratio test."
    )
