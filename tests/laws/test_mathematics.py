"""The formulas of docs/mathematics.md, typed in as they stand there, give the numbers of the fits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import hierpool as hp

GIVEN = {
    "Intercept": hp.Prior("Normal", mu=250, sigma=100),
    "Days": hp.Prior("Normal", mu=5, sigma=20),
}


def equations(design, beta_prior, sigma, Sigma):
    """M, r, c and T of the page, in the user's coding."""
    (group,) = design.groups
    J, q = group.grouping.n_levels, len(group.terms)
    Z = np.zeros((design.n, J * q))
    for i, j in enumerate(group.grouping.codes):
        Z[i, j * q : (j + 1) * q] = group.Z[i]
    Lambda = np.kron(np.eye(J), np.linalg.cholesky(Sigma) / sigma)
    m0, P0 = beta_prior
    X, y, ZL = design.X, design.y, Z @ Lambda
    M = np.block([[ZL.T @ ZL + np.eye(J * q), ZL.T @ X], [X.T @ ZL, X.T @ X + sigma**2 * P0]])
    r = np.concatenate([ZL.T @ y, X.T @ y + sigma**2 * P0 @ m0])
    return SimpleNamespace(M=M, r=r, c=np.linalg.solve(M, r), T=np.hstack([ZL, X]), Lambda=Lambda)


@pytest.fixture(scope="module")
def drawn(fitted):
    """A posterior with plain priors of its coefficients, and the page's equations at one draw."""
    model = fitted["sleepstudy_slopes"].model.with_priors(GIVEN)
    fit = model.fit(engine="exact", draws=50, seed=1, progress=False)
    draw = fit.draws["posterior"].to_dataset().isel(chain=0, draw=7)
    sd, corr = draw["sd_Subject"].to_numpy(), draw["corr_Subject"].to_numpy()
    sigma, prior = float(draw["sigma"]), (np.array([250, 5]), np.diag([100.0**-2, 20.0**-2]))
    eq = equations(fit.design, prior, sigma, corr * np.outer(sd, sd))
    return SimpleNamespace(fit=fit, sigma=sigma, prior=prior, eq=eq)


def test_log_density_of_the_page_is_that_of_the_exact_engine(drawn):
    y, n, eq, s2 = drawn.fit.design.y, drawn.fit.design.n, drawn.eq, drawn.sigma**2
    m0, P0 = drawn.prior
    by_page = -0.5 * (
        n * np.log(2 * np.pi * s2)
        + np.linalg.slogdet(eq.M)[1]
        - np.linalg.slogdet(s2 * P0)[1]
        + (y @ y + s2 * m0 @ P0 @ m0 - eq.c @ eq.r) / s2
    )
    fit = drawn.fit
    ours = fit.integrated.log_density(fit.working_theta[7:8])
    assert by_page == pytest.approx(float(ours[0]), abs=1e-6)


def test_density_of_a_left_out_row_is_the_stored_one(drawn):
    eq, y = drawn.eq, drawn.fit.design.y
    h = np.einsum("ij,jk,ik->i", eq.T, np.linalg.inv(eq.M), eq.T)
    e = y - eq.T @ eq.c
    by_page = stats.norm.logpdf(y, y - e / (1 - h), drawn.sigma / np.sqrt(1 - h))
    stored = drawn.fit.datatree["log_likelihood"]["y"].isel(chain=0, draw=7).to_numpy()
    np.testing.assert_allclose(by_page, stored, atol=1e-7)


def test_blups_and_their_errors_are_those_of_the_page(fitted):
    fit = fitted["sleepstudy_slopes"].reml
    e = fit.estimate.of("Subject")
    Sigma = e.corr * np.outer(e.sd, e.sd)
    eq = equations(fit.design, (np.zeros(2), np.zeros((2, 2))), fit.estimate.sigma, Sigma)
    size = eq.Lambda.shape[0]
    inverse = np.linalg.inv(eq.M)[:size, :size]
    pev = fit.estimate.sigma**2 * eq.Lambda @ inverse @ eq.Lambda.T
    given_beta = np.linalg.inv(eq.M[:size, :size])
    condvar = fit.estimate.sigma**2 * eq.Lambda @ given_beta @ eq.Lambda.T
    np.testing.assert_allclose(eq.Lambda @ eq.c[:size], e.u.ravel(), rtol=1e-6)
    plain, conditional = fit.blup(), fit.blup(conditional=True)
    np.testing.assert_allclose(np.sqrt(np.diag(pev)), plain["se"], rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(condvar)), conditional["se"], rtol=1e-6)
    np.testing.assert_allclose(
        np.diag(condvar) / np.tile(np.diag(Sigma), len(e.u)),
        hp.shrinkage(fit)["pooling_factor"],
        rtol=1e-6,
    )


def test_shrinkage_of_a_level_is_the_weighted_mean_of_the_page(fitted):
    fit = fitted["sleepstudy_slopes"].reml
    e, table = fit.estimate.of("Subject"), hp.shrinkage(fit)
    rows = fit.design.groups[0].grouping.codes == 3
    Z = fit.design.groups[0].Z[rows]
    Sigma = e.corr * np.outer(e.sd, e.sd)
    W = Sigma @ Z.T @ Z @ np.linalg.inv(Sigma @ Z.T @ Z + fit.estimate.sigma**2 * np.eye(2))
    level = table.iloc[6:8]
    by_page = W @ level["own_estimate"] + (np.eye(2) - W) @ level["population"]
    np.testing.assert_allclose(by_page, level["partial_pooling"], rtol=1e-6)


def test_variance_explained_is_that_of_the_page(fitted):
    fit = fitted["sleepstudy_slopes"].reml
    e = fit.estimate.of("Subject")
    Sigma, Z = e.corr * np.outer(e.sd, e.sd), fit.design.groups[0].Z
    v_beta = np.var(fit.design.X @ fit.estimate.beta, ddof=1)
    v_f, v_e = np.mean(np.einsum("ia,ab,ib->i", Z, Sigma, Z)), fit.estimate.sigma**2
    whole = v_beta + v_f + v_e
    by_page = [v_beta / whole, (v_beta + v_f) / whole]
    np.testing.assert_allclose(by_page, fit.r2()["r2"], rtol=1e-8)
