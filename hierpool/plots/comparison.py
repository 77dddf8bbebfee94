"""Predictive performance: differences in elpd with their standard errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hierpool.core.errors import DataError, listed
from hierpool.core.fitted import Posterior
from hierpool.core.group_nouns import noun
from hierpool.core.text import capital
from hierpool.plots.sheet.layout import Picture, dress, settle, sheet, titled
from hierpool.plots.sheet.lines import check_fits_by_name
from hierpool.plots.sheet.style import INK, MUTED, PARTIAL, RULE, SMALL, TINY, styled
from hierpool.plots.sheet.tables import some
from hierpool.plots.sheet.texts import elided, elided_apart

_NEEDED = ["elpd_diff", "dse", "elpd", "se"]
_MOST = 150
# What ArviZ says in its own signs.
_WORDS = {
    "|elpd_diff| < 4": "a difference below 4 is not clear",
    "N < 100": "standard errors are rough with fewer than 100 rows",
}


def comparison(
    table: pd.DataFrame | Mapping[str, Posterior],
    *,
    left_out: str = "row",
    response: str = "",
    label: str = "",
) -> Figure:
    """Differences in elpd from the best model, with standard errors; the best on top.

    Parameters
    ----------
    table
        ``hp.compare(fits)``, or another table of ``az.compare``; or the fits by name.
    left_out
        What was left out: ``"row"`` or the name of a factor.
    response, label
        Names of the response and the data for the title; taken from the fits if given.

    Raises
    ------
    DataError
        A column of ``az.compare`` is missing, or it holds rounded text.
    """
    if not isinstance(table, pd.DataFrame):
        from hierpool.checks.accuracy.comparison import compared

        check_fits_by_name(table, "comparison(fits)")
        design = next(iter(table.values())).design if table else None
        if design is not None:
            response, label = response or design.spec.response, label or design.label
        table = compared(table)
    with styled():
        figure = _draw(read_scores(table), len(table), left_out, response, label)
        settle(figure)
    return figure


def read_scores(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers, best model first; differences are 0 or negative, as in ArviZ 1."""
    missing = [c for c in _NEEDED if c not in table.columns]
    if missing or not len(table):
        what = f"no column {listed(missing)}" if missing else "no rows"
        raise DataError(
            f"this table has {what}; pass the table of hp.compare(fits) or az.compare(...)",
            "unknown-column",
        )
    numbers = table[_NEEDED].astype(float)
    numbers["elpd_diff"] = -numbers["elpd_diff"].abs()
    numbers["remarks"] = _remarks(table)
    numbers["note"] = table["note"].fillna("").astype(str) if "note" in table.columns else ""
    rank = table["rank"].astype(float) if "rank" in table.columns else -numbers["elpd"]
    return numbers.iloc[np.argsort(rank.to_numpy(), kind="stable")[:_MOST]]


def _remarks(table: pd.DataFrame) -> list[list[str]]:
    """Remarks of ArviZ, in words, and of ``hp.compare`` on each row of the table."""
    columns = [c for c in ("diag_diff", "diag_elpd", "note") if c in table.columns]
    said = table[columns].astype(object).fillna("").astype(str)
    return [[_in_words(remark) for remark in row if remark] for row in said.to_numpy()]


def _in_words(remark: str) -> str:
    if found := re.fullmatch(r"(\d+) k̂ > ([\d.]+)", remark):
        return f"{found[1]} Pareto k above {found[2]}"
    return _WORDS.get(remark, remark)


def _draw(table: pd.DataFrame, total: int, left_out: str, response: str, label: str) -> Picture:
    count = len(table)
    pitch = float(np.clip(3.0 / count, 0.135, 0.28))
    of = f" for {response}" if response else ""
    what = "observation" if left_out == "row" else noun(left_out)
    figure = sheet(
        titled(f"Predictive accuracy{of}", label),
        pitch * count + 0.55,
        caption=_caption(table, total),
        x_label=f"difference in elpd from the best model (leave one {what} out)",
    )
    ax = figure.add_subplot()
    dress(ax)
    heights = -np.arange(count, dtype=float)
    _write_sides(figure, heights, table)
    ax.axvline(0, color=RULE, linewidth=0.7, zorder=1)
    middle, half = table["elpd_diff"].to_numpy(), table["dse"].to_numpy()
    low, high = np.nan_to_num(middle - half), np.nan_to_num(middle + half)
    ax.hlines(heights, low, high, color=PARTIAL.color, linewidth=1.4, zorder=2)
    ax.plot(middle, heights, zorder=3, **PARTIAL.dots(4.5))
    ax.set_ylim(-count + 0.4, 0.6)
    return figure


def _write_sides(figure: Figure, heights: np.ndarray, table: pd.DataFrame) -> None:
    """Names of the models on the left, the differences in numbers on the right."""
    (ax,) = figure.axes
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    names = elided_apart([str(v) for v in table.index], 1.9, TINY)
    beside: dict[str, Any] = {"size": TINY, "va": "center", "transform": ax.get_yaxis_transform()}
    pairs = zip(heights, names, table["elpd_diff"], table["dse"], strict=True)
    for height, name, diff, dse in pairs:
        words = "best" if diff == 0 else f"{diff:.1f} ± {dse:.1f}".replace("-", "−")
        ax.text(-0.01, height, name, color=INK, ha="right", **beside)
        ax.text(1.01, height, words, color=MUTED, ha="left", **beside)


def _caption(table: pd.DataFrame, total: int) -> str:
    best, name = table.iloc[0], elided(table.index[0], 2.5, SMALL)
    score = f"{best['elpd']:.1f} (se {best['se']:.1f})".replace("-", "−")
    words = [f"Bars: one standard error of the difference. elpd of {name}: {score}."]
    if len(table) < total:
        words.append(f"The best {len(table)} of {total} models.")
    of: dict[str, list[str]] = {}
    for model, remarks in table["remarks"].items():
        for remark in remarks:
            of.setdefault(remark, []).append(str(model))
    words += [f"{capital(remark)}: {some(models, 4)}." for remark, models in of.items()]
    return " ".join(words)
