"""REML, ML and their limits give the numbers of lme4 and lm.

``tests/reference`` holds the numbers for the bundled tables; where the full reference fits stand
beside the checkout (``../shared``), every model of one factor among them is compared too.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.spec import GroupTerm, Spec
from hierpool.reml.criterion import Criterion
from hierpool.reml.estimate import minimise
from tests.laws.dense import restricted_log_density, wide
from tests.reference.trim import has_one_factor, trimmed, unpack

HERE = Path(__file__).parents[1] / "reference" / "lme4"
SHARED = Path(__file__).parents[3] / "shared"
STUCK = "radon__uranium_rs"  # lme4 stopped at a boundary that is not the optimum; see below

NAMES = sorted(path.stem for path in HERE.glob("*.json"))
MET = [name for name in NAMES if name != STUCK]


@cache
def reference(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text())


@cache
def model(name: str) -> hp.Model:
    ref = reference(name)
    return hp.Model(ref["formula"], hp.datasets.load(ref["dataset"]))


@cache
def blups(name: str, method: str) -> hp.LikelihoodFit:
    return getattr(model(name), method.lower())()


def numbers(values: Any) -> np.ndarray:
    """As an array, null as NaN."""
    return np.array(values, dtype=float)


def assert_relative(found: Any, expected: Any, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(found, numbers(expected), rtol=tolerance)


def assert_of_largest(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """Equal to a share of the largest number of the table."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def assert_criterion(fit: hp.LikelihoodFit, ref: dict[str, Any]) -> None:
    assert fit.loglik == pytest.approx(ref["logLik"], abs=1e-6)
    assert fit.aic == pytest.approx(ref["AIC"], abs=2e-6)
    assert fit.bic == pytest.approx(ref["BIC"], abs=2e-6)
    assert fit.status.word == ("singular" if ref["is_singular"] else "converged")


def assert_fixed_effects(fit: hp.LikelihoodFit, ref: dict[str, Any]) -> None:
    fixed = fit.fixed_effects()
    assert_relative(fixed["estimate"], ref["fixef"])
    assert_relative(fixed["se"], ref["se_fixef"])


def assert_spread(fit: hp.LikelihoodFit, ref: dict[str, Any]) -> None:
    table = fit.variance_components()["estimate"]
    kind = table.index.get_level_values("parameter")
    sds = table[kind == "sd"]
    np.testing.assert_allclose(
        sds.iloc[:-1], numbers(ref["sd"]), rtol=1e-4, atol=1e-6 * ref["sigma"]
    )
    assert sds["residual"].item() == pytest.approx(ref["sigma"], rel=1e-4)
    np.testing.assert_allclose(table[kind == "corr"], numbers(ref["corr"]), rtol=1e-4, atol=1e-5)


def assert_levels(fit: hp.LikelihoodFit, ref: dict[str, Any], levels: list[str]) -> None:
    u = numbers(ref["blup"])
    table = fit.random_effects()
    assert table.index.get_level_values("level").unique().astype(str).tolist() == levels
    e = fit.estimate
    scale = max(np.abs(u).max(), 1e-3 * e.sigma)
    assert np.abs(table["estimate"].to_numpy().reshape(u.shape) - u).max() <= 1e-4 * scale
    floor = 1e-8 * e.sigma**2
    for ours, name in ((e.only.u_condvar, "condVar"), (e.only.u_pev, "pev")):
        theirs = unpack(ref[name])
        assert np.abs(ours - theirs).max() <= 1e-4 * max(np.abs(theirs).max(), floor)
    se = fit.coefficients()["se"].to_numpy().reshape(u.shape)
    assert_of_largest(se, unpack(ref["coef_se"]))


METHODS = ["REML", "ML"]


