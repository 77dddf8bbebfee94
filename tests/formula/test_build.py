"""Spec and table to Design: agreement with hand-made matrices, and every bad input by name."""

from __future__ import annotations

import copy
import pickle
import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import hierpool as hp
from hierpool.core.errors import DataError, FormulaError
from hierpool.core.spec import GroupTerm, Spec
from hierpool.formula.aliasing import Span, own_columns
from hierpool.formula.build import build_design, read_frame
from hierpool.formula.parse import parse
from hierpool.formula.pooling import complete_pooling_spec, no_pooling_spec
from tests.support.cases import each
from tests.support.tables import FLAGS, NOISE, N, small

RNG = np.random.default_rng(21)


def design(formula, data=None, **columns):
    return build_design(parse(formula), small(**columns) if data is None else data)


def codes_of(found):
    return [n.code for n in found.notices]


def notice(found, code):
    (text,) = [n.text for n in found.notices if n.code == code]
    return text


def raised(code, formula, data=None, **columns):
    """Message of the DataError with this code."""
    with pytest.raises(DataError) as caught:
        design(formula, data, **columns)
    assert caught.value.code == code
    return caught.value.message


def edited(values, where, new):
    """A copy of the values with some replaced."""
    out = np.array(values, copy=True)
    out[where] = new
    return out


# --- agreement with matrices made by hand -------------------------------------------------------


def test_columns_are_those_made_by_hand():
    found = design("y ~ x * kind + flag + (x | g)")
    data = small()
    v = (data["kind"] == "v").to_numpy(float)
    x = data["x"].to_numpy()
    assert found.terms == ("Intercept", "x", "kind[T.v]", "flag", "x:kind[T.v]")
    expected = {
        "Intercept": np.ones(N),
        "x": x,
        "kind[T.v]": v,
        "flag": FLAGS.astype(float),
        "x:kind[T.v]": x * v,
    }
    for k, name in enumerate(found.terms):
        np.testing.assert_array_equal(found.X[:, k], expected[name])
    np.testing.assert_array_equal(found.y, NOISE)
    group = found.group("g")
    np.testing.assert_array_equal(group.Z, np.column_stack([np.ones(N), x]))
    assert list(group.grouping.levels) == list("abcdef")
    np.testing.assert_array_equal(group.grouping.codes, np.repeat([5, 4, 3, 2, 1, 0], 4))
    assert group.population.tolist() == [0, 1]
    assert found.predictors == ("x", "kind", "flag")
    assert list(found.frame.columns) == ["y", "x", "kind", "flag", "g"]


def test_functions_are_those_of_numpy():
    found = design("log(`y 2`) ~ I(x**2) + sqrt(z) + center(x) + np.exp(x)", **{"y 2": NOISE**2})
    data = small()
    x = data["x"].to_numpy()
    np.testing.assert_allclose(found.y, np.log(NOISE**2))
    expected = [np.ones(N), x**2, np.sqrt(data["z"]), x - 1.5, np.exp(x)]
    np.testing.assert_allclose(found.X, np.column_stack(expected))
    assert found.terms == ("Intercept", "I(x ** 2)", "sqrt(z)", "center(x)", "np.exp(x)")


def test_comparison_makes_zero_and_one():
    np.testing.assert_array_equal(
        design("y ~ I(z > 2)").X[:, 1], (small()["z"] > 2).to_numpy(float)
    )


def test_terms_of_one_factor_become_blocks_of_one_design():
    found = design("y ~ x + (1 | g) + (0 + x + z || g) + (1 | kind)")
    assert [g.factor for g in found.groups] == ["g", "kind"]
    group = found.group("g")
    assert group.terms == ("Intercept", "x", "z")
    assert [(b.start, b.stop, b.covariance.word) for b in group.blocks] == [
        (0, 1, "correlated"),
        (1, 3, "uncorrelated"),
    ]
    assert group.population.tolist() == [0, 1, -1]


def test_categorical_left_of_a_bar_is_coded_as_its_constant_says():
    with_constant = design("y ~ kind + (kind | g)").group("g")
    assert with_constant.terms == ("Intercept", "kind[T.v]")
    assert with_constant.population.tolist() == [0, 1]
    without = design("y ~ kind + (0 + kind | g)").group("g")
    assert without.terms == ("kind[u]", "kind[v]")
    assert without.population.tolist() == [-1, -1]


def test_nested_group_has_a_level_for_each_pair_with_rows():
    group = design("y ~ x + (1 | g/kind)").group("g:kind")
    data = small()
    pairs = data["g"] + ":" + data["kind"]
    assert list(group.grouping.levels) == sorted(pairs.unique())
    assert list(group.grouping.levels[group.grouping.codes]) == list(pairs)


