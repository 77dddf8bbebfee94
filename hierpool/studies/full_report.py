"""The full report of a study: every table, figure and check, as plain things."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from hierpool import plots
from hierpool.checks.accuracy.scores import scores
from hierpool.checks.advice import Advice
from hierpool.core.errors import HierpoolError, HierpoolWarning, UnsupportedModelError
from hierpool.core.group_nouns import nouns
from hierpool.report import sections
from hierpool.report.parts import Section
from hierpool.studies.result import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CENTRAL = (0.5, 0.8, 0.9, 0.95)


def full_sections(
    study: StudyResult,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure],
    advise: Callable[[], Advice],
) -> list[Section]:
    """What the full report has behind the brief one."""
    designs = {name: model.design for name, model in study.models.items()}
    made = {**figures, **_more_figures(study)}
    parts = [
        sections.data(study.design, study.group, study.findings),
        sections.models(designs, study.selected, study.group, study.model.priors.table(), made),
        *_middle(study, tables, made),
        sections.findings(study.findings),
        _advice(advise),
        _checks(study, made),
    ]
    return [part for part in parts if part is not None]


def _middle(
    study: StudyResult, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Figure]
) -> list[Section]:
    return [
        sections.poolings(tables["fixed_effects"], tables["variance_components"], figures),
        *(
            []
            if study.compare_blups.empty
            else [sections.blups(study.compare_blups, figures, study.selected)]
        ),
        *(
            []
            if study.shrinkage.empty
            else [sections.shrinkage(study.shrinkage, figures, study.selected)]
        ),
        sections.comparison(
            study.comparison, study.comparison_by_group.get(study.group), study.group, figures
        ),
    ]


def _more_figures(study: StudyResult) -> dict[str, Figure]:
    """Pictures that a full page has room for besides those of the study."""
    posterior = study.fit
    asked: dict[str, Callable[[], Figure]] = {
        "posterior_predictive": lambda: plots.posterior_predictive(posterior),
        "prior_predictive": lambda: plots.prior_predictive(study.model),
    }
    if study.design.family is None:
        asked["influence"] = lambda: plots.influence(study.reml, factor=study.group)
    if len(posterior.design.groups) == 1 and len(posterior.design.groups[0].terms) > 1:
        asked["level_coefficients"] = lambda: plots.level_coefficients(posterior)
    made = {}
    for name, draw in asked.items():
        with suppress(UnsupportedModelError):
            made[name] = draw()
    return made


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Our own warnings, to be written into the report, once it is over."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    ours = [w for w in caught if issubclass(w.category, HierpoolWarning)]
    said += dict.fromkeys(f"{str(w.message).rstrip('.')}." for w in ours)


def _advice(advise: Callable[[], Advice]) -> Section | None:
    """Advice on terms; nothing where it is not available for these models."""
    with _heard() as said:
        try:
            found = advise()
        except UnsupportedModelError:
            return None
        except HierpoolError as error:
            return sections.no_advice(error.message)
    return sections.advice([found.sentence, *found.notes, *said], found.table, {})


def _checks(study: StudyResult, figures: Mapping[str, Figure]) -> Section:
    """Predictive checks of the partially pooled model."""
    if study.design.is_summed:
        sampled = [f.text for f in study.findings if f.code == "rows-checked-in-sample"]
        return sections.no_checks_of_rows(" ".join(sampled))
    fit = study.fits[study.selected]
    tables: dict[str, pd.DataFrame] = {}
    rows: Literal["intervals", "probabilities", "none"] = "none"
    if "reliability" in figures:
        rows = "probabilities"
    elif "loo_pit" in figures:  # the study leaves it out where it would take long
        rows = "intervals"
        pit = fit.loo_pit().to_numpy()
        tables["Coverage of leave-one-out predictive intervals"] = central_shares(pit)
        with suppress(UnsupportedModelError):
            tables[f"New {nouns(study.group)}: each predicted from all others"] = (
                fit.level_coverage()
            )
    if study.design.family is not None and rows != "none":
        tables["Scores of leave-one-out predictions, averaged over the rows"] = scores(fit)
    simulated = f"Statistics of the data and of simulated data (new {nouns(study.group)})"
    tables[simulated] = fit.predictive_check()
    return sections.checks(study.selected, tables, figures, rows)


def central_shares(pit: np.ndarray) -> pd.DataFrame:
    """Coverage of central leave-one-out predictive intervals, and the nominal coverage.

    ``se`` takes rows for independent.

    Parameters
    ----------
    pit
        Shape (n,): probability integral transform of each row; (n, 2) of a discrete response, its
        bounds, between which it is spread evenly.
    """
    nominal = np.array(_CENTRAL)
    if pit.ndim == 2:
        low, high = pit[:, :1], pit[:, 1:]
        overlap = np.minimum(high, 0.5 + nominal / 2) - np.maximum(low, 0.5 - nominal / 2)
        inside = np.clip(overlap, 0, None) / np.maximum(high - low, 1e-12)
    else:
        inside = np.abs(pit[:, None] - 0.5) <= nominal / 2
    index = pd.Index([f"{100 * p:g} %" for p in nominal], name="interval")
    columns = {
        "expected": nominal,
        "share": inside.mean(axis=0),
        "se": np.sqrt(nominal * (1 - nominal) / len(pit)),
    }
    return pd.DataFrame(columns, index=index)
