"""A design with its coefficients integrated out under the default priors, in the user's coding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from scipy import linalg, stats

import hierpool as hp
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.core.spec import GroupTerm, Spec
from hierpool.core.theta import Theta, WorkingTheta
from tests.laws.dense import Dense, wide
from tests.support.cases import each

ROWS = np.r_[0:34, 60:71]  # five subjects, unequal numbers of rows


def _sleep() -> object:
    data = hp.datasets.load("sleepstudy").iloc[ROWS].reset_index(drop=True)
    rng = np.random.default_rng(8)
    return data.assign(
        w=rng.uniform(0.2, 9.0, len(data)),
        se=rng.uniform(5.0, 60.0, len(data)),
        o=rng.normal(100.0, 40.0, len(data)),
    )


def _orthodont() -> object:
    return hp.datasets.load("Orthodont").iloc[40:84].reset_index(drop=True)


def _common() -> object:
    spec = Spec(
        "distance ~ Sex + age | Subject",
        "distance",
        "0 + age",
        (GroupTerm("1", "Subject", "none"),),
    )
    return hp.Model(spec, _orthodont())


MODELS = {
    "slopes": lambda: hp.Model("Reaction ~ Days + (Days | Subject)", _sleep()),
    "uncorrelated": lambda: hp.Model("Reaction ~ Days + (Days || Subject)", _sleep()),
    "slope_only": lambda: hp.Model("Reaction ~ Days + (0 + Days | Subject)", _sleep()),
    "richer_population": lambda: hp.Model("distance ~ age * Sex + (1 | Subject)", _orthodont()),
    "term_that_only_varies": lambda: hp.Model("Reaction ~ 1 + (Days | Subject)", _sleep()),
    "no_pooling": lambda: hp.no_pooling("Reaction ~ Days", _sleep(), "Subject"),
    "own_intercepts_common_slope": _common,
    "complete_pooling": lambda: hp.complete_pooling("Reaction ~ Days", _sleep(), "Subject"),
    "weights": lambda: hp.varying_slope("Reaction ~ Days", _sleep(), "Subject", weights="w"),
    "weights_own": lambda: hp.no_pooling("Reaction ~ Days", _sleep(), "Subject", weights="w"),
    "known_se": lambda: hp.varying_slope("Reaction ~ Days", _sleep(), "Subject", known_se="se"),
    "known_se_own": lambda: hp.no_pooling("Reaction ~ Days", _sleep(), "Subject", known_se="se"),
    "known_se_complete": lambda: hp.complete_pooling(
        "Reaction ~ Days", _sleep(), "Subject", known_se="se"
    ),
    "offset": lambda: hp.varying_slope("Reaction ~ Days + offset(o)", _sleep(), "Subject"),
    "offset_own_weights": lambda: hp.no_pooling(
        "Reaction ~ Days + offset(o / 2) + offset(o / 2)", _sleep(), "Subject", weights="w"
    ),
}


@dataclass(frozen=True)
class Case:
    """A model, its algebra at a few draws of theta from the prior, and a judge for each."""

    model: hp.Model
    integrated: MarginalModel
    theta: WorkingTheta
    judges: list[Dense]


@cache
def case(name: str) -> Case:
    model = MODELS[name]()
    target = LogPosterior.from_design(model.design, model.priors)
    z = np.random.default_rng(1).normal(size=(3, target.coordinates.size)) * 0.5
    theta = target.coordinates.theta(z)
    judges = [judge(model, theta[k : k + 1]) for k in range(3)]
    return Case(model, target.integrated, target.theta_map.working(theta), judges)


def judge(model: hp.Model, theta: Theta) -> Dense:
    """The model written out as the priors state it, every column as the user coded it.

    For no pooling the own coefficients are given as columns of X beside the common ones.
    """
    design, priors = model.design, model.priors
    X, mean, precision = design.X, *stated(priors.population)
    sigma, sd, nothing = float(theta.sigma[0]), design.residual.relative_sd, np.zeros((design.n, 0))
    y, none = design.y - design.offset, np.zeros((0, 0))
    if not design.groups:
        codes = np.zeros(design.n, int)
        return Dense(y, X, nothing, codes, 1, sigma, none, mean, precision, sd)
    (group,) = design.groups
    codes, J = group.grouping.codes, group.grouping.n_levels
    if priors.unpooled is not None:
        everything = np.hstack([X, wide(group.Z, codes, J)])
        own = stated_own(model, J)
        return Dense(y, everything, nothing, codes, J, sigma, none, *own, sd)
    blocks = []
    for part in priors.group_terms:
        root = part.coding.to_user @ part.root(theta)[0]
        blocks.append(root @ root.T)
    Sigma = linalg.block_diag(*blocks)
    return Dense(y, X, group.Z, codes, J, sigma, Sigma, mean, precision, sd)


def stated(block: CoefficientPriors) -> tuple[np.ndarray, np.ndarray]:
    """Mean and precision in the user's coding of coefficients whose prior is stated centred."""
    B = block.coding.to_user
    root = np.linalg.inv(B) / block.sd[:, None]
    return B @ block.mean, root.T @ root


