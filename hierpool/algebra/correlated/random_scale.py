"""A design whose groups differ in their residual sd at random: location-scale models.

Given beta and theta levels are independent, and the scale of each is integrated by quadrature. Given
the scales the rows are those of ``CorrelatedResiduals``, from which coefficients are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hierpool.algebra.correlated.model import CorrelatedResiduals
from hierpool.algebra.gaussian import Marginal
from hierpool.algebra.marginal_model import LevelSums
from hierpool.algebra.triangular import solve_lower
from hierpool.core.design import Grouping
from hierpool.core.theta import ResidualTheta, ScaleTheta, WorkingTheta
from hierpool.core.threads import over_threads

_NODES = 30  # of a level, roughly


@dataclass(frozen=True)
class RandomScaleResiduals(CorrelatedResiduals):
    """One factor or none, and a residual sd of each level.

    Values of theta with a beta, ``ScaleTheta``, get densities given that beta with the scales
    integrated; coefficients are drawn given the scales, which theta then has in phi.
    """

    @cached_property
    def _sorted(self) -> np.ndarray:
        """Shape (n,): the rows by level."""
        return np.argsort(self._codes, kind="stable")

    @cached_property
    def _codes(self) -> np.ndarray:
        """Shape (n,): level of each row."""
        s = self.correlated.structure
        assert s.scale is not None
        return s.scale.level_of[s.classes]

    @property
    def _n_scales(self) -> int:
        scale = self.correlated.structure.scale
        assert scale is not None
        return len(scale.labels)

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""
        per_row = (self.q + 1) ** 2 + self.p
        return len(self._codes) * per_row + 20 * _NODES * (self.q + 1) * self._n_scales

    def _for_kernels(self, theta: ScaleTheta) -> tuple[Any, ...]:
        """What the compiled loops take first: rows by level, and K values of theta."""
        rows, s, order = self.scaled_rows, self.correlated.structure, self._sorted
        assert s.scale is not None
        counts = np.bincount(self._codes, minlength=self._n_scales)
        made = np.ascontiguousarray
        return (
            *(made(rows.y[order]), made(rows.X[order]), made(rows.Z[order])),
            np.append(0, np.cumsum(counts)).astype(np.int64),
            made(s.scale.spread_of[s.classes[order]], dtype=np.int64),
            made(theta.phi[:, : s.n_spread] @ s.basis.T),
            *(made(theta.beta), made(theta.sigma), made(theta.Lambda)),
            made(theta.phi[:, s.n_spread]),
        )

    def _levels(self, theta: ScaleTheta) -> np.ndarray:
        """Shape (K, J): log p(rows of a level | beta, theta), its scale integrated."""
        from hierpool.algebra.correlated import scale_kernels

        out = np.empty((len(theta), self._n_scales))
        over_threads(scale_kernels.levels, len(theta), *self._for_kernels(theta), out)
        return out - np.bincount(self._codes, self.scaled_rows.log_sd, self._n_scales)

    def log_density(self, theta: WorkingTheta, sums: LevelSums | None = None) -> np.ndarray:
        """Shape (K,): log p(y | beta, theta) with the scales integrated, where theta has a beta."""
        if not isinstance(theta, ScaleTheta):
            return super().log_density(theta, sums)
        return np.asarray(self._levels(theta).sum(axis=1))

    def draw_scales(self, theta: ScaleTheta, rng: np.random.Generator) -> np.ndarray:
        """Shape (K, J): one draw of s of each level given the rows, beta and theta."""
        return self.scales_at(theta, rng.uniform(size=(len(theta), self._n_scales)))

    def scales_at(self, theta: ScaleTheta, shares: np.ndarray) -> np.ndarray:
        """Shape (K, J): quantiles of s of each level given the rows, beta and theta."""
        from hierpool.algebra.correlated import scale_kernels

        s = np.array(np.broadcast_to(shares, (len(theta), self._n_scales)))
        over_threads(scale_kernels.draws, len(theta), *self._for_kernels(theta), s)
        return s

    def level_moments(
        self, theta: ResidualTheta, beta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """E(u | y, beta, theta) and Var of the levels, scales given: (K, J, q), (K, J, q, q)."""
        z = self.coordinates.z
        assert z is not None
        u = self._coefficients(theta, beta, None, False)[self.design.groups[0].level_variable]
        variance = np.empty((*u.shape, self.q))
        for at, e in self._runs(theta):
            into = np.swapaxes(z.from_working @ theta.Lambda[at], -1, -2)
            half = solve_lower(e.L, np.broadcast_to(into[:, None], e.L.shape))
            found = np.swapaxes(half, -1, -2) @ half * theta.sigma[at, None, None, None] ** 2
            variance[np.arange(len(u))[at][:, None], self.correlated.levels] = found
        return u, variance

    def densities_by_row(
        self, theta: WorkingTheta, rows: np.ndarray, marginal: Marginal
    ) -> np.ndarray:
        """Shape (rows, K): log p(y_i | y_-i, beta, theta) with the scales integrated."""
        from hierpool.algebra.correlated import scale_kernels

        assert isinstance(theta, ScaleTheta)
        place = np.empty(len(self._sorted), dtype=np.int64)
        place[self._sorted] = np.arange(len(place))
        order = np.argsort(place[rows], kind="stable")
        sorted_rows = np.ascontiguousarray(place[rows][order])
        found = np.empty((len(theta), len(order)))
        own = self._for_kernels(theta)
        over_threads(scale_kernels.rows_left_out, len(theta), *own, sorted_rows, found)
        out = np.empty_like(found)
        out[:, order] = found
        return self.scaled_rows.to_response_density(out, rows).T

    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows, beta and theta)."""
        assert isinstance(theta, ScaleTheta)
        whole, codes = self._levels(theta), self._codes
        out = np.zeros((grouping.n_levels, len(theta)))
        for level in range(grouping.n_levels):
            rows = np.flatnonzero(grouping.codes == level)
            touched = np.unique(codes[rows])
            out[level] = whole[:, touched].sum(axis=1)
            counts = np.bincount(codes[rows], minlength=self._n_scales)
            if (counts[touched] < np.bincount(codes)[touched]).any():
                out[level] -= (
                    self._of_rows(np.isin(codes, touched), rows)._levels(theta).sum(axis=1)
                )
        return out

    def _of_rows(self, of_levels: np.ndarray, less: np.ndarray) -> RandomScaleResiduals:
        """The model of the rows of some levels, less some of them."""
        kept = of_levels.copy()
        kept[less] = False
        return self.without(np.flatnonzero(~kept))

    def without(self, left_out: np.ndarray) -> RandomScaleResiduals:
        """The same model less some rows (positions), with coordinates and priors as they are."""
        return replace(self, correlated=super().without(left_out).correlated)
