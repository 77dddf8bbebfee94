"""The pictures of a study, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hierpool import plots
from hierpool.core.design import Design
from hierpool.core.writing import file_names
from hierpool.plots.sheet.terms import terms_in_words
from hierpool.studies.result import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    posterior, blup = study.fit, study.reml
    of: dict[str, Any] = {"response": study.design.spec.response, "label": study.label}
    drawings: dict[str, Callable[[], Figure]] = {}
    for factor, name in file_names(study.groups).items():
        behind = "" if factor == study.group else f"_{name}"
        made = _of_factor(study, factor, of)
        drawings |= {f"{picture}{behind}": draw for picture, draw in made.items()}
    drawings |= {
        "comparison": lambda: plots.comparison(study.comparison, **of),
        "standard_deviations": lambda: plots.standard_deviations(posterior, blup),
        "variance_partition": lambda: plots.variance_partition(posterior, blup),
        "residuals": lambda: plots.residuals(posterior),
    }
    if study.design.predictors:
        drawings["effects"] = lambda: plots.effects(posterior)
    if posterior.is_integrable and study.design.n <= MOST_PREDICTED:
        drawings["loo_pit"] = lambda: plots.loo_pit(posterior)
    return StudyFigures(drawings)


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
    made: dict[str, Callable[[], Figure]] = {
        "trajectories": lambda: plots.trajectories(
            {name: study.fits[name] for name in shown}, factor=factor
        ),
        "shrinkage": lambda: plots.shrinkage(study.shrinkage, **named),
        "caterpillar": lambda: plots.caterpillar(
            study.fit.random_effects(diagnostics=False), study.reml.random_effects(), **named
        ),
        "posterior_against_blup": lambda: plots.posterior_against_blup(
            study.compare_blups, **named
        ),
    }
    if factor in study.comparison_by_group:
        by_group = study.comparison_by_group[factor]
        by_row = study.comparison.loc[study.comparison.index.isin(by_group.index)]
        order = [name for name in study.models if name in by_group.index]
        made["ladder"] = lambda: plots.ladder(by_row, by_group, order=order, group=factor, **of)
    return made


def _is_coded_like(design: Design, other: Design) -> bool:
    """Whether a design has a coefficient for every fixed effect of another."""
    own = {*design.terms, *(term for group in design.groups for term in group.terms)}
    return own >= set(other.terms)
