"""Kenward and Roger's method for residual structures, linear in their covariances or curved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import UnsupportedModelError
from hierpool.fits.optimum import LikelihoodFit
from hierpool.reml.kenward_roger import KenwardRoger
from tests.laws.test_residual_structures import correlation
from tests.support.cases import each


def children() -> pd.DataFrame:
    data = hp.datasets.load("Orthodont")
    return data.assign(visit=data["age"].map("at {:g}".format))


def test_a_profile_test_of_complete_data_is_hotellings() -> None:
    data = children()
    fit = hp.Model("distance ~ visit * Sex", data, residual="us(age | Subject)").reml()
    found = fit.anova(df="kenward-roger").loc["visit:Sex"]
    wide = data.pivot(index="Subject", columns="age", values="distance")
    sex = data.groupby("Subject")["Sex"].first().loc[wide.index]
    steps = np.diff(wide.to_numpy(), axis=1)
    one, other = steps[sex == "Male"], steps[sex == "Female"]
    n, m = len(one), len(other)
    pooled = ((n - 1) * np.cov(one.T) + (m - 1) * np.cov(other.T)) / (n + m - 2)
    off = one.mean(axis=0) - other.mean(axis=0)
    T2 = n * m / (n + m) * off @ np.linalg.solve(pooled, off)
    assert found["F"] == pytest.approx(T2 * (n + m - 4) / (3 * (n + m - 2)), rel=1e-6)
    assert found["den_df"] == pytest.approx(n + m - 4, rel=1e-6)


def test_compound_symmetry_is_an_intercept() -> None:
    data = children()
    one = hp.Model("distance ~ age * Sex", data, residual="cs(age | Subject)").reml()
    other = hp.Model("distance ~ age * Sex + (1 | Subject)", data).reml()
    assert {fit.df_method for fit in (one, other)} == {"Kenward-Roger"}
    tables = [fit.fixed_effects() for fit in (one, other)]
    for column in ("se", "df"):
        assert tables[0][column].to_numpy() == pytest.approx(tables[1][column], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "more"),
    [("age * Sex", {"residual": "us(age | Subject)"}), ("age + (1 | Subject)", {"sigma": "~ Sex"})],
)
def test_covariances_as_parameters_give_the_same(right: str, more: dict[str, str]) -> None:
    data = children().drop(index=[3, 6, 7, 40])
    fit = hp.Model(f"distance ~ {right}", data, **more).reml()
    e, X, V = fit.estimate, fit.design.X, covariance(fit)
    G = np.stack(list(linear(data, more)))
    W = np.linalg.inv(V)
    gamma = np.linalg.lstsq(G.reshape(len(G), -1).T, V.ravel())[0]
    np.testing.assert_allclose(np.tensordot(gamma, G, 1), V, atol=1e-8)  # linear indeed
    Phi = np.linalg.inv(X.T @ W @ X)
    WGW = W @ G @ W
    P = -X.T @ WGW @ X
    Q = np.einsum("np,rnm,smk,kq->rspq", X, WGW, G @ W, X, optimize=True)
    K = np.einsum("rij,sji->rs", W @ G, W @ G)
    information = K - 2 * np.einsum("ab,rsba->rs", Phi, Q)
    information += np.einsum("rab,sba->rs", Phi @ P, Phi @ P)
    A = 2 * np.linalg.inv(information)
    inner = np.einsum("rs,rsab->ab", A, Q) - np.einsum("rs,rac,scb->ab", A, P, Phi @ P)
    found = KenwardRoger.from_estimate(fit.design, e)
    np.testing.assert_allclose(found.covariance, Phi + 2 * Phi @ inner @ Phi, rtol=1e-6)
    L = np.eye(len(Phi))[-1:]
    df = 2 * (L @ Phi @ L.T) ** 2 / np.einsum("r,rs,s->", *_slopes(L, Phi, P, A))
    assert found.test(L, e.beta).den_df == pytest.approx(df.item(), rel=1e-6)


def _slopes(L: np.ndarray, Phi: np.ndarray, P: np.ndarray, A: np.ndarray) -> list[np.ndarray]:
    own = (L @ Phi @ P @ Phi @ L.T)[:, 0, 0]
    return [own, A, own]


def covariance(fit: LikelihoodFit) -> np.ndarray:
    """V of all rows."""
    design, e = fit.design, fit.estimate
    s, phi = design.residual.structure, e.residual_parameters
    assert s is not None
    assert phi is not None
    sd = e.sigma * np.exp(s.log_sds(phi[None])[0])[s.classes]
    V = np.outer(sd, sd) * correlation(s, phi)
    for group, own in zip(design.groups, e.factors, strict=True):
        V += own.sd[0] ** 2 * np.equal.outer(group.codes, group.codes)
    return np.asarray(V)


def linear(data: pd.DataFrame, more: dict[str, str]) -> Iterator[np.ndarray]:
    """Derivatives of V by variances and covariances."""
    subject, age = data["Subject"].to_numpy(), data["age"].to_numpy()
    same = np.equal.outer(subject, subject).astype(float)
    if "sigma" in more:
        yield same
        for sex in ("Male", "Female"):
            yield np.diag((data["Sex"] == sex).astype(float))
        return
    ages = np.unique(age)
    for i, one in enumerate(ages):
        for other in ages[: i + 1]:
            pair = np.outer(age == one, age == other)
            yield same * (pair | pair.T)


CURVED = {
    "ar1(age | Subject)": "age * Sex",
    "ar1h(age | Subject)": "age * Sex",
    "csh(age | Subject)": "age",
    "arma11(age | Subject)": "age * Sex",
    "ad1(age | Subject)": "age + (1 | Subject)",
}


def curved(word: str, data: pd.DataFrame, fit: LikelihoodFit) -> tuple[Any, np.ndarray]:
    """V (n, n) of natural parameters, and these at the optimum: written out, structure by structure."""
    e, s = fit.estimate, fit.design.residual.structure
    assert s is not None
    assert e.residual_parameters is not None
    phi = e.residual_parameters
    same = np.equal.outer(data["Subject"].to_numpy(), data["Subject"].to_numpy())
    at = ((data["age"] - 8) / 2).round().astype(int).to_numpy()
    lag = np.abs(np.subtract.outer(at, at))
    sds = e.sigma * np.exp(s.log_sds(phi[None])[0])
    n_correlations = len(phi) - s.n_spread

    def of(p: np.ndarray) -> np.ndarray:
        if word == "arma11":
            gamma, ar, variance = p
            return same * variance * np.where(lag == 0, 1.0, gamma * ar ** np.maximum(lag - 1, 0))
        if word == "ad1":
            r, variance, between = p[:3], p[3], p[4]
            whole = np.array(
                [[np.prod(r[min(a, b) : max(a, b)]) for a in range(4)] for b in range(4)]
            )
            return same * (variance * whole[at[:, None], at] + between)
        sd = np.sqrt(p[1:])[at] if word.endswith("h") else np.sqrt(p[1:]).repeat(len(at))
        C = p[0] ** lag if word.startswith("ar1") else np.where(lag == 0, 1.0, p[0])
        return same * np.outer(sd, sd) * C

    own = phi[:n_correlations]
    if word == "arma11":
        ar, ma = own
        own = np.array([(1 + ar * ma) * (ar + ma) / (1 + 2 * ar * ma + ma**2), ar])
    between = [f.sd[0] ** 2 for f in e.factors]
    variances = sds**2 if word.endswith("h") else sds[:1] ** 2
    return of, np.concatenate([own, variances, between])


def test_an_autoregression_has_the_adjustment_by_hand() -> None:
    """All matrices of all rows, and derivatives of sigma^2 rho^lag by sigma^2 and rho."""
    data = children()
    fit = hp.Model("distance ~ age * Sex", data, residual="ar1(age | Subject)").reml()
    e, X = fit.estimate, fit.design.X
    assert e.residual_parameters is not None
    rho, variance = e.residual_parameters[0], e.sigma**2
    lag = np.abs(np.subtract.outer(*[data["age"].to_numpy()] * 2)) / 2
    same = np.equal.outer(*[data["Subject"].to_numpy()] * 2)
    C, once = same * rho**lag, same * lag * rho ** (lag - 1)
    twice = same * lag * (lag - 1) * rho ** (lag - 2)
    W = np.linalg.inv(variance * C)
    WX, Phi = W @ X, np.linalg.inv(X.T @ W @ X)
    G = np.array([C, variance * once])
    bent = np.array([[0 * C, once], [once, variance * twice]])
    P = -np.array([WX.T @ g @ WX for g in G])
    Q = np.array([[WX.T @ g @ W @ other @ WX for other in G] for g in G])
    K = np.array([[np.trace(W @ g @ W @ other) for other in G] for g in G])
    information = K - 2 * np.einsum("ab,rsba->rs", Phi, Q)
    A = 2 * np.linalg.inv(information + np.einsum("rab,sba->rs", Phi @ P, Phi @ P))
    R = np.array([[WX.T @ b @ WX for b in row] for row in bent])
    inner = np.einsum("rs,rsab->ab", A, Q - R / 4) - np.einsum("rs,rac,scb->ab", A, P, Phi @ P)
    found = KenwardRoger.from_estimate(fit.design, e)
    np.testing.assert_allclose(found.covariance, Phi + 2 * Phi @ inner @ Phi, rtol=2e-9)
    table = fit.fixed_effects("kenward-roger")
    assert table["se"].to_numpy() == pytest.approx(np.sqrt(np.diag(found.covariance)))
    assert (table["se"] > 1.01 * fit.fixed_effects()["se"]).all()  # of the first order .03 % alone


@pytest.mark.slow
@each("residual, right", list(CURVED.items()))
def test_second_derivatives_are_those_of_the_definition(residual: str, right: str) -> None:
    data = children()
    fit = hp.Model(f"distance ~ {right}", data, residual=residual).reml()
    V_of, p = curved(residual.split("(")[0], data, fit)
    X, V, m = fit.design.X, V_of(p), len(p)
    np.testing.assert_allclose(V, covariance(fit), rtol=1e-6, atol=1e-9)
    h = 1e-3 * np.maximum(np.abs(p), 0.1) * np.eye(m)
    one = [(8 * (V_of(p + e) - V_of(p - e)) - V_of(p + 2 * e) + V_of(p - 2 * e)) / 12 for e in h]
    G = np.array(one) / h.max(axis=1)[:, None, None]
    W = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ W @ X)
    WX = W @ X
    P = -np.array([WX.T @ g @ WX for g in G])
    Q = np.array([[WX.T @ g @ W @ other @ WX for other in G] for g in G])
    K = np.array([[np.trace(W @ g @ W @ other) for other in G] for g in G])
    Phi_P = Phi @ P
    information = K - 2 * np.einsum("ab,rsba->rs", Phi, Q)
    A = 2 * np.linalg.inv(information + np.einsum("rab,sba->rs", Phi_P, Phi_P))
    inner = np.zeros_like(Phi)
    for r in range(m):
        for s in range(m):
            a, b = h[r], h[s]
            bent = V_of(p + a + b) - V_of(p + a - b) - V_of(p - a + b) + V_of(p - a - b)
            R = WX.T @ (bent / (4 * a.max() * b.max())) @ WX
            inner += A[r, s] * (Q[r, s] - P[r] @ Phi @ P[s] - R / 4)
    found = KenwardRoger.from_estimate(fit.design, fit.estimate).covariance
    np.testing.assert_allclose(found, Phi + 2 * Phi @ inner @ Phi, rtol=2e-5)  # differences of h^2


def test_what_depends_on_how_parameters_are_written_is_refused() -> None:
    data = children()
    for residual in ("car1(age | Subject)", "ar1(age | Subject, nugget=True)"):
        fit = hp.Model("distance ~ age", data, residual=residual).reml()
        assert fit.df_method == "Satterthwaite"
        with pytest.raises(UnsupportedModelError, match="how its parameters are written"):
            fit.fixed_effects("kenward-roger")
    fit = hp.Model("distance ~ age + (1 | Subject)", data, residual="arma11(age | Subject)").reml()
    with pytest.raises(UnsupportedModelError, match="do not exist at this optimum"):
        fit.fixed_effects("kenward-roger")
    data["half"] = data["age"] > 10
    fit = hp.Model("distance ~ age + (1 | half)", data, residual="ar1(age | Subject)").reml()
    with pytest.raises(UnsupportedModelError, match="stands beside others"):
        fit.fixed_effects("kenward-roger")