@pytest.mark.parametrize("name", NAMES)
def test_columns_and_levels_are_those_of_lme4(name):
    ref, design = reference(name), model(name).design
    head = numbers(ref["X_head"])
    np.testing.assert_allclose(design.X[: len(head)], head)
    assert design.groups[0].grouping.levels.astype(str).tolist() == ref["levels"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MET)
def test_criterion_is_that_of_lme4(name, method):
    assert_criterion(blups(name, method), reference(name)[method])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MET)
def test_fixed_effects_and_their_errors_are_those_of_lme4(name, method):
    assert_fixed_effects(blups(name, method), reference(name)[method])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MET)
def test_standard_deviations_and_correlations_are_those_of_lme4(name, method):
    assert_spread(blups(name, method), reference(name)[method])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MET)
def test_blups_and_their_variances_are_those_of_lme4(name, method):
    """Modes, condVar, prediction error variances, standard errors of the level coefficients."""
    assert_levels(blups(name, method), reference(name)[method], reference(name)["levels"])


@pytest.mark.parametrize("method", METHODS)
def test_optimum_that_lme4_missed_is_higher_and_true(method):
    """radon, floor * log_uranium + (floor | county).

    lme4 1.1-31, with its tight settings too, ends on the boundary, theta[0] = 0 (log-likelihood
    -1028.6254 by REML). There is an inner optimum 2.78 higher (-1025.8437). It is judged by a dense
    density that shares no code with the search.
    """
    fit, ref = blups(STUCK, method), reference(STUCK)[method]
    assert ref["is_singular"]
    assert fit.status.word == "converged"
    assert fit.loglik > ref["logLik"] + 2
    design, e = fit.design, fit.estimate
    (group,) = design.groups
    Z = wide(group.Z, group.grouping.codes, group.grouping.n_levels)
    Sigma = e.only.corr * np.outer(e.only.sd, e.only.sd)
    V = Z @ np.kron(np.eye(group.grouping.n_levels), Sigma) @ Z.T + e.sigma**2 * np.eye(design.n)
    if method == "REML":
        assert fit.loglik == pytest.approx(-1025.8437, abs=1e-4)
        truth = restricted_log_density(design.y, design.X, V)
    else:
        residual = design.y - design.X @ e.beta
        truth = -0.5 * (
            np.linalg.slogdet(2 * np.pi * V)[1] + residual @ np.linalg.solve(V, residual)
        )
    assert fit.loglik == pytest.approx(truth, abs=1e-8)
    optimum = minimise(Criterion.from_design(design, method))
    assert -optimum.deviance / 2 == pytest.approx(fit.loglik, abs=1e-10)
    assert np.abs(optimum.gradient).max() < 1e-6
    assert np.linalg.eigvalsh(optimum.hessian).min() > 0


def population_formula(formula: str) -> str:
    """The formula without its bar."""
    return re.sub(r"\s*\+\s*\([^()]*\|[^()]*\)\s*$", "", formula)


@pytest.mark.parametrize("name", NAMES)
def test_complete_pooling_is_lm(name):
    ref = reference(name)
    fit = hp.complete_pooling(
        population_formula(ref["formula"]), hp.datasets.load(ref["dataset"])
    ).reml()
    theirs = ref["pooling"]["complete"]
    assert_relative(fit.fixed_effects()["estimate"], theirs["coef"], 1e-7)
    assert_relative(fit.fixed_effects()["se"], theirs["se"], 1e-7)
    assert fit.estimate.sigma == pytest.approx(theirs["sigma"], rel=1e-8)
    assert fit.loglik == pytest.approx(theirs["logLik"], abs=1e-7)
    assert fit.design.n - len(fit.design.terms) == theirs["df"]


