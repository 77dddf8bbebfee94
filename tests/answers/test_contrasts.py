"""Contrasts: levels, predictors and names, their joint errors; ranks of levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.answers.adjustment import adjusted
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from tests.answers import effects
from tests.answers.equations import CROSSED, dense
from tests.support.cases import each


@pytest.fixture(scope="module")
def sleep(fitted):
    return fitted["sleepstudy_slopes"]


@pytest.fixture(scope="module")
def sexes(fitted):
    return fitted["orthodont_sex"]


def joint(blup: hp.LikelihoodFit) -> np.ndarray:
    """Error covariance of beta and every u, in the user's coding."""
    inverse, roots = dense(blup)
    p = len(blup.design.terms)
    back = np.eye(len(inverse))
    at = p
    for group, root in zip(blup.design.groups, roots, strict=True):
        for _ in range(group.grouping.n_levels):
            back[at : at + len(root), at : at + len(root)] = root
            at += len(root)
    return back @ inverse @ back.T


# --- levels --------------------------------------------------------------------------------------


def test_levels_differ_by_the_difference_of_their_draws(sleep):
    fit = sleep.posterior
    table = hp.contrast(fit, "Subject", ["308", "309"], term="Days")
    assert table.index.names == ["factor", "contrast", "term"]
    assert table.index.tolist() == [("Subject", "308 - 309", "Days")]
    coef = fit.variable("coef_Subject").to_numpy()
    values = (coef[:, :, 0, 1] - coef[:, :, 1, 1]).reshape(-1)
    row = table.iloc[0]
    mean = fit.coefficients(False)["mean"]
    assert row["mean"] == pytest.approx(
        mean["Subject", "308", "Days"] - mean["Subject", "309", "Days"]
    )
    assert row["mean"] == pytest.approx(values.mean(), abs=6 * values.std() / np.sqrt(4000))
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    assert row["p_direction"] == max((values > 0).mean(), (values < 0).mean())
    assert list(table) == ["mean", "median", "sd", "eti95_lb", "eti95_ub", "p_direction"]


def test_standard_error_of_two_levels_is_that_of_their_joint_covariance(sleep):
    reml = sleep.reml
    covariance = joint(reml)
    table = hp.contrast(reml, "Subject", ["308", "310"])
    assert table.index.get_level_values("term").tolist() == ["Intercept", "Days"]
    assert list(table) == ["estimate", "se", "ci95_lb", "ci95_ub"]
    blup = reml.blup()["estimate"]
    for k, term in enumerate(("Intercept", "Days")):
        w = np.zeros(len(covariance))
        w[2 + k], w[2 + 2 * 2 + k] = 1, -1
        row = table.xs(term, level="term").iloc[0]
        assert row["se"] == pytest.approx(np.sqrt(w @ covariance @ w), rel=1e-6)
        expected = blup["Subject", "308", term] - blup["Subject", "310", term]
        assert row["estimate"] == pytest.approx(expected)


@pytest.mark.parametrize("of", ["coefficients", "deviations"])
def test_weights_that_do_not_cancel_bring_in_the_population(sleep, of):
    reml, covariance = sleep.reml, joint(sleep.reml)
    names = {("Subject", "308", "Days"): 1, ("Subject", "309", "Intercept"): 2, "Intercept": 0.5}
    table = hp.contrast(reml, names, of=of)
    w = np.zeros(len(covariance))
    w[3], w[4], w[0] = 1, 2, 0.5
    if of == "coefficients":
        w[:2] += [2, 1]
    assert table["se"].iloc[0] == pytest.approx(np.sqrt(w @ covariance @ w), rel=1e-6)
    assert table.index.tolist() == ["Subject:308:Days + 2 Subject:309:Intercept + 0.5 Intercept"]
    blup = reml.blup()["estimate"]
    value = blup["Subject", "308", "Days"] + 2 * blup["Subject", "309", "Intercept"]
    assert table["estimate"].iloc[0] == pytest.approx(value + w[:2] @ reml.estimate.beta)


