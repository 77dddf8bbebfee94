"""The joint system of other factors where blocks reach few of their columns: sparse, eliminated so.

Two columns meet in S_vv where a block reaches both. The order of elimination is planned once; nested
factors fill in nothing, so that the work grows with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from hierpool.algebra.correlated.joint_system import JointSystem, OfBlocks
from hierpool.algebra.correlated.near import NearColumns
from hierpool.algebra.correlated.places import Places
from hierpool.algebra.factorisation import population_part
from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.marginal_model import LevelSums
from hierpool.algebra.moments import Moments
from hierpool.algebra.related.sparse_factor import SparsePattern
from hierpool.core.theta import ResidualTheta

_SPARSE = 0.2  # share of the pairs of columns that are filled at most
_SMALL = 60  # columns up to which a full matrix is as good


@dataclass(frozen=True, eq=False)
class SparsePlan:
    """Which columns of other factors meet, and in which order they are eliminated.

    Attributes
    ----------
    near
        Which columns blocks reach.
    pattern
        Of S_vv.
    """

    near: NearColumns
    pattern: SparsePattern

    @classmethod
    def of(cls, near: NearColumns) -> SparsePlan | None:
        """None where most columns meet; those of related levels all do."""
        d = near.d
        if near.is_all or d <= _SMALL or near.every.is_related:
            return None
        which = np.unique(near.of_levels, axis=0)
        pairs = _pairs(which, near.size)
        for (J, q), at in zip(near.every.sizes, near.every.places, strict=True):
            pairs.append(_pairs(at.start + np.arange(J * q).reshape(J, q), near.size)[0])
        rows, columns = np.unique(np.concatenate(pairs), axis=0).T
        if len(rows) > _SPARSE * d**2:
            return None
        values = np.where(rows == columns, float(d), 0.5)
        upper = sparse.csc_array((values, (rows, columns)), shape=(d, d))
        upper.sort_indices()
        pattern = SparsePattern(upper)
        return cls(near, pattern) if len(pattern.indices) <= _SPARSE * d**2 else None

    @property
    def n_entries(self) -> int:
        """Numbers of L, its diagonal, and one more."""
        return len(self.pattern.indices) + self.pattern.size + 1

    @property
    def flops(self) -> int:
        """Operations of an elimination, about."""
        return self.pattern.flops

    def entries_of(self, which: np.ndarray) -> np.ndarray:
        """Shape (B, m, m): places of the pairs of columns (B, m), see ``Places``."""
        is_none = which >= self.near.d
        own = np.where(is_none, 0, which)
        found = self.pattern.entries(own[:, :, None], own[:, None, :])
        found[is_none[:, :, None] | is_none[:, None, :]] = self.n_entries - 1
        return np.ascontiguousarray(found, dtype=np.int64)

    @cached_property
    def places(self) -> Places:
        """For the designs."""
        own, near = self.pattern, self.near
        L = sparse.csc_array(
            (np.arange(len(own.indices)), own.indices, own.start), shape=(own.size, own.size)
        )
        rows = L.tocsr()
        rows.sort_indices()
        which = near.of_levels[near.correlated.designs.first]
        padded = np.append(own.place, own.size)
        column = padded[np.where(which >= near.d, own.size, which)]
        scale = [
            (at.start + c * q, near.others.group_columns[k].start, q)
            for k, (J, q), at in zip(
                near.others.which, near.others.sizes, near.others.places, strict=True
            )
            for c in range(J)
            for _ in range(q)
        ]
        arrays = (
            *(own.start, own.indices, rows.indptr, rows.indices, rows.data),
            *(column, self.entries_of(which), np.array(scale).reshape(-1, 3)),
        )
        return Places(*(np.ascontiguousarray(a, dtype=np.int64) for a in arrays))

    @cached_property
    def of_blocks(self) -> np.ndarray:
        """Shape (blocks, m, m): ``entries_of`` all blocks."""
        return self.entries_of(self.near.of_levels)

    def sums(self, theta: ResidualTheta, kept: bool = False) -> tuple[LevelSums, Any, Any]:
        """Sums of X alone at K values of theta; if ``kept``, the eliminated system beside them.

        Entries of L, its diagonal, and D^-1/2 L^-1 [S_vx, s_v], shapes (K, n_entries) and
        (K, d + 1, p + 1).
        """
        from hierpool.algebra.correlated import beside_kernels

        near = self.near
        designs = near.correlated.designs
        blocks, counts = designs.blocks, designs.counts
        K, p, made = len(theta), near.p, np.ascontiguousarray
        white, log_sd = blocks.at(blocks.whitening.tables(theta.phi))
        held = K if kept else 1
        L, half = np.empty((held, self.n_entries)), np.empty((held, near.d + 1, p + 1))
        out = np.empty(K), np.empty((K, p, p)), np.empty((K, p)), np.empty(K)
        main = near.every.main_columns
        beside_kernels.sums(
            white.reshape(K, -1, white.shape[-1]),
            blocks.size,
            self.places,
            made(theta.Lambda),
            np.array([main.start, main.stop - main.start]),
            made(counts),
            log_sd,
            *out,
            L,
            half,
        )
        log_det, GG, Gg, squared = out
        return LevelSums(log_det, np.moveaxis(GG, 0, -1), Gg.T, squared), L, half


def _pairs(which: np.ndarray, size: int) -> list[np.ndarray]:
    """Pairs (row, column), row <= column, of columns that stand together in a row of ``which``."""
    a, b = np.triu_indices(which.shape[1])
    first, second = which[:, a].ravel(), which[:, b].ravel()
    kept = (first < size) & (second < size)
    both = np.column_stack([first[kept], second[kept]])
    return [np.unique(np.sort(both, axis=1), axis=0)]


@dataclass(frozen=True, eq=False)
class SparseSystem(JointSystem):
    """S_vv eliminated column by column.

    Attributes
    ----------
    near, population
        As in ``JointSystem``.
    plan
        Order of elimination.
    L, half
        As ``SparsePlan.sums`` keeps them.
    """

    near: NearColumns
    population: Marginal
    plan: SparsePlan
    L: np.ndarray
    half: np.ndarray

    @classmethod
    def at(
        cls, plan: SparsePlan, theta: ResidualTheta, totals: Moments, prior: BetaPrior
    ) -> SparseSystem:
        """At K values of theta."""
        s, L, half = plan.sums(theta, kept=True)
        parts = s.log_det, np.moveaxis(s.GG, -1, 0), s.Gg.T, s.squared
        population = Marginal.from_sums(totals, prior, theta.sigma, *parts)
        return cls(plan.near, population, plan, L, half[:, :-1])

    @cached_property
    def _diagonal(self) -> np.ndarray:
        """Shape (K, d): square roots of the diagonal."""
        n = len(self.plan.pattern.indices)
        return np.sqrt(self.L[:, n:-1])

    def _solve(self, right: np.ndarray, k: int, transposed: bool) -> None:
        from hierpool.algebra.related import sparse_kernels

        own = self.plan.pattern
        values = self.L[k, : len(own.indices)]
        sparse_kernels.solve_unit(own.start, own.indices, values, right, transposed)

    def _back(self, right: np.ndarray) -> np.ndarray:
        """Shape (K, d, m): L^-T D^-1/2 times right, in the order of the columns."""
        moved = np.ascontiguousarray(right / self._diagonal[..., None])
        for k, own in enumerate(moved):
            self._solve(own, k, True)
        return moved[:, self.plan.pattern.place]

    @cached_property
    def falls(self) -> np.ndarray:
        """Shape (K, d, p)."""
        return self._back(self.half[..., :-1])

    def given(self, beta: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Shape (K, d + p)."""
        left = self.half[..., -1:] - self.half[..., :-1] @ beta[..., None]
        if noise is not None:
            left = left + noise[..., None]
        return np.concatenate([self._back(left)[..., 0], beta], axis=1)

    @cached_property
    def _inverse(self) -> np.ndarray:
        """Shape (K, n_entries): S_vv^-1 in the places of L and its diagonal."""
        from hierpool.algebra.related import sparse_kernels

        own, out = self.plan.pattern, np.zeros(self.L.shape)
        n = len(own.indices)
        for k, L in enumerate(self.L):
            sparse_kernels.inverse_on_pattern(own.start, own.indices, L[:n], L[n:-1], out[k, :-1])
        return out

    def of_blocks(self, some: np.ndarray | slice = slice(None)) -> OfBlocks:
        """What all blocks, or some, take."""
        near, F = self.near, self.falls
        which = near.of_levels[some]
        own = self._inverse[:, self.plan.of_blocks[some]]
        none = np.nonzero(which == near.size)
        own[:, none[0], none[1], none[1]] = 1.0
        padded = np.concatenate([F, np.zeros((len(F), 1, near.p))], axis=1)
        return OfBlocks(own, padded[:, np.where(which == near.size, near.d, which)])

    def of_levels(self) -> list[np.ndarray]:
        """For each of the others (K, J, q, q)."""
        own = self.near.every
        return [
            self._inverse[:, self.plan.entries_of(at.start + np.arange(J * q).reshape(J, q))]
            for (J, q), at in zip(own.sizes, own.places, strict=True)
        ]

    def quadratic(self, x: np.ndarray) -> np.ndarray:
        """Shape (m,)."""
        d = self.near.d
        z = np.ascontiguousarray(x[:, :d].T[self.plan.pattern.order])
        self._solve(z, 0, False)
        z /= self._diagonal[0][:, None]
        left = x[:, d:] - z.T @ self.half[0, :, :-1]
        return np.asarray(np.square(z).sum(axis=0) + population_part(self.population.R[0], left))