def test_column_whose_name_has_a_colon_is_one_factor():
    found = design("y ~ x + (1 | `a:b`)", **{"a:b": small()["g"]})
    assert list(found.group("a:b").grouping.levels) == list("abcdef")


def test_category_order_is_kept_and_text_is_sorted():
    ordered = pd.Categorical(small()["g"], categories=list("fedcba"))
    found = design(
        "y ~ kind + (1 | g)", g=ordered, kind=pd.Categorical(small()["kind"], ["v", "u"])
    )
    assert list(found.groupings["g"].levels) == list("fedcba")
    assert found.terms[1] == "kind[T.u]"


def test_complete_pooling_knows_the_levels_it_does_not_use():
    found = build_design(complete_pooling_spec("y ~ x", "g"), small())
    assert found.groups == ()
    assert list(found.groupings["g"].levels) == list("abcdef")
    assert "g" in found.frame


def test_label_comes_with_the_data():
    data = small()
    data.attrs["hierpool"] = {"label": "boars (simulated)"}
    assert design("y ~ x", data).label == "boars (simulated)"
    assert design("y ~ x").label == ""


def test_user_index_is_kept_and_data_are_not_changed():
    data = small(x=edited(small()["x"], 3, np.nan))
    data.index = pd.Index([f"row {i}" for i in range(N)])
    before = data.copy(deep=True)
    found = design("y ~ log1p(x) + (1 | g)", data)
    pd.testing.assert_frame_equal(data, before)
    assert list(found.rows) == [f"row {i}" for i in range(N) if i != 3]
    assert list(found.frame.index) == list(found.rows)


def test_whole_number_columns_do_not_overflow():
    big = (np.arange(N) % 7 + 100).astype(np.int8)
    np.testing.assert_array_equal(design("y ~ I(w**3)", w=big).X[:, 1], big.astype(float) ** 3)


# --- dtypes and libraries -----------------------------------------------------------------------

NUMBERS = np.tile([1.0, 2, 3, 4], 6)
AS_NUMBERS = {
    "int8": NUMBERS.astype("int8"),
    "Int64": pd.array(NUMBERS, dtype="Int64"),
    "Float64": pd.array(NUMBERS, dtype="Float64"),
    "object": pd.Series(list(NUMBERS), dtype=object),
    "sparse": pd.arrays.SparseArray(NUMBERS),
    "arrow": pd.array(NUMBERS.astype(int), dtype="int64[pyarrow]"),
}
AS_TEXT = {
    "object": pd.Series(["q", "r", "r", "s"] * 6, dtype=object),
    "string": pd.array(["q", "r", "r", "s"] * 6, dtype="string"),
    "category": pd.Categorical(["q", "r", "r", "s"] * 6),
    "arrow": pd.array(["q", "r", "r", "s"] * 6, dtype="string[pyarrow]"),
}


@pytest.mark.parametrize("dtype", AS_NUMBERS)
def test_number_of_any_dtype_is_a_number(dtype):
    found = design("y ~ w + (w | g)", w=AS_NUMBERS[dtype])
    np.testing.assert_array_equal(found.X[:, 1], NUMBERS)


@pytest.mark.parametrize("dtype", AS_TEXT)
def test_text_of_any_dtype_is_a_category_and_a_group(dtype):
    found = design("y ~ w + (1 | h)", w=AS_TEXT[dtype], h=AS_TEXT[dtype])
    assert found.terms == ("Intercept", "w[T.r]", "w[T.s]")
    assert list(found.groupings["h"].levels) == ["q", "r", "s"]
    assert all(type(level) is str for level in found.groupings["h"].levels)


@pytest.mark.parametrize("dtype", [bool, "boolean", object])
def test_boolean_predictor_is_zero_and_one(dtype):
    found = design("y ~ w", w=pd.Series(FLAGS).astype(dtype))
    assert found.terms == ("Intercept", "w")
    np.testing.assert_array_equal(found.X[:, 1], FLAGS.astype(float))


LEVELS = {
    "integers": ([308, 12, 7], [7, 12, 308]),
    "words with spaces, quotes and letters of the world": (
        ["it's", 'say "hi"', "größe 日本"],
        ["größe 日本", "it's", 'say "hi"'],
    ),
    "mixed": ([2, "b", "a"], [2, "a", "b"]),
    "booleans": ([True, False, True], [False, True]),
    "floats": ([1.5, 0.5, 2.5], [0.5, 1.5, 2.5]),
}


@pytest.mark.parametrize("case", LEVELS)
def test_levels_keep_their_labels(case):
    given, expected = LEVELS[case]
    found = design("y ~ x + (1 | h)", h=pd.Series(given * 8, dtype=object))
    assert list(found.groupings["h"].levels) == expected


