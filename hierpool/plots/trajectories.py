"""A panel for each group: data and lines of complete, no and partial pooling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.core.design import Design, Grouping, check_gaussian
from hierpool.core.errors import ArgumentError, listed
from hierpool.core.fitted import Fit
from hierpool.core.group_nouns import counted, noun
from hierpool.core.label_matching import find_level
from hierpool.plots import selection
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import (
    WIDTH,
    Picture,
    dress,
    name_categories,
    settle,
    sheet,
    titled,
)
from hierpool.plots.sheet.style import INK, MUTED, PANEL, POOLINGS, TINY, styled
from hierpool.plots.sheet.tables import some
from hierpool.plots.sheet.texts import elided_apart, text_width

_MOST_COLUMNS = 6
# Dots over the solid line: both are seen where they coincide.
_LAYERS = {"complete_pooling": 2.0, "partial_pooling": 2.2, "no_pooling": 2.4}
_LINE = 0.125  # inches of a line of small print above a panel
# Side by side over a category: the rows, then the estimates.
_DODGE = {"rows": -0.2, "complete_pooling": -0.02, "partial_pooling": 0.12, "no_pooling": 0.26}


@dataclass(frozen=True)
class Panels:
    """Everything that the panels show.

    Attributes
    ----------
    design, grouping, abscissa
        What is drawn, of which factor, over what.
    codes
        Positions of the levels that get a panel, in order.
    places
        Shape (n,): where each row stands along the panel, ties set apart.
    reasons
        Why each was taken; empty where all are shown or the user chose.
    along
        Shape (panels, m): where the lines of each panel are evaluated, no farther than its rows.
    heights
        Name of a pooling -> shape (panels, m).
    has_least_squares
        Whether the lines of no pooling are known to be that, as those of fits are.
    """

    design: Design
    grouping: Grouping
    abscissa: line.Abscissa
    codes: np.ndarray
    places: np.ndarray
    reasons: Mapping[int, str] = field(default_factory=dict)
    along: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    heights: Mapping[str, np.ndarray] = field(default_factory=dict)
    has_least_squares: bool = False

    @property
    def is_balanced(self) -> bool:
        """Whether all levels have the same number of rows."""
        return len(set(self.grouping.n_rows)) == 1

    def without_own_line(self) -> list[object]:
        """Levels on show without an own estimate."""
        own = self.heights.get("no_pooling")
        if own is None:
            return []
        unknown = (np.isnan(own) & self.abscissa.has_rows(self.grouping, self.codes)).any(axis=1)
        return list(self.grouping.levels[self.codes[unknown]])


def trajectories(
    design: Design | Mapping[str, Fit],
    lines: Mapping[str, line.Source] | None = None,
    *,
    factor: str | None = None,
    x: str | None = None,
    levels: Sequence[object] | None = None,
    most: int = 24,
    label: str | None = None,
) -> Figure:
    """Data and fitted lines: a panel per group, with complete, no and partial pooling.

    No pooling is least squares of each group's own rows where they determine it, also where the fit
    is a posterior. Lines end where the rows of the group end; estimates at categories are not joined.

    Parameters
    ----------
    design
        The rows, or, without ``lines``, fits by name; the last of each pooling is drawn.
    lines
        ``"complete_pooling"``, ``"no_pooling"``, ``"partial_pooling"`` -> coefficients: a table
        over (factor, level, term), one over term, or a pair of both for models in which some
        terms do not vary, ``(fit.coefficients(), fit.fixed_effects())``. Any may be left out.
    factor
        Whose groups get a panel; default: the first.
    x
        Predictor on the x axis; default: the first number that varies within groups, else the first
        category that does, else the order of the rows. Other predictors are set to the mean or the
        most common value of the group.
    levels
        Groups to show, by name. Default: all, or a selection of ``most`` that the panels and the
        caption explain.
    most
        Largest number of panels drawn by default.
    label
        Name of the data for the title; default: that of the design.

    Raises
    ------
    ArgumentError
        An unknown factor, predictor, level or line.
    UnsupportedModelError
        A response that is not Gaussian, whose lines are curves; ``hp.plots.effects`` draws them.
    """
    is_fits = not isinstance(design, Design)
    if not isinstance(design, Design):
        line.check_fits_by_name(design, "trajectories(fits)")
        design, lines = line.of_fits(design)
    check_gaussian(design.schema, "the picture of fitted lines")
    with styled():
        panels = arrange(design, lines or {}, factor, x, levels, most)
        own_is_known = is_fits and "no_pooling" in panels.heights
        panels = replace(panels, has_least_squares=own_is_known)
        figure = _draw(panels, design.label if label is None else label)
        settle(figure)
    return figure


def arrange(
    design: Design,
    lines: Mapping[str, line.Source],
    factor: str | None,
    x: str | None,
    levels: Sequence[object] | None,
    most: int,
) -> Panels:
    """Choose the levels and evaluate their lines."""
    line.check_names(lines)
    grouping = line.choose_grouping(design, factor)
    abscissa = line.choose_abscissa(design, grouping, x)
    tables = {k: line.level_coefficients(v, design, grouping) for k, v in lines.items()}
    reasons: dict[int, str] = {}
    if levels is not None:
        codes = _codes_of(levels, grouping)
    elif grouping.n_levels <= most:
        codes = np.arange(grouping.n_levels)
    else:
        every = line.evaluate(design, grouping, abscissa, tables, np.arange(grouping.n_levels))
        reasons = selection.choose(*_marks(every, design, grouping), grouping.n_rows, most)
        codes = np.array(list(reasons))
    heights = line.evaluate(design, grouping, abscissa, tables, codes)
    places = set_apart(abscissa.values, grouping.codes)
    if abscissa.kind == "category":
        places = abscissa.values + _DODGE["rows"] + 0.4 * (places - abscissa.values)
    along = abscissa.places(grouping, codes)
    return Panels(design, grouping, abscissa, codes, places, reasons, along, heights)


def _codes_of(levels: Sequence[object], grouping: Grouping) -> np.ndarray:
    if not len(levels):
        raise ArgumentError(
            f"levels=[] is empty; choose from {listed(grouping.levels)}",
            "unknown-choice",
        )
    return np.array([find_level(v, grouping.known) for v in levels])


def _marks(
    heights: Mapping[str, np.ndarray], design: Design, grouping: Grouping
) -> tuple[np.ndarray, np.ndarray]:
    """Shrinkage of each level, and where it lies."""
    own, pooled = heights.get("no_pooling"), heights.get("partial_pooling")
    mean = np.bincount(grouping.codes, design.y) / grouping.n_rows
    if pooled is None:
        return np.full(grouping.n_levels, np.nan), mean
    middle = _mean_of_known(pooled)
    if own is None:
        return np.full(grouping.n_levels, np.nan), middle
    return _mean_of_known(np.abs(own - pooled)), middle


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean of each row over what is not NaN; NaN where all is."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _draw(panels: Panels, label: str) -> Picture:
    count = len(panels.codes)
    n_columns = _columns(count)
    n_rows = -(-count // n_columns)
    width = (WIDTH - 0.7) / n_columns
    names = _titles(panels, width - 0.08)
    n_small = max(len(name.split("\n")) for name in names) - 1
    height = min(max(0.85 * width, 0.95), 2.6) + 0.2 + _LINE * n_small
    present = [name for name in POOLINGS if name in panels.heights]
    over, by = panels.abscissa.name, panels.grouping.factor
    response = panels.design.spec.response
    against = "" if panels.abscissa.kind == "order" else f" against {over},"
    over_categories = panels.abscissa.kind == "category"
    figure = sheet(
        titled(f"{response}{against} by {by}", label),
        n_rows * height + 0.3,
        caption=_caption(panels),
        legend=[_handle(name, over_categories) for name in present],
        x_label=over,
        y_label=response,
    )
    grid = figure.add_gridspec(n_rows, n_columns)
    for k, name in enumerate(names):
        ax = figure.add_subplot(grid[divmod(k, n_columns)])
        _draw_panel(ax, panels, k)
        _write_title(ax, name, n_small)
        ax.tick_params(labelleft=k % n_columns == 0, labelbottom=k + n_columns >= count)
    _set_limits(figure.axes, panels, width)
    return figure


def _handle(name: str, over_categories: bool) -> Line2D:
    return POOLINGS[name].dot_handle() if over_categories else POOLINGS[name].handle()


def _columns(count: int) -> int:
    """Columns of panels: a page wide at most, with the fewest panels missing in the last row."""
    if count <= 3:
        return count
    wide = min(int(np.ceil(np.sqrt(1.6 * count))), _MOST_COLUMNS)
    return min(range(wide, max(wide - 2, 1), -1), key=lambda c: -count % c)


def _titles(panels: Panels, width: float) -> list[str]:
    """Name of each level; under it its rows, if levels differ in them, and why it was taken.

    In one line where that fits, else in two: neither is shortened to nonsense.
    """
    names = elided_apart(list(panels.grouping.levels[panels.codes]), width, PANEL)
    rows = panels.grouping.n_rows[panels.codes]
    counts = ["" if panels.is_balanced else f"n = {n}" for n in rows]
    reasons = [panels.reasons.get(int(k), "").replace(selection.SPREAD, "") for k in panels.codes]
    pairs = [[part for part in pair if part] for pair in zip(counts, reasons, strict=True)]
    short = all(text_width(", ".join(pair), TINY) <= width for pair in pairs)
    tails = [", ".join(pair) if short else "\n".join(pair) for pair in pairs]
    return [f"{name}\n{tail}".strip() for name, tail in zip(names, tails, strict=True)]


def _write_title(ax: Axes, title: str, n_small: int) -> None:
    """The name above the panel; its rows and why it was taken, if said, smaller under it."""
    name, _, reason = title.partition("\n")
    style: dict[str, Any] = {"loc": "left", "fontsize": PANEL, "color": INK}
    ax.set_title(name, pad=3 + 72 * _LINE * n_small + 0.5 * bool(n_small), **style)
    if reason:
        ax.annotate(
            reason, (0, 1), (0, 2.5), xycoords="axes fraction", textcoords="offset points",
            size=TINY, color=MUTED, ha="left", va="bottom", linespacing=1.1,
        )  # fmt: skip


def _draw_panel(ax: Axes, panels: Panels, k: int) -> None:
    abscissa = panels.abscissa
    rows = panels.grouping.codes == panels.codes[k]
    dress(ax, whole_x=bool(np.all(abscissa.values == abscissa.values.round())))
    many = panels.grouping.n_rows.max() > 40
    ax.plot(
        panels.places[rows],
        panels.design.y[rows],
        linestyle="none",
        marker="o",
        markersize=2.4 if many else 3.0,
        color=MUTED,
        alpha=0.6 if many else 0.8,
        markeredgewidth=0,
        zorder=1.5,
    )
    along = panels.along[k]
    for name, heights in panels.heights.items():
        look = POOLINGS[name]
        if abscissa.kind == "category":
            ax.plot(along + _DODGE[name], heights[k], zorder=_LAYERS[name], **look.dots(4.0))
        elif along[0] == along[-1]:  # all rows at one place, where a line has no length
            ax.plot(along[:1], heights[k, :1], zorder=_LAYERS[name], **look.dots(4.0))
        else:
            ax.plot(along, heights[k], zorder=_LAYERS[name], **look.line)


def set_apart(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Values with small shifts for rows of one level that share a value; shape as values.

    The shifts follow the golden ratio: the same in every run, and without a pattern that the order
    of the rows could be mistaken for. Nothing moves where there are more than 12 values.
    """
    distinct = np.unique(values)
    if not 1 < len(distinct) <= 12:
        return values
    ties = pd.Series(values).groupby([codes, values])
    place, size = ties.cumcount().to_numpy(dtype=float), ties.transform("size").to_numpy()
    width = np.minimum(0.12 * (size - 1), 0.5) * np.diff(distinct).min()
    shift = np.where(size <= 3, place / np.maximum(size - 1, 1), (place * 0.618034) % 1.0)
    return np.asarray(values + (shift - 0.5) * width)


