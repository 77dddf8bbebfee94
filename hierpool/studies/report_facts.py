"""What every report of a study says of how it was made: facts, and code that makes it again."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import pandas as pd

from hierpool import datasets
from hierpool.core.options import DEFAULT_PROB, bounds_among
from hierpool.report.columns import interval_of
from hierpool.report.methods import Facts
from hierpool.report.residual_words import structure_name
from hierpool.studies.result import StudyResult

PACKAGES = ("hierpool", "numpy", "scipy", "pandas", "arviz", "xarray", "formulaic", "matplotlib")
_DEFAULTS = {"engine": "auto", "draws": 1000, "chains": 4, "progress": True}


def facts_of(study: StudyResult, tables: Mapping[str, pd.DataFrame]) -> Facts:
    """The facts of the methods paragraph."""
    fit = study.fits[study.selected]
    chains, draws = fit.n_draws
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    versions |= {name: version(name) for name in PACKAGES}
    for each in study.fits.values():
        versions |= each.info.get("versions", {})
    return Facts(
        design=study.design,
        groups=study.groups,
        models=list(study.models),
        selected=study.selected,
        why=study.why,
        engines=sorted({str(each.info.get("engine", "exact")) for each in study.fits.values()}),
        chains=chains,
        draws=draws,
        seed=study.seed,
        df_method="" if study.optimum is None else str(study.optimum.df_method),
        interval=_interval(tables["fixed_effects"].columns),
        versions=versions,
        has_tests=bool(study.blups),
        structures=_structures(study),
        has_row_scores=len(study.comparison) > 0,
    )


def _structures(study: StudyResult) -> list[str]:
    """Names of the residual structures that were compared."""
    ladder = study.residual_ladder
    if ladder is None:
        return []
    fits = [ladder.fits[name] for name in ladder.shown.index]
    return list(dict.fromkeys(structure_name(fit.design.spec.residual) for fit in fits))


def _interval(columns: Iterable[object]) -> str:
    percent, kind = interval_of(bounds_among(columns)[0])
    return f"{percent} % {kind}"


def code_of(study: StudyResult, style: str) -> tuple[str, str]:
    """Python and shell that make the same report."""
    given = {k: v for k, v in study.arguments.items() if v != _DEFAULTS.get(k)}
    spec = study.design.spec
    given |= spec.residual.arguments
    given |= {} if study.structure is None else study.structure.asked.arguments
    if spec.family is not None:
        given["family"] = spec.family.name
        if spec.family.link != spec.family.links[0]:
            given["link"] = spec.family.link
    if "n_checked" in study.comparison.attrs:
        given["compare_rows"] = True
    if study.along != study.groups:
        given["vary"] = list(study.along)
    bundled = study.label.removesuffix(" (simulated)")
    if bundled in datasets.names():
        load, file = f"hp.datasets.load({bundled!r})", f"{bundled}.csv"
    elif study.label.endswith((".csv", ".tsv")):
        load, file = f"pd.read_csv({study.label!r})", study.label
    elif study.design.is_summed and study.label:
        load, file = _quoted(study.label), study.label
    else:
        load, file = "...  # your table", "FILE"
    group = study.group if len(study.groups) == 1 else list(study.groups)
    call = "".join(f", {name}={value!r}" for name, value in given.items())
    lines = [
        *(["import pandas as pd"] if "pd." in load else []),
        "import hierpool as hp",
        "",
        *([f"hp.options.prob = {study.prob!r}"] if study.prob != DEFAULT_PROB else []),
        f"data = {load}",
        f"study = hp.study({_quoted(study.formula)}, data, group={_quoted(group)}, "
        f"seed={study.seed}{call})",
        "print(study)",
        f'study.report("report.html"{_style(style)})',
    ]
    return "\n".join(lines), _shell(study, file, given, style)


def _style(style: str) -> str:
    return "" if style == "brief" else f", style={_quoted(style)}"


def _quoted(text: str | list[str]) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shell(study: StudyResult, file: str, given: Mapping[str, Any], style: str) -> str:
    """The command that does the same; empty where it has no options for what was given."""
    options = {"engine", "draws", "chains", "weights", "known_se", "vary", "family", "link"}
    options |= {"residual", "sigma", "over"}
    flags = {"compare_rows"}
    if set(given) - options - flags - {"progress"}:
        return ""
    words = ["hierpool", "study", file, study.formula]
    words += [word for factor in study.groups for word in ("--group", factor)]
    words += ["--seed", str(study.seed), "--report", "report.html"]
    for name, value in given.items():
        if name in flags:
            words.append(f"--{name.replace('_', '-')}")
        if name in options:
            values = value if isinstance(value, list) else [value]  # each with its own option
            words += [w for v in values for w in (f"--{name.replace('_', '-')}", str(v))]
    if study.prob != DEFAULT_PROB:
        words += ["--prob", repr(study.prob)]
    if style != "brief":
        words += ["--report-style", style]
    return shlex.join(words)
