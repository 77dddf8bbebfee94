"""Simulation-based calibration: ranks of true values among posterior draws."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from hierpool.draws.uniformity import BAND
from hierpool.plots.sheet.layout import WIDTH, Picture, dress, settle, sheet
from hierpool.plots.sheet.lines import check_drawable
from hierpool.plots.sheet.style import FAINT, INK, NONE, PANEL, PARTIAL, RULE, styled
from hierpool.plots.sheet.texts import elided_apart

_COLUMNS = 3
_PANEL_HEIGHT = 1.15
_ACROSS = 0.55  # inches between panels for the numbers of the axes


@runtime_checkable
class Calibration(Protocol):
    """What ``hp.calibrate`` found, as far as it is drawn."""

    @property
    def formula(self) -> str:
        """The model."""

    @property
    def ranks(self) -> pd.DataFrame:
        """Rank of the true value among the draws, simulations x quantities."""

    @property
    def n_draws(self) -> int:
        """Draws that it is ranked among."""

    @property
    def table(self) -> pd.DataFrame:
        """Of each quantity, whether it stays ``inside`` the band."""

    @property
    def verdict(self) -> str:
        """One sentence."""

    def band(self) -> pd.DataFrame:
        """Band of the ranks of a calibrated posterior: ``rank``, ``lower``, ``upper``."""


def calibration(calibrated: Calibration) -> Picture:
    """Simulation-based calibration, one panel per quantity: lines in the band are calibrated.

    The line is the share of simulations whose true value has a lower rank, minus the expected share.
    Above zero on the left and below on the right: the posteriors are too narrow.

    Parameters
    ----------
    calibrated
        The result of ``hp.calibrate(model)``.
    """
    check_drawable(calibrated, Calibration, "calibration(hp.calibrate(model))")
    names = list(calibrated.ranks.columns)
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    with styled():
        figure = sheet(
            f"Calibration of {calibrated.formula}",
            rows * _PANEL_HEIGHT,
            caption=f"{calibrated.verdict} Grey: simultaneous {BAND:.0%} band.",
            x_label="rank of the true value among the posterior draws",
            y_label="share of simulations below, minus expected",
        )
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).reshape(-1)
        width = WIDTH / columns - _ACROSS
        titles = elided_apart(names, width, PANEL)
        for ax, name, title in zip(axes, names, titles, strict=False):
            _draw_panel(ax, calibrated, name)
            ax.set_title(title, size=PANEL, color=INK, pad=3)
        for ax in axes[len(names) :]:
            ax.set_visible(False)
        for ax in axes[: len(names)][-columns:]:  # the lowest panel of each column
            ax.tick_params(labelbottom=True)
        settle(figure)
    return figure


def _draw_panel(ax: Axes, calibrated: Calibration, name: str) -> None:
    dress(ax)
    band, n = calibrated.band(), calibrated.n_draws
    rank = band["rank"].to_numpy()
    target = rank / (n + 1)
    below = [(calibrated.ranks[name].to_numpy() < r).mean() for r in rank]
    look = PARTIAL if calibrated.table.loc[name, "inside"] else NONE
    ax.fill_between(
        rank, band["lower"] - target, band["upper"] - target, color=FAINT, linewidth=0, zorder=1
    )
    ax.axhline(0, color=RULE, linewidth=0.6, zorder=2)
    ax.step(rank, np.array(below) - target, where="mid", color=look.color, linewidth=1.1, zorder=3)
    ax.set_xlim(0, n + 1)
