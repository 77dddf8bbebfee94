"""Numbers that SAS published for PROC MIXED, in the spelling that docs/guides/from_proc_mixed.md has.

SAS/STAT User's Guide, chapter The MIXED Procedure: the split plot of Stroup (1989) in the example
Split-Plot Design, and the children of Potthoff and Roy (1964) in the example Repeated Measures.
"""

from __future__ import annotations

import pandas as pd
import pytest

import hierpool as hp

YIELDS = [56, 41, 50, 36, 39, 35, 30, 25, 36, 28, 33, 30, 32, 24, 31, 27, 15, 19]
YIELDS += [30, 25, 35, 30, 17, 18]


@pytest.fixture(scope="module")
def split_plot():
    cells = [(block, a, b) for block in (1, 2, 3, 4) for a in (1, 2, 3) for b in (1, 2)]
    plots = pd.DataFrame(cells, columns=["Block", "A", "B"]).assign(Y=YIELDS)
    return hp.Model("Y ~ C(A, SAS) * C(B, SAS) + (1 | Block) + (1 | Block:A)", plots).reml()


def test_variances_and_criterion_of_the_split_plot(split_plot):
    variances = split_plot.variance_partition()["variance"].round(4)
    assert variances[["Block", "Block:A", "residual"]].tolist() == [62.3958, 15.3819, 9.3611]
    assert round(-2 * split_plot.loglik, 1) == 119.8


def test_type_3_tests_of_the_split_plot_have_containment_df_as_it_is_balanced(split_plot):
    tests = split_plot.anova()
    assert tests["num_df"].tolist() == [2, 1, 2]
    assert tests["den_df"].round(6).tolist() == [6, 9, 9]
    assert tests["F"].round(2).tolist() == [4.07, 19.39, 4.02]
    assert tests["p"].round(4).tolist() == [0.0764, 0.0017, 0.0566]


def test_least_squares_mean_of_the_split_plot(split_plot):
    """The estimate 'a1 mean broad'."""
    first = hp.marginal_means(split_plot, "A").iloc[0]
    assert (round(first["estimate"], 4), round(first["se"], 4)) == (32.875, 4.5403)


def test_last_category_is_the_reference_as_in_class(split_plot):
    cell = hp.marginal_means(split_plot, ["A", "B"]).iloc[-1]
    assert split_plot.fixed_effects().loc["Intercept", "estimate"] == pytest.approx(
        cell["estimate"]
    )


def test_compound_symmetry_is_a_varying_intercept():
    teeth = hp.datasets.load("Orthodont")
    ml = hp.Model("distance ~ C(Sex, SAS) * age + (1 | Subject)", teeth).ml()
    assert round(-2 * ml.loglik, 1) == 428.6
    assert ml.aic == pytest.approx(440.6, abs=0.05)
