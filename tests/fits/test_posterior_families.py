"""What posteriors of counts and of yes and no say, and what they refuse to say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError, ComparisonError, DataError, UnsupportedModelError
from hierpool.plots.sheet.terms import predictor_in_words


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    dose = np.tile(np.arange(4.0), 12)
    clinic = np.repeat(list("abcdefghijkl"), 4)
    rate = np.exp(0.4 * dose + 0.5 * rng.standard_normal(12).repeat(4))
    return pd.DataFrame(
        {
            "clinic": clinic,
            "dose": dose,
            "visits": rng.poisson(rate),
            "cured": np.where(rng.uniform(size=48) < 0.5, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def counts(visits: pd.DataFrame) -> hp.PosteriorFit:
    return hp.Model("visits ~ dose + (1 | clinic)", visits, family="negbinomial").fit(
        seed=1, progress=False
    )


def test_a_shape_that_may_be_infinite_has_a_median_and_no_mean(counts):
    row = counts.variance_components().loc[("response", "shape", "", "")]
    assert np.isnan(row["mean"])
    assert np.isnan(row["sd"])
    drawn = counts.draws["posterior"]["shape"].to_numpy()
    assert row["median"] == np.median(drawn)


@pytest.mark.slow
def test_folds_of_one_group_score_as_leaving_it_out_does(counts):
    folds = counts.kfold(12, "clinic", seed=1, progress=False)
    np.testing.assert_allclose(folds.elpd_i, counts.loo(by="clinic").elpd_i, atol=0.2)
    assert folds.elpd == pytest.approx(counts.loo(by="clinic").elpd, abs=0.5)


def test_fitted_values_are_averages_of_means_and_residuals_what_is_left(counts, visits):
    eta = counts.draws["posterior"]["beta"].to_numpy() @ counts.design.X.T
    u = counts.draws["posterior"]["u_clinic"].to_numpy()[..., counts.design.groups[0].codes, 0]
    right = np.exp(eta + u).mean(axis=(0, 1))
    np.testing.assert_allclose(counts.fitted(), right, rtol=1e-9)
    np.testing.assert_allclose(counts.residuals(), visits["visits"] - right, rtol=1e-9)


def test_densities_are_not_compared_with_probabilities(counts, visits):
    gaussian = hp.Model("visits ~ dose + (1 | clinic)", visits).fit(seed=1, progress=False)
    with pytest.raises(
        ComparisonError, match="'counts' gives probabilities of visits, model 'line'"
    ):
        hp.compare({"line": gaussian, "counts": counts})


def test_lines_are_not_drawn_through_counts(counts):
    with pytest.raises(UnsupportedModelError, match="fitted lines is for Gaussian"):
        hp.plots.trajectories({"partial": counts})
    assert predictor_in_words(counts.design.schema) == "log mean of visits"


def test_two_labels_lead_to_their_family_and_it_works(visits):
    formula = "cured ~ dose + (1 | clinic)"
    with pytest.raises(DataError, match="probability of 'yes' write family='bernoulli'"):
        hp.Model(formula, visits)
    assert hp.Model(formula, visits, family="bernoulli").design.family.event == "yes"


def test_a_link_given_for_a_family_leads_to_both(visits):
    with pytest.raises(ArgumentError, match="write family='bernoulli', link='logit'"):
        hp.Model("cured ~ dose", visits, family="logit")
    assert hp.Model("cured ~ dose", visits, family="bernoulli", link="logit").design.n == 48


def test_the_fit_says_how_far_off_the_laplace_approximation_is(counts, visits):
    info = counts.info
    gap = info["laplace_log_marginal_likelihood"] - info["log_marginal_likelihood"]
    line = next(line for line in str(counts).splitlines() if "Laplace" in line)
    assert f"{abs(gap):.2g}" in line or "would be right" in line
    from hierpool.fits.shared import laplace_told

    far = info | {"laplace_log_marginal_likelihood": info["log_marginal_likelihood"] - 2.5}
    assert "too low by 2.5" in laplace_told(far)
    assert laplace_told({"engine": "nuts"}) == ""


def test_posterior_means_are_compared_with_conditional_modes(counts, visits):
    ml = hp.Model("visits ~ dose + (1 | clinic)", visits, family="negbinomial").ml()
    table = hp.compare_blups(counts, ml)
    assert (table["difference"].abs() < table["posterior_sd"]).all()
    figure = hp.plots.posterior_against_blup(table)
    words = " ".join(text.get_text() for ax in figure.axes for text in [ax.xaxis.label, ax.title])
    assert "conditional mode" in words
    assert "BLUP" not in words


def test_a_model_of_two_labels_says_which_is_the_event(visits):
    printed = str(hp.Model("cured ~ dose + (1 | clinic)", visits, family="bernoulli"))
    assert "the probability of 'yes'; hp.families.Bernoulli(event=...) turns it round" in printed
    one = visits.assign(cured="yes")
    with pytest.raises(DataError, match="is 'yes' in each of the 48 rows"):
        hp.Model("cured ~ dose + (1 | clinic)", one, family="bernoulli")
