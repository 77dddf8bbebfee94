"""Related levels beside residuals with a structure are what a dense Gaussian says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.algebra.correlated.model import CorrelatedResiduals
from hierpool.bayes.exact.target import LogPosterior
from hierpool.core.errors import HierpoolError
from hierpool.core.theta import ResidualTheta
from hierpool.reml.criterion import Criterion
from tests.laws.dense import normal_log_density, restricted_log_density, wide
from tests.laws.test_relationships import pedigree, tabular
from tests.laws.test_residual_structures import correlation
from tests.support.gradients import value_with_checked_gradient

CASES: list[tuple[str, dict[str, str]]] = [
    ("(1 | animal) + (1 | id)", {"residual": "ar1(time | id)"}),  # blocks are levels of id
    ("(1 | animal)", {"residual": "cs(time | animal)", "sigma": "~ sex"}),  # blocks are groups
    ("(time | animal) + (1 | region)", {"residual": "ar1h(time | id)"}),  # random regression
    ("(1 | animal) + (1 | id)", {"sigma": "~ sex"}),  # rows are independent
    ("(1 | area) + (1 | id)", {"residual": "car1(time | id)"}),  # crossed with the groups
]
QUICK = (0, 4)
PARAMS = [
    pytest.param(c, marks=[] if k in QUICK else pytest.mark.slow) for k, c in enumerate(CASES)
]


def relations() -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """As given, and as covariances of labels: a pedigree, and neighbours in a circle."""
    table = pedigree(np.random.default_rng(3))
    names = list("pqrst")
    near = np.roll(np.eye(5), 1, axis=1) + np.roll(np.eye(5), -1, axis=1)
    Q = pd.DataFrame(2.5 * np.eye(5) - near, names, names)
    K = np.linalg.pinv(Q.to_numpy())
    K = pd.DataFrame(K / np.exp(np.log(np.diag(K)).mean()), names, names)
    return {"animal": table, "area": {"precision": Q}}, {"animal": tabular(table), "area": K}


def data() -> pd.DataFrame:
    """Rows of animals over time, in no order, with gaps and weights."""
    rng = np.random.default_rng(8)
    animals = relations()[0]["animal"].animal.to_numpy()[:16]
    made = pd.DataFrame([(a, t) for a in animals for t in range(5)], columns=["animal", "time"])
    made["id"] = made.animal
    made["sex"] = np.where(made.animal.str[-1].isin(list("02468")), "f", "m")
    made["region"] = made.animal.map(dict(zip(animals, rng.choice(list("xyz"), 16), strict=True)))
    made["area"] = rng.choice(list("pqrst"), len(made))
    made["w"] = rng.uniform(0.5, 2, len(made))
    A = relations()[1]["animal"]
    u = pd.Series(3 * np.linalg.cholesky(A) @ rng.normal(size=len(A)), A.index)
    noise = rng.normal(0, 1, (16, 5))
    for t in range(1, 5):
        noise[:, t] = 0.6 * noise[:, t - 1] + 0.8 * noise[:, t]
    own = rng.normal(0, 1.5, (16, 1)) + noise
    made["y"] = (20 + made.time + made.animal.map(u) + own.ravel()).round(2)
    return made.iloc[rng.permutation(len(made))[:66]].reset_index(drop=True)


@pytest.fixture(params=PARAMS, ids=lambda c: f"{c[0]} {' '.join(c[1].values())}")
def model(request: pytest.FixtureRequest) -> hp.Model:
    terms, more = request.param
    given = {k: v for k, v in relations()[0].items() if f"| {k})" in terms}
    return hp.Model(f"y ~ time + sex + {terms}", data(), weights="w", relationship=given, **more)


def roots(model: hp.Model, theta: ResidualTheta, k: int) -> list[np.ndarray]:
    """For each factor a root (J q, J q) of the covariance of its levels, in working coordinates."""
    known, out = relations()[1], []
    for g, at in zip(model.design.groups, model.design.group_columns, strict=True):
        levels = g.grouping.levels
        A = np.eye(len(levels))
        if g.schema.related is not None:
            A = known[g.factor].loc[levels, levels].to_numpy()
        values, vectors = np.linalg.eigh(A)
        root = vectors * np.sqrt(np.maximum(values, 0))
        out.append(np.kron(root, theta.sigma[k] * theta.Lambda[k, at, at]))
    return out


def dense(model: hp.Model, theta: ResidualTheta, k: int) -> tuple[np.ndarray, ...]:
    """y, X, R, and the columns of each factor times the root, in working coordinates."""
    algebra = LogPosterior.from_design(model.design, model.priors).integrated
    design, coordinates, s = model.design, algebra.coordinates, model.design.residual.structure
    assert s is not None
    sd = np.exp(s.log_sds(theta.phi)[k])[s.classes] / np.sqrt(design.frame["w"].to_numpy())
    R = theta.sigma[k] ** 2 * np.outer(sd, sd) * correlation(s, theta.phi[k])
    T = [
        wide(z.work(g.Z), g.codes, g.grouping.n_levels) @ root
        for g, z, root in zip(design.groups, coordinates.zs, roots(model, theta, k), strict=True)
    ]
    return design.y - coordinates.y_shift, coordinates.x.work(design.X), R, np.hstack(T)


def points(model: hp.Model, K: int) -> tuple[LogPosterior, np.ndarray]:
    target = LogPosterior.from_design(model.design, model.priors)
    z = np.random.default_rng(3).standard_normal((K, target.coordinates.size)) * 0.8
    return target, z


def test_density_and_what_is_left_out(model: hp.Model) -> None:
    target, z = points(model, 2)
    at, algebra, design = target.at(z), target.integrated, model.design
    theta = at.working
    assert isinstance(theta, ResidualTheta)
    assert isinstance(algebra, CorrelatedResiduals)
    rows, (mean, sd) = algebra.log_density_of_rows(theta), algebra.prediction_of_rows(theta)
    levels = {f: algebra.log_density_of_levels(theta, g) for f, g in design.groupings.items()}
    less = algebra.without(np.arange(7)).log_density(theta)
    prior = np.linalg.inv(algebra.prior.precision)
    for k in range(2):
        y, X, R, T = dense(model, theta, k)
        cov, m = R + T @ T.T + X @ prior @ X.T, X @ algebra.prior.mean
        whole = normal_log_density(y, m, cov)
        assert at.log_likelihood[k] == pytest.approx(whole, rel=1e-10)
        K = np.linalg.inv(cov)
        off, variance = (K @ (y - m)) / np.diag(K), 1 / np.diag(K)
        y_shift = algebra.coordinates.y_shift
        np.testing.assert_allclose(mean[k], y - off + y_shift, rtol=1e-9, atol=1e-8)
        np.testing.assert_allclose(sd[k], np.sqrt(variance), rtol=1e-8)
        expected = -0.5 * (np.log(2 * np.pi * variance) + off**2 / variance)
        np.testing.assert_allclose(rows[k], expected, atol=1e-8)
        part = normal_log_density(y[7:], m[7:], cov[7:, 7:])
        assert less[k] == pytest.approx(part, rel=1e-10)
        for factor, found in levels.items():
            for j in range(len(found)):
                rest = design.groupings[factor].codes != j
                without = normal_log_density(y[rest], m[rest], cov[np.ix_(rest, rest)])
                assert found[j, k] == pytest.approx(whole - without, abs=1e-8), factor
    if design.spec.residual.correlation is not None:
        structured = design.groupings[design.residual_factor]
        of_groups = np.zeros((structured.n_levels, 2))
        np.add.at(of_groups, structured.codes, algebra.densities_ahead(theta))
        np.testing.assert_allclose(of_groups, levels[structured.factor], atol=1e-8)


def test_coefficients_and_draws(model: hp.Model) -> None:
    target, z = points(model, 1)
    theta, algebra, design = target.at(z).working, target.integrated, model.design
    assert isinstance(theta, ResidualTheta)
    y, X, R, Z = dense(model, theta, 0)
    T, p = np.hstack([X, Z]), X.shape[1]
    precision = T.T @ np.linalg.solve(R, T)
    precision[:p, :p] += algebra.prior.precision
    precision[p:, p:] += np.eye(Z.shape[1])
    right = T.T @ np.linalg.solve(R, y)
    right[:p] += algebra.prior.weighted_mean
    both, given_beta = np.linalg.solve(precision, right), np.linalg.inv(precision[p:, p:])
    found, variances = algebra.mean_coefficients(theta), algebra.conditional_variances(theta)
    drawn = algebra.draw(theta[np.zeros(2000, dtype=int)], 1)
    user = algebra.coordinates.beta_to_user(both[:p])
    np.testing.assert_allclose(found["beta"][0], user, rtol=1e-8)
    done, every = p, zip(design.groups, algebra.coordinates.zs, roots(model, theta, 0), strict=True)
    for k, (g, coding, root) in enumerate(every):
        own = slice(done, done + len(root))
        back = np.kron(np.eye(g.grouping.n_levels), coding.from_working) @ root
        u = (back @ both[own]).reshape(-1, len(g.terms))
        name = f"u_{g.factor}"
        np.testing.assert_allclose(found[name][0], u, rtol=1e-7, atol=1e-8)
        at = slice(own.start - p, own.stop - p)
        expected = np.diag(back @ given_beta[at, at] @ back.T).reshape(u.shape)
        values, whose = variances[k]
        np.testing.assert_allclose(values[0][whose], expected, rtol=1e-8)
        cov = np.cov(drawn[name].reshape(2000, -1).T)
        error = drawn[name].std(axis=0) / np.sqrt(2000)
        assert (np.abs(drawn[name].mean(axis=0) - u) < 5 * error).all()
        whole = back @ np.linalg.inv(precision)[own, own] @ back.T
        sds = np.sqrt(np.diag(whole))
        np.testing.assert_allclose(cov / np.outer(sds, sds), whole / np.outer(sds, sds), atol=0.15)
        done = own.stop


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_deviance_and_gradient(model: hp.Model, method: Any) -> None:
    c = Criterion.from_design(model.design, method)
    theta, value = value_with_checked_gradient(c)
    phi = c.phi(theta)
    assert phi is not None
    sigma = np.sqrt(c.population(theta[None]).penalized_ss / c.df)
    y, X, R, Z = dense(model, ResidualTheta(sigma, c.factor(theta)[None], phi[None]), 0)
    V = R + Z @ Z.T
    if method == "REML":
        expected = restricted_log_density(model.design.y, model.design.X, V)
    else:
        solved = np.linalg.solve(V, np.column_stack([X, y]))
        beta = np.linalg.solve(X.T @ solved[:, :-1], X.T @ solved[:, -1])
        expected = normal_log_density(y, X @ beta, V)
    assert value == pytest.approx(-2 * expected, rel=1e-10)


def test_errors_residuals_and_what_new_levels_add(model: hp.Model) -> None:
    c = Criterion.from_design(model.design, "REML")
    assert c.structure is not None
    theta = np.concatenate([np.full(c.n_free, 0.7), np.full(c.structure.size, 0.3)])
    at, phi, design = c.at(theta), c.phi(theta), model.design
    assert phi is not None
    one = ResidualTheta(np.ones(1), c.factor(theta)[None], phi[None])
    y, X, R, Z = dense(model, one, 0)
    T, p = np.hstack([X, Z]), X.shape[1]
    precision = T.T @ np.linalg.solve(R, T)
    precision[p:, p:] += np.eye(Z.shape[1])
    inverse = np.linalg.inv(precision)
    both = inverse @ (T.T @ np.linalg.solve(R, y))
    np.testing.assert_allclose(at.residuals(), y - T @ both, rtol=1e-7, atol=1e-8)
    rows, parts, done = [np.eye(p)[:2]], [], p
    every = zip(design.groups, roots(model, one, 0), at.levels(), strict=True)
    for k, (g, root, of) in enumerate(every):
        q, J, own = len(g.terms), g.grouping.n_levels, slice(done, done + len(root))
        weights = np.ones((2, q)) + np.arange(q)
        parts.append(LevelPart(np.arange(2), np.array([k, J - 1]), weights))
        spread = np.zeros((2, J, q))
        spread[np.arange(2), [k, J - 1]] = weights
        rows.append(spread.reshape(2, -1) @ root)
        u = (root @ both[own]).reshape(J, q)
        np.testing.assert_allclose(of.u, u, rtol=1e-7, atol=1e-8)
        W = of.sensitivity
        error = of.conditional + W @ inverse[:p, :p] @ np.swapaxes(W, 1, 2)
        whole = (root @ inverse[own, own] @ root.T).reshape(J, q, J, q)
        np.testing.assert_allclose(error, np.einsum("jajb->jab", whole), rtol=1e-7, atol=1e-9)
        done = own.stop
    weights = np.hstack(rows)
    found = at.variance(Combinations(np.eye(p)[:2], tuple(parts)))
    np.testing.assert_allclose(
        found, np.einsum("mi,ij,mj->m", weights, inverse, weights), rtol=1e-8
    )
    # whitened: V^-1 of the rows, whose leverages and new levels are those of Z
    W = np.linalg.inv(np.linalg.cholesky(R))
    V = W @ Z @ Z.T @ W.T + np.eye(len(y))
    assert at.leverage_of_levels().sum() == pytest.approx(len(y) - np.trace(np.linalg.inv(V)))
    made = at.from_new_levels(np.random.default_rng(1), 4000)
    assert np.trace(np.cov(made)) == pytest.approx(np.trace(V) - len(y), rel=0.05)


def records() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four records each of 60 animals, without gaps, and the pedigree."""
    rng = np.random.default_rng(11)
    table = pedigree(rng, 15, 60)
    A = tabular(table)
    names = sorted(table.animal[:60])
    u = pd.Series(2 * np.linalg.cholesky(A) @ rng.normal(size=len(A)), A.index)
    made = pd.DataFrame([(a, t) for a in names for t in range(4)], columns=["animal", "time"])
    noise = rng.normal(0, 1.5, (60, 4))
    for t in range(1, 4):
        noise[:, t] = 0.5 * noise[:, t - 1] + np.sqrt(0.75) * noise[:, t]
    own = rng.normal(0, 1, (60, 1)) + noise
    made["id"] = made.animal
    made["sex"] = made.animal.map(dict(zip(names, rng.choice(["f", "m"], 60), strict=True)))
    made["y"] = (20 + made.time + made.animal.map(u) + own.ravel()).round(2)
    return made, table


