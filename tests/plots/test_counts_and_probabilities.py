"""Reliability diagram and rootogram: their numbers, and that they can be read."""

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import UnsupportedModelError
from hierpool.plots.reliability import corp
from hierpool.plots.rootogram import frequencies


def outcomes(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Calibrated probabilities and what happens."""
    rng = np.random.default_rng(5)
    p = rng.uniform(0.05, 0.95, n)
    return p, (rng.random(n) < p).astype(float), rng


def test_brier_score_is_the_sum_of_its_parts():
    p, y, rng = outcomes()
    found = corp(p, y, np.ones(len(y)), rng)
    np.testing.assert_allclose(found.score, ((y - p) ** 2).mean())
    parts = found.miscalibration - found.discrimination + found.uncertainty
    np.testing.assert_allclose(found.score, parts)
    assert min(found.miscalibration, found.discrimination) >= 0
    np.testing.assert_allclose(found.uncertainty, y.mean() * (1 - y.mean()))


def test_calibrated_probabilities_stay_in_the_band_and_extreme_ones_leave_it():
    p, y, rng = outcomes()

    def outside(p: np.ndarray) -> float:
        found = corp(p, y, np.ones(len(y)), rng)
        return float(((found.share < found.lower) | (found.share > found.upper)).mean())

    assert outside(p) < 0.1
    odds = p / (1 - p)
    assert outside(odds**3 / (1 + odds**3)) > 0.3


def test_trials_of_one_probability_are_one_point():
    rng = np.random.default_rng(1)
    found = corp(np.array([0.2, 0.2, 0.6]), np.array([1.0, 3, 5]), np.array([10.0, 10, 10]), rng)
    np.testing.assert_array_equal(found.trials, [20, 10])
    np.testing.assert_allclose(found.share, [0.2, 0.5])


def test_frequencies_count_every_row_once_and_large_counts_share_bars():
    rng = np.random.default_rng(2)
    y, replicated = rng.poisson(3, 50), rng.poisson(3, (200, 50))
    found = frequencies(y, replicated)
    assert found.width == 1
    assert found.observed.sum() == 50
    np.testing.assert_allclose(found.expected.sum(), 50)
    many = frequencies(200 * y, 200 * replicated)
    assert many.width > 1
    assert many.observed.sum() == 50
    assert (many.lower <= many.expected + 1e-9).all()


@pytest.mark.slow
def test_figures_of_families_are_legible(assert_legible):
    rng = np.random.default_rng(6)
    ward = np.repeat(np.arange(8), 8)
    data = pd.DataFrame({"ward": ward, "falls": rng.poisson(np.exp(rng.normal(1, 0.5, 8)[ward]))})
    data["any"] = (data["falls"] > 2).astype(int)
    data["shifts"] = 30
    counts = hp.Model("falls ~ 1 + (1 | ward)", data, family="poisson").fit(seed=1)
    assert "falls" in assert_legible(hp.plots.rootogram(counts))
    assert_legible(hp.plots.loo_pit(counts))
    yes = hp.Model("any ~ 1 + (1 | ward)", data, family="bernoulli").fit(seed=1)
    texts = assert_legible(hp.plots.reliability(yes))
    assert "rows" in texts
    assert assert_legible(hp.plots.loo_pit(yes)) == texts
    trials = hp.Model("falls / shifts ~ 1 + (1 | ward)", data, family="binomial").fit(seed=1)
    assert "trials" in assert_legible(hp.plots.reliability(trials))
    with pytest.raises(UnsupportedModelError, match=r"hp\.plots\.reliability"):
        hp.plots.rootogram(yes)
    with pytest.raises(UnsupportedModelError, match=r"hp\.plots\.rootogram"):
        hp.plots.reliability(counts)


def test_ratings_count_from_one_in_the_prior_predictive_figure():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"g": np.repeat(range(5), 6), "y": np.arange(30) % 3 + 1})
    table["y"] = rng.permutation(table.y)
    model = hp.Model("y ~ 1 + (1 | g)", table, family="ordinal")
    rows = hp.plots.prior_predictive(model, draws=20).axes[0]
    prior, _, observed = (bars.get_data() for bars in rows.patches)
    np.testing.assert_allclose(observed.edges, [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(prior.values.sum(), 1)
    np.testing.assert_allclose(observed.values, observed.values[0])  # ten rows each
