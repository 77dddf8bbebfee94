"""What the compiled densities leave out: constants of a family, by pairs of response and trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.algebra.quadrature.rows import LevelRows
from hierpool.core.families.family import Family


@dataclass(frozen=True)
class Constants:
    """The constants of the rows, those of equal responses worked out once.

    Attributes
    ----------
    family
        Whose they are.
    y, trials
        Shape (D,): the pairs that differ.
    pair_of
        Shape (N,): which of them each row has.
    weight
        Shape (D,): how often each counts in the whole.
    """

    family: Family
    y: np.ndarray
    trials: np.ndarray
    pair_of: np.ndarray
    weight: np.ndarray

    @classmethod
    def from_rows(cls, family: Family, rows: LevelRows) -> Constants:
        """Of the rows of a model."""
        pairs, pair_of = np.unique(
            np.column_stack([rows.y, rows.trials]), axis=0, return_inverse=True
        )
        pair_of = pair_of.reshape(-1)
        weight = np.bincount(pair_of, rows.weight * rows.counts[rows.levels], len(pairs))
        y, trials = np.ascontiguousarray(pairs.T)
        return cls(family, y, trials, pair_of, weight)

    def of_pairs(self, par: np.ndarray) -> np.ndarray:
        """Shape (K, D), or (1, D) where they do not depend on the parameters (K, P)."""
        return np.atleast_2d(self.family.constant(self.y, self.trials, par))

    def total(self, par: np.ndarray) -> np.ndarray:
        """Shape (K,): of all rows together."""
        return np.broadcast_to(self.of_pairs(par) @ self.weight, (len(par),))

    def of_rows(self, par: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Shape (K, rows): of single rows, before their weights."""
        found = self.of_pairs(par)[:, self.pair_of[rows]]
        return np.broadcast_to(found, (len(par), len(rows)))
