"""Posteriors of families are calibrated: ranks of true values among the draws of the exact engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.theta import ThetaMap

pytestmark = pytest.mark.calibration

COUNTS = "count ~ x + (1 | g)"
MODELS = {
    "bernoulli": "event ~ x + (1 | g)",
    "binomial": "hits / tries ~ x + (1 | g)",
    "poisson": COUNTS,
    "negbinomial": COUNTS,
    "zero_inflated_poisson": COUNTS,
    "zero_inflated_negbinomial": COUNTS,
    "hurdle_poisson": COUNTS,
    "hurdle_negbinomial": COUNTS,
    "student": "size ~ x + (1 | g)",
    "gamma": "amount ~ x + (1 | g)",
    "beta": "share ~ x + (1 | g)",
    "ordinal": "rating ~ x + (1 | g)",
}
LEVELS, ROWS = 6, 5


def model_of(family: str, formula: str = "") -> hp.Model:
    """A model of a table whose responses are only there to be replaced."""
    rng = np.random.default_rng(0)
    n = LEVELS * ROWS
    x = rng.standard_normal(n)
    responses = {
        "event": np.arange(n) % 2,
        "hits": np.arange(n) % 9,
        "count": np.arange(n) % 7,
        "size": x + rng.standard_normal(n),
        "amount": rng.gamma(3.0, 1.0, n),
        "share": rng.beta(2.0, 2.0, n),
        "rating": 1 + np.arange(n) % 4,
    }
    g = np.repeat([f"g{j}" for j in range(LEVELS)], ROWS)
    data = pd.DataFrame({"g": g, "x": x, "tries": 8, **responses})
    priors = {"beta": hp.Prior("Normal", mu=0, sigma=1)}  # counts stay below a few thousands
    return hp.Model(formula or MODELS[family], data, family=family, priors=priors)


@pytest.mark.filterwarnings("ignore::hierpool.core.errors.HierpoolWarning")
@pytest.mark.parametrize("family", MODELS)
def test_every_family_is_calibrated(family):
    found = hp.calibrate(model_of(family), 40, seed=20261129, progress=False)
    assert found.is_calibrated, str(found)
    assert found.n_distrusted <= 2


@pytest.mark.filterwarnings("ignore::hierpool.core.errors.HierpoolWarning")
def test_an_engine_that_misreads_the_spread_is_not(monkeypatch):
    right = ThetaMap.of_family

    def misread(self, theta):
        found = right(self, theta)
        return replace(found, Lambda=0.4 * found.Lambda)

    monkeypatch.setattr(ThetaMap, "of_family", misread)
    found = hp.calibrate(model_of("poisson"), 100, seed=20261129, progress=False)
    assert not found.is_calibrated
    assert not found.table.loc["sd_g[Intercept]", "inside"]
