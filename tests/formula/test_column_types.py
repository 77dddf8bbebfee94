"""Columns of every type: a result that is right, or an error that names the column."""

from __future__ import annotations

import datetime
import decimal
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import hierpool as hp
from hierpool.core.errors import DataError
from hierpool.formula.build import build_design, read_frame
from hierpool.formula.parse import parse
from hierpool.formula.pooling import with_residuals
from tests.support.cases import each

N = 24
RNG = np.random.default_rng(21)
Y = RNG.normal(size=N)
DOSES = np.tile([1.0, 2, 3, 4], 6)
LABELS = np.tile(list("abcd"), 6)


def cells(values) -> pd.Series:
    out = pd.Series([None] * len(values), dtype=object)
    for k, value in enumerate(values):
        out.iat[k] = value
    return out


def table(column) -> pd.DataFrame:
    base = pd.DataFrame({"y": Y, "z": RNG.normal(size=N), "h": np.repeat(list("pqr"), 8)})
    return base.assign(w=column)


def missing(column) -> pd.Series:
    return pd.Series(column).where(np.arange(N) != 3)


def arrow(array) -> pd.Series:
    return pd.Series(array, dtype=pd.ArrowDtype(array.type))


NUMBERS = {
    "float16": pd.Series(DOSES.astype(np.float16)),
    "float16 missing": missing(DOSES.astype(np.float16)),
    "big-endian": pd.Series(DOSES.astype(">f8")),
    "big-endian missing": pd.Series(np.where(np.arange(N) == 3, np.nan, DOSES).astype(">f8")),
    "big-endian integers": pd.Series(DOSES.astype(">i4")),
    "long double": pd.Series(DOSES.astype(np.longdouble)),
    "Int64 missing": missing(pd.Series(DOSES).astype("Int64")),
    "Float32 missing": missing(pd.Series(DOSES).astype("Float32")),
    "decimal": cells([decimal.Decimal(int(v)) for v in DOSES]),
    "sparse": pd.Series(pd.arrays.SparseArray(DOSES)),
    "arrow half": arrow(pa.array(DOSES.astype(np.float16))),
    "arrow decimal": arrow(pa.array([decimal.Decimal(int(v)) for v in DOSES])),
    "arrow runs": arrow(
        pa.RunEndEncodedArray.from_arrays(pa.array(range(1, N + 1), pa.int32()), pa.array(DOSES))
    ),
}


@each("case", NUMBERS)
def test_numbers_of_any_type_are_numbers_in_every_place(case):
    data = table(NUMBERS[case])
    kept = np.arange(N) != 3 if "missing" in case else np.full(N, True)
    wanted = DOSES[kept]
    np.testing.assert_array_equal(build_design(parse("w ~ z"), data).y, wanted)
    np.testing.assert_array_equal(build_design(parse("y ~ w"), data).X[:, 1], wanted)
    np.testing.assert_array_equal(build_design(parse("y ~ log(w)"), data).X[:, 1], np.log(wanted))
    np.testing.assert_array_equal(build_design(parse("y ~ z + offset(w)"), data).offset, wanted)
    found = build_design(with_residuals(parse("y ~ z"), "w", None), data)
    np.testing.assert_array_equal(found.residual.values, wanted)
    for formula in ["y ~ C(w)", "y ~ z + (1 | w)", "y ~ z + (1 | h:w)"]:
        assert build_design(parse(formula), data).n == len(wanted)
    levels = build_design(parse("y ~ z + (1 | w)"), data).groupings["w"].levels
    np.testing.assert_array_equal(levels.astype(float), [1, 2, 3, 4])


NESTED = {
    "lists": cells([[int(v)] for v in DOSES]),
    "dicts": cells([{"a": int(v)} for v in DOSES]),
    "one list": cells([[1] if k == 5 else v for k, v in enumerate(LABELS)]),
    "arrays": cells([np.array([v, 1]) for v in DOSES]),
    "arrow lists": arrow(pa.array([[int(v)] for v in DOSES])),
    "arrow structs": arrow(pa.array([{"a": int(v)} for v in DOSES])),
    "objects": cells([object() for _ in DOSES]),
    "huge integers": cells([10**400 + int(v) for v in DOSES]),
}
PLACES = ["w ~ z", "log(w) ~ z", "y ~ w", "y ~ z + (w | h)", "y ~ log(w)", "y ~ z + offset(w)"]
AS_LABELS = ["y ~ C(w)", "y ~ z + (1 | w)", "y ~ z + (1 | h:w)"]


