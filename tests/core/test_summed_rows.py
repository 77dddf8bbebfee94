"""Stand-ins have the cross-products of the rows that they stand for."""

import numpy as np
import pytest

from hierpool.core.summed_rows import stand_ins


def gram(values, cell, weight, cells):
    rows = np.column_stack([np.ones(len(values)), values])
    out = np.zeros((cells, rows.shape[1], rows.shape[1]))
    np.add.at(out, cell, weight[:, None, None] * rows[:, :, None] * rows[:, None, :])
    return out


@pytest.mark.parametrize("largest", [1, 2, 9])
@pytest.mark.parametrize("weighted", [False, True])
def test_stand_ins_have_the_cross_products_of_the_rows(largest, weighted):
    rng = np.random.default_rng(largest)
    n = rng.integers(1, largest + 1, 50)
    cell = np.repeat(np.arange(50), n)
    a = rng.normal(size=(len(cell), 3)) + rng.normal(size=3)
    a[:, 2] = np.where(cell % 2, a[:, 0] - a[:, 1], a[:, 2])  # of less than full rank
    weight = rng.gamma(2.0, size=len(cell)) if weighted else np.ones(len(cell))
    S = gram(a, cell, weight, 50)
    values, place = stand_ins(S, n)
    sizes = np.bincount(place)
    assert (sizes <= n).all()
    each = S[place, 0, 0] / sizes[place]
    np.testing.assert_allclose(
        gram(values, place, each, 50), S, rtol=0, atol=1e-12 * np.abs(S).max()
    )


def test_a_cell_of_one_row_is_that_row():
    a = np.array([[3.0, -7.5, 1e-3]])
    values, cell = stand_ins(gram(a, np.array([0]), np.ones(1), 1), np.array([1]))
    np.testing.assert_allclose(values, a, rtol=1e-15)
    assert cell.tolist() == [0]
