"""Leave-one-out probability integral transforms: calibration of predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from hierpool.core.errors import DataError
from hierpool.core.fitted import Posterior
from hierpool.draws.uniformity import BAND, UniformRanks, uniform_ranks
from hierpool.plots.reliability import reliability
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import WIDTH, dress, settle, sheet, titled, write_axis_labels
from hierpool.plots.sheet.style import FAINT, NONE, PARTIAL, RULE, styled

_POINTS = 99  # at which the distribution is compared with the uniform one
_HEIGHT = 2.3
_RARE = 0.01
_DISCRETE = (
    "Each row is predicted from all others. The response is discrete, so each row is spread evenly "
    "over the probabilities between less than it and at most it. Both are flat if the predictions are "
    "calibrated."
)


def loo_pit(
    fit: Posterior | xr.DataArray | pd.Series | np.ndarray | list[float],
    *,
    response: str = "",
    label: str = "",
) -> Figure:
    """Calibration of leave-one-out predictions: probability integral transform of each row.

    Left: the share of rows below each probability, minus that probability; predictions are not
    calibrated if the line leaves the band. The band assumes independent rows; rows of a group are
    dependent and stay closer to zero, which ``hp.check`` accounts for. Right: histogram. A peak in
    the middle shows predictions that are too wide or residuals with heavy tails; peaks at both ends,
    predictions that are too narrow; a slope, predictions that are too low or too high.

    A discrete response has a range of probabilities for each row, over which it is spread evenly
    (Czado, Gneiting and Held 2009): the histogram is flat if the predictions are calibrated. Of 0 and 1
    it is nearly flat whatever the predictions are, so a fit of these gets its reliability diagram,
    ``hp.plots.reliability``.

    Parameters
    ----------
    fit
        A posterior, ``fit.loo_pit()``, or other probabilities that should be uniform.
    response, label
        Names of the response and the data for the title; taken from a fit.

    Raises
    ------
    DataError
        Values that are no probabilities.
    UnsupportedModelError
        A fit that has no draws, or whose coefficients cannot be integrated out.
    """
    if isinstance(fit, (xr.DataArray, pd.Series, np.ndarray, list)):
        values = np.asarray(fit, dtype=float)
        values = values if values.ndim == 2 and values.shape[1] == 2 else values.ravel()
    else:
        line.check_has_draws(fit, "loo_pit(fit)")
        if fit.design.family is not None and fit.design.family.name == "bernoulli":
            return reliability(fit)
        response, label = response or fit.design.spec.response, label or fit.design.label
        values = fit.loo_pit().to_numpy()
    known = values[np.isfinite(values if values.ndim == 1 else values.sum(axis=1))]
    if not len(known) or known.min() < -1e-9 or known.max() > 1 + 1e-9:
        raise DataError(
            "loo_pit() needs probabilities between 0 and 1. Pass the fit or fit.loo_pit().",
            "not-probabilities",
        )
    with styled():
        if known.ndim == 2:
            return _draw_discrete(np.clip(known, 0, 1), response, label)
        return _draw(np.clip(known, 0, 1), len(values) - len(known), response, label)


def _draw(values: np.ndarray, n_missing: int, response: str, label: str) -> Figure:
    ranks = np.minimum((values * (_POINTS + 1)).astype(int), _POINTS)
    uniform = uniform_ranks(len(values), _POINTS)
    p = uniform.p_value(uniform.closeness(ranks))
    of = f" of {response}" if response else ""
    figure = sheet(
        titled(f"Calibration of the predictions{of}", label),
        _HEIGHT,
        caption=_caption(values, p, n_missing),
    )
    left, right = figure.subplots(1, 2)
    _draw_difference(left, ranks, uniform, p)
    _draw_histogram(right, values, p)
    settle(figure)
    return figure


def _draw_discrete(bounds: np.ndarray, response: str, label: str) -> Figure:
    """The histogram of ranges (n, 2) that are spread evenly, and the mean cdf less its diagonal."""
    n = len(bounds)
    bins = int(np.clip(n // 10, 4, 10))
    of = f" of {response}" if response else ""
    figure = sheet(titled(f"Calibration of the predictions{of}", label), _HEIGHT, caption=_DISCRETE)
    left, right = figure.subplots(1, 2)
    at = np.linspace(0, 1, _POINTS + 2)
    dress(left)
    left.axhline(0, color=RULE, linewidth=0.6, zorder=2)
    left.plot(at, _spread_evenly(bounds, at) - at, color=PARTIAL.color, linewidth=1.2, zorder=3)
    left.set_xlim(0, 1)
    words = "share of rows, minus expected"
    write_axis_labels(left, "probability predicted for less", words, WIDTH / 2, 0.8 * _HEIGHT)
    dress(right)
    edges = np.linspace(0, 1, bins + 1)
    counts = n * np.diff(_spread_evenly(bounds, edges))
    right.axhline(n / bins, color=RULE, linewidth=0.6, zorder=2)
    right.stairs(counts, edges, color=PARTIAL.color, linewidth=1.2, zorder=3)
    right.set_xlim(0, 1)
    right.set_ylim(0, 1.3 * counts.max())
    write_axis_labels(right, "probability predicted for less", "rows", WIDTH / 2, 0.8 * _HEIGHT)
    settle(figure)
    return figure


def _spread_evenly(bounds: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Mean over the rows of the cdf of a uniform number between their bounds."""
    below, above = bounds[:, :1], bounds[:, 1:]
    width = np.maximum(above - below, 1e-12)
    return np.asarray(np.clip((at - below) / width, 0, 1).mean(axis=0))


