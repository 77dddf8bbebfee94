"""term_effects() answers term by term, as emmeans' joint_tests() and contrasts do."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.answers.credible_ellipsoid import CredibleEllipsoid
from hierpool.core.errors import UnsupportedModelError
from tests.answers.effects import REFERENCE, data
from tests.support.cases import each

NUMBERS = json.loads((REFERENCE / "term_effects.json").read_text(encoding="utf-8"))


def effects(formula: str, table: pd.DataFrame, prob: float = 0.95) -> pd.DataFrame:
    return hp.term_effects(hp.Model(formula, table).reml(), prob=prob)


def sentence(formula: str, table: pd.DataFrame, term: str) -> str:
    return str(effects(formula, table).attrs["sentences"][term])


def bundled(name: str) -> pd.DataFrame:
    return hp.datasets.load(name)


def cake() -> pd.DataFrame:
    return bundled("cake").rename(columns={"temperature": "heat"})


def warpbreaks() -> pd.DataFrame:
    return data("warpbreaks").iloc[7:]


# name in the reference -> formula, table, the reference's terms where they are called otherwise
TESTED = {
    "chicks": ("weight ~ Time * Diet + (Time | Chick)", lambda: bundled("ChickWeight"), {}),
    "teeth": ("distance ~ age * Sex + (1 | Subject)", lambda: bundled("Orthodont"), {}),
    "cake": (
        "angle ~ recipe * C(heat) + (1 | recipe:replicate)",
        cake,
        {"temperature": "C(heat)", "recipe:temperature": "recipe:C(heat)"},
    ),
    "oats": (
        "grain ~ Variety * C(nitro) + (1 | Block/Variety)",
        lambda: data("oats"),
        {
            "nitro": "C(nitro)",
            "Variety:nitro": "Variety:C(nitro)",
            "Variety:factor(nitro)": "Variety:C(nitro)",
        },
    ),
    "oats_number": (
        "grain ~ Variety * nitro + (1 | Block/Variety)",
        lambda: data("oats"),
        {},
    ),
    "noise": ("noise ~ size * type * side", lambda: data("noise"), {}),
    "warp": ("breaks ~ wool * tension", warpbreaks, {}),
    "pigs": ("log(conc) ~ source * percent", lambda: data("pigs"), {}),
}


@pytest.mark.slow
@each("name", list(TESTED))
def test_every_term_is_tested_as_emmeans_does_it(name):
    formula, table, renamed = TESTED[name]
    found = effects(formula, table())
    assert len(found.index.unique("term")) == len(NUMBERS[name])
    for want in NUMBERS[name]:
        row = found.loc[renamed.get(want["term"], want["term"])].iloc[0]
        assert row["num_df"] == want["df1"]
        assert row["F"] == pytest.approx(want["F.ratio"], rel=4e-3, abs=2e-3)
        # emmeans has the smallest df of the single contrasts, Kenward and Roger one of all together
        assert row["den_df"] == pytest.approx(want["df2"], rel=0.025)


@each("name", ["chicks", "oats"])
def test_highest_interaction_has_the_numbers_of_lmertest(name):
    formula, table, renamed = TESTED[name]
    found = effects(formula, table())
    want = NUMBERS[f"{name}_anova"][-1]
    row = found.loc[renamed.get(want["term"], want["term"])].iloc[0]
    assert row["F"] == pytest.approx(want["F value"], rel=1e-4)
    assert row["den_df"] == pytest.approx(want["DenDF"], rel=1e-4)
    assert row["p"] == pytest.approx(want["Pr(>F)"], rel=1e-3)


@each(
    ("name", "tested", "term"),
    [("chicks_slopes", "chicks", "Time:Diet"), ("cake_temperature", "cake", "C(heat)")],
)
def test_comparisons_have_the_intervals_of_tukey_as_in_emmeans(name, tested, term):
    formula, table, _ = TESTED[tested]
    found = effects(formula, table()).loc[term].sort_values("estimate")
    want = pd.DataFrame(NUMBERS[name]).sort_values("estimate")
    np.testing.assert_allclose(found["estimate"], want["estimate"], rtol=1e-4)
    np.testing.assert_allclose(found["ci95_lb"], want["lower.CL"], rtol=2e-4, atol=1e-3)
    np.testing.assert_allclose(found["ci95_ub"], want["upper.CL"], rtol=2e-4, atol=1e-3)


def test_slopes_of_a_logarithm_are_ratios_with_emmeans_intervals():
    formula, table, _ = TESTED["pigs"]
    found = effects(formula, table()).loc["source:percent"]
    want = {w["contrast"]: w for w in NUMBERS["pigs_slopes"]}["skim - fish"]
    row = found.loc["source skim / fish, ratio per unit of percent"]
    got = np.log(row[["estimate", "ci95_lb", "ci95_ub"]].to_numpy(dtype=float))
    np.testing.assert_allclose(
        got, [want[c] for c in ("estimate", "lower.CL", "upper.CL")], atol=1e-5
    )


def test_slope_beside_a_square_is_at_the_mean_and_the_square_is_its_change(fitted):
    sleep = bundled("sleepstudy")
    found = effects("Reaction ~ Days + I(Days ** 2) + (Days | Subject)", sleep)
    (want,) = NUMBERS["sleep_slope"]
    row = found.loc[("Days", "slope in Days")]
    assert row["estimate"] == pytest.approx(want["Days.trend"], rel=5e-4)  # by a one-sided step
    assert row["ci95_lb"] == pytest.approx(want["lower.CL"], rel=1e-3)
    reml = hp.Model("Reaction ~ Days + I(Days ** 2) + (Days | Subject)", sleep).reml()
    square = reml.fixed_effects("kenward-roger").loc["I(Days ** 2)"]
    bend = found.loc["I(Days ** 2)"].iloc[0]
    days = sleep["Days"]
    assert bend["estimate"] == pytest.approx(4 * days.std() * square["estimate"], rel=1e-5)
    assert bend["F"] == pytest.approx(square["t"] ** 2, rel=1e-5)


def test_the_reference_category_changes_no_test_and_no_size():
    teeth = bundled("Orthodont")
    other = teeth.assign(Sex=pd.Categorical(teeth["Sex"], ["Female", "Male"]))
    one, two = (effects("distance ~ age * Sex + (1 | Subject)", t) for t in (teeth, other))
    np.testing.assert_allclose(one["F"], two["F"], rtol=1e-6)
    np.testing.assert_allclose(one["estimate"].abs(), two["estimate"].abs(), rtol=1e-6)
    assert one.attrs["sentences"] == two.attrs["sentences"]


def test_moving_the_zero_of_a_number_changes_nothing():
    teeth = bundled("Orthodont")
    one = effects("distance ~ age * Sex + (1 | Subject)", teeth)
    two = effects("distance ~ age * Sex + (1 | Subject)", teeth.assign(age=teeth["age"] - 100))
    np.testing.assert_allclose(one, two, rtol=1e-4)


def test_missing_cells_leave_what_is_estimable():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": np.repeat(list("pqr"), 20), "b": np.tile(list("stuv"), 15)})
    table["y"] = rng.normal(size=60)
    table = table[(table["a"] != "r") | (table["b"] != "v")]
    model = hp.Model("y ~ a * b", table)
    found, anova = hp.term_effects(model.reml()), model.reml().anova()
    for term in ("a", "b", "a:b"):
        row = found.loc[term].iloc[0]
        assert row[["num_df", "F", "p"]].tolist() == pytest.approx(
            anova.loc[term, ["num_df", "F", "p"]].tolist()
        )
    assert found.loc["a:b", "num_df"].iloc[0] == 5
    assert found.loc["a:b", "estimate"].isna().any()
    assert found.loc["a:b", "estimate"].notna().any()
    (finding, *_) = found.findings.of("row-not-estimable")
    assert "comparisons of" in finding.text


def test_posterior_names_direction_and_ellipsoid(fitted):
    fit = hp.Model("weight ~ Time * Diet + (Time | Chick)", bundled("ChickWeight")).fit(seed=1)
    found = hp.term_effects(fit)
    assert found.loc["Time:Diet", "p_direction"].isna().all()
    assert found.loc["Time", "ellipsoid_content"].isna().all()
    draws = fit.variable("beta").to_numpy().reshape(-1, 8)[:, 5:]
    away = np.linalg.inv(np.cov(draws.T))
    mean = draws.mean(axis=0)
    distance = np.einsum("ki,ij,kj->k", draws - mean, away, draws - mean)
    inside = (distance < mean @ away @ mean).mean()
    assert found.loc["Time:Diet", "ellipsoid_content"].iloc[0] == pytest.approx(inside, abs=1e-12)
    direction = hp.slopes(fit, "Time")["p_direction"].iloc[0]
    assert found.loc[("Time", "slope in Time"), "p_direction"] == direction


def test_ellipsoid_content_is_the_chi_squared_probability_for_normal_draws():
    rng = np.random.default_rng(3)
    root = np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 3.0, 1.0]])
    draws = rng.normal(size=(200_000, 3)) @ root.T + root @ [1.0, -1.0, 0.5]
    ellipsoid = CredibleEllipsoid.of(draws)
    assert ellipsoid.distance == pytest.approx(2.25, rel=0.02)  # chi-squared of 3: 0.478
    assert ellipsoid.content == pytest.approx(0.4778, abs=0.005)
    assert np.exp(ellipsoid.log_tail) == pytest.approx(1 - ellipsoid.content, abs=0.01)


def test_highest_interaction_comes_first_even_if_it_is_not_clear():
    found = effects("grain ~ Variety * C(nitro) + (1 | Block/Variety)", data("oats"))
    assert found.index.unique("term").tolist() == ["Variety:C(nitro)", "C(nitro)", "Variety"]
    assert found.attrs["clear"] == ["C(nitro)"]


def test_terms_within_a_clear_interaction_come_after_other_clear_ones():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"a": np.repeat(list("pq"), 60), "b": np.tile(list("st"), 60)})
    table["x"], table["z"] = rng.normal(size=(2, 120))
    table["y"] = 3 * (table["a"] == "p") * (table["b"] == "s") + table["x"] + rng.normal(size=120)
    found = effects("y ~ a * b + x + z", table)
    assert found.index.unique("term")[:2].tolist() == ["a:b", "x"]
    assert found.index.unique("term")[-1] == "z"


@each(
    ("formula", "name", "term", "said"),
    [
        (
            "weight ~ Time * Diet + (Time | Chick)",
            "ChickWeight",
            "Time:Diet",
            "The slope of weight in Time depends on Diet. It differs most between Diet 3 and Diet 1: "
            "per unit of Time, weight rises by 11.4 for Diet 3 and by 6.28 for Diet 1. The two "
            "differ by 5.15 [1.67, 8.62].",
        ),
        (
            "weight ~ Time * Diet + (Time | Chick)",
            "ChickWeight",
            "Time",
            "On average over Diet, weight rises with Time: by 8.96 [7.96, 9.96] per unit of Time.",
        ),
        (
            "distance ~ age * Sex + (1 | Subject)",
            "Orthodont",
            "age:Sex",
            "The slope of distance in age depends on Sex: per unit of age, distance rises by 0.784 "
            "for Male and by 0.480 for Female. The two differ by 0.305 [0.0631, 0.547].",
        ),
        (
            "distance ~ age * Sex + (1 | Subject)",
            "Orthodont",
            "Sex",
            "At the mean of age, distance is higher for Male than for Female: by 2.32 [0.753, 3.89].",
        ),
        (
            "angle ~ recipe + temp + (1 | recipe:replicate)",
            "cake",
            "recipe",
            "Angle does not clearly differ between the levels of recipe; the largest difference is "
            "recipe A against recipe C, 1.52 [-4.45, 7.49].",
        ),
        (
            "log(weight) ~ Time + (Time | Chick)",
            "ChickWeight",
            "Time",
            "Weight rises with Time: by 7.83 % [7.17 %, 8.48 %] per unit of Time.",
        ),
        (
            "weight ~ bs(Time, df=4) + (1 | Chick)",
            "ChickWeight",
            "bs(Time, df=4)",
            "Weight changes along a curve of Time: by 122 [115, 129] from one sd below its mean to "
            "one sd above it.",
        ),
        (
            "Yield ~ 1 + (1 | Batch)",
            "Dyestuff",
            "Intercept",
            "The mean of Yield is 1528 [1478, 1577].",
        ),
    ],
)
def test_sentences_say_the_thing_then_the_number(formula, name, term, said):
    assert sentence(formula, bundled(name), term) == said


def test_two_categories_two_numbers_and_three_parts_have_sentences():
    warp = sentence("breaks ~ wool * tension", warpbreaks(), "wool:tension")
    assert warp.startswith(
        "The effect of wool on breaks depends on tension. It differs most between tension M and "
    )
    rng = np.random.default_rng(4)
    table = pd.DataFrame(rng.normal(size=(80, 3)), columns=["x", "z", "y"])
    said = sentence("y ~ x * z", table, "x:z")
    assert said.startswith("The slope of y in x does not clearly depend on z: it changes by ")
    noise = effects("noise ~ size * type * side", data("noise"))
    assert noise.index.unique("term")[0] == "size:type:side"
    assert noise.attrs["sentences"]["size:type:side"].startswith("size:type:side matters for noise")


def test_sentences_have_at_most_three_numbers_beside_names():
    found = effects("distance ~ age * Sex + (1 | Subject)", bundled("Orthodont"))
    for said in ". ".join(found.attrs["sentences"].values()).split(". "):
        words = [part.strip("[],.%").replace(".", "").lstrip("-") for part in said.split()]
        assert sum(word.isdigit() for word in words) <= 3


def test_term_without_its_lower_one_is_compared_in_each_category():
    chicks = bundled("ChickWeight")
    found = effects("weight ~ Time:Diet + (Time | Chick)", chicks)
    assert found.index.get_level_values("effect").tolist() == [
        f"slope in Time, Diet {k}" for k in range(1, 5)
    ]


def test_formula_without_a_constant_compares_the_same_categories():
    machines = bundled("Machines")
    with_one, without = (
        effects(f"score ~ {start}Machine + (1 | Worker)", machines) for start in ("", "0 + ")
    )
    np.testing.assert_allclose(with_one, without, rtol=1e-5)


def test_known_standard_errors_are_tested_without_residual_df():
    schools = bundled("eight_schools")
    fit = hp.Model("effect ~ 1 + (1 | school)", schools, known_se="se").reml()
    found = hp.term_effects(fit, prob=0.95)
    row = found.loc[("Intercept", "mean")]
    fixed = fit.fixed_effects("kenward-roger").iloc[0]
    assert row["estimate"] == pytest.approx(fixed["estimate"])
    assert row["F"] == pytest.approx(fixed["t"] ** 2)


def test_many_categories_are_compared_with_the_first():
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        {"c": np.tile([f"c{k:02}" for k in range(30)], 4), "y": rng.normal(size=120)}
    )
    found = effects("y ~ c", table)
    assert len(found) == 29
    assert found.index[0] == ("c", "c01 - c00")
    assert found["num_df"].eq(29).all()


def test_no_pooling_has_no_common_terms():
    model = hp.no_pooling("Reaction ~ Days", bundled("sleepstudy"), group="Subject")
    with pytest.raises(UnsupportedModelError, match="no pooling has no mean or effect"):
        hp.term_effects(model.reml())


def _both_fall() -> pd.DataFrame:
    """Distress that falls under both arms, and the share of those below a line."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"id": np.repeat(np.arange(30), 5), "week": np.tile(np.arange(5.0), 30)})
    table["arm"] = np.where(table["id"] % 2, "drug", "placebo")
    slope = np.where(table["arm"] == "drug", -3.4, -2.1)
    table["distress"] = 50 + slope * table["week"] + rng.normal(0, 1, len(table))
    table["falls"] = (table["distress"] > 44 + rng.normal(0, 3, len(table))).astype(float)
    return table


