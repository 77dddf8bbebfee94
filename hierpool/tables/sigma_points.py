"""A few values of theta that stand in for all its draws: they have the draws' means and covariance."""

from __future__ import annotations

import numpy as np

from hierpool.core.theta import Theta

_NOTHING = 1e-12  # share of the largest variance, below which a direction does not vary
_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a standard deviation, one of which is near symmetric


def sigma_points(theta: Theta) -> Theta:
    """2 d points at the mean of d coordinates, plus and minus sqrt(d) times a root of their covariance.

    Coordinates are transformed partial correlations, and logs or powers of standard deviations, each
    that which has the least skewed draws: the log of one that may be zero has a long tail to the left.

    References
    ----------
    Julier, Uhlmann (2004), Proc. IEEE 92, 401-422.
    """
    columns = {name: _coordinates(name, v) for name, v in theta.values.items()}
    if not columns:
        return theta[np.arange(1)]
    every = np.concatenate([c for c, _ in columns.values()], axis=1)
    points = _points(every)
    found, start = {}, 0
    for name, (own, powers) in columns.items():
        part = points[:, start : start + own.shape[1]]
        found[name] = _values(name, part, powers, theta.values[name].shape[1:])
        start += own.shape[1]
    return Theta(len(points), found)


def _points(columns: np.ndarray) -> np.ndarray:
    """Shape (2 d, k), from draws (K, k) whose covariance has d directions."""
    mean, spread = columns.mean(axis=0), columns.std(axis=0)
    varies = spread > 0
    scaled = (columns[:, varies] - mean[varies]) / spread[varies]
    values, vectors = np.linalg.eigh(scaled.T @ scaled / len(columns))
    kept = values > _NOTHING * values.max(initial=1.0)
    d = int(kept.sum())
    if not d:
        return mean[None]
    away = np.zeros((d, columns.shape[1]))
    away[:, varies] = (vectors[:, kept] * np.sqrt(d * values[kept])).T * spread[varies]
    return np.asarray(mean + np.concatenate([away, -away]))


def _coordinates(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shape (K, k): an array of theta as coordinates; and their powers (k,), 0 of a log."""
    K = len(values)
    if name.startswith("corr_chol"):
        of_rows = [
            np.arctanh(np.clip(values[:, i, j] / _left(values[:, i, :j]), -1 + 1e-12, 1 - 1e-12))
            for i in range(values.shape[1])
            for j in range(i)
        ]
        out = np.column_stack(of_rows) if of_rows else np.zeros((K, 0))
        return out, np.ones(out.shape[1])
    flat = values.reshape(K, -1)
    each = np.stack([_power(flat, p) for p in _POWERS])
    apart = each - each.mean(axis=1, keepdims=True)
    spread = np.maximum(apart.std(axis=1), np.finfo(float).tiny)
    skewness = np.abs((apart**3).mean(axis=1) / spread**3)
    best = skewness.argmin(axis=0)
    return each[best, :, np.arange(flat.shape[1])].T, np.array(_POWERS)[best]


def _power(values: np.ndarray, power: float) -> np.ndarray:
    return np.log(np.maximum(values, np.finfo(float).tiny)) if power == 0 else values**power


def _values(
    name: str, coordinates: np.ndarray, powers: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The array of theta (n, *shape) that has these coordinates (n, k)."""
    n = len(coordinates)
    if not name.startswith("corr_chol"):
        made = [
            np.exp(c) if p == 0 else np.abs(c) ** (1 / p)
            for c, p in zip(coordinates.T, powers, strict=True)
        ]
        return np.column_stack(made).reshape(n, *shape)
    out, k = np.zeros((n, *shape)), 0
    for i in range(shape[0]):
        for j in range(i):
            out[:, i, j] = np.tanh(coordinates[:, k]) * _left(out[:, i, :j])
            k += 1
        out[:, i, i] = _left(out[:, i, :i])
    return out


def _left(row: np.ndarray) -> np.ndarray:
    """Shape (K,): length that a unit row of a Cholesky factor has left after its first entries."""
    return np.sqrt(np.maximum(1 - (row**2).sum(axis=1), 0))
