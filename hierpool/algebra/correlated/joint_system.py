"""What is left once the main factor is eliminated: the system of v and beta at K values of theta.

S = C'QC + (P, sigma^2 P0) with the whitened columns C = [D Lambda, X] of ``others`` and the
population, Q what the main factor leaves, and P the precision of v. v is eliminated from it, so that
of a block b

    (S^-1)_bb = [ A + F V F'    -F V ]      A = (S_vv^-1)_bb      F = (S_vv^-1 S_vx)_b
                [  -V F'          V  ]      V = (S_xx - S_xv S_vv^-1 S_vx)^-1

Of one dense matrix here; ``sparse_system`` has sparse ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hierpool.algebra.correlated.near import NearColumns
from hierpool.algebra.correlated.others import OtherFactors
from hierpool.algebra.factorisation import population_part
from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.marginal_model import LevelSums
from hierpool.algebra.moments import Moments
from hierpool.algebra.triangular import cholesky, log_det, solve_lower, solve_lower_transposed


class Reached(NamedTuple):
    """The system of the columns that blocks reach, the others eliminated, at K values of theta.

    Attributes
    ----------
    R, S
        Shapes (K, blocks, m, m), or (K, 1, m, m) where all reach the same: S, and its Cholesky factor.
    s, beta
        Shapes (K, blocks, m) or (K, 1, m): S beta = s.
    """

    R: np.ndarray
    S: np.ndarray
    s: np.ndarray
    beta: np.ndarray


class OfBlocks(NamedTuple):
    """What blocks take of S_vv^-1, at K values of theta.

    Attributes
    ----------
    inverse, falls
        Shapes (K, blocks, m, m) and (K, blocks, m, p), or 1 in the place of blocks: A and F of the
        module's text. In the place of no column 1 on the diagonal, and zeros.
    """

    inverse: np.ndarray
    falls: np.ndarray


class JointSystem(ABC):
    """The system of all coefficients but the main factor's, at K values of theta.

    Attributes
    ----------
    near
        Which columns blocks reach.
    population
        The part of beta.
    """

    near: NearColumns
    population: Marginal

    @property
    @abstractmethod
    def falls(self) -> np.ndarray:
        """Shape (K, d, p): how the conditional mean of v falls with beta."""

    @abstractmethod
    def given(self, beta: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Shape (K, d + p): conditional mean of v given beta (K, p), and beta.

        With ``noise`` (K, d), normals of sd sigma, a draw of v.
        """

    @abstractmethod
    def of_blocks(self, some: np.ndarray | slice = slice(None)) -> OfBlocks:
        """What all blocks, or some, take of S_vv^-1."""

    @abstractmethod
    def of_levels(self) -> list[np.ndarray]:
        """For each of the others (K, J, q, q): blocks of S_vv^-1."""

    @abstractmethod
    def quadratic(self, x: np.ndarray) -> np.ndarray:
        """Shape (m,): x'S^-1 x of rows x (m, d + p); K = 1."""

    @cached_property
    def beta(self) -> np.ndarray:
        """Shape (K, d + p): the solution."""
        return self.given(self.population.beta)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Shape (K, d + p): an exact draw of v and beta for each theta."""
        beta = self.population.draw_beta(rng)
        noise = rng.standard_normal((len(beta), self.near.d))
        return self.given(beta, noise * self.population.sigma[:, None])

    def reached(self, some: np.ndarray | slice = slice(None)) -> Reached:
        """The system of all blocks, or of some."""
        A, F = self.of_blocks(some)
        beta = self.near.of_blocks(self.beta)
        beta = beta if self.near.is_all else beta[:, some]
        m, R = A.shape[-1], self.population.R
        half = solve_lower(R, np.broadcast_to(np.eye(R.shape[-1]), R.shape))
        V = (np.swapaxes(half, -1, -2) @ half)[:, None]
        own = np.empty((*A.shape[:2], m + R.shape[-1], m + R.shape[-1]))
        FV = F @ V
        own[..., :m, :m] = A + FV @ np.swapaxes(F, -1, -2)
        own[..., :m, m:] = -FV
        own[..., m:, :m] = -np.swapaxes(FV, -1, -2)
        own[..., m:, m:] = V
        S = np.linalg.inv(own)
        return Reached(cholesky(S), S, (S @ beta[..., None])[..., 0], beta)


@dataclass(frozen=True, eq=False)
class DenseSystem(JointSystem):
    """One matrix of all columns.

    Attributes
    ----------
    near
        As in ``JointSystem``.
    whole
        S and its right-hand side.
    prior
        Of beta.
    """

    near: NearColumns
    whole: Marginal
    prior: BetaPrior

    @classmethod
    def from_sums(
        cls,
        near: NearColumns,
        sums: LevelSums,
        totals: Moments,
        prior: BetaPrior,
        sigma: np.ndarray,
    ) -> DenseSystem:
        """From sums of [D Lambda, X] (theta last)."""
        d, size = near.d, near.size
        precision, mean = np.zeros((size, size)), np.zeros(size)
        precision[d:, d:], mean[d:] = prior.precision, prior.mean
        both = BetaPrior(mean, precision)
        parts = sums.log_det, np.moveaxis(sums.GG, -1, 0), sums.Gg.T, sums.squared
        return cls(near, Marginal.from_sums(totals, both, sigma, *parts), prior)

    @cached_property
    def population(self) -> Marginal:  # type: ignore[override]
        """The part of beta."""
        d, w = self.near.d, self.whole
        R, half = w.R, w.half[..., 0]
        own = R[:, d:, d:]
        return Marginal(
            w.n,
            self.prior,
            w.sigma,
            own,
            (own @ half[:, d:, None])[..., 0],
            w.yy,
            w.g_squared + np.square(half[:, :d]).sum(axis=1),
            w.log_det_levels + log_det(R[:, :d, :d]) - self.near.every.log_det_precision,
            w.log_sd,
        )

    @cached_property
    def _of_v(self) -> np.ndarray:
        """Shape (K, d, d): S_vv^-1."""
        d = self.near.d
        R = self.whole.R[:, :d, :d]
        half = solve_lower(R, np.broadcast_to(np.eye(d), R.shape))
        return np.swapaxes(half, -1, -2) @ half

    @cached_property
    def falls(self) -> np.ndarray:
        """Shape (K, d, p)."""
        d, R = self.near.d, self.whole.R
        across = np.swapaxes(R[:, d:, :d], -1, -2)
        return solve_lower_transposed(R[:, :d, :d], across)

    def given(self, beta: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Shape (K, d + p)."""
        d, R = self.near.d, self.whole.R
        left = self.whole.half[:, :d] - np.swapaxes(R[:, d:, :d], -1, -2) @ beta[..., None]
        if noise is not None:
            left = left + noise[..., None]
        v = solve_lower_transposed(R[:, :d, :d], left)[..., 0]
        return np.concatenate([v, beta], axis=1)

    def of_blocks(self, some: np.ndarray | slice = slice(None)) -> OfBlocks:
        """What all blocks, or some, take."""
        near, A, F = self.near, self._of_v, self.falls
        if near.is_all:
            return OfBlocks(A[:, None], F[:, None])
        which, K, d = near.of_levels[some], len(A), near.d
        which = np.where(which == near.size, d, which)
        padded, below = np.zeros((K, d + 1, d + 1)), np.zeros((K, d + 1, near.p))
        padded[:, :d, :d], below[:, :d] = A, F
        own = padded[:, which[:, :, None], which[:, None, :]]
        none = np.nonzero(which == d)
        own[:, none[0], none[1], none[1]] = 1.0
        return OfBlocks(own, below[:, which])

    def of_levels(self) -> list[np.ndarray]:
        """For each of the others (K, J, q, q)."""
        own, A = self.near.every, self._of_v
        return [
            np.einsum("kjajb->kjab", A[:, at, at].reshape(-1, J, q, J, q))
            for (J, q), at in zip(own.sizes, own.places, strict=True)
        ]

    def quadratic(self, x: np.ndarray) -> np.ndarray:
        """Shape (m,)."""
        return population_part(self.whole.R[0], x)

    def reached(self, some: np.ndarray | slice = slice(None)) -> Reached:
        """The system of all blocks, or of some."""
        if not self.near.is_all:
            return super().reached(some)
        R = self.whole.R
        S = R @ np.swapaxes(R, -1, -2)
        return Reached(R[:, None], S[:, None], self.whole.s[:, None], self.beta[:, None])


def eliminated(sums: LevelSums, others: OtherFactors) -> LevelSums:
    """Sums of X alone, from those of [D Lambda, X] with the precision of v; totals are zero."""
    d = others.size
    S, s = -np.moveaxis(sums.GG, -1, 0), -sums.Gg.T
    L = cholesky(S[:, :d, :d])
    solved = solve_lower(L, np.concatenate([S[:, :d, d:], s[:, :d, None]], axis=-1))
    G, g = solved[..., :-1], solved[..., -1:]
    GG = np.swapaxes(G, -1, -2) @ G - S[:, d:, d:]
    Gg = (np.swapaxes(G, -1, -2) @ g)[..., 0] - s[:, d:]
    squared = sums.squared + np.square(g).sum(axis=(1, 2))
    made = np.ascontiguousarray
    log_dets = sums.log_det + log_det(L) - others.log_det_precision
    return LevelSums(log_dets, made(np.moveaxis(GG, 0, -1)), made(Gg.T), squared)
