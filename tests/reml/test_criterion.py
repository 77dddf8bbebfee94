"""The profiled deviance is -2 log-likelihood at its best sigma, and its gradient is its slope."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from hierpool.reml.criterion import Criterion, Method
from tests.laws.dense import restricted_log_density, wide
from tests.support.cases import each

MODELS = [
    "sleepstudy_intercepts",
    "sleepstudy_slope_only",
    "sleepstudy_uncorrelated",
    "sleepstudy_slopes",
    "radon_slopes",
    "orthodont_sex",
    "machines_slopes",
    "dyestuff2",
]
METHODS = ["REML", "ML"]


def criterion(fitted, name: str, method: Method) -> Criterion:
    return Criterion.from_design(fitted[name].model.design, method)


def places(c: Criterion) -> np.ndarray:
    """A few theta: inside, near the boundary, with negative signs, far out."""
    k = len(c.free.rows)
    rng = np.random.default_rng(k)
    return np.stack(
        [rng.normal(size=k), 1e-3 * np.ones(k), -rng.uniform(0.1, 1, k), 20 * np.ones(k)]
    )


@each("method", METHODS)
@each("name", MODELS)
def test_gradient_is_the_slope_of_the_deviance(fitted, name, method):
    c = criterion(fitted, name, method)
    for theta in places(c):
        _, gradient = c.value_and_gradient(theta)
        h = 1e-5 * np.eye(len(theta))
        slope = (c.deviance(theta + h) - c.deviance(theta - h)) / 2e-5
        np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-4)


@each("method", METHODS)
@each("name", MODELS)
def test_one_value_is_that_of_the_stack(fitted, name, method):
    c = criterion(fitted, name, method)
    stack = places(c)
    singly = [c.value_and_gradient(t)[0] for t in stack]
    np.testing.assert_allclose(c.deviance(stack), singly, rtol=1e-12)


@pytest.mark.parametrize("name", ["sleepstudy_uncorrelated", "orthodont_sex", "dyestuff2"])
def test_deviance_is_the_dense_one_at_its_best_sigma(fitted, name):
    """In the user's coding of X and Z, whatever the coordinates of the search."""
    c = criterion(fitted, name, "REML")
    design = fitted[name].model.design
    (group,) = design.groups
    J = group.grouping.n_levels
    Z = wide(group.Z, group.grouping.codes, J)
    for theta in places(c)[1:3]:
        at = c.at(theta)
        sigma2 = at.marginal.penalized_ss[0] / c.df
        root = c.coordinates.u_from_working @ at.Lambda
        V = sigma2 * (Z @ np.kron(np.eye(J), root @ root.T) @ Z.T + np.eye(design.n))
        dense = -2 * restricted_log_density(design.y, design.X, V)
        assert c.deviance(theta[None])[0] == pytest.approx(dense, rel=1e-9)
        for off in (0.97, 1.03):
            assert -2 * restricted_log_density(design.y, design.X, off * V) > dense


@pytest.mark.parametrize("method", METHODS)
def test_deviance_does_not_know_signs(fitted, method):
    """A variance of zero is an inner point where the deviance is even."""
    c = criterion(fitted, "sleepstudy_slopes", method)
    theta = np.array([0.8, 0.3, 0.5])
    same = np.array([theta, -theta, theta * [-1, -1, 1], theta * [1, 1, -1]])
    np.testing.assert_allclose(c.deviance(same), c.deviance(theta[None])[0], rtol=1e-12)
    np.testing.assert_allclose(c.value_and_gradient(np.zeros(3))[1], 0.0, atol=1e-9)


def test_theta_and_matrix_are_inverse_to_each_other(fitted):
    for name in ("sleepstudy_slopes", "sleepstudy_uncorrelated", "machines_slopes"):
        c = criterion(fitted, name, "REML")
        theta = np.arange(1.0, 1 + len(c.free.rows))
        T = c.matrix(theta)
        np.testing.assert_array_equal(c.theta(T), theta)
        np.testing.assert_array_equal(T, np.tril(T))


@pytest.mark.parametrize("unit", [1.0, 1000.0])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e6])
def test_reml_moves_with_the_unit_of_a_predictor_by_a_known_constant(unit, offset):
    """log |det| of the map of the columns of X; the ML deviance does not move."""
    data = hp.datasets.load("sleepstudy")
    recoded = data.assign(Days=unit * (data["Days"] + offset))
    formula = "Reaction ~ Days + (Days | Subject)"
    here, there = hp.Model(formula, data), hp.Model(formula, recoded)
    # REML's density in the user's coding has log det X'V^-1X: the slope's column is `unit` larger
    assert there.reml().loglik == pytest.approx(here.reml().loglik - np.log(unit), abs=1e-7)
    assert there.ml().loglik == pytest.approx(here.ml().loglik, abs=1e-7)
