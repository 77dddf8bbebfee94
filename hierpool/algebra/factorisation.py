"""Factorisation: a model at one relative covariance factor, sigma = 1 and a flat prior on beta.

It answers whatever is asked of one theta: what is left of the population once the levels are
eliminated, how the deviance changes with Lambda, the levels' coefficients, how sure each combination
of coefficients is, and solutions with the levels' block of the mixed model equations. Which kind a
design has is decided in ``algebra.choose`` alone.

With (v, beta) of covariance sigma^2 M^-1 (``algebra.gaussian``), M's block of levels F F' and R the
Cholesky factor of its Schur complement, a combination (t, x) of v and beta has

    t'M^-1 t = |h|^2 + |R^-1 (x - G'h)|^2        h = F^-1 t        G = F^-1 Lambda'C

which holds for a Lambda of any rank.

References
----------
Henderson (1975), Biometrics 31, 423-447.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import SuperLU, splu

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.gaussian import Marginal
from hierpool.core.design import Grouping

_BLOCK_FLOATS = 4_000_000  # in one block of columns


@dataclass(frozen=True)
class LevelsOf:
    """Coefficients of one factor's levels, covariances in units of sigma^2.

    Attributes
    ----------
    u
        Shape (J, q): conditional means.
    conditional
        Shape (J, q, q): Var(u | y, theta, beta).
    sensitivity
        Shape (J, q, p): W with E[u | y, theta, beta] = constant - W beta.
    """

    u: np.ndarray
    conditional: np.ndarray
    sensitivity: np.ndarray


class Factorisation(ABC):
    """A model at one relative covariance factor.

    Attributes
    ----------
    Lambda
        Shape (Q, Q).
    """

    Lambda: np.ndarray

    @property
    @abstractmethod
    def marginal(self) -> Marginal:
        """The population's part (K = 1)."""

    @abstractmethod
    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda of the log determinants and of the penalised sum of squares, (Q, Q).

        The sum of squares is that at ``beta`` (p,); None: at the conditional mean.
        """

    @abstractmethod
    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels of each factor."""

    @abstractmethod
    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response, in the user's units."""

    @abstractmethod
    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances of combinations in working coordinates, in units of sigma^2."""

    @property
    @abstractmethod
    def columns(self) -> sparse.csr_array:
        """Shape (n, coefficients of all levels): Z Lambda, factor by factor and level by level."""

    @cached_property
    def _solver(self) -> SuperLU:
        M = self.columns.T @ self.columns + sparse.eye_array(self.columns.shape[1])
        return splu(sparse.csc_array(M))

    def solve(self, right: np.ndarray) -> np.ndarray:
        """(Lambda'Z'Z Lambda + I)^-1 times (coefficients of all levels, m), ordered as ``columns``."""
        return np.asarray(self._solver.solve(right))

    def from_new_levels(self, rng: np.random.Generator, m: int) -> np.ndarray:
        """Shape (n, m): what new levels add to the rows, sigma 1."""
        return np.asarray(self.columns @ rng.standard_normal((self.columns.shape[1], m)))

    def leverage_of_levels(self) -> np.ndarray:
        """Shape (n,): t'(Lambda'Z'Z Lambda + I)^-1 t of each row t of ``columns``."""
        n, width = self.columns.shape
        out = np.zeros(n)
        for some in runs(n, width):
            rows = self.columns[some].toarray()
            out[some] = np.einsum("nm,mn->n", rows, self.solve(rows.T))
        return out

    def whitened_products(self, columns: np.ndarray, grouping: Grouping) -> np.ndarray:
        """Shape (J, q, q): Z_j'V^-1 Z_j for columns Z (n, q) of the rows of each level of a factor."""
        return by_whitening(self, columns, grouping)

    def whiten(self, columns: np.ndarray) -> np.ndarray:
        """V^-1 times columns (n, m), V the covariance of the rows in units of sigma^2."""
        # Woodbury's identity with T = Z Lambda: V^-1 = I - T (T'T + I)^-1 T', for a singular Lambda too.
        if not self.columns.shape[1]:
            return columns
        return np.asarray(columns - self.columns @ self.solve(self.columns.T @ columns))


def population_part(R: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Shape (m,): |R^-1 x|^2 for rows x (m, p)."""
    if not left.shape[1]:
        return np.zeros(len(left))
    return np.asarray(np.square(linalg.solve_triangular(R, left.T, lower=True)).sum(axis=0))


def by_whitening(at: Factorisation, columns: np.ndarray, grouping: Grouping) -> np.ndarray:
    """What ``whitened_products`` gives, of any factor: a block of levels at a time."""
    n, q = columns.shape
    J = grouping.n_levels
    spread = sparse.csc_array(in_places_of_levels(columns, grouping.codes, J))
    out = np.empty((J, q, q))
    for some in runs(J, 3 * n * q):
        dense = spread[:, some.start * q : some.stop * q].toarray()
        each = (dense.T @ at.whiten(dense)).reshape(-1, q, some.stop - some.start, q)
        out[some] = np.einsum("jajb->jab", each)
    return out


def runs(length: int, width: int) -> Iterator[slice]:
    """Slices of ``length`` things of ``width`` floats each that keep a block in bounds."""
    step = max(1, _BLOCK_FLOATS // max(width, 1))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def in_places_of_levels(columns: np.ndarray, codes: np.ndarray, n_levels: int) -> sparse.csr_array:
    """Shape (n, J q): columns (n, q) in the places of each row's level."""
    n, q = columns.shape
    at = codes[:, None] * q + np.arange(q)
    entries = (columns.reshape(-1), at.reshape(-1), np.arange(0, n * q + 1, q))
    return sparse.csr_array(entries, shape=(n, n_levels * q))
