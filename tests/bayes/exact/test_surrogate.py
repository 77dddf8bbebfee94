"""A polynomial in place of the log posterior gives what the log posterior itself gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hierpool as hp
from hierpool.bayes.exact import engine as exact
from hierpool.bayes.exact.polynomial import CLOSE, Counted, _monomials, _powers
from hierpool.bayes.exact.refit_with_priors import sample_judged
from hierpool.bayes.exact.surrogate import Surrogate
from hierpool.bayes.exact.target import Evaluated, LogPosterior
from hierpool.core.errors import FitError


@pytest.fixture(scope="module")
def target() -> LogPosterior:
    """Crossed factors with enough levels that theta is well known."""
    rng = np.random.default_rng(1)
    a, b = (x.ravel() for x in np.meshgrid(np.arange(60), np.arange(40)))
    keep = rng.uniform(size=len(a)) < 0.5
    a, b = a[keep], b[keep]
    y = 2 + rng.normal(size=60)[a] + 0.7 * rng.normal(size=40)[b] + rng.normal(size=len(a))
    model = hp.Model("y ~ 1 + (1 | a) + (1 | b)", {"y": y, "a": a, "b": b})
    return LogPosterior.from_design(model.design, model.priors)


@pytest.fixture(scope="module")
def surrogate(target) -> Surrogate:
    return Surrogate.from_log_posterior(target, np.random.default_rng(1))


def test_it_is_close_where_the_posterior_is(target, surrogate):
    assert surrogate.is_close
    assert surrogate.errors.std() < CLOSE
    assert surrogate.n_evaluations < 400
    z = surrogate.centre + np.random.default_rng(2).normal(size=(200, 3)) @ surrogate.root.T
    off = target.log_likelihood(z) - surrogate.log_likelihood(z)
    assert np.abs(off).max() < 0.3


def test_beyond_the_radius_it_falls(surrogate):
    direction = np.array([1.0, -1.0, 0.5]) / 1.5
    along = surrogate.centre + np.linspace(5, 50, 20)[:, None] * (surrogate.root @ direction)
    assert (np.diff(surrogate.log_likelihood(along)) < 0).all()


def test_draws_and_evidence_are_those_of_the_exact_posterior(target, monkeypatch):
    found = exact.sample_theta(target, 4, 1000, np.random.default_rng(3))
    monkeypatch.setattr(exact, "SURROGATE_ABOVE_FLOPS", 0)
    stood_in = exact.sample_theta(target, 4, 1000, np.random.default_rng(4))
    assert found.evaluations == 0
    assert 0 < stood_in.evaluations < 400
    assert 0 < stood_in.discrepancy < CLOSE
    error = np.hypot(found.log_evidence_error, stood_in.log_evidence_error)
    assert abs(found.log_evidence - stood_in.log_evidence) < 5 * error
    one, other = found.flat, stood_in.flat
    scale = one.std(axis=0)
    assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 5 * scale * np.sqrt(2 / 3000)).all()
    np.testing.assert_allclose(other.std(axis=0), scale, rtol=0.1)


def test_one_that_is_far_off_is_not_believed(monkeypatch):
    """Four batches: the posterior of their sd is no polynomial of degree four over the whole."""
    data = hp.datasets.load("Pastes")
    model = hp.Model("strength ~ 1 + (1 | batch/cask)", data)
    monkeypatch.setattr(exact, "SURROGATE_ABOVE_FLOPS", 0)
    draws = exact.sample_theta(
        LogPosterior.from_design(model.design, model.priors), 4, 250, np.random.default_rng(1)
    )
    assert draws.discrepancy > CLOSE
    with pytest.raises(FitError, match="polynomial"):
        model.fit("exact", seed=1)


class SecondHump(LogPosterior):
    """The posterior has a second maximum where the second sd is nearly zero."""

    def at(self, z: np.ndarray) -> Evaluated:
        found = super().at(z)
        top = super().at(self.mode[None]).log_likelihood[0]
        apart = (z - self.mode) / 0.4
        apart[:, 2] = (z[:, 2] + 4) / 0.5
        hump = top - 1 - 0.5 * (apart**2).sum(axis=1)
        return replace(found, log_likelihood=np.logaddexp(found.log_likelihood, hump))


def test_mass_that_its_draws_never_see_is_missed_aloud(target, surrogate):
    two_humps = SecondHump(target.integrated, target.theta_map, target.coordinates, target.sd_y)
    object.__setattr__(two_humps, "mode", surrogate.centre)
    found = Surrogate.from_log_posterior(two_humps, np.random.default_rng(1))
    assert not found.is_close
    assert 0.2 < found.missed[2] < 0.6  # of the whole that the first maximum makes, see below
    assert surrogate.missed.max() < 1e-6


def test_share_that_is_missed_is_not_less_than_the_second_hump_holds(target, surrogate):
    """By quadrature along the vanishing sd; the other directions of both humps are normal."""
    z = np.linspace(-9, 3, 4001)
    hump = np.exp(-1 - 0.5 * ((z + 4) / 0.5) ** 2 - 0.5 * z**2) / np.sqrt(2 * np.pi)
    along = np.trapezoid(hump, z)
    covariance = surrogate.root @ surrogate.root.T
    others = surrogate.centre[:2]
    wide = 0.4**2 / (1 + 0.4**2)  # the hump times the prior, variance in each other direction
    around = wide * np.exp(-0.5 * (others**2).sum() / (1 + 0.4**2))
    whole = np.exp(-0.5 * (surrogate.centre**2).sum()) * np.sqrt(np.linalg.det(covariance))
    share = along * around / whole
    two_humps = SecondHump(target.integrated, target.theta_map, target.coordinates, target.sd_y)
    object.__setattr__(two_humps, "mode", surrogate.centre)
    assert 0.9 * share < surrogate._near_zero(Counted(two_humps))[1] < 2.5 * share


def test_refits_do_not_trust_one_that_is_far_off(target, monkeypatch):
    monkeypatch.setattr(exact, "SURROGATE_ABOVE_FLOPS", 0)
    rng = np.random.default_rng(1)
    assert sample_judged(target, 2, 100, rng, lambda weights: True)[1]
    data = hp.datasets.load("Pastes")
    model = hp.Model("strength ~ 1 + (1 | batch/cask)", data)
    few = LogPosterior.from_design(model.design, model.priors)
    assert not sample_judged(few, 2, 100, rng, lambda weights: True)[1]


def test_monomials_are_products_of_powers():
    x = np.array([[2.0, 3.0], [0.0, -1.0]])
    powers = _powers(2)
    assert len(powers) == 15
    expected = np.array([[a**i * b**j for i, j in powers] for a, b in x])
    np.testing.assert_array_equal(_monomials(x, powers), expected)
