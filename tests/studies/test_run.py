"""study() answers first, then lists points to check, and keeps every number behind it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError, DataError, FormulaError
from hierpool.core.findings import Finding, Findings
from hierpool.core.text import number
from hierpool.studies import check, figures, sentences
from hierpool.studies import run as workflow

RUNGS = [
    "complete_pooling",
    "varying_intercept",
    "varying_slope_only",
    "varying_slope_uncorrelated",
    "varying_slope",
    "no_pooling",
]
QUICK = {"engine": "exact", "draws": 100, "chains": 2, "seed": 1}


@pytest.fixture(scope="module")
def hasty() -> workflow.Study:
    """A hundred draws of two chains: too few to be trusted."""
    return hp.study("Yield ~ 1", hp.datasets.load("Dyestuff2"), group="Batch", **QUICK)


def scores(**models: tuple[float, float]) -> pd.DataFrame:
    """A comparison of models by name: elpd behind the best, and its standard error."""
    table = pd.DataFrame(models, index=["behind", "dse"]).T
    return pd.DataFrame(
        {"elpd": -100 - table["behind"], "elpd_diff": -table["behind"], "dse": table["dse"]}
    ).sort_values("elpd", ascending=False)


def test_every_rung_is_fitted_both_ways_and_compared(sleep):
    tried = "(center(Days) || Subject)"  # while simplifying; it has a parameter less than the next
    names = [*RUNGS[:-2], tried, *RUNGS[-2:]]
    assert list(sleep.models) == list(sleep.fits) == list(sleep.blups) == names
    assert set(sleep.comparison.index) == set(names)
    pd.testing.assert_frame_equal(sleep.comparison, hp.compare(sleep.fits))
    (by_group,) = sleep.comparison_by_group.values()
    pd.testing.assert_frame_equal(by_group, hp.compare(sleep.fits, by="group"))


def test_slopes_that_plainly_vary_are_recommended(sleep):
    assert sleep.recommended == "Reaction ~ Days + (Days || Subject)"
    assert sleep.selected == "varying_slope_uncorrelated"
    assert sleep.decided


def test_study_and_advice_recommend_the_same_model(sleep, dyes):
    for study in (sleep, dyes):
        assert study.advice.recommended == study.recommended == study.model.formula
        assert study.advice.choice.candidates == study.choice.candidates
        assert study.fit is study.fits[study.selected]


def test_correlation_that_reml_finds_is_recommended():
    rng = np.random.default_rng(5)
    boy, age = np.repeat(np.arange(26), 9), np.tile(np.linspace(-1, 1, 9), 26)
    own = rng.multivariate_normal([149, 6.5], [[64, 8.1], [8.1, 2.8]], 26)[boy]
    heights = own[:, 0] + own[:, 1] * age + 0.66 * rng.standard_normal(len(boy))
    data = pd.DataFrame({"boy": boy, "age": age, "height": heights})
    found = hp.study("height ~ age", data, group="boy", progress=False, **QUICK)
    assert found.recommended == "height ~ age + (age | boy)"
    assert found.decided


@pytest.mark.slow
def test_dummies_are_never_recommended_without_their_correlations():
    rng = np.random.default_rng(2)
    rows = pd.DataFrame({"g": np.repeat(np.arange(20), 12), "c": list("pqr") * 80})
    rows["x"] = rng.standard_normal(240)
    rows["y"] = rng.standard_normal(20)[rows["g"]] + rng.standard_normal(240)
    found = hp.study("y ~ c + x", rows, group="g", progress=False, **QUICK)
    tried = [step.name for step in found.advice.steps]
    assert found.models[found.largest].formula == "y ~ c + x + (c + x | g)"
    assert len(tried) > 2
    assert not any("||" in name for name in tried)


def test_tables_are_about_the_recommended_model(sleep):
    fit, blup = sleep.fit, sleep.reml
    pd.testing.assert_frame_equal(sleep.shrinkage, hp.shrinkage(fit))
    pd.testing.assert_frame_equal(sleep.compare_blups, hp.compare_blups(fit, blup))


def test_tables_have_full_precision_and_reml_beside_the_posterior(sleep):
    fixed = sleep.tables()["fixed_effects"]
    row = fixed.loc[("varying_slope", "Days")]
    assert row["mean"] == sleep.fits["varying_slope"].fixed_effects().loc["Days", "mean"]
    assert row["method"] == "REML"
    assert row["estimate"] == pytest.approx(10.46729, abs=1e-5)  # lme4
    assert fixed.loc[("complete_pooling", "Days"), "method"] == "least squares"
    spread = sleep.tables()["variance_components"].loc["varying_slope"]
    assert spread.loc[("Subject", "sd", "Days", ""), "estimate"] == pytest.approx(5.922, abs=1e-3)


def test_tables_can_be_changed_without_changing_the_study(sleep):
    table = sleep.tables()["fixed_effects"]
    table["mean"] = 0.0
    assert (sleep.tables()["fixed_effects"]["mean"] != 0).all()


def test_printed_study_leads_with_the_answer_then_points_to_check_then_tables(sleep):
    text = str(sleep)
    parts = [
        "sleepstudy: Reaction ~ Days, 180 observations of 18 subjects",
        "Reaction rises with Days: by",
        "We recommend",
        "Points to check",
        "Prediction of new observations",
        "Fixed effects",
        "Standard deviations and correlations",
        "Subjects with the most shrinkage",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert places[0] == 0


def test_answer_gives_the_effect_of_the_recommended_model_with_its_interval(sleep):
    first = sleep.answer.splitlines()[0]
    effect = hp.term_effects(sleep.fit)
    said = effect.attrs["sentences"]["Days"]
    assert first.startswith(said)
    assert f"by {effect['mean'].iloc[0]:.1f} [" in said
    assert re.search(r"Brackets show \d+ % intervals\.$", first)


def test_answer_table_has_reml_and_complete_pooling_of_the_same_effects(sleep):
    table = sleep.tables()["answer"]
    row = table.loc[("Days", "slope in Days")]
    assert row["sentence"] == sleep.answer.split(" Brackets")[0]
    assert row["reml"] == pytest.approx(10.46729, abs=1e-5)  # lme4
    anova = sleep.reml.anova("kenward-roger").loc["Days"]
    assert row[["num_df", "den_df", "F", "p"]].tolist() == pytest.approx(anova.tolist())
    assert row["df_method"] == "Kenward-Roger"
    pooled = sleep.fits["complete_pooling"].fixed_effects().loc["Days", "mean"]
    assert row["complete_pooling"] == pytest.approx(pooled)


def test_answer_has_three_sentences_of_a_formula_with_more_terms():
    rng = np.random.default_rng(7)
    rows = pd.DataFrame(rng.normal(size=(90, 5)), columns=["y", "p", "q", "r", "s"])
    rows["arm"], rows["who"] = np.tile(["old", "new"], 45), np.repeat(np.arange(15), 6)
    rows["y"] += rows["s"] + (rows["arm"] == "new") * rows["p"]
    formula = "y ~ arm * p + q + r + s + (1 | who)"
    found = hp.study(formula, rows, progress=False, **QUICK)
    first = found.answer.splitlines()[0]
    assert first.startswith("The slope of y in p depends on ")
    assert "y rises with s: by " in first
    assert first.endswith(" % intervals; the table 'answer' has 3 more terms.")
    terms = found.tables()["answer"].index.unique("term")
    assert set(terms) == {"arm:p", "s", "p", "arm", "q", "r"}
    assert list(terms[:2]) == ["arm:p", "s"]


def test_figures_show_each_effect_and_the_forest(sleep, dyes):
    assert {"effects", "fixed_effects"} <= set(sleep.figures())
    assert not {"effects", "fixed_effects"} & set(dyes.figures())


def test_pictures_of_effects_draw_an_interaction_as_such():
    chicks = hp.Model("weight ~ Time * Diet + (1 | Chick)", hp.datasets.load("ChickWeight")).design
    assert figures.drawn(chicks, ("Time", "Diet")) == {"x": "Time", "by": ["Diet"], "at": {}}
    cake = hp.Model("angle ~ recipe * C(temperature)", hp.datasets.load("cake")).design
    assert figures.drawn(cake, ("recipe", "temperature"))["x"] == "temperature"
    rng = np.random.default_rng(1)
    rows = pd.DataFrame(rng.normal(size=(60, 3)), columns=["x", "z", "y"])
    rows["c"] = np.tile([f"c{k}" for k in range(10)], 6)
    numbers = figures.drawn(hp.Model("y ~ x * z", rows).design, ("x", "z"))
    assert (numbers["x"], numbers["by"], len(numbers["at"]["z"])) == ("x", ["z"], 3)
    many = figures.drawn(hp.Model("y ~ x * c", rows).design, ("x", "c"))
    assert (many["x"], many["by"], len(many["at"]["x"])) == ("c", ["x"], 3)


def test_answer_names_who_was_shrunk_most_from_where_to_where(sleep):
    last = sleep.answer.splitlines()[-1]
    rows = sleep.shrinkage.xs("Days", level="term").droplevel("factor")
    furthest = (rows["partial_pooling"] - rows["own_estimate"]).abs().idxmax()
    moved = rows.loc[furthest]
    start, end = (f"{moved[c]:.3g}" for c in ("own_estimate", "partial_pooling"))
    assert f"moves subject {furthest} the most" in last
    assert f"slope of Days goes from {start} alone to {end}." in last


@pytest.mark.parametrize(
    ("behind", "error", "is_better"),
    [(3.9, 0.1, False), (4.1, 4.2, False), (23.5, 12.3, False), (30, 6, True)],
)
def test_prediction_is_clearly_better_beyond_four_and_two_standard_errors(behind, error, is_better):
    table = scores(varying_slope=(0, 0), varying_intercept=(behind, error))
    said = sentences.says_prediction(table, {}, "varying_intercept")
    none = "No other model predicts new observations clearly better."
    better = (
        "However, varying_slope predicts new observations clearly better: its elpd is higher by "
        "30.0 (standard error 6.0)."
    )
    assert said == (better if is_better else none)
    assert sentences.says_prediction(table, {}, "varying_slope") == none


def test_best_for_new_groups_says_more_of_them_than_its_prior():
    rows = scores(varying_slope=(0, 0), varying_intercept=(1.5, 2.0), no_pooling=(30, 9))
    new = rows.assign(note=["", "", "a new group has only its prior"])

    def said(recommended: str) -> str:
        return sentences.says_prediction(rows, {"boar": new}, recommended)

    assert said("varying_intercept") == (
        "No other model predicts new observations or new boars clearly better."
    )
    new = rows.iloc[::-1].assign(elpd=[0, -40, -41], elpd_diff=[0, -40, -41], dse=[0, 3, 3])
    new = new.assign(note=["a new group has only its prior", "", ""])
    assert "new boars" in said("varying_slope").removeprefix("No other")
    assert "no_pooling predicts" not in said("varying_slope")


def test_groups_that_the_user_names_stay_where_nothing_is_between_them(dyes):
    assert (dyes.recommended, dyes.selected) == ("Yield ~ 1 + (1 | Batch)", "varying_intercept")
    assert dyes.comparison.index[0] == "complete_pooling"
    assert "We recommend Yield ~ 1 + (1 | Batch)." in dyes.answer
    assert dyes.answer.splitlines()[-1].startswith("Shrinkage moves batch")


def test_without_a_predictor_the_mean_is_the_answer(dyes):
    assert list(dyes.models) == ["complete_pooling", "varying_intercept", "no_pooling"]
    assert dyes.answer.startswith("The mean of Yield is 5.6")


def test_singular_reml_is_a_warning(dyes):
    (finding,) = [f for f in dyes.findings if f.code == "singular-reml"]
    assert finding.severity == "warning"
    assert finding.about == "varying_intercept"
    assert "boundary" in finding.text


def test_what_dropping_a_variance_in_question_costs_is_said_with_its_error(dyes):
    (finding,) = dyes.findings.of("singular-reml")
    scores = [dyes.fits[n].loo("Batch").elpd_i for n in ("varying_intercept", "complete_pooling")]
    lost = np.asarray(scores[0]) - np.asarray(scores[1])
    way = "lower" if lost.sum() > 0 else "higher"
    assert (
        f"Without it (complete_pooling), the elpd of new batches is {way} by "
        f"{abs(lost.sum()):.1f} (standard error {np.sqrt(6) * lost.std():.1f})." in finding.text
    )


def test_label_of_simulated_data_is_in_every_headline(dyes):
    assert str(dyes).startswith("Dyestuff2 (simulated): ")
    titles = [*dyes._shown_tables(), dyes._titled("Points to check")]
    assert all(title.endswith("Dyestuff2 (simulated)") for title in titles)
    assert all(title in str(dyes) for title in titles)


def test_a_study_without_warnings_says_so_and_stays_short(sleep):
    quiet = replace(sleep, findings=Findings([Finding("few-rows", "note", "Few.", "Mind it.")]))
    after = str(quiet).split("Points to check — sleepstudy\n")[1].split("\n\n")[0]
    assert after.startswith("  No problems found in the data, the draws, the REML fits")
    assert after.endswith("comparison.\n  note: Few.")
    assert "most shrinkage" not in str(quiet)
    assert len(str(quiet)) < len(str(sleep))


def test_the_answer_has_three_paragraphs_of_short_sentences(sleep, dyes):
    for study in (sleep, dyes):
        paragraphs = [re.split(r"(?<=\.) ", line) for line in study.answer.splitlines()]
        assert len(paragraphs) == 3
        assert all(len(s) < 180 for sentences in paragraphs for s in sentences)


def test_a_finding_is_printed_with_what_it_means_below_it(sleep):
    (finding, *_) = sleep.findings
    lines = str(sleep).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"  {finding.severity}: "))
    meaning = next(line for line in lines[at:] if line.startswith("      "))
    assert finding.meaning.startswith(meaning.strip())


def test_doubtful_draws_are_kept_and_said_first(hasty):
    assert {f.status.word for f in hasty.fits.values()} == {"doubtful"}
    assert [f.severity for f in hasty.findings[:3]] == ["problem"] * 3
    assert hasty.findings[0].about == hasty.selected
    assert "ESS falls to" in hasty.findings[0].text


def test_worst_findings_come_first(hasty):
    order = ["problem", "warning", "note"]
    severities = [f.severity for f in hasty.findings]
    assert severities == sorted(severities, key=order.index)


def test_few_rows_and_few_levels_are_noted():
    data = pd.DataFrame({"y": np.arange(12) % 5 + 0.5, "g": list("abc") * 4})
    codes = {f.code for f in hp.study("y ~ 1", data, group="g", **QUICK).findings}
    assert {"few-rows", "few-levels"} <= codes


def test_a_note_about_no_pooling_alone_is_no_point_to_check():
    data = hp.datasets.load("Dyestuff2").assign(plant=lambda d: d["Batch"].isin(["A", "B"]) + 0.0)
    done = hp.study("Yield ~ plant", data, group="Batch", **QUICK)
    assert not done.findings.of("common-coefficient")
    assert "No pooling" not in done.answer


def test_a_slope_that_others_interact_with_says_where_it_holds():
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"who": np.repeat(list("abcdefghi"), 4), "pain": np.tile(range(4), 9)})
    data["arm"] = rng.choice(["drug", "placebo"], 36)
    data["age"] = rng.normal(size=36)
    data["y"] = rng.normal(size=36)
    design = hp.varying_slope("y ~ pain * arm + pain:age", data, group="who").design
    assert sentences.where(design.schema, "pain") == " where arm is drug and age is 0"
    assert sentences.where(design.schema, "age") == " where pain is 0"
    assert sentences.where(design.schema, "Intercept") == ""


def test_a_slope_with_a_square_in_the_model_is_that_at_zero():
    bent = hp.Model("Reaction ~ Days + I(Days ** 2)", hp.datasets.load("sleepstudy")).design
    assert sentences.where(bent, "Days") == " where Days is 0"
    assert sentences.where(bent, "I(Days ** 2)") == ""


def test_no_pooling_does_not_answer_for_a_slope_that_its_prior_divides():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"who": np.repeat(list("abcdefgh"), 4), "week": np.tile(range(4), 8)})
    data["arm"] = np.where(data["who"] < "e", "drug A", "placebo")
    data["y"] = rng.normal(size=32) + data["week"] * np.repeat([-9, -2, 2, 9, -7, 0, 4, 11], 4)
    first, _, last = hp.study("y ~ week * arm", data, group="who", **QUICK).answer.splitlines()
    assert "separate fits" not in first
    assert "slope of week where arm is drug A goes from" in last


def test_rows_left_out_are_reported_once():
    data = hp.datasets.load("Dyestuff2")
    data.loc[[0, 7], "Yield"] = np.nan
    done = hp.study("Yield ~ 1", data, group="Batch", **QUICK)
    (dropped,) = [f for f in done.findings if f.code == "rows-dropped"]
    assert dropped.text.startswith("2 of 30 rows left out")
    assert done.headline == "Dyestuff2 (simulated): Yield ~ 1, 28 observations of 6 batches"


def test_a_high_pareto_k_stands_among_the_findings(dyes):
    said = _Said("rows whose Pareto k is too high for importance sampling: no_pooling (3)")
    finding, _ = check.of_scores(dyes.fits, [said])
    assert (finding.code, finding.severity) == ("comparison", "warning")
    assert "no_pooling (3)" in finding.text


class _Said:
    """What `warnings` records of one warning."""

    def __init__(self, message: str) -> None:
        self.message = message


def test_one_seed_is_one_study(hasty):
    again = hp.study("Yield ~ 1", hp.datasets.load("Dyestuff2"), group="Batch", **QUICK)
    pd.testing.assert_frame_equal(again.comparison, hasty.comparison)
    assert again.answer == hasty.answer
    assert again.seed == 1


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)


def test_html_escapes_every_name(dyes):
    evil = "<script>alert(1)</script>"
    shrinkage = dyes.shrinkage.rename(index={"A": evil, "Batch": evil})
    finding = Finding("x", "note", evil)
    marked = replace(
        dyes,
        label=evil,
        answer=evil,
        formula=evil,
        shrinkage=shrinkage,
        findings=Findings([finding]),
    )
    html = marked._repr_html_()
    page = _Tags()
    page.feed(html)
    assert "script" not in page.tags
    assert html.count("&lt;script&gt;") >= 7


def test_save_writes_tables_figures_and_summary(dyes, tmp_path):
    folder = dyes.save(tmp_path / "deep" / "dyes")
    assert (folder / "summary.txt").read_text(encoding="utf-8") == f"{dyes}\n"
    assert {p.stem for p in (folder / "tables").glob("*.csv")} == set(dyes.tables())
    pictures = {p.stem: p.read_bytes()[:4] for p in (folder / "figures").iterdir()}
    assert set(pictures) == {
        "trajectories",
        "shrinkage",
        "caterpillar",
        "posterior_against_blup",
        "comparison",
        "standard_deviations",
        "variance_partition",
        "residuals",
        "loo_pit",
        "ladder",
    }
    assert set(pictures.values()) == {b"\x89PNG"}
    back = pd.read_csv(folder / "tables" / "shrinkage.csv")
    np.testing.assert_array_equal(back["partial_pooling"], dyes.shrinkage["partial_pooling"])
    assert back["level"].tolist() == list("ABCDEF")


def test_no_group_is_an_error_that_says_how_to_pass_it():
    data = hp.datasets.load("sleepstudy")
    with pytest.raises(ArgumentError, match=r"group=\.\.\..*Columns not in the formula: 'Subject'"):
        hp.study("Reaction ~ Days", data)


def test_random_effects_of_other_groups_point_at_the_bar():
    data = hp.datasets.load("sleepstudy")
    with pytest.raises(FormulaError) as caught:
        hp.study("Reaction ~ Days + (Days | Subject)", data, group="Days")
    assert caught.value.position == "Reaction ~ Days + (Days | Subject)".index("|")
    assert "leave group= out, or write study('Reaction ~ Days', data" in str(caught.value)


def test_unknown_group_and_argument_are_named():
    data = hp.datasets.load("sleepstudy")
    with pytest.raises(DataError, match="did you mean 'Subject'"):
        hp.study("Reaction ~ Days", data, group="subject")
    with pytest.raises(ArgumentError, match=r"random_seed.*did you mean 'seed'"):
        hp.study("Reaction ~ Days", data, group="Subject", random_seed=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1234.5678, "1235"),
        (-0.012345, "-0.01235"),
        (12.0, "12.00"),
        (3.2e-7, "3.200e-07"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_keep_four_digits_that_matter(value, text):
    assert number(value) == text


def test_a_saturated_rung_loses_its_least_squares_and_no_more():
    data = pd.DataFrame(
        {"g": list("aabbcc"), "x": [1.0, 2, 1, 2, 1, 3], "y": [2.0, 3, 4, 4.5, 1, 2]}
    )
    study = hp.study("y ~ x", data, group="g", seed=1, progress=False)
    assert "no_pooling" in study.fits
    assert "no_pooling" not in study.blups
    assert "no-least-squares" in {finding.code for finding in study.findings}
    assert "No least-squares fit" in " ".join(repr(study).split())
