"""Stacked Cholesky factors and triangular solves are those of LAPACK, matrix by matrix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from hierpool.algebra.triangular import cholesky, log_det, solve_lower, solve_lower_transposed
from tests.support.cases import each


def stack(k: int) -> np.ndarray:
    """Shape (3, 4, k, k): positive definite matrices."""
    root = np.random.default_rng(k).normal(size=(3, 4, k, k + 2))
    return root @ np.swapaxes(root, -1, -2)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 50])
def test_cholesky_is_that_of_lapack(k):
    np.testing.assert_allclose(
        cholesky(stack(k)), np.linalg.cholesky(stack(k)), rtol=1e-9, atol=1e-12
    )


@each("k", [1, 2, 3, 7, 50])
@each("m", [1, 4])
def test_triangular_solves_are_those_of_lapack(k, m):
    L = np.linalg.cholesky(stack(k))
    B = np.random.default_rng(m).normal(size=(3, 4, k, m))
    lower, upper = solve_lower(L, B), solve_lower_transposed(L, B)
    for i in np.ndindex(3, 4):
        np.testing.assert_allclose(
            lower[i], linalg.solve_triangular(L[i], B[i], lower=True), rtol=1e-9
        )
        expected = linalg.solve_triangular(L[i].T, B[i])
        np.testing.assert_allclose(upper[i], expected, rtol=1e-9)


def test_stacks_broadcast():
    L, B = np.linalg.cholesky(stack(3)), np.ones((4, 3, 2))
    assert solve_lower(L, B).shape == solve_lower_transposed(L, B).shape == (3, 4, 3, 2)
    np.testing.assert_allclose(L @ solve_lower(L, B), np.broadcast_to(B, (3, 4, 3, 2)), atol=1e-12)


def test_log_determinant_comes_from_the_factor():
    A = stack(4)
    np.testing.assert_allclose(log_det(cholesky(A)), np.linalg.slogdet(A)[1], rtol=1e-10)


@each("k", [2, 50])
def test_matrix_that_is_not_positive_definite_spoils_itself_alone(k):
    A = stack(k)
    A[1, 2, :2, :2] = [[1.0, 2.0], [2.0, 1.0]]
    is_bad = np.isnan(cholesky(A)).any(axis=(-1, -2))
    assert is_bad[1, 2]
    assert is_bad.sum() == 1


def test_matrix_of_no_columns_has_determinant_one():
    assert log_det(cholesky(np.zeros((5, 0, 0)))).tolist() == [0.0] * 5
