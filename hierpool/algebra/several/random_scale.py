"""Random effects of several factors, and residual sds that differ at random between groups of one.

Groups share coefficients of other factors, so no scale can be integrated without all others: the
scales s are among theta, and drawn by NUTS. Given theta and s rows are independent with known
relative sds. What leaves rows out integrates the scale of their own group, given those of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg

from hierpool.algebra.gaussian import Marginal
from hierpool.algebra.several import solve_kernels
from hierpool.algebra.several.by_class import SeveralFactorsByClass
from hierpool.algebra.several.own_scale import OwnScale
from hierpool.core.design import Grouping
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.group_nouns import nouns
from hierpool.core.theta import ResidualTheta, WorkingTheta

_NUMBERS = 4_000_000  # of blocks of groups at once


@dataclass(frozen=True)
class SampledScales(SeveralFactorsByClass):
    """Several factors, or one, and a residual sd of each group of one that may be another.

    Values of theta have the deviation of each group in phi.
    """

    @property
    def _codes(self) -> np.ndarray:
        """Shape (n,): group of each row whose residual sd it has."""
        s = self.structure
        assert s.scale is not None
        return s.scale.level_of[s.classes]

    @property
    def _n_scales(self) -> int:
        scale = self.structure.scale
        assert scale is not None
        return len(scale.labels)

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation, groups left out included."""
        columns = sum(J * q for J, q in zip(self.rows.n_levels, self.rows.q, strict=True))
        sizes = np.bincount(self._codes)
        of_blocks = int((sizes**2).sum()) * columns + 10 * int((sizes**3).sum())
        return super().flops_per_theta + of_blocks

    def _own_scales(
        self, theta: ResidualTheta, groups: np.ndarray
    ) -> Iterator[tuple[slice, int, np.ndarray, OwnScale]]:
        """A run of theta at a time: which, a group, its rows, and its scale."""
        codes, s = self._codes, self.structure
        rows = [np.flatnonzero(codes == j) for j in groups]
        size = sum(len(own) ** 2 for own in rows)
        first = s.n_correlations + s.n_spread
        for at in self.blocks(len(theta), max(1, size)):
            some = theta[at]
            C = [np.empty((len(some), len(own), len(own))) for own in rows]
            e = [np.empty((len(some), len(own))) for own in rows]
            for k in range(len(some)):
                h, t, left = self._halves(some, k)
                for own, block, residual in zip(rows, C, e, strict=True):
                    both = np.vstack([h[:, own], t[:, own]])
                    block[k] = np.eye(len(own)) - both.T @ both
                    residual[k] = left[own]
            omega = some.phi[:, first]
            for j, own, block, residual in zip(groups.tolist(), rows, C, e, strict=True):
                deviation = some.phi[:, first + 1 + j]
                found = OwnScale.from_block(block, residual, deviation, omega, some.sigma)
                yield at, j, own, found

    def _halves(self, theta: ResidualTheta, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """F^-1 Lambda'Z' (columns of M, n), R^-1 of what is left of X' (p, n), and y - T c (n,).

        Of rows divided by their sds at the k-th theta.
        """
        fronts, Lambda = self._fronts(theta.phi[k]), theta.Lambda[k]
        s, rows = fronts.plan.structure, fronts.rows
        made = fronts.factored(Lambda)
        marginal = Marginal.from_sums(
            fronts.moments, self.prior, theta.sigma[k : k + 1], *made.sums
        )
        h = np.zeros((fronts.n_coefficients, rows.n))
        for position, f in enumerate(fronts.plan.order):
            q, i = int(s.q[position]), int(s.at[position])
            first = s.first[position] + q * np.asarray(rows.codes[f], dtype=np.int64)
            own = rows.Z[f] @ Lambda[i : i + q, i : i + q]
            h[first[:, None] + np.arange(q), np.arange(rows.n)[:, None]] = own
        solve_kernels.forward_chain(s, made.values, h)
        if fronts.n_rest:
            rest = h[s.sizes[2] :]
            rest[:] = linalg.solve_triangular(made.U, rest, trans="T")
        beta, w = marginal.beta[0], made.whitened
        left = rows.X - h.T @ w[:, :-1]
        t = linalg.solve_triangular(marginal.R[0], left.T, lower=True)
        return h, t, rows.y - rows.X @ beta - h.T @ (w[:, -1] - w[:, :-1] @ beta)

    def densities_by_row(
        self, theta: WorkingTheta, rows: np.ndarray, marginal: Marginal
    ) -> np.ndarray:
        """Shape (rows, K): log p(y_i | y_-i, theta, scales of the other groups).

        Every coefficient is integrated out, and the scale of the row's own group.
        """
        assert isinstance(theta, ResidualTheta)
        rows, s = np.asarray(rows), self.structure
        out = np.empty((self.rows.n, len(theta)))
        for at, _, own, scale in self._own_scales(theta, np.unique(self._codes[rows])):
            log_sds = s.log_sds(theta.phi[at])[:, s.classes[own]]
            out[own, at] = (scale.rows_left_out() - log_sds).T
        found = out[rows].T
        return np.ascontiguousarray(self.rows.to_response_density(found, rows).T)

    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows, theta and scales).

        The scale of a group all of whose rows are left out is integrated.

        Raises
        ------
        UnsupportedModelError
            A level has all rows of several groups, whose scales cannot be integrated one by one.
        """
        assert isinstance(theta, ResidualTheta)
        inside = self._groups_inside(grouping.by_level, f"One of the {nouns(grouping.factor)}")
        if grouping.factor == self.design.scale_factor and (inside >= 0).all():
            return self._groups_left_out(theta)
        out = super().log_density_of_levels(theta, grouping)
        out[inside >= 0] += self._log_integrals(theta, inside[inside >= 0])
        return out

    def _groups_left_out(self, theta: ResidualTheta) -> np.ndarray:
        """Shape (groups, K): log p(rows of a group given all others), its scale integrated."""
        s, out = self.structure, np.empty((self._n_scales, len(theta)))
        known = np.broadcast_to(self.rows.log_sd, (self.rows.n,))
        for at, j, own, scale in self._own_scales(theta, np.arange(self._n_scales)):
            log_sds = s.log_sds(theta.phi[at])[:, s.classes[own]] + known[own]
            out[j, at] = scale.integrated() + scale.left_out() - log_sds.sum(axis=1)
        return out

    def _log_integrals(self, theta: ResidualTheta, groups: np.ndarray) -> np.ndarray:
        """Shape (groups, K): log p(y), the scale of a group integrated, less log p(y) as it is."""
        out = np.zeros((self._n_scales, len(theta)))
        if len(groups):
            for at, j, _, scale in self._own_scales(theta, np.unique(groups)):
                out[j, at] = scale.integrated()
        return out[groups]

    def _groups_inside(self, sets: Sequence[np.ndarray], what: str) -> np.ndarray:
        """Shape (sets,): the group all of whose rows are in a set, -1 where there is none."""
        codes, out = self._codes, np.full(len(sets), -1)
        counts = np.bincount(codes, minlength=self._n_scales)
        for k, rows in enumerate(sets):
            own = np.bincount(codes[rows], minlength=self._n_scales)
            whole = np.flatnonzero((own == counts) & (counts > 0))
            if len(whole) > 1:
                raise self._several_inside(what)
            out[k] = whole[0] if len(whole) else -1
        return out

    def _several_inside(self, what: str) -> UnsupportedModelError:
        assert self.structure.scale is not None
        own = self.structure.scale.factor
        return UnsupportedModelError(
            f"{what} has all rows of several {nouns(own)}, each of which has a residual sd of its own, and "
            "left out together these cannot be integrated one by one. Leave out one of the "
            f"{nouns(own)} at a time, fit.loo(by={own!r}), or single rows, fit.loo()",
            "scales-left-out-together",
        )

    def density_of_sets(
        self, rest: Self, theta: WorkingTheta, sets: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Joint log density of sets of held-out rows given the rows of ``rest``, theta and scales.

        The scale of a group that is held out is integrated. Shape (sets, K).
        """
        assert isinstance(theta, ResidualTheta)
        inside = self._groups_inside(sets, "What is left out at a time")
        out = super().density_of_sets(rest, theta, sets)
        held = np.concatenate(sets)
        for k, own in enumerate(sets):
            if inside[k] >= 0:
                model = self.without(np.setdiff1d(held, own))
                out[k] += model._log_integrals(theta, inside[k : k + 1])[0]
        return out
