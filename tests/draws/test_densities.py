"""Densities of draws are those of the distributions they come from, also at a bound."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hierpool.draws.densities import density_in, overlap

RNG = np.random.default_rng(5)
NOWHERE = (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("law", "window", "bounds"),
    [
        (stats.norm(3, 2), (-2, 8), NOWHERE),
        (stats.halfnorm(0, 2), (0, 5), (0, np.inf)),
        (stats.uniform(-1, 2), (-1, 1), (-1, 1)),
        (stats.cauchy(0, 1), (-3, 3), NOWHERE),
    ],
)
def test_density_is_that_of_the_law(law, window, bounds):
    x, height = density_in(law.rvs(40_000, random_state=RNG), *window, bounds)
    assert x[0] >= window[0]
    assert x[-1] <= window[1]
    np.testing.assert_allclose(height, law.pdf(x), atol=0.04 * law.pdf(x).max())


def test_density_over_all_of_it_integrates_to_one():
    x, height = density_in(stats.halfnorm.rvs(size=5000, random_state=RNG), 0, 9, (0, np.inf))
    assert np.trapezoid(height, x) == pytest.approx(1, abs=0.01)


def test_constant_draws_and_missing_ones_have_no_density():
    assert density_in(np.full(50, 2.0), 0, 5, NOWHERE)[1].max() == 0
    assert density_in(np.array([np.nan, 1.0]), 0, 5, NOWHERE)[1].max() == 0


def test_overlap_is_one_for_the_same_and_known_for_shifted_laws():
    a, b = RNG.normal(size=(2, 20_000))
    assert overlap(a, b) > 0.95
    assert overlap(a, b + 2) == pytest.approx(2 * stats.norm.cdf(-1), abs=0.02)
    assert overlap(a, b + 50) == pytest.approx(0, abs=0.03)
