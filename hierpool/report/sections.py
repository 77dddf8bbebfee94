"""The sections of a report in the order of reading, each from plain things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hierpool.core.design import Design
from hierpool.core.errors import listed
from hierpool.core.findings import Finding, Findings
from hierpool.core.labels import as_shown
from hierpool.core.text import joined, sentence
from hierpool.report.notation import equations
from hierpool.report.parts import (
    DataTable,
    Listing,
    ModelCard,
    Part,
    Picture,
    PointsToCheck,
    Prose,
    Section,
)
from hierpool.report.syntax import Written, translate, wording_of

NOTHING = "Nothing found in the data, the draws, the REML fits or the comparison."
_OF_DATA = (
    "rows-dropped", "unused-categories", "levels-with-one-row", "common-coefficient",
    "own-from-prior", "few-levels", "few-rows", "labels-alike",
)  # fmt: skip


def question(design: Design, group: str, formula: str) -> Section:
    """What was asked, in words."""
    spec = design.spec
    levels = design.groupings[group].n_levels
    predictors = [name for name in design.predictors if name != group]
    depends = f" with {joined(predictors)}" if predictors else ""
    text = (
        f"How does {spec.response} change{depends}, when the {design.n} rows belong to {levels} "
        f"levels of {group}?"
        if predictors
        else f"What is the mean of {spec.response}, when the {design.n} rows belong to {levels} "
        f"levels of {group}?"
    )
    poolings = (
        f"Each level of {group} could be taken to be like all others (complete pooling), to stand "
        "alone (no pooling), or to be one of a family whose spread the data tell (partial "
        "pooling). This report fits the models between the two ends, says which of them predicts "
        "new data best, and what that changes."
    )
    return Section("question", "The question", [Prose([text, f"Formula: {formula}.", poolings])])


def answer(sentences: Sequence[str]) -> Section:
    """The answer in sentences."""
    return Section("answer", "The answer", [Prose(list(sentences), is_answer=True)])


def points_to_check(findings: Sequence[Finding]) -> Section:
    """Findings, the worst first, with what they mean and what they rest on."""
    return Section("check", "Points to check", [PointsToCheck(findings, NOTHING)])


def data(design: Design, group: str, notices: Sequence[Finding]) -> Section:
    """Rows, columns and levels, and what was left out."""
    grouping = design.groupings[group]
    n = grouping.n_rows
    source = f"The table is {design.label}. " if design.label else ""
    spread = (
        f"each with {n[0]} rows"
        if n.min() == n.max()
        else f"with {n.min()} to {n.max()} rows each (median {np.median(n):g})"
    )
    size = f"{source}{design.n} rows are used, of {grouping.n_levels} levels of {group}, {spread}."
    about = [f.text for f in notices if f.code in _OF_DATA]
    left = [sentence(text) for text in about] or ["No row and no category was left out."]
    return Section(
        "data",
        "The data",
        [
            Prose([size, *left]),
            DataTable("columns", "Columns that the models use", _columns(design, group)),
            DataTable(
                "levels",
                f"Levels of {group}: rows, mean and spread of {design.spec.response}",
                _levels(design, group),
            ),
        ],
    )


def _columns(design: Design, group: str) -> pd.DataFrame:
    """One row for each column of the user's that is used."""
    words = {"weights": "weights", "known_se": "known standard errors"}
    roles = {column: words[word] for word, column in design.spec.residual.arguments.items()}
    rows = []
    for name in design.frame.columns:
        column = design.frame[name]
        role = roles.get(str(name), "group" if name == group else "predictor")
        if str(name) not in design.predictors and role == "predictor":
            role = "response"
        is_number = pd.api.types.is_numeric_dtype(column) and role != "group"
        values = column.astype(float) if is_number else None
        of_numbers = (
            [values.min(), values.median(), values.max()] if values is not None else [np.nan] * 3
        )
        what = (
            ""
            if is_number
            else listed(as_shown(column.drop_duplicates(), str(name)).tolist(), most=4)
        )
        rows.append([str(name), role, column.nunique(), *of_numbers, what])
    names = ["column", "role", "distinct values", "minimum", "median", "maximum", "categories"]
    return pd.DataFrame(rows, columns=names).set_index("column")


