"""Scores of probabilities: what they are of two ratings, of trials, of rows left out and refitted."""

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.checks.accuracy.scores import brier, ranked_probability
from hierpool.core.errors import ArgumentError, UnsupportedModelError


def rated(n_ratings: int) -> pd.DataFrame:
    """Ratings of 12 judges, four each, that rise with x."""
    rng = np.random.default_rng(7)
    judge, x = np.repeat(np.arange(12), 4), np.tile([0.0, 1, 2, 3], 12)
    latent = 0.6 * x + rng.normal(0, 1, 12)[judge] + rng.logistic(size=48)
    edges = np.quantile(latent, np.arange(1, n_ratings) / n_ratings)
    return pd.DataFrame({"judge": judge, "x": x, "y": np.searchsorted(edges, latent)})


@pytest.fixture(scope="module")
def ratings() -> hp.PosteriorFit:
    return hp.Model("y ~ x + (1 | judge)", rated(3), family="ordinal").fit(seed=1, draws=4000)


@pytest.fixture(scope="module")
def yes_or_no() -> dict[str, hp.PosteriorFit]:
    data = rated(2)
    formulas = {"x": "y ~ x + (1 | judge)", "alone": "y ~ 1 + (1 | judge)"}
    return {
        name: hp.Model(formula, data, family="bernoulli").fit(seed=1)
        for name, formula in formulas.items()
    }


def test_ranked_probability_of_two_ratings_is_the_brier_score():
    p, y = np.array([0.2, 0.7, 0.9]), np.array([0.0, 1, 0])
    np.testing.assert_allclose(ranked_probability(1 - p[:, None], y), brier(p, y, np.ones(3)))


def test_brier_score_of_trials_is_the_mean_of_their_own():
    outcomes = np.array([1.0, 1, 0, 0, 0])
    each = brier(np.full(5, 0.3), outcomes, np.ones(5))
    np.testing.assert_allclose(
        brier(np.array([0.3]), np.array([2.0]), np.array([5.0])), each.mean()
    )


def test_certain_and_right_is_zero_and_each_rating_off_adds_one():
    cumulative = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])  # surely the second, surely the last
    np.testing.assert_array_equal(ranked_probability(cumulative, np.array([1.0, 1.0])), [0, 2])


@pytest.mark.slow
def test_probability_of_the_observed_rating_is_its_score(ratings):
    p = ratings.loo_probabilities()
    assert p.dims == ("obs", "rating")
    np.testing.assert_allclose(p.sum("rating"), 1)
    observed = p.to_numpy()[np.arange(48), ratings.design.y.astype(int)]
    np.testing.assert_allclose(np.log(observed), ratings.loo().elpd_i, atol=0.03)
    upto = p.to_numpy().cumsum(axis=1)[np.arange(48), ratings.design.y.astype(int)]
    np.testing.assert_allclose(upto, ratings.loo_pit().sel(bound="at"), atol=0.02)


@pytest.mark.slow
def test_scores_are_averages_with_their_differences(yes_or_no):
    one = hp.scores(yes_or_no["x"])
    loo = yes_or_no["x"].loo()
    np.testing.assert_allclose(one.loc["log", "mean"], -loo.elpd / 48)
    np.testing.assert_allclose(one.loc["log", "se"], loo.se / 48, rtol=1e-6)
    y, p = yes_or_no["x"].design.y, yes_or_no["x"].loo_probabilities().to_numpy()
    np.testing.assert_allclose(one.loc["brier", "mean"], ((y - p) ** 2).mean())
    both = hp.scores(yes_or_no)
    assert list(both.loc["brier"].index) == ["x", "alone"]
    gap = both.loc[("brier", "alone"), "mean"] - both.loc[("brier", "x"), "mean"]
    np.testing.assert_allclose(both.loc[("brier", "alone"), "difference"], gap)
    assert both.loc[("brier", "x"), "difference"] == 0


@pytest.mark.slow
def test_weighted_rows_have_the_same_probabilities_by_the_other_way(yes_or_no):
    model = hp.Model("y ~ x + (1 | judge)", rated(2).assign(w=1.0), family="bernoulli", weights="w")
    found = model.fit(seed=1).loo_probabilities()
    np.testing.assert_allclose(found, yes_or_no["x"].loo_probabilities(), atol=0.01)


@pytest.mark.slow
def test_row_that_sampling_cannot_reach_is_predicted_without_it():
    """Two groups of two with no failure, and one trial alone that fails."""
    data = pd.DataFrame({"g": [0, 0, 1, 1, 2], "y": [40, 39, 40, 40, 1], "n": 40})
    fit = hp.Model("y / n ~ 1 + (1 | g)", data, family="binomial").fit(seed=1)
    score = fit.loo()
    assert score.n_refitted
    p = fit.loo_probabilities().to_numpy()
    assert p[4] > 0.6  # the others say so; with row 4 among them it would be less
    left = hp.Model("y / n ~ 1 + (1 | g)", data.iloc[:4], family="binomial").fit(seed=2)
    wanted = left.predict(data.iloc[4:], groups="new")["mean"].iloc[0]
    assert abs(p[4] - wanted) < 0.05


def test_wrong_input_is_answered(fitted):
    with pytest.raises(ArgumentError, match="dict of them"):
        hp.scores([fitted["rail"].reml])
    with pytest.raises(UnsupportedModelError, match="no probability to predict"):
        fitted["rail"].posterior.loo_probabilities()
