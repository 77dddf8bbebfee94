"""The effect of a predictor: fitted means with their intervals, over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers.effects_table import EffectsTable
from hierpool.answers.expected_values import is_per_unit
from hierpool.answers.linear_predictors import Groups, Held
from hierpool.answers.marginal_means import marginal_means
from hierpool.answers.reference_grid import Predictors, Weights, names_of
from hierpool.answers.response_scale import ResponseScale, Scale
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.fitted import Fit, Optimum, Posterior
from hierpool.core.options import takes_prob
from hierpool.core.text import capital
from hierpool.plots.sheet.layout import (
    WIDTH,
    Picture,
    dress,
    name_categories,
    settle,
    sheet,
    titled,
)
from hierpool.plots.sheet.lines import check_drawable
from hierpool.plots.sheet.style import INK, LEGEND, MUTED, PANEL, Look, styled
from hierpool.plots.sheet.tables import Interval, find_interval
from hierpool.plots.sheet.texts import elided, elided_apart

LOOKS = (
    Look("", "#0072b2", "-", 1.6, "o"),
    Look("", "#d55e00", (0, (5, 1.6)), 1.6, "s"),
    Look("", "#007a5a", (0, (1, 1.2)), 1.8, "D"),
    Look("", "#9a5b93", (0, (4, 1.3, 1, 1.3)), 1.6, "^"),
    Look("", "#222222", (0, (7, 1.5)), 1.4, "v"),
    Look("", "#8a6d00", (0, (2, 1)), 1.6, "P"),
)
_GRID = 41
_MOST_PANELS = 9
_MOST_DOTS = 3000
_FEW_NUMBERS = 20
_SPREAD = 0.56  # of the unit between two categories, taken by the groups side by side


@dataclass(frozen=True)
class Shown:
    """What is drawn.

    Attributes
    ----------
    design
        The rows.
    x
        The predictor along the panels.
    by
        The predictor that tells lines apart, then that of the panels.
    means
        Index reset: ``x``, ``by`` and the columns of the marginal means.
    interval
        Of the means.
    attrs
        How the means were made.
    y
        Shape (n,): the response, as it is drawn; empty where there are only sums of the rows.
    used
        Shape (n,): which rows are drawn.
    scale
        Of the response.
    """

    design: Design
    x: str
    by: tuple[str, ...]
    means: pd.DataFrame
    interval: Interval
    attrs: Mapping[Any, Any]
    y: np.ndarray
    used: np.ndarray
    scale: ResponseScale

    @property
    def predictors(self) -> Predictors:
        """Those of the design."""
        return Predictors(self.design)

    @property
    def is_number(self) -> bool:
        """Whether ``x`` is drawn as a line."""
        return self.x not in self.predictors.categories

    @property
    def has_colours(self) -> bool:
        """Whether rows belong to lines: those of a number at some values belong to none."""
        return bool(self.by) and self.by[0] in self.predictors.categories

    def values(self, k: int) -> list[Any]:
        """Values of the predictor that tells lines (0) or panels (1) apart; None where none does."""
        return list(dict.fromkeys(self.means[self.by[k]])) if k < len(self.by) else [None]

    def rows_of(self, panel: Any, line: Any) -> np.ndarray:
        """Shape (n,): rows that belong to a line of a panel."""
        inside = self.used
        if self.design.is_summed:
            return inside
        for name, value in zip(self.by, (line, panel), strict=False):
            if name in self.predictors.categories:
                inside = inside & self.predictors.matches(self.design.frame, name, value)
        return inside

    def means_of(self, panel: Any, line: Any) -> pd.DataFrame:
        """Means of a line of a panel."""
        table = self.means
        for name, value in zip(self.by, (line, panel), strict=False):
            table = table[table[name] == value]
        return table


@takes_prob
def effects(
    fit: IntegratedPosterior | Optimum,
    x: str | None = None,
    by: str | Sequence[str] | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    groups: Groups | None = None,
    scale: Scale = "response",
    prob: float | None = None,
    label: str | None = None,
) -> Figure:
    """Fitted means over a predictor, with their intervals, over the data.

    A number is drawn as a line with a band, a category as points with intervals. Lines end where
    the data of their group end. The means are those of ``hp.marginal_means``.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` or a ``LikelihoodFit``.
    x
        The predictor along the panel; default the first of the formula.
    by
        A predictor whose values have a line each, at most six; a second one has a panel for each
        of its values. A number needs its values in ``at=``.
    at
        Values of predictors. Where a category is held at one, only its rows are drawn.
    weights, groups, scale, prob
        As in ``hp.marginal_means``. Of a single group only its rows are drawn.
    label
        Name of the data for the title; default the design's own.

    Raises
    ------
    ArgumentError
        An unknown predictor, or too many lines or panels.
    """
    check_drawable(fit, Fit, 'effects(model.fit(), "time")')
    if x is None and not fit.design.predictors:
        raise UnsupportedModelError(
            f"{fit.design.spec.formula} has no predictor, so there is no effect to draw.",
            "no-terms",
        )
    with styled():
        first = fit.design.predictors[0] if x is None else x
        shown = _shown(fit, first, names_of(by), dict(at or {}), weights, groups, scale, prob)
        figure = _draw(shown, isinstance(fit, Posterior), label)
        settle(figure)
    return figure


def _shown(
    fit: IntegratedPosterior | Optimum,
    x: str,
    by: list[str],
    at: dict[str, Any],
    weights: Weights,
    groups: Groups | None,
    scale: Scale,
    prob: float | None,
) -> Shown:
    """Evaluate the means, and choose the rows."""
    predictors = Predictors(fit.design)
    for name, role in [(x, "x"), *((name, "by=") for name in by)]:
        predictors.check(name, role)
    if len(by) > 2:
        raise ArgumentError(
            "by= takes one predictor for lines and one for panels: name two at most", "bad-grid"
        )
    given = dict(at)
    if x not in predictors.categories and x not in at:
        given[x] = _grid(predictors, x, by)
    made = marginal_means(
        fit, x, by=by[::-1], at=given, weights=weights, groups=groups, scale=scale, prob=prob
    )
    assert isinstance(made, EffectsTable)
    interval = find_interval(made.columns)
    assert interval is not None
    to = ResponseScale.of(fit.design, scale)
    y, used = np.zeros(0), np.zeros(0, dtype=bool)
    if not fit.design.is_summed:
        y = response_of_rows(fit.design, to, [x, *by, *at])
        held = Held.usual(fit.design, groups, is_curved=to.mean is not None)
        used = _used(predictors, held, at) & np.isfinite(y)
    # A predictor may be called t or p, as a column of the table is.
    means = pd.DataFrame(made.drop(columns=[c for c in made if c in made.index.names]))
    means = means.reset_index()
    shown = Shown(fit.design, x, tuple(by), means, interval, made.attrs, y, used, to)
    for k, most, what in ((0, len(LOOKS), "lines in a panel"), (1, _MOST_PANELS, "panels")):
        if len(shown.values(k)) > most:
            raise ArgumentError(
                f"{by[k]!r} has {len(shown.values(k))} values, and {most} {what} are the most. "
                f"Choose some with at={{{by[k]!r}: [...]}}",
                "bad-grid",
            )
    return shown


def response_of_rows(design: Design, scale: ResponseScale, exposed: Sequence[str]) -> np.ndarray:
    """Shape (n,): the response on the scale of the means; NaN where rows have no such number."""
    family = design.family
    if family is None:
        return design.y if scale.back is None else scale.back.inverse(design.y)
    if scale.mean is None:
        return design.y if family.link == "identity" else np.full(design.n, np.nan)
    y = design.y / design.trials + (1.0 if family.has_thresholds else 0.0)
    return y / np.exp(design.offset) if is_per_unit(design, exposed) else y


def _grid(predictors: Predictors, x: str, by: Sequence[str]) -> list[float]:
    """Values of a number at which the means are taken: even ones, and the ends of each group."""
    values = predictors.numbers(x)
    points = [np.linspace(values.min(), values.max(), _GRID)]
    names = [n for n in by if n in predictors.categories]
    if names and not predictors.loses([x]):
        codes = [predictors.coded(predictors.frame, n) for n in names]
        ends = pd.Series(values).groupby(codes).agg(["min", "max"])
        points.append(ends.to_numpy().ravel())
    return np.unique(np.concatenate(points)).tolist()


def _used(predictors: Predictors, held: Held, at: Mapping[str, Any]) -> np.ndarray:
    """Shape (n,): rows that agree with what is held."""
    design = predictors.design
    used = np.ones(design.n, dtype=bool)
    for name, value in at.items():
        if name in predictors.categories:
            each = [predictors.find(name, v) for v in names_of(value)]
            used &= np.any([predictors.matches(design.frame, name, v) for v in each], axis=0)
    for group, level in zip(design.groups, held.levels, strict=True):
        if level is not None:
            used &= group.grouping.codes == level
    return used


def _draw(shown: Shown, is_posterior: bool, label: str | None) -> Picture:
    lines, panels = shown.values(0), shown.values(1)
    n_columns = min(len(panels), 3)
    n_rows = -(-len(panels) // n_columns)
    height = 3.1 if len(panels) == 1 else 1.9
    over = "over" if shown.is_number else "by"
    measured = shown.scale.measured
    of = shown.design.label if label is None else label
    figure = sheet(
        titled(f"{measured} {over} {shown.x}", of),
        n_rows * height,
        caption=_caption(shown, is_posterior),
        legend=_legend(shown, lines),
        x_label=shown.x,
        y_label=measured,
    )
    grid = figure.add_gridspec(n_rows, n_columns)
    width = (WIDTH - 0.8) / n_columns
    for k, panel in enumerate(panels):
        ax = figure.add_subplot(grid[divmod(k, n_columns)])
        dress(ax, whole_x=shown.is_number and _is_whole(shown))
        for j, line in enumerate(lines):
            aside = _SPREAD * ((j + 0.5) / len(lines) - 0.5)
            if not shown.design.is_summed and (j == 0 or shown.has_colours):
                color = LOOKS[j].color if shown.has_colours else MUTED
                place = aside if shown.has_colours else 0.0
                _draw_dots(ax, shown, shown.rows_of(panel, line), color, place)
            _draw_means(ax, shown, panel, line, LOOKS[j], aside)
        if panel is not None:
            title = elided(f"{shown.by[1]} {panel}", width, PANEL)
            ax.set_title(title, loc="left", fontsize=PANEL, color=INK, pad=3)
        ax.tick_params(labelleft=k % n_columns == 0, labelbottom=k + n_columns >= len(panels))
    _set_limits(figure.axes, shown, width)
    return figure


def _is_whole(shown: Shown) -> bool:
    values = shown.predictors.numbers(shown.x)
    return bool(np.all(values == values.round()) and np.ptp(values) > 1)


def _legend(shown: Shown, lines: Sequence[Any]) -> list[Line2D]:
    """An entry for each line, where there are several."""
    if lines == [None]:
        return []
    room = (WIDTH - 0.3) / len(lines) - 0.5
    names = [f"{shown.by[0]} {value}" if k == 0 else str(value) for k, value in enumerate(lines)]
    entries = []
    for name, look in zip(elided_apart(names, room, LEGEND), LOOKS, strict=False):
        style = look.line if shown.is_number else look.dots(5.0)
        entries.append(Line2D([], [], label=name, **style))
    return entries


def _along(shown: Shown, frame: pd.DataFrame) -> np.ndarray:
    """Places of values along the axis: the number, or the position of the category."""
    values = shown.predictors.coded(frame, shown.x)
    if shown.is_number:
        return values
    order = pd.Index(_places(shown)[0])
    return order.get_indexer(pd.Index(values)).astype(float)


def _places(shown: Shown) -> tuple[np.ndarray, list[Any]]:
    """The categories on the axis, as numbers and as labels."""
    labels = list(dict.fromkeys(shown.means[shown.x]))
    return shown.predictors.coded(pd.DataFrame({shown.x: labels}), shown.x), labels


def _draw_dots(ax: Axes, shown: Shown, rows: np.ndarray, color: str, aside: float) -> None:
    """The rows as dots, thinned evenly where there are thousands."""
    at = np.flatnonzero(rows)
    at = at[:: -(-len(at) // _MOST_DOTS)] if len(at) else at
    along = _along(shown, shown.design.frame.iloc[at])
    if not shown.is_number:  # a category that is not drawn has no place
        at, along = at[along >= 0], along[along >= 0]
    shift = (np.arange(len(along)) * 0.618034) % 1.0 - 0.5  # without a pattern of its own
    spread = 0.5 * _SPREAD / (len(shown.values(0)) if shown.has_colours else 1)
    along = along + _room(shown) * (aside + spread * shift)
    many = len(at) > 200
    ax.plot(
        along,
        shown.y[at],
        linestyle="none",
        marker="o",
        markersize=1.8 if many else 2.6,
        markeredgewidth=0,
        color=color,
        alpha=0.3 if many else 0.45,
        zorder=1.5,
    )


def _room(shown: Shown) -> float:
    """How far dots may stand aside: 1 between categories, less between few numbers, else 0."""
    if not shown.is_number:
        return 1.0
    different = np.unique(shown.predictors.numbers(shown.x))
    return 0.4 * float(np.diff(different).min()) if len(different) <= _FEW_NUMBERS else 0.0


def _draw_means(ax: Axes, shown: Shown, panel: Any, line: Any, look: Look, aside: float) -> None:
    means = shown.means_of(panel, line)
    along = _along(shown, means)
    middle, low, high = (
        means[c].to_numpy()
        for c in (means.columns[1 + len(shown.by)], shown.interval.low, shown.interval.high)
    )
    if not shown.is_number:
        ax.vlines(along + aside, low, high, color=look.color, linewidth=1.6, zorder=2.8)
        ax.plot(along + aside, middle, zorder=3, **look.dots(5.0))
        return
    rows = shown.rows_of(panel, line)
    if rows.any():
        own = shown.predictors.numbers(shown.x)[rows]
        inside = (along >= own.min()) & (along <= own.max())
        along, middle, low, high = (v[inside] for v in (along, middle, low, high))
    ax.fill_between(along, low, high, color=look.color, alpha=0.16, linewidth=0, zorder=2)
    ax.plot(along, middle, zorder=3, **look.line)


def _set_limits(axes: Sequence[Axes], shown: Shown, width: float) -> None:
    """One range for all panels, with all rows and intervals in it."""
    drawn = [np.concatenate([line.get_ydata() for line in ax.lines]) for ax in axes]
    bounds = shown.means[[shown.interval.low, shown.interval.high]].to_numpy().ravel()
    values = np.concatenate([*drawn, bounds])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    pad = 0.05 * (high - low) or 1.0
    for ax in axes:
        ax.set_ylim(low - pad, high + pad)
        if shown.is_number:
            x = np.concatenate([line.get_xdata() for line in ax.lines])
            spread = 0.04 * float(np.ptp(x)) or 1.0
            ax.set_xlim(float(x.min()) - spread, float(x.max()) + spread)
    if not shown.is_number:
        labels = _places(shown)[1]
        name_categories(axes, labels, width)
        for ax in axes:
            ax.set_xlim(-0.5, len(labels) - 0.5)


def _caption(shown: Shown, is_posterior: bool) -> str:
    kind = "interval of the posterior" if is_posterior else "confidence interval"
    mark = "Line and band" if shown.is_number else "Points and bars"
    mean = "geometric mean" if shown.scale.has_ratios else "mean"
    words = [f"{mark}: fitted {mean} and {100 * shown.interval.probability:g} % {kind}."]
    words += [f"{capital(line)}." for line in shown.attrs["head"][1:2]]
    drawn = int(shown.used.sum())
    rest = [n for n in shown.predictors.names if n not in (shown.x, *shown.by)]
    adjusted = ", not adjusted for the other predictors" if rest else ""
    of = f"{drawn} of {shown.design.n} rows" if drawn < shown.design.n else "the rows"
    some = ", some of them" if drawn > _MOST_DOTS else ""
    if not shown.design.is_summed:
        words.append(f"Dots: {of}{some}{adjusted}.")
    words += [f"{capital(found['text'])}" for found in shown.attrs["findings"]]
    return " ".join(words)
