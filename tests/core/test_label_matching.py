"""Labels of new data and typed ones: read where there is one way to, refused by name elsewhere.

Each case stands for a factor, for a part of ``a:b``, for a category and for a typed label.
"""

from __future__ import annotations

import datetime
import re
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError, DataError
from hierpool.core.label_matching import Place, as_known, find_label, find_level
from hierpool.core.labels import as_shown, kind_of, plain_labels, shown_labels
from hierpool.formula.build import build_design
from hierpool.formula.parse import parse
from hierpool.plots.sheet.lines import choose_abscissa
from hierpool.report.sections import _columns
from tests.support.cases import each

DAYS = pd.to_datetime(["2024-01-02", "2024-02-01", "2024-03-05"])
BERLIN = DAYS.tz_localize("Europe/Berlin")
MODELS = {
    "integers": [7, 308, 309],
    "floats": [0.5, 1.5, 2.5],
    "text": ["A1", "308", "b c"],
    "written integers": ["7", "308", "309"],
    "zeros in front": ["0007", "0308", "0309"],
    "booleans": [False, True],
    "dates": list(DAYS),
    "zoned dates": list(BERLIN),
    "written dates": ["2024-01-02", "2024-02-01", "2024-03-05"],
    "other written dates": ["02.01.2024", "01.02.2024", "05.03.2024"],
    "months": list(pd.PeriodIndex(["2024-01", "2024-02"], freq="M")),
    "bins": list(pd.IntervalIndex.from_breaks([0, 1, 2])),
    "durations": list(pd.to_timedelta(["1D", "2D"])),
    "mixed": [2, "2b", "a"],
}
# Model, what is given, the position of its level: None where it is a new one.
READ = {
    "integer column made floats by a missing cell": ("integers", 308.0, 1),
    "whole number as text": ("integers", "308", 1),
    "whole number as a small integer": ("integers", np.int8(7), 0),
    "whole number as a decimal": ("integers", Decimal(308), 1),
    "new whole number as text": ("integers", "310", None),
    "number between": ("integers", 308.5, None),
    "whole number among floats": ("floats", 2, None),
    "number of single precision": ("floats", np.float32(0.5), 0),
    "float for a written integer": ("written integers", 308.0, 1),
    "new float for a written integer": ("written integers", 310.0, None),
    "integer that one label spells": ("text", 308, 1),
    "numpy boolean": ("booleans", np.True_, 1),
    "date without hour": ("dates", datetime.date(2024, 2, 1), 1),
    "date of numpy": ("dates", np.datetime64("2024-02-01"), 1),
    "ISO date, never month first": ("dates", "2024-02-01", 1),
    "ISO date with hour": ("dates", "2024-02-01T00:00:00", 1),
    "new ISO date": ("dates", "2024-02-02", None),
    "the same instant in another zone": ("zoned dates", "2024-01-31T23:00:00Z", 1),
    "the same instant as a Timestamp": ("zoned dates", BERLIN[1].tz_convert("UTC"), 1),
    "date for a written one": ("written dates", DAYS[1], 1),
    "new date for written ones": ("written dates", pd.Timestamp("2024-02-02"), None),
    "bin as it is shown": ("bins", "(1, 2]", 1),
    "month as it is shown": ("months", "2024-02", 1),
    "text among several kinds": ("mixed", "a", 2),
}
# Model, what is given, and what the column becomes when the advice is typed (None: no code).
REFUSED = {
    "True for 1": ("integers", True, None),
    "number with a point in text": ("integers", "308.0", 1),
    "number with zeros in front": ("integers", "0308", 1),
    "number with a blank": ("integers", " 308", 1),
    "number with an exponent": ("integers", "3.08e2", 1),
    "word for a number": ("integers", "A7", None),
    "date for a number": ("integers", DAYS[0], None),
    "text for a number with decimals": ("floats", "0.5", 0),
    "number with lost digits": ("integers", 1e17, None),
    "number that no label spells": ("text", 309, None),
    "number with decimals for text": ("written integers", 308.5, None),
    "True for text": ("text", True, None),
    "number that lost its zeros": ("zeros in front", 308, 1),
    "1 for True": ("booleans", 1, 1),
    "text for True": ("booleans", "True", 1),
    "naive time for a zoned one": ("zoned dates", DAYS[1], 1),
    "naive text for a zoned time": ("zoned dates", "2024-02-01", 1),
    "zoned time for a naive one": ("dates", BERLIN[1], 1),
    "zoned text for a naive time": ("dates", "2024-02-01T00:00:00+01:00", 1),
    "day first": ("dates", "01.02.2024", 1),
    "slashes": ("dates", "01/02/2024", 1),
    "day first for a zoned time": ("zoned dates", "01.02.2024", 1),
    "month by name": ("dates", "1 Feb 2024", None),
    "year alone": ("dates", "2024", None),
    "number for a date": ("dates", 20240102, None),
    "date for other text": ("other written dates", DAYS[1], 1),
    "day for a month": ("months", pd.Period("2024-02-01", freq="D"), None),
    "number inside a bin": ("bins", 0.5, None),
    "number written as a label of several kinds": ("mixed", "2", None),
}


