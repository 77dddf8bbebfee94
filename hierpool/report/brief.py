"""The sections of a brief report, what prints on three pages, each from plain things."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hierpool.core.design import Design
from hierpool.core.families.family import Family
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import counted, noun, nouns
from hierpool.core.options import bounds_among
from hierpool.core.text import capital, joined, sentence, short
from hierpool.report.columns import interval_of
from hierpool.report.model_words import (
    CONSTANT,
    groups_in_words,
    model_in_words,
    on_scale,
    reference_categories,
    term_in_words,
    without_backticks,
)
from hierpool.report.parts import Listing, Part, Picture, PointsToCheck, Prose, Section, SmallTable
from hierpool.report.residual_words import parameter_in_words, residual_in_words
from hierpool.report.results import TermResult

_CALL = re.compile(r"\bhp\.[a-z_]+\(|\b(fit|study)\.[a-z_]+\(")
MOST_POINTS = 5  # findings that are shown, unless more are worse than a note
MOST_ROWS = 16  # of a table
CLEAR, ERRORS = 4.0, 2.0  # elpd, and standard errors, from which a difference is clear
NOTHING = "No problems found."
NOTE_OF_FAMILY = "These numbers are of the posterior."
NOTE_OF_LINK = (
    "These numbers are of the posterior; standard deviations are on the scale of the link."
)
RESULTS_NOTE = (
    "These numbers are of the fit by REML, as F tests need one; those above are Bayesian and allow for "
    "the uncertainty of the standard deviations, so the two differ a little."
)
NOTE_OF_ML = RESULTS_NOTE.replace("REML, as F tests need one", "maximum likelihood")


def question(design: Design, group: str) -> str:
    """The question in the reader's nouns, a title for the page."""
    response = without_backticks(design.spec.response)
    predictors = [name for name in design.predictors if name != group]
    if not predictors:
        return f"What is the mean of {response}?"
    return f"How does {response} depend on {joined(predictors)}?"


def size(design: Design, groups: Sequence[str]) -> str:
    """Rows and groups, and the name of the data."""
    of = f" ({design.label})" if design.label else ""
    named = joined(counted(design.groupings[factor].n_levels, factor) for factor in groups)
    return f"{design.n} observations of {named}{of}"


def answer(sentences: Sequence[str], terms: pd.DataFrame | None) -> Section:
    """The results in sentences, and the terms in a table, that of ``study.tables()["answer"]``.

    A mean alone is said and has no table.
    """
    said = Prose(list(sentences), is_answer=True)
    if terms is None or list(terms.index.unique("term")) == [CONSTANT]:
        return Section("answer", "The answer", [said])
    return Section("answer", "The answer", [said, _terms(terms)])


def _terms(table: pd.DataFrame) -> SmallTable:
    """What each term says, with the test of the term in its first row."""
    low, high = (str(c) for c in table.columns if str(c).endswith(("_lb", "_ub")))
    rows, last = [], ""
    tests = [c for c in ("num_df", "den_df", "F", "p") if c in table]
    is_joint = bool(table.index.get_level_values("term").duplicated().any())
    for term, effect in table.index[:MOST_ROWS]:
        row = table.loc[(term, effect)]
        test = TermResult("", "", *(float(row[c]) for c in tests)).test
        interval = _unbroken(f"{_shown(row[low])} to {_shown(row[high])}")
        name = term_in_words(str(term))
        what = str(effect).replace(" - ", " against ")
        rows.append([name if term != last else "", what, _shown(row["mean"]), interval])
        if tests:
            rows[-1].append(_unbroken(test) if term != last else "")
        last = term
    more = len(table) - len(rows)
    note = "All else is averaged."
    if tests:
        note += f" The test is of the whole term, by {'REML' if 'reml' in table else 'ML'}."
    if is_joint:
        note += (
            " The intervals of a term hold for all its rows together, and are wider than for one."
        )
    note += f" {more} more comparisons are in the full report." if more else ""
    columns = ["term", "what", "estimate", f"{interval_of(low)[0]} % interval", "test of the term"]
    columns = columns if tests else columns[:-1]
    return SmallTable("Each term", columns, rows, note)


def effects(pictures: Mapping[str, Figure], title: str) -> Section | None:
    """The effects in pictures; nothing where there is no effect to draw."""
    drawn = [Picture(name, title, figure) for name, figure in pictures.items()]
    return Section("effects", "In a picture", drawn) if drawn else None


def points_to_check(findings: Sequence[Finding]) -> Section:
    """The findings that matter most, and how many more the full report has."""
    serious = [f for f in findings if f.severity != "note"]
    shown = [without_calls(f) for f in findings[: max(MOST_POINTS, len(serious))]]
    parts: list[Part] = [PointsToCheck(shown, NOTHING, is_brief=True)]
    if left := len(findings) - len(shown):
        more = "1 more note is" if left == 1 else f"{left} more notes are"
        parts.append(Prose([f"{more} in the full report."]))
    return Section("check", "Points to check", parts)


