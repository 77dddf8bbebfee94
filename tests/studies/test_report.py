"""study.report() writes everything that the study knows, the answer first."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import hierpool as hp
from hierpool.core.errors import ArgumentError, DataError
from hierpool.core.findings import Finding, Findings
from hierpool.core.text import short
from hierpool.report.methods import REFERENCES
from hierpool.report.parts import (
    DataTable,
    Listing,
    ModelCard,
    Page,
    Picture,
    PointsToCheck,
    Prose,
    SmallTable,
)
from hierpool.studies.figures import StudyFigures
from hierpool.studies.full_report import central_shares
from hierpool.studies.report import page_of
from hierpool.studies.report_facts import code_of
from hierpool.studies.study import Study

BRIEF = ["answer", "effects", "check", "model", "prediction", "paper", "how"]
BEHIND = [
    "data",
    "models",
    "poolings",
    "blups",
    "shrinkage",
    "comparison",
    "findings",
    "advice",
    "checks",
]


def made(study: Study, style: str = "full") -> Page:
    return page_of(study, study.tables(), study.figures(), style, lambda: study.advice)


@pytest.fixture(scope="module")
def page(dyes) -> Page:
    return made(dyes)


@pytest.fixture(scope="module")
def brief(sleep) -> Page:
    return made(sleep, "brief")


def parts(page: Page, kind: type, key: str = "") -> list:
    """Parts of one kind, of one section or of all."""
    return [
        part
        for section in page.sections
        if key in ("", section.key)
        for part in section.parts
        if isinstance(part, kind)
    ]


@pytest.mark.slow
def test_the_full_report_is_the_brief_one_with_more_before_its_end(page, dyes):
    assert [section.key for section in made(dyes, "brief").sections] == BRIEF
    assert [section.key for section in page.sections] == [
        *BRIEF[:-1],
        *BEHIND,
        "how",
        "reproduce",
    ]


def test_answer_and_doubts_are_those_of_the_study(page, dyes):
    (answer,) = parts(page, Prose, "answer")
    effects, _, shrunk = dyes.answer.splitlines()
    assert list(answer.paragraphs) == [effects]
    assert shrunk in parts(page, Prose, "model")[0].paragraphs[0]
    (doubts,) = parts(page, PointsToCheck)
    assert doubts.findings == dyes.findings


@pytest.mark.slow
def test_a_brief_report_draws_the_effects_and_nothing_else(sleep, monkeypatch):
    drawn = []
    figures = {name: lambda name=name: drawn.append(name) or Figure() for name in sleep.figures()}
    page = page_of(sleep, sleep.tables(), StudyFigures(figures), "brief", pytest.fail)
    assert [part.name for part in parts(page, Picture)] == drawn
    assert all(name.startswith("effects") for name in drawn)
    assert drawn


@pytest.mark.slow
def test_a_picture_is_drawn_once_however_often_it_is_asked_for(sleep):
    assert sleep.figures()["trajectories"] is sleep.figures()["trajectories"]


def test_the_first_page_is_in_the_words_of_its_reader(brief, sleep):
    assert brief.title == "How does Reaction depend on Days?"
    assert brief.subtitle == "180 observations of 18 subjects (sleepstudy)"
    (words,) = parts(brief, Prose, "model")[0].paragraphs
    assert words.startswith("Subjects differ in level and effect of Days (independent).")
    names = {finding.about for finding in parts(brief, PointsToCheck)[0].findings}
    assert not names & set(sleep.models)


def test_the_tables_of_the_recommended_model_are_those_of_the_study(brief, sleep):
    fixed, spread = parts(brief, SmallTable, "model")
    table = sleep.tables()["fixed_effects"].xs(sleep.selected, level="model")
    days = table.loc["Days"]
    assert [row[0] for row in fixed.rows] == ["Intercept", "Days"]
    assert fixed.rows[1][1] == short(days["mean"])
    assert fixed.rows[1][3] == f"{short(days['estimate'])} ({short(days['se'])})"
    assert [row[0] for row in spread.rows] == [
        "Level, between subjects",
        "Effect of Days, between subjects",
        "Residual (within groups)",
    ]


def test_models_are_compared_from_the_best_on(brief, sleep):
    (table,) = parts(brief, SmallTable, "prediction")
    assert len(table.rows) == len(sleep.models)
    assert table.rows[0][1] == "best"
    assert [row[0].endswith("(recommended)") for row in table.rows] == [
        name == sleep.selected for name in sleep.comparison.index
    ]
    words = [row[0] for row in table.rows]
    assert table.rows[words.index("Each subject by itself")][2] == "–"
    assert table.rows[words.index("All subjects alike")][1].startswith("clearly worse (−")


def test_the_results_paragraph_has_the_tests_of_the_reml_fit(brief, sleep):
    results, *_ = (part.text for part in parts(brief, Listing, "paper"))
    test = sleep.reml.anova().loc["Days"]
    estimate = short(sleep.reml.fixed_effects()["estimate"]["Days"])
    assert results.startswith(f"Reaction rises with Days: by {estimate} (")
    assert f"F(1, {test['den_df']:.1f}) = {test['F']:.2f}, p < .001" in results
    assert "fitted by REML to 180 observations of 18 subjects" in results
    assert "degrees of freedom by the Kenward-Roger method" in results


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
    paragraph, references = (
        part.text for part in parts(page, Listing, "paper") if part.title != "Results"
    )
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
    page = made(replace(done, findings=Findings([finding])))
    code, shell = (part.text for part in parts(page, Listing, "reproduce"))
    assert "seed=3, engine='exact', draws=100, chains=2, weights='w')" in code
    assert shell.endswith("--engine exact --draws 100 --chains 2 --weights w --report-style full")
    assert "2 of 30 rows left out." in parts(page, Prose, "data")[0].paragraphs


def test_report_writes_one_file_and_gives_its_path(dyes, tmp_path):
    path = dyes.report(tmp_path / "deep" / "dyes.html")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "What is the mean of Yield?" in text
    assert "30 observations of 6 batches (Dyestuff2 (simulated))" in text
    assert list(path.parent.iterdir()) == [path]


def test_central_shares_of_uniform_values_are_the_nominal_ones():
    table = central_shares((np.arange(1000) + 0.5) / 1000)
    np.testing.assert_allclose(table["share"], table["expected"], atol=1e-3)
    sure = central_shares(np.array([0.001, 0.999]))
    assert (sure["share"] == 0).all()


def test_report_is_written_without_findings_and_where_advice_cannot_be_had(dyes):
    def refused():
        raise DataError("each group of 'h' has one row only.", "levels-equal-rows")

    page = page_of(
        replace(dyes, findings=Findings()), dyes.tables(), dyes.figures(), "full", refused
    )
    (said,) = parts(page, Prose, "advice")
    assert said.paragraphs == ["No advice is available: each group of 'h' has one row only."]
    assert "findings" not in [section.key for section in page.sections]


def test_another_style_is_refused_before_any_work(dyes, tmp_path):
    with pytest.raises(ArgumentError, match=r"style='breif'.*brief") as caught:
        dyes.report(tmp_path / "a.html", style="breif")
    assert caught.value.code == "unknown-choice"
    assert list(tmp_path.iterdir()) == []


def test_a_report_keeps_the_probability_that_the_study_was_made_with(tmp_path):
    data = hp.datasets.load("Dyestuff2")
    with hp.options(prob=0.8):
        made_so = hp.study("Yield ~ 1", data, group="Batch", seed=1, draws=200, progress=False)
    assert made_so.prob == 0.8
    tables = made_so.tables()
    assert {"eti80_lb", "eti80_ub"} <= set(tables["fixed_effects"])
    assert "80 %" in made_so.answer
    file = made_so.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "80 %" in file
    assert "95 %" not in file
    code, shell = code_of(made_so, "full")
    assert "hp.options.prob = 0.8\n" in code
    assert " --prob 0.8 " in f"{shell} "
    again: dict = {}
    try:
        exec("\n".join(line for line in code.splitlines() if "report" not in line), again)
    finally:
        hp.options.prob = 0.95
    assert again["study"].answer == made_so.answer


@pytest.mark.slow
def test_saving_and_reporting_name_their_steps(dyes, tmp_path, monkeypatch):
    named = []

    @contextmanager
    def steps(_, shown):
        assert shown
        yield named.append

    monkeypatch.setattr("hierpool.studies.study.named_steps", steps)
    dyes.save(tmp_path)
    assert named == ["tables", *(f"picture: {name}" for name in dyes.figures())]
    named.clear()
    dyes.report(tmp_path / "page.html", style="full")
    assert named == ["report", "advice", "report"]
