"""Coefficients of groups in pairs, with their uncertainty and the population."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.checks.levels.shrinkage import shrinkage
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.fitted import Fit, Optimum, Posterior
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.options import options, percent
from hierpool.plots.sheet import lines as line
from hierpool.plots.sheet.layout import (
    WIDTH,
    Picture,
    dress,
    settle,
    sheet,
    titled,
    write_axis_labels,
)
from hierpool.plots.sheet.style import NONE, PARTIAL, POPULATION, TINY, styled
from hierpool.plots.sheet.tables import LevelTable, read_levels
from hierpool.plots.sheet.terms import terms_in_words
from hierpool.plots.sheet.texts import elided_apart, write_names

_ALL_ELLIPSES = 40
_ALL_NAMED = 25
_SOME_NAMED = 8
_MOST_TERMS = 4
_FARTHEST = 0.5  # how far own estimates widen the axes, in ranges of all else
_ANGLES = np.linspace(0, 2 * np.pi, 73)


@dataclass(frozen=True)
class Pairs:
    """Coefficients of the groups of one factor, with their uncertainty and their distribution.

    Attributes
    ----------
    levels
        Its table: ``own_estimate``, ``partial_pooling``, ``population``.
    means, covariances
        Shapes (J, q), (J, q, q): of each level's coefficients, terms as in ``levels``.
    center, Sigma
        Shapes (q,), (q, q): of the population.
    what
        What the ellipses of levels are: ``"posterior"`` or ``"standard error"``.
    names
        Term -> what it is called.
    """

    levels: LevelTable
    means: np.ndarray
    covariances: np.ndarray
    center: np.ndarray
    Sigma: np.ndarray
    what: str
    names: Mapping[str, str]

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (q,): the ends of the axes, which hold every ellipse.

        And the own estimates, unless they lie so far out that the ellipses would be small.
        """
        inner, outer = (np.sqrt(-2 * np.log1p(-p)) for p in _probabilities())
        half = inner * np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        around = outer * np.sqrt(np.diag(self.Sigma))
        low = np.minimum((self.means - half).min(axis=0), self.center - around)
        high = np.maximum((self.means + half).max(axis=0), self.center + around)
        room = _FARTHEST * (high - low)
        own = self.own[np.isfinite(self.own).all(axis=1)]
        low = np.maximum(np.min([low, *own], axis=0), low - room)
        high = np.minimum(np.max([high, *own], axis=0), high + room)
        pad = 0.05 * np.where(high > low, high - low, 1.0)
        return low - pad, high + pad

    @property
    def own(self) -> np.ndarray:
        """Shape (J, q): each level's own estimates; NaN where it has none."""
        return self.levels.wide("own_estimate").to_numpy(dtype=float)

    @property
    def farthest(self) -> np.ndarray:
        """Positions of the levels, the farthest from the center first, in sds of the population."""
        off = self.means - self.center
        inverse = np.linalg.pinv(self.Sigma)
        return np.argsort(-np.einsum("jq,qr,jr->j", off, inverse, off), kind="stable")


def level_coefficients(
    fit: IntegratedPosterior | Optimum,
    *,
    factor: str | None = None,
    terms: Sequence[str] | None = None,
) -> Figure:
    """Intercept against slope of every group, with ellipses; a panel for each pair of terms.

    Dots are partially pooled coefficients; small ellipses hold half of their probability. The large
    ellipses hold half and nine tenths of the population. Rings are estimates from each group's own
    data.

    Parameters
    ----------
    fit
        A partially pooled posterior, or REML or ML fit.
    factor
        Which factor; default: the first with two coefficients or more.
    terms
        Which terms; default: the first four.

    Raises
    ------
    ArgumentError
        An unknown factor or term.
    UnsupportedModelError
        A model without random effects, or with one coefficient per group.
    """
    table, design = shrinkage(fit), fit.design
    group = _group(design, factor)
    if len(group.terms) < 2 or (terms is not None and len(terms) < 2):
        raise UnsupportedModelError(
            f"{design.spec.formula} has only one coefficient that varies by {group.factor}, "
            f"{group.terms[0]}, and this figure needs two. Draw hp.plots.caterpillar(model.fit()).",
            "one-coefficient",
        )
    with styled():
        levels = read_levels(table, ["partial_pooling"], group.factor, terms, _MOST_TERMS)
        pairs = _read(fit, group, levels)
        title = titled(f"Coefficients of {nouns(group.factor)}", design.label)
        return _draw(pairs, title)


