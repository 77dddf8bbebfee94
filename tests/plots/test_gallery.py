"""The gallery has an entry for every picture: its question, how to read it, and its call."""

from __future__ import annotations

import re
from pathlib import Path

from hierpool import plots
from tests.support.cases import each

PAGE = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text(encoding="utf-8")
ENTRY = re.compile(
    r"^### (?P<title>[^\n]+)\n\n\*(?P<question>[^*\n]+\?)\* (?P<reading>[^\n]+)\n\n"
    r"```\{code-cell\} ipython3\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ENTRIES = [found.groupdict() for found in ENTRY.finditer(PAGE)]


def drawn(code: str) -> list[str]:
    return re.findall(r"hp\.plots\.(\w+)\(", code)


@each("name", plots.__all__)
def test_every_picture_has_one_entry(name):
    (entry,) = [e for e in ENTRIES if drawn(e["code"]) == [name]]
    assert len(entry["code"].strip().splitlines()) <= 3
    assert len(entry["reading"]) > 40


def test_every_entry_is_read():
    assert len(ENTRIES) == PAGE.count("\n### ") == len(plots.__all__)
