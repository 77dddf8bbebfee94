"""Residuals of a table that is not in memory are checked in a sample, and the sample is named."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError
from hierpool.tables.engines import open_table
from hierpool.tables.sample import sample_rows

PER_GROUP, GROUPS = 10, 120


def table(curve=0.0):
    rng = np.random.default_rng(0)
    pig = np.repeat(np.arange(GROUPS), PER_GROUP)
    x = rng.normal(size=len(pig))
    y = 1 + x + curve * x**2 + rng.normal(size=GROUPS)[pig] + rng.normal(size=len(pig))
    return pd.DataFrame({"pig": pig, "x": x, "y": y, "five": pig % 5}).sample(
        frac=1, random_state=1
    )


def design(rows, group="pig"):
    return hp.Model(f"y ~ x + (1 | {group})", pl.from_pandas(rows).lazy()).design


def test_a_sample_is_of_whole_groups_and_the_same_for_one_seed():
    rows = table()
    lazy = open_table(pl.from_pandas(rows).lazy())
    own = design(rows)
    found = sample_rows(own, lazy, seed=1, most=305)
    assert found.words == "a random sample of 30 of 120 pigs (300 of 1,200 rows)"
    assert (found.frame["pig"].value_counts() == PER_GROUP).all()
    shuffled = open_table(pl.from_pandas(rows.sample(frac=1, random_state=7)).lazy())
    pd.testing.assert_frame_equal(sample_rows(own, shuffled, 1, 305).frame, found.frame)
    other = sample_rows(own, lazy, 2, 305).frame
    assert set(other["pig"]) != set(found.frame["pig"])
    merged = found.frame.merge(rows, on=["pig", "x", "y"])
    assert len(merged) == 300
    pytest.importorskip("duckdb")
    again = sample_rows(own, open_table(rows), 1, 305).frame
    np.testing.assert_array_equal(again["y"], found.frame["y"])


def test_rows_are_drawn_where_few_groups_are_the_table():
    rows = table()
    lazy = open_table(pl.from_pandas(rows).lazy())
    found = sample_rows(design(rows, "five"), lazy, seed=1, most=400)
    assert found.words == "a random sample of 400 of 1,200 rows"
    assert len(found.frame.drop_duplicates()) == 400
    assert set(found.frame["five"]) == set(range(5))
    every = sample_rows(design(rows, "five"), lazy, seed=1, most=2000)
    assert every.words == "all 1,200 rows"
    with pytest.raises(HierpoolError, match="other-table"):
        sample_rows(design(rows), open_table(pl.from_pandas(rows[:-1]).lazy()), seed=1)


@pytest.mark.slow
def test_a_curve_is_found_in_a_sample(monkeypatch):
    monkeypatch.setattr("hierpool.tables.sample.sample_rows.__defaults__", (500,))
    rows = table(curve=0.5)
    lazy = pl.from_pandas(rows).lazy()
    fit = hp.Model("y ~ x + (1 | pig)", lazy).reml()
    found = hp.check(fit, table=lazy, seed=4)
    size = "a random sample of 50 of 120 pigs (500 of 1,200 rows)"
    curve = next(f for f in found if f.code == "curvature")
    assert curve.text.startswith(f"In {size}: ")
    assert found.codes[-1] == "rows-checked-in-sample"
    assert f"{size}, after fitting the model to it by REML (seed 4)" in found[-1].text
    with pytest.raises(HierpoolError, match="table-not-needed"):
        hp.check(hp.Model("y ~ x + (1 | pig)", rows).reml(), table=lazy)
