"""Slopes: emmeans' documented examples, derivatives of polynomials and splines, limits, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError, NotEstimableError, UnsupportedModelError
from tests.answers.effects import agrees, data, reml
from tests.support.cases import each

GROWTH = hp.datasets.load("Orthodont")


def line(formula: str, rows: pd.DataFrame = GROWTH) -> hp.LikelihoodFit:
    return hp.complete_pooling(formula, rows).reml()


# --- examples that emmeans documents --------------------------------------------------------------


def test_fibers_have_a_slope_for_each_machine():
    table = hp.slopes(reml("fiber_slopes"), "diameter", by="machine", prob=0.95)
    agrees(table, "fiber_slopes")
    assert table.index.name == "machine"


def test_oats_have_slopes_of_the_root_as_emtrends_gives_them():
    fit = reml("oats_sqrt")
    agrees(hp.slopes(fit, "nitro", by="Variety", scale="linear", prob=0.95), "oats_slopes")


# --- derivatives ----------------------------------------------------------------------------------


@each("age", [8.0, 9.3, 14.0])
@each("text", ["age + I(age**2) + I(age**3)", "poly(age, 3)", "poly(age, 3, raw=True)"])
def test_slope_of_a_cubic_is_its_derivative(text, age):
    fit, raw = line(f"distance ~ {text}"), line("distance ~ age + I(age**2) + I(age**3)")
    gradient = np.array([0, 1, 2 * age, 3 * age**2])
    table = hp.slopes(fit, "age", at={"age": age})
    row = table.iloc[0]
    assert table.index.tolist() == ["age"]
    assert row["estimate"] == pytest.approx(gradient @ raw.estimate.beta, rel=1e-6)
    V = raw.estimate.beta_covariance
    assert row["se"] == pytest.approx(np.sqrt(gradient @ V @ gradient), rel=1e-6)


def test_slope_of_a_logarithm_and_of_a_product():
    rows = GROWTH.assign(age=GROWTH["age"] + 0.001, mass=np.arange(len(GROWTH)) % 7 + 1.0)
    fit = line("distance ~ log(age) + age:mass", rows)
    beta = fit.fixed_effects()["estimate"]
    table = hp.slopes(fit, "age", at={"age": [8, 14], "mass": 2})
    want = [beta["log(age)"] / x + 2 * beta["age:mass"] for x in (8, 14)]
    np.testing.assert_allclose(table["estimate"], want, rtol=1e-6)


def test_spline_has_slopes_at_the_ends_of_its_range():
    rows = data("fiber")
    fit = line("strength ~ bs(diameter, df=4)", rows)
    low, high = rows["diameter"].min(), rows["diameter"].max()
    slopes = hp.slopes(fit, "diameter", at={"diameter": [low, 25, high]})["estimate"]
    for x, other in ((low, low + 1e-3), (high, high - 1e-3), (25, 25 + 1e-3)):
        near = fit.predict({"diameter": [x, other]})["estimate"]
        assert slopes[x] == pytest.approx((near[1] - near[0]) / (other - x), rel=0.01, abs=0.01)
    whole = hp.slopes(fit, "diameter", weights="observed")  # every row, those at the ends too
    assert np.isfinite(whole["estimate"]).all()


def test_observed_slopes_are_averages_over_the_rows():
    rows = GROWTH.iloc[:90]
    fit = line("distance ~ (age + I(age**2)) * Sex", rows)
    beta = fit.fixed_effects()["estimate"]
    table = hp.slopes(fit, "age", by="Sex", weights="observed")
    male = rows.loc[rows["Sex"] == "Male", "age"]
    want = (
        beta["age"]
        + 2 * male.mean() * beta["I(age ** 2)" if "I(age ** 2)" in beta else "I(age**2)"]
    )
    base = fit.design.encoder.sources
    assert any(s.categories is not None and s.categories[0] == "Male" for s in base)
    assert table.loc["Male", "estimate"] == pytest.approx(want, rel=1e-6)
    whole = hp.slopes(fit, "age", weights="observed").iloc[0]
    share = (rows["Sex"] == "Male").mean()
    assert whole["estimate"] == pytest.approx(table["estimate"] @ [share, 1 - share])


def test_numbers_far_from_zero_have_their_slope():
    rows = GROWTH.assign(when=1e9 + GROWTH["age"])
    one = hp.slopes(line("distance ~ age"), "age").iloc[0]
    far = hp.slopes(line("distance ~ when", rows), "when").iloc[0]
    np.testing.assert_allclose(far[["estimate", "se"]], one[["estimate", "se"]], rtol=1e-5)


# --- fits -----------------------------------------------------------------------------------------


def test_posterior_slopes_are_those_of_the_coefficients(fitted):
    fit = fitted["orthodont_sex"].posterior
    table = hp.slopes(fit, "age", by="Sex")
    beta = fit.variable("beta").to_numpy().reshape(-1, 4)
    assert fit.design.terms[1].startswith("age")
    draws = beta @ [0, 1, 0, 1]
    assert table.loc["Female", "sd"] == pytest.approx(draws.std(ddof=1), rel=1e-6)
    assert table.loc["Female", "median"] == pytest.approx(np.median(draws), rel=1e-6)
    assert table.loc["Female", "p_direction"] == 1
    mean = fit.fixed_effects()["mean"]
    assert table.loc["Male", "mean"] == pytest.approx(mean["age"], rel=1e-6)


def test_slope_of_one_group_is_its_coefficient(fitted):
    for name, df in (("sleepstudy_slopes", np.inf), ("sleepstudy_no_pooling", 144)):
        fit = fitted[name].reml
        table = hp.slopes(fit, "Days", groups={"Subject": "308"})
        want = fit.coefficients().loc[("Subject", "308", "Days")]
        np.testing.assert_allclose(table[["estimate", "se"]].iloc[0], want, rtol=1e-6)
        assert table["df"].iloc[0] == df


def test_slope_of_an_offset_is_known():
    fit = hp.complete_pooling("distance ~ Sex + offset(age)", GROWTH).reml()
    row = hp.slopes(fit, "age").iloc[0]
    np.testing.assert_allclose(row[["estimate", "ci95_lb", "ci95_ub"]], 1)
    assert row["se"] == 0
    assert np.isnan(row["p"])


def test_back_transformed_slope_is_that_of_the_back_transformed_mean():
    rows = GROWTH
    for text in ("log(distance)", "log10(distance)", "log1p(distance)", "sqrt(distance)"):
        model = hp.Model(f"{text} ~ age * Sex + (1 | Subject)", rows)
        fit = model.reml()
        table = hp.slopes(fit, "age", by="Sex", at={"age": 10})
        ages = {"age": [10 - 1e-3, 10 + 1e-3]}
        means = hp.marginal_means(fit, "age", by="Sex", at=ages)["estimate"].to_numpy()
        np.testing.assert_allclose(table["estimate"], (means[1::2] - means[::2]) / 2e-3, rtol=1e-5)


def test_back_transformed_posterior_slope_and_its_delta_method_agree():
    model = hp.Model("log(distance) ~ age * Sex + (1 | Subject)", GROWTH)
    fit, optimum = model.fit(seed=1, progress=False), model.reml()
    one, other = (hp.slopes(f, "age", by="Sex") for f in (fit, optimum))
    np.testing.assert_allclose(one["mean"], other["estimate"], rtol=0.02)
    np.testing.assert_allclose(one["sd"], other["se"], rtol=0.06)
    with pytest.raises(UnsupportedModelError, match="scale='linear'"):
        hp.slopes(fit, "age", groups="new")


# --- bad input ------------------------------------------------------------------------------------


@each(
    ("arguments", "code", "words"),
    [
        ({"what": "Sex"}, "no-slope", r"hp.contrast\(fit, 'Sex'\)"),
        ({"what": "agee"}, "unknown-choice", "did you mean 'age'"),
        ({"what": "age", "by": "age"}, "bad-grid", "many values"),
        ({"what": "age", "adjust": "tukey"}, "bad-adjust", "pairwise"),
    ],
)
def test_bad_input_is_refused_in_the_users_words(fitted, arguments, code, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        hp.slopes(fitted["orthodont_sex"].reml, **arguments)
    assert caught.value.code == code


def test_slopes_that_are_not_estimable_are_missing_with_a_finding():
    rows = data("fiber")
    rows.loc[rows["machine"] == "C", "diameter"] = 24.0  # no slope can be told within it
    fit = hp.complete_pooling("strength ~ diameter * machine", rows).reml()
    table = hp.slopes(fit, "diameter", by="machine")
    assert np.isnan(table.loc["C"]).all()
    assert np.isfinite(table.loc[["A", "B"]]).all().all()
    (finding,) = table.findings
    assert "slope 'C' is not estimable" in finding.text
    with pytest.raises(NotEstimableError, match="slope"):
        hp.slopes(fit, "diameter", at={"machine": "C"})
