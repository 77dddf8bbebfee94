"""Derivatives of the covariance of rows with a structure, and what Kenward and Roger make of them.

Rows of different blocks are independent given the fixed effects, so each block has a V, R + Z Lambda
Lambda'Z' in units of sigma^2, a W = V^-1 and derivatives G_r. The parameters are entries of Lambda
Lambda', the free ones of the structure, and log sigma^2, whose derivative is V.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hierpool.algebra.correlated.factorisation import CorrelatedFactorisation
from hierpool.algebra.correlated.rows import Blocks
from hierpool.core.errors import UnsupportedModelError

MOST_NUMBERS = 50_000_000  # of all derivatives


class CovarianceProducts(NamedTuple):
    """Sums over blocks, for every two of m parameters.

    Attributes
    ----------
    K, P, Q
        Shapes (m, m), (m, p, p) and (m, m, p, p): tr(W G_r W G_s), -X'W G_r W X and
        X'W G_r W G_s W X.
    """

    K: np.ndarray
    P: np.ndarray
    Q: np.ndarray


def covariance_products(
    at: CorrelatedFactorisation, patterns: Sequence[np.ndarray]
) -> CovarianceProducts:
    """At one theta; ``patterns`` (q, q): derivatives of Lambda Lambda' by its parameters."""
    every, raw = at.correlated.every, at.raw
    B, size = every.n_blocks, every.size
    m = len(patterns) + len(at.phi) + 1
    if m * B * size**2 > MOST_NUMBERS:
        raise UnsupportedModelError(
            f"Kenward and Roger's method needs a dense covariance of each of {B} blocks of up to {size} "
            f"rows, and its derivatives by {m} parameters: too many numbers. Use df='satterthwaite'",
            "kenward-roger-too-large",
        )
    padded = np.zeros((B * size, raw.Z.shape[1] + raw.X.shape[1]))
    padded[at.correlated.place] = np.column_stack([raw.Z, raw.X])
    Z, X = np.split(padded.reshape(B, size, -1), [raw.Z.shape[1]], axis=2)
    R, slopes = _of_residuals(every, at.phi)
    Zt = np.swapaxes(Z, 1, 2)
    V = R + Z @ (at.Lambda @ at.Lambda.T) @ Zt
    empty = np.ones(B * size)
    empty[at.correlated.place] = 0.0
    W = np.linalg.inv(V + empty.reshape(B, size, 1) * np.eye(size))
    G = np.stack([*(Z @ E @ Zt for E in patterns), *slopes, V])
    WG, WX = W @ G, W @ X
    GWX = G @ WX
    K = np.einsum("rbij,sbji->rs", WG, WG, optimize=True)
    P = -np.einsum("bip,rbiq->rpq", WX, GWX, optimize=True)
    Q = np.einsum("rbip,sbiq->rspq", GWX, W @ GWX, optimize=True)
    return CovarianceProducts(K, P, Q)


def _of_residuals(every: Blocks, phi: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """R of the blocks (B, size, size), and its derivatives by the free parameters."""
    way, B, size = every.whitening, every.n_blocks, every.size
    s = way.structure
    own = s.correlation
    C, slopes = np.zeros((B * size, size)), np.zeros((s.n_correlations, B * size, size))
    if own is None:
        C[every.where, every.where % size] = 1.0
    else:
        free = s.correlations(s.to_free(phi))
        for k, block in enumerate(way.blocks(phi[None])):
            n, (by, places) = block.shape[-1], way.patterns[k]
            rows = every.where[way.starts[:-1][way.pattern == k][:, None] + np.arange(n)]
            at = rows[:, :, None], rows[:, None, :] % size
            C[at] = block[0]
            first = by * own.size
            for j, slope in enumerate(own.slopes(free[by], [places])[0]):
                slopes[first + j][at] = slope
    weights = np.zeros((B * size, s.n_spread))
    weights[every.where] = s.basis[s.classes]
    flat = np.zeros(B * size)
    flat[every.where] = np.exp(s.log_sds(phi[None])[0])[s.classes]
    spread, sd = weights.reshape(B, size, -1), flat.reshape(B, size)
    scale = sd[:, :, None] * sd[:, None]
    R = C.reshape(B, size, size) * scale
    found = [slope.reshape(B, size, size) * scale for slope in slopes]
    for k in range(s.n_spread):
        found.append((spread[:, :, None, k] + spread[:, None, :, k]) * R)
    return R, found
