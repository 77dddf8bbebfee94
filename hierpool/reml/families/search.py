"""Newton's method for the maximum of a log-likelihood with free signs and flat directions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.core.theta import FamilyTheta
from hierpool.reml.estimate import lower_root, on_boundary
from hierpool.reml.families.criterion import FamilyCriterion

MOST_STEPS = 60
ENOUGH = 1e-9  # of the log-likelihood: a step that promises less is the last one
FAR = 50.0  # sd on the scale of the predictor, from which it runs to infinity
SNAP_GAIN = 1e-7  # of the log-likelihood, that a direction of variance must buy
ROUNDING = 1e-12  # an entry of the root that is smaller is zero
_SCALES = np.array([0.1, 0.3, 0.7, 1.5, 3.0])
_TILT = 0.1
_FACTORS = 0.5 ** np.arange(6)


@dataclass(frozen=True)
class Maximum:
    """Where the log-likelihood is largest.

    Attributes
    ----------
    x
        Shape (D,).
    value
        Log-likelihood there.
    gradient, hessian
        Shapes (D,), (D, D).
    ended
        Whether the search came to an end.
    """

    x: np.ndarray
    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    ended: bool


def maximise(criterion: FamilyCriterion, beta: np.ndarray, free: np.ndarray) -> Maximum:
    """The best of the searches from two scales, with sds of nothing set to zero and signs positive.

    ``beta`` (p,) and ``free`` (P,) are those without groups.
    """
    begins = starts(criterion, beta, free)
    best = climb(criterion, begins[0])
    if not best.ended or on_boundary(criterion, best.x[criterion.spread]) is not None:
        other = climb(criterion, begins[1])
        best = other if other.value > best.value + SNAP_GAIN else best
    return _with_signs(criterion, _snapped(criterion, best))


def starts(criterion: FamilyCriterion, beta: np.ndarray, free: np.ndarray) -> list[np.ndarray]:
    """The best two of a few scales of the sds, coefficients by the Laplace approximation."""
    Q, K = len(criterion.basis), len(_SCALES)
    T = np.eye(Q) + _TILT * np.tril(np.ones((Q, Q)), -1)
    x = np.tile(np.concatenate([beta, criterion.theta(T), free]), (K, 1))
    x[:, criterion.spread] *= _SCALES[:, None]
    theta: FamilyTheta = criterion.family_theta(x)
    found = criterion.model.laplace(theta)
    ok = np.isfinite(found.gamma).all(axis=1)
    x[ok, : criterion.p] = found.gamma[ok, : criterion.p]
    order = np.argsort(-criterion.values(x))
    return [x[order[0]], x[order[1]]]


def climb(criterion: FamilyCriterion, x: np.ndarray) -> Maximum:
    """Newton steps from one start."""
    value, ended = float(criterion.values(x[None])[0]), False
    gradient, hessian = criterion.gradients(x[None])[0], criterion.hessian(x)
    for _ in range(MOST_STEPS):
        if not (np.isfinite(hessian).all() and np.isfinite(gradient).all()):
            break
        step, promised = _newton(gradient, hessian)
        step = step * _cap(criterion, x, step)
        points = x + _FACTORS[:, None] * step
        found = criterion.values(points)
        best = int(np.argmax(found))
        if promised < ENOUGH:
            # As far as values can tell this is the top; the last step is worth its digits.
            if found[0] >= value - ENOUGH:
                x, value = points[0], float(found[0])
                gradient = criterion.gradients(x[None])[0]
            ended = True
            break
        if not found[best] > value:
            ended = promised < 1e-5
            break
        x, value = points[best], float(found[best])
        gradient, hessian = criterion.gradients(x[None])[0], criterion.hessian(x)
        if np.abs(x[criterion.spread]).max(initial=0.0) > FAR:
            break
    return Maximum(x, value, gradient, hessian, ended)


def _newton(gradient: np.ndarray, hessian: np.ndarray) -> tuple[np.ndarray, float]:
    """Step, and the rise of the log-likelihood that it promises."""
    values, vectors = np.linalg.eigh(-hessian)
    # Absolute values: a step from a saddle would otherwise climb down its negative curvature.
    size = np.maximum(np.abs(values), 1e-7 * max(1.0, float(np.abs(values).max())))
    along = vectors.T @ gradient
    return vectors @ (along / size), float(0.5 * (along**2 / size).sum())


def _cap(criterion: FamilyCriterion, x: np.ndarray, step: np.ndarray) -> float:
    """What a step is shortened by: predictors, sds and parameters move by a few units at most."""
    p, at = criterion.p, criterion.spread
    rows = criterion.model.rows
    scale = (
        criterion.design.schema.response_scale.sd
        if criterion.parameters.family.is_on_response_scale
        else 1.0
    )
    eta = float(np.abs(rows.X @ step[:p]).max(initial=0.0)) / (5.0 * scale)
    largest = max(float(np.abs(x[at]).max(initial=0.0)), 0.5 * scale)
    spread = float(np.abs(step[at]).max(initial=0.0)) / (1.5 * largest)
    own = float(np.abs(step[at.stop :]).max(initial=0.0)) / 2.0
    return 1.0 / max(1.0, eta, spread, own)


def _snapped(criterion: FamilyCriterion, best: Maximum) -> Maximum:
    """The maximum with directions of negligible variance at exactly zero, if that costs nothing."""
    flat = on_boundary(criterion, best.x[criterion.spread])
    if flat is None:
        return best
    x = best.x.copy()
    x[criterion.spread] = flat
    found = climb(criterion, x)
    return found if found.value >= best.value - SNAP_GAIN else best


def _with_signs(criterion: FamilyCriterion, best: Maximum) -> Maximum:
    """The same with a root whose diagonal is not negative."""
    T = criterion.matrix(best.x[criterion.spread])
    x = best.x.copy()
    theta = criterion.theta(lower_root(T))
    # What rounding leaves of a direction of no variance is no variance.
    x[criterion.spread] = np.where(np.abs(theta) < ROUNDING, 0.0, theta)
    if np.array_equal(x, best.x):
        return best
    return replace(
        best, x=x, gradient=criterion.gradients(x[None])[0], hessian=criterion.hessian(x)
    )
