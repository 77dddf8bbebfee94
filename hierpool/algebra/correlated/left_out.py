"""Rows and levels given all others, of designs with one factor or none: blocks alike worked once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from hierpool.algebra.correlated.rows import CorrelatedRows
from hierpool.algebra.factorisation import runs
from hierpool.algebra.gaussian import Marginal
from hierpool.core.theta import ResidualTheta


def rows(
    correlated: CorrelatedRows, theta: ResidualTheta, marginal: Marginal
) -> tuple[np.ndarray, np.ndarray]:
    """y_i less its mean given y_-i, and the variance of that in units of sigma^2, (K, n) each."""
    from hierpool.algebra.correlated import left_out_kernels

    designs, q = correlated.designs, correlated.rows.Z.shape[1]
    w = correlated.rows.X.shape[1]
    off = np.empty((len(theta), len(correlated.rows.y)))
    variance, beta = np.empty_like(off), np.ascontiguousarray(marginal.beta)
    raw = np.ascontiguousarray(designs.blocks.padded(designs.blocks.columns[:, q : q + w]))
    of_blocks = raw, _responses(correlated), *designs.members
    place = correlated.place.astype(np.int64)
    for at, white, roots, _ in _whitened(correlated, theta):
        Lambda = np.ascontiguousarray(theta.Lambda[at])
        given = Lambda, marginal.R[at], beta[at], place, off[at], variance[at]
        left_out_kernels.rows(white, roots, *of_blocks, *given)
    return off, variance


def levels(
    correlated: CorrelatedRows, theta: ResidualTheta, marginal: Marginal, whose: np.ndarray, J: int
) -> np.ndarray:
    """Shape (K, J): log density of the rows of each level given all others, less n_j log(2 pi) / 2.

    ``whose`` (blocks,) is the level of each block.
    """
    from hierpool.algebra.correlated import left_out_kernels

    out, design_of = np.empty((len(theta), J)), correlated.designs.of_block.astype(np.int64)
    n_rows = np.bincount(whose, np.bincount(correlated.blocks), J)
    blocks = np.lexsort((design_of, whose))
    starts = np.concatenate([[0], np.cumsum(np.bincount(whose, minlength=J))])
    kinds = *_kinds(design_of[blocks], starts), starts, blocks
    y, s = _responses(correlated), np.ascontiguousarray(marginal.s)
    for at, white, roots, log_sd in _whitened(correlated, theta):
        given = np.ascontiguousarray(theta.Lambda[at]), log_sd, theta.sigma[at], marginal.R[at]
        left_out_kernels.levels(white, roots, y, design_of, *kinds, *given, s[at], n_rows, out[at])
    return out


def _kinds(designs: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind of each level (J,), by the designs of its blocks; where those of each kind begin, and they."""
    found: dict[bytes, int] = {}
    each = [designs[a:b] for a, b in itertools.pairwise(starts.tolist())]
    kinds = np.array([found.setdefault(own.tobytes(), len(found)) for own in each], dtype=np.int64)
    own = [each[j] for j in np.unique(kinds, return_index=True)[1]]
    ends = np.cumsum([len(of_kind) for of_kind in own])
    return kinds, np.concatenate([[0], ends]), np.concatenate(own)


def _responses(correlated: CorrelatedRows) -> np.ndarray:
    """Shape (blocks, size)."""
    return correlated.every.padded(correlated.every.columns[:, -1:])[..., 0].copy()


def _whitened(
    correlated: CorrelatedRows, theta: ResidualTheta
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Of the designs, a run of the values of theta at a time: whitened Z and X, W, half of log det R."""
    blocks = correlated.designs.blocks
    width = correlated.rows.Z.shape[1] + correlated.rows.X.shape[1]
    for at in runs(len(theta), blocks.n_blocks * blocks.size * (width + blocks.size)):
        tables = blocks.whitening.tables(theta.phi[at])
        white, log_sd = blocks.at(tables, width)
        roots = blocks.roots(tables)
        flat = [own.reshape(len(own), -1, own.shape[-1]) for own in (white, roots)]
        yield at, flat[0], flat[1], log_sd
