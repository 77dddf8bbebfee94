"""Checks of arguments: a fit, a group, a term, a probability."""

from __future__ import annotations

from hierpool.core.arguments import is_whole, is_word, shown
from hierpool.core.errors import (
    ArgumentError,
    NotEstimableError,
    UnsupportedModelError,
    listed,
    nearest,
)
from hierpool.core.schema import GroupSchema, Schema


def check_top(top: object, group: GroupSchema) -> None:
    """Raise unless it can be a number of levels of the group."""
    J = group.grouping.n_levels
    if not is_whole(top) or not 1 <= top <= J:
        raise ArgumentError(
            f"top={shown(top)} must be a whole number from 1 to the {J} groups of {group.factor!r}",
            "bad-count",
        )


def choose_group(schema: Schema, factor: str | None) -> GroupSchema:
    """The group of this name; None for the only one."""
    names = [g.factor for g in schema.groups]
    if not names:
        raise UnsupportedModelError(
            f"{schema.spec.formula} has no coefficients of groups: one line describes all of them.",
            "no-levels",
        )
    if factor is None and len(names) > 1:
        raise ArgumentError(
            f"{schema.spec.formula} has {len(names)} grouping factors: choose one of "
            f"{listed(names)}",
            "unknown-choice",
        )
    if factor is not None and not (is_word(factor) and factor in names):
        raise ArgumentError(
            f"no coefficients vary over {shown(factor)}; {nearest(factor, names)}", "unknown-choice"
        )
    return schema.groups[0] if factor is None else schema.group(factor)


def choose_terms(group: GroupSchema, term: str | None) -> tuple[str, ...]:
    """The term of this name; None for all of the group's."""
    if term is None:
        return group.terms
    if term in group.dropped:
        raise NotEstimableError(
            f"{term!r} of {group.factor!r} is not estimable: its column was dropped, because it "
            f"cannot be separated from the others in these data. There are {listed(group.terms)}",
            "not-estimable",
            [term],
        )
    if term not in group.terms:
        raise ArgumentError(
            f"{term!r} does not vary over {group.factor!r}; {nearest(term, group.terms)}",
            "unknown-choice",
        )
    return (term,)
