"""PyMC's density of the response is that of the family, weighted rows included."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from hierpool.bayes.nuts.families import observed
from tests.core.families.cases import CASES, Case


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pymc_has_the_density_of_the_family(case: Case, weighted: bool):
    rng, n = np.random.default_rng(8), 12
    eta, trials = rng.normal(size=n), np.full(n, float(case.trials))
    y = case.family.draw(eta[None], case.pars, trials, rng)[0]
    weights = rng.uniform(0.2, 3.0, size=n) if weighted else None
    names = case.family.parameters
    parameters = dict(zip(names, map(np.array, case.par), strict=True)) if names else {}
    if case.family.has_thresholds:
        parameters = {"thresholds": np.array(case.par)}
    with pm.Model(coords={"obs": np.arange(n)}) as model:
        observed(case.family, "y", eta, parameters, trials, weights, y, "obs")
    expected = case.family.log_density(y, eta[None], case.pars, trials)[0]
    whole = (expected * (1 if weights is None else weights)).sum()
    # of a negative binomial of shape 2e5, PyMC has seven digits
    digits = 1e-7 if max(case.par, default=0) > 1e4 else 1e-10
    assert model.compile_logp()({}) == pytest.approx(whole, rel=digits, abs=digits)
