"""Panels of levels: the right rows, the right lines, and a selection that says what it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool import plots
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.style import COMPLETE, NONE, PARTIAL
from hierpool.plots.trajectories import arrange, set_apart

LOOKS = {"complete_pooling": COMPLETE, "no_pooling": NONE, "partial_pooling": PARTIAL}


def design_of(data, formula="volume ~ time", builder=hp.varying_slope):
    return builder(formula, data, group="boar").design


def drawn(ax, name) -> np.ndarray:
    """x and y of one pooling's line in a panel."""
    found = [curve for curve in ax.lines if curve.get_color() == LOOKS[name].color]
    assert len(found) == 1
    return np.asarray(found[0].get_xydata())


def test_each_panel_has_the_rows_and_the_three_lines_of_its_level(growth, poolings):
    data = growth(["a", "b", "c"])
    lines = poolings(data)
    figure = plots.trajectories(design_of(data), lines)
    for ax, level in zip(figure.axes, ["a", "b", "c"], strict=True):
        assert ax.get_title(loc="left") == level
        rows = data[data["boar"] == level]
        np.testing.assert_allclose(ax.lines[0].get_xydata(), rows[["time", "volume"]])
        for name, table in lines.items():
            own = table if isinstance(table, pd.Series) else table["value"].loc["boar", level]
            x, y = drawn(ax, name).T
            np.testing.assert_allclose(y, own["Intercept"] + own["time"] * x)
            np.testing.assert_allclose((x.min(), x.max()), (1, 4))


def test_polynomial_is_drawn_curved(growth, poolings):
    data = growth(range(5), rows=6, curve=-4.0)
    terms = ("Intercept", "time", "I(time ** 2)")
    design = design_of(data, "volume ~ time + I(time**2)")
    assert design.terms == terms
    lines = poolings(data, 2, terms)
    figure = plots.trajectories(design, lines)
    x, y = drawn(figure.axes[2], "no_pooling").T
    bend = lines["no_pooling"]["value"].loc["boar", 2, "I(time ** 2)"]
    np.testing.assert_allclose(np.diff(y, 2), 2 * bend * (x[1] - x[0]) ** 2, rtol=1e-6)


def test_fits_are_drawn_by_their_pooling(growth):
    data = growth(range(4))
    ladder = hp.pooling_ladder("volume ~ time", data, group="boar")
    fits = {name: model.reml() for name, model in ladder.items()}
    figure = plots.trajectories(fits)
    expected = fits["varying_slope"].coefficients()["estimate"].loc["boar", 3]
    x, y = drawn(figure.axes[3], "partial_pooling").T
    np.testing.assert_allclose(y, expected["Intercept"] + expected["time"] * x)
    y = drawn(figure.axes[0], "complete_pooling").T[1]
    beta = fits["complete_pooling"].fixed_effects()["estimate"]
    np.testing.assert_allclose(y, beta["Intercept"] + beta["time"] * x)


def test_terms_that_do_not_vary_come_from_the_fixed_effects(growth):
    data = growth(range(3))
    fit = hp.varying_intercept("volume ~ time", data, group="boar").reml()
    pair = (fit.coefficients(), fit.fixed_effects())
    figure = plots.trajectories(fit.design, {"partial_pooling": pair})
    y = drawn(figure.axes[1], "partial_pooling").T[1]
    slope = fit.fixed_effects().loc["time", "estimate"]
    np.testing.assert_allclose((y[-1] - y[0]) / 3, slope)
    with pytest.raises(ArgumentError, match=r"'time'.*give a pair"):
        plots.trajectories(fit.design, {"partial_pooling": fit.coefficients()})


def test_without_a_predictor_rows_stand_in_their_order(growth):
    data = growth(range(3))
    fit = hp.varying_intercept("volume ~ 1", data, group="boar").reml()
    figure = plots.trajectories({"varying_intercept": fit})
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), [1, 2, 3, 4])
    y = drawn(figure.axes[2], "partial_pooling").T[1]
    np.testing.assert_allclose(y, fit.coefficients().loc[("boar", 2, "Intercept"), "estimate"])
    assert figure.texts[0].get_text() == "volume by boar"


def test_category_gets_a_place_for_each_value(growth):
    data = growth(range(3)).assign(feed=list("abba") * 3)
    fits = {"varying_intercept": hp.varying_intercept("volume ~ feed", data, group="boar").reml()}
    figure = plots.trajectories(fits)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["a", "b"]
    y = drawn(figure.axes[0], "partial_pooling").T[1]
    effect = fits["varying_intercept"].fixed_effects()["estimate"].iloc[1]
    np.testing.assert_allclose(y[1] - y[0], effect)


