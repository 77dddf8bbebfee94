"""Exact scores of rows left out are those of a quadrature without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

import hierpool as hp
from hierpool.bayes.exact.leave_out import joint_log_density, whole
from hierpool.bayes.exact.log_posterior import log_posterior
from tests.laws.quadrature import OneWay

ROWS = {"one_row": [7], "two_rows_of_two_batches": [0, 12], "a_whole_batch": [20, 21, 22, 23, 24]}


def quadrature(name: str, rows: list[int]) -> float:
    data = hp.datasets.load(name)
    whole = OneWay.of(data["Yield"].to_numpy(float), data["Batch"].cat.codes.to_numpy())
    return whole.log_evidence - whole.without(rows).log_evidence


@pytest.mark.parametrize("name", ["dyestuff", "dyestuff2"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_score_is_the_ratio_of_two_quadratures(fitted, name, rows):
    """Priors and centring stay those of the full data."""
    model = fitted[name].model
    found = joint_log_density(model.design, model.priors, np.array(rows), seed=1)
    expected = quadrature(fitted[name].dataset, rows)
    assert abs(found.log_density - expected) < 4 * found.error
    assert found.error < 0.01


def test_error_of_a_score_is_honest(fitted):
    model = fitted["dyestuff"].model
    rows = ROWS["a_whole_batch"]
    found = [joint_log_density(model.design, model.priors, np.array(rows), s) for s in range(15)]
    truth = quadrature("Dyestuff", rows)
    z = np.array([(f.log_density - truth) / f.error for f in found])
    assert 0.5 < np.sqrt((z**2).mean()) < 1.6
    assert np.abs(z).max() < 4


@pytest.mark.parametrize(
    "name", ["sleepstudy_slopes", "sleepstudy_no_pooling", "sleepstudy_complete"]
)
def test_score_of_an_easy_row_is_that_of_importance_sampling(fitted, name):
    fit = fitted[name].posterior
    loo = fit.loo(exact=False)
    easy = int(np.argmin(np.where(np.isnan(loo.pareto_k), np.inf, loo.pareto_k)))
    found = joint_log_density(fit.design, fit.priors, np.array([easy]), seed=2)
    assert found.log_density == pytest.approx(loo.elpd_i.to_numpy()[easy], abs=0.02)


@pytest.mark.parametrize("rows", [[34], [32, 33, 34, 35]], ids=["row", "boy"])
def test_score_is_right_where_the_posterior_moves_far(rows):
    """Pareto k is 1.0 and 1.2: draws of theta given all rows hardly reach the others' posterior."""
    teeth = hp.datasets.load("Orthodont")
    model = hp.Model("distance ~ age * Sex", teeth, residual="ar1(age | Subject)")
    target = log_posterior(model.design, model.priors)
    rest = replace(target, integrated=target.integrated.without(np.array(rows)))
    line = np.arange(-7.0, 7.0, 0.05)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    with np.errstate(all="ignore"):
        expected = special.logsumexp(target(grid)) - special.logsumexp(rest(grid))
    every = whole(model.design, model.priors, seed=1)
    found = [
        joint_log_density(model.design, model.priors, np.array(rows), s, every) for s in (1, 2)
    ]
    assert all(abs(f.log_density - expected) < 4 * f.error for f in found)
    assert all(f.error < 0.01 for f in found)


def test_same_seed_same_score(fitted):
    model = fitted["dyestuff"].model
    one, other = (
        joint_log_density(model.design, model.priors, np.array([3]), seed=9) for _ in range(2)
    )
    assert one == other
