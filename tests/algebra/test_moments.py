"""Rows amount to their cross-products, taken in coordinates where no digit is lost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.gaussian import BetaPrior, condition
from hierpool.algebra.moments import Coordinates, Moments, Rows, by_level
from hierpool.core.errors import UnsupportedModelError
from hierpool.reml.criterion import Criterion
from tests.support.cases import each
from tests.support.designs import DESIGNS


@each("name", DESIGNS)
def test_cross_products_are_sums_over_the_rows_of_each_level(name):
    rows = DESIGNS[name]
    m = Moments.from_rows(rows)
    np.testing.assert_allclose(m.XX, rows.X.T @ rows.X)
    np.testing.assert_allclose(m.Xy, rows.X.T @ rows.y)
    assert m.yy == pytest.approx(rows.y @ rows.y)
    for j in range(m.n_levels):
        mine = rows.codes == j
        Z, u = rows.Z[mine], m.design_of[j]
        np.testing.assert_allclose(m.A[u], Z.T @ Z, atol=1e-10)
        np.testing.assert_allclose(m.C[u], Z.T @ rows.X[mine], atol=1e-10)
        np.testing.assert_allclose(m.b[j], Z.T @ rows.y[mine], atol=1e-10)
        assert m.n_rows[j] == mine.sum()


@each("name", DESIGNS)
def test_root_and_sum_of_a_design_are_those_of_its_levels(name):
    m = Moments.from_rows(DESIGNS[name])
    for u in range(len(m.counts)):
        b = m.b[m.design_of == u]
        np.testing.assert_allclose(m.b_root[u] @ m.b_root[u].T, b.T @ b, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(m.b_sum[u], b.sum(axis=0), atol=1e-10)
        assert m.counts[u] == len(b)


@pytest.mark.parametrize(
    ("name", "n_designs"),
    [("balanced_intercepts", 1), ("balanced_slopes", 1), ("unbalanced_slopes", 5)],
)
def test_levels_of_equal_design_share_one_factorisation(name, n_designs):
    m = Moments.from_rows(DESIGNS[name])
    assert len(m.A) == n_designs
    assert m.counts.sum() == m.n_levels


@pytest.mark.parametrize(
    ("name", "n_designs"),
    [("sleepstudy_slopes", 1), ("boars_slopes", 1), ("orthodont_slopes", 1), ("radon_slopes", 46)],
)
def test_bundled_tables_have_few_unique_designs(fitted, name, n_designs):
    assert len(Moments.from_design(fitted[name].model.design).counts) == n_designs


def test_order_of_rows_does_not_matter():
    rows = DESIGNS["unbalanced_slopes"]
    order = np.random.default_rng(1).permutation(len(rows.y))
    shuffled = Rows(rows.y[order], rows.X[order], rows.Z[order], rows.codes[order])
    for one, other in zip(
        vars(Moments.from_rows(rows)).values(),
        vars(Moments.from_rows(shuffled)).values(),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_root_keeps_what_the_gram_matrix_loses():
    """Levels of one row, q = 2, variance of the levels 1e14 times that of the rows."""
    rng = np.random.default_rng(3)
    z, y, ratio = np.array([1.0, 0.37]), rng.normal(size=8), 1e7
    rows = Rows(y, np.zeros((8, 0)), np.tile(z, (8, 1)), np.arange(8))
    m = Moments.from_rows(rows)
    at = condition(m, np.ones(1), ratio * np.eye(2)[None], BetaPrior.flat(0))
    truth = y @ y / (1 + ratio**2 * z @ z)
    assert abs(at.marginal.penalized_ss[0] - truth) < 1e-14
    whiten = ratio * np.linalg.inv(at.L[0, 0])
    by_gram = y @ y - np.trace(whiten @ (m.b.T @ m.b) @ whiten.T)
    assert abs(by_gram - truth) > 1e-3


def test_by_level_sums_products_of_columns():
    codes = np.array([0, 2, 0, 2])
    Z, W = np.arange(4.0)[:, None], np.column_stack([np.ones(4), np.arange(4.0)])
    np.testing.assert_array_equal(by_level(Z, W, codes, 3), [[[2, 4]], [[0, 0]], [[4, 10]]])


def shifted(data: pd.DataFrame, x: float, y: float) -> pd.DataFrame:
    return data.assign(Days=data["Days"] + x, Reaction=data["Reaction"] + y)


@pytest.mark.parametrize("offset", [1e6, 2.0**30])
def test_offset_of_a_thousand_million_loses_no_digit_that_the_data_still_have(offset):
    """Response and predictor at 2^30: rounding of the data themselves is all that is lost."""
    formula = "Reaction ~ Days + (Days | Subject)"
    data = hp.datasets.load("sleepstudy").astype({"Reaction": float})
    data["Reaction"] = data["Reaction"].round()  # whole numbers survive the shift exactly
    near = hp.Model(formula, data).design
    far = hp.Model(formula, shifted(data, offset, offset)).design
    theta = np.array([[0.9, 0.1, 0.7]])
    one, other = (Criterion.from_design(d, "REML").deviance(theta)[0] for d in (near, far))
    assert other == pytest.approx(one, abs=1e-7 + 2e-15 * offset)


@pytest.mark.parametrize("pooling", ["varying_slope", "no_pooling", "complete_pooling"])
def test_shifted_response_moves_the_intercept_alone(pooling):
    data = hp.datasets.load("sleepstudy")
    build = getattr(hp, pooling)
    near, far = (
        build("Reaction ~ Days", d, "Subject").reml().estimate
        for d in (data, shifted(data, 0.0, 1e9))
    )
    moved = far.only.coef - near.only.coef if pooling == "no_pooling" else far.beta - near.beta
    np.testing.assert_allclose(moved[..., 0], 1e9, atol=1e-5)
    np.testing.assert_allclose(moved[..., 1], 0.0, atol=1e-5)
    assert far.sigma == pytest.approx(near.sigma, rel=1e-6)


def test_working_coefficients_go_to_the_user_and_back():
    design = hp.Model("Reaction ~ Days + (Days | Subject)", hp.datasets.load("sleepstudy")).design
    coordinates = Coordinates.from_design(design)
    user = np.array([[251.4, 10.5], [-3.0, 0.0]])
    np.testing.assert_allclose(coordinates.beta_to_user(coordinates.beta_from_user(user)), user)


@pytest.mark.parametrize("pooling", ["varying_slope", "no_pooling", "complete_pooling"])
def test_coefficients_predict_the_same_in_either_coding(pooling):
    design = getattr(hp, pooling)(
        "Reaction ~ Days", hp.datasets.load("sleepstudy"), "Subject"
    ).design
    coordinates = Coordinates.from_design(design)
    rows, rng = Rows.from_design(design, coordinates), np.random.default_rng(1)
    beta = rng.normal(size=rows.X.shape[1])
    working = coordinates.y_shift + rows.X @ beta
    user = design.X @ coordinates.beta_to_user(beta)
    for group in design.groups:
        u = rng.normal(size=(group.grouping.n_levels, rows.Z.shape[1]))
        working = working + (rows.Z * u[rows.codes]).sum(axis=1)
        own = coordinates.u_to_user(u, beta)
        user = user + (group.Z * own[group.grouping.codes]).sum(axis=1)
    np.testing.assert_allclose(user, working, rtol=1e-12)


def test_rows_of_one_factor_refuse_two_by_name():
    data = hp.datasets.load("Penicillin")
    design = hp.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", data).design
    with pytest.raises(UnsupportedModelError, match=r"'plate', 'sample'.*\[one-factor-only\]"):
        Rows.from_design(design, Coordinates.from_design(design))
