"""REML and ML of models with several factors give the numbers of lme4."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hierpool as hp
from hierpool.reml.criterion import Criterion
from tests.laws.dense import restricted_log_density, wide
from tests.reference.trim import has_several_factors, trimmed_several
from tests.support.differences import Differences
from tests.support.references import SHARED, full, full_names, model, names, reference, table

LARGE = "InstEval__crossed3"
SMALL = [name for name in names("lme4_several") if name != LARGE]
METHODS = ["REML", "ML"]


def compared(fit: hp.LikelihoodFit, ref: dict[str, Any], loglik: float = 1e-6) -> Differences:
    """Criterion, fixed effects, standard deviations, BLUPs and their variances."""
    found = Differences()
    found.close("log-likelihood", fit.loglik, ref["logLik"], atol=loglik)
    found.close("AIC", fit.aic, ref["AIC"], atol=2 * loglik)
    found.same("status", fit.status.word, "singular" if ref["is_singular"] else "converged")
    found.close("sigma", fit.estimate.sigma, ref["sigma"], rtol=1e-4)
    fixed = fit.fixed_effects("satterthwaite")  # lme4's errors are not adjusted
    found.close("fixed effects", fixed["estimate"], ref["fixef"], rtol=1e-4)
    found.close("their errors", fixed["se"], ref["se_fixef"], rtol=1e-4)
    for factor, theirs in ref["factors"].items():
        group, ours = fit.design.group(factor), fit.estimate.of(factor)
        found.close(f"sds of {factor}", ours.sd, theirs["sd"], rtol=1e-4)
        at = group.grouping.levels.astype(str).get_indexer(theirs["levels"])
        assert (at >= 0).all()
        found.of_largest(f"BLUPs of {factor}", ours.u[at], theirs["blup"])
        for name, values in (("condVar", ours.u_condvar), ("pev", ours.u_pev)):
            if name in theirs:
                found.of_largest(f"{name} of {factor}", values[at], theirs[name])
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMALL)
def test_fit_is_that_of_lme4(name, method):
    fit = getattr(model("lme4_several", name), method.lower())()
    compared(fit, reference("lme4_several", name)[method]).assert_none()


@pytest.mark.slow
def test_large_fit_is_that_of_lme4():
    fit = model("lme4_several", LARGE).reml()
    compared(fit, reference("lme4_several", LARGE)["REML"], loglik=1e-4).assert_none()


def others() -> list[str]:
    return [name for name in full_names() if name != LARGE and has_several_factors(full(name))]


@pytest.mark.skipif(not SHARED.exists(), reason="the full reference fits are not here")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", others())
def test_every_level_is_that_of_lme4(name, method):
    ref = trimmed_several(full(name), 10_000)
    fit = getattr(hp.Model(ref["formula"], table(ref["dataset"])), method.lower())()
    compared(fit, ref[method]).assert_none()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("dataset", "formula"),
    [
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("Machines", "score ~ Machine + (1 + Machine | Worker) + (1 | Worker:Machine)"),
        ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    ],
)
def test_gradient_is_that_of_the_deviance(dataset, formula, method):
    design = hp.Model(formula, hp.datasets.load(dataset)).design
    criterion = Criterion.from_design(design, method)
    k, h = len(criterion.free.rows), 1e-6
    theta = np.random.default_rng(1).normal(size=k)
    gradient = criterion.value_and_gradient(theta)[1]
    steps = theta + h * np.concatenate([np.eye(k), -np.eye(k)])
    values = criterion.deviance(steps)
    np.testing.assert_allclose(gradient, (values[:k] - values[k:]) / (2 * h), rtol=1e-5, atol=1e-5)


def test_log_likelihood_is_that_of_the_dense_density():
    fit = model("lme4_several", "Penicillin__crossed").reml()
    d, e = fit.design, fit.estimate
    V = e.sigma**2 * np.eye(d.n)
    for group in d.groups:
        Z = wide(group.Z, group.grouping.codes, group.grouping.n_levels)
        V = V + e.of(group.factor).sd[0] ** 2 * Z @ Z.T
    assert fit.loglik == pytest.approx(restricted_log_density(d.y, d.X, V), rel=1e-12)


def test_factor_without_variance_is_singular_and_named():
    """Pastes without what its batches add, casks shuffled over them: no spread of batches is left."""
    data = hp.datasets.load("Pastes")
    within = data["strength"] - data.groupby("batch", observed=True)["strength"].transform("mean")
    fit = hp.Model("within ~ 1 + (1 | batch/cask)", data.assign(within=within)).reml()
    assert fit.status.word == "singular"
    assert "between batches is estimated as zero" in fit.status.sentence
    assert fit.estimate.of("batch").sd[0] == 0.0
    assert not fit.estimate.of("batch").u.any()
    assert fit.estimate.of("batch:cask").sd[0] > 0
    assert np.isfinite(fit.fixed_effects()).all().all()
    assert len(fit.random_effects()) == 10 + 30


def test_tables_name_every_factor():
    fit = model("lme4_several", "Penicillin__crossed").reml()
    assert fit.random_effects().index.get_level_values("factor").unique().tolist() == [
        "plate",
        "sample",
    ]
    spread = fit.variance_components()
    assert [key[0] for key in spread.index] == ["plate", "sample", "residual"]
    assert spread["se"].notna().all()
    assert len(fit.coefficients()) == 24 + 6


def test_principal_components_name_what_does_not_vary():
    fit = hp.Model("score ~ Machine + (Machine | Worker)", hp.datasets.load("Machines")).reml()
    table, e = fit.principal_components(), fit.estimate
    np.testing.assert_allclose((table["sd"] ** 2).sum(), (e.only.sd**2).sum() / e.sigma**2)
    np.testing.assert_allclose(table["share"].sum(), 1.0)
    weights = table[list(fit.design.groups[0].terms)].to_numpy()
    np.testing.assert_allclose(weights @ weights.T, np.eye(3), atol=1e-12)
    half = weights.T * table["sd"].to_numpy()
    covariance = e.only.corr * np.outer(e.only.sd, e.only.sd)
    np.testing.assert_allclose(e.sigma**2 * half @ half.T, covariance, rtol=1e-9)


def test_singular_factor_has_a_component_without_variance():
    data = hp.datasets.load("Pastes")
    within = data["strength"] - data.groupby("batch", observed=True)["strength"].transform("mean")
    fit = hp.Model("within ~ 1 + (1 | batch/cask)", data.assign(within=within)).reml()
    table = fit.principal_components()
    assert table.loc[("batch", 1), "sd"] == 0.0
    assert table.loc[("batch:cask", 1), "sd"] > 0
