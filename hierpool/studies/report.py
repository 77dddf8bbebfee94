"""What a study hands to its report, brief or full, as plain things."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from datetime import date
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hierpool.checks.advice import Advice
from hierpool.core.arguments import check_choice
from hierpool.core.writing import check_file, make_folder, write_file
from hierpool.report import brief, sections
from hierpool.report.methods import reproduce
from hierpool.report.page import render
from hierpool.report.parts import Page, Section
from hierpool.studies import brief_report
from hierpool.studies.full_report import full_sections
from hierpool.studies.report_facts import code_of, facts_of
from hierpool.studies.result import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("brief", "full")


def write_report(
    study: StudyResult,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure],
    path: str | PathLike[str],
    style: str,
    advise: Callable[[], Advice],
) -> Path:
    """Write the page of a study to a file; a full one asks ``advise`` once."""
    check_choice("style", style, STYLES)
    make_folder(Path(path).parent)
    file = check_file(path)  # before the work
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the tables have the name
        text = render(page_of(study, tables, figures, style, advise))
    return write_file(file, text.encode("utf-8", errors="replace"))


def page_of(
    study: StudyResult,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure],
    style: str,
    advise: Callable[[], Advice],
) -> Page:
    """The report of a study, not yet written as HTML."""
    facts, (code, shell) = facts_of(study, tables), code_of(study, style)
    first = brief_report.beginning(study, tables, figures)
    last = brief_report.end(study, tables, facts, code)
    if style == "full":
        first = [_in_full(study, section) for section in first]
        last = [
            *last[:1],
            *full_sections(study, tables, figures, advise),
            *last[1:],
            reproduce(code, shell, facts),
        ]
    return Page(
        title=brief.question(study.design, study.group),
        subtitle=brief.size(study.design, study.groups),
        sections=[*first, *last],
        foot=f"Written by hierpool {facts.versions['hierpool']} on {date.today().isoformat()}. The "
        "page is self-contained: it loads nothing and sends nothing.",
        kind=f"{style.capitalize()} report",
        is_brief=style == "brief",
    )


def _in_full(study: StudyResult, section: Section) -> Section:
    """The findings with their evidence."""
    return sections.points_to_check(study.findings) if section.key == "check" else section
