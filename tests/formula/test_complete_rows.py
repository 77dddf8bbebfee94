"""A table is read once, and each text of a formula encoded once, for all models of a question."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.design import Design
from hierpool.core.errors import DataError
from hierpool.formula import complete_rows
from hierpool.formula.build import build_design, encode
from hierpool.formula.complete_rows import CompleteRows
from hierpool.formula.parse import parse
from hierpool.formula.pooling import ladder, question, read_rows
from hierpool.studies import ladder as of_study

RNG = np.random.default_rng(5)
N = 60
DATA = pd.DataFrame(
    {
        "weight": RNG.normal(50, 5, N),
        "time": np.tile(np.arange(6.0), 10),
        "sex": np.repeat(["f ", "f", "m", "m", "f"], 12),
        "feed": pd.Categorical(RNG.choice(["hay", "oats"], N), categories=["oats", "hay", "rye"]),
        "boar": np.repeat([f"b{i}" for i in range(10)], 6),
        "size": RNG.uniform(1, 2, N),
    }
)
DATA.loc[7, "time"] = np.nan


@pytest.fixture
def counted(monkeypatch):
    """How often a table was read, and which columns were encoded."""
    count: Counter[str] = Counter()
    read, learn = complete_rows.tables.select, complete_rows.learn

    def counting_read(*arguments):
        count["read"] += 1
        return read(*arguments)

    def counting_learn(columns, *arguments):
        count[columns.text] += 1
        return learn(columns, *arguments)

    monkeypatch.setattr(complete_rows.tables, "select", counting_read)
    monkeypatch.setattr(complete_rows, "learn", counting_learn)
    return count


ONCE = {"read": 1, "0 + weight": 1, "1 + time": 1, "1": 1, "0 + time": 1, "0": 1}


def test_a_ladder_reads_and_encodes_its_table_once(counted):
    hp.pooling_ladder("weight ~ time", DATA, "boar")
    assert counted == ONCE


def test_the_models_of_a_study_read_and_encode_their_table_once(counted):
    of_study.ladder("weight ~ time", DATA, "boar", None, {})
    assert counted == ONCE
    counted.clear()
    pens = DATA.assign(pen=np.arange(N) % 4)
    of_study.ladder("weight ~ time", pens, ["boar", "pen"], None, {})
    assert counted["read"] == 1
    assert counted["1 + time"] == 1


def test_a_varying_slope_reads_its_table_once(counted):
    hp.varying_slope("weight ~ time", DATA, "boar")
    assert counted["read"] == 1


def test_advice_reads_its_rows_once_and_once_more_for_the_means_of_levels(counted):
    model = hp.Model("weight ~ time + size + (time + size | boar)", DATA)
    counted.clear()
    advice = hp.advise(model, seed=1, draws=100)
    tried = len(advice.models) + 2  # the means of two predictors over the levels
    assert counted["read"] <= 3 < tried


def assert_equal_designs(one: Design, other: Design) -> None:
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert (one.spec, one.terms, one.predictors) == (other.spec, other.terms, other.predictors)
    assert (one.notices, one.label, one.dropped) == (other.notices, other.label, other.dropped)
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.offset, other.offset)
    assert one.groupings.keys() == other.groupings.keys()
    for mine, theirs in zip(one.groups, other.groups, strict=True):
        assert (mine.terms, mine.blocks, mine.dropped) == (
            theirs.terms,
            theirs.blocks,
            theirs.dropped,
        )
        np.testing.assert_array_equal(mine.Z, theirs.Z)
        np.testing.assert_array_equal(mine.population, theirs.population)
        assert list(mine.grouping.levels) == list(theirs.grouping.levels)
        np.testing.assert_array_equal(mine.grouping.codes, theirs.grouping.codes)


@pytest.mark.parametrize("right", ["time", "time + sex + feed", "sex * time + offset(size)", "1"])
def test_each_rung_is_what_it_is_alone(right):
    spec = question(f"weight ~ {right}", "size")
    for design in ladder(spec, read_rows(spec, DATA, "boar"), "boar").values():
        assert_equal_designs(design, build_design(design.spec, DATA))


@pytest.mark.parametrize(
    "formula", ["weight ~ time + (1 | boar)", "weight ~ 1 + (feed | boar)", "log(weight) ~ sex"]
)
def test_rows_serve_models_that_need_fewer_columns(formula):
    whole = parse("weight ~ time + sex + feed + (1 | boar)")
    rows = CompleteRows.from_table(whole, DATA)
    alone = build_design(parse(formula), DATA.dropna())
    design = encode(parse(formula), rows)
    dropped, *notices = design.notices
    assert dropped.code == "rows-dropped"
    assert [n for n in notices if n.code != "rows-dropped"] == list(alone.notices)
    pd.testing.assert_frame_equal(design.frame, alone.frame)
    np.testing.assert_array_equal(design.X, alone.X)


def test_labels_that_python_takes_for_equal_are_refused():
    data = pd.DataFrame({"y": RNG.normal(size=20), "g": pd.Series([1, True, 2, False] * 5)})
    with pytest.raises(DataError) as caught:
        hp.Model("y ~ (1 | g)", data)
    assert caught.value.code == "unusable-levels"
