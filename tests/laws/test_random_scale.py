"""Groups that differ in their residual sd: the scale integrated is what brute force says it is."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from pytensor.compile.mode import Mode
from scipy import special, stats

import hierpool as hp
from hierpool.algebra.correlated.random_scale import RandomScaleResiduals
from hierpool.algebra.correlated.residuals import rows_sd
from hierpool.bayes.exact.random_scale import ScalePosterior, scale_posterior
from hierpool.bayes.nuts import pymc_model
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.theta import ScaleTheta

CASES = [
    ("y ~ x + (x | g)", "~ (1 | g)"),
    ("y ~ x + (1 | g)", "~ x + (1 | g)"),
    ("y ~ 1", "~ (1 | g)"),
    ("y ~ x + (x + z | g)", "~ c + (1 | g)"),
]
K = 3


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g = np.array(list("aaaaaaabbbbbbccccddddddeeef"))
    n = len(g)
    made = pd.DataFrame({"g": g, "x": rng.normal(size=n), "z": rng.normal(size=n)})
    made["c"] = rng.choice(["u", "v"], n)
    return made.assign(y=3 + made.x + rng.normal(size=n) * np.where(g == "a", 1.6, 1.0))


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]}, {c[1]}")
def target(request: Any, table: pd.DataFrame) -> ScalePosterior:
    formula, sigma = request.param
    model = hp.Model(formula, table, sigma=sigma)
    return scale_posterior(model.design, model.priors)


def points(target: ScalePosterior) -> Any:
    z = 0.5 * np.random.default_rng(1).normal(size=(K, target.coordinates.size))
    return target.at(z)


def by_grid(model: RandomScaleResiduals, theta: ScaleTheta) -> np.ndarray:
    """Log density of the levels, (K, J): dense normals at many values of s."""
    s, rows, codes = model.correlated.structure, model.scaled_rows, model._codes
    assert s.scale is not None
    grid = np.linspace(-14, 14, 1001)
    out = np.empty((len(theta), len(s.scale.labels)))
    for k, j in np.ndindex(out.shape):
        own = codes == j
        fixed = (theta.phi[k, : s.n_spread] @ s.basis.T)[s.scale.spread_of[s.classes[own]]]
        G = rows.Z[own] @ theta.Lambda[k]
        t = np.exp(2 * theta.phi[k, s.n_spread] * grid)[:, None, None]
        L = np.linalg.cholesky(theta.sigma[k] ** 2 * (t * np.diag(np.exp(2 * fixed)) + G @ G.T))
        e = rows.y[own] - rows.X[own] @ theta.beta[k]
        white = np.linalg.solve(L, np.broadcast_to(e[:, None], (len(grid), len(e), 1)))
        density = stats.norm.logpdf(white).sum(axis=(1, 2)) + stats.norm.logpdf(grid)
        density -= np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)
        out[k, j] = special.logsumexp(density) + np.log(grid[1] - grid[0])
    return out


def test_density_of_levels_is_that_of_dense_integration(target: ScalePosterior) -> None:
    at = points(target)
    expected = by_grid(target.model, cast(ScaleTheta, at.working))
    assert at.log_likelihood == pytest.approx(expected.sum(axis=1), abs=1e-7)


def test_rows_and_levels_left_out_are_differences(target: ScalePosterior) -> None:
    model, at = target.model, points(target)
    grouping, n = model.design.groupings["g"], model.design.n
    each = model.densities_by_row(at.working, np.arange(n)[::-1], cast(Any, None))[::-1]
    rest = [model.without(np.array([i])).log_density(at.working) for i in range(n)]
    assert each == pytest.approx(at.log_likelihood - np.stack(rest), abs=1e-9)
    levels = model.log_density_of_levels(at.working, grouping)
    rest = [
        model.without(np.flatnonzero(grouping.codes == j)).log_density(at.working)
        for j in range(grouping.n_levels)
    ]
    assert levels == pytest.approx(at.log_likelihood - np.stack(rest), abs=1e-9)


@pytest.mark.slow
def test_drawn_scales_have_the_posterior_that_a_grid_has(table: pd.DataFrame) -> None:
    made = hp.Model("y ~ x + (x | g)", table, sigma="~ (1 | g)")
    target = scale_posterior(made.design, made.priors)
    one = points(target)[np.zeros(6000, dtype=int)]
    model, theta = target.model, cast(ScaleTheta, one.working)
    s = model.draw_scales(theta, np.random.default_rng(2))[:, 0]
    own, grid = model._codes == 0, np.linspace(-6, 6, 241)
    G = model.scaled_rows.Z[own] @ theta.Lambda[0]
    e = model.scaled_rows.y[own] - model.scaled_rows.X[own] @ theta.beta[0]
    t = np.exp(2 * theta.phi[0, 0] * grid)
    covariances = [theta.sigma[0] ** 2 * (u * np.eye(len(e)) + G @ G.T) for u in t]
    log_p = [stats.multivariate_normal.logpdf(e, cov=V) for V in covariances]
    p = np.exp(log_p + stats.norm.logpdf(grid))
    p /= p.sum()
    mean = p @ grid
    assert s.mean() == pytest.approx(mean, abs=0.04)
    assert s.std() == pytest.approx(np.sqrt(p @ (grid - mean) ** 2), abs=0.04)
    assert np.mean(s < mean) == pytest.approx(p[grid < mean].sum(), abs=0.03)


@pytest.mark.slow
def test_pymc_model_is_the_definition(table: pd.DataFrame) -> None:
    """Its joint density is that of independent rows with the sds of their groups, times the priors."""
    made = hp.Model("y ~ 1", table, sigma="~ x + (1 | g)")
    design, priors = made.design, made.priors
    model = pymc_model.build(design, priors)
    names = ["sigma", "beta", "residual_spread", "sd_log_sigma", "residual_deviation"]
    outputs = [model.logp(jacobian=False), *model.replace_rvs_by_values([model[n] for n in names])]
    compiled = model.compile_fn(
        outputs, inputs=model.value_vars, mode=Mode(linker="py", optimizer=None)
    )
    rng = np.random.default_rng(3)
    start = model.initial_point()
    log_p, *found = compiled({k: v + rng.normal(0, 0.5, np.shape(v)) for k, v in start.items()})
    value = dict(zip(names, map(np.asarray, found), strict=True))
    omega, s = value["sd_log_sigma"], value["residual_deviation"]
    phi = np.concatenate([value["residual_spread"], [omega], omega * s])
    sd = rows_sd(design.residual, value["sigma"][None], phi[None])[0]
    part = priors.residual_structure
    assert part is not None
    assert part.scale is not None
    assert priors.sigma is not None
    expected = stats.norm.logpdf(design.y, design.X @ value["beta"], sd).sum()
    (of_beta,) = priors.population.priors
    expected += of_beta.distribution.logpdf(value["beta"]).sum()
    expected += priors.sigma.distribution.logpdf(value["sigma"])
    expected += part.scale.distribution.logpdf(omega) + stats.norm.logpdf(s).sum()
    expected += stats.norm.logpdf(value["residual_spread"], 0, part.spread_sd).sum()
    assert log_p == pytest.approx(expected, abs=1e-8)


def test_maximum_likelihood_is_where_brute_force_is_highest(table: pd.DataFrame) -> None:
    made = hp.Model("y ~ x + (1 | g)", table, sigma="~ x + (1 | g)")
    fit = made.ml()
    e, target = fit.estimate, scale_posterior(made.design, made.priors)
    phi = np.asarray(e.residual_parameters)[:2]
    beta = target.model.coordinates.beta_from_user(e.beta[None])[0]
    numbers = np.concatenate([beta, phi, [np.log(e.sigma), e.relative_covariance_factor[0, 0]]])
    moved = numbers + 0.05 * np.random.default_rng(4).normal(size=(12, len(numbers)))
    x = np.concatenate([numbers[None], moved])
    of_sds = np.column_stack([x[:, 2], np.abs(x[:, 3])])
    theta = ScaleTheta(np.exp(x[:, 4]), x[:, 5, None, None], of_sds, x[:, :2])
    log_p = by_grid(target.model, theta).sum(axis=1)
    assert e.loglik == pytest.approx(log_p[0], abs=1e-6)
    assert (log_p[1:] < log_p[0] + 1e-6).all()


def test_likelihood_ratio_and_predictions(table: pd.DataFrame) -> None:
    noisy = table.assign(y=table.y + np.where(table.g == "b", 8.0 * table.z, 0.0))
    plain = hp.Model("y ~ x", noisy).ml()
    made = hp.Model("y ~ x", noisy, sigma="~ (1 | g)")
    uneven = made.ml()
    test = hp.lrt(plain, uneven)
    assert "1 more parameter" in str(test)
    with pytest.raises(UnsupportedModelError, match="REML"):
        made.reml()
    sds = uneven.predict(noisy[noisy.x == noisy.x], kind="response")["se"]
    by_group = sds.groupby(noisy.g).mean()
    assert by_group["b"] == by_group.max()
    new = uneven.predict(noisy.assign(g="zz").head(2), kind="response", groups="average")["se"]
    assert new.max() < by_group["b"]


@pytest.mark.calibration
def test_posterior_is_calibrated(table: pd.DataFrame) -> None:
    made = hp.Model("y ~ x + (1 | g)", table, sigma="~ (1 | g)")
    found = hp.calibrate(made, 200, seed=5, progress=False)
    assert found.n_distrusted <= 10
    assert found.table.loc["sd_log_sigma", "inside"]
    assert found.table["inside"].sum() >= len(found.table) - 1


def test_scales_far_apart_have_no_spurious_density(table: pd.DataFrame) -> None:
    """Of a level with one row nothing is left beside its random effect: no digits of rounding are."""
    made = hp.Model("y ~ x + (1 | g)", table, sigma="~ (1 | g)")
    target = scale_posterior(made.design, made.priors)
    z = np.zeros((40, target.coordinates.size))
    z[:, 2] = np.linspace(3, 7, 40)  # omega
    assert target.log_likelihood(z).max() < target.log_likelihood(0 * z[:1])[0]


@pytest.mark.slow
def test_coverage_of_new_groups_is_that_of_a_fit_without_each() -> None:
    """Means of three subjects, their own scale unknown, from fits of the others."""
    data = hp.datasets.load("sleepstudy")
    how = {"seed": 1, "draws": 2000, "progress": False}
    formula, sigma = "Reaction ~ Days + (Days || Subject)", "~ (1 | Subject)"
    table = hp.Model(formula, data, sigma=sigma).fit(**how).level_coverage(0.8)
    for subject in ("308", "332"):
        is_own = data["Subject"].astype(str) == subject
        rest = hp.Model(formula, data[~is_own], sigma=sigma).fit(**how)
        drawn = rest.predict_draws(
            data[is_own].reset_index(drop=True), kind="response", groups="allow new", seed=2
        )
        means = drawn.mean("obs").to_numpy().ravel()
        row = table[table.index.get_level_values("level").astype(str) == subject].iloc[0]
        assert row["mean"] == pytest.approx(means.mean(), abs=0.08 * means.std())
        assert row["sd"] == pytest.approx(means.std(), rel=0.05)
        assert row["eti80_lb"] == pytest.approx(np.quantile(means, 0.1), abs=0.1 * means.std())
