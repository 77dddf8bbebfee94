"""Coefficients of random effects in ESTIMATE, behind the bar, as weights of the groups' coefficients.

``| Block .25 .25 .25 .25`` narrows a question to the blocks of the table (McLean, Sanders, Stroup
1991, Am. Stat. 45, 54-64): the effects of a RANDOM statement without SUBJECT= have a column for each
group, in the order of CLASS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hierpool.core.design import Design, GroupDesign
from hierpool.sas.effects import Effect
from hierpool.sas.parameterization import effect_columns
from hierpool.sas.statements import Statement
from hierpool.sas.table import SasTable
from hierpool.sas.tokens import Token


def group_weights(
    statement: Statement,
    effect: Effect,
    values: Sequence[float],
    tokens: Sequence[Token],
    table: SasTable,
    design: Design,
) -> dict[tuple[str, Any, str], float]:
    """(factor, group, term) -> weight, for the coefficients of one random effect.

    Raises
    ------
    FormulaError
        It is no effect of a RANDOM statement without SUBJECT=, or has fewer groups.
    """
    group, term = _group(effect, table, design)
    if group is None:
        statement.fail_over(
            f"{effect} is no effect of a RANDOM statement without SUBJECT=",
            "sas-contrast",
            tokens,
            "hp.contrast(fit, {('g', 'level', 'Intercept'): 1}) has the coefficients of a group",
        )
    _, cells, of_row = effect_columns(effect, table, design)
    if len(values) > len(cells.levels):
        statement.fail_over(
            f"{effect} has {len(cells.levels)} groups, and {len(values)} coefficients are given",
            "sas-contrast",
            tokens,
        )
    first = [int(np.flatnonzero(of_row == k)[0]) for k in range(len(values))]
    labels = [group.grouping.levels[group.codes[row]] for row in first]
    pairs = zip(labels, values, strict=True)
    return {(group.factor, str(label), term): value for label, value in pairs if value}


def _group(effect: Effect, table: SasTable, design: Design) -> tuple[GroupDesign | None, str]:
    """The group term of a random effect, and the coefficient in it."""
    classes = {c for c in effect.columns if table.is_class(c)}
    numbers = [table.written(c) for c in effect.columns if c not in classes]
    term = ":".join(numbers) or "Intercept"
    for group in design.groups:
        names = {part.strip("` ") for part in group.factor.split(":")}
        if names == classes and term in group.terms:
            return group, term
    return None, term
