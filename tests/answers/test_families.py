"""Answers of families on the scale of the response, against sums over draws done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import hierpool as hp
from hierpool.answers.response_scale import ResponseScale
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError
from tests.answers.families import drawn, table

DATA = table()
P = {"prob": 0.9}


def flat(fit, name):
    return fit.variable(name).to_numpy().reshape(-1, *fit.variable(name).shape[2:])


@pytest.fixture(scope="module")
def hits():
    model = hp.Model("hits / n ~ x + t + (1 | g)", DATA, family="binomial")
    return drawn(model, [-1.5, 0.4, 0.8], sd=1.3)


@pytest.fixture(scope="module")
def counts():
    model = hp.Model("count ~ x * t + offset(log(n)) + (x | g)", DATA, family="negbinomial")
    return drawn(model, [-1.6, 0.2, 0.3, 0.1], sd=0.5, par={"shape": 2.0})


@pytest.fixture(scope="module")
def ratings():
    model = hp.Model("rating ~ x + t + (1 | g)", DATA, family="ordinal")
    return drawn(model, [0.5, 0.3], par={"thresholds": [-1.0, 0.2, 1.4]})


def over_groups(eta, sd):
    """Mean probability over many groups, by a rule of its own."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(90)
    inside = special.expit(eta[..., None] + sd[..., None] * nodes)
    return inside @ weights / weights.sum()


def predictor(fit, trt):
    return flat(fit, "beta") @ [1.0, DATA["x"].mean(), float(trt)]


def test_marginal_means_are_probabilities_averaged_over_new_groups(hits):
    found = hp.marginal_means(hits, "t", **P)
    sd = flat(hits, "sd_g")[:, 0]
    for name, trt in (("ctl", 0), ("trt", 1)):
        draws = over_groups(predictor(hits, trt), sd)
        assert found.loc[name, "mean"] == pytest.approx(draws.mean(), rel=1e-6)
        low, high = np.quantile(draws, [0.05, 0.95])
        assert found.loc[name].filter(regex="lb|ub").tolist() == pytest.approx([low, high])
    lines = repr(found).splitlines()
    assert lines[0] == "Probability of hits by t"
    assert "averaged over new groups" in lines[1]
    assert lines[2] == "scale: the response, probability of hits"
    assert found.attrs["scale"] == "response"


def test_an_average_group_and_one_of_the_fit(hits):
    found = hp.marginal_means(hits, "t", groups="average", **P)
    average = special.expit(predictor(hits, 0))
    assert found.loc["ctl", "mean"] == pytest.approx(average.mean())
    own = hp.marginal_means(hits, "t", groups={"g": "g2"}, **P)
    draws = special.expit(predictor(hits, 1) + flat(hits, "u_g")[:, 2, 0])
    assert own.loc["trt", "mean"] == pytest.approx(draws.mean())


def test_the_linear_scale_is_that_of_an_average_group(hits):
    found = hp.slopes(hits, "x", scale="linear", groups="average", **P)
    assert found.attrs["groups"] == "for an average g"
    draws = flat(hits, "beta")[:, 1]
    low, high = np.quantile(draws, [0.05, 0.95])
    assert found.filter(regex="lb|ub").iloc[0].tolist() == pytest.approx([low, high], rel=1e-6)


def test_observed_weights_average_probabilities_over_the_rows(hits):
    found = hp.marginal_means(hits, "t", weights="observed", groups="average", **P)
    beta = flat(hits, "beta")
    X = np.column_stack([np.ones(len(DATA)), DATA["x"], np.ones(len(DATA))])
    assert found.loc["trt", "mean"] == pytest.approx(special.expit(beta @ X.T).mean())


def test_risk_differences_ratios_and_odds_ratios(hits):
    sd = flat(hits, "sd_g")[:, 0]
    p = [over_groups(predictor(hits, trt), sd) for trt in (1, 0)]
    levels = ["trt", "ctl"]
    difference = hp.contrast(hits, "t", levels, **P)
    assert difference["mean"].item() == pytest.approx((p[0] - p[1]).mean(), rel=1e-6)
    ratio = hp.contrast(hits, "t", levels, compare="ratio", **P)
    assert ratio["mean"].item() == pytest.approx(stats.gmean(p[0] / p[1]), rel=1e-6)
    assert ratio.index.tolist() == ["trt / ctl"]
    odds = hp.contrast(hits, "t", levels, compare="odds ratio", **P)
    assert odds["mean"].item() == pytest.approx(np.exp(flat(hits, "beta")[:, 2].mean()))
    assert repr(odds).startswith("Odds ratios of hits between values of t")
    assert "for a given group" in repr(odds)
    assert odds.attrs["compare"] == "odds ratio"
    assert difference.attrs["groups"] == "averaged over new groups"


