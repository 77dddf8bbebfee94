"""Effects of the terms of a formula, interactions first: a sentence, estimates and a test for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers.adjustment import Adjust
from hierpool.answers.coefficient_draws import beta_draws
from hierpool.answers.credible_ellipsoid import CredibleEllipsoid
from hierpool.answers.effects_table import EffectsTable
from hierpool.answers.linear_predictors import Held
from hierpool.answers.marginal_means import means_of_cells
from hierpool.answers.reference_grid import make_grid
from hierpool.answers.response_scale import ResponseScale
from hierpool.answers.summarised import Asked, of_fit
from hierpool.answers.term_comparisons import TermComparisons, comparisons_of_terms
from hierpool.answers.term_sentences import Said, sentence_of
from hierpool.answers.terms_on_response import on_response
from hierpool.core.design import Design
from hierpool.core.findings import Finding
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.core.options import bound_names, percent, probability_of, takes_prob

_MOST_DUNNETT = 20  # comparisons whose multivariate t is worked out


@takes_prob
def term_effects(fit: IntegratedPosterior | Optimum, *, prob: float | None = None) -> pd.DataFrame:
    """Effects of the terms of the formula, with a sentence and a test for each term.

    The differences between the categories of a term, the slope of a number, and for an interaction
    how one depends on the other: for ``weight ~ Time * Diet`` the differences between the diets in
    the slope of Time come first. All else is averaged, categories with equal weights and numbers
    at their means, as in emmeans: so nothing depends on the reference category or on where a
    number is zero.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` or a ``LikelihoodFit``.
    prob
        Probability of the intervals; None: that of ArviZ's rcParams.

    Returns
    -------
    DataFrame
        Index (``term``, ``effect``), a row for each comparison. First the interactions of the
        highest order, then terms whose test is clear at ``1 - prob``, those within a clear
        interaction after others, stronger evidence first. All pairs of up to six categories, the
        later minus the earlier, else each minus the first. Of a number with a straight line the
        slope; of a curve the change of the mean from one sd below the mean of the number to one
        above it; of a square beside the number itself the change of its slope between these. With
        the logarithm of a response ratios in the place of differences. A formula without a
        predictor has its mean. Of a family with a logit link the effects are odds ratios, with a
        log link ratios of rates or means, both for a given group, otherwise effects on the linear
        predictor; the sentences have the probabilities or means themselves too, averaged over new
        groups.

        ``mean`` or ``estimate``, and an interval. The intervals of a term hold together: they are
        simultaneous for a posterior; of REML, ML and least squares they are Tukey's for all
        pairs, Dunnett's for up to 20 comparisons with a reference, else Bonferroni's.

        The test is of the term, the same in all its rows. Of a LikelihoodFit ``num_df``,
        ``den_df``, ``F``, ``p`` by ``fit.df_method`` (Kenward and Roger's where it applies). Of a
        posterior ``p_direction``, the probability of the more probable sign, for one
        coefficient, and for several ``ellipsoid_content``: the probability content of the
        smallest credible ellipsoid that reaches zero. Only what is estimable is tested.

        ``attrs["sentences"]``: term -> sentence. A sentence has the largest difference, and says
        "clearly" by the test of the term: p below ``1 - prob``, or zero outside the interval or
        the ellipsoid.

    Raises
    ------
    UnsupportedModelError
        No pooling, which has no common terms.

    References
    ----------
    Lenth (2023), emmeans: Estimated Marginal Means, R package (``joint_tests``).
    Box, Tiao (1973), Bayesian Inference in Statistical Analysis, section 2.8 (ellipsoids).

    Examples
    --------
    >>> import hierpool as hp
    >>> rats = hp.Model("weight ~ Time * Diet + (Time | Chick)", hp.datasets.load("ChickWeight"))
    >>> hp.term_effects(rats.reml()).attrs["sentences"]["Time:Diet"][:38]
    'The slope of weight in Time depends on'
    """
    check_fit(fit, "term_effects")
    held, scale = Held.of(fit.design, "average"), ResponseScale.of_effects(fit.design)
    probability = probability_of(prob)
    every = [_answered(fit, c, scale, probability) for c in comparisons_of_terms(held)]
    ranked = _ranked(every)
    findings = [_not_estimable(e) for e in ranked if e.is_missing]
    if not ranked:
        return EffectsTable.of(pd.DataFrame(), ["The model has no fixed effects"], ())
    table = pd.concat([e.table for e in ranked])
    method = "posterior draws" if isinstance(fit, Posterior) else str(fit.df_method)
    sentences = {e.compared.name: e.sentence for e in ranked}
    clear = [e.compared.name for e in ranked if e.is_clear]
    head = [
        f"Effects on {scale.measured_thing} of the terms of {fit.design.spec.formula}",
        *sentences.values(),
        f"Brackets: {percent(probability)} % intervals. Tests: {method}. Other predictors are "
        "averaged, numbers at their means.",
    ]
    made = {"df_method": "" if isinstance(fit, Posterior) else method, "sentences": sentences}
    return EffectsTable.of(table, head, findings, **made, clear=clear)


@dataclass(frozen=True)
class _Answered:
    """A term with its numbers.

    Attributes
    ----------
    compared
        What was compared.
    table
        Its rows.
    sentence
        What they say.
    is_clear
        Whether its test is clear.
    evidence
        Log of a p value, that of a normal posterior for draws; NaN where nothing is estimable.
    """

    compared: TermComparisons
    table: pd.DataFrame
    sentence: str
    is_clear: bool
    evidence: float

    @property
    def is_missing(self) -> bool:
        """Whether some comparison is not estimable."""
        return bool(self.table.iloc[:, 0].isna().any())


def _answered(
    fit: IntegratedPosterior | Optimum, of: TermComparisons, scale: ResponseScale, prob: float
) -> _Answered:
    m = len(of.linear)
    names = of.labels(" / " if scale.has_ratios else " - ")
    index = pd.MultiIndex.from_tuples([(of.name, n) for n in names], names=["term", "effect"])
    adjust, n_means = _adjustment(of, isinstance(fit, Posterior))
    asked = Asked(index, of.linear, np.zeros(m, dtype=int), n_means, is_difference=True)
    family = fit.design.family
    if not of.sides and family is not None:
        scale = ResponseScale.of(fit.design, "response")
        held = Held.usual(fit.design, None, is_curved=scale.mean is not None)
        grid = make_grid(fit.design, [], [], None, "equal")
        asked = replace(means_of_cells(held, grid, scale, np.zeros(1, dtype=int), ()), index=index)
    numbers = of_fit(fit, asked, scale, adjust, prob)
    low, high = [c for c in numbers if str(c).endswith(("_lb", "_ub"))]
    middle = "mean" if isinstance(fit, Posterior) else "estimate"
    table = numbers[[middle, low, high]].set_axis([middle, *bound_names("ci", prob)], axis=1)
    test, is_clear, evidence = _test(fit, of, prob)
    table = table.assign(**test)
    said = Said(
        of,
        table.iloc[:, :3].to_numpy(),
        is_clear,
        scale.measured_thing.replace("`", ""),
        scale.has_ratios,
        is_share=_is_share(fit.design, scale),
        is_odds=scale.compare == "odds ratio",
    )
    if is_clear:
        said = replace(said, apart=_apart(fit, said, scale))
    sentence = sentence_of(said)
    if family is not None and family.link != "identity":
        sentence = f"{sentence} {on_response(fit, said, prob)}".rstrip()
    return _Answered(of, table, sentence, is_clear, evidence)


