"""The default priors are the table in the docs, and know neither units nor offsets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.exact.engine import sample_theta
from hierpool.bayes.exact.target import LogPosterior
from tests.support.cases import each

SLEEP = hp.datasets.load("sleepstudy")
SD_Y, MEAN_Y = float(SLEEP["Reaction"].std()), float(SLEEP["Reaction"].mean())
SD_X = float(SLEEP["Days"].std())


def test_intercept_is_normal_about_the_mean_response_and_slope_about_zero():
    block = hp.Model("Reaction ~ Days + (Days | Subject)", SLEEP).priors.population
    assert [p.family for p in block.priors] == ["Normal", "Normal"]
    np.testing.assert_allclose(block.mean, [MEAN_Y, 0.0], rtol=1e-12)
    np.testing.assert_allclose(block.sd, [2.5 * SD_Y, 2.5 * SD_Y / SD_X], rtol=1e-12)
    assert block.coding.means.tolist() == [0.0, 4.5]


def test_sds_are_half_t_at_the_sd_of_the_response():
    priors = hp.Model("Reaction ~ Days + (Days | Subject)", SLEEP).priors
    (block,) = priors.group_terms
    assert {p.family for p in (priors.sigma, *block.sd)} == {"HalfStudentT"}
    assert {p.parameters["nu"] for p in (priors.sigma, *block.sd)} == {4.0}
    scales = [p.parameters["sigma"] for p in (priors.sigma, *block.sd)]
    np.testing.assert_allclose(scales, [SD_Y, SD_Y, SD_Y / SD_X], rtol=1e-12)


def test_correlations_are_uniform_in_centred_columns():
    (block,) = hp.Model("Reaction ~ Days + (Days | Subject)", SLEEP).priors.group_terms
    assert block.eta == 1.0
    assert block.coding.is_centred


@pytest.mark.parametrize(
    "formula", ["Reaction ~ Days + (Days || Subject)", "Reaction ~ Days + (0 + Days | Subject)"]
)
def test_terms_that_do_not_correlate_with_an_intercept_are_scaled_and_not_centred(formula):
    for block in hp.Model(formula, SLEEP).priors.group_terms:
        assert block.eta is None
        assert not block.coding.is_centred
        slope = block.sd[block.terms.index("Days")]
        assert slope.parameters["sigma"] == pytest.approx(SD_Y / SD_X)


def test_no_pooling_has_the_population_priors_for_every_level():
    pooled = hp.complete_pooling("Reaction ~ Days", SLEEP).priors.population
    own = hp.no_pooling("Reaction ~ Days", SLEEP, "Subject").priors
    assert own.group_terms == ()
    assert own.unpooled is not None
    assert own.unpooled.coefficients.priors == pooled.priors


def test_dummies_that_span_the_constant_are_all_intercepts():
    data = hp.datasets.load("Machines")
    sd = float(data["score"].std())
    priors = hp.Model("score ~ 0 + Machine + (0 + Machine | Worker)", data).priors
    np.testing.assert_allclose(priors.population.mean, data["score"].mean())
    np.testing.assert_allclose(priors.population.sd, 2.5 * sd)
    np.testing.assert_allclose([p.parameters["sigma"] for p in priors.group_terms[0].sd], sd)


RECODED = {
    "offset_100": (lambda d: d.assign(Days=d["Days"] + 100), 0.0),
    "offset_million": (lambda d: d.assign(Days=d["Days"] + 1e6), 0.0),
    "other_unit_of_x": (lambda d: d.assign(Days=d["Days"] / 365.25), 0.0),
    "other_unit_of_y": (lambda d: d.assign(Reaction=d["Reaction"] / 1000), 180 * np.log(1000)),
    "offset_of_y": (lambda d: d.assign(Reaction=d["Reaction"] + 1e6), 0.0),
    "reversed": (lambda d: d.assign(Days=9.0 - d["Days"]), 0.0),
}
FORMULAS = {
    "slopes": "Reaction ~ Days + (Days | Subject)",
    "intercepts": "Reaction ~ Days + (1 | Subject)",
    "complete": "Reaction ~ Days",
}


def likelihoods(model: hp.Model, flip: bool = False) -> np.ndarray:
    """log p(y | theta) at twenty places of the prior, the same ones in every coding."""
    target = LogPosterior.from_design(model.design, model.priors)
    z = np.random.default_rng(1).normal(size=(20, target.coordinates.size)) * 0.8
    if flip and any(part.pairs for part in model.priors.group_terms):
        z[:, -1] *= -1  # a reversed predictor turns the correlation round
    return target.log_likelihood(z)


@each("formula", FORMULAS)
@each("recoded", RECODED)
def test_likelihood_of_the_prior_does_not_know_offset_and_unit(formula, recoded):
    change, constant = RECODED[recoded]
    here = likelihoods(hp.Model(FORMULAS[formula], SLEEP))
    there = likelihoods(hp.Model(FORMULAS[formula], change(SLEEP)), flip=recoded == "reversed")
    np.testing.assert_allclose(there, here + constant, rtol=1e-7)


@pytest.mark.parametrize("recoded", ["offset_100", "other_unit_of_x", "other_unit_of_y"])
def test_no_pooling_does_not_know_offset_and_unit(recoded):
    change, constant = RECODED[recoded]
    here, there = (
        likelihoods(hp.no_pooling("Reaction ~ Days", d, "Subject")) for d in (SLEEP, change(SLEEP))
    )
    np.testing.assert_allclose(there, here + constant, rtol=1e-7)


def test_uncorrelated_slopes_do_know_the_offset():
    """Centring would change that model, so its prior stays where the user's zero is."""
    formula = "Reaction ~ Days + (Days || Subject)"
    change, _ = RECODED["offset_100"]
    here, there = (likelihoods(hp.Model(formula, d)) for d in (SLEEP, change(SLEEP)))
    assert np.abs(here - there).max() > 1.0


