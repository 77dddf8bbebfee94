"""Write the golden reports anew: ``python -m tests.studies.golden.record [KIND ...]``.

Read what ``git diff`` shows as its reader would, before it is committed. With ``--tables FOLDER``
the tables are written as CSV for ``golden.R`` instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.studies.golden.tables import FAMILIES, KINDS
from tests.studies.golden.words import report_as_text

FOLDER = Path(__file__).parent


def main(words: list[str]) -> None:
    """Record those that are named, or all."""
    if words[:1] == ["--tables"]:
        for case in KINDS:
            case.table().to_csv(Path(words[1]) / f"{case.kind}.csv", index=False)
        return
    for case in (*KINDS, *FAMILIES):
        if not words or case.kind in words:
            text = report_as_text(case.study())
            (FOLDER / f"{case.kind}.txt").write_text(text, encoding="utf-8")
            print(case.kind)


if __name__ == "__main__":
    main(sys.argv[1:])
