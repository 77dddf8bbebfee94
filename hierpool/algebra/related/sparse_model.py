"""Designs with related levels by sparse mixed model equations, their coefficients integrated out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.left_out_rows import LeftOutRows
from hierpool.algebra.marginal_model import LevelsOnRequest, LevelSums
from hierpool.algebra.moments import Coordinates, Moments
from hierpool.algebra.related.equations import Equations
from hierpool.algebra.related.fitted_sums import fitted_sums
from hierpool.algebra.related.interpolated import Interpolated
from hierpool.algebra.related.model import log_density_of_sets
from hierpool.algebra.related.sparse_factorisation import SparseFactorisation
from hierpool.algebra.several.plan import ManyRows
from hierpool.algebra.triangular import solve_lower
from hierpool.core.design import Design, Grouping
from hierpool.core.theta import WorkingTheta

_AT_ONCE = 128  # draws solved with one factorisation
_ALIKE = 1.15  # ratio of squared relative sds of such draws
_EXACT = 1e-11  # largest residual of a refined solution, relative to its right-hand side
_REFINEMENTS = 60
_RUN_NUMBERS = 30_000_000  # draws times columns that are held at once
_OVERHEAD = 2_000_000  # of one evaluation, as operations
_PER_FLOP = 4  # of one evaluation and the entries of its inverse, beside those of the factorisation


@dataclass(frozen=True, eq=False)
class SparseLevels(LevelsOnRequest, LeftOutRows):
    """A design some of whose factors have levels related by a sparse precision.

    Attributes
    ----------
    design, coordinates, prior
        As in ``MarginalModel``.
    equations
        The columns of all factors.
    """

    design: Design
    coordinates: Coordinates
    prior: BetaPrior
    equations: Equations
    draws_are_dear = True

    @classmethod
    def from_design(
        cls, design: Design, coordinates: Coordinates, prior: BetaPrior
    ) -> SparseLevels:
        """Integrate the coefficients of a design out under this prior of beta."""
        rows = ManyRows.from_design(design, coordinates)
        return cls(design, coordinates, prior, Equations.from_design(design, rows))

    @property
    def scaled_rows(self) -> ManyRows:
        """The rows in working coordinates."""
        return self.equations.rows

    @cached_property
    def totals(self) -> Moments:
        """Counts of the rows; their cross-products stand in ``level_sums``."""
        return self.equations.rows.counts_alone

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""
        return _OVERHEAD + _PER_FLOP * self.equations.pattern.flops

    @property
    def flops_per_density(self) -> int:
        """Of the log density alone: interpolated where there is one relative sd."""
        return NODES_OF_ONE if self.is_single else self.flops_per_theta

    @property
    def is_single(self) -> bool:
        """Whether Lambda is one number."""
        return [f.size for f in self.equations.factors] == [1]

    def at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> SparseFactorisation:
        """The model at one relative factor."""
        columns = tuple(self.design.group_columns)
        return SparseFactorisation(self.equations, self.totals, columns, Lambda)

    def population_at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> Marginal:
        """The population's part at K relative factors."""
        flat = replace(self, prior=BetaPrior.flat(self.equations.p))
        # What is interpolated is the same; REML asks for few values, and exact ones.
        return flat.marginal(WorkingTheta(np.ones(len(Lambda)), Lambda), self._exact_sums(Lambda))

    @cached_property
    def _of_one_sd(self) -> Interpolated:
        return Interpolated(lambda sd: self._sums_of(np.array([[sd]])))

    def _sums_of(self, Lambda: np.ndarray) -> np.ndarray:
        """Shape (1 + (p + 1)^2,): log determinant and products."""
        at = self.at(Lambda)
        return np.append(at.log_det, at.products)

    def _exact(self, Lambda: np.ndarray) -> np.ndarray:
        return np.stack([self._sums_of(L) for L in Lambda])

    def _exact_sums(self, Lambda: np.ndarray) -> LevelSums:
        return self._as_sums(self._exact(Lambda))

    def _sums_of_draws(self, theta: WorkingTheta) -> LevelSums:
        """As ``level_sums``, of draws of theta: fitted to some of them where that is close."""
        found = None if self.is_single else fitted_sums(theta.Lambda, self._exact)
        return self.level_sums(theta) if found is None else self._as_sums(found)

    def _as_sums(self, values: np.ndarray) -> LevelSums:
        p = self.equations.p
        left = -values[:, 1:].reshape(-1, p + 1, p + 1)
        return LevelSums.from_products(values[:, 0], left)

    def level_sums(self, theta: WorkingTheta) -> LevelSums:
        """What the levels contribute at K values of theta."""
        if self.is_single:
            return self._as_sums(self._of_one_sd(theta.Lambda[:, 0, 0]))
        return self._exact_sums(theta.Lambda)

    def draw(
        self,
        theta: WorkingTheta,
        seed: int,
        sums: LevelSums | None = None,
        with_sums: bool = True,
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta, in the user's coding."""
        beta = self.draw_beta(theta, seed, sums)
        u = self._levels(theta, beta, np.random.default_rng([seed, 1]))
        return self._with_population(self.coordinates.beta_to_user(beta), u, with_sums)

    def mean_coefficients(self, theta: WorkingTheta) -> dict[str, np.ndarray]:
        """Conditional means of all coefficients at K values of theta; keys as for the draws."""
        beta = self.marginal(theta).beta
        u = self._levels(theta, beta, None)
        return self._with_population(self.coordinates.beta_to_user(beta), u, True)

    def draw_beta(
        self, theta: WorkingTheta, seed: int, sums: LevelSums | None = None
    ) -> np.ndarray:
        """Shape (K, p): the beta of ``draw``, in working coordinates."""
        own = self._sums_of_draws(theta) if sums is None else sums
        return self.marginal(theta, own).draw_beta(np.random.default_rng(seed))

    def level_runs(self) -> Iterator[slice]:
        """All levels at once: they are drawn together."""
        yield slice(0, max(g.grouping.n_levels for g in self.design.groups))

    def draw_levels(
        self, theta: WorkingTheta, beta: np.ndarray, levels: slice, seed: int
    ) -> dict[str, np.ndarray]:
        """Coefficients of some levels given theta and ``beta``; keys as for ``draw``."""
        u = self._levels(theta, beta, np.random.default_rng([seed, 1]))
        user = self.coordinates.beta_to_user(beta)
        drawn = self._with_population(user, u, True)
        return {k: v if k == "beta" else v[:, levels] for k, v in drawn.items()}

    def _levels(
        self, theta: WorkingTheta, beta: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, ...]:
        """Deviations (K, J, q) of the levels of each factor, in the user's coding."""
        factors = self.equations.factors
        out = [np.empty((len(theta), len(f.places), f.size)) for f in factors]
        for which, drawn in self.coefficients(theta, beta, rng):
            for own, factor, each in zip(out, factors, drawn, strict=True):
                own[which] = each[:, factor.places]
        return tuple(out)

    def coefficients(
        self, theta: WorkingTheta, beta: np.ndarray, rng: np.random.Generator | None
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        """Coefficients of all labels, those without rows too, some values of theta at a time.

        Positions of the values of theta, and for each factor draws (K, N, q) given theta and beta
        (K, p), or means where there is no generator; in the user's coding.
        """
        own = self.equations
        ratio = np.array([own.rows.n, own.size])
        for which in self._alike(theta):
            noise = None
            if rng is not None:
                noise = tuple(rng.standard_normal((n, len(which))) for n in ratio)
            v = self._solutions(theta[which], beta[which], noise)
            parts = []
            for factor, at, z in zip(
                own.factors, self.design.group_columns, self.coordinates.zs, strict=True
            ):
                each = v[factor.columns].reshape(factor.n_labels, factor.size, -1)
                L = z.from_working @ theta.Lambda[which][:, at, at]
                parts.append(np.einsum("kab,jbk->kja", L, each, optimize=True))
            yield which, tuple(parts)

    def _alike(self, theta: WorkingTheta) -> Iterator[np.ndarray]:
        """Values of theta in sets that one factorisation serves."""
        if not self.is_single:
            yield from (np.array([k]) for k in range(len(theta)))
            return
        size = np.square(theta.Lambda[:, 0, 0])
        order, start = np.argsort(size, kind="stable"), 0
        while start < len(order):
            alike = np.searchsorted(size[order], _ALIKE * size[order[start]], side="right")
            stop = min(max(int(alike), start + 1), start + _AT_ONCE)
            yield order[start:stop]
            start = stop

    def _solutions(
        self,
        theta: WorkingTheta,
        beta: np.ndarray,
        noise: tuple[np.ndarray, ...] | None,
    ) -> np.ndarray:
        """Shape (columns, K): v given theta and beta, or draws of it.

        A draw solves the equations of a response drawn anew: M v = Lambda'Z'(y - X beta + e) + k with
        e ~ N(0, sigma^2) and k ~ N(0, sigma^2 K). Values of theta that are alike share one
        factorisation, and their solutions are refined until they are exact.
        """
        own = self.equations
        right = own.ZXy[:, -1:] - own.ZXy[:, :-1] @ beta.T
        if noise is not None:
            right = right + theta.sigma * np.asarray(own.Z.T @ noise[0])
        if not self.is_single:
            blocks = self.at(theta.Lambda[0]).blocks
            right = own.times(blocks, right, transposed=True)
        else:
            right = right * theta.Lambda[:, 0, 0]
        if noise is not None:
            right = right + theta.sigma * own.prior.times_root(noise[1])
        if len(theta) == 1:
            return self.at(theta.Lambda[0]).factor.solve(right)
        return self._refined(np.square(theta.Lambda[:, 0, 0]), right)

    def _refined(self, size: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Solutions (columns, K) of (size_k Z'Z + K) v_k = right_k for sizes that are alike."""
        own = self.equations
        middle = np.sqrt((size.min() + size.max()) / 2)
        factor = self.at(np.array([[middle]])).factor
        found = factor.solve(right)
        for _ in range(_REFINEMENTS):
            seen = np.asarray(own.Z.T @ (own.Z @ found))
            left = right - seen * size - own.K @ found
            if np.abs(left).max() <= _EXACT * np.abs(right).max():
                break
            found = found + factor.solve(left)
        return found

    def conditional_variances(
        self, theta: WorkingTheta
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Var(u | y, beta, theta) of the levels, in the user's coding."""
        found: list[list[np.ndarray]] = [[] for _ in self.design.groups]
        for sigma, Lambda in zip(theta.sigma, theta.Lambda, strict=True):
            levels = self.at(Lambda).levels()
            for own, level, z in zip(found, levels, self.coordinates.zs, strict=True):
                user = z.from_working @ level.conditional @ z.from_working.T
                own.append(sigma**2 * np.einsum("jaa->ja", user))
        return tuple((np.stack(own), np.arange(own[0].shape[0])) for own in found)

    def _score(
        self, at: SparseFactorisation, marginal: Marginal, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """V^-1 (y - X beta), and the columns (n, p) that beta takes off V^-1."""
        e = at.e
        return e[:, -1] - e[:, :-1] @ marginal.beta[k], solve_lower(marginal.R[k], e[:, :-1].T).T

    def _left_out(self, theta: WorkingTheta, marginal: Marginal) -> tuple[np.ndarray, np.ndarray]:
        """y_i less its mean given y_-i, and the variance of that in units of sigma^2, (K, n) each."""
        off, variance = np.empty((2, len(theta), self.equations.rows.n))
        for k, Lambda in enumerate(theta.Lambda):
            at = self.at(Lambda)
            score, taken = self._score(at, marginal, k)
            left = 1 - at.leverage_of_levels() - np.square(taken).sum(axis=1)
            variance[k] = 1 / left
            off[k] = score * variance[k]
        return off, variance

    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta)."""
        J, order = grouping.n_levels, np.argsort(grouping.codes, kind="stable")
        counts = np.bincount(grouping.codes, minlength=J)
        of_level = np.split(order, np.cumsum(counts)[:-1])
        shared = self._shared(grouping)
        out, marginal = np.zeros((J, len(theta))), self.marginal(theta)
        for k, Lambda in enumerate(theta.Lambda):
            at = self.at(Lambda)
            score, taken = self._score(at, marginal, k)
            for size in np.unique(counts[counts > 0]):
                levels = np.flatnonzero(counts == size)
                rows = np.stack([of_level[j] for j in levels])
                blocks = at.inverse_blocks(rows, shared[levels])
                blocks = blocks - taken[rows] @ np.swapaxes(taken[rows], 1, 2)
                out[levels, k] = log_density_of_sets(score[rows], blocks, theta.sigma[k])
        return out - np.bincount(grouping.codes, self.scaled_rows.log_sd, J)[:, None]

    def _shared(self, grouping: Grouping) -> np.ndarray:
        """Shape (J,): whether the rows of a level lie in one level of every factor."""
        out = np.ones(grouping.n_levels, dtype=bool)
        for codes in self.equations.rows.codes:
            lowest = np.full(grouping.n_levels, np.iinfo(np.int64).max)
            highest = np.full(grouping.n_levels, -1)
            np.minimum.at(lowest, grouping.codes, codes)
            np.maximum.at(highest, grouping.codes, codes)
            out &= lowest >= highest
        return out

    def without(self, left_out: np.ndarray) -> SparseLevels:
        """The same model less some rows (positions), with coordinates and priors as they are."""
        kept = np.setdiff1d(np.arange(self.equations.rows.n), left_out)
        return replace(self, equations=self.equations.take(kept))


NODES_OF_ONE = 1000  # operations of an interpolated evaluation, about