@pytest.mark.parametrize("name", NAMES)
def test_no_pooling_is_lm_level_by_level_with_one_residual_sd(name):
    """lm's own errors use each level's sd; here one sd is shared, over all degrees of freedom."""
    ref = reference(name)
    data = hp.datasets.load(ref["dataset"])
    fit = hp.no_pooling(population_formula(ref["formula"]), data, ref["group"]).reml()
    e, theirs = fit.estimate, ref["pooling"]["none"]
    q = e.only.coef.shape[1]
    coef = numbers(theirs["coef"])
    assert np.isnan(coef[:, q:]).all(), "columns that stay common are aliased within levels"
    np.testing.assert_allclose(
        e.only.coef, coef[:, :q], rtol=1e-7, atol=1e-7 * np.nanmax(np.abs(coef))
    )
    assert e.sigma == pytest.approx(theirs["sigma"], rel=1e-8)
    assert fit.design.n - (e.n_parameters - 1) == theirs["df"]
    own_sigma = numbers(theirs["level_sigma"])[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = numbers(theirs["se"])[:, :q] / own_sigma * theirs["sigma"]
    se = fit.coefficients()["se"].to_numpy().reshape(e.only.coef.shape)
    known = np.isfinite(expected) & (own_sigma > 1e-6 * e.sigma)
    assert known.any()
    np.testing.assert_allclose(se[known], expected[known], rtol=1e-6)


OWN_INTERCEPTS = [n for n in NAMES if not re.search("Machine|Sex", reference(n)["formula"])]


@pytest.mark.parametrize("name", OWN_INTERCEPTS)
def test_own_intercepts_with_common_slopes_are_lm(name):
    """A factor among the predictors has no column for its first level in lm, one here: left out."""
    ref = reference(name)
    response, right = population_formula(ref["formula"]).split(" ~ ")
    spec = Spec(ref["formula"], response, f"0 + {right}" if right != "1" else "0",
                (GroupTerm("1", ref["group"], "none"),))  # fmt: skip
    fit = hp.Model(spec, hp.datasets.load(ref["dataset"])).reml()
    theirs = ref["pooling"]["own_intercepts"]
    common = numbers(list(theirs["common"].values()))
    np.testing.assert_allclose(fit.fixed_effects()["estimate"], common, rtol=1e-6)
    intercepts = numbers(theirs["intercepts"])
    scale = np.abs(intercepts).max()
    np.testing.assert_allclose(
        fit.estimate.only.coef[:, 0], intercepts, rtol=1e-6, atol=1e-7 * scale
    )
    assert fit.estimate.sigma == pytest.approx(theirs["sigma"], rel=1e-8)
    assert fit.design.n - (fit.estimate.n_parameters - 1) == theirs["df"]


# the ordered factor has R's polynomial contrasts; here no factor is ordered
OTHER_CODING = "cake__rxt_poly"


def full_names() -> list[str]:
    """Full reference files with one factor, where they stand beside the checkout."""
    paths = sorted((SHARED / "reference").glob("*__*.json"))
    names = [p.stem for p in paths if has_one_factor(json.loads(p.read_text()))]
    return [name for name in names if name not in {STUCK, OTHER_CODING}]


@pytest.mark.skipif(not SHARED.exists(), reason="the full reference fits are not here")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", full_names())
def test_full_reference_is_met(name, method):
    ref = trimmed(json.loads((SHARED / "reference" / f"{name}.json").read_text()))
    fit = getattr(hp.Model(ref["formula"], table(ref["dataset"])), method.lower())()
    assert_criterion(fit, ref[method])
    assert_fixed_effects(fit, ref[method])
    assert_spread(fit, ref[method])
    assert_levels(fit, ref[method], ref["levels"])


def table(name: str) -> pd.DataFrame:
    """A bundled table, or one that stands beside the checkout, with R's order of levels."""
    if name in hp.datasets.names():
        return hp.datasets.load(name)
    about = json.loads((SHARED / "data" / "_meta.json").read_text())[name]["cols"]
    data = pd.read_csv(SHARED / "data" / f"{name}.csv")
    for column, what in about.items():
        if what["type"] in {"factor", "ordered"}:
            data[column] = pd.Categorical(data[column].astype(str), categories=what["levels"])
    return data
