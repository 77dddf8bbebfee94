"""Published analyses of tutorials and textbooks: hierpool gives the numbers that were printed.

``tests/reference/published.json`` has those of the bundled tables. The others are compared where
the folder of the numbers and their tables stands beside the checkout.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.published import rats
from benchmarks.published.numbers import Published, read
from benchmarks.published.posteriors import rstanarm
from benchmarks.published.scope import explanation, left_out
from benchmarks.published.table import ANALYSES, Compared, by_key, compared

HERE = Path(__file__).parents[1] / "reference" / "published.json"
FOLDERS = [parent / "shared" / "canon" for parent in Path(__file__).parents]
OUTSIDE = next((folder for folder in FOLDERS if folder.is_dir()), None)

BUNDLED = [a for a in ANALYSES if a.table.is_bundled]
OTHERS = [a for a in ANALYSES if not a.table.is_bundled]


def named(analyses, slow):
    """Parameters by name, those that take long with a mark."""
    return [
        pytest.param(
            a,
            id=f"{a.case}: {a.model}: {a.method}",
            marks=pytest.mark.slow if slow or not a.is_quick else (),
        )
        for a in analyses
    ]


def numbers_of(analysis, path: Path) -> list[Published]:
    return [number for number in read(path) if number.analysis == analysis.key]


def assert_met(analysis, numbers: list[Published], folder: Path | None) -> None:
    """Every number that was published is there, and those not met are known not to be."""
    ours = analysis.answers(folder)
    assert numbers
    assert set(ours) == {number.quantity for number in numbers}
    far = {}
    for number in numbers:
        found = Compared(number, ours[number.quantity], explanation(number))
        if found.is_within == bool(found.why):  # an explanation of a number that is met is stale
            far[number.quantity] = (number.value, number.tolerance, found.ours)
    assert far == {}


@pytest.mark.parametrize("analysis", named(BUNDLED, slow=False))
def test_numbers_are_those_published(analysis):
    assert_met(analysis, numbers_of(analysis, HERE), None)


@pytest.mark.skipif(OUTSIDE is None, reason="its table is not bundled and not beside the checkout")
@pytest.mark.parametrize("analysis", named(OTHERS, slow=True))
def test_numbers_of_other_tables_are_those_published(analysis):
    assert_met(analysis, numbers_of(analysis, OUTSIDE / "published.json"), OUTSIDE / "data")


@pytest.mark.skipif(OUTSIDE is None, reason="the other numbers are not beside the checkout")
def test_bundled_numbers_are_a_part_of_all():
    every = set(read(OUTSIDE / "published.json"))
    assert set(read(HERE)) <= every


def test_every_number_has_an_analysis_and_is_in_scope():
    known = by_key()
    for number in read(HERE):
        assert left_out(number) == ""
        assert number.quantity in known[number.analysis].quantities


def test_no_two_analyses_share_their_name():
    assert len(by_key()) == len(ANALYSES)


def test_a_number_without_code_is_missing_and_one_that_is_off_is_not_within():
    (first, *_) = read(HERE)
    unknown = Published("no such case", "y ~ x", "REML", "slope", 1.0, 0.1, "nowhere")
    (row,) = compared([unknown], None)
    assert row.verdict == "missing"
    assert not row.is_within
    assert Compared(first, first.value + 1.01 * first.tolerance, "").verdict == "no"
    assert Compared(first, first.value - first.tolerance, "").verdict == "yes"


@pytest.mark.slow
@pytest.mark.skipif(OUTSIDE is None, reason="the rats are not bundled and not beside the checkout")
def test_the_score_that_is_not_met_is_what_the_recipe_of_the_source_gives():
    numbers = read(OUTSIDE / "published.json")
    (number,) = [n for n in numbers if explanation(n) and n.case.startswith("rats")]
    rows = rats.RATS.load(OUTSIDE / "data")
    found = rats.with_refits(rats.FORMULAS[2], rows, "conditional", draws=1000)
    assert Compared(number, found.elpd, "").is_within


@pytest.mark.slow
@pytest.mark.skipif(OUTSIDE is None, reason="the rats are not bundled and not beside the checkout")
def test_importance_sampling_of_theta_is_refitting_without_the_row():
    rows = rats.RATS.load(OUTSIDE / "data")
    scores = rats.with_refits(rats.FORMULAS[2], rows).left_out
    for row in (0, 44, 83, 125):
        rest = rstanarm(rats.FORMULAS[2], rats.FEWER)(rows.drop(index=row))
        left_out = rats.score_new(rest, rows.iloc[[row]], is_known=True)[0]
        assert scores[row] == pytest.approx(left_out, abs=0.08)
