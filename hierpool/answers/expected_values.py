"""Means of a family on the scale of the response: cell by cell, and as differences and ratios.

A cell is an average of the means of its rows, on the scale of the response: the probability in a
population made up like that, and not the probability at an average of linear predictors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers import coefficient_draws
from hierpool.answers.linear_predictors import Held, LinearPredictors
from hierpool.answers.mean_response import MeanResponse
from hierpool.answers.reference_grid import Grid
from hierpool.core.design import Design
from hierpool.core.estimable import Beyond

_BLOCK_NUMBERS = 2_000_000  # draws x rows at once


@dataclass(frozen=True)
class ExpectedValues:
    """m expected values of a family, or slopes of them, and comparisons of these.

    Attributes
    ----------
    mean
        Of what.
    rows
        Linear predictors of the rows.
    average
        Shape (cells, rows): weights of the rows in each cell.
    weights
        Shape (m, cells): comparisons; None: the cells themselves.
    is_ratio
        Whether cells are compared by ratios.
    derived
        Of slopes: derivatives of the rows' linear predictors.
    """

    mean: MeanResponse
    rows: LinearPredictors
    average: np.ndarray
    weights: np.ndarray | None = None
    is_ratio: bool = False
    derived: LinearPredictors | None = None

    @classmethod
    def of_means(
        cls, mean: MeanResponse, held: Held, grid: Grid, exposed: Collection[str]
    ) -> ExpectedValues:
        """The mean of each cell, per unit of exposure unless that is ``exposed``."""
        rows = LinearPredictors.of_means(held, grid.by_row)
        average = np.zeros((len(grid.keys), len(rows)))
        average[grid.cell, np.arange(len(rows))] = grid.weight
        return cls(mean, per_unit(rows, exposed), average)

    @classmethod
    def of_slopes(
        cls, mean: MeanResponse, held: Held, grid: Grid, name: str, exposed: Collection[str]
    ) -> ExpectedValues:
        """The mean over the rows of each cell of the derivative of the mean by a number."""
        made = cls.of_means(mean, held, grid, exposed)
        return replace(made, derived=LinearPredictors.of_slopes(held, grid.by_row, name))

    def compared(self, weights: np.ndarray, is_ratio: bool = False) -> ExpectedValues:
        """Weighted sums of the cells, or products of their powers."""
        return replace(self, weights=weights, is_ratio=is_ratio)

    @property
    def beyond(self) -> Beyond:
        """What they need of columns that were dropped: what any of their rows does."""
        of = self.rows.beyond
        needed = of.is_needed
        if self.derived is not None:
            needed = needed | self.derived.beyond.is_needed
        cells = np.abs(self.average) @ needed
        if self.weights is not None:
            cells = np.abs(self.weights) @ cells
        return Beyond(of.terms, cells, np.zeros_like(cells))

    def draws(self, fit: IntegratedPosterior) -> np.ndarray:
        """Shape (K, m): of a posterior."""
        par = coefficient_draws.family_draws(fit)
        cells = np.zeros((len(par), len(self.average)))
        for some in self._blocks(len(par)):
            rows = self.rows.part(some)
            eta = _draws_of(fit, rows)
            variance = variance_of_draws(fit, rows) if rows.held.is_new else 0.0
            values = self.mean.at(eta, variance, par, slope=self.derived is not None)
            if self.derived is not None:
                values = values * _draws_of(fit, self.derived.part(some))
            cells += values @ self.average[:, some].T
        if self.weights is None:
            return cells
        return np.exp(np.log(cells) @ self.weights.T) if self.is_ratio else cells @ self.weights.T

    def _blocks(self, K: int) -> Iterator[slice]:
        size = max(1, _BLOCK_NUMBERS // K)
        for start in range(0, len(self.rows), size):
            yield slice(start, start + size)

    def linearised(
        self, eta: np.ndarray, slopes: np.ndarray, variance: np.ndarray | float, par: np.ndarray
    ) -> tuple[np.ndarray, LinearPredictors]:
        """At an optimum: values (m,), logs of ratios, and their gradients by the coefficients.

        Parameters
        ----------
        eta, slopes
            Shape (rows,): linear predictors, and their derivatives where slopes are asked.
        variance
            Shape (rows,): of the random part; 0 for one group.
        par
            Shape (P,): parameters of the family, taken for known.
        """

        def rows_of(values: np.ndarray) -> np.ndarray:
            return values[0]

        at, par = eta[None], np.atleast_2d(par)
        first = rows_of(self.mean.at(at, variance, par, slope=True))
        if self.derived is None:
            values = rows_of(self.mean.at(at, variance, par))
            gradient = self.rows.combined(self.average * first)
        else:
            values = first * slopes
            bend = rows_of(self.mean.bend(at, variance, par)) * slopes
            gradient = self.rows.combined(self.average * bend).plus(
                self.derived.combined(self.average * first)
            )
        cells = self.average @ values
        if self.weights is None:
            return cells, gradient
        if self.is_ratio:
            with np.errstate(divide="ignore", invalid="ignore"):
                return self.weights @ np.log(cells), gradient.combined(self.weights / cells)
        return self.weights @ cells, gradient.combined(self.weights)


def _draws_of(fit: IntegratedPosterior, linear: LinearPredictors) -> np.ndarray:
    """Shape (K, m): draws of linear predictors, offsets included."""
    return coefficient_draws.combined(fit, linear.combinations) + linear.offset


def variance_of_draws(fit: IntegratedPosterior, linear: LinearPredictors) -> np.ndarray:
    """Shape (K, m): variance over new groups of linear predictors."""
    variance = np.zeros((int(np.prod(fit.n_draws)), len(linear)))
    for group, Z in zip(fit.design.groups, linear.Z, strict=True):
        root = coefficient_draws.spread_roots(fit, group.schema)
        variance += np.square(np.einsum("mq,kqr->kmr", Z, root)).sum(axis=2)
    return variance


def per_unit(linear: LinearPredictors, exposed: Collection[str]) -> LinearPredictors:
    """Of a log link: without the offset, so that a mean is a rate per unit of the exposure.

    With the offset where the user gives a value to one of its columns.
    """
    design = linear.held.design
    if not is_per_unit(design, exposed):
        return linear
    return replace(linear, offset=np.zeros(len(linear)))


def is_per_unit(design: Design, exposed: Collection[str]) -> bool:
    """Whether means of a family are per unit of an exposure."""
    family = design.family
    has_rate = family is not None and family.link == "log" and bool(design.spec.offsets)
    return has_rate and not set(exposure_columns(design)) & {str(name) for name in exposed}


def exposure_columns(design: Design) -> list[str]:
    """The user's columns in the offset."""
    texts = " ".join(design.spec.offsets)
    return [
        name for name in design.predictors if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", texts)
    ]
