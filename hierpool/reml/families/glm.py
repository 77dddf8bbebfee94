"""A generalised linear model: columns without a distribution of their own, by Newton's method.

The Hessian is a sparse block of the columns beside a few rows of the family's parameters, which are
moved by differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from hierpool.core.families.family import Family
from hierpool.reml.families.parameters import FamilyParameters

MOST_STEPS = 100
ENOUGH = 1e-12  # of the log-likelihood: what a step must promise to be taken
CAP = 5.0  # largest change of a linear predictor in one step
STEP = 1e-4  # of the family's free parameters, in differences
_RIDGE = 1e-12  # of the largest curvature, so that a direction that runs to infinity has one
_HALVINGS = 40


@dataclass(frozen=True)
class GlmRows:
    """Rows of a generalised linear model.

    Attributes
    ----------
    family
        Of the response.
    y, trials, weight, offset
        Shapes (n,).
    columns
        Shape (n, m).
    """

    family: Family
    y: np.ndarray
    trials: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    columns: sparse.csr_array

    @property
    def parameters(self) -> FamilyParameters:
        """The family's, without bounds."""
        return FamilyParameters(self.family)

    def loglik(self, eta: np.ndarray, free: np.ndarray) -> float:
        """Log-likelihood at predictors (n,)."""
        par = self.parameters.par(free)[None]
        values = self.family.log_density(self.y, eta[None], par, self.trials)[0]
        total = float(values @ self.weight)
        return total if np.isfinite(total) else -np.inf

    def derivatives(self, eta: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Shape (3, n): slope, curvature, safe curvature of each row, times its weight."""
        par = self.parameters.par(free)
        return self.family.derivatives(self.y, eta, par, self.trials)[1:] * self.weight


@dataclass(frozen=True)
class Glm:
    """Where the likelihood is largest.

    Attributes
    ----------
    coefficients, free
        Shapes (m,), (P,).
    eta
        Shape (n,): linear predictors.
    loglik
        There.
    curvature
        Shape (n,): minus the second derivative of each row's log density by its predictor.
    information
        Shape (m + P, m + P), sparse: minus the Hessian.
    ended
        Whether the search came to an end.
    """

    coefficients: np.ndarray
    free: np.ndarray
    eta: np.ndarray
    loglik: float
    curvature: np.ndarray
    information: sparse.csc_array
    ended: bool


def maximise(rows: GlmRows, coefficients: np.ndarray, free: np.ndarray) -> Glm:
    """Newton's method from these coefficients (m,) and free parameters (P,)."""
    eta = rows.columns @ coefficients + rows.offset
    value, ended = rows.loglik(eta, free), False
    for _ in range(MOST_STEPS):
        step, promised = _newton(rows, eta, free, safe=False)
        if not promised > 0:
            step, promised = _newton(rows, eta, free, safe=True)
        if promised < ENOUGH * (1 + abs(value)):
            ended = True
            break
        taken = _searched(rows, coefficients, free, value, step)
        if taken is None:
            step, promised = _newton(rows, eta, free, safe=True)
            taken = _searched(rows, coefficients, free, value, step)
        if taken is None:
            ended = promised < 1e-6
            break
        coefficients, free, value = taken
        eta = rows.columns @ coefficients + rows.offset
    _, curvature, _ = rows.derivatives(eta, free)
    information, _ = _system(rows, eta, free, safe=False)
    return Glm(coefficients, free, eta, value, curvature, information, ended)


def _searched(
    rows: GlmRows, coefficients: np.ndarray, free: np.ndarray, value: float, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Coefficients, free parameters and log-likelihood further along a step; None where it falls."""
    m = len(coefficients)
    if not np.isfinite(step).all():
        return None
    change = np.abs(rows.columns @ step[:m]).max(initial=0.0) / _scale(rows)
    change = max(change / CAP, float(np.abs(step[m:]).max(initial=0.0)) / 2.0)
    factor = min(1.0, 1.0 / max(change, 1e-300))
    for _ in range(_HALVINGS):
        moved, own = coefficients + factor * step[:m], free + factor * step[m:]
        found = rows.loglik(rows.columns @ moved + rows.offset, own)
        if found >= value:
            return moved, own, found
        factor *= 0.5
    return None


def _scale(rows: GlmRows) -> float:
    """What a predictor is measured in: the response's sd where it is on its scale, else one."""
    return max(float(np.std(rows.y)), 1e-300) if rows.family.is_on_response_scale else 1.0


def _newton(
    rows: GlmRows, eta: np.ndarray, free: np.ndarray, safe: bool
) -> tuple[np.ndarray, float]:
    """Newton step (m + P,) and twice the rise that it promises; negative where there is no maximum."""
    information, gradient = _system(rows, eta, free, safe)
    m = rows.columns.shape[1]
    block = sparse.csc_array(information[:m, :m])
    if not m:
        return _of_parameters(
            information.toarray(), gradient, gradient[:0], np.zeros((0, len(free)))
        )
    largest = float(block.diagonal().max(initial=0.0))
    ridge = max(_RIDGE * largest, 1e-300) * sparse.eye_array(m, format="csc")
    try:
        factor = sparse_linalg.splu(sparse.csc_array(block + ridge), permc_spec="MMD_AT_PLUS_A")
    except RuntimeError:
        return np.full(len(gradient), np.nan), -1.0
    across = information[:m, m:].toarray()
    solved = factor.solve(np.column_stack([gradient[:m], across]))
    own, through = solved[:, 0], solved[:, 1:]
    left = information[m:, m:].toarray() - across.T @ through
    return _of_parameters(left, gradient, own, through, across)


def _of_parameters(
    left: np.ndarray,
    gradient: np.ndarray,
    own: np.ndarray,
    through: np.ndarray,
    across: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """The whole step from what the columns leave over for the parameters."""
    m = len(own)
    right = gradient[m:] - (across.T @ own if across is not None else 0.0)
    if not len(right):
        return own, float(own @ gradient[:m])
    values, vectors = np.linalg.eigh((left + left.T) / 2)
    # Absolute values: where the likelihood bends upwards its slope still says which way to go.
    floor = 1e-8 * max(1.0, float(np.abs(values).max(initial=0.0)))
    move = vectors @ ((vectors.T @ right) / np.maximum(np.abs(values), floor))
    step = np.concatenate([own - through @ move, move])
    return step, float(own @ gradient[:m] + move @ right)


def _system(
    rows: GlmRows, eta: np.ndarray, free: np.ndarray, safe: bool
) -> tuple[sparse.csc_array, np.ndarray]:
    """Minus the Hessian (m + P, m + P) and the gradient of the log-likelihood."""
    A, P = rows.columns, len(free)
    slope, curvature, safe_curvature = rows.derivatives(eta, free)
    w = safe_curvature if safe else curvature
    block = (A.T @ sparse.diags_array(w) @ A).tocsc()
    gradient, cross, own = np.zeros(P), np.zeros((len(eta), P)), np.zeros((P, P))
    steps = STEP * np.eye(P)
    for k, e in enumerate(steps):
        up, down = rows.loglik(eta, free + e), rows.loglik(eta, free - e)
        gradient[k] = (up - down) / (2 * STEP)
        slopes = [rows.derivatives(eta, free + s * e)[0] for s in (1, -1)]
        cross[:, k] = -(slopes[0] - slopes[1]) / (2 * STEP)
    if P:
        own = -_second_differences(rows, eta, free)
    across = sparse.csc_array(A.T @ cross)
    parts: list[list[Any]] = [[block, across], [across.T, sparse.csc_array(own)]]
    information = sparse.csc_array(sparse.block_array(parts))
    return information, np.concatenate([A.T @ slope, gradient])


def _second_differences(rows: GlmRows, eta: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Shape (P, P): Hessian of the log-likelihood by the free parameters."""
    h, P = 1e-3, len(free)

    def at(move: np.ndarray) -> float:
        return rows.loglik(eta, free + h * move)

    E, H, here = np.eye(P), np.empty((P, P)), rows.loglik(eta, free)
    for i in range(P):
        H[i, i] = (at(E[i]) - 2 * here + at(-E[i])) / h**2
        for j in range(i):
            plus, minus = at(E[i] + E[j]) + at(-E[i] - E[j]), at(E[i] - E[j]) + at(E[j] - E[i])
            H[i, j] = H[j, i] = (plus - minus) / (4 * h**2)
    return H
