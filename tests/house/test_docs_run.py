"""The Python on the pages runs, in order, as a reader would type it; relative links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = (
    "README.md",
    "docs/choosing.md",
    "docs/inference.md",
    "docs/predicting.md",
    "docs/priors.md",
)
OF_SITE = [p for p in ROOT.glob("docs/**/*.md") if "_build" not in p.parts]
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *OF_SITE])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.mark.docs
@pytest.mark.parametrize("page", RUN)
def test_python_of_the_page_runs_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, object] = {}
    for k, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {k + 1}", "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_page_lead_to_files(page):
    file = ROOT / page
    missing = [
        link
        for link in LINK.findall(file.read_text(encoding="utf-8"))
        if not (file.parent / link).exists()
    ]
    assert missing == []


def test_index_names_every_page():
    index = ROOT / "docs" / "index.md"
    text = index.read_text(encoding="utf-8")
    pages = [p.relative_to(index.parent).as_posix() for p in OF_SITE if p != index]
    assert [name for name in pages if f"({name})" not in text] == []
