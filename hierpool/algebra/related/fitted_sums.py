"""Sums of the levels at many values of theta from exact ones at some of them.

Draws of theta lie close together, where log determinant and products are smooth in Lambda: a cubic
polynomial, fitted at some of the draws, is checked at others, those farthest out among them. The
products alone are checked: coefficients are drawn from them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement

import numpy as np

DEGREE = 3
PER_TERM = 3  # exact evaluations for each coefficient of the polynomial
CHECKED = 24  # draws at which it is compared
CLOSE = 1e-3  # largest relative error of the products there, in units of their inverse


def fitted_sums(Lambda: np.ndarray, exact: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    """Shape (K, 1 + m * m): what ``exact`` gives, log determinant and products (m, m).

    None where that would take as many evaluations, or where the polynomial is too far off.
    """
    x = Lambda.reshape(len(Lambda), -1)
    x = x[:, np.ptp(x, axis=0) > 0]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    columns = _monomials(x)
    n = PER_TERM * columns.shape[1]
    if len(x) < 4 * (n + CHECKED):
        return None
    far = np.argsort(np.square(x).sum(axis=1), kind="stable")
    checked = np.append(far[-CHECKED // 2 :], far[:: -(-len(far) // (CHECKED // 2))])
    used = np.setdiff1d(far[np.linspace(0, len(far) - 1, n).astype(int)], checked)
    values, wanted = exact(Lambda[used]), exact(Lambda[checked])
    middle = values.mean(axis=0)
    found = middle + columns @ np.linalg.lstsq(columns[used], values - middle)[0]
    return found if _is_close(found[checked], wanted) else None


def _is_close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """By R^-1 (found - wanted) R^-T, with R R' the products that are wanted."""
    m = round(np.sqrt(wanted.shape[1] - 1))
    R = np.linalg.cholesky(wanted[:, 1:].reshape(-1, m, m))
    off = np.linalg.solve(R, (found - wanted)[:, 1:].reshape(-1, m, m))
    off = np.linalg.solve(R, np.swapaxes(off, 1, 2))
    return bool(np.abs(off).max() < CLOSE)


def _monomials(x: np.ndarray) -> np.ndarray:
    """Shape (K, terms): products of up to so many columns."""
    parts = [np.ones(len(x))]
    for degree in range(1, DEGREE + 1):
        for chosen in combinations_with_replacement(range(x.shape[1]), degree):
            parts.append(x[:, chosen].prod(axis=1))
    return np.column_stack(parts)
