"""Draw ``docs/images/architecture.svg``: the folders, and what goes from one to another.

python docs/architecture_picture.py [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

FILE = Path(__file__).parent / "images" / "architecture.svg"
WIDTH, HEIGHT = 760, 520

# Boxes: name, what it holds, x, y, width, height, kind.
BOXES = {
    "data": ("MAKES THE NOUNS", "table to Spec, Design", 20, 300, 165, 62, "wing"),
    "bayes": ("DRAWS", "exact engine, NUTS", 205, 300, 165, 62, "wing"),
    "reml": ("OPTIMA", "REML, ML, tests", 390, 300, 165, 62, "wing"),
    "checks": ("JUDGES FITS", "scores, findings", 575, 300, 165, 62, "wing"),
    "answers": ("WHAT A FIT SAYS", "predictions, contrasts", 390, 205, 165, 62, "upper"),
    "show": ("PICTURES", "figures and pages", 575, 205, 165, 62, "upper"),
    "core": (
        "NOUNS AND ALGEBRA",
        "Spec, Design, Moments, results; the likelihood with its coefficients integrated out",
        20,
        420,
        720,
        66,
        "ground",
    ),
}
TOP = (
    ("models, fits", "Model, PosteriorFit, BlupFit", 20, 110, 350),
    ("engines, calibrating, workflow ...", "joints: they bring folders together", 390, 110, 350),
    ("hierpool, cli", "the door: names of the face, the command line", 20, 30, 720),
)
# Arrows: who uses whom, as points from the user down to the used.
ARROWS = (
    ((102, 362), (102, 420)),
    ((287, 362), (287, 420)),
    ((472, 362), (472, 420)),
    ((657, 362), (657, 420)),
    ((657, 267), (657, 300)),
    ((472, 267), (472, 284), (615, 284), (615, 300)),
    ((102, 172), (102, 300)),
    ((265, 172), (265, 300)),
    ((310, 172), (310, 284), (430, 284), (430, 300)),
    ((472, 172), (472, 205)),
    ((657, 172), (657, 205)),
    ((195, 92), (195, 110)),
    ((565, 92), (565, 110)),
)
STYLE = """
  text { font-family: "DejaVu Sans", Verdana, Helvetica, sans-serif; fill: #222222; }
  .name { font-size: 15px; font-weight: bold; } .what { font-size: 11.5px; }
  .kind { font-size: 9.5px; letter-spacing: 0.06em; fill: #5f5f5f; }
  rect { stroke: #a0a0a0; stroke-width: 1; }
  .page { fill: #ffffff; stroke: none; } .top { fill: #f4f4f4; } .upper { fill: #e3f1ec; }
  .wing { fill: #e1eef7; } .ground { fill: #fbe9dd; }
  .arrow { fill: none; stroke: #5f5f5f; stroke-width: 1.2; marker-end: url(#head); }
"""


def main(file: Path = FILE) -> None:
    """Write the picture."""
    file.write_text(drawn(), encoding="utf-8")


def drawn() -> str:
    """The picture as SVG, on a white page so that it reads where the site is dark."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="The folders of hierpool">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#5f5f5f"/></marker></defs>',
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        *(_arrow(points) for points in ARROWS),
        *(_box(name, what, x, y, w, 62, "top") for name, what, x, y, w in TOP),
        *(_box(name, what, *place, kind=said) for name, (said, what, *place) in BOXES.items()),
        f'<text class="what" x="20" y="{HEIGHT - 12}">Arrows point from who imports to what is '
        "imported. The four wings in blue do not know each other.</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _box(name: str, what: str, x: int, y: int, w: int, h: int, look: str, kind: str = "") -> str:
    title = f'<text class="name" x="{x + 12}" y="{y + (34 if kind else 27)}">{name}</text>'
    label = f'<text class="kind" x="{x + 12}" y="{y + 16}">{kind}</text>' if kind else ""
    text = f'<text class="what" x="{x + 12}" y="{y + (52 if kind else 47)}">{what}</text>'
    return f'<rect class="{look}" x="{x}" y="{y}" width="{w}" height="{h}" rx="5"/>{label}{title}{text}'


def _arrow(points: tuple[tuple[int, int], ...]) -> str:
    way = " L".join(f"{x},{y}" for x, y in points)
    return f'<path class="arrow" d="M{way}"/>'


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