def test_levels_of_two_crossed_factors_have_their_joint_error():
    reml = hp.Model(CROSSED, hp.datasets.load("Penicillin")).reml()
    covariance = joint(reml)
    names = {("plate", "a", "Intercept"): 1, ("sample", "C", "Intercept"): -2}
    w = np.zeros(len(covariance))
    w[0], w[1], w[1 + 24 + 2] = -1, 1, -2
    table = hp.contrast(reml, names)
    assert table["se"].iloc[0] == pytest.approx(np.sqrt(w @ covariance @ w), rel=1e-6)
    every = hp.contrast(reml, "sample")
    assert len(every) == 15
    w = np.zeros(len(covariance))
    w[25], w[30] = 1, -1
    row = every.loc[("sample", "A - F", "Intercept")]
    assert row["se"] == pytest.approx(np.sqrt(w @ covariance @ w), rel=1e-6)


def test_own_coefficients_of_no_pooling_are_compared(fitted):
    reml, fit = fitted["sleepstudy_no_pooling"].reml, fitted["sleepstudy_no_pooling"].posterior
    table = hp.contrast(reml, "Subject", ["308", "309"], term="Days")
    own = reml.coefficients().xs("Days", level="term").loc["Subject"]
    assert table["estimate"].iloc[0] == pytest.approx(np.subtract(*own["estimate"].iloc[:2]))
    assert table["se"].iloc[0] == pytest.approx(np.hypot(*own["se"].iloc[:2]))
    assert hp.contrast(fit, "Subject", ["308", "309"], term="Days")["mean"].iloc[
        0
    ] == pytest.approx(table["estimate"].iloc[0], rel=0.02)


def test_a_level_against_the_mean_of_two_others(sleep):
    one = hp.contrast(sleep.posterior, "Subject", {"308": 1, "309": -0.5, "310": -0.5}, term="Days")
    coef = sleep.posterior.coefficients()["mean"].xs("Days", level="term").to_numpy()
    assert one.index.tolist() == [("Subject", "308 - 0.5 309 - 0.5 310", "Days")]
    assert one["mean"].iloc[0] == pytest.approx(coef[0] - coef[1:3].mean())


def test_integer_levels_may_be_typed_as_they_are_written(fitted):
    data = hp.datasets.load("sleepstudy").astype({"Subject": int})
    reml = hp.varying_intercept("Reaction ~ Days", data, "Subject").reml()
    pd.testing.assert_frame_equal(
        hp.contrast(reml, "Subject", ["308", "309"]), hp.contrast(reml, "Subject", [308, 309])
    )


# --- the population ------------------------------------------------------------------------------


def test_names_of_fixed_effects_are_combined(fitted):
    reml, fit = fitted["machines_slopes"].reml, fitted["machines_slopes"].posterior
    weights = {"Machine[T.B]": 1, "Machine[T.C]": -1}
    table = hp.contrast(reml, weights)
    V = reml.estimate.beta_covariance
    assert table["se"].iloc[0] == pytest.approx(np.sqrt(V[1, 1] + V[2, 2] - 2 * V[1, 2]))
    assert table.index.tolist() == ["Machine[T.B] - Machine[T.C]"]
    mean = fit.fixed_effects()["mean"]
    expected = mean["Machine[T.B]"] - mean["Machine[T.C]"]
    assert hp.contrast(fit, weights)["mean"].iloc[0] == pytest.approx(expected)
    two = hp.contrast(reml, {"B less C": weights, "A": {"Intercept": 1}})
    assert two.index.tolist() == ["B less C", "A"]
    assert two["se"].iloc[1] == pytest.approx(np.sqrt(V[0, 0]))


def test_categories_of_a_predictor_are_compared_whatever_their_coding(fitted):
    for fit in (fitted["machines_slopes"].reml, fitted["machines_slopes"].posterior):
        value = fit.predict({"Machine": ["A", "B", "C"]}, groups="average").iloc[:, 0]
        table = hp.contrast(fit, "Machine")
        assert table.index.tolist() == ["A - B", "A - C", "B - C"]
        found = table.iloc[:, 0].to_numpy()
        expected = [value[0] - value[1], value[0] - value[2], value[1] - value[2]]
        np.testing.assert_allclose(found, expected)
        one = hp.contrast(fit, "Machine", ["C", "B"])
        assert one.index.tolist() == ["C - B"]
        assert one.iloc[0, 0] == pytest.approx(-found[2])