def test_dates_are_levels_in_order_and_stay_timestamps():
    levels = design("y ~ x + (1 | day)").groupings["day"].levels
    assert list(levels) == list(pd.date_range("2021-05-01", periods=6))
    as_dates = design("y ~ x + (1 | day)", day=[d.date() for d in small()["day"]])
    assert as_dates.groupings["day"].levels.equals(levels)


def _polars():
    return pl.from_pandas(small()).with_columns(pl.col("g").cast(pl.Enum(list("fedcba"))))


FRAMES = {
    "polars": _polars,
    "arrow": lambda: pa.Table.from_pandas(small()),
    "dict": lambda: small().to_dict("list"),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_any_table_gives_the_same_design(kind):
    formula = "y ~ x + kind + flag + (x | g) + (1 | day)"
    found, expected = design(formula, FRAMES[kind]()), design(formula)
    assert found.terms == expected.terms
    np.testing.assert_array_equal(found.X, expected.X)
    assert list(found.groupings["day"].levels) == list(expected.groupings["day"].levels)
    order = list("fedcba") if "polars" in kind else list("abcdef")
    assert list(found.groupings["g"].levels) == order


def test_null_of_polars_is_a_missing_value():
    data = pl.from_pandas(small()).with_columns(
        x=pl.when(pl.col("x") > 2).then(None).otherwise(pl.col("x")),
        flag=pl.when(pl.col("x") < 1).then(None).otherwise(pl.col("flag")),
    )
    assert notice(design("y ~ x + flag", data), "rows-dropped").startswith("12 of 24 rows")


def test_columns_with_numbers_for_names_are_found_in_backticks():
    found = design("y ~ `3` + (1 | `7`)", small().rename(columns={"x": 3, "g": 7}))
    assert found.terms == ("Intercept", "3")
    assert list(found.groupings["7"].levels) == list("abcdef")


def test_any_name_works_in_backticks_inside_functions_too():
    names = ["it's", 'a"b', "a{b", "x y", "x_y", "lambda", "np", "log", "a.b", "_x", "日本", "50%"]
    columns = {name: RNG.normal(size=N) for name in names}
    formula = "y ~ " + " + ".join(f"center(`{n}`)" for n in names)
    found = design(formula, **columns)
    for k, name in enumerate(names, start=1):
        np.testing.assert_allclose(found.X[:, k], columns[name] - columns[name].mean())
    new = small(**columns).iloc[[5, 2]]
    np.testing.assert_array_equal(found.encoder.encode(new).X, found.X[[5, 2]])


# --- what is told ------------------------------------------------------------------------------


def test_rows_with_missing_values_are_counted_and_named_once():
    data = small(
        y=edited(NOISE, [4, 16], np.nan),
        x=edited(small()["x"], [4, 5], np.nan),
        g=small()["g"].where(np.arange(N) != 22),
        unused=np.nan,
    )
    found = design("y ~ x + (x | g)", data)
    assert found.n == N - 4
    assert notice(found, "rows-dropped") == (
        "4 of 24 rows left out because of missing values: 2 in 'y', 2 in 'x', 1 in group 'g' "
        "(rows 4, 5, 16, 22)"
    )
    assert [n.severity for n in found.notices] == ["warning"]


def test_unused_categories_are_named():
    g = pd.Categorical(small()["g"], categories=list("fedcbaqr"))
    found = design("y ~ x + (1 | g)", g=g)
    assert notice(found, "unused-categories") == (
        "2 categories of 'g' have no rows and are left out: 'q', 'r'"
    )
    emptied = design("y ~ x + (1 | g)", g=g, x=edited(small()["x"], range(4), np.nan))
    assert notice(emptied, "unused-categories").endswith("'f', 'q', 'r'")


def test_levels_with_one_row_are_counted_and_named():
    found = design("y ~ x + (1 | h)", h=["only"] + ["a", "b"] * 11 + ["c"])
    assert notice(found, "levels-with-one-row") == "2 of 4 groups of 'h' have one row: 'c', 'only'"


def test_predictor_that_is_constant_within_levels_may_vary_and_is_named():
    found = design("y ~ x + (z | g)")
    assert "'z' does not vary within the groups of 'g'" in notice(found, "constant-within-levels")
    assert "constant-within-levels" not in codes_of(design("y ~ x + (x | g)"))


def test_as_many_coefficients_as_rows_is_a_warning():
    found = design("y ~ x + (x + z + flag + kind | g)")
    assert "30 coefficients (6 groups, 5 each) for 24 rows" in notice(found, "many-coefficients")


def test_clean_data_leave_no_notice():
    assert design("y ~ x + (x | g)").notices == ()


# --- no pooling --------------------------------------------------------------------------------


def test_no_pooling_keeps_common_what_levels_cannot_have_as_their_own():
    found = build_design(no_pooling_spec("y ~ x * z + flag", "g"), small())
    group = found.group("g")
    assert group.terms == ("Intercept", "x", "flag")
    assert found.terms == ("z", "x:z")
    assert group.population.tolist() == [-1, -1, -1]
    assert [b.covariance.word for b in group.blocks] == ["none"]
    assert "'z', 'x:z' cannot be estimated within the groups of 'g'" in notice(
        found, "common-coefficient"
    )
    data = small()
    np.testing.assert_array_equal(found.X, np.column_stack([data["z"], data["x"] * data["z"]]))


def test_no_pooling_may_leave_no_population_column():
    found = build_design(no_pooling_spec("y ~ x", "g"), small())
    assert found.X.shape == (N, 0)
    assert found.terms == ()


def test_levels_that_do_not_tell_their_slope_are_named():
    x = edited(small()["x"], range(4), 2.0)
    g = edited(small()["g"], 23, "alone")
    found = build_design(no_pooling_spec("y ~ x", "g"), small(x=x, g=g))
    assert "1 group of 'g' with several rows does not identify" in notice(found, "own-from-prior")
    assert notice(found, "own-from-prior").endswith("its prior alone: 'f'")
    assert notice(found, "levels-with-one-row").endswith("'alone'")


def test_own_columns_are_found_far_from_zero():
    codes = np.repeat([0, 1, 2], 4)
    x = 1e9 + np.tile([0.0, 1e-3, 2e-3, 3e-3], 3)
    z = 1e9 + np.repeat([0.0, 1e-3, 5e-3], 4)
    X = np.column_stack([np.ones(12), z, x, 3 * x - 2 * z])
    assert own_columns(X, codes, 3).columns == (0, 2)


def test_own_columns_agree_with_the_rank_of_each_level():
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(5), [1, 2, 3, 4, 9])
    X = rng.integers(0, 2, size=(19, 5)).astype(float)
    X[:, 0] = 1
    own = own_columns(X, codes, 5)
    chosen = X[:, list(own.columns)]
    for j in range(5):
        assert own.estimable[j].sum() == np.linalg.matrix_rank(chosen[codes == j])
    np.testing.assert_array_equal(own.inestimable, 5 - own.estimable.sum(axis=0))


