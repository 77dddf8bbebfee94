"""A design whose residuals have a structure, coefficients integrated out.

Given its parameters the rows of each block are whitened; from there on the formulas are those of
``algebra.gaussian``. What changes is that cross-products belong to theta. They are handed on within
``LevelSums``: GG - XX, Gg - Xy and g'g - y'y in place of GG, Gg and g'g, with log det R beside the
log determinant of the levels, and totals of zero. Whatever puts sums and totals together is the same
for all models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from hierpool.algebra.correlated import left_out
from hierpool.algebra.correlated.eliminated import Eliminated
from hierpool.algebra.correlated.factorisation import CorrelatedFactorisation, unsupported
from hierpool.algebra.correlated.joint_factorisation import JointFactorisation
from hierpool.algebra.correlated.joint_system import DenseSystem, JointSystem, Reached, eliminated
from hierpool.algebra.correlated.near import NearColumns
from hierpool.algebra.correlated.others import LevelColumns, OtherFactors
from hierpool.algebra.correlated.rows import CorrelatedRows
from hierpool.algebra.correlated.sparse_system import SparsePlan, SparseSystem
from hierpool.algebra.factorisation import runs
from hierpool.algebra.gaussian import LOG_2PI, BetaPrior, Marginal
from hierpool.algebra.left_out_rows import LeftOutRows
from hierpool.algebra.marginal_model import LevelSums
from hierpool.algebra.moments import Coordinates, Moments, Rows
from hierpool.algebra.triangular import cholesky, log_det, solve_lower, solve_lower_transposed
from hierpool.core.design import Design, Grouping
from hierpool.core.theta import ResidualTheta, WorkingTheta

_PER_ENTRY = 200  # operations that take as long as adding and copying an entry of the dense system


@dataclass(frozen=True)
class CorrelatedResiduals(LeftOutRows):
    """Residuals with a structure, beside any number of factors.

    Attributes
    ----------
    design, coordinates, prior
        As in ``MarginalModel``.
    correlated
        The rows.
    others
        Factors beside the one whose levels are blocks.
    columns
        The rows' columns of these factors.
    near
        Those that each block reaches.
    """

    design: Design
    coordinates: Coordinates
    correlated: CorrelatedRows
    prior: BetaPrior
    others: OtherFactors
    columns: tuple[LevelColumns, ...]
    near: NearColumns

    @classmethod
    def from_design(cls, design: Design, coordinates: Coordinates, prior: BetaPrior) -> Self:
        """Integrate the coefficients of a design out under this prior."""
        residual = design.residual
        assert residual.structure is not None
        known = residual.over_known_sd
        others = OtherFactors.from_design(design, residual.structure)
        y = known(design.y_less_offset - coordinates.y_shift)
        every = [known(z.work(g.Z)) for g, z in zip(design.groups, coordinates.zs, strict=True)]
        X = known(coordinates.x.work(design.X))
        Z, codes = np.zeros((design.n, 0)), np.zeros(design.n, dtype=np.intp)
        if others.main is not None:
            Z, codes = every[others.main], design.groups[others.main].codes
        rows = Rows(y, X, Z, codes, residual.known_sd)
        correlated = CorrelatedRows(rows, residual.structure)
        columns = tuple(LevelColumns(every[k], design.groups[k].codes) for k in others.which)
        near = NearColumns.of(correlated, others, columns)
        return cls(design, coordinates, correlated, prior, others, columns, near)

    @property
    def scaled_rows(self) -> Rows:
        """The rows in working coordinates, divided by what is known of their sds."""
        return self.correlated.rows

    @property
    def p(self) -> int:
        """Number of population columns."""
        return self.scaled_rows.X.shape[1]

    @property
    def q(self) -> int:
        """Number of the main factor's columns."""
        return self.scaled_rows.Z.shape[1]

    @cached_property
    def totals(self) -> Moments:
        """Zero: the sums of each theta have them."""
        rows, p, none = self.scaled_rows, self.p, np.zeros(0, dtype=np.intp)
        empty = np.zeros((0, 0, 0)), np.zeros((0, 0, p)), np.zeros((0, 0))
        roots = np.zeros((0, 0)), np.zeros((0, 0, 0))
        return Moments(
            len(rows.y),
            np.zeros((p, p)),
            np.zeros(p),
            0.0,
            *empty,
            none,
            none,
            none,
            *roots,
            float(rows.log_sd.sum()),
        )

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""
        blocks = self.near.correlated.designs.blocks
        width = self.q + self._width + 1
        own = self.others.size
        joint = own**3 // 3 + _PER_ENTRY * own**2 if self.plan is None else self.plan.flops
        return len(blocks.columns) * width**2 + joint

    @cached_property
    def _flat(self) -> CorrelatedResiduals:
        """The same with a flat prior."""
        if self.prior.is_flat:
            return self
        return replace(self, prior=BetaPrior.flat(self.p))

    @cached_property
    def plan(self) -> SparsePlan | None:
        """How the columns of other factors are eliminated; None for one dense matrix."""
        return SparsePlan.of(self.near)

    @property
    def _width(self) -> int:
        """Columns that a block reaches, those of the population with them."""
        return self.near.which.shape[1]

    @property
    def n_random_effects(self) -> int:
        """Coefficients of the levels."""
        return self._n_levels * self.q + self.others.size

    @property
    def _n_groups(self) -> int:
        return len(np.unique(self.correlated.structure.groups))

    @property
    def _n_levels(self) -> int:
        main = self.others.main
        return 0 if main is None else self.design.groups[main].grouping.n_levels

    def level_sums(self, theta: WorkingTheta) -> LevelSums:
        """What the rows and the levels contribute at K values of theta; see the module's text."""
        assert isinstance(theta, ResidualTheta)
        if self.plan is None and self.others.size:
            each = [
                eliminated(self._dense_sums(theta[at]), self.others) for at in self._held(theta)
            ]
            return LevelSums(*(np.concatenate(parts, axis=-1) for parts in zip(*each, strict=True)))
        K, p = len(theta), self.p
        out = LevelSums(np.empty(K), np.empty((p, p, K)), np.empty((p, K)), np.empty(K))
        blocks = self.near.correlated.designs.blocks
        width = blocks.n_blocks * blocks.size * blocks.columns.shape[1]
        for at in runs(K, width):
            part = self._sums_of(theta[at]) if self.plan is None else self.plan.sums(theta[at])[0]
            out.log_det[at], out.GG[..., at], out.Gg[:, at], out.squared[at] = part
        return out

    def _dense_sums(self, theta: ResidualTheta) -> LevelSums:
        """Those of the population's columns and of other factors' before them."""
        designs = self.near.correlated.designs
        blocks, counts = designs.blocks, designs.counts
        K, w, d = len(theta), self.near.size, self.others.size
        out = LevelSums(np.empty(K), np.empty((w, w, K)), np.empty((w, K)), np.empty(K))
        width = blocks.n_blocks * blocks.size * (blocks.columns.shape[1] + self.q)
        for at in runs(K, max(width, w * w)):
            e = Eliminated.of(self.near, blocks, theta.Lambda[at], theta.phi[at])
            out.log_det[at] = (2 * e.log_sd + log_det(e.L)) @ counts
            Xt, Gt = np.swapaxes(e.X, -1, -2), np.swapaxes(e.G, -1, -2)
            of_y = (Gt @ e.g[..., :1] - Xt @ e.right[..., :1])[..., 0]
            if self.near.is_all:
                out.GG[..., at] = np.moveaxis(_net(e, counts), 0, -1)
                out.Gg[:, at] = of_y.sum(axis=1).T
            else:
                net = (Gt @ e.G - Xt @ e.X) * counts[:, None, None]
                out.GG[..., at], out.Gg[:, at] = self.near.added(net, of_y)
            squares = np.square(e.g[..., 1:]).sum((1, 2, 3))
            out.squared[at] = squares - np.square(e.right[..., 1:]).sum((1, 2, 3))
        out.GG[:d, :d] -= self.others.precision[..., None]
        return out

    def _held(self, theta: WorkingTheta) -> Iterator[slice]:
        """Values of theta whose systems are held at once; one run where there are none."""
        K, size = len(theta), self.near.size
        held = 3 * size**2
        if self.plan is not None:
            blocks = self.near.correlated.designs.blocks
            white = blocks.n_blocks * blocks.size * blocks.columns.shape[1]
            held = white + self.plan.n_entries + size * (self.p + 3)
        return runs(K, held) if K else iter([slice(0, 0)])

    def _sums_of(self, theta: ResidualTheta) -> LevelSums:
        """Of one factor or none, by compiled loops."""
        from hierpool.algebra.correlated import kernels

        designs = self.near.correlated.designs
        blocks, counts = designs.blocks, designs.counts
        K, w = len(theta), self.p
        white, log_sd = blocks.at(blocks.whitening.tables(theta.phi))
        flat = white.reshape(K, -1, white.shape[-1])
        out = np.empty(K), np.empty((K, w, w)), np.empty((K, w)), np.empty(K)
        own = np.ascontiguousarray(theta.Lambda), np.ascontiguousarray(counts), log_sd
        kernels.sums(flat, blocks.size, w, *own, *out)
        return LevelSums(out[0], np.moveaxis(out[1], 0, -1), out[2].T, out[3])

    def joint(self, theta: WorkingTheta) -> JointSystem:
        """The system of the coefficients of other factors and of the population."""
        assert isinstance(theta, ResidualTheta)
        if self.plan is not None:
            return SparseSystem.at(self.plan, theta, self.totals, self.prior)
        w = self.near.size
        totals = replace(self.totals, XX=np.zeros((w, w)), Xy=np.zeros(w))
        sums = self._dense_sums(theta) if self.others.size else self.level_sums(theta)
        return DenseSystem.from_sums(self.near, sums, totals, self.prior, theta.sigma)

    def at(
        self, Lambda: np.ndarray, phi: np.ndarray | None = None
    ) -> CorrelatedFactorisation | JointFactorisation:
        """The model at one relative factor and one set of parameters of the residuals (m,)."""
        if phi is None:
            raise unsupported()
        main = self.others.main
        factor = "" if main is None else self.design.groups[main].factor
        if not self.others.size:
            return CorrelatedFactorisation.from_correlated(self.correlated, factor, Lambda, phi)
        system = self._flat.joint(ResidualTheta(np.ones(1), Lambda[None], phi[None]))
        return JointFactorisation(self.near, system, self._n_levels, Lambda, phi)

    def population_at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> Marginal:
        """The population's part at K relative factors and parameters of the residuals."""
        if phi is None:
            raise unsupported()
        return self._flat.marginal(ResidualTheta(np.ones(len(Lambda)), Lambda, phi))

    def draw(
        self,
        theta: WorkingTheta,
        seed: int,
        sums: LevelSums | None = None,
        with_sums: bool = True,
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta, in the user's coding."""
        rng = np.random.default_rng(seed)
        if self.others.size:
            beta = self._of_joint(theta, lambda system: system.draw(rng))
        else:
            beta = self.marginal(theta, sums).draw_beta(rng)
        return self._coefficients(theta, beta, rng, with_sums)

    def mean_coefficients(self, theta: WorkingTheta) -> dict[str, np.ndarray]:
        """Conditional means of all coefficients at K values of theta; keys as for the draws."""
        beta = self._of_joint(theta, lambda system: system.beta)
        return self._coefficients(theta, beta, None, True)

    def _of_joint(
        self, theta: WorkingTheta, asked: Callable[[JointSystem], np.ndarray]
    ) -> np.ndarray:
        """Shape (K, d + p): of the systems, a run of the values of theta at a time."""
        return np.concatenate([asked(self.joint(theta[at])) for at in self._held(theta)])

    def _runs(self, theta: WorkingTheta, more: int = 0) -> Iterator[tuple[slice, Eliminated]]:
        """All blocks, a run of the values of theta at a time."""
        assert isinstance(theta, ResidualTheta)
        blocks = self.near.correlated.every
        width = blocks.n_blocks * blocks.size * (2 * (self._width + self.q + 1) + more)
        for at in runs(len(theta), width):
            yield at, Eliminated.of(self.near, blocks, theta.Lambda[at], theta.phi[at])

    def _coefficients(
        self,
        theta: WorkingTheta,
        beta: np.ndarray,
        rng: np.random.Generator | None,
        with_sums: bool,
    ) -> dict[str, np.ndarray]:
        d, main, zs = self.others.size, self.others.main, self.coordinates.zs
        every = self.others.levels(beta[:, :d], theta.Lambda)
        if main is not None:
            every[main] = self._main_levels(theta, beta, rng)
        u = [every[k] @ z.from_working.T for k, z in enumerate(zs)]
        if len(zs) == 1:
            u[0] = u[0] + self.coordinates.u_shift(beta[:, d:])[:, None]
        user = self.coordinates.beta_to_user(beta[:, d:])
        return self._with_population(user, tuple(u), with_sums)

    def _main_levels(
        self, theta: WorkingTheta, beta: np.ndarray, rng: np.random.Generator | None
    ) -> np.ndarray:
        """Shape (K, J, q): coefficients of the main factor's levels, in working coordinates."""
        K, J, q = len(theta), self._n_levels, self.q
        v = np.zeros((K, J, q)) if rng is None else rng.standard_normal((K, J, q))
        v *= theta.sigma[:, None, None]
        levels, own = self.correlated.levels, self.others.main_columns
        for at, e in self._runs(theta):
            half = e.g[..., 0] - (e.G @ self.near.of_blocks(beta[at])[..., None])[..., 0]
            found = solve_lower_transposed(e.L, (half + v[at][:, levels])[..., None])[..., 0]
            v[np.arange(K)[at][:, None], levels] = found
        return np.einsum("kab,kjb->kja", theta.Lambda[:, own, own], v)

    def conditional_variances(
        self, theta: WorkingTheta
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Var(u | y, beta, theta) of the levels, in the user's coding."""
        assert isinstance(theta, ResidualTheta)
        if self.others.size:
            return self._variances_beside_others(theta)
        z = self.coordinates.z
        if z is None:
            return ()
        out = np.empty((len(theta), self._n_levels, self.q))
        for at, e in self._runs(theta):
            into = np.swapaxes(z.from_working @ theta.Lambda[at], -1, -2)
            half = solve_lower(e.L, np.broadcast_to(into[:, None], e.L.shape))
            out[at] = np.square(half).sum(axis=-2) * theta.sigma[at, None, None] ** 2
        return ((out, np.arange(self._n_levels)),)

    def _variances_beside_others(
        self, theta: ResidualTheta
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """The same beside other factors."""
        K, own, zs, m = len(theta), self.others, self.coordinates.zs, self.near.others.size
        found = [np.empty((K, g.grouping.n_levels, len(g.terms))) for g in self.design.groups]
        for at, e in self._runs(theta, self._own_numbers):
            system, Lambda = self._flat.joint(theta[at]), theta.Lambda[at]
            for k, A in zip(own.which, system.of_levels(), strict=True):
                root = zs[k].from_working @ Lambda[:, own.group_columns[k], own.group_columns[k]]
                found[k][at] = np.einsum("kab,kjbc,kac->kja", root, A, root, optimize=True)
            if own.main is None:
                continue
            root = zs[own.main].from_working @ Lambda[:, own.main_columns, own.main_columns]
            turned = np.broadcast_to(np.swapaxes(root, -1, -2)[:, None], e.L.shape)
            half = solve_lower(e.L, turned)
            of_v = np.swapaxes(half, -1, -2) @ e.G[..., :m]
            both = np.square(half).sum(axis=-2)
            both += np.einsum("kbam,kbam->kba", of_v @ system.of_blocks().inverse, of_v)
            found[own.main][at] = np.square(root).sum(axis=-1)[:, None]
            found[own.main][np.arange(K)[at][:, None], self.correlated.levels] = both
        scale = theta.sigma[:, None, None] ** 2
        return tuple((scale * each, np.arange(each.shape[1])) for each in found)

    def _left_out(self, theta: WorkingTheta, marginal: Marginal) -> tuple[np.ndarray, np.ndarray]:
        """y_i less its mean given y_-i, and the variance of that in units of sigma^2, (K, n) each."""
        assert isinstance(theta, ResidualTheta)
        if not self.others.size:
            return left_out.rows(self.near.correlated, theta, marginal)
        blocks, K, n = self.near.correlated.every, len(theta), len(self.scaled_rows.y)
        off, variance = np.empty((K, n)), np.empty((K, n))
        for at, e in self._runs(theta, 2 * blocks.size + self._own_numbers):
            W = blocks.roots(blocks.whitening.tables(theta.phi[at]))
            own = self.joint(theta[at]).reached()
            left = e.right[..., :1] - e.X @ own.beta[..., None]
            left = left - np.swapaxes(e.a, -1, -2) @ (e.a @ left)
            t = np.swapaxes(e.X, -1, -2) - np.swapaxes(e.G, -1, -2) @ e.a
            t = solve_lower(own.R, t)
            # diagonal of K^-1 = W'(I - a'a - t't)W, K the covariance of the rows with beta in it
            inverse = np.square(W).sum(axis=-2)
            inverse -= np.square(e.a @ W).sum(axis=-2) + np.square(t @ W).sum(axis=-2)
            score = (np.swapaxes(W, -1, -2) @ left)[..., 0]
            place, size = self.near.correlated.place, (len(inverse), -1)
            variance[at] = 1 / inverse.reshape(size)[:, place]
            off[at] = score.reshape(size)[:, place] * variance[at]
        return off, variance

    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta)."""
        assert isinstance(theta, ResidualTheta)
        blocks, J = self.correlated.blocks, grouping.n_levels
        pairs = np.unique(blocks * J + grouping.codes)
        if len(pairs) > blocks.max() + 1:
            if self.others.main is not None and self._groups_lie_within(grouping.codes):
                return self.by_groups().log_density_of_levels(theta, grouping)
            # blocks cut across levels: a difference of evidences
            whole = self.log_density(theta)
            each = [
                self.without(np.flatnonzero(grouping.codes == level)).log_density(theta)
                for level in range(J)
            ]
            return whole - np.stack(each)
        whose, first = pairs % J, np.zeros(J, dtype=np.intp)
        first[whose] = np.arange(len(whose))
        if not self.near.is_all and (self.near.which[first[whose]] != self.near.which).any():
            own_rows = self.correlated, self.others, self.columns
            near = NearColumns.of(*own_rows, units=grouping.codes)
            return replace(self, near=near).log_density_of_levels(theta, grouping)
        if not self.others.size:
            out = left_out.levels(self.near.correlated, theta, self.marginal(theta), whose, J).T
        else:
            out = np.empty((J, len(theta)))
            for at, e in self._runs(theta, 2 * self._own_numbers):
                own = self.joint(theta[at]).reached(first)
                out[:, at] = self._of_levels(e, theta.sigma[at], own, whose, J).T
        n_rows = np.bincount(grouping.codes, minlength=J)[:, None]
        out -= 0.5 * n_rows * LOG_2PI
        return out - np.bincount(grouping.codes, self.scaled_rows.log_sd, J)[:, None]

    @property
    def _own_numbers(self) -> int:
        """Entries of a block's system, for each of its rows."""
        return 3 * self._width**2 // self.near.correlated.every.size

    def _groups_lie_within(self, codes: np.ndarray) -> bool:
        """Whether each group of the structure has rows of one level."""
        s = self.correlated.structure
        return s.correlation is not None and s.lies_within(codes)

    def by_groups(self) -> CorrelatedResiduals:
        """The same model with the groups of the structure as blocks: no factor is the main one."""
        raw, own = self.correlated.rows, self.others
        if own.main is None:
            return self
        size = self._n_levels, self.q
        others = replace(
            own,
            main=None,
            which=(own.main, *own.which),
            sizes=(size, *own.sizes),
            precisions=(None, *own.precisions),
        )
        columns = (LevelColumns(raw.Z, raw.codes), *self.columns)
        correlated = CorrelatedRows(raw.without_levels, self.correlated.structure)
        near = NearColumns.of(correlated, others, columns)
        return replace(self, correlated=correlated, others=others, columns=columns, near=near)

    def population_without_levels(
        self, theta: WorkingTheta, grouping: Grouping
    ) -> tuple[np.ndarray, np.ndarray]:
        """Population part of M and its right-hand side without each level, by downdates."""
        blocks, J = self.correlated.blocks, grouping.n_levels
        pairs = np.unique(blocks * J + grouping.codes)
        if self.others.size or len(pairs) > blocks.max() + 1:
            return super().population_without_levels(theta, grouping)
        marginal, K, p = self.marginal(theta), len(theta), self.p
        S, s = np.empty((K, J, p, p)), np.empty((K, J, p))
        S[:] = (marginal.R @ np.swapaxes(marginal.R, -1, -2))[:, None]
        s[:] = marginal.s[:, None]
        for at, e in self._runs(theta):
            Xt, Gt = np.swapaxes(e.X, -1, -2), np.swapaxes(e.G, -1, -2)
            S[at] -= _by_level(Xt @ e.X - Gt @ e.G, pairs % J, J)
            s[at] -= _by_level((Xt @ e.right - Gt @ e.g)[..., 0], pairs % J, J)
        return S, s

    def densities_ahead(self, theta: WorkingTheta) -> np.ndarray:
        """Shape (n, K): log p(row | earlier rows of its group, all other groups, theta).

        The rows of a group add up to their joint density given the other groups. With S and s less
        the group's own sums, and beta from them, the whitened rows of the group have the covariance
        I + Z Lambda Lambda'Z' + X S^-1 X' over sigma^2, whose Cholesky factor gives each row given
        those before it.
        """
        assert isinstance(theta, ResidualTheta)
        if self.others.main is not None and len(self.correlated.levels) < self._n_groups:
            return self.by_groups().densities_ahead(theta)
        n = len(self.scaled_rows.y)
        out, place = np.empty((len(theta), n)), self.near.correlated.place
        blocks = self.near.correlated.every
        for at, e in self._runs(theta, 3 * blocks.size + self._own_numbers):
            Xt, Gt = np.swapaxes(e.X, -1, -2), np.swapaxes(e.G, -1, -2)
            own = self.joint(theta[at]).reached()
            rest = cholesky(own.S - (Xt @ e.X - Gt @ e.G))
            right = own.s - (Xt @ e.right - Gt @ e.g)[..., 0]
            half = solve_lower(rest, right[..., None])
            beta = solve_lower_transposed(rest, half)
            T, t = e.L @ e.a, solve_lower(rest, Xt)
            V = np.swapaxes(T, -1, -2) @ T + np.swapaxes(t, -1, -2) @ t + np.eye(blocks.size)
            C = cholesky(V)
            z = solve_lower(C, e.right - e.X @ beta)[..., 0]
            sigma = theta.sigma[at, None, None]
            root = np.log(np.diagonal(C, axis1=-2, axis2=-1))
            root = root + blocks.log_roots(blocks.whitening.tables(theta.phi[at]))
            each = -0.5 * (LOG_2PI + np.square(z / sigma)) - np.log(sigma) - root
            out[at] = each.reshape(len(each), -1)[:, place]
        return self.scaled_rows.to_response_density(out, np.arange(n)).T

    def _of_levels(
        self,
        e: Eliminated,
        sigma: np.ndarray,
        all_rows: Reached,
        whose: np.ndarray,
        J: int,
    ) -> np.ndarray:
        """Shape (K, J): less n_j log(2 pi) / 2; a level's sums are those of its blocks.

        ``all_rows`` is the system of each level, or of all levels alike.
        """
        Xt, Gt = np.swapaxes(e.X, -1, -2), np.swapaxes(e.G, -1, -2)
        own = _by_level(Xt @ e.X - Gt @ e.G, whose, J)
        right = _by_level((Xt @ e.right - Gt @ e.g)[..., 0], whose, J)
        squares = np.square(e.right).sum((2, 3)) - np.square(e.g).sum((2, 3))
        squares = _by_level(squares, whose, J)
        log_dets = _by_level(2 * e.log_sd + log_det(e.L), whose, J)
        rows = np.bincount(self.correlated.blocks)
        n_rows = np.bincount(whose, rows, J)
        R, rest = all_rows.R, cholesky(all_rows.S - own)
        half = solve_lower(R, all_rows.s[..., None])[..., 0]
        without = solve_lower(rest, (all_rows.s - right)[..., None])[..., 0]
        explained = np.square(half).sum(-1) - np.square(without).sum(-1)
        log_dets = log_dets + log_det(R) - log_det(rest)
        variance = sigma[:, None] ** 2
        return -0.5 * (n_rows * np.log(variance) + log_dets + (squares - explained) / variance)

    def without(self, left_out: np.ndarray) -> CorrelatedResiduals:
        """The same model less some rows (positions), with coordinates and priors as they are."""
        own = self.correlated
        kept = np.setdiff1d(np.arange(len(own.rows.y)), left_out)
        correlated = CorrelatedRows(own.rows.take(kept), own.structure.take(kept))
        columns = tuple(own.take(kept) for own in self.columns)
        near = NearColumns.of(correlated, self.others, columns)
        return replace(self, correlated=correlated, columns=columns, near=near)


def _by_level(values: np.ndarray, whose: np.ndarray, J: int) -> np.ndarray:
    """Shape (K, J, ...): sums over the blocks (K, B, ...) of each level."""
    out = np.zeros((J, len(values), *values.shape[2:]))
    np.add.at(out, whose, np.moveaxis(values, 1, 0))
    return np.moveaxis(out, 0, 1)


def _net(e: Eliminated, counts: np.ndarray) -> np.ndarray:
    """Shape (K, w, w): G'G - X'X, summed over blocks that each stand for so many."""
    if e.X.shape[-1] <= e.X.shape[-2]:
        Xt, Gt = np.swapaxes(e.X, -1, -2), np.swapaxes(e.G, -1, -2)
        return np.asarray(((Gt @ e.G - Xt @ e.X) * counts[:, None, None]).sum(axis=1))
    out = np.zeros((len(e.X), e.X.shape[-1], e.X.shape[-1]))
    for M, sign in ((e.G, 1.0), (e.X, -1.0)):  # wide: one product of all blocks
        flat = (M * np.sqrt(counts)[:, None, None]).reshape(len(M), -1, M.shape[-1])
        out += sign * np.swapaxes(flat, -1, -2) @ flat
    return out
