"""study.report() writes everything that the study knows, the answer first."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import DataError
from hierpool.core.findings import Finding, Findings
from hierpool.report.methods import REFERENCES
from hierpool.report.parts import DataTable, Listing, ModelCard, Page, PointsToCheck, Prose
from hierpool.studies.report import central_shares, page_of

ORDER = [
    "question",
    "answer",
    "check",
    "data",
    "models",
    "poolings",
    "blups",
    "shrinkage",
    "comparison",
    "findings",
    "advice",
    "checks",
    "methods",
    "reproduce",
]


@pytest.fixture(scope="module")
def page(dyes) -> Page:
    return page_of(dyes, dyes.tables(), lambda: dyes.advice)


def parts(page: Page, kind: type, key: str = "") -> list:
    """Parts of one kind, of one section or of all."""
    return [
        part
        for section in page.sections
        if key in ("", section.key)
        for part in section.parts
        if isinstance(part, kind)
    ]


def test_sections_come_in_the_order_of_reading(page):
    assert [section.key for section in page.sections] == ORDER


def test_answer_and_doubts_are_those_of_the_study(page, dyes):
    (answer,) = parts(page, Prose, "answer")
    assert list(answer.paragraphs) == dyes.answer.splitlines()
    (doubts,) = parts(page, PointsToCheck)
    assert doubts.findings == dyes.findings


def test_tables_are_those_of_the_study_at_full_precision(page, dyes):
    tables = {part.name: part.frame for part in parts(page, DataTable)}
    pd.testing.assert_frame_equal(tables["shrinkage"], dyes.shrinkage)
    pd.testing.assert_frame_equal(tables["compare_blups"], dyes.compare_blups)
    fixed = dyes.tables()["fixed_effects"]
    pd.testing.assert_frame_equal(tables["fixed_effects"][fixed.columns], fixed)
    scores = tables["comparison_levels"]
    wanted = hp.compare(dyes.fits, by="group")
    np.testing.assert_array_equal(scores["elpd"], wanted["elpd"])
    assert list(scores.index) == list(wanted.index)


def test_every_rung_has_a_card_and_one_is_chosen(page, dyes):
    cards = parts(page, ModelCard)
    assert [card.name for card in cards] == list(dyes.models)
    assert [card.name for card in cards if card.is_chosen] == [dyes.selected]
    programs = [listing.title for listing in cards[0].listings]
    assert programs == ["lme4", "brms", "SAS PROC MIXED", "LaTeX"]


def test_methods_cite_what_they_list_and_name_versions(page, dyes):
    paragraph, references = (part.text for part in parts(page, Listing, "methods"))
    assert "30 observations of Yield from 6 batches" in paragraph
    assert f"Results are from the model {dyes.recommended}." in paragraph
    assert f"hierpool {hp.__version__}" in paragraph
    assert "NUTS" not in paragraph
    listed = references.splitlines()
    assert set(listed) <= set(REFERENCES.values())
    for entry in listed:
        surname, year = entry.split()[0], re.search(r"\((\d{4})\)", entry)[1]
        assert re.search(rf"{surname}[^;()]* {year}", paragraph), entry


def test_code_of_the_report_makes_the_same_study_again(page, dyes):
    (code, shell) = (part.text for part in parts(page, Listing, "reproduce"))
    names: dict = {}
    exec("\n".join(line for line in code.splitlines() if "report" not in line), names)
    assert names["study"].answer == dyes.answer
    assert shell.startswith("hierpool study Dyestuff2.csv 'Yield ~ 1' --group Batch --seed 1")


def test_what_was_given_and_left_out_is_told():
    table = hp.datasets.load("Dyestuff2").assign(w=2.0)
    given = {"engine": "exact", "draws": 100, "chains": 2, "weights": "w"}
    done = hp.study("Yield ~ 1", table, group="Batch", seed=3, progress=False, **given)
    finding = Finding("rows-dropped", "warning", "2 of 30 rows left out")
    page = page_of(replace(done, findings=Findings([finding])), done.tables(), lambda: done.advice)
    code, shell = (part.text for part in parts(page, Listing, "reproduce"))
    assert "seed=3, engine='exact', draws=100, chains=2, weights='w')" in code
    assert shell.endswith("--engine exact --draws 100 --chains 2 --weights w")
    assert "2 of 30 rows left out." in parts(page, Prose, "data")[0].paragraphs


def test_report_writes_one_file_and_gives_its_path(dyes, tmp_path):
    path = dyes.report(tmp_path / "deep" / "dyes.html")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "Dyestuff2 (simulated): Yield ~ 1 by Batch" in text
    assert list(path.parent.iterdir()) == [path]


def test_central_shares_of_uniform_values_are_the_nominal_ones():
    table = central_shares((np.arange(1000) + 0.5) / 1000)
    np.testing.assert_allclose(table["share"], table["expected"], atol=1e-3)
    sure = central_shares(np.array([0.001, 0.999]))
    assert (sure["share"] == 0).all()


def test_report_is_written_without_findings_and_where_advice_cannot_be_had(dyes):
    def refused():
        raise DataError("each group of 'h' has one row only.", "levels-equal-rows")

    page = page_of(replace(dyes, findings=Findings()), dyes.tables(), refused)
    (said,) = parts(page, Prose, "advice")
    assert said.paragraphs == ["No advice is available: each group of 'h' has one row only."]
    assert "findings" not in [section.key for section in page.sections]