def _set_limits(axes: Sequence[Axes], panels: Panels, width: float) -> None:
    """One range for all panels, that of all rows and lines in them.

    Set on each, since axes that share it take longer to draw.
    """
    shown = np.isin(panels.grouping.codes, panels.codes)
    reach = np.concatenate([panels.design.y[shown], *(v.ravel() for v in panels.heights.values())])
    low, high = float(np.nanmin(reach)), float(np.nanmax(reach))
    pad = 0.06 * (high - low) or 1.0
    along = np.concatenate([panels.along.ravel(), panels.places[shown]])
    left, right = float(along.min()), float(along.max())
    margin = {"number": 0.05 * (right - left) or 1.0, "category": 0.25, "order": 0.0}
    if panels.abscissa.kind == "category":
        left, right = -0.25, len(panels.abscissa.categories) - 0.75
    aside = margin[panels.abscissa.kind]
    for ax in axes:
        ax.set_ylim(low - pad, high + pad)
        ax.set_xlim(left - aside, right + aside)
    if panels.abscissa.kind == "order" and right < 2:  # one row each
        for ax in axes:
            ax.set_xticks([1])
    if panels.abscissa.kind == "category":
        name_categories(axes, list(panels.abscissa.categories), width)


def _caption(panels: Panels) -> str:
    total, factor = panels.grouping.n_levels, panels.grouping.factor
    words = []
    if panels.reasons:
        chosen = selection.in_words(panels.reasons)
        words.append(f"{len(panels.codes)} of {counted(total, factor)}: {chosen}.")
    elif len(panels.codes) < total:
        words.append(f"{len(panels.codes)} of {counted(total, factor)}, chosen by name.")
    if panels.is_balanced:
        count = panels.grouping.n_rows[0]
        words.append("One row each." if count == 1 else f"{count} rows each.")
    if held := _held(panels):
        words.append(f"Set to the mean or most common value of the group: {', '.join(held)}.")
    if panels.has_least_squares:
        words.append(f"No pooling: least squares of the own rows of each {noun(factor)}.")
    unknown = panels.without_own_line()
    if len(unknown) == len(panels.codes):
        words.append("No group has a line of its own (no own estimate).")
    elif unknown:
        words.append(f"No own line (no own estimate): {some(unknown)}.")
    return " ".join(words)


def _held(panels: Panels) -> Iterable[str]:
    varying = line.varying(panels.design, panels.grouping)
    return [name for name in varying if name != panels.abscissa.name]
