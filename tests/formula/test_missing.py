"""Rows that were left out are named in every later error, and merged cells are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import DataError
from hierpool.formula.build import build_design
from hierpool.formula.parse import parse
from tests.support.tables import NOISE, N, small


def raised(formula, data):
    with pytest.raises(DataError) as caught:
        build_design(parse(formula), data)
    return caught.value


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + g", "y ~ x + (1 | g/x)"])
def test_merged_cells_are_known_and_the_advice_fills_them(formula):
    data = small()
    data["g"] = data["g"].where(~data["g"].duplicated())
    error = raised(formula, data)
    assert error.code == "merged-cells"
    assert "18 of 24 rows have no" in error.message
    scope = {"data": data.copy()}
    exec("data['g'] = data['g'].ffill()", scope)
    assert "data['g'] = data['g'].ffill()" in error.message
    assert build_design(parse("y ~ x + (1 | g)"), scope["data"]).groupings["g"].n_levels == 6
    assert "data = data.dropna(subset=['g'])" in error.message
    assert "In the spreadsheet, unmerge the cells" in error.in_file
    assert "data[" not in error.in_file


def test_merged_numbers_of_groups_are_known_too():
    ids = pd.Series(np.repeat(np.arange(300.0, 306), 4))
    assert raised("y ~ x + (1 | g)", small(g=ids.where(~ids.duplicated()))).code == "merged-cells"


def test_labels_missing_here_and_there_are_no_merged_cells():
    rng = np.random.default_rng(3)
    data = small(g=small()["g"].where(rng.random(N) < 0.5))
    assert build_design(parse("y ~ 1 + (1 | g)"), data).n == data["g"].notna().sum()


LATER = {
    "few": ("y ~ x + k + m", {"k": NOISE**2, "m": NOISE**3}, "too-few-rows"),
    "levels": ("y ~ 1 + (1 | w)", {"w": np.arange(N)}, "levels-equal-rows"),
    "text": ("y ~ log(g)", {}, "text-not-number"),
    "infinite": ("y ~ w", {"w": np.inf}, "infinite-values"),
    "response": ("w ~ x", {"w": 1.5}, "constant-response"),
}


@pytest.mark.parametrize("case", LATER)
def test_later_errors_name_the_rows_left_out(case):
    formula, columns, code = LATER[case]
    data = small(**columns).assign(x=small()["x"].where(np.arange(N) < 4), w2=1)
    if "x" not in formula:
        formula += " + x" if "|" not in formula else " + (1 | w) + x"
    error = raised(formula.replace("(1 | w) + (1 | w)", "(1 | w)"), data)
    assert "Note: 20 of 24 rows left out because of missing values: 20 in 'x'" in error.message
    assert str(error).endswith(f"  [{error.code}]")
    assert error.code == code


def test_fit_counts_the_rows_that_were_left_out():
    data = small().astype({"x": float})
    data.loc[[2, 5], "x"] = None
    assert "22 of 24 rows, " in str(hp.Model("y ~ x + (1 | g)", data).reml())
    assert ", 24 rows, " in str(hp.Model("y ~ x + (1 | g)", small()).reml())
