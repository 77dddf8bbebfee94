"""Residual structures in a study: which are tried where, which one is kept, and what the page says."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool import cli
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.studies.ladder import ladder
from hierpool.studies.structures import asked_structures
from tests.support.cases import each
from tests.test_cli import run

TEETH = hp.datasets.load("Orthodont")
HASTY = {"engine": "exact", "draws": 300, "chains": 2, "seed": 1, "progress": False}


@pytest.fixture(scope="module")
def asked():
    return ladder("distance ~ age * Sex", TEETH, "Subject", None, {})


@each(
    ("residual", "over", "names"),
    [
        (["cs", "ar1"], "age | Subject", ("independent", "cs", "ar1")),
        ("us", "age | Subject", ("us",)),
        (["cs", "ar1(age | Subject, by=Sex)"], "age | Subject", None),
        (["~ Sex", "independent"], "", ("~ Sex", "independent")),
        (["cs, sigma ~ Sex", "us"], "age | Subject", ("independent", "cs, sigma ~ Sex", "us")),
    ],
)
def test_words_are_over_the_one_column_that_tells_rows_of_a_group_apart(
    asked, residual, over, names
):
    found = asked_structures(residual, None, None, asked)
    assert found.over == over
    assert names is None or found.names == names
    assert found.arguments == {"residual": residual}


def test_what_a_study_cannot_take_is_refused_before_any_fit(asked):
    none = ladder("distance ~ Sex", TEETH, "Subject", None, {})
    with pytest.raises(ArgumentError, match=r"over='time \| Subject'") as error:
        asked_structures(["cs"], None, None, none)
    assert error.value.code == "no-over"
    with pytest.raises(ArgumentError, match="a list of those to compare"):
        asked_structures([], None, None, asked)
    counts = pd.DataFrame({"y": [0, 1, 2, 3] * 3, "t": [1, 2, 3, 4] * 3, "g": list("aaaabbbbcccc")})
    with pytest.raises(UnsupportedModelError, match="residual-and-known-se"):
        hp.study("y ~ t", counts, "g", family="poisson", residual="ar1")


@each(
    ("typed", "given"),
    [
        (["cs,ar1, us"], ["cs", "ar1", "us"]),
        (["ar1(age | Subject, by=Sex)"], "ar1(age | Subject, by=Sex)"),
        (["cs, sigma ~ Sex", "us"], ["cs, sigma ~ Sex", "us"]),
        ([], None),
    ],
)
def test_structures_on_the_command_line(typed, given):
    assert cli._structures(typed) == given


@pytest.mark.slow
def test_structure_in_place_of_the_random_effects(tmp_path):
    """Potthoff and Roy: the sds of boys and girls differ, and no structure but that is called for."""
    study = hp.study(
        "distance ~ age * Sex",
        TEETH,
        "Subject",
        residual=["independent", "cs, sigma ~ Sex"],
        **HASTY,
    )
    compared = study.residual_ladder
    assert list(compared.table.index) == [
        "independent",
        "cs, sigma ~ Sex",
        "independent, (1 | Subject)",
    ]
    assert compared.recommended == "cs, sigma ~ Sex"
    assert (
        study.recommended == study.advice.recommended == "distance ~ age * Sex + cs(age | Subject)"
    )
    assert study.selected == "cs(age | Subject), sigma ~ Sex"
    assert "fewer parameters, and is rejected by a likelihood ratio test" in study.why
    assert "no subject has an estimate of its own" in study.answer
    assert {"shrinkage", "compare_blups"}.isdisjoint(study.tables())
    assert {"shrinkage", "caterpillar"}.isdisjoint(study.figures())
    assert compared.table.loc["cs, sigma ~ Sex", "bic"] == pytest.approx(432.1, abs=0.05)
    for style in ("brief", "full"):
        page = study.report(tmp_path / "page.html", style=style, progress=False).read_text()
        text = re.sub(r"<[^>]+>", " ", page)
        assert "We recommend compound symmetry, sd by Sex." in text
        assert "AICC" in text
        assert "a residual structure in place of random effects" in text
        assert "residual=[" in text


@pytest.mark.slow
def test_one_structure_is_that_of_all_models(tmp_path):
    TEETH.to_csv(tmp_path / "teeth.csv", index=False)
    study = hp.study(
        "distance ~ 1", TEETH, "Subject", residual="ar1", over="age | Subject", **HASTY
    )
    words = {name: model.design.spec.residual.words for name, model in study.models.items()}
    assert set(words.values()) == {"ar1(age | Subject)", ""}
    assert words["no_pooling"] == ""
    assert study.residual_ladder is None
    assert "residual_structure" in study.figures()
    pd.testing.assert_frame_equal(study.shrinkage, hp.shrinkage(study.fit))
    folder = tmp_path / "out"
    ran = run(
        "study", tmp_path / "teeth.csv", "distance ~ 1", "-g", "Subject", "--residual", "ar1,cs",
        "--over", "age | Subject", "--out", folder, "--draws", 300, "--chains", 2, "--seed", 1,
    )  # fmt: skip
    assert ran.exit_code == 0, ran.stderr
    assert "Residual structures (REML" in ran.stdout
    assert list(pd.read_csv(folder / "tables" / "residual_structures.csv")["structure"])[:3] == [
        "independent",
        "ar1",
        "cs",
    ]


@each(
    ("residual", "sigma", "names"),
    [
        (None, "~Sex", ("~ Sex",)),
        (None, ["~ Sex", "~ (1 | Subject)"], ("independent", "~ Sex", "~ (1 | Subject)")),
        ("cs", "~ Sex", ("cs, sigma ~ Sex",)),
        ("cs", ["~ Sex", "~ age"], ("cs", "cs, sigma ~ Sex", "cs, sigma ~ age")),
        (["cs", "ar1"], "~ Sex", ("~ Sex", "cs, sigma ~ Sex", "ar1, sigma ~ Sex")),
        (["cs", "ar1"], ["~ Sex"], ("independent", "cs", "ar1", "~ Sex")),
    ],
)
def test_sds_alone_and_beside_correlations(asked, residual, sigma, names):
    assert asked_structures(residual, sigma, None, asked).names == names


def test_sds_that_cannot_be_read_are_refused_before_any_fit(asked):
    with pytest.raises(ArgumentError, match="write a ~ and one column") as error:
        asked_structures(None, ["Sex"], None, asked)
    assert error.value.code == "bad-sigma"
    for nothing in ([], ["~ Sex", 5], 5):
        with pytest.raises(ArgumentError, match="or a list of those to compare") as error:
            asked_structures(None, nothing, None, asked)
        assert error.value.code == "bad-sigma"
    crossed = ladder("distance ~ Sex", TEETH, ["Subject", "age"], None, {})
    assert asked_structures(None, "~ Sex", None, crossed).names == ("~ Sex",)
    assert asked_structures(None, "~ (1 | Subject)", None, crossed).names == ("~ (1 | Subject)",)


@pytest.mark.slow
def test_subjects_of_the_sleep_study_differ_in_their_residual_sd(tmp_path):
    """RESIDUALS.md, section 6: better by 24 elpd for new observations than one sd for all."""
    sleep = hp.datasets.load("sleepstudy")
    sigma = ["~ Days", "~ (1 | Subject)"]
    study = hp.study("Reaction ~ Days", sleep, "Subject", sigma=sigma, **HASTY)
    compared = study.residual_ladder
    table = compared.table
    assert compared.method == "ML"
    assert study.model.design.spec.residual.scale == "Subject"
    gain = table.loc["~ (1 | Subject)", "elpd_row"] - table.loc["independent", "elpd_row"]
    assert gain == pytest.approx(24, abs=1)
    assert "Residual structure: sigma ~ (1 | Subject)" in study.why
    assert "residual_sds" in study.figures()
    page = study.report(tmp_path / "page.html", style="full", progress=False).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "We recommend sd of each subject" in text
    assert "fitted by ML to 180 observations of 18 subjects, with Wald tests" in text
    assert "by REML" not in text
    assert "--sigma" in text


@pytest.mark.slow
def test_sds_beside_several_factors_on_the_command_line(tmp_path):
    pens = hp.datasets.load("Penicillin")
    pens["half"] = ["a", "b"] * (len(pens) // 2)
    pens.to_csv(tmp_path / "pens.csv", index=False)
    folder = tmp_path / "out"
    ran = run(
        "study", tmp_path / "pens.csv", "diameter ~ 1", "-g", "plate", "-g", "sample",
        "--sigma", "~ half", "--sigma", "~ sample", "--out", folder, "--draws", 300, "--chains", 2,
        "--seed", 1,
    )  # fmt: skip
    assert ran.exit_code == 0, ran.stderr
    assert "Residual structures (REML" in ran.stdout
    table = pd.read_csv(folder / "tables" / "residual_structures.csv")
    assert list(table["structure"])[:3] == ["independent", "~ half", "~ sample"]
    assert (folder / "figures" / "residual_sds.png").exists()


@pytest.fixture(scope="module")
def pens() -> pd.DataFrame:
    """Weights of 30 pigs in six pens over five weeks, with AR(1) residuals."""
    rng, rows = np.random.default_rng(5), []
    for pen in range(6):
        up = rng.normal(0, 1.5)
        for pig in range(5):
            own, e = rng.normal(), rng.normal()
            for week in range(5):
                e = 0.7 * e + rng.normal(0, 0.71)
                rows.append((f"pen{pen}", f"pig{pen}_{pig}", week, 20 + 3 * week + up + own + e))
    return pd.DataFrame(rows, columns=["pen", "pig", "week", "weight"])


def test_times_are_those_of_the_one_factor_whose_rows_they_tell_apart(pens):
    asked = ladder("weight ~ week", pens, ["pen", "pig"], None, {})
    assert asked_structures(["cs", "ar1"], None, None, asked).over == "week | pig"
    both = ladder("weight ~ week + age", pens.assign(age=pens["week"]), ["pen", "pig"], None, {})
    with pytest.raises(ArgumentError, match="week of each pig and age of each pig could be it"):
        asked_structures("ar1", None, None, both)


@pytest.mark.slow
def test_structures_beside_nested_factors(pens, tmp_path):
    study = hp.study("weight ~ week", pens, ["pen", "pig"], residual=["cs", "ar1"], **HASTY)
    assert study.recommended.endswith("ar1(week | pig)")
    table = study.residual_ladder.table
    assert table.loc["independent", "elpd_group_diff"] < -4
    page = study.report(tmp_path / "page.html", progress=False).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "We recommend AR(1) (random level of pens; level of pigs)" in text
    assert "both say that rows of one of the pigs share something" in text
