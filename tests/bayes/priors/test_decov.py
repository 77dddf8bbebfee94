"""The decov prior: standard deviations in units of sigma, and correlations, as rstanarm has them."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import integrate, stats

import hierpool as hp
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.parts.decov import Decov
from hierpool.bayes.priors.prior import Prior
from hierpool.core.errors import PriorError
from tests.support.references import reference

MODELS = {"sleepstudy__rs": "Subject", "radon__ri": "county"}
ONE = Prior("Decov")


def rstanarm_model(name: str) -> tuple[hp.Model, dict]:
    ref = reference("rstanarm", name)
    rows = hp.datasets.load(ref["dataset"])
    plain = hp.Model(ref["formula"], rows)
    scale = plain.design.y.std(ddof=1)
    priors = {"sigma": Prior("Exponential", lam=1 / scale), MODELS[name]: ONE}
    return plain.with_priors(priors), ref


@pytest.mark.parametrize("name", MODELS)
def test_posterior_is_that_of_stan(name):
    model, ref = rstanarm_model(name)
    fit = model.fit(engine="exact", seed=1, draws=4000, progress=False)
    stan = dict(zip(ref["names"], zip(ref["mean"], ref["mcse_mean"], strict=True), strict=True))
    factor, terms = MODELS[name], ["(Intercept)", *model.design.terms[1:]]
    found = {"sigma": fit.variable("sigma").to_numpy().ravel()}
    sd = fit.variable(f"sd_{factor}").to_numpy()
    sd = sd.reshape(-1, sd.shape[-1])
    corr = np.ones((1, 1, 1))
    if sd.shape[1] > 1:
        corr = fit.variable(f"corr_{factor}").to_numpy().reshape(-1, 2, 2)
    for k in range(sd.shape[1]):
        for m in range(k + 1):
            covariance = sd[:, k] * sd[:, m] * corr[:, k, m]
            found[f"Sigma[{factor}:{terms[k]},{terms[m]}]"] = covariance
    for key, draws in found.items():
        mean, error = stan[key]
        assert abs(draws.mean() - mean) < 4.5 * np.hypot(error, draws.std() / np.sqrt(12_000)), key


@pytest.mark.parametrize("concentration", [1.0, 2.5])
def test_density_of_the_sds_is_that_of_their_draws(concentration):
    decov = Decov(2, True, 1.5, 0.8, concentration)
    a, b = np.geomspace(0.01, 3, 301), np.geomspace(0.01, 2, 301)
    pairs = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(decov.log_density(pairs, np.full(len(pairs), 3.0))).reshape(301, 301)
    total = integrate.trapezoid(integrate.trapezoid(density, b), a)
    rng = np.random.default_rng(1)
    scalars = np.stack([law.distribution.rvs(200_000, random_state=rng) for law in decov.laws], 1)
    sds = decov.sds(scalars, np.full(200_000, 3.0))
    inside = ((sds > 0.01).all(axis=1) & (sds[:, 0] < 3) & (sds[:, 1] < 2)).mean()
    assert inside == pytest.approx(total, abs=0.004)


def test_shares_of_several_terms_are_exchangeable_and_add_up():
    decov = Decov(4, True, 1.0, 1.0, 1.7)
    rng = np.random.default_rng(2)
    scalars = np.stack([law.distribution.rvs(100_000, random_state=rng) for law in decov.laws], 1)
    variances = decov.sds(scalars, np.ones(100_000)) ** 2
    np.testing.assert_allclose(variances.sum(axis=1), 4 * scalars[:, 0] ** 2, rtol=1e-10)
    shares = variances / variances.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares.mean(axis=0), 0.25, atol=0.004)
    law = stats.beta(1.7, 3 * 1.7)  # margin of a symmetric Dirichlet distribution
    assert max(stats.kstest(s, law.cdf).statistic for s in shares.T) < 0.006


def test_a_single_term_has_a_gamma_in_units_of_sigma():
    model = hp.Model("Yield ~ 1 + (1 | Batch)", hp.datasets.load("Dyestuff"), {"Batch": ONE})
    coordinates = PriorCoordinates.from_priors(model.priors)
    z = np.random.default_rng(3).standard_normal((50_000, coordinates.size))
    theta = coordinates.theta(z)
    assert (
        stats.kstest(theta.values["sd_Batch"][:, 0] / theta.sigma, stats.expon.cdf).statistic < 0.01
    )


@pytest.mark.slow
def test_the_full_model_draws_what_the_exact_engine_has_as_its_prior():
    model = hp.Model(
        "Reaction ~ Days + (Days | Subject)", hp.datasets.load("sleepstudy"), {"Subject": ONE}
    )
    full = model.to_pymc()
    sigma, sds = pm.draw([full["sigma"], full["sd_Subject"]], draws=2000, random_seed=1)
    coordinates = PriorCoordinates.from_priors(model.priors)
    theta = coordinates.theta(np.random.default_rng(4).standard_normal((20_000, coordinates.size)))
    for k in range(2):
        ours = theta.values["sd_Subject"][:, k] / theta.sigma
        assert stats.ks_2samp(sds[:, k] / sigma, ours).pvalue > 1e-3


def test_uncorrelated_terms_have_sizes_of_their_own():
    rows = hp.datasets.load("sleepstudy")
    model = hp.Model("Reaction ~ Days + (Days || Subject)", rows, {"Subject": ONE})
    (decov,) = [part.decov for part in model.priors.group_terms]
    assert not decov.is_joint
    fit = model.fit(engine="exact", seed=1, progress=False)
    assert fit.status.word == "good"


def test_it_prints_and_survives_a_file(tmp_path):
    model = hp.Model(
        "Yield ~ 1 + (1 | Batch)",
        hp.datasets.load("Dyestuff"),
        {"Batch": Prior("Decov", scale=2.0)},
    )
    text = str(model.priors)
    assert "Decov(regularization=1, concentration=1, shape=1, scale=2), jointly" in text
    assert "in units of sigma" in text
    fit = model.fit(seed=1, progress=False, draws=100)
    fit.save(tmp_path / "fit.nc")
    assert (
        hp.load_fit(tmp_path / "fit.nc").priors.group_terms[0].decov
        == model.priors.group_terms[0].decov
    )


def test_sensitivity_says_what_the_prior_moves():
    model = hp.Model("Yield ~ 1 + (1 | Batch)", hp.datasets.load("Dyestuff"), {"Batch": ONE})
    fit = model.fit(seed=1, progress=False)
    table = hp.sensitivity(fit).table
    assert np.isfinite(table.loc["sd_Batch", "sensitivity"]).all()


DAYS = "Reaction ~ Days + (Days | Subject)"


@pytest.mark.parametrize(
    ("priors", "code"),
    [
        ({"sigma": ONE}, "support-of-prior"),
        ({"sd_Subject[Days]": ONE}, "support-of-prior"),
        ({"beta": ONE}, "support-of-prior"),
        ({"Subject": ONE, "sd_Subject[Days]": Prior("HalfNormal", sigma=1)}, "prior-given-twice"),
    ],
)
def test_it_is_for_a_factor_as_a_whole(priors, code):
    with pytest.raises(PriorError) as error:
        hp.Model(DAYS, hp.datasets.load("sleepstudy"), priors)
    assert error.value.code == code


def test_without_sigma_it_has_no_unit():
    rows = hp.datasets.load("eight_schools")
    with pytest.raises(PriorError, match="no sigma"):
        hp.Model("effect ~ 1 + (1 | school)", rows, {"school": ONE}, known_se="se")
