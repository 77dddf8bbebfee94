"""Figures as SVG for a page: light and dark, nothing that runs, nothing from elsewhere."""

from __future__ import annotations

import re
import warnings
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
}
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_ROUNDED = ("d", "x", "y", "transform", "points", "cx", "cy", "width", "height")
_DROPPED = ("metadata", "style", "script", "a", "foreignObject")
_PIXELS_AN_INCH = 122  # of screen at most: a page-wide figure is then as wide as the column
_PIXELS = "data:image/png;base64,"


def draw(figure: Figure, name: str, title: str) -> Markup:
    """The figure as an inline ``<svg>`` whose ids begin with ``name``.

    Texts are drawn as shapes, so that they look the same everywhere and collide nowhere; what a
    reader who cannot see them needs stands in ``title``. Colours of ours follow the page's.
    """
    root = ElementTree.fromstring(_NOT_XML.sub("\ufffd", _saved(figure)))
    _tidy(root, f"{name}-")
    root.tag = "svg"
    root.set("style", f"max-width: {_PIXELS_AN_INCH * figure.get_figwidth():.0f}px")
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", _NOT_XML.sub("\ufffd", title))
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))


def _saved(figure: Figure) -> str:
    buffer = BytesIO()
    own: dict[Any, Any] = {
        "svg.fonttype": "path",
        "svg.hashsalt": "hierpool",
        "svg.image_inline": True,
    }
    with mpl.rc_context(own), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the table has the name
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().decode("utf-8", errors="replace")


def _tidy(root: ElementTree.Element, prefix: str) -> None:
    """Drop what a page has no use for, name ids apart, round coordinates, let colours follow."""
    used = set(re.findall(r"(?<=[(\"])#([^)\"]+)", ElementTree.tostring(root, encoding="unicode")))
    for parent in root.iter():
        for child in list(parent):
            if _bare(child.tag) in _DROPPED:
                parent.remove(child)
    for element in root.iter():
        element.tag = _bare(element.tag)
        element.text = element.tail = None
        element.attrib = dict(
            _attribute(_bare(key), value, prefix)
            for key, value in element.attrib.items()
            if key != "id" or value in used
        )


def _bare(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(key: str, value: str, prefix: str) -> tuple[str, str]:
    if key == "id":
        return key, prefix + value
    if key == "href":
        if value.startswith("#"):
            return key, f"#{prefix}{value[1:]}"
        return key, value if value.startswith(_PIXELS) else "#"
    value = value.replace("url(#", f"url(#{prefix}")
    if key in _ROUNDED and "scale" not in value:
        value = " ".join(_NUMBER.sub(lambda m: f"{float(m[0]):.2f}", value).split())
    if key == "style":
        value = re.sub(r"#[0-9a-f]{6}\b", lambda m: _followed(m[0]), value)
    return key, value


def _followed(color: str) -> str:
    return f"var({COLORS[color]})" if color in COLORS else color
