"""Likelihood ratio tests: which null distribution, which likelihood, and what is nested in what."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.core.errors import ArgumentError, ComparisonError, UnsupportedModelError
from hierpool.reml import bootstrap, pooling_limits
from hierpool.reml.estimate import estimate
from hierpool.reml.nesting import step
from tests.laws.dense import restricted_log_density
from tests.support.cases import each

N = np.arange(180)
SLEEP = hp.datasets.load("sleepstudy").assign(
    w=1.0 + N % 3, k=np.array(list("abcd"))[N % 4], x=np.sin(N)
)


def reml(formula: str, **more: str) -> hp.LikelihoodFit:
    return hp.Model(f"Reaction ~ {formula}", SLEEP, **more).reml()


STEPS = [
    ("1 + (1 | Subject)", "Days + (1 | Subject)", 1, 0, 0),
    ("Days", "Days + (1 | Subject)", 0, 1, 1),
    ("Days + (1 | Subject)", "Days + (Days | Subject)", 0, 2, 1),
    ("Days + (1 | Subject)", "Days + (Days || Subject)", 0, 1, 1),
    ("Days + (Days || Subject)", "Days + (Days | Subject)", 0, 1, 0),
    ("Days + (0 + Days | Subject)", "Days + (Days | Subject)", 0, 2, 1),
    ("Days + (Days | Subject)", "Days * x + (Days | Subject) + (1 | k)", 2, 1, 1),
    ("Days + (Days | Subject)", "Days + (Days + x | Subject)", 0, 3, 1),
    ("Days", "Days + (Days | Subject)", 0, 3, 2),
    ("Days + (1 | Subject)", "Days + (0 + k | Subject)", 0, 9, 3),
    ("0 + k + (1 | Subject)", "k * Days + (1 | Subject)", 4, 0, 0),
]


@each(("small", "large", "fixed", "parameters", "variances"), STEPS)
def test_what_the_larger_model_has_more(small, large, fixed, parameters, variances):
    found = step(reml(small).design, reml(large).design)
    assert (found.fixed, found.parameters, found.variances) == (fixed, parameters, variances)


@pytest.mark.parametrize(
    ("small", "large", "why"),
    [
        ("Days + (1 | Subject)", "1 + (1 | Subject)", "does not contain the columns of Days"),
        ("Days + (Days | Subject)", "Days + (1 | Subject)", "not a special case of the second's"),
        (
            "Days + (Days | Subject)",
            "Days + (Days || Subject)",
            "not a special case of the second's",
        ),
        ("Days + (1 | Subject)", "Days + x + (1 | k)", "no random effects of Subject"),
        ("Days + (1 | Subject)", "Days + (1 | Subject)", "the same number of parameters"),
        ("Days + (1 | Subject)", "Days + (0 + Days | Subject)", "not a special case"),
    ],
)
def test_models_that_are_not_nested_are_refused(small, large, why):
    with pytest.raises(ComparisonError, match=why):
        step(reml(small).design, reml(large).design)


def test_uncorrelated_terms_are_nested_only_in_their_own_coding():
    """No correlation at day 0 is a correlation at day 5."""
    moved = SLEEP.assign(Days=SLEEP["Days"] - 5)
    here = hp.Model("Reaction ~ Days + (Days || Subject)", SLEEP).reml().design
    there = hp.Model("Reaction ~ Days + x + (Days || Subject)", moved).reml().design
    with pytest.raises(ComparisonError, match="not-nested"):
        step(here, there)
    correlated = hp.Model("Reaction ~ Days + (Days | Subject)", moved).reml().design
    assert step(here, correlated).parameters == 1


def test_other_rows_weights_and_offsets_are_refused():
    small, large = reml("Days + (1 | Subject)"), reml("Days + (Days | Subject)")
    with pytest.raises(ComparisonError, match="different-rows"):
        hp.lrt(small, hp.Model("Reaction ~ Days + (Days | Subject)", SLEEP[10:]).reml())
    with pytest.raises(ComparisonError, match="different-response"):
        hp.lrt(small, hp.Model("log(Reaction) ~ Days + (Days | Subject)", SLEEP).reml())
    with pytest.raises(ComparisonError, match="weights"):
        hp.lrt(reml("Days + (1 | Subject)", weights="w"), large)
    with pytest.raises(ComparisonError, match="offsets"):
        hp.lrt(reml("Days + offset(x) + (1 | Subject)"), large)


def test_fixed_effects_are_compared_by_ml_and_it_is_said():
    small, large = "1 + (Days | Subject)", "Days + (Days | Subject)"
    test = hp.lrt(reml(small), reml(large))
    logliks = [hp.Model(f"Reaction ~ {f}", SLEEP).ml().loglik for f in (small, large)]
    assert test.method == "ML"
    assert test.statistic == pytest.approx(2 * (logliks[1] - logliks[0]))
    assert test.statistic == pytest.approx(23.53654, abs=1e-4)  # lme4's anova
    assert test.p == pytest.approx(stats.chi2.sf(test.statistic, 1))
    assert "Refitted by ML" in test.notes[0]
    assert repr(test).endswith("the fixed effects differ.")
    by_ml = [hp.Model(f"Reaction ~ {f}", SLEEP).ml() for f in (small, large)]
    assert hp.lrt(*by_ml).notes == ()


def test_random_effects_are_compared_by_reml_with_the_mixture():
    test = hp.lrt(reml("Days + (1 | Subject)"), reml("Days + (Days | Subject)"))
    assert (test.method, test.df) == ("REML", 2)
    assert test.statistic == pytest.approx(1786.46508 - 1743.62827, abs=1e-4)  # lme4's criteria
    half = 0.5 * stats.chi2.sf(test.statistic, [1, 2])
    assert test.p == pytest.approx(half.sum(), rel=1e-10)
    assert "1 and 2 df (Stram and Lee 1994)" in test.null
    alone = hp.lrt(reml("Days + (1 | Subject)"), reml("Days + (Days || Subject)"))
    assert alone.p == pytest.approx(0.5 * stats.chi2.sf(alone.statistic, 1), rel=1e-10)
    inner = hp.lrt(reml("Days + (Days || Subject)"), reml("Days + (Days | Subject)"))
    assert inner.p == pytest.approx(stats.chi2.sf(inner.statistic, 1), rel=1e-10)


@pytest.mark.parametrize("more", [{}, {"weights": "w"}, {"known_se": "w"}])
def test_restricted_likelihood_of_one_line_is_the_dense_one(more):
    design = hp.Model("Reaction ~ Days * x", SLEEP, **more).design
    X, y = design.X, design.y
    V = np.diag(np.broadcast_to(design.residual.relative_sd, y.shape) ** 2)
    if design.residual.has_sigma:
        V *= hp.Model("Reaction ~ Days * x", SLEEP, **more).reml().estimate.sigma ** 2
    dense = restricted_log_density(y, X, V)
    assert pooling_limits.restricted_loglik(design) == pytest.approx(dense, abs=1e-7 * abs(dense))


def test_vanishing_variance_gives_no_evidence():
    dyes = hp.datasets.load("Dyestuff2")
    test = hp.lrt(
        hp.Model("Yield ~ 1", dyes).reml(), hp.Model("Yield ~ 1 + (1 | Batch)", dyes).reml()
    )
    assert (test.statistic, test.p) == (0.0, 1.0)
    assert "estimated as zero" in test.notes[0]


def simulated_statistics(levels: int, rows: int, simulations: int) -> np.ndarray:
    """Statistics of one variance, simulated where it is zero."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame(
        {"y": rng.standard_normal(levels * rows), "g": np.repeat(np.arange(levels), rows)}
    )
    one, two = hp.Model("y ~ 1", data).reml(), hp.Model("y ~ 1 + (1 | g)", data).reml()
    test = hp.lrt(one, two, null="simulated", simulations=simulations, seed=2, progress=False)
    assert test.simulated is not None
    return test.simulated


