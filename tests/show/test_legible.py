"""No picture writes two texts over each other or cuts one off, from 2 levels to 2,000."""

from __future__ import annotations

import pytest

import hierpool as hp
from hierpool.show import plots

SIZES = [2, 12, 18, 60, 129, 150]
KINDS = ["numbers", "long names"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", SIZES)
def test_caterpillar_is_legible(count, kind, names, estimated, assert_legible):
    written = assert_legible(plots.caterpillar(*estimated(names(count, kind)), label="boars $1"))
    assert "— boars $1" in " ".join(written)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", SIZES)
def test_shrinkage_plane_is_legible(count, kind, names, pulled, assert_legible):
    assert_legible(plots.shrinkage(pulled(names(count, kind), unknown=count // 5)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 18, 60, 150])
def test_shrinkage_rows_are_legible(count, kind, names, pulled, assert_legible):
    assert_legible(plots.shrinkage(pulled(names(count, kind)), terms="Intercept"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", SIZES)
def test_posterior_against_blup_is_legible(count, kind, names, compared, assert_legible):
    assert_legible(plots.posterior_against_blup(compared(names(count, kind))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 6, 18, 150])
def test_comparison_is_legible(count, kind, names, scored, assert_legible):
    assert_legible(plots.comparison(scored(names(count, kind)), response="volume_$ml$"))


@pytest.mark.parametrize(
    ("count", "kind"), [(2, "long names"), (12, "numbers"), (18, "long names"), (150, "long names")]
)
def test_trajectories_are_legible(count, kind, names, growth, poolings, assert_legible):
    data = growth(names(count, kind), uneven=True)
    design = hp.varying_slope("volume ~ time", data, group="boar").design
    assert_legible(plots.trajectories(design, poolings(data), label="boars (simulated)"))


@pytest.mark.parametrize("terms", [1, 2, 3, 4, 8])
def test_any_number_of_terms_is_legible(terms, names, pulled, estimated, compared, assert_legible):
    levels = names(18, "long names")
    several = [f"poly(time_since_birth, {k})[$t${k}]" for k in range(terms)]
    assert_legible(plots.shrinkage(pulled(levels, several)))
    assert_legible(plots.caterpillar(*estimated(levels, several)))
    assert_legible(plots.posterior_against_blup(compared(levels, several)))


def test_two_thousand_levels_are_legible(names, pulled, estimated, compared, assert_legible):
    levels = names(2000, "long names")
    assert_legible(plots.shrinkage(pulled(levels)))
    assert_legible(plots.shrinkage(pulled(levels), terms="time"))
    assert_legible(plots.posterior_against_blup(compared(levels)))
    written = assert_legible(plots.caterpillar(*estimated(levels)))
    assert "60 of 2000 levels are named." in " ".join(written)


@pytest.mark.parametrize("scale", [1e-9, 1e7])
def test_units_of_any_size_are_legible(scale, names, pulled, estimated, assert_legible):
    levels = names(60, "numbers")
    assert_legible(plots.shrinkage(scale * pulled(levels, ("a", "b", "c"))))
    assert_legible(plots.caterpillar(*(scale * table for table in estimated(levels))))


def test_names_are_shown_as_they_are_typed(names, scored, drawn_texts):
    levels = ["$x$_a", "100%", "<b>&amp;</b>", r"$\frac{"]
    texts = drawn_texts(plots.comparison(scored(levels)))
    shown = {t.get_text(): t for t in texts}
    assert set(levels) <= set(shown)
    assert not any(t.get_parse_math() for t in texts)
