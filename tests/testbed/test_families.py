"""Clean counts, choices and ratings are left in peace, and planted faults found."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.testbed.situations_families import CLEAN, FAULTS, OfFamily
from tests.testbed.test_planted import ANY, FOUND, SEEDS

TABLES = 60
POISSON = next(case for case in CLEAN if case.family == "poisson")


@pytest.mark.parametrize(("case", "found"), [(POISSON, set()), (FAULTS[0], {"overdispersion"})])
def test_counts_are_told_from_counts_that_vary_more(case: OfFamily, found: set[str]):
    assert {*case.check(1).codes} == found


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.calibration
def test_a_planted_fault_is_found_in_nine_of_ten_seeds(fault: OfFamily):
    found = [bool({*fault.check(seed).codes} & {*fault.codes}) for seed in range(SEEDS)]
    assert np.mean(found) >= FOUND


@pytest.mark.parametrize("case", CLEAN, ids=str)
@pytest.mark.calibration
def test_clean_tables_are_left_in_peace(case: OfFamily):
    every = [
        [f.code for f in case.check(5000 + seed) if f.severity != "note"] for seed in range(TABLES)
    ]
    each = Counter(code for codes in every for code in codes)
    assert sum(bool(codes) for codes in every) <= ANY * TABLES, each
