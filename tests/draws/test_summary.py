"""Verdicts and tables of draws; ArviZ reads a fit unchanged."""

from __future__ import annotations

import warnings

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hierpool as hp
from hierpool.draws.summary import (
    convergence,
    monte_carlo_error,
    proposal_pareto_k,
    summary,
    verdict,
)

RNG = np.random.default_rng(1)


def tree(sigma: np.ndarray, **sample_stats: np.ndarray) -> xr.DataTree:
    """Draws of one scalar, shape (chains, draws)."""
    dims = ("chain", "draw")
    groups = {"posterior": xr.Dataset({"sigma": (dims, sigma)})}
    if sample_stats:
        groups["sample_stats"] = xr.Dataset({k: (dims, v) for k, v in sample_stats.items()})
    return xr.DataTree.from_dict(groups)


GOOD = RNG.normal(size=(4, 1000))


def test_good_draws_are_good_with_their_numbers():
    status = verdict(tree(GOOD), ["sigma"])
    assert status.word == "good"
    assert status.is_trustworthy
    assert "over 1 quantities" in status.sentence


BAD = {
    "one_chain_elsewhere": (GOOD + np.array([[0], [0], [0], [1.0]]), {}, "R-hat reaches"),
    "slow_chains": (np.repeat(RNG.normal(size=(4, 20)), 50, axis=1), {}, "bulk ESS falls to"),
    "never_moved": (np.full((4, 1000), 2.0), {}, "1 of 1 quantities are constant"),
    "one_chain": (GOOD[:1], {}, "R-hat needs several chains (chains=4)."),
    "divergences": (
        GOOD,
        {"diverging": np.arange(4000).reshape(4, 1000) < 7},
        "7 of 4000 transitions diverged",
    ),
    "energy": (GOOD, {"energy": np.cumsum(RNG.normal(size=(4, 1000)), axis=1)}, "E-BFMI falls to"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_draws_are_doubtful_and_the_sentence_says_why(name):
    draws, sample_stats, why = BAD[name]
    status = verdict(tree(draws, **sample_stats), ["sigma"])
    assert status.word == "doubtful"
    assert not status.is_trustworthy
    assert why in status.sentence


def test_diagonal_of_a_correlation_is_not_judged(fitted):
    table = convergence(fitted["sleepstudy_slopes"].posterior.datatree, ["corr_Subject", "sigma"])
    assert table["variable"].tolist() == ["corr_Subject", "sigma"]
    assert table.notna().all().all()


def test_diagnostics_are_those_of_arviz(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    table = convergence(fit.datatree, ["beta"])
    theirs = az.summary(fit.datatree, var_names=["beta"], round_to="none", kind="diagnostics")
    for column in ("ess_bulk", "ess_tail", "r_hat"):
        np.testing.assert_allclose(table[column], theirs[column].astype(float), rtol=1e-10)


def test_summary_is_that_of_arviz_in_full_precision(fitted):
    draws = fitted["sleepstudy_slopes"].posterior.datatree["posterior"]["beta"]
    table = summary(draws)
    theirs = az.summary(draws.to_dataset(), round_to="none", ci_prob=0.95)
    for column in ("mean", "sd", "eti95_lb", "eti95_ub", "ess_bulk", "ess_tail", "r_hat"):
        np.testing.assert_allclose(table[column], theirs[column].astype(float), rtol=1e-10)
    np.testing.assert_allclose(table["median"], np.median(draws, axis=(0, 1)))


@pytest.mark.parametrize(
    ("kind", "probability", "label"), [("eti", 0.5, "eti50"), ("hdi", 0.94, "hdi94")]
)
def test_the_kind_follows_arviz_and_the_probability_hp_options(fitted, kind, probability, label):
    draws = fitted["sleepstudy_slopes"].posterior.datatree["posterior"]["beta"]
    with az.rc_context({"stats.ci_kind": kind}), hp.options(prob=probability):
        table = summary(draws, diagnostics=False)
        blups = fitted["sleepstudy_slopes"].posterior.fixed_effects()
    assert {f"{label}_lb", f"{label}_ub"} <= set(table.columns)
    assert {f"{label}_lb", f"{label}_ub"} <= set(blups.columns)
    assert "ess_bulk" not in table
    inside = (draws >= table[f"{label}_lb"].to_numpy()) & (draws <= table[f"{label}_ub"].to_numpy())
    np.testing.assert_allclose(inside.mean(("chain", "draw")), probability, atol=0.002)


def test_monte_carlo_error_of_independent_draws_is_sd_over_root_n():
    values = xr.DataArray(RNG.normal(size=(4, 2000, 3)), dims=("chain", "draw", "k"))
    np.testing.assert_allclose(monte_carlo_error(values), 1 / np.sqrt(8000), rtol=0.1)


def test_pareto_k_of_a_proposal_is_the_index_of_its_weights():
    """psislw of ArviZ negates its argument; a heavy upper tail of weights must give a high k."""
    rng = np.random.default_rng(7)
    heavy = np.log(rng.pareto(1.1, 20_000) + 1)
    light = 0.1 * rng.normal(size=20_000)
    assert proposal_pareto_k(heavy) > 0.8
    assert proposal_pareto_k(-heavy) < 0.2
    assert proposal_pareto_k(light) < 0.3
    assert proposal_pareto_k(np.append(light, [-np.inf, np.nan])) == proposal_pareto_k(light)
    assert proposal_pareto_k(np.full(9, -np.inf)) == np.inf  # no point has a density
    assert proposal_pareto_k(np.append(np.full(900, 3.0), light)) == np.inf  # of equal weights


FITS = [
    "sleepstudy_slopes",
    "sleepstudy_uncorrelated",
    "sleepstudy_no_pooling",
    "sleepstudy_complete",
    "machines_slopes",
]


@pytest.mark.parametrize("name", FITS)
def test_az_summary_reads_a_fit_unchanged(fitted, name):
    fit = fitted[name].posterior
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the diagonal of a correlation, which never moves
        table = az.summary(fit.datatree, round_to="none")
    assert isinstance(table, pd.DataFrame)
    assert np.isfinite(table["mean"].astype(float)).all()
    beta = [row for row in table.index if row.startswith("beta")]
    if beta:
        ours, theirs = fit.fixed_effects(), table.loc[beta, ["mean", "sd"]].astype(float).to_numpy()
        np.testing.assert_allclose(theirs[:, 1], ours["sd"], rtol=1e-12)
        # ours are averages of conditional means
        assert (np.abs(theirs[:, 0] - ours["mean"]) / ours["sd"]).max() < 6 / np.sqrt(1000)


@pytest.mark.parametrize("name", FITS)
def test_az_loo_reads_a_fit_unchanged(fitted, name):
    fit = fitted[name].posterior
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pareto k's, which say what they say
        loo = az.loo(fit.datatree)
    assert loo.elpd == pytest.approx(fit.loo(exact=False).elpd, abs=0.3)


def test_az_compare_ranks_fits_as_we_do(fitted):
    names = ["sleepstudy_complete", "sleepstudy_intercepts", "sleepstudy_slopes"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = az.compare({n: fitted[n].posterior.datatree for n in names})
    assert table.index.tolist() == names[::-1]


def test_az_plot_forest_reads_a_fit_unchanged(fitted):
    drawn = az.plot_forest(
        fitted["dyestuff"].posterior.datatree,
        var_names=["sigma", "coef_Batch"],
        backend="matplotlib",
    )
    levels = [text.get_text() for text in drawn.viz["Batch_label"]["coef_Batch"].to_numpy()]
    assert levels == ["A", "B", "C", "D", "E", "F"]
    assert set(drawn.viz["trunk"].data_vars) == {"sigma", "coef_Batch"}
    plt.close("all")


@pytest.mark.parametrize("name", ["sleepstudy_slopes", "sleepstudy_no_pooling"])
def test_az_plot_trace_dist_reads_a_fit_unchanged(fitted, name):
    drawn = az.plot_trace_dist(
        fitted[name].posterior.datatree, var_names=["sigma"], backend="matplotlib"
    )
    labels = {axis.get_xlabel() for axis in drawn.viz["figure"].item().axes}
    assert labels == {"sigma", "Draw"}
    plt.close("all")


def test_posterior_predictive_plots_read_a_fit_unchanged(fitted):
    fit = fitted["sleepstudy_slopes"].posterior.posterior_predictive(seed=1)
    replicated = fit.datatree["posterior_predictive"]["y"]
    assert replicated.dims == ("chain", "draw", "obs")
    assert float(replicated.mean()) == pytest.approx(fit.design.y.mean(), rel=0.01)
    drawn = az.plot_ppc_dist(fit.datatree, backend="matplotlib", num_samples=20)
    assert set(drawn.viz["predictive_dist"].data_vars) == {"y"}
    plt.close("all")


def test_correlations_of_each_class_are_judged():
    draws = np.random.default_rng(1).uniform(size=(4, 200, 2, 3, 3))
    posterior = xr.Dataset({"corr_residual": (("chain", "draw", "sex", "visit", "visit2"), draws)})
    table = convergence(xr.DataTree.from_dict({"posterior": posterior}), ["corr_residual"])
    assert len(table) == 2 * 3
    assert table["ess_bulk"].min() > 300
