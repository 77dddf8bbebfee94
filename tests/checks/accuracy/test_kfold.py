"""K-fold: the algebra against dense densities, its ends against leave-one-out."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
from scipy import stats

import hierpool as hp
from hierpool.algebra import held_out
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.core.errors import ArgumentError
from tests.laws.dense import Dense


def judge(fit, k: int) -> Dense:
    rows, theta = fit.integrated.rows, fit.working_theta
    prior = fit.integrated.prior
    n_levels = int(rows.codes.max()) + 1
    sigma, factor = theta.sigma[k], theta.Lambda[k]
    Sigma = sigma**2 * factor @ factor.T
    return Dense(
        rows.y, rows.X, rows.Z, rows.codes, n_levels, sigma, Sigma, prior.mean, prior.precision
    )


def rest_of(fit, sets):
    return fit.integrated.without(np.concatenate(sets))


@pytest.fixture(scope="module")
def slopes(fitted):
    return fitted["sleepstudy_slopes"].posterior


@pytest.mark.parametrize("name", ["sleepstudy_slopes", "sleepstudy_no_pooling"])
def test_densities_of_held_out_rows_and_levels_are_the_dense_ones(fitted, name):
    fit = fitted[name].posterior
    rows = fit.integrated.rows
    last = np.flatnonzero(rows.codes == rows.codes.max())
    held = np.union1d(np.arange(3, 180, 11), last)  # the last level has no other rows
    rest = fit.integrated.without(held)
    theta = fit.working_theta[:2]
    by_row = held_out.of_rows(rest.moments, rest.prior, theta, rows.take(held))
    level = held_out.of_level(rest.marginal(theta), theta, rows.take(last))
    sets = [*held[:2, None], last]
    by_evidence = MarginalModel.density_of_sets(fit.integrated, rest_of(fit, sets), theta, sets)
    for k in range(2):
        mean, cov = judge(fit, k).leave_out(held)
        sd = np.sqrt(np.diag(cov))
        np.testing.assert_allclose(
            by_row[:, k], stats.norm(mean, sd).logpdf(rows.y[held]), rtol=1e-9
        )
        at = np.searchsorted(held, last)
        joint = stats.multivariate_normal(mean[at], cov[np.ix_(at, at)]).logpdf(rows.y[last])
        assert level[k] == pytest.approx(joint, rel=1e-9)
        mean, cov = judge(fit, k).leave_out(np.concatenate(sets))
        for s, at in zip(by_evidence, ([0], [1], range(2, 2 + len(last))), strict=True):
            y = rows.y[np.concatenate(sets)[at]]
            one = stats.multivariate_normal(mean[at], cov[np.ix_(at, at)]).logpdf(y)
            assert s[k] == pytest.approx(one, rel=1e-7)


def test_as_many_folds_as_points_are_leave_one_out(fitted):
    fit = fitted["dyestuff"].posterior
    rows, groups = fit.kfold(30, seed=1, progress=False), fit.kfold(6, "group", seed=1)
    assert rows.elpd == pytest.approx(fit.loo().elpd, abs=0.2)
    assert groups.elpd == pytest.approx(fit.loo(by="group").elpd, abs=0.2)
    assert rows.n_folds == 30
    assert rows.n_distrusted == 0
    assert groups.elpd_i.dims == ("Batch",)


def test_whole_levels_are_held_out_together(fitted):
    score = fitted["dyestuff"].posterior.kfold(3, by="Batch", progress=False)
    codes = fitted["dyestuff"].model.design.groups[0].grouping.codes
    assert all(len(set(score.folds[codes == j])) == 1 for j in range(6))
    assert sorted(np.bincount(score.folds)) == [10, 10, 10]
    assert "all observations of a new batch" in str(score)


def test_arviz_compares_models_on_the_same_folds(fitted):
    scores = {
        name: fitted[name].posterior.kfold(4, progress=False)
        for name in ("sleepstudy_slopes", "sleepstudy_complete")
    }
    first, second = (s.folds for s in scores.values())
    np.testing.assert_array_equal(first, second)
    table = az.compare(scores, round_to="none")
    assert table.index[0] == "sleepstudy_slopes"


def test_one_seed_gives_one_answer(slopes):
    once, again = (slopes.kfold(3, seed=5, progress=False).elpd for _ in range(2))
    assert once == again


@pytest.mark.parametrize(("k", "by"), [(1, None), (181, None), (19, "Subject"), (2.5, None)])
def test_folds_must_be_possible(slopes, k, by):
    with pytest.raises(ArgumentError, match="whole number from 2 to"):
        slopes.kfold(k, by)


def test_an_unknown_factor_is_named(slopes):
    with pytest.raises(ArgumentError, match="by='Day'"):
        slopes.kfold(3, "Day")


def test_a_flat_prior_is_no_obstacle():
    model = hp.Model(
        "Yield ~ 1 + (1 | Batch)",
        hp.datasets.load("Dyestuff"),
        priors={"Intercept": hp.Prior("Flat")},
    )
    assert np.isfinite(model.fit(seed=1, progress=False).kfold(3, progress=False).elpd)
