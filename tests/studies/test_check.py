"""hp.check takes a model, a fit, a study or several fits, and says what it found of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.checks.findings import boundary
from hierpool.checks.findings import rows as before
from hierpool.core.errors import ArgumentError
from hierpool.core.findings import Findings
from hierpool.studies import check

# What REML and the posterior say of real tables, and what has to be noticed there.
REAL = {
    "dyestuff2": {"singular-reml"},
    "orthodont_sex": {"outlying-row"},
    "sleepstudy_slopes": {"outlying-row", "autocorrelation"},
}


@pytest.mark.parametrize("name", REAL)
def test_real_tables_show_what_is_known_of_them(fitted, name):
    assert set(hp.check(fitted[name].posterior).codes) >= REAL[name]


def test_cakes_that_break_later_vary_more_unless_on_the_log_scale():
    cake = hp.datasets.load("cake")
    for response, found in (("angle", True), ("log(angle)", False)):
        formula = f"{response} ~ recipe + temp + (1 | replicate) + (1 | recipe:replicate)"
        assert ("log-response" in hp.check(hp.Model(formula, cake).reml()).codes) == found


@pytest.mark.parametrize("name", ["dyestuff", "rail", "machines_slopes"])
def test_well_behaved_tables_have_no_warning(fitted, name):
    assert hp.check(fitted[name].posterior).worst in {None, "note"}


def test_optimum_and_posterior_are_reported_together(fitted):
    (found,) = hp.check(fitted["dyestuff2"].posterior).of("singular-reml")
    draws = fitted["dyestuff2"].posterior.draws["posterior"]
    share = float((draws["sd_Batch"][..., 0] < 0.1 * draws["sigma"]).mean())
    assert f"is {100 * share:.0f} % for the sd of Intercept" in found.text
    row = found.evidence.loc[("Batch", "Intercept")]
    assert (row["optimum"], row["p_small"]) == (0.0, share)
    (alone,) = hp.check(fitted["dyestuff2"].reml).of("singular-reml")
    assert "posterior" not in alone.text


def test_an_optimum_of_zero_is_a_note_where_the_data_do_not_speak_for_zero():
    """A table of 0 and 1 whose groups differ with an sd of 0.7."""
    rng = np.random.default_rng(5002)
    g, x = np.repeat(np.arange(20), 6), rng.normal(size=120)
    p = 1 / (1 + np.exp(-0.5 * x - 0.7 * rng.normal(size=20)[g]))
    table = pd.DataFrame({"y": (rng.uniform(size=120) < p).astype(int), "x": x, "g": g})
    model = hp.Model("y ~ x + (1 | g)", table, family="bernoulli")
    (found,) = hp.check(model.fit(draws=250, seed=1, progress=False)).of("singular-reml")
    assert found.severity == "note"
    assert "below 0.1 on the logit scale is 1" in found.text
    assert hp.check(model.ml()).of("singular-reml")[0].severity == "warning"


def test_recoding_a_predictor_changes_no_judgement_of_variances(fitted):
    data = hp.datasets.load("boars")
    moved = data.assign(time=1000 * data["time"] + 5e5)
    fits = [
        hp.Model("volume ~ time + (time | boar)", table).fit(seed=1, progress=False)
        for table in (data, moved)
    ]
    shares = [[s.share_small for s in boundary.spreads(fit)] for fit in fits]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.02)


def test_a_model_is_checked_before_it_is_fitted():
    data = hp.datasets.load("sleepstudy")
    data.loc[3, "Reaction"] = np.nan
    found = hp.check(hp.Model("Reaction ~ Days + (Days | Subject)", data))
    assert found.codes == ["rows-dropped"]
    assert found[0].text.endswith(".")


def test_findings_of_a_study_are_its_own(fitted):
    study = hp.study("Yield ~ 1", hp.datasets.load("Dyestuff"), "Batch", seed=1, progress=False)
    assert hp.check(study) == study.findings
    assert isinstance(hp.check(study), Findings)


def test_fits_of_different_rows_are_a_problem(fitted):
    rows = hp.datasets.load("sleepstudy").query("Days > 1")
    other = hp.Model("Reaction ~ Days + (1 | Subject)", rows).fit(seed=1, progress=False)
    found = hp.check({"all": fitted["sleepstudy_intercepts"].posterior, "late": other})
    assert found.codes[0] == "not-comparable"
    assert "has 180 rows" in found[0].text
    assert found.worst == "problem"
    assert {f.about for f in found[1:]} <= {"all", "late"}


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(ArgumentError, match="takes a model, a fit, a study or a dict") as caught:
        hp.check(pd.DataFrame())
    assert caught.value.code == "fit-needed"


def test_every_finding_of_a_check_says_what_it_means(fitted):
    for name in REAL:
        fit = fitted[name].posterior
        notices = {n.code for n in fit.design.notices}
        found = [f for f in hp.check(fit) if f.code not in notices]
        assert all(f.meaning.endswith(".") and f.text.endswith(".") for f in found)


def test_variance_inflation_is_that_of_regressions_on_the_others():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(50, 3)) @ np.array([[1, 0.9, 0], [0, 0.3, 0.5], [0, 0, 1.0]]) + 7
    expected = []
    for k in range(3):
        others = np.column_stack([np.ones(50), np.delete(X, k, axis=1)])
        left = X[:, k] - others @ np.linalg.lstsq(others, X[:, k])[0]
        expected.append(((X[:, k] - X[:, k].mean()) ** 2).sum() / (left**2).sum())
    np.testing.assert_allclose(before._inflation(X), expected, rtol=1e-10)


def test_equal_levels_weigh_like_their_number():
    design = hp.Model("Yield ~ 1 + (1 | Batch)", hp.datasets.load("Dyestuff")).design
    assert before._effective_levels(design.groupings["Batch"]) == pytest.approx(6.0)


@pytest.mark.slow
def test_a_smaller_model_is_named_only_where_it_lacks_that_term_alone():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"g": np.repeat(np.arange(12), 10), "x": rng.normal(size=120)})
    table = table.assign(b=rng.integers(0, 2, 120).astype(float))
    slopes = (0.5 + rng.normal(size=12))[table.g]
    table = table.assign(y=slopes * table.x + rng.normal(size=12)[table.g] + rng.normal(size=120))
    study = hp.study("y ~ x + b", table, group="g", seed=1, progress=False)
    largest = replace(study, selected=study.largest)
    (found,) = Findings(check.of_models(largest)).of("singular-reml")
    assert "sd of b" in found.text
    assert "Without it" not in found.text
