"""The brief report of a study: what it says, as plain things."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from hierpool.answers.term_effects import term_effects
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import noun
from hierpool.core.options import bounds_among
from hierpool.core.text import joined, sentence, short
from hierpool.report import brief
from hierpool.report.columns import interval_of
from hierpool.report.methods import Facts, methods
from hierpool.report.model_words import CONSTANT, centred_columns, on_scale
from hierpool.report.parts import Section
from hierpool.report.results import Spread, TermResult, results_paragraph
from hierpool.report.structures import StructureRow, structures
from hierpool.studies.result import StudyResult
from hierpool.studies.sentences import where

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EFFECTS, GROUPS = "effects", "shrinkage"  # names of figures
OF_RESIDUALS = ("residual_structure", "residual_sds")
MOST_PICTURES = 1


def beginning(
    study: StudyResult, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Figure]
) -> list[Section]:
    """The answer, the effect, what to check, and the recommended model."""
    effects, _, *more = study.answer.splitlines()  # the second is how the model was chosen
    factors, shrunk = more[: -len(study.groups)], more[-len(study.groups) :]
    shown = [
        brief.answer([effects, *factors], tables.get("answer")),
        brief.effects(_drawn(figures), "Data and fitted means, with their intervals")
        if EFFECTS in figures
        else brief.effects(
            {GROUPS: figures[GROUPS]},
            f"Each {noun(study.group)}: its own estimate, and that of the recommended model",
        ),
        brief.points_to_check([replace(f, about="") for f in study.findings if _matters(study, f)]),
        brief.model(
            study.design,
            study.groups,
            _of_selected(study, tables["fixed_effects"]).rename(index=partial(_held, study)),
            _of_selected(study, tables["variance_components"]),
            shrunk,
            is_decided=study.decided,
        ),
        _structures(study, figures),
        brief.prediction(
            list(_scored(study)), study.groups, is_rough="few-rows" in study.findings.codes
        ),
    ]
    return [section for section in shown if section is not None]


def end(
    study: StudyResult, tables: Mapping[str, pd.DataFrame], facts: Facts, code: str
) -> list[Section]:
    """Paragraphs for a paper, and how it was done."""
    lines = [
        f"Formula: {study.formula}, groups: {joined(study.groups)}. Recommended: {study.recommended}.",
        sentence(study.why),
        f"Seed {study.seed}, {facts.chains} chains of {facts.draws} draws, "
        f"hierpool {facts.versions['hierpool']}, Python {facts.versions['python']}.",
    ]
    results = _results(study)
    note = {}
    if study.design.family is not None:
        is_linked = on_scale(study.design.family)
        note["note"] = brief.NOTE_OF_LINK if is_linked else brief.NOTE_OF_FAMILY
    elif study.design.scale_factor:
        note["note"] = brief.NOTE_OF_ML
    return [brief.paper(results, *methods(facts), **note), brief.how(lines, code)]


def _structures(study: StudyResult, figures: Mapping[str, Figure]) -> Section | None:
    """The comparison of residual structures; nothing where none was asked for."""
    ladder = study.residual_ladder
    if ladder is None:
        return None
    rows = [
        StructureRow(ladder.fits[str(name)].design, name == ladder.recommended, dict(row))
        for name, row in ladder.shown.iterrows()
    ]
    names = dict(zip(map(str, ladder.shown.index), (row.name for row in rows), strict=True))
    return structures(
        rows,
        f"We recommend {names[ladder.recommended]}. {ladder.because(names)}",
        [note for note in ladder.notes if "in place of" not in note],  # the table shows it
        {name: figures[name] for name in OF_RESIDUALS if name in figures},
        factor=ladder.factor,
        n_groups=ladder.n_groups,
        method=ladder.method,
    )


def _drawn(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """The pictures of the effects, those that interact first, as many as fit on the page."""
    names = [name for name in figures if re.fullmatch(rf"{EFFECTS}(_\d+)?", name)]
    return {name: figures[name] for name in names[:MOST_PICTURES]}


def _matters(study: StudyResult, finding: Finding) -> bool:
    """Whether a finding is about the data or the recommended model; a comparison has its note."""
    return finding.about in ("", study.selected) and finding.code != "few-rows"


def _of_selected(study: StudyResult, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the recommended model."""
    own = table.index.get_level_values("model") == study.selected
    return table[own].droplevel("model")


def _held(study: StudyResult, term: str) -> str:
    """A coefficient with where it holds: ``"Diet[T.2] where Time is 0"``."""
    schema = study.design.schema
    if term == CONSTANT:
        centred = joined(centred_columns(schema.terms)) if centred_columns(schema.terms) else ""
        return f"{term} at the mean of {centred}" if centred else term
    return f"{term}{where(schema, term)}"


def _scored(study: StudyResult) -> Iterator[brief.Scored]:
    """Every model of the comparison, the best first."""
    by_row = study.comparison
    scored = by_row if len(by_row) else study.comparison_by_group.get(study.group, by_row)
    for name in scored.index:
        yield brief.Scored(
            study.models[name].design,
            name == study.selected,
            _difference(by_row, name) if len(by_row) else None,
            {
                factor: _difference(table, name)
                for factor, table in study.comparison_by_group.items()
                if name in table.index and not table["note"][name]
            },
        )


def _difference(scores: pd.DataFrame, name: str) -> tuple[float, float]:
    return float(scores["elpd_diff"][name]), float(scores["dse"][name])


def _results(study: StudyResult) -> str:
    """The results paragraph: estimates and tests of the fit by REML; of a family the posterior."""
    is_gaussian = study.design.family is None
    own = (
        study.reml.variance_components()["estimate"]
        if is_gaussian
        else study.fit.variance_components()["mean"]
    )
    sds = own[own.index.get_level_values("parameter") == "sd"]
    keys = sds.index.to_frame(index=False)
    spreads = [
        Spread(factor, term, float(sd), _posterior_sd(study, factor, term))
        for factor, term, sd in zip(keys["factor"], keys["term"], sds, strict=True)
    ]
    how = {"method": "Bayesian inference", "df": ""}
    if is_gaussian:
        how = {"method": study.reml.method, "df": str(study.reml.df_method)}
    return results_paragraph(study.design, _terms(study), spreads, how)


def _posterior_sd(study: StudyResult, factor: str, term: str) -> str:
    """The Bayesian estimate of a standard deviation with its interval."""
    table = study.fit.variance_components()
    asked = {"factor": factor, "parameter": "sd", "term": term}
    found = table[
        [dict(zip(table.index.names, k, strict=True)).items() >= asked.items() for k in table.index]
    ]
    if found.empty:
        return ""
    low, high = bounds_among(table.columns)
    row = found.iloc[0]
    return (
        f"{short(row['mean'])} ({interval_of(low)[0]} % interval {short(row[low])} to "
        f"{short(row[high])})"
    )


def _terms(study: StudyResult) -> list[TermResult]:
    """What each term says by REML, of a family by the posterior; nothing where none can be averaged."""
    try:
        table = term_effects(study.reml if study.design.family is None else study.fit)
    except UnsupportedModelError:
        return []
    percent = interval_of(str(table.columns[1]))[0] if len(table) else ""
    if study.design.family is not None:
        return [TermResult(text, percent) for text in table.attrs["sentences"].values()]
    tests = table.groupby(level="term", sort=False)[["num_df", "den_df", "F", "p"]].first()
    return [
        TermResult(text, percent, *(map(float, tests.loc[name]) if name != CONSTANT else ()))
        for name, text in table.attrs["sentences"].items()
    ]
