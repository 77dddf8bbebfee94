"""Observed and fitted covariance within groups: correlations by lag, standard deviations by time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.core.design import Design
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.fitted import Optimum
from hierpool.core.group_nouns import noun
from hierpool.core.results import Estimate
from hierpool.core.spec import CorrelationTerm
from hierpool.formula.residual_terms import read_correlation
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


def residual_structure(fit: Optimum, *, over: str | None = None) -> Figure:
    """Covariance within groups, observed and fitted.

    Left: correlations of two observations of a group by their distance in time, fixed effects taken
    off. Right: standard deviations by time. Dots are observed, lines are the fitted model, random
    effects included. Dots far off the line show a structure that does not fit.

    Parameters
    ----------
    fit
        A REML or ML fit.
    over
        Times and groups, ``"time | pig"``; None: those of the fit's residual structure.

    Raises
    ------
    UnsupportedModelError
        A fit whose residuals are independent, which has no time, without ``over``; or the time is
        not a column of the model.
    """
    line.check_drawable(fit, Optimum, "residual_structure(model.reml())")
    design = fit.design
    named = design.spec.residual.correlation
    own = named if over is None else read_correlation(f"us({over})")
    if own is None or own.time not in design.frame or own.factor not in design.groupings:
        raise UnsupportedModelError(
            f"{design.spec.formula} has no residual structure over time, or not these columns: give it "
            "one, residual='ar1(time | group)', or name columns of the model, over='time | group'",
            "no-time",
        )
    by_lag, by_time = _curves(design, fit.estimate, own)
    with styled():
        figure = sheet(
            titled(f"Residual structure of {design.spec.response}: {_word(design)}", design.label),
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


def _word(design: Design) -> str:
    own = design.spec.residual.correlation
    return "independent" if own is None else own.word


def _times(column: pd.Series[Any]) -> np.ndarray:
    """Shape (n,): times, or positions among the categories."""
    if column.dtype.kind in "iuf":
        return column.to_numpy(dtype=float)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(dtype=float)
    return np.unique(column.astype(str), return_inverse=True)[1].reshape(-1).astype(float)


def _residual_covariance(design: Design, e: Estimate, rows: np.ndarray) -> np.ndarray:
    """Covariance of the residuals of some rows, all of one group."""
    s, known = design.residual.structure, np.broadcast_to(design.residual.known_sd, (design.n,))
    if s is None or e.residual_parameters is None:
        return np.diag(np.square(e.sigma * known[rows]))
    phi = e.residual_parameters[None]
    sd = e.sigma * np.exp(s.log_sds(phi)[0])[s.classes[rows]] * known[rows]
    if s.correlation is None:
        return np.diag(sd**2)
    C = s.correlation.blocks(s.correlations(phi)[:, s.by[rows[0]]], [s.places[rows]])[0][0]
    return np.asarray(C * np.outer(sd, sd))


def _curves(design: Design, e: Estimate, own: CorrelationTerm) -> tuple[_Curve, _Curve]:
    """Correlations by lag and sds by time."""
    time, groups = _times(design.frame[own.time]), design.groupings[own.factor].codes
    left = design.y_less_offset - design.X @ e.beta
    spread, pairs = np.empty(design.n), []
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        V = _residual_covariance(design, e, rows)
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
