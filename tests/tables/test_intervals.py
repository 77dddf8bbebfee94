"""Splines and polynomials of numbers with many values are those of the rows, with equal knots."""

import numpy as np
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError
from tests.tables.test_collect import ROWS, deviances, lazy, table

FORMULAS = {
    "knots at quantiles": "y ~ bs(x, df=5) + t + (1 | g)",
    "polynomials": "y ~ poly(x, 3) + x:t + (poly(x, 2) | g)",
    "two numbers": "y ~ bs(x, df=4):t + cr(z, df=4) + (x | g)",
    "centred": "y ~ cr(x, df=3, constraints='center') + center(x) + cc(z, df=3) + (1 | g)",
    "given knots": "y ~ bs(x, knots=[40, 60], degree=2) + bs(x, df=4) + (1 | g)",
    "whole numbers": "y ~ bs(n, df=6) + (1 | g)",
}
WHOLE = ROWS.assign(n=(ROWS["x"] * 7).round().astype(int))


def check(formula, found, rows=WHOLE):
    one, other = hp.Model(formula, found), hp.Model(formula, rows)
    assert one.design.terms == other.design.terms
    np.testing.assert_allclose(deviances(one.design), deviances(other.design), rtol=1e-12)
    for name in ("means", "scales"):
        codings = (getattr(m.design.schema.coding, name) for m in (one, other))
        np.testing.assert_allclose(*codings, rtol=1e-9, atol=1e-12)
    return one, other


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c != "polynomials")) for c in FORMULAS]
)
def test_the_numbers_are_those_of_rows(case):
    check(FORMULAS[case], lazy(WHOLE))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_engines_agree_on_knots():
    connection = pytest.importorskip("ibis").duckdb.connect()
    connection.con.register("t", WHOLE)
    for found in (connection.con.table("t"), connection.table("t")):
        check(FORMULAS["knots at quantiles"], found)
        check(FORMULAS["polynomials"], found)


@pytest.mark.slow
def test_an_offset_of_1e9_keeps_its_digits():
    rows = table(1e9)
    for formula in ("y ~ bs(x, df=5) + (1 | g)", "y ~ poly(x, 2) + (x | g)"):
        one, other = (hp.Model(formula, data).reml() for data in (lazy(rows), rows))
        np.testing.assert_allclose(one.loglik, other.loglik, rtol=1e-8)


@pytest.mark.slow
def test_answers_and_files_know_intervals(tmp_path):
    formula = "y ~ bs(x, df=4) * t + (x | g)"
    first = hp.collect(formula, lazy(ROWS[:1500]), progress=False)
    assert "knots   of bs(x, df=4): " in repr(first)
    both = first + hp.collect(formula, lazy(ROWS[1500:]), like=first, progress=False)
    both.save(tmp_path / "m.npz")
    one = hp.Model(hp.load_moments(tmp_path / "m.npz"))
    knots = first.cells.learned["bs(`x`, df=4)"]["knots"]
    inner = f"bs(x, knots={[k for k in knots if knots[0] < k < knots[-1]]})"
    ends = hp.Model(formula, lazy(ROWS))  # knots of the whole table
    other = hp.Model(formula, ROWS)
    assert inner.startswith("bs(x, knots=[")
    for ask in (
        lambda fit: fit.predict(ROWS.head(20)),
        lambda fit: fit.anova(),
        lambda fit: hp.slopes(fit, "x", at={"x": [40.0, 55.0], "t": "a"}),
        lambda fit: hp.contrast(fit, "t", at={"x": 50.0}),
    ):
        tables = [ask(m.reml()).select_dtypes("number").to_numpy(float) for m in (ends, other)]
        np.testing.assert_allclose(*tables, rtol=1e-4, atol=1e-6)
    fit = one.fit(seed=1, progress=False, chains=2, draws=200)
    fit.save(tmp_path / "fit.nc")
    again = hp.load_fit(tmp_path / "fit.nc")
    assert repr(again) == repr(fit)
    found = hp.loo_from_table(again, lazy(), n_checked=ROWS.shape[0], progress=False)
    posterior = other.fit(seed=1, progress=False, chains=2, draws=200)
    assert abs(found.elpd - posterior.loo().elpd) < 3  # knots of the first half


@pytest.mark.slow
@pytest.mark.parametrize(
    ("formula", "given"),
    [
        ("y ~ bs(x, df=4) * z + (1 | g)", {}),
        ("y ~ bs(x, df=4) + (1 | g)", {"weights": "w"}),
        ("y ~ poly(x, 6) + (1 | g)", {}),
        ("y ~ bs(x, df=4) + log(x) + (1 | g)", {}),
    ],
)
def test_what_is_no_polynomial_is_refused(formula, given):
    with pytest.raises(HierpoolError) as caught:
        hp.Model(formula, lazy(), **given)
    assert caught.value.code in ("not-in-sql", "not-collected")
    assert "x" in str(caught.value)
