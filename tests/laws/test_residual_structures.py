"""Residual structures are what a dense Gaussian says: density, gradient, coefficients, rows left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.correlated.model import CorrelatedResiduals
from hierpool.bayes.exact.target import LogPosterior
from hierpool.checks.accuracy import level_coverage
from hierpool.core.errors import DataError
from hierpool.core.residual import RowStructure
from hierpool.core.theta import ResidualTheta
from hierpool.reml.criterion import Criterion
from tests.laws.dense import normal_log_density, restricted_log_density, wide
from tests.support.gradients import value_with_checked_gradient

STRUCTURES = [
    "ar1(time | pig)",
    "ar1(time | pig, nugget=True)",
    "ar1h(time | pig, by=diet)",
    "car1(time | pig)",
    "cs(time | pig)",
    "csh(time | pig)",
    "us(time | pig)",
    "symm(time | pig)",
    "toep(time | pig)",
    "toeph(time | pig)",
    "ad1(time | pig)",
    "ad1h(time | pig)",
    "arma11(time | pig)",
]


def table() -> pd.DataFrame:
    """Ten pigs at five times with gaps, rows in no order, and unequal weights."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame([(p, t) for p in range(10) for t in range(5)], columns=["pig", "time"])
    data["diet"] = np.where(data["pig"] % 2, "low", "high")
    data["w"] = rng.uniform(0.5, 2, len(data))
    data["y"] = rng.normal(20, 3, len(data)) + 2 * data["time"] + rng.normal(0, 2, 10)[data["pig"]]
    keep = rng.permutation(len(data))[:44]
    return data.iloc[keep].reset_index(drop=True)


def correlation(s: RowStructure, phi: np.ndarray) -> np.ndarray:
    """Shape (n, n): of all rows, by the definition of each structure, entry by entry."""
    n = len(s.groups)
    out = np.eye(n)
    for i in range(n):
        for j in range(n):
            if s.correlation is not None and i != j and s.groups[i] == s.groups[j]:
                out[i, j] = _pair(s, phi, s.by[i], s.places[i], s.places[j])
    return out


def _pair(s: RowStructure, phi: np.ndarray, by: int, one: float, other: float) -> float:
    assert s.correlation is not None
    own = phi[: s.n_correlations].reshape(s.n_by, -1)[by]
    kind = s.correlation
    inner = getattr(kind, "inner", None)
    share = 1.0
    if inner is not None:
        share, own, kind = 1 - own[-1], own[:-1], inner
    word, lag = type(kind).__name__, abs(one - other) / kind.unit
    if word in ("Ar1", "Car1"):
        return float(share * own[0] ** lag)
    if word == "CompoundSymmetry":
        return float(own[0])
    if word == "Arma11":
        ar, ma = own
        first = (1 + ar * ma) * (ar + ma) / (1 + 2 * ar * ma + ma**2)
        return float(first * ar ** (lag - 1))
    a, b = sorted((int(one), int(other)))
    if word == "AnteDependence":
        return float(np.prod(own[a:b]))
    T = kind.n_occasions
    if word == "Toeplitz":
        return float(_toeplitz(own)[b - a])
    return float(_vine(own, T)[a, b])


def _toeplitz(partial: np.ndarray) -> np.ndarray:
    """Autocorrelations from partial ones, by solving the Yule-Walker equations."""
    rho = [1.0]
    for k, p in enumerate(partial, start=1):
        if k == 1:
            rho.append(p)
            continue
        R = np.array([[rho[abs(i - j)] for j in range(k - 1)] for i in range(k - 1)])
        r = np.array(rho[1:k])
        solved = np.linalg.solve(R, r[::-1])
        rho.append(r @ solved + p * (1 - r[::-1] @ solved))
    return np.array(rho)


