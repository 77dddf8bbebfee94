"""Stacking weights satisfy the conditions of an optimum, also where whole levels are scored."""

from __future__ import annotations

import numpy as np
import pytest

from hierpool.checks.accuracy.stacking import Stacking, _maximised, _quadratic_steps, stacking
from tests.support.cases import each


def scores(seed: int, n: int, K: int, spread: float, level: float) -> np.ndarray:
    """Log densities of n points under K models that differ by a constant and at random."""
    rng = np.random.default_rng(seed)
    return level + spread * rng.normal(size=(n, K)) + rng.normal(size=K)


def test_a_constant_added_to_the_scores_of_a_point_moves_no_weight():
    points = scores(1, 18, 4, 2.0, 0.0)
    far = points - np.linspace(700, 5000, 18)[:, None]  # densities that vanish in a float
    np.testing.assert_allclose(stacking(far).weights, stacking(points).weights, atol=1e-6)


def test_a_model_far_behind_in_every_point_has_no_weight():
    points = scores(2, 18, 5, 1.0, -250.0)
    points[:, 3] -= 44  # 792 in all
    found = stacking(points)
    assert found.is_best
    assert found.weights[3] < 1e-9
    assert found.weights.sum() == pytest.approx(1)


def test_two_models_that_predict_half_of_the_points_each_share_the_weight():
    points = np.where(np.arange(20)[:, None] % 2 == np.arange(2), 0.0, -100.0)
    np.testing.assert_allclose(stacking(points).weights, [0.5, 0.5], atol=1e-9)


@each("seed", range(20))
def test_both_ways_to_the_weights_end_at_one_score(seed):
    n, K = [(3, 2), (18, 5), (200, 4), (1000, 7)][seed % 4]
    points = scores(seed, n, K, [0.1, 1.0, 20.0][seed % 3], -300.0)
    densities = np.exp(points - points.max(axis=1)[:, None])
    one, other = stacking(points), _maximised(densities, np.full(K, 1 / K))
    assert one.is_best
    score = [np.log(densities @ s.weights).sum() for s in (one, other)]
    assert abs(score[0] - score[1]) <= max(other.gap, 1e-4)


def test_weights_where_an_optimiser_stopped_early_are_not_taken_for_the_best():
    points = scores(3, 50, 4, 3.0, 0.0)
    densities = np.exp(points - points.max(axis=1)[:, None])
    assert _quadratic_steps(densities).is_best
    assert not Stacking(np.full(4, 0.25), 5.0).is_best


def test_points_that_no_model_scores_are_left_out_and_none_at_all_is_told():
    points = scores(4, 30, 3, 1.0, 0.0)
    more = np.vstack([points, np.full((2, 3), -np.inf)])
    np.testing.assert_allclose(stacking(more).weights, stacking(points).weights, atol=1e-12)
    assert not stacking(np.full((2, 3), -np.inf)).is_best