@pytest.mark.slow
def test_boundary_null_is_half_zero_and_half_chi_squared():
    """p of the mixture: 1 half of the time, else uniform below a half. Plain chi2_1 is too strict."""
    T = simulated_statistics(levels=60, rows=3, simulations=400)
    zero = (T == 0).mean()
    assert abs(zero - 0.5) < 4 * 0.5 / np.sqrt(400)
    p = 0.5 * stats.chi2.sf(T[T > 0], 1)
    assert stats.kstest(2 * p, "uniform").pvalue > 0.01
    rejected = (0.5 * stats.chi2.sf(T, 1) < 0.1).mean()
    assert 0.055 < rejected < 0.15
    assert (stats.chi2.sf(T, 1) < 0.1).mean() < 0.075


@pytest.mark.slow
def test_few_levels_have_more_zeros_than_the_mixture():
    """5 levels of 20 rows: zero with probability P(F(4, 95) < 1) by the analysis of variance."""
    T = simulated_statistics(levels=5, rows=20, simulations=300)
    expected = stats.f.cdf(1, 4, 95)
    assert abs((T == 0).mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / 300)


def test_two_variances_at_once_are_simulated_and_repeat_with_the_seed():
    small, large = reml("Days"), reml("Days + (Days | Subject)")
    one, other = (
        hp.lrt(small, large, simulations=20, seed=5, cores=c, progress=False) for c in (1, 2)
    )
    np.testing.assert_array_equal(one.simulated, other.simulated)
    assert one.p == pytest.approx(1 / 21)
    assert one.seed == 5
    assert "simulated from the smaller model, 20 responses" in repr(one)


