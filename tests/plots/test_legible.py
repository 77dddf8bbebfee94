"""No picture writes two texts over each other or cuts one off, from 2 levels to 2,000."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import hierpool as hp
from hierpool import plots

CASES = [(n, "long names") for n in (2, 12, 18, 60, 150)] + [(129, "numbers")]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kind"), CASES)
def test_caterpillar_is_legible(count, kind, names, estimated, assert_legible):
    written = assert_legible(plots.caterpillar(*estimated(names(count, kind)), label="boars $1"))
    assert "— boars $1" in " ".join(written)


@pytest.mark.parametrize(("count", "kind"), CASES)
def test_shrinkage_plane_is_legible(count, kind, names, pulled, assert_legible):
    assert_legible(plots.shrinkage(pulled(names(count, kind), unknown=count // 5)))


@pytest.mark.parametrize(("count", "kind"), CASES[::2])
def test_shrinkage_rows_are_legible(count, kind, names, pulled, assert_legible):
    assert_legible(plots.shrinkage(pulled(names(count, kind)), terms="Intercept"))


@pytest.mark.parametrize(("count", "kind"), CASES)
def test_posterior_against_blup_is_legible(count, kind, names, compared, assert_legible):
    assert_legible(plots.posterior_against_blup(compared(names(count, kind))))


@pytest.mark.parametrize("count", [1, 2, 6, 18, 60])
def test_comparison_is_legible(count, names, scored, assert_legible):
    table = scored(names(count, "long names"))
    assert_legible(plots.comparison(table, response="volume_$ml$", left_out="boar % farm_" * 9))


@pytest.mark.parametrize("count", [2, 12, 18, 60])
def test_trajectories_are_legible(count, names, growth, poolings, assert_legible):
    data = growth(names(count, "long names"), uneven=True)
    design = hp.varying_slope("volume ~ time", data, group="boar").design
    assert_legible(plots.trajectories(design, poolings(data), label="boars (simulated)"))


@pytest.mark.parametrize("terms", [1, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_any_number_of_terms_is_legible(terms, names, pulled, estimated, compared, assert_legible):
    levels = names(12, "long names")
    several = [f"poly(time_since_birth, {k})[$t${k}]" for k in range(terms)]
    assert_legible(plots.shrinkage(pulled(levels, several)))
    assert_legible(plots.caterpillar(*estimated(levels, several)))
    assert_legible(plots.posterior_against_blup(compared(levels, several)))


@pytest.mark.slow
def test_two_thousand_levels_are_legible(
    names, pulled, estimated, compared, growth, poolings, assert_legible
):
    levels = names(2000, "long names")
    assert_legible(plots.shrinkage(pulled(levels)))
    assert_legible(plots.shrinkage(pulled(levels), terms="time"))
    assert_legible(plots.posterior_against_blup(compared(levels)))
    written = assert_legible(plots.caterpillar(*estimated(levels)))
    assert "of 2000 boars the 10 highest, the 10 lowest and 10 spread" in " ".join(written)
    data = growth(names(2000, "numbers"))
    design = hp.varying_slope("volume ~ time", data, group="boar").design
    written = assert_legible(plots.trajectories(design, poolings(data)))
    assert "24 of 2000 boars" in " ".join(written)


@pytest.mark.parametrize("scale", [1e-9, 1e7])
def test_units_of_any_size_are_legible(scale, names, pulled, estimated, assert_legible):
    levels = names(18, "numbers")
    assert_legible(plots.shrinkage(scale * pulled(levels, ("a", "b", "c"))))
    assert_legible(plots.caterpillar(*(scale * table for table in estimated(levels))))


@pytest.mark.parametrize("dpi", [72, 90, 110, 300])
def test_labels_that_fill_their_strip_are_whole_at_any_dpi(dpi, scored, assert_legible):
    figure = plots.comparison(scored(["varying_slope_uncorrelated_of_all_groups", "b" * 60]))
    figure.set_dpi(dpi)
    assert_legible(figure)


def test_thousands_of_levels_are_a_density_and_a_few_rows(names, pulled, estimated, assert_legible):
    levels = names(900, "numbers")
    posterior, blup = estimated(levels)
    figure = plots.caterpillar(posterior, blup)
    assert_legible(figure)
    rows, strips = figure.axes[:2], figure.axes[2:]
    means = posterior["mean"].unstack("term")
    for ax, strip, term in zip(rows, strips, ("Intercept", "time"), strict=True):
        x, y = strip.lines[0].get_xydata().T
        assert np.trapezoid(y, x) == pytest.approx(1, abs=0.05)
        low, high = ax.get_xlim()
        assert low <= means[term].min() <= means[term].max() <= high
    named = [t.get_text() for t in rows[0].texts]
    order = means["Intercept"].droplevel("factor").sort_values(ascending=False).index
    assert len(named) == 30
    assert named[:10] + named[-10:] == [str(v) for v in [*order[:10], *order[-10:]]]
    figure = plots.shrinkage(pulled(levels, unknown=3), terms="time")
    assert_legible(figure)
    assert [len(figure.axes[0].texts), len(figure.axes[1].lines)] == [30, 2]
    arrows = plots.shrinkage(pulled(levels)).axes[0].collections[0]
    assert len(arrows.get_offsets()) == 15


def test_names_are_shown_as_they_are_typed(scored, drawn_texts):
    levels = ["$x$_a", "100%", "<b>&amp;</b>", r"$\frac{"]
    texts = drawn_texts(plots.comparison(scored(levels)))
    shown = {t.get_text(): t for t in texts}
    assert set(levels) <= set(shown)
    assert not any(t.get_parse_math() for t in texts)


def test_the_judge_of_legibility_finds_what_is_wrong(scored, assert_legible):
    figure = plots.comparison(scored(["one", "two"]))
    over = figure.text(0.5, 0.5, "over")
    figure.text(0.5, 0.5, "under")
    with pytest.raises(AssertionError, match="over"):
        assert_legible(figure)
    over.remove()
    figure.text(0.99, 0.3, "cut off")
    with pytest.raises(AssertionError, match="cut off"):
        assert_legible(figure)


def test_a_letter_that_no_font_has_makes_no_noise(pulled, tmp_path):
    private = [f"{chr(0xE123 + k)} {k}" for k in range(6)]  # for private use: in no font
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        plots.shrinkage(pulled(private), terms="Intercept").savefig(tmp_path / "levels.png")
    assert [str(w.message) for w in heard] == []
    assert (tmp_path / "levels.png").stat().st_size > 0