# --- bad input, one by one -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ X + (1 | g)", "column 'X' is not in the data; did you mean 'x'?"),
        ("Y ~ x", "column 'Y' is not in the data; did you mean 'y'?"),
        ("y ~ x + (x | gg)", "column 'gg' is not in the data; did you mean 'g'?"),
        ("y ~ log(xx)", "column 'xx' is not in the data; did you mean 'x'?"),
        ("y ~ x + (1 | g:kidn)", "column 'kidn' is not in the data; did you mean 'kind'?"),
    ],
)
def test_missing_column_is_named_with_the_nearest(formula, words):
    assert raised("unknown-column", formula) == words


def test_group_in_the_index_is_pointed_at():
    assert "data.reset_index()" in raised("unknown-column", "y ~ (1 | g)", small().set_index("g"))


def test_infinite_value_is_named_with_its_rows():
    message = raised("infinite-values", "y ~ x", x=edited(small()["x"], [3, 9], np.inf))
    assert message.startswith("column 'x' is infinite in rows 3, 9;")


def test_infinite_response_is_named():
    assert "'y'" in raised("infinite-values", "y ~ x", y=edited(NOISE, 0, -np.inf))


@pytest.mark.parametrize("formula", ["y ~ log(x)", "y ~ x + (log(x) | g)", "log(x) ~ z"])
def test_infinite_value_of_a_function_is_named_with_its_rows(formula):
    message = raised("infinite-values", formula)
    assert message.startswith("'log(x)' is not a finite number (-inf) in rows 0, 4, 8")


def test_undefined_value_of_a_function_is_no_missing_value():
    message = raised("infinite-values", "y ~ sqrt(w)", w=edited(small()["z"], 5, -1.0))
    assert message.startswith("'sqrt(w)' is not a finite number (nan) in row 5")


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (1 | g:g)"])
def test_group_with_one_level_is_refused(formula):
    assert "only one group, " in raised("one-level", formula, g="all")


def test_group_with_one_level_is_refused_for_complete_pooling_too():
    with pytest.raises(DataError, match="only one group") as caught:
        build_design(complete_pooling_spec("y ~ x", "g"), small(g="all"))
    assert caught.value.code == "one-level"


@pytest.mark.parametrize("spec", [parse("y ~ x + (1 | g)"), no_pooling_spec("y ~ x", "g")])
def test_as_many_levels_as_rows_is_refused(spec):
    with pytest.raises(DataError, match=r"has one row only \(24 rows\)") as caught:
        build_design(spec, small(g=range(N)))
    assert caught.value.code == "levels-equal-rows"


