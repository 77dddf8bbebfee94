"""Text to Spec: what can be read, and where the caret points when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hierpool.core.errors import ArgumentError, FormulaError
from hierpool.core.spec import GroupTerm
from hierpool.formula.function_calls import quote
from hierpool.formula.functions import ALLOWED_FUNCTIONS, NUMPY_FUNCTIONS
from hierpool.formula.parse import parse, read_columns, read_response, split_factor
from tests.support.cases import each

READ = {
    "y ~ x": ("1 + x", []),
    "y~x+(x|g)+(1|h)": ("1 + x", [("1 + x", "g", "correlated"), ("1", "h", "correlated")]),
    "y ~ (x || g)": ("1", [("1 + x", "g", "uncorrelated")]),
    "y ~ x + (0 + x | g)": ("1 + x", [("0 + x", "g", "correlated")]),
    "y ~ x + (x - 1 | g)": ("1 + x", [("0 + x", "g", "correlated")]),
    "y ~ (1 | g)": ("1", [("1", "g", "correlated")]),
    "y ~ (1 | g) + (0 + x | g)": ("1", [("1", "g", "correlated"), ("0 + x", "g", "correlated")]),
    "y ~ -1 + x": ("0 + x", []),
    "y ~ 0 + x - 0": ("1 + x", []),
    "y ~ 0 + (1 | g)": ("0", [("1", "g", "correlated")]),
    "y ~ ((x + (1 | g)))": ("1 + x", [("1", "g", "correlated")]),
    "y ~ a*b + (a:b | g)": ("1 + a * b", [("1 + a:b", "g", "correlated")]),
    "y ~ (a + b)^2 - a": ("1 + (a + b)**2 - a", []),
    "y ~ x - (a + b)": ("1 + x - (a + b)", []),
    "y ~ (1 | a/b)": ("1", [("1", "a", "correlated"), ("1", "a:b", "correlated")]),
    "y ~ (1 | a:b/c)": ("1", [("1", "a:b", "correlated"), ("1", "a:b:c", "correlated")]),
    "y ~ (x || a/b)": ("1", [("1 + x", "a", "uncorrelated"), ("1 + x", "a:b", "uncorrelated")]),
    "y ~ `my x`:z + (`my x` | `my g`)": (
        "1 + `my x`:z",
        [("1 + `my x`", "my g", "correlated")],
    ),
    "y ~ I( x**2 ) + log (x)": ("1 + I(x ** 2) + log(x)", []),
    "y ~ log(`a b` / `lambda`) + I(2*`log`)": (
        "1 + log(`a b` / `lambda`) + I(2 * `log`)",
        [],
    ),
    "y ~ größe + I(`日 本` > 3)": ("1 + größe + I(`日 本` > 3)", []),
    "y\n  ~ x\n  + (x\t| g)": ("1 + x", [("1 + x", "g", "correlated")]),
    "y ~ bs(x, df=4) + C(a, levels=['b', 'a'])": (
        "1 + bs(x, df=4) + C(a, levels=['b', 'a'])",
        [],
    ),
}


@each("text", READ)
def test_formula_is_read_as_lme4_reads_it(text):
    population, groups = READ[text]
    spec = parse(text)
    assert spec.response == "y"
    assert spec.population == population
    assert spec.groups == tuple(GroupTerm(*g) for g in groups)


@each("text", READ)
def test_written_formula_reads_back_as_the_same_spec(text):
    spec = parse(text)
    assert parse(spec.formula) == spec


def test_equal_models_are_written_alike():
    ways = ["y ~ 1 + x + (1+x|g)", "y~x+(x|g)", "y ~ (x) + ((x | `g`))", "y ~ x + (x + 1 | g)"]
    assert {parse(w).formula for w in ways} == {"y ~ x + (x | g)"}


@pytest.mark.parametrize("left", ["log(y)", "`my y`", "I(y / 2)", "np.log10(y)"])
def test_response_may_be_a_function_of_columns(left):
    assert parse(f"{left} ~ x").response == left


# text, code, what the caret line covers
BROKEN = [
    ("y ~ x ~ z", "two-tildes", (6, 1)),
    ("~ x", "empty-side", (0, 1)),
    ("y ~", "empty-side", (2, 1)),
    ("y ~ ()", "empty-side", (4, 1)),
    ("y ~ 0", "empty-side", (4, 1)),
    ("y ~ (x | g", "unbalanced-parenthesis", (4, 1)),
    ("y ~ x)", "unbalanced-parenthesis", (5, 1)),
    ("y ~ log(x", "unbalanced-parenthesis", (7, 1)),
    ("y ~ x | g", "bar-outside-parentheses", (6, 1)),
    ("y ~ x || g", "bar-outside-parentheses", (6, 2)),
    ("y ~ (1 | g) | h", "bar-outside-parentheses", (12, 1)),
    ("y ~ ( | g)", "empty-bar-side", (6, 1)),
    ("y ~ (x | )", "empty-bar-side", (7, 1)),
    ("y ~ (0 | g)", "empty-bar-side", (5, 1)),
    ("y ~ (x|g|h)", "two-bars", (8, 1)),
    ("y ~ log(x | g)", "bar-in-call", (10, 1)),
    ("y ~ x +", "dangling-operator", (6, 1)),
    ("y ~ x + + z", "dangling-operator", (6, 1)),
    ("y ~ x + * z", "dangling-operator", (8, 1)),
    ("y ~ x:", "dangling-operator", (5, 1)),
    ("y ~ x z", "missing-operator", (6, 1)),
    ("y ~ x (x | g)", "missing-operator", (6, 1)),
    ("y ~ x $ z", "unknown-character", (6, 1)),
    ("y ~ .", "unknown-character", (4, 1)),
    ("y = x", "unknown-character", (2, 1)),
    ("y ~ `a", "unknown-character", (4, 1)),
    ("y ~ {x}", "unknown-character", (4, 1)),
    ("y ~ 2*x", "number-in-formula", (4, 1)),
    ("y ~ x:1", "number-in-formula", (6, 1)),
    ("y ~ (a + b)**7", "bad-power", (13, 1)),
    ("y ~ x**2", "bad-power", (7, 1)),
    ("y + z ~ x", "bad-response", (2, 1)),
    ("2 ~ x", "bad-response", (0, 1)),
    ("C(y) ~ x", "bad-response", (0, 4)),
    ("y ~ x + y", "response-as-predictor", (8, 1)),
    ("y ~ (1 | log(g))", "bad-factor", (9, 6)),
    ("y ~ (1 | a + b)", "bad-factor", (11, 1)),
    ("y ~ (1 | a:)", "bad-factor", (10, 1)),
    ("y ~ (1 | 3)", "bad-factor", (9, 1)),
    ("y ~ x*(1 | g)", "group-term-inside", (6, 1)),
    ("y ~ x - (1 | g)", "group-term-inside", (8, 1)),
    ("y ~ ((1|g) | h)", "group-term-inside", (5, 1)),
    ("y ~ (x - (1|g))**2", "group-term-inside", (9, 1)),
    ("y ~ lag(x)", "function-not-allowed", (4, 3)),
    ("y ~ a.b", "not-allowed", (5, 1)),
    ("y ~ ``", "not-allowed", (4, 2)),
    ("y ~ " + "(" * 60 + "x" + ")" * 60, "too-deep", (54, 1)),
]


@each(("text", "code", "caret"), BROKEN)
def test_caret_stands_under_what_is_to_blame(text, code, caret):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert caught.value.code == code
    lines = str(caught.value).splitlines()
    at = lines.index("    " + text) + 1
    pointer = lines[at].split("  [")[0]
    assert (pointer.index("^") - 4, pointer.count("^")) == caret
    assert caught.value.position == caret[0]


@pytest.mark.parametrize(("text", "code"), [("y x", "missing-tilde"), ("  ", "empty-side")])
def test_error_without_one_place_to_blame_has_no_caret(text, code):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert caught.value.code == code
    assert "^" not in str(caught.value)


HINTS = {
    "y ~ x | g": "write x + (x | g); for separate coefficients use hp.no_pooling",
    "y ~ (1 | a + b)": "(1 | a) + (1 | b)",
    "y ~ x**2": "I(x**2)",
    "y ~ a.b": "`a.b`",
    "y ~ .": "name them",
    "y + z ~ x": "I(y + z) ~",
    "y ~ x (x | g)": "write a +",
    "y ~ 2*x": "I(2 * x)",
    "y ~ sin(x)": "data['z'] = ...",
    "y ~ lag(x)": "data['z'] = data.groupby('g')['x'].shift()",
}


@each("text", HINTS)
def test_error_says_what_to_type(text):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert HINTS[text] in str(caught.value)


def test_formula_must_be_text():
    with pytest.raises(ArgumentError, match="a formula is text") as caught:
        parse(3)
    assert caught.value.code == "formula-not-text"


def test_very_long_formula_is_refused():
    with pytest.raises(FormulaError) as caught:
        parse("y ~ " + " + ".join(f"x{i}" for i in range(5000)))
    assert caught.value.code == "too-deep"


# What formulaic would run, or choke on; each is text inside one factor.
ATTACKS = [
    '__import__("os").system("touch {mark}")',
    'I(__import__("os").system("touch {mark}"))',
    "I(open('{mark}', 'w'))",
    "I(x.__class__.__mro__[1].__subclasses__())",
    "I((lambda: open('{mark}', 'w'))())",
    "I([open('{mark}', 'w') for _ in (1,)])",
    "log(open('{mark}', 'w'))",
    "eval(\"open('{mark}', 'w')\")",
    "bs(x, df=open('{mark}', 'w'))",
    "np.save('{mark}', x)",
    "np.log(x, out=x)",
    "np.lib.os.system('touch {mark}')",
    "I(f\"{{open('{mark}', 'w')}}\")",
    "I(x := open('{mark}', 'w'))",
    "I(x)(open('{mark}', 'w'))",
    "I(`x`.tofile('{mark}'))",
    "bs(*x)",
    "bs(x, **x)",
    "bs(x, _state=1)",
    "center(x, _state=1)",
    "log(__builtins__)",
    "I(__file__)",
    "I(9**9**9**9)",
    "I(x**9**9**9)",
    "I((9**9)**x**(9**9**9))",
    "I('a' * 1000)",
    "I(x[0])",
    "I(x if x else 1)",
    "I(x and x)",
    "I(not x)",
    "I(1j * x)",
    "I(True)",
    "I(x, 2)",
    "log()",
    "log(2)",
    "C(x + 1)",
    "log(C(x))",
    "I(log)",
    "I(x +)",
    "I(x < 1 < 2)",
    "I(\\x)",
    "I(" + "+".join(["x"] * 9000) + ")",
    "I(" + "(" * 300 + "x" + ")" * 300 + ")",
    "I(" + "-" * 5000 + "x)",
]


@each("attack", ATTACKS)
@each("place", ["y ~ {}", "{} ~ x", "y ~ x + ({} | g)", "y ~ (1 | {})"])
def test_no_python_but_arithmetic_on_columns_passes(attack, place, tmp_path):
    mark = tmp_path / "ran"
    with pytest.raises(FormulaError) as caught:
        parse(place.replace("{}", attack.replace("{mark}", str(mark))))
    assert caught.value.code
    assert not mark.exists()


@each("name", ALLOWED_FUNCTIONS)
def test_every_allowed_function_is_read(name):
    assert read_columns(f"{name}(x)").text == f"1 + {name}(x)"


@pytest.mark.parametrize("name", NUMPY_FUNCTIONS)
def test_numpy_spelling_is_read(name):
    assert read_columns(f"0 + np.{name}(x)").text == f"0 + np.{name}(x)"


def test_columns_of_a_factor_are_found_once_and_in_order():
    factor = read_response("I(b / a + `my c` * b)")
    assert factor.columns == ("b", "a", "my c")
    assert factor.with_names(("u", "v", "w")) == "I(u / v + w * u)"


def test_group_term_cannot_stand_where_only_columns_can():
    with pytest.raises(FormulaError) as caught:
        read_columns("x + (1 | g)")
    assert caught.value.code == "group-term-inside"


@pytest.mark.parametrize(
    ("name", "typed"), [("x", "x"), ("my x", "`my x`"), ("lambda", "`lambda`"), ("3", "`3`")]
)
def test_quoted_name_reads_back_as_the_column(name, typed):
    assert quote(name) == typed
    assert read_response(typed).columns == (name,)


def test_interaction_factor_splits_into_its_columns():
    assert split_factor(parse("y ~ (1 | a:`my b`)").factors[0]) == ("a", "my b")
    assert split_factor("plain name") == ("plain name",)


def test_reading_a_formula_imports_neither_formulaic_nor_pandas():
    code = (
        "import sys, hierpool.formula.parse;"
        "sys.exit(any(m in sys.modules for m in ('formulaic', 'pandas', 'narwhals')))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_offsets_stand_apart_from_the_columns():
    spec = parse("y ~ x + offset( log(n) ) + (x | g) + offset(m/2)")
    assert spec.offsets == ("offset(log(n))", "offset(m / 2)")
    assert (spec.population, len(spec.groups)) == ("1 + x", 1)
    assert spec.formula == "y ~ x + offset(log(n)) + offset(m / 2) + (x | g)"
    assert parse(spec.formula) == spec
    assert spec.without_bars == "1 + x + offset(log(n)) + offset(m / 2)"


@each(
    "formula",
    [
        "y ~ x - offset(z)",
        "y ~ x:offset(z)",
        "y ~ offset(z) * x",
        "y ~ (x + offset(z)):w",
        "y ~ x + (offset(z) | g)",
        "y ~ x + (1 + x + offset(z) || g)",
        "y ~ log(offset(z))",
        "offset(y) ~ x",
    ],
)
def test_misplaced_offset_gets_a_caret(formula):
    with pytest.raises(FormulaError) as caught:
        parse(formula)
    assert caught.value.code == "misplaced-offset"
    assert caught.value.position == formula.index("offset")


@pytest.mark.parametrize(
    "formula", ["y ~ offset(2)", "y ~ offset(poly(x, 2))", "y ~ offset(x, 2)", "y ~ offset()"]
)
def test_offset_takes_one_expression_of_columns(formula):
    with pytest.raises(FormulaError):
        parse(formula)


@each(
    "formula",
    ["y ~ my score", "my score ~ x", "y ~ x + (my score | g)", "y ~ log(my score)"],
)
def test_column_whose_name_needs_backticks_is_recognised(formula):
    data = {"y": [1.0], "x": [1.0], "my score": [2.0], "g": ["a"]}
    with pytest.raises(FormulaError) as caught:
        parse(formula, data)
    assert "a column 'my score', which needs backticks: `my score`  [" in str(caught.value)


def test_backticks_are_not_advised_where_they_stand_or_another_thing_is_wrong():
    data = {"y": [1.0], "x": [1.0], "my score": [2.0]}
    with pytest.raises(FormulaError) as caught:
        parse("y ~ `my score` x", data)
    assert "needs backticks" not in str(caught.value)
