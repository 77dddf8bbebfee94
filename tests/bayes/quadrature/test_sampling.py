"""Sampling of theta and coefficients, where the posterior is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from hierpool.bayes.quadrature.polish import polished
from hierpool.bayes.quadrature.sampling import PointDraws, sample_points
from hierpool.bayes.quadrature.target import FamilyPosterior
from tests.bayes.quadrature.toy import WIDTH, Toy, evidence, posterior

LIMIT = 4.0  # z-score above which two Monte Carlo numbers disagree


def rows(p: int = 3, levels: int = 8, sd: float = 0.7) -> Toy:
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(levels), 5)
    X = np.column_stack([np.ones(len(codes)), rng.standard_normal((len(codes), p - 1))])
    y = X @ np.linspace(1, -1, p) + sd * rng.standard_normal(levels)[codes]
    return Toy(y + 0.8 * rng.standard_normal(len(codes)), X, codes)


def drawn(of: FamilyPosterior, seed: int = 1) -> PointDraws:
    return sample_points(of, 4, 1000, np.random.default_rng(seed))


@pytest.mark.parametrize("misled", [0.0, 2.0])
def test_evidence_and_moments_are_those_of_the_grid(misled):
    """Whether the proposal starts where the mode is or two units from it."""
    toy = rows()
    of = posterior(Toy(toy.y, toy.X, toy.codes, misled))
    found = drawn(of)
    assert abs(found.log_evidence - evidence(of)) < LIMIT * found.log_evidence_error
    assert found.effective_share > 0.5
    exact = of.model.laplace(found.at.point).gamma - misled  # E[gamma | theta]
    off = found.at.point.beta - exact
    error = off.std(axis=0) / np.sqrt(len(off) * found.effective_share / 2)
    np.testing.assert_array_less(np.abs(off.mean(axis=0)), LIMIT * error)


def test_the_movement_of_a_misled_mode_is_told():
    toy = rows()
    start = polished(posterior(Toy(toy.y, toy.X, toy.codes, 2.0)), np.random.default_rng(1))
    straight = polished(posterior(toy), np.random.default_rng(1))
    assert start.shift > 3.0
    assert straight.shift < 0.5


def test_laplace_evidence_is_exact_where_the_approximation_is():
    start = polished(posterior(rows()), np.random.default_rng(1))
    found, error = start.laplace_evidence
    assert abs(found - evidence(posterior(rows()))) < LIMIT * error < 0.8


@pytest.mark.parametrize("p", [1, 4])
def test_without_theta_coefficients_alone_are_drawn(p):
    toy = rows(p)
    of = posterior(toy, has_theta=False)
    found = drawn(of)
    V = np.eye(len(toy.y)) + WIDTH**2 * toy.X @ toy.X.T
    n, det = len(toy.y), np.linalg.slogdet(V)[1]
    exact = -0.5 * (toy.y @ np.linalg.solve(V, toy.y) + det + n * np.log(2 * np.pi))
    assert found.log_evidence == pytest.approx(exact, abs=LIMIT * found.log_evidence_error + 1e-9)
    assert found.effective_share > 0.9


def test_without_coefficients_theta_alone_is_drawn():
    toy = rows()
    of = posterior(Toy(toy.y, toy.X[:, :0], toy.codes))
    found = drawn(of)
    assert abs(found.log_evidence - evidence(of)) < LIMIT * found.log_evidence_error


def test_without_anything_to_sample_the_evidence_is_the_density():
    toy = rows()
    of = posterior(Toy(toy.y, toy.X[:, :0], toy.codes), has_theta=False)
    found = drawn(of)
    n = len(toy.y)
    assert found.log_evidence == pytest.approx(-0.5 * (toy.y @ toy.y + n * np.log(2 * np.pi)))
    assert found.log_evidence_error == 0.0
    assert len(found.at.theta) == 4000


def test_a_seed_gives_the_same_draws():
    first, second = drawn(posterior(rows())), drawn(posterior(rows()))
    np.testing.assert_array_equal(first.at.point.beta, second.at.point.beta)
    assert drawn(posterior(rows()), 2).log_evidence != first.log_evidence
