"""Hostile names of columns, levels and files: shown in the terminal, on a page, in CSV; never run."""

from __future__ import annotations

import csv
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hierpool as hp

ACTS = "\x1b]0;x\x07\x9b31m\u202e"  # title of the window, red, right to left
RUNS = "</script></svg><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}"
EVIL = f"[red]{ACTS}{RUNS}"
GROUP = f"g{EVIL}".replace("/", "|")  # a slash parts a path where results are kept
SHOWN = r"[red]\x1b]0;x\x07\x9b31m\u202e"


class Page(HTMLParser):
    """Tags and attributes as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    groups = np.repeat([f"=g{k}\n{EVIL}" for k in range(8)], 5)
    data = pd.DataFrame(
        {
            f"y{EVIL}": rng.normal(size=40) + np.repeat(rng.normal(size=8), 5),
            f"x{EVIL}": np.tile(np.arange(5.0), 8),
            GROUP: groups,
        }
    )
    data.attrs["hierpool"] = {"label": f"file\n{EVIL}.csv"}
    return data


@pytest.fixture(scope="module")
def study(table):
    return hp.study(
        f"`y{EVIL}` ~ `x{EVIL}`",
        table,
        group=GROUP,
        seed=1,
        draws=100,
        chains=2,
        engine="exact",
        progress=False,
    )


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("names")
    study.report(root / "page.html")
    return study.save(root)


def assert_harmless(text: str) -> None:
    acts = {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"}}
    assert acts <= {"\n"}
    assert SHOWN in text


def test_what_is_printed_shows_control_characters_as_escapes(study):
    fit = study.fits[study.selected]
    model, reml = study.models[study.selected], study.blups[study.selected]
    for printed in (study, model, fit, reml, fit.priors, study.advice):
        assert_harmless(repr(printed))


def test_no_name_makes_a_line_of_its_own_in_the_answer(study):
    assert len(study.answer.splitlines()) == 3
    assert r"\n[red]" in study.answer


@pytest.mark.slow
def test_summary_shows_control_characters_as_escapes(folder):
    assert_harmless((folder / "summary.txt").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_notebooks_and_the_report_show_names_and_run_none(study, folder):
    for html, scripts in (
        (study._repr_html_(), 0),
        (study.advice._repr_html_(), 0),
        (study.fits[study.selected]._repr_html_(), 0),
        ((folder / "page.html").read_text(encoding="utf-8"), 1),
    ):
        page = Page(html)
        assert page.tags.count("script") == scripts
        assert [name for name, _ in page.attributes if name.startswith("on")] == []
        assert "img" not in page.tags or "src=x" not in html.replace("&lt;img src=x", "")
        assert_harmless(html)
        assert "{{7*7}}" in page.text


def test_csv_guards_names_and_keeps_numbers(study, folder):
    with (folder / "tables" / "shrinkage.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    levels = {row[head.index("level")] for row in rows}
    assert levels == {f"'=g{k}\n{EVIL}" for k in range(8)}
    own = [float(row[head.index("own_estimate")]) for row in rows]
    np.testing.assert_array_equal(own, study.shrinkage["own_estimate"])
    assert min(own) < 0


def test_files_are_named_by_us_not_by_the_data(folder):
    every = [path.name for path in folder.rglob("*")]
    assert [name for name in every if "red" in name or not name.isprintable()] == []
