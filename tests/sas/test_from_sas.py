"""PROC MIXED read: the same model as SAS fits, its questions answered, and an error for all else."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import FormulaError
from hierpool.report.translation.proc_mixed import proc_mixed
from hierpool.report.translation.wording import wording_of
from tests.testbed.bundled import TABLES, Bundled

QUICK = {"Machines", "Orthodont", "bball1970"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x = np.tile(np.arange(6.0), 8)
    return pd.DataFrame(
        {
            "y": 3 + x + rng.normal(size=48) + np.repeat(rng.normal(size=8), 6),
            "x": x,
            "z": rng.normal(size=48),
            "sex": np.tile(["f", "m", "f", "m", "m", "f"], 8),
            "arm": np.repeat(["p", "q"], 24),
            "g": np.repeat(list("abcdefgh"), 6),
            "w": 1 + x,
        }
    )


@pytest.fixture(scope="module")
def split_plot() -> pd.DataFrame:
    """Stroup (1989), as in the SAS/STAT User's Guide, The MIXED Procedure, Split-Plot Design."""
    yields = [56, 41, 50, 36, 39, 35, 30, 25, 36, 28, 33, 30, 32, 24, 31, 27, 15, 19]
    yields += [30, 25, 35, 30, 17, 18]
    cells = [(block, a, b) for block in (1, 2, 3, 4) for a in (1, 2, 3) for b in (1, 2)]
    return pd.DataFrame(cells, columns=["Block", "A", "B"]).assign(Y=yields)


def program(*statements: str) -> str:
    return "\n".join(["proc mixed data=d;", "class sex arm g;", *statements, "run;"])


def read(text: str, table: pd.DataFrame) -> hp.Model:
    return hp.from_sas(text, table, echo=False)


FORMULAS = {
    "model y = x;": "y ~ x",
    "model y = ;": "y ~ 1",
    "model y = x z / noint;": "y ~ 0 + x + z",
    "MODEL Y = X*X X;": "y ~ I(x ** 2) + x",
    "model y = sex|x;": "y ~ C(sex, SAS) + x + C(sex, SAS):x",
    "model y = sex|arm|x@2;": "y ~ C(sex, SAS) + C(arm, SAS) + C(sex, SAS):C(arm, SAS) + x + "
    "C(sex, SAS):x + C(arm, SAS):x",
    "model y = arm sex(arm);": "y ~ C(arm, SAS) + C(arm, SAS):C(sex, SAS)",
    "model y = x; random g;": "y ~ x + (1 | g)",
    "model y = x; random g sex*g;": "y ~ x + (1 | g) + (1 | sex:g)",
    "model y = x; random int / sub=g(arm);": "y ~ x + (1 | arm:g)",
    "model y = x; random intercept x / subject=g;": "y ~ x + (1 + x || g)",
    "model y = x; random intercept x / subject=g type=un;": "y ~ x + (1 + x | g)",
    "model y = x; random int x / subject=g type=fa0(2);": "y ~ x + (1 + x | g)",
    "model y = x; random int / subject=g; random x / subject=g;": "y ~ x + (1 | g) + (0 + x | g)",
    "model y = x; random sex / subject=g;": "y ~ x + (1 | g:sex)",
    "model y = x; random sex / subject=g type=cs;": "y ~ x + (1 | g) + (1 | g:sex)",
    "model y = x; random sex / subject=g type=un;": "y ~ x + (0 + C(sex) | g)",
    "model y = x; random sex / subject=g type=un(1);": "y ~ x + (0 + C(sex) || g)",
    "model y = x; random int / subject=g group=arm;": "y ~ x + (0 + C(arm) || g)",
    "model y = x; random x*g;": "y ~ x + (0 + x | g)",
}


@pytest.mark.parametrize("statements", FORMULAS)
def test_statements_as_a_formula(statements, table):
    plain = FORMULAS[statements].replace("1 + x |", "x |")
    assert read(program(statements), table).formula.replace("1 + x |", "x |") == plain


def test_reference_order_and_direction_of_a_class_variable(table):
    def coded(options: str) -> str:
        text = f"proc mixed {options}; model y = sex; run;".replace(";", "; ", 1)
        return read(text, table).formula.removeprefix("y ~ ")

    assert coded("; class sex(ref='f')") == "C(sex, Treatment('f'))"
    assert coded("; class g sex / ref=first") == "C(sex, Treatment('f'))"
    assert coded("; class sex(descending)") == "C(sex, SAS, levels=['m', 'f'])"
    assert coded("order=data; class sex") == "C(sex, SAS)"
    by_size = table.assign(sex=pd.Categorical(table.sex, ["m", "f"]))
    text = "proc mixed; class sex; model y = sex; run;"
    assert read(text, by_size).formula == "y ~ C(sex, SAS, levels=['f', 'm'])"  # as SAS sorts