def _is_share(design: Design, scale: ResponseScale) -> bool:
    """Whether numbers are shares: of a binary response, its mean."""
    if design.family is not None:
        return scale.mean is not None and design.family.name in ("bernoulli", "binomial")
    return scale.back is None and bool(np.isin(design.observations.y, (0, 1)).all())


def _apart(
    fit: IntegratedPosterior | Optimum, said: Said, scale: ResponseScale
) -> tuple[float, float] | None:
    """The two effects whose difference is the largest comparison of an interaction."""
    within = said.of.within
    rows = within.apart(said.of, said.largest) if within and said.largest >= 0 else None
    if within is None or rows is None:
        return None
    linear = within.linear.combined(np.eye(len(within.linear))[list(rows)])
    asked = Asked(pd.RangeIndex(2), linear, np.zeros(2, dtype=int), is_difference=True)
    first, second = of_fit(fit, asked, scale, "none", None).iloc[:, 0]
    return (float(first), float(second)) if np.isfinite([first, second]).all() else None


def _adjustment(of: TermComparisons, is_posterior: bool) -> tuple[Adjust, int]:
    """How the intervals of a term are made to hold together, and how many means it compares."""
    if len(of.linear) == 1:
        return "none", 0
    if is_posterior:
        return "simultaneous", 0
    compared = [side for side in of.sides if side.kind == "difference"]
    if len(compared) > 1 or any(side.kind == "each" for side in of.sides):
        return "holm", 0
    k = len(compared[0].values)
    if len(of.linear) == k * (k - 1) // 2:
        return "tukey", k
    return ("dunnett" if len(of.linear) <= _MOST_DUNNETT else "holm"), 0


