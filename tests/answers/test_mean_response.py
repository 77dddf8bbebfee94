"""Means of families averaged over random effects: against adaptive quadrature, and their derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, special, stats

from hierpool.answers.mean_response import MeanResponse, averaged
from hierpool.core.families.hurdle import HurdleNegativeBinomial
from hierpool.core.families.links import LINKS
from hierpool.core.families.ordinal import Ordinal
from hierpool.core.families.zero_inflated import ZeroInflatedPoisson

ETA = np.array([[-9.0, -2.0, 0.3, 4.0]])
RATINGS = replace(Ordinal(), labels=(1, 2, 3))


def brute(function, eta: float, sd: float) -> float:
    def inside(z: float) -> float:
        return float(function(eta + sd * z)) * stats.norm.pdf(z)

    return integrate.quad(inside, -12, 12, epsabs=1e-13, epsrel=1e-11, limit=400)[0]


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "log"])
@pytest.mark.parametrize("sd", [0.3, 1.2, 4.0])
def test_averages_over_groups_are_those_of_adaptive_quadrature(link, sd):
    which = LINKS[link]
    near = 1e-6 if link == "cloglog" else 1e-8
    for is_slope, function in ((False, which.inverse), (True, which.slope)):
        found = averaged(link, ETA, sd**2, is_slope)
        wanted = [brute(function, v, sd) for v in ETA[0]]
        np.testing.assert_allclose(found[0], wanted, atol=near, rtol=near)


def test_the_mixture_of_normals_is_the_logistic_function():
    eta = np.linspace(-40, 40, 8001)[None]
    np.testing.assert_allclose(averaged("logit", eta, 1e-12), special.expit(eta), atol=3e-9)


@pytest.mark.parametrize(
    ("family", "par", "rating"),
    [
        (ZeroInflatedPoisson(), [[0.3]], None),
        (HurdleNegativeBinomial(), [[2.0, 0.4]], None),
        (RATINGS, [[-1.0, 0.7]], None),
        (RATINGS, [[-1.0, 0.7]], 0),
        (RATINGS, [[-1.0, 0.7]], 1),
        (RATINGS, [[-1.0, 0.7]], 2),
    ],
)
def test_means_of_families_with_parameters_and_their_derivatives(family, par, rating):
    eta, par, sd = np.array([[-1.0, 0.2, 1.5]]), np.array(par), 0.8
    of = MeanResponse(family, rating)

    def plain(v: float) -> float:
        at = np.array([[v]])
        one = family.mean(at, par) if rating is None else family.probabilities(at, par)[..., rating]
        return float(one[0, 0])

    wanted = [brute(plain, v, sd) for v in eta[0]]
    np.testing.assert_allclose(of.at(eta, sd**2, par)[0], wanted, rtol=1e-7)
    np.testing.assert_allclose(of.at(eta, 0.0, par)[0], [plain(v) for v in eta[0]], rtol=1e-12)
    h = 1e-5
    by_differences = (of.at(eta + h, sd**2, par) - of.at(eta - h, sd**2, par)) / (2 * h)
    np.testing.assert_allclose(of.at(eta, sd**2, par, slope=True), by_differences, rtol=1e-5)


def test_the_probability_of_a_new_group_is_not_the_inverse_link_at_zero_effects():
    averages = averaged("logit", np.array([[-2.0]]), 4.0)
    assert averages[0, 0] > 1.6 * special.expit(-2.0)


def test_probabilities_of_ratings_add_up_to_one():
    par = np.array([[-1.0, 0.7]])
    each = [MeanResponse(RATINGS, k).at(ETA, 1.0, par) for k in range(3)]
    np.testing.assert_allclose(sum(each), 1.0)
    mean = MeanResponse(RATINGS).at(ETA, 1.0, par)
    np.testing.assert_allclose(mean, each[0] + 2 * each[1] + 3 * each[2])
