"""Pareto smoothing for many points gives the numbers of arviz-stats, point by point."""

from __future__ import annotations

import os

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import special

from hierpool.draws import psis
from tests.support.cases import each

RNG = np.random.default_rng(1)
DENSITIES = {
    "light_tails": -0.5 * RNG.normal(size=(6, 4000)) ** 2 * 0.3,
    "heavy_tails": -(RNG.standard_t(2, size=(6, 4000)) ** 2),
    "very_heavy_tails": -np.exp(RNG.normal(size=(6, 2000)) * 2),
    "few_draws": RNG.normal(size=(6, 120)),
    "all_nearly_equal": 1e-9 * RNG.normal(size=(3, 1000)) - 4,
    "far_from_zero": RNG.normal(size=(4, 1000)) - 1e5,
    "with_ties": np.round(RNG.normal(size=(5, 4000)), 1),
    "repeated_draws": np.repeat(RNG.normal(size=(5, 500)), 4, axis=1),
}
EFFICIENCIES = [1.0, 0.3, 0.05]


def by_arviz(density: np.ndarray, r_eff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    log_weights, k = array_stats.psislw(density.copy(), r_eff=r_eff)
    elpd = special.logsumexp(log_weights + density, axis=1)
    lppd = special.logsumexp(density, axis=1) - np.log(density.shape[1])
    return elpd, np.asarray(k), lppd


@each("r_eff", EFFICIENCIES)
@each("name", DENSITIES)
def test_scores_and_k_are_those_of_arviz(name, r_eff):
    density = np.ascontiguousarray(DENSITIES[name])
    for ours, theirs in zip(
        psis.leave_one_out(density, r_eff), by_arviz(density, r_eff), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)


def test_constant_density_is_its_own_score_and_has_no_k():
    elpd, k, lppd = psis.leave_one_out(np.full((2, 1000), -3.0), 1.0)
    np.testing.assert_allclose(elpd, -3.0, rtol=1e-12)
    np.testing.assert_allclose(lppd, -3.0, rtol=1e-12)
    assert np.isnan(k).all()


def test_k_is_the_index_of_the_tail():
    """Ratios that are Pareto with shape .5: k near it, pulled a little towards .5 by its prior."""
    ratios = np.random.default_rng(2).pareto(2.0, size=(20, 8000)) + 1
    _, k, _ = psis.leave_one_out(-np.log(ratios), 1.0)
    assert k.mean() == pytest.approx(0.5, abs=0.06)


def test_score_is_below_the_plain_log_mean():
    density = DENSITIES["light_tails"]
    elpd, _, lppd = psis.leave_one_out(density, 1.0)
    assert (elpd < lppd).all()


def test_point_is_scored_the_same_alone_and_among_others(monkeypatch):
    density = RNG.normal(size=(200, 500))
    together = psis.leave_one_out(density, 1.0)
    alone = [psis.leave_one_out(density[i : i + 1], 1.0) for i in (0, 77, 199)]
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    for one, other in zip(psis.leave_one_out(density, 1.0), together, strict=True):
        np.testing.assert_array_equal(one, other)
    for i, scores in zip((0, 77, 199), alone, strict=True):
        for one, other in zip(scores, together, strict=True):
            assert one[0] == other[i]


def test_one_draw_that_outweighs_all_others_does_not_overflow():
    density = RNG.normal(size=(2, 1000))
    density[:, 0] = -800.0
    elpd, _, lppd = psis.leave_one_out(density, 1.0)
    np.testing.assert_allclose(elpd, by_arviz(density, 1.0)[0], rtol=1e-8)
    assert (elpd < -700).all()
    assert np.isfinite(lppd).all()
