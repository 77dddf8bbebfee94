"""Which terms are centred, and that NUTS then works where groups have much data."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.nuts.group_coefficients import population_share

HARD = {
    "boars": (partial(hp.varying_slope, correlated=False), "volume ~ time", "boar"),
    "sleepstudy": (partial(hp.varying_slope, intercept=False), "Reaction ~ Days", "Subject"),
    "ChickWeight": (hp.varying_slope, "weight ~ Time * Diet", "Chick"),
}


def simulated(sd: float, rows: int, seed: int = 1) -> pd.DataFrame:
    """Twenty groups with intercepts of this sd and residuals of sd 1, far from zero in x."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(20), rows)
    x = 1900 + rng.normal(size=len(g))
    y = 150 + 2 * x + sd * rng.normal(size=20)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g})


def names(model: hp.Model) -> set[str]:
    return {v.name for v in model.to_pymc().free_RVs}


def test_the_factor_with_most_levels_is_partial_and_others_are_by_their_shrinkage() -> None:
    assert "z_g[Intercept]" in names(hp.Model("y ~ x + (1 | g)", simulated(5.0, 10)))
    pastes = hp.Model("strength ~ 1 + (1 | batch/cask)", hp.datasets.load("Pastes"))
    assert {"z_batch", "z_batch:cask[Intercept]"} <= names(pastes)
    penicillin = hp.Model(
        "diameter ~ 1 + (1 | plate) + (1 | sample)", hp.datasets.load("Penicillin")
    )
    assert {"coef_sample[Intercept]", "z_plate[Intercept]"} <= names(penicillin)


@pytest.mark.parametrize("word", ["centered", "noncentered", "partial"])
def test_what_is_not_said_goes_with_what_is(word: str) -> None:
    model = hp.varying_slope("Reaction ~ Days", hp.datasets.load("sleepstudy"), "Subject")
    found = {v.name for v in model.to_pymc({"Subject": {"Days": word}}).free_RVs}
    of_days = "coef_Subject_centred[Days]" if word == "centered" else "z_Subject[Days]"
    assert {of_days, "z_Subject[Intercept]"} <= found


def test_more_coefficients_than_rows_need_no_optimum() -> None:
    rows = pd.DataFrame({"y": [1.0, 2.0, 4.0], "se": 0.5, "g": ["a", "b", "c"], "x": [1, 2, 4]})
    rows["w"] = [0.0, 1.0, 5.0]
    model = hp.Model("y ~ x * w + (1 | g)", rows, known_se="se")
    assert "z_g[Intercept]" in {v.name for v in model.to_pymc().free_RVs}


@pytest.mark.samplers
@pytest.mark.parametrize("case", HARD)
def test_nuts_works_at_default_settings(case: str) -> None:
    """With the words chosen before, these ended at ESS 209, 219 and 258, or with divergences."""
    build, formula, group = HARD[case]
    fit = build(formula, hp.datasets.load(case), group).fit("nuts", seed=1, progress=False)
    assert fit.status.is_trustworthy, fit.status


@pytest.mark.slow
def test_nuts_works_where_every_group_says_nearly_all() -> None:
    """Non-centred, the same model ends with R-hat above 1.01."""
    model = hp.Model("y ~ x + (1 | g)", simulated(20.0, 30))
    fit = model.fit("nuts", seed=1, progress=False)
    assert fit.status.is_trustworthy, fit.status
    assert fit.info["parameterization"] == {"g": {"Intercept": "partial"}}
    exact = model.fit("exact", seed=1, progress=False)
    for name in ("beta", "sd_g", "sigma"):
        one, other = (f.datatree["posterior"][name] for f in (fit, exact))
        gap = one.mean(("chain", "draw")) - other.mean(("chain", "draw"))
        assert float(abs(gap / other.std(("chain", "draw"))).max()) < 0.15


def test_population_share_leaves_nothing_that_the_levels_can_say() -> None:
    """An interaction with a column that is constant in each group goes into the group's slopes."""
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(6), 5)
    x, treated = rng.normal(size=30), (codes % 2).astype(float)
    within = rng.normal(size=30)
    Z = np.column_stack([np.ones(30), x])
    X = np.column_stack([np.ones(30), x, treated, treated * x - 0.3, within])
    A, rest = population_share(X, Z, codes, 6, [0, 1])
    np.testing.assert_allclose(np.einsum("nk,nkp->np", Z, A[codes]) + rest, X, atol=1e-12)
    assert (rest[:, :4] == 0).all()
    np.testing.assert_allclose(np.bincount(codes, rest[:, 4]), 0, atol=1e-12)
    A, rest = population_share(X, Z, codes, 6, [0])
    np.testing.assert_allclose(A[codes, 0] + rest, X, atol=1e-12)
    assert (rest[:, [0, 2]] == 0).all()
