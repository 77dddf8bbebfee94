"""Figures are the caller's alone: no pyplot, no settings changed, shown by notebooks."""

from __future__ import annotations

import pickle
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import hierpool as hp
from hierpool import plots
from hierpool.plots.selection import choose, in_words
from hierpool.plots.sheet.style import styled
from hierpool.plots.sheet.terms import terms_in_words
from hierpool.plots.sheet.texts import elided, elided_apart, text_width, wrapped


def test_settings_of_the_user_are_left_alone(scored):
    before = mpl.rcParams.copy()
    plots.comparison(scored(["a", "b"]))
    assert dict(mpl.rcParams) == dict(before)


def test_dark_style_and_tex_of_the_user_do_not_reach_a_picture_half(scored):
    with mpl.rc_context({"text.color": "white", "text.usetex": True, "axes.facecolor": "black"}):
        figure = plots.comparison(scored(["a_b", "$"]))
        figure.canvas.draw()
    assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)
    assert not any(t.get_usetex() for t in figure.findobj(mpl.text.Text) if t.get_text())


def test_pyplot_is_never_imported():
    code = (
        "import sys; import hierpool as hp; hp.plots; "
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot'; "
        "assert 'pymc' not in sys.modules, 'pymc'"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_figure_shows_itself_as_png_and_can_be_pickled(scored):
    figure = plots.comparison(scored(["a", "b"]))
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    again = pickle.loads(pickle.dumps(figure))
    assert [t.get_text() for t in again.axes[0].texts] == ["a", "best", "b", "−1.0 ± 0.4"]


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_figure_can_be_printed(scored, tmp_path, suffix):
    path = tmp_path / f"figure.{suffix}"
    plots.comparison(scored(["a $ b", "ß_%"])).savefig(path)
    assert path.stat().st_size > 1000


def test_width_of_a_text_is_what_is_drawn(names):
    with styled():
        for name in names(5, "long names"):
            text = Figure(dpi=144).text(0, 0, name, size=8)
            drawn = text.get_window_extent().width / 144
            assert text_width(str(name), 8) == pytest.approx(drawn, rel=0.02, abs=0.02)


def test_long_text_keeps_both_ends():
    with styled():
        short = elided("Ærøskøbing, northern department, boar 17", 1.2, 8)
        assert text_width(short, 8) <= 1.2
        head, tail = short.split("…")
        assert head
        assert "Ærøskøbing".startswith(head)
        assert "department, boar 17".endswith(tail)
        assert elided("boar 17", 1.2, 8) == "boar 17"
        assert elided("anything", 0.0, 8) == "…"


def test_names_that_differ_in_the_middle_or_at_one_end_stay_apart():
    with styled():
        for pattern in (
            "{} of the northern department of Jutland",
            "department of Jutland, pen {}",
        ):
            cut = elided_apart([pattern.format(k) for k in range(10, 40)], 1.0, 8)
            assert len(set(cut)) == 30


def test_names_that_differ_in_the_middle_stay_apart():
    with styled():
        every = [f"Department of Agriculture, unit {k} of the southern campus" for k in range(30)]
        assert len(set(elided_apart(every, 0.7, 8))) == 30


def test_terms_are_said_in_the_names_of_response_and_predictors(growth):
    data = growth(range(8)).assign(feed=lambda d: np.where(d["boar"] % 2, "hay", "corn"))
    of = {
        formula: terms_in_words(hp.Model(f"{formula} + (time | boar)", data).design.schema)
        for formula in ("volume ~ time", "volume ~ time * feed", "volume ~ time + I(time**2)")
    }
    assert of["volume ~ time"] == {
        "Intercept": "volume at time 0",
        "time": "slope of volume per unit of time",
    }
    crossed = of["volume ~ time * feed"]
    assert crossed["Intercept"] == "volume at time 0, feed corn"
    assert crossed["time"] == "slope of volume per unit of time, feed corn"
    assert crossed["feed[T.hay]"] == "difference in volume, feed hay − corn, time 0"
    assert of["volume ~ time + I(time**2)"]["time"] == "time"  # a slope at 0 only: not called one
    figure = plots.shrinkage(hp.Model("volume ~ time + (time | boar)", data).reml())
    assert figure.axes[0].get_xlabel() == "volume at time 0"
    assert figure.axes[0].get_ylabel() == "slope of volume per unit of time"


def test_fewest_rows_are_fewer_than_others_have():
    n = np.array([12] * 40 + [2, 3])
    chosen = choose(np.ones(42), np.arange(42.0), n, 24)
    assert [k for k, why in chosen.items() if why == "fewest rows"] == [40, 41]


def test_wrapped_text_loses_nothing_that_fits():
    with styled():
        text = "one line after another until the page is full " * 4
        lines = wrapped(text, 3.0, 8, 10)
        assert " ".join(lines) == text.strip()
        assert all(text_width(line, 8) <= 3.0 for line in lines)
        assert wrapped(text, 3.0, 8, 2)[-1].endswith("…")


def test_choice_of_levels_counts_each_once():
    rng = np.random.default_rng(0)
    pull, position, n = rng.random(50), rng.normal(size=50), rng.integers(2, 9, 50)
    pull[3] = np.nan
    for most in (1, 5, 24, 50):
        chosen = choose(pull, position, n, most)
        assert len(chosen) == most
        assert list(chosen) == sorted(chosen)
    assert in_words(choose(pull, position, n, 12)) == (
        "2 most shrunk, 2 fewest rows, 1 lowest, 1 highest, 2 typical, 4 spread over the range"
    )
