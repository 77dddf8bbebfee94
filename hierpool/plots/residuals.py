"""Residuals over time or another predictor, with a line for each group and outliers named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from hierpool.algebra.correlated.residuals import normalised
from hierpool.checks.residuals.quantile_residuals import quantile_residuals
from hierpool.core.design import Design, Grouping
from hierpool.core.fitted import Fit, Posterior
from hierpool.core.group_nouns import noun
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import (
    Picture,
    dress,
    name_categories,
    settle,
    sheet,
    titled,
    write_axis_labels,
)
from hierpool.plots.sheet.level_rows import MANY
from hierpool.plots.sheet.style import MUTED, ODD, PARTIAL, RULE, TINY, styled
from hierpool.plots.sheet.tables import rounded
from hierpool.plots.sheet.texts import elided, elided_apart, write_names
from hierpool.plots.trajectories import set_apart

_HEIGHT = 3.0
_WIDE = 5.4  # inches of the panel of rows
_FEW_VALUES = 12  # distinct values of the predictor, up to which each has a mean of its own
_BANDWIDTH = 0.12  # of the smooth, in ranges of the predictor
_CHANCE = 0.05  # that any row of a model that holds is called outlying
_NAMED = 6
_FEW_TIES = 0.1  # share of rows that stand where another row of their level does


@dataclass(frozen=True)
class Residuals:
    """Residuals, and where they stand.

    Attributes
    ----------
    design, grouping, abscissa
        Of the fit; along what they are drawn.
    places, values
        Shape (n,): positions along the panel, and residuals, divided by the row's relative sd.
    sigma
        Residual sd that the fit estimates; 1 where those of the rows are known.
    is_joined
        Whether the rows of a level are joined: one at each place, in an order.
    """

    design: Design
    grouping: Grouping
    abscissa: line.Abscissa
    places: np.ndarray
    values: np.ndarray
    sigma: float
    is_joined: bool

    @property
    def limit(self) -> float:
        """Residual from which a row is outlying: beyond what the largest of n normal ones reach."""
        return float(self.sigma * stats.norm.isf(_CHANCE / 2 / self.design.n))

    @property
    def odd(self) -> np.ndarray:
        """Positions of the outlying rows, the worst first."""
        far = np.flatnonzero(np.abs(self.values) > self.limit)
        return far[np.argsort(-np.abs(self.values[far]), kind="stable")]

    @property
    def is_weighted(self) -> bool:
        """Whether rows have residual sds of their own."""
        return self.design.residual.varies


def residuals(fit: Fit, *, factor: str | None = None, x: str | None = None) -> Figure:
    """Residuals over time or another predictor, joined within groups, with their mean.

    A mean that departs from zero shows misfit. Lines that stay on one side or fan out show serial
    correlation or unequal variances. On the right: the distribution of the residuals, with the
    normal distribution of the fitted sd.

    Of responses that are not Gaussian they are randomised quantile residuals (Dunn and Smyth 1996),
    standard normal if the model holds: the cdf of each row, as a normal quantile, with a random
    number between the steps of a discrete response.

    Parameters
    ----------
    fit
        A posterior; of a Gaussian response also a REML, ML or least-squares fit.
    factor
        Whose groups are joined; default: the first.
    x
        Predictor on the x axis; default: the first number that varies within groups, else the first
        category that does, else the order of the rows.

    Raises
    ------
    ArgumentError
        An unknown factor or predictor.
    UnsupportedModelError
        A model without groups.
    """
    line.check_drawable(fit, Fit, "residuals(model.fit())")
    design = fit.design
    grouping = line.choose_grouping(design, factor)
    abscissa = _along(design, grouping, x)
    places, joined = abscissa.values, _is_joined(grouping, abscissa)
    if not joined:
        places = places + 0.6 * (set_apart(places, np.zeros(design.n)) - places)
    values, sigma = _values(fit)
    shown = Residuals(design, grouping, abscissa, places, values, sigma, joined)
    with styled():
        return _draw(shown)


def _values(fit: Fit) -> tuple[np.ndarray, float]:
    """Shape (n,): residuals that have one sd, and that sd."""
    if fit.design.family is None:
        phi = fit.residual_parameters
        at = None if phi is None else phi.mean(axis=0)
        return normalised(fit.design, fit.residuals().to_numpy(), at), _sigma(fit)
    line.check_has_draws(fit, "residuals(fit)")
    assert isinstance(fit, Posterior)
    return quantile_residuals(fit).to_numpy(), 1.0


def _along(design: Design, grouping: Grouping, x: str | None) -> line.Abscissa:
    """As in trajectories; the rows in their order where each is all that its level has."""
    chosen = line.choose_abscissa(design, grouping, x)
    if chosen.kind != "order" or chosen.values.max() > 1:
        return chosen
    order = np.arange(1.0, design.n + 1)
    return line.Abscissa("rows in order", "order", order)


def _is_joined(grouping: Grouping, abscissa: line.Abscissa) -> bool:
    """Whether a level has one row at each place, as over time; a category has no order.

    Thousands of lines would show nothing but their own ink.
    """
    if abscissa.kind == "category" or grouping.n_levels > MANY:
        return False
    seen = pd.DataFrame({"level": grouping.codes, "place": abscissa.values})
    return bool(seen.duplicated().mean() < _FEW_TIES)


def _sigma(fit: Fit) -> float:
    if not fit.design.residual.has_sigma:
        return 1.0
    row = fit.variance_components().loc["residual"].iloc[0]
    return float(row["mean" if "mean" in row.index else "estimate"])


def _draw(shown: Residuals) -> Picture:
    design, abscissa = shown.design, shown.abscissa
    over = f" over {abscissa.name}" if abscissa.kind != "order" else ""
    figure = sheet(
        titled(f"Residuals of {design.spec.response}{over}", design.label),
        _HEIGHT,
        caption=_caption(shown),
        legend=_legend(shown),
    )
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[_WIDE, 1.1])
    _draw_rows(left, shown)
    _draw_distribution(right, shown)
    words = (
        "residual / its relative sd" if shown.is_weighted else f"residual ({design.spec.response})"
    )
    if design.family is not None:
        words = f"quantile residual ({design.spec.response})"
    write_axis_labels(left, abscissa.name, words, _WIDE, 0.85 * _HEIGHT)
    if abscissa.kind == "category":
        name_categories([left], list(abscissa.categories), _WIDE)
    settle(figure)
    _name_rows(left, shown)
    return figure


def _legend(shown: Residuals) -> list[Line2D]:
    thread: dict[str, Any] = {"color": MUTED, "alpha": 0.6, "linewidth": 0.7}
    words = f"rows of a {elided(noun(shown.grouping.factor), 1.6, TINY)}"
    if not shown.is_joined:
        words, thread["linestyle"] = "row", "none"
    handles = [
        Line2D([], [], label=words, **thread, marker="o", markersize=2.2),
        Line2D([], [], label="mean, ± 2 se", **PARTIAL.line),
    ]
    if len(shown.odd):
        odd: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": "none"}
        handles.append(Line2D([], [], label="outlier", color=ODD, **odd))
    return handles


def _draw_rows(ax: Axes, shown: Residuals) -> None:
    dress(ax, whole_x=bool(np.all(shown.abscissa.values == shown.abscissa.values.round())))
    J, n = shown.grouping.n_levels, shown.design.n
    faint = float(np.clip(8 / np.sqrt(J), 0.06, 0.6))
    size = float(np.clip(3.0 * (200 / max(n, 200)) ** 0.35, 0.8, 3.0))
    if shown.is_joined:
        x, y = _threads(shown, np.arange(J))
        ax.plot(x, y, color=MUTED, linewidth=0.6, alpha=faint, zorder=1.5)
        x, y = _threads(shown, np.unique(shown.grouping.codes[shown.odd[:_NAMED]]))
        ax.plot(x, y, color=ODD, linewidth=0.8, alpha=0.55, zorder=2.2)
    dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0}
    alpha = max(faint, 0.25)
    ax.plot(
        shown.places, shown.values, markersize=size, color=MUTED, alpha=alpha, zorder=1.6, **dots
    )
    odd = shown.odd
    ax.plot(shown.places[odd], shown.values[odd], markersize=4, color=ODD, zorder=2.6, **dots)
    at, middle, half = _smooth(shown)
    if len(at) <= _FEW_VALUES and not shown.is_joined:
        ax.errorbar(at, middle, half, fmt="o", color=PARTIAL.color, markersize=4.5, zorder=3)
    else:
        ax.fill_between(
            at,
            middle - half,
            middle + half,
            color=PARTIAL.color,
            alpha=0.2,
            linewidth=0,
            zorder=2.4,
        )
        ax.plot(at, middle, zorder=3, **PARTIAL.line)
    ax.axhline(0, color=RULE, linewidth=0.7, zorder=1)
    for side in (-2, 2):
        ax.axhline(side * shown.sigma, color=RULE, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)


def _threads(shown: Residuals, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of these levels along the panel, one level after the other, a gap (NaN) between them."""
    rows = np.flatnonzero(np.isin(shown.grouping.codes, codes))
    own = shown.grouping.codes[rows]
    rows = rows[np.lexsort((shown.places[rows], own))]
    ends = np.flatnonzero(np.diff(shown.grouping.codes[rows])) + 1
    return (
        np.insert(shown.places[rows], ends, np.nan),
        np.insert(shown.values[rows], ends, np.nan),
    )


