"""Columns of weights and of known standard errors: what is taken, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError
from tests.support.cases import each


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g, x = np.repeat(list("abcde"), 6), np.tile(np.arange(6.0), 5)
    w = rng.uniform(0.5, 2, 30)
    table = pd.DataFrame({"g": g, "x": x, "w": w, "se": w, "text": g})
    return table.assign(y=x + rng.normal(size=30))


def refusal(code: str, data: pd.DataFrame, **given: object) -> str:
    with pytest.raises(HierpoolError) as caught:
        hp.varying_slope("y ~ x", data, "g", **given)
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize("role", ["weights", "known_se"])
@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_zero_and_negative_values_are_refused_with_their_rows(data, role, bad):
    said = refusal(
        "not-positive", data.assign(w=data["w"].where(data.index != 4, bad)), **{role: "w"}
    )
    assert "'w'" in said
    assert "row 4" in said


@pytest.mark.parametrize("role", ["weights", "known_se"])
def test_infinite_text_and_unknown_columns_are_refused(data, role):
    refusal(
        "infinite-values", data.assign(w=data["w"].where(data.index != 4, np.inf)), **{role: "w"}
    )
    refusal("text-not-number", data, **{role: "text"})
    assert "did you mean 'se'" in refusal("unknown-column", data, **{role: "sse"})


@each("role", ["weights", "known_se"])
@each("given", [np.ones(30), 2.0, "", True])
def test_only_the_name_of_a_column_will_do(data, role, given):
    assert role in refusal("not-a-column-name", data, **{role: given})


def test_both_together_are_refused(data):
    refusal("weights-and-known-se", data, weights="w", known_se="se")


@pytest.mark.parametrize("role", ["weights", "known_se"])
def test_rows_without_a_value_are_left_out_and_named(data, role):
    missing = data.assign(w=data["w"].where(data.index != 4))
    model = hp.varying_slope("y ~ x", missing, "g", **{role: "w"})
    assert model.design.n == 29
    assert "1 of 30 rows left out because of missing values: 1 in 'w' (row 4)" in str(model)
    np.testing.assert_array_equal(model.design.residual.values, data["w"].drop(4))


def test_integers_nullable_numbers_and_polars_are_taken(data):
    pl = pytest.importorskip("polars")
    whole = data.assign(w=np.arange(1, 31))
    for table in (whole, whole.astype({"w": "Int64"}), pl.from_pandas(whole)):
        model = hp.varying_slope("y ~ x", table, "g", weights="w")
        np.testing.assert_array_equal(model.design.residual.values, np.arange(1.0, 31.0))


def test_known_sds_that_leave_nothing_to_chance_are_refused(data):
    assert "unit" in refusal("known-se-too-small", data.assign(se=1e-8), known_se="se")


def test_one_row_a_level_needs_known_sds(data):
    single = data.assign(g=range(30))
    with pytest.raises(HierpoolError, match="known_se="):
        hp.varying_intercept("y ~ 1", single, "g")
    with pytest.raises(HierpoolError, match="levels-equal-rows"):
        hp.varying_intercept("y ~ 1", single, "g", weights="w")
    model = hp.varying_intercept("y ~ 1", single, "g", known_se="se")
    assert model.design.groups[0].grouping.n_levels == 30
    assert not [f for f in model.notices if f.code == "many-coefficients"]


def test_every_builder_takes_them(data):
    for role in ("weights", "known_se"):
        models = [
            hp.Model("y ~ x + (x || g)", data, **{role: "w"}),
            hp.complete_pooling("y ~ x", data, "g", **{role: "w"}),
            hp.no_pooling("y ~ x", data, "g", **{role: "w"}),
            hp.varying_intercept("y ~ x", data, "g", **{role: "w"}),
            hp.varying_slope("y ~ x", data, "g", correlated=False, **{role: "w"}),
            *hp.pooling_ladder("y ~ x", data, "g", **{role: "w"}).values(),
        ]
        for model in models:
            np.testing.assert_array_equal(model.design.residual.values, data["w"])
            assert model.with_priors({}).design.spec.residual.arguments == {role: "w"}


def test_model_says_what_is_known_of_its_rows(data):
    assert "weights w: residual variance sigma^2 / w" in str(
        hp.varying_slope("y ~ x", data, "g", weights="w")
    )
    assert "residual sd known: se" in str(hp.varying_slope("y ~ x", data, "g", known_se="se"))


def test_blups_of_other_weights_are_not_compared_with(data):
    weighted, plain = (
        hp.varying_slope("y ~ x", data, "g", weights="w"),
        hp.varying_slope("y ~ x", data, "g"),
    )
    with pytest.raises(HierpoolError, match="different-models"):
        hp.compare_blups(weighted.fit("exact", seed=1, draws=50), plain.reml())
