"""The answer of a study in plain sentences: the effects, the recommended model, and the shrinkage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hierpool.answers.term_effects import term_effects
from hierpool.checks.advice import ERRORS, MIN_ELPD_DIFFERENCE
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.group_nouns import called, noun, nouns
from hierpool.core.options import bounds_among, percent
from hierpool.core.printable import one_line
from hierpool.core.schema import Schema
from hierpool.core.text import capital, joined, short
from hierpool.report.model_words import on_scale, uncentred, without_backticks
from hierpool.studies.factors import says_relations, says_shares
from hierpool.studies.result import StudyResult

INTERCEPT = "Intercept"
MOST_TERMS = 3  # that the answer has a sentence for
LITTLE = 1e-3  # of the variation of a predictor within a typical group


def answer(study: StudyResult) -> str:
    """The results of a study in plain sentences, a line for each subject."""
    predicts = says_prediction(study.comparison, study.comparison_by_group, study.selected)
    sentences = [
        says_effects(study),
        f"{study.why} {predicts}",
        *([says_factors(study)] if len(study.groups) > 1 else []),
        *(says_shrinkage(study.shrinkage, study.design, factor) for factor in study.groups),
    ]
    return "\n".join(map(one_line, sentences))


def says_factors(study: StudyResult) -> str:
    """How several factors relate, and what each accounts for."""
    relations = says_relations(study.design.groupings, study.groups)
    return f"{relations} {says_shares(study.fit)}"


def says_effects(study: StudyResult) -> str:
    """What the first terms of ``hp.term_effects`` say of the recommended model, three at most."""
    try:
        said = list(term_effects(study.fit).attrs.get("sentences", {}).values())
    except UnsupportedModelError:  # more combinations of categories than can be averaged
        return (
            "The fixed effects are in the table below; they have too many combinations to average."
        )
    if not said:
        return "The model has no fixed effects; the groups are the answer."
    if not study.design.predictors and len(study.groups) == len(study.design.groups) == 1:
        said.append(_says_spread(study))
    where = f"Brackets show {percent()} % intervals"
    more = len(said) - MOST_TERMS
    others = f"; the table 'answer' has {more} more term{'s' * (more > 1)}" if more > 0 else ""
    return " ".join([*said[:MOST_TERMS], f"{where}{others}."])


def _says_spread(study: StudyResult) -> str:
    """How much the groups differ, where they are all that a study is about."""
    table = study.fit.variance_components()
    row = table[table.index.get_level_values("factor") == study.group].iloc[0]
    low, high = bounds_among(table.columns)
    return (
        f"{capital(nouns(study.group))} differ from it with a standard deviation of "
        f"{short(row['mean'])} [{short(row[low])}, {short(row[high])}]."
    )


def _near(comparison: pd.DataFrame) -> list[str]:
    """The best model and those that it does not clearly beat: by 4 and by two standard errors."""
    elpd, dse = comparison["elpd"].to_numpy(), comparison["dse"].to_numpy()
    difference = elpd[0] - elpd
    apart = (difference >= MIN_ELPD_DIFFERENCE) & (difference >= ERRORS * dse)
    return [str(name) for name in comparison.index[~apart]]


def main_term(schema: Schema) -> str:
    """The population term that the answer is about: a slope that varies, else a slope."""
    varying = [term for group in schema.groups for term in group.terms if term in schema.terms]
    slopes = [term for term in (*varying, *schema.terms) if term != INTERCEPT]
    return next(iter(slopes), schema.terms[0])


def shrunk_term(schema: Schema, factor: str) -> str:
    """The term of the groups that the answer is about: the same where it varies."""
    group = schema.group(factor)
    return main_term(schema) if main_term(schema) in group.terms else group.terms[0]


def most_shrunk(table: pd.DataFrame, term: str, factor: str) -> pd.Series[float]:
    """How far each group was moved in one term, furthest first; without those with no own estimate."""
    table = table[table.index.get_level_values("factor") == factor]
    moved = (table["partial_pooling"] - table["own_estimate"]).abs()
    of_term = moved[moved.index.get_level_values("term") == term]
    return of_term.dropna().sort_values(ascending=False, kind="stable")


def _categories(schema: Schema) -> dict[str, list[str]]:
    """Column -> its categories."""
    sources = schema.encoder.sources
    return {s.column: list(map(str, s.categories)) for s in sources if s.categories is not None}


def where(schema: Schema, term: str) -> str:
    """Where the coefficient of a term that others interact with holds: ``" where sex is m"``.

    Of a term whose powers are there too it is the slope at 0. Empty where it holds everywhere.
    ``design`` has the interactions among its common terms.
    """
    factors = [f for names in _interactions(schema, term).values() for f in names]
    categories = _categories(schema)
    held: dict[str, str] = {}
    for factor in factors:
        column = factor.split("[T.")[0]
        seen = {f.removeprefix(f"{column}[T.").removesuffix("]") for f in factors}
        left = [label for label in categories.get(column, []) if label not in seen]
        is_known = "[T." in factor and len(left) == 1
        held[column if is_known else factor] = left[0] if is_known else "0"
    if any(name.startswith(f"I({term} ** ") for name in schema.terms):
        held[term] = "0"
    said = joined(_held_at(name, value) for name, value in held.items()) if held else ""
    return said and f" where {said}"


def _held_at(name: str, value: str) -> str:
    plain = uncentred(name)
    return f"{plain} is {value}" if plain == name else f"{plain} is at its mean"


def _interactions(schema: Schema, term: str) -> dict[str, list[str]]:
    """Common terms that a term is a part of, each with its other parts."""
    whole = {name: f":{name}:" for name in schema.terms if name != term}
    of_term = {name: text for name, text in whole.items() if f":{term}:" in text}
    return {
        name: text.replace(f":{term}:", ":", 1).strip(":").split(":")
        for name, text in of_term.items()
    }


def says_prediction(
    comparison: pd.DataFrame, by_group: Mapping[str, pd.DataFrame], recommended: str
) -> str:
    """Which model, if any, predicts clearly better than the recommended one.

    ``by_group`` has, for each factor, the comparison for its new groups; models that have only
    their prior for one do not count.
    """
    scored = {} if comparison.empty else {"new observations": comparison}
    scored |= {f"new {nouns(f)}": table[table["note"] == ""] for f, table in by_group.items()}
    better = []
    for what, table in scored.items():
        best, *near = _near(table)
        if recommended in table.index and recommended not in (best, *near):
            row = table.loc[recommended]
            better.append(
                f"However, {best} predicts {what} clearly better: its elpd is higher by "
                f"{-row['elpd_diff']:.1f} (standard error {row['dse']:.1f})."
            )
    return " ".join(better) or f"No other model predicts {' or '.join(scored)} clearly better."


def says_shrinkage(table: pd.DataFrame, design: Design, factor: str) -> str:
    """Who was moved most, from where to where."""
    if table.empty:
        return f"The model has no random effects, so no {noun(factor)} has an estimate of its own."
    group, term = design.group(factor), shrunk_term(design.schema, factor)
    moved = most_shrunk(table, term, factor)
    what = "intercept" if term == INTERCEPT else f"coefficient of {term}"
    if "[" not in term and ":" not in term and term != INTERCEPT:
        what = f"slope of {without_backticks(uncentred(term))}"
    telling = [label for label in moved.index if label[1] in _telling(group, term)]
    family = design.family
    scale = f", on the {family.link} scale," if family is not None and on_scale(family) else ""
    begun = "Shrinkage" if len(telling) == len(moved) else _where_it_varies(factor, term)
    most = table.loc[telling[:1], ["own_estimate", "partial_pooling"]]
    said = [
        f"{begun} moves {called(factor, level)} the most: its {what}{where(design.schema, term)}{scale} "
        f"goes from {short(alone)} alone to {short(pooled)}."
        if short(alone) != short(pooled)
        else f"Shrinkage hardly changes the {what} of any {noun(factor)}."
        for level, alone, pooled in most.droplevel(["factor", "term"]).itertuples()
    ]
    silent = group.grouping.n_levels - len(moved)
    # Where no group of a family has one, the search may have failed, whatever the rows of each.
    if silent and (family is None or len(moved)):
        said.append(
            f"{silent} of {group.grouping.n_levels} {nouns(factor)} "
            f"{'has' if silent == 1 else 'have'} {_silence(design)} an estimate of their own."
        )
    return " ".join(said)


def _silence(design: Design) -> str:
    """Why a group has no estimate of its own."""
    if design.family is None:
        return "too few observations for"
    return "too few observations, or all with the same response, for"


def _telling(group: GroupDesign, term: str) -> frozenset[Any]:
    """Groups whose predictor varies enough for an estimate of their own that is worth a sentence.

    A slope over a predictor that hardly varies is furthest off alone, and no example of anything.
    """
    levels = group.grouping.levels
    if term == INTERCEPT:
        return frozenset(levels)
    z, codes = group.Z[:, group.terms.index(term)], group.codes
    n = np.maximum(np.bincount(codes, minlength=len(levels)), 1)
    mean = np.bincount(codes, z, len(levels)) / n
    spread = np.bincount(codes, np.square(z - mean[codes]), len(levels))
    typical = np.median(spread[spread > 0]) if (spread > 0).any() else 0.0
    return frozenset(levels[spread >= LITTLE * typical])


def _where_it_varies(factor: str, term: str) -> str:
    return (
        f"Among {nouns(factor)} where {without_backticks(uncentred(term))} varies enough, shrinkage"
    )
