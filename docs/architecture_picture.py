"""Draw ``docs/images/architecture.svg``: the floors of the package, from the face down to the nouns.

python docs/architecture_picture.py [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

FILE = Path(__file__).parent / "images" / "architecture.svg"
WIDTH, ROW, GAP, LEFT, RIGHT = 760, 62, 14, 44, 740

# Floors from the top: look, and the rooms of the floor with what each holds.
FLOORS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("top", (("hierpool, cli", "the public names; the command line"),)),
    (
        "upper",
        (
            ("studies", "study, check, advise, their report"),
            ("simulation", "calibration, recovery, sensitivity"),
            ("builders", "from complete to no pooling"),
        ),
    ),
    ("upper", (("model", "Model: a formula on a table"),)),
    (
        "fit",
        (
            ("fits", "what a user holds, files"),
            ("plots", "one file for each picture"),
            ("sas", "PROC MIXED, read"),
            ("tables", "sums of large tables"),
        ),
    ),
    (
        "wing",
        (
            ("formula", "table to Design"),
            ("bayes", "exact engine, NUTS"),
            ("reml", "REML, ML, tests"),
            ("checks", "scores, findings"),
            ("answers", "predictions"),
        ),
    ),
    (
        "ground",
        (
            (
                "algebra",
                "the likelihood given theta; effects integrated out, in closed form or by quadrature",
            ),
        ),
    ),
    (
        "ground",
        (
            ("draws", "summaries of draws"),
            ("report", "parts of a page"),
            ("datasets", "bundled tables"),
        ),
    ),
    ("ground", (("core", "Spec, Design, families, results, findings, errors"),)),
)
HEIGHT = 20 + len(FLOORS) * (ROW + GAP) + 26
STYLE = """
  text { font-family: "DejaVu Sans", Verdana, Helvetica, sans-serif; fill: #222222; }
  .name { font-size: 15px; font-weight: bold; } .what { font-size: 11.5px; }
  .floor { font-size: 13px; fill: #5f5f5f; }
  rect { stroke: #a0a0a0; stroke-width: 1; }
  .page { fill: #ffffff; stroke: none; } .top { fill: #f4f4f4; } .upper { fill: #f1ecf7; }
  .fit { fill: #e3f1ec; } .wing { fill: #e1eef7; } .ground { fill: #fbe9dd; }
"""


def main(file: Path = FILE) -> None:
    """Write the picture."""
    file.write_text(drawn(), encoding="utf-8")


def drawn() -> str:
    """The picture as SVG, on a white page so that it reads where the site is dark."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="The floors of hierpool">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
    ]
    for k, (look, rooms) in enumerate(FLOORS):
        y, number = 16 + k * (ROW + GAP), len(FLOORS) - 1 - k
        if number < len(FLOORS) - 1:
            parts.append(f'<text class="floor" x="20" y="{y + 36}">{number + 1}</text>')
        width = (RIGHT - LEFT - GAP * (len(rooms) - 1)) / len(rooms)
        for i, (name, what) in enumerate(rooms):
            parts.append(_room(name, what, LEFT + i * (width + GAP), y, width, look))
    note = "A file imports its own folder and the floors below it: never up, never sideways."
    parts += [f'<text class="what" x="{LEFT}" y="{HEIGHT - 12}">{note}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _room(name: str, what: str, x: float, y: float, w: float, look: str) -> str:
    title = f'<text class="name" x="{x + 10:.0f}" y="{y + 27}">{name}</text>'
    text = f'<text class="what" x="{x + 10:.0f}" y="{y + 47}">{what}</text>'
    box = f'<rect class="{look}" x="{x:.0f}" y="{y}" width="{w:.0f}" height="{ROW}" rx="5"/>'
    return box + title + text


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