def _vine(partial: np.ndarray, T: int) -> np.ndarray:
    """Correlations from canonical partial ones: rows of length one."""
    root, k = np.eye(T), 0
    for i in range(1, T):
        left = 1.0
        for j in range(i):
            root[i, j] = partial[k] * np.sqrt(left)
            left, k = left * (1 - partial[k] ** 2), k + 1
        root[i, i] = np.sqrt(left)
    return root @ root.T


def made(structure: str, group: bool, **more: Any) -> hp.Model:
    alone = structure.split("(")[0] in ("cs", "us", "symm", "toep")  # not told from an intercept
    right = "time + diet" + (" + (0 + w | pig)" if alone else " + (time | pig)") * group
    return hp.Model(f"y ~ {right}", table(), residual=structure, **more)


CASES = [(s, g) for s in STRUCTURES for g in (False, True)]


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0]}{'+u' * c[1]}")
def model(request: pytest.FixtureRequest) -> hp.Model:
    structure, group = request.param
    return made(structure, group, weights="w")


def thetas(model: hp.Model, K: int) -> tuple[LogPosterior, np.ndarray]:
    target = LogPosterior.from_design(model.design, model.priors)
    z = np.random.default_rng(3).standard_normal((K, target.coordinates.size)) * 0.8
    return target, z


def dense_of(target: LogPosterior, theta: ResidualTheta, k: int) -> tuple[np.ndarray, ...]:
    """y, X, mean and covariance of the response in working coordinates, coefficients integrated."""
    algebra = target.integrated
    assert isinstance(algebra, CorrelatedResiduals)
    design, coordinates = algebra.design, algebra.coordinates
    s = design.residual.structure
    assert s is not None
    X = coordinates.x.work(design.X)
    sd = np.exp(s.log_sds(theta.phi)[k])[s.classes] / np.sqrt(design.frame["w"].to_numpy())
    R = np.outer(sd, sd) * correlation(s, theta.phi[k])
    V = theta.sigma[k] ** 2 * R
    for g, z, at in zip(design.groups, coordinates.zs, design.group_columns, strict=True):
        Z = z.work(g.Z) @ theta.Lambda[k, at, at] * theta.sigma[k]
        ZZ = wide(Z, g.codes, g.grouping.n_levels)
        V = V + ZZ @ ZZ.T
    prior = np.linalg.inv(algebra.prior.precision)
    y = design.y - coordinates.y_shift
    return y, X, X @ algebra.prior.mean, V + X @ prior @ X.T, V


def test_density_and_rows_left_out(model: hp.Model) -> None:
    target, z = thetas(model, 3)
    at = target.at(z)
    theta = at.working
    assert isinstance(theta, ResidualTheta)
    rows = target.integrated.log_density_of_rows(theta)
    mean, sd = target.integrated.prediction_of_rows(theta)
    groupings = model.design.groupings
    levels = target.integrated.log_density_of_levels(theta, groupings["pig"])
    shift = target.integrated.coordinates.y_shift
    for k in range(3):
        y, _, m, cov, _ = dense_of(target, theta, k)
        whole = normal_log_density(y, m, cov)
        assert at.log_likelihood[k] == pytest.approx(whole, rel=1e-9, abs=1e-8)
        K = np.linalg.inv(cov)
        off, variance = (K @ (y - m)) / np.diag(K), 1 / np.diag(K)
        np.testing.assert_allclose(mean[k], y - off + shift, rtol=1e-9, atol=1e-8)
        np.testing.assert_allclose(sd[k], np.sqrt(variance), rtol=1e-8)
        expected = -0.5 * (np.log(2 * np.pi * variance) + off**2 / variance)
        np.testing.assert_allclose(rows[k], expected, atol=1e-8)
        codes = groupings["pig"].codes
        for j in range(groupings["pig"].n_levels):
            rest = codes != j
            less = normal_log_density(y[rest], m[rest], cov[np.ix_(rest, rest)])
            assert levels[j, k] == pytest.approx(whole - less, rel=1e-8, abs=1e-8)


