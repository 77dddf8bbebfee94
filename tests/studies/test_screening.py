"""A study of many slopes starts from those that vary, and says which it left out."""

import numpy as np
import pandas as pd

from hierpool.studies.ladder import in_order, ladder
from hierpool.studies.screening import not_tried


def _table(varying, n_groups=20, n=6, seed=2):
    """Five predictors, the slopes of some vary with sd 1.5."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), n)
    table = pd.DataFrame(rng.normal(size=(len(g), 5)), columns=list("abcde")).assign(g=g)
    table["y"] = rng.normal(0, 1, n_groups)[g] + rng.normal(0, 0.7, len(g))
    for name in varying:
        table["y"] += rng.normal(0, 1.5, n_groups)[g] * table[name]
    return table


def test_the_slopes_that_vary_stay_and_the_others_are_named():
    found = ladder("y ~ a + b + c + d + e", _table("bd"), "g", None, {})
    stays, left = found.screened["g"]
    assert {*stays} == {"b", "d"}
    assert {*left} == {"a", "c", "e"}
    assert set(found.models[found.largest].design.group("g").terms) == {"Intercept", "b", "d"}
    (said,) = not_tried(found.formula, found.screened)
    assert "slopes of a, c and e did not enter" in said.text
    (formula,) = found.skipped
    assert f"hp.study('{formula}', data)" in said.meaning
    again = ladder(formula, _table("bd"), None, None, {})
    assert len(again.models[again.largest].design.group("g").terms) == 6


def test_few_slopes_all_vary():
    found = ladder("y ~ a + b + c", _table(""), "g", None, {})
    assert found.screened["g"] == (("a", "b", "c"), ())
    assert not found.skipped
    assert not not_tried(found.formula, found.screened)


def test_of_several_factors_each_has_its_own_slopes():
    table = _table("c").assign(h=lambda t: np.arange(len(t)) % 7)
    found = ladder("y ~ a + b + c + d + e", table, ["g", "h"], None, {})
    assert "c" in found.screened["g"][0]
    assert len(found.skipped) == 2


def test_models_are_ordered_by_how_much_varies():
    models = ladder("y ~ a", _table("a"), "g", None, {}).models
    shuffled = {name: models[name] for name in ["varying_slope", "no_pooling", *models]}
    assert in_order(models) == list(models)
    order = in_order(shuffled)
    assert order[0] == "complete_pooling"
    assert order[-2:] == ["varying_slope", "no_pooling"]
