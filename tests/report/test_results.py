"""A results paragraph says what the terms, the model and the groups say, as papers write it."""

from __future__ import annotations

import pytest

import hierpool as hp
from hierpool.report.results import Spread, TermResult, results_paragraph

HOW = {"method": "REML", "df": "Kenward-Roger"}


@pytest.fixture(scope="module")
def design():
    return hp.Model("Reaction ~ Days + (Days | Subject)", hp.datasets.load("sleepstudy")).design


def test_interval_and_test_stand_together_after_the_number(design):
    term = TermResult(
        "Reaction rises with Days: by 10.5 [-7.21, 13.7] per unit of Days.",
        "95",
        1,
        17,
        45.853,
        3e-6,
    )
    text = results_paragraph(design, [term], [], HOW)
    assert text.startswith(
        "Reaction rises with Days: by 10.5 (95 % CI -7.21 to 13.7, F(1, 17) = 45.85, p < .001) per "
        "unit of Days. A linear mixed model of Reaction"
    )


def test_names_in_brackets_are_no_interval_and_a_term_without_one_has_its_test(design):
    term = TermResult("dose [mg, ml] matters.", "95", 2, 30.25, 4.1, 0.0274)
    text = results_paragraph(design, [term], [], HOW)
    assert text.startswith("dose [mg, ml] matters (F(2, 30.2) = 4.10, p = .027). ")


def test_a_term_without_a_test_has_its_interval_alone(design):
    text = results_paragraph(design, [TermResult("It is 8.3 % [1 %, 2e+03 %].", "89")], [], HOW)
    assert text.startswith("It is 8.3 % (89 % CI 1 % to 2e+03 %). ")


def test_spread_is_told_for_each_factor_and_the_residual_where_it_is_estimated(design):
    spreads = [Spread("Subject", "Intercept", 24.74), Spread("Subject", "Days", 5.922)]
    text = results_paragraph(design, [], [*spreads, Spread("residual", "", 25.59)], HOW)
    assert text.endswith(
        "Between subjects the standard deviation was 24.7 for the intercept and 5.92 for the effect of "
        "Days, and the residual standard deviation 25.6."
    )
    assert "residual" not in results_paragraph(design, [], spreads, HOW)
