"""The scalars of a model that checks look at, by a name each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hierpool.core.results import pair_positions, residual_entries, variance_component_name
from hierpool.core.schema import Schema


def scalars(
    schema: Schema, variables: Mapping[str, np.ndarray], levels: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every scalar of beta and theta, and the coefficients of some levels, in the user's coding.

    Parameters
    ----------
    schema
        The model's labels.
    variables
        Name in the vocabulary -> values, any axes of draws first.
    levels
        Positions of the levels of the first factor whose coefficients are wanted.
    """
    out = {f"beta[{t}]": variables["beta"][..., k] for k, t in enumerate(schema.terms)}
    for group in schema.groups:
        f, terms, names = group.factor, group.terms, group.grouping.levels
        if group.is_pooled:
            out |= {f"sd_{f}[{t}]": variables[f"sd_{f}"][..., k] for k, t in enumerate(terms)}
        for i, j in pair_positions(group):
            out[f"corr_{f}[{terms[j]}, {terms[i]}]"] = variables[f"corr_{f}"][..., i, j]
        own = levels if levels is not None and group is schema.groups[0] else ()
        for j in own:
            for k, t in enumerate(terms):
                out[f"coef_{f}[{names[j]}, {t}]"] = variables[f"coef_{f}"][..., j, k]
    for key, name, at in residual_entries(schema):
        place: Any = (..., *at)
        out[variance_component_name(*key)] = variables[name][place]
    if "log_sigma_deviation" in schema.residual_dims and levels is not None:
        out |= {f"log_sigma[{j}]": variables["log_sigma_deviation"][..., j] for j in levels}
    if schema.family is not None:
        out |= {name: variables[name] for name in schema.family.parameters}
        labels = schema.family.threshold_labels
        out |= {f"thresholds[{t}]": variables["thresholds"][..., k] for k, t in enumerate(labels)}
    return {**out, "sigma": variables["sigma"]} if schema.has_sigma else out


def telling_levels(schema: Schema) -> np.ndarray:
    """Positions of the first factor's levels with the fewest, the median and the most rows."""
    if not schema.groups:
        return np.zeros(0, dtype=np.intp)
    order = np.argsort(schema.groups[0].grouping.n_rows, kind="stable")
    return np.unique(order[[0, len(order) // 2, -1]])