def test_evidence_is_that_of_an_independent_prototype():
    """Per sd of the response, and under LKJ(2), the prior that the prototype had: -166.020."""
    model = hp.Model("Reaction ~ Days + (Days | Subject)", SLEEP)
    (block,) = model.priors.group_terms
    parts = (replace(block, eta=2.0), *model.priors.parts[1:])
    priors = replace(model.priors, parts=parts)
    target = LogPosterior.from_design(model.design, priors)
    found = sample_theta(target, 4, 4000, np.random.default_rng(1))
    standard = found.log_evidence + 180 * np.log(SD_Y)
    assert standard == pytest.approx(-166.020, abs=4 * found.log_evidence_error)
    assert found.log_evidence_error < 0.01


def test_prior_sd_of_an_interaction_is_that_of_its_column():
    data = hp.datasets.load("Orthodont")
    model = hp.Model("distance ~ age * Sex + (age | Subject)", data)
    block = model.priors.population
    column = model.design.X[:, -1]
    assert block.terms[-1] == "age:Sex[T.Female]"
    expected = 2.5 * data["distance"].std() / column.std(ddof=1)
    assert block.sd[-1] == pytest.approx(expected)


def test_table_states_every_prior_in_units_of_the_response():
    table = hp.Model("Reaction ~ Days + (Days | Subject)", SLEEP).priors.table()
    assert isinstance(table, pd.DataFrame)
    assert table.index.tolist() == [
        "beta[Intercept]",
        "beta[Days]",
        "sd_Subject[Intercept]",
        "sd_Subject[Days]",
        "corr_Subject",
        "sigma",
    ]
    assert "at the mean of the predictors" in table.loc["beta[Intercept]", "meaning"]
    assert "per unit of Days" in table.loc["sd_Subject[Days]", "meaning"]
    assert table.loc["corr_Subject", "prior"] == "LKJ(eta=1)"


RESPONSES = {
    "negbinomial": ("shape", "coefficient of variation of y beyond Poisson: 95 % below 2.78"),
    "gamma": ("shape", "coefficient of variation of y: 95 % below 2.78"),
    "beta": ("precision", "sd of y where its mean is 0.5: 95 % below 0.47"),
    "student": ("nu", "0.0027 if Gaussian: 95 % below 0.0465"),
    "zero_inflated_poisson": ("zero_inflation", "probability of an extra zero of y: 95 % in"),
    "hurdle_poisson": ("hurdle", "probability of a zero of y: 95 % in [0.025, 0.975]"),
    "ordinal": ("thresholds", "each of the 4 ratings of y: 95 % in [0.0084, 0.708]; every dis"),
}


@each("family", RESPONSES)
def test_parameters_of_families_are_told_in_what_people_think_in(family):
    y = np.tile([0.2, 0.4, 0.6, 0.8] if family == "beta" else [1.0, 2.0, 3.0, 4.0], 5)
    if family in {"zero_inflated_poisson", "hurdle_poisson"}:
        y[::4] = 0
    data = pd.DataFrame({"y": y})
    name, words = RESPONSES[family]
    priors = hp.Model("y ~ 1", data, family=family).priors
    assert words in priors.table()["meaning"][name]
