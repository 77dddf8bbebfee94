"""What the optimum of a residual structure leaves open: limits, and what cannot be told apart."""

from __future__ import annotations

import numpy as np

from hierpool.core.correlation import Ar1, Car1
from hierpool.core.design import Design
from hierpool.core.group_nouns import noun, nouns
from hierpool.core.residual import RowStructure

AT_LIMIT = 0.9999  # size of a parameter of the correlations beyond which it is at its bound
LIKE_AN_INTERCEPT = 0.95  # rho from which rows of a group stay as alike as an intercept makes them


def limits_text(structure: RowStructure, phi: np.ndarray) -> str:
    """Which parameters (m,) of the correlations are at their bounds; empty where none is."""
    own = structure.correlation
    if own is None:
        return ""
    lower, _, _ = structure.bounds_and_priors
    share = (phi[: len(lower)] - lower) / (1 - lower)
    low, high = share < (1 - AT_LIMIT) / 2, share > (1 + AT_LIMIT) / 2
    names = np.tile(own.names, structure.n_by)
    zero = [
        f"the {name} of the residuals is estimated as zero" for name in names[low & (lower == 0)]
    ]
    if not (high | (low & (lower < 0))).any():
        return " and ".join(dict.fromkeys(zero))
    limit = f"{1 if high.any() else max(lower[low].max(), -1):.3g}"
    return f"a correlation of the residuals is estimated at its limit of {limit}"


def told_apart_text(design: Design, phi: np.ndarray, sds: np.ndarray, errors: np.ndarray) -> str:
    """That a slow process and an intercept are one; empty where they can be told apart.

    ``sds`` and ``errors`` (Q,): of the random effects, in the user's coding.
    """
    s, own = design.residual.structure, design.spec.residual.correlation
    if s is None or own is None or not isinstance(s.correlation, (Ar1, Car1)):
        return ""
    rho = float(s.correlations(phi[None]).max())
    if rho < LIKE_AN_INTERCEPT:
        return ""
    for group, at in zip(design.groups, design.group_columns, strict=True):
        constant = np.flatnonzero(np.ptp(group.Z, axis=0) == 0)
        same = group.grouping.n_levels == design.groupings[own.factor].n_levels
        if not (same and len(constant)):
            continue
        sd, error = sds[at][constant[0]], errors[at][constant[0]]
        if sd == 0 or not error <= sd:
            return (
                f"the {own.word} process and the intercept of {nouns(own.factor)} cannot be told apart: "
                f"with a correlation of {rho:.3g}, rows of one {noun(own.factor)} stay as alike as an "
                f"intercept makes them. Leave {group.schema.terms[constant[0]]} over {group.factor} out, "
                "or the residual structure"
            )
    return ""
