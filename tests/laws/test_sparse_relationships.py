"""Related levels by sparse equations, beside lme4, and in saved fits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hierpool as hp
from hierpool.algebra import choose
from hierpool.algebra.related.interpolated import Interpolated
from hierpool.bayes.exact.target import LogPosterior
from hierpool.core.errors import HierpoolError
from hierpool.core.theta import WorkingTheta
from tests.laws.test_relationships import animals, made, pedigree, tabular, way

__all__ = ["animals", "way"]  # fixtures


@pytest.fixture
def sparse_equations(monkeypatch) -> None:
    """Whatever the number of levels."""
    monkeypatch.setattr(choose, "MOST_TURNED", -1)


# lme4 1.1-31, R 4.2.2 (Debian 12), the rows of ``sows`` with the relationship's factor in Zt
# (tests/reference/related/lme4.R): log-likelihood; sds; beta and standard errors; breeding values
# of the animals at 0, 69 and 199.
LME4 = {
    ("y ~ sex + (1 | animal) + (1 | id)", "reml"): (
        -612.540467876,
        [1.1629570893, 0.8329679607, 1.4606058130],
        [9.59107057, 1.03719518],
        [0.310999115, 0.270514026],
        [-0.246377328, -0.556739283, 0.137775823],
    ),
    ("y ~ sex + (1 | animal)", "reml"): (
        -614.252809265,
        [1.433079759, 1.524793438],
        [9.61756733, 1.02766485],
        [0.345136167, 0.256462554],
        [-0.3174108415, -0.5423741757, -0.0376247563],
    ),
    ("y ~ sex + (1 | animal) + (1 | id)", "ml"): (
        -611.829042056,
        [1.1318487440, 0.8404021883, 1.4606058025],
        [9.59002273, 1.03777813],
        [0.305579022, 0.269050586],
        [-0.240729030, -0.554669040, 0.146501234],
    ),
}


def sows() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A pedigree of 200, and two records each of 150 of them."""
    rng = np.random.default_rng(15)
    table = pedigree(rng, 20, 180)
    A = tabular(table)
    n = len(A)
    u = 1.2 * np.linalg.cholesky(A.to_numpy()) @ rng.normal(size=n)
    permanent = 0.8 * rng.normal(size=n)
    at = np.repeat(np.sort(rng.choice(n, 150, replace=False)), 2)
    sex = rng.integers(0, 2, n)[at]
    y = np.round(10 + sex + u[at] + permanent[at] + 1.5 * rng.normal(size=len(at)), 2)
    names = np.array(A.index)[at]
    return table, pd.DataFrame({"animal": names, "id": names, "sex": sex, "y": y})


@pytest.mark.slow
@pytest.mark.parametrize(("formula", "method"), LME4)
def test_numbers_of_lme4_with_the_factor_of_the_relationship(formula, method, way):
    table, data = sows()
    fit = getattr(hp.Model(formula, data, relationship={"animal": table}), method)()
    loglik, sds, beta, se, values = LME4[formula, method]
    assert fit.loglik == pytest.approx(loglik, abs=1e-7)
    np.testing.assert_allclose(fit.variance_components()["estimate"], sds, rtol=2e-6)
    np.testing.assert_allclose(fit.estimate.beta, beta, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.estimate.beta_covariance)), se, rtol=1e-6)
    found = hp.breeding_values(fit)["estimate"]
    np.testing.assert_allclose(found[["a0", "a69", "a199"]], values, atol=2e-6)


def test_interpolation_follows_sums_of_logs_to_ten_digits():
    """Of log(1 + sd^2 d), from sds of nearly zero to huge ones."""
    d = np.array([0.01, 0.4, 1.0, 7.0, 30.0])
    sd = np.exp(np.linspace(-12, 8, 101))
    wanted = np.log1p(sd[:, None] ** 2 * d).sum(axis=1)
    found = Interpolated(lambda s: np.array([np.log1p(s**2 * d).sum()]))(sd)[:, 0]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_coefficients_are_drawn_from_sums_fitted_to_some_draws(animals, sparse_equations):
    model, _ = made(animals, "y ~ x + (1 | animal) + (1 | id)")
    algebra = LogPosterior.from_design(model.design, model.priors).integrated
    sd = np.random.default_rng(1).normal([0.9, 0.6], 0.01, (600, 2))
    theta = WorkingTheta(np.full(600, 1.2), sd[:, :, None] * np.eye(2))
    fitted = algebra.marginal(theta, algebra._sums_of_draws(theta))
    exact = algebra.marginal(theta)
    assert np.abs(fitted.beta - exact.beta).max() > 0  # not the same evaluations
    sds = np.sqrt(np.einsum("kaa->ka", exact.beta_covariance))
    np.testing.assert_allclose((fitted.beta - exact.beta) / sds, 0, atol=2e-3)


@pytest.mark.calibration
def test_an_animal_model_is_calibrated(way):
    """40 animals, 30 of them with two records; ranks of sds, beta and three breeding values."""
    rng = np.random.default_rng(4)
    table = pedigree(rng, 10, 30)
    data = pd.DataFrame({"animal": np.repeat(table.animal[:30].to_numpy(), 2)})
    data["y"] = 10 + rng.normal(size=len(data))
    model = hp.Model("y ~ 1 + (1 | animal)", data, relationship={"animal": table})
    found = hp.calibrate(model, 300, seed=1, progress=False)
    assert found.is_calibrated, found.verdict


