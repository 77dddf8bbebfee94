"""The scalars of a model that checks look at, by a name each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hierpool.core.design import Design
from hierpool.core.moments import single_group


def scalars(
    design: Design, variables: Mapping[str, np.ndarray], levels: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every scalar of beta and theta, and the coefficients of some levels, in the user's coding.

    Parameters
    ----------
    design
        The model's rows.
    variables
        Name in the vocabulary -> values, any axes of draws first.
    levels
        Positions of the levels whose coefficients are wanted.
    """
    out = {f"beta[{t}]": variables["beta"][..., k] for k, t in enumerate(design.terms)}
    group = single_group(design)
    if group is not None:
        f, terms, names = group.factor, group.terms, group.grouping.levels
        if group.is_pooled:
            out |= {f"sd_{f}[{t}]": variables[f"sd_{f}"][..., k] for k, t in enumerate(terms)}
        for i, j in correlated_pairs(design):
            out[f"corr_{f}[{terms[j]}, {terms[i]}]"] = variables[f"corr_{f}"][..., i, j]
        for j in levels if levels is not None else ():
            for k, t in enumerate(terms):
                out[f"coef_{f}[{names[j]}, {t}]"] = variables[f"coef_{f}"][..., j, k]
    return {**out, "sigma": variables["sigma"]} if design.has_sigma else out


def correlated_pairs(design: Design) -> list[tuple[int, int]]:
    """Pairs (i, j), j < i, of the factor's terms whose correlation is a parameter."""
    return [
        (i, j)
        for group in design.groups
        for block in group.blocks
        if block.covariance == "correlated"
        for i in range(block.start, block.stop)
        for j in range(block.start, i)
    ]


def telling_levels(design: Design) -> np.ndarray:
    """Positions of the levels with the fewest, the median and the most rows; empty without any."""
    group = single_group(design)
    if group is None:
        return np.zeros(0, dtype=np.intp)
    order = np.argsort(group.grouping.n_rows, kind="stable")
    return np.unique(order[[0, len(order) // 2, -1]])
