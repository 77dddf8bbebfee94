"""Linear combinations of the coefficients of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hierpool.algebra.moments import Coordinates


class LevelPart(NamedTuple):
    """What combinations take from the levels of one factor, one entry a combination and level.

    Attributes
    ----------
    which
        Shape (e,): the combination.
    levels
        Shape (e,): position of the level.
    weights
        Shape (e, q): weights of the level's coefficients.
    """

    which: np.ndarray
    levels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Combinations:
    """m linear combinations of the coefficients of a model.

    Attributes
    ----------
    X
        Shape (m, p): weights of the population coefficients.
    parts
        What is taken from each factor: deviations, own coefficients for no pooling.
    """

    X: np.ndarray
    parts: tuple[LevelPart, ...]

    def __len__(self) -> int:
        return len(self.X)

    def to_working(self, coordinates: Coordinates) -> Combinations:
        """The same of the coefficients in working coordinates (but for a constant)."""
        x, X = coordinates.x, self.X @ coordinates.x.from_working
        parts = []
        for part, z in zip(self.parts, coordinates.zs, strict=True):
            parts.append(part._replace(weights=part.weights @ z.from_working))
            if not x.has_constant:  # own intercepts carry the means of the common columns
                own = np.bincount(part.which, part.weights @ z.constant, len(X))
                X = X - own[:, None] * (x.means / x.scales)
        return Combinations(X, tuple(parts))

    def blocks(self, size: int) -> Iterator[tuple[slice, Combinations]]:
        """The combinations in runs of ``size``."""
        for start in range(0, len(self), size):
            some = slice(start, min(start + size, len(self)))
            parts = []
            for which, levels, weights in self.parts:
                own = (which >= some.start) & (which < some.stop)
                parts.append(LevelPart(which[own] - some.start, levels[own], weights[own]))
            yield some, Combinations(self.X[some], tuple(parts))

    def by_combination(self, part: LevelPart, values: np.ndarray) -> np.ndarray:
        """Shape (m, ...): sums over the entries of a part (e, ...) of each combination."""
        out = np.zeros((len(self), *values.shape[1:]))
        np.add.at(out, part.which, values)
        return out