def test_quick_refits_find_the_optima_of_careful_fits():
    """Responses without differences of levels: many of the optima are on the boundary."""
    fit, flat = reml("Days + (Days | Subject)"), reml("Days")
    model = bootstrap.Refits.from_estimate(fit.design, fit.estimate)
    for seed in bootstrap.seeds(8, 3)[1]:
        y = bootstrap.simulate(flat.design, flat.estimate, seed)
        careful = estimate(fit.design.with_response(y), "REML")
        quick = model.to(y)
        assert quick is not None
        assert quick.loglik == pytest.approx(careful.loglik, abs=1e-5)
        expected = [*careful.beta, *careful.only.sd, careful.only.corr[1, 0], careful.sigma]
        np.testing.assert_allclose(quick.values, expected, rtol=1e-2, atol=1e-3)


def test_what_cannot_be_tested_is_refused():
    line = reml("Days")
    own = hp.no_pooling("Reaction ~ Days", SLEEP, "Subject").reml()
    with pytest.raises(UnsupportedModelError, match="no-pooling-in-test"):
        hp.lrt(line, own)
    with pytest.raises(ArgumentError, match=r"hp\.compare"):
        hp.lrt(line, hp.Model("Reaction ~ Days", SLEEP))
    with pytest.raises(ArgumentError, match="unknown-choice"):
        hp.lrt(line, reml("Days + (1 | Subject)"), null="chi2")
    with pytest.raises(ArgumentError, match="bad-count"):
        hp.lrt(line, reml("Days + (1 | Subject)"), null="simulated", simulations=0)


@pytest.mark.parametrize(
    ("smaller", "larger", "statistic", "df"),
    [
        ({}, {"residual": "cs(age | Subject)"}, 2 * (241.7796 - 216.8786), 1),
        ({"residual": "cs(age | Subject)"}, {"residual": "csh(age | Subject)"}, None, 3),
        (
            {"bar": "(1 | Subject)"},
            {"residual": "csh(age | Subject)"},
            2 * (216.8786 - 215.9862),
            3,
        ),
        ({"residual": "ar1(age | Subject)"}, {"residual": "cs(age | Subject)"}, None, 0),
        ({"residual": "csh(age | Subject)"}, {"residual": "csh(age | Subject, by=Sex)"}, None, 5),
    ],
)
def test_residual_structures_are_nested_by_name(smaller, larger, statistic, df):
    data = hp.datasets.load("Orthodont")
    formula = " + ".join(["distance ~ age * Sex", *filter(None, [smaller.pop("bar", "")])])
    one, other = (
        hp.Model(formula, data, **smaller),
        hp.Model("distance ~ age * Sex", data, **larger),
    )
    if not df:
        with pytest.raises(ComparisonError, match="not a special case of cs"):
            step(one.design, other.design)
        return
    more = step(one.design, other.design)
    assert (more.parameters, more.variances) == (df, 0)
    if statistic:
        assert hp.lrt(one.reml(), other.reml()).statistic == pytest.approx(statistic, abs=1e-3)
