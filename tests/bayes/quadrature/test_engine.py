"""The exact engine of families on small tables, against dense sums over theta, coefficients, levels."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import hierpool as hp
from hierpool.bayes.quadrature import laplace_map, limits, verdict
from hierpool.bayes.quadrature.sampling import sample_points
from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.core.errors import FitError, HierpoolWarning, UnsupportedModelError
from hierpool.fits.response_draws import linear_predictor

LIMIT = 4.0  # z-score above which two Monte Carlo numbers disagree
Z = np.arange(-5.0, 5.01, 0.1)  # theta and coefficients, in sds of their priors
T = np.linspace(-8.0, 8.0, 401)  # a level's effect, in its sds


def table(levels: int = 6, rows: int = 4, sd: float = 0.8, middle: float = 0.3) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(levels), rows)
    n = len(codes)
    x, w = rng.standard_normal((2, n))
    eta = middle + 0.5 * x + sd * rng.standard_normal(levels)[codes]
    event = rng.uniform(size=n) < special.expit(eta)
    return pd.DataFrame(
        {
            "y": event.astype(int),
            "label": np.where(event, "yes", "no"),
            "c": rng.poisson(np.exp(eta)),
            "x": x,
            "w": w,
            "g": [f"g{j}" for j in codes],
            "h": np.tile(["a", "b", "c"], n)[:n],
        }
    )


def fitted(model: hp.Model, draws: int = 500) -> hp.PosteriorFit:
    fit = model.fit(engine="exact", seed=1, progress=False, draws=draws)
    assert fit.status.is_trustworthy
    return fit


def flat(fit: hp.PosteriorFit, name: str) -> np.ndarray:
    values = fit.variable(name).to_numpy()
    return values.reshape(-1, *values.shape[2:])


def log_rows(family: str, y: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """Log density of responses, of scipy's own."""
    if family == "poisson":
        return stats.poisson.logpmf(y, np.exp(eta))
    return np.where(y == 1, special.log_expit(eta), special.log_expit(-eta))


def dense(model: hp.Model, data: pd.DataFrame) -> tuple[float, dict[str, tuple[float, float]]]:
    """Log evidence; mean and sd of the intercept and the sd of ``y ~ 1 + (1 | g)``."""
    left = model.design.spec.response
    family = model.design.family.name
    block, part = model.priors.population, model.priors.group_terms[0]
    beta = block.mean[0] + block.sd[0] * Z
    sd = part.sd[0].distribution.ppf(stats.norm.cdf(Z))
    log_joint = stats.norm.logpdf(Z)[:, None] + stats.norm.logpdf(Z)
    for _, y in data.groupby("g")[left]:
        total = y.sum()
        if total > 1000:  # narrower than the effects: over the predictor, where the rows have it
            eta = np.log(y.mean()) + np.linspace(-10, 10, 201) / np.sqrt(total)
            log_level = log_rows(family, y.to_numpy()[:, None], eta).sum(axis=0)
            with np.errstate(divide="ignore"):
                prior = stats.norm.logpdf(eta, beta[:, None, None], sd[:, None])
            log_joint += special.logsumexp(log_level + prior, axis=-1) + np.log(eta[1] - eta[0])
            continue
        eta = beta[:, None, None] + sd[:, None] * T
        log_level = sum(log_rows(family, value, eta) for value in y)
        log_joint += special.logsumexp(log_level + stats.norm.logpdf(T), axis=-1)
        log_joint += np.log(T[1] - T[0])
    whole = special.logsumexp(log_joint)
    weights = np.exp(log_joint - whole)
    return whole + 2 * np.log(0.1), {
        "beta": moments(weights.sum(axis=1), beta),
        "sd_g": moments(weights.sum(axis=0), sd),
    }


