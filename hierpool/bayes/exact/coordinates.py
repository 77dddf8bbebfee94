"""Coordinates of theta in which its prior is standard normal.

Each scalar of theta goes through its own prior's cdf: z = Phi^-1(F(scalar)). What the scalars are is
known to the parts of theta alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hierpool.bayes.parts.part import Part, Vanishing
from hierpool.bayes.parts.residual import ResidualPart
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.design import Design
from hierpool.core.theta import Theta


@dataclass(frozen=True)
class PriorCoordinates:
    """Map between z, shape (K, d), and ``Theta``.

    Attributes
    ----------
    parts
        The parts in the order of z: the residual first, since others may be in units of sigma.
    """

    parts: tuple[Part, ...]

    @classmethod
    def from_priors(cls, priors: ModelPriors) -> PriorCoordinates:
        """Coordinates of a model's theta."""
        residual = [part for part in priors.parts if isinstance(part, ResidualPart)]
        others = [part for part in priors.parts if not isinstance(part, ResidualPart)]
        return cls((*residual, *others))

    @cached_property
    def size(self) -> int:
        """d, the number of scalars."""
        return sum(part.size for part in self.parts)

    def _places(self) -> Iterator[tuple[Part, int]]:
        start = 0
        for part in self.parts:
            yield part, start
            start += part.size

    def theta(self, z: np.ndarray) -> Theta:
        """Values of theta at z, shape (K, d)."""
        theta = Theta(len(z), {})
        for part, start in self._places():
            values = part.values(z[:, start : start + part.size], theta.sigma)
            theta = Theta(len(z), {**theta.values, **values})
        return theta

    @cached_property
    def vanishing(self) -> tuple[Vanishing, ...]:
        """Standard deviations that may be zero, positions in z."""
        return tuple(
            Vanishing(start + sd, tuple(start + k for k in linked))
            for part, start in self._places()
            for sd, linked in part.vanishing
        )

    @cached_property
    def scale_positions(self) -> np.ndarray:
        """Shape (m,): positions in z of sigma and the standard deviations."""
        places = [start + k for part, start in self._places() for k in part.scale_positions]
        return np.array(places, dtype=np.intp)

    def scales(self, theta: Theta) -> np.ndarray:
        """Shape (K, m): sigma and the standard deviations, in the order of their positions."""
        return np.hstack([np.zeros((len(theta), 0)), *(part.scales(theta) for part in self.parts)])

    def n_behind(self, design: Design) -> np.ndarray:
        """Shape (m,): how many independent values each of them is estimated from."""
        counts = [part.n_behind(design) for part in self.parts for _ in part.scale_positions]
        return np.array(counts, dtype=float)
