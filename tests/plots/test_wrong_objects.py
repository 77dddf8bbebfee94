"""A picture that is given the wrong thing says so, in hierpool's words, and what to write."""

from __future__ import annotations

import pytest

import hierpool as hp
from hierpool import plots
from hierpool.core.errors import ArgumentError, HierpoolError
from tests.support.cases import each

NAMES = plots.__all__


@pytest.fixture(scope="module")
def wrong(fitted):
    """What a user has at hand beside what a picture takes."""
    fit = fitted["sleepstudy_slopes"]
    return [fit.posterior, fit.reml, "Subject", None, 3.0, hp.datasets.load("sleepstudy"), [1, 2]]


@each("name", NAMES)
def test_a_picture_draws_what_it_is_given_or_says_what_it_takes(name, wrong):
    errors = 0
    for given in wrong:
        try:
            getattr(plots, name)(given)
        except HierpoolError:
            errors += 1
    assert errors >= len(wrong) - 2


def test_a_model_that_is_not_fitted_is_named(wrong):
    model = hp.Model("Reaction ~ Days + (1 | Subject)", wrong[-2])
    for name in set(NAMES) - {"prior_predictive"}:
        with pytest.raises(HierpoolError, match="Model"):
            getattr(plots, name)(model)
    for draw in (plots.trajectories, plots.comparison, plots.ladder):
        with pytest.raises(ArgumentError, match="'one' is a Model"):
            draw({"one": model})


def test_influence_of_a_posterior_is_a_table_and_no_picture(wrong):
    with pytest.raises(ArgumentError, match="on a REML") as raised:
        plots.influence(hp.influence(wrong[0]))
    assert raised.value.code == "cannot-be-drawn"


@pytest.mark.parametrize("simulating", [hp.calibrate, hp.recovery])
def test_simulation_takes_a_model_and_no_fit(simulating, wrong):
    with pytest.raises(ArgumentError, match=r"given: PosteriorFit\. Write hp"):
        simulating(wrong[0])


def test_sensitivity_takes_a_posterior(wrong):
    with pytest.raises(ArgumentError, match=r"model.fit\(\); given: LikelihoodFit"):
        hp.sensitivity(wrong[1])