def test_coefficients(model: hp.Model) -> None:
    target, z = thetas(model, 2)
    theta = target.at(z).working
    assert isinstance(theta, ResidualTheta)
    found = target.integrated.mean_coefficients(theta)
    coordinates, design = target.integrated.coordinates, model.design
    for k in range(2):
        y, X, _, _, V = dense_of(target, theta, k)
        prior = target.integrated.prior
        information = X.T @ np.linalg.solve(V, X) + prior.precision
        right = X.T @ np.linalg.solve(V, y) + prior.weighted_mean
        beta = np.linalg.solve(information, right)
        user = coordinates.beta_to_user(beta)
        np.testing.assert_allclose(found["beta"][k], user, rtol=1e-8)
        if design.groups:
            assert coordinates.z is not None
            g = design.groups[0]
            Z = coordinates.z.work(g.Z) @ theta.Lambda[k] * theta.sigma[k]
            solved = np.linalg.solve(V, y - X @ beta)
            v = wide(Z, g.codes, g.grouping.n_levels).T @ solved
            u = v.reshape(g.grouping.n_levels, -1) @ (theta.Lambda[k] * theta.sigma[k]).T
            np.testing.assert_allclose(
                found["u_pig"][k], u @ coordinates.z.from_working.T, rtol=1e-7, atol=1e-8
            )


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_deviance_and_gradient(model: hp.Model, method: Any) -> None:
    c = Criterion.from_design(model.design, method)
    theta, value = value_with_checked_gradient(c)
    if method == "REML":
        assert value == pytest.approx(dense_reml(model, c, theta), abs=1e-7)


def dense_reml(model: hp.Model, c: Criterion, theta: np.ndarray) -> float:
    design, s, phi = model.design, c.structure, c.phi(theta)
    assert s is not None
    assert phi is not None
    marginal = c.population(theta[None])
    sigma = float(np.sqrt(marginal.penalized_ss[0] / c.df))
    sd = np.exp(s.log_sds(phi[None])[0])[s.classes] / np.sqrt(design.frame["w"].to_numpy())
    V = sigma**2 * np.outer(sd, sd) * correlation(s, phi)
    Lambda = c.factor(theta) * sigma
    for g, z, at in zip(design.groups, c.coordinates.zs, design.group_columns, strict=True):
        ZZ = wide(z.work(g.Z) @ Lambda[at, at], g.codes, g.grouping.n_levels)
        V = V + ZZ @ ZZ.T
    return -2 * restricted_log_density(design.y, design.X, V)


def test_sds_by_class_with_and_without_groups() -> None:
    for formula in ("y ~ time", "y ~ time + (time | pig)"):
        for sigma in ("~ diet", "~ time"):
            model = hp.Model(formula, table(), sigma=sigma, weights="w")
            target, z = thetas(model, 2)
            at = target.at(z)
            assert isinstance(at.working, ResidualTheta)
            for k in range(2):
                y, _, m, cov, _ = dense_of(target, at.working, k)
                assert at.log_likelihood[k] == pytest.approx(
                    normal_log_density(y, m, cov), abs=1e-8
                )


def test_rows_left_out_of_the_model_keep_the_meaning_of_parameters() -> None:
    target, z = thetas(made("cs(time | pig)", False, weights="w"), 2)
    at = target.at(z)
    assert isinstance(at.working, ResidualTheta)
    gone = np.array([0, 7, 20])
    rest = target.integrated.without(gone).log_density(at.working)
    for k in range(2):
        y, _, m, cov, _ = dense_of(target, at.working, k)
        kept = np.setdiff1d(np.arange(len(y)), gone)
        less = normal_log_density(y[kept], m[kept], cov[np.ix_(kept, kept)])
        assert rest[k] == pytest.approx(less, abs=1e-8)


def test_draws_have_the_right_means() -> None:
    model = made("ar1(time | pig)", True, weights="w")
    target, z = thetas(model, 1)
    theta = target.at(np.repeat(z, 20_000, axis=0)).working
    drawn = target.integrated.draw(theta, 1)
    means = target.integrated.mean_coefficients(theta[:1])
    for name in ("beta", "u_pig"):
        error = drawn[name].std(axis=0) / np.sqrt(20_000)
        assert (np.abs(drawn[name].mean(axis=0) - means[name][0]) < 5 * error + 1e-12).all()