def test_comments_data_step_names_and_capitals(table):
    text = """
    options nodate; /* model y = z; */
    data fitted; set d; half = (x + 1) / 2; lz = log(w); twice = 2 * half; run;
    * it's a comment;
    PROC MIXED DATA=fitted METHOD=ML NOITPRINT;
      model 'body weight'n = half lz twice / s;
    quit;"""
    model = read(text, table.rename(columns={"y": "body weight"}))
    assert model.formula == ("`body weight` ~ I((x + 1) / 2) + log(w) + I(2 * ((x + 1) / 2))")
    assert model.sas is not None
    assert model.sas.method == "ml"
    assert "not needed here: options nodate" in model.sas.notes


def test_weights_and_known_standard_errors(table):
    weighted = read(program("model y = x;", "weight w;"), table)
    assert weighted.design.spec.residual.arguments == {"weights": "w"}
    held = read(program("model y = x;", "random g;", "weight w;", "parms (1) (1) / hold=2;"), table)
    assert held.design.spec.residual.structure == "known_se"
    by_hand = hp.Model("y ~ x + (1 | g)", table.assign(se=table.w**-0.5), known_se="se")
    assert held.reml().loglik == pytest.approx(by_hand.reml().loglik, abs=1e-8)


def test_split_plot_of_the_manual(split_plot):
    text = """
    proc mixed data=sp;
      class A B Block;
      model Y = A B A*B;
      random Block A*Block;
      estimate 'a1 mean' intercept 1 A 1 B .5 .5 A*B .5 .5;
      estimate 'a1 vs a2' A 1 -1 A*B .5 .5 -.5 -.5 / cl;
      estimate 'twice' A 2 -2 A*B 1 1 -1 -1 / divisor=2;
      contrast 'A' A 1 -1 0 A*B .5 .5 -.5 -.5 0 0, A 1 0 -1 A*B .5 .5 0 0 -.5 -.5;
      lsmeans A*B / slice=A;
      lsmeans A / diff;
    run;"""
    model = read(text, split_plot)
    fit = model.reml()
    variances = fit.variance_partition()["variance"].round(4)
    assert dict(variances.iloc[1:]) == {"Block": 62.3958, "A:Block": 15.3819, "residual": 9.3611}
    assert fit.anova()["F"].round(2).tolist() == [4.07, 19.39, 4.02]
    answers = model.sas.answers(fit)
    mean = answers["a1 mean"].iloc[0]
    assert (round(mean.estimate, 4), round(mean.se, 4)) == (32.875, 4.5403)
    assert answers["lsmeans A"].estimate.tolist() == pytest.approx([32.875, 34.125, 25.75])
    assert answers["a1 vs a2"].estimate.iloc[0] == pytest.approx(-1.25)
    assert answers["twice"].estimate.iloc[0] == pytest.approx(-1.25)
    assert answers["differences of A"].estimate.tolist() == pytest.approx([-1.25, 7.125, 8.375])
    assert len(answers["differences of B by A"]) == 3
    joint = answers["A"].iloc[0]
    assert joint.num_df == 2
    assert pytest.approx(fit.anova().F.iloc[0]) == joint.F


def test_inference_spaces_of_the_manual(split_plot):
    """Printed there: 32.8750 with standard errors 1.0817, 2.2396 and 4.5403."""
    text = """
    proc mixed data=sp;
      class A B Block;
      model Y = A B A*B;
      random Block A*Block;
      estimate 'narrow' intercept 1 A 1 B .5 .5 A*B .5 .5
        | Block .25 .25 .25 .25 A*Block .25 .25 .25 .25 0 0 0 0 0 0 0 0;
      estimate 'intermediate' intercept 1 A 1 B .5 .5 A*B .5 .5 | Block .25 .25 .25 .25;
      estimate 'broad' intercept 1 A 1 B .5 .5 A*B .5 .5;
    run;"""
    model = read(text, split_plot)
    found = pd.concat(model.sas.answers(model.reml()).values())
    assert found.estimate.tolist() == pytest.approx([32.875] * 3, abs=1e-8)
    assert found.se.round(4).tolist() == [1.0817, 2.2396, 4.5403]


