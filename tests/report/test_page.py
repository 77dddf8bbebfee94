"""A page is one file: names are text, numbers are whole in it, nothing comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hierpool.core.findings import Finding
from hierpool.plots.sheet.style import FAINT, INK, MUTED, POOLINGS, RULE
from hierpool.report.cells import read_cells
from hierpool.report.columns import meaning
from hierpool.report.drawing import COLORS, draw
from hierpool.report.page import render
from hierpool.report.parts import (
    DataTable,
    Listing,
    ModelCard,
    Page,
    Picture,
    PointsToCheck,
    Prose,
    Section,
    SmallTable,
)

EVIL = "<script>alert(1)</script>\"'&\0"


class Tags(HTMLParser):
    """Tags, ids and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def outside_pictures(self) -> list[str]:
        return [tag for tag, _ in self.tags if tag not in ("defs", "g", "path", "use")]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def one_of_each(text: str) -> Page:
    """A page with every kind of part, and one text everywhere."""
    frame = pd.DataFrame(
        {text: [1.5, np.nan], "b": [text, text]}, index=pd.Index([text, 2], name="a")
    )
    figure = Figure()
    figure.subplots().set_title(text.replace("\0", ""))
    parts = [
        Prose([text], is_answer=True),
        DataTable("t", text, frame, text),
        SmallTable(text, ["", text], [[text, text]], text),
        Picture("p", text, figure, text),
        Listing(text, text, text),
        Listing(text, text, text, is_code=False),
        PointsToCheck([Finding("code", "warning", text, text, text, frame)], text),
        PointsToCheck([], text),
        ModelCard(text, text, [], [Listing(text, text)], True),
    ]
    return Page(text, text, [Section("first", text, parts)], text)


def test_any_text_is_shown_and_never_markup():
    page = Tags(render(one_of_each(EVIL)))
    harmless = Tags(render(one_of_each("plain")))
    assert page.outside_pictures() == harmless.outside_pictures()
    assert page.count("script") == 1
    shown = "".join(page.texts)
    assert shown.count("<script>alert(1)</script>") >= 15
    assert "\0" not in shown


def test_nothing_is_fetched_and_only_our_script_may_run():
    text = render(one_of_each("plain"))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    for tag, attributes in Tags(text).tags:
        assert tag not in ("link", "iframe", "object", "img", "base")
        for name in ("src", "href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\((?!#)|@import", text)


def test_ids_are_unique_where_pictures_are_alike():
    figures = [Figure(), Figure()]
    for figure in figures:
        figure.subplots().plot([1, 2], [3, 4], "o-")
    parts = [Picture(f"p{k}", "the same", figure) for k, figure in enumerate(figures)]
    tags = Tags(render(Page("t", "s", [Section("one", "One", parts)], "f"))).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [a["href"][1:] for tag, a in tags if tag == "use"]
    assert used
    assert set(used) <= set(ids)


def test_pictures_hold_shapes_only_and_follow_the_pages_colours():
    figure = Figure()
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=POOLINGS["no_pooling"].color)
    ax.set_title("<script> & \x0b names", color=MUTED)
    svg = str(draw(figure, "p0", EVIL))
    assert svg.startswith("<svg ")
    for gone in ("<script", "<!--", "metadata", "<text", "#5f5f5f", "#d55e00", "http"):
        assert gone not in svg
    assert "var(--muted)" in svg
    assert "var(--none)" in svg
    assert 'role="img"' in svg


def test_every_colour_of_our_pictures_has_a_dark_twin():
    ours = {INK, MUTED, RULE, FAINT, *(look.color for look in POOLINGS.values())}
    assert ours <= set(COLORS)
    style = (files("hierpool.report") / "style.css").read_text(encoding="utf-8")
    for variable in COLORS.values():
        assert style.count(f"{variable}: #") == 4, variable  # light, dark twice, print


def test_cells_are_rounded_on_the_page_and_whole_in_the_download():
    frame = pd.DataFrame(
        {"mean": [1 / 3, -20 / 3], "n": [4, 5], "elpd": [-861.63, np.nan], "is": [True, False]},
        index=pd.MultiIndex.from_tuples([("g", 1), ("g", 2)], names=["factor", "level"]),
    )
    cells = read_cells(frame, {})
    assert cells.columns == ["factor", "level", "mean", "n", "elpd", "is"]
    assert cells.n_keys == 2
    assert list(cells.is_number) == [False, True, True, True, True, False]
    first, second = cells.rows
    assert [c.shown for c in first] == ["g", "1", "0.3333", "4", "−861.6", "True"]
    assert float(first[2].exact) == 1 / 3
    assert (second[4].shown, second[4].exact) == ("–", "")


def test_labels_of_rows_without_a_name_are_kept_and_mere_counts_are_not():
    frame = pd.DataFrame({"a": [1, 2]}, index=[17, 4])
    cells = read_cells(frame, {})
    assert (cells.columns, cells.n_keys) == (["row", "a"], 1)
    assert [row[0].shown for row in cells.rows] == ["17", "4"]
    assert read_cells(frame.reset_index(drop=True), {}).columns == ["a"]


def test_text_that_the_page_would_trim_is_kept_for_the_download():
    (row,) = read_cells(pd.DataFrame({"a": [" b\n"]}), {}).rows
    assert row[0].exact == " b\n"


def test_findings_that_are_empty_say_so():
    page = render(
        Page("t", "s", [Section("d", "D", [PointsToCheck([], "No problems found.")])], "f")
    )
    assert '<p class="nothing">No problems found.</p>' in page


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eti95_lb", "Lower bound of the 95 % equal-tailed interval."),
        (
            "pooling_factor_hdi95_ub",
            "Upper bound of the 95 % highest-density interval of pooling_factor.",
        ),
        ("no such column", ""),
    ],
)
def test_bounds_of_intervals_are_explained_whatever_their_size(name, words):
    assert meaning(name) == words


def test_templates_style_and_script_are_in_the_package():
    here = files("hierpool.report")
    assert (here / "style.css").is_file()
    assert (here / "script.js").is_file()
    used = {
        part.template
        for part in (Prose, DataTable, SmallTable, Picture, Listing, PointsToCheck, ModelCard)
    }
    assert used <= {Path(str(f)).stem for f in (here / "templates").iterdir()}


def test_an_import_of_the_face_waits_for_no_template_engine():
    code = "import sys, hierpool, hierpool.studies.run; print('jinja2' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
