"""The picture of advice: every step in its place, legible, both questions."""

from __future__ import annotations

import numpy as np
import pytest

from hierpool import plots
from hierpool.checks.advice import Advice, Choice, Difference, Evidence, Step
from hierpool.core.errors import DataError
from tests.support.cases import each


def advised(count: int, word: str = "time", group: str = "boar", scale: float = 3.0) -> Advice:
    """Advice made by hand: alternately needed, undecided and not needed."""
    rng = np.random.default_rng(1)
    steps = [Step("y ~ given", "given")]
    for k in range(count):
        one, other = (Difference(scale * rng.normal(), abs(rng.normal())) for _ in range(2))
        evidence = Evidence(5.0, 1, (0.001, 0.05, 0.5)[k % 3], "", one, other, group)
        kind = "richer" if k > count / 2 else "simpler"
        steps.append(Step(f"y ~ m{k}", kind, f"the slope of {word} {k}", "y ~ given", evidence))
    of = {step.name: {} for step in steps}
    return Advice("y ~ given", "boars", 1, tuple(steps), Choice("y ~ given"), {}, {}, {}, of)


@each("count", [1, 4, 12])
@each("scale", [0.1, 3.0, 3000.0])
def test_path_is_legible(count, scale, assert_legible):
    word = "days since the $first$ of January"
    written = assert_legible(plots.advice(advised(count, word, "name of a farm_" * 4, scale)))
    assert any("days since" in text for text in written)


def test_steps_stand_from_top_to_bottom_with_their_p():
    figure = plots.advice(advised(3))
    names = [t.get_text() for t in figure.axes[0].texts]
    assert names == ["− the slope of time 0", "− the slope of time 1", "+ the slope of time 2"]
    tests = [t.get_text() for t in figure.axes[1].texts]
    assert tests == ["p = 0.001", "p = 0.05", "p = 0.5"]
    assert [ax.get_title() for ax in figure.axes] == ["new observations", "new boars"]


def test_points_stand_at_the_differences_of_the_table():
    advice = advised(4)
    for ax, by in zip(plots.advice(advice).axes, ("row", "group"), strict=True):
        drawn = [line.get_xdata()[0] for line in ax.lines if line.get_marker() != "None"]
        np.testing.assert_allclose(drawn, advice.table[f"{by}_diff"].to_numpy()[1:])


def test_nothing_to_draw_is_said():
    with pytest.raises(DataError, match="no leave-one-out scores") as caught:
        plots.advice(advised(0))
    assert caught.value.code == "nothing-to-draw"
