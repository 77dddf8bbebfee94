"""Factors beside the one whose levels are blocks: their coefficients stand before the population's.

Rows that are correlated may lie in several levels of these factors, so each level has columns of its
own, D. With u = Lambda v and v ~ N(0, sigma^2 P^-1),

    y = Z u_main + D Lambda v + X beta + e

and (v, beta) are the coefficients of the columns [D Lambda, X]; their prior precision is (P, 0) in
units of sigma^2, beside that of beta. Whitening is by rows, Lambda by columns: D is whitened first.
P is the identity but for related levels (``relations``), which are never the main factor's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import linalg

from hierpool.algebra.correlated.relations import precision_of
from hierpool.core.design import Design
from hierpool.core.errors import listed
from hierpool.core.residual import RowStructure


class LevelColumns(NamedTuple):
    """Columns of one factor.

    Attributes
    ----------
    Z, codes
        Shapes (n, q) and (n,): the rows, and the level of each.
    """

    Z: np.ndarray
    codes: np.ndarray

    def take(self, which: np.ndarray) -> LevelColumns:
        """Some of the rows, by position."""
        return LevelColumns(self.Z[which], self.codes[which])


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
    words
        The structure and these factors, for messages.
    across
        Positions of factors whose levels the groups of the structure lie across.
    precisions
        Of each of the others: between levels that are related (J, J), None for independent ones.
    """

    main: int | None
    which: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    group_columns: tuple[slice, ...]
    words: str
    across: tuple[int, ...]
    precisions: tuple[np.ndarray | None, ...]

    @classmethod
    def from_design(cls, design: Design, structure: RowStructure) -> OtherFactors:
        """The main factor is that with the most coefficients of those that the groups lie in."""
        sizes = [(g.grouping.n_levels, len(g.terms)) for g in design.groups]
        within = [k for k, g in enumerate(design.groups) if structure.lies_within(g.codes)]
        able = [k for k in within if design.groups[k].schema.related is None]
        main = max(able, key=lambda k: sizes[k][0] * sizes[k][1], default=None)
        which = tuple(k for k in range(len(sizes)) if k != main)
        names = listed(design.groups[k].factor for k in which)
        words = f"{design.spec.residual.words} beside {names}"
        across = tuple(k for k in which if k not in within)
        own = tuple(sizes[k] for k in which)
        precisions = tuple(
            precision_of(design.groups[k], design.spec.residual.words) for k in which
        )
        return cls(main, which, own, tuple(design.group_columns), words, across, precisions)

    @property
    def is_related(self) -> bool:
        """Whether levels of any are related."""
        return any(own is not None for own in self.precisions)

    @cached_property
    def precision(self) -> np.ndarray:
        """Shape (d, d): P."""
        parts = [
            np.eye(J * q) if own is None else np.kron(own, np.eye(q))
            for (J, q), own in zip(self.sizes, self.precisions, strict=True)
        ]
        return np.asarray(linalg.block_diag(*parts))

    @cached_property
    def log_det_precision(self) -> float:
        """Of P."""
        pairs = zip(self.sizes, self.precisions, strict=True)
        return sum(q * float(np.linalg.slogdet(own)[1]) for (_, q), own in pairs if own is not None)

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
