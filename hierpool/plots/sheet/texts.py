"""Texts measured before they are drawn: shortened, wrapped, laid beside points without collisions.

Names that come from the user are drawn as they are: a ``$`` in them starts no mathematics.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from hierpool.plots.sheet.style import DPI, INK, MUTED, TINY, UNHINTED

_GAPS = (7.0, 15.0, 26.0)  # pixels between a point and its name


@lru_cache(maxsize=1)
def _renderer() -> RendererAgg:
    return RendererAgg(8, 8, DPI)


def text_width(text: str, size: float) -> float:
    """Width in inches of one line at ``size`` points; kerning, which draws closer, left out."""
    fonts = tuple(mpl.rcParams["font.family"])
    return sum(_advance(letter, size, fonts) for letter in text)


@lru_cache(maxsize=10_000)
def _advance(letter: str, size: float, fonts: tuple[str, ...]) -> float:
    """What a letter adds to the width of a line, in inches; nothing is kerned against an H."""
    properties = FontProperties(family=list(fonts), size=size)
    with mpl.rc_context(UNHINTED):
        with_it, without = (
            _renderer().get_text_width_height_descent(t, properties, False)[0]
            for t in (f"H{letter}H", "HH")
        )
    return float(with_it - without) / DPI


def elided(text: object, width: float, size: float, keep: float = 0.5) -> str:
    """The text on one line, its middle replaced by an ellipsis where it is wider than ``width``.

    Parameters
    ----------
    text
        Any label.
    width
        Inches.
    size
        Points.
    keep
        Share of what stays that comes from the head of the text.
    """
    whole = " ".join(str(text).split())
    if text_width(whole, size) <= width:
        return whole
    least, most = 0, len(whole)
    while most - least > 1:
        kept = (least + most) // 2
        least, most = (
            (kept, most) if text_width(_cut(whole, kept, keep), size) <= width else (least, kept)
        )
    return _cut(whole, least, keep)


def _cut(text: str, kept: int, keep: float) -> str:
    head = round(kept * keep)
    tail = kept - head
    return f"{text[:head].rstrip()}…{text[len(text) - tail :].lstrip()}" if kept else "…"


def elided_apart(texts: Sequence[object], width: float, size: float) -> list[str]:
    """Each text elided to ``width``, cut where the results still differ, if anywhere.

    Both ends are kept if that tells them apart, else the end, the head, or the part between what
    all begin with and what all end with.
    """
    attempts = []
    for keep in (0.5, 0.0, 1.0, 0.25):
        attempts.append([elided(t, width, size, keep) for t in texts])
        if len(set(attempts[-1])) == len(texts):
            break
    else:
        attempts.append([elided(t, width, size) for t in _without_shared_ends(texts)])
    return max(attempts, key=lambda names: len(set(names)))


def _without_shared_ends(texts: Sequence[object]) -> list[str]:
    """The texts with an ellipsis for the whole words that all of them begin or end with."""
    if not texts:
        return []
    words = [str(text).split() for text in texts]
    shortest = min(map(len, words))
    head = next((k for k in range(shortest) if len({w[k] for w in words}) > 1), shortest)
    ends = (k for k in range(shortest - head) if len({w[-1 - k] for w in words}) > 1)
    tail = next(ends, shortest - head)
    before, after = "…" * bool(head), "…" * bool(tail)
    return [f"{before}{' '.join(w[head : len(w) - tail])}{after}" for w in words]


def wrapped(text: str, width: float, size: float, most: int) -> list[str]:
    """At most ``most`` lines of ``width`` inches; an ellipsis stands for what does not fit."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most:
        line = elided(words.pop(0), width, size)
        while words and text_width(f"{line} {words[0]}", size) <= width:
            line = f"{line} {words.pop(0)}"
        lines.append(line)
    if words:
        lines[-1] = elided(" ".join([lines[-1], *words]), width, size, keep=1.0)
    return lines


def touching(boxes: Sequence[Bbox]) -> np.ndarray:
    """Shape (k, k): which boxes overlap, each pair once."""
    x0, y0, x1, y1 = np.array([b.extents for b in boxes]).reshape(-1, 4).T
    apart = (x1[:, None] <= x0) | (x1 <= x0[:, None]) | (y1[:, None] <= y0) | (y1 <= y0[:, None])
    return np.triu(~apart, k=1)


def write_names(
    ax: Axes,
    points: np.ndarray,
    names: Sequence[str],
    *,
    obstacles: np.ndarray,
    most_covered: float = 12,
) -> int:
    """Write names beside their points where there is room, the first first; return how many.

    Parameters
    ----------
    ax
        A panel of a figure that has been settled.
    points
        Shape (k, 2), in data coordinates.
    names
        One a point.
    obstacles
        Shape (m, 2), in data coordinates: marks that a name should not cover.
    most_covered
        How many of them it may cover; where there is no such place, it is left out.
    """
    taken: list[Bbox] = []
    marks, where = ax.transData.transform(obstacles), ax.transData.transform(points)
    style: dict[str, Any] = {
        "textcoords": "offset points",
        "ha": "left",
        "va": "bottom",
        "size": TINY,
        "color": INK,
        "path_effects": [withStroke(linewidth=1.8, foreground="white")],
    }
    for place, at, name in zip(points, where, names, strict=True):
        text = ax.annotate(name, (place[0], place[1]), (0, 0), zorder=6, **style)
        text.set_in_layout(False)
        box = text.get_window_extent()
        offset = _free_place(at, box, marks, taken, ax.bbox, most_covered)
        if offset is None:
            text.remove()
            continue
        text.xyann = tuple(offset * 72 / DPI)
        box = text.get_window_extent()
        _lead(ax, place, at, box)
        taken.append(box.padded(1.5))
    return len(taken)


def _free_place(
    at: np.ndarray,
    name: Bbox,
    marks: np.ndarray,
    taken: Sequence[Bbox],
    inside: Bbox,
    most_covered: float,
) -> np.ndarray | None:
    """Offset in pixels of the lower left corner; near, with few marks under the name; or None."""
    best, least = None, most_covered + 1.0
    width, height = name.width, name.height
    for farther, gap in enumerate(_GAPS):
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            aside = gap * right + (right - 1) * width / 2
            corner = np.array([aside, gap * up + (up - 1) * height / 2])
            box = Bbox.from_extents(*(at + corner), *(at + corner + (width, height)))
            if not (inside.contains(*box.min) and inside.contains(*box.max)):
                continue
            if any(box.overlaps(other) for other in taken):
                continue
            under = np.sum(np.all((marks >= box.min) & (marks <= box.max), axis=1)) + 1.5 * farther
            if under < least:
                best, least = corner, float(under)
    return best


def _lead(ax: Axes, place: np.ndarray, at: np.ndarray, box: Bbox) -> None:
    """A thin line from a point to its name, where the name is not right beside it."""
    nearest = np.clip(at, box.min, box.max)
    if np.hypot(*(nearest - at)) <= 1.1 * _GAPS[0]:
        return
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": MUTED, "shrinkA": 0, "shrinkB": 2}
    offset = tuple((nearest - at) * 72 / DPI)
    lead = ax.annotate(
        "", (place[0], place[1]), offset, textcoords="offset points", arrowprops=line, zorder=5
    )
    lead.set_in_layout(False)
