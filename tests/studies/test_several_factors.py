"""Studies of several factors: nested or crossed is found, and every factor is answered for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError, FormulaError

QUICK = {"engine": "exact", "draws": 300, "seed": 1, "progress": False}


@pytest.fixture(scope="module")
def pastes():
    data = hp.datasets.load("Pastes")
    return hp.study("strength ~ 1", data, group=["batch", "sample"], **QUICK)


@pytest.fixture(scope="module")
def penicillin():
    data = hp.datasets.load("Penicillin")
    return hp.study("diameter ~ 1 + (1 | plate) + (1 | sample)", data, **QUICK)


def pupils(seed: int = 3) -> pd.DataFrame:
    """Pupils in classes in schools; the slope of x varies between schools, and only there."""
    rng = np.random.default_rng(seed)
    school = np.repeat(np.arange(14), 15)
    table = pd.DataFrame({"school": school, "class": np.repeat(np.arange(42), 5)})
    table["x"] = rng.standard_normal(210)
    slope = 1 + rng.standard_normal(14)[school]
    between = rng.standard_normal(14)[school] + 0.8 * rng.standard_normal(42)[table["class"]]
    table["y"] = between + slope * table["x"] + rng.standard_normal(210)
    return table


def test_nested_factors_are_found_and_said(pastes):
    assert pastes.groups == ("batch", "sample")
    assert "Samples are nested in batches." in pastes.answer
    assert "60 observations of 10 batches and 30 samples" in pastes.headline


def test_crossed_factors_are_found_and_said(penicillin):
    assert penicillin.groups == ("plate", "sample")
    assert "Plates are crossed with samples." in penicillin.answer


def test_numbers_are_those_of_lme4(pastes, penicillin):
    # lme4 1.1-35: lmer(strength ~ 1 + (1 | batch) + (1 | sample), Pastes), and Penicillin likewise
    sds = pastes.reml.variance_components()["estimate"].to_numpy()
    np.testing.assert_allclose(sds, [1.2874, 2.9041, 0.8234], atol=5e-4)
    sds = penicillin.reml.variance_components()["estimate"].to_numpy()
    np.testing.assert_allclose(sds, [0.8467, 1.9316, 0.5499], atol=5e-4)


def test_each_factor_is_varied_with_the_other_held(pastes, penicillin):
    both = "(1 | batch) + (1 | sample)"
    assert list(pastes.models) == [
        "complete_pooling", "(1 | sample)", "(1 | batch)", both, "no pooling of batch",
    ]  # fmt: skip
    assert list(penicillin.models)[-2:] == ["no pooling of plate", "no pooling of sample"]
    fixed = penicillin.blups["no pooling of sample"]
    assert len(fixed.fixed_effects()) == 6


def test_groups_of_each_factor_are_left_out_of_every_model_that_can_predict_new_ones(penicillin):
    assert list(penicillin.comparison_by_group) == ["plate", "sample"]
    by_sample = penicillin.comparison_by_group["sample"]
    assert set(by_sample.index) == set(penicillin.models) - {"no pooling of sample"}
    left = penicillin.design.groupings["sample"]
    for name in ("(1 | plate)", "complete_pooling"):  # they do not have the factor
        scored = penicillin.fits[name].loo(left)
        assert scored.n_data_points == 6
        assert by_sample.loc[name, "elpd"] == scored.elpd


def test_leaving_out_an_outer_group_removes_its_inner_ones(pastes):
    fit = pastes.fits["(1 | sample)"]
    left = pastes.design.groupings["batch"]
    density = fit.integrated.log_density_of_levels(fit.working_theta[:5], left)
    rest = [
        fit.integrated.without(np.flatnonzero(left.codes == k)).log_density(fit.working_theta[:5])
        for k in range(left.n_levels)
    ]
    expected = fit.integrated.log_density(fit.working_theta[:5]) - np.stack(rest)
    np.testing.assert_allclose(density, expected, atol=1e-9)


@pytest.mark.slow
def test_slope_is_kept_for_the_factor_over_which_it_varies():
    found = hp.study("y ~ x", pupils(), group=["school", "class"], **QUICK)
    assert found.recommended.endswith("(1 | `class`)")
    assert "x" in found.recommended.split("|")[0].split("(")[-1]
    assert found.advice.recommended == found.recommended
    assert "Classes are nested in schools." in found.answer


@pytest.mark.slow
def test_tables_pictures_and_report_speak_of_each_factor(penicillin, tmp_path):
    factors = set(penicillin.shrinkage.index.get_level_values("factor"))
    assert factors == {"plate", "sample"}
    assert "moves plate" in penicillin.answer
    assert "hardly changes the intercept of any sample" in penicillin.answer  # 24 rows each
    page = penicillin.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "24 plates and 6 samples" in page
    penicillin.save(tmp_path)
    drawn = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert {"shrinkage", "shrinkage_sample", "ladder", "ladder_sample"} <= drawn
    scored = penicillin.tables()["comparison_by_group"]
    assert set(scored.index.get_level_values("factor")) == {"plate", "sample"}


def test_only_the_factors_of_vary_are_varied():
    data = hp.datasets.load("Penicillin")
    formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    found = hp.study(formula, data, vary="plate", **QUICK)
    assert "(1 | plate)" not in found.models
    assert {"(1 | sample)", "no pooling of plate"} <= set(found.models)
    with pytest.raises(ArgumentError, match=r"vary='plat' is not among .* did you mean 'plate'"):
        hp.study(formula, data, vary="plat", **QUICK)


def test_formula_with_random_effects_of_one_factor_names_the_largest_model():
    sleep = hp.datasets.load("sleepstudy")
    found = hp.study("Reaction ~ Days + (1 | Subject)", sleep, **QUICK)
    assert list(found.models) == ["complete_pooling", "varying_intercept", "no_pooling"]
    assert found.recommended == "Reaction ~ Days + (1 | Subject)"


def test_groups_named_twice_differently_are_an_error():
    sleep = hp.datasets.load("sleepstudy")
    with pytest.raises(FormulaError, match="group= names 'Days'") as caught:
        hp.study("Reaction ~ 1 + (1 | Subject)", sleep, group="Days", **QUICK)
    assert caught.value.code == "bar-in-study"


def test_group_that_is_no_name_is_an_error_in_words():
    data = hp.datasets.load("Pastes")
    with pytest.raises(ArgumentError, match=r"one of them is 3\. Write group='school'") as caught:
        hp.study("strength ~ 1", data, group=["batch", 3])
    assert caught.value.code == "group-not-a-name"
