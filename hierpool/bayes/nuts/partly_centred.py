"""Coefficients of the groups, each sampled less what its rows and its distribution say of it.

Given theta, beta and the other factors, the standard normals of a group have a normal posterior.
Samplers see them standardised by it: centred where the rows of the group say much, non-centred where
they say little, and in between as much of each as the variances of the draw make right. The model
is the non-centred one; only the transform of its normals depends on the other variables.

Symbols (factor with J levels and q columns; W the precision of a row in units of 1 / sigma^2):
    T     (q, q)       root of the covariance in units of sigma; deviations = sigma T z
    S     (J, q, q)    Z'WZ of each level
    h     (J, q)       Z'W times what the other terms leave of the response
    L     (J, q, q)    Cholesky factor of I + T'ST, the precision of z; its mean is m

References
----------
Papaspiliopoulos, Roberts, Skold (2003), Bayesian Statistics 7, 307-326: partially non-centred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hierpool.bayes.nuts.standardized import StandardizedByInputs


def normals(
    factor: str, terms: Sequence[str], partial: Sequence[bool], T: Any, S: np.ndarray, h: Any
) -> list[Any]:
    """The standard normals z of each term, shapes (J,), as variables of the model.

    Parameters
    ----------
    factor, terms
        Their names.
    partial
        Which terms are standardised; the others are sampled as they are.
    T, S, h
        As above.
    """
    q = len(terms)
    L = _cholesky(_precision(T, S), q)
    g = pt.dot(h, T)
    w: list[Any] = []
    for i in range(q):
        w.append((g[:, i] - sum(L[i][j] * w[j] for j in range(i))) / L[i][i])
    z: list[Any] = [None] * q
    for i in reversed(range(q)):  # each given those after it
        name = f"z_{factor}[{terms[i].replace('/', '|')}]"
        if partial[i]:
            mean = (w[i] - sum(L[k][i] * z[k] for k in range(i + 1, q))) / L[i][i]
            z[i] = _standard_normal(name, mean, 1 / L[i][i], factor)
        else:
            z[i] = pm.Normal(name, 0.0, 1.0, dims=factor)
    return z


def sums(Z: np.ndarray, codes: np.ndarray, n_levels: int, columns: np.ndarray) -> np.ndarray:
    """Shape (J, q, k): Z'columns of each level."""
    out = np.empty((n_levels, Z.shape[1], columns.shape[1]))
    for i in range(Z.shape[1]):
        for k in range(columns.shape[1]):
            out[:, i, k] = np.bincount(codes, Z[:, i] * columns[:, k], n_levels)
    return out


def _precision(T: Any, S: np.ndarray) -> list[list[Any]]:
    """I + T'ST of each level, entry by entry, shapes (J,)."""
    q = S.shape[1]
    pairs = (T[:, None, :, None] * T[None, :, None, :]).reshape((q * q, q * q))
    flat = pt.dot(S.reshape(-1, q * q), pairs)
    return [[flat[:, i * q + j] + float(i == j) for j in range(i + 1)] for i in range(q)]


def _cholesky(G: list[list[Any]], q: int) -> list[list[Any]]:
    """Entry by entry: for a handful of terms that compiles and runs faster than matrices do."""
    L: list[list[Any]] = [[None] * q for _ in range(q)]
    for i in range(q):
        for j in range(i + 1):
            left = G[i][j] - sum(L[i][k] * L[j][k] for k in range(j))
            L[i][j] = pt.sqrt(left) if i == j else left / L[j][j]
    return L


def _standard_normal(name: str, location: Any, scale: Any, dim: str) -> Any:
    """Standard normals that samplers see less ``location`` and over ``scale``."""
    return pm.CustomDist(
        name,
        location,
        scale,
        logp=_log_density,
        random=_random,
        support_point=_support_point,
        class_name="Normal",
        dims=dim,
        transform=StandardizedByInputs(),
    )


def _log_density(value: Any, location: Any, scale: Any) -> Any:
    return pm.logp(pm.Normal.dist(0.0, 1.0), value)


def _random(location: Any, scale: Any, rng: Any = None, size: Any = None) -> Any:
    return rng.normal(size=np.shape(location) if size is None else size)


def _support_point(rv: Any, size: Any, location: Any, scale: Any) -> Any:
    return location
