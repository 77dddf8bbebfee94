"""What a study hands to its report: tables, figures, sentences and facts, as plain things."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hierpool import datasets, plots
from hierpool.checks.advice import Advice
from hierpool.core.errors import HierpoolError, HierpoolWarning, UnsupportedModelError
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.writing import check_file, make_folder, write_file
from hierpool.report import sections
from hierpool.report.methods import Facts, methods, reproduce
from hierpool.report.page import render
from hierpool.report.parts import Page, Section
from hierpool.studies.figures import figures_of
from hierpool.studies.result import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("hierpool", "numpy", "scipy", "pandas", "arviz", "xarray", "formulaic", "matplotlib")
_CENTRAL = (0.5, 0.8, 0.9, 0.95)
_DEFAULTS = {"engine": "auto", "draws": 1000, "chains": 4, "progress": True}


def write_report(
    study: StudyResult,
    tables: Mapping[str, pd.DataFrame],
    path: str | PathLike[str],
    advise: Callable[[], Advice],
) -> Path:
    """Write the page of a study with its tables to a file; ``advise`` is asked once."""
    make_folder(Path(path).parent)
    file = check_file(path)  # before the work
    return write_file(
        file, render(page_of(study, tables, advise)).encode("utf-8", errors="replace")
    )


def page_of(
    study: StudyResult, tables: Mapping[str, pd.DataFrame], advise: Callable[[], Advice]
) -> Page:
    """The report of a study, not yet written as HTML."""
    label = f"{study.label}: " if study.label else ""
    groups = counted(study.design.groupings[study.group].n_levels, study.group)
    facts, figures = _facts(study, tables), _figures(study)
    today = date.today().isoformat()
    return Page(
        title=f"{label}{study.formula} by {study.group}",
        subtitle=f"{study.design.n} observations of {groups}, {len(study.fits)} models, seed "
        f"{study.seed}",
        sections=[
            *_beginning(study, figures),
            *_middle(study, tables, figures),
            *_end(study, figures, facts, advise),
        ],
        foot=f"Written by hierpool {facts.versions['hierpool']} on {today}. The page is "
        "self-contained: it loads nothing and sends nothing.",
    )


def _beginning(study: StudyResult, figures: Mapping[str, Figure]) -> list[Section]:
    designs = {name: model.design for name, model in study.models.items()}
    return [
        sections.question(study.design, study.group, study.formula),
        sections.answer(study.answer.splitlines()),
        sections.points_to_check(study.findings),
        sections.data(study.design, study.group, study.findings),
        sections.models(
            designs, study.selected, study.models[study.selected].priors.table(), figures
        ),
    ]


def _middle(
    study: StudyResult, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Figure]
) -> list[Section]:
    return [
        sections.poolings(tables["fixed_effects"], tables["variance_components"], figures),
        sections.blups(study.compare_blups, figures, study.selected),
        sections.shrinkage(study.shrinkage, figures, study.selected),
        sections.comparison(
            study.comparison, study.comparison_by_group.get(study.group), study.group, figures
        ),
    ]


def _end(
    study: StudyResult, figures: Mapping[str, Figure], facts: Facts, advise: Callable[[], Advice]
) -> list[Section]:
    code, shell = _code(study)
    parts = [
        sections.findings(study.findings),
        _advice(advise),
        _checks(study, figures),
        methods(facts),
        reproduce(code, shell, facts),
    ]
    return [part for part in parts if part is not None]


def _figures(study: StudyResult) -> dict[str, Figure]:
    """The pictures of the study, and those that a page has room for besides."""
    posterior, blup = study.fits[study.selected], study.blups.get(study.selected)
    (group,) = posterior.design.groups
    asked: dict[str, Callable[[], Figure]] = {
        "posterior_predictive": lambda: plots.posterior_predictive(posterior),
        "prior_predictive": lambda: plots.prior_predictive(study.models[study.selected]),
    }
    if blup is not None:
        asked["influence"] = lambda: plots.influence(blup, factor=study.group)
    if len(group.terms) > 1:
        asked["level_coefficients"] = lambda: plots.level_coefficients(posterior)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the tables have the name
        made = figures_of(study)
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
    fit = study.fits[study.selected]
    tables: dict[str, pd.DataFrame] = {}
    if "loo_pit" in figures:  # the study leaves it out where it would take long
        pit = fit.loo_pit().to_numpy()
        tables["Coverage of leave-one-out predictive intervals"] = central_shares(pit)
        with suppress(UnsupportedModelError):
            tables[f"New {nouns(study.group)}: each predicted from all others"] = (
                fit.level_coverage()
            )
    simulated = f"Statistics of the data and of simulated data (new {nouns(study.group)})"
    tables[simulated] = fit.predictive_check()
    return sections.checks(study.selected, tables, figures, has_rows="loo_pit" in figures)


def central_shares(pit: np.ndarray) -> pd.DataFrame:
    """Coverage of central leave-one-out predictive intervals, and the nominal coverage.

    ``se`` takes rows for independent.

    Parameters
    ----------
    pit
        Shape (n,): probability integral transform of each row.
    """
    nominal = np.array(_CENTRAL)
    inside = np.abs(pit[:, None] - 0.5) <= nominal / 2
    index = pd.Index([f"{100 * p:g} %" for p in nominal], name="interval")
    columns = {
        "expected": nominal,
        "share": inside.mean(axis=0),
        "se": np.sqrt(nominal * (1 - nominal) / len(pit)),
    }
    return pd.DataFrame(columns, index=index)


def _facts(study: StudyResult, tables: Mapping[str, pd.DataFrame]) -> Facts:
    fit = study.fits[study.selected]
    chains, draws = fit.n_draws
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    versions |= {name: version(name) for name in PACKAGES}
    for each in study.fits.values():
        versions |= each.info.get("versions", {})
    return Facts(
        design=study.design,
        group=study.group,
        models=list(study.models),
        selected=study.selected,
        why=study.why,
        engines=sorted({str(each.info.get("engine", "exact")) for each in study.fits.values()}),
        chains=chains,
        draws=draws,
        seed=study.seed,
        interval=_interval(tables["fixed_effects"].columns),
        versions=versions,
    )


def _interval(columns: Iterable[object]) -> str:
    lower = next(str(c) for c in columns if str(c).endswith("_lb"))
    kind = "equal-tailed" if lower.startswith("eti") else "highest-density"
    percent = "".join(c for c in lower if c.isdigit() or c == ".")
    return f"{percent} % {kind}"


def _code(study: StudyResult) -> tuple[str, str]:
    """Python and shell that make the same report."""
    given = {k: v for k, v in study.arguments.items() if v != _DEFAULTS.get(k)}
    spec = study.design.spec
    given |= spec.residual.arguments
    bundled = study.label.removesuffix(" (simulated)")
    if bundled in datasets.names():
        load, file = f"hp.datasets.load({bundled!r})", f"{bundled}.csv"
    elif study.label.endswith((".csv", ".tsv")):
        load, file = f"pd.read_csv({study.label!r})", study.label
    else:
        load, file = "...  # your table", "FILE"
    call = "".join(f", {name}={value!r}" for name, value in given.items())
    lines = [
        *(["import pandas as pd"] if "pd." in load else []),
        "import hierpool as hp",
        "",
        f"data = {load}",
        f"study = hp.study({_quoted(study.formula)}, data, group={_quoted(study.group)}, "
        f"seed={study.seed}{call})",
        "print(study)",
        'study.report("report.html")',
    ]
    return "\n".join(lines), _shell(study, file, given)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shell(study: StudyResult, file: str, given: Mapping[str, Any]) -> str:
    """The command that does the same; empty where it has no options for what was given."""
    options = {"engine", "draws", "chains", "weights", "known_se"}
    if set(given) - options - {"progress"}:
        return ""
    words = ["hierpool", "study", file, study.formula, "--group", study.group]
    words += ["--seed", str(study.seed), "--report", "report.html"]
    for name, value in given.items():
        if name in options:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
