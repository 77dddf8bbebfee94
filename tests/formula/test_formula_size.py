"""Formulas that would exhaust the machine are counted first, and refused with the count."""

from __future__ import annotations

import string
import time

import numpy as np
import pandas as pd
import pytest

from hierpool.core.errors import DataError, FormulaError
from hierpool.formula.build import build_design
from hierpool.formula.parse import parse, read_columns
from hierpool.formula.terms import count_columns, terms_of
from tests.support.cases import each

MANY = [f"v{k}" for k in range(2000)]
TOO_LARGE = {
    "*".join(string.ascii_lowercase[:17]): ("too-many-terms", "131,071 terms"),
    "*".join(MANY[:300]): ("too-many-terms", "more than"),
    f"({' + '.join(MANY[:20])})**5": ("too-many-terms", "21,699 terms"),
    f"({' + '.join(MANY[:900])})**2": ("too-many-terms", "810,000 products"),
    "(" * 9 + "a + b + c + d + e + f" + ")**5" * 9: ("too-many-terms", "916,132,832 products"),
    "*".join("abcdefgh" * 900): ("too-many-terms", "products of terms"),
    "/".join(MANY): ("too-many-terms", "2,000 terms"),
    ":".join(MANY): ("too-many-terms", "interaction of 2,000 columns"),
    f"(1 | {'/'.join(MANY)})": ("too-many-terms", "group of 2,000 columns"),
    f"(1 | {':'.join(MANY)})": ("too-many-terms", "group of 2,000 columns"),
    " + ".join(f"(1 | {v})" for v in MANY[:900]): ("too-many-terms", "900 group terms"),
    "bs(x, df=10000000)": ("too-many-columns", "10,000,000 columns"),
    "poly(x, 10000000)": ("too-many-columns", "10,000,000 columns"),
    "bs(x, degree=10000000)": ("too-many-columns", "columns"),
    f"cr(x, df={'9' * 4000})": ("too-many-columns", "more than 1,000,000,000,000"),
}


@each("text", TOO_LARGE)
def test_formula_too_large_is_refused_with_its_count_at_once(text):
    code, words = TOO_LARGE[text]
    start = time.process_time()
    with pytest.raises(FormulaError, match=words) as caught:
        parse(f"y ~ {text}")
    assert caught.value.code == code
    assert time.process_time() - start < 5


def test_columns_of_many_categories_are_counted_before_they_are_made():
    n = 1200
    data = pd.DataFrame({"y": np.arange(n) % 7.0, "a": np.arange(n) % 600, "b": np.arange(n) // 2})
    with pytest.raises(DataError, match="360,000 columns") as caught:
        build_design(parse("y ~ C(a) * C(b)"), data)
    assert caught.value.code == "too-many-columns"


@each(
    "text",
    ["x", "0 + f", "f * h", "f:h", "0 + f:h", "f/h", "f*h*x - x", "(f + h + x)**2", "f:x", "0 + x:f",
     "f*poly(x, 2)", "(f + h)/x + I(x**2):h"],
)  # fmt: skip
def test_columns_are_counted_as_they_are_made(text):
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "y": rng.normal(size=90),
            "x": rng.normal(size=90),
            "f": np.tile(list("abc"), 30),
            "h": np.repeat(list("uvwxy"), 18),
        }
    )
    side = read_columns(text)
    sizes = {f: {"f": 3, "h": 5}[f.text] for f in side.factors if f.text in ("f", "h")}
    counted = count_columns(terms_of(side.pieces), side.has_constant, sizes)
    assert counted == len(build_design(parse(f"y ~ {text}"), data).terms)
