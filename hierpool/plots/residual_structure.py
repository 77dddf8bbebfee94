"""Observed and fitted covariance within groups: correlations by lag, standard deviations by time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.core.design import Design
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.fitted import Optimum
from hierpool.core.group_nouns import noun
from hierpool.core.results import Estimate
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import WIDTH, dress, settle, sheet, titled, write_axis_labels
from hierpool.plots.sheet.style import BLUP, OBSERVED, RULE, styled

_HEIGHT = 2.4
_MOST = 12  # lags or times; of more, bins with equal numbers of pairs or rows


class _Curve(NamedTuple):
    """What was observed and what was fitted, at places on the abscissa."""

    x: np.ndarray
    observed: np.ndarray
    fitted: np.ndarray


def residual_structure(fit: Optimum) -> Figure:
    """Covariance within groups, observed and fitted.

    Left: correlations of two observations of a group by their distance in time, fixed effects taken
    off. Right: standard deviations by time. Dots are observed, lines are the fitted model, random
    effects included. Dots far off the line show a structure that does not fit.

    Parameters
    ----------
    fit
        A REML or ML fit with a residual structure over time.

    Raises
    ------
    UnsupportedModelError
        A fit whose residuals are independent, which has no time.
    """
    line.check_drawable(fit, Optimum, "residual_structure(model.reml())")
    design = fit.design
    own = design.spec.residual.correlation
    if own is None:
        raise UnsupportedModelError(
            f"{design.spec.formula} has no residual structure over time: give it one, "
            "residual='ar1(time | group)'",
            "no-time",
        )
    by_lag, by_time = _curves(design, fit.estimate)
    with styled():
        figure = sheet(
            titled(f"Residual structure of {design.spec.response}: {own.word}", design.label),
            _HEIGHT,
            caption=f"Of observations of one {noun(own.factor)}, fixed effects taken off. The model's "
            "random effects are part of what is fitted.",
            legend=[
                OBSERVED.dot_handle("observed"),
                Line2D([], [], color=BLUP.color, label="fitted"),
            ],
        )
        left, right = figure.subplots(1, 2)
        _draw(left, by_lag, f"distance in {own.time}", "correlation")
        left.axhline(0, color=RULE, linewidth=0.6, zorder=1)
        _draw(right, by_time, own.time, f"sd of {design.spec.response}")
        right.set_ylim(0, 1.15 * float(np.nanmax([by_time.observed, by_time.fitted])))
        settle(figure)
    return figure


def _draw(axes: Axes, curve: _Curve, x: str, y: str) -> None:
    dress(axes)
    axes.plot(curve.x, curve.fitted, color=BLUP.color, linewidth=1.2, zorder=2)
    axes.plot(curve.x, curve.observed, "o", color=OBSERVED.color, markersize=4, zorder=3)
    write_axis_labels(axes, x, y, WIDTH / 2, 0.8 * _HEIGHT)


def _curves(design: Design, e: Estimate) -> tuple[_Curve, _Curve]:
    """Correlations by lag and sds by time."""
    s, own = design.residual.structure, design.spec.residual.correlation
    assert s is not None
    assert s.correlation is not None
    assert own is not None
    assert e.residual_parameters is not None
    phi = e.residual_parameters[None]
    column = design.frame[own.time]
    is_number = column.dtype.kind in "iuf"
    time = column.to_numpy(dtype=float) if is_number else s.places
    left = design.y_less_offset - design.X @ e.beta
    sd = e.sigma * np.exp(s.log_sds(phi)[0])[s.classes] * design.residual.known_sd
    spread, pairs = np.empty(design.n), []
    order = np.argsort(s.groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(s.groups[order])) + 1):
        C = s.correlation.blocks(s.correlations(phi)[:, s.by[rows[0]]], [s.places[rows]])[0][0]
        V = C * np.outer(sd[rows], sd[rows])
        for group, found in zip(design.groups, e.factors, strict=True):
            cov = np.nan_to_num(found.corr) * np.outer(found.sd, found.sd)
            V = V + group.Z[rows] @ cov @ group.Z[rows].T
        spread[rows] = np.sqrt(np.diag(V))
        i, k = np.triu_indices(len(rows), 1)
        scaled = left[rows] / spread[rows]
        fitted = V[i, k] / (spread[rows][i] * spread[rows][k])
        lag = np.abs(time[rows][i] - time[rows][k])
        one, other = scaled[i], scaled[k]
        pairs.append(np.column_stack([lag, fitted, one * other, one**2, other**2]))
    each = np.concatenate(pairs)
    lags = _binned(each[:, 0])
    x, fitted, product, one, other = (_means(lags, each[:, c]) for c in range(5))
    by_lag = _Curve(x, product / np.sqrt(one * other), fitted)
    times = _binned(time)
    observed, fitted = (np.sqrt(_means(times, np.square(v))) for v in (left, spread))
    return by_lag, _Curve(_means(times, time), observed, fitted)


def _binned(values: np.ndarray) -> np.ndarray:
    """Shape (n,): which of the different values each is, or which bin of many."""
    different, at = np.unique(np.round(values, 9), return_inverse=True)
    if len(different) <= _MOST:
        return at.reshape(-1)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _MOST + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, values), return_inverse=True)[1].reshape(-1)


def _means(bins: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(np.bincount(bins, values) / np.bincount(bins))
