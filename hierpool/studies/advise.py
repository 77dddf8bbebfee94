"""advise(): which simpler and richer models to consider, and what each costs.

``checks.advice`` judges; here the models are made, fitted and scored for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from hierpool.bayes import choose
from hierpool.checks.advice import Advice, Step, format_p
from hierpool.checks.residuals.every import judged
from hierpool.core.errors import ArgumentError, HierpoolWarning
from hierpool.core.findings import Finding, Findings
from hierpool.core.group_nouns import noun
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.model import Model
from hierpool.studies.additions import additions
from hierpool.studies.candidates import CandidateFit, CandidateSet
from hierpool.studies.result import StudyResult
from hierpool.studies.simplify import WHOLE, simplified

DRAWS = 500  # of each chain of the models that are tried
ELSEWHERE = {
    "unequal-variance": "A model with sigma='~ column' has a residual sd for each class of a column, or "
    "one that changes with a number.",
    "unequal-variance-of-levels": "A model with sigma='~ (1 | group)' gives each group a residual sd of "
    "its own; hp.residual_ladder compares structures.",
    "autocorrelation": "A model with residual='ar1(time | group)' has serial correlation; "
    "hp.residual_ladder compares structures.",
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
    above 0.1 is not, unless leave-one-out clearly disagrees; otherwise the step is undecided, and
    the larger model is recommended. With several factors the random effects of each are simplified
    in turn. The factors themselves stay: the model without one is shown for comparison.

    Then additions are tried: a square of a predictor, a varying slope, the group means of a
    predictor. With k additions, one is shown if its p is below 0.01 / k or if ``hp.check`` suggests
    it. If the residuals suggest unequal variances or autocorrelation, the notes name the
    residual structure to try. Your model is not changed; the fits of all models that
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
        Prints its advice and a table. ``recommended`` is a formula, ``decided`` whether the data
        separate it from the other models; ``proposals`` are models to consider.

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
    >>> sleep = hp.datasets.load("sleepstudy")
    >>> hp.advise(hp.Model("Reaction ~ Days + (Days | Subject)", sleep), seed=1).recommended
    'Reaction ~ Days + (Days || Subject)'
    """
    bench = _bench(about, draws, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HierpoolWarning)
        given = bench.tried(bench.given.design)
        down = simplified(bench, given, about.along if isinstance(about, StudyResult) else ())
        findings = Findings(_of_residuals(given))
        tried = additions(bench, given, set(findings.codes))
        richer = sorted(tried, key=lambda step: step.gain, reverse=True)
    found = [Step(given.name, "given"), *down.steps, *richer]
    return Advice(
        formula=given.name,
        label=given.design.label,
        seed=bench.seed,
        steps=tuple(found),
        choice=down.choice,
        models={s.name: bench.every[s.name].model for s in found},
        fits={s.name: f for s in found if (f := bench.every[s.name].fit) is not None},
        blups={s.name: b for s in found if (b := bench.every[s.name].blup) is not None},
        scores={s.name: bench.every[s.name].scores for s in found},
        findings=findings,
        notes=(*_notes(bench, given, found), *_elsewhere(findings)),
    )


def _bench(about: object, draws: int, seed: int | None) -> CandidateSet:
    """The model to start from, with the fits of it and of simpler ones that are there already."""

    def of(model: Model, own: int | None = None, **known: Any) -> CandidateSet:
        chosen = own if seed is None else seed
        return CandidateSet(
            model, draws, choose.fresh_seed() if chosen is None else chosen, **known
        )

    if isinstance(about, Model):
        return of(about)
    if isinstance(about, PosteriorFit):
        model = Model.from_design(about.design, about.priors)
        return of(model, about.seed, known={model.formula: about})
    if isinstance(about, LikelihoodFit):
        return of(Model.from_design(about.design))
    if isinstance(about, StudyResult):
        return of(
            about.models[about.largest],
            about.seed,
            known={about.models[name].formula: fit for name, fit in about.fits.items()},
            known_optima={about.models[name].formula: fit for name, fit in about.blups.items()},
        )
    raise ArgumentError(
        f"advise() takes a fit, a model or a study; given: {type(about).__name__}. "
        "Write hp.advise(model.fit())",
        "advice-needs-model",
    )


def _of_residuals(given: CandidateFit) -> Iterator[Finding]:
    """Findings about the residuals of a Gaussian model."""
    if given.blup is not None and given.design.family is None:
        yield from judged(given.blup)


def _notes(bench: CandidateSet, given: CandidateFit, path: Sequence[Step]) -> Iterator[str]:
    """What else to know."""
    if given.blup is not None and given.blup.status.word in {"singular", "not identified"}:
        yield f"The {given.blup.method} fit of the given model is {given.blup.status}"
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
            f"The test does not ask for the effect of {factor}, which stays all the same: it is part "
            f"of the design, and without it the observations of a {noun(factor)} are treated as "
            "independent."
        )
    if sum(s.kind == "richer" for s in path) > 1:
        yield (
            "Additions were tried one at a time, and one can stand in for another: add the first and "
            "run hp.advise again."
        )
    for formula, why in bench.skipped.items():
        yield f"{formula} could not be tried: {why}."
    if given.score("row") is None:
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
    """What the residuals suggest, and the structure to try."""
    for who in dict.fromkeys(ELSEWHERE.values()):
        asked = [
            finding.text
            for finding in findings
            if ELSEWHERE.get(finding.code) == who and finding.severity != "note"
        ]
        if asked:
            yield " ".join([*asked, who])