NLME = {
    "REML": (
        -447.426191969,
        (2.7416542, 0.6730568, 1.3541456, 0.48938925),
        (20.44509099, 0.831693268, 0.441842773),
        (3.572794834, -1.833783163, 0.199161284),
    ),
    "ML": (
        -446.79947507,
        (2.6558401, 0.7449337, 1.3377646, 0.47845278),
        (20.440789414, 0.831625651, 0.457591470),
        (3.50334869, -1.76497728, 0.21027888),
    ),
}


def test_reml_and_ml_are_those_of_nlme() -> None:
    """``tests/reference/related/nlme.R``: columns Z L with equal variances beside those of id."""
    made, table = records()
    formula, given = "y ~ time + sex + (1 | animal) + (1 | id)", {"animal": table}
    model = hp.Model(formula, made, residual="ar1(time | id)", relationship=given)
    for method, (loglik, spread, beta, u) in NLME.items():
        fit = model.reml() if method == "REML" else model.ml()
        e = fit.estimate
        assert fit.loglik == pytest.approx(loglik, abs=1e-7)
        found = fit.variance_components()["estimate"].to_numpy()
        np.testing.assert_allclose(found, spread, rtol=1e-4)
        np.testing.assert_allclose(e.beta, beta, rtol=1e-5)
        np.testing.assert_allclose(e.of("animal").u[:3, 0], u, rtol=2e-5)
        values = hp.breeding_values(fit)
        own = fit.random_effects().loc["animal"].droplevel("term")
        np.testing.assert_allclose(values.loc[own.index, "estimate"], own["estimate"], rtol=1e-9)
        np.testing.assert_allclose(values.loc[own.index, "se"], own["se"], rtol=1e-7)