def test_coefficients_left_out_are_spread_over_what_contains_the_effect(split_plot):
    """SAS/STAT User's Guide, The GLM Procedure, Specification of ESTIMATE Expressions."""
    pairs = {
        "a 1 -1": "a 1 -1 0 a*b .5 .5 -.5 -.5 0 0",
        "intercept 1 a 1": "intercept 1 a 1 b .5 .5 a*b .5 .5",
        "a 1 -1 b 1 -1": "a 1 -1 0 b 1 -1 a*b .8333333333333333 .1666666666666667 "
        "-.1666666666666667 -.8333333333333333 .3333333333333333 -.3333333333333333",
        "intercept 6": "intercept 6 a 2 2 2 b 3 3 a*b 1 1 1 1 1 1",
    }
    for short, long in pairs.items():
        text = "proc mixed; class a b block; model y = a|b; random block block*a; "
        text += f"estimate 'short' {short}; estimate 'long' {long}; run;"
        first, second = read(text, split_plot).sas.requests
        weights = (one.what[one.label] for one in (first, second))
        assert next(weights) == pytest.approx(next(weights), abs=1e-10)


def test_a_mean_of_two_effects_needs_the_coefficients_of_their_interaction(split_plot):
    """Spread evenly, those of both would count the mean twice."""
    text = "proc mixed; class a b; model y = a|b; estimate 'm' intercept 1 a 1 b 1; run;"
    with pytest.raises(FormulaError, match="give those of the interactions"):
        read(text, split_plot)


def test_cells_that_do_not_occur_get_no_share():
    t = pd.DataFrame({"a": [1, 1, 1, 2, 2] * 4, "b": [1, 2, 3, 1, 2] * 4})
    t["y"] = 10.0 * t.a + t.b**2 + np.tile([0.0, 1.0, 3.0, 2.0], 5)
    model = read("proc mixed; class a b; model y = a*b; estimate 'm' intercept 1; run;", t)
    found = model.sas.answers(model.reml())["m"].estimate.iloc[0]
    assert found == pytest.approx(t.groupby(["a", "b"]).y.mean().mean())


def test_degrees_of_freedom_that_the_program_asks_for(table):
    text = "model y = x sex / ddfm={}; random g; lsmeans sex;"
    both = {}
    for ddfm in ("kr", "satterth"):
        model = read(program(text.format(ddfm)), table)
        both[ddfm] = model.sas.answers(model.reml())["lsmeans sex"]
    fit = hp.Model("y ~ x + C(sex, SAS) + (1 | g)", table).reml()
    means = hp.marginal_means(fit.with_df("satterthwaite"), "sex")
    np.testing.assert_allclose(both["satterth"].df, means.df)
    assert "Satterthwaite" in str(means)
    assert (both["kr"].se > both["satterth"].se).all()
    text = program("model y = x / ddfm=kr;", "repeated / type=ar(1) subject=g;")
    assert "Satterthwaite's, in all tables, because Kenward and Roger's" in str(
        read(text, table).sas
    )


def test_slices_of_several_effects_and_a_log_linear_variance(table):
    text = "model y = sex|arm x; lsmeans sex*arm / slice=(sex arm); repeated / type=simple local=exp(x);"
    model = read(program(text), table)
    assert [r.label for r in model.sas.requests[1:]] == [
        "differences of arm by sex",
        "differences of sex by arm",
    ]
    assert model.sas.arguments == {"sigma": "~ x"}


def test_what_to_write_for_by_can_be_typed(table):
    text = program("model y = x;", "by ARM descending;", "random g;")
    with pytest.raises(FormulaError) as caught:
        read(text.replace("by ARM", "by descending ARM").replace(" descending;", ";"), table)
    code = re.search(r"write (\{.*\})", caught.value.message)[1].replace(
        "program, rows", "one, rows"
    )
    one = program("model y = x;", "random g;")
    made = eval(code, {"hp": hp, "data": table, "one": one})
    assert {label: m.design.n for label, m in made.items()} == {"p": 24, "q": 24}


def test_differences_are_in_the_order_of_sas(table):
    by_size = table.assign(sex=pd.Categorical(table.sex, ["m", "f"]))
    model = read("proc mixed; class sex; model y = sex; lsmeans sex / diff; run;", by_size)
    answers = model.sas.answers(model.reml())
    assert list(answers["differences of sex"].index) == ["f - m"]


def test_estimate_of_a_nested_design_with_empty_cells():
    """Coefficients in SAS's order: levels of what stands in parentheses change slowest."""
    rng = np.random.default_rng(0)
    t = pd.DataFrame({"a": [1, 1, 1, 2, 2, 2] * 4, "b": [1, 2, 3, 4, 5, 5] * 4})
    t["y"] = 10.0 * t.b + rng.normal(size=len(t))
    text = "proc mixed; class a b; model y = a b(a); estimate 'e' b(a) 0 1 -1; run;"
    model = read(text, t)
    answer = model.sas.answers(model.reml())["e"].estimate.iloc[0]
    means = t.groupby("b").y.mean()
    assert answer == pytest.approx(means[2] - means[3])


