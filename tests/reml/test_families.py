"""Maximum likelihood of families against lme4, glmmTMB and ordinal, and what it says where there is none.

References: R 4.2, lme4 1.1-31 (nAGQ = 25), ordinal 2022.11-16 (clmm, nAGQ = 25), glmmTMB 1.1.5 (Laplace),
on the table that ``simulated`` makes (tests/reml/conftest.py).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import UnsupportedModelError
from hierpool.reml.families.criterion import FamilyCriterion

REFERENCES = [
    # response, family, log-likelihood, beta, sd, thresholds
    ("b", "bernoulli", -209.19585344, [0.158028306, 0.461092903], 0.825303559, []),
    ("c", "poisson", -585.382777, [0.431506750, 0.491736005], 0.753914976, []),
    ("o", "ordinal", -275.40972975, [0.966870756], 1.44303777, [-1.652111176, 1.809583880]),
]


@pytest.mark.parametrize(
    ("response", "family", "loglik", "beta", "sd", "thresholds"),
    REFERENCES,
    ids=lambda v: str(v)[:9],
)
def test_quadrature_agrees_with_adaptive_gauss_hermite(
    simulated: pd.DataFrame,
    response: str,
    family: str,
    loglik: float,
    beta: list[float],
    sd: float,
    thresholds: list[float],
) -> None:
    fit = hp.Model(f"{response} ~ x + (1 | g)", simulated, family=family).ml()
    assert fit.status.word == "converged"
    np.testing.assert_allclose(fit.loglik, loglik, atol=1e-5)
    np.testing.assert_allclose(fit.estimate.beta, beta, atol=1e-4)
    np.testing.assert_allclose(fit.estimate.only.sd, sd, atol=1e-4)
    np.testing.assert_allclose(fit.estimate.par, thresholds, atol=1e-4)


@pytest.mark.parametrize(
    ("response", "family", "loglik", "beta", "sds"),
    [
        ("b", "bernoulli", -207.38942199, [0.136615472, 0.473492219], [0.867640692, 0.412806854]),
        ("c", "poisson", -584.61168521, [0.424559567, 0.485012150], [0.748367716, 0.100136191]),
    ],
)
def test_crossed_factors_are_the_laplace_approximation_of_glmmtmb(
    simulated: pd.DataFrame,
    response: str,
    family: str,
    loglik: float,
    beta: list[float],
    sds: list[float],
) -> None:
    fit = hp.Model(f"{response} ~ x + (1 | g) + (1 | h)", simulated, family=family).ml()
    assert "Laplace approximation" in fit.status.sentence
    np.testing.assert_allclose(fit.loglik, loglik, atol=1e-5)
    np.testing.assert_allclose(fit.estimate.beta, beta, atol=1e-4)
    np.testing.assert_allclose([f.sd[0] for f in fit.estimate.factors], sds, atol=1e-4)


def test_a_negative_binomial_agrees_with_glmmtmb(simulated: pd.DataFrame) -> None:
    fit = hp.complete_pooling("nb ~ x", simulated, family="negbinomial").ml()
    np.testing.assert_allclose(fit.loglik, -587.90909456, atol=1e-5)
    np.testing.assert_allclose(fit.estimate.par, 0.678617775, atol=1e-4)
    table = fit.variance_components()
    assert table.loc[("response", "shape", "", ""), "se"] == pytest.approx(
        fit.estimate.family.par_se[0]
    )


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "negbinomial", "student", "ordinal"])
@pytest.mark.parametrize("formula", ["x + (1 | g)", "x + (x | g)"])
def test_gradients_are_those_of_the_log_likelihood(
    simulated: pd.DataFrame, family: str, formula: str
) -> None:
    response = {"bernoulli": "b", "ordinal": "o"}.get(family, "c")
    c = FamilyCriterion.from_design(
        hp.Model(f"{response} ~ {formula}", simulated, family=family).design
    )
    x = np.concatenate([np.full(c.p, 0.2), np.full(c.k, 0.5), c.parameters.start(c.design)])
    h = 1e-4
    up, down = (c.values(x + s * h * np.eye(c.size)) for s in (1, -1))
    np.testing.assert_allclose(c.gradients(x[None])[0], (up - down) / (2 * h), rtol=1e-4, atol=2e-3)


def test_the_fit_says_how_far_off_the_laplace_approximation_is(simulated: pd.DataFrame) -> None:
    fit = hp.Model("b ~ x + (1 | g)", simulated, family="bernoulli").ml()
    own = fit.estimate.family
    assert own is not None
    assert f"too low by {fit.loglik - own.laplace:.2g}" in fit.status.sentence


def test_of_several_factors_it_says_how_far_off_it_is_for_the_largest(
    simulated: pd.DataFrame,
) -> None:
    """With the other factor's sd at zero that is what the fit without it says."""
    table = simulated.assign(k=np.arange(len(simulated)) % 2)
    both = hp.Model("b ~ x + (1 | g) + (1 | k)", table, family="bernoulli")
    c = FamilyCriterion.from_design(both.design)
    alone = FamilyCriterion.from_design(
        hp.Model("b ~ x + (1 | g)", table, family="bernoulli").design
    )
    x, single = np.array([0.1, 0.4, 0.8, 0.0]), np.array([0.1, 0.4, 0.8])
    expected = alone.laplace(single).log_density[0] - alone.values(single[None])[0]
    assert c.gap_of_largest(x, c.laplace(x)) == pytest.approx(expected, abs=1e-6)
    assert expected < -0.2
    sentence = both.ml().status.sentence
    assert "For 'g' alone, with the effects of 'k' held" in sentence
    assert "too low by 0.3" in sentence