def test_interaction_is_averaged_over_the_rows_or_held(sexes):
    reml = sexes.reml
    beta, data = reml.fixed_effects()["estimate"], hp.datasets.load("Orthodont")
    slope = next(t for t in beta.index if ":" in t)
    sex = next(t for t in beta.index if t.startswith("Sex["))
    (categories,) = (s.categories for s in reml.design.encoder.sources if s.column == "Sex")
    base, other = categories
    average = hp.contrast(reml, "Sex", [other, base])["estimate"].iloc[0]
    assert average == pytest.approx(beta[sex] + beta[slope] * data["age"].mean())
    held = hp.contrast(reml, "Sex", [other, base], at={"age": 14})["estimate"].iloc[0]
    assert held == pytest.approx(beta[sex] + 14 * beta[slope])
    years = hp.contrast(reml, "age", [14, 8], at={"Sex": other})["estimate"].iloc[0]
    assert years == pytest.approx(6 * (beta["age"] + beta[slope]))


# --- examples that emmeans documents --------------------------------------------------------------


def compared(name: str, *arguments, **keywords) -> pd.DataFrame:
    return hp.contrast(effects.reml(name), *arguments, prob=0.95, **keywords)


def test_pigs_differ_by_ratios_and_on_the_logarithm_by_differences():
    table = compared("pigs", "source")
    effects.agrees(table, "pigs_pairs")
    assert table.index.tolist() == ["fish / soy", "fish / skim", "soy / skim"]
    effects.agrees(compared("pigs", "source", scale="linear"), "pigs_pairs_log")


@pytest.mark.parametrize("adjust", ["tukey", "holm"])
def test_percents_of_pigs_are_adjusted(adjust):
    table = compared("pigs", "percent", scale="linear", adjust=adjust)
    effects.agrees(table, f"pigs_percent_pairs_{adjust}")
    assert table.attrs["adjust"] == adjust


def test_custom_weights_of_the_percents_of_pigs():
    weights = {"lin": [-3, -1, 1, 3], "quad": {9: -1, 12: 1, 15: 1, 18: -1}}
    table = compared("pigs", "percent", method=weights, scale="linear")
    effects.agrees(table, "pigs_percent_custom")
    assert table.attrs["adjust"] == "none"


@pytest.mark.parametrize(
    ("name", "example", "arguments"),
    [
        ("pigs", "pigs_percent_reference", {"what": "percent", "scale": "linear"}),
        ("warp", "warp_reference", {"what": "tension", "by": "wool"}),
    ],
)
def test_comparisons_with_a_reference_are_dunnetts(name, example, arguments):
    table, want = compared(name, method="reference", **arguments), effects.NUMBERS[example]
    assert table.attrs["adjust"] == "dunnett"
    bounds = table[["ci95_lb", "ci95_ub"]].to_numpy()
    expected = [[row["lower.CL"], row["upper.CL"]] for row in want]
    # mvtnorm's probabilities have errors of 1e-3
    np.testing.assert_allclose(bounds, expected, rtol=0, atol=2e-3 * np.ptp(expected))
    np.testing.assert_allclose(table["p"], [row["p.value"] for row in want], atol=1e-3)
    np.testing.assert_allclose(table["t"], [row["t.ratio"] for row in want])


def test_fibers_and_warps_in_pairs():
    effects.agrees(compared("fiber", "machine"), "fiber_pairs")
    table = compared("warp", "tension", by="wool")
    effects.agrees(table, "warp_pairs")
    assert table.index[0] == ("A", "L - M")
    assert table.index.names == ["wool", "contrast"]


def test_slopes_of_fibers_in_pairs():
    effects.agrees(compared("fiber_slopes", "machine", slope="diameter"), "fiber_slope_pairs")


def test_oats_and_machines_in_pairs_by_kenward_and_roger():
    effects.agrees(compared("oats", "Variety"), "oats_variety_pairs_kenward-roger")
    effects.agrees(compared("machines", "Machine"), "machines_pairs")
    table = hp.contrast(effects.model("oats").ml(), "Variety", prob=0.95)
    effects.agrees(table, "oats_variety_pairs_satterthwaite")