def test_covariates_of_lsmeans_are_at_their_means_also_with_two_values(table):
    two = table.assign(x=(table.x > 0).astype(float))
    text = "proc mixed; class sex; model y = sex x; lsmeans sex / diff=control('m') adjust=dunnett; run;"
    model = read(text, two)
    answers = model.sas.answers(model.reml())
    by_hand = hp.marginal_means(model.reml(), "sex", at={"x": two.x.mean()})
    np.testing.assert_allclose(answers["lsmeans sex"].estimate, by_hand.estimate)
    assert list(answers["differences of sex"].index) == ["f - m"]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=[] if c.table in QUICK else [pytest.mark.slow])
        for c in TABLES
        if c.table not in {"Chem97", "InstEval"}
    ],
    ids=str,
)
def test_what_the_report_writes_for_sas_reads_back_as_the_same_model(case: Bundled):
    model = case.model()
    code = proc_mixed(wording_of(model.design.schema)).code
    again = read(code, case.prepare(hp.datasets.load(case.table)))
    assert again.design.n == model.design.n
    assert again.reml().loglik == pytest.approx(model.reml().loglik, abs=1e-6)


REPEATED = {  # -2 log likelihood by ML, as the SAS/STAT User's Guide prints it (None: not printed)
    "repeated / type=un subject=Subject;": ("us(row_number | Subject)", 419.477),
    "repeated / type=cs subject=Subject;": ("cs(row_number | Subject)", 428.639),
    "repeated / type=cs subject=Subject group=Sex;": ("cs(row_number | Subject, by=Sex)", 408.813),
    "repeated visit / type=ar(1) subject=Subject local;": (
        "ar1(visit | Subject, nugget=True)",
        None,
    ),
    "repeated visit / type=toeph subject=Subject(Sex);": ("toeph(visit | Sex:Subject)", None),
    "repeated / type=sp(pow)(age) subject=Subject;": ("car1(age | Subject)", None),
    "random int / subject=Subject; repeated / group=Sex;": ("", None),
}


@pytest.mark.parametrize("statements", REPEATED)
def test_repeated_measures_of_potthoff_and_roy(statements):
    teeth = hp.datasets.load("Orthodont")
    teeth["visit"] = teeth.age
    text = "proc mixed method=ml; class Subject Sex visit; model distance = Sex age Sex*age;"
    model = read(f"{text} {statements} run;", teeth)
    residual, printed = REPEATED[statements]
    assert model.sas is not None
    assert model.sas.arguments == ({"residual": residual} if residual else {"sigma": "~ Sex"})
    assert ("counted as they stand" in repr(model.sas)) == ("row_number" in residual)
    if printed is not None:
        assert -2 * model.ml().loglik == pytest.approx(printed, abs=5e-4)


def test_occasions_of_sas_follow_each_other_whatever_lies_between(table):
    far = table.assign(visit=table.x.map({0: 0, 1: 1, 2: 2, 3: 4, 4: 8, 5: 16}))
    text = "proc mixed; class g visit; model y = x; repeated visit / type=ar(1) subject=g; run;"
    model = read(text, far)
    assert model.sas is not None
    assert model.sas.arguments["residual"] == "ar1(visit_order | g)"
    assert "0, 1, 2, 4, 8, 16" in repr(model.sas)
    in_steps = hp.Model("y ~ x", far, residual="ar1(x | g)")
    assert model.reml().loglik == pytest.approx(in_steps.reml().loglik, abs=1e-8)


def test_rows_are_counted_where_nothing_is_missing(table):
    holes = table.copy()
    holes.loc[2, "y"] = np.nan
    text = "proc mixed; class g; model y = x; repeated / type=ar(1) subject=g; run;"
    model = read(text, holes)
    assert model.sas is not None
    assert model.sas.data.row_number.iloc[:6].tolist()[:2] == [1, 2]
    assert model.sas.data.row_number.iloc[3] == 3


RESIDUALS = [
    {"residual": "ar1(age | Subject)"},
    {"residual": "us(age | Subject)"},
    {"residual": "cs(age | Subject, by=Sex)"},
    {"residual": "car1(age | Subject)"},
    {"residual": "ad1h(age | Subject)"},
    {"residual": "arma11(age | Subject)"},
    {"sigma": "~ Sex"},
    {"sigma": "~ log(age)"},
]


