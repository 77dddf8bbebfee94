"""Effects and fixed effects: what is drawn is what the tables say, over the rows; legible; bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool import plots
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from tests.answers import effects
from tests.support.cases import each


def lines(figure, panel: int = 0) -> list:
    """Means, the dots left out."""
    return [line for line in figure.axes[panel].lines if line.get_linewidth() > 1 and
            line.get_linestyle() != "None"]  # fmt: skip


@pytest.fixture(scope="module")
def chicks():
    rows = hp.datasets.load("ChickWeight")
    rows = rows[(rows["Diet"].astype(str) != "2") | (rows["Time"] <= 10)]
    return hp.Model("weight ~ Time * Diet + (1 | Chick)", rows).reml()


def test_lines_are_the_marginal_means_and_end_where_their_rows_end(chicks):
    figure = plots.effects(chicks, "Time", by="Diet")
    drawn = lines(figure)
    assert len(drawn) == 4
    assert [line.get_xdata().max() for line in drawn] == [21, 10, 21, 21]
    means = hp.marginal_means(chicks, "Time", by="Diet", at={"Time": [0, 21]})["estimate"]
    np.testing.assert_allclose(drawn[2].get_ydata()[[0, -1]], means.to_numpy()[4:6])
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert texts == ["Diet 1", "2", "3", "4"]


def test_nothing_is_cut_by_an_axis(chicks):
    figure = plots.effects(chicks, "Time", by="Diet")
    low, high = figure.axes[0].get_ylim()
    rows = hp.datasets.load("ChickWeight")["weight"]
    assert low < rows.min()
    assert high > rows.max()


@pytest.mark.parametrize("kind", ["posterior", "reml"])
def test_categories_are_points_and_bars_not_lines(fitted, kind):
    fit = getattr(fitted["machines_slopes"], kind)
    figure = plots.effects(fit, "Machine")
    (ax,) = figure.axes
    assert lines(figure) == []
    (points,) = [line for line in ax.lines if line.get_markersize() == 5]
    means = hp.marginal_means(fit, "Machine").iloc[:, 0]
    np.testing.assert_allclose(points.get_ydata(), means)
    words = {"posterior": "interval of the posterior", "reml": "confidence interval"}[kind]
    assert words in " ".join(t.get_text() for t in figure.texts)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["A", "B", "C"]


def test_only_the_rows_of_what_is_held_are_drawn(fitted):
    fit = fitted["orthodont_sex"].reml
    count = {}
    for name, arguments in {
        "all": {},
        "boys": {"at": {"Sex": "Male"}},
        "one": {"groups": {"Subject": "M01"}},
    }.items():
        figure = plots.effects(fit, "age", **arguments)
        count[name] = len(figure.axes[0].lines[0].get_xdata())
        words = " ".join(t.get_text() for t in figure.texts)
        assert ("of 108 rows" in words) == (name != "all")
    assert count == {"all": 108, "boys": 64, "one": 4}


def test_dots_are_in_the_units_of_the_back_transformed_means():
    rows = hp.datasets.load("Orthodont")
    fit = hp.Model("log(distance) ~ age + (1 | Subject)", rows).reml()
    for scale, values in (("response", rows["distance"]), ("linear", np.log(rows["distance"]))):
        figure = plots.effects(fit, "age", scale=scale)
        np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), values)


def test_a_second_group_has_panels():
    figure = plots.effects(effects.reml("noise"), "size", by=["type", "side"])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["side L", "side R"]
    assert len({ax.get_ylim() for ax in figure.axes}) == 1


def test_rows_are_drawn_once_where_lines_are_values_of_a_number(fitted):
    fit = fitted["orthodont_sex"].reml
    figure = plots.effects(fit, "Sex", by="age", at={"age": [8, 11, 14]})
    dots = [line for line in figure.axes[0].lines if line.get_markersize() < 4]
    assert [len(line.get_xdata()) for line in dots] == [108]


def test_rows_of_categories_that_are_not_chosen_are_left_out(chicks):
    figure = plots.effects(chicks, "Diet", at={"Diet": ["1", "3"]})
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["1", "3"]
    rows = hp.datasets.load("ChickWeight")["Diet"].astype(str)
    assert len(figure.axes[0].lines[0].get_xdata()) == rows.isin(["1", "3"]).sum()
    assert "of 518 rows" in " ".join(t.get_text() for t in figure.texts)


def test_means_that_are_not_estimable_are_named_below():
    figure = plots.effects(effects.reml("nutrition"), "race")
    assert "not estimable" in " ".join(t.get_text() for t in figure.texts)


@pytest.mark.parametrize("count", [2, 6, 12])
def test_effects_are_legible(count, names, assert_legible):
    rng = np.random.default_rng(count)
    labels = names(count, "long names")
    rows = pd.DataFrame(
        {"kind_$of$ boar": np.tile(labels, 10), "time": rng.normal(size=10 * count)}
    )
    rows["volume_$ml$"] = rng.normal(size=len(rows)) * 1e5
    text = "`volume_$ml$` ~ `kind_$of$ boar` * time"
    fit = hp.complete_pooling(text, rows).reml()
    assert_legible(plots.effects(fit, "kind_$of$ boar", label="boars $1"))
    assert_legible(plots.fixed_effects(fit, label="boars $1"))
    if count <= 6:
        assert_legible(plots.effects(fit, "time", by="kind_$of$ boar"))
    assert_legible(plots.effects(fit, "kind_$of$ boar", by="time", at={"time": [-1, 0, 1]}))


def test_thousands_of_rows_are_thinned_evenly():
    rows = hp.datasets.load("Exam")
    fit = hp.complete_pooling("normexam ~ standLRT", rows).reml()
    figure = plots.effects(fit)
    assert len(figure.axes[0].lines[0].get_xdata()) == -(-len(rows) // 2)
    assert "some of them" in " ".join(t.get_text() for t in figure.texts)


def test_fixed_effects_are_those_of_the_table(fitted):
    fit = fitted["orthodont_sex"].reml
    figure = plots.fixed_effects(fit, prob=0.95)
    table = fit.fixed_effects(df="kenward-roger")
    points = figure.axes[0].lines[-1]
    np.testing.assert_allclose(points.get_xdata(), table["estimate"].iloc[1:])
    words = [t.get_text() for t in figure.axes[0].texts]
    assert words[::2][0] == table.index[1]
    low, high = table.iloc[1][["ci95_lb", "ci95_ub"]]
    assert f"{low:.3f}" in words[1]
    assert f"{high:.3g}"[:3] in words[1]
    whole = " ".join(t.get_text() for t in figure.texts)
    assert "95 % confidence intervals (df: Kenward-Roger)" in whole
    one = plots.fixed_effects(fitted["orthodont_sex"].posterior, terms="Intercept")
    assert len(one.axes[0].lines[-1].get_xdata()) == 1


@each(
    ("arguments", "words"),
    [
        ({"x": "agee"}, "did you mean 'age'"),
        ({"x": "age", "by": "Sxe"}, "did you mean 'Sex'"),
        ({"x": "age", "by": ["Sex", "age", "Sex"]}, "two at most"),
        ({"x": "Sex", "by": "age", "at": {"age": list(range(8, 15))}}, "6 lines in a panel"),
        ({"x": "Sex", "by": "age"}, "at={'age'"),
    ],
)
def test_bad_input_is_refused_in_the_users_words(fitted, arguments, words):
    with pytest.raises(ArgumentError, match=words.replace("{", r"\{")):
        plots.effects(fitted["orthodont_sex"].reml, **arguments)


def test_models_without_predictors_have_no_effects(fitted):
    for draw in (plots.effects, plots.fixed_effects):
        with pytest.raises(UnsupportedModelError, match="Yield ~ 1"):
            draw(fitted["dyestuff"].reml)
    with pytest.raises(ArgumentError, match="did you mean 'Days'"):
        plots.fixed_effects(fitted["sleepstudy_slopes"].reml, terms="Dasy")