def test_other_predictors_are_held_at_the_level(growth):
    data = growth(range(3))
    rng = np.random.default_rng(5)
    data = data.assign(weight=rng.normal(300, 20, len(data)), farm=["n", "s", "s", "s"] * 3)
    fit = hp.varying_intercept("volume ~ time + weight + farm", data, group="boar").reml()
    figure = plots.trajectories({"varying_intercept": fit})
    b = fit.fixed_effects()["estimate"]
    own = fit.coefficients().loc[("boar", 1, "Intercept"), "estimate"]
    mean = data.loc[data["boar"] == 1, "weight"].mean()
    x, y = drawn(figure.axes[1], "partial_pooling").T
    np.testing.assert_allclose(y, own + b["time"] * x + b["weight"] * mean + b["farm[T.s]"])
    caption = " ".join(t.get_text() for t in figure.texts)
    assert "Set to the mean or most common value of the group: weight, farm." in caption
    figure = plots.trajectories({"varying_intercept": fit}, x="weight")
    assert figure.texts[0].get_text() == "volume against weight, by boar"


def test_level_without_a_line_of_its_own_is_named(growth, poolings):
    data = growth(["a", "b", "c"])
    data = data[(data["boar"] != "b") | (data["time"] == 2)]
    figure = plots.trajectories(design_of(data), poolings(data))
    assert np.isnan(drawn(figure.axes[1], "no_pooling")[:, 1]).all()
    assert np.isfinite(drawn(figure.axes[1], "partial_pooling")).all()
    caption = " ".join(t.get_text() for t in figure.texts)
    assert "No own line (no own estimate): b." in caption


def test_selection_holds_the_most_shrunk_the_fewest_rows_and_the_extremes(growth, poolings):
    data = growth(range(100), uneven=True)
    lines, design = poolings(data), design_of(data)
    panels = arrange(design, lines, None, None, None, 24)
    assert len(panels.codes) == 24
    assert list(panels.codes) == sorted(panels.codes)
    everything = arrange(design, lines, None, None, None, 100)
    own, pooled = everything.heights["no_pooling"], everything.heights["partial_pooling"]
    pull, position = np.abs(own - pooled).mean(axis=1), pooled.mean(axis=1)
    assert panels.reasons[int(np.nanargmax(pull))] == "most shrunk"
    assert {int(position.argmin()), int(position.argmax())} <= set(panels.reasons)
    few = [k for k, why in panels.reasons.items() if why == "fewest rows"]
    assert (
        design.groupings["boar"].n_rows[few].max()
        <= np.sort(design.groupings["boar"].n_rows)[: 2 * len(few)].max()
    )


def test_selection_is_explained_on_the_panels_and_in_the_caption(growth, poolings):
    data = growth(range(30))
    figure = plots.trajectories(design_of(data), poolings(data), most=6, label="a (simulated)")
    assert len(figure.axes) == 6
    texts = [t.get_text() for t in figure.texts]
    assert texts[0] == "volume against time, by boar — a (simulated)"
    assert texts[1].startswith("6 of 30 boars: 1 most shrunk, 1 lowest, 1 typical, 3 spre")
    reasons = [t.get_text() for ax in figure.axes for t in ax.texts]
    assert sorted(reasons) == ["lowest", "most shrunk", "typical"]