def _group(design: Design, factor: str | None) -> GroupDesign:
    if factor is not None:
        line.choose_grouping(design, factor)
        for group in design.groups:
            if group.factor == factor:
                return group
    return max(design.groups, key=lambda group: len(group.terms) >= 2)


def _read(fit: Fit, group: GroupDesign, levels: LevelTable) -> Pairs:
    at = np.array([group.terms.index(t) for t in levels.terms])
    means, covariances = fit.coefficient_moments(group.factor)
    center = levels.wide("population").iloc[0].to_numpy(dtype=float)
    spread = fit.variance_components().xs(group.factor, level="factor")
    value = spread["mean" if "mean" in spread else "estimate"]
    corr = np.eye(len(at))
    for i, j in combinations(range(len(at)), 2):
        for pair in ((levels.terms[i], levels.terms[j]), (levels.terms[j], levels.terms[i])):
            if ("corr", *pair) in value.index:
                corr[i, j] = corr[j, i] = float(np.nan_to_num(value["corr", pair[0], pair[1]]))
    sd = np.array([float(value["sd", t, ""]) for t in levels.terms])
    what = "posterior" if isinstance(fit, Posterior) else "standard error"
    covariances, names = covariances[:, at[:, None], at], terms_in_words(fit.design.schema)
    return Pairs(levels, means[:, at], covariances, center, corr * np.outer(sd, sd), what, names)


