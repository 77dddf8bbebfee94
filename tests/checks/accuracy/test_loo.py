"""Leave-one-out by row and by group is what leaving out gives, and prints what it answers."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
from scipy import stats

import hierpool as hp
from hierpool.checks.accuracy.loo import grouping_for, relative_efficiency
from hierpool.core.errors import ArgumentError
from tests.laws.quadrature import OneWay

SMALL = ["dyestuff", "dyestuff2"]


def quadrature(fitted, name: str) -> OneWay:
    data = hp.datasets.load(fitted[name].dataset)
    return OneWay.of(data["Yield"].to_numpy(float), data["Batch"].cat.codes.to_numpy())


@pytest.mark.parametrize("name", SMALL)
def test_score_by_row_is_that_of_leaving_each_row_out(fitted, name):
    truth, rows = quadrature(fitted, name), [0, 7, 13, 21, 24, 29]
    loo = fitted[name].posterior.loo()
    whole = truth.log_evidence
    exact = np.array([whole - truth.without([i]).log_evidence for i in rows])
    np.testing.assert_allclose(loo.elpd_i.to_numpy()[rows], exact, atol=0.05)


@pytest.mark.parametrize("name", SMALL)
def test_score_by_group_is_that_of_leaving_each_level_out(fitted, name):
    truth = quadrature(fitted, name)
    loo = fitted[name].posterior.loo(by="group")
    rows = [np.flatnonzero(truth.codes == j).tolist() for j in range(6)]
    whole = truth.log_evidence
    exact = np.array([whole - truth.without(r).log_evidence for r in rows])
    np.testing.assert_allclose(loo.elpd_i, exact, atol=0.12)
    assert loo.elpd == pytest.approx(exact.sum(), abs=0.2)


def test_documented_scores_are_met(fitted):
    """Exact by refitting every point: sleepstudy -861.86, Dyestuff -163.98, Dyestuff2 -84.25."""
    known = {"sleepstudy_slopes": -861.86, "dyestuff": -163.98, "dyestuff2": -84.25}
    for name, elpd in known.items():
        assert fitted[name].posterior.loo().elpd == pytest.approx(elpd, abs=0.15), name


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")  # one k above .7, in both
@pytest.mark.parametrize("name", ["sleepstudy_slopes", "sleepstudy_no_pooling", "dyestuff"])
def test_arviz_reads_the_same_score_from_the_stored_densities(fitted, name):
    fit = fitted[name].posterior
    r_eff = relative_efficiency(fit)
    assert str(fit.loo(exact=False)).startswith("a new observation of a known group\n")
    ours, theirs = fit.loo(exact=False), az.loo(fit.datatree, pointwise=True, reff=r_eff)
    np.testing.assert_allclose(ours.elpd_i, theirs.elpd_i, atol=1e-8)
    np.testing.assert_allclose(ours.pareto_k, theirs.pareto_k, atol=1e-8)
    assert ours.elpd == pytest.approx(theirs.elpd)
    assert ours.se == pytest.approx(theirs.se)
    assert ours.p == pytest.approx(theirs.p)


def test_conditional_form_flatters_no_pooling(fitted):
    """Each boar has four rows for two coefficients: the usual score is 20 and more too high."""
    fit = fitted["boars_no_pooling"].posterior
    integrated, conditional = fit.loo(), fit.loo(form="conditional")
    assert conditional.elpd > integrated.elpd + 20
    assert (conditional.pareto_k > 0.7).sum() > 50
    assert (integrated.pareto_k > 0.7).sum() == 0


def test_points_that_sampling_cannot_score_are_scored_exactly(fitted):
    fit = fitted["orthodont_slopes"].posterior
    sampled, exact = fit.loo(by="group", exact=False), fit.loo(by="group")
    bad = sampled.pareto_k > sampled.good_k
    assert bad.any()
    assert exact.n_refitted == bad.sum()
    assert sampled.n_refitted == 0
    assert sampled.warning
    assert not exact.warning
    same = ~bad.to_numpy()
    np.testing.assert_array_equal(exact.elpd_i[same], sampled.elpd_i[same])
    assert (exact.elpd_i[~same] != sampled.elpd_i[~same]).all()
    assert str(exact).startswith("all observations of a new subject\n")
    assert f"{exact.n_refitted} of 27 scores computed exactly" in str(exact)


def test_levels_carry_their_labels(fitted):
    loo = fitted["sleepstudy_slopes"].posterior.loo(by="group")
    assert loo.elpd_i.dims == ("Subject",)
    assert loo.elpd_i["Subject"].to_numpy().tolist()[:2] == ["308", "309"]
    assert loo.n_data_points == 18


def test_rows_carry_the_users_index():
    data = hp.datasets.load("Dyestuff").iloc[::-1]
    fit = hp.Model("Yield ~ 1 + (1 | Batch)", data).fit(draws=200, seed=1)
    assert fit.loo(exact=False).elpd_i["obs"].to_numpy().tolist() == data.index.tolist()


def test_group_of_complete_pooling_is_the_one_that_was_named(fitted):
    fit = fitted["sleepstudy_complete"].posterior
    assert fit.loo(by="group").elpd_i.dims == ("Subject",)
    assert grouping_for(fit.design, "Subject").n_levels == 18


def test_new_level_without_pooling_has_its_prior_only(fitted):
    """Each level's rows given the others and theta: own coefficients come from the prior."""
    names = ("sleepstudy_no_pooling", "sleepstudy_slopes")
    alone, together = (fitted[n].posterior.loo(by="group").elpd for n in names)
    assert alone < together - 20


def test_unknown_choices_are_answered_with_the_known_ones(fitted):
    fit = fitted["dyestuff"].posterior
    with pytest.raises(ArgumentError, match=r"by='batch': did you mean 'Batch'"):
        fit.loo(by="batch")
    with pytest.raises(ArgumentError, match="choose 'integrated', or 'conditional' by row"):
        fit.loo(by="group", form="conditional")
    nameless = hp.Model("Yield ~ 1", hp.datasets.load("Dyestuff")).fit(draws=100, seed=1, chains=2)
    with pytest.raises(ArgumentError, match=r"has no groups to leave out.*\[no-groups\]"):
        nameless.loo(by="group")


def test_probability_of_each_row_given_the_others_is_uniform(fitted):
    """Of data simulated from the model: the boars."""
    pit = fitted["boars_slopes"].posterior.loo_pit()
    assert pit.dims == ("obs",)
    assert stats.kstest(pit, "uniform").pvalue > 0.01