def _levels(design: Design, group: str) -> pd.DataFrame:
    """One row for each level."""
    grouping = design.groupings[group]
    y = pd.Series(design.y).groupby(grouping.codes)
    table = pd.DataFrame({"n": grouping.n_rows, "response_mean": y.mean(), "response_sd": y.std()})
    return table.set_axis(grouping.levels.rename("level"))


def models(
    designs: Mapping[str, Design],
    chosen: str,
    priors: pd.DataFrame,
    pictures: Mapping[str, Figure],
) -> Section:
    """Each model in words, in symbols and in the syntax of other programs."""
    cards: list[Part] = [_card(name, design, name == chosen) for name, design in designs.items()]
    lead = (
        "Greek letters are estimated: β are coefficients common to all, u are deviations of a "
        "level from them, τ their standard deviations, ρ their correlation, σ the residual "
        "standard deviation. Rows are i, levels are j."
    )
    table = DataTable(
        "priors",
        f"Priors of {chosen}, and what they mean",
        priors,
        "Scaled by the data, and wide beside what was found unless a finding says otherwise.",
    )
    drawn = _drawn(pictures, {"prior_predictive": "What the priors expect, beside the data"})
    return Section("models", "The models", [Prose([lead]), *cards, table, *drawn])


def _card(name: str, design: Design, is_chosen: bool) -> ModelCard:
    lines = equations(design)
    latex = " \\\\\n".join(line.latex for line in lines)
    listings = [_listing(written) for written in translate(wording_of(design))]
    return ModelCard(
        name,
        _words(design),
        [line.html for line in lines],
        [*listings, Listing("LaTeX", latex)],
        is_chosen,
    )


def _listing(written: Written) -> Listing:
    return Listing(written.program, written.code, " ".join(written.notes))


def _words(design: Design) -> str:
    """What a model assumes of the levels."""
    spec = design.spec
    if spec.pooling == "complete":
        return "Complete pooling: one set of coefficients for all rows; levels do not differ."
    (group,) = design.groups
    factor, terms = group.factor, group.terms
    slopes = [t for t in terms if t != "Intercept"]
    if spec.pooling == "none":
        return (
            f"No pooling: each level of {factor} has its own {joined(terms)}, and nothing is learned "
            "from the other levels but the residual standard deviation."
        )
    lead = f"Partial pooling: levels of {factor} differ in {joined(terms)}"
    if not slopes:
        return f"{lead}, and share everything else."
    if "Intercept" not in terms:
        return f"{lead}, but not in their intercept."
    if group.has_correlation:
        return f"{lead}, which may be correlated."
    return f"{lead}, each independently of the other."


def poolings(fixed: pd.DataFrame, spread: pd.DataFrame, pictures: Mapping[str, Figure]) -> Section:
    """Fixed effects and standard deviations of every model, and the lines of the levels."""
    text = (
        "The same coefficients under every model: the posterior on the left, REML or least "
        "squares under estimate and se. Where the models disagree, the pooling matters for the "
        "conclusion."
    )
    parts: list[Part] = [
        Prose([text]),
        DataTable("fixed_effects", "Fixed effects, model by model", _led(fixed), shown=16),
        DataTable(
            "variance_components",
            "Standard deviations and correlations, model by model",
            _led(spread),
            shown=16,
        ),
    ]
    parts[1:1] = _drawn(pictures, {"trajectories": "The data and three poolings"})
    titles = {
        "standard_deviations": "Standard deviations: prior, posterior and REML",
        "variance_partition": "Where the variance of the response comes from",
    }
    return Section("poolings", "The poolings side by side", [*parts, *_drawn(pictures, titles)])


def _led(table: pd.DataFrame) -> pd.DataFrame:
    """The posterior and the other estimate first, diagnostics last."""
    bounds = [c for c in table.columns if str(c).endswith(("_lb", "_ub"))]
    first = ["mean", "sd", *bounds, "estimate", "se", "method"]
    return table[[*first, *(c for c in table.columns if c not in first)]]


