"""The sections of a report in the order of reading, each from plain things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hierpool.core.design import Design
from hierpool.core.errors import listed
from hierpool.core.findings import Finding, Findings
from hierpool.core.group_nouns import counted, noun, nouns
from hierpool.core.labels import as_shown
from hierpool.core.options import bounds_among
from hierpool.core.results import CONDITIONAL_MODE
from hierpool.core.text import capital, sentence
from hierpool.report.model_words import model_in_words
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
from hierpool.report.translation.programs import translate
from hierpool.report.translation.wording import Written, wording_of

NOTHING = "No problems found in the data, the draws, the REML fits or the comparison."
_OF_DATA = (
    "rows-dropped", "unused-categories", "levels-with-one-row", "common-coefficient",
    "own-from-prior", "few-levels", "few-rows", "labels-alike",
)  # fmt: skip


def points_to_check(findings: Sequence[Finding]) -> Section:
    """Findings, the most serious first, with their meaning and evidence."""
    return Section("check", "Points to check", [PointsToCheck(findings, NOTHING)])


def data(design: Design, group: str, notices: Sequence[Finding]) -> Section:
    """Rows, columns and groups, and what was left out."""
    grouping = design.groupings[group]
    n = grouping.n_rows
    source = f"Data: {design.label}. " if design.label else ""
    spread = (
        f"{n[0]} each"
        if n.min() == n.max()
        else f"{n.min()} to {n.max()} each (median {np.median(n):g})"
    )
    size = (
        f"{source}The models use {design.n} observations of {counted(grouping.n_levels, group)}, "
        f"{spread}."
    )
    about = [f.text for f in notices if f.code in _OF_DATA]
    left = [sentence(text) for text in about] or ["No rows or categories were left out."]
    return Section(
        "data",
        "The data",
        [
            Prose([size, *left]),
            *_of_rows(design, group),
        ],
    )


def _of_rows(design: Design, group: str) -> list[Part]:
    """The columns and the groups; of sums what they tell of the groups."""
    if design.is_summed:
        known = design.groupings[group]
        sizes = pd.DataFrame({"n": known.n_rows}, index=known.levels.rename("level"))
        text = "The table was not read: its database or files gave sums over the rows."
        return [Prose([text]), DataTable("levels", f"{capital(nouns(group))}: observations", sizes)]
    title = f"{capital(nouns(group))}: observations, mean and sd of {design.spec.response}"
    return [
        DataTable("columns", "Columns used", _columns(design, group)),
        DataTable("levels", title, _levels(design, group)),
    ]


def _columns(design: Design, group: str) -> pd.DataFrame:
    """One row per column that is used."""
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
    """One row per group."""
    grouping = design.groupings[group]
    family = design.family
    first = 1.0 if family is not None and family.has_thresholds else 0.0  # ratings count from 1
    y = pd.Series(design.y + first).groupby(grouping.codes)
    table = pd.DataFrame({"n": grouping.n_rows, "response_mean": y.mean(), "response_sd": y.std()})
    return table.set_axis(grouping.levels.rename("level"))


def models(
    designs: Mapping[str, Design],
    chosen: str,
    group: str,
    priors: pd.DataFrame,
    pictures: Mapping[str, Figure],
) -> Section:
    """Each model in words, in symbols and in the syntax of other programs."""
    cards: list[Part] = [
        _card(name, design, group, name == chosen) for name, design in designs.items()
    ]
    lead = (
        f"β are fixed effects, u are the deviations of a {noun(group)} from them (random effects), τ "
        "their standard deviations, ρ their correlation, and σ is the residual standard deviation. "
        f"Observations are i, {nouns(group)} are j."
    )
    if designs[chosen].family is not None:
        lead = lead.replace(", and σ is the residual standard deviation", "").replace(
            " (random effects), τ", " (random effects), η is the linear predictor, τ"
        )
    table = DataTable(
        "priors",
        f"Priors of {chosen}",
        priors,
        "Default priors are wide and scaled by the data.",
    )
    drawn = _drawn(pictures, {"prior_predictive": "Prior predictive distribution and the data"})
    return Section("models", "The models", [Prose([lead]), *cards, table, *drawn])


def _card(name: str, design: Design, group: str, is_chosen: bool) -> ModelCard:
    lines = equations(design.schema)
    latex = " \\\\\n".join(line.latex for line in lines)
    listings = [_listing(written) for written in translate(wording_of(design.schema))]
    return ModelCard(
        name,
        sentence(model_in_words(design, [group])),
        [line.html for line in lines],
        [*listings, Listing("LaTeX", latex)],
        is_chosen,
    )


def _listing(written: Written) -> Listing:
    return Listing(written.program, written.code, " ".join(written.notes))


def poolings(fixed: pd.DataFrame, spread: pd.DataFrame, pictures: Mapping[str, Figure]) -> Section:
    """Fixed effects and standard deviations of every model, and the lines of the groups."""
    methods = [] if "method" not in fixed else list(fixed["method"].dropna().unique())
    is_ml = "ML" in methods
    by = "maximum likelihood" if is_ml else "REML"
    by += " or least squares" * (methods != ["ML"])
    beside = f": the posterior first, then {by} (estimate and se)" if methods else ""
    text = (
        f"The same coefficients in every model{beside}. Where the models disagree, the choice of "
        "pooling matters."
    )
    parts: list[Part] = [
        Prose([text]),
        DataTable("fixed_effects", "Fixed effects of each model", _led(fixed), shown=16),
        DataTable(
            "variance_components",
            "Standard deviations and correlations of each model",
            _led(spread),
            shown=16,
        ),
    ]
    parts[1:1] = _drawn(
        pictures, {"trajectories": "Data and fitted lines: complete, no and partial pooling"}
    )
    titles = {
        "standard_deviations": f"Standard deviations: prior, posterior and {'ML' if is_ml else 'REML'}",
        "variance_partition": "Shares of the variance of the response",
    }
    return Section("poolings", "Comparison of the poolings", [*parts, *_drawn(pictures, titles)])


def _led(table: pd.DataFrame) -> pd.DataFrame:
    """The posterior and the other estimate first, diagnostics last."""
    bounds = bounds_among(table.columns)
    asked = ["mean", "sd", *bounds, "estimate", "se", "method"]
    first = [name for name in asked if name in table]
    return table[[*first, *(c for c in table.columns if c not in first)]]


def blups(table: pd.DataFrame, pictures: Mapping[str, Figure], partial: str) -> Section:
    """Posterior means and BLUPs, of a family conditional modes."""
    is_mode = table.attrs.get("blup") == CONDITIONAL_MODE
    name, by = ("conditional mode", "ML") if is_mode else ("BLUP", "REML")
    text = (
        f"Random effects of {partial}: posterior means, averaged over the uncertainty of the "
        f"variances, and {name}s, with the variances fixed at their {by} estimates. The columns "
        "due_to_coefficient_prior and due_to_variances explain the difference."
    )
    gap = (table["difference"].abs() / table["posterior_sd"]).dropna()
    if len(gap):
        text += f" The largest difference is {gap.max():.2g} posterior standard deviations."
    titles = {
        "posterior_against_blup": f"Posterior means and {name}s, and their difference",
        "caterpillar": f"Random effects with intervals: posterior and {name}",
    }
    drawn = _drawn(pictures, titles)
    return Section(
        "blups",
        f"Posterior means and {name}s",
        [
            Prose([text]),
            *drawn,
            DataTable("compare_blups", "Random effects by both methods", table),
        ],
    )


def shrinkage(table: pd.DataFrame, pictures: Mapping[str, Figure], partial: str) -> Section:
    """Shrinkage of each group."""
    text = (
        f"The estimate from each group's own data (own_estimate) and that of {partial} "
        "(partial_pooling). Groups with few observations, or far from the average, are shrunk most."
    )
    titles = {
        "shrinkage": "From the own estimate of each group to the partially pooled one",
        "level_coefficients": "Coefficients of the groups, in pairs",
    }
    drawn = _drawn(pictures, titles)
    return Section(
        "shrinkage",
        "Shrinkage",
        [Prose([text]), *drawn, DataTable("shrinkage", "Shrinkage of each group", table)],
    )


def comparison(
    by_row: pd.DataFrame,
    by_group: pd.DataFrame | None,
    group: str,
    pictures: Mapping[str, Figure],
) -> Section:
    """Predictive performance: new observations of known groups, and new groups."""
    digits = {"se": 1, "p": 1, "p_worse": 3}
    row = f"New observations of known {nouns(group)}"
    text = (
        "Leave-one-out cross-validation, by observation and by group. Leaving out one observation "
        f"shows how well a model predicts new observations of known {nouns(group)}; leaving out all "
        f"observations of a {noun(group)}, how well it predicts new {nouns(group)}. Differences below "
        "4, or below twice their standard error (dse), are not clear."
    )
    if by_row.empty:
        text = (
            f"Leave-one-group-out cross-validation: how well a model predicts new {nouns(group)}. "
            "Single observations were not left out, as the study was made from sums of the rows. "
            "Differences below 4, or below twice their standard error (dse), are not clear."
        )
    if "n_checked" in by_row.attrs:
        text += (
            " Single observations were scored by one query of their table, corrected by "
            f"{by_row.attrs['n_checked']:,} of them, drawn at random; subsampling_dse is the standard "
            "error that this leaves."
        )
    title = "Differences in elpd from the best model, with standard errors"
    pictured = "ladder" if by_group is not None and "ladder" in pictures else "comparison"
    parts: list[Part] = [
        Prose([text]),
        *_drawn(pictures, {pictured: title}),
        *(
            []
            if by_row.empty
            else [DataTable("comparison_rows", row, _scores(by_row), digits=digits)]
        ),
    ]
    if by_group is None:
        parts.append(Prose(["Leave-one-group-out is not available for these models."]))
    else:
        note = "Not meaningful for no pooling: a new group has nothing but its prior."
        new = f"New {nouns(group)}"
        parts.append(DataTable("comparison_levels", new, _scores(by_group), note, digits))
    return Section("comparison", "Predictive performance", parts)


def _drawn(pictures: Mapping[str, Figure], titles: Mapping[str, str]) -> list[Picture]:
    """Those of the pictures that there are, in the order of the titles."""
    return [Picture(name, titles[name], pictures[name]) for name in titles if name in pictures]


def _scores(table: pd.DataFrame) -> pd.DataFrame:
    """A comparison with the differences first, and no column without an entry."""
    first = ["elpd_diff", "dse", "elpd", "se", "p", "weight"]
    filled = [c for c in table.columns if not (table[c].isna() | table[c].eq("")).all()]
    first = [c for c in first if c in table]  # no weights of rows that stay in their table
    return table[[*first, *(c for c in filled if c not in first)]].rename_axis("model")


def findings(every: Findings) -> Section | None:
    """All findings as a table; nothing where there are none."""
    if not every:
        return None
    table = DataTable("findings", "All findings", every.table.set_index("severity"), shown=30)
    text = "The points to check as a table."
    return Section("findings", "Findings", [Prose([text]), table])


def no_advice(why: str) -> Section:
    """Why there is no advice."""
    return Section(
        "advice", "What to do next", [Prose([sentence(f"no advice is available: {why}")])]
    )


def advice(
    sentences: Sequence[str], table: pd.DataFrame, pictures: Mapping[str, Figure]
) -> Section:
    """Advice on terms to remove and to add."""
    lead = (
        "The recommendation above is the simplest model that predicts about as well as the best. "
        "Here the richest model is simplified term by term, with likelihood ratio tests and "
        "leave-one-out. The two can differ if a term hardly matters for prediction."
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
    note = "Each model is compared with the one that it changes."
    digits = dict.fromkeys(["row_diff", "row_dse", "group_diff", "group_dse"], 1)
    digits |= {"elpd_row": 1, "elpd_group": 1}
    drawn = [Picture(f"advice_{k}", title, f) for k, (title, f) in enumerate(pictures.items())]
    shown = [
        DataTable(name, title, part, said, digits, meanings=_MEANINGS_IN_ADVICE)
        for name, title, part, said in (
            ("advice", "Models tried", table[first], note),
            ("advice_details", "Models tried, details", table[rest], ""),
        )
    ]
    parts: list[Part] = [Prose([lead, *sentences]), *drawn, *shown]
    return Section("advice", "What to do next", parts)


_MEANINGS_IN_ADVICE = {
    "model": "The model, as a formula.",
    "change": "What was removed or added.",
    "verdict": "Whether the term is needed.",
    "row_diff": "Difference in elpd for new observations; negative: it predicts worse.",
    "row_dse": "Standard error of that difference.",
    "group_diff": "The same for new groups.",
    "group_dse": "Standard error of that difference.",
    "statistic": "Likelihood ratio statistic.",
    "p": "Its p value.",
    "df": "Its degrees of freedom.",
    "null": "Its distribution under the smaller model.",
    "compared_with": "The model that it is compared with.",
    "elpd_row": "elpd for new observations.",
    "elpd_group": "elpd for new groups.",
    "left_out": "The factor whose groups were left out.",
    "variance_share": "Share of the variance of the fitted response due to the term.",
    "shift": "Largest change of a fixed effect, in standard errors.",
    "shifted": "The fixed effect that changes most.",
}


_MEANINGS_IN_CHECKS = {
    "observed": "Value in the data.",
    "mean": "Mean in simulated data.",
    "median": "Median in simulated data.",
    "sd": "Standard deviation in simulated data.",
    "p": "Share of simulated values that are larger; near 0 or 1 the model does not reproduce the "
    "data.",
    "pit": "Position of the observed mean in its predictive distribution, from 0 to 1.",
    "covered": "Whether the interval contains the observed mean.",
    "rows_covered": "Share of the group's observations within predictive intervals.",
    "statistic": "The statistic that is compared.",
    "score": "log: minus the log density or probability; brier, ranked_probability: squared errors of "
    "probabilities. Lower is better.",
    "baseline": "The same score if predictors and groups are ignored.",
}


def no_checks_of_rows(checked: str) -> Section:
    """That predictions of single rows were not checked, and residuals in a sample alone, if so."""
    text = (
        f"{checked} Simulated data and predictions of single observations were not checked."
        if checked
        else "The study was made from sums of the rows, so residuals, simulated data and predictions "
        "of single observations were not checked. Pass the table to check residuals in a sample of "
        "its rows: hp.check(fit, table=table)."
    )
    return Section("checks", "Predictive checks", [Prose([text])])


def checks(
    partial: str,
    tables: Mapping[str, pd.DataFrame],
    pictures: Mapping[str, Figure],
    rows: Literal["intervals", "probabilities", "none"],
) -> Section:
    """Predictive checks: tables by their titles, and figures; ``rows``: how each row is predicted."""
    told = {
        "intervals": "Each observation is predicted from all others. If the model holds, 50 % intervals "
        "contain about half of the observations, and so on. If they contain fewer, the intervals are "
        "too narrow; if more, too wide.",
        "probabilities": "Each observation is predicted from all others. If the model holds, what is "
        "predicted with a probability of 70 % happens in 70 % of the observations, and so on.",
        "none": "Leave-one-out predictions of so many observations take long and are omitted here; "
        "use fit.loo_pit().",
    }
    text = f"Does {partial} reproduce the data? {told[rows]}"
    titles = {
        "loo_pit": "Calibration of leave-one-out predictions (PIT)",
        "reliability": "Calibration of leave-one-out probabilities",
        "rootogram": "How often each value occurs",
        "posterior_predictive": "Observed groups and groups simulated from the model",
        "residuals": "Residuals",
        "influence": "Groups with the largest influence on the fixed effects",
    }
    shown = [
        DataTable(f"check_{k}", title, t, meanings=_MEANINGS_IN_CHECKS)
        for k, (title, t) in enumerate(tables.items())
    ]
    parts: list[Part] = [Prose([text]), *shown, *_drawn(pictures, titles)]
    return Section("checks", "Predictive checks", parts)
