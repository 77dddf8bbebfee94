"""study(): fits a model from complete to no pooling, compares the fits, and states the results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import pandas as pd

from hierpool.bayes.choose import fresh_seed
from hierpool.checks.accuracy.comparison import compared
from hierpool.checks.accuracy.loo import has_row_scores
from hierpool.checks.advice import Choice
from hierpool.checks.levels.blups import compare_blups
from hierpool.checks.levels.shrinkage import shrinkage
from hierpool.core.errors import (
    FitError,
    HierpoolError,
    HierpoolWarning,
    StudyInterrupted,
    UnsupportedModelError,
)
from hierpool.core.families.family import Family
from hierpool.core.families.table import resolve
from hierpool.core.findings import Finding, Findings
from hierpool.core.progress import named_steps
from hierpool.core.spec import Spec
from hierpool.core.text import sentence
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula.build import CellRows, read_frame
from hierpool.model import Model, optimum
from hierpool.studies import check
from hierpool.studies.candidates import LEFT_OUT_TOGETHER, CandidateSet
from hierpool.studies.ladder import Ladder, in_order, ladder, random_effects, widest
from hierpool.studies.screening import not_tried
from hierpool.studies.sentences import answer
from hierpool.studies.simplify import simplified
from hierpool.studies.structures import (
    StudyStructure,
    asked_structures,
    tried_structures,
    with_structure,
)
from hierpool.studies.study import Study
from hierpool.studies.unfinished import UnfinishedStudy
from hierpool.tables.compare import compare
from hierpool.tables.engines import columns_of, is_lazy, is_path, open_table
from hierpool.tables.moments import Moments, collect


def study(
    formula: str,
    data: Any,
    group: str | Sequence[str] | None = None,
    *,
    vary: str | Sequence[str] | None = None,
    seed: int | None = None,
    engine: Literal["auto", "exact", "nuts"] = "auto",
    draws: int = 1000,
    chains: int = 4,
    progress: bool = True,
    family: str | Family | None = None,
    link: str | None = None,
    trials: str | None = None,
    weights: str | None = None,
    known_se: str | None = None,
    residual: str | Sequence[str] | None = None,
    sigma: str | Sequence[str] | None = None,
    over: str | None = None,
    compare_rows: bool = False,
    **fit_arguments: Any,
) -> Study:
    """Fit a model from complete to no pooling, compare the fits, and state the results.

    Parameters
    ----------
    formula
        Without random effects, e.g. ``"volume ~ time"``; the study adds them. Or with the largest
        random effects to consider, ``"score ~ x + (x | school) + (1 | pupil)"``.
    data
        A DataFrame, or any table that narwhals can read. Of a table that is not in memory, as
        for ``hp.Model``, the sums for all models are taken in two passes; residuals are checked in a
        random sample of its rows, and the findings say so. Or moments that ``hp.collect`` gave for a
        formula with all random effects in question.
    group
        Column that names the groups, e.g. ``"boar"``; several for several factors, nested or
        crossed: ``["school", "pupil"]``. Not needed where the formula has random effects.
    vary
        Of several factors those whose pooling is varied, one after the other, with the random
        effects of the others held; None: all.
    seed
        The same seed gives the same study on one machine and version. None: a fresh one, kept in
        ``study.seed``.
    engine, draws, chains
        As in ``Model.fit``. A fit that fails its checks with ``engine="exact"`` is kept and
        reported in the findings.
    progress
        Show a progress bar on stderr if it takes over a second.
    family, link, trials, weights, known_se
        As in ``Model``, e.g. ``family="poisson"``.
    residual
        How the residuals of a group are correlated, ``"ar1(time | pig)"``: all models have it but
        separate fits of the groups. Or a list to choose from, as for ``hp.residual_ladder``:
        ``["cs", "ar1", "us"]``. They are compared with
        independent residuals at the largest random effects, or in the place of these where data
        cannot tell the two apart; the models then have the structure that is recommended.
    sigma
        What residual sds depend on: ``"~ diet"`` for one of each class, ``"~ log(time)"``,
        ``"~ time + (1 | pig)"`` where they differ between pigs too. Or a list to choose from,
        compared with a single sd. Beside ``residual`` what is no list stands in all structures; of
        two lists each structure is tried alone, and ``residual=["cs, sigma ~ diet"]`` is both.
    over
        What the words of ``residual`` are over, ``"time | pig"``. None: as in one that is written
        in full; else the predictor that has another value in each row of a group, if there is one.
    compare_rows
        Of a table that is not in memory: compare how the models predict single observations too, as
        ``hp.compare(fits, table=data)`` does; the table is then read twice more. Rows in memory, and
        counts of a family, are compared in any case.
    **fit_arguments
        ``tune``, ``cores``, ``sampler``, ``target_accept``, ``options``, as in ``Model.fit``.

    Raises
    ------
    UnsupportedModelError
        Residual structures, or ``compare_rows``, of moments.
    ArgumentError
        No group, or an argument that ``Model.fit`` does not take.
    FormulaError
        The formula cannot be read, or ``group`` names other groups than its random effects.
    DataError
        The data cannot be used with this formula.
    StudyInterrupted
        A KeyboardInterrupt, once a model has been fitted; ``error.study.fits`` holds the fits, and
        ``error.study.save(folder)`` writes them.

    Examples
    --------
    >>> import hierpool as hp
    >>> boars = hp.datasets.load("boars")
    >>> answer = hp.study("volume ~ time", boars, group="boar", seed=1)  # doctest: +SKIP
    """
    known: dict[str, Any] = {"family": resolve(family, link), "trials": trials}
    known |= {"weights": weights, "known_se": known_se}
    has_structures = residual is not None or sigma is not None
    if has_structures and (isinstance(data, Moments) or is_lazy(data)):
        raise UnsupportedModelError(
            "residual structures need the rows, and sums of them do not tell which stand side by "
            "side. Read the columns of the study into memory, or leave residual= and sigma= out",
            "needs-rows",
        )
    source = _Source(None if isinstance(data, Moments) or not is_lazy(data) else data, compare_rows)
    if compare_rows and isinstance(data, Moments) and data.spec.family is None:
        raise UnsupportedModelError(
            "compare_rows= needs the table, and this study has moments of it. Pass the table in their "
            "place, or compare afterwards: hp.compare(study.fits, table=table)",
            "needs-rows",
        )
    table = _table(data, partial(widest, formula, group=group, known=known), progress)
    asked = ladder(formula, table, group, vary, known)
    seed = fresh_seed() if seed is None else seed
    arguments = {"engine": engine, "draws": draws, "chains": chains, "seed": seed, **fit_arguments}
    fits: dict[str, PosteriorFit] = {}
    try:
        structure = None
        if has_structures and isinstance(table, pd.DataFrame):
            structures = asked_structures(residual, sigma, over, asked)
            with _heard() as said:
                structure = tried_structures(
                    structures, asked, table, lambda model: _fitted(model, arguments), progress
                )
            structure = replace(structure, said=tuple(said))
            asked = with_structure(asked, structure, table)
        return _study(asked, arguments, progress, fits, structure, source)
    except KeyboardInterrupt as stop:
        if not fits:
            raise
        label = asked.models[asked.largest].design.label
        kept = UnfinishedStudy(asked.formula, asked.groups, label, seed, asked.models, fits)
        raise StudyInterrupted(kept) from stop


@dataclass(frozen=True)
class _Source:
    """A table that is not in memory, if there is one, and whether its single rows are compared."""

    table: Any
    compares_rows: bool


def _table(
    data: Any, widest_of: Callable[[list[str]], Spec], progress: bool
) -> pd.DataFrame | CellRows:
    """The rows of a table in memory; of another the sums for every model of the study."""
    if isinstance(data, Moments):
        return CellRows(data.cells)
    if not is_lazy(data):
        return read_frame(data)
    table = open_table(data)
    moments = collect(widest_of(columns_of(table)), table, progress=progress)
    return CellRows(replace(moments.cells, label=str(data) if is_path(data) else ""))


def _study(
    asked: Ladder,
    arguments: Mapping[str, Any],
    progress: bool,
    fits: dict[str, PosteriorFit],
    structure: StudyStructure | None,
    source: _Source,
) -> Study:
    """The study of a ladder; ``fits`` is filled as it goes, so that an interrupt loses none."""
    with named_steps(len(asked.models) + 4, progress) as begin:
        found = _in_steps(asked, arguments, fits, begin, structure, source)
    return replace(found, answer=answer(found))


def _in_steps(
    asked: Ladder,
    arguments: Mapping[str, Any],
    fits: dict[str, PosteriorFit],
    begin: Callable[[str], None],
    structure: StudyStructure | None,
    source: _Source,
) -> Study:
    """The same, with what names each step as it begins."""
    with _heard() as said:
        for rung, model in asked.models.items():
            begin(rung)
            try:
                fits[rung] = (structure and structure.fit_of(model)) or _fitted(model, arguments)
            except HierpoolError as error:
                if not model.design.is_summed or error.code != "needs-rows":
                    raise
                asked = asked.without(rung, "its posterior needs the rows, and there are only sums")
        models = asked.models
        blups, impossible = _optima(models)
        begin("recommendation")
        chosen = _recommended(asked, fits, blups, arguments)
        if structure is not None:
            chosen, structure = _with_instead(chosen, structure)
        begin("comparison")
        comparison = _compared_by_row(chosen.fits, source, arguments["seed"])
        by_group = _compared_by_group(chosen.fits, asked.groups)
    begin("shrinkage")
    fit, blup = chosen.fits[chosen.selected], chosen.blups.get(chosen.selected)
    pools = fit.design.spec.pooling == "partial"
    found = Study(
        formula=asked.formula,
        groups=asked.groups,
        along=asked.along,
        label=fit.design.label,
        seed=arguments["seed"],
        models=chosen.models,
        fits=chosen.fits,
        blups=chosen.blups,
        comparison=comparison,
        comparison_by_group=by_group,
        largest=chosen.largest,
        selected=chosen.selected,
        choice=chosen.choice,
        skipped=chosen.skipped,
        shrinkage=shrinkage(fit) if pools else pd.DataFrame(),
        compare_blups=compare_blups(fit, blup) if pools and blup else pd.DataFrame(),
        arguments={k: v for k, v in arguments.items() if k != "seed"},
        structure=structure,
    )
    begin("checks")
    design = fit.design
    findings = [
        *check.of_models(found, source.table),
        *impossible,
        *not_tried(asked.formula, asked.screened, design.is_summed and design.family is not None),
        *check.of_scores(found.fits, [*(structure.said if structure else ()), *said]),
    ]
    return replace(found, findings=Findings(findings))


@dataclass(frozen=True)
class _Recommendation:
    """The models of a study with those that simplifying adds, and which one is recommended."""

    models: dict[str, Model]
    fits: dict[str, PosteriorFit]
    blups: dict[str, LikelihoodFit]
    largest: str
    selected: str
    choice: Choice
    skipped: dict[str, str]


def _recommended(
    asked: Ladder,
    fits: Mapping[str, PosteriorFit],
    blups: Mapping[str, LikelihoodFit],
    arguments: Mapping[str, Any],
) -> _Recommendation:
    """Simplify the largest partially pooled model by the rule of ``checks.advice``."""
    models = asked.models
    pooled = [n for n in models if models[n].design.spec.pooling == "partial" and n in blups]
    has_none = models[
        asked.largest
    ].design.samples_scales  # no optimum, and a posterior all the same
    largest = asked.largest if asked.largest in blups or has_none or not pooled else pooled[-1]
    names = {model.formula: name for name, model in models.items()}
    bench = CandidateSet(
        models[largest],
        arguments["draws"],
        arguments["seed"],
        known={models[name].formula: fit for name, fit in fits.items()},
        known_optima={models[name].formula: fit for name, fit in blups.items()},
        fitting=lambda model: _fitted(model, arguments),
    )
    down = simplified(bench, bench.tried(models[largest].design), asked.along)
    tried = {each: bench.every[each] for each in bench.every if each not in names}
    extra = {random_effects(each.model.design.spec): each for each in tried.values()}
    names |= {each.name: name for name, each in extra.items()}
    every = {**models, **{name: each.model for name, each in extra.items()}}
    order = in_order(every)
    added = {name: each.fit for name, each in extra.items() if each.fit is not None}
    optima = {n: each.blup for n, each in extra.items() if each.blup is not None}
    kept, optima = {**fits, **added}, {**blups, **optima}
    return _Recommendation(
        {name: every[name] for name in order},
        {name: kept[name] for name in order if name in kept},
        {name: optima[name] for name in order if name in optima},
        largest,
        names[down.choice.formula],
        down.choice,
        {**asked.skipped, **bench.skipped},
    )


def _with_instead(
    found: _Recommendation, structure: StudyStructure
) -> tuple[_Recommendation, StudyStructure]:
    """A residual structure in the place of the random effects, where that is recommended."""
    blup = found.blups.get(found.selected)
    if blup is None:
        return found, structure
    structure, instead = structure.compared(found.fits[found.selected], blup)
    if not instead:
        return found, structure
    name = structure.instead[instead].residual.words
    choice = Choice(found.models[name].formula)
    return replace(found, largest=name, selected=name, choice=choice), structure


def _fitted(model: Model, arguments: Mapping[str, Any]) -> PosteriorFit:
    try:
        return model.fit(progress=False, **arguments)
    except FitError as error:
        if not isinstance(error.fit, PosteriorFit):
            raise
        return error.fit  # its status is among the findings


def _optima(models: Mapping[str, Model]) -> tuple[dict[str, LikelihoodFit], list[Finding]]:
    """REML, least squares or ML of every model, and what cannot be had: no pooling without spare rows."""
    found: dict[str, LikelihoodFit] = {}
    missing = []
    for rung, model in models.items():
        has_family = model.design.family is not None
        is_ml = has_family or bool(model.design.scale_factor)
        try:
            found[rung] = optimum(model.design, "ML" if is_ml else "REML")
        except HierpoolError as error:
            if has_family and model.design.spec.pooling == "none":
                continue  # groups without events have no maximum, and ratings have none at all
            if not is_ml and error.code != "no-residual-df":
                raise
            if is_ml:
                text = sentence(f"no maximum likelihood fit: {error.message}")
                missing.append(Finding("no-maximum-likelihood", "note", text, about=rung))
            else:
                text = sentence(f"no least-squares fit: {error.message}")
                missing.append(Finding("no-least-squares", "note", text, about=rung))
    return found, missing


def _compared_by_row(fits: Mapping[str, PosteriorFit], source: _Source, seed: int) -> pd.DataFrame:
    """Scores of left-out rows; an empty table where there are only sums of them."""
    if all(has_row_scores(fit.design) for fit in fits.values()):
        return compared(fits)
    if source.compares_rows and all(fit.design.family is None for fit in fits.values()):
        return compare(fits, table=source.table, seed=seed, progress=False)
    columns = ["rank", "elpd", "p", "elpd_diff", "weight", "se", "dse", "warning"]
    return pd.DataFrame(columns=columns, index=pd.Index([], dtype=object), dtype=float)


def _compared_by_group(
    fits: Mapping[str, PosteriorFit], groups: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Scores of left-out groups of each factor; none where something cannot be integrated out.

    A model with a factor's groups as fixed effects knows nothing of a new one, and is left out.
    """
    found = {}
    for factor in groups:
        own = {name: fit for name, fit in fits.items() if factor not in fit.design.predictors}
        try:
            found[factor] = compared(own, by=factor)
        except UnsupportedModelError as error:
            if error.code not in ("not-integrable", LEFT_OUT_TOGETHER):
                raise
    return found


@contextmanager
def _heard() -> Iterator[list[warnings.WarningMessage]]:
    """Our own warnings as they come, to stand among the findings; others go where they went."""
    said: list[warnings.WarningMessage] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HierpoolWarning)
        yield said
    for warning in caught:
        if issubclass(warning.category, HierpoolWarning):
            said.append(warning)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
