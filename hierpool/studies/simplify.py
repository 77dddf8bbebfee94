"""simplified(): the random effects of a model, taken away one at a time, each step with its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hierpool.checks.advice import Choice, Step
from hierpool.core.coding import weighted_mean_and_sd
from hierpool.core.design import Design
from hierpool.core.group_nouns import noun, nouns
from hierpool.core.schema import Schema
from hierpool.formula import neighbours, pooling
from hierpool.formula.build import CellRows, CompleteRows
from hierpool.formula.parse import make_like, read_columns, split_factor
from hierpool.studies.candidates import CandidateFit, CandidateSet, Change, compared

MOST_STEPS = 12  # of each factor
INTERCEPT = "Intercept"
WHOLE = "the effect of "


@dataclass(frozen=True)
class Simplification:
    """Every model on the way down from the given one, and the one that the rule recommends."""

    steps: tuple[Step, ...]
    choice: Choice


def simplified(
    bench: CandidateSet, given: CandidateFit, along: Sequence[str] = ()
) -> Simplification:
    """Simplify the random effects of each factor in turn, those of the others held.

    ``along`` are the factors whose random effects are simplified; empty for all.

    The factor that adds least to the variance of the fitted response comes first. The factors of
    the given model stay; without each of them, and with partial in place of no pooling, it is
    only compared.
    """
    steps: list[Step] = []
    start = given
    if given.design.spec.pooling == "none":
        change = _pooled(given.design, bench.rows)
        with bench.skipping(change.spec):
            start = bench.tried(bench.design(change.spec))
            steps.append(compared(start, given, change))
    choice, named = Choice(start.name), start.design.spec.factors
    added = _contributions(start)
    order = sorted(
        dict.fromkeys(g.factor for g in start.design.groups if not along or g.factor in along),
        key=lambda f: sum(v for (own, _), v in added.items() if own == f),
    )
    simplest: dict[str, str] = {}  # model of each factor with the fewest of its random effects
    for factor in order:
        chain = list(_chain(bench, bench.every[choice.formula], factor, named))
        path = [step for step in chain if step.kind == "simpler"]
        choice = choice.followed_by(path)
        steps += chain
        simplest[factor] = path[-1].name if path else choice.formula
    for factor in order:
        last = bench.every[simplest[factor]]
        chosen = bench.every[choice.formula]
        alike = chosen.design.spec.factors == last.design.spec.factors and (
            chosen.design.group(factor).terms == last.design.group(factor).terms
        )
        steps += _without_factor(bench, chosen if alike else last, factor)
    return Simplification(tuple(steps), choice)


def _chain(
    bench: CandidateSet, here: CandidateFit, factor: str, named: tuple[str, ...]
) -> Iterator[Step]:
    """Steps down from a model in the random effects of one factor, which stays."""
    for _ in range(MOST_STEPS):
        found: list[Step] = []
        for option in _next(bench, here, factor, named):
            with bench.skipping(option.spec):
                found.append(compared(bench.tried(bench.design(option.spec)), here, option))
        if not found:
            return
        chosen = _chosen(found)
        for step in found:
            yield step if step is chosen else replace(step, kind="other zero")
        here = bench.every[chosen.name]


def _chosen(found: list[Step]) -> Step:
    """The accepted way, centred, unless only another zero does without the correlation."""
    first, *others = found
    if first.verdict == "not needed":
        return first
    return next((step for step in others if step.verdict == "not needed"), first)


def _next(
    bench: CandidateSet, here: CandidateFit, factor: str, named: tuple[str, ...]
) -> list[Change]:
    """What can be taken from the random effects of a factor next, the accepted way first.

    Those of an interaction of the factor that the user did not name go before its own. ``||``
    of a category depends on its reference category, so that correlations of one are kept.
    """
    design, added = here.design, _contributions(here)
    inner = [
        g.factor
        for g in design.groups
        if g.factor not in named and set(split_factor(factor)) < set(split_factor(g.factor))
    ]
    terms = neighbours.varying_terms(design.schema, factor)
    is_correlated = design.group(factor).has_correlation and not inner
    if is_correlated and (changes := _without_correlation(design, factor)):
        return changes
    can_go = [
        (f, term)
        for f in inner or [factor]
        for term in neighbours.droppable(neighbours.varying_terms(design.schema, f))
        if f in inner or len(terms) > 1
    ]
    if not can_go:
        return []
    where, term = min(can_go, key=lambda pair: added[pair])
    return [replace(_removal(bench, here, where, term), factor=factor)]


def _without_factor(bench: CandidateSet, here: CandidateFit, factor: str) -> Iterator[Step]:
    """The model without a factor that the user named, to compare with; it is never recommended."""
    terms = neighbours.varying_terms(here.design.schema, factor)
    if len(terms) != 1 or any(
        set(split_factor(factor)) < set(split_factor(g.factor)) for g in here.design.groups
    ):
        return
    change = replace(_removal(bench, here, factor, terms[0]), kind="comparison")
    with bench.skipping(change.spec):
        yield compared(bench.tried(bench.design(change.spec)), here, change)


def _removal(
    bench: CandidateSet, here: CandidateFit, factor: str, term: neighbours.VaryingTerm
) -> Change:
    """A model less one varying term."""
    added, schema = _contributions(here), here.design.schema
    spec = neighbours.without_term(schema, factor, term, bench.given.design.spec.population)
    total = sum(added.values()) + _fixed_variance(here)
    share = added[factor, term] / total if total > 0 else np.nan
    return Change(spec, _words(schema, factor, term), factor=factor, share=share)


def _pooled(design: Design, rows: CompleteRows | CellRows) -> Change:
    """Partial pooling in place of none."""
    (term,) = design.spec.groups
    right = " + ".join([term.columns, *design.spec.offsets])
    plain = make_like(design.spec, read_columns(right))
    if pooling.slopes_that_vary(plain, rows, term.factor):
        spec = pooling.varying_slope_spec(plain, rows, term.factor)
    else:
        spec = pooling.varying_intercept_spec(plain, term.factor)
    words = f"separate coefficients for each {noun(term.factor)}"
    return Change(spec, words, "comparison", factor=term.factor)


def _without_correlation(design: Design, factor: str) -> list[Change]:
    """The model without the correlation: centred, and as it is coded if that is another model.

    Nothing where a category varies beside other terms: its columns depend on the reference.
    """
    equal = neighbours.with_equal_categories(design, factor)
    if equal is not None:
        (bar,) = (b for b in design.spec.groups if b.factor == factor)
        inner = bar.columns.split(" + ")[-1]
        return [Change(equal, f"separate variances and correlations for each {inner}")]
    varying = neighbours.varying_terms(design.schema, factor)
    if any(neighbours.is_category(design.schema, term) for term in varying):
        return []
    terms = [t.text for t in varying]
    named = [INTERCEPT if t == neighbours.CONSTANT else t for t in terms]
    what = f"the correlation of {' and '.join(map(_plain, named))}"
    if len(terms) > 2:
        what = f"the correlations of the random effects of {factor}"
    spec, moved = neighbours.centred(design, factor)
    spec = neighbours.without_correlation(spec, factor)
    if not moved:
        return [Change(spec, what, factor=factor)]
    names = ", ".join(moved)
    as_coded = neighbours.without_correlation(design.spec, factor)
    return [
        Change(spec, f"{what} at the mean of {names}", factor=factor),
        Change(as_coded, f"{what} where {names} is 0", factor=factor),
    ]


def _plain(text: str) -> str:
    """A centred term by the name of what is centred."""
    return text.removeprefix("center(").removesuffix(")") if text.startswith("center(") else text


def _words(schema: Schema, factor: str, term: neighbours.VaryingTerm) -> str:
    """What a term is, in words."""
    if term.is_constant:
        alone = len(schema.group(factor).terms) == 1
        return f"{WHOLE}{factor}" if alone else f"the varying intercept of {factor}"
    if term.text in neighbours.categories(schema):
        return f"the differences of {term.text} between {nouns(factor)}"
    return f"the varying slope of {_plain(term.text)} by {factor}"


def _contributions(tried: CandidateFit) -> dict[tuple[str, neighbours.VaryingTerm], float]:
    """What each varying term adds to the variance of the fitted response, mean over the rows."""
    out = {}
    for group in tried.design.groups:
        if tried.fit is not None:
            sd = tried.fit.variable(f"sd_{group.factor}").to_numpy()
            variances = np.square(sd).mean(axis=(0, 1))
        elif tried.blup is not None:
            variances = np.square(tried.blup.estimate.of(group.factor).sd)
        else:
            variances = np.zeros(len(group.terms))
        each = variances * np.average(np.square(group.Z), axis=0, weights=tried.design.row_counts)
        for term in neighbours.varying_terms(tried.design.schema, group.factor):
            out[group.factor, term] = float(each[list(term.columns)].sum())
    return out


def _fixed_variance(tried: CandidateFit) -> float:
    if tried.blup is not None:
        beta = tried.blup.estimate.beta
    elif tried.fit is not None and tried.design.terms:
        beta = tried.fit.posterior_means["beta"]
    else:
        return 0.0
    fitted, n = tried.design.observations.X @ beta, tried.design.n
    return float(weighted_mean_and_sd(fitted, tried.design.row_counts)[1] ** 2) * n / (n - 1)
