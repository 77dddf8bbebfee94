"""The fixed effects one under the other, with their intervals: a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers.contrasts import contrast
from hierpool.core.errors import ArgumentError, UnsupportedModelError, nearest
from hierpool.core.fitted import Fit, Optimum, Posterior
from hierpool.core.options import takes_prob
from hierpool.core.schema import Schema
from hierpool.core.text import short
from hierpool.plots.sheet.layout import Picture, dress, settle, sheet, titled
from hierpool.plots.sheet.level_rows import guide, level_rows
from hierpool.plots.sheet.lines import check_drawable
from hierpool.plots.sheet.style import INK, MUTED, PARTIAL, RULE, TINY, styled
from hierpool.plots.sheet.tables import Interval, find_interval, some
from hierpool.plots.sheet.terms import predictor_in_words
from hierpool.plots.sheet.texts import elided_apart

_CONSTANT = "Intercept"
_MOST = 60
_UNLIKE = 100.0  # widest interval over the narrowest from which one axis shows little of the latter


@takes_prob
def fixed_effects(
    fit: IntegratedPosterior | Optimum,
    *,
    terms: str | Sequence[str] | None = None,
    prob: float | None = None,
    label: str | None = None,
) -> Figure:
    """Every fixed effect with its interval, and in numbers beside it; the constant is left out.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` or a ``LikelihoodFit``.
    terms
        Which of them, in this order; default all but the constant.
    prob
        Probability of the intervals; None: that of ``hp.options``. Those of REML, ML and least
        squares have the degrees of freedom of ``fit.df_method``.
    label
        Name of the data for the title; default the design's own.

    Raises
    ------
    ArgumentError
        An unknown term.
    UnsupportedModelError
        The model has no fixed effects beside a constant.
    """
    check_drawable(fit, Fit, "fixed_effects(model.fit())")
    design = fit.design
    shown = _terms(design.terms, terms)
    if not shown:
        raise UnsupportedModelError(
            f"{design.spec.formula} has no fixed effects beside a constant, so there is nothing to "
            "draw. Its groups are in hp.plots.caterpillar(fit).",
            "no-terms",
        )
    table = contrast(fit, {term: {term: 1.0} for term in shown[:_MOST]}, prob=prob)
    with styled():
        of = design.label if label is None else label
        title = titled(f"Fixed effects on {design.spec.response}", of)
        caption = _caption(fit, table, shown, terms)
        figure = _draw(table, title, caption, _change(design.schema))
        settle(figure)
    return figure


def _terms(every: Sequence[str], terms: str | Sequence[str] | None) -> list[str]:
    if terms is None:
        return [t for t in every if t != _CONSTANT]
    chosen = [terms] if isinstance(terms, str) else list(terms)
    for term in chosen:
        if term not in every:
            raise ArgumentError(
                f"no fixed effect is called {term!r}; {nearest(term, every)}", "unknown-choice"
            )
    return chosen


def _interval(table: pd.DataFrame) -> Interval:
    found = find_interval(table.columns)
    assert found is not None
    return found


def _draw(table: pd.DataFrame, title: str, caption: str, x_label: str) -> Picture:
    interval = _interval(table)
    rows = level_rows(list(table.index), 1)
    figure = sheet(
        title,
        max(rows.height, 0.5) + 0.45,
        caption=caption,
        x_label=x_label,
    )
    ax = figure.add_subplot()
    dress(ax)
    ax.axvline(0, color=RULE, linewidth=0.7, zorder=1)
    heights = -np.arange(len(table), dtype=float)
    guide([ax], rows, rows.blocks[0])
    low, high = (table[c].to_numpy() for c in (interval.low, interval.high))
    ax.hlines(heights, low, high, color=PARTIAL.color, linewidth=1.6, zorder=2)
    ax.plot(table.iloc[:, 0], heights, zorder=3, **PARTIAL.dots(4.5))
    _write_sides(ax, heights, table, interval)
    ax.set_ylim(-len(table) + 0.4, 0.6)
    return figure


def _write_sides(ax: Axes, heights: np.ndarray, table: pd.DataFrame, interval: Interval) -> None:
    """Names of the terms on the left, the numbers on the right."""
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    beside: dict[str, Any] = {"size": TINY, "va": "center", "transform": ax.get_yaxis_transform()}
    names = elided_apart([str(v) for v in table.index], 2.0, TINY)
    numbers = table.iloc[:, 0], table[interval.low], table[interval.high]
    for height, name, middle, low, high in zip(heights, names, *numbers, strict=True):
        words = f"{short(middle)}  ({short(low)} to {short(high)})".replace("-", "−")
        ax.text(-0.01, height, name, color=INK, ha="right", **beside)
        ax.text(1.01, height, words, color=MUTED, ha="left", **beside)


def _caption(
    fit: IntegratedPosterior | Optimum,
    table: pd.DataFrame,
    shown: Sequence[str],
    terms: str | Sequence[str] | None,
) -> str:
    interval = _interval(table)
    how = "intervals of the posterior"
    if not isinstance(fit, Posterior):
        how = f"confidence intervals (df: {fit.df_method})"
    words = [f"Bars: {100 * interval.probability:g} % {how}."]
    if terms is None and _CONSTANT in fit.design.terms:
        words.append("The intercept is left out.")
    if len(shown) > len(table):
        words.append(f"{len(table)} of {len(shown)} terms; choose others with terms=.")
    width = (table[interval.high] - table[interval.low]).to_numpy()
    narrow = width < np.nanmax(width) / _UNLIKE
    if narrow.any():
        names = some(np.asarray(table.index)[narrow])
        words.append(f"Too narrow to be seen on this axis: {names}; draw them alone with terms=.")
    return " ".join(words)


def _change(schema: Schema) -> str:
    what = "the response" if schema.family is None else predictor_in_words(schema)
    return f"change of {what} per unit"
