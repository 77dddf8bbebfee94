"""Responses that a family cannot take are told with the user's own row, or without one."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hierpool as hp
from hierpool.answers.response_scale import ResponseScale
from hierpool.core.errors import DataError, HierpoolError, UnsupportedModelError
from hierpool.reml.families.parameters import FamilyParameters

LABELS = [f"visit {k}" for k in range(12)]


def table(**columns):
    own = {"g": list("aabbccddeeff"), "y": [0, 2, 1, 3, 1, 0, 2, 4, 1, 1, 0, 2], "n": 5, "e": 2.0e5}
    return pd.DataFrame({**own, **columns}, index=LABELS)


WRONG = {
    "'y' is -1 in row 'visit 0', which is negative": ("y ~ 1", "poisson", {"y": range(-1, 11)}),
    "'y' is 1e+16 in row 'visit 0', which is beyond": (
        "y ~ 1",
        "poisson",
        {"y": [1e16] + [1] * 11},
    ),
    "'y' is 3 of 2 trials in row 'visit 3': more": ("y / n ~ 1", "binomial", {"n": 2}),
    "trials is 0 in row 'visit 0', and must": ("y / n ~ 1", "binomial", {"n": 0}),
    "'y' is 0 in row 'visit 0'; 3 are zero": ("y ~ 1", "gamma", {}),
    "'y' is 0 in row 'visit 0'; percentages": ("y ~ 1", "beta", {}),
    "'y' is 300 in row 'visit 0'; measurements": ("y ~ 1", "beta", {"y": np.arange(300, 312)}),
    "data['n'] = 20, y / n": ("y / 20 ~ 1", "binomial", {}),
    "offset(e) is up to 2e+05": ("y ~ offset(e)", "poisson", {}),
}


@pytest.mark.parametrize("words", WRONG)
def test_the_row_is_named_as_the_index_has_it(words):
    formula, family, columns = WRONG[words]
    with pytest.raises(HierpoolError) as caught:
        hp.Model(f"{formula} + (1 | g)", table(**columns), family=family)
    assert words in str(caught.value)


def test_counts_of_rows_that_are_alike_name_no_row():
    lazy = pl.from_pandas(table(y=range(-1, 11))).lazy()
    with pytest.raises(DataError, match="'y' is -1 in some rows, which is negative"):
        hp.Model("y ~ 1 + (1 | g)", lazy, family="poisson")


def test_trials_are_a_column_and_an_array_is_not_printed():
    with pytest.raises(HierpoolError, match=r"trials= is a ndarray, and takes the name"):
        hp.Model("y ~ 1 + (1 | g)", table(), family="binomial", trials=np.full(12, 5))


def test_no_ratio_is_advised_where_there_is_none():
    model = hp.Model("y ~ n + (1 | g)", table(n=range(12)), family="student")
    with pytest.raises(UnsupportedModelError, match="Take compare='difference'"):
        ResponseScale.of(model.design, "response", "odds ratio")


def test_a_hurdle_without_zeros_is_at_its_limit():
    own = FamilyParameters(hp.families.HurdlePoisson())
    assert own.at_limit(np.array([1e-9])) == [
        (0, "there are no zeros, so that nothing is known of their share")
    ]
