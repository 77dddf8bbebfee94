"""The answer of a study in plain sentences: the effect, the recommended model, and the shrinkage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from hierpool.checks.advice import ERRORS, MIN_ELPD_DIFFERENCE
from hierpool.core.design import Design
from hierpool.core.group_nouns import called, counted, noun, nouns
from hierpool.core.options import bounds_among
from hierpool.core.printable import one_line
from hierpool.core.schema import Schema
from hierpool.core.text import joined, short
from hierpool.draws.summary import summary
from hierpool.fits.posterior import PosteriorFit
from hierpool.studies.factors import says_relations, says_shares
from hierpool.studies.result import StudyResult

INTERCEPT = "Intercept"
MOST_NAMED = 3  # of the groups with the most shrinkage


def answer(study: StudyResult) -> str:
    """The results of a study in plain sentences, a line for each subject."""
    best = [study.why, says_best(study.comparison, study.selected)]
    among = study.selected, study.comparison.index[0]
    best += [
        says_best_for_groups(table, factor, *among)
        for factor, table in study.comparison_by_group.items()
    ]
    sentences = [
        says_population(study.fits, study.selected),
        " ".join(best),
        *([says_factors(study)] if len(study.groups) > 1 else []),
        *(
            says_shrinkage(study.shrinkage, study.design, study.selected, factor)
            for factor in study.groups
        ),
    ]
    return "\n".join(map(one_line, sentences))


def says_factors(study: StudyResult) -> str:
    """How several factors relate, and what each accounts for."""
    relations = says_relations(study.design.groupings, study.groups)
    return f"{relations} {says_shares(study.fit)}"


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


def says_population(fits: Mapping[str, PosteriorFit], partial: str) -> str:
    """What each pooling says of one population coefficient."""
    design, own = fits[partial].design, fits.get("no_pooling")
    term = main_term(design.schema)
    fixed = {name: fits[name].fixed_effects() for name in ("complete_pooling", partial)}
    estimate = _with_interval(fixed[partial], term)
    constant = "" if own is None else constant_within(own.design, term)
    sentences = [
        f"{_effect(design.schema, term, estimate)} under partial pooling ({partial}).",
    ]
    if term in fixed["complete_pooling"].index:  # coded alike
        sentences.append(
            f"Complete pooling gives {_with_interval(fixed['complete_pooling'], term)}."
        )
        if own is not None:
            sentences.append(
                _not_estimable(constant, own.design) if constant else _average_line(own, term)
            )
    percent = re.sub(r"\D", "", bounds_among(fixed[partial].columns)[0])
    return f"{' '.join(sentences)} Brackets show {percent} % intervals."


def _effect(schema: Schema, term: str, estimate: str) -> str:
    """The coefficient of a term in a clause: a difference, a change per unit, or an intercept."""
    response, held = schema.spec.response, where(schema, term)
    if term == INTERCEPT:
        return f"The intercept of {response}{held} is {estimate}"
    if (pair := _compared_categories(schema, term)) is not None:
        return f"The difference in {response} between {pair}{held} is {estimate}"
    if "[" in term or ":" in term:
        return f"The coefficient of {term}{held} is {estimate}"
    return f"Per unit of {term}{held and f',{held}'}, {response} changes by {estimate}"


def _compared_categories(schema: Schema, term: str) -> str | None:
    """``"Treatment High and Control"``: the category of a term and the one it is compared with."""
    found = re.fullmatch(r"([^\[\]:]+)\[T\.(.*)\]", term)
    if found is None:
        return None
    column, category = found.groups()
    every = _categories(schema).get(column, [])
    seen = {t.removeprefix(f"{column}[T.").removesuffix("]") for t in schema.terms}
    base = [label for label in every if label not in seen]
    return f"{column} {category} and {base[0]}" if len(base) == 1 else None


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
    said = joined(f"{name} is {value}" for name, value in held.items()) if held else ""
    return said and f" where {said}"


def _interactions(schema: Schema, term: str) -> dict[str, list[str]]:
    """Common terms that a term is a part of, each with its other parts."""
    whole = {name: f":{name}:" for name in schema.terms if name != term}
    of_term = {name: text for name, text in whole.items() if f":{term}:" in text}
    return {
        name: text.replace(f":{term}:", ":", 1).strip(":").split(":")
        for name, text in of_term.items()
    }


def constant_within(own: Design, term: str) -> str:
    """A part of the term that does not vary within a group, so that no pooling cannot estimate it.

    Such columns stay common in the design of no pooling, and there the coefficients of the groups
    can take up all that they say. Empty where there is none.
    """
    common = [name for name in (term, *_interactions(own.schema, term)) if name in own.terms]
    if not common:
        return ""
    (group,) = own.groups
    columns = [part.split("[")[0] for part in common[0].split(":")]
    groups = own.frame.groupby(group.grouping.codes)
    fixed = [c for c in columns if c in own.frame and (groups[c].nunique(dropna=False) == 1).all()]
    return fixed[0] if fixed else common[0]


def _not_estimable(column: str, own: Design) -> str:
    (group,) = own.groups
    one = noun(group.factor)
    return f"{column} does not vary within a {one}, so separate fits for each {one} cannot estimate this."


def _average_line(own: PosteriorFit, term: str) -> str:
    """The average over groups of the own coefficients of no pooling, and their range."""
    (group,) = own.design.groups
    every: Any = own.variable(f"coef_{group.factor}")
    draws = every.sel({f"{group.factor}_term": term})
    average = summary(draws.mean(group.factor), diagnostics=False).set_axis([term])
    each = draws.mean(("chain", "draw")).to_numpy()
    return (
        f"No pooling gives {_with_interval(average, term)} on average; single "
        f"{nouns(group.factor)} range from {short(each.min())} to {short(each.max())}."
    )


def _with_interval(table: pd.DataFrame, term: str) -> str:
    mean, low, high = (short(float(table[c][term])) for c in ("mean", *bounds_among(table.columns)))
    return f"{mean} [{low}, {high}]"


def says_best(comparison: pd.DataFrame, recommended: str) -> str:
    """How well the recommended model predicts new observations, beside the others."""
    best, *near = _near(comparison)
    if recommended == best:
        return f"It predicts new observations best{_but_not_clearly(near)}."
    if recommended in near:
        return f"It predicts new observations about as well as {best}, the best model for them."
    row = comparison.loc[recommended]
    return (
        f"However, {best} predicts new observations clearly better: its elpd is higher by "
        f"{-row['elpd_diff']:.1f} (standard error {row['dse']:.1f})."
    )


def says_best_for_groups(
    by_group: pd.DataFrame, factor: str, recommended: str, best_of_all: str
) -> str:
    """Which model predicts new groups best, among those that say more of one than their prior.

    ``best_of_all`` is the model that predicts new observations best, named in the sentence before.
    """
    scored = by_group[by_group["note"] == ""]
    best, *near = _near(scored)
    new = f"new {nouns(factor)}"
    if recommended not in scored.index:
        return (
            f"For {new}, {best} predicts best; {recommended} has only its prior for a new "
            f"{noun(factor)}."
        )
    if recommended == best:
        return f"It also predicts {new} best{_but_not_clearly(near)}."
    if recommended in near and best == best_of_all:
        return f"The same holds for {new}."
    if recommended in near:
        return f"It predicts {new} about as well as {best}, the best model for them."
    return f"For {new}, {best} predicts clearly better."


def _but_not_clearly(near: list[str]) -> str:
    return f", but not clearly better than {joined(near)}" if near else ""


def says_shrinkage(table: pd.DataFrame, design: Design, partial: str, factor: str) -> str:
    """Who was moved most, from where to where."""
    group, term = design.group(factor), shrunk_term(design.schema, factor)
    moved = most_shrunk(table, term, factor).index
    what = "intercept" if term == INTERCEPT else f"coefficient of {term}"
    if "[" not in term and ":" not in term and term != INTERCEPT:
        what = f"slope of {term}"
    average = short(table["population"].xs((factor, term), level=("factor", "term")).iloc[0])
    most = table.loc[moved[:MOST_NAMED], ["own_estimate", "partial_pooling"]]
    named = list(most.droplevel(["factor", "term"]).itertuples())
    said = []
    if named:
        level, alone, pooled = named[0]
        said.append(
            f"Shrinkage in {partial} moves {called(factor, level)} the most: its {what}"
            f"{where(design.schema, term)} goes from {short(alone)} alone to {short(pooled)}, towards the "
            f"average of {average}."
        )
    if others := [called(factor, level) for level, *_ in named[1:]]:
        verb = "is" if len(others) == 1 else "are"
        said.append(f"Next {verb} {joined(others)}.")
    if silent := group.grouping.n_levels - len(moved):
        said.append(
            f"{silent} of {counted(group.grouping.n_levels, factor)} "
            f"{'has' if silent == 1 else 'have'} too few observations for a separate estimate."
        )
    return " ".join(said)
