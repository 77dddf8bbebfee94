"""The findings of every bundled table are those that were written down for it, and no more."""

from __future__ import annotations

import pytest

import hierpool as hp
from tests.testbed.bundled import TABLES, Bundled
from tests.testbed.situations import check_at


def test_every_bundled_table_has_a_list():
    assert {case.table for case in TABLES} == set(hp.datasets.names())
    assert all(case.why for case in TABLES)


SLOW = {"Chem97", "Exam", "ChickWeight"}  # a minute, for its 2,410 schools; some seconds each


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] if c.table in SLOW else []) for c in TABLES],
    ids=str,
)
def test_findings_of_a_bundled_table_are_those_expected(case: Bundled):
    found = check_at(case.model(), case.stage)
    assert set(found.codes) == set(case.codes), repr(found)
    assert len(found) == len(case.codes), repr(found)