def blups(table: pd.DataFrame, pictures: Mapping[str, Figure], partial: str) -> Section:
    """Posterior means beside BLUPs."""
    text = (
        f"Deviations of the levels from the population under {partial}, twice: as posterior means, "
        "with the uncertainty of the variances averaged over, and as BLUPs at the REML estimates, "
        "which take the variances for known. The columns due_to_coefficient_prior and "
        "due_to_variances say where a difference comes from."
    )
    gap = (table["difference"].abs() / table["posterior_sd"]).dropna()
    if len(gap):
        text += f" They differ by at most {gap.max():.2g} posterior standard deviations."
    titles = {
        "posterior_against_blup": "Posterior means against BLUPs, and their difference",
        "caterpillar": "Every level with its interval, posterior and BLUP",
    }
    drawn = _drawn(pictures, titles)
    return Section(
        "blups",
        "Posterior beside BLUP",
        [Prose([text]), *drawn, DataTable("compare_blups", "Posterior means and BLUPs", table)],
    )


def shrinkage(table: pd.DataFrame, pictures: Mapping[str, Figure], partial: str) -> Section:
    """How far each level was pulled."""
    text = (
        f"What each level's own rows say alone (own_estimate), and what {partial} makes of it "
        "(partial_pooling). Levels with few rows, or far from the others, are pulled furthest."
    )
    titles = {
        "shrinkage": "From each level's own estimate to the pooled one",
        "level_coefficients": "Coefficients of the levels, in pairs",
    }
    drawn = _drawn(pictures, titles)
    return Section(
        "shrinkage",
        "How far levels are pulled",
        [Prose([text]), *drawn, DataTable("shrinkage", "Shrinkage of every level", table)],
    )


def comparison(
    by_row: pd.DataFrame,
    by_group: pd.DataFrame | None,
    group: str,
    pictures: Mapping[str, Figure],
) -> Section:
    """Which model predicts best: new rows of known levels, and new levels."""
    digits = {"se": 1, "p": 1, "p_worse": 3}
    row = f"A new row of a known level of {group}"
    text = (
        "Two questions, with two answers. Each row is left out in turn and predicted from the "
        f"others: that is a new row of a known level of {group}. Each level is left out with all "
        "its rows: that is a new level. Differences below 4, or within twice their standard error "
        "dse, do not tell models apart."
    )
    title = "Differences in elpd from the best model, with their standard errors"
    pictured = "ladder" if by_group is not None and "ladder" in pictures else "comparison"
    parts: list[Part] = [
        Prose([text]),
        *_drawn(pictures, {pictured: title}),
        DataTable("comparison_rows", row, _scores(by_row), digits=digits),
    ]
    if by_group is None:
        parts.append(Prose(["Left-out levels could not be scored for these models."]))
    else:
        note = "No pooling has only its prior to go by here, so that its score says nothing of the data."
        new = f"A new level of {group}"
        parts.append(DataTable("comparison_levels", new, _scores(by_group), note, digits))
    return Section("comparison", "Which model predicts best", parts)


def _drawn(pictures: Mapping[str, Figure], titles: Mapping[str, str]) -> list[Picture]:
    """Those of the pictures that there are, in the order of the titles."""
    return [Picture(name, titles[name], pictures[name]) for name in titles if name in pictures]


def _scores(table: pd.DataFrame) -> pd.DataFrame:
    """A comparison with the differences first, and no column without an entry."""
    first = ["elpd_diff", "dse", "elpd", "se", "p", "weight"]
    filled = [c for c in table.columns if not (table[c].isna() | table[c].eq("")).all()]
    return table[[*first, *(c for c in filled if c not in first)]].rename_axis("model")


def findings(every: Findings) -> Section | None:
    """All findings as a table; nothing where there are none."""
    if not every:
        return None
    table = DataTable("findings", "All findings", every.table.set_index("severity"), shown=30)
    text = "The same as under “Points to check”, as a table to sort and to keep."
    return Section("findings", "Findings", [Prose([text]), table])


def no_advice(why: str) -> Section:
    """That there is no advice, and why."""
    return Section("advice", "What to do next", [Prose([sentence(f"there is no advice: {why}")])])


