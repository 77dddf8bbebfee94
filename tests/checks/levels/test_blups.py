"""Posterior means beside BLUPs: the difference splits exactly, and each part is what it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.gaussian import BetaPrior, condition
from hierpool.core.errors import ComparisonError, UnsupportedModelError
from tests.laws.dense import Dense

NAMES = [
    "sleepstudy_slopes",
    "sleepstudy_uncorrelated",
    "radon_intercepts",
    "orthodont_sex",
    "dyestuff2",
]


@pytest.mark.parametrize("name", NAMES)
def test_difference_is_the_sum_of_its_parts(fitted, name):
    table = hp.compare_blups(fitted[name].posterior, fitted[name].reml)
    parts = table["due_to_coefficient_prior"] + table["due_to_variances"]
    np.testing.assert_allclose(table["difference"], parts, atol=1e-9)
    np.testing.assert_allclose(
        table["difference"], table["posterior_mean"] - table["blup"], atol=1e-12
    )


@pytest.mark.parametrize("name", ["sleepstudy_slopes", "orthodont_sex"])
def test_part_of_the_beta_prior_is_the_dense_mean_under_it_less_the_blup(fitted, name):
    """E[u | y, theta_hat, prior on beta] with every matrix written out, in the user's coding."""
    fit, reml = fitted[name].posterior, fitted[name].reml
    design, e = reml.design, reml.estimate
    (group,) = design.groups
    block = fit.priors.population
    B = block.coding.to_user
    root = np.linalg.inv(B) / block.sd[:, None]
    judge = Dense(
        design.y,
        design.X,
        group.Z,
        group.grouping.codes,
        group.grouping.n_levels,
        e.sigma,
        e.only.corr * np.outer(e.only.sd, e.only.sd),
        B @ block.mean,
        root.T @ root,
    )
    mean, _ = judge.coefficients
    u = mean[len(design.terms) :]
    table = hp.compare_blups(fit, reml)
    np.testing.assert_allclose(table["due_to_coefficient_prior"], u - e.only.u.ravel(), atol=1e-6)


def test_blup_is_the_recovered_mean_at_the_reml_point(fitted):
    """With a flat prior on beta nothing is left of the first part."""
    fit, e = fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml.estimate
    algebra = fit.integrated
    flat = condition(
        algebra.moments, np.array([e.sigma]), e.relative_covariance_factor[None], BetaPrior.flat(2)
    )
    u = algebra.coordinates.u_to_user(flat.deviations(), flat.beta)[0]
    np.testing.assert_allclose(u, e.only.u, atol=1e-9)


def test_columns_are_the_numbers_of_the_two_fits(fitted):
    fit, reml = fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml
    table = hp.compare_blups(fit, reml)
    blup = reml.blup()
    np.testing.assert_array_equal(table["blup"], blup["estimate"])
    np.testing.assert_allclose(table["blup_se"], blup["se"], rtol=1e-12)
    own = fit.random_effects(diagnostics=False)
    np.testing.assert_allclose(table["posterior_sd"], own["sd"], rtol=1e-10)
    assert table.index.equals(blup.index)
    assert table.index.equals(own.index)


def test_levels_that_are_too_many_to_keep_give_the_same_table(monkeypatch):
    data = hp.datasets.load("sleepstudy").head(60)
    model = hp.Model("Reaction ~ Days + (Days | Subject)", data)
    reml, kept = model.reml(), hp.compare_blups(model.fit(seed=1, draws=200), model.reml())
    monkeypatch.setattr("hierpool.bayes.exact.engine.LARGEST_STORED", 1)
    fit = model.fit(seed=1, draws=200)
    assert not fit.keeps_levels
    pd.testing.assert_frame_equal(hp.compare_blups(fit, reml), kept)


def test_monte_carlo_error_of_the_means_is_small_and_honest(fitted):
    """Two seeds differ by their errors, which are far below those of the raw draws."""
    one = hp.compare_blups(fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml)
    other_fit = fitted["sleepstudy_slopes"].model.fit(engine="auto", seed=77, progress=False)
    other = hp.compare_blups(other_fit, fitted["sleepstudy_slopes"].reml)
    z = (one["posterior_mean"] - other["posterior_mean"]) / np.hypot(one["mcse"], other["mcse"])
    assert np.abs(z).max() < 4.5
    assert (one["mcse"] < 0.5 * one["posterior_sd"] / np.sqrt(4000)).mean() > 0.5


def test_blups_are_shrunk_less_than_zero_variance_says(fitted):
    """Dyestuff2: the BLUPs are zero, the posterior means are not."""
    table = hp.compare_blups(fitted["dyestuff2"].posterior, fitted["dyestuff2"].reml)
    assert (table["blup"] == 0).all()
    assert (table["posterior_mean"].abs() > 0.01).any()
    np.testing.assert_allclose(table["due_to_coefficient_prior"], 0.0, atol=1e-12)


def test_fits_of_other_models_or_rows_are_refused(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    with pytest.raises(ComparisonError, match=r"\[different-models\]"):
        hp.compare_blups(fit, fitted["sleepstudy_intercepts"].reml)
    data = hp.datasets.load("sleepstudy").iloc[:90]
    half = hp.Model("Reaction ~ Days + (Days | Subject)", data).reml()
    with pytest.raises(ComparisonError, match=r"has 180 rows of Reaction, the BLUPs 90 rows"):
        hp.compare_blups(fit, half)


@pytest.mark.parametrize("name", ["sleepstudy_complete", "sleepstudy_no_pooling"])
def test_models_without_blups_are_refused(fitted, name):
    with pytest.raises(UnsupportedModelError, match=r"it has no BLUPs.*\[no-random-effects\]"):
        hp.compare_blups(fitted[name].posterior, fitted[name].reml)
