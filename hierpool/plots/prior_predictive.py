"""Prior predictive check, in the units of the response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.core.design import Design, Grouping
from hierpool.core.errors import ArgumentError
from hierpool.core.group_nouns import nouns
from hierpool.core.options import percent, tails
from hierpool.draws.densities import density_in
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import WIDTH, dress, settle, sheet, titled
from hierpool.plots.sheet.style import INK, LABEL, OBSERVED, PANEL, PRIOR, styled
from hierpool.plots.sheet.tables import rounded
from hierpool.plots.sheet.texts import elided

_DRAWS = 500
_MOST_BARS = 60  # of whole numbers, above which a density is drawn
_HEIGHT = 1.5
_TAIL = 0.95  # of the priors' draws that a panel shows; the rest of a heavy tail would hide it
_FAR = 0.01  # share of the draws beyond the data from which it is said


@dataclass(frozen=True)
class Expected:
    """One summary of a data set: prior predictive and observed.

    Attributes
    ----------
    name
        Above its panel.
    prior
        Shape (draws,), of simulated data sets; of all their rows together, any shape.
    observed
        Of the data: one number, or all rows.
    is_positive
        Whether it is a standard deviation.
    is_whole
        Whether the values are whole numbers: counts, ratings, 0 and 1.
    """

    name: str
    prior: np.ndarray
    observed: np.ndarray
    is_positive: bool
    is_whole: bool = False

    @property
    def place(self) -> float:
        """Share of the priors' draws below the data; of rows, below their median."""
        return float((self.prior < np.median(self.observed)).mean())

    @property
    def window(self) -> tuple[float, float]:
        """The range of the panel: most of the draws, and the data."""
        tail = (1 - _TAIL) / 2
        low, high = np.quantile(self.prior, [0.0 if self.is_positive else tail, 1 - tail])
        low, high = min(low, self.observed.min()), max(high, self.observed.max())
        pad = 0.03 * (high - low) or 1.0
        return (0.0 if self.is_positive else low - pad), high + pad


@runtime_checkable
class Model(Protocol):
    """A model, as far as this figure needs it."""

    @property
    def design(self) -> Design:
        """The rows."""

    def prior_predictive(self, draws: int = 500, seed: int | None = None) -> xr.DataTree:
        """Draws from the priors, and the responses they predict."""


def prior_predictive(
    model: Model, *, factor: str | None = None, draws: int = _DRAWS, seed: int = 0
) -> Figure:
    """Prior predictive check: data sets simulated from the priors, and the data.

    Shown are all rows of the simulated data sets, and for each data set its mean, the sd of its
    group means and the sd within groups. Priors are too narrow if the data lie in a tail. Weak priors
    are expected to be much wider than the data.

    Parameters
    ----------
    model
        A model, before it is fitted.
    factor
        Which factor; default: the first.
    draws, seed
        Of ``model.prior_predictive``.

    Raises
    ------
    ArgumentError
        Not a model, or no such factor.
    PriorError
        A flat prior, which cannot be simulated from.
    """
    if not isinstance(model, Model):
        raise ArgumentError(
            f"prior_predictive() takes a model, before it is fitted; given: "
            f"{type(model).__name__}. Call hp.plots.prior_predictive(model).",
            "model-needed",
        )
    design = model.design
    tree = model.prior_predictive(draws=draws, seed=seed)
    simulated = tree["prior_predictive"]["y"].to_numpy().reshape(-1, design.n)
    grouping = None
    if design.groupings or factor is not None:
        grouping = line.choose_grouping(design, factor)
    parts = _parts(design, grouping, simulated)
    with styled():
        figure = sheet(
            titled(f"Prior predictive distribution of {design.spec.response}", design.label),
            2 * (_HEIGHT + 0.3),
            caption=_caption(parts, len(simulated)),
            legend=[PRIOR.handle(), Line2D([], [], label=OBSERVED.name, **OBSERVED.line)],
        )
        for k, part in enumerate(parts):
            _draw_panel(figure.add_subplot(2, 2, k + 1), part, design.spec.response)
        settle(figure)
    return figure


