"""Theta: all that a model has besides its coefficients, as priors see it and as the algebra does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

BETA = "working beta"  # among the values of a theta that is sampled with the coefficients


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


@dataclass(frozen=True)
class ResidualTheta(WorkingTheta):
    """K values of theta in working coordinates, of a model whose residuals have a structure.

    Attributes
    ----------
    phi
        Shape (K, m): its parameters, as ``RowStructure`` orders them.
    """

    phi: np.ndarray

    def __getitem__(self, which: slice | np.ndarray) -> ResidualTheta:
        return ResidualTheta(self.sigma[which], self.Lambda[which], self.phi[which])

    def followed_by(self, other: WorkingTheta) -> ResidualTheta:
        """The values of both, these first."""
        assert isinstance(other, ResidualTheta)
        first = super().followed_by(other)
        return ResidualTheta(first.sigma, first.Lambda, np.concatenate([self.phi, other.phi]))


@dataclass(frozen=True)
class ScaleTheta(ResidualTheta):
    """The same of groups whose residual sds differ at random, with the coefficients beside it.

    Attributes
    ----------
    beta
        Shape (K, p): population coefficients in working coordinates. The scales of the groups are
        integrated given these; phi need not have them.
    """

    beta: np.ndarray

    @classmethod
    def at(cls, theta: ResidualTheta, beta: np.ndarray) -> ScaleTheta:
        """Theta with coefficients."""
        return cls(theta.sigma, theta.Lambda, theta.phi, beta)

    def __getitem__(self, which: slice | np.ndarray) -> ScaleTheta:
        return ScaleTheta.at(super().__getitem__(which), self.beta[which])

    def followed_by(self, other: WorkingTheta) -> ScaleTheta:
        """The values of both, these first."""
        assert isinstance(other, ScaleTheta)
        return ScaleTheta.at(super().followed_by(other), np.concatenate([self.beta, other.beta]))


@dataclass(frozen=True)
class FamilyTheta(WorkingTheta):
    """K values of theta in working coordinates, of a model whose response is not Gaussian.

    ``sigma`` is 1, so that Lambda is the covariance factor itself.

    Attributes
    ----------
    par
        Shape (K, P): parameters of the family beside the linear predictor, as ``Family.parameters``
        names them; thresholds of ratings.
    """

    par: np.ndarray

    def __getitem__(self, which: slice | np.ndarray) -> FamilyTheta:
        return FamilyTheta(self.sigma[which], self.Lambda[which], self.par[which])

    def followed_by(self, other: WorkingTheta) -> FamilyTheta:
        """The values of both, these first."""
        assert isinstance(other, FamilyTheta)
        first = super().followed_by(other)
        return FamilyTheta(first.sigma, first.Lambda, np.concatenate([self.par, other.par]))


@dataclass(frozen=True)
class FamilyPoint(FamilyTheta):
    """K values of theta with the coefficients that are sampled beside it.

    Attributes
    ----------
    beta
        Shape (K, p): population coefficients in working coordinates.
    effects
        Shape (K, m): coefficients of the levels of the factors that are not integrated, in working
        coordinates, one factor after the other, the terms of a level beside each other.
    """

    beta: np.ndarray
    effects: np.ndarray

    @classmethod
    def at(cls, theta: FamilyTheta, beta: np.ndarray, effects: np.ndarray) -> FamilyPoint:
        """Theta with coefficients."""
        return cls(theta.sigma, theta.Lambda, theta.par, beta, effects)

    def __getitem__(self, which: slice | np.ndarray) -> FamilyPoint:
        theta = super().__getitem__(which)
        return FamilyPoint.at(theta, self.beta[which], self.effects[which])

    def followed_by(self, other: WorkingTheta) -> FamilyPoint:
        """The values of both, these first."""
        assert isinstance(other, FamilyPoint)
        joined = np.concatenate
        return FamilyPoint.at(
            super().followed_by(other),
            joined([self.beta, other.beta]),
            joined([self.effects, other.effects]),
        )
