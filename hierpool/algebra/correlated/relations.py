"""Precisions of related levels beside correlated residuals: dense, of the levels that have rows."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from hierpool.core.design import GroupDesign
from hierpool.core.errors import UnsupportedModelError

_INVERTIBLE = 1e-9  # reciprocal condition number


def precision_of(group: GroupDesign, words: str) -> np.ndarray | None:
    """Shape (J, J): inverse of the covariance of a factor's levels; None where they are independent.

    Raises
    ------
    UnsupportedModelError
        A covariance without an inverse.
    """
    related = group.schema.related
    if related is None:
        return None
    A = related.covariance
    factor, failed = linalg.lapack.dpotrf(A, lower=True)
    norm = np.abs(A).sum(axis=0).max()
    if failed or linalg.lapack.dpocon(factor, norm, uplo="L")[0] < _INVERTIBLE:
        raise UnsupportedModelError(
            f"{words} beside a relationship needs one that has an inverse, and that of {group.factor!r} "
            "has none between its groups. Add 0.01 to the diagonal of the matrix, or leave out residual= "
            "and sigma=",
            "relationship-unsupported",
        )
    half = linalg.solve_triangular(factor, np.eye(len(A)), lower=True)
    return np.asarray(half.T @ half)
