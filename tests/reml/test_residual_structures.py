"""Residual structures as nlme has them: log-likelihood, coefficients, errors, marginal covariance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import hierpool as hp
from hierpool.fits.optimum import LikelihoodFit
from hierpool.reml.profiles import GaussianSurface
from tests.laws.test_residual_structures import correlation
from tests.support.cases import each

FOLDER = Path(__file__).parents[1] / "reference" / "nlme"
STRUCTURES = {
    "independent": {},
    "ar1": {"residual": "ar1(time | Subject)"},
    "cs": {"residual": "cs(time | Subject)"},
    "het_ar1": {"residual": "ar1h(time | Subject)"},
    "het_cs": {"residual": "csh(time | Subject)"},
    "symm_homog": {"residual": "symm(time | Subject)"},
    "unstructured": {"residual": "us(time | Subject)"},
    "het_independent": {"sigma": "~ visit"},
    "het_age": {"sigma": "~ visit"},
    "het_sex": {"sigma": "~ Sex"},
}
RANDOM = {"gls": "", "lme_ri": " + (1 | Subject)", "lme_rs": " + (time | Subject)"}
NAMES = sorted(p.stem for p in FOLDER.glob("*.json"))
QUICK = ("sleepstudy_lme_ri_ar1",)


def fitted(name: str, method: str) -> LikelihoodFit:
    table, _, rest = name.partition("_")
    fixed = {"Orthodont_age": "distance ~ time", "Orthodont_sex": "distance ~ time * Sex"}
    right = fixed.get("_".join(name.split("_")[:2]), "Reaction ~ time")
    kind = next(k for k in ("lme_ri", "lme_rs", "gls") if k in rest)
    structure = rest.split(kind)[1].strip("_") or "independent"
    data = hp.datasets.load(table)
    data["time"] = data["Days" if table == "sleepstudy" else "age"]
    data["visit"] = data["time"].astype(str)
    model = hp.Model(right + RANDOM[kind], data, **STRUCTURES[structure])
    return model.reml() if method == "REML" else model.ml()


def marginal(fit: LikelihoodFit, label: str, table: str) -> np.ndarray:
    """Covariance of the rows of one subject, in order of time."""
    design, e = fit.design, fit.estimate
    subjects = hp.datasets.load(table)["Subject"].astype(str)
    rows = np.flatnonzero(subjects == label)
    rows = rows[np.argsort(design.frame["time"].to_numpy()[rows])]
    s, V = design.residual.structure, np.eye(len(rows)) * e.sigma**2
    if s is not None:
        phi = e.residual_parameters
        sd = e.sigma * np.exp(s.log_sds(phi[None])[0])[s.classes[rows]]
        V = np.outer(sd, sd) * correlation(s.take(rows), phi)
    if design.groups:
        own, Z = e.factors[0], design.groups[0].Z[rows]
        V = V + Z @ (np.nan_to_num(own.corr) * np.outer(own.sd, own.sd)) @ Z.T
    return V


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_estimates_are_those_of_nlme(name: str, method: str) -> None:
    ref = json.loads((FOLDER / f"{name}.json").read_text())[method]
    fit = fitted(name, method)
    assert ref["logLik"] - 1e-9 < fit.loglik < ref["logLik"] + 2e-6  # nlme stops a little early
    se = np.sqrt(np.diag(ref["vcov"]))
    off = np.abs(fit.estimate.beta - ref["fixef"]) / se
    assert off.max() < 1e-4
    if method == "REML":  # those of gls by ML are larger by sqrt(n / (n - p))
        np.testing.assert_allclose(fit.estimate.beta_covariance, ref["vcov"], rtol=1e-4, atol=1e-7)
    if name.endswith("independent"):  # nlme has no marginal covariance of those
        return
    np.testing.assert_allclose(
        marginal(fit, str(ref["cov_of"]), name.partition("_")[0]), ref["cov"], rtol=1e-4
    )


def test_a_slow_process_and_an_intercept_are_not_told_apart() -> None:
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"pig": np.repeat(np.arange(30), 5), "time": np.tile(np.arange(5.0), 30)})
    walk = rng.normal(0, 2, 30)[data["pig"]] + rng.normal(0, 0.3, (30, 5)).cumsum(axis=1).ravel()
    fit = hp.Model("y ~ time + (1 | pig)", data.assign(y=walk), residual="ar1(time | pig)").reml()
    assert fit.status.word == "not identified"
    assert "ar1 process and the intercept of pigs cannot be told apart" in fit.status.sentence


NLME = {  # restricted log-likelihoods of lme(), nlme 3.1, optim and nlminb, the better
    "distance ~ age * Sex + (age | Subject) + car1(age | Subject)": ("~ visit", -214.373561554),
    "distance ~ age * Sex + (1 | Subject) + arma11(age | Subject)": ("~ log(age)", -215.502153535),
}


@pytest.mark.parametrize("formula", NLME)
def test_a_correlation_that_runs_to_its_limit(formula):
    data = hp.datasets.load("Orthodont").assign(visit=lambda d: d.age.astype(str))
    sigma, loglik = NLME[formula]
    fit = hp.Model(formula, data, sigma=sigma).reml()
    assert fit.loglik == pytest.approx(loglik, abs=2e-6)
    assert fit.status.word == "singular"
    zero = "car1" in formula
    said = "the rho of the residuals is estimated as zero" if zero else "at its limit of -1"
    assert said in fit.status.sentence


def test_residual_sds_that_differ_a_hundredfold():
    """With a mean of each class the likelihood falls apart into those of the classes."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"kind": np.repeat(["a", "b", "c"], [500, 60, 40])})
    data["y"] = rng.normal(0, data["kind"].map({"a": 1.0, "b": 10.0, "c": 100.0}))
    fit = hp.Model("y ~ kind", data, sigma="~ kind").ml()
    own = [len(y) * (np.log(2 * np.pi * y.var(ddof=0)) + 1) for _, y in data.groupby("kind").y]
    assert fit.loglik == pytest.approx(-sum(own) / 2, abs=1e-7)


