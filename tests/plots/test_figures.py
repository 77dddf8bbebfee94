"""Figures are the caller's alone: no pyplot, no settings changed, shown by notebooks."""

from __future__ import annotations

import pickle
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from hierpool import plots
from hierpool.plots.selection import choose, in_words
from hierpool.plots.sheet.style import styled
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
