"""Centring is an exact map: back and forth, and whatever the offset of a column."""

from __future__ import annotations

import numpy as np
import pytest

from hierpool.core.coding import Coding
from tests.support.cases import each

X1 = np.array([0.0, 1, 2, 3, 0, 1, 2, 3, 1])
ONE = np.ones_like(X1)
MACHINE = np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1, 2]]

COLUMNS = {
    "constant_and_slope": np.column_stack([ONE, X1]),
    "slope_first": np.column_stack([X1, ONE]),
    "dummies_span_the_constant": MACHINE,
    "dummies_and_slope": np.column_stack([MACHINE, X1]),
    "constant_of_five": np.column_stack([5 * ONE, X1, X1**2]),
    "constant_alone": ONE[:, None],
    "slope_without_constant": X1[:, None],
    "two_slopes_without_constant": np.column_stack([X1, X1**2 - 1]),
    "no_columns": np.zeros((9, 0)),
}
SPANS = {
    name: name not in {"slope_without_constant", "two_slopes_without_constant", "no_columns"}
    for name in COLUMNS
}


@each("name", COLUMNS)
def test_maps_are_inverse_to_each_other(name):
    coding = Coding.from_columns(COLUMNS[name])
    eye = np.eye(COLUMNS[name].shape[1])
    np.testing.assert_allclose(coding.to_user @ coding.to_centred, eye, atol=1e-14)
    np.testing.assert_allclose(coding.from_working @ coding.to_working, eye, atol=1e-14)


@each("name", COLUMNS)
def test_constant_is_found_where_it_is_in_the_span(name):
    coding, columns = Coding.from_columns(COLUMNS[name]), COLUMNS[name]
    assert coding.has_constant is SPANS[name]
    if SPANS[name]:
        np.testing.assert_allclose(columns @ coding.constant, 1.0, atol=1e-12)


@each("name", COLUMNS)
def test_user_coefficients_predict_what_working_ones_do(name):
    coding, columns = Coding.from_columns(COLUMNS[name]), COLUMNS[name]
    working = np.random.default_rng(1).normal(size=columns.shape[1])
    by_user = columns @ (coding.from_working @ working)
    np.testing.assert_allclose(coding.work(columns) @ working, by_user, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in COLUMNS if SPANS[n]])
def test_columns_beside_the_constant_have_mean_zero_and_sd_one(name):
    coding = Coding.from_columns(COLUMNS[name])
    worked = coding.work(COLUMNS[name])[:, coding.constant == 0]
    np.testing.assert_allclose(worked.mean(axis=0), 0.0, atol=1e-14)
    np.testing.assert_allclose(worked.std(axis=0, ddof=1), 1.0, rtol=1e-14)


def test_columns_without_a_constant_are_scaled_and_stay_where_they_are():
    coding = Coding.from_columns(COLUMNS["slope_without_constant"])
    assert not coding.is_centred
    worked = coding.work(COLUMNS["slope_without_constant"])
    np.testing.assert_allclose(worked[:, 0], X1 / X1.std(ddof=1), rtol=1e-14)


@each("offset", [100.0, 1e6, 2.0**30])
@each("unit", [1.0, 1000.0, 2.0**-10])
def test_working_columns_do_not_know_offset_and_unit(offset, unit):
    columns = COLUMNS["constant_and_slope"]
    recoded = np.column_stack([ONE, unit * (X1 + offset)])
    np.testing.assert_allclose(
        Coding.from_columns(recoded).work(recoded),
        Coding.from_columns(columns).work(columns),
        atol=offset * 1e-15,
    )


def test_offset_moves_the_intercept_by_the_slope():
    columns, offset = COLUMNS["constant_and_slope"], 100.0
    recoded = np.column_stack([ONE, X1 + offset])
    working = np.array([2.0, 3.0])
    here = Coding.from_columns(columns).from_working @ working
    there = Coding.from_columns(recoded).from_working @ working
    np.testing.assert_allclose(there, [here[0] - offset * here[1], here[1]], rtol=1e-12)


def test_uncentred_coding_keeps_scales_and_drops_means():
    coding = Coding.from_columns(COLUMNS["constant_and_slope"])
    plain = coding.uncentred()
    assert coding.is_centred
    assert not plain.is_centred
    np.testing.assert_array_equal(plain.scales, coding.scales)
    np.testing.assert_array_equal(plain.to_user, np.eye(2))


def test_column_that_never_varies_beside_the_constant_has_scale_one():
    coding = Coding.from_columns(np.column_stack([ONE, 7 * ONE, X1]))
    assert coding.scales[:2].tolist() == [1.0, 1.0]
    assert np.isfinite(coding.work(np.column_stack([ONE, 7 * ONE, X1]))).all()


def test_column_of_zeros_is_not_a_constant():
    assert not Coding.from_columns(np.zeros((5, 1))).has_constant