RESPONSES = {
    "text": (small()["g"], "text-not-number", "it holds e.g. 'f', 'e', 'd'"),
    "mostly numbers": (
        [*map(str, NOISE[:-2]), "n/a", "?"],
        "text-not-number",
        "22 of 24 cells are numbers, and 'n/a', '?' in rows 22, 23 are not",
    ),
    "numbers as text": (list(map(str, NOISE)), "text-not-number", "pandas.to_numeric(data['y'])"),
    "decimal commas": (
        [str(v).replace(".", ",") for v in NOISE],
        "text-not-number",
        "data['y'].str.replace(',', '.')",
    ),
    "category": (pd.Categorical(small()["g"]), "text-not-number", "text or categories"),
    "complex": (NOISE * 1j, "text-not-number", "must be a number"),
    "boolean": (FLAGS, "boolean-response", "data['y'].astype(float)"),
    "dates": (small()["day"], "time-not-number", "data['days'] = (data['y'] - data['y'].min())"),
    "constant": (1.5, "constant-response", "'y' is 1.5 in each of the 24 rows"),
}


@each("case", RESPONSES)
def test_response_must_be_a_number_that_varies(case):
    y, code, words = RESPONSES[case]
    assert words in raised(code, "y ~ x", y=y)


def test_response_is_one_column():
    assert "makes 2 columns" in raised("many-responses", "poly(y, 2) ~ x")


@pytest.mark.parametrize("formula", ["y ~ day", "y ~ I(day)", "y ~ C(day)", "y ~ x + (day | g)"])
def test_dates_are_no_predictor(formula):
    assert "data['days'] = (data['day'] - data['day'].min()).dt.days" in raised(
        "time-not-number", formula
    )


def test_time_spans_are_no_predictor():
    raised("time-not-number", "y ~ w", w=small()["day"] - small()["day"].min())


@pytest.mark.parametrize(
    "formula", ["y ~ log(kind)", "y ~ I(kind * 2)", "y ~ x + (center(kind)|g)"]
)
def test_function_of_text_is_refused(formula):
    assert "column 'kind' is text" in raised("text-not-number", formula)


def test_column_of_numbers_and_text_is_refused_as_predictor():
    assert "astype(str)" in raised("mixed-column", "y ~ w", w=[1, "a"] * 12)


def test_duplicated_column_is_refused_where_it_is_used():
    data = pd.concat([small(), small()[["x"]]], axis=1)
    assert "2 columns of the data are called 'x'" in raised("duplicated-column", "y ~ x", data)
    assert design("y ~ z", data).n == N


def test_columns_with_levels_of_names_are_refused():
    data = pd.concat({"a": small()}, axis=1)
    assert "'_'.join(c)" in raised("columns-with-levels", "y ~ x", data)


def test_empty_table_is_refused():
    assert "no rows" in raised("no-rows", "y ~ x", small().iloc[:0])


def test_nothing_left_without_missing_values_is_refused():
    assert "(24 in 'w')" in raised("no-rows", "y ~ w", w=np.nan)
    halves = {"v": np.where(FLAGS, np.nan, 1.0), "w": np.where(FLAGS, 1.0, np.nan)}
    assert "no rows are left" in raised("no-rows", "y ~ v + w", **halves)


@pytest.mark.parametrize("data", [[1, 2], np.eye(3), pd.Series([1.0]), "y", {"y": 1, "x": 2}])
def test_what_is_no_table_is_refused(data):
    raised("not-a-table", "y ~ x", data)


def test_dict_of_unequal_columns_is_refused():
    assert "same length" in raised("not-a-table", "y ~ x", {"y": [1.0, 2], "x": [1.0]})


@pytest.mark.parametrize(
    ("formula", "columns"),
    [
        ("y ~ w", {"w": "same"}),
        ("y ~ C(w)", {"w": 3}),
        ("y ~ w", {"w": pd.Categorical(["a"] * N, categories=["a", "b"])}),
        ("y ~ 0 + w", {"w": 0.0}),
        ("y ~ x + (0 + w | g)", {"w": 0.0}),
    ],
)
def test_predictor_without_variation_is_named_where_nothing_is_left_of_it(formula, columns):
    message = raised("constant-predictor", formula, **columns)
    assert "in every row that is used" in message
    assert "w" in message


def dropped(made):
    """Names of the columns that a design dropped, and the words of its notices."""
    said = [f.text for f in made.notices if f.code == "columns-dropped"]
    names = [*made.dropped, *(t for g in made.groups for t in g.dropped)]
    assert bool(said) == bool(names)
    return names, " ".join(said)


