"""The posterior of rstanarm, from hierpool's draws of theta reweighted to rstanarm's priors.

``stan_lmer`` has hierpool's priors on the coefficients, and others on theta: sigma exponential,
and for each factor its "decov" prior, in the user's coding and relative to sigma. Draws of theta
weighed by the ratio of the two priors are draws from rstanarm's posterior, if the likelihood, the
algebra of the coefficients and the maps between codings are right; Stan shares none of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import hierpool as hp
from hierpool.bayes.exact.engine import sample_theta
from hierpool.bayes.exact.target import LogPosterior
from tests.support.references import reference

NAMES = ["sleepstudy__rs", "radon__ri"]
LIMIT = 4.5  # z-score; the largest of 130 quantities is looked at


def stan(name: str) -> dict[str, Any]:
    return reference("rstanarm", name)


@cache
def reweighted(name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws by Stan's name of each quantity, shape (K,), and their weights."""
    ref = stan(name)
    model = hp.Model(ref["formula"], hp.datasets.load(ref["dataset"]))
    target = LogPosterior.from_design(model.design, model.priors)
    found = sample_theta(target, 4, 3000, np.random.default_rng(1))
    theta = target.coordinates.theta(found.importance_points)
    sd, corr = target.theta_map.sd_and_corr(theta)
    (part,) = model.priors.group_terms
    root = part.root(theta)
    rho = root[:, -1, 0] / part.sds(theta)[:, -1]
    ours = log_prior(model, theta.sigma, part.sds(theta), rho)
    sd_y = model.design.y.std(ddof=1)
    rho = corr[:, -1, 0] if sd.shape[1] == 2 else np.zeros(len(sd))
    log_weight = found.importance_weights + log_decov(theta.sigma, sd, rho, sd_y) - ours
    weight = np.exp(log_weight - log_weight.max())
    working = target.theta_map.working(theta)
    draws = target.integrated.draw_coefficients(working, np.random.default_rng(2))
    quantities = {"sigma": theta.sigma}
    for k, term in enumerate(stan_terms(model)):
        quantities[term] = draws["beta"][:, k]
    (group,) = model.design.groups
    for k, term in enumerate(stan_terms(model)[: sd.shape[1]]):
        for j, level in enumerate(group.grouping.levels):
            quantities[f"b[{term} {group.factor}:{level}]"] = draws[f"u_{group.factor}"][:, j, k]
        for m, other in enumerate(stan_terms(model)[: k + 1]):
            cov = sd[:, k] * sd[:, m] * corr[:, k, m]
            quantities[f"Sigma[{group.factor}:{term},{other}]"] = cov
    return quantities, weight / weight.sum()


def stan_terms(model: hp.Model) -> list[str]:
    return [t.replace("Intercept", "(Intercept)") for t in model.design.terms]


def log_prior(model: hp.Model, sigma: np.ndarray, sd: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """hierpool's prior of theta as a density of sigma and the covariance matrix in centred columns."""
    (block,) = model.priors.group_terms
    out = model.priors.sigma.distribution.logpdf(sigma)
    for k, prior in enumerate(block.sd):
        out = out + prior.distribution.logpdf(sd[:, k])
    return out - log_jacobian(sd) - (np.log(2) if sd.shape[1] == 2 else 0.0)


def log_decov(sigma: np.ndarray, sd: np.ndarray, rho: np.ndarray, sd_y: float) -> np.ndarray:
    """rstanarm's prior as a density of sigma and the covariance matrix in the user's columns.

    sigma ~ Exponential(1 / sd(y)). One term: sd = sigma t, t ~ Exponential(1). Two terms: the
    variances share 2 (sigma t)^2 uniformly and the correlation is uniform.
    """
    out = -sigma / sd_y
    if sd.shape[1] == 1:
        return out - sd[:, 0] / sigma - np.log(sigma) - log_jacobian(sd)
    radius = np.sqrt((sd**2).sum(axis=1))
    t = radius / (np.sqrt(2) * sigma)
    # d(t, share) / d(sd_1, sd_2) = sqrt(2) sd_1 sd_2 / (sigma radius^3)
    density = -t + np.log(sd.prod(axis=1)) - np.log(sigma) - 3 * np.log(radius)
    return out + density - log_jacobian(sd)


def log_jacobian(sd: np.ndarray) -> np.ndarray:
    """Log of d Sigma / d(sds, correlation); the map between codings has determinant one."""
    if sd.shape[1] == 1:
        return np.log(2 * sd[:, 0])
    return np.log(4) + 2 * np.log(sd).sum(axis=1)


@pytest.mark.parametrize("name", NAMES)
def test_weights_leave_enough_draws(name):
    _, weight = reweighted(name)
    assert 1 / (weight**2).sum() > 1500


@pytest.mark.parametrize("name", NAMES)
def test_every_quantity_of_stan_is_found(name):
    quantities, _ = reweighted(name)
    assert set(stan(name)["names"]) == set(quantities)


@pytest.mark.parametrize("name", NAMES)
def test_posterior_means_are_those_of_stan(name):
    quantities, weight = reweighted(name)
    ref, z = stan(name), {}
    for quantity, mean, mcse in zip(ref["names"], ref["mean"], ref["mcse_mean"], strict=True):
        draws = quantities[quantity]
        ours = weight @ draws
        error = np.sqrt(weight**2 @ (draws - ours) ** 2)
        z[quantity] = (ours - mean) / np.hypot(error, mcse)
    far = {k: round(float(v), 1) for k, v in z.items() if abs(v) > LIMIT}
    assert far == {}
    assert np.sqrt(np.mean(np.square(list(z.values())))) < 1.8


@pytest.mark.parametrize("name", NAMES)
def test_posterior_sds_are_those_of_stan(name):
    quantities, weight = reweighted(name)
    ref, ratio = stan(name), {}
    for quantity, sd in zip(ref["names"], ref["sd"], strict=True):
        draws = quantities[quantity]
        ratio[quantity] = np.sqrt(weight @ (draws - weight @ draws) ** 2) / sd
    assert {k: v for k, v in ratio.items() if abs(v - 1) > 0.1} == {}
    assert np.mean(list(ratio.values())) == pytest.approx(1.0, abs=0.015)
