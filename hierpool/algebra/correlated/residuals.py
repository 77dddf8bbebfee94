"""Residuals of any model at values of its parameters: drawn, normalised, and their variance.

Parameters phi (K, m) of a structure are None where residuals are independent; sigma has shape (K,).
"""

from __future__ import annotations

import numpy as np

from hierpool.algebra.correlated.whitening import Whitening, noise, order_of
from hierpool.core.design import Design
from hierpool.core.residual import Residual


def drawn(design: Design, sigma: np.ndarray, phi: np.ndarray | None, z: np.ndarray) -> np.ndarray:
    """Shape (K, n): residuals of the rows, from standard normals z (K, n)."""
    residual = design.residual
    if residual.structure is None or phi is None:
        return np.asarray(z * residual.sd(sigma))
    return noise(residual.structure, phi, z) * sigma[:, None] * residual.known_sd


def rows_sd(residual: Residual, sigma: np.ndarray, phi: np.ndarray | None) -> np.ndarray:
    """Shape (K, n), or (K, 1) where rows are alike: residual sds of the rows."""
    if residual.structure is None or phi is None:
        return residual.sd(sigma)
    s = residual.structure
    return np.asarray(sigma[:, None] * np.exp(s.log_sds(phi))[:, s.classes] * residual.known_sd)


def variances_of_means(
    design: Design, codes: np.ndarray, n_levels: int, phi: np.ndarray
) -> np.ndarray:
    """Shape (K, J): variance of the mean residual of the rows of each level, in units of sigma^2.

    Of levels that the groups of the structure lie in; ``codes`` (n,) say which level each row has.
    """
    residual = design.residual
    s = residual.structure
    assert s is not None
    n_rows = np.bincount(codes, minlength=n_levels)
    weights = rows_sd(residual, np.ones(len(phi)), phi) / n_rows[codes]
    out = np.zeros((n_levels, len(phi)))
    if s.correlation is None:
        np.add.at(out, codes, np.square(weights).T)
        return out.T
    order = order_of(s)
    way = Whitening.from_structure(s.take(order))
    for k, C in enumerate(way.blocks(phi)):
        rows = order[way.starts[:-1][way.pattern == k][:, None] + np.arange(C.shape[-1])]
        own = weights[:, rows]
        np.add.at(out, codes[rows[:, 0]], np.einsum("kgi,kgi->gk", own @ C, own))
    return out.T


def mean_variance(design: Design, sigma: np.ndarray, phi: np.ndarray | None) -> np.ndarray:
    """Shape (K,): the residual variance of a typical row, a mean over the rows."""
    residual = design.residual
    if residual.structure is None or phi is None:
        return np.asarray(sigma**2 * residual.mean_square)
    s = residual.structure
    weights = np.broadcast_to(np.square(residual.known_sd), (design.n,))
    of_class = np.bincount(s.classes, weights, s.n_classes) / design.n
    return np.asarray(sigma**2 * (np.exp(2 * s.log_sds(phi)) @ of_class))


def normalised(design: Design, residuals: np.ndarray, phi: np.ndarray | None) -> np.ndarray:
    """Shape (n,) or (n, w): residuals in units of sigma.

    With a structure they are independent and alike if it is right: R^-1/2 times the residuals, as
    ``residuals(type = "normalized")`` of nlme, before they are divided by sigma. ``phi`` (m,).
    """
    residual = design.residual
    known = residual.over_known_sd(residuals)
    if residual.structure is None or phi is None:
        return known
    order = order_of(residual.structure)
    way = Whitening.from_structure(residual.structure.take(order))
    at = np.arange(design.n)
    columns = known.reshape(design.n, -1)[order]
    white, _ = way.apply(way.tables(phi[None]), columns, at, design.n)
    out = np.empty(columns.shape)
    out[order] = white[0]
    return out.reshape(known.shape)
