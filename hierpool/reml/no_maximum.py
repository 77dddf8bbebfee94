"""Likelihoods of residual structures that have no maximum: told before the search, or during it.

Where a combination c'y of the occasions is fitted exactly by some coefficients, its variance may go
to zero, and the likelihood grows without bound: each group adds -log(variance) / 2, and
log det X'V^-1 X of REML takes off as much for each column of c'X. Where all groups are seen at all T
occasions, Y (groups, T) has such a combination if there are fewer than T groups; or if Y c = Z b has
a solution, with the multiples of groups that columns of X are at each occasion in Z.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hierpool.core.design import Design
from hierpool.core.errors import DataError
from hierpool.core.group_nouns import counted
from hierpool.reml.criterion import Criterion, Method

_NONE = 1e-9  # singular values below this share of the largest are none
_FAR = 12.0  # free coordinate of a correlation: within 1e-10 of 1
_NEAR = (
    0.015  # deviance above an optimum, a row, within which its curvature tells where a search goes
)
_ALIKE = 0.15  # share by which the deviance may be apart from what the curvature has
_STEEP = 0.5  # slope of the deviance that does not go out: of each group it stays


def check_has_maximum(design: Design, method: Method) -> None:
    """Raise where an unstructured covariance has more freedom than its groups can tell.

    Raises
    ------
    DataError
        The likelihood of `us` has no maximum.
    """
    s, term = design.residual.structure, design.residual.term
    own = term.correlation
    if s is None or s.correlation is None or own is None or own.word != "us":
        return
    if design.groups or term.spread or s.scale is not None:
        return  # what vary between groups too may hold the variance up: the search tells
    known = design.residual.over_known_sd
    y, columns = known(design.y_less_offset), known(design.X)
    T = s.correlation.n_occasions
    for g in range(s.n_by):
        at = np.flatnonzero(s.by == g)
        order = at[np.lexsort((s.places[at], s.groups[at]))]
        n = len(np.unique(s.groups[at]))
        if len(at) != n * T or n > T + columns.shape[1]:
            continue
        Y, X = y[order].reshape(n, T), columns[order].reshape(n, T, -1)
        if _grows_without_bound(Y, X, method == "REML"):
            by = f" with {own.by} {s.by_labels[g]}" if s.by_labels else ""
            are = "is" if n == 1 else "are"
            raise DataError(
                f"{own}: {T} occasions have {T * (T + 1) // 2} variances and covariances, and there "
                f"{are} {counted(n, own.factor)}{by}. Some combination of the occasions has no residual "
                f"variation left, so the {method} likelihood has no maximum. Use toeph, ar1h or "
                "ar1",
                "us-too-many",
            )


def _grows_without_bound(Y: np.ndarray, X: np.ndarray, is_reml: bool) -> bool:
    """Whether a combination of the occasions, Y (n, T) and X (n, T, p), can be fitted exactly."""
    n, T, _ = X.shape
    size = float(np.abs(Y).max(initial=0.0))
    if not size > 0:
        return False
    free = _null(np.hstack([Y / size, -_of_groups(X)]))
    for c in (free[:T] @ np.cos(np.arange(free.shape[1])), *free[:T].T):
        # whatever led to c, it is judged here: Y c within what the columns of c'X span
        own = np.einsum("ntp,t->np", X, c)
        left = Y @ c - own @ np.linalg.lstsq(own, Y @ c)[0]
        taken = np.linalg.matrix_rank(own) if is_reml else 0
        if taken < n and np.abs(left).max() < _NONE * size * np.linalg.norm(c):
            return True
    return False


def _of_groups(X: np.ndarray) -> np.ndarray:
    """Shape (n, k): of columns (n, T, p) that are f_t z_j the z: combinations of them are multiples."""
    found = [np.zeros((len(X), 0))]
    for column in np.moveaxis(X, -1, 0):
        U, values, _ = np.linalg.svd(column, full_matrices=False)
        if values[1:].max(initial=0.0) <= _NONE * values[0]:
            found.append(U[:, :1])
    return np.hstack(found)


def _null(M: np.ndarray) -> np.ndarray:
    """Orthonormal columns of what M takes to zero."""
    _, values, Vt = np.linalg.svd(M, full_matrices=True)
    rank = int((values > _NONE * values.max(initial=0.0)).sum())
    return np.asarray(Vt[rank:].T)


@dataclass(frozen=True)
class Valley:
    """An optimum that is known, and the deviance around it as its curvature has it.

    Attributes
    ----------
    theta
        Shape (k,).
    deviance
        The deviance there.
    hessian
        Shape (k, k).
    n
        Rows, with which the deviance grows.
    """

    theta: np.ndarray
    deviance: float
    hessian: np.ndarray
    n: int

    def holds(self, theta: np.ndarray, deviance: float) -> bool:
        """Whether a search that came here is on its way down to this optimum."""
        way = theta - self.theta
        expected, above = float(way @ self.hessian @ way) / 2, deviance - self.deviance
        return 0 <= above < _NEAR * self.n and abs(expected - above) < _ALIKE * max(above, 1e-3)


@dataclass
class Search:
    """A deviance to be minimised, whose search ends where correlations run to 1 and keep gaining.

    Attributes
    ----------
    criterion
        The deviance.
    known
        An optimum that need not be found again: on the way down to it the search ends too.
    ran_away
        Whether they did.
    """

    criterion: Criterion
    known: Valley | None = None
    ran_away: bool = False
    _last: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient."""
        value, gradient = self.criterion.value_and_gradient(theta)
        self._last = np.array(theta), gradient
        return value, gradient

    def check(self, intermediate_result: Any) -> None:
        """After each step of the search; ends it by StopIteration."""
        at, deviance = intermediate_result.x, float(intermediate_result.fun)
        if self.known is not None and self.known.holds(at, deviance):
            raise StopIteration
        s = self.criterion.structure
        if s is None or self._last is None:
            return
        theta, gradient = self._last
        own = slice(self.criterion.n_free, self.criterion.n_free + s.n_correlations)
        x, outwards = theta[own], -gradient[own] * np.sign(theta[own])
        same = np.array_equal(theta, intermediate_result.x)
        if same and ((np.abs(x) > _FAR) & (outwards > _STEEP)).any():
            self.ran_away = True
            raise StopIteration
