"""Codings of categories: the columns of R's contrasts, and nothing but the coding changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import DataError, FormulaError
from hierpool.fits.posterior import load_fit
from hierpool.formula import neighbours
from hierpool.formula.build import build_design
from hierpool.formula.parse import parse
from tests.support.cases import each

ROOT2, ROOT6 = np.sqrt(2), np.sqrt(6)

# As contr.treatment(3), contr.sum(3) and so on print them in R; a row for each of a, b, c.
OF_R = {
    "C(f)": (["T.b", "T.c"], [[0, 0], [1, 0], [0, 1]]),
    "C(f, Treatment)": (["T.b", "T.c"], [[0, 0], [1, 0], [0, 1]]),
    "C(f, Treatment('b'))": (["T.a", "T.c"], [[1, 0], [0, 0], [0, 1]]),
    "C(f, SAS)": (["T.a", "T.b"], [[1, 0], [0, 1], [0, 0]]),
    "C(f, Sum)": (["S.a", "S.b"], [[1, 0], [0, 1], [-1, -1]]),
    "C(f, Helmert)": (["H.b", "H.c"], [[-1, -1], [1, -1], [0, 2]]),
    "C(f, Poly)": (
        [".L", ".Q"],
        [[-1 / ROOT2, 1 / ROOT6], [0, -2 / ROOT6], [1 / ROOT2, 1 / ROOT6]],
    ),
    "C(f, Poly(scores=[1, 2, 4]))": (  # contr.poly(3, scores = c(1, 2, 4))
        [".L", ".Q"],
        [[-0.617213, 0.534522], [-0.154303, -0.801784], [0.771517, 0.267261]],
    ),
    "C(f, Diff)": (["D.b", "D.c"], [[-2 / 3, -1 / 3], [1 / 3, -1 / 3], [1 / 3, 2 / 3]]),
    "C(f, Sum, levels=['c', 'a', 'b'])": (["S.c", "S.a"], [[0, 1], [-1, -1], [1, 0]]),
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    f = np.tile(list("abc"), 12)
    data = pd.DataFrame(
        {
            "f": f,
            "x": rng.normal(size=36).round(2),
            "h": rng.choice(list("pqr"), size=36),
            "g": np.repeat(list("uvwxyz"), 6),
        }
    )
    level = dict(zip("uvwxyz", rng.normal(size=6), strict=True))
    data["y"] = (data.f == "b") * 2.0 + data.x + data.g.map(level) + rng.normal(size=36) / 2
    return data


def designed(text: str, data: pd.DataFrame):
    return build_design(parse(f"y ~ {text}"), data)


@each("text", OF_R)
def test_columns_are_those_of_r(text, table):
    fields, matrix = OF_R[text]
    design = designed(text, table)
    assert design.terms == ("Intercept", *(f"{text}[{field}]" for field in fields))
    assert design.X[:3, 1:] == pytest.approx(np.array(matrix), abs=1e-6)
    assert parse(design.spec.formula) == design.spec


@each(
    ("ways", "text"),
    [
        (["factor(f)", "as.factor(f)", "C( f )", "as.factor( `f` )"], "C(f)"),
        (["C(f, contr.treatment)", "C(f, Treatment())", "C(f,'contr.treatment')"],
         "C(f, Treatment)"),
        (["C(f, contr.sum)", "C(f, contr.sum())", "C(f, sum)", 'C(f, contr="contr.sum")',
          "C(f, contrasts=Sum)", "factor(f, contr.sum)"], "C(f, Sum)"),
        (["C(f, contr.helmert)", "C(f, Helmert())", "C(f, helmert)"], "C(f, Helmert)"),
        (["C(f, contr.poly)", "C(f, Poly())"], "C(f, Poly)"),
        (["C(f, contr.SAS)"], "C(f, SAS)"),
        (["C(f, Treatment(reference=\"b\"))", "C(f, contr.treatment('b'))",
          "C(f, Treatment(ref='b'))", "C(f, contr.treatment(base='b'))"],
         "C(f, Treatment('b'))"),
        (["I(x^2)", "I(x ^ 2)", "I( x**2 )"], "I(x ** 2)"),
        (["log(x^2 + 1)"], "log(x ** 2 + 1)"),
        (["I(2*x^2 + x^3)"], "I(2 * x ** 2 + x ** 3)"),
        (["poly(x, 2, raw=TRUE)", "poly(x,2,raw = True)"], "poly(x, 2, raw=True)"),
        (["scale(x, scale=FALSE)"], "scale(x, scale=False)"),
    ],
)  # fmt: skip
def test_spellings_of_other_programs_are_one_model(ways, text):
    assert {parse(f"y ~ {way}").population for way in ways} == {f"1 + {text}"}


def test_power_binds_as_in_r(table):
    x = table.x.to_numpy()
    assert designed("I(-x^2 + 3*x^2/2)", table).X[:, 1] == pytest.approx(-(x**2) + 1.5 * x**2)


def test_categories_without_a_constant_have_a_column_each_as_in_r(table):
    design = designed("0 + C(f, Sum)", table)
    assert design.terms == ("C(f, Sum)[a]", "C(f, Sum)[b]", "C(f, Sum)[c]")
    assert design.X[:3].tolist() == np.eye(3).tolist()


CODINGS = ["f", "C(f, Treatment('b'))", "C(f, Sum)", "C(f, Helmert)", "C(f, Poly)", "C(f, Diff)"]


@pytest.mark.parametrize("coding", CODINGS[1:])
def test_coding_changes_no_test_of_a_term_no_fit_and_no_prediction(coding, table):
    def fitted(text: str):
        return hp.Model(f"y ~ {text} * C(h, Helmert) + {text}:x + x + (1 | g)", table).reml()

    one, other = fitted("f"), fitted(coding)
    tests, own = one.anova(), other.anova()
    assert own.F.to_numpy() == pytest.approx(tests.F.to_numpy(), rel=1e-5)
    assert own.den_df.to_numpy() == pytest.approx(tests.den_df.to_numpy(), rel=0.01)
    new = table.iloc[[5, 1, 0]].drop(columns="y")
    tables = [
        (one.predict(new), other.predict(new)),
        (hp.contrast(one, "f"), hp.contrast(other, "f")),
    ]
    for mine, theirs in tables:
        assert list(mine.index) == list(theirs.index)
        assert theirs.to_numpy() == pytest.approx(mine.to_numpy(), abs=1e-4)


def test_new_data_with_fewer_categories_keep_their_columns(table):
    design = designed("C(f, Poly) + C(h, Sum)", table)
    few = table[table.f == "b"].iloc[::-1]
    rows = [table.index.get_loc(k) for k in few.index]
    assert pytest.approx(design.X[rows]) == design.encoder.encode(few).X
    with pytest.raises(DataError, match="not in the model"):
        design.encoder.encode(few.assign(f="d"))


def test_saved_fit_keeps_its_codings(table, tmp_path):
    fit = hp.Model("y ~ C(f, Treatment('b')) + C(h, Poly) + x + (1 | g)", table).fit(
        draws=50, seed=1
    )
    fit.save(tmp_path / "fit.nc")
    again = load_fit(tmp_path / "fit.nc")
    assert again.design.terms == fit.design.terms
    assert pytest.approx(fit.design.X) == again.design.X


WRONG = {
    "C(f, Treatment('d'))": ("unknown-category", "'a', 'b', 'c'"),
    "C(f, Treatment(0))": ("unknown-category", "'a', 'b', 'c'"),
    "C(d, Treatment('2'))": ("unknown-category", "write 2"),
    "C(d, levels=[1, 2, 3, 4])": ("unknown-category", "in the rows that are used"),
    "C(f, levels=['a', 'b'])": ("unseen-category", "omits 'c'"),
    "C(f, Poly(scores=[1, 2]))": ("wrong-scores", "3 categories"),
    "C(f, Poly(scores=[1, 2, 2]))": ("wrong-scores", "a score, or omit"),
}


@pytest.mark.parametrize("text", WRONG)
def test_coding_that_does_not_fit_the_categories_names_them(text, table):
    code, words = WRONG[text]
    data = table.assign(d=table.f.map({"a": 1, "b": 2, "c": 3}))
    with pytest.raises(DataError, match=words) as caught:
        designed(text, data)
    assert caught.value.code == code


UNREAD = {
    "C(f, Traetment('b'))": "not a coding",
    "C(f, x)": "not a coding",
    "C(f, Sum, Poly)": "one coding",
    "C(f, Sum('b'))": "does not take",
    "C(f, Treatment('a', 'b'))": "does not take",
    "C(f, Treatment(b))": "in quotes: 'b'",
    "C(f, contr.treatment(2))": "position",
    "C(f, labels=['a'])": "cannot take",
    "C(f, levels='ab')": "a list of labels",
    "C(f, levels=['a', 'a'])": "twice",
    "C(f, levels=[f, x])": "in quotes",
    "C(f, Poly(scores='a'))": "list of numbers",
}


@each("text", UNREAD)
def test_coding_that_cannot_be_read_gets_a_caret(text):
    with pytest.raises(FormulaError, match=UNREAD[text]) as caught:
        parse(f"y ~ {text}")
    assert "^" in str(caught.value)


def test_ordered_category_is_coded_by_treatment_and_the_note_says_what_r_does(table):
    data = table.assign(
        size=pd.Categorical(table.f, categories=list("bac"), ordered=True), z=table.x
    )
    design = designed("size + z", data)
    assert design.terms == ("Intercept", "size[T.a]", "size[T.c]", "z")
    (note,) = [n for n in design.notices if n.code == "ordered-categories"]
    assert "write C(size, Poly)" in note.text
    for typed in ("C(size, Poly)", "C(size, Treatment)", "C(size, Treatment('a'))"):
        assert not [n for n in designed(typed, data).notices if n.code == "ordered-categories"]
    assert designed("C(size, Poly)", data).X[:3, 1] == pytest.approx([0, -1 / ROOT2, 1 / ROOT2])


def test_label_that_holds_a_colon_or_a_quote_parts_no_term(table):
    data = table.assign(f=table.f.map({"a": "a:b", "b": "it's", "c": 'c") #'}))
    design = designed("""C(f, Treatment("it's"), levels=['c") #', 'a:b', "it's"]) * x""", data)
    (piece,) = design.encoder.population
    assert [columns for _, columns in piece.encoding.terms] == [(0,), (1, 2), (3,), (4, 5)]
    assert parse(design.spec.formula) == design.spec
    again = build_design(parse(design.spec.formula), data)
    assert again.terms == design.terms


def test_steps_of_a_model_keep_its_codings(table):
    design = designed("C(f, Sum, levels=['c', 'a', 'b']) + x + (C(f, Sum) + x | g)", table)
    terms = neighbours.varying_terms(design.schema, "g")
    assert [t.text for t in terms] == ["1", "C(f, Sum)", "x"]
    simpler = neighbours.without_term(design.schema, "g", terms[2], design.spec.population)
    assert simpler.formula == "y ~ C(f, Sum, levels=['c', 'a', 'b']) + x + (C(f, Sum) | g)"
    equal = neighbours.with_equal_categories(build_design(simpler, table), "g")
    assert equal is not None
    assert [t.factor for t in equal.groups] == ["g", "g:f"]
    richer = neighbours.with_slope(parse("y ~ C(f, Sum) + (1 | g)"), "g", "C(f, Sum)")
    assert richer is not None
    assert richer.formula == "y ~ C(f, Sum) + (C(f, Sum) | g)"