def test_noise_by_two_predictors():
    table = compared("noise", "type", by=["side", "size"])
    effects.agrees(table, "noise_pairs")
    assert table.index[0] == ("L", "S", "Std - Octel")


def test_nutrition_has_pairs_by_race():
    effects.agrees(compared("nutrition", "group", by="race"), "nutrition_group_pairs")


# --- several at once ------------------------------------------------------------------------------


def test_dunnett_of_pairs_is_the_studentized_range():
    pairs = np.array([[1, -1, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1], [0, 1, -1, 0], [0, 1, 0, -1]])
    K = np.vstack([pairs, [0, 0, 1, -1]]) / np.sqrt(2)
    for df in (5.0, 20.0, np.inf):
        t = np.array([0.5, 2.0, 3.0, 4.0, 6.0, 1.0])
        own = np.full(6, df)
        one, reach = adjusted("dunnett", t, own, 0.95, 4, K @ K.T)
        other, want = adjusted("tukey", t, own, 0.95, 4)
        np.testing.assert_allclose(one, other, rtol=0.01)
        np.testing.assert_allclose(reach, want, rtol=1e-3)


@pytest.mark.slow
def test_dunnett_is_the_multivariate_t():
    R = np.array([[1, 0.5, 0.45], [0.5, 1, 0.2], [0.45, 0.2, 1]])
    t = np.array([2.5, 3.6, 1.0])
    p, _ = adjusted("dunnett", t, np.full(3, 11.0), 0.9, 4, R)
    want = [
        1
        - stats.multivariate_t.cdf(
            np.full(3, c), None, R, 11, lower_limit=np.full(3, -c), maxpts=10**6, random_state=1
        )
        for c in t
    ]
    np.testing.assert_allclose(p, want, rtol=0.005)


def test_many_degrees_of_freedom_have_the_quantiles_of_each():
    df = np.array([4.2, 5.0, 6.5, 9.0, 15.0, 40.0, 300.0, np.inf])
    _, reach = adjusted("tukey", np.ones(8), df, 0.89, 4)
    for value, own in zip(df, reach, strict=True):
        _, one = adjusted("tukey", np.ones(2), np.array([value, value]), 0.89, 4)
        assert own == pytest.approx(one[0], rel=1e-4)


def test_simultaneous_intervals_of_a_posterior_are_wider(fitted):
    fit = fitted["machines_slopes"].posterior
    one, all_three = hp.contrast(fit, "Machine"), hp.contrast(fit, "Machine", adjust="simultaneous")
    assert (all_three["ci95_lb"] < one["eti95_lb"]).all()
    pd.testing.assert_series_equal(all_three["mean"], one["mean"])


# --- groups of rows, slopes, groups of the model --------------------------------------------------


def test_contrasts_are_differences_of_marginal_means_and_of_slopes(sexes):
    for fit in (sexes.reml, sexes.posterior):
        at = {"age": [8, 14]}
        means = hp.marginal_means(fit, "Sex", by="age", at=at).iloc[:, 0]
        table = hp.contrast(fit, "Sex", by="age", at=at).iloc[:, 0]
        for age in (8, 14):
            assert table[age, "Male - Female"] == pytest.approx(means[age].diff().iloc[1] * -1)
        slopes = hp.slopes(fit, "age", by="Sex").iloc[:, 0]
        two = hp.contrast(fit, "Sex", slope="age").iloc[0, 0]
        assert two == pytest.approx(slopes["Male"] - slopes["Female"])


def test_contrast_in_one_group_is_that_of_its_predictions(fitted):
    reml = fitted["machines_slopes"].reml
    table = hp.contrast(reml, "Machine", ["A", "C"], groups={"Worker": "6"})
    own = reml.predict({"Machine": ["A", "C"], "Worker": ["6", "6"]})["estimate"]
    assert table["estimate"].iloc[0] == pytest.approx(own[0] - own[1])
    three = hp.contrast(reml, "Machine", method="reference", groups={"Worker": "6"})
    assert (three["p"] >= 0).all()
    assert three.attrs["df_method"].startswith("normal")


