"""The pictures of a study, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hierpool import plots
from hierpool.plots.sheet.terms import terms_in_words
from hierpool.studies.result import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PREDICTED = 2000  # rows whose predictions are drawn unasked: a millisecond or two each


def figures_of(study: StudyResult) -> dict[str, Figure]:
    """Every picture; calibration of predictions for at most 2,000 rows."""
    posterior, blup = study.fits[study.selected], study.blups[study.selected]
    shown = ("complete_pooling", "no_pooling", study.selected)
    of: dict[str, Any] = {"response": study.design.spec.response, "label": study.label}
    named = {**of, "names": terms_in_words(posterior.design.schema)}
    pictures = {
        "trajectories": plots.trajectories({name: study.fits[name] for name in shown}),
        "shrinkage": plots.shrinkage(study.shrinkage, **named),
        "caterpillar": plots.caterpillar(
            posterior.random_effects(diagnostics=False), blup.random_effects(), **named
        ),
        "posterior_against_blup": plots.posterior_against_blup(study.compare_blups, **named),
        "comparison": plots.comparison(study.comparison, **of),
        "standard_deviations": plots.standard_deviations(posterior, blup),
        "variance_partition": plots.variance_partition(posterior, blup),
        "residuals": plots.residuals(posterior),
    }
    if study.group in study.comparison_by_group:
        both = (study.comparison, study.comparison_by_group[study.group])
        pictures["ladder"] = plots.ladder(*both, order=list(study.models), group=study.group, **of)
    if posterior.is_integrable and study.design.n <= MOST_PREDICTED:
        pictures["loo_pit"] = plots.loo_pit(posterior)
    return pictures
