"""A column is found by the name that was typed, whatever the name means elsewhere."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import DataError, FormulaError
from hierpool.formula.build import build_design
from hierpool.formula.function_calls import parts_of, quote
from hierpool.formula.parse import parse, read_columns, read_response
from tests.support.cases import each

FULL = "\uff58"  # the full-width x, which Python reads as x
MICRO = "\u00b5g"  # the micro sign, which Python reads as the Greek letter mu
GREEK = "\u03bcg"
MIN_ELPD_DIFFERENCE = unicodedata.normalize("NFD", "größe")
HINDI = "\u0939\u093f\u0928\u094d\u0926\u0940"  # vowels are marks

# Each of them means something to Python, to formulaic, to numpy or to what lies between.
NAMES = [
    *("C", "I", "np", "log", "Q", "bs", "contr", "Treatment", "Sum", "scale", "offset", "factor"),
    *("hp0_", "hp0_coding", "hp2c", "hp0n", "_column_0_", "_column_1_", "__FORMULAIC_STATE__"),
    *("__import__", "eval", "None", "True", "lambda", "Intercept.", "1", "0", "x y", "a:b", "a+b"),
    *(
        "(x | g)",
        "~",
        "C(x)",
        "log(x)",
        "it's",
        '"',
        "back\\slash",
        "new\nline",
        "tab\t",
        "%",
        "{x}",
    ),
    *(FULL, MICRO, GREEK, MIN_ELPD_DIFFERENCE, HINDI, "x\u00b2", "\u2118", "ﬁ", "Å", "日本", "."),
]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    data = {name: rng.uniform(1, 2, size=40) for name in ["y", "x", "xg", *NAMES]}
    return pd.DataFrame({**data, "g": np.repeat(list("abcdefgh"), 5)})


@each("name", NAMES, ids=ascii)
def test_column_of_any_name_is_the_one_that_is_typed(name, table):
    alone, inside = quote(name), quote(name, in_call=True)
    text = f"y ~ {alone} + log({inside}) + np.sqrt({inside}) + I({inside}^2 / x) + ({alone} | g)"
    design = build_design(parse(text), table)
    values, x = table[name].to_numpy(), table.x.to_numpy()
    expected = [np.ones(40), values, np.log(values), np.sqrt(values), values**2 / x]
    assert pytest.approx(np.column_stack(expected)) == design.X
    assert design.terms[1] == name
    assert design.group("g").Z[:, 1] == pytest.approx(values)
    again = build_design(parse(design.spec.formula), table)
    assert again.terms == design.terms
    assert (again.X == design.X).all()
    new = design.encoder.encode(table.iloc[::-1].drop(columns="y"))
    assert new.X[::-1] == pytest.approx(design.X)


def test_category_of_any_name_is_the_one_that_is_typed(table):
    for name in NAMES:
        data = table.assign(**{name: np.tile(list("uvwz"), 10)})
        typed = quote(name, in_call=True)
        design = build_design(parse(f"y ~ C({typed}, Treatment('v')) + x"), data)
        assert design.terms[1:4] == tuple(f"C({typed}, Treatment('v'))[T.{c}]" for c in "uwz")
        assert design.X[:4, 1:4].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_names_that_python_takes_for_one_are_two_columns(table):
    text = f"y ~ I(`{FULL}`**2) + I({FULL}*2) + I(x*3) + log({MICRO}) + log({GREEK})"
    design = build_design(parse(text), table)
    columns = [table[FULL] ** 2, table[FULL] * 2, table.x * 3]
    columns += [np.log(table[MICRO]), np.log(table[GREEK])]
    assert design.X[:, 1:] == pytest.approx(np.column_stack(columns))
    assert read_response(f"I({FULL} + x + `{FULL}`)").columns == (FULL, "x")
    assert quote(FULL) == f"`{FULL}`"
    assert quote(GREEK) == GREEK


@pytest.mark.parametrize("name", [MIN_ELPD_DIFFERENCE, HINDI])
def test_name_with_marks_may_be_typed_plainly(name, table):
    design = build_design(parse(f"y ~ {name} + I({name}^2)"), table)
    assert design.terms[1] == name
    assert design.X[:, 2] == pytest.approx(table[name] ** 2)


def test_name_that_only_looks_the_same_is_told_apart(table):
    composed = unicodedata.normalize("NFC", MIN_ELPD_DIFFERENCE)
    with pytest.raises(DataError, match="looks the same") as caught:
        build_design(parse(f"y ~ {composed}"), table)
    assert f"data.rename(columns={{{MIN_ELPD_DIFFERENCE!r}: {composed!r}}})" in str(caught.value)
    build_design(parse(f"y ~ {composed}"), table.rename(columns={MIN_ELPD_DIFFERENCE: composed}))


def test_stand_ins_do_not_meet_labels(table):
    data = table.assign(f=np.tile(["hp0_", "hpx1_", "hp1_coding", "C(hp0_)"], 10))
    design = build_design(parse("y ~ f + C(f, Sum):x + I(hp0_**2)"), data)
    assert design.terms[1:4] == ("f[T.hp0_]", "f[T.hp1_coding]", "f[T.hpx1_]")
    assert design.terms[4] == "I(hp0_ ** 2)"
    assert design.terms[-1] == "C(f, Sum)[hpx1_]:x"


@pytest.mark.parametrize(
    "text",
    ["I(`a`x)", "I(x`a`)", "I(``)", "I(`  `)", "I(`a``b`)", "C(x, levels=['a''b'])", "bs(x, f'4')"],
)
def test_quote_touches_nothing(text):
    with pytest.raises(FormulaError):
        read_columns(text)


def test_column_with_a_backtick_is_an_error_that_names_it():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"a`b": rng.normal(size=9), "y": rng.normal(size=9)})
    with pytest.raises(FormulaError, match="backtick"):
        parse("y ~ `a`b`")
    assert "a`b" in data


def test_parts_of_a_term_are_its_factors():
    assert parts_of("a:`b:c`:I(x ** 2)") == ("a", "`b:c`", "I(x ** 2)")


def test_name_that_was_read_as_a_difference_is_told_with_its_backticks():
    data = pd.DataFrame({"y": [1.0, 2.0, 4.0], "my-score": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match="write `my-score`, in backticks"):
        hp.Model("y ~ my-score", data)