def test_own_lines_of_no_pooling_have_residual_degrees_of_freedom(fitted):
    reml = fitted["sleepstudy_no_pooling"].reml
    table = hp.contrast(reml, "Days", [9, 0], groups={"Subject": "308"})
    own = reml.coefficients().loc[("Subject", "308", "Days")]
    np.testing.assert_allclose(table[["estimate", "se"]].iloc[0], 9 * own)
    assert table["df"].iloc[0] == 180 - 36
    assert table.attrs["df_method"] == "residual"


def test_observed_weights_are_those_of_the_rows(sexes):
    rows = hp.datasets.load("Orthodont").iloc[:71]
    reml = hp.Model("distance ~ age * Sex + (1 | Subject)", rows).reml()
    beta = reml.fixed_effects()["estimate"]
    table = hp.contrast(reml, "Sex", ["Female", "Male"], weights="observed")
    want = beta["Sex[T.Female]"] + beta["age:Sex[T.Female]"] * rows["age"].mean()
    assert table["estimate"].iloc[0] == pytest.approx(want)


def test_a_reference_may_be_chosen_for_predictors_and_groups(sleep, fitted):
    table = hp.contrast(
        fitted["machines_slopes"].reml, "Machine", ["B", "A", "C"], method="reference"
    )
    assert table.index.tolist() == ["A - B", "C - B"]
    table = hp.contrast(sleep.reml, "Subject", ["309", "308"], method="reference", term="Days")
    assert table.index.get_level_values("contrast").tolist() == ["308 - 309"]


def test_fixed_effects_by_name_have_degrees_of_freedom(sleep):
    table = hp.contrast(sleep.reml, {"Days": 1})
    want = sleep.reml.fixed_effects(df="kenward-roger").loc["Days"]
    np.testing.assert_allclose(table[["estimate", "se", "df", "t", "p"]].iloc[0], want.iloc[:5])
    assert "df: Kenward-Roger" in repr(table)


# --- bad input -----------------------------------------------------------------------------------


@each(
    ("arguments", "code", "words"),
    [
        (("Subjct",), "unknown-choice", "did you mean 'Subject'"),
        (("Subject", ["308"]), "bad-contrast", "at least two groups of 'Subject'"),
        (("Subject", "308"), "bad-contrast", "at least two groups of 'Subject'"),
        (("Subject", ["308", "399"]), "unknown-choice", "no level '399'"),
        (("Subject", [["308"], ["309"]]), "unknown-choice", "no level"),
        (("Subject", {"308": "x"}), "bad-contrast", "a weight must be a number; given: 'x'"),
        (("Days",), "bad-contrast", "name those to compare"),
        (({"Dyas": 1},), "unknown-choice", "did you mean 'Days'"),
        (({("Subject", "308"): 1},), "bad-contrast", r"is \(factor, group, term\)"),
        (({("Sbject", "308", "Days"): 1},), "unknown-choice", "did you mean 'Subject'"),
        (({"a": {"Days": 1}, "Days": 1},), "bad-contrast", "some values are weights"),
        (({},), "bad-contrast", "without coefficients"),
        (
            ({"Days": 1}, ["308", "309"]),
            "bad-contrast",
            "levels= has no effect together with a dict",
        ),
        (("Days", {}), "bad-contrast", "the weight of a value"),
        (("Days", 5), "bad-contrast", "at least two values of 'Days'"),
    ],
)
def test_bad_contrasts_are_refused(sleep, arguments, code, words):
    for fit in (sleep.posterior, sleep.reml):
        with pytest.raises(ArgumentError, match=words) as caught:
            hp.contrast(fit, *arguments)
        assert caught.value.code == code


