"""additions(): terms that a model may miss, each tried alone: a square, a slope, group means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hierpool.checks.advice import NEEDED_BELOW, Step
from hierpool.core.design import Design
from hierpool.core.group_nouns import noun, nouns
from hierpool.core.schema import Schema
from hierpool.core.spec import GroupTerm
from hierpool.formula import neighbours
from hierpool.formula.function_calls import quote
from hierpool.formula.parse import factor_text
from hierpool.model import Model
from hierpool.studies.candidates import (
    CandidateFit,
    CandidateSet,
    Change,
    compared,
    likelihood_ratio,
)

MOST_TRIED = 6  # predictors that are looked at for what is missing
ASKED_BELOW = 0.05  # p from which an addition is tried that a finding asks for


def additions(bench: CandidateSet, given: CandidateFit, codes: set[str]) -> list[Step]:
    """Additions: tested first, then fitted and scored where the test is clear.

    Clear among all that is tried (Bonferroni), unless a finding, which counts its own, asks for it.
    """
    found: list[Step] = []
    if given.design.spec.pooling == "none" or given.blup is None:
        return found
    changes = list(_additions(bench, given))
    for change in changes:
        with bench.skipping(change.spec):
            design = bench.design(change.spec, change.frame)
            if _size(design.schema) <= _size(given.design.schema):
                continue  # its column was dropped: nothing new
            larger = Model.from_design(design, bench.priors(design))
            same = design.terms == given.design.terms
            ml = not same or design.family is not None
            pair = (given.ml, larger.ml()) if ml else (given.blup, larger.reml())
            enough = ASKED_BELOW if change.code in codes else NEEDED_BELOW / len(changes)
            if likelihood_ratio(*pair)[2] < enough:
                found.append(compared(bench.tried(design), given, change))
    return found


def _size(schema: Schema) -> int:
    """Number of columns of the population and of all groups."""
    return len(schema.terms) + sum(len(g.terms) for g in schema.groups)


def _additions(bench: CandidateSet, given: CandidateFit) -> Iterator[Change]:
    """A square, a slope that varies, the means over levels, of each number in the formula."""
    design, spec = given.design, given.design.spec
    if not spec.groups and spec.grouping:
        term = GroupTerm("1", spec.grouping)
        made = replace(neighbours.with_groups(spec, (term,)), grouping=None)
        why = f"observations of the same {noun(spec.grouping)} are alike."
        yield Change(made, f"(1 | {factor_text(spec.grouping)})", "richer", why)
    for column in neighbours.lone_numbers(design.schema)[:MOST_TRIED]:
        if square := neighbours.square_of(design, column):
            why = f"the relation of {spec.response} with {column} is curved."
            made = neighbours.with_column(spec, square)
            yield Change(made, square, "richer", why, code="curvature")
        for factor in (g.factor for g in design.groups):
            if ":" not in factor and neighbours.varies_within(design, column, factor):
                yield from _of_factor(design, column, factor)


def _of_factor(design: Design, column: str, factor: str) -> Iterator[Change]:
    """A slope of a column that varies over a factor, and its means over the levels."""
    name, spec = quote(column), design.spec
    used = [t.text for t in neighbours.varying_terms(design.schema, factor)]
    if name not in used and f"center({name})" not in used:
        made = neighbours.with_slope(spec, factor, name)
        why = f"the slope differs between {nouns(factor)}."
        if made is not None:
            yield Change(
                made, f"a varying slope of {column} by {factor}", "richer", why, factor=factor
            )
    means = neighbours.level_means(design, column, factor)
    if means is not None:
        mean, frame = means
        why = (
            f"the effect of {column} between {nouns(factor)} differs from that within them. First "
            f"compute data[{mean!r}] = data.groupby({factor!r})[{column!r}].transform('mean')."
        )
        made = neighbours.with_column(spec, quote(mean))
        yield Change(made, mean, "richer", why, frame, factor, code="contextual-effect")
