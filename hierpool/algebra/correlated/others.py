"""Factors beside the one whose levels are blocks: their coefficients stand before the population's.

Rows that are correlated may lie in several levels of these factors, so each level has columns of its
own, D. With u = Lambda v and v ~ N(0, sigma^2 I),

    y = Z u_main + D Lambda v + X beta + e

and (v, beta) are the coefficients of the columns [D Lambda, X]; their prior precision is (I, 0) in
units of sigma^2, beside that of beta. Whitening is by rows, Lambda by columns: D is whitened first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.marginal_model import LevelSums
from hierpool.algebra.triangular import cholesky, log_det, solve_lower, solve_lower_transposed
from hierpool.core.design import Design
from hierpool.core.errors import UnsupportedModelError, listed
from hierpool.core.residual import RowStructure

MOST_NUMBERS = 20_000_000  # rows times columns of these factors


@dataclass(frozen=True)
class OtherFactors:
    """Which factors have columns of their own, and where.

    Attributes
    ----------
    main
        Position of the factor whose levels are blocks; None where there is none.
    which
        Positions of the others.
    sizes
        Levels and columns of each of the others, (J, q).
    group_columns
        Columns of every factor in Lambda.
    """

    main: int | None
    which: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    group_columns: tuple[slice, ...]

    @classmethod
    def from_design(cls, design: Design, structure: RowStructure) -> OtherFactors:
        """The main factor is that with the most coefficients of those that the groups lie in."""
        sizes = [(g.grouping.n_levels, len(g.terms)) for g in design.groups]
        within = [k for k, g in enumerate(design.groups) if structure.lies_within(g.codes)]
        main = max(within, key=lambda k: sizes[k][0] * sizes[k][1], default=None)
        which = tuple(k for k in range(len(sizes)) if k != main)
        own = cls(main, which, tuple(sizes[k] for k in which), tuple(design.group_columns))
        if own.size * design.n > MOST_NUMBERS:
            names = listed(design.groups[k].factor for k in which)
            raise UnsupportedModelError(
                f"{design.spec.residual.words} beside {names}: {own.size} coefficients of {names} times "
                f"{design.n} rows are too many to be held at once. Leave out the terms of the factor "
                "with most levels, or the residual structure",
                "residual-several-factors",
            )
        return own

    @property
    def size(self) -> int:
        """d, columns of all levels."""
        return sum(J * q for J, q in self.sizes)

    @property
    def main_columns(self) -> slice:
        """Columns of the main factor in Lambda."""
        return slice(0, 0) if self.main is None else self.group_columns[self.main]

    @property
    def places(self) -> list[slice]:
        """Columns of each factor within D."""
        ends = np.cumsum([J * q for J, q in self.sizes]).tolist()
        starts = [0, *ends[:-1]]
        return [slice(a, b) for a, b in zip(starts, ends, strict=False)]

    def columns(self, Z: list[np.ndarray], design: Design) -> np.ndarray:
        """Shape (n, d): D, from the columns of every factor."""
        out = np.zeros((design.n, self.size))
        rows = np.arange(design.n)[:, None]
        for k, (_, q), at in zip(self.which, self.sizes, self.places, strict=True):
            codes = design.groups[k].codes
            out[rows, at.start + codes[:, None] * q + np.arange(q)] = Z[k]
        return out

    def scaled(self, M: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
        """M (K, ..., d + m) with its first d columns times Lambda (K, Q, Q) of their factor."""
        if not self.size:
            return M
        out = np.array(M)
        for k, (_, q), at in zip(self.which, self.sizes, self.places, strict=True):
            cols = self.group_columns[k]
            each = out[..., at].reshape(len(M), -1, q) @ Lambda[:, cols, cols]
            out[..., at] = each.reshape(out[..., at].shape)
        return out

    def levels(self, v: np.ndarray, Lambda: np.ndarray) -> dict[int, np.ndarray]:
        """Lambda v of each of the factors, shapes (K, J, q), from v (K, d)."""
        out = {}
        for k, (J, q), at in zip(self.which, self.sizes, self.places, strict=True):
            cols = self.group_columns[k]
            turned = np.swapaxes(Lambda[:, cols, cols], -1, -2)
            out[k] = v[:, at].reshape(len(v), J, q) @ turned
        return out

    def prior(self, own: BetaPrior) -> BetaPrior:
        """Of the coefficients of [D Lambda, X]: none of v, which stands in the sums; ``own`` of beta."""
        d, p = self.size, len(own.mean)
        precision = np.zeros((d + p, d + p))
        precision[d:, d:] = own.precision
        return BetaPrior(np.concatenate([np.zeros(d), own.mean]), precision)

    def with_prior(self, sums: LevelSums) -> LevelSums:
        """Sums of [D Lambda, X] (theta last) with the precision of v in them."""
        GG = sums.GG.copy()
        v = np.arange(self.size)
        GG[v, v] -= 1.0
        return sums._replace(GG=GG)

    def eliminated(self, sums: LevelSums) -> LevelSums:
        """Sums of X alone, from those of [D Lambda, X] with the precision of v; totals are zero."""
        d = self.size
        if not d:
            return sums
        S, s = -np.moveaxis(sums.GG, -1, 0), -sums.Gg.T
        L = cholesky(S[:, :d, :d])
        solved = solve_lower(L, np.concatenate([S[:, :d, d:], s[:, :d, None]], axis=-1))
        G, g = solved[..., :-1], solved[..., -1:]
        GG = np.swapaxes(G, -1, -2) @ G - S[:, d:, d:]
        Gg = (np.swapaxes(G, -1, -2) @ g)[..., 0] - s[:, d:]
        squared = sums.squared + np.square(g).sum(axis=(1, 2))
        made = np.ascontiguousarray
        return LevelSums(
            sums.log_det + log_det(L), made(np.moveaxis(GG, 0, -1)), made(Gg.T), squared
        )

    def population(self, joint: Marginal, prior: BetaPrior) -> Marginal:
        """The part of beta in that of (v, beta)."""
        d, R, half = self.size, joint.R, joint.half[..., 0]
        own = R[:, d:, d:]
        return Marginal(
            joint.n,
            prior,
            joint.sigma,
            own,
            (own @ half[:, d:, None])[..., 0],
            joint.yy,
            joint.g_squared + np.square(half[:, :d]).sum(axis=1),
            joint.log_det_levels + log_det(R[:, :d, :d]),
            joint.log_sd,
        )

    def given_beta(self, joint: Marginal, beta: np.ndarray) -> np.ndarray:
        """Shape (d + p,): conditional mean of v given beta (p,), and beta; K = 1."""
        d, R = self.size, joint.R[0]
        left = joint.half[0, :d, 0] - R[d:, :d].T @ beta
        return np.concatenate([solve_lower_transposed(R[:d, :d], left[:, None])[:, 0], beta])
