"""Sheets: figures with strips for title, legend and caption, on which no two texts collide."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from hierpool.core.writing import check_file, write_file
from hierpool.plots.sheet.style import (
    DPI,
    INK,
    LABEL,
    LEGEND,
    MUTED,
    NO_LETTER,
    RULE,
    SMALL,
    TINY,
    TITLE,
    UNHINTED,
)
from hierpool.plots.sheet.texts import elided, elided_apart, text_width, touching, wrapped

WIDTH = 7.2  # inches: the text of an A4 or letter page
EDGE = 0.08
_LEADING = 1.35  # height of a line in units of its font size
_LONGEST_CAPTION = 6
_MOST_TICKS = 5


class Picture(Figure):
    """A matplotlib Figure that pyplot does not know and that a notebook shows by itself."""

    def draw(self, renderer: RendererBase) -> None:
        """As matplotlib's, with texts as wide as they were when they were laid out, at any dpi."""
        with rc_context(UNHINTED):
            super().draw(renderer)

    def savefig(self, fname: Any, **arguments: Any) -> None:
        """As matplotlib's; a letter that no installed font has is a box, without a warning.

        A file that is there is replaced when the new one is complete.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", NO_LETTER)
            if not isinstance(fname, (str, PathLike)):
                super().savefig(fname, **arguments)
                return
            path = check_file(_with_suffix(Path(fname), arguments.get("format")))
            buffer = BytesIO()
            named = {"format": path.suffix.removeprefix(".").lower(), **arguments}
            super().savefig(buffer, **named)
        write_file(path, buffer.getbuffer())

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def _with_suffix(path: Path, form: str | None) -> Path:
    """The path with the suffix that matplotlib gives a name without one."""
    if form or path.suffix:
        return path
    return path.with_name(f"{path.name}.{rcParams['savefig.format']}")


def sheet(
    title: str,
    height: float,
    *,
    caption: str = "",
    legend: Sequence[Line2D] = (),
    x_label: str = "",
    y_label: str = "",
    width: float = WIDTH,
) -> Picture:
    """An empty figure with title, legend, common axis labels and caption in place.

    Parameters
    ----------
    title, caption
        Wrapped to the width of the figure.
    height
        Inches for the panels; the strips come on top of it.
    legend
        Entries, in one row under the title.
    x_label, y_label
        Labels common to all panels.
    width
        Inches.
    """
    title, x_label, y_label = (_plain(text) for text in (title, x_label, y_label))
    inside = width - 2 * EDGE
    heads = wrapped(title, inside, TITLE, 3)
    notes = wrapped(caption, inside, SMALL, _LONGEST_CAPTION)
    top = EDGE + len(heads) * _line(TITLE) + (0.24 if legend else 0.04)
    common = _line(LABEL) + 0.03 if x_label else 0.0
    foot = len(notes) * _line(SMALL) + (0.05 if notes else 0.0)
    bottom, left = EDGE + foot + common, EDGE / 2 + (_line(LABEL) if y_label else 0.0)
    tall = height + top + bottom
    figure = Picture(figsize=(width, tall), dpi=DPI)
    FigureCanvasAgg(figure)
    rect = (left / width, bottom / tall, 1 - (left + EDGE) / width, 1 - (top + bottom) / tall)
    figure.set_layout_engine(
        ConstrainedLayoutEngine(rect=rect, w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    )
    _write_lines(figure, heads, TITLE, 1 - EDGE / tall, INK)
    _write_lines(figure, notes, SMALL, (EDGE + foot - 0.05) / tall, MUTED)
    if legend:
        _place_legend(figure, legend, 1 - (top - 0.24) / tall)
    middle: dict[str, Any] = {"size": LABEL, "color": INK}
    if x_label:
        place = (rect[0] + rect[2] / 2, (bottom - 0.03) / tall)
        figure.text(*place, elided(x_label, inside - left, LABEL), ha="center", va="top", **middle)
    if y_label:
        place = (EDGE / 2 / width, rect[1] + rect[3] / 2)
        words = elided(y_label, height, LABEL)
        figure.text(*place, words, rotation=90, ha="left", va="center", **middle)
    return figure


def _plain(text: str) -> str:
    """Without the backticks that a name needs in a formula."""
    return text.replace("`", "")


def _line(size: float) -> float:
    return _LEADING * size / 72


def _write_lines(figure: Figure, lines: Iterable[str], size: float, top: float, color: str) -> None:
    x, tall = EDGE / figure.get_figwidth(), figure.get_figheight()
    for k, text in enumerate(lines):
        y = top - k * _line(size) / tall
        figure.text(x, y, text, size=size, color=color, ha="left", va="top")


def _place_legend(figure: Figure, handles: Sequence[Line2D], top: float) -> None:
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(EDGE / figure.get_figwidth(), top),
        ncols=len(handles),
        fontsize=LEGEND,
        frameon=False,
        borderpad=0.2,
        borderaxespad=0.0,
        handlelength=2.2,
        columnspacing=1.6,
    )


def number(value: float, _: int | None = None) -> str:
    """A tick's number as one would write it, with a true minus sign."""
    return f"{value:.8g}".replace("-", "−")


