"""What a posterior would be without a level, by weights, is what it is when sampled without it."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from hierpool.bayes.exact.refit_with_priors import theta_without
from hierpool.checks.accuracy import level_influence_on_variances
from hierpool.core.errors import UnsupportedModelError


@pytest.mark.parametrize(
    ("name", "level"), [("sleepstudy_slopes", 9), ("orthodont_slopes", 3), ("radon_uranium", 30)]
)
def test_a_posterior_without_a_level_is_that_of_the_other_rows(fitted, name, level):
    fit = fitted[name].posterior
    table = hp.influence(fit)
    grouping = fit.design.groups[0].grouping
    rows = np.flatnonzero(grouping.codes == level)
    rest, theta, _ = theta_without(
        fit.design, fit.priors, rows, chains=4, draws=1000, seed=2, judge=lambda _: True
    )
    wanted = rest.mean_coefficients(theta)["beta"].mean(axis=0)
    found = table.iloc[level]
    assert found["pareto_k"] < 0.7
    sds = fit.variable("beta").to_numpy().std(axis=(0, 1))
    for k, term in enumerate(fit.design.terms):
        assert found[f"without[{term}]"] == pytest.approx(wanted[k], abs=0.1 * sds[k])
    sd = fit.variable("sigma").to_numpy().std()
    assert found["without[sigma]"] == pytest.approx(theta.sigma.mean(), abs=0.12 * sd)
    assert found["mean[sigma]"] == pytest.approx(fit.variable("sigma").to_numpy().mean())


def test_shifts_of_fixed_effects_are_near_those_at_the_optimum(fitted):
    """The same question, with the standard deviations held: most levels agree."""
    posterior, reml = (hp.influence(f) for f in fitted_both(fitted, "boars_slopes"))
    for term in ("Intercept", "time"):
        r = np.corrcoef(posterior[f"shift[{term}]"], reml[f"shift[{term}]"])[0, 1]
        assert r > 0.97


def fitted_both(fitted, name):
    return fitted[name].posterior, fitted[name].reml


def test_a_person_of_sleepstudy_is_influential(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    (levels,) = level_influence_on_variances.on_levels(fit, None)
    assert levels.severity == "note"
    assert "Without subject 332, the posterior mean of sigma" in levels.text


@pytest.mark.parametrize("name", ["boars_slopes", "dyestuff2", "radon_intercepts"])
def test_a_posterior_that_leans_on_nothing_is_left_in_peace(fitted, name):
    fit = fitted[name].posterior
    assert list(level_influence_on_variances.on_levels(fit, None)) == []


def test_models_with_several_factors_are_asked_at_the_optimum():
    data = hp.datasets.load("Pastes")
    fit = hp.Model("strength ~ 1 + (1 | batch) + (1 | sample)", data).fit(seed=1, progress=False)
    assert list(level_influence_on_variances.on_levels(fit, None)) == []
    with pytest.raises(UnsupportedModelError, match="one-factor-only"):
        hp.influence(fit, by="batch")
