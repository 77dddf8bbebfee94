"""Blocks of whitened rows with the main factor's coefficients eliminated."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hierpool.algebra.correlated.near import NearColumns
from hierpool.algebra.correlated.rows import Blocks
from hierpool.algebra.triangular import cholesky, solve_lower


class Eliminated(NamedTuple):
    """Blocks at K values of theta, with their levels eliminated.

    Attributes
    ----------
    Z, X, right
        Shapes (K, B, m, q), (K, B, m, w) and (K, B, m, r): whitened columns of the main factor,
        before Lambda; of the population, those of other factors times Lambda before them; of
        responses.
    L
        Shape (K, B, q, q): Cholesky factors of Lambda'Z'R^-1 Z Lambda + I.
    a
        Shape (K, B, q, m): L^-1 times the whitened Z Lambda, transposed.
    G, g
        Shapes (K, B, q, w) and (K, B, q, r): a X and a ``right``.
    log_sd
        Shape (K, B): half of log det R.
    """

    Z: np.ndarray
    X: np.ndarray
    right: np.ndarray
    L: np.ndarray
    a: np.ndarray
    G: np.ndarray
    g: np.ndarray
    log_sd: np.ndarray

    @classmethod
    def of(
        cls, near: NearColumns, blocks: Blocks, Lambda: np.ndarray, phi: np.ndarray
    ) -> Eliminated:
        """Blocks at K values of theta, (K, Q, Q) and (K, m)."""
        w, q = near.which.shape[1], near.correlated.rows.Z.shape[1]
        white, log_sd = blocks.at(blocks.whitening.tables(phi))
        Z, X, right = white[..., :q], white[..., q : q + w], white[..., q + w :]
        X = near.others.scaled(X, Lambda)
        main = near.every.main_columns
        Zt = np.swapaxes(Z @ Lambda[:, None, main, main], -1, -2)
        L = cholesky(Zt @ np.swapaxes(Zt, -1, -2) + np.eye(q))
        a = solve_lower(L, Zt)
        return cls(Z, X, right, L, a, a @ X, a @ right, log_sd)
