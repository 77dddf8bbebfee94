"""Many rows: a polynomial in place of the log posterior of families, and levels drawn on request."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special

import hierpool as hp
from hierpool.bayes.exact import polynomial
from hierpool.bayes.quadrature import engine, stand_in
from hierpool.bayes.quadrature.sampling import PointDraws, sample_points
from hierpool.bayes.quadrature.target import FamilyPosterior


def table(groups: int, rows: int) -> pd.DataFrame:
    """0 and 1, with two predictors that have eight combinations."""
    rng, n = np.random.default_rng(1), groups * rows
    g = rng.integers(0, groups, n)
    dose, arm = rng.integers(0, 4, n), rng.integers(0, 2, n)
    eta = -1 + 0.3 * dose + 0.5 * arm + rng.normal(0, 0.8, groups)[g]
    y = (rng.uniform(size=n) < special.expit(eta)).astype(int)
    return pd.DataFrame({"y": y, "dose": dose, "arm": np.where(arm, "b", "a"), "g": g})


@pytest.fixture(scope="module")
def model() -> hp.Model:
    return hp.Model("y ~ dose + arm + (1 | g)", table(30, 40), family="bernoulli")


def drawn(model: hp.Model, draws: int) -> PointDraws:
    of = FamilyPosterior.from_design(model.design, model.priors)
    return sample_points(of, 4, draws, np.random.default_rng(1))


def scalars(found: PointDraws) -> np.ndarray:
    """Shape (K, 4): coefficients and the log sd of the groups."""
    return np.column_stack([found.at.point.beta, np.log(found.at.point.Lambda[:, 0, 0])])


def assert_alike(found: PointDraws, exact: PointDraws, within: float) -> None:
    """Means and 5 % and 95 % quantiles, in posterior sds."""
    ours, theirs = scalars(found), scalars(exact)
    sd = theirs.std(axis=0)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < within * sd).all()
    for q in (0.05, 0.95):
        off = np.quantile(ours, q, axis=0) - np.quantile(theirs, q, axis=0)
        assert (np.abs(off) < within * sd).all()
    error = np.hypot(found.log_evidence_error, exact.log_evidence_error)
    assert abs(found.log_evidence - exact.log_evidence) < 4 * error


@pytest.mark.slow
def test_a_tenth_of_a_million_rows_has_the_posterior_of_exact_evaluations(monkeypatch):
    large = hp.Model("y ~ dose + arm + (1 | g)", table(1000, 100), family="bernoulli")
    found = drawn(large, 4000)
    assert 0 < found.evaluations < 500
    assert 0 < found.discrepancy < 0.01
    monkeypatch.setattr(stand_in, "ABOVE_FLOPS", 10**12)
    exact = drawn(large, 2000)
    assert exact.evaluations == 0
    assert_alike(found, exact, 0.1)


def test_small_tables_are_evaluated_exactly_and_the_polynomial_gives_the_same(model, monkeypatch):
    exact = drawn(model, 1000)
    assert (exact.evaluations, exact.discrepancy) == (0, 0.0)
    monkeypatch.setattr(stand_in, "ABOVE_FLOPS", 0)
    found = drawn(model, 1000)
    assert 0 < found.discrepancy < polynomial.CLOSE
    assert_alike(found, exact, 0.2)


def test_one_that_is_far_off_is_not_used(model, monkeypatch):
    exact = drawn(model, 100)
    monkeypatch.setattr(stand_in, "ABOVE_FLOPS", 0)
    monkeypatch.setattr(polynomial, "CLOSE", 0.0)
    found = drawn(model, 100)
    assert found.evaluations == 0
    assert abs(found.log_evidence - exact.log_evidence) < 0.1


@pytest.mark.slow
def test_levels_are_drawn_when_they_are_asked_for(model, monkeypatch):
    kept = model.fit("exact", seed=1, draws=500, progress=False)
    monkeypatch.setattr(engine, "LARGEST_WORK", 0)
    fit = model.fit("exact", seed=1, draws=500, progress=False)
    assert kept.keeps_levels
    assert not fit.keeps_levels
    pd.testing.assert_frame_equal(fit.fixed_effects(), kept.fixed_effects())
    ours, theirs = fit.random_effects(), kept.random_effects()
    pd.testing.assert_series_equal(ours["mean"], theirs["mean"])
    off = (ours["median"] - theirs["median"]) / theirs["sd"]
    assert np.abs(off).max() < 0.2
    np.testing.assert_allclose(ours["sd"], theirs["sd"], rtol=0.12)
    new = pd.DataFrame({"dose": [1], "arm": ["b"], "g": [3]})
    mine, other = fit.predict(new), kept.predict(new)
    assert abs(mine["mean"].iloc[0] - other["mean"].iloc[0]) < 0.01
    assert fit.loo().elpd == pytest.approx(kept.loo().elpd, abs=0.05)