def table(labels, **columns) -> pd.DataFrame:
    """Twelve rows for each label."""
    n = 12 * len(labels)
    y = np.random.default_rng(3).normal(size=n)
    other = np.repeat(["u", "v"], n // 2)
    frame = pd.DataFrame({"y": y, "x": np.arange(n) % 5.0, "b": other})
    frame["g"] = np.resize(pd.array(labels, dtype=object), n)
    frame["g"] = frame["g"].infer_objects()
    return frame.assign(**columns)


def design(formula, labels):
    return build_design(parse(formula), table(labels))


def codes(found, column):
    """Positions of the levels of ``g``, alone and in ``g:b``, for new rows with b = u."""
    new = pd.DataFrame({"x": 1.0, "b": "u", "g": column})
    rows = found.encoder.encode(new)
    return rows.codes["g"], rows.codes["g:b"]


@each("case", READ)
def test_label_that_can_be_read_in_one_way_is_the_known_level(case):
    model, given, place = READ[case]
    labels = MODELS[model]
    found = design("y ~ x + (1 | g) + (1 | g:b)", labels)
    levels = found.groupings["g"].levels
    wanted = -1 if place is None else levels.get_indexer([labels[place]])[0]
    alone, crossed = codes(found, pd.Series([given, given], dtype=object))
    assert alone.tolist() == [wanted] * 2
    names = found.groupings["g:b"].levels
    assert [names[c] if c >= 0 else None for c in crossed] == (
        [None if place is None else f"{levels[wanted]}:u"] * 2
    )
    if place is None:
        with pytest.raises(ArgumentError, match="has no level") as caught:
            find_level(given, found.schema.groupings["g"])
        assert caught.value.code == "unknown-choice"
    else:
        assert find_level(given, found.schema.groupings["g"]) == wanted
        assert (
            names[find_level((given, "u"), found.schema.groupings["g:b"])] == f"{levels[wanted]}:u"
        )


@each("case", [c for c in READ if "dates" not in READ[c][0]])
def test_category_of_a_predictor_is_read_like_a_level(case):
    model, given, place = READ[case]
    if model in ("months", "bins", "mixed"):
        return
    found = design("y ~ C(g)", MODELS[model])
    new = pd.DataFrame({"g": pd.Series([given], dtype=object)})
    if place is None:
        with pytest.raises(DataError) as caught:
            found.encoder.encode(new)
        assert caught.value.code == "unseen-category"
        return
    own = found.frame["g"].tolist().index(MODELS[model][place])
    np.testing.assert_array_equal(found.encoder.encode(new).X[0], found.X[own])


@each("case", REFUSED)
def test_label_of_another_kind_is_refused_by_name_and_the_advice_mends_it(case):
    model, given, place = REFUSED[case]
    labels = MODELS[model]
    for formula in ("y ~ x + (1 | g) + (1 | g:b)", "y ~ x + (1 | g:b)"):
        found = design(formula, labels)
        data = pd.DataFrame({"x": 1.0, "b": "u", "g": pd.Series([given] * 2, dtype=object)})
        with pytest.raises(DataError, match="column 'g' holds") as caught:
            found.encoder.encode(data, anew=())
        assert caught.value.code == "level-type"
        assert "in rows 0, 1" in caught.value.message
        assert found.encoder.encode(data, anew=list(found.groupings)).codes["g:b"].max() == -1
        grouping = found.schema.groupings["g:b"]
        with pytest.raises(DataError) as caught:
            find_level((given, "u"), grouping)
        assert caught.value.code == "level-type"
        assert "'g' has no level" in caught.value.message
    typed = re.findall(r"data\['g'\] = .*?(?= if |, which|\.  |$)", _message(found, data))
    if place is not None:
        exec(typed[0], {"data": data, "pandas": pd})
        level = found.groupings["g:b"].levels[found.encoder.encode(data).codes["g:b"][0]]
        assert level == f"{plain_labels(pd.Index([labels[place]], dtype=object))[0]}:u"


def _message(found, data) -> str:
    with pytest.raises(DataError) as caught:
        found.encoder.encode(data)
    return caught.value.message


def test_category_of_another_kind_is_refused():
    found = design("y ~ C(g)", [0, 1, 2])
    with pytest.raises(DataError, match="column 'g' holds True or False here") as caught:
        found.encoder.encode(pd.DataFrame({"g": [True, False]}))
    assert caught.value.code == "level-type"


def test_advice_on_days_and_months_names_both_orders():
    found = design("y ~ x + (1 | g)", MODELS["dates"])
    message = _message(found, pd.DataFrame({"x": [1.0], "g": ["01.02.2024"]}))
    assert "format='%d.%m.%Y') if the day comes first" in message
    assert "format='%m.%d.%Y') if the month does" in message


SPELLED = {
    "308 ": "308",
    " a1": "A1",
    "A 1": "A1",
    "B c": "b c",
    "B\u00a0C": "b c",
    "A1\ufeff": "A1",
}


@pytest.mark.parametrize("new", SPELLED)
def test_new_label_that_is_a_known_one_but_for_blanks_or_case_names_both(new):
    found = design("y ~ x + (1 | g) + (1 | g:b)", MODELS["text"])
    known = SPELLED[new]
    data = pd.DataFrame({"x": 1.0, "b": "u", "g": ["308", new]})
    with pytest.raises(DataError) as caught:
        found.encoder.encode(data)
    assert caught.value.code == "level-spelling"
    assert f"{new!r} for {known!r}" in caught.value.message
    typed = re.search(r"data\['g'\] = .*\}\)", caught.value.message)[0]
    exec(typed, {"data": data})
    assert data["g"].tolist() == ["308", known]
    with pytest.raises(DataError, match="level-spelling"):
        find_level(new, found.schema.groupings["g"])


def test_numbers_and_text_of_one_column_are_each_read():
    found = design("y ~ x + (1 | g)", MODELS["text"])
    rows = found.encoder.encode(pd.DataFrame({"x": 1.0, "g": pd.Series([308, "A1"], dtype=object)}))
    assert list(rows.labels["g"]) == ["308", "A1"]
    assert rows.codes["g"].min() >= 0


def test_pairs_with_colons_are_not_taken_for_each_other():
    frame = table(["p", "p:q"]).assign(b=lambda d: np.where(d["g"] == "p", "r", "s"))
    found = build_design(parse("y ~ x + (1 | g:b)"), frame)
    with pytest.raises(DataError, match="Remove the colons") as caught:
        found.encoder.encode(pd.DataFrame({"x": [1.0], "g": ["p"], "b": ["q:s"]}))
    assert caught.value.code == "unusable-levels"


# --- what a model calls its own levels ------------------------------------------------------------

IDS = [7, 308, 309, None]
WITH_A_HOLE = {
    "pandas": lambda ids: pd.DataFrame({"g": ids}),
    "nullable": lambda ids: pd.DataFrame({"g": pd.array(ids, dtype="Int64")}),
    "nullable floats": lambda ids: pd.DataFrame({"g": pd.array(ids, dtype="Float64")}),
    "arrow dtype": lambda ids: pd.DataFrame({"g": pd.array(ids, dtype="int64[pyarrow]")}),
    "arrow decimals": lambda ids: pd.DataFrame(
        {"g": pd.Series(ids, dtype=pd.ArrowDtype(pa.decimal128(9, 2)))}
    ),
    "objects": lambda ids: pd.DataFrame({"g": pd.Series(ids, dtype=object)}),
    "float categories": lambda ids: pd.DataFrame({"g": pd.Categorical(pd.Series(ids))}),
    "polars": lambda ids: pl.DataFrame({"g": ids}),
    "arrow": lambda ids: pa.table({"g": ids}),
}


@each("kind", WITH_A_HOLE)
def test_ids_with_one_missing_cell_stay_whole_numbers(kind):
    data = WITH_A_HOLE[kind](IDS * 6)
    y = np.random.default_rng(1).normal(size=24)
    if isinstance(data, pl.DataFrame):
        data = data.with_columns(y=pl.Series(y))
    else:
        data = data.append_column("y", pa.array(y)) if kind == "arrow" else data.assign(y=y)
    levels = build_design(parse("y ~ 1 + (1 | g)"), data).groupings["g"].levels
    assert list(map(str, levels)) == ["7", "308", "309"]
    assert levels.dtype == np.int64


def test_polars_ids_of_many_digits_stay_apart_beside_a_missing_one():
    ids = [2**53, 2**53 + 1, None]
    data = pl.DataFrame({"g": ids * 8, "y": np.random.default_rng(1).normal(size=24)})
    assert build_design(parse("y ~ 1 + (1 | g)"), data).groupings["g"].levels.tolist() == ids[:2]


def test_floats_that_lost_digits_are_no_labels():
    with pytest.raises(DataError, match="different labels may have become the same") as caught:
        shown_labels(pd.Index([2.0**53, 5.0]), "id")
    assert caught.value.code == "unusable-levels"


def test_true_beside_one_is_refused():
    labels = plain_labels(pd.Index([True, 1, "a"], dtype=object))
    assert kind_of(labels) == "values of several kinds"
    with pytest.raises(DataError, match="True equals 1"):
        shown_labels(labels, "g")
    with pytest.raises(DataError, match="True equals 1"):
        as_known(pd.Index([1, 2]), labels, Place("g"))


def test_typed_labels_are_the_models_own():
    labels = pd.Index([7, 308])
    assert type(find_label("308", labels, "g")) is np.int64
    with pytest.raises(ArgumentError, match=r"'g' has no level \['308'\]"):
        find_label(["308"], labels, "g")


def test_many_rows_are_read_in_no_time():
    known = pd.Index([str(k) for k in range(20_000)], dtype=object)
    given = pd.Index(np.resize(np.arange(20_000), 200_000))
    start = time.perf_counter()
    read = as_known(known, given, Place("g", pd.RangeIndex(200_000)))
    assert time.perf_counter() - start < 2
    assert read[:3].tolist() == ["0", "1", "2"]


# --- every way in ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holes():
    """Ids that one missing cell made floats: the model, REML and a posterior."""
    data = table([7, 308, 309, 310])
    data["y"] += data["g"] / 100
    data.loc[2, "g"] = np.nan
    model = hp.Model("y ~ x + (1 | g)", data)
    return {"reml": model.reml(), "posterior": model.fit(seed=1, draws=200)}


@pytest.mark.parametrize("kind", ["reml", "posterior", "loaded"])
def test_every_fit_reads_ids_alike(holes, kind, tmp_path):
    fit = holes["posterior" if kind == "loaded" else kind]
    if kind == "loaded":
        fit.save(tmp_path / "fit.nc")
        fit = hp.load_fit(tmp_path / "fit.nc")
    wanted = fit.predict(pd.DataFrame({"x": [1.0], "g": [308]}))
    for given in ("308", 308.0):
        for groups in ("own", "allow new"):
            found = fit.predict(pd.DataFrame({"x": [1.0], "g": [given]}), groups=groups)
            pd.testing.assert_frame_equal(found, wanted)
    for given in (True, "308.0", pd.Timestamp("2024-01-02")):
        with pytest.raises(DataError, match="level-type"):
            fit.predict(pd.DataFrame({"x": [1.0], "g": [given]}), groups="allow new")
    contrast = hp.contrast(fit, "g", levels=[308.0, "7"])
    assert contrast.index.get_level_values("contrast").tolist() == ["308 - 7"]
    named = hp.contrast(fit, {("g", "308", "Intercept"): 1, ("g", 7.0, "Intercept"): -1})
    np.testing.assert_allclose(named.to_numpy(), contrast.to_numpy())
    assert "308.0" not in f"{fit}{hp.ranks(fit) if kind != 'reml' else ''}{fit.coefficients()}"


@pytest.mark.parametrize("with_a_hole", [False, True])
def test_findings_and_pictures_call_ids_and_doses_by_whole_numbers(with_a_hole):
    data = table([307, 308, 309, 310], dose=lambda d: np.arange(len(d)) // 4 % 3 + 1)
    data.loc[10, "y"] += 20
    if with_a_hole:
        data.loc[2, ["g", "dose"]] = np.nan
    fit = hp.Model("y ~ x + C(dose) + (1 | g)", data).reml()
    row = next(f for f in hp.check(fit) if f.code == "outlying-row")
    assert f"Row 10 of g {data['g'][10]:.0f} is an outlier" in row.text
    grouping = fit.design.schema.groupings["g"]
    shown = [str(v) for v in choose_abscissa(fit.design, grouping, "dose").categories]
    assert shown == ["1", "2", "3"]
    assert as_shown(fit.design.frame["dose"], "dose").astype(str).unique().tolist() == shown
    categories = _columns(fit.design, "g").loc[["g", "dose"], "categories"]
    assert sorted(categories["g"].split(", ")) == ["307", "308", "309", "310"]