def _test(
    fit: IntegratedPosterior | Optimum, of: TermComparisons, prob: float
) -> tuple[dict[str, Any], bool, float]:
    """Columns of the test, whether it is clear, and the evidence."""
    L = of.hypothesis
    if not isinstance(fit, Posterior):
        num_df, den_df, F, p = fit.f_test(L) if len(L) else (0, np.nan, np.nan, np.nan)
        with np.errstate(divide="ignore"):
            evidence = float(np.log(p)) if p > 0 or np.isnan(p) else -1e4 - F
        test = {"num_df": num_df, "den_df": den_df, "F": F, "p": p}
        return test, bool(p < 1 - prob), evidence
    if not len(L):
        return {"p_direction": np.nan, "ellipsoid_content": np.nan}, False, np.nan
    draws = beta_draws(fit) @ L.T
    ellipsoid = CredibleEllipsoid.of(draws)
    if len(L) > 1:
        test = {"p_direction": np.nan, "ellipsoid_content": ellipsoid.content}
        return test, ellipsoid.content >= prob, ellipsoid.log_tail
    direction = float(max((draws > 0).mean(), (draws < 0).mean()))
    test = {"p_direction": direction, "ellipsoid_content": np.nan}
    return test, direction >= (1 + prob) / 2, ellipsoid.log_tail


def _ranked(every: list[_Answered]) -> list[_Answered]:
    """Interactions of the highest order first, then clear terms, stronger evidence first."""
    highest = max((e.compared.order for e in every), default=0)
    clear = [e.compared for e in every if e.is_clear]

    def place(e: _Answered) -> tuple[bool, bool, bool, float]:
        is_highest = e.compared.order == highest > 1
        is_within = any(e.compared.is_within(other) for other in clear)
        evidence = np.inf if np.isnan(e.evidence) else e.evidence
        return not is_highest, not e.is_clear, is_within, evidence

    return sorted(every, key=place)


def _not_estimable(of: _Answered) -> Finding:
    rows = of.table.index[of.table.iloc[:, 0].isna()].get_level_values("effect")
    which = "none" if len(rows) == len(of.table) else f"{len(of.table) - len(rows)}"
    text = f"{which} of the {len(of.table)} comparisons of {of.compared.name} is estimable"
    if which not in ("none", "1"):
        text = text.replace("is estimable", "are estimable")
    return Finding(
        "row-not-estimable",
        "warning",
        f"{text[:1].upper()}{text[1:]}: the data do not have every combination that they compare.",
        "The test of the term covers what is estimable.",
    )