@pytest.mark.parametrize(
    ("formula", "residual"),
    [
        ("y ~ time + (1 | pig)", "us(time | pig)"),
        ("y ~ time + (0 + time | pig)", "us(time | pig)"),
        ("y ~ time + (1 | pig)", "us(time | pig, by=diet)"),
        ("y ~ time + (0 + time | pig) + (1 | pig)", "toep(time | pig)"),
    ],
)
def test_structures_that_say_what_random_effects_say(formula: str, residual: str) -> None:
    with pytest.raises(DataError) as caught:
        hp.Model(formula, table(), residual=residual)
    assert caught.value.code == "cs-beside-intercept"


def test_rows_one_step_ahead_add_up_to_their_group(model: hp.Model) -> None:
    target, z = thetas(model, 2)
    theta = target.at(z).working
    algebra, grouping = target.integrated, model.design.groupings["pig"]
    assert isinstance(algebra, CorrelatedResiduals)
    ahead = algebra.densities_ahead(theta)
    levels = algebra.log_density_of_levels(theta, grouping)
    total = np.zeros_like(levels)
    np.add.at(total, grouping.codes, ahead)
    np.testing.assert_allclose(total, levels, rtol=1e-8, atol=1e-8)
    assert isinstance(theta, ResidualTheta)
    y, _, m, cov, _ = dense_of(target, theta, 0)
    s = model.design.residual.structure
    assert s is not None
    own = np.flatnonzero(grouping.codes == 2)
    own = own[np.argsort(s.places[own])]
    given = np.append(np.flatnonzero(grouping.codes != 2), own[:2])
    both = np.append(given, own[2])
    step = normal_log_density(y[both], m[both], cov[np.ix_(both, both)])
    step -= normal_log_density(y[given], m[given], cov[np.ix_(given, given)])
    assert ahead[own[2], 0] == pytest.approx(step, abs=1e-8)


@pytest.mark.parametrize(
    ("structure", "group"),
    [
        pytest.param("ar1(time | pig)", True, marks=pytest.mark.slow),
        ("cs(time | pig, by=diet)", False),
    ],
)
def test_means_and_rows_of_a_group_predicted_from_the_others(structure: str, group: bool) -> None:
    model = made(structure, group, weights="w")
    fit = model.fit(draws=1000, chains=2, seed=1)
    design, grouping = model.design, model.design.groupings["pig"]
    means, rows = level_coverage._predictions(fit, next(iter(design.groups), None), grouping)
    target = LogPosterior.from_design(design, model.priors)
    shift = target.integrated.coordinates.y_shift
    picks = np.unique(np.linspace(0, len(fit.theta) - 1, level_coverage.DRAWS).astype(int))
    for k in (0, 50):
        theta = fit.working_theta[picks[k : k + 1]]
        y, _, m, cov, _ = dense_of(target, theta, 0)
        for j in (1, 4):
            own, rest = grouping.codes == j, np.flatnonzero(grouping.codes != j)
            across = np.linalg.solve(cov[np.ix_(rest, rest)], cov[np.ix_(rest, own)]).T
            mean = m[own] + across @ (y - m)[rest] + shift
            left = cov[np.ix_(own, own)] - across @ cov[np.ix_(rest, own)]
            assert means.mean[j, k] == pytest.approx(mean.mean(), rel=1e-8)
            assert means.sd[j, k] == pytest.approx(np.sqrt(left.mean()), rel=1e-8)
            np.testing.assert_allclose(rows.mean[own, k], mean, rtol=1e-8)
            np.testing.assert_allclose(rows.sd[own, k], np.sqrt(np.diag(left)), rtol=1e-8)
    assert fit.level_coverage()["pit"].between(0, 1).all()
