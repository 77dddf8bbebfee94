"""Which terms are centred, and that NUTS then works where groups have much data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.nuts.group_coefficients import population_share


def simulated(sd: float, rows: int, seed: int = 1) -> pd.DataFrame:
    """Twenty groups with intercepts of this sd and residuals of sd 1, far from zero in x."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(20), rows)
    x = 1900 + rng.normal(size=len(g))
    y = 150 + 2 * x + sd * rng.normal(size=20)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g})


def names(model: hp.Model) -> set[str]:
    return {v.name for v in model.to_pymc().free_RVs}


def test_much_data_a_group_is_centred_and_little_is_not() -> None:
    assert "coef_g[Intercept]" in names(hp.Model("y ~ x + (1 | g)", simulated(5.0, 10)))
    assert "z_g" in names(hp.Model("y ~ x + (1 | g)", simulated(0.1, 3)))


def test_each_factor_has_its_own() -> None:
    pastes = hp.Model("strength ~ 1 + (1 | batch/cask)", hp.datasets.load("Pastes"))
    assert {"z_batch", "coef_batch:cask[Intercept]"} <= names(pastes)


@pytest.mark.slow
def test_nuts_works_where_every_group_says_nearly_all() -> None:
    """Non-centred, the same model ends with R-hat above 1.01."""
    model = hp.Model("y ~ x + (1 | g)", simulated(20.0, 30))
    fit = model.fit("nuts", seed=1, progress=False)
    assert fit.status.is_trustworthy, fit.status
    assert fit.info["parameterization"] == {"g": {"Intercept": "centered"}}
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