def advice(
    sentences: Sequence[str], table: pd.DataFrame, pictures: Mapping[str, Figure]
) -> Section:
    """What may go, what is missing, and what either costs."""
    lead = (
        "The answer takes the simplest of the models that predict about as well as the best. Here "
        "the richest of them is asked, term by term, what the data need of it, by likelihood "
        "ratio and by both leave-one-out scores. The two may differ where a term hardly matters "
        "for prediction."
    )
    first = [
        "change",
        "verdict",
        "row_diff",
        "row_dse",
        "group_diff",
        "group_dse",
        "statistic",
        "p",
    ]
    rest = [c for c in table if c not in first]
    note = "Each model beside the one that it changes."
    digits = dict.fromkeys(["row_diff", "row_dse", "group_diff", "group_dse"], 1)
    digits |= {"elpd_row": 1, "elpd_group": 1}
    drawn = [Picture(f"advice_{k}", title, f) for k, (title, f) in enumerate(pictures.items())]
    shown = [
        DataTable(name, title, part, said, digits, meanings=_MEANINGS_IN_ADVICE)
        for name, title, part, said in (
            ("advice", "What was tried, and what it costs", table[first], note),
            ("advice_details", "More on what was tried", table[rest], ""),
        )
    ]
    parts: list[Part] = [Prose([lead, *sentences]), *drawn, *shown]
    return Section("advice", "What to do next", parts)


_MEANINGS_IN_ADVICE = {
    "model": "The model, as a formula.",
    "change": "What was taken away or added.",
    "verdict": "Whether the data need the term.",
    "row_diff": "Difference in elpd of left-out rows; negative: it predicts worse.",
    "row_dse": "Standard error of that difference.",
    "group_diff": "The same for left-out levels.",
    "group_dse": "Standard error of that difference.",
    "statistic": "Likelihood ratio statistic.",
    "p": "Its p-value.",
    "df": "Its degrees of freedom.",
    "null": "Its distribution where the smaller model is true.",
    "compared_with": "The model that it is compared with.",
    "elpd_row": "elpd of left-out rows.",
    "elpd_group": "elpd of left-out levels.",
    "left_out": "The factor whose levels were left out.",
    "variance_share": "Share of the variance of the fitted response that the term adds.",
    "shift": "Largest change of a fixed effect, in its standard errors.",
    "shifted": "The fixed effect that changes most.",
}


_MEANINGS_IN_CHECKS = {
    "observed": "In the data.",
    "mean": "Mean of what the model expects.",
    "median": "Median of what the model expects.",
    "sd": "Standard deviation of what the model expects.",
    "p": "Share of the simulated values that is larger; near 0 or 1 the model does not make such "
    "data.",
    "pit": "Where the observed mean is in its prediction, from 0 to 1.",
    "covered": "Whether the interval holds the observed mean.",
    "rows_covered": "Share of the level's rows within intervals for a single row.",
    "statistic": "The feature that is compared.",
}


def checks(
    partial: str,
    tables: Mapping[str, pd.DataFrame],
    pictures: Mapping[str, Figure],
    has_rows: bool,
) -> Section:
    """Whether data like these could come from the model: tables by their titles, and pictures."""
    text = f"Could data like these come from {partial}?"
    text += (
        " Each row is predicted from all others. If the model is right, half of the rows fall into "
        "the middle half of their predictions, and so on; far fewer would mean that it is too sure "
        "of itself, far more that it is not sure enough."
        if has_rows
        else " Predictions of single rows from all others take long for so many rows, and are left "
        "out here; fit.loo_pit() has them."
    )
    titles = {
        "loo_pit": "Where each row falls in the prediction from all others",
        "posterior_predictive": "Levels as observed, beside levels that the model simulates",
        "residuals": "Residuals",
        "influence": "Levels whose absence would move the fixed effects most",
    }
    shown = [
        DataTable(f"check_{k}", title, t, meanings=_MEANINGS_IN_CHECKS)
        for k, (title, t) in enumerate(tables.items())
    ]
    parts: list[Part] = [Prose([text]), *shown, *_drawn(pictures, titles)]
    return Section("checks", "Predictive checks", parts)
