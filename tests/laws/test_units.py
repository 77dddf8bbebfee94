"""The unit of a column changes nothing but the unit of the answer; where numbers end, an error says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import DataError
from tests.algebra.test_identified import few_rows
from tests.support.cases import each

DATA = few_rows(5, 10)
DRAWS = {"draws": 250, "seed": 1, "engine": "exact", "progress": False}
FORMULA = "y ~ x + (x | g)"


@each("unit", [1e-49, 1e-19, 1e19, 1e45])
@each("method", ["reml", "ml"])
def test_an_optimum_in_another_unit_is_the_same(unit, method):
    one = getattr(hp.Model(FORMULA, DATA), method)()
    other = getattr(hp.Model(FORMULA, DATA.assign(y=unit * DATA["y"])), method)()
    assert other.status.word == one.status.word
    for table in ("fixed_effects", "blup", "coefficients", "predict"):
        a, b = (getattr(fit, table)()[["estimate", "se"]] for fit in (one, other))
        np.testing.assert_allclose(b / unit, a, rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-45, 1e45])
def test_degrees_of_freedom_do_not_depend_on_units(unit):
    one = hp.Model(FORMULA, DATA).reml()
    other = hp.Model(FORMULA, DATA.assign(y=unit * DATA["y"], x=DATA["x"] / unit)).reml()
    for df in ("satterthwaite", "kenward-roger"):
        a, b = (fit.fixed_effects(df=df)[["df", "t", "p"]] for fit in (one, other))
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize("column", ["y", "x"])
@pytest.mark.parametrize("unit", [1e-45, 1e45])
def test_a_posterior_in_another_unit_is_finite_in_every_table(column, unit):
    model = hp.Model(FORMULA, DATA.assign(**{column: unit * DATA[column]}))
    fit = model.fit(**DRAWS)
    tables = [fit.fixed_effects(), fit.coefficients(), fit.predict(), hp.shrinkage(fit)]
    tables.append(hp.compare_blups(fit, model.reml()))
    for table in tables:
        assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    own = hp.Model(FORMULA, DATA).fit(**DRAWS).loo().elpd
    moved = len(DATA) * np.log(unit) if column == "y" else 0.0
    assert fit.loo().elpd + moved == pytest.approx(own, abs=1.0)


@each("unit", [1e-300, 1e-160, 1e160, 1e300])
@each("column", ["y", "x", "w"])
def test_numbers_whose_products_are_lost_are_refused_with_the_column_and_advice(column, unit):
    given = {"weights": "w"} if column == "w" else {}
    data = DATA.assign(**{column: unit * DATA[column]})
    with pytest.raises(DataError, match=f"the values of '{column}' are too") as caught:
        hp.Model(FORMULA, data, **given)
    assert caught.value.code == "out-of-range"
    (advice,) = [word for word in caught.value.message.split() if word.startswith("1e")]
    mended = data.assign(**{column: data[column] / float(advice)})
    assert hp.Model(FORMULA, mended, **given).reml().status.is_trustworthy


def test_a_power_that_leaves_the_range_is_named():
    with pytest.raises(DataError, match=r"I\(x \*\* 6\)"):
        hp.Model("y ~ I(x**6) + (1 | g)", DATA.assign(x=1e10 * DATA["x"]))


def test_columns_of_zeros_are_in_range():
    data = pd.concat([DATA.assign(x=0.0, k=0), DATA.assign(k=1)])
    assert hp.Model("y ~ x*k + (1 | g)", data).reml().status.is_trustworthy
