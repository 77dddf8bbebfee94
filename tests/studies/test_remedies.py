"""Causes are told from consequences, and remedies are named where they help."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from hierpool.checks.findings.causes import CAUSES, root_causes
from hierpool.checks.findings.response import is_count
from hierpool.checks.residuals import every
from hierpool.core.findings import Finding
from hierpool.studies import remedies
from tests.testbed import faults_data, faults_residuals


def made(code: str) -> Finding:
    return Finding(code, "warning", f"{code}.")


def test_a_cause_comes_first_and_withholds_its_consequences():
    found = [made(c) for c in ("loo-pit", "heavy-tails", "rows-dropped", "count-response")]
    assert [f.code for f in root_causes(found)] == ["rows-dropped", "count-response"]


def test_no_finding_withholds_itself_and_no_two_withhold_each_other():
    for cause, consequences in CAUSES.items():
        assert cause not in consequences
        for code in consequences & set(CAUSES):
            assert cause not in CAUSES[code], (cause, code)


def test_a_count_raises_one_finding():
    data = faults_data.counts(np.random.default_rng(1))
    assert hp.check(hp.Model("y ~ x + (1 | g)", data).reml()).codes == ["count-response"]


def test_heavy_tails_of_one_row_are_the_row():
    data = faults_residuals.far_row(np.random.default_rng(702))
    fit = hp.Model("y ~ x + (x | g)", data).reml()
    assert {"outlying-row", "heavy-tails"} <= {f.code for f in every.judged(fit)}
    assert [f.code for f in remedies.weighed(fit)] == ["outlying-row"]


def test_neighbours_alike_for_want_of_a_curve_are_the_curve():
    rng = np.random.default_rng(1)
    data = faults_residuals.bent(rng)
    fit = hp.Model("y ~ x + (x | g)", data.assign(y=data.y - 3 * data.x**2)).reml()
    assert "autocorrelation" in {f.code for f in every.judged(fit)}
    checked = hp.check(fit)
    assert "autocorrelation" not in checked.codes
    (found,) = checked.of("curvature")
    assert "as one more term fits better" in found.meaning


def test_a_log_is_advised_by_the_gain_in_likelihood_on_the_scale_of_the_response():
    cake = hp.datasets.load("cake")
    right = "recipe + temp + (1 | recipe:replicate)"
    (found,) = hp.check(hp.Model(f"angle ~ {right}", cake).reml())
    plain, logged = (hp.Model(f"{y} ~ {right}", cake).ml() for y in ("angle", "log(angle)"))
    gain = logged.loglik - np.log(cake.angle).sum() - plain.loglik
    assert found.code == "log-response"
    assert f"higher by {gain:.1f}," in found.text


def test_the_log_is_advised_in_any_unit():
    cake = hp.datasets.load("cake")
    model = "y ~ recipe + temp + (1 | recipe:replicate)"
    texts = [
        hp.check(hp.Model(model, cake.assign(y=k * cake.angle)).reml())[0].text for k in (1, 50)
    ]
    assert texts[0] == texts[1]


def test_a_varying_slope_is_typed_as_it_fits_better():
    data = faults_residuals.steeper_levels(np.random.default_rng(1))
    (found,) = hp.check(hp.Model("y ~ x + (1 | g)", data).reml())
    assert "(x | g) fits better" in found.meaning


@pytest.mark.parametrize(
    ("mean", "draw"),
    [
        ("a test of 20 items", lambda rng: rng.binomial(20, 0.6, 300)),
        ("ages from 0 to 17", lambda rng: rng.integers(0, 18, 300)),
        ("whole kilograms", lambda rng: rng.normal(22, 4, 300).round()),
        ("ratings", lambda rng: rng.integers(1, 6, 300)),
    ],
)
def test_scores_ages_weights_and_ratings_are_no_counts(mean, draw):
    wrong = [is_count(draw(np.random.default_rng(seed)) * 1.0) for seed in range(200)]
    assert np.mean(wrong) <= 0.05, mean


@pytest.mark.parametrize("mean", [0.7, 3.0, 6.0])
def test_poisson_and_negative_binomial_counts_are_counts(mean):
    rngs = [np.random.default_rng(seed) for seed in range(200)]
    right = [is_count(rng.poisson(mean * np.exp(0.4 * rng.normal(size=300))) * 1.0) for rng in rngs]
    assert np.mean(right) >= 0.9