def test_breeding_values_of_those_without_rows_and_heritability() -> None:
    """From the whole relationship matrix; residual sds that differ count by their mean square."""
    made, table = records()
    formula, given = "y ~ time + sex + (time | animal)", {"animal": table}
    model = hp.Model(formula, made, residual="ar1(time | id)", sigma="~ sex", relationship=given)
    fit = model.reml()
    e, design = fit.estimate, model.design
    assert e.residual_parameters is not None
    s = design.residual.structure
    assert s is not None
    table = hp.breeding_values(fit, term="time")
    A = tabular(given["animal"]).loc[table.index, table.index].to_numpy()
    sds = np.exp(s.log_sds(e.residual_parameters[None])[0])[s.classes] * e.sigma
    R = np.outer(sds, sds) * correlation(s, e.residual_parameters)
    own = e.of("animal")
    Sigma = np.outer(own.sd, own.sd) * own.corr
    codes = table.index.get_indexer(design.groups[0].grouping.levels)[design.groups[0].codes]
    Z = wide(design.groups[0].Z, codes, len(A))
    G = np.kron(A, Sigma)
    V = R + Z @ G @ Z.T
    XV = np.linalg.solve(V, design.X)
    P = np.linalg.inv(V) - XV @ np.linalg.solve(design.X.T @ XV, XV.T)
    np.testing.assert_allclose(table["estimate"], (G @ Z.T @ P @ design.y)[1::2], atol=1e-6)
    error = np.diag(G - G @ Z.T @ P @ Z @ G)[1::2]
    np.testing.assert_allclose(table["se"], np.sqrt(error), atol=1e-6)
    mean = design.groups[0].Z.mean(axis=0)
    variance = mean @ Sigma @ mean
    share = variance / (variance + np.square(sds).mean())
    assert hp.heritability(fit).loc["animal", "estimate"] == pytest.approx(share)
    alone = hp.Model(
        "y ~ time + sex + (1 | animal)", made, residual="ar1(time | id)", relationship=given
    )
    assert 0.05 < hp.heritability(alone.reml()).loc["animal", "se"] < 0.5


