"""hp.check: points to check in data, a model, a fit or a study, in sentences.

The judgements are files of ``checks/``. Here they are listed, and given what they judge.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from hierpool.checks.accuracy import (
    level_coverage,
    level_influence_on_variances,
    loo_pit,
    replicated,
)
from hierpool.checks.findings import boundary, comparisons, convergence, response, rows, separation
from hierpool.checks.findings.causes import root_causes
from hierpool.checks.residuals import every, family_dispersion
from hierpool.core.arguments import check_seed
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, DataError, HierpoolWarning
from hierpool.core.findings import Finding, Findings
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.model import Model, best_optimum
from hierpool.studies import remedies
from hierpool.studies.result import StudyResult
from hierpool.studies.sampled import checked_in_a_sample
from hierpool.studies.sentences import INTERCEPT

FOR_INFORMATION = frozenset({"levels-with-one-row", "unused-categories"})
"""Notices of a model after which nothing needs doing."""
OTHERS = "other models"
OfDesign = Callable[[Design], Iterator[Finding]]
OfOptimum = Callable[[LikelihoodFit], Iterator[Finding]]
OfPosterior = Callable[[PosteriorFit, LikelihoodFit | None], Iterator[Finding]]

BEFORE: tuple[OfDesign, ...] = (
    rows.few_levels,
    rows.thin_levels,
    rows.slopes_of_few_levels,
    rows.far_from_zero,
    rows.collinear,
    rows.imbalance,
    response.not_gaussian,
    separation.separated,
)
"""Judgements of rows, levels and columns; no fit is needed."""
OF_OPTIMUM: tuple[OfOptimum, ...] = (
    convergence.optimum,
    remedies.weighed,
)
"""Judgements of a REML, ML or least-squares fit; of a posterior they see its REML optimum."""
ALONE: tuple[OfOptimum, ...] = (boundary.singular, boundary.unidentified)
"""Judgements of an optimum without a posterior."""
OF_POSTERIOR: tuple[OfPosterior, ...] = (
    convergence.draws,
    boundary.unidentified_posterior,
    boundary.boundary,
    boundary.correlations,
    boundary.priors,
    loo_pit.judged,
    level_coverage.judged,
    replicated.judged,
    level_influence_on_variances.on_levels,
)
"""Judgements of a posterior and its REML optimum, None where there is none."""
OF_FAMILY: tuple[OfPosterior, ...] = (
    convergence.draws,
    boundary.unidentified_posterior,
    boundary.boundary,
    boundary.correlations,
    boundary.priors,
    family_dispersion.judged,
)
"""Those of a response that is not Gaussian."""


BEFORE_OF_SUMS: tuple[OfDesign, ...] = (rows.few_levels, rows.thin_levels, rows.imbalance)
"""Those before a fit that need no rows."""
OPTIMUM_OF_SUMS: tuple[OfOptimum, ...] = (convergence.optimum, every.influential)
"""Those of an optimum that need no rows."""
POSTERIOR_OF_SUMS: tuple[OfPosterior, ...] = (
    convergence.draws,
    boundary.unidentified_posterior,
    boundary.boundary,
    boundary.correlations,
    boundary.priors,
)
"""Those of a posterior that need no rows."""
_UNCHECKED = Finding(
    "rows-not-checked",
    "note",
    "The model was made from sums, so residuals and predictions of single rows were not checked.",
    "Pass the table, and a sample of its rows is checked: hp.check(fit, table=table).",
)


def check(
    subject: Model | PosteriorFit | LikelihoodFit | StudyResult | Mapping[str, PosteriorFit],
    *,
    table: Any = None,
    seed: int = 0,
) -> Findings:
    """Check data, models and fits; findings in sentences, the most serious first.

    Parameters
    ----------
    subject
        A ``Model``: checks of the data and the design. A fit: also checks of the fit; for a
        posterior, the REML fit of the same model is checked too. A ``Study``: its partially
        pooled model in detail, the other models briefly, and their comparison. A dict of fits:
        each fit, and whether they can be compared.
    table
        For a Gaussian fit that was made of sums: the table whose sums it has. A random sample of its
        rows is drawn, of whole groups where it can be, the model fitted to it, and its residuals are
        checked; each finding says so. None: residuals are not checked.
    seed
        Of the sample.

    Returns
    -------
    Findings
        Each has a code, a severity, a sentence, its meaning and its evidence. They print;
        ``.table`` is a DataFrame. A check that does not apply is silent.

    Examples
    --------
    >>> import hierpool as hp
    >>> sleep = hp.datasets.load("sleepstudy")
    >>> hp.check(hp.Model("Reaction ~ Days + (Days | Subject)", sleep))
    No problems found.
    """
    if table is not None:
        _check_takes_table(subject)
    if isinstance(subject, StudyResult):
        return subject.findings
    if isinstance(subject, Model):
        before_fitting = boundary.unidentified_rows(subject.design)
        return Findings(root_causes([*of_design(subject.design), *before_fitting]))
    if isinstance(subject, (LikelihoodFit, PosteriorFit)):
        before = of_design(subject.design, table, check_seed(seed))
        of_it = (
            _of_optimum(subject, ALONE) if isinstance(subject, LikelihoodFit) else of_fit(subject)
        )
        return Findings(root_causes([*before, *of_it]))
    if _is_posteriors(subject):
        return Findings(_of_several(subject))
    raise ArgumentError(
        f"check() takes a model, a fit, a study or a dict of posteriors; given: "
        f"{type(subject).__name__}.",
        "fit-needed",
    )


def _check_takes_table(subject: object) -> None:
    """Raise where there is no fit of sums of a Gaussian response."""
    if isinstance(subject, (LikelihoodFit, PosteriorFit)):
        design = subject.design
        if design.is_summed and design.family is None:
            return
    raise ArgumentError(
        "table= is for a fit that was made from sums of a Gaussian response, whose rows are not at "
        "hand: leave it out",
        "table-not-needed",
    )


def _is_posteriors(subject: object) -> bool:
    """Whether it is a dict of posteriors, whatever the annotation promises."""
    return isinstance(subject, Mapping) and all(
        isinstance(fit, PosteriorFit) for fit in subject.values()
    )


def of_design(design: Design, table: Any = None, seed: int = 0) -> Iterator[Finding]:
    """Notices made while the rows were read, and what can be said before fitting.

    Of sums also what a sample of the table's rows tells, where there is one.
    """
    for notice in design.notices:
        if notice.code in FOR_INFORMATION:
            continue
        yield replace(notice, text=f"{notice.text.rstrip('.')}.")
    for judge in BEFORE_OF_SUMS if design.is_summed else BEFORE:
        yield from judge(design)
    if design.is_summed:
        yield from _of_single_rows(design, table, seed)


def _of_single_rows(design: Design, table: Any, seed: int) -> Iterator[Finding]:
    """What a sample of the rows of sums tells, or that nothing was checked."""
    if table is None or design.family is not None:
        yield _UNCHECKED
    else:
        yield from checked_in_a_sample(design, table, seed)


def of_fit(fit: PosteriorFit, blup: LikelihoodFit | None = None) -> Iterator[Finding]:
    """What the draws, and the optimum of the same model, say; ``blup`` where it is at hand."""
    blup = optimum_of(fit.design) if blup is None else blup
    judges = OF_POSTERIOR if fit.design.family is None else OF_FAMILY
    for judge in POSTERIOR_OF_SUMS if fit.design.is_summed else judges:
        yield from judge(fit, blup)
    if blup is not None:
        yield from _of_optimum(blup)


def _of_optimum(blup: LikelihoodFit, more: tuple[OfOptimum, ...] = ()) -> Iterator[Finding]:
    judges = OF_OPTIMUM if blup.design.family is None else (convergence.optimum,)
    for judge in (*(OPTIMUM_OF_SUMS if blup.design.is_summed else judges), *more):
        yield from judge(blup)


def optimum_of(design: Design) -> LikelihoodFit | None:
    """REML, least squares or ML of a design; None where no row is left to estimate sigma from."""
    try:
        return best_optimum(design)
    except DataError:
        return None


def of_models(study: StudyResult, table: Any = None) -> Iterator[Finding]:
    """Findings of the models of a study: the recommended one in detail, of others whether they ran.

    ``table``: where the rows are, if the study was made of sums of them.
    """
    chosen = study.selected
    fit, blup = study.fits[chosen], study.blups.get(chosen)
    design = study.models[chosen].design
    before = BEFORE_OF_SUMS if design.is_summed else BEFORE
    found = [*_notices(study.models, chosen), *(f for judge in before for f in judge(design))]
    if design.is_summed:
        found += _of_single_rows(design, table, study.seed)
    of_chosen = itertools.chain(
        of_fit(fit, blup), comparisons.posterior_and_blups(study.compare_blups)
    )
    found += [replace(finding, about=chosen) for finding in of_chosen]
    for finding in root_causes(found):
        yield _with_cost(finding, study)
    for name, other in study.fits.items():
        if name != chosen:
            reml = study.blups.get(name)
            ran = itertools.chain(
                convergence.draws(other, reml), () if reml is None else convergence.optimum(reml)
            )
            yield from (_of_other(finding, name, design) for finding in ran)


def _of_other(finding: Finding, name: str, design: Design) -> Finding:
    """A finding of a model that is not recommended.

    Maximum likelihood of a family without pooling hardly ever exists, and nothing rests on it.
    """
    is_minor = design.family is not None and finding.code == "doubtful-blups"
    return replace(finding, about=name, severity="note" if is_minor else finding.severity)


def _with_cost(finding: Finding, study: StudyResult) -> Finding:
    """A finding about a variance on the boundary, with the cost of leaving it out."""
    smaller = _without(finding, study)
    if smaller is None:
        return finding
    factor = study.models[study.selected].design.groups[0].factor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HierpoolWarning)  # it stands for a rough comparison
        scores = [study.fits[name].loo(factor, exact=False) for name in (study.selected, smaller)]
    cost = comparisons.cost_of_dropping(scores[0], scores[1], smaller, factor)
    return replace(finding, text=f"{finding.text} {cost}")


def _without(finding: Finding, study: StudyResult) -> str | None:
    """The model without the variance in question; None if the study has none."""
    if finding.code not in {"singular-reml", "variance-near-zero"} or finding.evidence is None:
        return None
    if len(study.design.groups) > 1:
        return None  # the advice says what its terms are worth
    share = finding.evidence["p_small"].droplevel("factor")
    questioned = str(share.idxmax())
    if len(share) == 1:
        smaller = "complete_pooling"
    elif share[questioned] < boundary.NOT_EXCLUDED:
        smaller = "varying_slope_uncorrelated"
    else:
        smaller = "varying_slope_only" if questioned == INTERCEPT else "varying_intercept"
        if smaller in study.fits and set(_varying(study, smaller)) != {*share.index} - {questioned}:
            return None  # it lacks other terms too
    fitted = smaller in study.fits and smaller != study.selected
    return smaller if fitted and study.fits[smaller].is_integrable else None


def _varying(study: StudyResult, rung: str) -> tuple[str, ...]:
    """The terms that vary in a model of the study."""
    return tuple(t for group in study.fits[rung].design.groups for t in group.terms)


def of_scores(
    fits: Mapping[str, PosteriorFit], said: Iterable[warnings.WarningMessage]
) -> Iterator[Finding]:
    """Findings of a comparison, from what was said while it was made."""
    return comparisons.scores(fits, [str(warning.message) for warning in said])


def _notices(models: Mapping[str, Model], chosen: str) -> Iterator[Finding]:
    """Notices of the designs, each once, with the models that it concerns unless it is all.

    Notes are those of the chosen model; a warning that does not concern it is a note on others.
    """
    seen: dict[Finding, list[str]] = {}
    for name, model in models.items():
        for notice in model.notices:
            seen.setdefault(notice, []).append(name)
    for notice, names in seen.items():
        is_note = notice.severity == "note" and chosen not in names
        if is_note or notice.code in FOR_INFORMATION:
            continue
        others = [name for name in models if name not in names]
        where = f" (in all but {others[0]})" if len(others) == 1 else f" (in {', '.join(names)})"
        said = replace(notice, text=f"{notice.text}{where if others else ''}.")
        yield said if chosen in names else replace(said, severity="note", about=OTHERS)


def _of_several(fits: Mapping[str, PosteriorFit]) -> Iterator[Finding]:
    yield from comparisons.not_comparable(fits)
    for name, fit in fits.items():
        for finding in root_causes([*of_design(fit.design), *of_fit(fit)]):
            yield replace(finding, about=name)
