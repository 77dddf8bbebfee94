"""Intervals and tests of families by maximum likelihood, held to lme4 and ordinal, and to each other.

References: R 4.2, lme4 1.1-31 (glmer with nAGQ = 25, confint by profile), ordinal 2022.11-16 (confint of
clmm with nAGQ = 25, which is Wald's), on the table that ``simulated`` makes (tests/reml/conftest.py).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import FitError, UnsupportedModelError
from hierpool.reml.bootstrap import seeds, simulate
from hierpool.reml.families.surface import FamilySurface
from tests.support.cases import each

PROFILES = {
    "b": (
        "bernoulli",
        [(-0.20490389, 0.52462819), (0.20957137, 0.72647259), (0.45650619, 1.27687551)],
    ),
    "c": (
        "poisson",
        [(0.16163456, 0.68569530), (0.41721480, 0.56682058), (0.58284857, 0.99881975)],
    ),
}
ENDS = ["ci95_lb", "ci95_ub"]


@each("response", list(PROFILES))
def test_profile_intervals_are_those_of_glmer(simulated: pd.DataFrame, response: str) -> None:
    family, ends = PROFILES[response]
    found = hp.Model(f"{response} ~ x + (1 | g)", simulated, family=family).ml().confint()
    assert found.attrs == {"method": "profile", "prob": 0.95}
    np.testing.assert_allclose(found[ENDS], ends, atol=5e-5)


@pytest.mark.slow
def test_profiles_of_crossed_factors_are_those_of_glmer(simulated: pd.DataFrame) -> None:
    """Of the Laplace approximation; lme4 reads ends off splines, good to three digits."""
    fit = hp.Model("b ~ x + (1 | g) + (1 | h)", simulated, family="bernoulli").ml()
    theirs = [(-0.42218, 0.68693), (0.21507, 0.74695), (0.49289, 1.33339), (0.06363, 1.01025)]
    np.testing.assert_allclose(fit.confint()[ENDS], theirs, atol=1e-3)


def test_wald_intervals_of_ratings_are_those_of_clmm(simulated: pd.DataFrame) -> None:
    fit = hp.Model("o ~ x + (1 | g)", simulated, family="ordinal").ml()
    found = fit.confint("wald").loc[["thresholds[1|2]", "thresholds[2|3]", "beta[x]"], ENDS]
    theirs = [(-2.21135, -1.09287), (1.22755, 2.39162), (0.68579, 1.24796)]
    np.testing.assert_allclose(found, theirs, atol=1e-4)


def test_wald_intervals_of_spread_are_on_scales_without_bounds(simulated: pd.DataFrame) -> None:
    fit = hp.Model("nb ~ x + (1 | g)", simulated, family="negbinomial").ml()
    found, table = fit.confint("wald", 0.9), fit.variance_components()
    for name, row in zip(("sd_g[Intercept]", "shape"), table.itertuples(), strict=True):
        ends = row.estimate * np.exp(np.array([-1, 1]) * 1.6448536 * row.se / row.estimate)
        np.testing.assert_allclose(found.loc[name].iloc[1:], ends, rtol=1e-6)


SHAPES = {
    "counts": ("nb ~ x + (1 | g)", "negbinomial"),
    "ratings": ("o ~ x + (1 | g)", "ordinal"),
    "slopes": ("c ~ x + (x | g)", "poisson"),
    "crossed": ("b ~ x + (1 | g) + (1 | h)", "bernoulli"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_slopes_of_a_profile_are_those_of_the_deviance(simulated: pd.DataFrame, name: str) -> None:
    formula, family = SHAPES[name]
    fit = hp.Model(formula, simulated, family=family).ml()
    surface = FamilySurface.from_estimate(fit.design, fit.estimate)
    estimates = fit.confint("wald")["estimate"]
    assert [held.name for held in surface.quantities] == list(estimates.index)
    for held in surface.quantities:
        profile = surface.profile(held)
        assert profile.rise(held.estimate) < 1e-4
        assert surface.in_user_coding(held, (held.estimate,) * 2)[0] == pytest.approx(
            estimates[held.name], abs=1e-5
        )
        value, free = 0.9 * held.estimate + 0.02, profile.start + 0.05
        gradient = profile._value_and_gradient(free, value)[1]
        moves = 1e-3 * np.eye(len(free))
        for own, move in zip(gradient, moves, strict=True):
            up, down = (profile._value_and_gradient(free + s * move, value)[0] for s in (1, -1))
            assert own == pytest.approx((up - down) / 2e-3, rel=2e-3, abs=2e-2), held.name


def test_a_coefficient_held_is_an_offset(simulated: pd.DataFrame) -> None:
    fit = hp.Model("c ~ x + (1 | g)", simulated, family="poisson").ml()
    surface = FamilySurface.from_estimate(fit.design, fit.estimate)
    held = next(q for q in surface.quantities if q.name == "beta[x]")
    fixed = simulated.assign(o=0.55 * simulated["x"])
    other = hp.Model("c ~ 1 + offset(o) + (1 | g)", fixed, family="poisson").ml()
    rise = surface.profile(held).rise(0.55)
    assert rise == pytest.approx(2 * (fit.loglik - other.loglik), abs=1e-3)


def test_a_shape_that_may_be_infinite_has_no_upper_end(simulated: pd.DataFrame) -> None:
    table = simulated.assign(y=np.random.default_rng(1).poisson(2, len(simulated)))
    found = hp.complete_pooling("y ~ x", table, family="negbinomial").ml().confint()
    assert found.loc["shape", "ci95_ub"] == np.inf
    assert 3 < found.loc["shape", "ci95_lb"] < 30


def test_intervals_without_an_optimum_are_refused(simulated: pd.DataFrame) -> None:
    table = simulated.assign(high=(simulated["x"] > 1) * 1)
    table.loc[table["high"] == 1, "b"] = 1
    separated = hp.complete_pooling("b ~ high", table, family="bernoulli").ml()
    with pytest.raises(FitError, match="no-optimum"):
        separated.confint()
    assert np.isnan(separated.confint("wald").loc["beta[high]", "ci95_lb"])
    unpooled = hp.no_pooling("c ~ 1", simulated, "g", family="poisson").ml()
    with pytest.raises(UnsupportedModelError, match="wald-only"):
        unpooled.confint("profile")


@pytest.mark.slow
def test_bootstrap_agrees_with_the_profile_and_repeats_with_its_seed(
    simulated: pd.DataFrame,
) -> None:
    fit = hp.Model("b ~ x + (1 | g)", simulated, family="bernoulli").ml()
    one, other = (
        fit.confint("bootstrap", simulations=100, seed=3, cores=c, progress=False) for c in (1, 2)
    )
    np.testing.assert_array_equal(one, other)
    assert one.attrs["failed"] == 0
    profile = fit.confint()
    width = profile["ci95_ub"] - profile["ci95_lb"]
    for end in ENDS:
        assert ((one[end] - profile[end]).abs() < 0.3 * width).all()


def test_simulated_responses_have_the_moments_of_the_model(simulated: pd.DataFrame) -> None:
    fit = hp.Model("nb ~ x + (1 | g)", simulated, family="negbinomial").ml()
    _, own = seeds(1500, 1)
    y = np.array([simulate(fit.design, fit.estimate, s) for s in own])
    sd, shape = fit.estimate.only.sd[0], fit.estimate.par[0]
    mean = np.exp(fit.design.X @ fit.estimate.beta + sd**2 / 2)
    variance = mean + mean**2 * ((1 + 1 / shape) * np.exp(sd**2) - 1)
    z = (y.mean(axis=0) - mean) / np.sqrt(variance / len(y))
    assert abs(z.std() - 1) < 0.25
    assert np.median(y.var(axis=0) / variance) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_a_simulated_null_agrees_with_the_mixture_at_the_boundary(simulated: pd.DataFrame) -> None:
    table = simulated.assign(y=np.random.default_rng(1).poisson(2, len(simulated)))
    small, large = (
        hp.Model(f"y ~ {rest}", table, family="poisson").ml() for rest in ("x", "x + (1 | g)")
    )
    test = hp.lrt(small, large, null="simulated", simulations=100, seed=1, progress=False)
    assert test.simulated is not None
    assert 0.4 < (test.simulated < 1e-3).mean() < 0.75
    assert 0.01 < (test.simulated > 2.7055).mean() < 0.12  # 5 % of the mixture
    assert hp.lrt(small, large).null.startswith("50:50 mixture")
