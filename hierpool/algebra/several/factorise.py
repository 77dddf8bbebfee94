"""The algebra of models with several factors: eliminate level by level, then one dense block.

    M_uu = Lambda'Z'Z Lambda + I       C = Z'X       b = Z'y       u = Lambda v

with all factors' columns side by side: Lambda (K, Q, Q) is block diagonal over factors, in the
order in which they are given. What ``sums`` gives goes into ``gaussian.Marginal.from_sums``, which puts the
population coefficients on top. Rows are read once, for their cross-products.

Each theta is worked by one thread with BLAS on one thread: a block of a thousand columns gains
little from more, and the numbers do not depend on the cores.

References
----------
Bates, Maechler, Bolker, Walker (2015), J. Stat. Softw. 67(1), section 3.
Takahashi, Fagan, Chen (1973), PICA conference (entries of an inverse within a factor's pattern).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import lapack

from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.moments import Moments
from hierpool.algebra.several import kernels, solve_kernels
from hierpool.algebra.several.plan import ManyRows, Plan
from hierpool.algebra.triangular import solve_lower
from hierpool.core.threads import one_blas_thread, over_threads

_HEAVY = 20_000  # entries of M from which one theta keeps a thread busy


@dataclass(frozen=True)
class Factored:
    """M at one theta, factored; arrays as in ``hierpool.algebra.several.kernels``.

    Attributes
    ----------
    Lambda
        Shape (Q, Q).
    values, U
        The fronts' factors, and the upper Cholesky factor of the rest.
    log_det
        Of M_uu.
    explained
        Shape (p + 1, p + 1): what the levels explain of (X, y)'(X, y).
    whitened
        Shape (columns of M, p + 1): Lambda'Z'(X, y), solved forward; internal order.
    """

    fronts: Fronts
    Lambda: np.ndarray
    values: np.ndarray
    U: np.ndarray
    log_det: float
    explained: np.ndarray
    whitened: np.ndarray

    @property
    def sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What ``Fronts.sums`` gives, for this one Lambda (K = 1)."""
        T = self.explained[None]
        return np.array([self.log_det]), T[:, :-1, :-1], T[:, :-1, -1], T[:, -1, -1]

    @functools.cached_property
    def solved(self) -> np.ndarray:
        """Shape (columns of M, p + 1): M_uu^-1 Lambda'Z'(X, y), internal order."""
        out = self.whitened.copy()
        solve_kernels.solve_fronts(self.fronts.plan.structure, self.values, self.U, out)
        return out

    @functools.cached_property
    def rest(self) -> np.ndarray:
        """Shape (N, N): inverse of the rest's block once the chain is eliminated."""
        if not len(self.U):
            return np.zeros((0, 0))
        with one_blas_thread():
            inverse = np.ascontiguousarray(lapack.dpotri(self.U.T, lower=1, overwrite_c=0)[0].T)
        kernels.mirror(inverse)
        return inverse

    @functools.cached_property
    def selected(self) -> np.ndarray:
        """Blocks of M_uu^-1 in the places of the blocks of the fronts."""
        out = np.empty_like(self.values)
        kernels.select(self.fronts.plan.structure, self.values, self.rest, out)
        return out

    def v(self, beta: np.ndarray) -> np.ndarray:
        """Shape (columns of M,): conditional mean of v given beta (p,)."""
        return np.ascontiguousarray(self.solved[:, -1] - self.solved[:, :-1] @ beta)


@dataclass(frozen=True)
class Variances:
    """Covariances at one theta in units of sigma^2, coefficients u = Lambda v and beta.

    Attributes
    ----------
    conditional
        Per factor (J_f, q_f, q_f): Var(u | y, theta, beta), lme4's condVar.
    sensitivity
        Per factor (J_f, q_f, p): W with E[u | y, theta, beta] = constant - W beta.
    beta
        Shape (p, p): Var(beta | y, theta).
    """

    conditional: tuple[np.ndarray, ...]
    sensitivity: tuple[np.ndarray, ...]
    beta: np.ndarray

    def coefficients(self, factor: int, into_population: np.ndarray) -> np.ndarray:
        """Shape (J_f, q_f, q_f): Var(E beta + u); ``into_population`` E is (q_f, p)."""
        T = into_population - self.sensitivity[factor]
        return self.conditional[factor] + T @ self.beta @ np.swapaxes(T, -1, -2)