def _draw_difference(ax: Axes, ranks: np.ndarray, uniform: UniformRanks, p: float) -> None:
    dress(ax)
    band = uniform.band()
    at = band["rank"].to_numpy() / (_POINTS + 1)
    below = np.bincount(ranks, minlength=_POINTS + 1).cumsum()[:-1] / len(ranks)
    ax.fill_between(at, band["lower"] - at, band["upper"] - at, color=FAINT, linewidth=0, zorder=1)
    ax.axhline(0, color=RULE, linewidth=0.6, zorder=2)
    ax.step(at, below - at, where="mid", color=_color(p), linewidth=1.2, zorder=3)
    ax.set_xlim(0, 1)
    words = "share of rows, minus expected"
    write_axis_labels(ax, "probability predicted for less", words, WIDTH / 2, 0.8 * _HEIGHT)


def _color(p: float) -> str:
    return PARTIAL.color if p >= _RARE else NONE.color


def _draw_histogram(ax: Axes, values: np.ndarray, p: float) -> None:
    dress(ax)
    n = len(values)
    bins = int(np.clip(n // 10, 4, 20))
    low, high = (float(stats.binom.ppf(q, n, 1 / bins)) for q in (_RARE / 2, 1 - _RARE / 2))
    ax.axhspan(low, high, color=FAINT, linewidth=0, zorder=1)
    ax.axhline(n / bins, color=RULE, linewidth=0.6, zorder=2)
    counts, edges = np.histogram(values, bins, (0, 1))
    ax.stairs(counts, edges, color=_color(p), linewidth=1.2, zorder=3)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.1 * max(counts.max(), high))
    write_axis_labels(ax, "probability predicted for less", "rows", WIDTH / 2, 0.8 * _HEIGHT)


def _caption(values: np.ndarray, p: float, n_missing: int) -> str:
    words = [
        f"Each of {len(values)} rows is predicted from all others. Grey: {100 * BAND:.0f} % bands for "
        "independent rows, simultaneous on the left, for each bar on the right. Rows of a group are "
        "dependent and stay closer to zero; hp.check accounts for it."
    ]
    if p >= _RARE:
        words.append("The line stays inside the band.")
    else:
        rare = "p < 0.001" if p < 0.001 else f"p = {p:.1g}"
        words.append(f"The line leaves the band ({rare}): {_shape(values)}.")
    if n_missing:
        words.append(f"{n_missing} rows have no value.")
    return " ".join(words)


def _shape(values: np.ndarray) -> str:
    """In which way the values are not uniform, the plainest way first."""
    n = len(values)
    bias = (values.mean() - 0.5) * np.sqrt(12 * n)
    spread = (((values - 0.5) ** 2).mean() * 12 - 1) * np.sqrt(
        n / 0.8
    )  # var of 12 (u - 1/2)^2: 4/5
    if abs(bias) > max(abs(spread), 3):
        return f"predictions are too {'low' if bias > 0 else 'high'}"
    if spread > 3:
        return "predictions are too narrow"
    if spread < -3:
        return (
            "predictions are too wide in the middle, which can be due to residuals with heavy tails"
        )
    return "the residuals have another distribution than predicted"
