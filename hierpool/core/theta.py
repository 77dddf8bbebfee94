"""Theta: all that a model has besides its coefficients, as priors see it and as the algebra does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Theta:
    """K values of theta, in the coordinates of the priors.

    Attributes
    ----------
    n
        K.
    values
        Name -> shape (K, ...): the arrays of all parts, as ``Part.shapes`` names them.
    """

    n: int
    values: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return self.n

    @property
    def sigma(self) -> np.ndarray:
        """Shape (K,): residual sd; 1 where those of the rows are known."""
        found = self.values.get("sigma")
        return np.ones(self.n) if found is None else found

    def __getitem__(self, which: slice | np.ndarray) -> Theta:
        n = len(np.arange(self.n)[which])
        return Theta(n, {name: values[which] for name, values in self.values.items()})

    def followed_by(self, other: Theta) -> Theta:
        """The values of both, these first."""
        joined = {k: np.concatenate([v, other.values[k]]) for k, v in self.values.items()}
        return Theta(self.n + other.n, joined)


@dataclass(frozen=True)
class WorkingTheta:
    """K values of theta in working coordinates.

    Attributes
    ----------
    sigma
        Shape (K,): residual sd; 1 where those of the rows are known.
    Lambda
        Shape (K, Q, Q): relative covariance factor of the coefficients of all factors side by side,
        block diagonal: Sigma = sigma^2 Lambda Lambda'.
    """

    sigma: np.ndarray
    Lambda: np.ndarray

    def __len__(self) -> int:
        return len(self.sigma)

    def __getitem__(self, which: slice | np.ndarray) -> WorkingTheta:
        return WorkingTheta(self.sigma[which], self.Lambda[which])

    def followed_by(self, other: WorkingTheta) -> WorkingTheta:
        """The values of both, these first."""
        joined = np.concatenate
        return WorkingTheta(joined([self.sigma, other.sigma]), joined([self.Lambda, other.Lambda]))
