"""How things look: one colour, line and marker for each pooling, the same in every picture.

The colours are Okabe and Ito's; lines and markers tell the poolings apart without them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D

INK = "#222222"
MUTED = "#5f5f5f"
RULE = "#a0a0a0"
FAINT = "#d4d4d4"

TITLE, LEGEND, LABEL, PANEL, SMALL, TINY = 10.5, 8.0, 8.5, 8.0, 7.5, 7.0
DPI = 144
NO_LETTER = "Glyph .* missing from"  # matplotlib's warning; the tables have the name

# With hinting the width of a text jumps with the dpi, by a tenth at 90: what fits at one would be cut
# off at another.
UNHINTED: dict[Any, Any] = {"text.hinting": "no_hinting"}

# Scripts that DejaVu Sans has no letters for; those that are installed are asked after it.
_WIDER_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Micro Hei",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
)
_OWN = ("axes.", "figure.", "text.", "xtick.", "ytick.", "legend.", "lines.", "patch.", "path.")


@dataclass(frozen=True, slots=True)
class Look:
    """How one kind of estimate is drawn.

    Attributes
    ----------
    name
        Its entry in the legend.
    color, linestyle, linewidth, marker
        As matplotlib takes them.
    is_filled
        Whether its marker is filled.
    """

    name: str
    color: str
    linestyle: Any
    linewidth: float
    marker: str
    is_filled: bool = True

    @property
    def line(self) -> dict[str, Any]:
        """Arguments for a line without markers."""
        return {"color": self.color, "linestyle": self.linestyle, "linewidth": self.linewidth}

    def dots(self, size: float) -> dict[str, Any]:
        """Arguments for markers without a line, ``size`` points wide."""
        return {
            "linestyle": "none",
            "color": self.color,
            "marker": self.marker,
            "markersize": size,
            "markeredgecolor": self.color,
            "markerfacecolor": self.color if self.is_filled else "white",
            "markeredgewidth": 0.18 * size if size > 4.5 else 0.8,
        }

    def both(self, size: float) -> dict[str, Any]:
        """Arguments for a line with markers, ``size`` points wide."""
        return {**self.dots(size), **self.line}

    def handle(self, has_markers: bool = False) -> Line2D:
        """Legend entry for its line, with or without markers."""
        return Line2D([], [], label=self.name, **(self.both(4.0) if has_markers else self.line))

    def dot_handle(self, name: str = "", size: float = 5.0) -> Line2D:
        """Legend entry for its marker."""
        return Line2D([], [], label=name or self.name, **self.dots(size))


COMPLETE = Look("complete pooling", "#4d4d4d", (0, (5, 2)), 1.1, "s", is_filled=False)
NONE = Look("no pooling", "#d55e00", (0, (1, 1.3)), 1.5, "o", is_filled=False)
PARTIAL = Look("partial pooling", "#0072b2", "-", 1.5, "o")
BLUP = Look("BLUP", "#007a5a", (0, (3, 1.5)), 1.0, "D", is_filled=False)
PRIOR = Look("prior", "#9a5b93", (0, (4, 1.6)), 1.3, "s", is_filled=False)
OBSERVED = Look("observed", "#222222", "-", 1.4, "o")
ODD = "#d55e00"  # what stands out, as in findings
POPULATION = Look("population of the fit", "#222222", (0, (1, 2)), 0.9, "+")
POOLINGS = {"complete_pooling": COMPLETE, "no_pooling": NONE, "partial_pooling": PARTIAL}


@contextmanager
def styled() -> Iterator[None]:
    """Our settings for as long as a picture is made; the user's fonts stay, nothing leaks.

    matplotlib's own defaults come first, so that a dark or a TeX style of the user's does not
    reach a picture half. A ``$`` in a name starts no mathematics. A letter that no installed font
    has is a box, without a word of matplotlib's.
    """
    defaults: dict[Any, Any] = {k: v for k, v in mpl.rcParamsDefault.items() if k.startswith(_OWN)}
    installed = set(fontManager.get_font_names())
    wider = [name for name in _WIDER_FONTS if name in installed]
    ours: dict[Any, Any] = {
        **UNHINTED,
        "font.family": [*mpl.rcParams["font.family"], *wider],
        "font.size": SMALL,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": RULE,
        "axes.labelcolor": INK,
        "axes.labelsize": LABEL,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": DPI,
        "legend.fontsize": LEGEND,
        "lines.solid_capstyle": "butt",
    }
    with mpl.rc_context({**defaults, **ours}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", NO_LETTER)
        yield
