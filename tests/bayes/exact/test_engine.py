"""The exact engine draws from the posterior: quadrature and prior sampling say what that is."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import arviz as az
import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.exact import theta_proposal
from hierpool.bayes.exact.engine import sample_theta
from hierpool.bayes.exact.proposal import Mixture, Student
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.exact.theta_proposal import ThetaProposal
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.priors.prior import Prior
from hierpool.bayes.run import SamplerSettings
from hierpool.model import fitted as fitted_by
from tests.laws.quadrature import OneWay, Slopes
from tests.support.cases import each

ONE_WAY = {
    "dyestuff": ("Dyestuff", "Yield", "Batch"),
    "dyestuff2": ("Dyestuff2", "Yield", "Batch"),
    "rail": ("Rail", "travel", "Rail"),
}
LIMIT = 4.0  # z-score above which two Monte Carlo numbers disagree


@cache
def quadrature(name: str) -> OneWay:
    dataset, response, factor = ONE_WAY[name]
    data = hp.datasets.load(dataset)
    return OneWay.of(data[response].to_numpy(float), data[factor].cat.codes.to_numpy())


@cache
def truth(name: str) -> tuple[float, dict[str, tuple[float, float]]]:
    return quadrature(name).log_evidence, quadrature(name).moments()


def variables(name: str) -> dict[str, str]:
    factor = ONE_WAY[name][2]
    return {"sigma": "sigma", "tau": f"sd_{factor}", "beta": "beta"}


def disagreements(name: str, fit: hp.PosteriorFit) -> dict[str, float]:
    """z-scores of means, sds and evidence that are further than ``LIMIT`` from the quadrature."""
    evidence, moments = truth(name)
    z = {
        "evidence": (fit.info["log_marginal_likelihood"] - evidence)
        / fit.info["log_marginal_likelihood_error"]
    }
    for key, variable in variables(name).items():
        draws = fit.datatree["posterior"][variable].squeeze(drop=True)
        mean, sd = moments[key]
        error = {m: float(az.mcse(draws, method=m)) for m in ("mean", "sd")}
        z[f"mean of {key}"] = (float(draws.mean()) - mean) / error["mean"]
        z[f"sd of {key}"] = (float(draws.std(ddof=1)) - sd) / error["sd"]
    return {what: float(value) for what, value in z.items() if abs(value) > LIMIT}


def with_sd_prior(priors: ModelPriors, factor: float) -> ModelPriors:
    """The priors of sds scaled: what a wrong engine would target."""
    (part,) = priors.group_terms
    scaled = tuple(
        Prior("HalfStudentT", nu=p.parameters["nu"], sigma=factor * p.parameters["sigma"])
        for p in part.sd
    )
    parts = [replace(p, sd=scaled) if p is part else p for p in priors.parts]
    return replace(priors, parts=tuple(parts))


@pytest.mark.parametrize("name", ONE_WAY)
def test_posterior_and_evidence_are_those_of_the_quadrature(fitted, name):
    assert disagreements(name, fitted[name].posterior) == {}


@pytest.mark.parametrize("name", ["dyestuff", "dyestuff2"])
def test_engine_with_a_wrong_prior_is_found_out(fitted, name):
    """The sd of the levels under a prior twice as wide: the comparison above must fail."""
    model = fitted[name].model
    settings = SamplerSettings(4000, 1000, 4, None, 1, "nutpie", None, False, {})
    wrong = fitted_by(model.design, with_sd_prior(model.priors, 2.0), "exact", settings)
    found = disagreements(name, wrong)
    assert "evidence" in found
    assert "mean of tau" in found


def tiny() -> pd.DataFrame:
    """Four subjects of three rows."""
    data = hp.datasets.load("sleepstudy")
    data = data[data["Subject"].isin(["308", "309", "310", "330"]) & data["Days"].isin([0, 3, 7])]
    return data.assign(Subject=data["Subject"].cat.remove_unused_categories())


def test_correlated_slopes_are_those_of_prior_sampling():
    """Centring, the prior of the sds in centred columns, LKJ: nothing of them is shared."""
    data = tiny()
    truth = Slopes.of(
        data["Reaction"].to_numpy(float),
        data["Days"].to_numpy(float),
        data["Subject"].cat.codes.to_numpy(),
        draws=60_000,
        seed=1,
    )
    fit = hp.Model("Reaction ~ Days + (Days | Subject)", data).fit(engine="exact", seed=1)
    posterior = fit.datatree["posterior"]
    evidence, error = truth.log_evidence
    both = np.hypot(error, fit.info["log_marginal_likelihood_error"])
    assert abs(fit.info["log_marginal_likelihood"] - evidence) < LIMIT * both
    quantities = {
        "sigma": (lambda t: t.sigma, posterior["sigma"]),
        "intercept sd": (lambda t: t.sd[:, 0], posterior["sd_Subject"][..., 0]),
        "slope sd": (lambda t: t.sd[:, 1], posterior["sd_Subject"][..., 1]),
        "correlation": (lambda t: t.corr, posterior["corr_Subject"][..., 0, 1]),
    }
    for name, (of, draws) in quantities.items():
        mean, error = truth.mean(of)
        both = np.hypot(error, float(az.mcse(draws)))
        assert abs(float(draws.mean()) - mean) < LIMIT * both, name


@pytest.mark.parametrize("name", ["dyestuff", pytest.param("dyestuff2", marks=pytest.mark.slow)])
def test_error_of_the_evidence_is_honest(fitted, name):
    """Over 40 repetitions the z-scores are spread as standard normals are."""
    model = fitted[name].model
    target = LogPosterior.from_design(model.design, model.priors)
    found = [sample_theta(target, 4, 250, np.random.default_rng(s)) for s in range(40)]
    evidence = truth(name)[0]
    z = np.array([(f.log_evidence - evidence) / f.log_evidence_error for f in found])
    assert 0.65 < np.sqrt((z**2).mean()) < 1.4
    assert abs(z.mean()) < 4 / np.sqrt(40)
    assert np.abs(z).max() < 4


def test_draws_of_z_follow_the_target(fitted):
    """Self-normalised importance weights of the proposals give the means of the chains."""
    model = fitted["sleepstudy_slopes"].model
    found = sample_theta(
        LogPosterior.from_design(model.design, model.priors), 4, 1000, np.random.default_rng(1)
    )
    weights = np.exp(found.importance_weights - found.importance_weights.max())
    weights /= weights.sum()
    points = found.importance_points
    mean = weights @ points
    error = np.sqrt(weights**2 @ (points - mean) ** 2)
    chains = found.z.reshape(-1, points.shape[1])
    ess = np.array([float(az.ess(found.z[..., k])) for k in range(points.shape[1])])
    both = np.hypot(error, chains.std(axis=0) / np.sqrt(ess))
    assert (np.abs(chains.mean(axis=0) - mean) < LIMIT * both).all()


def test_log_posterior_is_normalised(fitted):
    """Minus its mean is the entropy; the value at a draw is target less evidence."""
    model = fitted["dyestuff"].model
    target = LogPosterior.from_design(model.design, model.priors)
    found = sample_theta(target, 2, 100, np.random.default_rng(1))
    again = target(found.z.reshape(-1, 2)) - found.log_evidence
    np.testing.assert_allclose(found.log_posterior.ravel(), again, rtol=1e-10)


@pytest.mark.parametrize("name", ["sleepstudy_slopes", "radon_intercepts", "sleepstudy_no_pooling"])
def test_same_seed_same_draws(fitted, name):
    model = fitted[name].model
    one, other = (model.fit(engine="auto", draws=200, seed=5, progress=False) for _ in range(2))
    for variable in one.datatree["posterior"].data_vars:
        values = [f.datatree["posterior"][variable].to_numpy() for f in (one, other)]
        np.testing.assert_array_equal(*values)
    different = model.fit(engine="auto", draws=200, seed=6, progress=False)
    assert (different.datatree["posterior"]["sigma"] != one.datatree["posterior"]["sigma"]).any()


def test_draws_do_not_depend_on_the_cores(fitted, monkeypatch):
    model = fitted["radon_slopes"].model
    found = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        fit = model.fit(engine="auto", draws=200, seed=5, progress=False)
        found.append(fit.datatree["posterior"]["u_county"].to_numpy())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


MODELS = [
    "sleepstudy_complete",
    "sleepstudy_intercepts",
    "sleepstudy_uncorrelated",
    "sleepstudy_slopes",
    "sleepstudy_no_pooling",
    "orthodont_slopes",
    "boars_slopes",
    "dyestuff2",
]


@each("name", MODELS)
def test_draws_are_good_and_say_so(fitted, name):
    fit = fitted[name].posterior
    assert fit.status.word == "good"
    assert fit.info["engine"] == "exact"
    assert fit.info["pareto_k"] < 0.7
    table = fit.summary()
    assert (table["r_hat"] < 1.01).all()
    assert (table[["ess_bulk", "ess_tail"]] > 400).all().all()


@each("name", MODELS)
def test_average_of_conditional_means_is_the_mean_of_the_draws(fitted, name):
    fit = fitted[name].posterior
    posterior = fit.datatree["posterior"]
    for variable, values in fit.conditional_means().items():
        if not values.size:
            continue
        draws = posterior[variable].to_numpy().reshape(len(values), -1)
        gap = values.reshape(len(values), -1).mean(axis=0) - draws.mean(axis=0)
        # the conditional spread about the conditional means is drawn independently
        inner = (draws - values.reshape(len(values), -1)).std(axis=0) / np.sqrt(len(values))
        assert np.abs(gap / inner).max() < 5


@each("name", MODELS)
def test_no_stored_number_is_missing(fitted, name):
    tree = fitted[name].posterior.datatree
    for group in ("posterior", "theta", "sample_stats", "log_likelihood"):
        for variable, values in tree[group].data_vars.items():
            assert np.isfinite(values.to_numpy().astype(float)).all(), (group, variable)


def test_correlations_are_symmetric_with_ones_on_the_diagonal(fitted):
    corr = fitted["sleepstudy_slopes"].posterior.datatree["posterior"]["corr_Subject"].to_numpy()
    np.testing.assert_array_equal(np.diagonal(corr, axis1=-2, axis2=-1), 1.0)
    np.testing.assert_allclose(corr, np.swapaxes(corr, -1, -2), atol=1e-14)
    assert np.abs(corr).max() <= 1.0


def test_user_spread_is_the_spread_of_the_drawn_theta(fitted):
    """sd and corr in the user's coding, from theta in centred columns, by the map written out."""
    fit = fitted["sleepstudy_slopes"].posterior
    theta, posterior = fit.theta, fit.datatree["posterior"]
    days = fit.design.frame["Days"].mean()
    back = np.array([[1.0, -days], [0.0, 1.0]])
    own = theta.values
    root = back @ (own["sd_Subject"][:, :, None] * own["corr_chol_Subject"])
    Sigma = root @ np.swapaxes(root, 1, 2)
    sd = np.sqrt(np.diagonal(Sigma, axis1=1, axis2=2))
    np.testing.assert_allclose(posterior["sd_Subject"].to_numpy().reshape(-1, 2), sd, rtol=1e-10)
    corr = posterior["corr_Subject"].to_numpy()[..., 0, 1].reshape(-1)
    np.testing.assert_allclose(corr, Sigma[:, 0, 1] / sd.prod(axis=1), rtol=1e-10)


