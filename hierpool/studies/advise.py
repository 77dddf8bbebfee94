"""advise(): which simpler and richer models to consider, and what each costs.

``checks.advice`` judges; here the models are made, fitted and scored for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hierpool.bayes import choose
from hierpool.checks.advice import NEEDED_BELOW, Advice, Step, candidates, format_p
from hierpool.checks.residuals.every import judged
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, HierpoolWarning
from hierpool.core.findings import Findings
from hierpool.core.group_nouns import noun, nouns
from hierpool.core.schema import Schema
from hierpool.core.spec import GroupTerm
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula import neighbours, pooling
from hierpool.formula.complete_rows import CompleteRows
from hierpool.formula.function_calls import quote
from hierpool.formula.parse import factor_text, split_factor
from hierpool.model import Model
from hierpool.studies.candidates import (
    CandidateFit,
    CandidateSet,
    Change,
    compared,
    likelihood_ratio,
)
from hierpool.studies.result import StudyResult

DRAWS = 500  # of each chain of the models that are tried
MOST_STEPS = 12
MOST_TRIED = 6  # predictors that are looked at for what is missing
INTERCEPT = "Intercept"
WHOLE = "the effect of "
ASKED_BELOW = 0.05  # p from which an addition is tried that a finding asks for
_VARIANCES = (
    "hierpool estimates a single residual variance. nlme (varIdent, varPower), glmmTMB "
    "(dispformula) and brms (sigma ~ ...) can estimate several."
)
ELSEWHERE = {
    "unequal-variance": _VARIANCES,
    "unequal-variance-of-levels": _VARIANCES,
    "autocorrelation": "hierpool assumes independent residuals. nlme (corAR1), glmmTMB (ar1) and "
    "brms (ar) can estimate serial correlation.",
}


def advise(
    about: PosteriorFit | LikelihoodFit | Model | StudyResult,
    *,
    draws: int = DRAWS,
    seed: int | None = None,
) -> Advice:
    """Advice on the random effects of a model: what to remove, what to add, and what each costs.

    The given model is simplified step by step: first the correlations are removed (with centred
    predictors, because ``||`` depends on where zero is), then the term that adds least to the
    variance of the fitted response, a slope before its intercept, until no random effect is left.
    Each model is fitted and compared with the previous one by leave-one-out (new observations,
    new groups) and by a likelihood ratio test. A term with p below 0.01 is needed, one with p
    above 0.1 is not, unless leave-one-out clearly disagrees; otherwise the step is undecided.

    Then additions are tried: a square of a predictor, a varying slope, the group means of a
    predictor. With k additions, one is shown if its p is below 0.01 / k or if ``hp.check`` suggests
    it. If the residuals suggest unequal variances or autocorrelation, which hierpool does not
    fit, the notes name packages that do. Your model is not changed; the fits of all models that
    were tried are in the result.

    Parameters
    ----------
    about
        A fit, a model (fitted here), or a study (its richest partially pooled model).
    draws
        Draws in each of 4 chains for the models fitted here.
    seed
        Seed of these fits; None: that of the fit or study, or a fresh one for a model.

    Returns
    -------
    Advice
        Prints its advice and a table. ``recommended`` is a formula or ``"undecided"``;
        ``proposals`` are models to consider.

    Notes
    -----
    With several factors only the least costly step is tried; run it again on the result.

    Raises
    ------
    ArgumentError
        Anything but a fit, a model or a study.

    References
    ----------
    Barr, Levy, Scheepers, Tily (2013), J. Mem. Lang. 68, 255-278.
    Matuschek, Kliegl, Vasishth, Baayen, Bates (2017), J. Mem. Lang. 94, 305-315.

    Examples
    --------
    >>> import hierpool as hp
    >>> dyes = hp.datasets.load("Dyestuff2")
    >>> hp.advise(hp.Model("Yield ~ 1 + (1 | Batch)", dyes), seed=1).recommended
    'Yield ~ 1'
    """
    model, known, own = _given(about)
    seed = seed if seed is not None else own if own is not None else choose.fresh_seed()
    bench = CandidateSet(model, draws, seed, known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HierpoolWarning)
        given = bench.tried(model.design)
        path = [Step(given.name, "given"), *_path(bench, given)]
        findings = Findings(judged(given.blup))
        tried = _richer(bench, given, set(findings.codes))
        richer = sorted(tried, key=lambda step: step.gain, reverse=True)
    found = [*path, *richer]
    return Advice(
        formula=given.name,
        label=model.design.label,
        seed=seed,
        steps=tuple(found),
        candidates=candidates([step for step in path if step.kind != "other zero"]),
        models={s.name: bench.every[s.name].model for s in found},
        fits={s.name: f for s in found if (f := bench.every[s.name].fit) is not None},
        blups={s.name: bench.every[s.name].blup for s in found},
        scores={s.name: bench.every[s.name].scores for s in found},
        findings=findings,
        notes=(*_notes(bench, given, found), *_elsewhere(findings)),
    )


def _given(about: object) -> tuple[Model, dict[str, PosteriorFit], int | None]:
    """The model to start from, fits that are there already by formula, and their seed."""
    if isinstance(about, Model):
        return about, {}, None
    if isinstance(about, PosteriorFit):
        model = Model.from_design(about.design, about.priors)
        return model, {model.formula: about}, about.seed
    if isinstance(about, LikelihoodFit):
        return Model.from_design(about.design), {}, None
    if isinstance(about, StudyResult):
        pooled = [m for m in about.models.values() if m.design.spec.pooling == "partial"]
        fits = {about.models[name].formula: fit for name, fit in about.fits.items()}
        return pooled[-1], fits, fits[pooled[-1].formula].seed
    raise ArgumentError(
        f"advise() takes a fit, a model or a study; given: {type(about).__name__}. "
        "Write hp.advise(model.fit())",
        "advice-needs-model",
    )


def _path(bench: CandidateSet, given: CandidateFit) -> Iterator[Step]:
    """Steps down from the given model; with several factors only the first."""
    here = given
    several = len(given.design.groups) > 1
    for _ in range(1 if several else MOST_STEPS):
        found: list[Step] = []
        for option in _next(bench, here):
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


def _next(bench: CandidateSet, here: CandidateFit) -> list[Change]:
    """What can be taken from a model next, the accepted way first."""
    design = here.design
    if design.spec.pooling == "none":
        return [_pooled(design, bench.rows)]
    added = _contributions(here)
    factors = sorted(
        (g.factor for g in design.groups),
        key=lambda f: sum(v for (own, _), v in added.items() if own == f),
    )
    for factor in factors:
        if design.group(factor).has_correlation:
            return _without_correlation(design, factor)
    can_go = [
        (factor, term)
        for factor in factors
        if not any(set(split_factor(factor)) < set(split_factor(f)) for f in factors)
        for term in neighbours.droppable(neighbours.varying_terms(design.schema, factor))
    ]
    if not can_go:
        return []
    factor, term = min(can_go, key=lambda pair: added[pair])
    spec = neighbours.without_term(design.schema, factor, term, bench.given.design.spec.population)
    total = sum(added.values()) + _fixed_variance(here)
    words = _words(design.schema, factor, term)
    share = added[factor, term] / total if total > 0 else np.nan
    return [Change(spec, words, factor=factor, share=share)]


def _pooled(design: Design, rows: CompleteRows) -> Change:
    """Partial pooling in place of none."""
    (term,) = design.spec.groups
    right = " + ".join([term.columns, *design.spec.offsets])
    question = pooling.question(f"{design.spec.response} ~ {right}")
    plain = replace(question, residual=design.spec.residual)
    if pooling.slopes_that_vary(plain, rows, term.factor):
        spec = pooling.varying_slope_spec(plain, rows, term.factor)
    else:
        spec = pooling.varying_intercept_spec(plain, term.factor)
    return Change(spec, f"separate coefficients for each {noun(term.factor)}")


def _without_correlation(design: Design, factor: str) -> list[Change]:
    """The model without the correlation: centred, and as it is coded if that is another model."""
    equal = neighbours.with_equal_categories(design, factor)
    if equal is not None:
        (bar,) = (b for b in design.spec.groups if b.factor == factor)
        inner = bar.columns.split(" + ")[-1]
        return [Change(equal, f"separate variances and correlations for each {inner}")]
    terms = [t.text for t in neighbours.varying_terms(design.schema, factor)]
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
        else:
            variances = np.square(tried.blup.estimate.of(group.factor).sd)
        each = variances * np.square(group.Z).mean(axis=0)
        for term in neighbours.varying_terms(tried.design.schema, group.factor):
            out[group.factor, term] = float(each[list(term.columns)].sum())
    return out


def _fixed_variance(tried: CandidateFit) -> float:
    return float(np.var(tried.design.X @ tried.blup.estimate.beta, ddof=1))


def _richer(bench: CandidateSet, given: CandidateFit, codes: set[str]) -> list[Step]:
    """Additions: tested first, then fitted and scored where the test is clear.

    Clear among all that is tried (Bonferroni), unless a finding, which counts its own, asks for it.
    """
    found: list[Step] = []
    if given.design.spec.pooling == "none":
        return found
    additions = list(_additions(bench, given))
    for change in additions:
        with bench.skipping(change.spec):
            design = bench.design(change.spec, change.frame)
            if _size(design.schema) <= _size(given.design.schema):
                continue  # its column was dropped: nothing new
            larger = Model.from_design(design, bench.priors(design))
            same = design.terms == given.design.terms
            pair = (given.blup, larger.reml()) if same else (given.ml, larger.ml())
            enough = ASKED_BELOW if change.code in codes else NEEDED_BELOW / len(additions)
            if likelihood_ratio(*pair)[2] < enough:
                found.append(compared(bench.tried(design), given, change))
    return found


def _size(schema: Schema) -> int:
    """Number of columns of the population and of all groups."""
    return len(schema.terms) + sum(len(g.terms) for g in schema.groups)


def _additions(bench: CandidateSet, given: CandidateFit) -> Iterator[Change]:
    """A square, a slope that varies, the means over levels, of each number in the formula."""
    design, spec = given.design, given.design.spec
    if not spec.groups and spec.grouping:
        term = GroupTerm("1", spec.grouping)
        made = replace(neighbours.with_groups(spec, (term,)), grouping=None)
        why = f"observations of the same {noun(spec.grouping)} are alike."
        yield Change(made, f"(1 | {factor_text(spec.grouping)})", "richer", why)
    for column in neighbours.lone_numbers(design.schema)[:MOST_TRIED]:
        if square := neighbours.square_of(design, column):
            why = f"the relation of {spec.response} with {column} is curved."
            made = neighbours.with_column(spec, square)
            yield Change(made, square, "richer", why, code="curvature")
        for factor in (g.factor for g in design.groups):
            if ":" not in factor and neighbours.varies_within(design, column, factor):
                yield from _of_factor(design, column, factor)


def _of_factor(design: Design, column: str, factor: str) -> Iterator[Change]:
    """A slope of a column that varies over a factor, and its means over the levels."""
    name, spec = quote(column), design.spec
    used = [t.text for t in neighbours.varying_terms(design.schema, factor)]
    if name not in used and f"center({name})" not in used:
        made = neighbours.with_slope(spec, factor, name)
        why = f"the slope differs between {nouns(factor)}."
        if made is not None:
            yield Change(
                made, f"a varying slope of {column} by {factor}", "richer", why, factor=factor
            )
    means = neighbours.level_means(design, column, factor)
    if means is not None:
        mean, frame = means
        why = (
            f"the effect of {column} between {nouns(factor)} differs from that within them. First "
            f"compute data[{mean!r}] = data.groupby({factor!r})[{column!r}].transform('mean')."
        )
        made = neighbours.with_column(spec, quote(mean))
        yield Change(made, mean, "richer", why, frame, factor, code="contextual-effect")


def _notes(bench: CandidateSet, given: CandidateFit, path: list[Step]) -> Iterator[str]:
    """What else to know."""
    status = given.blup.status
    if status.word in {"singular", "not identified"}:
        yield f"The REML fit of the given model is {status}"
    zeros = [s for s in path if " at the mean of " in s.change or s.kind == "other zero"]
    if zeros:
        word = {"needed": "is needed", "not needed": "is not needed", "undecided": "may be needed"}
        said = [f"{s.change} {word[s.verdict]} (p {format_p(s.evidence.p)})" for s in zeros]
        yield (
            "(x || g) depends on where x is zero, so both the mean and the original zero of the "
            f"predictor were tried: {', '.join(said)}."
        )
    whole = [s for s in path if s.change.startswith(WHOLE) and s.verdict != "needed"]
    for factor in (s.change.removeprefix(WHOLE) for s in whole):
        yield (
            f"If {factor} is part of the sampling design, keep it whatever a test says: without it, "
            f"the observations of a {noun(factor)} are treated as independent."
        )
    if sum(s.kind == "richer" for s in path) > 1:
        yield (
            "Additions were tried one at a time, and one can stand in for another: add the first and "
            "run hp.advise again."
        )
    for formula, why in bench.skipped.items():
        yield f"{formula} could not be tried: {why}."
    if len(given.design.groups) > 1:
        yield "With several factors only one step was tried; run hp.advise again on the result."
    if given.fit is None:
        yield (
            "Leave-one-out was not computed, because the priors are not normal or the model is too "
            "large to be fitted several times. The verdicts use the likelihood ratio tests only."
        )
    if bench.has_own_priors:
        yield (
            "Your priors were kept for terms that have the same coding; all other priors are "
            "defaults."
        )


def _elsewhere(findings: Findings) -> Iterator[str]:
    """What the residuals suggest and hierpool does not fit, and packages that do."""
    for who in dict.fromkeys(ELSEWHERE.values()):
        asked = [
            finding.text
            for finding in findings
            if ELSEWHERE.get(finding.code) == who and finding.severity != "note"
        ]
        if asked:
            yield " ".join([*asked, who])
