"""The report in a real browser: drawn whole, silent, sortable, printable, and deaf to its names."""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hierpool.report.page import render
from hierpool.report.parts import DataTable, Page, Section
from tests.browser.conftest import HOSTILE, STUDIES

pytestmark = pytest.mark.browser

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
STYLES = ("full", "brief")
WIDER_THAN_THEIR_BOX = (
    "() => [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    ".map(e => e.getAttribute('aria-label'))"
)

JUDGE = (Path(__file__).parent / "judge.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("name", "width", "scheme"), list(itertools.product(STUDIES, WIDTHS, SCHEMES))
)
def test_page_is_drawn_whole_and_silent(name, width, scheme, style, reports, open_page):
    opened = open_page(reports(name, style)[1], width, scheme)
    judged = opened.page.evaluate(JUDGE)
    assert judged["texts"] > (300 if style == "full" else 60)
    assert (judged["cut"], judged["over"]) == ([], [])
    assert judged["wide"] <= 0
    assert opened.said == []
    assert opened.asked == [opened.file.as_uri()]
    assert opened.page.locator("svg[role=img]").count() >= (6 if style == "full" else 1)


@pytest.mark.parametrize("name", STUDIES)
def test_no_table_of_the_brief_report_is_wider_than_its_page(name, reports, open_page):
    page = open_page(reports(name, "brief")[1]).page
    assert page.evaluate(WIDER_THAN_THEIR_BOX) == []


@pytest.mark.parametrize("name", STUDIES)
def test_the_brief_report_prints_on_three_pages(name, reports, open_page):
    page = open_page(reports(name, "brief")[1]).page
    printed = page.pdf(format="A4", prefer_css_page_size=True)
    assert 2 <= pages_of(printed) <= 3


def pages_of(pdf: bytes) -> int:
    """Number of pages that Chromium has printed."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def test_the_judge_sees_texts_that_collide_or_are_cut(open_page, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<p style='position:absolute;top:9px'>under</p><p style='position:absolute;top:9px'>over</p>"
        "<p style='position:absolute;top:99px;width:2em;overflow:hidden'>Donaudampfschiff</p>"
    )
    judged = open_page(page).page.evaluate(JUDGE)
    assert judged["over"] == ["under | over"]
    assert len(judged["cut"]) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_from_what_is_under_it(scheme, reports, open_page):
    """WCAG's 4.5 : 1 for text; colours of pictures 3 : 1."""
    page = open_page(reports("radon")[1], scheme=scheme).page
    colors = page.evaluate(
        "() => { const s = getComputedStyle(document.documentElement);"
        "return Object.fromEntries([...'page card ink muted accent problem warning notice complete"
        " none partial blup'.split(' ')].map(k => [k, s.getPropertyValue('--' + k).trim()])) }"
    )
    for under in ("page", "card"):
        for over in ("ink", "muted", "accent", "problem", "warning", "notice"):
            assert contrast(colors[over], colors[under]) >= 4.5, (over, under)
        for over in ("complete", "none", "partial", "blup"):
            assert contrast(colors[over], colors["page"]) >= 3, over