@pytest.mark.slow
@pytest.mark.parametrize("asked", RESIDUALS, ids=str)
def test_residual_structures_that_the_report_writes_read_back(asked):
    teeth = hp.datasets.load("Orthodont")
    model = hp.Model("distance ~ age * Sex", teeth, **asked)
    again = read(proc_mixed(wording_of(model.design.schema)).code, teeth)
    assert again.ml().loglik == pytest.approx(model.ml().loglik, abs=1e-6)


ERRORS = {
    "model y = x": ("sas-syntax", "x"),
    "model y = 'x;": ("sas-syntax", "'"),
    "model y = x; by g;": ("sas-by", "by"),
    "model y = x; random int x / subject=g type=ar(1);": ("sas-type", "type=ar(1)"),
    "model y = x / ddf=5;": ("sas-option", "ddf=5"),
    "model y = x; lsmeans sex;": ("sas-effect", "sex"),
    "model y = sex; lsmeans sex / adjust=bon;": ("sas-option", "adjust=bon"),
    "model y = sex; contrast 'c' sex 1 -1 0;": ("sas-contrast", "1 -1 0"),
    "model y = sex; estimate 'c' sex 1;": ("sas-contrast", "sex 1"),
    "model y = x; random int sex / subject=g type=un;": ("sas-effect", "int sex"),
    "model y = %x;": ("sas-macro", "%x"),
    "model y = x; repeated / type=cs;": ("sas-effect", "repeated"),
    "model y = x; estimate 'b' x 1 | int 1 / subject 1 0;": ("sas-option", "subject 1 0"),
    "model y = x / htype=1;": ("sas-option", "htype=1"),
}
HINTS = {
    "proc mixed; class g model y = x; run;": "is the ; before 'model' missing?",
    "proc mixed; class sex; model y = sex; contrast sex 1 -1;": "contrast 'a1 - a2'",
    "x = 1; proc mixed; model y = x; run;": "pass the text from proc mixed",
    "study.sas": "read_text()",
    "proc sort; by g; run; proc mixed; model y = x; run;": "pass the text from proc mixed",
    "proc mixed; model y = x; run; proc mixed; model y = z; run;": "pass the text from proc mixed",
    "data a; input g $ y; datalines; 1 a 2 ; proc mixed; model y = x; run;": "do the rest with pandas",
    "proc mixed nobound; model y = x; random g; run;": "leave it out",
}


@pytest.mark.parametrize("text", HINTS)
def test_errors_say_what_to_write(text, table):
    with pytest.raises(FormulaError, match=re.escape(HINTS[text])):
        read(text, table)


def test_what_only_prints_or_stores_is_noted(table):
    text = """libname a 'x'; proc mixed data=a.d; %* a comment; class sex; id g; store out=s;
    model y = sex / htype=1,3; lsmeans sex / pdiff adj=tukey; run;"""
    model = read(text, table)
    assert model.sas is not None
    ignored = [note for note in model.sas.notes if note.startswith("not needed here")]
    assert [note.split()[3] for note in ignored] == ["libname", "id", "store"]
    assert "htype: tests of type 3 only, fit.anova()" in model.sas.notes
    assert "adjust='tukey'" in str(model.sas)


@pytest.mark.parametrize("statements", ERRORS)
def test_what_cannot_be_read_has_a_caret_under_it(statements, table):
    code, place = ERRORS[statements]
    text = f"proc mixed data=d;\n  class sex arm g;\n  {statements}" if code == "sas-syntax" else ""
    with pytest.raises(FormulaError) as caught:
        read(text or program(statements), table)
    error = caught.value
    assert error.code == code
    assert error.position is not None
    line, caret = error.message.split("\n")[1:3]
    assert line[caret.index("^") : caret.rindex("^") + 1] == place


def test_options_of_data_sets_are_refused_with_advice(table):
    with pytest.raises(FormulaError, match=r"data\.query") as caught:
        read("proc mixed data=d(where=(x > 1)); model y = x; run;", table)
    assert caught.value.code == "sas-option"


def test_what_was_understood_is_printed(table, capsys):
    model = hp.from_sas(program("model y = sex / solution;", "random g;"), table)
    printed = capsys.readouterr().out
    assert printed == f"{model.sas}\n"
    assert "model = hp.Model('y ~ C(sex, SAS) + (1 | g)', data)" in printed
    assert "2 levels in this order: 'f', 'm'; the last one is the reference" in printed
    assert "fit = model.reml()" in printed
