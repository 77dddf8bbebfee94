"""Published numbers of tutorials and textbooks beside ours: python benchmarks/canon.py --help

The numbers and the tables that may not be bundled lie in a folder of their own. ``CANON.md`` holds
the last table; ``published/`` holds the analyses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from machine import versions
from published.numbers import read, written
from published.page import page
from published.scope import left_out
from published.table import by_key, compared

CANON = Path("../shared/canon")
PACKAGES = ("hierpool", "numpy", "scipy", "numba", "pandas", "xarray", "arviz-stats")


def main() -> int:
    parser = argparse.ArgumentParser(description="Published numbers beside ours.")
    parser.add_argument("--canon", type=Path, default=CANON, help="folder of published.json, data/")
    parser.add_argument("--case", nargs="+", help="only these cases")
    parser.add_argument("--out", type=Path, help="write the page there, as Markdown")
    parser.add_argument("--numbers", type=Path, help="write those of bundled tables there, as JSON")
    given = parser.parse_args()
    if not (given.canon / "published.json").exists():
        parser.error(f"no published.json in {given.canon}: name its folder with --canon")
    numbers = read(given.canon / "published.json")
    if given.case:
        unknown = set(given.case) - {n.case for n in numbers}
        if unknown:
            parser.error(f"no case {', '.join(sorted(unknown))}")
        numbers = [n for n in numbers if n.case in given.case]
    if all(map(left_out, numbers)):
        parser.error("nothing is in scope: " + "; ".join(sorted(set(map(left_out, numbers)))))
    if given.numbers:
        known = by_key()
        ours = [n for n in numbers if not left_out(n) and n.analysis in known]
        kept = [n for n in ours if known[n.analysis].table.is_bundled]
        given.numbers.write_text(written(kept), encoding="utf-8")
        return 0
    rows = []
    for row in compared(numbers, given.canon / "data"):
        rows.append(row)
        print(f"{row.verdict:8}{row.number.case}  {row.number.quantity}", file=sys.stderr)
    text = page(rows, numbers, versions(PACKAGES))
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0 if all(row.is_within or row.why for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