@pytest.mark.parametrize(
    ("formula", "columns", "terms", "words"),
    [
        ("y ~ w", {"w": 7.0}, ("Intercept",), "'w' (7 in every row)"),
        ("y ~ w + x", {"w": 0}, ("Intercept", "x"), "'w' (0 in every row)"),
        ("y ~ x:w", {"w": 0}, ("Intercept",), "'x:w' (0 in every row)"),
        ("y ~ 0 + x + w", {"w": 0}, ("x",), "'w' (0 in every row)"),
    ],
)
def test_column_without_variation_is_dropped_and_named(formula, columns, terms, words):
    made = design(formula, **columns)
    assert made.terms == terms
    assert words in dropped(made)[1]


def test_column_without_variation_is_dropped_from_what_varies():
    made = design("y ~ x + (w | g)", w=7.0)
    assert made.groups[0].terms == ("Intercept",)
    assert dropped(made) == (
        ["w"],
        "1 column of (w | g) cannot be estimated from these data and is dropped: "
        "'w' (7 in every row)",
    )


def test_predictor_that_lost_its_variation_with_missing_rows_is_dropped():
    w = np.r_[np.zeros(N - 4), np.ones(4)]
    x = edited(small()["x"], range(N - 4, N), np.nan)
    assert design("y ~ w + x", w=w, x=x).terms == ("Intercept", "x")


def test_constant_column_alone_takes_the_place_of_the_intercept():
    assert design("y ~ 0 + w", w=5.0).terms == ("w",)


@pytest.mark.parametrize(
    ("formula", "columns", "names", "words"),
    [
        ("y ~ x + w", {"w": 2 * small()["x"] + 3}, ["w"], "'w' (a combination of 'x')"),
        (
            "y ~ x + z + w",
            {"w": small()["x"] - 2 * small()["z"]},
            ["w"],
            "(a combination of 'x', 'z')",
        ),
        ("y ~ w + x", {"w": 1e9 + small()["x"]}, ["x"], "'x' (a combination of 'w')"),
        ("y ~ 0 + kind + w", {"w": small()["kind"]}, ["w[T.v]"], "(a combination of 'kind[v]')"),
        ("y ~ 0 + w + kind", {"w": 5.0}, ["kind[v]"], "(a combination of 'w', 'kind[u]')"),
        ("y ~ z + (x + w | g)", {"w": 3 * small()["x"]}, ["w"], "of (x + w | g)"),
        ("y ~ cr(z, df=3)", {}, ["cr(z, df=3)[3]"], "'cr(z, df=3)[3]' (a combination of"),
    ],
)
def test_later_of_collinear_columns_is_dropped_and_named(formula, columns, names, words):
    found, said = dropped(design(formula, **columns))
    assert found == names
    assert words in said


def test_dropped_spline_says_how_to_centre_it():
    (notice,) = design("y ~ cr(z, df=3)").notices
    assert "constraints='center'" in notice.meaning
    assert design("y ~ cr(z, df=3, constraints='center')").dropped == ()


def test_double_bar_keeps_a_combination_which_has_a_variance_of_its_own():
    w = 3 * small()["x"] + 1
    assert design("y ~ z + (x + w || g)", w=w).groups[0].terms == ("Intercept", "x", "w")
    assert design("y ~ z + (x + w | g)", w=w).groups[0].dropped == ("w",)
    made = design("y ~ x + w + (x + w || g)", w=3 * small()["x"])
    assert dropped(made)[0] == ["w", "w"]
    assert "1 column of the fixed effects and (x + w || g) cannot" in dropped(made)[1]


def greedy(X):
    """Columns that raise the rank of those before them."""
    ranks = [0, *(np.linalg.matrix_rank(X[:, : k + 1]) for k in range(X.shape[1]))]
    return tuple(np.flatnonzero(np.diff(ranks)).tolist())


def test_kept_columns_are_those_that_raise_the_rank_of_the_ones_before_them():
    rng = np.random.default_rng(1)
    for _ in range(300):
        X = rng.integers(-1, 2, size=(rng.integers(2, 9), 5)).astype(float)
        X[:, :2] = np.abs(X[:, :2]) if rng.random() < 0.5 else X[:, :2]
        X[:, rng.integers(5)] = rng.integers(0, 2)
        span = Span.of(X)
        assert span.kept == greedy(X)
        if span.dropped:
            np.testing.assert_allclose(X @ span.null_space, 0, atol=1e-12)
            assert np.linalg.matrix_rank(span.null_space) == len(span.dropped)
            assert span.beyond(X, "abcde").is_estimable.all()


def test_row_is_estimable_exactly_where_it_is_a_combination_of_rows():
    rng, found = np.random.default_rng(2), []
    for _ in range(300):
        X = rng.integers(-1, 2, size=(7, 5)).astype(float)
        X[:, rng.integers(5)] = X[:, rng.integers(5)] - rng.integers(0, 2)
        span, row = Span.of(X), rng.integers(-1, 2, size=(1, 5)).astype(float)
        if not span.dropped:
            continue
        inside = np.linalg.matrix_rank(np.r_[X, row]) == len(span.kept)
        assert span.beyond(row, "abcde").is_estimable == [inside]
        found.append(inside)
    assert 20 < sum(found) < len(found) - 20