def _parts(design: Design, grouping: Grouping | None, simulated: np.ndarray) -> list[Expected]:
    family = design.family
    if family is not None and family.has_thresholds:
        simulated, y = simulated + 1, design.y[None] + 1  # ratings count from 1
    else:
        y = design.y[None]
    is_whole = family is not None and family.is_discrete
    rows = Expected("rows", simulated, y[0], False, is_whole)
    mean = Expected("mean of all rows", simulated.mean(axis=1), y.mean(axis=1), False)
    if grouping is None or grouping.n_levels == design.n:
        sd = Expected("sd of all rows", simulated.std(axis=1), y.std(axis=1), True)
        return [rows, mean, sd]
    before, after = _spreads(simulated, grouping), _spreads(y, grouping)
    factor = grouping.factor
    between = Expected(f"sd of the means of {nouns(factor)}", before[0], after[0], True)
    within = Expected(f"sd within {nouns(factor)}", before[1], after[1], True)
    return [rows, mean, between, within]


def _spreads(values: np.ndarray, grouping: Grouping) -> tuple[np.ndarray, np.ndarray]:
    """Sd of level means and root mean variance within levels, of each data set (k, n)."""
    order = np.argsort(grouping.codes, kind="stable")
    starts = np.cumsum(grouping.n_rows) - grouping.n_rows
    means = np.add.reduceat(values[:, order], starts, axis=1) / grouping.n_rows
    off = values - means[:, grouping.codes]
    within = np.sqrt((off**2).sum(axis=1) / (values.shape[1] - grouping.n_levels))
    between = means.std(axis=1, ddof=1) if grouping.n_levels > 1 else np.zeros(len(values))
    return between, within


def _draw_panel(ax: Axes, part: Expected, response: str) -> None:
    dress(ax)
    low, high = part.window
    bounds = (0.0 if part.is_positive else -np.inf, np.inf)
    bins: int | np.ndarray = int(np.clip(part.observed.size // 15, 8, 30))
    if part.is_whole and high - low <= _MOST_BARS:
        low, high = np.round(low) - 0.5, np.round(high) + 0.5
        bins = np.arange(low, high + 0.5)
        height = np.histogram(part.prior, bins)[0] / part.prior.size
        ax.stairs(height, bins, fill=True, color=PRIOR.color, alpha=0.15, zorder=2)
        ax.stairs(height, bins, zorder=3, **PRIOR.line)
    else:
        x, height = density_in(part.prior, low, high, bounds)
        ax.fill_between(x, height, color=PRIOR.color, alpha=0.15, linewidth=0, zorder=2)
        ax.plot(x, height, zorder=3, **PRIOR.line)
    top = float(height.max()) or 1.0
    if part.observed.size > 1:
        counts, edges = np.histogram(part.observed, bins)
        scaled = 0.95 * top * counts / counts.max()
        ax.stairs(scaled, edges, color=OBSERVED.color, linewidth=1.0, zorder=3.5)
    else:
        ax.vlines(part.observed, 0, 1.02 * top, zorder=3.5, **OBSERVED.line)
    room = WIDTH / 2 - 0.3
    ax.set_title(elided(part.name, room, PANEL), loc="left", size=PANEL, color=INK, pad=3)
    ax.set_xlabel(elided(response, room, LABEL), size=LABEL, labelpad=2)
    ax.set_xlim(low, high)
    ax.set_ylim(0, 1.08 * top)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _caption(parts: Sequence[Expected], n: int) -> str:
    rows = parts[0]
    low, high = (rounded(float(v)) for v in np.quantile(rows.prior, tails()))
    least, most = rounded(float(rows.observed.min())), rounded(float(rows.observed.max()))
    words = [
        f"{n} data sets simulated from the priors: {percent()} % of their rows lie "
        f"between {low} and {high}. "
        f"The data lie between {least} and {most} (histogram scaled to the panel)."
    ]
    at = [f"{part.name} {100 * part.place:.0f} %" for part in parts[1:]]
    words.append(f"Share of simulated data sets below the data: {', '.join(at)}.")
    far = [p.name for p in parts[1:] if min(p.place, 1 - p.place) < _FAR]
    if far:
        words.append(f"Data far out in the prior predictive distribution: {', '.join(far)}.")
    return " ".join(words)
