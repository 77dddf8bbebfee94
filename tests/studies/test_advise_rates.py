"""How often advice is right on data of known models, and what following it costs the estimates.

The simulators are those of ``benchmarks/path.py``: four sizes, effects that are large, small or
absent. Two minutes of one core.
"""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks import path

pytestmark = pytest.mark.calibration

RUNS = 10  # of each size and truth
AT_MOST = 1.02  # mean squared error of the levels' lines over that of the better rival


@pytest.fixture(scope="module")
def outcomes() -> pd.DataFrame:
    return path.run_all(path.SIZES, path.TRUTHS, RUNS, workers=2)


LARGE = [name for name, truth in path.TRUTHS.items() if truth.is_large]


@pytest.mark.parametrize("truth", [name for name in LARGE if name != "none"])
def test_large_effects_are_found_and_no_more_than_they(outcomes, truth):
    shares = path.rates(outcomes, ["truth"]).loc[truth]
    assert shares["runs"] == RUNS * len(path.SIZES)
    assert shares["right"] >= 0.80
    assert shares["wrong"] <= 0.05


@pytest.mark.parametrize("truth", path.TRUTHS)
def test_what_is_not_there_is_kept_in_one_of_ten_at_most(outcomes, truth):
    assert path.rates(outcomes, ["truth"]).loc[truth, "too rich"] <= 0.10


@pytest.mark.parametrize("rival", ["maximal", "backward", "maximal_blup", "backward_blup"])
def test_levels_are_estimated_as_well_as_by_the_better_rival(outcomes, rival):
    value, error = path.ratio(outcomes, rival)
    assert error < 0.01
    assert value <= AT_MOST


def test_a_rule_that_always_decides_is_wrong_more_often(outcomes):
    """Backward selection at 0.05, on the same responses and along the same path."""
    large = outcomes[outcomes["truth"].isin(LARGE)]
    true = large["truth"].map(lambda name: path.TRUTHS[name].structure)
    backward = float((large["selected"] != true).mean())
    advised = float(path.rates(large.assign(of="all"), ["of"])["wrong"].iloc[0])
    assert backward > 2 * advised