def test_the_sentence_of_two_slopes_that_both_fall_says_both() -> None:
    table = _both_fall()
    fit = hp.Model("distress ~ week * arm + (1 | id)", table).reml()
    said = hp.term_effects(fit).attrs["sentences"]["week:arm"]
    own = {
        arm: np.polyfit(rows["week"], rows["distress"], 1)[0] for arm, rows in table.groupby("arm")
    }
    placebo, drug = (f"{-own[arm]:.2f}" for arm in ("placebo", "drug"))
    assert f"distress falls by {placebo} for placebo and by {drug} for drug" in said
    assert "higher" not in said


def test_a_response_of_zeros_and_ones_is_told_in_percentage_points() -> None:
    table = _both_fall()
    fit = hp.Model("falls ~ week + (1 | id)", table).reml()
    effects = hp.term_effects(fit)
    points = -100 * effects["estimate"].iloc[0]
    said = effects.attrs["sentences"]["week"]
    assert said.startswith(
        f"The mean of falls goes down with week: by {points:.1f} percentage points"
    )


def test_the_sentence_of_two_differences_says_both() -> None:
    table = _both_fall().assign(half=lambda t: np.where(t["week"] < 2.5, "early", "late"))
    fit = hp.Model("distress ~ half * arm + (1 | id)", table).reml()
    means = table.groupby(["arm", "half"])["distress"].mean()
    said = hp.term_effects(fit).attrs["sentences"]["half:arm"]
    for arm in ("placebo", "drug"):
        assert f"{means[arm, 'late'] - means[arm, 'early']:.2f} for {arm}" in said
