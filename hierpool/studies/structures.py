"""Residual structures in a study: those asked for, tried at its largest random part, and the one kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from hierpool.core.correlation import WORDS
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError
from hierpool.core.spec import Spec
from hierpool.core.text import in_backticks, joined
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula.build import encode
from hierpool.formula.complete_rows import CompleteRows
from hierpool.formula.function_calls import quote
from hierpool.formula.parse import group_text, make_like, read_columns
from hierpool.formula.residual_terms import over_text, read_correlation, read_spread
from hierpool.model import Model
from hierpool.studies.ladder import Ladder
from hierpool.studies.residual_ladder import (
    INDEPENDENT,
    ResidualLadder,
    StructureFits,
    check_takes_structures,
    correlation_and_spread,
    first_possible,
    fitted_structures,
    plain,
    structured,
)

_EXAMPLES = {
    "residual": ("a structure, residual='ar1(time | pig)'", "residual=['cs', 'ar1', 'us']"),
    "sigma": ("what residual sds depend on, sigma='~ diet'", "sigma=['~ diet', '~ (1 | pig)']"),
}


@dataclass(frozen=True)
class Structures:
    """Residual structures that a study is asked to try.

    Attributes
    ----------
    names
        As typed; of several ``"independent"`` is one.
    over
        What words are over: ``"time | pig"``; empty where none is a word.
    arguments
        ``residual=``, ``sigma=`` and ``over=`` of the study, as typed.
    """

    names: tuple[str, ...]
    over: str
    arguments: Mapping[str, Any]

    def with_structure(self, spec: Spec, name: str) -> Spec:
        """A spec with one of them."""
        return structured(plain(spec), name, self.over)


@dataclass(frozen=True)
class StudyStructure:
    """The residual structure of the models of a study.

    Attributes
    ----------
    asked
        What was asked for.
    name
        As typed: that of the models with random effects; empty where a single structure has none.
    instead
        Structures in the place of the random effects, which data cannot tell from them: spec by name.
    tried
        The fits of several structures.
    ladder
        Their comparison, once the random effects have been simplified.
    said
        Warnings.
    """

    asked: Structures
    name: str
    instead: Mapping[str, Spec]
    tried: StructureFits | None = None
    ladder: ResidualLadder | None = None
    said: tuple[warnings.WarningMessage, ...] = ()

    def fit_of(self, model: Model) -> PosteriorFit | None:
        """The fit of a model that was compared, of the same rows."""
        for fit in self.tried.fits.values() if self.tried is not None else ():
            own = fit.design
            if own.spec == model.design.spec and own.fingerprint == model.design.fingerprint:
                return fit
        return None

    def compared(self, fit: PosteriorFit, optimum: LikelihoodFit) -> tuple[StudyStructure, str]:
        """With the comparison, and which of ``instead`` is recommended: the simplified model if empty."""
        if self.tried is None:
            return self, next(iter(self.instead), "")
        own = fit.design.spec
        name = next((k for k, known in self.tried.fits.items() if known.design.spec == own), "")
        if not name:
            name = f"{self.name}, {' + '.join(map(group_text, own.groups))}"
            self.tried.add(name, fit, optimum)
        made = self.tried.compared([name, *self.instead], name)
        instead = made.recommended if made.recommended in self.instead else ""
        return replace(self, ladder=made), instead


def asked_structures(
    residual: str | Sequence[str] | None,
    sigma: str | Sequence[str] | None,
    over: str | None,
    asked: Ladder,
) -> Structures:
    """What ``residual=``, ``sigma=`` and ``over=`` of a study say.

    Raises
    ------
    ArgumentError
        No structure is named, or words without a column of times that the data tell.
    UnsupportedModelError
        A response that takes none.
    """
    names = _names(residual, sigma)
    typed = {"residual": residual, "sigma": sigma, "over": over}
    given: dict[str, Any] = {
        k: v if isinstance(v, str) else list(v) for k, v in typed.items() if v is not None
    }
    design = asked.models[asked.largest].design
    check_takes_structures(design.spec)
    words = [name for name in names if correlation_and_spread(name)[0] in WORDS]
    if over is None and words:
        over = _over(names, design, asked.groups, words[0])
    return Structures(names, over or "", given)


def _names(
    residual: str | Sequence[str] | None, sigma: str | Sequence[str] | None
) -> tuple[str, ...]:
    """The structures to compare, or the only one: what is typed alone stands in all of them."""
    correlations, spreads = _listed("residual", residual), _listed("sigma", sigma)
    for text in spreads:
        read_spread(text)
    sds = [f"~ {text.strip()[1:].strip()}" for text in spreads]
    if isinstance(residual, str) and sds:
        both = [f"{residual}, sigma {sd}" for sd in sds]
        return tuple(both if isinstance(sigma, str) else [residual, *both])
    if isinstance(sigma, str) and correlations:
        own = [name for name in correlations if name != INDEPENDENT]
        return (*sds, *(f"{name}, sigma {sds[0]}" for name in own))
    every = tuple(dict.fromkeys([*correlations, *sds]))
    return every if len(every) == 1 or INDEPENDENT in every else (INDEPENDENT, *every)


def _listed(word: str, value: str | Sequence[str] | None) -> list[str]:
    """The structures of an argument.

    Raises
    ------
    ArgumentError
        It is empty, or something else than text.
    """
    if value is None:
        return []
    given: Any = value
    typed: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not typed or not all(isinstance(name, str) and name.strip() for name in typed):
        one, several = _EXAMPLES[word]
        said = f"{word}={value!r} of a study is {one}, or a list of those to compare, {several}"
        if word == "sigma":
            raise ArgumentError(said, "bad-sigma")
        raise ArgumentError(said, "bad-residual")
    return typed


def _over(names: Sequence[str], design: Design, factors: Sequence[str], word: str) -> str:
    """What words are over: as in a structure in full, else the one column that tells rows apart."""
    for name in names:
        text = correlation_and_spread(name)[0]
        if "|" in text:
            return over_text(read_correlation(text))
    every = {f: [c for c in design.predictors if _tells_apart(design, c, f)] for f in factors}
    found = {f: times for f, times in every.items() if times} or every
    factor, times = next(iter(found.items()))
    if len(found) == 1 and len(times) == 1:
        return f"{quote(times[0])} | {factor if ':' in factor else quote(factor)}"
    could = [f"{time} of each {f}" for f, each in found.items() for time in each]
    several = f": {joined(could)} could be it" if could else ""
    example = in_backticks(times[0]) if times else "time"
    raise ArgumentError(
        f"{word!r} over which column of times? Give it and the groups, over='{example} | {factor}'"
        f"{several}",
        "no-over",
    )


def _tells_apart(design: Design, column: str, factor: str) -> bool:
    """Whether a column has an order, and another value in each row of a group."""
    if column == factor:
        return False
    values = design.frame[column]
    ordered = isinstance(values.dtype, pd.CategoricalDtype) and values.cat.ordered
    if not (pd.api.types.is_numeric_dtype(values) or ordered):
        return False
    rows = pd.DataFrame({"g": design.groupings[factor].codes, "t": values.to_numpy()})
    return not rows.duplicated().any() and values.nunique() > 2


def tried_structures(
    structures: Structures,
    asked: Ladder,
    frame: Any,
    fitting: Callable[[Model], PosteriorFit],
    progress: bool,
) -> StudyStructure:
    """The structure for the models of a study: the given one, or the best at its largest random part.

    Where data cannot tell a structure from the random effects, as compound symmetry from an
    intercept, it is tried in their place.
    """
    largest = asked.models[asked.largest].design.spec
    alone = make_like(largest, read_columns(largest.without_bars))
    alone = replace(alone, grouping=asked.groups[0])
    bases = (largest, alone) if len(asked.groups) == 1 else (largest,)
    specs = {
        name: [structures.with_structure(spec, name) for spec in bases] for name in structures.names
    }
    if len(specs) == 1:
        ((name, several),) = specs.items()
        spec = first_possible(several, frame)[0].design.spec
        return StudyStructure(structures, name if spec.groups else "", _instead({name: spec}))
    has_scale = any(spec.residual.scale for several in specs.values() for spec in several)
    method = "ML" if has_scale else "REML"  # groups that differ in their residual sd have no REML
    made = fitted_structures(specs, frame, structures.over, method, fitting, progress)
    fitted = {name: fit.design.spec for name, fit in made.fits.items()}
    beside = [name for name, spec in fitted.items() if spec.groups]
    simplest = INDEPENDENT if INDEPENDENT in specs else structures.names[0]
    chosen = made.compared(beside, simplest).recommended
    return StudyStructure(structures, chosen, _instead(fitted), made)


def _instead(specs: Mapping[str, Spec]) -> dict[str, Spec]:
    return {name: spec for name, spec in specs.items() if not spec.groups}


def with_structure(asked: Ladder, structure: StudyStructure, frame: Any) -> Ladder:
    """The models of a study with the structure; separate fits of groups keep independent residuals.

    Structures in the place of the random effects are models of their own.
    """
    models = dict(asked.models)
    specs = {name: model.design.spec for name, model in models.items()}
    if structure.name:
        for name, spec in specs.items():
            if spec.pooling != "none":
                specs[name] = structure.asked.with_structure(spec, structure.name)
    specs |= {spec.residual.words: spec for spec in structure.instead.values()}
    timed = next((s for s in specs.values() if s.residual.is_structured), specs[asked.largest])
    bars = specs[asked.largest].groups
    rows = CompleteRows.from_table(replace(timed, groups=timed.groups or bars), frame)
    return replace(
        asked, models={name: Model.from_design(encode(spec, rows)) for name, spec in specs.items()}
    )
