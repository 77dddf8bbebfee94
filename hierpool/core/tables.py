"""Keys of the tidy tables: one row a level and term, or one a standard deviation or correlation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hierpool.core.design import Design, GroupDesign

KEYS = ["factor", "level", "term"]


def root_of_diagonal(covariance: np.ndarray) -> np.ndarray:
    """Square roots of the diagonals, shape (..., k)."""
    return np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))


def level_index(group: GroupDesign) -> pd.MultiIndex:
    """Index (factor, level, term) in C order of an array (J, q)."""
    levels = group.grouping.levels
    return pd.MultiIndex.from_product([[group.factor], levels, group.terms], names=KEYS)


def level_table(group: GroupDesign, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Columns of shape (J, q) as a table over (factor, level, term)."""
    flat = {name: values.reshape(-1) for name, values in columns.items()}
    return pd.DataFrame(flat, index=level_index(group))


def pair_positions(group: GroupDesign) -> list[tuple[int, int]]:
    """Pairs (i, j), j < i, of terms whose correlation is estimated."""
    return [
        (i, j)
        for block in group.blocks
        if block.covariance == "correlated"
        for i in range(block.start, block.stop)
        for j in range(block.start, i)
    ]


def pair_values(group: GroupDesign, corr: np.ndarray) -> list[float]:
    """Correlations of the estimated pairs, in the order of ``pair_positions``."""
    return [corr[i, j] for i, j in pair_positions(group)]


def spread_index(design: Design) -> pd.DataFrame:
    """Empty table over (factor, parameter, term, term_bis), the residual sd last if there is one."""
    keys: list[tuple[str, str, str, str]] = []
    for group in design.groups:
        if not group.is_pooled:
            continue
        f, terms = group.factor, group.terms
        keys += [(f, "sd", t, "") for t in terms]
        keys += [(f, "corr", terms[j], terms[i]) for i, j in pair_positions(group)]
    if design.has_sigma:
        keys.append(("residual", "sd", "", ""))
    names = ["factor", "parameter", "term", "term_bis"]
    return pd.DataFrame(index=pd.MultiIndex.from_tuples(keys, names=names))


def spread_name(factor: str, parameter: str, term: str, term_bis: str) -> str:
    """One word for a row of the spread table: ``sd_boar[time]``, ``sigma``."""
    if factor == "residual":
        return "sigma"
    inside = f"{term}, {term_bis}" if term_bis else term
    return f"{parameter}_{factor}[{inside}]"
