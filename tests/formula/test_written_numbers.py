"""Numbers and dates that came as text: named at once, and what the message says works when typed."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hierpool.core.errors import DataError
from hierpool.formula.build import build_design
from hierpool.formula.parse import parse
from tests.support.cases import each
from tests.support.tables import NOISE, N, small

NUMBERS = np.tile([0.5, 1, 2.25, 1403], 6)
TEXT = [f"{v:.2f}" for v in NUMBERS]


def table(**columns) -> pd.DataFrame:
    return small(**{"x": NUMBERS, **columns})


def built(formula, data):
    return build_design(parse(formula), data)


def raised(code, formula, data):
    with pytest.raises(DataError) as caught:
        built(formula, data)
    assert caught.value.code == code
    return caught.value.message


def typed(message, data):
    """The data after what the message says was typed."""
    statement = re.search(
        r"data\['\w+'\] = pandas\.\S+?\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", message
    )
    scope = {"data": data.copy(), "pandas": pd}
    exec(statement[0], scope)
    return scope["data"]


WRITTEN = {
    "points": (TEXT, "all 24 cells are numbers, e.g. '0.50', '1.00', '2.25'"),
    "whole numbers": (["0", "1", "2", "1403"] * 6, "all 24 cells are numbers"),
    "commas": ([v.replace(".", ",") for v in TEXT], "decimal commas, e.g. '0,50'"),
    "thousands": ([f"{v:,.2f}" for v in NUMBERS], "commas between thousands"),
    "both": (["0,5", "1,0", "2,25", "1.403,0"] * 6, "points between thousands"),
    "blanks": (["0,5", "1", "2,25", "1\u00a0403,0"] * 6, "thousands separated by blanks"),
    "percent": ([f"{v} %" for v in TEXT], "percent signs"),
    "around": ([f" {v}\u00a0" for v in TEXT], "blanks around them"),
    "minus": (["−0.5", "1", "2.25", "1403"] * 6, "minus signs"),
    "some are numbers": ([0.5, 1, 2.25, "1403"] * 6, "all 24 cells are numbers"),
    "some with commas": ([0.5, 1, "2,25", 1403] * 6, "decimal commas"),
    "whole with a stray cell": (["unknown", "1", "2", "1403", *["0", "1", "2", "1403"] * 5], ""),
}


@each("case", WRITTEN)
@each("name", ["x", "y"])
def test_numbers_written_as_text_are_an_error_whose_advice_reads_them(case, name):
    cells, words = WRITTEN[case]
    data = table(**{name: pd.Series((cells * 2)[:N], dtype=object)})
    message = raised("text-not-number", "y ~ x + (x | g)", data)
    assert f"column '{name}' is text" in message
    assert words in message
    read = typed(message, data)
    wanted = np.tile(NUMBERS[:4], 6)
    if "whole" in case:
        wanted = np.tile([0.0, 1, 2, 1403], 6)
    if case == "minus":
        wanted = np.tile([-0.5, 1, 2.25, 1403], 6)
    if "stray" in case:
        wanted[0] = np.nan
        assert "'unknown' in row 0" in message
    np.testing.assert_array_equal(read[name].to_numpy(float), wanted)
    assert (
        built("y ~ x", read if name == "x" else read.assign(x=NOISE)).n
        == N - np.isnan(wanted).sum()
    )


def test_stray_cells_are_named_by_the_users_rows():
    data = table(x=[*TEXT[:-2], "3 (late)", "<1"]).set_index(pd.Index(range(100, 100 + N)))
    message = raised("text-not-number", "y ~ x", data)
    assert "22 of 24 cells are numbers, and '3 (late)', '<1' in rows 122, 123 are not" in message
    assert "write C(x) in the formula" in message


def test_one_comma_may_part_thousands_and_both_readings_are_given():
    message = raised("text-not-number", "y ~ x", table(x=[f"1,{k:03d}" for k in range(N)]))
    assert "decimal commas (or with commas between thousands)" in message
    assert "str.replace(',', '.')) or, for thousands, data['x'] = pandas" in message


@pytest.mark.parametrize(
    "cells",
    [
        ["t1", "t2"],
        ["1st", "2nd"],
        ["low", "1"],
        ["yes", "no"],
        ["1-5", "6-10"],
        ["2010-11", "2011-12"],
    ],
    ids=str,
)
def test_labels_with_digits_are_categories(cells):
    assert f"x[T.{sorted(cells)[1]}]" in built("y ~ x", table(x=cells * 12)).terms


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_what_is_said_to_be_categories_stays_categories(frame):
    cells = ["0", "1", "2", "1403"] * 6
    assert "C(x)[T.1]" in built("y ~ C(x)", frame(table(x=cells).to_dict("list"))).terms
    assert (
        built("y ~ 1 + (1 | x)", frame(table(x=cells).to_dict("list"))).groupings["x"].n_levels == 4
    )
    assert "x[T.1]" in built("y ~ x", table(x=pd.Categorical(cells))).terms
    polars = pl.DataFrame({"y": NOISE}).with_columns(x=pl.Series(cells, dtype=pl.Categorical))
    assert "x[T.1]" in built("y ~ x", polars).terms


DATES = {
    "iso": ("%Y-%m-%d", "format='ISO8601')"),
    "points": ("%d.%m.%Y", "format='%d.%m.%Y')"),
    "words": ("%d-%b-%Y", "format='%d-%b-%Y')"),
    "slashes": ("%m/%d/%Y", "format='%m/%d/%Y')"),
}


@each("case", DATES)
@each("name", ["x", "y"])
def test_dates_written_as_text_are_an_error_whose_advice_reads_them(case, name):
    style, words = DATES[case]
    days = pd.Series(pd.date_range("2026-01-20", periods=N))
    data = table(**{name: days.dt.strftime(style)})
    message = raised("text-dates", "y ~ x + (x | g)", data)
    assert f"column '{name}' is text that holds dates" in message
    assert words in message
    assert (typed(message, data)[name] == days).all()


def test_dates_that_may_be_read_in_two_ways_are_not_guessed():
    cells = [f"{1 + k % 12:02d}/{1 + k % 5:02d}/2026" for k in range(N)]
    message = raised("text-dates", "y ~ x", table(x=cells))
    assert "the format is one of '%d/%m/%Y', '%m/%d/%Y'" in message


def test_a_second_heading_with_units_is_named_and_leaving_it_out_helps():
    data = table()[["y", "x", "g"]].astype(object)
    data = pd.concat(
        [pd.DataFrame({"y": ["ms"], "x": ["d"], "g": [None]}), data.astype({"y": str, "x": str})]
    )
    message = raised("unit-row", "y ~ x + (1 | g)", data)
    assert "row 0 holds 'ms' in 'y', 'd' in 'x'" in message
    scope = {"data": data}
    exec(re.search(r"data = data\.iloc\[1:\]\.astype\(\{.*?\}\)", message)[0], scope)
    np.testing.assert_array_equal(built("y ~ x + (1 | g)", scope["data"]).y, NOISE)


@pytest.mark.parametrize("cell", ["n/a", "?", "3 (late)"])
def test_a_first_cell_without_a_value_is_no_unit(cell):
    assert f"{cell!r} in row 0" in raised("text-not-number", "y ~ x", table(x=[cell, *TEXT[1:]]))