def without_calls(finding: Finding) -> Finding:
    """A finding without the sentences or clauses that name functions of hierpool.

    A page for readers who do not run code; the full report has them.
    """
    said = re.split(r"(?<=[.;]) (?=[A-Za-z])", finding.meaning)
    kept = " ".join(part for part in said if not _CALL.search(part))
    return replace(finding, meaning=f"{kept[:-1]}." if kept.endswith(";") else kept)


def model(
    design: Design,
    groups: Sequence[str],
    fixed: pd.DataFrame,
    spread: pd.DataFrame,
    shrunk: Sequence[str],
    *,
    is_decided: bool,
) -> Section:
    """The recommended model in words, whom it moves most, its fixed effects and what varies."""
    words = f"{sentence(model_in_words(design, groups))} {_weighed(design)}"
    words += " ".join([*([_partial_pooling(groups)] if design.groups else []), *shrunk])
    if not is_decided:
        words += (
            " The data do not tell it from a simpler model; the larger one is kept, as what is "
            "superfluous in it is estimated near zero."
        )
    return Section(
        "model",
        "The recommended model",
        [Prose([words]), *_fixed(design, fixed), _spread(design, spread)],
    )


def _weighed(design: Design) -> str:
    """What the rows' weights or known errors are, as the beginning of a sentence."""
    residual = design.spec.residual
    if residual.structure == "weights":
        structure = residual_in_words(residual)
        return f"Observations count by their weights ({residual.column}). {structure} ".lstrip()
    if residual.structure == "known_se":
        return f"The standard error of each observation is taken as known ({residual.column}). "
    structure = residual_in_words(residual)
    return f"{structure} " if structure else ""


def _partial_pooling(groups: Sequence[str]) -> str:
    one, all_of_them = joined(map(noun, groups)), joined(map(nouns, groups))
    return (
        f"The estimate for each {one} combines its own data with those of the other {all_of_them}: "
        "the less its own data tell, the more it is drawn to the average (partial pooling, or "
        "shrinkage)."
    )


def _fixed(design: Design, table: pd.DataFrame) -> list[SmallTable]:
    if not len(table):
        return []
    rows = [[capital_of(term), *row] for term, row in _numbers(table)]
    base = reference_categories(design.schema)
    note = ""
    if base:
        named = joined(f"{column} {label}" for column, label in base.items())
        note = f"Categories are compared with {named}."
    if len(rows) > MOST_ROWS:
        note = f"{note} {len(rows) - MOST_ROWS} more coefficients are in the full report.".strip()
    title = _with_scale("Average effects (fixed effects)", design.family)
    return [SmallTable(title, _headings(table), rows[:MOST_ROWS], note)]


def capital_of(term: str) -> str:
    """A coefficient in words, the constant by its usual name."""
    return capital(term_in_words(term)) if term.startswith(CONSTANT) else term_in_words(term)