def test_starts_beside_the_strongest_correlation_have_sds_that_fall_and_rise():
    """Oxboys and Dialyzer of nlme have two optima with ar1h, 5 and 9 apart: the better from there."""
    model = hp.Model(
        "distance ~ age", hp.datasets.load("Orthodont"), residual="ar1h(age | Subject)"
    )
    s = model.design.residual.structure
    phi = s.from_free(s.begins)
    assert phi[:, 0] == pytest.approx([0.1, 0.66, -0.4, 0.97, 0.97, 0.97])
    log_sds = s.log_sds(phi)
    assert log_sds[:4] == pytest.approx(0.0)
    assert log_sds[4] == pytest.approx(np.linspace(0.7, -0.7, 4))
    assert log_sds[5] == pytest.approx(np.linspace(-0.7, 0.7, 4))


STRUCTURED = {
    "rho": {"residual": "ar1(age | Subject)"},
    "sd_residual[Female]": {"sigma": "~ Sex"},
    "log_sd_slope": {"sigma": "~ age"},
}


@pytest.mark.slow
@each(("name", "how"), list(STRUCTURED.items()))
def test_profile_of_a_residual_parameter(name, how):
    """Its gradient is that of differences, and at an end the deviance has risen by 3.84."""
    data = hp.datasets.load("Orthodont")
    fit = hp.Model("distance ~ age + (1 | Subject)", data, **how).ml()
    surface = GaussianSurface.from_design(fit.design)
    (held,) = [h for h in surface.quantities if h.name == name]
    profile = surface.profile(held)
    free, value = profile.start + 0.05, held.estimate + 0.1
    gradient = profile._value_and_gradient(free, value)[1]
    step = 1e-6 * np.eye(len(free))
    moved = [
        (
            profile._value_and_gradient(free + s, value)[0]
            - profile._value_and_gradient(free - s, value)[0]
        )
        / 2e-6
        for s in step
    ]
    np.testing.assert_allclose(gradient, moved, rtol=1e-5, atol=1e-4)
    low, high = fit.confint(quantities=[name], prob=0.95).iloc[0, 1:]
    assert low < fit.confint(quantities=[name])["estimate"].iloc[0] < high
    if name != "rho":
        return
    c, k = surface.criterion, surface.criterion.structure
    for end in (low, high):
        x = k.to_free(np.array([end]))
        least = optimize.minimize_scalar(
            lambda t, x=x: c.deviance(np.array([[t, *x]]))[0], (0.5, 1.5)
        )
        assert least.fun - surface.least == pytest.approx(3.8415, abs=1e-3)


