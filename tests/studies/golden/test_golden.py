"""Nineteen kinds of table have a report that was read; fifteen have numbers as in R.

``<kind>.txt`` is the brief report as text; ``<kind>.json`` what R says of the recommended model. To
record a report again after a change of its words, and to see what changed:

    python -m tests.studies.golden.record [KIND ...] && git diff tests/studies/golden
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.answers.term_effects import term_effects
from tests.studies.golden.tables import FAMILIES, KINDS, Golden
from tests.studies.golden.words import differences, report_as_text

FOLDER = Path(__file__).parent
CLOSE = {"rtol": 2e-4, "atol": 1e-5}  # of both optimisers, in standard errors and sds

pytestmark = pytest.mark.slow
kinds = pytest.mark.parametrize("case", KINDS, ids=str)


@cache
def study_of(case_kind: str) -> hp.Study:
    return next(case for case in (*KINDS, *FAMILIES) if case.kind == case_kind).study()


@pytest.fixture
def reference(case: Golden) -> dict[str, Any]:
    return json.loads((FOLDER / f"{case.kind}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", [*KINDS, *FAMILIES], ids=str)
def test_report_says_what_was_read(case: Golden):
    kept = (FOLDER / f"{case.kind}.txt").read_text(encoding="utf-8")
    found = differences(report_as_text(study_of(case.kind)), kept)
    again = f"python -m tests.studies.golden.record {case.kind}"
    assert not found, "\n".join([f"To record it again: {again}", *found])


@kinds
def test_recommended_model_agrees_with_r(case: Golden, reference):
    study = study_of(case.kind)
    fixed = study.reml.fixed_effects(df="normal")
    names = [as_in_r(str(term)) for term in fixed.index]
    assert set(names) == set(reference["fixed"])
    se = np.array([reference["se"][name] for name in names])
    wanted = np.array([reference["fixed"][name] for name in names])
    np.testing.assert_allclose(fixed["estimate"] / se, wanted / se, **CLOSE)
    assert_spread_agrees(study.reml.variance_components()["estimate"], reference)


def assert_spread_agrees(made: pd.Series, reference: dict[str, Any]) -> None:
    """Standard deviations and correlations, and nothing that R does not have."""
    wanted = {}
    for row in reference["sds"]:
        factor = re.sub(r"\.\d+$", "", row["grp"])
        wanted[factor, row["var1"], row.get("var2") or ""] = row["sdcor"]
    if reference.get("sigma"):
        wanted["residual", "", ""] = reference["sigma"]
    found = {}
    for (factor, _, term, term2), value in made.items():
        where = ("residual", "", "") if factor == "residual" else None
        known = factor if any(key[0] == factor for key in wanted) else "all"
        found[where or (known, as_in_r(term), as_in_r(term2))] = value
    assert set(found) == set(wanted)
    scale = max(value for (_, _, second), value in wanted.items() if not second)
    for key, value in wanted.items():
        np.testing.assert_allclose(
            found[key], value, rtol=2e-4, atol=2e-5 * scale, err_msg=str(key)
        )


@kinds
def test_tests_of_terms_agree_with_r(case: Golden, reference):
    study = study_of(case.kind)
    if not reference["terms"]:
        assert list(study.design.terms) == ["Intercept"]
        return
    same = study.reml.df_method == reference["df_method"]  # golden.R says where it cannot be
    rtol = 1e-3 if same else 0.02
    found = term_effects(study.reml).groupby(level="term").first().rename(index=as_in_r)
    wanted = pd.DataFrame(reference["terms"]).set_index("term")
    assert set(found.index) == set(wanted.index)
    wanted = wanted.loc[found.index]
    np.testing.assert_array_equal(found["num_df"], wanted["df1"])
    np.testing.assert_allclose(found["den_df"], wanted["df2"], rtol=rtol)
    np.testing.assert_allclose(found["F"], wanted["F"], rtol=1e-3)
    np.testing.assert_allclose(np.log(found["p"]), np.log(wanted["p"]), rtol=rtol, atol=rtol)


def as_in_r(term: str) -> str:
    """A coefficient's name in R: ``fertiliser[T.lime]`` is ``fertiliserlime``; centred by hand there.

    Examples
    --------
    >>> as_in_r("Time:Diet[T.2]"), as_in_r("Intercept")
    ('Time:Diet2', '(Intercept)')
    """
    if term == "Intercept":
        return "(Intercept)"
    return re.sub(r"\[T\.(.*?)\]|center\((.*?)\)", lambda m: m[1] or m[2], term)
