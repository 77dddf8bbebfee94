"""Power-scaling: the scaled families, the distance, reweighting against refitting."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats
from scipy import stats

import hierpool as hp
from hierpool.bayes.priors import power
from hierpool.checks import sensitivity as scaling
from hierpool.checks.findings import boundary
from hierpool.core.errors import PriorError
from hierpool.simulation.sensitivity import _given_beta
from tests.support.cases import each

P = hp.Prior
FAMILIES = [
    P("Normal", mu=1, sigma=2),
    P("StudentT", nu=3, mu=1, sigma=2),
    P("Cauchy", alpha=1, beta=2),
    P("HalfNormal", sigma=3),
    P("HalfStudentT", nu=4, sigma=3),
    P("HalfCauchy", beta=2),
    P("Exponential", lam=0.5),
    P("Gamma", alpha=2, beta=0.7),
    P("InverseGamma", alpha=2, beta=3),
    P("LogNormal", mu=0.3, sigma=0.8),
    P("Uniform", lower=0, upper=9),
]


@each("exponent", [0.8, 1.25, 2.0])
@each("prior", FAMILIES, ids=lambda p: p.family)
def test_a_scaled_prior_has_the_power_of_the_density(prior, exponent):
    x = np.array([0.3, 1.0, 2.5, 7.0])
    scaled = power.scaled_prior(prior, exponent).distribution.logpdf(x)
    difference = scaled - exponent * prior.distribution.logpdf(x)
    np.testing.assert_allclose(difference, difference[0], atol=1e-10)


def test_scaled_joint_normal_and_lkj():
    joint = power.scaled_prior(P("MvNormal", mu=[1, 2], cov=[[2, 0.5], [0.5, 1]]), 2.0)
    np.testing.assert_allclose(joint.parameters["cov"], [[1, 0.25], [0.25, 0.5]])
    assert power.scaled_prior(P("LKJ", eta=3), 0.5) == P("LKJ", eta=2)
    with pytest.raises(PriorError):
        power.scaled_prior(P("HalfCauchy", beta=1), 0.5)  # its tail would not be integrable


def test_distance_is_that_of_arviz():
    rng = np.random.default_rng(0)
    x = rng.normal(size=500) + 3
    w = np.exp(0.3 * x) / np.exp(0.3 * x).sum()
    even = np.full(500, 1 / 500)
    expected = max(array_stats._cjs_dist(x, w), array_stats._cjs_dist(-x, w))
    assert scaling.distance(x, even, x, w) == pytest.approx(expected, rel=1e-6)
    assert scaling.distance(x, even, x, even) == 0
    assert scaling.distance(x, even, x + 100, even) > 0.8


@pytest.fixture(scope="module")
def informed() -> hp.PosteriorFit:
    """Priors that matter, moderately."""
    given = {
        "sd_Subject[Days]": P("HalfNormal", sigma=3),
        "corr_Subject": P("LKJ", eta=4),
        "Days": P("Normal", mu=0, sigma=4),
    }
    model = hp.Model(
        "Reaction ~ Days + (Days | Subject)", hp.datasets.load("sleepstudy"), priors=given
    )
    return model.fit(engine="exact", seed=1, progress=False)


def test_what_is_told_by_the_prior_moves_with_it(informed):
    found = hp.sensitivity(informed)
    table = found.table["sensitivity"]
    assert table["sd_Subject", "sd_Subject[Days]"] > scaling.SENSITIVITY_LIMIT
    assert table["beta", "beta[Days]"] > scaling.SENSITIVITY_LIMIT
    assert table["sigma", "sigma"] < 0.01
    assert table["likelihood", "sigma"] > scaling.SENSITIVITY_LIMIT
    assert "sd_Subject[Days] is sensitive to the prior of sd_Subject" in found.sentence
    shift = found.table["shift_twice"]
    assert shift["sd_Subject", "sd_Subject[Days]"] < 0 < -shift["beta", "beta[Days]"]
    assert "sd_Subject[Days]" in repr(found)


def test_defaults_do_not_matter_on_sleepstudy(fitted):
    found = hp.sensitivity(fitted["sleepstudy_slopes"].posterior)
    assert found.sentence.startswith("No quantity is sensitive")
    uniform = found.table.loc["corr_Subject", "sensitivity"]
    assert (uniform == 0).all()  # LKJ(1) is uniform: no power changes it


@pytest.mark.slow
def test_reweighting_agrees_with_refitting(informed, monkeypatch):
    weighted = hp.sensitivity(informed).table
    monkeypatch.setattr(scaling, "_TRUSTED_K", -np.inf)
    refitted = hp.sensitivity(informed).table
    prior = [c for c in ("beta", "sd_Subject", "corr_Subject") if c in weighted.index.levels[0]]
    assert refitted.loc[prior, "refitted"].all()
    a, b = (t.loc[prior, ["shift_half", "shift_twice"]] for t in (weighted, refitted))
    sound = weighted.loc[prior, "pareto_k"] < 0.5
    np.testing.assert_allclose(a[sound], b[sound], atol=0.15)
    assert refitted.loc["likelihood"].isna().any().any()  # nothing to refit: missing, no comfort


def test_the_stored_densities_are_never_read(informed):
    tree = informed.datatree.copy()
    spoiled = xr.zeros_like(tree["log_likelihood"].to_dataset()) + 1e6
    tree["log_likelihood"] = xr.DataTree(spoiled)
    other = hp.PosteriorFit(informed.design, informed.priors, tree, informed.status, informed.info)
    left, right = (hp.sensitivity(f).table for f in (informed, other))
    np.testing.assert_array_equal(left.to_numpy(dtype=float), right.to_numpy(dtype=float))


def test_likelihood_is_that_of_beta_and_theta(informed):
    posterior = informed.datatree["posterior"]
    beta = posterior["beta"].to_numpy().reshape(-1, 2)
    got = _given_beta(informed, beta)
    group = informed.design.groups[0]
    sd = posterior["sd_Subject"].to_numpy().reshape(-1, 2)
    corr = posterior["corr_Subject"].to_numpy().reshape(-1, 2, 2)
    same = group.grouping.codes[:, None] == group.grouping.codes[None, :]
    for k in (0, 1234):
        Sigma = np.diag(sd[k]) @ corr[k] @ np.diag(sd[k])
        V = same * (group.Z @ Sigma @ group.Z.T)
        V += informed.theta.sigma[k] ** 2 * np.eye(informed.design.n)
        expected = stats.multivariate_normal(informed.design.X @ beta[k], V)
        difference = got[k] - expected.logpdf(informed.design.y)
        assert difference == pytest.approx(got[0] - _reference(informed, beta, sd, corr, same))


def _reference(fit, beta, sd, corr, same) -> float:
    group = fit.design.groups[0]
    Sigma = np.diag(sd[0]) @ corr[0] @ np.diag(sd[0])
    V = same * (group.Z @ Sigma @ group.Z.T) + fit.theta.sigma[0] ** 2 * np.eye(fit.design.n)
    return float(stats.multivariate_normal(fit.design.X @ beta[0], V).logpdf(fit.design.y))


def test_no_pooling_shows_the_coefficients_of_levels(fitted):
    table = hp.sensitivity(fitted["sleepstudy_no_pooling"].posterior).table
    assert "coef_Subject" in table.index.get_level_values("prior")
    assert any(q.startswith("coef_Subject[") for q in table.index.get_level_values("quantity"))


def test_evidence_of_a_prior_that_decides_is_that_of_sensitivity():
    prior = hp.Prior("Gamma", alpha=1, beta=1, of="precision")
    dyes = hp.datasets.load("Dyestuff2")
    model = hp.Model("Yield ~ 1 + (1 | Batch)", dyes, priors={"sd_Batch": prior})
    fit = model.fit(seed=1, draws=500, progress=False)
    (spread,) = boundary.spreads(fit)
    evidence = boundary._scaled(fit, spread).iloc[0]
    expected = hp.sensitivity(fit).table.loc["sd_Batch", "sd_Batch[Intercept]"]
    for column in ("sensitivity", "shift_half", "shift_twice"):
        assert evidence[column] == pytest.approx(expected[column], rel=1e-8)
