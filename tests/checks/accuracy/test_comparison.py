"""Fits of the same rows and response are compared; others are refused by name."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
from scipy import special

import hierpool as hp
from hierpool.checks.accuracy.stacking import GAP, Stacking
from hierpool.core.errors import ArgumentError, ComparisonError, HierpoolWarning

LADDER = {
    "one line": "sleepstudy_complete",
    "intercepts": "sleepstudy_intercepts",
    "slopes": "sleepstudy_slopes",
    "lines": "sleepstudy_no_pooling",
}
SLEEP = hp.datasets.load("sleepstudy")
FEW = {"draws": 100, "chains": 2, "seed": 1, "progress": False}


@pytest.fixture(scope="module")
def ladder(fitted):
    return {label: fitted[name].posterior for label, name in LADDER.items()}


def quick(formula: str, data=SLEEP) -> hp.PosteriorFit:
    """A fit whose draws nobody looks at."""
    return hp.Model(formula, data).fit(**FEW)


def test_table_is_that_of_az_compare_on_our_scores(ladder):
    table = hp.compare(ladder)
    scores = {label: fit.loo() for label, fit in ladder.items()}
    expected = az.compare(scores, round_to="none")
    assert table.index.tolist() == expected.index.tolist()
    assert set(table.columns) == set(expected.columns)
    for column in ("rank", "elpd", "p", "elpd_diff", "se", "dse"):
        np.testing.assert_allclose(
            table[column].astype(float), expected[column].astype(float), atol=1e-8
        )
    # the optimiser of az.compare ends a little before the optimum
    np.testing.assert_allclose(table["weight"], expected["weight"].astype(float), atol=2e-3)


def test_best_model_of_a_row_pools_partially(ladder):
    table = hp.compare(ladder)
    assert table.index[0] == "slopes"
    assert table.index[-1] == "one line"
    assert table.attrs["predicts"] == "a new observation of a known group"


def test_by_group_says_that_no_pooling_has_its_prior_only(ladder):
    table = hp.compare(ladder, by="group")
    assert table.attrs["predicts"] == "all observations of a new subject"
    assert table.loc["lines", "note"] == "a new group has only its prior"
    assert (table.drop(index="lines")["note"] == "").all()
    assert table.index[0] == "slopes"


def test_order_of_the_fits_does_not_matter(ladder):
    forward, backward = hp.compare(ladder), hp.compare(dict(reversed(ladder.items())))
    assert forward.index.tolist() == backward.index.tolist()
    np.testing.assert_array_equal(forward["elpd"], backward["elpd"])


def test_other_number_of_rows_is_refused_with_the_rows_named(ladder):
    less = quick("Reaction ~ Days", SLEEP.drop(index=[3, 5]))
    with pytest.raises(ComparisonError) as caught:
        hp.compare({"slopes": ladder["slopes"], "less": less})
    text = str(caught.value)
    assert "model 'slopes' has 180 rows, model 'less' has 178" in text
    assert "only one of them: 3, 5" in text
    assert caught.value.code == "different-rows"


def test_other_response_is_refused_by_name(ladder):
    logged = quick("log(Reaction) ~ Days")
    with pytest.raises(
        ComparisonError, match=r"'slopes' predicts Reaction, model 'logged' predicts log"
    ):
        hp.compare({"slopes": ladder["slopes"], "logged": logged})


def test_other_values_under_the_same_name_are_refused(ladder):
    other = quick("Reaction ~ Days", SLEEP.assign(Reaction=SLEEP["Reaction"] + 1))
    with pytest.raises(ComparisonError, match="values of Reaction differ") as caught:
        hp.compare({"slopes": ladder["slopes"], "moved": other})
    assert caught.value.code == "different-rows"


def test_other_order_of_rows_is_refused(ladder):
    other = quick("Reaction ~ Days", SLEEP.iloc[::-1])
    with pytest.raises(ComparisonError, match="their order"):
        hp.compare({"slopes": ladder["slopes"], "reversed": other})


def test_fits_come_by_name(ladder):
    with pytest.raises(ArgumentError, match="takes a dict of fits"):
        hp.compare([ladder["slopes"]])
    with pytest.raises(ArgumentError, match="takes a dict of fits"):
        hp.compare({})


def test_one_fit_alone_is_not_compared(ladder):
    with pytest.raises(ComparisonError, match=r"for one, use fit.loo\(\)"):
        hp.compare({"slopes": ladder["slopes"]})


def test_the_only_row_of_a_level_has_its_prior_only():
    schools = hp.datasets.load("eight_schools")
    ladder = {
        "partial": hp.varying_intercept("effect ~ 1", schools, "school", known_se="se"),
        "none": hp.no_pooling("effect ~ 1", schools, "school", known_se="se"),
    }
    table = hp.compare({name: m.fit(seed=1, progress=False) for name, m in ladder.items()})
    assert table.loc["none", "note"] == "8 groups with one row have only their prior"
    assert table.loc["partial", "note"] == ""


def test_weights_by_group_are_those_of_the_best_mixture(ladder):
    table = hp.compare(ladder, by="group")
    scores = {label: fit.loo("group") for label, fit in ladder.items()}
    points = np.column_stack([np.ravel(scores[name].elpd_i) for name in table.index])

    def score(weights):
        return special.logsumexp(points, axis=1, b=weights).sum()

    best = score(table["weight"].to_numpy())
    rng = np.random.default_rng(1)
    assert all(score(rng.dirichlet(np.ones(len(table)))) <= best + GAP for _ in range(300))
    assert all(score(one) <= best + GAP for one in np.eye(len(table)))
    assert table.loc["lines", "weight"] < 1e-6  # where it starts is a quarter


def test_weights_that_may_not_be_the_best_are_announced(ladder, monkeypatch):
    halfway = Stacking(np.full(len(ladder), 1 / len(ladder)), 12.5)
    monkeypatch.setattr("hierpool.checks.accuracy.comparison.stacking", lambda _: halfway)
    with pytest.warns(HierpoolWarning, match=r"others may score better by up to 12 of elpd"):
        hp.compare(ladder)