def moments(weights: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    mean = weights @ values
    return mean, np.sqrt(weights @ (values - mean) ** 2)


def by_prior_draws(model: hp.Model, draws: int = 40_000) -> tuple[float, float, np.ndarray]:
    """Log evidence, its error and the mean of beta: draws of the prior, weighted by the rows."""
    prior = model.prior_predictive(draws=draws, seed=4)["prior"]
    names = ["beta", *(group.level_variable for group in model.design.groups)]
    found = {k: prior[k].to_numpy().reshape(-1, *prior[k].shape[2:]) for k in names}
    eta = linear_predictor(model.design, found)
    values = log_rows(model.design.family.name, model.design.y, eta).sum(axis=1)
    weights = np.exp(values - special.logsumexp(values))
    log_evidence = special.logsumexp(values) - np.log(len(values))
    return log_evidence, np.sqrt((weights**2).sum()), weights @ found["beta"]


def assert_same_evidence(fit: hp.PosteriorFit, right: float, error: float = 0.0) -> None:
    value, own = fit.log_marginal_likelihood
    assert abs(value - right) < LIMIT * np.hypot(own, error)


def assert_as_dense(fit: hp.PosteriorFit, model: hp.Model, data: pd.DataFrame) -> None:
    right, scalars = dense(model, data)
    assert_same_evidence(fit, right, 1e-3)
    for name, (mean, sd) in scalars.items():
        assert abs(flat(fit, name)[:, 0].mean() - mean) < 0.12 * sd  # 2000 draws, ESS over 1000


CASES = {
    "bernoulli": ("y ~ 1 + (1 | g)", "bernoulli", table()),
    "poisson": ("c ~ 1 + (1 | g)", "poisson", table()),
    "a sd of zero": ("c ~ 1 + (1 | g)", "poisson", table(sd=0.0)),
    "rare": ("y ~ 1 + (1 | g)", "bernoulli", table(middle=-3.0)),
    "thousands": ("c ~ 1 + (1 | g)", "poisson", table(middle=8.0)),
    "every group all or none": (
        "y ~ 1 + (1 | g)",
        "bernoulli",
        table().assign(y=lambda d: d["g"].isin(["g0", "g3"]).astype(int)),
    ),
}


@pytest.mark.parametrize(
    "name",
    [n if n == "bernoulli" else pytest.param(n, marks=pytest.mark.slow) for n in CASES],
)
def test_evidence_and_means_are_those_of_a_dense_grid(name):
    formula, family, data = CASES[name]
    model = hp.Model(formula, data, family=family)
    assert_as_dense(fitted(model), model, data)


MODELS = {
    "complete pooling": ("c ~ x", "poisson", table(4, 2)),
    "complete pooling, bernoulli": ("y ~ x", "bernoulli", table()),
    "complete separation": (
        "y ~ x",
        "bernoulli",
        table(3, 4).assign(y=lambda d: (d["x"] > 0).astype(int)),
    ),
    "three correlated effects": ("y ~ x + w + (x + w | g)", "bernoulli", table(4, 4)),
    "two crossed factors": ("y ~ 1 + (1 | g) + (1 | h)", "bernoulli", table(5, 3)),
    "two crossed factors of counts": (
        "c ~ 1 + (1 | g) + (1 | h)",
        "poisson",
        table(4, 3, 0.3, -0.5),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_evidence_and_coefficients_are_those_of_weighted_draws_of_the_prior(name):
    formula, family, data = MODELS[name]
    model = hp.Model(formula, data, family=family)
    fit = fitted(model)
    right, error, beta = by_prior_draws(model)
    assert error < 0.1
    assert_same_evidence(fit, right, error)
    drawn = flat(fit, "beta")
    noise = drawn.std(axis=0) * np.hypot(1 / np.sqrt(1000), error)
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - beta), LIMIT * noise)


@pytest.mark.parametrize(("family", "left"), [("poisson", "c"), ("bernoulli", "y")])
def test_no_pooling_is_every_group_on_its_own(family, left):
    data = table(4, 4)
    data.loc[data["g"] == "g0", left] = 0  # no event: only its prior holds this group
    data.loc[data["g"] == "g1", "y"] = 1
    model = hp.no_pooling(f"{left} ~ 1", data, "g", family=family)
    fit = fitted(model)
    drawn = flat(fit, "coef_g")[..., 0]
    block = model.priors.unpooled.coefficients
    right = 0.0
    for k, (_, y) in enumerate(data.groupby("g")[left]):
        values = block.mean[0] + block.sd[0] * np.arange(-8, 8, 0.01)
        log_joint = stats.norm.logpdf(np.arange(-8, 8, 0.01))
        log_joint = log_joint + log_rows(family, y.to_numpy()[:, None], values).sum(axis=0)
        whole = special.logsumexp(log_joint)
        mean, sd = moments(np.exp(log_joint - whole), values)
        assert abs(drawn[:, k].mean() - mean) < 0.12 * sd
        right += whole + np.log(0.01)
    assert_same_evidence(fit, right, 1e-6)  # nothing is left to draw


def test_an_offset_is_the_exposure_of_a_rate():
    rng = np.random.default_rng(6)
    exposure = rng.uniform(5.0, 50.0, 120)
    data = pd.DataFrame(
        {"c": rng.poisson(0.3 * exposure), "t": exposure, "g": np.repeat(list("abcdef"), 20)}
    )
    fit = fitted(hp.Model("c ~ 1 + offset(log(t)) + (1 | g)", data, family="poisson"))
    beta = flat(fit, "beta")[:, 0]
    assert abs(beta.mean() - np.log(0.3)) < LIMIT * beta.std()
    assert beta.mean() == pytest.approx(np.log(data["c"].sum() / data["t"].sum()), abs=0.1)


@pytest.mark.parametrize(("family", "left"), [("poisson", "c"), ("bernoulli", "y")])
def test_a_row_of_weight_two_is_the_row_twice(family, left):
    data = table().assign(often=lambda d: 1 + (np.arange(len(d)) % 3 == 0))
    twice = data.loc[data.index.repeat(data["often"])]
    weighted = hp.Model(f"{left} ~ 1 + (1 | g)", data, family=family, weights="often")
    repeated = hp.Model(f"{left} ~ 1 + (1 | g)", twice, family=family)
    repeated = hp.Model.from_design(repeated.design, weighted.priors)
    z, gamma = np.array([[0.3], [-1.0]]), np.array([[0.2], [1.1]])
    values = []
    for model in (weighted, repeated):
        posterior = FamilyPosterior.from_design(model.design, model.priors)
        values.append(posterior.model.log_density(gamma, posterior.theta(z)[1]))
    np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-8)
    first, second = fitted(weighted), fitted(repeated)
    assert first.log_marginal_likelihood[0] == pytest.approx(
        second.log_marginal_likelihood[0], abs=1e-6
    )
    np.testing.assert_allclose(flat(first, "beta"), flat(second, "beta"), rtol=0, atol=1e-6)


