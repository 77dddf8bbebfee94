"""Both factorisations against each other: a factor split off by a constant one is the same model."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from hierpool.algebra.choose import marginal_model
from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.several.model import SeveralFactors
from hierpool.core.theta import WorkingTheta

LAMBDA = np.array([[0.9, 0.0], [0.2, 0.4]])


@pytest.fixture(scope="module")
def both() -> tuple[MarginalModel, MarginalModel]:
    """One model, by the algebra of one factor and by that of several."""
    data = hp.datasets.load("sleepstudy").drop([4, 17, 60])
    design = hp.Model("Reaction ~ Days + (Days | Subject)", data).design
    coordinates, flat = Coordinates.from_design(design), BetaPrior.flat(2)
    one = marginal_model(design, coordinates, flat)
    return one, SeveralFactors.from_design(design, coordinates, flat)


def test_what_a_factorisation_says_of_one_factor_is_the_same_either_way(both):
    one, several = (model.at(LAMBDA) for model in both)
    rng = np.random.default_rng(1)
    right = rng.normal(size=(one.columns.shape[1], 3))
    (grouping,) = both[0].design.groupings.values()
    Z = both[0].design.X
    t = Combinations(
        rng.normal(size=(2, 2)),
        (LevelPart(np.array([0, 1, 1]), np.array([3, 3, 9]), rng.normal(size=(3, 2))),),
    )
    for mine, other in [
        (one.marginal.R, several.marginal.R),
        (one.marginal.penalized_ss, several.marginal.penalized_ss),
        (one.gradient(True), several.gradient(True)),
        (one.gradient(False, np.array([1.0, 2.0])), several.gradient(False, np.array([1.0, 2.0]))),
        (one.levels()[0].u, several.levels()[0].u),
        (one.levels()[0].conditional, several.levels()[0].conditional),
        (one.residuals(), several.residuals()),
        (one.variance(t), several.variance(t)),
        (one.solve(right), several.solve(right)),
        (one.whiten(Z), several.whiten(Z)),
        (one.leverage_of_levels(), several.leverage_of_levels()),
        (one.whitened_products(Z, grouping), several.whitened_products(Z, grouping)),
        (one.columns.toarray(), several.columns.toarray()),
    ]:
        np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rows", [slice(None), slice(4, None), slice(3, None, 2)])
def test_compiled_loops_at_one_theta_are_those_of_numpy(rows, monkeypatch):
    """As of very many levels: designs that differ, and some that are those of several levels."""
    data = hp.datasets.load("sleepstudy").iloc[rows]
    design = hp.Model("Reaction ~ Days + I(Days ** 2) + (Days | Subject)", data).design
    model = marginal_model(design, Coordinates.from_design(design), BetaPrior.flat(3))
    stack, found = np.stack([LAMBDA, 0.3 * LAMBDA, np.zeros((2, 2))]), []
    for least in (10_000, 1):
        monkeypatch.setattr("hierpool.algebra.moments._MANY_DESIGNS", least)
        assert model.totals.has_many_designs == (least == 1)
        at = [model.at(Lambda) for Lambda in stack]
        singular = model.at(LAMBDA @ np.diag([1.0, 0.0]))
        several = model.population_at(stack)
        found.append(
            [
                *(v for one in (*at, singular) for v in one.gradient(True)),
                *at[0].gradient(False, np.array([1.0, 2.0, 3.0])),
                *(v for one in at for v in (one.marginal.R, one.marginal.beta)),
                *(v for one in at for v in (one.marginal.penalized_ss, one.levels()[0].u)),
                *(one.marginal.log_det_levels for one in at),
                several.R,
                several.penalized_ss,
                several.log_det_levels,
            ]
        )
    for mine, judge in zip(*found, strict=True):
        scale = np.abs(judge).max(initial=1e-300)
        np.testing.assert_allclose(mine / scale, judge / scale, rtol=0, atol=1e-12)


def test_population_without_each_level_is_that_of_the_model_without_its_rows(both):
    (grouping,) = both[0].design.groupings.values()
    theta = WorkingTheta(np.array([20.0, 30.0]), np.stack([LAMBDA, 0.5 * LAMBDA]))
    found = both[0].population_without_levels(theta, grouping)
    for mine, other in zip(found, both[1].population_without_levels(theta, grouping), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-8)


def test_weighted_products_of_one_factor_are_those_of_several(both):
    basis = np.eye(2)
    one, several = (model.weighted_products(basis, LAMBDA) for model in both)
    assert one.trace == pytest.approx(several.trace, rel=1e-9)
    np.testing.assert_allclose(one.diagonal(0), several.diagonal(0), rtol=1e-8)
    np.testing.assert_allclose(one.squares(0, 0), several.squares(0, 0), rtol=1e-8)