def contrast(one: str, other: str) -> float:
    lights = sorted((luminance(one), luminance(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(color: str) -> float:
    parts = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_theme_can_be_chosen_against_the_systems(reports, open_page):
    page = open_page(reports("sleepstudy")[1], scheme="light").page
    paper = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate(paper) == light
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate(paper) != light
    assert page.locator("#theme").inner_text() == "Theme: dark"


def column(page, table: str, place: int) -> list[str]:
    cells = page.locator(f"#table-{table} tbody tr > :nth-child({place})")
    return cells.evaluate_all("cells => cells.map(c => c.dataset.v ?? c.textContent.trim())")


def place_of(page, table: str, name: str) -> int:
    heads = page.locator(f"#table-{table} thead th")
    return heads.evaluate_all("heads => heads.map(h => h.dataset.name)").index(name) + 1


def test_numbers_sort_as_numbers_down_and_up(reports, open_page):
    study, file = reports("boars")
    page = open_page(file).page
    place = place_of(page, "shrinkage", "own_estimate")
    head = page.locator(f"#table-shrinkage thead th:nth-child({place})")
    truth = np.sort(study.shrinkage["own_estimate"])
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    np.testing.assert_array_equal(np.array(column(page, "shrinkage", place), float), truth)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    np.testing.assert_array_equal(np.array(column(page, "shrinkage", place), float), truth[::-1])
    assert page.locator("#status").inner_text() == "Sorted by own_estimate, descending."


def test_missing_numbers_come_last_either_way(reports, open_page):
    page = open_page(reports("radon")[1]).page
    place = place_of(page, "columns", "minimum")
    button = page.locator(f"#table-columns thead th:nth-child({place})").get_by_role("button")
    for _ in range(2):
        button.click()
        assert column(page, "columns", place)[-1] == ""


def test_sorting_works_from_the_keyboard(reports, open_page):
    page = open_page(reports("sleepstudy")[1]).page
    place = place_of(page, "fixed_effects", "mean")
    head = page.locator(f"#table-fixed_effects thead th:nth-child({place})")
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    values = np.array(column(page, "fixed_effects", place), float)
    assert (np.diff(values) <= 0).all()


def test_keyboard_reaches_everything_and_focus_is_seen(reports, open_page):
    page = open_page(reports("sleepstudy")[1]).page
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("() => !!document.activeElement.closest('main')")
    outline = "() => parseFloat(getComputedStyle(document.activeElement).outlineWidth)"
    assert page.evaluate(outline) >= 2
    clickable = page.evaluate("() => [...document.querySelectorAll('[onclick]')].length")
    assert clickable == 0
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1


def test_ids_are_unique_and_links_lead_somewhere(reports, open_page):
    page = open_page(reports("boars")[1]).page
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = page.evaluate(
        "() => [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
    )
    assert all(link[0] == "#" and link[1:] in ids for link in links)


def downloaded(page, table: str) -> bytes:
    with page.expect_download() as waiting:
        page.locator(f"#table-{table} .csv").click()
    assert waiting.value.suggested_filename == f"{table}.csv"
    return waiting.value.path().read_bytes()


def test_csv_is_the_table_at_full_precision(reports, open_page):
    study, file = reports("boars")
    page = open_page(file).page
    text = downloaded(page, "shrinkage")
    table = pd.read_csv(io.BytesIO(text), dtype={"level": str})
    wanted = study.shrinkage.reset_index()
    assert list(table.columns) == list(wanted.columns)
    assert table["level"].tolist() == [str(level) for level in wanted["level"]]
    for name in wanted.select_dtypes("number"):
        np.testing.assert_array_equal(table[name], wanted[name])


def test_csv_follows_the_order_on_the_page(reports, open_page):
    page = open_page(reports("sleepstudy")[1]).page
    place = place_of(page, "compare_blups", "blup")
    page.locator(f"#table-compare_blups thead th:nth-child({place}) button").click()
    table = pd.read_csv(io.BytesIO(downloaded(page, "compare_blups")))
    assert (np.diff(table["blup"]) >= 0).all()


def test_long_tables_are_folded_searched_and_opened(reports, open_page):
    study, file = reports("boars")
    page, count = open_page(file).page, len(study.shrinkage)
    box = page.locator("#table-shrinkage")
    rows = box.locator("tbody tr:visible")
    assert rows.count() == 12
    assert box.locator(".count").inner_text() == f"12 of {count} rows shown; the CSV has all."
    box.get_by_role("button", name=f"Show all {count} rows").click()
    assert rows.count() == count
    box.get_by_role("searchbox").fill("120")
    assert rows.count() >= 1
    assert all("120" in text for text in rows.all_inner_texts())


@pytest.mark.parametrize(("name", "style"), list(itertools.product(STUDIES, STYLES)))
def test_printing_cuts_nothing(name, style, reports, open_page):
    page = open_page(reports(name, style)[1]).page
    assert pages_of(page.pdf(format="A4", prefer_css_page_size=True)) >= 2
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 less its margins, 96 dots an inch
    page.emulate_media(media="print")
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    too_wide = page.evaluate(
        "() => [...document.querySelectorAll('table, pre, svg, p')].filter(e => "
        "e.getBoundingClientRect().right > innerWidth + 1 && e.checkVisibility())"
        ".map(e => e.closest('[id]').id)"
    )
    assert too_wide == []
    judged = page.evaluate(JUDGE)
    assert (judged["cut"], judged["over"]) == ([], [])
    assert page.locator("details:not(.glossary):not([open])").count() == 0
    assert not page.locator("button").first.is_visible()
    assert not page.get_by_role("navigation").is_visible()
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_names_are_shown_and_never_run(width, style, hostile, open_page):
    file = hostile[1 + STYLES.index(style)]
    opened = open_page(file, width)
    page = opened.page
    assert page.title() != "ran"
    assert "<b>y</b>" in page.locator("h1").inner_text()
    assert "<script>" in page.locator(".subtitle").inner_text()
    if style == "full":
        assert sorted(column(page, "levels", 1)) == sorted(HOSTILE)
    assert page.locator("img, iframe, object, embed, link, b:not(.math b)").count() == 0
    assert page.locator("script").count() == 1
    judged = page.evaluate(JUDGE)
    assert (judged["cut"], judged["over"], opened.said) == ([], [], [])
    assert judged["wide"] <= 0
    assert opened.asked == [file.as_uri()]


def test_a_spreadsheet_takes_no_name_for_a_formula(hostile, open_page):
    page = open_page(hostile[1]).page
    table = pd.read_csv(io.BytesIO(downloaded(page, "levels")))
    dangerous = [name for name in HOSTILE if re.match(r"[=+\-@]", name)]
    assert dangerous
    expected = [f"'{name}" if name in dangerous else name for name in HOSTILE]
    assert sorted(table["level"]) == sorted(expected)


def test_an_injected_script_would_not_run(open_page, reports, tmp_path):
    """The policy of the page, not only its escaping."""
    text = reports("sleepstudy")[1].read_text(encoding="utf-8")
    attack = "<script>document.title = 'ran'</script><img src=x onerror=\"document.title='ran'\">"
    file = tmp_path / "attacked.html"
    file.write_text(text.replace("<main>", f"<main>{attack}"), encoding="utf-8")
    opened = open_page(file)
    assert opened.page.title() != "ran"
    assert any("Content Security Policy" in text for text in opened.said)


def test_a_table_of_two_thousand_levels_is_usable(open_page, tmp_path):
    count = 4000
    rng = np.random.default_rng(1)
    index = pd.MultiIndex.from_product(
        [["farm"], [f"farm {k}" for k in range(count // 2)], ["Intercept", "x"]],
        names=["factor", "level", "term"],
    )
    frame = pd.DataFrame(rng.normal(size=(count, 8)), index, [f"number_{k}" for k in range(8)])
    table = DataTable("many", "Many levels", frame)
    file = tmp_path / "many.html"
    file.write_text(render(Page("Many", "", [Section("one", "One", [table])], "")), "utf-8")
    assert file.stat().st_size < 3_000_000
    page = open_page(file, 390).page
    assert page.locator("tbody tr:visible").count() == 12
    page.get_by_role("button", name="number_3").click()
    wanted = np.sort(frame["number_3"])
    np.testing.assert_array_equal(np.array(column(page, "many", 7), float), wanted)
    page.get_by_role("searchbox").fill("farm 1999")
    assert page.locator("tbody tr:visible").count() == 2