@each("case", NESTED)
def test_cells_that_no_model_can_take_are_refused_by_the_columns_name(case):
    labels = [] if case == "huge integers" else AS_LABELS
    for formula in [*PLACES, *labels]:
        with pytest.raises(DataError, match="'w'"):
            build_design(parse(formula), table(NESTED[case]))
    for role in ["weights", "known_se"]:
        with pytest.raises(DataError, match="column 'w'"):
            build_design(
                with_residuals(parse("y ~ z"), **{"weights": None, "known_se": None, role: "w"}),
                table(NESTED[case]),
            )


def test_text_views_of_arrow_are_text():
    data = table(arrow(pa.array(list(LABELS), pa.string_view())))
    assert "w[T.b]" in build_design(parse("y ~ w"), data).terms
    assert list(build_design(parse("y ~ z + (1 | w)"), data).groupings["w"].levels) == list("abcd")


def test_integers_of_128_bits_are_numbers():
    data = pl.from_pandas(table(DOSES)).with_columns(pl.col("w").cast(pl.Int128))
    np.testing.assert_array_equal(build_design(parse("y ~ w"), data).X[:, 1], DOSES)


def test_ids_beyond_the_signed_integers_stay_what_they_are():
    ids = DOSES.astype(np.uint64) + np.uint64(2**63)
    levels = build_design(parse("y ~ z + (1 | w)"), table(ids)).groupings["w"].levels
    assert [int(level) for level in levels] == [2**63 + k for k in range(1, 5)]


def test_infinite_values_are_a_category_and_no_number():
    top = np.where(DOSES == 4, np.inf, DOSES)
    assert build_design(parse("y ~ C(w)"), table(top)).terms[-1] == "C(w)[T.inf]"
    with pytest.raises(DataError, match=r"column 'w' is infinite in rows 3, 7"):
        build_design(parse("y ~ w"), table(top))


def test_times_of_day_and_far_dates_are_named():
    for value in [datetime.time(3), datetime.date(1, 1, 1)]:
        with pytest.raises(DataError, match="column 'w'"):
            build_design(parse("y ~ w"), table(cells([value] * N)))


def test_a_batch_of_arrow_is_told_what_to_write():
    batch = pa.RecordBatch.from_pandas(table(DOSES))
    with pytest.raises(DataError, match=r"data\.to_pandas\(\)"):
        read_frame(batch)
    assert len(read_frame(batch.to_pandas())) == N


@pytest.mark.parametrize("formula", ["y ~ C(w)", "y ~ z + (1 | w)"])
def test_tuples_and_infinite_decimals_are_labels(formula):
    pairs = [(int(k), 1) for k in DOSES]
    decimals = [decimal.Decimal("Infinity") if k == 4 else decimal.Decimal(int(k)) for k in DOSES]
    assert build_design(parse(formula), table(cells(pairs))).n == N
    assert build_design(parse(formula), table(cells(decimals))).n == N
    assert build_design(parse(formula), table(pd.Categorical(cells(pairs)))).n == N


@pytest.mark.parametrize("dtype", [object, "category"])
def test_half_of_a_character_is_named_and_the_advice_works(dtype):
    data = pd.DataFrame({"y": np.arange(12.0) ** 2 % 7})
    labels = [v for v in ("a", "\ud800b", "c") for _ in range(4)]
    column = pd.Series(labels, dtype=object)
    if dtype == "category":
        kinds = pd.Index(["a", "\ud800b", "c"], dtype=object)
        column = pd.Series(pd.Categorical.from_codes(np.repeat([0, 1, 2], 4), kinds))
    data["g"] = column
    with pytest.raises(DataError, match=r"column 'g' contains '\\ud800b'") as caught:
        hp.varying_intercept("y ~ 1", data, group="g")
    assert caught.value.code == "broken-text"
    advice = re.search(r"data\['g'\] = .*\('utf-8'\)", caught.value.message)
    exec(advice[0], {"data": data})
    levels = hp.varying_intercept("y ~ 1", data, group="g").design.groups[0].grouping.levels
    assert sorted(levels) == ["?b", "a", "c"]
