"""What a fit predicts: replicated statistics, levels left out, PITs of rows left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.checks.accuracy import level_coverage, loo_pit, replicated
from hierpool.checks.accuracy.level_statistics import Statistics
from hierpool.checks.residuals.null_residuals import Replicates
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from tests.support.tables import over_time


def test_statistics_are_what_pandas_and_numpy_make_of_the_rows(fitted):
    design = fitted["sleepstudy_slopes"].model.design
    sleep = hp.datasets.load("sleepstudy")
    found = Statistics(design).whole(design.y[:, None])[0]
    each = sleep.groupby("Subject")
    means = each.Reaction.mean()
    slopes = each.apply(lambda d: np.polyfit(d.Days, d.Reaction, 1)[0], include_groups=False)
    wanted = {
        "sd of means": means.std(),
        "lowest mean": means.min(),
        "sd of slopes on Days": slopes.std(),
        "highest slope on Days": slopes.max(),
        "sd within groups": np.sqrt(each.Reaction.var().mean()),
    }
    for name, value in wanted.items():
        assert found["Subject", name] == pytest.approx(value)
    assert found["rows", "highest"] == sleep.Reaction.max()
    lines = each.apply(
        lambda d: d.Reaction - np.polyval(np.polyfit(d.Days, d.Reaction, 1), d.Days),
        include_groups=False,
    ).to_numpy()
    left = lines.reshape(18, 10)
    r = (left[:, 1:] * left[:, :-1]).mean() / (left**2).mean()
    assert found["Subject", "lag-1 correlation over Days"] == pytest.approx(r)
    by_level = Statistics(design).by_level(design.y[:, None])[0]
    assert by_level.xs("mean", level="statistic").to_numpy() == pytest.approx(means.to_numpy())
    slopes_found = by_level.xs("slope on Days", level="statistic").to_numpy()
    assert slopes_found == pytest.approx(slopes.to_numpy())


def test_responses_with_new_levels_have_the_covariance_of_the_model(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    drawn = replicated.replicate(fit, True, seed=1)
    Z, n = fit.design.groups[0].Z[:10], drawn.shape[1]
    posterior = fit.draws["posterior"]
    sd = posterior["sd_Subject"].to_numpy().reshape(-1, 2)
    corr = posterior["corr_Subject"].to_numpy().reshape(-1, 2, 2)
    Sigma = (corr * sd[:, :, None] * sd[:, None, :]).mean(axis=0)
    sigma2 = (posterior["sigma"].to_numpy() ** 2).mean()
    beta = np.cov(posterior["beta"].to_numpy().reshape(-1, 2).T)
    wanted = Z @ (Sigma + beta) @ Z.T + sigma2 * np.eye(10)
    found = np.mean([np.cov(drawn[10 * j : 10 * j + 10]) for j in range(18)], axis=0)
    scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
    assert np.abs((found - wanted) / scale).max() < 6 / np.sqrt(n)


def test_responses_of_known_levels_stay_by_their_levels(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    drawn = replicated.replicate(fit, False, seed=1)
    error = drawn.mean(axis=1) - fit.fitted().to_numpy()
    assert np.abs(error).max() < 5 * drawn.std(axis=1).max() / np.sqrt(drawn.shape[1])


def test_a_level_is_judged_by_new_ones_and_hides_behind_its_own_coefficients():
    rng = np.random.default_rng(6)
    level = np.repeat(np.arange(30), 6)
    y = rng.normal(size=30)[level] + rng.normal(size=180)
    data = pd.DataFrame({"y": y + 9 * (level == 7), "g": level})
    fit = hp.Model("y ~ 1 + (1 | g)", data).fit(seed=1, progress=False)
    new = fit.predictive_check().loc[("g", "highest mean"), "p"]
    known = fit.predictive_check("known").loc[("g", "highest mean"), "p"]
    assert new < 0.01
    assert known > 0.2


def test_predictive_tables_are_tidy_and_repeat(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    table = fit.predictive_check()
    assert list(table.columns[:4]) == ["observed", "mean", "median", "sd"]
    assert table["p"].between(0, 1).all()
    pd.testing.assert_frame_equal(table, fit.predictive_check(seed=None))
    by_level = fit.predictive_check(by="level")
    assert by_level.index.names == ["factor", "level", "statistic"]
    assert len(by_level) == 18 * 3


@pytest.mark.parametrize("name", ["boars_no_pooling", "radon_complete", "machines_slopes"])
def test_every_pooling_has_a_predictive_check(fitted, name):
    table = fitted[name].posterior.predictive_check()
    assert np.isfinite(table[["observed", "mean", "p"]].to_numpy()).all()


def test_predictive_check_says_what_it_takes(fitted):
    fit = fitted["dyestuff"].posterior
    with pytest.raises(ArgumentError, match="unknown-choice"):
        fit.predictive_check(levels="old")
    with pytest.raises(ArgumentError, match="unknown-choice"):
        fit.predictive_check(by="row")


def test_beta_without_a_level_is_that_of_the_rows_that_are_left(fitted):
    fit = fitted["radon_uranium"].posterior
    grouping = fit.design.groupings["county"]
    theta = fit.working_theta[:3]
    S, s = fit.integrated.population_without_levels(theta, grouping)
    for j in (0, 30, 84):
        rest = fit.integrated.without(np.flatnonzero(grouping.codes == j)).marginal(theta)
        assert S[:, j] == pytest.approx(rest.R @ np.swapaxes(rest.R, 1, 2), rel=1e-8, abs=1e-8)
        assert np.linalg.solve(S[:, j], s[:, j, :, None])[..., 0] == pytest.approx(rest.beta)


def test_a_level_of_one_row_has_the_density_of_leave_one_group_out(fitted):
    """Another way to the same prediction: mean and sd against the joint density of the level."""
    fit = fitted["radon_uranium"].posterior
    grouping = fit.design.groupings["county"]
    means, rows = level_coverage._predictions(fit, fit.design.groups[0], grouping)
    picks = np.linspace(0, len(fit.theta) - 1, level_coverage.DRAWS).astype(int)
    density = fit.integrated.log_density_of_levels(fit.working_theta[picks], grouping)
    single = np.flatnonzero(grouping.n_rows == 1)
    assert len(single) > 2
    for j in single:
        i = int(np.flatnonzero(grouping.codes == j)[0])
        for found, at in ((means, j), (rows, i)):
            log_density = stats.norm.logpdf(fit.design.y[i], found.mean[at], found.sd[at])
            assert log_density == pytest.approx(density[j], rel=1e-8)


def test_intervals_for_left_out_levels_hold_what_they_promise(fitted):
    table = fitted["boars_slopes"].posterior.level_coverage(prob=0.8)
    assert 0.69 < table["covered"].mean() < 0.91  # binomial, three standard errors
    assert 0.74 < table["rows_covered"].mean() < 0.86
    assert stats.kstest(table["pit"], "uniform").pvalue > 0.01
    inside = (table["eti80_lb"] <= table["observed"]) & (table["observed"] <= table["eti80_ub"])
    assert (inside == table["covered"]).all()
    assert (table["covered"] == ((table["pit"] - 0.5).abs() <= 0.4)).all()


def test_complete_pooling_has_levels_to_leave_out_as_well(fitted):
    table = fitted["sleepstudy_complete"].posterior.level_coverage()
    assert table["covered"].mean() < 0.7  # it knows nothing of how much people differ


def test_level_coverage_says_what_it_takes(fitted):
    with pytest.raises(UnsupportedModelError, match="no-random-effects"):
        fitted["boars_no_pooling"].posterior.level_coverage()
    with pytest.raises(ArgumentError, match="bad-probability"):
        fitted["dyestuff"].posterior.level_coverage(prob=2)


def test_pits_at_the_optimum_are_those_of_the_posterior_nearly(fitted):
    for name in ("boars_slopes", "sleepstudy_slopes"):
        fit, maker = fitted[name].posterior, ResidualMaker.from_fit(fitted[name].reml)
        replicates = Replicates.from_residual_maker(maker)
        at_optimum = loo_pit.of_left_out_rows(replicates)[:, 0]
        assert np.abs(at_optimum - fit.loo_pit().to_numpy()).max() < 0.08
        assert np.abs(at_optimum - fit.loo_pit().to_numpy()).mean() < 0.01


def test_anderson_and_darling_agree_with_the_integral_that_defines_it():
    """n times the integral of (F_n(u) - u)^2 / (u (1 - u))."""
    pit = np.random.default_rng(1).beta(2, 1, size=40)
    u = (np.arange(4_000_000) + 0.5) / 4_000_000
    empirical = np.searchsorted(np.sort(pit), u, side="right") / len(pit)
    wanted = len(pit) * np.mean((empirical - u) ** 2 / (u * (1 - u)))
    assert loo_pit.distance(pit[:, None])[0] == pytest.approx(wanted, rel=1e-4)


def fit_both(data, formula="y ~ time + (time | g)"):
    model = hp.Model(formula, data)
    return model.fit(seed=1, progress=False), model.reml()


def test_heavy_tails_leave_pits_that_are_not_uniform():
    rng = np.random.default_rng(2)
    fit, blup = fit_both(over_time(rng, 30, noise=lambda rng, g, _: rng.standard_t(2, size=len(g))))
    (finding,) = loo_pit.judged(fit, blup)
    assert "50 % intervals hold" in finding.text
    assert finding.evidence["rows"].sum() == 240


def test_levels_in_two_lumps_are_covered_too_often_or_too_rarely():
    rng = np.random.default_rng(1)
    data = over_time(rng, 80, 4)
    data["y"] += 60 * (data.g.str[1:].astype(int) % 16 == 0)
    (finding,) = level_coverage.judged(*fit_both(data))
    assert finding.code == "level-coverage"
    assert "too wide" in finding.text


def test_a_spread_of_slopes_that_a_model_does_not_make_is_found():
    fit, blup = fit_both(over_time(np.random.default_rng(3), 30), "y ~ time + (1 | g)")
    (finding,) = replicated.judged(fit, blup)
    assert "slope" in finding.text


@pytest.mark.parametrize("name", ["boars_slopes", "orthodont_sex", "dyestuff2", "radon_uranium"])
def test_predictions_of_models_that_hold_are_left_in_peace(fitted, name):
    fit, blup = fitted[name].posterior, fitted[name].reml
    assert list(level_coverage.judged(fit, blup)) == []
    assert list(replicated.judged(fit, blup)) == []


def test_priors_are_set_beside_the_data(fitted):
    model = fitted["sleepstudy_slopes"].model
    table = model.prior_check(seed=3)
    pd.testing.assert_frame_equal(table, model.prior_check(seed=3))
    assert table["p"].between(0.01, 0.99).sum() >= len(table) - 1
    alike = hp.Prior("HalfNormal", sigma=0.1)
    narrow = model.with_priors({"sd_Subject": alike, "sigma": hp.Prior("HalfNormal", sigma=5)})
    assert narrow.prior_check(seed=3).loc[("Subject", "sd of slopes on Days"), "p"] < 0.01


@pytest.mark.calibration
def test_predictive_findings_on_clean_data_are_rare():
    codes = []
    for seed in range(100):
        fit, blup = fit_both(over_time(np.random.default_rng([4, seed]), 20, 5))
        for module in (loo_pit, level_coverage, replicated):
            codes += [f.code for f in module.judged(fit, blup)]
    assert len(codes) <= 5
