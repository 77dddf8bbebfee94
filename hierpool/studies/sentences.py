"""The answer of a study in plain sentences: which model, what it says, and who was pulled where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from hierpool.checks.advice import ERRORS, MIN_ELPD_DIFFERENCE
from hierpool.core.design import Design
from hierpool.core.text import joined, short
from hierpool.draws.summary import summary
from hierpool.fits.posterior import PosteriorFit

INTERCEPT = "Intercept"
MOST_NAMED = 3  # of the most shrunk levels
ONE_SE_RULE = 1.0  # standard errors that a simpler model may be behind (Breiman et al. 1984)


def simplest_of_the_best(comparison: pd.DataFrame, names: Iterable[str]) -> str:
    """First of the names, simplest first, within one standard error (or 4) of the best of them.

    Two standard errors, which it takes to tell models apart, would be too lenient here: a few odd
    rows make the error of a difference large, and a slope that plainly varies would be given up
    (sleepstudy: one intercept each is 23.5 behind, with a standard error of 12.3).
    """
    among = list(names)
    table = comparison.loc[[name for name in comparison.index if name in set(among)]]
    near = _near(table, ONE_SE_RULE)
    return next(name for name in among if name in near)


def _near(comparison: pd.DataFrame, errors: float) -> list[str]:
    """The best model and those behind it by less than so many standard errors, or less than 4.

    ``dse`` is the error of the difference to the best of all fits; it stands in for that to the
    best of a part of them.
    """
    elpd, dse = comparison["elpd"].to_numpy(), comparison["dse"].to_numpy()
    difference = elpd[0] - elpd
    apart = (difference >= MIN_ELPD_DIFFERENCE) & (difference >= errors * dse)
    return [str(name) for name in comparison.index[~apart]]


def told(design: Design) -> str:
    """The population term that the answer is about: a slope that varies, else a slope."""
    varying = [term for group in design.groups for term in group.terms if term in design.terms]
    slopes = [term for term in (*varying, *design.terms) if term != INTERCEPT]
    return next(iter(slopes), design.terms[0])


def pulled_term(design: Design) -> str:
    """The term of the levels that the answer is about: the same where it varies."""
    (group,) = design.groups
    return told(design) if told(design) in group.terms else group.terms[0]


def most_pulled(table: pd.DataFrame, term: str) -> pd.Series[float]:
    """How far each level was moved in one term, furthest first; those that cannot tell left out."""
    moved = (table["partial_pooling"] - table["own_estimate"]).abs()
    of_term = moved[moved.index.get_level_values("term") == term]
    return of_term.dropna().sort_values(ascending=False, kind="stable")


def says_population(fits: Mapping[str, PosteriorFit], partial: str) -> str:
    """What each pooling says of one population coefficient."""
    design, own = fits[partial].design, fits["no_pooling"]
    term, response = told(design), design.spec.response
    held = where(design, term)
    lead = f"Per unit of {term}{held}, {response} changes by"
    if term == INTERCEPT:
        lead = f"The intercept of {response} is"
    elif "[" in term:
        lead = f"For {term}{held}, {response} changes by"
    fixed = {name: fits[name].fixed_effects() for name in ("complete_pooling", partial)}
    parts = [
        f"{_with_interval(fixed['complete_pooling'], term)} under complete pooling",
        f"{_with_interval(fixed[partial], term)} under partial pooling ({partial})",
    ]
    untold = _untold(own.design, term)
    if not untold:
        parts.append(_average_line(own, term))
    percent = re.sub(r"\D", "", bounds(fixed[partial])[0])
    return f"{lead} {_listed(parts)} ({percent} % intervals in brackets){untold}."


def _listed(parts: list[str]) -> str:
    comma = "," if len(parts) > 2 else ""
    return f"{', '.join(parts[:-1])}{comma} and {parts[-1]}"


def where(design: Design, term: str) -> str:
    """Where the coefficient of a term that others interact with holds: ``", where sex is m"``.

    Of a term whose powers are there too it is the slope at 0. Empty where it holds everywhere.
    ``design`` has the interactions among its common terms.
    """
    factors = [f for names in _interactions(design, term).values() for f in names]
    categories = {
        s.column: list(s.categories) for s in design.encoder.sources if s.categories is not None
    }
    held: dict[str, str] = {}
    for factor in factors:
        column = factor.split("[T.")[0]
        seen = {f.removeprefix(f"{column}[T.").removesuffix("]") for f in factors}
        left = [label for label in categories.get(column, []) if str(label) not in seen]
        is_told = "[T." in factor and len(left) == 1
        held[column if is_told else factor] = str(left[0]) if is_told else "0"
    if any(name.startswith(f"I({term} ** ") for name in design.terms):
        held[term] = "0"
    said = joined(f"{name} is {value}" for name, value in held.items()) if held else ""
    return said and f", where {said}"


def _interactions(design: Design, term: str) -> dict[str, list[str]]:
    """Common terms that a term is a part of, each with its other parts."""
    whole = {name: f":{name}:" for name in design.terms if name != term}
    of_term = {name: text for name, text in whole.items() if f":{term}:" in text}
    return {
        name: text.replace(f":{term}:", ":", 1).strip(":").split(":")
        for name, text in of_term.items()
    }


def _untold(own: Design, term: str) -> str:
    """Words where no pooling has a coefficient from its prior alone; else nothing.

    What varies between levels only stays common there, and the levels' own coefficients can take
    up all that it says.
    """
    common = [name for name in (term, *_interactions(own, term)) if name in own.terms]
    if not common:
        return ""
    (group,) = own.groups
    return (
        f"; no pooling cannot tell, as {common[0]} says nothing new within a level of "
        f"{group.factor}"
    )


def _average_line(own: PosteriorFit, term: str) -> str:
    """Words for the average over levels of the own coefficients of no pooling, and their range."""
    (group,) = own.design.groups
    every: Any = own.variable(f"coef_{group.factor}")
    draws = every.sel({f"{group.factor}_term": term})
    average = summary(draws.mean(group.factor), diagnostics=False).set_axis([term])
    each = draws.mean(("chain", "draw")).to_numpy()
    return (
        f"{_with_interval(average, term)} on average under no pooling, where single levels of "
        f"{group.factor} range from {short(each.min())} to {short(each.max())}"
    )


def _with_interval(table: pd.DataFrame, term: str) -> str:
    mean, low, high = (short(float(table[c][term])) for c in ("mean", *bounds(table)))
    return f"{mean} [{low}, {high}]"


def bounds(table: pd.DataFrame) -> list[str]:
    """Names of the columns that bound an interval, lower and upper."""
    return [str(c) for c in table.columns if str(c).endswith(("_lb", "_ub"))]


def says_best(comparison: pd.DataFrame, recommended: str) -> str:
    """What predicts left-out rows best, by how much, and what is recommended."""
    best = str(comparison.index[0])
    near = [name for name in _near(comparison, ERRORS) if name != best]
    worse = [str(name) for name in comparison.index if name != best and name not in near]
    text = f"Left-out rows are predicted best by {best}"
    if near:
        return (
            f"{text}, but {joined(_how_much_lower(comparison, near))} cannot be told apart from it: "
            f"{recommended} is recommended, the simplest within one standard error of the best, "
            f"or {MIN_ELPD_DIFFERENCE:g} of elpd."
        )
    following = f"; next is {_how_much_lower(comparison, worse[:1])[0]}" if worse else ""
    return f"{text}, which is recommended{following}."


def says_best_for_levels(by_group: pd.DataFrame, group: str) -> str:
    """What predicts the rows of left-out levels best, among those with more than a prior there.

    A clause that goes on from ``says_best``.
    """
    telling = by_group[by_group["note"] == ""]
    best, *near = _near(telling, ERRORS)
    text = f"all rows of a left-out level of {group} are predicted best by {best}"
    if by_group.index[0] != best:
        return f"{text} among the models that have more than a prior to go by."
    if not near:
        return f"{text}."
    return f"{text}, from which {joined(_how_much_lower(telling, near))} cannot be told apart."


def _how_much_lower(comparison: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Each name with its distance from the best; what the numbers are is said with the first."""
    rows = comparison.loc[list(names), ["elpd_diff", "dse"]].abs()
    said = [f"{name} ({d:.1f}, {se:.1f})" for name, d, se in rows.itertuples()]
    for name, d, se in list(rows.itertuples())[:1]:
        said[0] = f"{name} (elpd lower by {d:.1f}, standard error {se:.1f})"
    return said


def says_shrinkage(table: pd.DataFrame, design: Design, partial: str) -> str:
    """Who was pulled furthest, from where to where."""
    (group,), term = design.groups, pulled_term(design)
    pulled = most_pulled(table, term).index
    most = table.loc[pulled[:MOST_NAMED], ["own_estimate", "partial_pooling"]]
    named = [
        f"{group.factor} {level} from {short(own)} to {short(moved)}"
        for level, own, moved in most.droplevel(["factor", "term"]).itertuples()
    ]
    towards = short(table["population"].xs(term, level="term").iloc[0])
    what = "intercept" if term == INTERCEPT else f"coefficient of {term}"
    if held := where(design, term):
        what += f"{held},"
    text = f"{partial} pulls each level's own {what} towards {towards}"
    if named:
        text += f", furthest {', '.join(named)}"
    if silent := group.grouping.n_levels - len(pulled):
        text += f"; {silent} of {group.grouping.n_levels} levels cannot tell theirs alone"
    return f"{text}."
