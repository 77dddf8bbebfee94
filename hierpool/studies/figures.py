"""The pictures of a study, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hierpool import plots
from hierpool.answers.reference_grid import Predictors
from hierpool.core.design import Design
from hierpool.core.writing import file_names
from hierpool.formula.residual_terms import over_text, read_spread
from hierpool.plots.sheet.terms import terms_in_words
from hierpool.studies.residual_ladder import correlation_and_spread
from hierpool.studies.result import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_EFFECTS = 3  # terms that are drawn unasked
MOST_LINES, MOST_PANELS = 6, 9  # in a picture of an effect
MOST_PREDICTED = 2000  # rows whose predictions are drawn unasked: a millisecond or two each


class StudyFigures(Mapping[str, "Figure"]):
    """The pictures of a study by name, each drawn when it is first asked for, and then kept."""

    def __init__(self, drawings: Mapping[str, Callable[[], Figure]]) -> None:
        self._drawings = drawings
        self._drawn: dict[str, Figure] = {}

    def __getitem__(self, name: str) -> Figure:
        if name not in self._drawn:
            self._drawn[name] = self._drawings[name]()
        return self._drawn[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._drawings)

    def __len__(self) -> int:
        return len(self._drawings)


def figures_of(study: StudyResult) -> StudyFigures:
    """Every picture; calibration of predictions for at most 2,000 rows.

    Those of a second factor have its name behind theirs: ``"shrinkage_school"``.
    """
    posterior, blup = study.fit, study.optimum
    of: dict[str, Any] = {"response": study.design.spec.response, "label": study.label}
    drawings: dict[str, Callable[[], Figure]] = {}
    for factor, name in file_names(study.groups).items():
        behind = "" if factor == study.group else f"_{name}"
        made = _of_factor(study, factor, of)
        drawings |= {f"{picture}{behind}": draw for picture, draw in made.items()}
    scores = study.comparison_by_group.get(study.group, study.comparison)
    scores = study.comparison if len(study.comparison) else scores
    if len(scores):
        drawings["comparison"] = lambda: plots.comparison(scores, **of)
    if blup is not None:
        drawings["standard_deviations"] = lambda: plots.standard_deviations(posterior, blup)
    if study.design.family is None:
        drawings["variance_partition"] = lambda: plots.variance_partition(posterior, study.reml)
    over = _over(study)
    if over:
        drawings["residual_structure"] = lambda: plots.residual_structure(study.reml, over=over)
    if columns := _of_sds(study):
        drawings["residual_sds"] = lambda: plots.residual_sds(posterior, by=columns)
    family, is_summed = study.design.family, study.design.is_summed
    if not is_summed:
        drawings["residuals"] = lambda: plots.residuals(posterior)
    if not is_summed and family is not None and family.is_discrete and family.name != "bernoulli":
        drawings["rootogram"] = lambda: plots.rootogram(posterior)
    drawings |= _effects(study)
    if posterior.is_integrable and study.design.n <= MOST_PREDICTED and not is_summed:
        if family is not None and family.name == "bernoulli":
            drawings["reliability"] = lambda: plots.reliability(posterior)
        else:
            drawings["loo_pit"] = lambda: plots.loo_pit(posterior)
    return StudyFigures(drawings)


def _over(study: StudyResult) -> str:
    """Times and groups of the residual structures that were asked for; empty where there are none."""
    if study.structure is None or study.optimum is None:
        return ""
    own = study.design.spec.residual.correlation
    over = study.structure.asked.over if own is None else over_text(own)
    time = over.split("|")[0].strip("` ")
    return over if time in study.design.frame else ""


def _of_sds(study: StudyResult) -> list[str]:
    """What the residual sds that were asked for depend on; empty where nothing is."""
    own = study.design.spec.residual
    asked = study.structure.asked.names if study.structure is not None else ()
    spreads = [spread for _, spread in map(correlation_and_spread, asked) if spread]
    read = [read_spread(f"~ {spread}") for spread in spreads]
    terms = [replace(own, spread=spread, scale=scale) for spread, scale in read]
    named = [c for term in (own, *terms) for c in (term.spread_column, term.scale) if c]
    if not named:
        return []
    known = {*study.design.frame.columns, *study.design.groupings}
    return [column for column in dict.fromkeys(named) if column in known]


def _of_factor(
    study: StudyResult, factor: str, of: Mapping[str, Any]
) -> dict[str, Callable[[], Figure]]:
    """The pictures of the groups of one factor."""
    shown = [
        name
        for name in ("complete_pooling", "no_pooling", study.selected)
        if name in study.fits and _is_coded_like(study.models[name].design, study.design)
    ]
    named = {**of, "names": terms_in_words(study.design.schema), "factor": factor}
    made: dict[str, Callable[[], Figure]] = {}
    if study.design.family is None and not study.design.is_summed:  # of a family curves
        made["trajectories"] = lambda: plots.trajectories(
            {name: study.fits[name] for name in shown}, factor=factor
        )
    if study.design.groups:
        made |= _of_shrinkage(study, named)
    if factor in study.comparison_by_group and len(study.comparison):
        by_group = study.comparison_by_group[factor]
        by_row = study.comparison.loc[study.comparison.index.isin(by_group.index)]
        order = [name for name in study.models if name in by_group.index]
        made["ladder"] = lambda: plots.ladder(by_row, by_group, order=order, group=factor, **of)
    return made


def _of_shrinkage(study: StudyResult, named: Mapping[str, Any]) -> dict[str, Callable[[], Figure]]:
    """The pictures of the random effects of one factor."""
    made: dict[str, Callable[[], Figure]] = {
        "shrinkage": lambda: plots.shrinkage(study.shrinkage, **named),
        "caterpillar": lambda: plots.caterpillar(
            study.fit.random_effects(diagnostics=False),
            None if study.optimum is None else study.optimum.random_effects(),
            **named,
        ),
    }
    if not study.compare_blups.empty:
        made["posterior_against_blup"] = lambda: plots.posterior_against_blup(
            study.compare_blups, **named
        )
    return made


def _is_coded_like(design: Design, other: Design) -> bool:
    """Whether a design has a coefficient for every fixed effect of another."""
    own = {*design.terms, *(term for group in design.groups for term in group.terms)}
    return own >= set(other.terms)


def _effects(study: StudyResult) -> dict[str, Callable[[], Figure]]:
    """A picture of each term that is within no other, and the forest of the fixed effects."""
    design, fit, label = study.design, study.fit, study.label
    terms = [t for t in design.encoder.terms(design) if t.columns]
    every = [frozenset(t.columns) for t in terms]
    outer = [
        t.columns for t, own in zip(terms, every, strict=True) if not any(own < u for u in every)
    ]
    different = list({frozenset(columns): columns for columns in outer}.values())
    different.sort(key=len, reverse=True)
    drawings: dict[str, Callable[[], Figure]] = {}
    for number, columns in enumerate(different[:MOST_EFFECTS], start=1):
        name = "effects" if number == 1 else f"effects_{number}"
        drawings[name] = partial(plots.effects, fit, **drawn(design, columns), label=label)
    if terms:
        drawings["fixed_effects"] = partial(plots.fixed_effects, fit, label=label)
    return drawings


def drawn(design: Design, columns: tuple[str, ...]) -> dict[str, Any]:
    """How the effect of some columns that interact is drawn: ``x``, ``by`` and ``at``.

    A number stands on the axis and a category has lines, or, with more than six values, stands on
    the axis itself. A second number has three lines: at its mean and one sd to either side.
    """
    known = Predictors(design).categories
    numbers = [c for c in columns if c not in known]
    categories = sorted((c for c in columns if c in known), key=lambda c: -len(known[c]))
    few = [c for c in reversed(categories) if len(known[c]) <= MOST_LINES]
    if numbers and len(few) == len(categories):
        x, lines = numbers[0], [*few, *numbers[1:]]
    elif categories:
        x = categories[0]
        lines = [c for c in reversed(categories[1:]) if len(known[c]) <= MOST_PANELS] + numbers
        lines.sort(key=lambda c: len(known.get(c, ())) > MOST_LINES)
    by = [c for c in lines if c != x][:2]
    if by and len(known.get(by[0], ())) > MOST_LINES:
        by = []
    at = {c: _around_mean(Predictors(design).numbers(c)) for c in by if c not in known}
    return {"x": x, "by": by, "at": at}


def _around_mean(values: np.ndarray) -> list[float]:
    """The mean, and one sd below and above it, in three digits that matter."""
    mean, sd = float(values.mean()), float(values.std())
    return [float(f"{v:.3g}") for v in (mean - sd, mean, mean + sd)]