@pytest.mark.slow
def test_pymc_has_the_joint_density() -> None:
    made, table = records()
    formula, given = "y ~ time + sex + (1 | animal) + (1 | id)", {"animal": table}
    model = hp.Model(formula, made, residual="ar1(time | id)", sigma="~ sex", relationship=given)
    pymc, design = model.to_pymc(), model.design
    names = ["u_animal", "u_id", "sd_animal", "sigma", "beta", "residual_correlation"]
    names.append("residual_spread")
    own = pymc.logp(vars=[pymc["y"], pymc["z_animal"]], jacobian=False)
    outputs = pymc.replace_rvs_by_values([pymc[name] for name in names])
    compiled = pymc.compile_fn([own, *outputs], inputs=pymc.value_vars, on_unused_input="ignore")
    rng, start = np.random.default_rng(2), pymc.initial_point()
    point = {k: np.asarray(v + rng.normal(0, 0.3, np.shape(v))) for k, v in start.items()}
    found, animal, other, sd, sigma, beta, rho, spread = compiled(point)
    s, phi = design.residual.structure, np.concatenate([rho.ravel(), spread.ravel()])
    assert s is not None
    sds = sigma * np.exp(s.log_sds(phi[None])[0])[s.classes]
    mean = design.X @ beta + animal[design.groups[0].codes, 0] + other[design.groups[1].codes, 0]
    expected = normal_log_density(design.y, mean, np.outer(sds, sds) * correlation(s, phi))
    levels = design.groups[0].grouping.levels
    A = tabular(table).loc[levels, levels].to_numpy()
    J = len(animal)
    expected += normal_log_density(animal[:, 0], np.zeros(J), sd[0] ** 2 * A)
    expected += J * np.log(sd[0]) + np.linalg.slogdet(A)[1] / 2  # from u to z
    assert float(found) == pytest.approx(expected, rel=1e-10, abs=1e-8)


def test_a_covariance_without_an_inverse_says_what_to_do() -> None:
    made, names = data(), list("pqrst")
    near = np.roll(np.eye(5), 1, axis=1) + np.roll(np.eye(5), -1, axis=1)
    for more in (0.0, 0.01):
        Q = pd.DataFrame((2 + more) * np.eye(5) - near, names, names)
        model = hp.Model(
            "y ~ time + (1 | area)",
            made,
            residual="ar1(time | id)",
            relationship={"area": {"precision": Q}},
        )
        if more:
            assert np.isfinite(model.reml().loglik)
            continue
        with pytest.raises(HierpoolError, match=r"'area' has none.*Add 0\.01") as caught:
            model.reml()
        assert caught.value.code == "relationship-unsupported"
