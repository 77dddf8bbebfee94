"""What a posterior refuses to do with its draws."""

from __future__ import annotations

import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError


def test_table_in_the_place_of_the_seed_is_refused_by_what_it_is():
    data = hp.datasets.load("Dyestuff")
    fit = hp.Model("Yield ~ 1 + (1 | Batch)", data).fit(seed=1, draws=50, chains=2, engine="exact")
    with pytest.raises(ArgumentError, match="seed=<DataFrame> must be a whole number") as caught:
        fit.posterior_predictive(data)
    assert caught.value.code == "bad-count"
    assert "posterior_predictive" in fit.posterior_predictive(seed=1).datatree.children