def _smooth(shown: Residuals) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where, mean, and two standard errors of it, all rows taken for independent."""
    x, y = shown.abscissa.values, shown.values
    distinct = np.unique(x)
    if len(distinct) <= _FEW_VALUES or shown.abscissa.kind == "category":
        by_value = pd.Series(y).groupby(x)
        return distinct, by_value.mean().to_numpy(), 2 * shown.sigma / np.sqrt(by_value.size())
    grid = np.linspace(distinct[0], distinct[-1], line.GRID)
    return grid, *_local_lines(x, y, grid, shown.sigma)


def _local_lines(
    x: np.ndarray, y: np.ndarray, grid: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Local linear regression with normal weights: heights at the grid, and two standard errors."""
    width = _BANDWIDTH * (grid[-1] - grid[0])
    heights, errors = np.empty(len(grid)), np.empty(len(grid))
    for k, at in enumerate(grid):
        off = (x - at) / width
        weight = np.exp(-0.5 * off**2)
        s0, s1, s2 = weight.sum(), (weight * off).sum(), (weight * off**2).sum()
        row = weight * (s2 - off * s1) / max(s0 * s2 - s1**2, np.finfo(float).tiny)
        heights[k], errors[k] = row @ y, 2 * sigma * np.sqrt(row @ row)
    return heights, errors


