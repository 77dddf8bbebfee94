"""Columns of other factors that the rows of a block reach, in the place of all.

A pig lies in one of 200 pens: of their columns D its rows reach one. Cross-products are made of the
columns that a block reaches, and added where these stand among all, [D, X]. What is asked of a block
afterwards takes the system S of all coefficients with those eliminated that the block does not reach:

    S_b = ((S^-1)_bb)^-1        s_b = S_b (S^-1 s)_b
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from hierpool.algebra.correlated.others import OtherFactors
from hierpool.algebra.correlated.rows import CorrelatedRows
from hierpool.algebra.gaussian import Marginal
from hierpool.algebra.triangular import cholesky, solve_lower

_WORTH_IT = 2  # times as many columns as a block reaches


class Reached(NamedTuple):
    """The system of the columns that blocks reach, at K values of theta.

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


@dataclass(frozen=True)
class NearColumns:
    """Which columns blocks reach.

    Attributes
    ----------
    correlated
        The rows with these columns.
    others
        The other factors, with as many levels as a block reaches at most.
    which
        Shape (blocks, m): where they stand among all, those of the population at the end; ``size`` in
        the place of none.
    size
        Number of all columns, [D, X].
    """

    correlated: CorrelatedRows
    others: OtherFactors
    which: np.ndarray
    size: int

    @classmethod
    def every(cls, correlated: CorrelatedRows, others: OtherFactors) -> NearColumns:
        """All columns, for each block."""
        w = correlated.rows.X.shape[1]
        return cls(correlated, others, np.arange(w)[None], w)

    @classmethod
    def of(cls, correlated: CorrelatedRows, others: OtherFactors) -> NearColumns:
        """Those that each block reaches; all where that spares little."""
        raw, blocks, d = correlated.rows, correlated.blocks, others.size
        n, w = raw.X.shape
        reached = [
            _reached(raw.X[:, at].reshape(n, J, q), blocks)
            for (J, q), at in zip(others.sizes, others.places, strict=True)
        ]
        counts = [int(r.sum(axis=1).max()) for r in reached]
        sizes = tuple((c, q) for c, (_, q) in zip(counts, others.sizes, strict=True))
        if _WORTH_IT * sum(c * q for c, q in sizes) >= d:
            return cls.every(correlated, others)
        columns, which = [], []
        for own, c, (J, q), at in zip(reached, counts, others.sizes, others.places, strict=True):
            levels = np.argsort(~own, axis=1, kind="stable")[:, :c]
            is_own = np.take_along_axis(own, levels, axis=1)
            D = raw.X[:, at].reshape(n, J, q)
            D = np.take_along_axis(D, levels[blocks][:, :, None], axis=1)
            columns.append((D * is_own[blocks][:, :, None]).reshape(n, c * q))
            places = at.start + levels[:, :, None] * q + np.arange(q)
            which.append(np.where(is_own[:, :, None], places, w).reshape(-1, c * q))
        which.append(np.broadcast_to(np.arange(d, w), (len(which[0]), w - d)))
        found = np.hstack(which)
        rows = replace(raw, X=np.hstack([*columns, raw.X[:, d:]]))
        near = CorrelatedRows(rows, correlated.structure, found[blocks])
        return cls(near, replace(others, sizes=sizes), found, w)

    @property
    def is_all(self) -> bool:
        """Whether blocks have all columns."""
        return len(self.which) == 1

    @cached_property
    def _into(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Where products (designs, m, m) and sums (designs, m) of the designs are added."""
        which, w = self.which[self.correlated.designs[2]], self.size + 1
        pairs = (which[:, :, None] * w + which[:, None, :]).ravel()
        made = []
        for at, size in ((pairs, w * w), (which.ravel(), w)):
            entries = (np.ones(len(at)), (at, np.arange(len(at))))
            made.append(sparse.csr_array(entries, shape=(size, len(at))))
        return made[0], made[1]

    def added(self, products: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(size, size, K) and (size, K): products (K, designs, m, m) and sums (K, designs, m), added."""
        K, w = len(products), self.size
        pairs, singles = self._into
        squares = (pairs @ products.reshape(K, -1).T).reshape(w + 1, w + 1, K)
        return squares[:w, :w], (singles @ sums.reshape(K, -1).T)[:w]

    def of_blocks(self, values: np.ndarray) -> np.ndarray:
        """Shape (K, blocks, m), or (K, 1, m): of values (K, size) those that blocks reach."""
        if self.is_all:
            return values[:, None]
        padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1)
        return padded[:, self.which]

    def system(self, joint: Marginal, at: slice, blocks: np.ndarray | None = None) -> Reached:
        """The system of some values of theta; of all blocks, or of some."""
        R, beta = joint.R[at], self.of_blocks(joint.beta[at])
        if self.is_all:
            S = R @ np.swapaxes(R, -1, -2)
            return Reached(R[:, None], S[:, None], joint.s[at, None], beta)
        which = self.which if blocks is None else self.which[blocks]
        beta = beta if blocks is None else beta[:, blocks]
        half = solve_lower(R, np.broadcast_to(np.eye(self.size), R.shape))
        P = np.zeros((len(R), self.size + 1, self.size + 1))
        P[:, :-1, :-1] = np.swapaxes(half, -1, -2) @ half
        own = P[:, which[:, :, None], which[:, None, :]]
        none = np.nonzero(which == self.size)
        own[:, none[0], none[1], none[1]] = 1.0
        S = np.linalg.inv(own)
        return Reached(cholesky(S), S, (S @ beta[..., None])[..., 0], beta)


def _reached(D: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Shape (blocks, J): whether a block has rows in a level, by columns (n, J, q)."""
    rows, levels = np.nonzero(D.any(axis=-1))
    out = np.zeros((int(blocks.max()) + 1, D.shape[1]), dtype=bool)
    out[blocks[rows], levels] = True
    return out
