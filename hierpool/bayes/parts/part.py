"""Part: a piece of theta, with its prior, its coordinates and what it is to the algebra.

theta is the residual's part and one for each group term. Everything that has to do with theta (its
coordinates, priors, draws, tables, files, power scaling) goes through the parts one by one, so a new
kind of part is a new subclass and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import special

from hierpool.bayes.priors.prior import HalfT, PriorRow
from hierpool.core.coding import Coding
from hierpool.core.design import Design
from hierpool.core.theta import Theta


class HasLaw(Protocol):
    """A prior of one scalar."""

    @property
    def distribution(self) -> Any:
        """Frozen distribution with scipy's interface."""


class Vanishing(NamedTuple):
    """A standard deviation that may be zero, and what has no meaning there.

    Attributes
    ----------
    position
        Among the coordinates of its part.
    linked
        Positions of the coordinates that are at their prior where it is zero.
    """

    position: int
    linked: tuple[int, ...]


class Part(ABC):
    """A piece of theta."""

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name of each of its arrays in theta -> its shape for one value."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of its coordinates."""

    @abstractmethod
    def values(self, z: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """Its arrays at z (K, size), standard normal under the prior, where sigma is (K,)."""

    @property
    @abstractmethod
    def components(self) -> tuple[str, ...]:
        """Names of its priors that can be scaled separately."""

    @abstractmethod
    def power_scaled(self, component: str, power: float) -> Part:
        """The same with the prior of one component raised to a power.

        Raises
        ------
        PriorError
            That is no longer a distribution.
        """

    @abstractmethod
    def log_priors(self, theta: Theta) -> dict[str, np.ndarray]:
        """Component -> log prior density, shape (K,), up to a constant."""

    @abstractmethod
    def table(self, response: str, common: tuple[str, ...] = ()) -> list[PriorRow]:
        """Its rows of the printed table; ``common``: centred columns outside of its group term."""

    @property
    def vanishing(self) -> tuple[Vanishing, ...]:
        """Its standard deviations that may be zero."""
        return ()

    @property
    def scale_positions(self) -> tuple[int, ...]:
        """Positions of the coordinates that stand for a standard deviation each."""
        return ()

    def scales(self, theta: Theta) -> np.ndarray:
        """Shape (K, m): the standard deviations at ``scale_positions``."""
        return np.zeros((len(theta), 0))

    def n_behind(self, design: Design) -> int:
        """How many independent values its standard deviations are estimated from."""
        return design.n


class GroupPart(Part):
    """The covariance of the coefficients of one group term.

    Attributes
    ----------
    factor
        The factor over whose levels they vary.
    coding
        The coordinates of the prior, from the user's columns.
    terms
        Names of the columns.
    """

    factor: str
    coding: Coding
    terms: tuple[str, ...]

    @abstractmethod
    def root(self, theta: Theta) -> np.ndarray:
        """Shape (K, q, q): a root of the covariance, in the coordinates of ``coding``."""

    @property
    def mean(self) -> np.ndarray:
        """Shape (q,): prior mean of each level's coefficients, in the same coordinates."""
        return np.zeros(len(self.terms))


def quantile(prior: HasLaw, z: np.ndarray) -> np.ndarray:
    """F^-1(Phi(z)), from the nearer tail."""
    law = prior.distribution
    if isinstance(law, HalfT):
        return law.at_normal(z)
    # Phi(z) rounds to 1 from z = 8.3 on; the survival function keeps its digits there.
    tail = special.ndtr(-np.abs(z))
    upper = z > 0
    out = np.empty_like(z)
    out[upper] = law.isf(tail[upper])
    out[~upper] = law.ppf(tail[~upper])
    return out