def _draw_distribution(ax: Axes, shown: Residuals) -> None:
    dress(ax)
    n = shown.design.n
    bins = int(np.clip(n // 12, 6, 40))
    counts, edges = np.histogram(shown.values, bins)
    ax.stairs(counts, edges, orientation="horizontal", color=MUTED, linewidth=1.0, baseline=0)
    grid = np.linspace(edges[0], edges[-1], 101)
    normal = n * (edges[1] - edges[0]) * stats.norm.pdf(grid, 0, shown.sigma)
    ax.plot(normal, grid, **PARTIAL.line)
    ax.set_xlim(0, 1.08 * max(counts.max(), normal.max()))
    ax.tick_params(labelleft=False, left=False)
    write_axis_labels(ax, "rows", "", 1.0, _HEIGHT)


def _name_rows(ax: Axes, shown: Residuals) -> None:
    worst = shown.odd[:_NAMED]
    if not len(worst):
        return
    points = np.column_stack([shown.places, shown.values])
    levels = shown.grouping.levels[shown.grouping.codes[worst]]
    names = [
        f"{level} (row {elided(shown.design.rows[i], 0.5, TINY)})"
        for i, level in zip(worst, elided_apart(list(levels), 1.2, TINY), strict=True)
    ]
    write_names(ax, points[worst], names, obstacles=points, most_covered=10)


def _caption(shown: Residuals) -> str:
    sigma = rounded(shown.sigma)
    words = [f"Dashed: ± 2 residual sds of {sigma}. Right: all rows and the normal distribution."]
    if shown.design.family is not None:
        words = [
            "Randomised quantile residuals: standard normal if the model holds. Dashed: ± 2. Right: all "
            "rows and the normal distribution."
        ]
    if shown.is_weighted:
        words.append("Each residual is divided by the relative sd of its row.")
    odd = len(shown.odd)
    if odd:
        named = f", the first {_NAMED} named" if odd > _NAMED else ""
        words.append(
            f"{odd} of {shown.design.n} rows are outliers: beyond {rounded(shown.limit)}, which normal "
            f"residuals exceed in 5 % of data sets{named}."
        )
    else:
        words.append("No row is an outlier.")
    if len(shown.design.groupings) > 1:
        words.append(f"Joined by {shown.grouping.factor}; choose another with factor=.")
    return " ".join(words)