def ellipse(center: np.ndarray, covariance: np.ndarray, probability: float) -> np.ndarray:
    """Outline, shape (points, 2), of the ellipse that holds this much of a normal distribution."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    radius = np.sqrt(-2 * np.log1p(-probability))
    return np.asarray(
        center + radius * np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)]) @ root.T
    )


def _draw(pairs: Pairs, title: str) -> Picture:
    planes = list(combinations(range(len(pairs.levels.terms)), 2))
    n_columns = min(len(planes), 3)
    n_rows = -(-len(planes) // n_columns)
    width = WIDTH / n_columns
    height = 4.6 if len(planes) == 1 else 0.95 * width
    count = len(pairs.means)
    named = count if count <= _ALL_NAMED and len(planes) == 1 else _SOME_NAMED
    figure = sheet(title, n_rows * height, caption=_caption(pairs, named), legend=_legend(pairs))
    grid = figure.add_gridspec(n_rows, n_columns)
    drawn = []
    for k, (i, j) in enumerate(planes):
        ax = figure.add_subplot(grid[divmod(k, n_columns)])
        dress(ax)
        x, y = (pairs.names.get(pairs.levels.terms[k], pairs.levels.terms[k]) for k in (i, j))
        write_axis_labels(ax, x, y, 0.8 * width, 0.8 * height)
        _draw_plane(ax, pairs, [i, j], named)
        drawn.append((ax, [i, j]))
    settle(figure)
    chosen, levels = pairs.farthest[:named], pairs.levels.wide("partial_pooling").index
    for ax, at in drawn:
        names = elided_apart(list(levels[chosen]), 0.22 * width, TINY)
        points = pairs.means[:, at]
        write_names(ax, points[chosen], names, obstacles=points, most_covered=6)
    return figure


def _draw_plane(ax: Axes, pairs: Pairs, at: list[int], named: int) -> None:
    means, two = pairs.means[:, at], np.ix_(at, at)
    count = len(means)
    size = float(np.clip(4.0 * (40 / max(count, 40)) ** 0.4, 1.2, 4.0))
    _draw_own(ax, pairs, at, 0.8 * size)
    with_ellipse = np.arange(count) if count <= _ALL_ELLIPSES else pairs.farthest[:named]
    outlines = [
        ellipse(means[k], pairs.covariances[k][two], _probabilities()[0]) for k in with_ellipse
    ]
    faint = float(np.clip(2.0 / np.sqrt(len(outlines)), 0.1, 0.4))
    ax.add_collection(
        PolyCollection(
            outlines, facecolor=(PARTIAL.color, 0.35 * faint), edgecolor=(PARTIAL.color, faint),
            linewidth=0.6, zorder=1.5,
        )
    )  # fmt: skip
    around = [ellipse(pairs.center[at], pairs.Sigma[two], p) for p in _probabilities()]
    for outline, dashes in zip(around, ("-", (0, (4, 2))), strict=True):
        ax.plot(*outline.T, color=POPULATION.color, linestyle=dashes, linewidth=1.0, zorder=2.4)
    ax.plot(*means.T, zorder=3, **PARTIAL.dots(size))
    ax.plot(*pairs.center[at][:, None], zorder=3.5, **POPULATION.dots(8.0))
    low, high = (bound[at] for bound in pairs.reach)
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])


def _probabilities() -> tuple[float, float]:
    """Of the inner and the outer ellipses."""
    return 0.5, options.prob


def _draw_own(ax: Axes, pairs: Pairs, at: list[int], size: float) -> None:
    """Own estimates as rings; those beyond the axes as triangles at the edge that point to them."""
    low, high = (bound[at] for bound in pairs.reach)
    own = pairs.own[:, at]
    inside = ((own >= low) & (own <= high)).all(axis=1)
    look = {**NONE.dots(size), "alpha": 0.55, "zorder": 1.8}
    ax.plot(*own[inside].T, **look)
    beyond = own[np.isfinite(own).all(axis=1) & ~inside]
    over = np.stack([low - beyond, beyond - high], axis=1) / (high - low)  # (points, side, axis)
    side = over.reshape(len(beyond), 4).argmax(axis=1)
    for k in np.unique(side):  # an empty line that is not clipped would upset the layout
        points, marker = np.clip(beyond[side == k], low, high), ("<", "v", ">", "^")[k]
        ax.plot(*points.T, clip_on=False, **{**look, "marker": marker, "markersize": 4.0})


def _legend(pairs: Pairs) -> list[Line2D]:
    inner, outer = (f"{percent(p)} %" for p in _probabilities())
    line_of: dict[str, Any] = {"color": POPULATION.color, "linewidth": 1.0}
    words = "posterior" if pairs.what == "posterior" else "estimation error"
    return [
        PARTIAL.dot_handle(f"partial pooling, {inner} of its {words}", 4.5),
        NONE.dot_handle("own estimate", 4.0),
        Line2D([], [], label=f"{inner} of the population", **line_of),
        Line2D([], [], label=outer, linestyle=(0, (4, 2)), **line_of),
    ]


def _caption(pairs: Pairs, named: int) -> str:
    count, words = len(pairs.means), []
    if named < count:
        words.append(f"Named: the {named} of {count} groups farthest from the population.")
    if count > _ALL_ELLIPSES:
        words.append("Only they have an ellipse.")
    own, factor = pairs.own, pairs.levels.factor
    unknown = int(np.isnan(own).any(axis=1).sum())
    if unknown:
        words.append(f"Without an own estimate of all coefficients: {counted(unknown, factor)}.")
    low, high = pairs.reach
    beyond = int(((own < low) | (own > high)).any(axis=1).sum())
    if beyond:
        words.append(
            f"Triangles at the edge: own estimates farther out ({counted(beyond, factor)})."
        )
    if (np.diag(pairs.Sigma) == 0).any() or np.linalg.matrix_rank(pairs.Sigma) < len(pairs.Sigma):
        words.append("The population's ellipse is a line: the fit is singular.")
    if pairs.levels.note:
        words.append(pairs.levels.note)
    return " ".join(words)
