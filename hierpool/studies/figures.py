"""The pictures of a study, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hierpool import plots
from hierpool.core.design import Design
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
    """Every picture; calibration of predictions for at most 2,000 rows."""
    posterior, blup = study.fits[study.selected], study.blups[study.selected]
    shown = [
        name
        for name in ("complete_pooling", "no_pooling", study.selected)
        if _is_coded_like(study.models[name].design, study.design)
    ]
    of: dict[str, Any] = {"response": study.design.spec.response, "label": study.label}
    named = {**of, "names": terms_in_words(posterior.design.schema)}
    drawings: dict[str, Callable[[], Figure]] = {
        "trajectories": lambda: plots.trajectories({name: study.fits[name] for name in shown}),
        "shrinkage": lambda: plots.shrinkage(study.shrinkage, **named),
        "caterpillar": lambda: plots.caterpillar(
            posterior.random_effects(diagnostics=False), blup.random_effects(), **named
        ),
        "posterior_against_blup": lambda: plots.posterior_against_blup(
            study.compare_blups, **named
        ),
        "comparison": lambda: plots.comparison(study.comparison, **of),
        "standard_deviations": lambda: plots.standard_deviations(posterior, blup),
        "variance_partition": lambda: plots.variance_partition(posterior, blup),
        "residuals": lambda: plots.residuals(posterior),
    }
    if study.design.predictors:
        drawings["effects"] = lambda: plots.effects(posterior)
    if study.group in study.comparison_by_group:
        both = (study.comparison, study.comparison_by_group[study.group])
        order = list(study.models)
        drawings["ladder"] = lambda: plots.ladder(*both, order=order, group=study.group, **of)
    if posterior.is_integrable and study.design.n <= MOST_PREDICTED:
        drawings["loo_pit"] = lambda: plots.loo_pit(posterior)
    return StudyFigures(drawings)


def _is_coded_like(design: Design, other: Design) -> bool:
    """Whether a design has a coefficient for every fixed effect of another."""
    own = {*design.terms, *(term for group in design.groups for term in group.terms)}
    return own >= set(other.terms)
