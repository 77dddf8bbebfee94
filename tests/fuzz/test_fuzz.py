"""Thousands of made-up tables and formulas: a result or an error of our own, and nothing else.

The same cases at every run. Each file of ``tests/fuzz`` that a fault came from has a fixed example
in ``test_found.py``.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.formulas import formulas
from tests.fuzz.outcome import run
from tests.fuzz.tables import Made, tables

PARTS, EACH = 16, 220


def answered(part: int, cases: int) -> Counter[str]:
    """Outcomes of that many cases, each counted once."""
    outcomes: Counter[str] = Counter()

    @seed(part)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(tables(), st.data(), st.integers(0, 11))
    def one(made: Made, data: st.DataObject, way: int) -> None:
        formula = data.draw(formulas(list(made.kinds)), label="formula")
        depth = 2 if way == 0 else 1 if way < 4 else 0
        outcomes[run(formula, made.table, depth)] += 1

    one()
    return outcomes


@pytest.mark.fuzz
@pytest.mark.parametrize("part", range(PARTS))
def test_every_case_has_an_answer(part, record_property):
    outcomes = answered(part, EACH)
    record_property("outcomes", dict(outcomes))
    assert sum(outcomes.values()) >= EACH
    fits = sum(count for word, count in outcomes.items() if not word.startswith("error"))
    assert fits > EACH / 20  # not all of them errors
    print(f"part {part}: {sum(outcomes.values())} cases, {fits} fits, {len(outcomes)} outcomes")


@pytest.mark.slow
def test_a_few_cases_have_an_answer():
    assert sum(answered(1000, 40).values()) >= 40
