"""Shares of variance: by hand, in either coding, and of draws as of one estimate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.variance_partition import Partition
from hierpool.core.errors import UnsupportedModelError

SLEEP = hp.datasets.load("sleepstudy")


def test_one_intercept_by_hand(fitted):
    fit = fitted["sleepstudy_intercepts"].reml
    level, residual = 37.12383**2, 30.99123**2  # lme4's sds
    assert fit.icc().loc["Subject", "icc"] == pytest.approx(level / (level + residual), rel=1e-5)
    fixed = 10.467286**2 * SLEEP["Days"].var()
    total = fixed + level + residual
    r2 = fit.r2()["r2"]
    assert r2["marginal"] == pytest.approx(fixed / total, rel=1e-5)
    assert r2["conditional"] == pytest.approx((fixed + level) / total, rel=1e-5)
    table = fit.variance_partition()
    np.testing.assert_allclose(table["variance"], [fixed, level, residual], rtol=1e-5)
    assert table["share"].sum() == pytest.approx(1)
    assert table.index.tolist() == ["fixed", "Subject", "residual"]


def test_slopes_are_the_mean_over_the_rows_and_the_icc_is_at_the_mean_row(fitted):
    """Johnson (2014), row by row."""
    fit = fitted["sleepstudy_slopes"].reml
    e = fit.estimate.only
    Sigma = e.corr * np.outer(e.sd, e.sd)
    z = fit.design.groups[0].Z
    level = np.mean([row @ Sigma @ row for row in z])
    fixed, residual = np.var(fit.design.X @ fit.estimate.beta, ddof=1), fit.estimate.sigma**2
    total = fixed + level + residual
    np.testing.assert_allclose(fit.r2()["r2"], [fixed / total, (fixed + level) / total])
    average = z.mean(axis=0) @ Sigma @ z.mean(axis=0)
    assert fit.icc()["icc"].item() == pytest.approx(average / (average + residual))


def test_shares_do_not_depend_on_offset_and_unit_of_a_predictor():
    moved = SLEEP.assign(Days=SLEEP["Days"] * 3600 + 1e7)
    one, other = (hp.Model("Reaction ~ Days + (Days | Subject)", d).reml() for d in (SLEEP, moved))
    np.testing.assert_allclose(one.r2(), other.r2(), rtol=1e-5)
    np.testing.assert_allclose(one.icc(), other.icc(), rtol=1e-5)


def test_one_line_explains_what_its_r_squared_says(fitted):
    fit = fitted["sleepstudy_complete"].reml
    share = np.corrcoef(SLEEP["Days"], SLEEP["Reaction"])[0, 1] ** 2
    adjusted = fit.r2()["r2"]
    assert adjusted["marginal"] == adjusted["conditional"]
    rss, n = fit.estimate.sigma**2 * 178, 180
    by_hand = 1 / (1 + rss / 178 / (share / (1 - share) * rss / (n - 1)))
    assert adjusted["marginal"] == pytest.approx(by_hand)


def test_several_factors_share_what_is_random():
    fit = hp.Model("strength ~ 1 + (1 | batch/cask)", hp.datasets.load("Pastes")).reml()
    sd = fit.variance_components()["estimate"].to_numpy()
    np.testing.assert_allclose(fit.icc()["icc"], (sd**2 / (sd**2).sum())[:2])
    assert fit.r2().loc["marginal", "r2"] == pytest.approx(0, abs=1e-12)
    assert fit.r2().loc["conditional", "r2"] == pytest.approx(fit.icc()["icc"].sum())


def test_weights_and_known_sds_are_averaged():
    n = np.arange(len(SLEEP))
    data = SLEEP.assign(w=1.0 + n % 3, se=20.0 + n % 4)
    weighted = hp.Model("Reaction ~ Days + (1 | Subject)", data, weights="w").reml()
    residual = weighted.estimate.sigma**2 * (1 / data["w"]).mean()
    assert weighted.variance_partition().loc["residual", "variance"] == pytest.approx(residual)
    known = hp.Model("Reaction ~ Days + (1 | Subject)", data, known_se="se").reml()
    residual = (data["se"] ** 2).mean()
    assert known.variance_partition().loc["residual", "variance"] == pytest.approx(residual)


@pytest.mark.parametrize("name", ["sleepstudy_slopes", "dyestuff", "sleepstudy_uncorrelated"])
def test_posterior_tables_are_the_average_over_draws(fitted, name):
    """Draw by draw in the user's coding, which shares no step with the relative factors."""
    fit = fitted[name].posterior
    (group,) = fit.design.groups
    K = int(np.prod(fit.n_draws))

    def draws(variable: str) -> np.ndarray:
        values = fit.variable(variable).to_numpy()
        return values.reshape(K, *values.shape[2:])

    sd = draws(f"sd_{group.factor}")
    has = group.has_correlation
    corr = draws(f"corr_{group.factor}") if has else np.eye(len(group.terms))
    Sigma = corr * sd[:, :, None] * sd[:, None, :]
    by_hand = Partition.from_covariances(
        fit.design, draws("beta"), draws("sigma") ** 2, [Sigma], [group.Z]
    )
    table = fit.r2()
    np.testing.assert_allclose(table["mean"], by_hand.r2.mean(axis=0))
    np.testing.assert_allclose(fit.icc()["median"], np.median(by_hand.icc, axis=0))
    partition = fit.variance_partition()
    np.testing.assert_allclose(partition["sd"], by_hand.shares.std(axis=0, ddof=1))
    assert partition["mean"].sum() == pytest.approx(1)
    assert table.index.tolist() == ["marginal", "conditional"]
    assert table.columns.tolist()[:3] == ["mean", "median", "sd"]
    assert len(table.columns) == 5


def test_posterior_of_balanced_data_lies_around_the_optimum(fitted):
    both = fitted["sleepstudy_intercepts"]
    table, at = both.posterior.icc().iloc[0], both.reml.icc()["icc"].item()
    assert table.iloc[3] < at < table.iloc[4]


def test_no_pooling_and_one_line_have_no_intraclass_correlation(fitted):
    for name in ("sleepstudy_complete", "sleepstudy_no_pooling"):
        for fit in (fitted[name].reml, fitted[name].posterior):
            with pytest.raises(UnsupportedModelError, match=r"no-levels|no-random-effects"):
                fit.icc()
    with pytest.raises(UnsupportedModelError, match="no-random-effects"):
        fitted["sleepstudy_no_pooling"].reml.r2()
    assert isinstance(fitted["sleepstudy_complete"].posterior.r2(), pd.DataFrame)
