"""Standard normal z give theta exactly its prior, whatever the prior and the size of a block."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.parts.group_term import GroupTermPart, partial_correlations
from hierpool.bayes.parts.residual import ResidualPart
from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.priors.prior import Prior
from hierpool.bayes.theta import root_of
from hierpool.core.coding import Coding
from hierpool.core.covariance import Diagonal, Unstructured
from tests.support.cases import each

NOTHING = CoefficientPriors(Coding.from_columns(np.zeros((5, 0))), (), ())
SD_PRIORS = {
    "half_t": Prior("HalfStudentT", nu=4, sigma=30),
    "half_normal": Prior("HalfNormal", sigma=2),
    "half_cauchy": Prior("HalfCauchy", beta=5),
    "exponential": Prior("Exponential", lam=0.1),
    "gamma": Prior("Gamma", alpha=2, beta=0.5),
    "inverse_gamma": Prior("InverseGamma", alpha=3, beta=2),
    "log_normal": Prior("LogNormal", mu=1, sigma=0.5),
    "uniform": Prior("Uniform", lower=0, upper=10),
}


def priors(sds: list[Prior], eta: float | None, sigma: Prior = SD_PRIORS["half_t"]) -> ModelPriors:
    """One block with these sds."""
    k = len(sds)
    coding, terms, shape = Coding.from_columns(np.eye(k)), tuple("abcd"[:k]), eta if k > 1 else None
    covariance = Diagonal() if shape is None else Unstructured()
    part = GroupTermPart("g", "g", covariance, coding, terms, slice(0, k), tuple(sds), shape)
    return ModelPriors("y", NOTHING, (part, ResidualPart(sigma)))


def lkj(k: int, eta: float, draws: int = 20_000) -> np.ndarray:
    """Correlation matrices (draws, k, k) that standard normal z turn into."""
    standardised = PriorCoordinates.from_priors(priors([SD_PRIORS["half_t"]] * k, eta))
    z = np.random.default_rng(k).normal(size=(draws, standardised.size))
    chol = standardised.theta(z).values["corr_chol_g"]
    return chol @ np.swapaxes(chol, -1, -2)


@each("name", SD_PRIORS)
def test_sds_are_at_the_quantile_that_z_says(name):
    law = SD_PRIORS[name]
    standardised = PriorCoordinates.from_priors(priors([law, law], None, sigma=law))
    z = np.repeat(np.linspace(-5, 5, 41)[:, None], 3, axis=1)
    theta = standardised.theta(z)
    upper = special.ndtr(-z[:, 0])
    for values in (theta.sigma, theta.values["sd_g"][:, 0], theta.values["sd_g"][:, 1]):
        np.testing.assert_allclose(law.distribution.cdf(values), 1 - upper, rtol=1e-8)
        np.testing.assert_allclose(law.distribution.sf(values), upper, rtol=1e-6)


@each("name", SD_PRIORS)
def test_sds_have_the_prior_as_their_distribution(name):
    law = SD_PRIORS[name]
    standardised = PriorCoordinates.from_priors(priors([law], None))
    z = np.random.default_rng(1).normal(size=(5000, 2))
    test = stats.kstest(standardised.theta(z).values["sd_g"][:, 0], law.distribution.cdf)
    assert test.pvalue > 1e-3


def test_half_t_is_the_absolute_value_of_a_t():
    law = SD_PRIORS["half_t"].distribution
    x = np.array([1e-8, 0.5, 3.0, 40.0, 1e5])
    both_sides = stats.t(4, 0, 30)
    np.testing.assert_allclose(law.logpdf(x), both_sides.logpdf(x) + np.log(2), rtol=1e-12)
    np.testing.assert_allclose(law.cdf(x), 2 * both_sides.cdf(x) - 1, atol=1e-12)
    np.testing.assert_allclose(law.sf(x), 2 * both_sides.sf(x), rtol=1e-12)
    p = np.array([1e-12, 0.01, 0.5, 0.99])
    np.testing.assert_allclose(law.cdf(law.ppf(p)), p, rtol=1e-10)
    np.testing.assert_allclose(law.sf(law.isf(p)), p, rtol=1e-10)


@each("k", [2, 3, 4])
@each("eta", [1.0, 2.0, 0.5])
def test_each_correlation_has_the_marginal_of_lkj(k, eta):
    """Beta(a, a) on (-1, 1) with a = eta - 1 + k / 2 (Lewandowski, Kurowicka and Joe 2009)."""
    corr, a = lkj(k, eta), eta - 1 + k / 2
    for i in range(k):
        for j in range(i):
            test = stats.kstest(corr[:, i, j], stats.beta(a, a, -1, 2).cdf)
            assert test.pvalue > 1e-3, (i, j)


@pytest.mark.parametrize("k", [3, 4])
def test_lkj_of_one_is_uniform_over_correlation_matrices(k):
    """Determinants beside those of uniform points in the cube that are positive definite."""
    rng = np.random.default_rng(2)
    low = np.tril_indices(k, -1)
    cube = np.tile(np.eye(k), (60_000, 1, 1))
    cube[:, low[0], low[1]] = cube[:, low[1], low[0]] = rng.uniform(-1, 1, (60_000, len(low[0])))
    kept = cube[np.linalg.eigvalsh(cube)[:, 0] > 0]
    assert len(kept) > 5000
    test = stats.ks_2samp(np.linalg.det(lkj(k, 1.0)), np.linalg.det(kept))
    assert test.pvalue > 1e-3


@pytest.mark.parametrize("k", [3, 4])
def test_lkj_weighs_by_the_determinant(k):
    """LKJ(2) is LKJ(1) weighed by det: the same mean of det."""
    det_1, det_2 = np.linalg.det(lkj(k, 1.0)), np.linalg.det(lkj(k, 2.0))
    weighed = (det_1**2).mean() / det_1.mean()
    assert weighed == pytest.approx(det_2.mean(), rel=0.03)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_factor_is_that_of_a_correlation_matrix(k):
    standardised = PriorCoordinates.from_priors(priors([SD_PRIORS["half_t"]] * k, 1.0))
    z = np.random.default_rng(3).normal(size=(200, standardised.size)) * 3
    chol = standardised.theta(z).values["corr_chol_g"]
    np.testing.assert_allclose((chol**2).sum(axis=-1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(chol, np.tril(chol))
    assert (np.diagonal(chol, axis1=1, axis2=2) >= 0).all()


def test_blocks_do_not_correlate_with_each_other():
    law, two, one = SD_PRIORS["half_t"], Coding.from_columns(np.eye(2)), Unstructured()
    parts = (
        GroupTermPart("g", "g", one, two, ("a", "b"), slice(0, 2), (law, law), 1.0),
        GroupTermPart("g", "g_2", one, two, ("c", "d"), slice(2, 4), (law, law), 1.0),
        ResidualPart(law),
    )
    priors = ModelPriors("y", NOTHING, parts)
    standardised = PriorCoordinates.from_priors(priors)
    assert standardised.size == 1 + 4 + 2
    theta = standardised.theta(np.random.default_rng(1).normal(size=(50, 7)))
    root = root_of(priors, theta)
    assert not root[:, 2:, :2].any()
    assert (root[:, 1, 0] != 0).all()
    assert (root[:, 3, 2] != 0).all()


def test_what_vanishes_with_an_sd_is_its_correlations():
    standardised = PriorCoordinates.from_priors(priors([SD_PRIORS["half_t"]] * 3, 1.0))
    assert standardised.vanishing == ((1, (4, 5)), (2, (4, 6)), (3, (5, 6)))  # z_0 is sigma
    assert standardised.size == 7
    z = np.random.default_rng(1).normal(size=(2, 7))
    z[1, [5, 6]] = 0.0
    root = root_of(priors([SD_PRIORS["half_t"]] * 3, 1.0), standardised.theta(z))
    assert not root[1, 2, :2].any()


def test_far_tails_stay_finite_and_positive():
    standardised = PriorCoordinates.from_priors(priors([SD_PRIORS["half_t"]] * 3, 1.0))
    theta = standardised.theta(np.array([[-8.0] * 7, [8.0] * 7]))
    assert (theta.sigma > 0).all()
    assert (theta.values["sd_g"] > 0).all()
    assert np.isfinite(theta.values["sd_g"]).all()
    assert np.isfinite(theta.values["corr_chol_g"]).all()
    assert (np.abs(theta.values["corr_chol_g"][:, 1, 0]) < 1).all()


def test_small_sds_are_told_apart():
    """Linear near zero: the cdf does not round to nothing."""
    standardised = PriorCoordinates.from_priors(priors([SD_PRIORS["half_t"]], None))
    z = np.array([[0.0, -7.5], [0.0, -7.0]])
    sd = standardised.theta(z).values["sd_g"][:, 0]
    density_at_zero = np.exp(SD_PRIORS["half_t"].distribution.logpdf(0.0))
    np.testing.assert_allclose(sd, special.ndtr([-7.5, -7.0]) / density_at_zero, rtol=1e-6)


@each("a", [0.6, 1.5, 2.0, 2.5, 10.0])
def test_quantiles_from_the_table_are_those_of_the_beta_distribution(a):
    z = np.linspace(-9, 9, 4001)[:, None]
    lower = special.betaincinv(a, a, special.ndtr(-np.abs(z)))
    found = partial_correlations(z, np.array([a]))
    np.testing.assert_allclose(found, np.sign(z) * (1 - 2 * lower), atol=1e-11)
    few = np.abs(z[:, 0]) < 6
    distance = (1 - np.abs(found)) / 2  # from the ends
    np.testing.assert_allclose(distance[few], lower[few], rtol=1e-6, atol=2e-12)
