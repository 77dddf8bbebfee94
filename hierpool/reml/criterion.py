"""Profiled ML and REML deviance of a partially pooled design, with its analytic gradient.

theta holds the free entries of T, the relative factor in scaled coordinates: lower triangular for
a correlated block, diagonal for an uncorrelated one. Signs are free, so that a variance of zero
is an inner point where the deviance is smooth and even, and no bound is needed.

    REML: d = log det M_u + log det S + (n - p) [1 + log(2 pi r2 / (n - p))]
    ML:   d = log det M_u + n [1 + log(2 pi r2 / n)]

with r2 the penalised residual sum of squares (beta and u at their conditional means). Where the
residual sds are known there is no sigma to profile out, and with df the n - p or n above the
bracket times df becomes df log(2 pi) + r2. Weights add - sum log w, as in lme4.

References
----------
Bates, Maechler, Bolker, Walker (2015), J. Stat. Softw. 67(1), equations 34 and 39.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, cast

import numpy as np
from scipy import linalg

from hierpool.algebra.choose import marginal_model
from hierpool.algebra.factorisation import Factorisation
from hierpool.algebra.gaussian import LOG_2PI, BetaPrior, Marginal
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.algebra.moments import Coordinates, Moments
from hierpool.core.design import Design
from hierpool.core.residual import RowStructure

Method = Literal["REML", "ML"]


class HasResiduals(Protocol):
    """A factorisation at parameters of a residual structure too."""

    def residual_gradient(self, is_reml: bool, beta: np.ndarray | None = None) -> np.ndarray:
        """Derivatives by the free parameters of log determinants and penalised sum of squares, (2, m)."""


class Free(NamedTuple):
    """The free entries of a root T, and the parameter that stands in each.

    Attributes
    ----------
    rows, columns
        Shapes (e,): the entries.
    whose
        Shape (e,): position in theta of their parameter.
    """

    rows: np.ndarray
    columns: np.ndarray
    whose: np.ndarray

    @property
    def first_rows(self) -> np.ndarray:
        """Shape (k,): the row of each parameter's first entry."""
        return self.rows[np.unique(self.whose, return_index=True)[1]]

    def matrix(self, theta: np.ndarray, size: int) -> np.ndarray:
        """Shape (..., Q, Q): T from theta (..., k)."""
        T = np.zeros((*theta.shape[:-1], size, size))
        T[..., self.rows, self.columns] = theta[..., self.whose]
        return T

    def sum(self, M: np.ndarray) -> np.ndarray:
        """Shape (k,): for each parameter the sum of M (Q, Q) over its entries."""
        return np.bincount(self.whose, M[self.rows, self.columns])

    def mean(self, M: np.ndarray) -> np.ndarray:
        """Shape (k,): for each parameter the mean of M (Q, Q) over its entries."""
        return self.sum(M) / np.bincount(self.whose)


def free_entries(design: Design) -> tuple[np.ndarray, Free]:
    """Scales of the columns (Q, Q) of all factors, and the free entries of the root in them."""
    codings: list[np.ndarray] = [np.zeros((0, 0))]
    none = np.zeros(0, dtype=np.intp)
    rows, cols, whose, start, n_parameters = [none], [none], [none], 0, 0
    for group in design.groups:
        for block, coding in zip(group.blocks, group.schema.block_codings, strict=True):
            codings.append(coding.from_working)
            r, c, k = block.covariance.free_entries(block.size)
            rows.append(r + start + block.start)
            cols.append(c + start + block.start)
            whose.append(k + n_parameters)
            n_parameters += len(block.patterns)
        start += len(group.terms)
    free = Free(np.concatenate(rows), np.concatenate(cols), np.concatenate(whose))
    return linalg.block_diag(*codings), free


