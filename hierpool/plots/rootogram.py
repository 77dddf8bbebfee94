"""Hanging rootogram: how often each count occurs, and how often the model expects it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.core.errors import UnsupportedModelError
from hierpool.core.families.ordinal import Ordinal
from hierpool.core.fitted import Posterior
from hierpool.core.options import options, tails
from hierpool.plots.posterior_predictive import replicated_rows
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import dress, settle, sheet, titled
from hierpool.plots.sheet.style import FAINT, INK, ODD, PARTIAL, styled

_MOST_BARS = 60
_TAIL = 0.995  # share of the replicated counts that have bars of their own
_HEIGHT = 2.8
_DRAWS = 1000  # replicated tables


@dataclass(frozen=True)
class Frequencies:
    """How often counts occur, in bars of equal width.

    Attributes
    ----------
    first, width
        The least count of each bar, shape (bars,), and how many counts it holds.
    is_open
        Whether the last bar holds all larger counts too.
    observed, expected
        Shape (bars,): rows.
    lower, upper
        Shape (bars,): interval of rows in replicated tables.
    """

    first: np.ndarray
    width: int
    is_open: bool
    observed: np.ndarray
    expected: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def is_outside(self) -> np.ndarray:
        """Shape (bars,): whether the observed number is outside of the interval."""
        return np.asarray((self.observed < self.lower) | (self.observed > self.upper))


def rootogram(fit: Posterior, *, seed: int = 0) -> Figure:
    """Hanging rootogram of counts: bars of observed frequencies hang from the expected ones.

    All are square roots of numbers of rows, which makes deviations of rare and frequent counts
    comparable. A bar that ends above zero occurs less often than expected, one that reaches below
    zero more often. The band is where bars of tables simulated from the posterior end, for the
    groups of the fit. A bar of zeros below the band shows zero inflation; bars below it at both
    ends and above it in the middle, overdispersion.

    Parameters
    ----------
    fit
        A posterior of counts, of successes in trials, or of ratings.
    seed
        Of the simulated tables.

    Raises
    ------
    UnsupportedModelError
        A fit that has no draws, or a response that is not counted.

    References
    ----------
    Kleiber, Zeileis (2016), Am. Stat. 70, 296-303.
    """
    line.check_has_draws(fit, "rootogram(fit)")
    design, family = fit.design, fit.design.family
    if family is None or not family.is_discrete or family.name == "bernoulli":
        other = "reliability" if family is not None and family.is_discrete else "loo_pit"
        raise UnsupportedModelError(
            f"a rootogram is of counts, and {design.spec.response} is not modelled as one. Use "
            f"hp.plots.{other}(fit)",
            "not-counted",
        )
    drawn = replicated_rows(fit, seed, _DRAWS)
    found = frequencies(design.y, drawn.reshape(-1, design.n))
    if family.has_thresholds:
        found = replace(found, first=found.first + 1)  # ratings count from 1
    with styled():
        return _draw(found, fit)


def frequencies(y: np.ndarray, replicated: np.ndarray) -> Frequencies:
    """Of responses (n,) and replicated ones (draws, n), whole numbers of at least zero."""
    most = int(max(y.max(), np.quantile(replicated, _TAIL)))
    width = int(np.ceil((most + 1) / _MOST_BARS))
    bars = most // width + 1

    def counted(values: np.ndarray) -> np.ndarray:
        bar = np.minimum(values.astype(np.int64) // width, bars - 1)
        return np.bincount(bar, minlength=bars)

    tables = np.array([counted(row) for row in replicated])
    lower, upper = np.quantile(tables, tails(), axis=0)
    is_open = bool(replicated.max() >= bars * width)
    first = width * np.arange(bars)
    return Frequencies(first, width, is_open, counted(y), tables.mean(axis=0), lower, upper)


def _draw(found: Frequencies, fit: Posterior) -> Figure:
    response = fit.design.spec.response
    family = fit.design.family
    figure = sheet(
        titled(f"Observed and expected frequencies of {response}", fit.design.label),
        _HEIGHT,
        caption=_caption(found),
        legend=[
            Line2D([], [], label="expected", **PARTIAL.both(3.0)),
            Line2D([], [], label="observed", color=INK, alpha=0.5, linewidth=5),
            Line2D([], [], label="observed, outside", color=ODD, alpha=0.8, linewidth=5),
        ],
        x_label=response,
        y_label="square root of the number of rows",
    )
    ax = figure.subplots()
    _draw_bars(ax, found)
    if isinstance(family, Ordinal):
        ax.set_xticks(found.first, [str(label) for label in family.labels])
    settle(figure)
    return figure


def _draw_bars(ax: Axes, found: Frequencies) -> None:
    dress(ax, whole_x=True)
    x = found.first + (found.width - 1) / 2
    expected, observed = np.sqrt(found.expected), np.sqrt(found.observed)
    edges = np.append(x - found.width / 2, x[-1] + found.width / 2)
    low, high = expected - np.sqrt(found.upper), expected - np.sqrt(found.lower)
    ax.stairs(high, edges, baseline=low, fill=True, color=FAINT, linewidth=0, zorder=1)
    ax.axhline(0, color=INK, linewidth=0.7, zorder=2)
    colors = np.where(found.is_outside, ODD, INK)
    alphas = np.where(found.is_outside, 0.8, 0.5)
    for k, (color, alpha) in enumerate(zip(colors, alphas, strict=True)):
        ax.bar(
            *(x[k], observed[k], 0.7 * found.width, expected[k] - observed[k]),
            color=color,
            alpha=alpha,
            linewidth=0,
            zorder=3,
        )
    ax.plot(x, expected, **PARTIAL.both(3.0 if len(x) < 30 else 2.0), zorder=4)
    least = min(low.min(), (expected - observed).min())
    ax.set_ylim(1.1 * least, 1.08 * expected.max())


def _caption(found: Frequencies) -> str:
    words = [
        "Bars hang from the expected frequency: one that reaches below zero is of more rows than "
        f"expected. Grey: where bars of {100 * options.prob:.0f} % of simulated tables end."
    ]
    outside, bars = int(found.is_outside.sum()), len(found.first)
    words.append(f"Outside: {outside} of {bars}.")
    if found.width > 1:
        words.append(f"A bar holds {found.width} counts.")
    if found.is_open:
        words.append("The last bar holds all larger ones too.")
    return " ".join(words)
