"""The bundled tables: what loads is what about() says, and made-up numbers say that they are."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
from functools import cache

import pytest

from hierpool import datasets
from hierpool.core.errors import DataError
from hierpool.datasets import loading
from tests.support.cases import each

SHAPES = {
    "boars": (516, 3),
    "sleepstudy": (180, 3),
    "radon": (919, 4),
    "Orthodont": (108, 4),
    "Rail": (18, 2),
    "Machines": (54, 3),
    "Dyestuff": (30, 2),
    "Dyestuff2": (30, 2),
    "Pastes": (60, 4),
    "Penicillin": (144, 3),
    "Exam": (4059, 10),
    "Chem97": (31022, 8),
    "InstEval": (73421, 7),
    "ChickWeight": (578, 4),
    "cake": (270, 5),
    "bball1970": (18, 5),
    "eight_schools": (8, 3),
}
DTYPES = {"real": "float64", "integer": "int64", "category": "category"}
EVERY = each("name", SHAPES)
load = cache(datasets.load)


def gzip_or_plain(name: str) -> io.StringIO:
    raw = (loading.files(datasets) / "tables" / datasets.about(name).file).read_bytes()
    packed = raw.startswith(b"\x1f\x8b")
    return io.StringIO((gzip.decompress(raw) if packed else raw).decode())


def test_names_are_the_tables_there_are():
    assert datasets.names() == list(SHAPES)


@EVERY
def test_table_has_its_shape_and_no_gaps(name):
    table = load(name)
    assert table.shape == SHAPES[name]
    assert len(table) == datasets.about(name).rows
    assert not table.isna().any(axis=None)


@EVERY
def test_about_describes_every_column_in_the_order_of_the_table(name):
    table, page = load(name), datasets.about(name)
    assert [column.name for column in page.columns] == table.columns.tolist()
    assert {c.name: DTYPES[c.type] for c in page.columns} == table.dtypes.astype(str).to_dict()
    assert all(column.what for column in page.columns)


@EVERY
def test_levels_are_text_unordered_and_all_in_use(name):
    table = load(name)
    for column in datasets.about(name).columns:
        if column.type == "category":
            values = table[column.name].cat
            assert not values.ordered
            assert all(isinstance(level, str) for level in values.categories)
            assert len(values.categories) == column.n_levels == table[column.name].nunique()
            assert list(values.categories) == list(
                column.levels or sorted(values.categories, key=int)
            )


@each(
    ("name", "column", "first", "last"),
    [
        ("Orthodont", "Sex", "Male", "Female"),
        ("Orthodont", "Subject", "M16", "F11"),
        ("sleepstudy", "Subject", "308", "372"),
        ("radon", "county", "AITKIN", "YELLOWMEDICINE"),
        ("boars", "boar", "1", "129"),
        ("Machines", "Machine", "A", "C"),
        ("InstEval", "dept", "15", "2"),
        ("InstEval", "d", "1", "2160"),
        ("Exam", "sex", "F", "M"),
        ("Chem97", "gender", "M", "F"),
        ("ChickWeight", "Chick", "18", "48"),
        ("cake", "replicate", "1", "15"),
    ],
)
def test_levels_stand_in_the_order_of_r(name, column, first, last):
    levels = load(name)[column].cat.categories
    assert (levels[0], levels[-1]) == (first, last)


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("sleepstudy", "Reaction", 298.5078917222222),
        ("Dyestuff", "Yield", 1527.5),
        ("Machines", "score", 59.65),
        ("InstEval", "y", 3.20572),
        ("Penicillin", "diameter", 22.97222222222222),
        ("cake", "angle", 32.12222),
        ("eight_schools", "effect", 8.75),
    ],
)
def test_means_are_the_published_ones(name, column, value):
    assert load(name)[column].mean() == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("name", ["radon", "Chem97", "Exam"])
def test_numbers_are_read_to_their_last_digit(name):
    table = load(name)
    reals = [column.name for column in datasets.about(name).columns if column.type == "real"]
    with gzip_or_plain(name) as file:
        rows = list(csv.DictReader(file))
    for column in reals:
        assert table[column].tolist() == [float(row[column]) for row in rows]


def test_floor_of_radon_is_a_number():
    assert set(datasets.load("radon")["floor"]) == {0, 1}


def test_boars_say_that_they_are_simulated_and_from_what():
    page = datasets.about("boars")
    assert page.simulated
    assert page.label == "boars (simulated)"
    assert page.truth["residual sd"] == 57
    assert "simulated" in repr(page)
    assert "(simulated)" in page._repr_html_()
    assert datasets.load("boars").attrs["hierpool"] == {
        "name": "boars",
        "label": "boars (simulated)",
        "simulated": True,
    }


def test_only_two_tables_are_simulated():
    made_up = {name for name in datasets.names() if datasets.about(name).simulated}
    assert made_up == {"boars", "Dyestuff2"}


@EVERY
def test_page_names_origin_licence_and_columns_in_text_and_html(name):
    page = datasets.about(name)
    for text in (repr(page), page._repr_html_()):
        assert page.licence.split()[0] in text
        assert page.package in text
        assert all(column.name in text for column in page.columns)
    assert page.source
    assert "<script" not in page._repr_html_()


def test_names_are_found_in_any_case():
    assert datasets.about("INSTEVAL").name == "InstEval"
    assert datasets.load("Eight_Schools").attrs["hierpool"]["name"] == "eight_schools"


@pytest.mark.parametrize("call", [datasets.load, datasets.about])
@pytest.mark.parametrize(
    ("typed", "meant"),
    [("sleepstdy", "sleepstudy"), ("eightschools", "eight_schools"), ("boar", "boars")],
)
def test_misspelt_name_is_answered_with_the_nearest(call, typed, meant):
    with pytest.raises(DataError, match=rf"'{typed}'.*did you mean '{meant}'\?") as caught:
        call(typed)
    assert caught.value.code == "unknown-dataset"


def test_name_like_no_other_is_answered_with_some_that_exist():
    with pytest.raises(DataError, match=r"'zzz'.*'boars', 'sleepstudy'"):
        datasets.load("zzz")


def test_what_is_not_a_name_is_refused():
    with pytest.raises(DataError, match="not by 3"):
        datasets.load(3)


def test_each_load_is_a_table_of_its_own():
    first = datasets.load("Rail")
    first.loc[0, "travel"] = -1
    first.attrs["hierpool"]["label"] = "spoilt"
    second = datasets.load("Rail")
    assert second["travel"][0] == 55
    assert second.attrs["hierpool"]["label"] == "Rail"


def test_page_cannot_be_changed():
    with pytest.raises(TypeError):
        datasets.about("boars").truth["residual sd"] = 0


def test_every_table_is_in_the_readme_with_its_package():
    readme = (loading.files(datasets) / "README.md").read_text()
    for name in datasets.names():
        page = datasets.about(name)
        line = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
        assert f"{page.rows:,}" in line
        assert ("simulated" in line) == page.simulated


def test_a_list_of_names_does_not_load_pandas():
    code = (
        "import sys; from hierpool import datasets; datasets.about('radon');"
        "print('pandas' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