@dataclass(frozen=True)
class Criterion:
    """The deviance of a partially pooled design as a function of theta.

    Attributes
    ----------
    algebra
        Elimination of the coefficients, in working coordinates.
    coordinates
        Those coordinates.
    basis
        Shape (Q, Q): Lambda = basis T, with the columns of all factors side by side.
    free
        The free entries of T.
    method
        "REML" or "ML".
    has_sigma
        Whether sigma is profiled out; False where it is 1, the residual sds being known.
    structure
        Of the residuals: theta goes on with its free parameters. None for independent ones.
    """

    algebra: MarginalModel
    coordinates: Coordinates
    basis: np.ndarray
    free: Free
    method: Method
    has_sigma: bool = True
    structure: RowStructure | None = None

    @classmethod
    def from_design(cls, design: Design, method: Method) -> Criterion:
        """Criterion of a partially pooled design."""
        coordinates = Coordinates.from_design(design)
        model = marginal_model(design, coordinates, BetaPrior.flat(len(design.terms)))
        codings, free = free_entries(design)
        # theta 1 is an sd of the typical residual's size, whatever the unit of weights or known sds
        unit = 1 / np.sqrt(model.scaled_rows.mean_precision)
        basis = coordinates.u_to_working @ codings * unit
        residual = design.residual
        own = free, method, residual.has_sigma, residual.structure
        return cls(model, coordinates, basis, *own)

    @property
    def moments(self) -> Moments:
        """Totals of the population columns and the response."""
        return self.algebra.totals

    @property
    def size(self) -> int:
        """Q, the number of columns of all factors."""
        return len(self.basis)

    @property
    def df(self) -> int:
        """Degrees of freedom of sigma: n - p for REML, n for ML."""
        return self.moments.n - (self.moments.p if self.method == "REML" else 0)

    @cached_property
    def coding_constant(self) -> float:
        """Added to a REML deviance to state it in the user's coding of X."""
        # det(X'V^-1 X) grows with the square of each column's scale; centring leaves it alone.
        return 2 * float(np.log(self.coordinates.x.scales).sum()) if self.method == "REML" else 0.0

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        """Shape (..., Q, Q): T from theta (..., k)."""
        return self.free.matrix(theta, self.size)

    @property
    def n_free(self) -> int:
        """Free entries of T; those of theta behind them are parameters of the residuals."""
        return int(self.free.whose.max(initial=-1)) + 1

    def theta(self, T: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
        """Shape (k,): the free entries of T, and parameters of the residuals as in ``like``."""
        own = self.free.mean(T)
        return own if like is None else np.concatenate([own, like[self.n_free :]])

    def phi(self, theta: np.ndarray) -> np.ndarray | None:
        """Shape (..., m): parameters of the residuals; None without a structure."""
        if self.structure is None:
            return None
        return self.structure.from_free(theta[..., self.n_free :])

    def population(self, theta: np.ndarray) -> Marginal:
        """The population's part at K values of theta, shape (K, k)."""
        return self.algebra.population_at(self.factor(theta), self.phi(theta))

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """Shape (..., Q, Q): Lambda from theta (..., k)."""
        return self.basis @ self.matrix(theta)

    def theta_of(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> np.ndarray:
        """Shape (k,): theta of a relative factor (Q, Q) and of parameters of the residuals (m,)."""
        own = self.theta(np.linalg.solve(self.basis, Lambda))
        if self.structure is None or phi is None:
            return own
        return np.concatenate([own, self.structure.to_free(phi)])

    def at(self, theta: np.ndarray) -> Factorisation:
        """The model at one theta, shape (k,), with sigma = 1 and a flat prior."""
        return self.algebra.at(self.factor(theta), self.phi(theta))

    def deviance(self, theta: np.ndarray) -> np.ndarray:
        """Shape (K,): profiled deviance in the user's coding at K values of theta, shape (K, k)."""
        return self._deviance(self.population(theta))

    def _deviance(self, marginal: Marginal) -> np.ndarray:
        # A difference of sums of squares: rounding takes it below zero where the fit is exact.
        ss = np.maximum(marginal.penalized_ss, np.finfo(float).tiny)
        population = marginal.log_det_population if self.method == "REML" else 0.0
        residual = self.df * (1 + np.log(ss / self.df)) if self.has_sigma else ss
        constant = self.df * LOG_2PI + self.coding_constant + 2 * self.moments.log_sd
        return marginal.log_det_levels + population + residual + constant

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Profiled deviance and its gradient at one theta, shape (k,)."""
        point = self.at(theta)
        log_det, ss = self.gradient_parts(point)
        # The derivative of df log(r2 / df) by r2: sigma^2 is r2 / df at its optimum.
        by_ss = self.df / point.marginal.penalized_ss[0] if self.has_sigma else 1.0
        return float(self._deviance(point.marginal)[0]), log_det + by_ss * ss

    def gradient_parts(self, point: Factorisation) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of the log determinants and of the penalised sum of squares, shapes (k,)."""
        log_det, squares = point.gradient(self.method == "REML")
        into = self.basis.T
        by_T = self.free.sum(into @ log_det), self.free.sum(into @ squares)
        if self.structure is None:
            return by_T
        by_phi = cast("HasResiduals", point).residual_gradient(self.method == "REML")
        return np.concatenate([by_T[0], by_phi[0]]), np.concatenate([by_T[1], by_phi[1]])
