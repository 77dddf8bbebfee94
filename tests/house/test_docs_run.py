"""The Python on the pages prints what they say that it prints; relative links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hierpool as hp
from hierpool.cli import app
from tests.house.sources import ROOT, script

page_outputs = script(ROOT / "tools" / "page_outputs.py")
RUN = (
    "README.md",
    "docs/choosing.md",
    "docs/effects.md",
    "docs/families.md",
    "docs/guides/from_lme4.md",
    "docs/guides/from_proc_mixed.md",
    "docs/guides/reference_category.md",
    "docs/guides/larger_than_memory.md",
    "docs/guides/related_groups.md",
    "docs/guides/repeated_measures.md",
    "docs/guides/several_sites.md",
    "docs/inference.md",
    "docs/predicting.md",
    "docs/priors.md",
    "docs/report.md",
)
OF_SITE = [p for p in ROOT.glob("docs/**/*.md") if "_build" not in p.parts]
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *OF_SITE])
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.mark.docs
@pytest.mark.parametrize("page", RUN)
def test_python_of_the_page_prints_what_the_page_says(page):
    """``python tools/page_outputs.py PAGE`` writes it anew."""
    shown = list(page_outputs.run(ROOT / page))
    assert shown
    found = {s.number + 1: page_outputs.differs(s.said, s.printed) for s in shown if s.said}
    assert {number: what for number, what in found.items() if what} == {}


def test_an_output_that_is_not_the_page_s_is_noticed():
    said = "elpd -861.6 se 21.9"
    assert page_outputs.differs(said, "elpd  -861.8  se 22.4") == ""
    assert page_outputs.differs(said, "elpd -861.6 se 31.9") == "'21.9' is '31.9'"
    assert page_outputs.differs(said, "elpd -861.6 sd 21.9") == "'se' is 'sd'"
    assert page_outputs.differs(said, "elpd -861.6") == "the lengths differ"


def test_every_link_of_a_page_leads_to_a_file():
    missing = [
        (page, link)
        for page in PAGES
        for link in LINK.findall((ROOT / page).read_text(encoding="utf-8"))
        if not ((ROOT / page).parent / link).exists()
    ]
    assert missing == []


@pytest.mark.docs
def test_three_commands_lead_from_a_csv_to_a_report(tmp_path, monkeypatch):
    """Those of the README, for a table whose columns are called as there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(pip install \..*?)^```$", readme, re.MULTILINE | re.DOTALL)
    install, ask, look = block.splitlines()
    program, *arguments = shlex.split(ask)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert (install, scripts[program]) == ("pip install .", "hierpool.cli:main")
    monkeypatch.chdir(tmp_path)
    names = {"Reaction": "y", "Days": "x", "Subject": "g"}
    hp.datasets.load("sleepstudy").rename(columns=names).to_csv("my.csv", index=False)
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    assert "</html>" in Path(look.split()[1]).read_text(encoding="utf-8")


def test_picture_of_the_architecture_is_what_its_source_draws():
    drawn = script(ROOT / "docs" / "architecture_picture.py").drawn()
    assert (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8") == drawn


def test_picture_of_the_architecture_names_every_folder():
    drawn = (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    folders = {p.parent.name for p in (ROOT / "hierpool").glob("*/__init__.py")}
    assert {name for name in folders if f">{name}<" not in drawn} == set()


def test_index_names_every_page():
    index = ROOT / "docs" / "index.md"
    text = index.read_text(encoding="utf-8")
    pages = [p.relative_to(index.parent).as_posix() for p in OF_SITE if p != index]
    assert [name for name in pages if f"({name})" not in text] == []
    listed = {line for line in text.splitlines() if line and " " not in line}
    assert {name.removesuffix(".md") for name in pages} - listed == set()  # its toctrees