@pytest.mark.parametrize(
    "name", ["sleepstudy_slopes", "sleepstudy_no_pooling", "sleepstudy_complete"]
)
def test_stored_log_likelihood_is_each_row_given_all_others(fitted, name):
    fit = fitted[name].posterior
    stored = fit.datatree["log_likelihood"]["y"].to_numpy().reshape(4000, -1)
    mean, sd = fit.integrated.prediction_of_rows(fit.working_theta[:5])
    y = fit.design.y
    expected = -0.5 * np.log(2 * np.pi) - np.log(sd) - 0.5 * ((y - mean) / sd) ** 2
    np.testing.assert_allclose(stored[:5], expected, rtol=1e-8)


def test_rounding_makes_no_mode_where_there_are_as_many_coefficients_as_rows():
    """Below 1e-6 sds of the response the cross-products have no digits: sigma must not go there."""
    data = pd.DataFrame(
        {"g": list("aabbcc"), "x": [1.0, 2, 1, 2, 1, 3], "y": [2.0, 3, 4, 4.5, 1, 2]}
    )
    fit = hp.no_pooling("y ~ x", data, group="g").fit("exact", seed=1)
    assert fit.status.word == "good"
    assert 0.05 < float(fit.datatree["posterior"]["sigma"].median()) < 2.0


@each("sds", [1, 6, 7, 30, 400])
def test_a_proposal_has_room_for_any_number_of_standard_deviations(sds):
    for share in (theta_proposal.COLLAPSE_LEAST, theta_proposal.COLLAPSE_MOST):
        collapse = theta_proposal._bounded(np.full(sds, share))
        one = Mixture((Student(np.zeros(1), np.eye(1), np.inf),), np.ones(1))
        moving = ThetaProposal(one, one, collapse).whole.weights[0]
        assert moving >= 0.3 - 1e-12
        if sds <= 6:  # as it is where there is room
            np.testing.assert_array_equal(collapse, share)