def stated_own(model: hp.Model, J: int) -> tuple[np.ndarray, np.ndarray]:
    """Common and own coefficients together: own intercepts have their prior at the common means."""
    priors, (group,) = model.priors, model.design.groups
    common, own = priors.population, priors.unpooled.coefficients
    B = linalg.block_diag(np.eye(len(common.terms)), *[own.coding.to_user] * J)
    means = model.design.X.mean(axis=0)
    for j in range(J):
        for k, a in enumerate(own.coding.constant):
            B[len(means) + j * len(group.terms) + k, : len(means)] = -a * means
    mean = np.concatenate([common.mean, *[own.mean] * J])
    root = np.linalg.inv(B) / np.concatenate([common.sd, *[own.sd] * J])[:, None]
    return B @ mean, root.T @ root


@each("name", MODELS)
def test_log_density_is_that_of_the_model_as_the_priors_state_it(name):
    c = case(name)
    expected = [j.log_density for j in c.judges]
    np.testing.assert_allclose(c.integrated.log_density(c.theta), expected, rtol=1e-9)


def levels_of(c: Case, named: dict[str, np.ndarray]) -> np.ndarray | None:
    """Deviations of the levels, or their own coefficients for no pooling."""
    for group in c.model.design.groups:
        return named[f"{'u' if group.is_pooled else 'coef'}_{group.factor}"]
    return None