def _numbers(table: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Estimate, interval, and REML's estimate with its standard error."""
    low, high = bounds_among(table.columns)
    out = []
    for name, row in table.iterrows():
        interval = _unbroken(f"{_shown(row[low])} to {_shown(row[high])}")
        reml = [f"{_shown(row['estimate'])} ({_shown(row['se'])})"] if "estimate" in row else []
        # A shape that may be infinite has a median and no mean.
        middle = row["median"] if np.isnan(row["mean"]) and "median" in row else row["mean"]
        out.append((str(name), [_shown(middle), interval, *reml]))
    return out


def _headings(table: pd.DataFrame) -> list[str]:
    lower = bounds_among(table.columns)[0]
    percent, _ = interval_of(lower)
    method = [f"{table['method'].iloc[0]} (standard error)"] if "method" in table else []
    return ["", "estimate", f"{percent} % interval", *method]


def _spread(design: Design, table: pd.DataFrame) -> SmallTable:
    weight = design.spec.residual.structure == "weights"
    term = design.spec.residual
    flat = table.set_axis(
        [
            parameter_in_words(term, key)
            if term.is_structured and key[0].startswith("residual")
            else _what_varies(key, has_weights=weight)
            for key in table.index
        ]
    )
    rows = [[name, *row] for name, row in _numbers(flat)]
    note = ""
    if "se" in table and table["se"].isna().any():
        method = table["method"].dropna().iloc[0]
        note = (
            f"–: no standard error, as the {method} estimate is at a limit of what is possible (a "
            "standard deviation of 0, or a correlation of 1 or −1). Go by the interval."
        )
    family = design.family
    note = f"{note} {_note_of_family(family)}".strip()
    title = _with_scale("How much they vary (standard deviations and correlations)", family)
    if family is not None and family.threshold_labels:
        title = _with_scale("How much they vary, and the thresholds", family)
    elif family is not None and family.parameters:  # which are on no link's scale
        title = f"{_with_scale('How much they vary', family)}, and the parameters of the response"
    if weight:
        note = f"An observation of weight w varies by the residual divided by √w. {note}".strip()
    return SmallTable(title, _headings(table), rows, note)


_FAMILY_PARAMETERS = {
    "sigma": "Scale of the residuals",
    "nu": "Degrees of freedom of the residuals (30 or more: normal)",
    "shape": "Shape",
    "precision": "Precision",
    "zero_inflation": "Share of extra zeros",
    "hurdle": "Share of zeros",
}


def _with_scale(title: str, family: Family | None) -> str:
    """A title with the scale of the coefficients, in the brackets that it may have."""
    return f"{title}{on_scale(family)}".replace(") (", ", ")


def _note_of_family(family: Family | None) -> str:
    """What a shape, a precision or a share of zeros says."""
    if family is None:
        return ""
    said = []
    if "zero_inflated" in family.name:
        said.append(
            "The coefficients are of the counts without the extra zeros; the means above are of all "
            "observations."
        )
    if "hurdle" in family.name:
        said.append(
            "The coefficients and ratios are of the underlying mean, that of the counts before zeros "
            "are cut off; the other means are of all observations."
        )
    if "negbinomial" in family.name:
        said.append("Shape: the variance of a count is mean + mean² / shape.")
    if family.name == "gamma":
        said.append("Shape: the coefficient of variation is 1 / √shape.")
    if family.name == "beta":
        said.append("Precision: the variance of a share is mean (1 − mean) / (1 + precision).")
    return " ".join(said)


def _what_varies(key: tuple[str, str, str, str], *, has_weights: bool) -> str:
    factor, parameter, term, term2 = key
    if factor == "response":
        between = " and ".join(term.split("|", 1))
        words = _FAMILY_PARAMETERS.get(parameter, capital(parameter))
        return f"Threshold between {between}" if parameter == "threshold" else words
    if factor == "residual":
        return f"Residual (within groups{', of weight 1' if has_weights else ''})"
    who = groups_in_words(factor)
    first = _varying(term)
    if parameter == "corr":
        return f"Correlation of {first} and {_varying(term2)}, {who}"
    return f"{capital(first)}, between {who}"


def _varying(term: str) -> str:
    return "level" if term == CONSTANT else f"effect of {term_in_words(term)}"


@dataclass(frozen=True)
class Scored:
    """A model of the comparison.

    Attributes
    ----------
    design
        Of the model.
    is_recommended
        Whether it is the recommended one.
    by_row
        Difference in elpd from the best model and its standard error; None where not scored.
    by_group
        Factor -> the same for new groups.
    """

    design: Design
    is_recommended: bool
    by_row: tuple[float, float] | None
    by_group: Mapping[str, tuple[float, float] | None]


def prediction(models: Sequence[Scored], groups: Sequence[str], *, is_rough: bool) -> Section:
    """How well each model predicts new observations and new groups."""
    rows = []
    for each in models:
        mark = " (recommended)" if each.is_recommended else ""
        name = f"{model_in_words(each.design, groups)}{mark}"
        new = [_compared(each.by_group.get(factor)) for factor in groups]
        rows.append([name, _compared(each.by_row), *new] if each.by_row else [name, *new])
    left = joined(f"all those of each {noun(factor)}" for factor in groups)
    by_row = any(each.by_row for each in models)
    what = f"Each observation, and {left}," if by_row else f"In turn {left}"
    note = (
        f"{what} were predicted from the rest of the data (leave-one-out "
        "cross-validation). In brackets: difference in the expected log predictive density from the "
        f"best model, and its standard error. Differences below {CLEAR:g}, or below two standard "
        "errors, are not clear."
    )
    note += " With so few observations the standard errors are rough." if is_rough else ""
    known = joined(map(nouns, groups))
    columns = ["model", f"new observations of these {known}"] if by_row else ["model"]
    columns += [f"new {nouns(f)}" for f in groups]
    if not by_row:
        note += " Single observations were not predicted: the study was made from sums of the rows."
    table = SmallTable("Prediction of new data", columns, rows, note)
    return Section("prediction", "How well it predicts", [table])


def _compared(score: tuple[float, float] | None) -> str:
    if score is None:
        return "–"
    difference, error = score
    if difference == 0:
        return "best"
    is_clear = -difference >= CLEAR and -difference >= ERRORS * error
    word = "clearly worse" if is_clear else "not clearly worse"
    if -difference < CLEAR:
        word = "about as good"
    return f"{word} ({_minus(f'{difference:.1f}')}\u00a0±\u00a0{error:.1f})"


def paper(results: str, methods: str, references: str, note: str = RESULTS_NOTE) -> Section:
    """Paragraphs for a paper, ready to adapt; ``note`` says which fit the results are of."""
    return Section(
        "paper",
        "For a paper",
        [
            Listing("Results", results, note, is_code=False),
            Listing("Methods", methods, is_code=False),
            Listing("References", references, is_code=False, is_fine=True),
        ],
    )


def how(lines: Sequence[str], code: str) -> Section:
    """How it was done: the formula, why this model, and the code."""
    return Section("how", "How it was done", [Prose(list(lines)), Listing("Python", code)])


def _shown(value: float) -> str:
    return "–" if not math.isfinite(value) else _minus(short(float(value)))


def _unbroken(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _minus(text: str) -> str:
    return text.replace("-", "−")
