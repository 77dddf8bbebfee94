"""A schema holds no row, and what needs no row works with it alone."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.moments import Coordinates
from hierpool.bayes.priors.model_priors import default_priors
from hierpool.core.coding import Coding
from hierpool.core.design import Design
from hierpool.core.results import coords, variable_dims

FORMULA = "y ~ x + arm + (x | g) + (1 | g:arm)"


def design_of(n: int, formula: str = FORMULA) -> Design:
    rng = np.random.default_rng(1)
    codes = np.arange(n) % 20
    data = pd.DataFrame(
        {
            "y": rng.normal(size=n) + codes / 7,
            "x": rng.normal(3, 2, n),
            "arm": np.array(["a", "b"])[np.arange(n) // 20 % 2],
            "g": [f"g{j}" for j in codes],
        }
    )
    return hp.Model(formula, data).design


def test_the_size_of_a_schema_does_not_depend_on_the_number_of_rows():
    few, many = (len(pickle.dumps(design_of(n).schema)) for n in (400, 20_000))
    assert abs(many - few) < 200


def test_priors_coordinates_and_labels_need_no_rows():
    design = design_of(400)
    alone = pickle.loads(pickle.dumps(design.schema))
    assert default_priors(alone).table().equals(hp.Model(FORMULA, design.frame).priors.table())
    assert Coordinates.from_schema(alone).y_shift == Coordinates.from_design(design).y_shift
    assert variable_dims(alone)["coef_g"] == ("g", "g_term")
    assert list(coords(alone)["g"]) == list(design.groupings["g"].levels)


@pytest.mark.parametrize("formula", [FORMULA, "y ~ 0 + arm + (0 + arm + x || g)"])
def test_means_and_scales_are_those_of_the_rows(formula):
    design = design_of(400, formula)
    schema = design.schema

    def same(one: Coding, other: Coding) -> None:
        for name in ("constant", "means", "scales"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))

    same(schema.coding, Coding.from_columns(design.X))
    np.testing.assert_allclose(schema.column_means, design.X.mean(axis=0), atol=1e-12)
    for group in design.groups:
        same(group.schema.coding, Coding.from_columns(group.Z))
        for block, coding in zip(group.blocks, group.schema.block_codings, strict=True):
            own = Coding.from_columns(group.Z[:, block.columns])
            np.testing.assert_array_equal(coding.scales, own.scales)


def test_another_response_brings_its_own_scale():
    design = design_of(400)
    other = design.with_response(3 * design.y + 1)
    scale, changed = design.schema.response_scale, other.schema.response_scale
    np.testing.assert_allclose(
        [changed.mean, changed.sd, changed.largest_sigma],
        [3 * scale.mean + 1, 3 * scale.sd, 3 * scale.largest_sigma],
    )
    assert other.fingerprint != design.fingerprint
