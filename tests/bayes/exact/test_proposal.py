"""Mixtures of t components: densities, draws and refits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hierpool.bayes.exact.proposal import Mixture, Student, refit

SCALE = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.2], [0.0, -0.2, 0.5]])
AT = np.array([1.0, -2.0, 0.5])


def component(nu: float) -> Student:
    return Student.with_scale(AT, SCALE, nu)


def mixture() -> Mixture:
    far = Student.with_scale(AT + 6, 0.3 * np.eye(3), 6.0)
    return Mixture((component(4.0), far), np.array([0.7, 0.3]))


def alone(student: Student) -> Mixture:
    return Mixture((student,), np.ones(1))


@pytest.mark.parametrize("nu", [1.0, 4.0, 6.0, np.inf])
def test_density_is_that_of_scipy(nu):
    z = np.random.default_rng(1).normal(size=(50, 3)) * 4
    law = (
        stats.multivariate_normal(AT, SCALE)
        if np.isinf(nu)
        else stats.multivariate_t(AT, SCALE, df=nu)
    )
    np.testing.assert_allclose(alone(component(nu)).log_density(z), law.logpdf(z), rtol=1e-10)


@pytest.mark.parametrize("nu", [4.0, np.inf])
def test_draws_have_the_density(nu):
    """Squared distances over d are F(d, nu), or chi-squared over d."""
    drawn = component(nu)
    z = drawn.draw(5000, np.random.default_rng(2))
    law = stats.chi2(3, scale=1 / 3) if np.isinf(nu) else stats.f(3, nu)
    assert stats.kstest(alone(drawn).distances(z)[0] / 3, law.cdf).pvalue > 1e-3
    np.testing.assert_allclose(np.median(z, axis=0), AT, atol=0.15)


def test_scale_that_is_not_positive_definite_is_made_so():
    flat = Student.with_scale(np.zeros(2), np.array([[1.0, 1.0], [1.0, 1.0]]), 6.0)
    assert np.isfinite(alone(flat).log_density(np.zeros((1, 2)))).all()
    np.testing.assert_allclose(flat.factor @ flat.factor.T, np.ones((2, 2)), atol=1e-8)


def test_mixture_density_is_the_weighted_sum():
    z = np.random.default_rng(3).normal(size=(20, 3)) * 3
    m = mixture()
    by_hand = sum(
        w * np.exp(alone(c).log_density(z)) for w, c in zip(m.weights, m.components, strict=True)
    )
    np.testing.assert_allclose(np.exp(m.log_density(z)), by_hand, rtol=1e-12)


def test_mixture_density_integrates_to_one():
    """By importance from a wider t."""
    wide = Student.with_scale(AT + 2, 30 * np.eye(3), 3.0)
    z = wide.draw(100_000, np.random.default_rng(4))
    ratio = np.exp(mixture().log_density(z) - alone(wide).log_density(z))
    assert ratio.mean() == pytest.approx(1.0, abs=4 * ratio.std() / np.sqrt(len(z)))


def test_mixture_draws_each_component_by_its_weight_in_random_order():
    z = mixture().draw(4000, np.random.default_rng(5))
    is_far = (z > AT + 3).all(axis=1)
    assert is_far.mean() == pytest.approx(0.3, abs=0.03)
    assert abs(is_far[:2000].mean() - is_far[2000:].mean()) < 0.06


def test_component_of_weight_zero_says_nothing():
    m = mixture()
    z = np.zeros((3, 3))
    first = Mixture(m.components, np.array([1.0, 0.0]))
    np.testing.assert_allclose(first.log_density(z), alone(m.components[0]).log_density(z))


def test_refit_finds_the_mixture_that_points_come_from():
    truth = mixture()
    z = truth.draw(6000, np.random.default_rng(6))
    start = Mixture(
        tuple(Student.with_scale(at, 4 * np.eye(3), 6.0) for at in (AT - 1, AT + 4)),
        np.full(2, 0.5),
    )
    fixed = Mixture((Student.with_scale(np.zeros(3), 50 * np.eye(3), 4.0),), np.ones(1))
    weights = np.full(len(z), 1 / len(z))
    for _ in range(4):
        start, explained = refit(start, fixed, 0.05, z, weights)
    np.testing.assert_allclose(start.weights, truth.weights, atol=0.03)
    for found, true in zip(start.components, truth.components, strict=True):
        np.testing.assert_allclose(found.location, true.location, atol=0.15)
    assert explained.shape == (1,)
    assert explained[0] < 0.05


def test_refit_follows_importance_weights():
    """Points of a wide component, weighed to a narrow one."""
    wide, narrow = (
        Student.with_scale(np.zeros(2), 9 * np.eye(2), 6.0),
        stats.multivariate_normal([1, 2]),
    )
    z = wide.draw(8000, np.random.default_rng(7))
    weights = np.exp(narrow.logpdf(z) - alone(wide).log_density(z))
    fixed = Mixture((Student(np.zeros(2), np.eye(2) * 20, np.inf),), np.ones(1))
    found, _ = refit(Mixture((wide,), np.ones(1)), fixed, 0.05, z, weights / weights.sum())
    np.testing.assert_allclose(found.components[0].location, [1, 2], atol=0.1)
    scale = found.components[0].factor @ found.components[0].factor.T
    assert 0.5 < scale[0, 0] < 1.1


def test_components_that_explain_nothing_are_dropped():
    near = Student.with_scale(np.zeros(2), np.eye(2), 6.0)
    nowhere = Student.with_scale(np.full(2, 500.0), 1e-4 * np.eye(2), 6.0)
    z = near.draw(2000, np.random.default_rng(8))
    fixed = Mixture((Student(np.zeros(2), np.eye(2) * 20, np.inf),), np.ones(1))
    both = Mixture((near, nowhere), np.array([0.5, 0.5]))
    found, _ = refit(both, fixed, 0.05, z, np.full(2000, 1 / 2000))
    assert len(found.components) == 1
    np.testing.assert_allclose(found.components[0].location, 0.0, atol=0.2)


def test_rounding_changes_no_draw():
    """Another processor adds in another order; one seed must not give other draws there."""
    scale = np.diag([4e-6, 0.25, 0.0016])
    scale[0, 2] = scale[2, 0] = 1e-9
    rounded = scale + 1e-18 * np.array([[0, 1, 0], [1, 0, -1], [0, -1, 0]])
    shares = np.array([0.3, 0.3, 0.2, 0.2])
    made = [
        Mixture(tuple(Student.with_scale(np.arange(3.0) + k, s, 6.0) for k in range(4)), w)
        for s, w in ((scale, shares), (rounded, shares + np.array([1, -1, 0.5, -0.5]) * 1e-16))
    ]
    points = [mixture.draw(500, np.random.default_rng(1)) for mixture in made]
    np.testing.assert_allclose(*points, rtol=0, atol=1e-12)