@each("size", [1e-12, 1, 1e12])
@each("offset", [0, 1e6, 1e9])
def test_estimability_is_judged_by_the_steps_of_a_predictor(size, offset):
    x = size * (offset + small()["x"].to_numpy())
    X = np.c_[np.ones(N), x, 3 * x + size]
    span = Span.of(X)
    assert span.kept == (0, 1)
    new = np.array([[1, size * (offset + v), 3 * size * (offset + v) + size] for v in (-7, 0.5)])
    off = new + np.array([0, 0, 0.1 * size])
    assert span.beyond(new, "abc").is_estimable.tolist() == [True, True]
    assert span.beyond(off, "abc").is_estimable.tolist() == [False, False]


def test_more_coefficients_than_rows_is_refused():
    assert "24 rows and 24 coefficients" in raised(
        "too-few-rows", "y ~ w", w=[f"id {i}" for i in range(N)]
    )
    assert "there are 2 rows and 2 coefficients" in raised(
        "too-few-rows", "y ~ x", small().iloc[:2]
    )


def test_thousands_of_categories_are_refused_before_they_fill_the_memory():
    n = 4000
    data = pd.DataFrame({"y": RNG.normal(size=n), "w": [f"w{k // 2}" for k in range(n)]})
    assert "(1 | w)" in raised("too-many-categories", "y ~ w", data)


def test_predictor_called_as_the_intercept_is_refused():
    raised("repeated-term", "y ~ Intercept", Intercept=small()["x"])


@pytest.mark.parametrize("formula", ["y ~ x + (x | g) + (1 | g)", "y ~ x + (x || g) + (0 + x | g)"])
def test_column_that_varies_twice_is_named(formula):
    message = raised("repeated-group-column", formula)
    assert "varies twice over 'g', in (x" in message


@pytest.mark.parametrize(
    "formula", ["y ~ g + (1 | g)", "y ~ C(z) + (1 | z)", "y ~ x + (kind | kind)"]
)
def test_group_that_is_a_categorical_predictor_is_refused(formula):
    raised("group-as-predictor", formula)


def test_group_may_be_a_number_among_the_predictors():
    assert design("y ~ z + (1 | z)").terms == ("Intercept", "z")


def test_spline_outside_its_rules_says_what_happened():
    assert "cannot be evaluated" in raised("cannot-evaluate", "y ~ bs(x, df=1)")


def test_levels_that_leave_categories_out_are_refused():
    assert "levels=" in raised("unseen-category", "y ~ x + C(kind, levels=['u'])")


@pytest.mark.parametrize("name", ["beta", "sigma", "term", "chain", "draw", "obs"])
def test_group_with_a_reserved_name_is_refused_and_a_predictor_is_not(name):
    message = raised("reserved-name", f"y ~ x + (1 | {name})", **{name: small()["g"]})
    assert f"data.rename(columns={{'{name}': '{name}_group'}})" in message
    assert design(f"y ~ {name} + (1 | g)", **{name: small()["x"]}).terms[1] == name


@pytest.mark.parametrize(
    ("first", "second"), [("h", "h_term"), ("h", "h_term2"), ("u_h", "h"), ("sd_h", "h")]
)
def test_two_groups_whose_names_meet_are_refused(first, second):
    columns = {first: small()["g"], second: small()["kind"]}
    raised("reserved-name", f"y ~ x + (1 | {first}) + (1 | {second})", **columns)
    assert design(f"y ~ x + (1 | {first})", **columns).group(first).factor == first


def test_group_with_a_slash_in_its_name_is_refused():
    assert "'a_b'" in raised("reserved-name", "y ~ x + (1 | `a/b`)", **{"a/b": small()["g"]})


def test_group_of_things_that_cannot_be_told_apart_is_refused():
    raised("unusable-levels", "y ~ x + (1 | h)", h=pd.Series([[1], [2]] * 12))


def test_level_labels_that_run_together_are_refused():
    raised("unusable-levels", "y ~ x + (1 | h:k)", h=["a:b", "a"] * 12, k=["c", "b:c"] * 12)


def test_a_spec_made_by_hand_is_read_as_strictly(tmp_path):
    mark = tmp_path / "ran"
    attack = f'1 + I(__import__("os").system("touch {mark}"))'
    for spec in (
        Spec("f", "y", attack),
        Spec("f", "y", "1", (GroupTerm(attack, "g"),)),
        Spec("f", attack.removeprefix("1 + "), "1"),
    ):
        with pytest.raises(FormulaError):
            build_design(spec, small())
    assert not mark.exists()


