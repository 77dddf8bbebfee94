"""The one rule that recommends the random effects of a model: Evidence, Step, Choice, Advice.

The rule, for a step from a larger model to a smaller one:

    needed      the likelihood ratio test has p below 0.01, and leave-one-out does not say clearly
                that the smaller model predicts better
    not needed  p is above 0.10, and leave-one-out does not say clearly that the larger does; or
                the variances of the larger model are not identified
    undecided   all else

Where there is no test the larger model is needed if leave-one-out clearly says so, and not needed
if the smaller predicts better at all.

Clearly means by more than 4 of elpd and by more than two standard errors, for a new row or for a
new group (Sivula et al. 2020). One threshold would do one thing: decide always. Two of them leave
room for "not clear", and keep wrong answers rare on either side.

The random effects of each factor are simplified in turn, those of the others held; terms go as
long as they are not needed. Where a step is undecided the larger model is recommended. Factors
that the user named stay: their groups are part of the sampling design. Complete and no pooling are
compared with the recommended model, and never recommended.

References
----------
Barr, Levy, Scheepers, Tily (2013), J. Mem. Lang. 68, 255-278 (start from the maximal model).
Matuschek, Kliegl, Vasishth, Baayen, Bates (2017), J. Mem. Lang. 94, 305-315 (what to give up).
Sivula, Magnusson, Matamoros, Vehtari (2020), arXiv:2008.10296 (differences of elpd).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
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
Kind = Literal["given", "simpler", "other zero", "comparison", "richer"]

NEEDED_BELOW = 0.01  # p of a likelihood ratio test
NOT_NEEDED_ABOVE = 0.10
MIN_ELPD_DIFFERENCE = 4.0  # of elpd, below which a difference is no reason (Sivula et al. 2020)
ERRORS = 2.0  # standard errors from which a difference in elpd is clear
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
    narrowing
        Largest ratio of a standard error of a fixed effect, the smaller model's over the larger's;
        NaN where the fixed effects are not coded alike.
    is_identified
        Whether the rows identify the variances of the larger model.
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
    narrowing: float = np.nan
    is_identified: bool = True

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Those that there are."""
        return tuple(d for d in (self.row, self.group) if d is not None)

    @property
    def verdict(self) -> Verdict:
        """Whether the larger model is needed; the rule at the head of this file."""
        if not self.is_identified:
            return "not needed"
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
        if not self.is_identified:
            return "these rows do not identify its variances"
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
        the predictors; ``"comparison"``: without a factor that the user named, or partial in place
        of no pooling; ``"richer"``: an addition to the given model; ``"given"``.
    factor
        Whose random effects are changed; empty for the given model.
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
    factor: str = ""

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
        word = {
            "needed": "needed",
            "not needed": "not needed",
            "undecided": "neither clearly needed nor clearly superfluous",
        }[e.verdict]
        return f"{what} {self.is_or_are} {word}{f' ({e.said()})' if e.said() else ''}."

    @property
    def is_or_are(self) -> str:
        """The verb that what was changed takes."""
        return "are" if self.change.startswith(_PLURALS) else "is"

    @property
    def cost(self) -> str:
        """What keeping the larger model costs, in a sentence; empty where it is not known."""
        e, said = self.evidence, []
        if e.shift < np.inf:
            said.append(
                f"moves no fixed effect by more than {max(e.shift, 0.01):.2g} standard errors"
            )
        if e.narrowing < np.inf:
            percent = 100 * (1 - e.narrowing)
            size = "less than 1 %" if abs(percent) < 1 else f"at most {abs(percent):.0f} %"
            said.append(f"changes their standard errors by {size}")
        return f"The smaller model, {self.name}, {joined(said)}." if said else ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The recommended model, and the steps that led to it.

    Attributes
    ----------
    formula
        The recommended model: the largest of those that the data do not clearly separate.
    removed
        Steps taken: what they remove is not needed.
    needed
        Steps not taken: what they remove is needed.
    undecided
        Steps not taken, as the data do not decide; each is a smaller model to consider.
    """

    formula: str
    removed: tuple[Step, ...] = ()
    needed: tuple[Step, ...] = ()
    undecided: tuple[Step, ...] = ()

    @property
    def decided(self) -> bool:
        """Whether the data separate the recommended model from all others on its path."""
        return not self.undecided

    @property
    def candidates(self) -> tuple[str, ...]:
        """Formulas of the models that the data do not clearly separate, the recommended one first."""
        return (self.formula, *(step.name for step in self.undecided))

    def followed_by(self, chain: Iterable[Step]) -> Choice:
        """The choice after the steps of one more factor, which begin at the recommended model.

        Terms are removed as long as they are not needed. Where a step is undecided the larger of
        its models is kept, and further terms that are not needed are undecided with it.
        """
        formula = self.formula
        removed: list[Step] = []
        needed: list[Step] = []
        undecided: list[Step] = []
        for step in chain:
            if step.verdict == "needed":
                needed.append(step)
                break
            if step.verdict == "not needed" and not undecided:
                removed.append(step)
                formula = step.name
            else:
                undecided.append(step)
        return Choice(
            formula,
            (*self.removed, *removed),
            (*self.needed, *needed),
            (*self.undecided, *undecided),
        )

    @property
    def sentence(self) -> str:
        """Why this model is recommended, and what an undecided step costs, in sentences."""
        said = [step.reason for step in (*self.removed, *self.needed)]
        if not (said or self.undecided):
            said = ["It has what was asked for; no term of its random effects was up for removal."]
        if not self.undecided:
            return " ".join([f"We recommend {self.formula}.", *said])
        first = self.undecided[0]
        lead = (
            f"The data do not decide whether {first.change} {first.is_or_are} needed"
            f"{f' ({first.evidence.said()})' if first.evidence.said() else ''}. We recommend the "
            f"larger model, {self.formula}, because a superfluous term is estimated near zero."
        )
        return " ".join([lead, *([cost] if (cost := first.cost) else []), *said])


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
    choice
        The recommended model, and the steps that led to it.
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
    choice: Choice
    models: Mapping[str, Any]
    fits: Mapping[str, Posterior]
    blups: Mapping[str, Optimum]
    scores: Mapping[str, Mapping[str, ScoredLOO]]
    findings: Findings = field(default_factory=Findings)
    notes: tuple[str, ...] = ()

    @property
    def recommended(self) -> str:
        """Formula of the recommended model; the larger one where the data do not decide."""
        return self.choice.formula

    @property
    def decided(self) -> bool:
        """Whether the data separate the recommended model from the others on its path."""
        return self.choice.decided

    @property
    def candidates(self) -> tuple[str, ...]:
        """Formulas of the models that the data do not clearly separate, the recommended one first."""
        return self.choice.candidates

    @property
    def path(self) -> tuple[Step, ...]:
        """The given model, its simplifications one step each, and the comparisons at its ends."""
        kinds = {"given", "simpler", "comparison"}
        return tuple(step for step in self.steps if step.kind in kinds)

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        """Models to consider: simpler ones without a visible loss, and richer ones that are needed."""
        richer = [s for s in self.steps if s.kind == "richer" and s.verdict == "needed"]
        table = self.table
        return tuple(
            Proposal(
                self.models[s.name], s.change, s.reason, s.verdict, pd.Series(table.loc[s.name])
            )
            for s in (*self.choice.removed, *self.choice.undecided, *richer)
        )

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
        richer = [s.reason for s in self.steps if s.kind == "richer" and s.verdict == "needed"]
        missing = [f"However, a term seems to be missing. {' '.join(richer)}"] if richer else []
        return " ".join([self.choice.sentence, *missing])

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
