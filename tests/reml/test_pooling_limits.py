"""Least squares for the two ends of pooling, with NaN for what the rows cannot tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.gaussian import BetaPrior, condition
from hierpool.algebra.moments import Moments
from hierpool.core.errors import DataError

UNEVEN = pd.DataFrame(
    {
        "g": ["full"] * 4 + ["one_row"] + ["one_x"] * 3 + ["two"] * 2 + ["more"] * 5,
        "x": [0.0, 1, 2, 3, 1, 2, 2, 2, 0, 3, 0, 1, 2, 3, 4],
        "y": [1.0, 2.5, 2, 4, 7, 3, 4, 5, 0, 6, 1, 0, 3, 2, 5],
    }
)


def dummies(data: pd.DataFrame) -> np.ndarray:
    """Own intercepts and slopes as one wide design, aliased columns left out."""
    columns = []
    for level in sorted(data["g"].unique()):
        mine = (data["g"] == level).to_numpy(float)
        columns += [mine, mine * data["x"]]
    return np.column_stack(columns)


def test_no_pooling_is_one_wide_regression():
    fit = hp.no_pooling("y ~ x", UNEVEN, "g").reml()
    wide = dummies(UNEVEN)
    fitted, y = wide @ np.linalg.pinv(wide) @ UNEVEN["y"].to_numpy(), UNEVEN["y"].to_numpy()
    rank = np.linalg.matrix_rank(wide)
    sigma = np.sqrt(((y - fitted) ** 2).sum() / (len(y) - rank))
    np.testing.assert_allclose(fit.fitted(), fitted, atol=1e-10)
    assert fit.estimate.sigma == pytest.approx(sigma)
    assert fit.estimate.n_parameters == rank + 1
    coef = fit.coefficients()["estimate"].xs("full", level="level").to_numpy()
    np.testing.assert_allclose(coef, np.polyfit([0, 1, 2, 3], [1, 2.5, 2, 4], 1)[::-1])


def test_level_that_cannot_tell_a_slope_has_none_and_keeps_its_mean():
    table = hp.no_pooling("y ~ x", UNEVEN, "g").reml().coefficients()
    for level, mean in {"one_row": 7.0, "one_x": 4.0}.items():
        own = table.xs(level, level="level").droplevel("factor")
        assert own.loc["Intercept", "estimate"] == pytest.approx(mean)
        assert np.isnan(own.loc["x", "estimate"])
        assert own["se"].isna().tolist() == [False, True]
    assert table.xs("two", level="level").notna().all().all()


def test_column_that_is_constant_within_levels_is_aliased_with_their_intercepts():
    data = UNEVEN.assign(
        w=UNEVEN["g"].map({"full": 1.0, "one_row": 2, "one_x": 5, "two": 0, "more": 4})
    )
    fit = hp.no_pooling("y ~ x + w", data, "g").reml()
    assert fit.design.terms == ("w",)
    assert fit.fixed_effects().loc["w"].isna().all()
    without = hp.no_pooling("y ~ x", data, "g").reml()
    assert fit.loglik == pytest.approx(without.loglik)


def test_as_many_coefficients_as_rows_leave_no_residual_sd():
    data = UNEVEN[UNEVEN["g"].isin(["one_row", "two"])]
    with pytest.raises(DataError, match=r"as many coefficients as rows \(3\).*\[no-residual-df\]"):
        hp.no_pooling("y ~ x", data, "g").reml()


def test_complete_pooling_is_least_squares_on_all_rows():
    fit = hp.complete_pooling("y ~ x", UNEVEN, "g").reml()
    X = np.column_stack([np.ones(15), UNEVEN["x"]])
    beta, (ss,) = np.linalg.lstsq(X, UNEVEN["y"].to_numpy())[:2]
    np.testing.assert_allclose(fit.fixed_effects()["estimate"], beta)
    se = np.sqrt(ss / 13 * np.diag(np.linalg.inv(X.T @ X)))
    np.testing.assert_allclose(fit.fixed_effects()["se"], se)
    assert fit.estimate.sigma == pytest.approx(np.sqrt(ss / 13))
    assert fit.method == "least squares"
    assert fit.status.word == "converged"


def test_reml_and_ml_of_a_limit_are_the_same_least_squares():
    for model in (hp.complete_pooling("y ~ x", UNEVEN), hp.no_pooling("y ~ x", UNEVEN, "g")):
        assert model.reml().loglik == model.ml().loglik


def test_blups_go_from_one_line_to_a_line_each(fitted):
    """The algebra at a vanishing and at a huge variance of the levels, beside the two limits."""
    design = fitted["sleepstudy_slopes"].model.design
    moments = Moments.from_design(design)
    Lambda = np.stack([1e-7 * np.eye(2), 1e7 * np.eye(2)])
    at = condition(moments, np.ones(2), Lambda, BetaPrior.flat(2))
    line, own = fitted["sleepstudy_complete"].reml, fitted["sleepstudy_no_pooling"].reml
    coordinates = fitted["sleepstudy_slopes"].posterior.integrated.coordinates
    deviations = coordinates.u_to_user(at.deviations(), at.beta)
    found = coordinates.beta_to_user(at.beta)[:, None] + deviations
    together = np.tile(line.estimate.beta, (18, 1))
    np.testing.assert_allclose(found[0], together, rtol=1e-8)
    np.testing.assert_allclose(found[1], own.estimate.only.coef, rtol=1e-6, atol=1e-6)


def test_column_that_others_explain_is_not_estimated_silently():
    """Complete and no pooling of collinear columns: the later is dropped, and never a number."""
    data = UNEVEN.assign(twice=2 * UNEVEN["x"])
    for build in (hp.complete_pooling, hp.no_pooling):
        both, one = build("y ~ x + twice", data, "g"), build("y ~ x", data, "g")
        assert "'twice' (a combination of 'x')" in both.notices[0].text
        np.testing.assert_allclose(both.reml().fitted(), one.reml().fitted())
        assert both.reml().loglik == pytest.approx(one.reml().loglik)
