"""Differences between categories, between groups, and any other combination of coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.mixed_model_equations import Henderson
from hierpool.answers import coefficient_draws
from hierpool.answers.adjustment import Adjust, choose_adjust
from hierpool.answers.contrast_spec import (
    Compared,
    Levels,
    Method,
    Of,
    check_name,
    comparisons,
    read,
    refuse,
)
from hierpool.answers.effects_table import EffectsTable
from hierpool.answers.estimates import estimates
from hierpool.answers.expected_values import ExpectedValues
from hierpool.answers.linear_predictors import Groups, Held, LinearPredictors
from hierpool.answers.reference_grid import Grid, Predictors, Weights, make_grid, names_of
from hierpool.answers.response_scale import Compare, ResponseScale, Scale
from hierpool.answers.slopes import slopes_of_cells
from hierpool.answers.summarised import Asked, of_fit
from hierpool.answers.told import Told
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.estimable import Beyond
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.core.options import probability_of, takes_prob
from hierpool.draws.summary import summary

_ZERO = 1e-9  # sum of the weights of a comparison


@takes_prob
def contrast(
    fit: IntegratedPosterior | Optimum,
    what: str | Mapping[Any, Any],
    levels: Levels = None,
    *,
    by: str | Sequence[str] | None = None,
    method: Method = "pairwise",
    slope: str | None = None,
    term: str | None = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    groups: Groups | None = None,
    adjust: Adjust | None = None,
    scale: Scale = "response",
    compare: Compare = "difference",
    of: Of = "coefficients",
    prob: float | None = None,
) -> pd.DataFrame:
    """Differences between categories, values or groups, and other combinations of coefficients.

    Parameters
    ----------
    fit
        A ``PosteriorFit`` or a ``LikelihoodFit``.
    what
        **A predictor**, ``"Machine"`` or ``"Days"``: its marginal means are compared. **A group**,
        ``"Subject"``: its groups are compared, term by term. **A dict**, name -> weight: a
        combination of coefficients. A name is a term of the fixed effects, ``"Machine[T.B]"``, or
        (factor, group, term), ``("Subject", "308", "Days")``. A dict of such dicts, label -> dict,
        makes a row of each.
    levels
        What is compared: two, ``["308", "309"]`` for the first minus the second; several; a dict,
        value -> weight, for one combination. None: all.
    by
        Predictors; the comparisons are made at each of their values, ``"sex"``.
    method
        ``"pairwise"``: all pairs, the first minus the second. ``"reference"``: each minus the
        first of ``levels``. A dict of your own weights, label -> {value: weight}, or label -> list of
        weights in the order of the values.
    slope
        Of a predictor: compare the slopes in this number in place of the means,
        ``hp.contrast(fit, "Diet", slope="Time")``.
    term
        Of a group: the coefficient that is compared; None: each.
    at, weights, groups
        Of a predictor, as in ``marginal_means``: values of other predictors; how they are
        averaged; for an average, a new or a known group.
    adjust
        Of a predictor. With REML, ML and least squares ``"tukey"``, ``"dunnett"`` (by the
        multivariate t distribution), ``"holm"`` (its intervals are Bonferroni's) or ``"none"``;
        None: Tukey's for all pairs, Dunnett's for a reference, otherwise none, as in emmeans. Of
        a posterior ``"simultaneous"`` or ``"none"``, the default. Comparisons in one group of
        ``by`` are adjusted together.
    scale
        Of a predictor. ``"response"``: with a logarithm on the left side of the formula
        differences turn into ratios; other functions are not undone, as in emmeans. ``"linear"``:
        as the left side has it. Of a family ``"response"``: probabilities, rates, means are
        compared; ``"linear"``: linear predictors, such as log odds.
    compare
        Of a predictor, for families. ``"difference"``: of probabilities (risk differences), rates
        or means. ``"ratio"``: risk ratios, rate ratios, ratios of means. Both are of means averaged
        over new groups, unless ``groups=`` says otherwise. ``"odds ratio"``: for a given group, the
        same in every group whose effects do not depend on the predictor.
    of
        Of groups: their ``"coefficients"``, or their ``"deviations"`` from the population. This
        matters only if the weights do not add up to zero.
    prob
        Probability of the interval; None: that of ``hp.options``.

    Returns
    -------
    DataFrame
        Index ``contrast``, after the predictors of ``by``; for a group (factor, contrast, term).
        Of a posterior: ``mean``, ``median``, ``sd``, interval, and ``p_direction``, the
        probability of the sign that is more probable (of a ratio: of its logarithm). The mean of
        a ratio is geometric, so that its logarithm is the mean on the linear scale. Of a
        LikelihoodFit: ``estimate``, ``se``, ``df``, interval, ``t``, ``p``, as in
        ``marginal_means``. For groups ``estimate``, ``se`` and a normal interval, where ``se`` is
        the root of the joint prediction error variance (Henderson's equations), with the standard
        deviations of the model treated as known. A contrast that is not
        estimable is NaN, with a finding.

    Raises
    ------
    NotEstimableError
        None of the contrasts is estimable, or a name is that of a dropped column.

    References
    ----------
    Lenth (2023), emmeans: Estimated Marginal Means, R package, whose defaults are followed.
    """
    check_fit(fit, "contrast")
    probability_of(prob)
    given = {
        "by": by,
        "slope": slope,
        "at": at,
        "weights": None if weights == "equal" else weights,
        "groups": None if groups == "average" else groups,
        "compare": None if compare == "difference" else compare,
        "adjust": None if adjust == "none" else adjust,
        "scale": None if scale == "response" else scale,
    }
    if isinstance(what, Mapping):
        refuse("a dict of names", method=None if method == "pairwise" else method, **given)
        return _of_names(fit, read(fit.design.schema, what, levels, method, term, of), prob)
    check_name(fit.design.schema, what)
    if what in [g.factor for g in fit.design.groups]:
        refuse(f"the group {what!r}", **given)
        return _of_coefficients(fit, read(fit.design.schema, what, levels, method, term, of), prob)
    refuse(f"the predictor {what!r}", term=term)
    to = ResponseScale.of(fit.design, scale, compare)
    if fit.design.family is None and (slope is not None or not to.has_ratios):
        to = ResponseScale(to.response, to.response, None)  # of others differences mean nothing
    if slope is not None and to.compare == "ratio":
        refuse("slope=", compare=compare)
    held = Held.usual(fit.design, groups, is_curved=to.mean is not None)
    cells = _Cells(fit, what, names_of(by), at or {}, weights, slope, held, to)
    return cells.compared(levels, method, adjust, prob)


@dataclass(frozen=True)
class _Cells:
    """Marginal means, or slopes, of a predictor in each group of rows, to be compared."""

    fit: IntegratedPosterior | Optimum
    what: str
    by: Sequence[Any]
    at: Mapping[str, Any]
    weights: Weights
    slope: str | None
    held: Held
    scale: ResponseScale

    def __post_init__(self) -> None:
        if self.what in self.at:
            raise ArgumentError(
                f"at= holds {self.what!r}, which is compared: name its values in levels=[...]",
                "bad-contrast",
            )
        if self.scale.back is not None and self.held.is_new:
            raise UnsupportedModelError(
                f"groups='new' averages means of {self.scale.measured} over groups, and there is "
                "no such average of ratios. Take scale='linear', or groups='average'",
                "new-groups-transformed",
            )

    def compared(
        self, levels: Levels, method: Method, adjust: Adjust | None, prob: float | None
    ) -> pd.DataFrame:
        """The table of contrasts."""
        chosen = self._comparisons(levels, method)
        values = list(dict.fromkeys(v for _, own in chosen for v in own))
        made, grid = self._cells(values)
        rows, weights, family = self._placed(chosen, grid)
        index: pd.Index[Any] = pd.Index([label for _, label in rows], name="contrast")
        if self.by:
            labels = [(*key, label) for key, label in rows]
            index = pd.MultiIndex.from_tuples(labels, names=[*self.by, "contrast"])
        plain = method if isinstance(method, str) and not isinstance(levels, Mapping) else "other"
        adjust = choose_adjust(adjust, isinstance(self.fit, Posterior), _kind(plain))
        if isinstance(made, ExpectedValues):
            own = made.compared(weights, self.scale.has_ratios)
            asked = Asked.of_expected(index, own, family, len(values), is_difference=True)
        else:
            asked = Asked(index, made.combined(weights), family, len(values), is_difference=True)
        table = of_fit(self.fit, asked, self.scale, adjust, prob)
        told = Told(self.fit, asked, self.scale, adjust, self.weights, ("contrast", "contrasts"))
        return EffectsTable.of(
            table,
            [self._title(weights), *told.lines(grid, self.at)],
            told.findings(table),
            **told.attrs,
        )

    def _title(self, weights: np.ndarray) -> str:
        is_comparison = bool((np.abs(weights.sum(axis=1)) < _ZERO).all())
        kind = "Ratios" if self.scale.has_ratios else "Differences"
        if not is_comparison:
            kind = "Products of powers" if self.scale.has_ratios else "Weighted sums"
        if self.scale.compare == "odds ratio" and is_comparison and self.slope is None:
            return f"Odds ratios of {self.scale.response} between values of {self.what}"
        of = (
            f"slopes of {self.scale.measured_thing} in {self.slope}"
            if self.slope
            else self.scale.measured_thing
        )
        return f"{kind} of {of} {'between' if is_comparison else 'over'} values of {self.what}"

    def _comparisons(self, levels: Levels, method: Method) -> list[tuple[str, dict[Any, float]]]:
        predictors, what = Predictors(self.fit.design), self.what
        for name in self.by:
            predictors.check(name, "by=")
        return comparisons(
            levels,
            method,
            predictors.categories.get(what),
            f"values of {what!r}",
            lambda v: predictors.find(what, v),
            "/" if self.scale.has_ratios else "-",
        )

    def _cells(self, values: list[Any]) -> tuple[LinearPredictors | ExpectedValues, Grid]:
        """What is compared, cell by cell."""
        at = {**self.at, self.what: values}
        if self.slope is not None:
            Predictors(self.fit.design).check(self.slope, "slope=")
            shown = [*self.by, self.what]
            scale = self.scale
            if scale.compare == "odds ratio":  # ratios of the odds ratios of a unit
                scale = replace(scale, back=None)
            made, _, grid = slopes_of_cells(self.held, self.slope, shown, at, self.weights, scale)
            return made, grid
        grid = make_grid(self.fit.design, [self.what], self.by, at, self.weights)
        if self.scale.mean is not None:
            exposed = {*at, *self.by}
            return ExpectedValues.of_means(self.scale.mean, self.held, grid, exposed), grid
        return LinearPredictors.of_means(self.held, grid), grid

    def _placed(
        self, chosen: list[tuple[str, dict[Any, float]]], grid: Grid
    ) -> tuple[list[tuple[tuple[Any, ...], str]], np.ndarray, np.ndarray]:
        """Rows (group of ``by``, label), weights of the cells (rows, cells), and family of each.

        Where a category is nested, a group of rows has the comparisons of what occurs in it.
        """
        own = [tuple(key) for key in grid.keys[list(self.by)].itertuples(index=False, name=None)]
        cell = {
            (key, v): k for k, (key, v) in enumerate(zip(own, grid.keys[self.what], strict=True))
        }
        rows, weights, family = [], [], []
        for number, key in enumerate(dict.fromkeys(own)):
            for label, given in chosen:
                if all((key, v) in cell for v in given):
                    row = np.zeros(len(own))
                    for v, w in given.items():
                        row[cell[key, v]] += w
                    rows.append((key, label))
                    weights.append(row)
                    family.append(number)
        if not rows:
            raise ArgumentError(
                f"no two of these values of {self.what!r} occur in one group of "
                f"{', '.join(map(str, self.by))}: leave by= out",
                "bad-contrast",
            )
        return rows, np.array(weights), np.array(family)


def _kind(method: str) -> Literal["pairwise", "reference", "other"]:
    return "pairwise" if method == "pairwise" else "reference" if method == "reference" else "other"


def _of_names(
    fit: IntegratedPosterior | Optimum, asked: Compared, prob: float | None
) -> pd.DataFrame:
    """Combinations of named coefficients; tested as fixed effects where no group takes part."""
    t, groups = asked.combinations, fit.design.groups
    if isinstance(fit, Posterior) or any(len(part.which) for part in t.parts):
        return _of_coefficients(fit, asked, prob)
    Z = tuple(np.zeros((len(t), len(g.terms))) for g in groups)
    held = Held(fit.design, (None,) * len(groups))
    linear = LinearPredictors(held, t.X, np.zeros(len(t)), Z, Beyond.nothing(len(t)))
    family = np.zeros(len(t), dtype=int)
    scale = ResponseScale(fit.design.spec.response, fit.design.spec.response, None)
    table = of_fit(fit, Asked(asked.index, linear, family, is_difference=True), scale, "none", prob)
    attrs = {"df_method": fit.df_method, "adjust": "none", "scale": "linear"}
    head = ["Combinations of fixed effects", f"df: {fit.df_method}"]
    return EffectsTable.of(table, head, (), **attrs)


def _of_coefficients(
    fit: IntegratedPosterior | Optimum, asked: Compared, prob: float | None
) -> pd.DataFrame:
    """Combinations in which coefficients of groups may take part."""
    if isinstance(fit, Posterior):
        draws = coefficient_draws.combined(fit, asked.combinations)
        values = xr.DataArray(draws.reshape(*fit.n_draws, -1), dims=("chain", "draw", "contrast"))
        table = summary(values, diagnostics=False, prob=prob)
        table["mean"] = coefficient_draws.means(fit, asked.combinations)
        table["p_direction"] = np.maximum((draws > 0).mean(axis=0), (draws < 0).mean(axis=0))
    else:
        equations = Henderson(fit.design, fit.estimate)
        se = np.sqrt(equations.variance(asked.combinations))
        estimate = equations.value(asked.combinations)
        table = estimates(np.where(np.isnan(se), np.nan, estimate), se, prob)
    return table.set_axis(asked.index, axis=0)
