"""Kenward and Roger's method for residual structures that are linear in their covariances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import UnsupportedModelError
from hierpool.fits.optimum import LikelihoodFit
from hierpool.reml.kenward_roger import KenwardRoger
from tests.laws.test_residual_structures import correlation


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


def test_structures_that_are_not_linear_are_refused() -> None:
    data = children()
    for residual in ("ar1(age | Subject)", "csh(age | Subject)"):
        fit = hp.Model("distance ~ age", data, residual=residual).reml()
        assert fit.df_method == "Satterthwaite"
        with pytest.raises(UnsupportedModelError, match="linear in their parameters"):
            fit.fixed_effects("kenward-roger")