def test_slopes_of_probabilities_are_derivatives_of_the_marginal_mean(hits):
    found = hp.slopes(hits, "x", at={"x": 0.5, "t": "trt"}, **P)
    at = [{"x": 0.5 + h} for h in (1e-4, -1e-4)]
    ends = [hp.marginal_means(hits, "t", at=a, **P).loc["trt", "mean"] for a in at]
    assert found["mean"].item() == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5)
    assert repr(found).startswith("Slopes of the probability of hits in x")


def test_rates_are_per_unit_of_exposure_unless_it_is_given(counts):
    found = hp.marginal_means(counts, "t", at={"x": 0.0}, **P)
    beta, sd = flat(counts, "beta"), flat(counts, "sd_g")
    rate = np.exp(beta[:, 0] + sd[:, 0] ** 2 / 2)
    assert found.loc["ctl", "mean"] == pytest.approx(rate.mean())
    assert "per unit of n" in repr(found)
    assert "n at its mean" not in repr(found)
    hundred = hp.marginal_means(counts, "t", at={"x": 0.0, "n": 100}, **P)
    assert hundred.loc["ctl", "mean"] == pytest.approx(100 * rate.mean())
    assert "per unit" not in repr(hundred)


def test_rate_ratios(counts):
    found = hp.contrast(counts, "t", ["trt", "ctl"], at={"x": 1.0}, compare="ratio", **P)
    beta = flat(counts, "beta")
    assert found["mean"].item() == pytest.approx(np.exp((beta[:, 2] + beta[:, 3]).mean()))


def test_mean_ratings_and_the_probability_of_each(ratings):
    found = hp.marginal_means(ratings, "t", **P)
    assert repr(found).startswith("Mean rating of rating by t")
    each = ratings.predict(DATA.head(2), kind="probability", groups="new")
    assert each.index.names == ["obs", "rating"]
    np.testing.assert_allclose(each.groupby("obs")["mean"].sum(), 1.0)
    mean = ratings.predict(DATA.head(2), groups="new")["mean"].to_numpy()
    by_hand = each["mean"].unstack() @ [1, 2, 3, 4]
    np.testing.assert_allclose(mean, by_hand)
    draws = ratings.predict_draws(DATA.head(2), kind="probability")
    assert draws.dims == ("chain", "draw", "obs", "rating")
    new = ratings.predict_draws(DATA.head(2), kind="response").to_numpy()
    assert set(np.unique(new)) == {1.0, 2.0, 3.0, 4.0}


def test_predictions_of_probabilities_need_no_trials_and_new_observations_do(hits):
    rows = DATA.head(3)
    mean = hits.predict(rows.drop(columns=["n", "hits"]), **P)
    eta = flat(hits, "beta") @ np.column_stack(
        [np.ones(3), rows["x"], rows["t"] == "trt"]
    ).T.astype(float)
    own = special.expit(eta + flat(hits, "u_g")[:, :1, 0])
    np.testing.assert_allclose(mean["mean"], own.mean(axis=0))
    with pytest.raises(DataError, match="number of trials of a new row"):
        hits.predict(rows.drop(columns=["n", "hits"]), kind="response")
    new = hits.predict_draws(rows, kind="response")
    assert (new <= rows["n"].to_numpy()).all()
    told = hits.predict(rows, kind="response", **P)["mean"]
    np.testing.assert_allclose(told, rows["n"] * mean["mean"])
    se = new.to_numpy().std(axis=(0, 1)) / np.sqrt(new.shape[0] * new.shape[1])
    assert (np.abs(new.mean(("chain", "draw")) - told) < 5 * se).all()


def test_bad_trials_of_new_rows(hits):
    with pytest.raises(DataError, match="no whole number of at least 1"):
        hits.predict(DATA.head(3).assign(n=[3, 0, 2]), kind="response")