# --- new data ------------------------------------------------------------------------------------

FITTED = "y ~ center(x) * kind + C(z) + flag + (center(x) | g) + (1 | g:kind) + (1 | day)"


@pytest.fixture(scope="module")
def fitted():
    return design(FITTED)


def test_new_data_are_encoded_with_what_the_model_remembers(fitted):
    new = small().iloc[[3, 0, 7]].drop(columns="y")
    found = fitted.encoder.encode(new)
    np.testing.assert_array_equal(found.X, fitted.X[[3, 0, 7]])
    for group in fitted.groups:
        np.testing.assert_array_equal(found.Z[group.factor], group.Z[[3, 0, 7]])
        np.testing.assert_array_equal(found.codes[group.factor], group.grouping.codes[[3, 0, 7]])
    assert list(found.labels["g"]) == ["f", "f", "e"]
    assert list(found.index) == [3, 0, 7]


def test_no_pooling_encodes_new_data_in_the_same_columns():
    found = build_design(no_pooling_spec("y ~ x * z", "g"), small())
    new = found.encoder.encode(small().iloc[:5])
    np.testing.assert_array_equal(new.X, found.X[:5])
    np.testing.assert_array_equal(new.Z["g"], found.group("g").Z[:5])


def test_level_that_the_model_has_not_seen_gets_no_code(fitted):
    found = fitted.encoder.encode(small(g="new").iloc[:2])
    assert found.codes["g"].tolist() == [-1, -1]
    assert list(found.labels["g"]) == ["new", "new"]


def test_groups_need_not_be_there_when_they_are_not_asked_for(fitted):
    found = fitted.encoder.encode(small().drop(columns=["g", "day", "y"]), factors="none")
    np.testing.assert_array_equal(found.X, fitted.X)
    assert found.Z == {}


def test_only_the_groups_that_are_asked_for_are_read(fitted):
    found = fitted.encoder.encode(small().drop(columns=["day", "y"]), factors=["g", "g:kind"])
    assert set(found.codes) == set(found.labels) == {"g", "g:kind"}
    np.testing.assert_array_equal(found.Z["day"], fitted.group("day").Z)


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        ({"kind": "q"}, "unseen-category", "'q' in rows 0, 1; the model has 'u', 'v'"),
        ({"z": 4.0}, "unseen-category", "4 in rows 0, 1; the model has 1, 2, 3, 5, 9"),
        ({"x": [np.nan, 1.0]}, "missing-values", "'x' has missing values in row 0"),
        ({"g": [None, "a"]}, "missing-values", "'g' has missing values in row 0"),
        ({"x": "a"}, "text-not-number", "'x' is text"),
        ({"x": [np.inf, 1.0]}, "infinite-values", "'x' is infinite in row 0"),
    ],
)
def test_new_data_that_cannot_be_encoded_are_named(fitted, columns, code, words):
    with pytest.raises(DataError) as caught:
        fitted.encoder.encode(small().iloc[:2].assign(**columns))
    assert caught.value.code == code
    assert words in caught.value.message


def test_new_data_without_a_predictor_are_refused(fitted):
    with pytest.raises(DataError, match="column 'flag' is not in the data") as caught:
        fitted.encoder.encode(small().drop(columns="flag"))
    assert caught.value.code == "unknown-column"


def test_design_survives_pickle_and_deep_copy(fitted):
    new = small().iloc[[9, 1]]
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(again.encoder.encode(new).X, fitted.X[[9, 1]])


# --- size ----------------------------------------------------------------------------------------


def test_thirty_thousand_rows_of_ten_thousand_levels_take_a_moment():
    n = 31_000
    rng = np.random.default_rng(2)
    data = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "g": [f"school {i}" for i in rng.integers(0, 10_000, n)],
        }
    )
    start = time.perf_counter()
    found = design("y ~ x + (x | g)", data)
    assert time.perf_counter() - start < 2
    assert found.group("g").grouping.n_levels > 9_000


def test_pandas_frame_is_read_as_it_is():
    data = small()
    assert read_frame(data) is data


def test_two_factors_with_the_same_groups_are_refused():
    data = hp.datasets.load("Penicillin")
    twice = data.assign(dish=data["plate"].astype(str) + "!")
    with pytest.raises(
        DataError, match=r"'plate' and 'dish' define the same groups.*\[same-groups\]"
    ):
        hp.Model("diameter ~ 1 + (1 | plate) + (1 | dish)", twice)


def test_categories_beside_two_bars_are_noted():
    data = hp.datasets.load("Machines")
    codes = [n.code for n in hp.Model("score ~ Machine + (Machine || Worker)", data).notices]
    assert codes == ["diagonal-categories"]
    assert not hp.Model("score ~ Machine + (Machine | Worker)", data).notices
