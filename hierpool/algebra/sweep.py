"""Least squares by sweeping, with the coefficients that are not estimable marked.

Columns are taken in their order, as R's lm does: a column that the ones before it explain is
aliased, and its coefficient is unknown rather than zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIVOT_TOLERANCE = 1e-9  # part of a column's square left by the columns before it; below: aliased


@dataclass(frozen=True)
class SweptLevels:
    """Each level's own regression, aliased columns left out.

    Attributes
    ----------
    inverse
        Shape (J, q, q): generalised inverse of A_j, zero in aliased rows and columns.
    is_estimable
        Shape (J, q).
    """

    inverse: np.ndarray
    is_estimable: np.ndarray

    @classmethod
    def from_cross_products(cls, A: np.ndarray) -> SweptLevels:
        """Sweep stacked cross-products (J, q, q)."""
        return cls(*_swept(A, np.einsum("jqq->jq", A)))


def swept_inverse(A: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalised inverse (k, k) of what other columns left of cross-products with diagonal ``total``.

    Second: which of the k columns are estimable.
    """
    inverse, estimable = _swept(A[None], total[None])
    return inverse[0], estimable[0]


def _swept(A: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalised inverses (J, k, k) and estimable columns (J, k), columns taken in their order."""
    swept = A.copy()
    estimable = np.zeros(total.shape, dtype=bool)
    for k in range(total.shape[1]):
        # On squares: 1e-9 is a column of which 3e-5 of the length is left.
        ok = swept[:, k, k] > PIVOT_TOLERANCE * total[:, k]
        estimable[:, k] = ok
        swept[ok] = _sweep(swept[ok], k)
    # Zero in aliased rows and columns: a generalised inverse (Goodnight 1979). Which columns are
    # aliased depends on their order; fitted values do not.
    both = estimable[:, :, None] & estimable[:, None, :]
    return np.where(both, -swept, 0.0), estimable


def _sweep(A: np.ndarray, k: int) -> np.ndarray:
    """Sweep column k of symmetric matrices (J, q, q); the swept part turns into minus the inverse."""
    d = A[:, k, k][:, None]
    column = A[:, :, k].copy()
    out = A - column[:, :, None] * column[:, None, :] / d[..., None]
    out[:, :, k] = out[:, k, :] = column / d
    # Minus the inverse, so that the matrix stays symmetric through all sweeps.
    out[:, k, k] = -1 / d[:, 0]
    return out


def own_least_squares(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Shape (J, q): least-squares coefficients of each level from A (J, q, q) and b (J, q).

    NaN where a level's rows cannot tell a coefficient.
    """
    swept = SweptLevels.from_cross_products(A)
    return np.where(swept.is_estimable, np.einsum("jab,jb->ja", swept.inverse, b), np.nan)
