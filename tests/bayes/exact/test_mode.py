"""Local maxima and curvatures against functions whose maxima and Hessians are known."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from hierpool.bayes.exact.mode import LARGEST_COORDINATE, LEAST_CURVATURE, climb_all, climb_dear
from hierpool.bayes.exact.target import LogPosterior

PRECISION = np.array([[40.0, 6.0, 0.0], [6.0, 3.0, -1.0], [0.0, -1.0, 2.0]])
CENTRE = np.array([0.3, -1.2, 0.8])


def normal(z):
    return -0.5 * np.einsum("ki,ij,kj->k", z - CENTRE, PRECISION, z - CENTRE) - 3000.0


def test_of_a_normal_density_the_mean_and_covariance_are_found():
    starts = np.array([[0.0, 0.0, 0.0], [3.0, -4.0, 2.0]])
    z, values, scale = climb_all(normal, starts, np.ones((2, 3), dtype=bool))
    np.testing.assert_allclose(z, [CENTRE, CENTRE], atol=1e-3)
    np.testing.assert_allclose(values, -3000.0, atol=1e-4)
    np.testing.assert_allclose(scale, [np.linalg.inv(PRECISION)] * 2, rtol=1e-3, atol=1e-4)
    found, covariance = climb_dear(normal, starts[1], np.full(3, 0.3))
    np.testing.assert_allclose(found, CENTRE, atol=0.05)
    np.testing.assert_allclose(covariance, scale[0], rtol=1e-3, atol=1e-4)


def test_held_coordinates_stay_and_the_others_go_to_their_conditional_mean():
    start = np.array([[0.0, -6.0, 0.0]])
    z, _, scale = climb_all(normal, start, np.array([[True, False, True]]))
    moves, held = [0, 2], [1]
    shift = PRECISION[np.ix_(moves, held)] @ (start[0, held] - CENTRE[held])
    expected = CENTRE[moves] - np.linalg.solve(PRECISION[np.ix_(moves, moves)], shift)
    assert z[0, 1] == -6.0
    np.testing.assert_allclose(z[0, moves], expected, atol=1e-3)
    np.testing.assert_allclose(
        scale[0][np.ix_(moves, moves)],
        np.linalg.inv(PRECISION[np.ix_(moves, moves)]),
        rtol=1e-3,
        atol=1e-4,
    )
    assert scale[0, 1, 1] == 1.0
    assert not scale[0, 1, moves].any()


def test_a_ridge_and_a_cliff_do_no_harm():
    def awkward(z):
        return np.where(z[:, 0] > 1.0, -np.inf, z[:, 0]) + 0.0 * z[:, 1]

    z, _, scale = climb_all(awkward, np.zeros((1, 2)), np.ones((1, 2), dtype=bool))
    assert 0.5 < z[0, 0] <= 1.0
    assert np.abs(z).max() <= LARGEST_COORDINATE
    assert np.linalg.eigvalsh(scale[0]).max() <= 1 / LEAST_CURVATURE + 1e-9


@pytest.mark.parametrize("dataset", ["sleepstudy", "boars"])
def test_the_two_searches_find_one_mode(dataset):
    formula, group = {
        "sleepstudy": ("Reaction ~ Days", "Subject"),
        "boars": ("volume ~ time", "boar"),
    }[dataset]
    model = hp.varying_slope(formula, hp.datasets.load(dataset), group=group)
    target = LogPosterior.from_design(model.design, model.priors)
    start = np.zeros((1, 4))
    one, height, scale = climb_all(target, start, np.ones((1, 4), dtype=bool))
    other, covariance = climb_dear(target, start[0], np.full(4, 0.2))
    sds = np.sqrt(np.diagonal(scale[0]))
    assert (np.abs(one[0] - other) < 0.3 * sds).all()
    assert abs(float(height[0]) - float(target(other[None])[0])) < 0.05
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance)), sds, rtol=0.25)
