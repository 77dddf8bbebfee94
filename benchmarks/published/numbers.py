"""The published numbers: where they were printed, and how close one must come to them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Published:
    """One number as its source prints it."""

    case: str
    model: str
    method: str
    quantity: str
    value: float
    tolerance: float
    source: str

    @property
    def analysis(self) -> Key:
        """The analysis that it belongs to."""
        return self.case, self.model, self.method


_FIELDS = tuple(Published.__dataclass_fields__)
_HOW_FOUND = re.compile(r" \((?:text corpus excerpt|index id)[^)]*\)")  # not what was printed


def read(path: Path) -> list[Published]:
    """Every number of a file of records, in its order; what else a record says is left out."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        row["source"] = _HOW_FOUND.sub("", row["source"]).strip()
    return [Published(**{k: row[k] for k in _FIELDS}) for row in rows]


def written(numbers: list[Published]) -> str:
    """The text of such a file, one record a line."""
    lines = (json.dumps({k: getattr(n, k) for k in _FIELDS}) for n in numbers)
    return "[\n" + ",\n".join(lines) + "\n]\n"
