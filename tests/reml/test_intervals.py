"""Profile, bootstrap and Wald intervals, held to lme4's confint, and to each other."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import optimize, special, stats

import hierpool as hp
from hierpool.core.errors import ArgumentError, HierpoolWarning
from hierpool.reml import bootstrap, profiles
from hierpool.reml.random_scale import Search, reported
from tests.support.references import model, names, reference

NAMES = names("confint")
SLEEP = hp.datasets.load("sleepstudy")
TEETH = hp.datasets.load("Orthodont")
CUT = float(special.chdtri(1, 0.05))
OURS = {
    "sigma": "sigma",
    "sd_(Intercept)|Batch": "sd_Batch[Intercept]",
    "sd_(Intercept)|batch": "sd_batch[Intercept]",
    "sd_(Intercept)|cask:batch": "sd_batch:cask[Intercept]",
    "sd_(Intercept)|Subject": "sd_Subject[Intercept]",
    "sd_Days|Subject": "sd_Subject[Days]",
    "cor_Days.(Intercept)|Subject": "corr_Subject[Intercept, Days]",
    "(Intercept)": "beta[Intercept]",
    "Days": "beta[Days]",
}


@cache
def fitted_as(name: str) -> hp.LikelihoodFit:
    return model("confint", name).reml()


@pytest.mark.parametrize("name", NAMES)
def test_profile_intervals_are_those_of_lme4(name):
    ours, theirs = fitted_as(name).confint(), reference("confint", name)["profile"]
    assert len(ours) == len(theirs)
    for row, (low, high) in theirs.items():
        found = ours.loc[OURS[row], ["ci95_lb", "ci95_ub"]].to_numpy()
        assert np.abs(found - [low, high]).max() < 0.01 * (high - low), row
    assert ours.attrs == {"method": "profile", "prob": 0.95}


@pytest.mark.parametrize("name", NAMES)
def test_wald_intervals_are_those_of_lme4(name):
    ours, theirs = fitted_as(name).confint("wald"), reference("confint", name)["wald"]
    for row, ends in theirs.items():
        if ends != [None, None]:
            found = ours.loc[OURS[row], ["ci95_lb", "ci95_ub"]]
            np.testing.assert_allclose(found, ends, rtol=1e-4)
    assert ours.drop([r for r in ours.index if r.startswith("beta")])["ci95_lb"].isna().all()


def test_profiles_of_reml_and_ml_are_one():
    here = fitted_as("sleepstudy__ri").confint()
    there = model("confint", "sleepstudy__ri").ml().confint()
    np.testing.assert_allclose(here["ci95_lb"], there["ci95_lb"], rtol=1e-6)
    assert here.loc["sigma", "estimate"] > there.loc["sigma", "estimate"]


def test_interval_of_a_variance_at_zero_begins_at_zero():
    dyes = hp.Model("Yield ~ 1 + (1 | Batch)", hp.datasets.load("Dyestuff2")).reml().confint()
    assert dyes.loc["sd_Batch[Intercept]", "ci95_lb"] == 0
    assert 1 < dyes.loc["sd_Batch[Intercept]", "ci95_ub"] < 3


def test_correlation_that_nothing_tells_may_be_anything():
    data = hp.datasets.load("Orthodont")
    table = hp.Model("distance ~ age * Sex + (age | Subject)", data).reml().confint()
    row = table.loc["corr_Subject[Intercept, age]"]
    assert row[["ci95_lb", "ci95_ub"]].tolist() == [-1, 1]
    assert table.loc["sd_Subject[age]", "ci95_lb"] == 0


SHAPES = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", {}),
    "uncorrelated": ("Reaction ~ Days + (Days || Subject)", {}),
    "weights": ("Reaction ~ Days + (1 | Subject)", {"weights": "w"}),
    "known": ("Reaction ~ Days + (Days | Subject)", {"known_se": "se"}),
    "crossed": ("Reaction ~ Days + (Days | Subject) + (1 | k)", {}),
}


def shaped(name: str) -> hp.Model:
    n = np.arange(len(SLEEP))
    data = SLEEP.assign(w=1.0 + n % 3, se=20.0 + n % 4, k=n % 4)
    formula, more = SHAPES[name]
    return hp.Model(formula, data, **more)


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_rises_at_the_estimate_and_gradients_are_those_of_the_deviance(name):
    surface = profiles.GaussianSurface.from_design(shaped(name).design)
    for held in surface.quantities:
        profile = surface.profile(held)
        assert profile.rise(held.estimate) < 1e-6
        value, free = 0.9 * held.estimate + 0.02, profile.start + 0.05
        gradient = profile._value_and_gradient(free, value)[1]
        for k, own in enumerate(gradient):
            e = 1e-6 * np.eye(len(free))[k]
            up, down = (profile._value_and_gradient(free + s * e, value)[0] for s in (1, -1))
            assert own == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-4), held.name


def test_profile_of_a_fixed_effect_is_the_fit_with_an_offset():
    """Held at a value, a slope is an offset of its column: another road to the same deviance."""
    surface = profiles.GaussianSurface.from_design(shaped("slopes").design)
    held = next(h for h in surface.quantities if h.name == "beta[Days]")
    fixed = SLEEP.assign(o=8.0 * SLEEP["Days"])
    other = hp.Model("Reaction ~ 1 + offset(o) + (Days | Subject)", fixed).ml()
    assert surface.profile(held).rise(8.0) == pytest.approx(
        -2 * other.loglik - surface.least, abs=1e-6
    )


def test_profile_of_an_sd_at_zero_is_the_model_without_it():
    surface = profiles.GaussianSurface.from_design(shaped("slopes").design)
    held = next(h for h in surface.quantities if h.name == "sd_Subject[Days]")
    without = hp.Model("Reaction ~ Days + (1 | Subject)", SLEEP).ml()
    assert surface.profile(held).rise(0.0) == pytest.approx(
        -2 * without.loglik - surface.least, abs=1e-5
    )


def test_profile_does_not_depend_on_the_offset_of_a_predictor():
    moved = SLEEP.assign(Days=24 * SLEEP["Days"] + 1e6)
    here, there = (
        hp.Model("Reaction ~ Days + (Days | Subject)", d)
        .reml()
        .confint(quantities=["beta[Days]", "sd_Subject[Days]", "sigma"])
        for d in (SLEEP, moved)
    )
    scale = np.array([24, 24, 1])[:, None]
    ends = ["ci95_lb", "ci95_ub"]
    np.testing.assert_allclose(here[ends], scale * there[ends], rtol=1e-3)


@pytest.mark.parametrize("method", ["profile", "wald"])
def test_least_squares_has_exact_intervals(method):
    table = hp.complete_pooling("Reaction ~ Days", SLEEP).reml().confint(method, 0.9)
    by_hand = stats.linregress(SLEEP["Days"], SLEEP["Reaction"])
    half = stats.t.ppf(0.95, 178) * by_hand.stderr
    row = table.loc["beta[Days]"]
    np.testing.assert_allclose(row[1:], [by_hand.slope - half, by_hand.slope + half])
    sigma = table.loc["sigma"]
    rss = 178 * sigma["estimate"] ** 2
    expected = np.sqrt(rss / stats.chi2.ppf([0.95, 0.05], 178))
    np.testing.assert_allclose(sigma[1:], expected)


@pytest.mark.slow
def test_bootstrap_agrees_with_the_profile_and_repeats_with_its_seed():
    fit = hp.Model("Reaction ~ Days + (1 | Subject)", SLEEP).ml()
    one, other = (
        fit.confint("bootstrap", simulations=200, seed=3, cores=c, progress=False) for c in (1, 2)
    )
    np.testing.assert_array_equal(one, other)
    assert {k: one.attrs[k] for k in ("simulations", "failed", "seed")} == {
        "simulations": 200,
        "failed": 0,
        "seed": 3,
    }
    profile = fit.confint()
    width = profile["ci95_ub"] - profile["ci95_lb"]
    for end in ("ci95_lb", "ci95_ub"):
        assert ((one[end] - profile[end]).abs() < 0.3 * width).all()


@pytest.mark.parametrize("name", SHAPES)
def test_simulated_responses_have_the_moments_of_the_model(name):
    fit = shaped(name).ml()
    _, own = bootstrap.seeds(1500, 1)
    y = np.array([bootstrap.simulate(fit.design, fit.estimate, s) for s in own])
    mean = fit.design.X @ fit.estimate.beta
    V = np.diag(
        (fit.estimate.sigma * np.broadcast_to(fit.design.residual.relative_sd, mean.shape)) ** 2
    )
    for group in fit.design.groups:
        e = fit.estimate.of(group.factor)
        Sigma = np.nan_to_num(e.corr) * np.outer(e.sd, e.sd)
        same = group.grouping.codes[:, None] == group.grouping.codes
        V = V + same * (group.Z @ Sigma @ group.Z.T)
    sd = np.sqrt(np.diag(V))
    assert np.abs((y.mean(axis=0) - mean) / sd).max() < 5 / np.sqrt(1500)
    covariance = np.cov(y[:, :30].T)
    assert np.abs(covariance - V[:30, :30]).max() < 6 * np.diag(V).max() / np.sqrt(1500)


def test_near_and_afresh_are_one_optimum():
    fit = shaped("slopes").reml()
    model = bootstrap.Refits.from_estimate(fit.design, fit.estimate)
    again = model.to(fit.design.y)
    assert again is not None
    assert again.loglik == pytest.approx(fit.loglik, abs=1e-6)
    np.testing.assert_allclose(again.values, fit.confint("wald")["estimate"], rtol=1e-3)


def test_refits_that_fail_are_counted(monkeypatch):
    fit = hp.Model("Reaction ~ Days + (1 | Subject)", SLEEP).reml()
    real, calls = bootstrap.Refits.to, []

    def sometimes(self, y):
        calls.append(1)
        return None if len(calls) % 4 == 0 else real(self, y)

    monkeypatch.setattr(bootstrap.Refits, "to", sometimes)
    with pytest.warns(HierpoolWarning, match="5 of 20 refits"):
        table = fit.confint("bootstrap", simulations=20, seed=1, cores=1, progress=False)
    assert table.attrs["failed"] == 5


def test_only_what_is_wanted_is_profiled():
    fit = fitted_as("sleepstudy__rs")
    assert fit.confint(quantities=["sigma"]).index.tolist() == ["sigma"]
    with pytest.raises(ArgumentError, match="did you mean 'beta\\[Days\\]'"):
        fit.confint(quantities=["beta[days]"])


def test_bad_arguments_are_refused():
    fit = fitted_as("sleepstudy__ri")
    with pytest.raises(ArgumentError, match="did you mean 'profile'"):
        fit.confint("profil")
    with pytest.raises(ArgumentError, match="bad-probability"):
        fit.confint(prob=0)
    with pytest.raises(ArgumentError, match="bad-count"):
        fit.confint("bootstrap", simulations=0)
    with pytest.raises(ArgumentError, match="bad-count"):
        fit.confint("bootstrap", seed=-1)


def test_profile_of_a_correlation_never_rises_above_the_models_without_one_of_the_sds():
    """boars: at -0.9 it pays to let the slopes not vary at all, whatever the start."""
    design = hp.Model("volume ~ time + (time | boar)", hp.datasets.load("boars")).design
    surface = profiles.GaussianSurface.from_design(design)
    held = next(h for h in surface.quantities if h.kind == "corr")
    without = hp.Model("volume ~ time + (1 | boar)", hp.datasets.load("boars")).ml()
    plateau = -2 * without.loglik - surface.least
    profile = surface.profile(held)
    assert profile.rise(-1.0) == pytest.approx(plateau, abs=1e-4)
    rises = [profile.rise(rho) for rho in (-0.01, -0.1, -0.3, -0.5, -0.7, -0.9)]
    assert np.diff(rises).min() > -1e-4
    assert rises[-1] <= plateau + 1e-4
    low, high = profiles.interval(surface, held, CUT)
    assert low == pytest.approx(-0.582, abs=2e-3)
    assert high == 1


def test_a_profile_whose_searches_do_not_end_is_announced(monkeypatch):
    fit = hp.Model("Reaction ~ Days + (Days | Subject)", SLEEP).reml()
    monkeypatch.setattr(profiles, "STEPS", 1)
    with pytest.warns(HierpoolWarning, match=r"interval of sd_Subject\[Days\] may be too narrow"):
        fit.confint(quantities=["sd_Subject[Days]"])


def test_profiles_of_a_random_scale_are_those_of_a_constrained_search():
    """Held by another search, the deviance has risen by chi-squared's 3.84 at either end."""
    fit = hp.Model("distance ~ age", TEETH, sigma="~ Sex + (1 | Subject)").ml()
    table = fit.confint(quantities=["beta[age]", "sd_residual[Male]", "sd_log_sigma"])
    search, _ = Search.from_design(fit.design)
    optimum = search.at(fit.estimate)
    assert search.value(optimum) == pytest.approx(-2 * fit.loglik, abs=1e-9)
    coordinates = search.model.coordinates

    def quantities(x: np.ndarray) -> list[float]:
        beta = coordinates.beta_to_user(search.theta(x[None]).beta)[0]
        male = float(reported(search, x)[0])
        return [float(beta[1]), male, abs(float(x[-2]))]

    np.testing.assert_allclose(quantities(optimum), table["estimate"], rtol=1e-9)
    for k, ends in enumerate(table[["ci95_lb", "ci95_ub"]].to_numpy()):
        for end in ends:
            held = {"type": "eq", "fun": lambda x, k=k, end=end: quantities(x)[k] / end - 1}
            found = optimize.minimize(
                search.value, optimum, jac=search.gradient, constraints=[held], method="SLSQP",
                options={"ftol": 1e-9},
            )  # fmt: skip
            assert found.fun + 2 * fit.loglik == pytest.approx(3.8415, abs=2e-3)


@pytest.mark.slow
def test_bootstrap_of_a_random_scale_is_about_its_profile():
    fit = hp.Model("distance ~ age", TEETH, sigma="~ (1 | Subject)").ml()
    profile = fit.confint().drop(columns="estimate")
    simulated = fit.confint("bootstrap", simulations=100, seed=1, progress=False)
    width = profile["ci95_ub"] - profile["ci95_lb"]
    apart = (simulated[list(profile)] - profile).div(width, axis=0)
    assert apart.abs().to_numpy().max() < 0.35
    zero = hp.Model("Yield ~ 1", hp.datasets.load("Dyestuff"), sigma="~ (1 | Batch)").ml()
    assert zero.status.word == "singular"
    assert zero.confint().loc["sd_log_sigma", "ci95_lb"] == 0.0
