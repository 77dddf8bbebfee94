"""A results paragraph in the style of a paper: the terms with their tests, and what varies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hierpool.core.design import Design, GroupDesign
from hierpool.core.text import capital, joined, short
from hierpool.report.model_words import (
    CONSTANT,
    columns_of,
    counted_in_words,
    family_in_words,
    groups_in_words,
    term_in_words,
    without_backticks,
)
from hierpool.report.residual_words import residual_in_words

RESIDUAL = "residual"
_BRACKETS = re.compile(r"\[(-?[\d.]+(?:e[+-]?\d+)?(?: %)?), (-?[\d.]+(?:e[+-]?\d+)?(?: %)?)\]")


@dataclass(frozen=True)
class TermResult:
    """What a term of the fixed effects says.

    Attributes
    ----------
    sentence
        In words, its interval in brackets.
    percent
        Of the interval.
    num_df, den_df, F, p
        Its F test, with infinite ``den_df`` Wald's; NaN where there is none.
    """

    sentence: str
    percent: str = ""
    num_df: float = np.nan
    den_df: float = np.nan
    F: float = np.nan
    p: float = np.nan

    @property
    def test(self) -> str:
        """The test as papers write it; empty where there is none."""
        if not np.isfinite(self.F):
            return ""
        if np.isinf(self.den_df):  # a Wald test
            return f"χ²({self.num_df:.0f}) = {self.num_df * self.F:.2f}, {p_value(self.p)}"
        df = f"{self.den_df:.1f}".removesuffix(".0")
        return f"F({self.num_df:.0f}, {df}) = {self.F:.2f}, {p_value(self.p)}"


@dataclass(frozen=True)
class Spread:
    """How much something varies between the groups of a factor.

    Attributes
    ----------
    factor
        The factor; ``"residual"`` within groups.
    term
        Name of the coefficient.
    sd
        Its standard deviation.
    posterior
        The Bayesian estimate with its interval, e.g. ``"4.86 (95 % interval 0.158 to 14.6)"``.
    """

    factor: str
    term: str
    sd: float
    posterior: str = ""


def p_value(p: float) -> str:
    """A p value as papers write it.

    Examples
    --------
    >>> p_value(0.0001), p_value(0.0274), p_value(0.62)
    ('p < .001', 'p = .027', 'p = .620')
    """
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def results_paragraph(
    design: Design,
    terms: Sequence[TermResult],
    spreads: Sequence[Spread],
    how: Mapping[str, str],
) -> str:
    """The paragraph.

    Parameters
    ----------
    design
        Of the recommended model.
    terms
        In the order in which they are told.
    spreads
        Standard deviations between groups, and that of the residual where it is estimated.
    how
        ``"method"``, e.g. REML, and ``"df"``, e.g. Kenward-Roger; empty where there is none.
    """
    said = [_with_test(term) for term in terms]
    return " ".join([*said, _fitted(design, how), *_varied(design, spreads)])


def _with_test(term: TermResult) -> str:
    """The sentence with its interval and test in parentheses."""
    test = f", {term.test}" if term.test else ""
    interval = rf"({term.percent} % CI \1 to \2"
    said, count = _BRACKETS.subn(f"{interval}{test})", term.sentence.rstrip("."), count=1)
    said = _BRACKETS.sub(f"{interval})", said)
    return f"{said}." if count or not test else f"{said} ({term.test})."


def _fitted(design: Design, how: Mapping[str, str]) -> str:
    spec = design.spec
    fixed = list(dict.fromkeys(" × ".join(columns_of(t)) for t in design.terms if t != CONSTANT))
    random = [_random(group) for group in design.groups]
    effects = f"fixed effects of {joined(fixed)} and " if fixed else ""
    of = [g.factor for g in design.groups] or list(design.groupings)
    sizes = joined(counted_in_words(design.groupings[f].n_levels, f) for f in of)
    random = random or ["a residual structure in place of random effects"]
    df = f", with degrees of freedom by the {how['df']} method" if how.get("df") else ""
    df = ", with Wald tests" if how.get("df") == "normal" else df
    structure = residual_in_words(spec.residual)
    return (
        f"A {_kind(design)} of {without_backticks(spec.response)} with {effects}{joined(random)} "
        f"was fitted by {how['method']} to {design.n} observations of {sizes}{df}."
    ) + (f" {structure}" if structure else "")


def _kind(design: Design) -> str:
    """What papers call a model of this response."""
    family = design.family
    if family is None:
        return "linear mixed model"
    return f"generalized linear mixed model ({family_in_words(family)})"


def _random(group: GroupDesign) -> str:
    """The random effects of a factor, as papers call them."""
    slopes = list(dict.fromkeys(" × ".join(columns_of(t)) for t in group.terms if t != CONSTANT))
    what = ["random intercepts"] if CONSTANT in group.terms else []
    what += [f"random effects of {joined(slopes)}"] if slopes else []
    return f"{joined(what)} for {groups_in_words(group.factor)}"


def _effect(term: str) -> str:
    return "intercept" if term == CONSTANT else f"effect of {term_in_words(term)}"


def _varied(design: Design, spreads: Sequence[Spread]) -> list[str]:
    said = []
    for group in design.groups:
        own = [s for s in spreads if s.factor == group.factor and s.sd > 0]
        if own:
            what = joined(f"{short(s.sd)} for the {_effect(s.term)}" for s in own)
            said.append(f"between {groups_in_words(group.factor)} it was {what}")
    left = [s.sd for s in spreads if s.factor == RESIDUAL]
    within = f"the residual standard deviation {short(left[0])}" if left else ""
    if within and design.spec.residual.structure == "weights":
        within = f"{within} for an observation of weight 1"
    if within and len(left) > 1:
        within = f"{within} (geometric mean)"
    at_zero = [_at_zero(s) for s in spreads if s.factor != RESIDUAL and s.sd == 0]
    if not said:
        return [f"{capital(within).replace('deviation', 'deviation was')}.", *at_zero][not within :]
    text = "; ".join(said).replace("it was", "the standard deviation was", 1)
    return [f"{capital(text)}{f', and {within}' if within else ''}.", *at_zero]


def _at_zero(spread: Spread) -> str:
    """An estimate of zero, which is no evidence that there is nothing."""
    who, what = groups_in_words(spread.factor), _effect(spread.term)
    bayesian = f"; the Bayesian estimate is {spread.posterior}" if spread.posterior else ""
    return (
        f"REML finds no variation of the {what} between {who} beyond chance, which does not show "
        f"that there is none{bayesian}."
    )