@each(
    ("arguments", "code", "words"),
    [
        (
            {"what": "Subject", "by": "Sex"},
            "bad-contrast",
            "by= has no effect together with the group",
        ),
        ({"what": "Subject", "adjust": "tukey"}, "bad-contrast", "adjust= has no effect"),
        ({"what": {"age": 1}, "weights": "observed"}, "bad-contrast", "weights= has no effect"),
        ({"what": "Sex", "term": "age"}, "bad-contrast", "term= has no effect"),
        ({"what": "Sex", "method": "all"}, "unknown-choice", "'pairwise'"),
        ({"what": "Sex", "method": {"a": [1, 2, 3]}}, "bad-contrast", "a list of 2"),
        ({"what": "Sex", "method": {"Mal": 1}}, "unknown-choice", "did you mean 'Male'"),
        ({"what": "Sex", "at": {"Sex": "Male"}}, "bad-contrast", r"levels=\[...\]"),
        ({"what": "Sex", "slope": "Sex"}, "no-slope", "has no slope"),
        ({"what": "Sex", "by": "sex"}, "unknown-choice", "did you mean 'Sex'"),
        ({"what": "Sex", "adjust": "dunnett"}, "bad-adjust", "method='reference'"),
        ({"what": "Sex", "levels": {"Male": 1}, "adjust": "tukey"}, "bad-adjust", "pairwise"),
    ],
)
def test_contrasts_that_say_nothing_are_refused_in_the_users_words(sexes, arguments, code, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        hp.contrast(sexes.reml, **arguments)
    assert caught.value.code == code


def test_ratios_of_means_over_new_groups_are_refused():
    rows = hp.datasets.load("Orthodont")
    fit = hp.Model("log(distance) ~ Sex + (1 | Subject)", rows).reml()
    with pytest.raises(UnsupportedModelError, match="scale='linear'"):
        hp.contrast(fit, "Sex", groups="new")


def test_bad_arguments_of_contrasts_are_refused(sleep, fitted):
    fit = sleep.reml
    with pytest.raises(ArgumentError, match="'Dasy' does not vary over 'Subject'"):
        hp.contrast(fit, "Subject", term="Dasy")
    with pytest.raises(ArgumentError, match="of='u'"):
        hp.contrast(fit, "Subject", of="u")
    with pytest.raises(ArgumentError, match="takes a fit"):
        hp.contrast(sleep.model, "Subject")
    with pytest.raises(ArgumentError, match="at= names 'Age'"):
        hp.contrast(fitted["orthodont_sex"].reml, "Sex", at={"Age": 3})
    with pytest.raises(UnsupportedModelError, match="no mean or effect that is common"):
        hp.contrast(fitted["sleepstudy_no_pooling"].reml, "Days", [1, 0])
    with pytest.raises(UnsupportedModelError, match="no common distribution"):
        hp.contrast(fitted["sleepstudy_no_pooling"].reml, "Subject", of="deviations")
    with pytest.raises(ArgumentError, match=r"make 3570 pairs.*hp\.ranks"):
        hp.contrast(fitted["radon_intercepts"].reml, "county")


# --- ranks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 3, 18])
@pytest.mark.parametrize("highest", [True, False])
def test_probabilities_of_the_top_add_up(sleep, top, highest):
    table = hp.ranks(sleep.posterior, "Subject", term="Days", top=top, highest=highest)
    assert table["p_top"].sum() == pytest.approx(top)
    assert table["mean_rank"].mean() == pytest.approx(9.5)
    assert table["mean_rank"].is_monotonic_increasing
    assert table["coefficient"].corr(table["mean_rank"]) * (-1 if highest else 1) > 0.9


def test_ranks_are_those_of_the_draws(sleep):
    fit = sleep.posterior
    table = hp.ranks(fit, term="Days", top=2)
    coef = fit.variable("coef_Subject").sel(Subject_term="Days").to_numpy()
    rank = (coef[..., None, :] > coef[..., :, None]).sum(axis=-1) + 1
    one = table.loc[("Subject", "308", "Days")]
    assert one["mean_rank"] == pytest.approx(rank[..., 0].mean())
    assert one["p_top"] == pytest.approx((rank[..., 0] <= 2).mean())
    mean = fit.coefficients(False)["mean"]["Subject", "308", "Days"]
    assert one["coefficient"] == pytest.approx(mean)
    expected = [
        "coefficient",
        "mean_rank",
        "median_rank",
        "rank_eti95_lb",
        "rank_eti95_ub",
        "p_top",
    ]
    assert list(table) == expected
    assert set(table.index) == set(
        fit.coefficients(False).xs("Days", level=2, drop_level=False).index
    )


def test_some_draws_do_for_very_many_levels(sleep, monkeypatch):
    whole = hp.ranks(sleep.posterior, term="Days")
    monkeypatch.setattr("hierpool.answers.ranks.MOST_NUMBERS", 1000 * 18)
    some = hp.ranks(sleep.posterior, term="Days")
    assert some["p_top"].sum() == pytest.approx(1)
    np.testing.assert_allclose(some["mean_rank"].reindex(whole.index), whole["mean_rank"], atol=0.6)


def test_bad_ranks_are_refused(sleep, fitted):
    fit = sleep.posterior
    with pytest.raises(ArgumentError, match="needs draws of a posterior"):
        hp.ranks(sleep.reml)
    with pytest.raises(ArgumentError, match="choose one to rank by"):
        hp.ranks(fit)
    with pytest.raises(ArgumentError, match="top=19 must be a whole number from 1 to the 18"):
        hp.ranks(fit, term="Days", top=19)
    with pytest.raises(ArgumentError, match="no coefficients vary over 'Sbject'"):
        hp.ranks(fit, "Sbject", term="Days")
    with pytest.raises(UnsupportedModelError, match="one line describes all"):
        hp.ranks(fitted["sleepstudy_complete"].posterior)
    with pytest.raises(ArgumentError, match="takes a fit"):
        hp.ranks(sleep.model)


def test_adjustment_counts_rows_that_are_not_estimable_as_its_head_says():
    """Three means compared by Tukey stay three where one has an empty cell; Holm has one p value."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"g": np.repeat(np.arange(12), 10), "a": rng.choice(list("pqr"), 120)})
    table = table.assign(c=rng.choice(list("uv"), 120), y=rng.normal(size=120) + table.g % 3)
    table = table[~((table.a == "r") & (table.c == "v"))]
    fit = hp.Model("y ~ a * c + (1 | g)", table).reml()
    tukey, holm = (hp.contrast(fit, "a", adjust=how) for how in ("tukey", "holm"))
    row = tukey.loc["p - q"]
    assert tukey["p"].isna().sum() == 2
    assert row["p"] == pytest.approx(
        stats.studentized_range.sf(np.sqrt(2) * abs(row["t"]), 3, row["df"])
    )
    assert "(3 rows)" in str(tukey)
    assert holm.loc["p - q", "p"] == pytest.approx(2 * stats.t.sf(abs(row["t"]), row["df"]))
    assert "not adjusted" in str(holm)


def test_labels_and_heads_say_what_was_combined():
    data = hp.datasets.load("Machines")
    named = data["Machine"].astype(str).map({"A": "p - q", "B": "r", "C": "s"})
    fit = hp.Model("log(score) ~ Machine + (1 | Worker)", data.assign(Machine=named)).reml()
    table = hp.contrast(fit, "Machine", scale="linear")
    assert table.index.tolist()[:2] == ["(p - q) - r", "(p - q) - s"]
    assert hp.contrast(fit, "Machine").attrs["head"][0].startswith("Ratios of score between")
    total = {"method": {"sum": {"r": 1, "s": 1}}}
    for scale, kind in (("linear", "Weighted sums of"), ("response", "Products of powers of")):
        head = hp.contrast(fit, "Machine", scale=scale, **total).attrs["head"][0]
        assert head.startswith(kind)
        assert head.endswith("over values of Machine")


def test_values_without_a_logarithm_are_refused_by_the_name_of_at():
    data = hp.datasets.load("boars").query("time > 0")
    fit = hp.Model("volume ~ log(time) + (1 | boar)", data).reml()
    with pytest.raises(ArgumentError, match=r"'log\(time\)' is not a finite number.*at=") as caught:
        hp.marginal_means(fit, "time", at={"time": [-1, 2]})
    assert "row" not in caught.value.message


def test_methods_of_posteriors_and_families_are_refused_in_words():
    data = hp.datasets.load("boars")
    fit = hp.varying_slope("volume ~ time", data, group="boar").reml()
    for name in ("save", "summary", "predict_draws"):
        assert not hasattr(fit, name)
        with pytest.raises(UnsupportedModelError, match=f"a REML fit has no {name}.*posterior"):
            getattr(fit, name)
    with pytest.raises(UnsupportedModelError, match="REML is for Gaussian responses"):
        hp.varying_slope("volume ~ time", data, group="boar", family="gamma").reml()
