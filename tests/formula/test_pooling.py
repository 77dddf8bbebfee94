"""Specs of the builders: formula, terms that vary, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hierpool.core.errors import ArgumentError, DataError, FormulaError
from hierpool.core.spec import GroupTerm
from hierpool.formula.build import build_design
from hierpool.formula.parse import parse
from hierpool.formula.pooling import (
    complete_pooling_spec,
    no_pooling_spec,
    read_rows,
    slopes_that_vary,
    varying_intercept_spec,
    varying_slope_spec,
)
from tests.support.cases import each

RNG = np.random.default_rng(3)
N = 30
DATA = pd.DataFrame(
    {
        "volume": RNG.normal(size=N),
        "time": np.tile([0.0, 1, 2, 3, 4], 6),
        "my dose": RNG.normal(size=N),
        "feed": RNG.choice(["hay", "oats", "rye"], N),
        "sex": np.repeat(["f", "m", "m", "f", "m", "f"], 5),
        "weight": np.repeat(RNG.normal(size=6), 5),
        "boar": np.repeat([f"boar {i}" for i in range(6)], 5),
        "my pen": np.repeat(list("abc"), 10),
    }
)


def slope(formula="volume ~ time", group="boar", **arguments):
    return varying_slope_spec(formula, read_rows(formula, DATA, group), group, **arguments)


def test_complete_pooling_has_no_group_terms():
    spec = complete_pooling_spec("volume~time")
    assert (spec.formula, spec.groups, spec.grouping) == ("volume ~ time", (), None)
    assert spec.pooling == "complete"


def test_complete_pooling_may_name_the_levels():
    spec = complete_pooling_spec("volume ~ time", "boar")
    assert (spec.formula, spec.grouping, spec.factors) == ("volume ~ time", "boar", ("boar",))


def test_no_pooling_is_written_as_lmlist_writes_it():
    spec = no_pooling_spec("volume ~ time + sex", "boar")
    assert spec.formula == "volume ~ time + sex | boar"
    assert spec.population == "0"
    assert spec.groups == (GroupTerm("1 + time + sex", "boar", "none"),)
    assert spec.pooling == "none"


def test_varying_intercept_is_the_formula_it_stands_for():
    spec = varying_intercept_spec("volume ~ time", "boar")
    assert spec == parse("volume ~ time + (1 | boar)")


@pytest.mark.parametrize(
    ("arguments", "formula"),
    [
        ({}, "volume ~ time + (time | boar)"),
        ({"correlated": False}, "volume ~ time + (time || boar)"),
        ({"intercept": False}, "volume ~ time + (0 + time | boar)"),
        ({"formula": "log(volume) ~ time"}, "log(volume) ~ time + (time | boar)"),
        ({"formula": "volume ~ 0 + time"}, "volume ~ 0 + time + (time | boar)"),
    ],
)
def test_varying_slope_is_the_formula_it_stands_for(arguments, formula):
    data = DATA.assign(volume=np.exp(DATA["volume"]))
    arguments = {"formula": "volume ~ time", **arguments}
    rows = read_rows(arguments["formula"], data, "boar")
    spec = varying_slope_spec(rows=rows, group="boar", **arguments)
    assert spec.formula == formula
    assert parse(spec.formula) == spec


@each(
    ("right", "vary"),
    [
        ("time + sex", "time"),
        ("time * sex", "time"),
        ("time + weight + feed", "time + feed"),
        ("time + I(time**2)", "time + I(time ** 2)"),
        ("time + `my dose`", "time + `my dose`"),
        ("center(time) + log(exp(`my dose`))", "center(time) + log(exp(`my dose`))"),
        ("feed * time", "feed + time + feed:time"),
        ("poly(time, 2)", "poly(time, 2)"),
    ],
)
def test_terms_that_say_something_new_within_levels_vary(right, vary):
    spec, rows = slope(f"volume ~ {right}"), read_rows(f"volume ~ {right}", DATA, "boar")
    assert spec.groups == (GroupTerm(f"1 + {vary}", "boar"),)
    assert slopes_that_vary(f"volume ~ {right}", rows, "boar") == tuple(vary.split(" + ")) or (
        "**" in vary
    )


@pytest.mark.parametrize(
    "slopes", ["I(time**2)", ["I( time ** 2 )"], "time + I(time**2)", ["time", "I(time**2)"]]
)
def test_slopes_are_picked_by_name_however_spaced(slopes):
    spec = slope("volume ~ time + I(time**2)", slopes=slopes)
    expected = "1 + I(time ** 2)" if "time +" not in slopes and len(slopes) != 2 else None
    assert spec.groups[0].columns == (expected or "1 + time + I(time ** 2)")


def test_slope_may_be_an_interaction():
    assert slope("volume ~ time * sex", slopes="time:sex").groups[0].columns == "1 + time:sex"


def test_term_that_is_constant_within_levels_may_be_asked_for():
    spec = slope("volume ~ time + weight", slopes=["time", "weight"])
    found = build_design(spec, DATA)
    assert "constant-within-levels" in [n.code for n in found.notices]


def test_group_with_spaces_is_written_in_backticks():
    spec = slope("volume ~ `my dose`", group="my pen")
    assert spec.formula == "volume ~ `my dose` + (`my dose` | `my pen`)"
    assert spec.groups[0].factor == "my pen"
    assert no_pooling_spec("volume ~ time", "my pen").formula == "volume ~ time | `my pen`"
    assert build_design(spec, DATA).group("my pen").terms == ("Intercept", "my dose")


@pytest.mark.parametrize(
    "build",
    [
        complete_pooling_spec,
        lambda f: no_pooling_spec(f, "boar"),
        lambda f: varying_intercept_spec(f, "boar"),
        lambda f: slope(f),
    ],
)
def test_bar_in_a_builder_is_refused(build):
    with pytest.raises(FormulaError, match=r"hp\.Model") as caught:
        build("volume ~ time + (1 | boar)")
    assert caught.value.code == "bar-in-builder"


@pytest.mark.parametrize("group", [None, "", ["boar"], 3])
def test_group_is_the_name_of_one_column(group):
    with pytest.raises(ArgumentError) as caught:
        varying_intercept_spec("volume ~ time", group)
    assert caught.value.code == "group-not-a-name"


@pytest.mark.parametrize("right", ["1", "sex", "weight + sex"])
def test_without_a_term_that_varies_the_varying_intercept_is_pointed_at(right):
    with pytest.raises(ArgumentError) as caught:
        slope(f"volume ~ {right}")
    assert caught.value.code == "no-varying-slope"
    assert f"volume ~ {right} + (1 | boar)" in str(caught.value)


def test_no_slopes_at_all_is_refused():
    with pytest.raises(ArgumentError) as caught:
        slope(slopes=[])
    assert caught.value.code == "no-varying-slope"


def test_unknown_slope_is_named_with_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean 'time'") as caught:
        slope(slopes="tyme")
    assert caught.value.code == "unknown-slope"


def test_missing_group_column_is_named():
    with pytest.raises(DataError, match="did you mean 'boar'") as caught:
        slope(group="bear")
    assert caught.value.code == "unknown-column"
