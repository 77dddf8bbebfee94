"""Pictures of standard deviations, correlations and shares: their numbers are those of the tables."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp
from hierpool import plots
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.plots.sheet.style import BLUP, PARTIAL, PRIOR


def marked(ax, look) -> list[float]:
    """Where the markers of a look stand along a panel."""
    lines = [c for c in ax.lines if c.get_marker() == look.marker]
    return [float(c.get_xdata()[0]) for c in lines if c.get_markeredgecolor() == look.color]


def caption(figure) -> str:
    return " ".join(t.get_text() for t in figure.texts)


@pytest.fixture(scope="module")
def hostile():
    """A fit whose names TeX would eat and whose factor is wider than a panel."""
    data = hp.datasets.load("sleepstudy").rename(
        columns={"Subject": "person_as_registered_in_the_national_database_of_sleep_studies"}
    )
    factor = data.columns[-1]
    return hp.Model(f"Reaction ~ Days + (Days | {factor})", data)


def test_standard_deviations_show_the_numbers_of_the_tables(fitted, assert_legible):
    one = fitted["sleepstudy_slopes"]
    figure = plots.standard_deviations(one.posterior, one.reml)
    table = one.posterior.variance_components().query("parameter == 'sd'")
    estimates = one.reml.variance_components()["estimate"]
    assert len(figure.axes) == len(table) == 3
    for ax, (key, row) in zip(figure.axes, table.iterrows(), strict=True):
        np.testing.assert_allclose(marked(ax, PARTIAL), [row["mean"]])
        np.testing.assert_allclose(marked(ax, BLUP), [estimates[key]])
        bar = ax.collections[1].get_segments()[0][:, 0]
        np.testing.assert_allclose(bar, row[["eti95_lb", "eti95_ub"]].to_numpy(dtype=float))
    assert figure.axes[1].get_xlabel() == "Reaction per Days"
    assert_legible(figure)


def test_drawn_prior_is_the_prior_that_is_printed(fitted):
    model = fitted["dyestuff2"].model
    ax = plots.standard_deviations(fitted["dyestuff2"].posterior).axes[0]
    (line,) = [c for c in ax.lines if c.get_color() == PRIOR.color]
    x, height = line.get_xydata().T
    prior = model.priors.group_terms[0].sd[0].distribution
    inside = (x > 0.3) & (x < 5)
    density = (prior.cdf(x + 1e-3) - prior.cdf(x - 1e-3)) / 2e-3
    np.testing.assert_allclose(height[inside], density[inside], rtol=0.08)


def test_prior_spread_is_that_of_the_prior_predictive(fitted):
    one = fitted["machines_slopes"]
    few = one.model.prior_predictive(draws=1500, seed=3)["prior"].to_dataset()
    many = one.posterior.prior_spread(draws=20_000, seed=4)
    assert set(many) == {"sigma", "sd_Worker", "corr_Worker"}
    for name in many:
        assert many[name].dims == few[name].dims
        share = (few[name] < many[name].median(("chain", "draw"))).mean(("chain", "draw"))
        off = np.abs(share.to_numpy() - 0.5)
        diagonal = np.eye(3, dtype=bool) if name.startswith("corr") else np.zeros(off.shape, bool)
        assert off[~diagonal].max(initial=0) < 4 * 0.5 / np.sqrt(1500)


def test_estimate_of_zero_and_a_prior_that_stays_are_said(fitted):
    words = caption(
        plots.standard_deviations(fitted["dyestuff2"].posterior, fitted["dyestuff2"].reml)
    )
    assert "Estimated as zero: sd of Intercept, Batch." in words
    words = caption(plots.correlations(fitted["machines_slopes"].posterior))
    assert "overlap by more than half" in words


def test_correlations_show_the_numbers_of_the_tables(fitted, assert_legible):
    one = fitted["machines_slopes"]
    figure = plots.correlations(one.posterior, one.reml)
    estimates = one.reml.variance_components()["estimate"].xs("corr", level="parameter")
    assert len(figure.axes) == 3
    np.testing.assert_allclose([marked(ax, BLUP)[0] for ax in figure.axes], estimates)
    assert all(ax.get_xlim() == (-1, 1) for ax in figure.axes)
    assert_legible(figure)
    assert_legible(plots.correlations(fitted["sleepstudy_slopes"].posterior))


def test_shares_show_the_numbers_of_the_tables(fitted, assert_legible):
    one = fitted["sleepstudy_slopes"]
    figure = plots.variance_partition(one.posterior, one.reml)
    fit, reml = one.posterior, one.reml
    means = [*fit.variance_partition()["mean"], *fit.icc()["mean"], *fit.r2()["mean"]]
    optima = [*reml.variance_partition()["share"], *reml.icc()["icc"], *reml.r2()["r2"]]
    bar, ax = figure.axes
    np.testing.assert_allclose(marked(ax, PARTIAL), means)
    np.testing.assert_allclose(marked(ax, BLUP), optima)
    np.testing.assert_allclose([p.get_width() for p in bar.patches], means[:3])
    assert sum(p.get_width() for p in bar.patches) == pytest.approx(1)
    assert_legible(figure)


def test_what_is_zero_by_construction_is_left_out(fitted):
    figure = plots.variance_partition(fitted["dyestuff2"].posterior, fitted["dyestuff2"].reml)
    names = [t.get_text() for t in figure.axes[1].texts][::2]
    assert names == ["Batch", "residual", "intraclass correlation of Batch", "conditional R²"]


def test_long_names_are_legible(hostile, assert_legible):
    fit, reml = hostile.fit(draws=100, seed=1, progress=False), hostile.reml()
    assert_legible(plots.standard_deviations(fit, reml))
    assert_legible(plots.correlations(fit, reml))
    assert_legible(plots.variance_partition(fit, reml))


def test_poolings_without_levels_show_what_they_have(fitted, assert_legible):
    figure = plots.standard_deviations(fitted["sleepstudy_complete"].posterior)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["residual sd (sigma)"]
    assert_legible(figure)
    assert_legible(plots.standard_deviations(fitted["sleepstudy_no_pooling"].posterior))
    assert_legible(plots.variance_partition(fitted["sleepstudy_complete"].posterior))


def test_wrong_input_is_answered(fitted):
    one = fitted["sleepstudy_intercepts"]
    with pytest.raises(UnsupportedModelError, match=r"has no correlation.*no-correlation"):
        plots.correlations(one.posterior)
    for picture in (plots.correlations, plots.standard_deviations, plots.variance_partition):
        with pytest.raises(UnsupportedModelError, match=r"LikelihoodFit has no draws.*no-draws"):
            picture(one.reml)
    with pytest.raises(ArgumentError, match=r"no factor 'subject': did you mean 'Subject'"):
        plots.standard_deviations(one.posterior, factor="subject")
    with pytest.raises(UnsupportedModelError, match="no pooling"):
        plots.variance_partition(fitted["sleepstudy_no_pooling"].posterior)
