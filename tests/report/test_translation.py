"""A model says the same in lme4, brms and PROC MIXED, or it is said where it does not."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.report.translation.brms import brms
from hierpool.report.translation.lme4 import lme4
from hierpool.report.translation.proc_mixed import proc_mixed
from hierpool.report.translation.programs import translate
from hierpool.report.translation.wording import wording_of
from tests.support.cases import each


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x = np.tile(np.arange(6.0), 5)
    return pd.DataFrame(
        {
            "y": 3 + x + rng.normal(size=30),
            "x": x,
            "z": rng.normal(size=30),
            "sex": np.tile(["f", "m", "f", "m", "m", "f"], 5),
            "g": np.repeat(list("abcde"), 6),
            "h": np.tile(["p", "q"], 15),
            "w": 1 + x,
            "se": 0.5 + x / 10,
            "body weight": 1 + x**2,
        }
    )


@pytest.fixture(scope="module")
def ladder(table):
    return hp.pooling_ladder("y ~ x", table, group="g")


LADDER = {
    "complete_pooling": (
        "lm(y ~ x, data = data)",
        "y ~ x",
        ["model y = x / solution;"],
    ),
    "varying_intercept": (
        "lmer(y ~ x + (1 | g), data = data, REML = TRUE)",
        "y ~ x + (1 | g)",
        ["class g;", "model y = x / solution;", "random intercept / subject=g type=vc solution;"],
    ),
    "varying_slope_only": (
        "lmer(y ~ x + (0 + x | g), data = data, REML = TRUE)",
        "y ~ x + (0 + x | g)",
        ["class g;", "model y = x / solution;", "random x / subject=g type=vc solution;"],
    ),
    "varying_slope_uncorrelated": (
        "lmer(y ~ x + (x || g), data = data, REML = TRUE)",
        "y ~ x + (x || g)",
        ["class g;", "model y = x / solution;", "random intercept x / subject=g type=vc solution;"],
    ),
    "varying_slope": (
        "lmer(y ~ x + (x | g), data = data, REML = TRUE)",
        "y ~ x + (x | g)",
        ["class g;", "model y = x / solution;", "random intercept x / subject=g type=un solution;"],
    ),
    "no_pooling": (
        "lmList(y ~ x | g, data = data)",
        "y ~ 0 + g + g:x",
        ["class g;", "model y = g x*g / noint solution;"],
    ),
}


@pytest.mark.parametrize("rung", LADDER)
def test_every_rung_in_every_program(rung, ladder):
    in_lme4, in_brms, in_sas = translate(wording_of(ladder[rung].design.schema))
    r, formula, statements = LADDER[rung]
    assert in_lme4.code == r
    assert in_brms.code == f"brm({formula}, data = data, family = gaussian())"
    lines = ["proc mixed data=data method=reml;", *(f"  {s}" for s in statements), "run;"]
    assert in_sas.code.split("\n") == lines


def test_formula_of_lme4_and_brms_reads_back_as_the_same_model(ladder, table):
    for rung, model in ladder.items():
        if rung == "no_pooling":
            continue
        for write in (lme4, brms):
            text = re.match(r"\w+\((.*?), data = ", write(wording_of(model.design.schema)).code)[1]
            again = hp.Model(text, table).design
            assert again.spec.groups == model.design.spec.groups
            assert again.terms == model.design.terms


def words(model: hp.Model):
    return wording_of(model.design.schema)


def test_weights_are_residual_variances_in_all_three(table):
    wording = words(hp.varying_intercept("y ~ x", table, "g", weights="w"))
    assert ", weights = w, REML" in lme4(wording).code
    assert "  weight w;" in proc_mixed(wording).code.split("\n")
    written = brms(wording)
    assert "sigma ~ 1 + offset(-0.5 * log(w))" in written.code
    assert "multiplies the log-likelihood" in " ".join(written.notes)


def test_known_standard_errors_hold_the_residual_variance_in_sas_and_have_no_equal_in_lme4(table):
    wording = words(hp.varying_slope("y ~ x", table, "g", known_se="se"))
    assert "fits a different model" in " ".join(lme4(wording).notes)
    assert "y | se(se) ~ x + (x | g)" in brms(wording).code
    lines = proc_mixed(wording).code.split("\n")
    assert "  precision = 1 / se**2;" in lines
    assert "  weight precision;" in lines
    assert "  parms (1) (0) (1) (1) / hold=4;" in lines
    uncorrelated = words(hp.varying_slope("y ~ x", table, "g", correlated=False, known_se="se"))
    assert "  parms (1) (1) (1) / hold=3;" in proc_mixed(uncorrelated).code.split("\n")


def test_offset_is_taken_off_the_response_in_sas(table):
    wording = words(hp.Model("y ~ x + offset(log(w)) + (1 | g)", table))
    assert "y ~ x + offset(log(w)) + (1 | g)" in lme4(wording).code
    lines = proc_mixed(wording).code.split("\n")
    assert lines[:4] == [
        "data fitted;",
        "  set data;",
        "  response_less_offset = y - log(w);",
        "run;",
    ]
    assert "  model response_less_offset = x / solution;" in lines


def test_functions_are_spelt_as_each_language_does(table):
    wording = words(hp.Model("log(w) ~ I(x ** 2) + np.sqrt(w) + center(z) + C(h) + (1 | g)", table))
    code = lme4(wording).code
    assert "log(w) ~ I(x ^ 2) + sqrt(w) + scale(z, scale = FALSE) + factor(h) + (1 | g)" in code
    sas = proc_mixed(wording)
    assert "  response = log(w);" in sas.code
    assert "(x ** 2);" in sas.code
    assert "  class g h;" in sas.code
    assert "SAS has no function for center(z)" in " ".join(sas.notes)


def test_splines_without_an_equal_say_so(table):
    wording = words(
        hp.Model("y ~ cr(x, df=3, constraints='center') + bs(z, df=4) + (1 | g)", table)
    )
    assert "splines::bs(z, df=4)" in lme4(wording).code
    assert "Base R has no cr()" in " ".join(lme4(wording).notes)


def test_categories_are_classes_and_interactions_are_multiplied_out_in_sas(table):
    wording = words(hp.Model("y ~ x * sex + (1 | g)", table))
    assert "y ~ x * sex + (1 | g)" in lme4(wording).code
    sas = proc_mixed(wording)
    assert "  class g sex;" in sas.code
    assert "  model y = x sex x*sex / solution;" in sas.code
    assert "last category the reference" in " ".join(sas.notes)


def test_a_category_beside_a_double_bar_is_another_model_in_lme4(table):
    wording = words(hp.Model("y ~ sex + (sex || g)", table))
    assert "lme4 1.1 keeps" in " ".join(lme4(wording).notes)
    assert "0/1 columns" in " ".join(proc_mixed(wording).notes)
    assert not any("another model" in note for note in brms(wording).notes)


def test_several_factors_have_a_statement_each(table):
    wording = words(hp.Model("y ~ x + (x | g) + (1 | h)", table))
    assert "(x | g) + (1 | h)" in lme4(wording).code
    lines = proc_mixed(wording).code.split("\n")
    assert "  class g h;" in lines
    assert "  random intercept x / subject=g type=un solution;" in lines
    assert "  random intercept / subject=h type=vc solution;" in lines


def test_names_that_need_quotes_have_them(table):
    wording = words(hp.Model("y ~ `body weight` + (`body weight` | g)", table))
    assert "y ~ `body weight` + (`body weight` | g)" in lme4(wording).code
    sas = proc_mixed(wording)
    assert "model y = 'body weight'n / solution;" in sas.code
    assert "validvarname=any" in " ".join(sas.notes)


def test_a_model_without_constant_has_none_anywhere(table):
    wording = words(hp.Model("y ~ 0 + x + (1 | g)", table))
    assert "y ~ 0 + x + (1 | g)" in lme4(wording).code
    assert "  model y = x / noint solution;" in proc_mixed(wording).code


def test_what_stays_common_without_pooling_is_said(table):
    data = table.assign(size=table["g"].map({"a": 1.0, "b": 2.0, "c": 0.0, "d": 5.0, "e": 3.0}))
    wording = words(hp.no_pooling("y ~ x + size", data, "g"))
    assert "size does not vary within groups" in " ".join(lme4(wording).notes)
    assert "y ~ 0 + g + g:x + size" in brms(wording).code
    assert "model y = g x*g size / noint solution;" in proc_mixed(wording).code


OF_R = {
    "C(h)": "factor(h)",
    "C(h, Treatment)": "factor(h)",
    "C(h, Treatment('q'))": "relevel(factor(h), ref = 'q')",
    "C(k, Treatment(2))": 'relevel(factor(k), ref = "2")',
    "C(h, Sum)": "C(factor(h), contr.sum)",
    "C(h, Helmert)": "C(factor(h), contr.helmert)",
    "C(h, SAS)": "C(factor(h), contr.SAS)",
    "C(h, Diff)": "C(factor(h), MASS::contr.sdif)",
    "C(h, Poly, levels=['q', 'p'])": "C(factor(h, levels = c('q', 'p')), contr.poly)",
    "C(k, Poly(scores=[1, 2, 4]))": "C(factor(k), contr.poly(3, scores = c(1, 2, 4)))",
    "C(odd, levels=['a:b % (', 'c//'])": "factor(odd, levels = c('a:b % (', 'c//'))",
    "poly(x, 2, raw=True)": "poly(x, 2, raw=TRUE)",
    "bs(x, knots=[1, 2])": "splines::bs(x, knots=c(1, 2))",
}


@each("text", OF_R)
def test_codings_and_arguments_are_spelt_as_r_does(text, table):
    data = table.assign(k=np.tile([1, 2, 3], 10), odd=np.tile(["a:b % (", "c//"], 15))
    wording = words(hp.Model(f"y ~ {text} + (1 | g)", data))
    for program in (lme4, brms):
        assert f"(y ~ {OF_R[text]} + (1 | g), data" in program(wording).code
    by_order = any("depends on the order" in note for note in lme4(wording).notes)
    assert by_order == ("contr." in OF_R[text] and "levels" not in text)


def test_sas_says_that_it_codes_categories_in_its_own_way(table):
    sas = proc_mixed(words(hp.Model("y ~ C(h, Sum) * x + (1 | g)", table)))
    assert "  class g h;" in sas.code
    assert "not those of C(h, Sum), but the fit is the same" in " ".join(sas.notes)


def test_brms_keeps_columns_that_lme4_drops(table):
    twice = table.assign(twice=2 * table["x"])
    written = brms(words(hp.Model("y ~ x + twice + (1 | g)", twice)))
    assert "brms keeps 'twice', which cannot be estimated" in " ".join(written.notes)
    assert "brms keeps" not in " ".join(brms(words(hp.Model("y ~ x + (1 | g)", table))).notes)


def test_degrees_of_freedom_of_sas_are_named_where_there_is_a_random_statement(table):
    mixed = proc_mixed(words(hp.Model("y ~ x + (1 | g)", table)))
    assert "ddfm=satterthwaite" in " ".join(mixed.notes)
    assert "ddfm" not in " ".join(proc_mixed(words(hp.Model("y ~ x", table))).notes)


@pytest.mark.parametrize(
    ("formula", "how", "r", "in_brms", "repeated"),
    [
        (
            "y ~ x + (x | g)",
            {"residual": "ar1(t | g)"},
            "lme(y ~ x, random = ~ x | g, correlation = corAR1(form = ~ t | g)",
            "y ~ x + (x | g) + ar(time = t, gr = g, p = 1, cov = TRUE)",
            "repeated occasion / subject=g type=ar(1);",
        ),
        (
            "y ~ x",
            {"residual": "us(t | g)"},
            "gls(y ~ x, correlation = corSymm(form = ~ t | g), weights = varIdent(form = ~ 1 | t)",
            "bf(y ~ x + unstr(time = t, gr = g),\n       sigma ~ factor(t))",
            "repeated occasion / subject=g type=un;",
        ),
        (
            "y ~ x + (1 | g)",
            {"sigma": "~ c"},
            "lme(y ~ x, random = ~ 1 | g, weights = varIdent(form = ~ 1 | c)",
            "bf(y ~ x + (1 | g),\n       sigma ~ c)",
            "repeated / group=c;",
        ),
        (
            "y ~ x + (1 | g)",
            {"sigma": "~ log(w)"},
            "lme(y ~ x, random = ~ 1 | g, weights = varPower(form = ~ w)",
            "bf(y ~ x + (1 | g),\n       sigma ~ log(w))",
            "repeated / local=exp(log_of_column);",
        ),
    ],
)
def test_residual_structures_in_every_program(formula, how, r, in_brms, repeated):
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 3), "t": np.tile([1, 2, 3], 8)})
    rng = np.random.default_rng(1)
    data["c"] = np.where(np.arange(24) % 2, "yes", "no")
    data["x"], data["y"], data["w"] = rng.normal(size=(3, 24)) ** 2
    nlme, brms_, sas = translate(words(hp.Model(formula, data, **how)))
    assert nlme.code == f'{r}, data = data, method = "REML")'
    assert in_brms in brms_.code
    assert f"  {repeated}" in sas.code.split("\n")


# families: formula, family, code of lme4 (or glmmTMB, ordinal), of brms, and lines of PROC GLIMMIX
IN_FAMILIES = {
    "bernoulli": (
        "b ~ x + (1 | g)",
        'glmer(b ~ x + (1 | g), data = data, family = binomial("logit"), nAGQ = 25)',
        'brm(b ~ x + (1 | g), data = data, family = bernoulli("logit"))',
        ["method=quad", "model b(event=last) = x / dist=binary link=logit solution;"],
    ),
    "binomial": (
        "k / n ~ x + (1 | g) + (1 | h)",
        'glmer(cbind(k, n - k) ~ x + (1 | g) + (1 | h), data = data, family = binomial("logit"))',
        'brm(k | trials(n) ~ x + (1 | g) + (1 | h), data = data, family = binomial("logit"))',
        ["method=laplace", "model k/n = x / dist=binomial link=logit solution;"],
    ),
    "negbinomial": (
        "k ~ x + (1 | g)",
        "glmmTMB(k ~ x + (1 | g), data = data, family = nbinom2)",
        'brm(k ~ x + (1 | g), data = data, family = negbinomial("log"))',
        ["model k = x / dist=negbinomial link=log solution;"],
    ),
    "ordinal": (
        "k ~ x + (1 | g)",
        'clmm(factor(k) ~ x + (1 | g), data = data, link = "logit")',
        'brm(k ~ x + (1 | g), data = data, family = cumulative("logit"))',
        ["model k = x / dist=multinomial link=cumlogit solution;"],
    ),
    "hurdle_poisson": (
        "k ~ x + (1 | g)",
        "glmmTMB(k ~ x + (1 | g), data = data, family = truncated_poisson, ziformula = ~ 1)",
        'brm(k ~ x + (1 | g), data = data, family = hurdle_poisson("log"))',
        [],
    ),
}


@pytest.mark.parametrize("family", list(IN_FAMILIES))
def test_families_are_written_as_their_users_would(table, family):
    formula, lme4_code, brms_code, lines = IN_FAMILIES[family]
    data = table.assign(b=np.tile([0, 1, 1], 10), k=np.tile([0, 1, 2, 1, 0, 3], 5), n=5)
    wording = wording_of(hp.Model(formula, data, family=family).design.schema)
    found = translate(wording)
    assert found[0].code == lme4_code
    assert found[1].code == brms_code
    assert bool(lines) == (len(found) == 3)
    for line in lines:
        assert line in found[2].code, found[2].code
