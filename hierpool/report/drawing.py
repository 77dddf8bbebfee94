"""Figures as SVG for a page: light and dark, nothing that runs, nothing from elsewhere."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

# Colours of ``show/style.py`` -> variables of the page's style sheet, which knows light and dark.
COLORS = {
    "#222222": "--ink",
    "#000000": "--ink",
    "#5f5f5f": "--muted",
    "#a0a0a0": "--rule",
    "#d4d4d4": "--faint",
    "#ffffff": "--paper",
    "#4d4d4d": "--complete",
    "#d55e00": "--none",
    "#0072b2": "--partial",
    "#007a5a": "--blup",
    "#9a5b93": "--prior",
    "#56b4e9": "--sky",
    "#d9a441": "--fixed",
    "#b8b8b8": "--residual",
}
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_ROUNDED = ("d", "x", "y", "transform", "points", "cx", "cy", "width", "height")
_DROPPED = ("metadata", "style", "script", "a", "foreignObject")
LARGEST = 1_000_000  # characters of a picture, above which pixels take less room
_DPI = 150  # of such pixels
_PIXELS_AN_INCH = 122  # of screen at most: a page-wide figure is then as wide as the column
_PIXELS = "data:image/png;base64,"


def draw(figure: Figure, prefix: str, title: str) -> Markup:
    """The figure as an inline ``<svg>``, or as an ``<img>`` where that would be too large.

    Parameters
    ----------
    figure
        Texts are drawn as shapes, so that they look the same everywhere and collide nowhere.
        Colours of ours follow the page's, but for an ``<img>``, which is on white.
    prefix
        What its ids and classes begin with.
    title
        What it shows, for a reader who cannot see it.
    """
    drawn = _drawn(figure, prefix, title)
    return drawn if len(drawn) <= LARGEST else _as_pixels(figure, title)


def _as_pixels(figure: Figure, title: str) -> Markup:
    buffer = BytesIO()
    with _quiet_about_letters():
        figure.savefig(buffer, format="png", dpi=_DPI)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img alt="{}" src="{}" style="{}">').format(
        _NOT_XML.sub("\ufffd", title), _PIXELS + data, _width(figure)
    )


def _width(figure: Figure) -> str:
    return f"max-width: {_PIXELS_AN_INCH * figure.get_figwidth():.0f}px"


def _drawn(figure: Figure, prefix: str, title: str) -> Markup:
    root = ElementTree.fromstring(_NOT_XML.sub("\ufffd", _saved(figure)))
    _drop_what_a_page_has_no_use_for(root)
    looks = _Looks(prefix)
    names = _short_names(root, prefix)
    for element in root.iter():
        element.tag = _bare(element.tag)
        element.text = element.tail = None
        element.attrib = dict(_attributes(element.attrib, names, looks))
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": _NOT_XML.sub("\ufffd", title),
        "style": _width(figure),
    }
    sheet = ElementTree.Element("style")
    sheet.text = looks.sheet
    root.insert(0, sheet)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))


@dataclass
class _Looks:
    """Styles of a picture, each written once: a plot of thousands of points repeats few."""

    prefix: str
    classes: dict[str, str] = field(default_factory=dict)

    def of(self, style: str) -> str:
        """The class for a style."""
        style = re.sub(r"#[0-9a-f]{6}\b", lambda m: _followed(m[0]), style)
        return self.classes.setdefault(style, f"{self.prefix}s{len(self.classes)}")

    @property
    def sheet(self) -> str:
        """The rules of all classes."""
        return "".join(f".{name}{{{style}}}" for style, name in self.classes.items())


def _saved(figure: Figure) -> str:
    buffer = BytesIO()
    own: dict[Any, Any] = {
        "svg.fonttype": "path",
        "svg.hashsalt": "hierpool",
        "svg.image_inline": True,
    }
    with mpl.rc_context(own), _quiet_about_letters():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().decode("utf-8", errors="replace")


@contextmanager
def _quiet_about_letters() -> Iterator[None]:
    """A name in letters that no font has stands in the tables."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _drop_what_a_page_has_no_use_for(root: ElementTree.Element) -> None:
    for parent in root.iter():
        for child in list(parent):
            if _bare(child.tag) in _DROPPED:
                parent.remove(child)


def _short_names(root: ElementTree.Element, prefix: str) -> dict[str, str]:
    """Ids that something refers to -> short ones that are unlike those of other pictures."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = dict.fromkeys(re.findall(r"(?<=[(\"])#([^)\"]+)", text))
    own = {element.get("id") for element in root.iter()}
    return {name: f"{prefix}i{k}" for k, name in enumerate(n for n in used if n in own)}


def _bare(name: str) -> str:
    return name.rpartition("}")[2]


def _attributes(
    given: Mapping[str, str], names: Mapping[str, str], looks: _Looks
) -> Iterator[tuple[str, str]]:
    """Attributes of one element: references renamed, coordinates rounded, style as a class."""
    for full, value in given.items():
        key = _bare(full)
        if key == "id":
            if value in names:
                yield key, names[value]
        elif key == "href":
            is_picture = value.startswith(_PIXELS)
            yield key, value if is_picture else f"#{names.get(value.removeprefix('#'), '')}"
        elif key == "style":
            yield "class", looks.of(_renamed(value, names))
        elif key in _ROUNDED and "scale" not in value:
            rounded = _NUMBER.sub(lambda m: f"{float(m[0]):.2f}", value)
            yield key, " ".join(rounded.split())
        else:
            yield key, _renamed(value, names)


def _renamed(value: str, names: Mapping[str, str]) -> str:
    return re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{names.get(m[1], '')})", value)


def _followed(color: str) -> str:
    return f"var({COLORS[color]})" if color in COLORS else color
