"""Residual: how the rows of a model vary about their means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hierpool.core.spec import INDEPENDENT, ResidualTerm


@dataclass(frozen=True)
class Residual:
    """Residual standard deviations of rows, up to sigma: y_i ~ N(mean_i, (sigma r_i)^2).

    Attributes
    ----------
    term
        What was asked.
    values
        Shape (n,): the user's column, weights or known residual sds; None where the rows are
        alike.
    """

    term: ResidualTerm = INDEPENDENT
    values: np.ndarray | None = None

    @property
    def has_sigma(self) -> bool:
        """Whether there is a residual sd to estimate; not where those of the rows are known."""
        return self.term.has_sigma

    @property
    def varies(self) -> bool:
        """Whether rows differ in their residual sd."""
        return self.values is not None and self.term.structure != "family"

    @cached_property
    def relative_sd(self) -> np.ndarray | float:
        """Shape (n,): r_i, residual sd of each row in units of sigma; the number 1 for equal rows.

        1 / sqrt(weights); known sds themselves, with sigma = 1. The number 1 where the family says
        how rows vary.
        """
        if self.values is None or self.term.structure == "family":
            return 1.0
        return 1 / np.sqrt(self.values) if self.has_sigma else self.values

    def relative_sds(self, n: int) -> np.ndarray:
        """Shape (n,): r_i of each of n rows, also where they are equal."""
        return np.broadcast_to(self.relative_sd, (n,))

    def sd(self, sigma: np.ndarray | float, rows: np.ndarray | None = None) -> np.ndarray:
        """Residual sds of rows at values of sigma: shapes (K,) to (K, n), or () to (n,).

        The last axis has length 1 where the rows are equal, unless ``rows`` chooses some.
        """
        relative = np.atleast_1d(self.relative_sd)
        if rows is not None:
            relative = relative[rows] if self.varies else np.ones(len(rows))
        return np.asarray(np.asarray(sigma)[..., None] * relative)

    def whiten(self, values: np.ndarray) -> np.ndarray:
        """Rows (n, ...) in units of sigma: each divided by its r_i."""
        if not self.varies:
            return values
        relative = np.asarray(self.relative_sd)
        return np.asarray(values / relative.reshape(-1, *[1] * (values.ndim - 1)))

    @cached_property
    def mean_square(self) -> float:
        """Mean of r_i^2: the residual variance of a typical row, in units of sigma^2."""
        return float(np.mean(np.square(self.relative_sd)))

    def sd_of_constant(self, values: np.ndarray) -> float:
        """Sigma of a constant alone: sd of the values (n,), each row counted by its weight.

        Infinite for known sds that are negligible beside the values.
        """
        values = values - values.mean()
        weights = self.relative_sds(len(values)) ** -2.0
        weights = weights / weights.max()
        values = (values - np.average(values, weights=weights)) / self.relative_sd
        with np.errstate(over="ignore"):
            return float(np.sqrt((values**2).sum() / (len(values) - 1)))
