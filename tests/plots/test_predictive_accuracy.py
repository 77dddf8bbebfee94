"""Pictures of left-out rows and levels: calibration, Pareto k, and both questions of a ladder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool import plots
from hierpool.core.errors import ArgumentError, ComparisonError, DataError, UnsupportedModelError
from hierpool.plots.sheet.style import NONE, PARTIAL


def dots(ax, look) -> np.ndarray:
    (found,) = [
        c.get_xydata()
        for c in ax.lines
        if c.get_marker() == look.marker and c.get_markeredgecolor() == look.color
    ]
    return np.asarray(found)


def caption(figure) -> str:
    return " ".join(t.get_text() for t in figure.texts)


def test_pit_line_is_the_distribution_less_the_uniform_one(fitted, assert_legible):
    fit = fitted["sleepstudy_slopes"].posterior
    figure = plots.loo_pit(fit)
    values = fit.loo_pit().to_numpy()
    left, right = figure.axes
    at, difference = left.lines[-1].get_xydata().T
    np.testing.assert_allclose(difference, [(values < x - 1e-12).mean() - x for x in at], atol=1e-9)
    counts = right.patches[-1].get_data().values
    assert counts.sum() == len(values)
    assert "The line stays inside" in caption(figure)
    assert_legible(figure)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (lambda u: u, "stays inside"),
        (lambda u: u**2, "predictions are too high"),
        (lambda u: 1 - u**2, "predictions are too low"),
        (lambda u: 0.5 + (u - 0.5) * 0.7, "too wide in the middle"),
        (lambda u: np.where(u < 0.5, u**2 * 2, 1 - (1 - u) ** 2 * 2), "too narrow"),
    ],
)
def test_shape_of_pit_values_is_told(shape, words, assert_legible):
    even = (np.arange(600) + 0.5) / 600
    figure = plots.loo_pit(shape(even), response="y_$", label="made up")
    assert words in caption(figure)
    assert_legible(figure)


def test_pareto_k_of_rows_and_levels_are_those_of_the_scores(fitted, assert_legible):
    fit = fitted["sleepstudy_slopes"].posterior
    figure = plots.pareto_k(fit)
    rows, levels = figure.axes
    by_row = fit.loo(exact=False).pareto_k.to_numpy()
    by_level = fit.loo(by="Subject", exact=False).pareto_k.to_numpy()
    np.testing.assert_allclose(dots(rows, PARTIAL)[:, 1], by_row[by_row <= 0.7])
    high = dots(levels, NONE)
    np.testing.assert_array_equal(high[:, 0], np.flatnonzero(by_level > 0.7))
    assert high[:, 1] == pytest.approx(np.sort(by_level[by_level > 0.7])[::-1])
    worst = fit.design.groupings["Subject"].levels[by_level.argmax()]
    assert levels.texts[0].get_text() == str(worst)
    assert "computed exactly by fit.loo()" in figure.legends[0].get_texts()[1].get_text()
    assert_legible(figure)


def test_pareto_k_without_groups_shows_rows_alone(fitted, assert_legible):
    data = hp.datasets.load("sleepstudy")
    fit = hp.complete_pooling("Reaction ~ Days", data).fit(draws=200, seed=1, progress=False)
    figure = plots.pareto_k(fit)
    assert len(figure.axes) == 1
    assert_legible(figure)


def test_pareto_k_of_long_names_is_legible(growth, names, assert_legible):
    data = growth(names(40, "long names"), uneven=True)
    fit = hp.varying_intercept("volume ~ time", data, group="boar").fit(
        draws=200, seed=1, progress=False
    )
    assert_legible(plots.pareto_k(fit))


def test_ladder_shows_both_tables_in_the_order_of_the_fits(fitted, assert_legible):
    names = ["sleepstudy_complete", "sleepstudy_intercepts", "sleepstudy_slopes"]
    fits = {name: fitted[name].posterior for name in names}
    figure = plots.ladder(fits)
    for ax, table in zip(
        figure.axes, (hp.compare(fits), hp.compare(fits, by="group")), strict=True
    ):
        np.testing.assert_allclose(dots(ax, PARTIAL)[:, 0], table.loc[names, "elpd_diff"])
        np.testing.assert_array_equal(dots(ax, PARTIAL)[:, 1], [0, -1, -2])
        said = [t.get_text() for t in ax.texts]
        assert "best" in said
    assert figure.axes[1].get_title(loc="left") == "new subjects"
    assert_legible(figure)


def test_score_that_is_the_prior_alone_is_ringed(fitted, assert_legible):
    names = ["sleepstudy_slopes", "sleepstudy_no_pooling"]
    fits = {name: fitted[name].posterior for name in names}
    figure = plots.ladder(fits)
    table = hp.compare(fits, by="group")
    expected = [[table.loc["sleepstudy_no_pooling", "elpd_diff"], -1]]
    np.testing.assert_allclose(dots(figure.axes[1], NONE), expected)
    assert len(dots(figure.axes[0], NONE)) == 0
    written = " ".join(assert_legible(figure))
    assert "Ringed: a new group has only its prior (sleepstudy_no_pooling)." in written


@pytest.mark.parametrize("count", [1, 6, 40])
def test_ladder_of_long_names_is_legible(count, names, scored, assert_legible):
    table = scored(names(count, "long names"))
    assert_legible(plots.ladder(table, table[::-1], group="boar % farm_" * 9, response="$y$"))


def test_order_of_a_ladder_can_be_given(scored):
    table = scored(["b", "a", "c"])
    figure = plots.ladder(table, table, order=["a", "b", "c"])
    np.testing.assert_allclose(dots(figure.axes[0], PARTIAL)[:, 0], [-1, 0, -(2**1.5)])


def test_wrong_input_is_answered(fitted, scored):
    with pytest.raises(ComparisonError, match="needs two tables"):
        plots.ladder(scored(["a", "b"]))
    with pytest.raises(ComparisonError, match="only one has 'c'"):
        plots.ladder(scored(["a", "b"]), scored(["a", "b", "c"]))
    with pytest.raises(DataError, match="probabilities between 0 and 1"):
        plots.loo_pit(pd.Series([0.1, 1.7]))
    with pytest.raises(DataError, match="probabilities between 0 and 1"):
        plots.loo_pit(np.array([np.nan]))
    reml = fitted["sleepstudy_slopes"].reml
    for picture in (plots.loo_pit, plots.pareto_k):
        with pytest.raises(UnsupportedModelError, match="LikelihoodFit has no draws"):
            picture(reml)
    with pytest.raises(ArgumentError, match=r"no factor 'subject'"):
        plots.pareto_k(fitted["sleepstudy_slopes"].posterior, factor="subject")