@pytest.mark.slow
def test_both_ways_agree_on_a_larger_pedigree(monkeypatch):
    """300 animals, repeated records, with a permanent environment and alone."""
    rng = np.random.default_rng(8)
    table = pedigree(rng, 60, 240)
    data = pd.DataFrame({"animal": np.repeat(rng.choice(table.animal, 200, replace=False), 2)})
    data["id"] = data.animal
    u = pd.Series(rng.normal(size=len(table)), list(table.animal))
    data["y"] = 5 + u[data.animal].to_numpy() + rng.normal(size=len(data))
    for formula in ("y ~ 1 + (1 | animal)", "y ~ 1 + (1 | animal) + (1 | id)"):
        model = hp.Model(formula, data, relationship={"animal": table})
        found = []
        for most in (10_000, -1):
            monkeypatch.setattr(choose, "MOST_TURNED", most)
            fit = model.reml()
            target = LogPosterior.from_design(model.design, model.priors)
            z = np.random.default_rng(0).normal(size=(5, target.coordinates.size))
            found.append(
                (
                    fit.loglik,
                    hp.breeding_values(fit),
                    hp.heritability(fit),
                    target.log_likelihood(z),
                )
            )
        (one, values, h2, density), (other, same, also, sparse_density) = found
        assert other == pytest.approx(one, abs=1e-8)
        rooted = "accuracy"  # of a reliability of 1e-16
        np.testing.assert_allclose(
            same.drop(columns=rooted), values.drop(columns=rooted), atol=1e-8
        )
        np.testing.assert_allclose(also, h2, atol=1e-7)
        np.testing.assert_allclose(sparse_density, density, atol=1e-6)


@pytest.mark.slow
def test_draws_that_share_a_factorisation_are_refined_until_each_is_exact(animals, monkeypatch):
    """Means given theta do not depend on which values of theta are solved with them."""
    monkeypatch.setattr(choose, "MOST_TURNED", -1)
    model, _ = made(animals, "y ~ x + (1 | animal)")
    algebra = LogPosterior.from_design(model.design, model.priors).integrated
    Lambda = np.linspace(0.5, 1.5, 300)[:, None, None]
    theta = WorkingTheta(np.full(300, 1.2), Lambda)
    together = algebra.mean_coefficients(theta)["u_animal"]
    alone = [algebra.mean_coefficients(theta[k : k + 1])["u_animal"][0] for k in (0, 77, 299)]
    np.testing.assert_allclose(together[[0, 77, 299]], alone, atol=1e-10)


def test_a_sparse_precision_is_the_matrix_that_it_inverts(animals):
    """Places on a line, as a sparse precision with labels and as a dense matrix."""
    names = list("pqrst")
    Q = sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(5, 5))
    dense = pd.DataFrame(Q.toarray(), names, names)
    fits = [
        hp.Model("y ~ x + (1 | region)", animals[0], relationship={"region": given})
        for given in ({"precision": Q, "labels": names}, {"precision": dense})
    ]
    one, other = (m.design.groups[0].schema.related for m in fits)
    np.testing.assert_allclose(one.covariance, other.covariance, atol=1e-12)
    assert one.relationship.scale == pytest.approx(other.relationship.scale)
    given = {"precision": sparse.csc_array(Q - 2.5 * sparse.eye_array(5)), "labels": names}
    with pytest.raises(HierpoolError, match="singular") as caught:
        hp.Model("y ~ x + (1 | region)", animals[0], relationship={"region": given})
    assert caught.value.code == "relationship-not-positive"


SAVED = {
    "pedigree": ("animal", lambda given: given["animal"]),
    "matrix": ("region", lambda given: given["region"]),
    "sparse": ("region", lambda given: {"precision": _line(), "labels": list("pqrst")}),
}


def _line() -> sparse.csc_array:
    return sparse.csc_array(sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(5, 5)))


@pytest.mark.slow
def test_random_regressions_have_breeding_values_of_each_coefficient_and_are_saved(
    animals, tmp_path
):
    data, given, _ = animals
    model = hp.Model("y ~ x + (x || animal)", data, relationship={"animal": given["animal"]})
    with pytest.raises(HierpoolError, match="term='x'"):
        hp.breeding_values(model.reml())
    fit = model.fit(seed=1)
    assert fit.info["levels"] == "on request"
    values = hp.breeding_values(fit, term="x")
    own = fit.random_effects(diagnostics=False).xs("x", level="term")["mean"].droplevel("factor")
    np.testing.assert_allclose(values.loc[own.index, "mean"], own, atol=0.15)
    fit.save(tmp_path / "fit.nc")
    again = hp.load_fit(tmp_path / "fit.nc")
    pd.testing.assert_frame_equal(hp.breeding_values(again, term="x"), values)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAVED)
def test_a_saved_fit_has_its_relationship(animals, kind, tmp_path):
    data, given, _ = animals
    factor, of = SAVED[kind]
    model = hp.Model(f"y ~ x + (1 | {factor})", data, relationship={factor: of(given)})
    fit = model.fit(seed=1, draws=400)
    fit.save(tmp_path / "fit.nc")
    again = hp.load_fit(tmp_path / "fit.nc")
    one, other = hp.breeding_values(fit), hp.breeding_values(again)
    np.testing.assert_allclose(other.to_numpy(float), one.to_numpy(float), rtol=1e-9)
    assert list(other.index) == list(one.index)
    pd.testing.assert_frame_equal(hp.heritability(again), hp.heritability(fit))
    assert again.loo().elpd == pytest.approx(fit.loo().elpd)
