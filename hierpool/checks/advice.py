"""Judges the steps of a simplification path and recommends a model: Verdict, Step, Advice.

The rule, for a step from a larger model to a smaller one:

    needed      the likelihood ratio test has p below 0.01, and leave-one-out does not say clearly
                that the smaller model predicts better
    not needed  p is above 0.10, and leave-one-out does not say clearly that the larger does
    undecided   all else

Where there is no test (no pooling is no special case) the larger model is needed if leave-one-out
clearly says so, and not needed if the smaller predicts better at all.

Clearly means by more than 4 of elpd and by more than two standard errors, for a new row or for a
new level (Sivula et al. 2020). One threshold would do one thing: decide always. Two of them leave
room for "not clear", and keep wrong answers rare on either side.

References
----------
Barr, Levy, Scheepers, Tily (2013), J. Mem. Lang. 68, 255-278 (start from the maximal model).
Matuschek, Kliegl, Vasishth, Baayen, Bates (2017), J. Mem. Lang. 94, 305-315 (what to give up).
Sivula, Magnusson, Matamoros, Vehtari (2020), arXiv:2008.10296 (differences of elpd).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd

from hierpool.checks.accuracy.loo import ScoredLOO
from hierpool.core.findings import Findings
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.group_nouns import noun
from hierpool.core.printable import one_line, printable
from hierpool.core.text import capital, joined, short

Verdict = Literal["needed", "not needed", "undecided"]
Kind = Literal["given", "simpler", "other zero", "richer"]

NEEDED_BELOW = 0.01  # p of a likelihood ratio test
NOT_NEEDED_ABOVE = 0.10
MIN_ELPD_DIFFERENCE = 4.0  # of elpd, below which a difference is no reason (Sivula et al. 2020)
ERRORS = 2.0  # standard errors from which a difference in elpd is clear
UNDECIDED = "undecided"
_WIDTH = 92  # of printed sentences
_PLURALS = ("the correlations", "the differences", "separate")  # how plural changes begin
_SHOWN = ("row_diff", "row_dse", "group_diff", "group_dse")


@dataclass(frozen=True, slots=True)
class Difference:
    """elpd of the smaller of two models less that of the larger, and its standard error."""

    value: float
    se: float

    @property
    def is_clear(self) -> bool:
        """Whether the two models clearly differ."""
        return abs(self.value) > max(MIN_ELPD_DIFFERENCE, ERRORS * self.se)

    @property
    def is_for_larger(self) -> bool:
        """Whether the larger model clearly predicts better."""
        return self.is_clear and self.value < 0

    @property
    def is_for_smaller(self) -> bool:
        """Whether the smaller model clearly predicts better."""
        return self.is_clear and self.value > 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence on the step between two models.

    Attributes
    ----------
    statistic, df, p, null
        The likelihood ratio test; NaN and empty where there is none.
    row, group
        Differences of leave-one-out by row and by group; None where there is none.
    left_out
        The factor whose levels are left out.
    share
        Share of the variance of the fitted response due to the removed term; NaN if no term was
        removed.
    shift, shifted
        Largest change of a fixed effect, in its standard errors in the larger model, and its name.
    """

    statistic: float = np.nan
    df: float = np.nan
    p: float = np.nan
    null: str = ""
    row: Difference | None = None
    group: Difference | None = None
    left_out: str = ""
    share: float = np.nan
    shift: float = np.nan
    shifted: str = ""

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Those that there are."""
        return tuple(d for d in (self.row, self.group) if d is not None)

    @property
    def verdict(self) -> Verdict:
        """Whether the larger model is needed; the rule at the head of this file."""
        for_larger = any(d.is_for_larger for d in self.differences)
        for_smaller = any(d.is_for_smaller for d in self.differences)
        if for_larger and for_smaller:
            return "undecided"
        if np.isnan(self.p):
            better = bool(self.differences) and all(d.value > 0 for d in self.differences)
            return "needed" if for_larger else "not needed" if better else "undecided"
        if self.p < NEEDED_BELOW and not for_smaller:
            return "needed"
        if self.p > NOT_NEEDED_ABOVE and not for_larger:
            return "not needed"
        return "undecided"

    def said(self, sign: int = 1) -> str:
        """The numbers as they stand in a sentence; sign -1 says them of the larger model."""
        words = []
        if not np.isnan(self.p):
            words.append(f"LR {short(self.statistic)}, p {format_p(self.p)}")
        if (difference := self.row or self.group) is not None:
            better = "higher" if sign * difference.value > 0 else "lower"
            words.append(f"elpd {better} by {abs(difference.value):.1f}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Step:
    """One model of the table: what was changed, from which model, and at what cost.

    Attributes
    ----------
    name
        Its formula.
    kind
        ``"simpler"``: on the path; ``"other zero"``: without the correlation, at another zero of
        the predictors; ``"richer"``: an addition to the given model; ``"given"``.
    change
        What was removed or added, in words: ``"the varying slope of time by boar"``.
    compared_with
        Formula of the model it is compared with.
    evidence
        Evidence on the difference; for a richer model, the given one is the smaller.
    why
        Why it was tried, for a richer model.
    """

    name: str
    kind: Kind
    change: str = ""
    compared_with: str = ""
    evidence: Evidence = field(default_factory=Evidence)
    why: str = ""

    @property
    def verdict(self) -> str:
        """Whether what was changed is needed; empty for the given model."""
        return "" if self.kind == "given" else self.evidence.verdict

    @property
    def gain(self) -> float:
        """Gain in elpd for new observations of the larger of the two models; 0 if not known."""
        return -self.evidence.row.value if self.evidence.row else 0.0

    @property
    def reason(self) -> str:
        """A sentence with the numbers."""
        e, what = self.evidence, capital(self.change)
        if self.kind == "richer":
            return f"Consider adding {self.change} ({e.said(-1)}): {self.why}"
        verb = "are" if self.change.startswith(_PLURALS) else "is"
        word = {
            "needed": "needed",
            "not needed": "not needed",
            "undecided": "neither clearly needed nor clearly superfluous",
        }[e.verdict]
        return f"{what} {verb} {word}{f' ({e.said()})' if e.said() else ''}."


def candidates(path: Sequence[Step]) -> tuple[str, ...]:
    """Models of a path that the data do not clearly separate, the largest first.

    Terms are removed as long as they are not needed; one model is left if every step is decided.
    Where a step is undecided both its models remain, and further terms that are not needed go.
    """
    kept: list[str] = [path[0].name]
    for step in path[1:]:
        if step.verdict == "needed":
            break
        if step.verdict == "not needed" and len(kept) == 1:
            kept = [step.name]
        else:
            kept.append(step.name)
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A model to consider, ready to be fitted.

    Attributes
    ----------
    model
        The ``Model``.
    step
        What it removes or adds, in words.
    reason
        A sentence with the numbers.
    verdict
        Whether the term that is removed or added is needed.
    costs
        Its row of the table.
    """

    model: Any
    step: str
    reason: str
    verdict: str
    costs: pd.Series[Any]

    @property
    def formula(self) -> str:
        """Its formula."""
        return str(self.model.formula)


