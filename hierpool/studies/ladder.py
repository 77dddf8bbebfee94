"""ladder(): the models that a study fits, from complete to no pooling, along one factor or several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from hierpool.bayes.quadrature.limits import beyond
from hierpool.core.errors import ArgumentError, FormulaError, HierpoolError, listed, nearest
from hierpool.core.spec import GroupTerm, Spec
from hierpool.formula import pooling
from hierpool.formula.build import CellRows, CompleteRows, encode
from hierpool.formula.function_calls import quote
from hierpool.formula.parse import group_text, make_like, parse, read_columns, split_factor
from hierpool.model import Model
from hierpool.studies.factors import is_nested
from hierpool.studies.screening import Screened, is_counted, not_fitted, screened

MOST_FIXED = 60  # coefficients of a factor in place of its random effects


@dataclass(frozen=True)
class Ladder:
    """What a study asks, and the models that it fits.

    Attributes
    ----------
    formula
        The question, without random effects.
    groups, along
        The grouping factors, and those whose pooling is varied.
    models
        Name -> model, from complete to no pooling.
    largest
        Name of the partially pooled model with the most random effects.
    skipped
        Formula -> why a model cannot be made of these rows.
    screened
        Factor -> the slopes that the study starts from, and those left out, where they are many.
    """

    formula: str
    groups: tuple[str, ...]
    along: tuple[str, ...]
    models: Mapping[str, Model]
    largest: str
    skipped: Mapping[str, str]
    screened: Mapping[str, Screened]

    def without(self, name: str, why: str) -> Ladder:
        """The same less one model."""
        kept = {rung: model for rung, model in self.models.items() if rung != name}
        skipped = {**self.skipped, self.models[name].formula: why}
        return replace(self, models=kept, skipped=skipped)

    @property
    def within_engine(self) -> Ladder:
        """Of counts of rows that are alike those that the exact engine takes, and the largest.

        NUTS would evaluate every row that differs at each step, for hours.
        """
        found = self
        for name, model in self.models.items():
            design = model.design
            if name == self.largest or not design.is_summed or design.family is None:
                continue
            if why := beyond(design):
                found = found.without(name, why)
        return found


def ladder(
    formula: str,
    data: pd.DataFrame | CellRows,
    group: str | Sequence[str] | None,
    vary: str | Sequence[str] | None,
    known: Mapping[str, Any],
) -> Ladder:
    """The models of a question.

    Parameters
    ----------
    formula
        Without random effects, or with the largest ones that are considered.
    data
        The table, or the sums of one.
    group
        The grouping factors, where the formula has no random effects.
    vary
        The factors whose pooling is varied, the random effects of the others held; None: of all.
    known
        ``family``, and the columns ``trials``, ``weights`` and ``known_se``.
    """
    frame = data.frame if isinstance(data, CellRows) else data
    asked = parse(formula, frame)
    groups = factors_of(asked, list(frame.columns), group)
    along = _along(vary, groups)
    spec = pooling.question(_plain(asked), **known)
    if len(groups) > 1:
        return _of_several(spec, data, asked.groups, groups, along)
    chosen: Screened = (_slopes(asked), ())
    rows: CompleteRows | CellRows = (
        data if isinstance(data, CellRows) else pooling.read_rows(spec, data, groups[0])
    )
    if not asked.groups:
        every = pooling.slopes_that_vary(spec, rows, groups[0])
        chosen = screened(spec, rows, groups[0], every)
    designs = pooling.ladder(spec, rows, groups[0], chosen[0])
    models = {name: Model.from_design(design) for name, design in designs.items()}
    pooled = [name for name, m in models.items() if m.design.spec.pooling == "partial"]
    found = {groups[0]: chosen}
    skipped = not_fitted(spec.formula, found, is_counted(spec, rows))
    return Ladder(spec.formula, groups, along, models, pooled[-1], skipped, found).within_engine


def in_order(models: Mapping[str, Model]) -> list[str]:
    """Names of models: complete pooling, those that pool partially by size, no pooling last."""

    def place(name: str) -> tuple[int, int]:
        design = models[name].design
        if not design.groups:
            return 0, 0
        if name.startswith("no pooling") or design.spec.pooling == "none":
            return 2, 0
        blocks = [block for group in design.groups for block in group.blocks]
        return 1, sum(block.size + len(block.pairs) for block in blocks)

    return sorted(models, key=place)


def random_effects(spec: Spec) -> str:
    """The random effects of a model as they are typed: its name among the models of a study."""
    return " + ".join(map(group_text, spec.groups)) or "complete_pooling"


def _plain(asked: Spec) -> str:
    """The formula without its random effects."""
    right = read_columns(asked.without_bars)
    return make_like(asked, right).formula


def factors_of(
    asked: Spec, names: Sequence[str], group: str | Sequence[str] | None
) -> tuple[str, ...]:
    """The grouping factors, of the formula or of ``group``."""
    named = [group] if isinstance(group, str) else list(group or ())
    for name in named:
        if not isinstance(name, str):
            raise ArgumentError(
                f"group= takes names of columns; one of them is {name!r}. Write group='school', or "
                "group=['school', 'pupil']",
                "group-not-a-name",
            )
    if asked.groups:
        factors = tuple(dict.fromkeys(term.factor for term in asked.groups))
        if named and set(named) != set(factors):
            raise FormulaError(
                f"the formula has random effects of {listed(factors)}, and group= names "
                f"{listed(named)}",
                "bar-in-study",
                asked.formula,
                re.sub(r"`[^`]*`", lambda q: "_" * len(q[0]), asked.formula).find("|"),
                hint=f"leave group= out, or write study({_plain(asked)!r}, data, group={group!r})",
            )
        return factors
    if not named:
        others = [c for c in names if not re.search(rf"\b{re.escape(str(c))}\b", asked.formula)]
        columns = f" Columns not in the formula: {listed(others)}." if others else ""
        raise ArgumentError(
            "study() needs the name of the grouping column. "
            f"Write study({asked.formula!r}, data, group=...).{columns}",
            "group-missing",
        )
    return tuple(dict.fromkeys(named))


def _along(vary: str | Sequence[str] | None, groups: tuple[str, ...]) -> tuple[str, ...]:
    """The factors whose pooling is varied."""
    named = groups if vary is None else (vary,) if isinstance(vary, str) else tuple(vary)
    for name in named:
        if name not in groups:
            raise ArgumentError(
                f"vary={name!r} is not among the grouping factors of this study; "
                f"{nearest(name, groups)}",
                "unknown-choice",
            )
    return tuple(factor for factor in groups if factor in named)


def _slopes(asked: Spec) -> tuple[str, ...]:
    """The terms left of the bars that are no constant."""
    texts = [read_columns(term.columns).text.split(" + ")[1:] for term in asked.groups]
    return tuple(dict.fromkeys(text for several in texts for text in several))


def _of_several(
    spec: Spec,
    data: pd.DataFrame | CellRows,
    typed: Sequence[GroupTerm],
    groups: tuple[str, ...],
    along: tuple[str, ...],
) -> Ladder:
    """The models of several factors: one factor after the other, the others held."""
    constants = {factor: (GroupTerm("1", factor),) for factor in groups}
    rows: CompleteRows | CellRows = (
        data
        if isinstance(data, CellRows)
        else CompleteRows.from_table(_with(spec, constants), data)
    )
    largest = {f: tuple(t for t in typed if t.factor == f) for f in groups}
    found: dict[str, Screened] = {}
    for factor in groups:
        if not largest[factor]:
            every = pooling.slopes_that_vary(spec, rows, factor)
            found[factor] = slopes, _ = screened(spec, rows, factor, every)
            columns = read_columns(" + ".join(["1", *slopes])).text
            largest[factor] = (GroupTerm(columns, factor),)
    held = (
        constants if not typed else {f: constants[f] if f in along else largest[f] for f in groups}
    )
    models: dict[str, Model] = {}
    skipped: dict[str, str] = {}

    def add(made: Spec, name: str = "") -> str:
        name = name or random_effects(made)
        try:
            design = encode(made, rows)
            models.setdefault(name, Model.from_design(design))
        except HierpoolError as error:
            skipped[made.formula] = error.message.split(". ")[0].rstrip(".")
        return name

    add(spec)
    for factor in along:
        add(_with(spec, {f: terms for f, terms in held.items() if f != factor}))
    base = add(_with(spec, held))
    for factor in along:
        add(_with(spec, held | {factor: largest[factor]}))
    top = add(_with(spec, largest))
    for factor in along:
        if (fixed := _fixed(spec, rows, factor, held)) is not None:
            add(fixed, f"no pooling of {factor}")
    top = top if top in models else base
    skipped |= not_fitted(spec.formula, found, is_counted(spec, rows))
    return Ladder(spec.formula, groups, along, models, top, skipped, found).within_engine


def widest(
    formula: str,
    names: Sequence[str],
    group: str | Sequence[str] | None,
    known: Mapping[str, Any],
) -> Spec:
    """A model that has every column of the models of a question: all terms vary over all factors.

    ``names`` are the columns of the table; the others are as for ``ladder``.
    """
    asked = parse(formula)
    groups = factors_of(asked, names, group)
    spec = pooling.question(_plain(asked), **known)
    slopes = " + ".join([spec.population, *_slopes(asked)])
    columns = read_columns(slopes).text
    return _with(spec, {factor: [GroupTerm(columns, factor)] for factor in groups})


def _with(spec: Spec, groups: Mapping[str, Iterable[GroupTerm]]) -> Spec:
    """The question with these random effects."""
    terms = [term for several in groups.values() for term in several]
    return make_like(spec, read_columns(spec.without_bars), terms)


def _fixed(
    spec: Spec,
    rows: CompleteRows | CellRows,
    factor: str,
    held: Mapping[str, tuple[GroupTerm, ...]],
) -> Spec | None:
    """A factor without pooling: its groups as fixed effects, the other factors held.

    None where another factor contains it, whose effects they would take up, and where it has too
    many groups.
    """
    parts = split_factor(factor)
    whole = encode(_with(spec, held), rows)
    if len(parts) > 1 or any(is_nested(whole.groupings, factor, f) for f in held if f != factor):
        return None
    name = quote(factor, in_call=True)
    slopes = pooling.slopes_that_vary(spec, rows, factor)
    if whole.groupings[factor].n_levels * (1 + len(slopes)) > MOST_FIXED:
        return None
    own = [f"C({name})", *(f"{slope}:C({name})" for slope in slopes)]
    others = {f: terms for f, terms in held.items() if f != factor}
    right = read_columns(" + ".join([spec.without_bars, *own]))
    return make_like(spec, right, [t for terms in others.values() for t in terms])