@pytest.mark.slow
@each(
    ("word", "covariance", "start", "method"),
    [
        ("us", lambda r, x: _of_root(r, x), [0.9, 0.9, 1, 2, 1, 1, 1, 2, 1], "BFGS"),
        (
            "toep",
            lambda r, x: np.exp(x[0]) * np.array([1.0, *x[1:], r])[_LAG],
            [1.6, 0.6, 0.6],
            "Nelder-Mead",
        ),
    ],
)
def test_profile_of_one_correlation_is_that_of_a_dense_search(word, covariance, start, method):
    """The dense deviance, least with the correlation of first and last age held, has risen by 3.84."""
    data = hp.datasets.load("Orthodont")
    fit = hp.Model("distance ~ age", data, residual=f"{word}(age | Subject)").ml()
    name = "corr_residual[8, 14]"
    _, *ends = fit.confint(quantities=[name]).loc[name]
    y = data.sort_values(["Subject", "age"])["distance"].to_numpy().reshape(-1, 4)
    X = np.column_stack([np.ones(4), [8, 10, 12, 14]])

    def deviance(x: np.ndarray, end: float) -> float:
        V = covariance(end, x)
        if not np.linalg.eigvalsh(V).min() > 0:
            return 1e6
        P = np.linalg.inv(V)
        e = y - X @ np.linalg.solve(X.T @ P @ X, X.T @ P @ y.mean(axis=0))
        log_det = np.linalg.slogdet(V)[1] + 4 * np.log(2 * np.pi)
        return len(y) * log_det + float(np.einsum("ia,ab,ib->", e, P, e))

    for end in ends:
        found = optimize.minimize(deviance, start, args=(end,), method=method)
        assert found.fun + 2 * fit.loglik == pytest.approx(3.8415, abs=2e-3)


_LAG = np.abs(np.subtract.outer(range(4), range(4)))


def _of_root(r: float, x: np.ndarray) -> np.ndarray:
    """Covariance of four ages, r that of first and last, from nine free numbers."""
    L = np.zeros((4, 4))
    L[0, 0] = np.exp(x[0])
    L[3, [0, 3]] = np.exp(x[1]) * np.array([r, np.sqrt(1 - r**2)])
    L[1, [0, 1, 3]], L[2] = x[2:5], x[5:]
    return L @ L.T


@pytest.mark.slow
def test_profiles_of_correlations_of_classes_and_of_one_lag():
    data = hp.datasets.load("Orthodont")
    both = hp.Model("distance ~ age", data, residual="ad1(age | Subject, by=Sex)").ml()
    table = both.confint(quantities=["corr_residual[Male, 8, 14]", "corr_residual[Female, 8, 14]"])
    assert (table["ci95_lb"] < table["estimate"]).all()
    assert (table["estimate"] < table["ci95_ub"]).all()
    alike = hp.Model("distance ~ age", data, residual="toeph(age | Subject)").ml()
    table = alike.confint(quantities=["corr_residual[8, 10]", "corr_residual[12, 14]"])
    np.testing.assert_array_equal(table.iloc[0], table.iloc[1])


def test_beside_a_factor_around_the_groups_and_one_that_crosses_them():
    """glmmTMB 1.1.5: ``distance ~ 1 + (1 | Sex) + (1 | age_f) + ar1(age_f + 0 | Subject)``, ML.

    With ``dispformula = ~0``; its search ends in "false convergence", a few units of 1e-4 off.
    """
    data = hp.datasets.load("Orthodont")
    model = hp.Model("distance ~ 1 + (1 | Sex) + (1 | age)", data, residual="ar1(age | Subject)")
    fit = model.ml()
    e = fit.estimate
    assert fit.loglik == pytest.approx(-230.972845613, abs=1e-5)
    found = [e.beta[0], e.factors[0].sd[0], e.factors[1].sd[0], e.sigma, e.residual_parameters[0]]
    assert found == pytest.approx(
        [23.8307916, 1.25646158, 1.52895128, 2.30490194, 0.620383204], rel=2e-4
    )
    ages = [-1.711682926, -0.794617054, 0.570945255, 1.935004292]
    assert e.factors[1].u.ravel() == pytest.approx(ages, rel=2e-4)