def test_levels_are_taken_by_name_in_the_order_given(growth, poolings):
    data = growth(range(30))
    design, lines = design_of(data), poolings(data)
    figure = plots.trajectories(design, lines, levels=[7, "3"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["7", "3"]
    with pytest.raises(ArgumentError, match=r"'boar' has no level 99"):
        plots.trajectories(design, lines, levels=[99])


def test_rows_of_one_value_are_set_apart_in_the_same_way_each_time():
    values, codes = np.array([0.0, 0, 0, 1, 0]), np.array([0, 0, 0, 0, 1])
    moved = set_apart(values, codes)
    assert len(set(moved[:3])) == 3
    assert np.abs(moved - values).max() < 0.25
    np.testing.assert_array_equal(moved[3:], [1, 0])
    np.testing.assert_array_equal(moved, set_apart(values, codes))
    many = np.arange(20.0)
    np.testing.assert_array_equal(set_apart(many, np.zeros(20)), many)


def test_wrong_names_are_answered_with_the_nearest(growth, poolings):
    data = growth(range(3))
    design, lines = design_of(data), poolings(data)
    with pytest.raises(ArgumentError, match=r"no predictor 'tyme': did you mean 'time'"):
        plots.trajectories(design, lines, x="tyme")
    with pytest.raises(ArgumentError, match=r"no factor 'bore': did you mean 'boar'"):
        plots.trajectories(design, lines, factor="bore")
    with pytest.raises(ArgumentError, match=r"no line 'partial': did you mean 'partial_pooling'"):
        plots.trajectories(design, {"partial": lines["partial_pooling"]})
    odd = pd.Series({"Intercept": 1.0, "time": 2.0, "tme": 1.0})
    with pytest.raises(ArgumentError, match=r"coefficient for 'tme'.*did you mean 'time'"):
        plots.trajectories(design, {"complete_pooling": odd})
    with pytest.raises(UnsupportedModelError, match="has no groups"):
        plots.trajectories({"one": hp.complete_pooling("volume ~ time", data).reml()})
    two = pd.DataFrame({"a": [1.0, 1], "b": [1.0, 1]}, index=["Intercept", "time"])
    with pytest.raises(DataError, match="has 'a', 'b'"):
        plots.trajectories(design, {"complete_pooling": two})


def test_common_coefficient_that_says_nothing_new_counts_as_zero(growth):
    data = growth(range(3))
    design = design_of(data)
    own = pd.DataFrame(
        {"estimate": [1.0, 2.0, 3.0]},
        index=pd.MultiIndex.from_product(
            [["boar"], range(3), ["Intercept"]], names=["factor", "level", "term"]
        ),
    )
    fixed = pd.DataFrame({"estimate": [np.nan]}, index=["time"])
    table = line.level_coefficients((own, fixed), design, design.groupings["boar"])
    np.testing.assert_array_equal(table[["Intercept", "time"]], [[1, 0], [2, 0], [3, 0]])


def test_lines_end_where_the_rows_of_their_level_end(growth):
    data = growth(range(5), rows=6, uneven=True)
    fits = {
        name: model.reml()
        for name, model in hp.pooling_ladder("volume ~ time", data, "boar").items()
    }
    for ax, (_, rows) in zip(plots.trajectories(fits).axes, data.groupby("boar"), strict=True):
        for name in LOOKS:
            x = drawn(ax, name)[:, 0]
            assert (x.min(), x.max()) == (rows["time"].min(), rows["time"].max())


def test_no_pooling_is_least_squares_whatever_the_posterior_says(growth):
    data = growth(range(4), seed=9)
    models = hp.pooling_ladder("volume ~ time", data, group="boar")
    tight = {"coef_boar": hp.Prior("Normal", mu=0, sigma=1)}
    own = hp.no_pooling("volume ~ time", data, group="boar", priors=tight).fit(seed=1, draws=100)
    partial = models["varying_slope"].reml()
    figure = plots.trajectories({"partial": partial, "none": own})
    for ax, (_, rows) in zip(figure.axes, data.groupby("boar"), strict=True):
        slope, intercept = np.polyfit(rows["time"], rows["volume"], 1)
        x, y = drawn(ax, "no_pooling").T
        np.testing.assert_allclose(y, intercept + slope * x)
    caption = " ".join(t.get_text() for t in figure.texts)
    assert "No pooling: least squares of the own rows of each boar." in caption


def test_nothing_drawn_leaves_its_panel(growth, poolings):
    data = growth(range(6), rows=3, curve=9.0, seed=3)
    figure = plots.trajectories(design_of(data), poolings(data))
    for ax in figure.axes:
        low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
        for curve in ax.lines:
            points = curve.get_xydata()
            points = points[np.isfinite(points).all(axis=1)]
            assert ((points >= low) & (points <= high)).all()


def test_categories_are_points_only_where_the_level_has_rows(growth):
    data = growth(range(3)).assign(feed=list("abbc") * 3)
    data = data[(data["boar"] != 1) | (data["feed"] != "c")]
    fit = hp.varying_intercept("volume ~ feed", data, group="boar").reml()
    figure = plots.trajectories({"varying_intercept": fit})
    for ax, known in zip(figure.axes, (3, 2, 3), strict=True):
        assert all(curve.get_linestyle() == "None" for curve in ax.lines)
        assert np.isfinite(drawn(ax, "partial_pooling")[:, 1]).sum() == known


def test_labels_of_lines_are_read_as_those_of_new_data_are(growth, poolings):
    data = growth(range(3))
    lines, as_text = poolings(data), poolings(data.assign(boar=data["boar"].astype(str)))
    whole, text = (plots.trajectories(design_of(data), of) for of in (lines, as_text))
    for ours, theirs in zip(whole.axes, text.axes, strict=True):
        np.testing.assert_array_equal(drawn(ours, "no_pooling"), drawn(theirs, "no_pooling"))
    strange = poolings(data.assign(boar=data["boar"].map("boar {}".format)))
    with pytest.raises(DataError, match="boar"):
        plots.trajectories(design_of(data), strange)


def test_rows_and_reason_of_a_panel_are_never_shortened(growth, poolings):
    data = growth(range(40), rows=150, uneven=True)
    figure = plots.trajectories(design_of(data), poolings(data))
    said = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert len(said) == 24
    assert not any("…" in text for text in said)
    assert {text.split("\n")[-1] for text in said} >= {"most shrunk", "fewest rows"}


def test_one_row_a_level_is_said_and_numbered_as_one(growth):
    data = growth(range(9), rows=1).rename(columns={"volume": "yield"})
    data["se"] = 10.0
    fit = hp.varying_intercept("`yield` ~ 1", data, group="boar", known_se="se").reml()
    figure = plots.trajectories({"partial": fit})
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == ["1"]
    texts = [t.get_text() for t in figure.texts]
    assert texts[0] == "yield by boar"
    assert "One row each." in " ".join(texts)