@dataclass(frozen=True, repr=False)
class Advice:
    """Advice on a model: simpler and richer alternatives, and what each costs.

    Attributes
    ----------
    formula, label, seed
        The given model, its data, and the seed of the fits.
    steps
        Every model that was tried, with its evidence.
    candidates
        Models of the path that the data do not clearly separate, the largest first; one if decided.
    models, fits, blups
        Formula -> Model, PosteriorFit, LikelihoodFit of every model that was tried.
    scores
        Formula -> ``"row"`` or a factor -> leave-one-out score that ``az.compare`` takes.
    findings
        Findings about the residuals of the given model (as ``hp.check``).
    notes
        Further remarks, in sentences.
    """

    formula: str
    label: str
    seed: int
    steps: tuple[Step, ...]
    candidates: tuple[str, ...]
    models: Mapping[str, Any]
    fits: Mapping[str, Posterior]
    blups: Mapping[str, Optimum]
    scores: Mapping[str, Mapping[str, ScoredLOO]]
    findings: Findings = field(default_factory=Findings)
    notes: tuple[str, ...] = ()

    @property
    def recommended(self) -> str:
        """Formula of the recommended model, or ``"undecided"`` if several are as good."""
        return self.candidates[0] if len(self.candidates) == 1 else UNDECIDED

    @property
    def kept(self) -> str:
        """Formula of the recommended model, or of the largest candidate if undecided."""
        return self.candidates[0]

    @property
    def path(self) -> tuple[Step, ...]:
        """The given model and its simplifications, one step each."""
        return tuple(step for step in self.steps if step.kind in {"given", "simpler"})

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        """Models to consider: simpler ones without a visible loss, and richer ones that are needed."""
        named = {*self.candidates, self.kept} - {self.formula}
        table = self.table
        chosen = [
            s
            for s in self.steps
            if (s.kind == "simpler" and (s.name in named or s.verdict == "not needed"))
            or (s.kind == "richer" and s.verdict == "needed")
        ]
        reached = self._reached()
        return tuple(
            Proposal(
                self.models[s.name], s.change, s.reason, s.verdict, pd.Series(table.loc[s.name])
            )
            for s in chosen
            if s.kind == "richer" or s.name in reached
        )

    def _reached(self) -> set[str]:
        """Models of the path down to the last candidate."""
        names = [step.name for step in self.path]
        return set(names[1 : names.index(self.candidates[-1]) + 1])

    @property
    def table(self) -> pd.DataFrame:
        """One row per model, index ``model`` (its formula).

        ``kind``, ``change`` and ``compared_with`` describe it. ``elpd_row`` and ``elpd_group`` are
        its leave-one-out scores; ``row_diff``, ``row_dse``, ``group_diff`` and ``group_dse`` are the
        differences from the model it is compared with (negative: worse) and their standard errors;
        ``left_out`` is the factor of ``group``. ``statistic``, ``df``, ``p`` and ``null`` describe
        the likelihood ratio test of the smaller of the two. ``variance_share`` is the share of the
        variance of the fitted response due to the removed term; ``shift`` is the largest change of
        a fixed effect in standard errors, and ``shifted`` its name.
        """
        rows = [self._row(step) for step in self.steps]
        index = pd.Index([step.name for step in self.steps], name="model")
        return pd.DataFrame(rows, index=index)

    @property
    def _left_out(self) -> str:
        """The factor whose groups the first comparison leaves out."""
        return next((s.evidence.left_out for s in self.steps if s.evidence.left_out), "")

    def _row(self, step: Step) -> dict[str, Any]:
        e, sign = step.evidence, -1 if step.kind == "richer" else 1
        scores = self.scores.get(step.name, {})

        def parts(what: str, by: str, difference: Difference | None) -> dict[str, float]:
            d = difference or Difference(np.nan, np.nan)
            score = scores.get(by)
            elpd = np.nan if score is None else float(score.elpd)
            return {f"elpd_{what}": elpd, f"{what}_diff": sign * d.value, f"{what}_dse": d.se}

        return {
            "kind": step.kind,
            "change": step.change,
            "compared_with": step.compared_with,
            **parts("row", "row", e.row),
            **parts("group", e.left_out or self._left_out, e.group),
            "left_out": e.left_out,
            "statistic": e.statistic,
            "df": e.df,
            "p": e.p,
            "null": e.null,
            "variance_share": e.share,
            "shift": e.shift,
            "shifted": e.shifted,
            "verdict": step.verdict,
        }

    @property
    def sentence(self) -> str:
        """The advice in plain sentences."""
        steps = {step.name: step for step in self.path}
        last = self.candidates[-1]
        names = list(steps)
        gone = [steps[name] for name in names[1 : names.index(last) + 1]]
        after = names[names.index(last) + 1 :][:1]
        said = [step.reason for step in gone]
        said += [steps[name].reason for name in after if steps[name].verdict == "needed"]
        if len(self.candidates) > 1:
            lead = (
                f"The data do not clearly separate {joined(self.candidates)}. Keep {self.kept} for "
                "now: superfluous terms are estimated near zero."
            )
        elif len(steps) == 1:
            lead = f"{self.formula} has no random effects to remove."
        elif last == self.formula:
            lead = f"We recommend {last}: all of its random effects are needed."
        else:
            lead = f"We recommend {last}, which is simpler than the given model."
        richer = [s.reason for s in self.steps if s.kind == "richer" and s.verdict == "needed"]
        if richer:
            said.append(f"However, a term seems to be missing. {' '.join(richer)}")
        return " ".join([lead, *said])

    def __repr__(self) -> str:
        lines = [one_line(self._headline), ""]
        lines += textwrap.wrap(self.sentence, _WIDTH)
        lines += [
            "",
            "Differences in elpd and likelihood ratio tests, each model against the one that it changes",
        ]
        with pd.option_context("display.width", 140, "display.max_columns", 20):
            lines.append(self._shown().to_string(na_rep=""))
        for note in self.notes:
            lines += textwrap.wrap(note, _WIDTH, initial_indent="- ", subsequent_indent="  ")
        return printable("\n".join(lines))

    @property
    def _headline(self) -> str:
        of = f", {self.label}" if self.label else ""
        return f"Advice on {self.formula}{of}"

    def _shown(self) -> pd.DataFrame:
        """The table as rounded text, by what was changed."""
        table = self.table
        signs = table["kind"].map({"given": "", "richer": "+ "}).fillna("- ")
        index = signs + table["change"].where(table["kind"] != "given", "given")
        shown = pd.DataFrame(index=pd.Index(index, name=""))
        heads = ("new obs.", "se", f"new {noun(self._left_out)}", "se ")
        for column, head in zip(_SHOWN, heads, strict=True):
            values = table[column].to_numpy()
            shown[head] = ["" if np.isnan(v) else f"{v:.1f}" for v in values]
        shown["LR"] = ["" if np.isnan(v) else short(v) for v in table["statistic"]]
        shown["p"] = ["" if np.isnan(v) else format_p(v).removeprefix("= ") for v in table["p"]]
        shown["verdict"] = table["verdict"].to_numpy()
        return shown

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        table = self._shown().to_html(na_rep="")
        return printable(
            f"<h3>{escape(self._headline)}</h3><p>{escape(self.sentence)}</p>{table}"
            f"<ul>{notes}</ul>"
        )


def format_p(value: float) -> str:
    """A p value as it stands behind the letter: ``"= 0.03"``, ``"< 0.0001"``."""
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"
