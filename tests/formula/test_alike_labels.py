"""Labels that differ only in what the eye passes over are told, with what makes them one."""

from __future__ import annotations

import re

import pandas as pd

from hierpool.formula.build import build_design
from hierpool.formula.parse import parse
from tests.support.cases import each
from tests.support.tables import small


def notices(labels, formula="y ~ 1 + (1 | g)"):
    data = small(g=labels)
    return data, [n for n in build_design(parse(formula), data).notices if n.code == "labels-alike"]


@each("other", ["S1", "s1 ", " s1", " S1", "s1\u00a0", "ｓ1", "S 1"], ids=ascii)
@each("formula", ["y ~ 1 + (1 | g)", "y ~ g", "y ~ C(g)"])
def test_alike_labels_are_named_and_the_advice_makes_them_one(other, formula):
    plain = "s 1" if other == "S 1" else "s1"
    data, found = notices([plain, other, "s2", "t"] * 6, formula)
    (notice,) = found
    assert "1 label of 'g' is spelled in several ways" in notice.text
    assert " and ".join(map(repr, sorted([plain, other]))) in notice.text
    scope = {"data": data}
    exec(re.search(r"data\['g'\] = .*$", notice.text)[0], scope)
    assert scope["data"]["g"].nunique() == 3
    assert not notices(scope["data"]["g"])[1]


def test_labels_that_differ_are_not_alike():
    assert not notices(["s1", "s2", "s11", "é"] * 6)[1]
    assert not notices([1, 2, 3, 4] * 6)[1]


def test_categories_without_rows_are_not_compared():
    labels = pd.Categorical(["a", "b"] * 12, categories=["a", "A", "b"])
    assert not notices(labels)[1]


def test_an_invisible_character_is_seen():
    (notice,) = notices(["s1", "s1\u200b", "s2"] * 8)[1]
    assert "\\u200b" in notice.text
