"""The rule of advice: what is needed, what is not, and where one cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

from hierpool.checks.advice import Choice, Difference, Evidence, Step

NOTHING = Difference(0.3, 0.5)
FOR_LARGER, FOR_SMALLER = Difference(-9.0, 3.0), Difference(9.0, 3.0)


def evidence(p: float, row: Difference = NOTHING, group: Difference = NOTHING) -> Evidence:
    return Evidence(statistic=3.0, df=1, p=p, row=row, group=group, left_out="boar")


@pytest.mark.parametrize(
    ("p", "said"),
    [(0.001, "needed"), (0.05, "undecided"), (0.5, "not needed"), (1.0, "not needed")],
)
def test_two_thresholds_leave_room_for_undecided(p, said):
    assert evidence(p).verdict == said


def test_leave_one_out_can_only_make_a_test_undecided():
    assert evidence(0.001, row=FOR_SMALLER).verdict == "undecided"
    assert evidence(0.5, group=FOR_LARGER).verdict == "undecided"
    assert evidence(0.5, row=FOR_LARGER, group=FOR_SMALLER).verdict == "undecided"
    assert evidence(0.001, row=FOR_LARGER).verdict == "needed"


@pytest.mark.parametrize("difference", [Difference(-3.9, 0.1), Difference(-9.0, 4.6)])
def test_small_or_uncertain_differences_of_elpd_tell_nothing(difference):
    assert not difference.is_clear
    assert evidence(0.5, row=difference).verdict == "not needed"


def test_without_a_test_the_smaller_model_needs_only_to_be_better():
    assert evidence(np.nan, row=FOR_LARGER).verdict == "needed"
    assert evidence(np.nan, row=Difference(2.0, 3.0)).verdict == "not needed"
    assert evidence(np.nan, row=Difference(-2.0, 3.0)).verdict == "undecided"
    assert Evidence().verdict == "undecided"


def path(*ps: float) -> list[Step]:
    below = [Step(f"m{k}", "simpler", evidence=evidence(p)) for k, p in enumerate(ps, 1)]
    return [Step("m0", "given"), *below]


@pytest.mark.parametrize(
    ("ps", "left"),
    [
        ((0.001, 0.5), ("m0",)),
        ((0.5, 0.001), ("m1",)),
        ((0.5, 0.5), ("m2",)),
        ((0.5, 0.05, 0.001), ("m1", "m2")),
        ((0.05, 0.5, 0.001), ("m0", "m1", "m2")),
        ((0.05, 0.001), ("m0", "m1")),
        ((), ("m0",)),
    ],
)
def test_one_goes_down_until_something_is_needed(ps, left):
    start, *chain = path(*ps)
    assert Choice(start.name).followed_by(chain).candidates == left


def test_each_factor_begins_at_what_the_one_before_left():
    first = [
        Step("a", "simpler", evidence=evidence(0.5)),
        Step("b", "simpler", evidence=evidence(0.05)),
    ]
    second = [
        Step("c", "simpler", evidence=evidence(0.5)),
        Step("d", "simpler", evidence=evidence(0.001)),
    ]
    choice = Choice("start").followed_by(first).followed_by(second)
    assert choice.formula == "c"
    assert choice.candidates == ("c", "b")
    assert not choice.decided
    assert [s.name for s in choice.needed] == ["d"]
    assert "do not decide" in choice.sentence


def test_variances_that_are_not_identified_are_never_needed():
    shown = Evidence(statistic=50.0, df=2, p=1e-9, row=FOR_LARGER, is_identified=False)
    assert shown.verdict == "not needed"


def test_numbers_of_a_sentence_are_of_the_model_that_it_speaks_of():
    e = evidence(0.02, row=FOR_LARGER)
    assert "p = 0.02, elpd lower by 9.0" in e.said()
    assert "elpd higher by 9.0" in e.said(-1)
