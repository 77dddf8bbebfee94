"""What stands in the tables is what is drawn, and what cannot be drawn is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.quiver import Quiver

import hierpool as hp
from hierpool import plots
from hierpool.core.errors import ArgumentError, DataError
from hierpool.plots.sheet.style import BLUP, NONE, PARTIAL


def words(figure) -> str:
    return " ".join(t.get_text() for t in figure.texts)


def dots(ax, look) -> np.ndarray:
    found = [
        m for m in ax.lines if m.get_markeredgecolor() == look.color and m.get_marker() != "None"
    ]
    return np.vstack([m.get_xydata() for m in found])


def test_arrows_go_from_own_to_pooled_estimates(pulled):
    table = pulled(range(10))
    (ax,) = plots.shrinkage(table).axes
    (arrows,) = [a for a in ax.collections if isinstance(a, Quiver)]
    own, pooled = (table[c].unstack() for c in ("own_estimate", "partial_pooling"))
    np.testing.assert_allclose(arrows.XY, own)
    np.testing.assert_allclose(np.column_stack([arrows.U, arrows.V]), pooled - own)
    np.testing.assert_allclose(dots(ax, NONE), own)
    np.testing.assert_allclose(dots(ax, PARTIAL), pooled)
    marks = {m.get_marker(): m.get_xydata()[0] for m in ax.lines if len(m.get_xdata()) == 1}
    one = table.xs(0, level="level")
    np.testing.assert_allclose(marks["s"], one["complete_pooling"])
    np.testing.assert_allclose(marks["+"], one["population"])


def test_level_without_an_own_estimate_has_a_dot_and_is_named(pulled):
    table = pulled([f"b{k}" for k in range(10)], unknown=2)
    figure = plots.shrinkage(table, label="boars (simulated)", response="volume")
    (ax,) = figure.axes
    assert len(dots(ax, PARTIAL)) == 10
    assert len(dots(ax, NONE)) == 8
    assert "(no own estimate): b0, b1." in words(figure)
    assert figure.texts[0].get_text() == "Shrinkage of volume by boar — boars (simulated)"


def test_one_term_is_a_row_a_level_in_order(pulled):
    table = pulled(range(10), unknown=0)
    (ax,) = plots.shrinkage(table, terms="time").axes
    expected = table.xs("time", level="term")["partial_pooling"].sort_values(ascending=False)
    x, y = dots(ax, PARTIAL).T
    np.testing.assert_allclose(x, expected)
    np.testing.assert_allclose(y, -np.arange(10))
    assert [t.get_text() for t in ax.texts] == [str(k) for k in expected.index.droplevel("factor")]


@pytest.mark.parametrize(("q", "planes"), [(3, 3), (4, 6), (6, 6)])
def test_more_terms_make_a_plane_for_each_pair(q, planes, pulled):
    figure = plots.shrinkage(pulled(range(6), [f"x{k}" for k in range(q)]))
    assert len(figure.axes) == planes
    assert ("4 of 6 terms; choose others with terms=." in words(figure)) == (q == 6)


def test_two_terms_can_be_chosen(pulled):
    (ax,) = plots.shrinkage(pulled(range(6), ["a", "b", "c"]), terms=["c", "a"]).axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("c", "a")
    with pytest.raises(ArgumentError, match=r"no term 'bb'"):
        plots.shrinkage(pulled(range(6), ["a", "b", "c"]), terms=["bb", "a"])


def test_caterpillar_is_ordered_and_holds_both_intervals(estimated):
    posterior, blup = estimated(range(12))
    figure = plots.caterpillar(posterior, blup, response="volume")
    first, second = figure.axes
    order = posterior.xs("Intercept", level="term")["mean"].sort_values(ascending=False)
    levels = order.index.droplevel("factor")
    np.testing.assert_allclose(dots(first, PARTIAL)[:, 0], order)
    expected = blup.loc["boar"].loc[[(k, "time") for k in levels], "estimate"]
    np.testing.assert_allclose(dots(second, BLUP)[:, 0], expected)
    bars = [c for c in second.collections if np.allclose(c.get_linewidth(), 1.1)]
    segments = np.array(bars[0].get_segments())[:, :, 0]
    bounds = posterior.loc["boar"].loc[[(k, "time") for k in levels]]
    np.testing.assert_allclose(segments, bounds[["eti95_lb", "eti95_ub"]])
    half = np.diff(np.array(bars[1].get_segments())[:, :, 0], axis=1)[:, 0] / 2
    se = blup.loc["boar"].loc[[(k, "time") for k in levels], "se"]
    np.testing.assert_allclose(half / se, 1.959964, rtol=1e-5)
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert legend == ["posterior mean, 95 % interval", "BLUP, 95 % interval"]


def test_caterpillar_of_blups_alone_is_ordered_by_them(estimated):
    _, blup = estimated(["a", "b", "c"])
    figure = plots.caterpillar(blup)
    assert [text.get_text()[:4] for text in figure.legends[0].get_texts()] == ["BLUP"]
    dots = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert list(dots[-1].get_xdata()) == sorted(dots[-1].get_xdata(), reverse=True)


def test_caterpillar_takes_any_interval_of_arviz_or_none(estimated):
    posterior, _ = estimated(range(4))
    renamed = posterior.rename(columns={"eti95_lb": "hdi94_lb", "eti95_ub": "hdi94_ub"})
    legend = plots.caterpillar(renamed).legends[0].get_texts()
    assert legend[0].get_text() == "posterior mean, 94 % interval (HDI)"
    legend = plots.caterpillar(posterior[["mean", "sd"]]).legends[0].get_texts()
    assert legend[0].get_text() == "posterior mean, 95 % interval of a normal"


def test_caterpillar_in_two_columns_shows_each_level_once(estimated):
    posterior, blup = estimated(range(129))
    figure = plots.caterpillar(posterior, blup)
    assert len(figure.axes) == 4
    shown = [int(t.get_text()) for ax in figure.axes for t in ax.texts]
    assert sorted(shown) == list(range(129))
    assert sum(len(dots(ax, BLUP)) for ax in figure.axes) == 2 * 129


def test_posterior_against_blup_names_the_worst(compared):
    table = compared([f"b{k}" for k in range(20)], ("Intercept",))
    table.loc[("boar", "b7", "Intercept"), "difference"] = 40.0
    figure = plots.posterior_against_blup(table, worst=1)
    above, below = figure.axes
    np.testing.assert_allclose(dots(above, PARTIAL), table[["blup", "posterior_mean"]])
    np.testing.assert_allclose(dots(below, PARTIAL), table[["blup", "difference"]])
    assert [t.get_text() for t in below.texts] == ["b7"]
    assert "Intercept 40 (b7," in words(figure)


def test_comparison_puts_the_best_on_top(scored):
    table = scored(["worst", "best", "middle"])
    table["rank"] = [2, 0, 1]
    table["elpd_diff"] = [-9.04, 0.0, -4.0]
    figure = plots.comparison(table, left_out="boar", response="volume")
    (ax,) = figure.axes
    np.testing.assert_allclose(dots(ax, PARTIAL), [[0, 0], [-4, -1], [-9.04, -2]])
    shown = [t.get_text() for t in ax.texts]
    assert shown[::2] == ["best", "middle", "worst"]
    assert shown[1] == "best"
    assert shown[5].startswith("−9.0 ± ")
    assert "(leave one boar out)" in words(figure)
    assert "3 Pareto k above 0.70: best." in words(figure)


def test_table_of_the_wrong_kind_is_answered(pulled, scored):
    with pytest.raises(DataError, match="no column 'posterior_mean'"):
        plots.posterior_against_blup(pulled(range(3)))
    with pytest.raises(DataError, match="no column 'dse'"):
        plots.comparison(scored(["a"]).drop(columns="dse"))
    with pytest.raises(DataError, match="no rows"):
        plots.shrinkage(pulled(range(3)).head(0))
    with pytest.raises(ArgumentError, match=r"no factor 'bore': did you mean 'boar'"):
        plots.caterpillar(pd.DataFrame(pulled(range(3)).assign(mean=0, sd=1)), factor="bore")


def test_tables_may_carry_their_keys_as_columns(pulled):
    table = pulled(range(5))
    one, other = plots.shrinkage(table), plots.shrinkage(table.reset_index())
    np.testing.assert_array_equal(dots(one.axes[0], NONE), dots(other.axes[0], NONE))


def test_fit_can_stand_for_its_table(growth):
    fit = hp.varying_slope("volume ~ time", growth(range(6)), group="boar").reml()
    (ax,) = plots.shrinkage(fit).axes
    pooled = fit.coefficients()["estimate"].unstack()[["Intercept", "time"]]
    np.testing.assert_allclose(dots(ax, PARTIAL), pooled)
    assert plots.shrinkage(fit).texts[0].get_text() == "Shrinkage of volume by boar"
