"""Derivatives of the covariance of rows with a structure, and what Kenward and Roger make of them.

Rows of different blocks are independent given the fixed effects, so each block has a V, R + Z Lambda
Lambda'Z' in units of sigma^2, a W = V^-1 and derivatives G_r. The parameters are entries of Lambda
Lambda', the free ones of the structure, and log sigma^2, whose derivative is V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True, eq=False)
class BlocksOfRows:
    """Rows block by block, with zeros in the place of none.

    Attributes
    ----------
    at
        The model at one theta.
    Z, X
        Shapes (B, size, q) and (B, size, p).
    """

    at: CorrelatedFactorisation
    Z: np.ndarray
    X: np.ndarray

    @classmethod
    def of(cls, at: CorrelatedFactorisation) -> BlocksOfRows:
        """All blocks."""
        every, raw = at.correlated.every, at.raw
        padded = np.zeros((every.n_blocks * every.size, raw.Z.shape[1] + raw.X.shape[1]))
        padded[at.correlated.place] = np.column_stack([raw.Z, raw.X])
        Z, X = np.split(padded.reshape(every.n_blocks, every.size, -1), [raw.Z.shape[1]], axis=2)
        return cls(at, Z, X)

    def residuals(self, phi: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """R (B, size, size), and its derivatives by the free parameters of the residuals."""
        return _of_residuals(self.at.correlated.every, phi)

    @cached_property
    def _own(self) -> tuple[np.ndarray, list[np.ndarray]]:
        R, slopes = self.residuals(self.at.phi)
        Lambda = self.at.Lambda
        return R + self.Z @ (Lambda @ Lambda.T) @ np.swapaxes(self.Z, 1, 2), slopes

    def derivatives(self, patterns: Sequence[np.ndarray]) -> np.ndarray:
        """Shape (m, B, size, size): of V, by parameters of Lambda Lambda', free ones, log sigma^2."""
        V, slopes = self._own
        return np.stack([*(self.Z @ E @ np.swapaxes(self.Z, 1, 2) for E in patterns), *slopes, V])

    @cached_property
    def inverse(self) -> np.ndarray:
        """Shape (B, size, size): V^-1; of no rows 1 on the diagonal."""
        V = self._own[0]
        empty = np.ones(V.shape[0] * V.shape[1])
        empty[self.at.correlated.place] = 0.0
        return np.linalg.inv(V + empty.reshape(*V.shape[:2], 1) * np.eye(V.shape[1]))


def covariance_products(
    at: CorrelatedFactorisation, patterns: Sequence[np.ndarray]
) -> CovarianceProducts:
    """At one theta; ``patterns`` (q, q): derivatives of Lambda Lambda' by its parameters."""
    every = at.correlated.every
    B, size = every.n_blocks, every.size
    m = len(patterns) + len(at.phi) + 1
    if m * B * size**2 > MOST_NUMBERS:
        raise UnsupportedModelError(
            f"Kenward and Roger's method needs a dense covariance of each of {B} blocks of up to {size} "
            f"rows, and its derivatives by {m} parameters: too many numbers. Use df='satterthwaite'",
            "kenward-roger-too-large",
        )
    rows = BlocksOfRows.of(at)
    G, W = rows.derivatives(patterns), rows.inverse
    WG, WX = W @ G, W @ rows.X
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
