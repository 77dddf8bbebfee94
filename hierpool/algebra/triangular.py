"""Cholesky factors and triangular solves for stacks of small matrices.

numpy has no batched triangular solve, and one LAPACK call per 2 x 2 matrix costs more than its
arithmetic; here the loops run over the matrix and the arithmetic over the stack. Wide matrices go to
LAPACK one by one.

Symbols: L lower triangular, shape (..., k, k); B right-hand sides, shape (..., k, m).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

_WIDE = 48  # rows from which LAPACK is faster


def cholesky(A: np.ndarray) -> np.ndarray:
    """Lower Cholesky factors of positive definite matrices, shape (..., k, k).

    A matrix that is not positive definite gives NaN in its own factor, not an error: the caller
    knows which theta it belongs to.
    """
    k = A.shape[-1]
    if k == 1:
        with np.errstate(invalid="ignore"):
            return np.sqrt(A)
    if k >= _WIDE:
        return _cholesky_each(A)
    L = np.zeros_like(A)
    with np.errstate(invalid="ignore", divide="ignore"):
        for j in range(k):
            row = L[..., j, :j]
            pivot = np.sqrt(A[..., j, j] - np.einsum("...i,...i->...", row, row))
            L[..., j, j] = pivot
            if j + 1 < k:
                below = A[..., j + 1 :, j] - np.einsum("...ri,...i->...r", L[..., j + 1 :, :j], row)
                L[..., j + 1 :, j] = below / pivot[..., None]
    return L


def solve_lower(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Solve L x = B by forward substitution; shape (..., k, m), stacks broadcast."""
    if L.shape[-1] == 1:
        return _divided(B, L)
    shape = np.broadcast_shapes(L.shape[:-2], B.shape[:-2]) + B.shape[-2:]
    if L.shape[-1] >= _WIDE:
        return _solved_each(L, B, shape, transposed=False)
    x = np.empty(shape, dtype=np.result_type(L, B))
    with np.errstate(invalid="ignore", divide="ignore"):
        for i in range(L.shape[-1]):
            left = B[..., i, :]
            if i:
                left = left - np.einsum("...i,...im->...m", L[..., i, :i], x[..., :i, :])
            np.divide(left, L[..., i, i, None], out=x[..., i, :])
    return x


def solve_lower_transposed(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Solve L' x = B by backward substitution; shape (..., k, m), stacks broadcast."""
    if L.shape[-1] == 1:
        return _divided(B, L)
    shape = np.broadcast_shapes(L.shape[:-2], B.shape[:-2]) + B.shape[-2:]
    k = L.shape[-1]
    if k >= _WIDE:
        return _solved_each(L, B, shape, transposed=True)
    x = np.empty(shape, dtype=np.result_type(L, B))
    with np.errstate(invalid="ignore", divide="ignore"):
        for i in reversed(range(k)):
            left = B[..., i, :]
            if i + 1 < k:
                left = left - np.einsum("...i,...im->...m", L[..., i + 1 :, i], x[..., i + 1 :, :])
            np.divide(left, L[..., i, i, None], out=x[..., i, :])
    return x


def _cholesky_each(A: np.ndarray) -> np.ndarray:
    """Of wide matrices."""
    out = np.empty(A.shape)
    for at in np.ndindex(*A.shape[:-2]):
        # The transpose of a C-ordered matrix is what LAPACK reads without a copy.
        root, failed = lapack.dpotrf(A[at].T, lower=0, clean=1)
        out[at] = np.nan if failed else root.T
    return out


def _solved_each(
    L: np.ndarray, B: np.ndarray, shape: tuple[int, ...], transposed: bool
) -> np.ndarray:
    """Solutions with wide matrices."""
    out, stack = np.empty(shape), shape[:-2]
    L = np.broadcast_to(L, stack + L.shape[-2:])
    B = np.broadcast_to(B, stack + B.shape[-2:])
    for at in np.ndindex(*stack):
        out[at], failed = lapack.dtrtrs(L[at].T, B[at], lower=0, trans=0 if transposed else 1)
        if failed:
            out[at] = np.nan
    return out


def _divided(B: np.ndarray, L: np.ndarray) -> np.ndarray:
    """The solution for k = 1."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(B / L)


def log_det(L: np.ndarray) -> np.ndarray:
    """Log determinant of L L', shape (...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * np.log(np.diagonal(L, axis1=-2, axis2=-1)).sum(axis=-1))