def test_the_other_event_turns_the_signs():
    data = table()
    yes, no = (
        fitted(hp.Model("label ~ x + (1 | g)", data, family=hp.families.Bernoulli(event=event)))
        for event in ("yes", "no")
    )
    assert_same_evidence(yes, *no.log_marginal_likelihood)
    first, second = flat(yes, "beta"), flat(no, "beta")
    noise = LIMIT * first.std(axis=0) * np.sqrt(2 / 1000)
    np.testing.assert_array_less(np.abs(first.mean(axis=0) + second.mean(axis=0)), noise)


def test_four_effects_and_two_thin_factors_are_beyond_this_engine():
    data = table().assign(v=lambda d: d["x"] ** 2)
    model = hp.Model("y ~ x + w + v + (x + w + v | g)", data, family="bernoulli")
    assert limits.beyond(model.design) == (
        "4 coefficients vary over g, and the exact engine integrates at most 3 of a family that "
        "is not Gaussian"
    )
    k = np.arange(300)
    many = pd.DataFrame({"c": k % 3, "g": [f"g{j}" for j in k // 2]})
    many["h"] = [f"h{j}" for j in k % 120]
    thin = hp.Model("c ~ 1 + (1 | g) + (1 | h)", many, family="poisson")
    assert limits.beyond(thin.design).startswith(
        "g and h both have many levels with few rows each, of which"
    )
    assert limits.beyond(hp.Model("c ~ 1 + (1 | g)", many, family="poisson").design) == ""
    with pytest.raises(UnsupportedModelError, match="4 coefficients vary over g"):
        model.fit(engine="exact", seed=1, progress=False)


def test_doubts_name_the_share_that_counts_and_the_finer_grid():
    model = hp.Model("y ~ 1 + (1 | g)", table(), family="bernoulli")
    posterior = FamilyPosterior.from_design(model.design, model.priors)
    draws = sample_points(posterior, 4, 100, np.random.default_rng(1))
    assert verdict.doubts(draws) == ()
    (share,) = verdict.doubts(replace(draws, effective_share=0.034))
    assert share == "only 3.4 % of the proposals count, fewer than 10 %"
    (grid,) = verdict.doubts(replace(draws, quadrature_sd=0.31))
    assert "on a finer grid the log likelihood differs with an sd of 0.31, more than 0.05" in grid
    nothing = replace(draws, effective_share=np.nan, quadrature_sd=np.nan)
    assert len(verdict.doubts(nothing)) == 2


def test_a_saved_fit_is_the_same_fit(tmp_path):
    family = hp.families.Bernoulli(event="no")
    fit = fitted(hp.Model("label ~ x + (x | g)", table(), family=family))
    fit.save(tmp_path / "fit.nc")
    again = hp.load_fit(tmp_path / "fit.nc")
    for name, values in fit.datatree["posterior"].data_vars.items():
        np.testing.assert_array_equal(again.variable(name), values)
    assert again.design.family == fit.design.family
    assert again.status == fit.status
    assert again.log_marginal_likelihood == fit.log_marginal_likelihood
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_series_equal(again.fitted(), fit.fitted())


@pytest.mark.slow
def test_an_outlying_row_is_left_out_exactly():
    data = table()
    data.loc[7, "c"] = 40
    model = hp.Model("c ~ 1 + (1 | g)", data, family="poisson")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HierpoolWarning)
        found = fitted(model).loo()
    assert found.n_refitted >= 1
    assert np.isnan(found.pareto_k[7])  # no weights: it was fitted again
    right = dense(model, data)[0] - dense(model, data.drop(index=7))[0]
    assert float(found.elpd_i[7]) == pytest.approx(right, abs=0.06)  # errors of two evidences


def test_nowhere_to_propose_from_is_an_error_that_says_what_to_type(monkeypatch):
    model = hp.Model("c ~ 1 + (1 | g)", table(), family="poisson")
    monkeypatch.setattr(
        laplace_map, "_is_usable", lambda found: np.zeros(len(found.gamma), dtype=bool)
    )
    for ask in (lambda: model.fit("exact", seed=1), lambda: hp.calibrate(model, 100, seed=1)):
        with pytest.raises(FitError, match=r"nowhere to propose.*Use engine='nuts'"):
            ask()