def dress(ax: Axes, *, whole_x: bool = False) -> None:
    """Ticks of our size and numbers of our writing on both axes of a panel."""
    ax.tick_params(labelsize=TINY, labelcolor=MUTED, color=RULE, length=2.5, width=0.6, pad=2)
    for axis, whole in ((ax.xaxis, whole_x), (ax.yaxis, False)):
        axis.set_major_locator(ticks_at_most(_MOST_TICKS, whole))
        axis.set_major_formatter(FuncFormatter(number))


def ticks_at_most(most: int, whole: bool = False) -> MaxNLocator:
    """Round ticks, at most this many intervals; ``whole``: at whole numbers only."""
    return MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10], integer=whole)


def write_axis_labels(ax: Axes, x: str, y: str, width: float, height: float) -> None:
    """Axis labels of a panel, in two lines where they are wider than it is, in inches."""
    ax.set_xlabel("\n".join(wrapped(_plain(x), width, LABEL, 2)), size=LABEL, labelpad=2)
    ax.set_ylabel("\n".join(wrapped(_plain(y), height, LABEL, 2)), size=LABEL, labelpad=2)


def name_categories(axes: Sequence[Axes], names: Sequence[object], width: float) -> None:
    """Ticks at 0, 1, ... with names: level where they fit, else upright, else every second, ..."""
    room = (width - 0.3) / len(names)
    upright = max(text_width(str(name), TINY) for name in names) > 0.9 * room
    every = max(1, int(np.ceil(0.14 / room))) if upright else 1
    words = elided_apart(list(names[::every]), 0.9 if upright else room, TINY)
    for ax in axes:
        ax.set_xticks(np.arange(len(names))[::every], words, rotation=90 if upright else 0)


def settle(figure: Figure) -> None:
    """Lay the panels out, with fewer ticks where their labels would touch, and keep them there."""
    for most in range(_MOST_TICKS, 0, -1):
        for axis in _axes_with_free_ticks(figure):
            axis.get_major_locator().set_params(nbins=most)  # type: ignore[call-arg]
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
        if not _tick_labels_touch(figure):
            break
    figure.set_layout_engine("none")


def _axes_with_free_ticks(figure: Figure) -> list[Axis]:
    every = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    return [axis for axis in every if isinstance(axis.get_major_locator(), MaxNLocator)]


def _tick_labels_touch(figure: Figure) -> bool:
    boxes = [box for axis in _axes_with_free_ticks(figure) for box in _label_boxes(axis)]
    return bool(touching(boxes).any())


def _label_boxes(axis: Axis) -> list[Bbox]:
    low, high = sorted(axis.get_view_interval())
    labels = [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    shown = [t for t in labels if t.get_visible() and t.get_text()]
    return [t.get_window_extent().expanded(1.0, 1.0).padded(2.0) for t in shown]


def titled(text: str, label: str) -> str:
    """A title with the label of the data, where there is one."""
    return f"{text} — {label}" if label else text