@each("name", MODELS)
def test_mean_coefficients_are_the_dense_ones_in_the_users_coding(name):
    c = case(name)
    found = c.integrated.mean_coefficients(c.theta)
    p = len(c.model.design.terms)
    for k, j in enumerate(c.judges):
        mean, _ = j.coefficients
        np.testing.assert_allclose(found["beta"][k], mean[:p], rtol=1e-6, atol=1e-8)
        levels = levels_of(c, found)
        if levels is not None:
            np.testing.assert_allclose(levels[k].ravel(), mean[p:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["slopes", "richer_population", "term_that_only_varies"])
def test_coefficients_are_the_sum_of_population_and_deviation(name):
    c = case(name)
    (group,) = c.model.design.groups
    drawn = c.integrated.draw_coefficients(c.theta, np.random.default_rng(2))
    coef, u = drawn[f"coef_{group.factor}"], drawn[f"u_{group.factor}"]
    for t, at in enumerate(group.population):
        common = drawn["beta"][:, None, at] if at >= 0 else 0.0
        np.testing.assert_allclose(coef[..., t], u[..., t] + common, rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["slopes", "no_pooling", "complete_pooling", "own_intercepts_common_slope"]
)
def test_draws_are_spread_as_the_dense_covariance(name):
    c, K = case(name), 20_000
    theta = c.theta[np.zeros(K, dtype=int)]
    drawn = c.integrated.draw_coefficients(theta, np.random.default_rng(3))
    levels = levels_of(c, drawn)
    flat = drawn["beta"]
    if levels is not None:
        flat = np.hstack([flat, levels.reshape(K, -1)])
    mean, cov = c.judges[0].coefficients
    sd = np.sqrt(np.diag(cov))
    assert np.abs((flat.mean(axis=0) - mean) / sd * np.sqrt(K)).max() < 4.5
    corr_error = (np.cov(flat.T) - cov) / np.outer(sd, sd)
    assert np.abs(corr_error).max() < 4.5 * np.sqrt(2 / K)


@each("name", MODELS)
def test_row_given_all_others_is_the_dense_conditional(name):
    c = case(name)
    some = np.array([3, 0, 17, len(c.model.design.y) - 1])
    mean, sd = c.integrated.prediction_of_rows(c.theta, some)
    density = c.integrated.log_density_of_rows(c.theta, some)
    mean = mean - np.broadcast_to(c.model.design.offset, c.model.design.y.shape)[some]
    for k, j in enumerate(c.judges):
        for r, i in enumerate(some):
            expected, variance = j.leave_out(np.array([i]))
            np.testing.assert_allclose(mean[k, r], expected[0], rtol=1e-7)
            np.testing.assert_allclose(sd[k, r] ** 2, variance[0, 0], rtol=1e-7)
            z2 = (j.y[i] - expected[0]) ** 2 / variance[0, 0]
            log_density = -0.5 * (np.log(2 * np.pi * variance[0, 0]) + z2)
            np.testing.assert_allclose(density[k, r], log_density, rtol=1e-7)


@each("name", MODELS)
def test_all_rows_at_once_are_the_rows_one_by_one(name):
    c = case(name)
    every = c.integrated.log_density_of_rows(c.theta)
    some = np.array([5, 2])
    np.testing.assert_allclose(
        every[:, some], c.integrated.log_density_of_rows(c.theta, some), rtol=1e-12
    )


@each("name", MODELS)
def test_level_given_all_others_is_p_of_y_over_p_without_it(name):
    c = case(name)
    (grouping,) = c.model.design.groupings.values()
    found = c.integrated.log_density_of_levels(c.theta, grouping)
    whole = c.integrated.log_density(c.theta)
    for level in range(grouping.n_levels):
        rest = c.integrated.without(np.flatnonzero(grouping.codes == level))
        np.testing.assert_allclose(
            found[level], whole - rest.log_density(c.theta), rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("name", ["slopes", "no_pooling", "complete_pooling"])
def test_rows_left_out_leave_priors_and_coordinates_alone(name):
    c = case(name)
    out = np.array([2, 9])
    rest = c.integrated.without(out)
    assert rest.coordinates is c.integrated.coordinates
    assert rest.prior is c.integrated.prior
    ratio = c.integrated.log_density(c.theta) - rest.log_density(c.theta)
    for k, j in enumerate(c.judges):
        mean, cov = j.leave_out(out)
        z = np.linalg.solve(np.linalg.cholesky(cov), j.y[out] - mean)
        expected = -0.5 * (np.linalg.slogdet(2 * np.pi * cov)[1] + z @ z)
        np.testing.assert_allclose(ratio[k], expected, rtol=1e-7)


def test_blocks_of_draws_cover_every_draw_once():
    integrated = case("slopes").integrated
    slices = list(integrated.blocks(1001, 1_000_000))
    covered = np.concatenate([np.arange(1001)[s] for s in slices])
    assert covered.tolist() == list(range(1001))
    assert len(slices) > 1


@pytest.mark.parametrize(
    "name", ["sleepstudy_slopes", "machines_slopes", "sleepstudy_no_pooling", "sleepstudy_complete"]
)
def test_densities_by_row_are_those_of_leaving_one_out(fitted, name):
    fit = fitted[name].posterior
    algebra, theta = fit.integrated, fit.working_theta[:150]
    rows = np.random.default_rng(4).permutation(fit.design.n)[:25]
    by_row = algebra.densities_by_row(theta, rows, algebra.marginal(theta))
    mean, sd = algebra.prediction_of_rows(theta, rows)
    expected = stats.norm(mean, sd).logpdf(fit.design.y[rows])
    np.testing.assert_allclose(by_row, expected.T, rtol=1e-9, atol=1e-9)
    together = algebra.log_density_of_rows(theta, rows)
    np.testing.assert_array_equal(by_row, together.T)
