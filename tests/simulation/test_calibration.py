"""Calibration and recovery: the bands, frozen priors, engines that are right and one that is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.bayes import simulate as prior_draws
from hierpool.bayes.exact.target import LogPosterior
from hierpool.core.errors import ArgumentError, PriorError, UnsupportedModelError
from hierpool.draws import uniformity
from hierpool.simulation import calibration
from hierpool.simulation import calibration as sbc
from hierpool.simulation.calibration import Redrawn, Simulated
from tests.laws.dense import Dense

P = hp.Prior


def test_uniform_ranks_leave_the_band_one_time_in_a_hundred():
    null = uniformity.uniform_ranks(100, 99)
    ranks = np.random.default_rng(1).integers(0, 100, size=(4000, 100))
    outside = np.mean([null.closeness(r) < null.threshold for r in ranks])
    assert outside == pytest.approx(0.01, abs=0.005)
    band = null.band()
    assert (band["lower"] < band["rank"] / 100).all()
    assert (band["upper"] > band["rank"] / 100).all()


def conjugate(posterior, simulations: int = 300) -> sbc.Calibration:
    """mu ~ N(0, 1), five y ~ N(mu, 1): the posterior is N(sum / 6, 1 / 6)."""

    def log_likelihood(mu, y):
        return stats.norm.logpdf(y[:, None], np.atleast_1d(mu)).sum(axis=0)

    def simulate(rng):
        mu = rng.normal()
        y = mu + rng.normal(size=5)
        return Simulated({"mu": mu, "log_likelihood": log_likelihood(mu, y)[0]}, y)

    def refit(y, rng):
        draws = posterior(y, rng)
        return Redrawn({"mu": draws, "log_likelihood": log_likelihood(draws, y)}, True)

    return sbc.simulate_and_rank(
        simulate, refit, formula="toy", engine="toy", simulations=simulations, seed=1
    )


def test_a_right_engine_passes_and_wrong_ones_fail():
    sd = np.sqrt(1 / 6)
    right = conjugate(lambda y, rng: rng.normal(y.sum() / 6, sd, 99))
    assert right.is_calibrated
    assert right.verdict.startswith("Calibrated: in 300 simulations")
    narrow = conjugate(lambda y, rng: rng.normal(y.sum() / 6, 0.7 * sd, 99))
    assert not narrow.is_calibrated
    assert "too narrow" in narrow.verdict
    shifted = conjugate(lambda y, rng: rng.normal(y.sum() / 6 + 0.5 * sd, sd, 99))
    assert "draws too high" in shifted.verdict
    assert not shifted.is_calibrated


def test_an_engine_that_returns_the_prior_is_found_out_by_the_likelihood():
    lazy = conjugate(lambda y, rng: rng.normal(size=99))
    assert lazy.table.loc["mu", "inside"]
    assert not lazy.table.loc["log_likelihood", "inside"]
    assert not lazy.is_calibrated


@pytest.mark.parametrize("pooling", ["varying_slope", "no_pooling"])
@pytest.mark.parametrize("shift", [0.0, 5_000.0])
def test_priors_stay_in_place_when_the_response_changes(pooling, shift):
    """The density of another response is the dense one under the priors as they were printed."""
    model = getattr(hp, pooling)("Reaction ~ Days", hp.datasets.load("sleepstudy"), "Subject")
    design = model.design.with_response(model.design.y * 0.3 + shift)
    target = LogPosterior.from_design(design, model.priors)
    group = design.groups[0]
    theta = target.coordinates.theta(np.zeros((1, target.coordinates.size)))
    got = target.integrated.log_density(target.theta_map.working(theta))[0]
    unpooled = model.priors.unpooled
    block = model.priors.population if unpooled is None else unpooled.coefficients
    B = block.coding.to_user
    mean, cov = B @ block.mean, B @ np.diag(block.sd**2) @ B.T
    if pooling == "no_pooling":
        y, X, Sigma = design.y - group.Z @ mean, np.zeros((design.n, 0)), cov
        mean, precision = np.zeros(0), np.zeros((0, 0))
    else:
        sd, corr = target.theta_map.sd_and_corr(theta)
        y, X, Sigma = design.y, design.X, np.diag(sd[0]) @ corr[0] @ np.diag(sd[0])
        precision = np.linalg.inv(cov)
    codes, n_levels = group.grouping.codes, group.grouping.n_levels
    judge = Dense(y, X, group.Z, codes, n_levels, theta.sigma[0], Sigma, mean, precision)
    density = (
        judge.log_density
        if len(mean)
        else stats.multivariate_normal(np.zeros(design.n), judge.V).logpdf(y)
    )
    assert got == pytest.approx(density, rel=1e-8)


def test_draws_from_the_prior_have_its_moments():
    data = hp.datasets.load("sleepstudy")
    joint = P("MvNormal", mu=[250, 10], cov=[[400, -30], [-30, 9]])
    model = hp.Model("Reaction ~ Days + (Days | Subject)", data, priors={"beta": joint})
    rng = np.random.default_rng(0)
    drawn = [prior_draws.draw_parameters(model.design, model.priors, rng) for _ in range(800)]
    beta = np.array([d.beta for d in drawn])
    np.testing.assert_allclose(beta.mean(axis=0), [250, 10], atol=2.5)
    np.testing.assert_allclose(np.cov(beta.T), [[400, -30], [-30, 9]], rtol=0.25)
    sigma = np.array([d.sigma for d in drawn])
    assert stats.kstest(sigma, model.priors.sigma.distribution.cdf).pvalue > 1e-3
    flat = hp.Model("Reaction ~ Days", data, priors={"Days": P("Flat")})
    with pytest.raises(PriorError, match="cannot be simulated from"):
        prior_draws.draw_parameters(flat.design, flat.priors, rng)


def test_calibrate_prints_a_verdict_and_repeats_itself(fitted):
    model = fitted["dyestuff"].model
    once, again = (hp.calibrate(model, 20, seed=1, progress=False) for _ in range(2))
    assert once.ranks.equals(again.ranks)
    assert once.is_calibrated
    assert {"sigma", "sd_Batch[Intercept]", "log_likelihood"} <= set(once.ranks)
    assert once.ranks.to_numpy().min() >= 0
    assert once.ranks.to_numpy().max() <= once.n_draws == sbc.KEPT
    assert once.verdict in repr(once)
    figure = hp.plots.calibration(once)
    assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == list(once.ranks)


def test_what_cannot_be_calibrated_says_why(fitted):
    model = fitted["dyestuff"].model
    with pytest.raises(ArgumentError, match="at least 20"):
        hp.calibrate(model, 5)
    with pytest.raises(ArgumentError, match="choose 'exact' or 'nuts'"):
        hp.calibrate(model, engine="auto")
    other = model.with_priors({"Intercept": P("StudentT", nu=3, mu=1500, sigma=50)})
    with pytest.raises(UnsupportedModelError, match="Use engine='nuts'"):
        hp.calibrate(other)


@pytest.mark.slow
def test_recovery_sets_the_poolings_side_by_side(fitted):
    found = hp.recovery(fitted["sleepstudy_slopes"].model, 12, seed=1, progress=False)
    rmse, coverage = found.table["rmse"], found.table["coverage"]
    for term in ("Intercept", "Days"):
        assert rmse["partial_pooling", term] < rmse["no_pooling", term]
        assert rmse["partial_pooling", term] < rmse["complete_pooling", term]
        assert rmse["blup", term] == pytest.approx(rmse["partial_pooling", term], rel=0.1)
        assert coverage["complete_pooling", term] < 0.6
        assert coverage["partial_pooling", term] == pytest.approx(0.95, abs=0.1)
    assert "complete_pooling" in found.sentence
    assert "its REML optimum" in repr(found)


@pytest.mark.parametrize("at", ["prior", "posterior", "ml"])
def test_recovery_at_other_parameters(fitted, at):
    one = fitted["dyestuff"]
    where = {"prior": "prior", "posterior": one.posterior, "ml": one.ml}[at]
    found = hp.recovery(one.model, 3, at=where, seed=1, progress=False)
    assert np.isfinite(found.table.to_numpy()).all()


def test_recovery_needs_partial_pooling_and_known_parameters(fitted):
    with pytest.raises(UnsupportedModelError, match="does not pool partially"):
        hp.recovery(fitted["sleepstudy_no_pooling"].model)
    with pytest.raises(ArgumentError, match="choose 'reml', 'prior' or a fit"):
        hp.recovery(fitted["dyestuff"].model, at="truth")
    with pytest.raises(ArgumentError, match="is a fit of"):
        hp.recovery(fitted["dyestuff"].model, at=fitted["sleepstudy_slopes"].reml)


SIMULATED = {
    "slopes": ("sleepstudy", "varying_slope", "Reaction ~ Days", "Subject", None),
    "own": ("Orthodont", "no_pooling", "distance ~ age * Sex", "Subject", None),
    "user": (
        "sleepstudy",
        "varying_slope",
        "Reaction ~ Days",
        "Subject",
        {
            "beta": P("MvNormal", mu=[250, 10], cov=[[400, -30], [-30, 9]]),
            "sd_Subject": P("Exponential", lam=0.1),
            "corr_Subject": P("LKJ", eta=2),
            "sigma": P("InverseGamma", alpha=3, beta=60),
        },
    ),
    "intercepts": ("Dyestuff", "varying_intercept", "Yield ~ 1", "Batch", None),
}


@pytest.mark.calibration
@pytest.mark.parametrize("name", SIMULATED)
def test_exact_engine_is_calibrated(name):
    data, pooling, formula, group, priors = SIMULATED[name]
    model = getattr(hp, pooling)(formula, hp.datasets.load(data), group, priors=priors)
    found = hp.calibrate(model, 200, seed=20240501, progress=False)
    assert found.is_calibrated, str(found)  # inside a band that holds over points and quantities
    assert found.table["inside"].sum() >= len(found.table) - 1
    assert found.n_distrusted <= 4


STRUCTURED = {
    "ar1": ("y ~ t + (1 | g)", {"residual": "ar1(t | g)"}),
    "us": ("y ~ t", {"residual": "us(t | g)"}),
    "sd by class": ("y ~ t + (1 | g)", {"sigma": "~ arm"}),
}


@pytest.mark.calibration
@pytest.mark.parametrize("name", STRUCTURED)
def test_residual_structures_are_calibrated(name):
    formula, how = STRUCTURED[name]
    rows = pd.DataFrame({"g": np.repeat(np.arange(12), 4), "t": np.tile(np.arange(4.0), 12)})
    rows["arm"] = np.where(rows["g"] % 2, "a", "b")
    rows["y"] = np.random.default_rng(3).normal(size=48)
    n = 200 if name == "us" else 400  # ten parameters take their time; its 400 were run once
    found = hp.calibrate(hp.Model(formula, rows, **how), n, seed=1, progress=False)
    assert found.table["inside"].sum() >= len(found.table) - 1, str(found)
    assert found.n_distrusted <= 8


@pytest.mark.calibration
@pytest.mark.parametrize("fault", ["temperature", "spread"])
def test_a_wrong_engine_is_not(monkeypatch, fault):
    right = MarginalModel.log_density

    def tempered(self, theta, sums=None):
        return 0.6 * right(self, theta, sums)

    def misread(self, theta, sums=None):
        return right(self, replace(theta, Lambda=0.6 * theta.Lambda))

    data = hp.datasets.load("sleepstudy")
    model = hp.varying_slope("Reaction ~ Days", data, "Subject")
    wrong = {"temperature": tempered, "spread": misread}[fault]
    monkeypatch.setattr(MarginalModel, "log_density", wrong)
    found = hp.calibrate(model, 200, seed=20240501, progress=False)
    assert not found.is_calibrated


@pytest.mark.calibration
def test_nuts_is_calibrated_on_a_small_model():
    model = hp.varying_intercept("Yield ~ 1", hp.datasets.load("Dyestuff"), "Batch")
    found = calibration.calibrate(model, 20, seed=1, engine="nuts", progress=False)
    assert found.is_calibrated, str(found)
