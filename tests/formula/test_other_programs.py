"""Functions of lme4, mgcv, brms, nlme and patsy: the error says what to write, and it works."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import FormulaError
from hierpool.formula.functions import INSTEAD
from tests.support.cases import each


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.normal(size=96),
            "x": rng.uniform(0.1, 0.9, size=96),
            "z": rng.uniform(0.1, 0.9, size=96),
            "dose": np.tile(np.arange(1, 9), 12),
            "f": np.tile(list("abc"), 32),
            "g": np.repeat(list("stuvwxyz"), 12),
            "my col": rng.normal(size=96),
        }
    )


def advice(formula: str) -> str:
    with pytest.raises(FormulaError) as caught:
        hp.Model(formula, {})
    assert caught.value.code in ("function-not-allowed", "bar-in-call")
    return str(caught.value).splitlines()[-1].split("  [")[0]


# As people paste them -> the formula to write in their place.
PASTED = {
    "ns(x, 3)": "cr(x, df=3, constraints='center')",
    "ns(x, df = 4)": "cr(x, df=4, constraints='center')",
    "rcs(x, 4)": "cr(x, df=3, constraints='center')",
    "s(x)": "cr(x, df=4, constraints='center')",
    "s(x, k = 6)": "cr(x, df=6, constraints='center')",
    "te(x, z)": "cr(x, df=3, constraints='center') * cr(z, df=3, constraints='center')",
    "t2(x, z)": "cr(x, df=3, constraints='center') * cr(z, df=3, constraints='center')",
    "mo(dose)": "C(dose)",
    "Q('my col')": "`my col`",
    "ordered(f)": "C(f, Poly)",
    "relevel(f, ref = 'b')": "C(f, Treatment('b'))",
    "as.character(dose)": "C(dose)",
    "interaction(f, dose)": "f:dose",
    "ln(x)": "log(x)",
    "square(x)": "I(x**2)",
    "logit(x)": "log(x / (1 - x))",
    "exposure(x)": "offset(log(x))",
    "demean(x)": "center(x)",
    "contr.sum(f)": "C(f, Sum)",
    "cluster(g)": "(1 | g)",
    "Error(g)": "(1 | g)",
    "us(x | g)": "(x | g)",
    "diag(x | g)": "(x || g)",
}


@each("pasted", PASTED)
def test_error_says_what_to_write_and_it_works(pasted, table):
    typed = PASTED[pasted]
    assert advice(f"y ~ {pasted}").startswith(f"write {typed}")
    hp.Model(f"y ~ {typed}", table)


@each("name", [n for n, words in INSTEAD.items() if "data['z'] = " in words])
def test_column_that_is_to_be_made_is_made_by_what_is_written(name, table):
    line = re.search(r"data\['z'\] = .*", advice(f"y ~ {name}(x)"))
    assert line is not None
    names = {"data": table.copy(), "pandas": pd, "numpy": np}
    exec(line[0], names)
    hp.Model("y ~ z", names["data"])


def test_arguments_in_the_place_of_terms_work(table):
    assert "known_se='x'" in advice("y | se(x) ~ z")
    hp.Model("y ~ z + (1 | g)", table, known_se="x")
    assert "weights='x'" in advice("y | weights(x) ~ z")
    hp.Model("y ~ z + (1 | g)", table, weights="x")


@each("name", INSTEAD)
def test_every_known_function_has_its_own_advice(name):
    assert "for anything else" not in advice(f"y ~ {name}(x)")
