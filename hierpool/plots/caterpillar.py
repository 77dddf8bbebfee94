"""Groups in order of their posterior means, with posterior intervals and BLUPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.core.fitted import Fit
from hierpool.core.options import options, percent
from hierpool.plots.sheet.layout import settle, sheet, titled
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
    panel_titles,
    title_height,
)
from hierpool.plots.sheet.lines import check_drawable
from hierpool.plots.sheet.style import BLUP, PARTIAL, RULE, Look, styled
from hierpool.plots.sheet.tables import LevelTable, find_interval, read_levels
from hierpool.plots.sheet.terms import terms_in_words

_BESIDE = 0.17


@dataclass(frozen=True)
class Estimates:
    """One kind of estimate with its intervals, each levels x terms.

    Attributes
    ----------
    look
        How it is drawn.
    words
        Its entry in the legend.
    middle, low, high
        Estimates and bounds.
    """

    look: Look
    words: str
    middle: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame

    def handle(self) -> Line2D:
        """Its entry in the legend."""
        style = {**self.look.both(4.0), "linewidth": 1.2, "label": self.words}
        return Line2D([], [], **style)


def caterpillar(
    posterior: pd.DataFrame | Fit,
    blup: pd.DataFrame | Fit | None = None,
    *,
    factor: str | None = None,
    terms: str | Sequence[str] | None = None,
    order_by: str | None = None,
    what: Literal["random effects", "coefficients"] = "random effects",
    response: str = "",
    label: str = "",
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Caterpillar plot: groups in order, with posterior intervals and BLUPs; a panel per term.

    Up to 150 groups are all named; of more, only some.

    Parameters
    ----------
    posterior
        ``fit.random_effects()`` or ``fit.coefficients()``: mean, sd and an interval named as
        ArviZ does; or the fit. A REML or ML fit, or its table, shows its BLUPs alone.
    blup
        The same table of a REML or ML fit (estimate, se), or the fit. Its intervals are normal,
        of the posterior's probability.
    factor
        Which factor; default: the first.
    terms
        Which terms; default: all.
    order_by
        The term whose posterior means give the order, from the highest; default: the first.
    what
        Content of the tables: random effects or coefficients.
    response, label
        Names of the response and the data for the title; taken from a fit.
    names
        Term -> what it is called above its panel, e.g. ``{"Intercept": "height at age 0 (cm)"}``;
        made from a fit.
    """
    if isinstance(posterior, Fit):
        design = posterior.design
        response, label = response or design.spec.response, label or design.label
        names = terms_in_words(design.schema) if names is None else names
    table = _table(posterior)
    beside = None if blup is None else _table(blup)
    with styled():
        is_alone = "mean" not in table and "estimate" in table  # BLUPs, and no posterior
        levels = read_levels(
            table, ["estimate", "se"] if is_alone else ["mean", "sd"], factor, terms
        )
        word = (table if beside is None else beside).attrs.get("blup", BLUP.name)
        kinds = [_blup(levels, options.prob, word) if is_alone else _posterior(levels)]
        if beside is not None:
            probability = _probability(levels)
            own = read_levels(beside, ["estimate", "se"], levels.factor, levels.terms)
            kinds.append(_blup(own, probability, word))
        first = levels.terms[0] if order_by is None else _checked(order_by, levels)
        figure = _draw(levels, kinds, first, what, response, label, names or {})
        settle(figure)
    return figure


def _table(source: pd.DataFrame | Fit) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source
    check_drawable(source, Fit, "caterpillar(model.fit(), model.reml())")
    return source.random_effects()


def _checked(term: str, levels: LevelTable) -> str:
    return read_levels(_with_factor(levels), [], None, term).terms[0]


def _with_factor(levels: LevelTable) -> pd.DataFrame:
    return levels.values.reset_index().assign(factor=levels.factor)


def _probability(levels: LevelTable) -> float:
    interval = find_interval(levels.values.columns)
    return interval.probability if interval else options.prob


