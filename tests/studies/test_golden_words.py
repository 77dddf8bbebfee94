"""Golden reports are compared as they should be: words exactly, numbers to their last digit."""

from __future__ import annotations

import pytest

from tests.studies.golden.words import differences

KEPT = "Reaction rises by 10.5 [7.10, 13.7] in 18 subjects.\nF(1, 18.2) = 45.05, p < .001"


@pytest.mark.parametrize(
    "made",
    [
        KEPT,
        KEPT.replace("13.7", "13.8").replace("45.05", "45.06"),
        KEPT.replace("subjects.\n", "subjects.   "),
        KEPT.replace("10.5 ", "10.4\n"),
    ],
)
def test_a_last_digit_and_blanks_may_move(made: str):
    assert differences(made, KEPT) == []


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("13.7", "13.9"),
        ("rises", "falls"),
        ("18 subjects", "19 subjects"),
        ("p < .001", "p < .003"),
        ("[7.10", "[-7.10"),
        (", p", ". p"),
    ],
)
def test_anything_else_is_shown(was: str, becomes: str):
    assert becomes in "\n".join(differences(KEPT.replace(was, becomes), KEPT))
