"""Scores of rows whose log densities, less their constants, are far from zero: large counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.bayes.theta import integrate_family
from hierpool.core.theta import Theta

SIZES = {"hundreds": 5.5, "ten thousands": 9.5}
FAMILIES = {
    "poisson": [],
    "negbinomial": [8.0],
    "zero_inflated_negbinomial": [8.0, 0.1],
    "hurdle_poisson": [0.1],
    "gamma": [4.0],
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_given_the_others_is_the_level_less_the_level_without_it(family, size):
    rng = np.random.default_rng(2)
    n, codes = 20, np.repeat(np.arange(5), 4)
    eta = SIZES[size] + 0.3 * rng.standard_normal(5)[codes]
    y = rng.poisson(np.exp(eta) * rng.gamma(8.0, 1 / 8.0, n)).astype(float) + (family == "gamma")
    y[7] *= 3  # an outlying row
    data = pd.DataFrame({"y": y, "x": rng.standard_normal(n), "g": [f"g{j}" for j in codes]})
    model = hp.Model("y ~ x + (1 | g)", data, family=family)
    quadrature, theta_map = integrate_family(model.design, model.priors)
    theta = theta_map.of_family(_theta(model, FAMILIES[family]))
    point = quadrature.point_of_draws(theta, np.array([[SIZES[size], 0.1]] * 2), {})
    found = quadrature.log_density_of_rows(point)
    whole = quadrature.log_density_of_points(point, finer=True)
    for row in range(n):
        rest = quadrature.without(np.array([row])).log_density_of_points(point, finer=True)
        np.testing.assert_allclose(found[:, row], whole - rest, atol=5e-3)
    assert found.min() < -7.5  # an outlying row is among them


def _theta(model, par):
    names = model.design.family.parameters
    values = {name: np.full(2, v) for name, v in zip(names, par, strict=True)}
    return Theta(2, {"sd_g": np.array([[0.3], [0.6]]), **values})


def test_a_laplace_mode_does_not_depend_on_where_its_search_begins():
    """Deviations of a theta with small sds, taken for those of large ones, put a count beyond e^60."""
    y = [2, 0, 3, 2, 181, 39, 6, 15, 0, 0, 0, 4, 185_579_948_053, 5, 652_097, 1644, 101, 7, 0, 0]
    x = np.random.default_rng(0).standard_normal(20)
    data = pd.DataFrame({"y": y, "x": x, "g": np.repeat([f"g{j}" for j in range(5)], 4)})
    priors = {"beta": hp.Prior("Normal", mu=0, sigma=1)}
    model = hp.Model("y ~ x + (x | g)", data, family="poisson", priors=priors)
    posterior = FamilyPosterior.from_design(model.design, model.priors)
    z = np.array([[3.4, 2.0, 0.3], [1.0, 2.5, -0.2], [-2.0, 1.0, 0.0]])
    elsewhere = posterior.laplace(np.zeros((1, 3))).start
    found, expected = posterior.laplace(z, elsewhere), posterior.laplace(z)
    np.testing.assert_allclose(found.gamma, expected.gamma, atol=1e-3)
    np.testing.assert_allclose(found.log_density, expected.log_density, atol=2e-2)


def test_the_mode_of_a_level_is_found_from_anywhere():
    """Far from the mode the counts bend g less than the prior does: steps leapt over it for ever."""
    y = [0] * 9 + [2260, 2178, 1064] + [0] * 6
    data = pd.DataFrame({"y": y, "g": np.repeat(list("abcdef"), 3)})
    model = hp.Model("y ~ 1 + (1 | g)", data, family="negbinomial")
    quadrature, theta_map = integrate_family(model.design, model.priors)
    sd, shape = np.array([[13.2], [13.6], [19.2], [18.0]]), np.array([21.3, 16.2, 41.5, 3.0])
    theta = theta_map.of_family(Theta(4, {"sd_g": sd, "shape": shape}))
    gamma = np.array([[0.9], [4.0], [4.8], [2.0]])
    expected = quadrature.log_density(gamma, theta, finer=True)
    for v in (-3.0, 0.9, 1.25, 3.0):
        start = quadrature.start._replace(v=np.full_like(quadrature.start.v, v))
        found = quadrature.started_at(start).log_density(gamma, theta, finer=True)
        np.testing.assert_allclose(found, expected, atol=0.03)
