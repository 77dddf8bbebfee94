"""Residual standard deviations, observed and fitted: of classes, along a number, of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierpool.algebra.correlated.residuals import normalised
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, UnsupportedModelError, nearest
from hierpool.core.fitted import Posterior
from hierpool.core.group_nouns import nouns
from hierpool.core.labels import as_shown
from hierpool.core.options import options
from hierpool.core.residual import RowStructure
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import (
    WIDTH,
    dress,
    name_categories,
    settle,
    sheet,
    titled,
    write_axis_labels,
)
from hierpool.plots.sheet.style import OBSERVED, PARTIAL, styled

_HEIGHT = 2.4
_MOST_PANELS = 3
_MOST_NUMBERS = 12  # of more values the observed sds are those of bins of equal numbers of rows
_MOST_NAMED = 40  # groups whose names stand on the axis


@dataclass(frozen=True)
class Sds:
    """Residual sds along a column.

    Attributes
    ----------
    column
        What they depend on.
    x
        Shape (v,): its values, or positions of classes or groups.
    names
        Of the positions; empty along a number.
    fitted
        Shape (3, v): mean, and bounds of the interval.
    places, observed
        Shape (b,): of the observed ones.
    is_of_groups
        Whether the classes are groups, in the order of their sds.
    """

    column: str
    x: np.ndarray
    names: tuple[str, ...]
    fitted: np.ndarray
    places: np.ndarray
    observed: np.ndarray
    is_of_groups: bool


def residual_sds(fit: Posterior, *, by: str | Sequence[str] | None = None) -> Figure:
    """Residual standard deviations by class, along a number, or of each group: observed and fitted.

    A panel each for the column and for the groups of ``sigma="~ column + (1 | group)"``. Lines and
    bars are the posterior mean and interval, dots are observed. Dots far off show that the residual
    sd depends on the column in another way. Of a model with one residual sd they show whether it
    holds for all.

    Parameters
    ----------
    fit
        A posterior of a Gaussian response.
    by
        Columns or grouping factors, at most three. None: those of ``sigma=``.

    Raises
    ------
    UnsupportedModelError
        Another family, or a residual sd that depends on no column while none is named.
    ArgumentError
        An unknown column.
    """
    line.check_has_draws(fit, "residual_sds(model.fit())")
    design = fit.design
    columns = _columns(design, by)
    every = [_along(fit, column) for column in columns]
    percent = f"{100 * options.prob:g} % interval"
    with styled():
        figure = sheet(
            titled(f"Residual standard deviations of {design.spec.response}", design.label),
            _HEIGHT,
            caption="Observed: of residuals from the posterior means, made larger for what the "
            "coefficients take up, by the same factor everywhere.",
            legend=[OBSERVED.dot_handle("observed"), PARTIAL.dot_handle(f"fitted, with {percent}")],
        )
        axes = figure.subplots(1, len(every), squeeze=False, sharey=True)[0]
        for ax, sds in zip(axes, every, strict=True):
            _draw(ax, sds, WIDTH / len(every), "residual sd" if ax is axes[0] else "")
        axes[0].set_ylim(0, 1.05 * max(float(max(s.fitted.max(), s.observed.max())) for s in every))
        settle(figure)
    return figure


def _columns(design: Design, by: str | Sequence[str] | None) -> list[str]:
    """What the sds are shown along."""
    term = design.spec.residual
    if design.family is not None or not term.has_sigma:
        raise UnsupportedModelError(
            f"{design.spec.shown} has no residual sd to show: it is for Gaussian responses whose "
            "residual sd is estimated",
            "residual-and-known-se",
        )
    if by is None:
        columns = [c for c in (term.spread_column, term.scale) if c]
        if not columns:
            raise UnsupportedModelError(
                f"the residual sd of {design.spec.shown} depends on no column. Name one, "
                "residual_sds(fit, by='diet'), or fit a model with sigma='~ diet'",
                "one-residual-sd",
            )
        return columns
    named = [by] if isinstance(by, str) else list(by)[:_MOST_PANELS]
    known = [*design.frame.columns, *design.groupings]
    for name in named:
        if name not in known:
            raise ArgumentError(
                f"{name!r} is not a column of the model: {nearest(str(name), known)}",
                "unknown-choice",
            )
    return named


def _along(fit: Posterior, column: str) -> Sds:
    """Fitted and observed sds along one column."""
    design = fit.design
    is_of_groups = column in design.groupings
    if is_of_groups:
        grouping = design.groupings[column]
        codes, values = grouping.codes, pd.Series(grouping.levels)
        names = tuple(map(str, as_shown(values, column)))
    elif line.is_number(design, column):
        x, codes = np.unique(design.frame[column].to_numpy(dtype=float), return_inverse=True)
        values, names = pd.Series(x), ()
    else:
        codes, found = pd.factorize(design.frame[column], sort=True)
        values = pd.Series(found)
        names = tuple(map(str, as_shown(values, column)))
    draws = _fitted(fit, codes, column)
    half = 50 * (1 - options.prob)
    fitted = np.vstack([draws.mean(axis=0), np.percentile(draws, [half, 100 - half], axis=0)])
    square = _relative_squares(fit)
    if names:
        observed = np.sqrt(np.bincount(codes, square) / np.bincount(codes)) * fitted[0]
        order = np.lexsort((observed, fitted[0])) if is_of_groups else np.arange(len(names))
        x = np.arange(len(names), dtype=float)
        shown = tuple(names[k] for k in order)
        return Sds(column, x, shown, fitted[:, order], x, observed[order], is_of_groups)
    x = values.to_numpy()
    bins = _bins(x, codes)
    places = np.bincount(bins, x[codes]) / np.bincount(bins)
    observed = np.sqrt(np.bincount(bins, square * fitted[0][codes] ** 2) / np.bincount(bins))
    return Sds(column, x, (), fitted, places, observed, False)


def _bins(x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Shape (n,): which value each row has, or which bin of many."""
    if len(x) <= _MOST_NUMBERS:
        return codes
    edges = np.unique(np.quantile(x[codes], np.linspace(0, 1, _MOST_NUMBERS + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, x[codes]), return_inverse=True)[1].reshape(-1)


def _fitted(fit: Posterior, codes: np.ndarray, column: str) -> np.ndarray:
    """Shape (K, v): draws of the sd of each value: root mean square over its rows, weights taken off."""
    s, phi = fit.design.residual.structure, fit.residual_parameters
    sigma = fit.variable("sigma").to_numpy().reshape(-1)
    if s is None or phi is None:
        return np.repeat(sigma[:, None], int(codes.max()) + 1, axis=1)
    if s.scale is not None and column != s.scale.factor:
        phi = phi.copy()
        phi[:, s.n_correlations + s.n_spread :] = 0.0  # of the average group
    return sigma[:, None] * np.sqrt(np.exp(2 * s.log_sds(phi)) @ _shares(s, codes))


def _shares(s: RowStructure, codes: np.ndarray) -> np.ndarray:
    """Shape (classes, v): shares of the rows of each value that are in each class."""
    found = np.zeros((s.n_classes, int(codes.max()) + 1))
    np.add.at(found, (s.classes, codes), 1.0)
    return found / found.sum(axis=0)


def _relative_squares(fit: Posterior) -> np.ndarray:
    """Shape (n,): squares of residuals in units of the fitted sds, 1 on average."""
    phi = fit.residual_parameters
    at = None if phi is None else phi.mean(axis=0)
    square = normalised(fit.design, fit.residuals().to_numpy(), at) ** 2
    return np.asarray(square / square.mean())


def _draw(ax: Axes, sds: Sds, width: float, y: str) -> None:
    dress(ax)
    mean, low, high = sds.fitted
    if sds.names:
        ax.vlines(sds.x, low, high, color=PARTIAL.color, linewidth=1.2, zorder=2)
        ax.plot(sds.x, mean, **PARTIAL.dots(3.5), zorder=3)
        shown = sds.names if len(sds.names) <= _MOST_NAMED else ()
        ax.set_xlim(-0.6, len(sds.names) - 0.4)
        if shown:
            name_categories([ax], shown, width - 0.4)
        else:
            ax.set_xticks([])
    else:
        ax.fill_between(sds.x, low, high, color=PARTIAL.color, alpha=0.2, linewidth=0, zorder=1)
        ax.plot(sds.x, mean, color=PARTIAL.color, linewidth=1.2, zorder=2)
    ax.plot(sds.places, sds.observed, **OBSERVED.dots(4.0), zorder=4)
    what = f"{nouns(sds.column)}, in order of their sd" if sds.is_of_groups else sds.column
    write_axis_labels(ax, what, y, width, 0.8 * _HEIGHT)
