"""The PyMC model and what the exact engine integrates are one joint density of y, beta, u and theta."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.bayes.nuts import pymc_model
from hierpool.bayes.parts.scalar import ScalarPart
from hierpool.bayes.parts.thresholds import ThresholdsPart
from hierpool.bayes.theta import integrate_family, root_of
from hierpool.fits.response_draws import linear_predictor
from tests.bayes.nuts.test_pymc_model import evaluate, log_lkj

MODELS = {
    "bernoulli": ("y ~ x + (x | g)", "bernoulli", None),
    "probit": ("y ~ x + (1 | g)", "bernoulli", "probit"),
    "cloglog": ("y ~ x + (1 | g)", "bernoulli", "cloglog"),
    "binomial": ("k / n ~ x + (x || g)", "binomial", None),
    "poisson with exposure": ("c ~ x + offset(o) + (1 | g)", "poisson", None),
    "negbinomial": ("c ~ x + (1 | g)", "negbinomial", None),
    "student": ("t ~ x + (x | g)", "student", None),
    "gamma": ("p ~ x + (1 | g)", "gamma", None),
    "beta": ("s ~ x + (1 | g)", "beta", None),
    "ordinal": ("r ~ x + (1 | g)", "ordinal", None),
    "ordinal probit": ("r ~ x + (1 | g)", "ordinal", "probit"),
    "zero-inflated": ("c ~ x + (1 | g)", "zero_inflated_negbinomial", None),
    "hurdle": ("c ~ x + (1 | g)", "hurdle_poisson", None),
    "two factors": ("y ~ x + (1 | g) + (1 | h)", "bernoulli", None),
}


def table() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 40
    x = rng.normal(3.0, 2.0, n)
    return pd.DataFrame(
        {
            "x": x,
            "o": rng.normal(size=n),
            "g": np.repeat([f"g{j}" for j in range(8)], 5),
            "h": np.tile(["a", "b", "c", "d"], 10),
            "y": rng.integers(0, 2, n),
            "n": 6,
            "k": rng.integers(0, 7, n),
            "c": rng.poisson(2.0, n),
            "t": x + rng.standard_t(3, n),
            "p": rng.gamma(2.0, 1.0, n),
            "s": rng.beta(2.0, 3.0, n),
            "r": 1 + np.arange(n) % 4,
        }
    )


def log_prior(priors, theta) -> np.ndarray:
    """Log prior of theta over the free variables of the PyMC model, up to a constant."""
    total = np.zeros(len(theta))
    if priors.sigma is not None:
        total += priors.sigma.distribution.logpdf(theta.sigma)
    for part in priors.parts:
        if isinstance(part, (ScalarPart, ThresholdsPart)):
            total += next(iter(part.log_priors(theta).values()))
    for part in priors.group_terms:
        for k, prior in enumerate(part.sd):
            total += prior.distribution.logpdf(part.sds(theta)[:, k])
        if part.eta is not None:
            total += log_lkj(theta.values[f"corr_chol_{part.name}"], part.eta)
    return total


@pytest.mark.parametrize("name", MODELS)
def test_joint_density_is_that_of_rows_levels_and_priors(name: str):
    formula, family, link = MODELS[name]
    model = hp.Model(formula, table(), family=family, link=link)
    design, priors = model.design, model.priors
    p = evaluate(pymc_model.build(design, priors), design, priors)
    theta = pymc_model.theta_of(p.posterior, design, priors)
    found = p.log_density - log_prior(priors, theta)
    coefficients = {"beta": p["beta"]}
    centred = p["beta_centred" if "beta_centred" in p.posterior else "beta"]
    block = priors.population
    found = found - stats.norm.logpdf(centred, block.mean, block.sd).sum(axis=1)
    for group in design.groups:
        coefficients[group.level_variable] = p[group.level_variable]
        z = p[f"z_{group.factor}"]
        found = found - stats.norm.logpdf(z).sum(axis=(1, 2))
    eta = linear_predictor(design, coefficients)
    names = design.family.parameters
    par = np.column_stack([np.zeros((len(theta), 0)), *(theta.values[k] for k in names)])
    if design.family.has_thresholds:
        par = p["thresholds"]
    rows = design.family.log_density(design.y, eta, par, design.trials).sum(axis=1)
    np.testing.assert_allclose(found - rows, (found - rows)[0], rtol=0, atol=1e-8)

    # The engine's own point has the same predictor: levels at their values, one factor integrated.
    quadrature, theta_map = integrate_family(design, priors)
    working = theta_map.of_family(theta)
    others = {
        g.factor: p[g.level_variable]
        for k, g in enumerate(design.groups)
        if k != quadrature.integrated
    }
    point = quadrature.point_of_draws(working, p["beta"], others)
    group = design.groups[quadrature.integrated]
    whole = root_of(priors, theta)
    assert whole.shape[-1] == sum(len(g.terms) for g in design.groups)
    alone = {**coefficients, group.level_variable: np.zeros_like(p[group.level_variable])}
    at_zero = quadrature.predictor(point)[:, quadrature.rows.place]
    shift = 0.0
    if design.family.has_thresholds:  # there columns are centred at the cost of the thresholds
        shift = (p["beta"] @ design.schema.coding.means)[:, None]
    np.testing.assert_allclose(at_zero + shift, linear_predictor(design, alone), atol=1e-9)
