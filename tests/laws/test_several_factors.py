"""Models with several factors: scores, shrinkage and BLUPs beside posterior means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import hierpool as hp
from hierpool.bayes.exact.leave_out import joint_log_density
from hierpool.checks.accuracy.loo import relative_efficiency


@pytest.fixture(scope="module")
def model() -> hp.Model:
    return hp.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", hp.datasets.load("Penicillin"))


@pytest.fixture(scope="module")
def fit(model) -> hp.PosteriorFit:
    return model.fit(seed=1)


def test_rows_are_scored_as_by_fitting_without_them(fit, model):
    loo = fit.loo()
    worst = np.argsort(loo.elpd_i.to_numpy())[:3]
    for i in [*worst, 0, 77]:
        exact = joint_log_density(model.design, model.priors, np.array([i]), seed=2)
        assert abs(float(loo.elpd_i[i]) - exact.log_density) < 0.02 + 4 * exact.error


@pytest.mark.parametrize("factor", ["plate", "sample"])
def test_levels_are_scored_as_by_fitting_without_them(fit, model, factor):
    loo = fit.loo(by=factor)
    grouping = model.design.group(factor).grouping
    for j in (0, 3):
        rows = np.flatnonzero(grouping.codes == j)
        exact = joint_log_density(model.design, model.priors, rows, seed=2)
        assert abs(float(loo.elpd_i[j]) - exact.log_density) < 0.1 + 4 * exact.error


def test_arviz_reads_the_same_score(fit):
    import arviz as az

    ours = fit.loo(exact=False)
    theirs = az.loo(fit.datatree, pointwise=True, reff=relative_efficiency(fit))
    np.testing.assert_allclose(theirs.elpd_i.to_numpy(), ours.elpd_i.to_numpy(), rtol=1e-8)


@pytest.mark.slow
def test_as_many_folds_as_levels_are_leave_one_group_out(fit):
    plates = fit.kfold(24, by="plate", progress=False)
    one_out = fit.loo(by="plate")
    assert plates.n_distrusted == 0
    assert plates.elpd == pytest.approx(one_out.elpd, abs=0.5)
    assert np.abs(plates.elpd_i.to_numpy() - one_out.elpd_i.to_numpy()).max() < 0.1


def test_held_out_rows_have_the_density_of_the_joint_normal(fit):
    d, theta = fit.design, fit.working_theta[:2]
    sets = [np.array([0]), np.array([5]), np.array([30, 31, 32])]
    held = np.concatenate(sets)
    rest = fit.integrated.without(held)
    found = fit.integrated.density_of_sets(rest, theta, sets)
    others = np.setdiff1d(np.arange(d.n), held)
    block, posterior = fit.priors.population, fit.draws["posterior"]
    same = {f: np.equal.outer(*[d.group(f).grouping.codes] * 2) for f in ("plate", "sample")}
    for k in range(2):
        at = {"chain": 0, "draw": k}
        cov = np.full((d.n, d.n), np.linalg.inv(block.precision_root)[0, 0] ** 2)
        cov += float(posterior["sigma"][at]) ** 2 * np.eye(d.n)
        for f, together in same.items():
            cov += float(posterior[f"sd_{f}"][at][0]) ** 2 * together
        for s, rows in zip(found, sets, strict=True):
            gain = np.linalg.solve(cov[np.ix_(others, others)], cov[np.ix_(others, rows)]).T
            mean = block.mean[0] + gain @ (d.y[others] - block.mean[0])
            left = cov[np.ix_(rows, rows)] - gain @ cov[np.ix_(others, rows)]
            assert s[k] == pytest.approx(
                stats.multivariate_normal(mean, left).logpdf(d.y[rows]), rel=1e-7
            )


def test_posterior_means_stand_beside_blups(fit, model):
    table = hp.compare_blups(fit, model.reml())
    assert table.index.get_level_values("factor").unique().tolist() == ["plate", "sample"]
    parts = table["due_to_coefficient_prior"] + table["due_to_variances"]
    np.testing.assert_allclose(table["difference"], parts, atol=1e-12)
    assert table["difference"].abs().max() < 0.1


def test_pooling_factor_is_the_share_of_variance_that_is_left(fit, model):
    reml = model.reml()
    table = hp.shrinkage(reml)
    for f in reml.estimate.factors:
        own = table.loc[f.factor]
        expected = f.u_condvar[:, 0, 0] / f.sd[0] ** 2
        np.testing.assert_allclose(own["pooling_factor"], expected)
    drawn = hp.shrinkage(fit)
    assert drawn["pooling_factor"].between(0, 1).all()
    near = (drawn["pooling_factor"] - table["pooling_factor"]).abs()
    assert near.max() < 0.05


def test_own_estimate_of_a_level_is_its_mean_less_the_other_factors(model):
    reml = model.reml()
    table, d = hp.shrinkage(reml).loc["plate"], model.design
    sample = d.group("sample").grouping.codes
    left = d.y - reml.estimate.of("sample").u[sample, 0]
    plate = d.group("plate").grouping.codes
    means = np.bincount(plate, left) / np.bincount(plate)
    np.testing.assert_allclose(table["own_estimate"], means)


def test_a_dear_posterior_answers_from_fewer_draws(fit, monkeypatch):
    import hierpool.fits.posterior

    every = fit.loo()
    fewer = hp.PosteriorFit(fit.design, fit.priors, fit.draws, fit.status, dict(fit.info))
    work = fit.integrated.flops_per_theta
    monkeypatch.setattr(hierpool.fits.posterior, "AFFORDABLE", 400.0 * work)
    loo = fewer.loo()
    assert loo.n_samples == 400
    assert loo.n_left == 3600
    assert 0 < loo.mcse < 0.5
    assert np.isnan(every.mcse)
    assert abs(loo.elpd - every.elpd) < 5 * loo.mcse + 0.05
    assert "400 of 4000 draws" in str(loo)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "formula"),
    [
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
        ("Machines", "score ~ Machine + (Machine | Worker)"),
    ],
)
def test_nuts_on_the_full_model_agrees(dataset, formula):
    model = hp.Model(formula, hp.datasets.load(dataset))
    nuts = model.fit("nuts", seed=1, draws=2500, target_accept=0.97, progress=False)
    exact = model.fit("exact", seed=1, draws=2500)
    for one, other, limit in (
        (nuts.summary(), exact.summary(), 4.0),
        (nuts.coefficients(), exact.coefficients(), 5.0),  # they move together with the intercept
    ):
        errors = [t["sd"] / np.sqrt(t["ess_bulk"]) for t in (one, other)]
        assert ((one["mean"] - other["mean"]).abs() < limit * np.hypot(*errors)).all()
        width = np.sqrt(1 / one["ess_tail"] + 1 / other["ess_tail"])
        assert (np.log(one["sd"] / other["sd"]).abs() < 5.0 * width).all()
