"""A prior of a standard deviation may be stated of its variance or of its precision."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import integrate, stats

import hierpool as hp
from hierpool.bayes.priors.power import scaled_prior
from hierpool.core.errors import PriorError

P = hp.Prior
STATED = {
    "gamma of the precision": P("Gamma", alpha=2.0, beta=3.0, of="precision"),
    "half t of the precision": P("HalfStudentT", nu=4, sigma=2.0, of="precision"),
    "lognormal of the variance": P("LogNormal", mu=0.3, sigma=0.5, of="variance"),
    "uniform of the variance": P("Uniform", lower=0.0, upper=4.0, of="variance"),
}
VAGUE = P("Gamma", alpha=0.001, beta=0.001, of="precision")


@pytest.mark.parametrize("name", STATED)
def test_density_is_the_slope_of_the_distribution(name):
    law = STATED[name].distribution
    x, h = np.array([0.4, 0.9, 1.7]), 1e-6
    slope = (law.cdf(x + h) - law.cdf(x - h)) / (2 * h)
    np.testing.assert_allclose(np.exp(law.logpdf(x)), slope, rtol=1e-6)
    mass = integrate.quad(lambda v: np.exp(law.logpdf(v)), law.ppf(0.1), law.isf(0.1))[0]
    assert mass == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("name", STATED)
def test_quantiles_are_the_inverse_of_the_distribution(name):
    law, q = STATED[name].distribution, np.array([1e-3, 0.2, 0.5, 0.99])
    np.testing.assert_allclose(law.cdf(law.ppf(q)), q, rtol=1e-10)
    np.testing.assert_allclose(law.sf(law.isf(q)), q, rtol=1e-10)
    np.testing.assert_allclose(law.cdf(1.3) + law.sf(1.3), 1.0, rtol=1e-12)


def test_a_gamma_of_the_precision_is_an_inverse_gamma_of_the_variance():
    x = np.geomspace(0.05, 20, 9)
    first = P("Gamma", alpha=1.5, beta=0.7, of="precision").distribution
    other = P("InverseGamma", alpha=1.5, beta=0.7, of="variance").distribution
    np.testing.assert_allclose(first.logpdf(x), other.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(first.ppf([0.1, 0.9]), other.ppf([0.1, 0.9]), rtol=1e-12)


def test_posterior_of_a_precision_is_the_conjugate_one():
    y = hp.datasets.load("Dyestuff")["Yield"].to_numpy(float)
    prior = P("Gamma", alpha=3.0, beta=5000.0, of="precision")
    model = hp.Model("Yield ~ 1", hp.datasets.load("Dyestuff"), {"beta": P("Flat"), "sigma": prior})
    fit = model.fit(engine="exact", seed=1, progress=False, draws=2000)
    squares = ((y - y.mean()) ** 2).sum()
    law = stats.gamma(3.0 + (len(y) - 1) / 2, 0, 1 / (5000.0 + squares / 2))
    precision = fit.variable("sigma").to_numpy().ravel() ** -2
    assert precision.mean() == pytest.approx(law.mean(), abs=4 * law.std() / np.sqrt(7000))
    assert stats.kstest(precision, law.cdf).statistic < 0.03


def test_a_vague_gamma_of_the_precisions_leaves_the_data_alone():
    rows = hp.datasets.load("sleepstudy")
    model = hp.Model(
        "Reaction ~ Days + (Days || Subject)", rows, {"Subject": VAGUE, "sigma": VAGUE}
    )
    fit = model.fit(engine="exact", seed=1, progress=False)
    reml = hp.Model("Reaction ~ Days + (Days || Subject)", rows).reml()
    found = fit.variance_components()["mean"] / reml.variance_components()["estimate"]
    assert found.between(0.97, 1.1).all()


def test_the_full_model_draws_the_sd_from_the_same_distribution():
    model = hp.Model(
        "Yield ~ 1 + (1 | Batch)",
        hp.datasets.load("Dyestuff"),
        {"sigma": STATED["gamma of the precision"], "Batch": STATED["lognormal of the variance"]},
    ).to_pymc()
    names = {v.name for v in model.free_RVs}
    assert {"sigma_precision", "sd_Batch_variance"} <= names
    sigma, sd = pm.draw([model["sigma"], model["sd_Batch"]], draws=2000, random_seed=1)
    for values, name in ((sigma, "gamma of the precision"), (sd, "lognormal of the variance")):
        assert stats.kstest(values.ravel(), STATED[name].distribution.cdf).pvalue > 1e-3


def test_it_says_so_and_survives_a_file(tmp_path):
    model = hp.Model("Yield ~ 1", hp.datasets.load("Dyestuff"), {"sigma": VAGUE})
    assert "Gamma(alpha=0.001, beta=0.001) of the precision" in str(model.priors)
    fit = model.fit(seed=1, progress=False, draws=100)
    fit.save(tmp_path / "fit.nc")
    assert hp.load_fit(tmp_path / "fit.nc").priors.sigma == VAGUE


@pytest.mark.parametrize("name", ["gamma of the precision", "uniform of the variance"])
def test_a_power_is_that_of_the_density_as_stated(name):
    prior, x = STATED[name], np.array([0.5, 0.9, 1.6])
    scaled = scaled_prior(prior, 1.5)
    assert scaled.of == prior.of
    ratio = scaled.log_density_as_stated(x) - 1.5 * prior.log_density_as_stated(x)
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-10)


def test_coefficients_have_no_variance():
    rows = hp.datasets.load("Dyestuff")
    with pytest.raises(PriorError, match="is not a standard deviation") as error:
        hp.Model("Yield ~ 1", rows, {"beta": P("Normal", mu=0, sigma=1, of="variance")})
    assert error.value.code == "support-of-prior"


def test_an_unknown_scale_is_named():
    with pytest.raises(PriorError, match="precision") as error:
        P("Gamma", alpha=1, beta=1, of="precison")
    assert error.value.code == "prior-parameters"