def _posterior(levels: LevelTable) -> Estimates:
    middle, interval = levels.wide("mean"), find_interval(levels.values.columns)
    if interval is not None:
        words = f"posterior mean, {interval.words}"
        low, high = levels.wide(interval.low), levels.wide(interval.high)
        return Estimates(PARTIAL, words, middle, low, high)
    return _normal(
        PARTIAL,
        f"posterior mean, {percent()} % interval of a normal",
        middle,
        levels.wide("sd"),
        options.prob,
    )


def _blup(levels: LevelTable, probability: float, word: str) -> Estimates:
    words = f"{word}, {100 * probability:g} % interval"
    return _normal(BLUP, words, levels.wide("estimate"), levels.wide("se"), probability)


def _normal(
    look: Look, words: str, middle: pd.DataFrame, sd: pd.DataFrame, probability: float
) -> Estimates:
    times = NormalDist().inv_cdf(0.5 + probability / 2)
    return Estimates(look, words, middle, middle - times * sd, middle + times * sd)


def _draw(
    levels: LevelTable,
    kinds: Sequence[Estimates],
    order_by: str,
    what: str,
    response: str,
    label: str,
    names: Mapping[str, str],
) -> Figure:
    means = kinds[0].middle[order_by].sort_values(ascending=False, kind="stable")
    count, all_means = len(means), [(kind.look, kind.middle) for kind in kinds[:1]]
    means = means.iloc[few_of(count)]
    rows = level_rows(list(means.index), len(levels.terms))
    words = "Random effects" if what == "random effects" else "Coefficients"
    of = f" on {response}" if response and what == "random effects" else ""
    by = names.get(order_by, order_by)
    middle = kinds[0].words.split(",")[0]  # posterior mean, or what stands in its place
    order = f"Ordered by the {middle}: {by}." if len(levels.terms) > 1 else ""
    titles = panel_titles(rows, [names.get(term, term) for term in levels.terms])
    x_label = "random effect" if what == "random effects" else "coefficient"
    crowd = few_in_words(count, levels.factor)
    crowd = crowd and f"Top: density of the {middle}s of all groups. {crowd}"
    figure = sheet(
        titled(f"{words} of {levels.factor}{of}", label),
        rows.height + title_height(titles) + STRIP * (count > MANY),
        caption=" ".join(filter(None, [order, crowd, rows.note, levels.note])),
        legend=[kind.handle() for kind in kinds],
        x_label=x_label,
    )
    columns = add_panels(figure, rows, titles, strip=count > MANY)
    if count > MANY:
        draw_strips(columns[0], titles, all_means)
    for block, panels in zip(rows.blocks, columns, strict=True):
        guide(panels, rows, block)
        for ax, term in zip(panels, levels.terms, strict=True):
            if what == "random effects":
                ax.axvline(0, color=RULE, linewidth=0.7, zorder=1)
            for k, kind in enumerate(kinds):
                beside = _BESIDE * (1 - 2 * k) if len(kinds) > 1 else 0.0
                _draw_rows(ax, kind, term, means.index[block.start : block.stop], rows, beside)
    return figure


def _draw_rows(
    ax: Axes, kind: Estimates, term: str, names: pd.Index, rows: LevelRows, beside: float
) -> None:
    """Intervals and estimates of the named levels, a little above or below their row."""
    low, middle, high = (
        t[term].reindex(names).to_numpy() for t in (kind.low, kind.middle, kind.high)
    )
    heights = -np.arange(len(names)) + beside
    size = rows.thickness
    ax.hlines(
        heights,
        low,
        high,
        color=kind.look.color,
        linewidth=1.1 * size,
        linestyle=kind.look.linestyle if not rows.is_crowded else "-",
        alpha=1.0 if not rows.is_crowded else 0.5,
        zorder=2,
    )
    # Where rows are crowded the two coincide: the posterior's smaller dots go over the BLUPs.
    is_posterior = kind.look is PARTIAL
    dot = 2.8 if not rows.is_crowded else 0.9 if is_posterior else 1.8
    ax.plot(middle, heights, zorder=3.1 if is_posterior else 3, **kind.look.dots(dot))
