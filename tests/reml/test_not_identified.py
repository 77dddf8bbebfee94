"""A fit whose variances cannot be told apart says so, and says what holds all the same."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from tests.algebra.test_identified import few_rows

TWO_ROWS = few_rows(2, 40)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_two_rows_a_group_do_not_identify_lines(method):
    fit = getattr(hp.Model("y ~ x + (x | g)", TWO_ROWS), method)()
    assert fit.status.word == "not identified"
    assert "the residual and the variances of g cannot be estimated separately" in str(fit.status)
    assert fit.variance_components()["se"].isna().all()
    assert not fit.status.is_trustworthy


def test_what_is_said_to_hold_is_that_of_the_differences_and_sums_of_the_two_rows():
    # the covariance of the two rows is free, so that the means of the rows are all there is
    fit = hp.Model("y ~ x + (x | g)", TWO_ROWS).reml()
    rows = TWO_ROWS["y"].to_numpy().reshape(-1, 2)
    table = fit.fixed_effects()
    assert fit.df_method == "Satterthwaite"  # Kenward and Roger's needs variances that are told
    change = rows[:, 1] - rows[:, 0]
    for term, values in {"Intercept": rows[:, 0], "x": change}.items():
        assert table.loc[term, "estimate"] == pytest.approx(values.mean(), rel=1e-6)
        se = values.std(ddof=1) / np.sqrt(len(values))
        assert table.loc[term, "se"] == pytest.approx(se, rel=1e-5)
        assert table.loc[term, "df"] == pytest.approx(len(values) - 1, rel=1e-3)


def test_a_residual_sd_that_is_hardly_told_is_not_called_converged():
    # slopes of x that differ a little between groups identify it in principle
    found = []
    for seed in range(8):
        x = np.tile([0.0, 1.0], 40) + 0.02 * np.random.default_rng(seed).normal(size=80)
        fit = hp.Model("y ~ x + (x | g)", few_rows(2, 40, x, seed)).reml()
        found.append(fit.status.word)
        if fit.status.word == "converged":
            assert fit.estimate.sigma_se < fit.estimate.sigma
    assert found.count("not identified") >= 3
    assert "failed" not in found


@pytest.mark.parametrize(
    ("n", "J", "formula"), [(2, 3, "y ~ 1 + (1 | g)"), (3, 4, "y ~ x + (x | g)")]
)
def test_fits_of_small_designs_are_not_called_unidentified(n, J, formula):
    words = {hp.Model(formula, few_rows(n, J, seed=s)).reml().status.word for s in range(12)}
    assert words <= {"converged", "singular"}


def test_a_likelihood_ratio_test_with_such_a_fit_says_so():
    smaller, larger = (hp.Model(f"y ~ x + ({t} | g)", TWO_ROWS).ml() for t in "1x")
    assert "cannot be estimated separately" in str(hp.lrt(smaller, larger))