@dataclass(frozen=True)
class Gradient:
    """Derivatives with respect to Lambda at one theta, shapes (Q, Q), zero outside the factors.

    Attributes
    ----------
    log_det_levels
        Of log det M_uu.
    log_det_population
        Of the log determinant of the Schur complement of the population columns.
    squares
        Of the penalised residual sum of squares.
    """

    log_det_levels: np.ndarray
    log_det_population: np.ndarray
    squares: np.ndarray


@dataclass(frozen=True)
class Fronts:
    """Cross-products of a design with one factor or more, and what is made of them given Lambda.

    Attributes
    ----------
    rows
        The rows, in working coordinates.
    plan
        Order of elimination and cross-products.
    """

    rows: ManyRows
    plan: Plan

    @classmethod
    def from_rows(cls, rows: ManyRows) -> Fronts:
        """Plan the elimination of these rows' levels and take their cross-products."""
        return cls(rows, Plan.from_rows(rows))

    @property
    def moments(self) -> Moments:
        """Totals of the population columns and the response."""
        return self.rows.moments

    @property
    def n_coefficients(self) -> int:
        """Level coefficients of all factors together."""
        return int(self.plan.structure.first[-1])

    @property
    def n_rest(self) -> int:
        """Columns of the dense block."""
        return int(self.plan.structure.sizes[3])

    @property
    def population(self) -> np.ndarray:
        """Shape (columns of Z, p): Z'X in internal order."""
        return self._xy[:, :-1]

    @property
    def response(self) -> np.ndarray:
        """Shape (columns of Z,): Z'y in internal order."""
        return self._xy[:, -1]

    @functools.cached_property
    def _xy(self) -> np.ndarray:
        products, out = self.plan.products, np.empty((self.n_coefficients, self.rows.p + 1))
        solve_kernels.whitened_xy(self.plan.structure, products.fronts, products.xy, out)
        return out

    def sums(self, Lambda: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What the levels contribute at K values of Lambda (K, Q, Q).

        Returns log det M_uu (K,), C'Lambda M_uu^-1 Lambda'C (K, p, p), C'Lambda M_uu^-1 Lambda'b
        (K, p) and b'Lambda M_uu^-1 Lambda'b (K,). NaN where M_uu is not finite.
        """
        K, p = len(Lambda), self.rows.p
        if K == 1:
            return self.factored(Lambda[0]).sums
        log_det, T = np.empty(K), np.empty((K, p + 1, p + 1))
        self.over_thetas(kernels.sums, K, np.ascontiguousarray(Lambda), log_det, T)
        return log_det, T[:, :p, :p], T[:, :p, p], T[:, p, p]

    def marginal(self, sigma: np.ndarray, Lambda: np.ndarray, prior: BetaPrior) -> Marginal:
        """The population's part at K values of theta, levels eliminated."""
        return Marginal.from_sums(self.moments, prior, sigma, *self.sums(Lambda))

    def deviations(
        self, Lambda: np.ndarray, beta: np.ndarray, noise: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        """Level deviations u given beta (K, p): per factor (K, J_f, q_f).

        ``noise`` (K, sum of J_f q_f), factor by factor and level by level, is added in the whitened
        coordinates: sigma times standard normals turns conditional means into exact draws.
        """
        K = len(Lambda)
        noise = np.zeros((0, 0)) if noise is None else noise
        out = np.empty((K, self.n_coefficients))
        arrays = [np.ascontiguousarray(a, dtype=float) for a in (Lambda, beta, noise)]
        self.over_thetas(kernels.deviations, K, *arrays, out)
        return self.by_factor(out)

    def by_factor(self, flat: np.ndarray) -> tuple[np.ndarray, ...]:
        """Coefficients (..., sum of J_f q_f) factor by factor: (..., J_f, q_f)."""
        parts, done = [], 0
        for J, q in zip(self.rows.n_levels, self.rows.q, strict=True):
            parts.append(flat[..., done : done + J * q].reshape(*flat.shape[:-1], J, q))
            done += J * q
        return tuple(parts)

    def factored(self, Lambda: np.ndarray) -> Factored:
        """M at one Lambda (Q, Q), factored."""
        s, p, N = self.plan.structure, self.rows.p, self.n_rest
        Lambda = np.ascontiguousarray(Lambda, dtype=float)
        values, U, W = np.empty(s.offset[-1]), np.empty((N, N)), np.empty((p + 1, N))
        whitened, T = np.empty((self.n_coefficients, p + 1)), np.empty((p + 1, p + 1))
        half = kernels.reduce(s, self.plan.products, Lambda, values, U, W, T)
        _factor_in_place(U)
        half += kernels.whiten_rest(U, W, T)
        solve_kernels.whitened_xy(s, values, W, whitened)
        return Factored(self, Lambda, values, U, 2 * half, T, whitened)

    def variances(self, at: Factored, R: np.ndarray) -> Variances:
        """Covariances of the coefficients; R (p, p) is the Cholesky factor of the Schur complement."""
        s, q, J = self.plan.structure, self.rows.q, self.rows.n_levels
        flat = np.empty(sum(j * k * k for j, k in zip(J, q, strict=True)))
        kernels.diagonal_blocks(s, at.Lambda, at.selected, at.rest, flat)
        conditional: dict[int, np.ndarray] = {}
        sensitivity: dict[int, np.ndarray] = {}
        done = 0
        for position, f in enumerate(self.plan.order):
            size = J[f] * q[f] ** 2
            conditional[f] = flat[done : done + size].reshape(J[f], q[f], q[f])
            done += size
            own = at.solved[s.first[position] : s.first[position + 1], :-1]
            block = at.Lambda[self._columns(f), self._columns(f)]
            sensitivity[f] = block @ own.reshape(J[f], q[f], -1)
        ordered = range(len(q))
        half = solve_lower(R, np.eye(len(R)))
        return Variances(
            tuple(conditional[f] for f in ordered),
            tuple(sensitivity[f] for f in ordered),
            half.T @ half,
        )

    def gradient(self, at: Factored, R: np.ndarray, beta: np.ndarray) -> Gradient:
        """Derivatives at one Lambda, beta (p,) at its conditional mean; R as in ``variances``."""
        s, products, p, Q = self.plan.structure, self.plan.products, self.rows.p, len(at.Lambda)
        levels, population, squares = np.zeros((Q, Q)), np.zeros((Q, Q)), np.zeros((Q, Q))
        kernels.trace_parts(s, products, at.Lambda, at.selected, at.rest, levels)
        v = at.solved.copy()
        v[:, p] = at.v(beta)
        moved, score = self._internal(at.Lambda, v), np.empty_like(v)
        solve_kernels.times(s, products, moved, score)
        # Z'(X - Z u_X) with u_X the levels' answer to X: what beta changes in the levels' scores.
        left = self.population - score[:, :p]
        residual = self.response - self.population @ beta - score[:, p]
        through = at.solved[:, :p] @ _inverse(R)
        for position, f in enumerate(self.plan.order):
            here = slice(s.first[position], s.first[position + 1])
            J, q = self.rows.n_levels[f], self.rows.q[f]
            block = (self._columns(f), self._columns(f))
            by_level = left[here].reshape(J, q, p), through[here].reshape(J, q, p)
            population[block] = -2 * np.einsum("jap,jbp->ab", *by_level)
            squares[block] = -2 * residual[here].reshape(J, q).T @ v[here, p].reshape(J, q)
        return Gradient(2 * levels, population, squares)

    def over_thetas(self, kernel: Callable[..., None], K: int, *arrays: Any) -> None:
        """Call a kernel on slices of K values of theta, one slice a core."""
        entries = int(self.plan.structure.offset[-1]) + self.n_rest**2
        alone = 1 if entries > _HEAVY else 64
        with one_blas_thread():
            over_threads(kernel, K, self.plan.structure, self.plan.products, *arrays, alone=alone)

    def _columns(self, f: int) -> slice:
        """Columns of Lambda that belong to factor f."""
        start = sum(self.rows.q[:f])
        return slice(start, start + self.rows.q[f])

    def _internal(self, Lambda: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Lambda v for v (columns of M, m) in internal order."""
        s, out = self.plan.structure, np.empty_like(v)
        for position, f in enumerate(self.plan.order):
            here, q = slice(s.first[position], s.first[position + 1]), self.rows.q[f]
            block = Lambda[self._columns(f), self._columns(f)]
            out[here] = (block @ v[here].reshape(-1, q, v.shape[1])).reshape(-1, v.shape[1])
        return out


def _factor_in_place(U: np.ndarray) -> None:
    """U (N, N) becomes its upper Cholesky factor, NaN where it is not positive definite."""
    if len(U) <= kernels.BY_HAND:
        kernels.factor_by_hand(U)
        return
    with one_blas_thread():
        _, info = lapack.dpotrf(U.T, lower=1, clean=0, overwrite_a=1)
    if info:
        U[:] = np.nan


def _inverse(R: np.ndarray) -> np.ndarray:
    """(R R')^-1."""
    half = solve_lower(R, np.eye(len(R)))
    return np.asarray(half.T @ half)
