"""Which columns say something that others do not: plain arrays, no labels but the names.

X: columns, shape (n, k). codes: level of each row, shape (n,). Columns are centred and scaled
first, so that a predictor at 1e9 with small steps is judged by its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierpool.core.coding import Coding
from hierpool.core.errors import DataError, listed

TOLERANCE = 1e-7  # part of a column that must be new, relative to its sd; as in R's lm
ROUNDING = 16 * np.finfo(float).eps  # what a number of size 1 may hold of rounding


@dataclass(frozen=True)
class Own:
    """Which columns the levels of a factor can have coefficients of their own for.

    Attributes
    ----------
    columns
        Positions of the columns that are new within at least one level, in order.
    told
        Shape (levels, len(columns)): whether the level's own rows tell this coefficient.
    """

    columns: tuple[int, ...]
    told: np.ndarray

    @property
    def untold(self) -> np.ndarray:
        """Shape (len(columns),): number of levels whose rows do not tell the coefficient."""
        return np.asarray((~self.told).sum(axis=0))


def own_columns(X: np.ndarray, codes: np.ndarray, n_levels: int) -> Own:
    """Columns not in the span of those before them, within at least one level.

    Gram-Schmidt in each level at once: a basis vector is one column of n numbers with unit norm,
    or zero, in each level.
    """
    units, noise = _comparable(X)
    tolerance = np.maximum(TOLERANCE, noise * np.sqrt(len(X)))
    chosen: list[int] = []
    told: list[np.ndarray] = []
    basis: list[np.ndarray] = []

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(codes, weights=values, minlength=n_levels)

    for k in range(X.shape[1]):
        rest = units[:, k].copy()
        for vector in basis * 2:  # twice: the second pass removes what rounding left
            rest -= total(vector * rest)[codes] * vector
        norm = np.sqrt(total(rest**2))
        new = norm > tolerance[k]
        if not new.any():
            continue
        chosen.append(k)
        told.append(new)
        basis.append(rest * np.where(new, 1 / np.where(new, norm, 1.0), 0.0)[codes])
    shape = (n_levels, len(chosen))
    return Own(tuple(chosen), np.array(told, dtype=bool).T.reshape(shape))


def check_columns(X: np.ndarray, names: Sequence[str], where: str = "") -> None:
    """Raise where a column is constant beside a constant, or a combination of others.

    Parameters
    ----------
    X
        Shape (n, k).
    names
        Names of the k columns.
    where
        Words for the message, e.g. ``" in (x | g)"``.
    """
    _check_constant(X, names, where)
    found = _dependent(X)
    if found is None:
        return
    column, others = found
    is_spline = names[column].startswith(("cr(", "cc(", "cs("))
    advice = "Write constraints='center' in the spline" if is_spline else "Leave one of them out"
    raise DataError(
        f"{names[column]!r}{where} is a combination of {listed(names[k] for k in others)}, so "
        f"their coefficients cannot be told apart. {advice}",
        "collinear-columns",
    )


def _check_constant(X: np.ndarray, names: Sequence[str], where: str) -> None:
    if X.shape[1] == 0:
        return
    fixed = [int(k) for k in np.flatnonzero((X[:1] == X).all(axis=0))]
    useless = [k for k in fixed if X[0, k] == 0]
    if not useless and len(fixed) > 1:
        useless = [k for k in fixed if names[k] != "Intercept"]
    if useless:
        k = useless[0]
        beside = " beside a constant" if X[0, k] != 0 else ""
        raise DataError(
            f"{names[k]!r}{where} is {X[0, k]:.15g} in every row that is used, so{beside} it has "
            "no coefficient to estimate. Leave it out of the formula",
            "constant-predictor",
        )


def _comparable(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns centred where a constant is in their span, with sd 1; and each one's rounding."""
    centre = Coding.of(X).has_constant
    largest = np.abs(X).max(axis=0, initial=0.0)
    means = X.mean(axis=0) if centre else np.zeros(X.shape[1])
    centred = X - means
    sd = np.sqrt((centred**2).mean(axis=0))
    fixed = sd <= ROUNDING * largest
    units = np.where(fixed, X, centred) / np.where(fixed, np.where(largest == 0, 1, largest), sd)
    return units, ROUNDING * np.where(fixed, 1, largest / np.where(fixed, 1, sd))


def _dependent(X: np.ndarray) -> tuple[int, list[int]] | None:
    """The first column in the span of those before it, and the ones it is made of.

    In the user's order rather than by pivoting, as R's lm does: then it is the later column that
    is named. The diagonal of R is the norm of what each column adds.
    """
    n, k = X.shape
    order = list(range(k))
    constant = Coding.of(X).constant
    if constant.any():
        first = int(np.argmax(np.abs(constant) * np.abs(X).max(axis=0)))
        order = [first, *(i for i in order if i != first)]
    units, noise = _comparable(X)
    units = units[:, order] / np.sqrt(n)
    tolerance = np.maximum(TOLERANCE, np.maximum.accumulate(noise[order]))
    if constant.any():  # the span is the same with the constant in place of one column of it
        units[:, 0] = 1 / np.sqrt(n)
    remainder = np.abs(np.diag(np.linalg.qr(units, mode="r")))
    remainder = np.concatenate([remainder, np.zeros(max(k - n, 0))])
    dependent = np.flatnonzero(remainder <= tolerance)
    if not len(dependent):
        return None
    at = int(dependent[0])
    weights = np.linalg.lstsq(units[:, :at], units[:, at])[0]
    others = [order[i] for i in np.flatnonzero(np.abs(weights) > 1e-6)]
    shown = [i for i in others if not (i == order[0] and constant[i] and X[:, i].std() == 0)]
    return order[at], sorted(shown or others)
