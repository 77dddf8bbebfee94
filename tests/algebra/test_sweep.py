"""Least squares by sweeping leaves a coefficient unknown where the rows cannot tell it."""

from __future__ import annotations

import numpy as np
import pytest

from hierpool.algebra.sweep import SweptLevels, own_least_squares, swept_inverse

ROWS = {
    "three_rows": np.array([[1, 0.0], [1, 1], [1, 4]]),
    "one_row": np.array([[1, 2.0]]),
    "one_value_of_x": np.array([[1, 3.0], [1, 3.0], [1, 3.0]]),
    "x_is_zero": np.array([[1, 0.0], [1, 0.0]]),
}
Y = {name: np.arange(1.0, 1 + len(rows)) ** 2 for name, rows in ROWS.items()}
# what R's lm(y ~ x) reports as not NA
ESTIMABLE = {
    "three_rows": [True, True],
    "one_row": [True, False],
    "one_value_of_x": [True, False],
    "x_is_zero": [True, False],
}


def swept(name: str) -> SweptLevels:
    return SweptLevels.from_cross_products((ROWS[name].T @ ROWS[name])[None])


@pytest.mark.parametrize("name", ROWS)
def test_aliased_coefficients_are_those_of_lm(name):
    assert swept(name).is_estimable[0].tolist() == ESTIMABLE[name]


@pytest.mark.parametrize("name", ROWS)
def test_what_can_be_told_is_least_squares_on_the_columns_kept(name):
    Z, y, keep = ROWS[name], Y[name], ESTIMABLE[name]
    own = own_least_squares((Z.T @ Z)[None], (Z.T @ y)[None])[0]
    np.testing.assert_allclose(own[keep], np.linalg.lstsq(Z[:, keep], y)[0], rtol=1e-10)
    assert np.isnan(own[~np.array(keep)]).all()


@pytest.mark.parametrize("name", ROWS)
def test_generalised_inverse_is_the_inverse_of_the_columns_kept(name):
    Z, keep = ROWS[name], np.array(ESTIMABLE[name])
    inverse = swept(name).inverse[0]
    A = Z.T @ Z
    np.testing.assert_allclose(
        inverse[np.ix_(keep, keep)], np.linalg.inv(A[np.ix_(keep, keep)]), rtol=1e-10
    )
    assert not inverse[~keep].any()
    assert not inverse[:, ~keep].any()


def test_every_level_is_swept_by_itself():
    A = np.stack([rows.T @ rows for rows in ROWS.values()])
    together = SweptLevels.from_cross_products(A)
    for j, name in enumerate(ROWS):
        np.testing.assert_array_equal(together.inverse[j], swept(name).inverse[0])


def test_second_of_two_equal_columns_is_the_aliased_one():
    Z = np.column_stack([np.ones(6), np.arange(6.0), np.arange(6.0), np.arange(6.0) ** 2])
    assert SweptLevels.from_cross_products((Z.T @ Z)[None]).is_estimable[0].tolist() == [
        True,
        True,
        False,
        True,
    ]


def test_column_that_others_used_up_is_judged_by_its_whole_square():
    """What is left of it is compared with what it was, not with itself."""
    left = np.array([[1e-14, 0.0], [0.0, 2.0]])
    inverse, estimable = swept_inverse(left, np.array([5.0, 5.0]))
    assert estimable.tolist() == [False, True]
    np.testing.assert_allclose(inverse, [[0.0, 0.0], [0.0, 0.5]])