def test_the_mean_of_a_prediction_for_a_new_group_is_over_all_groups(hits):
    told = hits.predict(DATA.head(1), groups="new", **P)
    eta = flat(hits, "beta") @ [1.0, DATA["x"][0], float(DATA["t"][0] == "trt")]
    wanted = over_groups(eta, flat(hits, "sd_g")[:, 0]).mean()
    assert told["mean"].item() == pytest.approx(wanted, rel=1e-6)
    assert told["eti90_ub"].item() > 1.5 * wanted  # groups differ


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"compare": "odds"}, ArgumentError, "odds ratio"),
        ({"compare": "ratio", "scale": "linear"}, UnsupportedModelError, "leave scale= out"),
        ({"compare": "odds ratio", "groups": "new"}, UnsupportedModelError, "groups='average'"),
        ({"compare": "ratio", "slope": "x"}, ArgumentError, "compare="),
    ],
)
def test_comparisons_that_mean_nothing(hits, arguments, error, words):
    with pytest.raises(error, match=words):
        hp.contrast(hits, "t", **arguments)


def test_a_family_without_odds_has_no_odds_ratios(counts):
    with pytest.raises(UnsupportedModelError, match="logit link"):
        hp.contrast(counts, "t", compare="odds ratio")


def test_kinds_that_a_family_does_not_have(hits):
    with pytest.raises(ArgumentError, match="family='ordinal'"):
        hits.predict(kind="probability")
    with pytest.raises(ArgumentError, match="no linear predictor"):
        hits.predict(kind="response", scale="linear")


def test_sentences_say_odds_and_probabilities(hits):
    said = hp.term_effects(hits, **P).attrs["sentences"]
    means = hp.marginal_means(hits, "t", **P)["mean"]
    odds = hp.contrast(hits, "t", ["trt", "ctl"], compare="odds ratio", **P)["mean"].item()
    assert said["t"].startswith(
        f"The odds of hits are higher for trt than for ctl: by a factor of {odds:.2f} ["
    )
    assert said["t"].endswith(
        f"The probability is {100 * means['trt']:.1f} % for trt and {100 * means['ctl']:.1f} % "
        "for ctl."
    )
    slope = 100 * hp.slopes(hits, "x", **P)["mean"].item()
    assert f"The probability rises by {slope:.2f} percentage points [" in said["x"]


def test_sentences_of_rates_say_per_unit_of_exposure(counts):
    said = hp.term_effects(counts, **P).attrs["sentences"]
    assert "The rate per unit of n is" in said["t"]
    assert said["x:t"].startswith("The effect of x on the rate of count")


def test_sentences_of_ratings(ratings):
    table = hp.term_effects(ratings, **P)
    assert "the odds of a higher rating" in repr(table)
    assert table.attrs["sentences"]["x"].startswith("The odds of a higher rating rise with x")
    odds = np.exp(flat(ratings, "beta")[:, 0].mean())
    assert table.loc[("x", "ratio per unit of x"), "mean"] == pytest.approx(odds)


def test_a_formula_without_predictors_has_its_probability():
    model = hp.Model("yes ~ 1 + (1 | g)", DATA, family="bernoulli")
    fit = drawn(model, [-1.0])
    wanted = over_groups(flat(fit, "beta")[:, 0], flat(fit, "sd_g")[:, 0]).mean()
    table = hp.term_effects(fit, **P)
    assert table["mean"].item() == pytest.approx(wanted, rel=1e-6)
    said = table.attrs["sentences"]["Intercept"]
    assert said.startswith(f"The probability of yes is {100 * wanted:.1f} % [")


def test_figures_have_the_response_on_the_scale_of_the_means(hits, counts):
    figure = hp.plots.effects(hits, "x", by="t")
    ax = figure.axes[0]
    assert ax.get_ylim()[0] > -0.2
    assert ax.get_ylim()[1] < 1.2
    dots = hp.plots.effects(counts, "t").axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(np.sort(dots), np.sort(DATA["count"] / DATA["n"]))


@pytest.mark.parametrize(
    ("family", "words"),
    [("hurdle_poisson", "underlying mean of y"), ("zero_inflated_poisson", "mean of y")],
)
def test_ratios_of_counts_behind_a_hurdle_are_not_of_the_mean_of_all(family, words):
    table = pd.DataFrame({"y": np.arange(24) % 5, "x": np.arange(24) % 7, "g": np.arange(24) // 4})
    design = hp.Model("y ~ x + (1 | g)", table, family=family).design
    assert ResponseScale.of_effects(design).measured == words
