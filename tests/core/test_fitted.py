"""Posteriors and optima are told apart by their protocols, and asking computes nothing."""

from __future__ import annotations

import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError
from hierpool.core.fitted import Fit, Optimum, Posterior, check_fit


@pytest.fixture
def both(fitted) -> tuple[hp.PosteriorFit, hp.LikelihoodFit]:
    one = fitted["sleepstudy_intercepts"]
    return one.posterior, one.reml


def test_each_fit_is_one_of_the_two(both):
    posterior, optimum = both
    kinds = (Fit, Posterior, Optimum)
    assert [isinstance(posterior, kind) for kind in kinds] == [True, True, False]
    assert [isinstance(optimum, kind) for kind in kinds] == [True, False, True]


def test_asking_which_it_is_computes_nothing(both):
    posterior, _ = both
    fresh = hp.PosteriorFit(posterior.design, posterior.priors, posterior.draws, posterior.status)
    before = set(vars(fresh))
    assert isinstance(fresh, Posterior)
    assert set(vars(fresh)) == before


@pytest.mark.parametrize("given", [None, 1, "fit", pd.DataFrame({"draws": [1]}), {}])
def test_anything_else_is_no_fit(given):
    with pytest.raises(
        ArgumentError, match=rf"f\(\) takes a fit.*{type(given).__name__}"
    ) as raised:
        check_fit(given, "f")
    assert raised.value.code == "fit-needed"