def test_modes_and_errors_hold_together(simulated: pd.DataFrame) -> None:
    fit = hp.Model("c ~ x + (x | g)", simulated, family="poisson").ml()
    e = fit.estimate.only
    np.testing.assert_allclose(
        fit.coefficients()["estimate"].to_numpy().reshape(-1, 2), fit.estimate.beta + e.u
    )
    assert (
        fit.random_effects()["se"].to_numpy() >= fit.random_effects(True)["se"].to_numpy()
    ).all()
    eta = np.log(fit.fitted().to_numpy())
    design = fit.design
    group = design.groups[0]
    expected = design.X @ fit.estimate.beta + np.einsum("nq,nq->n", group.Z, e.u[group.codes])
    np.testing.assert_allclose(eta, expected, atol=1e-8)
    np.testing.assert_allclose(fit.residuals(), simulated["c"] - fit.fitted())
    # at the mode the slopes of the rows balance the prior's
    inverse = np.linalg.inv(e.corr * np.outer(e.sd, e.sd))
    slope = np.zeros_like(e.u)
    np.add.at(slope, group.codes, group.Z * (simulated["c"] - fit.fitted()).to_numpy()[:, None])
    np.testing.assert_allclose(slope, e.u @ inverse, atol=2e-5)


def test_tests_are_normal_and_other_degrees_of_freedom_are_refused(simulated: pd.DataFrame) -> None:
    fit = hp.Model("c ~ x + (1 | g)", simulated, family="poisson").ml()
    table = fit.fixed_effects()
    assert np.isinf(table["df"]).all()
    assert "z" in table.columns
    with pytest.raises(UnsupportedModelError, match="normal-tests-only"):
        fit.fixed_effects(df="satterthwaite")


def test_separation_is_told_by_column(simulated: pd.DataFrame) -> None:
    table = simulated.assign(high=(simulated["x"] > 1) * 1)
    table.loc[table["high"] == 1, "b"] = 1
    fit = hp.Model("b ~ high + (1 | g)", table, family="bernoulli").ml()
    assert fit.status.word == "failed"
    assert "separation: 'high' runs to infinity" in fit.status.sentence
    assert fit.estimate.beta[1] != fit.estimate.beta[1]
    assert np.isfinite(fit.estimate.beta[0])


def test_counts_without_an_event_are_separated_too(simulated: pd.DataFrame) -> None:
    table = simulated.assign(high=(simulated["x"] > 1) * 1)
    table.loc[table["high"] == 1, "c"] = 0
    fit = hp.complete_pooling("c ~ high", table, family="poisson").ml()
    assert "'high' runs to infinity" in fit.status.sentence


def test_groups_that_are_separated_are_missing_without_pooling(simulated: pd.DataFrame) -> None:
    table = simulated.copy()
    table.loc[table["g"] == "g03", "b"] = 1
    fit = hp.no_pooling("b ~ 1", table, "g", family="bernoulli").ml()
    coef = fit.coefficients()["estimate"]
    assert np.isnan(coef.loc[("g", "g03", "Intercept")])
    rows = table[table["g"] == "g00"]
    assert coef.loc[("g", "g00", "Intercept")] == pytest.approx(
        np.log(rows["b"].mean() / (1 - rows["b"].mean())), abs=1e-6
    )
    assert "g03" in fit.status.sentence


def test_responses_alike_within_groups_have_no_finite_sd() -> None:
    table = pd.DataFrame({"y": np.repeat([0, 1], 20), "g": np.repeat(list("abcdefgh"), 5)})
    fit = hp.Model("y ~ 1 + (1 | g)", table, family="bernoulli").ml()
    assert fit.status.word == "failed"
    assert "runs to infinity" in fit.status.sentence


def test_counts_without_overdispersion_run_to_poisson(simulated: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    table = simulated.assign(y=rng.binomial(5, 0.5, len(simulated)))
    fit = hp.Model("y ~ x + (1 | g)", table, family="negbinomial").ml()
    assert fit.status.word == "singular"
    assert "family='poisson'" in fit.status.sentence
    poisson = hp.Model("y ~ x + (1 | g)", table, family="poisson").ml()
    assert fit.loglik == pytest.approx(poisson.loglik, abs=1e-3)


def test_ratings_cannot_be_left_unpooled(simulated: pd.DataFrame) -> None:
    with pytest.raises(UnsupportedModelError, match="no-pooling-of-ratings"):
        hp.no_pooling("o ~ x", simulated, "g", family="ordinal").ml()
