"""Theta: everything of a model that is not a coefficient, and its way into the algebra.

theta is held in the coordinates of the priors: sds and the Cholesky factor of the correlation of
each block in that block's own coding. ``ThetaMap`` knows the way to working coordinates (where
the algebra runs) and to the user's coding (what is reported).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from hierpool.algebra.covariance_root import sd_and_corr
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.one_factor import OneFactor
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.design import Design


@dataclass(frozen=True)
class Theta:
    """K values of theta in the coordinates of the priors.

    Attributes
    ----------
    sigma
        Shape (K,): residual sd; 1 where those of the rows are known.
    sd
        Shape (K, q): standard deviations of the terms of all factors; (K, 0) unless partially
        pooled.
    corr_chol
        Shape (K, q, q): Cholesky factor of the correlation matrix, block diagonal.
    """

    sigma: np.ndarray
    sd: np.ndarray
    corr_chol: np.ndarray

    def __len__(self) -> int:
        return len(self.sigma)

    def __getitem__(self, rows: slice | np.ndarray) -> Theta:
        return Theta(self.sigma[rows], self.sd[rows], self.corr_chol[rows])

    def followed_by(self, other: Theta) -> Theta:
        """The values of both, these first."""
        joined = np.concatenate
        return Theta(
            joined([self.sigma, other.sigma]),
            joined([self.sd, other.sd]),
            joined([self.corr_chol, other.corr_chol]),
        )


@dataclass(frozen=True)
class ThetaMap:
    """The way from theta to working coordinates and to the user's coding.

    Attributes
    ----------
    into_working
        Shape (q, q): u in working coordinates from u in the coordinates of the priors.
    into_user
        Shape (q, q): u in the user's coding from u in the coordinates of the priors.
    own_sd
        Shape (q,): fixed sds of own coefficients (no pooling); None otherwise.
    beta
        Normal prior of the population coefficients in working coordinates.
    own_mean
        Shape (q,): prior mean of the own coefficients in working coordinates; zero otherwise.
    """

    into_working: np.ndarray
    into_user: np.ndarray
    own_sd: np.ndarray | None
    beta: BetaPrior
    own_mean: np.ndarray

    @classmethod
    def from_priors(cls, priors: ModelPriors, coordinates: Coordinates) -> ThetaMap:
        """Map of a model whose coefficients have normal priors."""
        beta = _beta_prior(priors, coordinates)
        if not coordinates.zs:
            empty = np.zeros((0, 0))
            return cls(empty, empty, None, beta, np.zeros(0))
        if priors.own is not None:
            z = coordinates.zs[0]
            into_working = z.to_working @ priors.own.coding.to_user
            mean = into_working @ priors.own.mean - coordinates.y_shift * z.to_working @ z.constant
            return cls(into_working, priors.own.coding.to_user, priors.own.sd, beta, mean)
        into_user = linalg.block_diag(*(b.coding.to_user for b in priors.spread))
        into_working = coordinates.u_to_working @ into_user
        return cls(into_working, into_user, None, beta, np.zeros(len(into_user)))

    def relative_covariance_factor(self, theta: Theta) -> np.ndarray:
        """Shape (K, q, q): Lambda in working coordinates."""
        if self.own_sd is not None:
            root = self.into_working * self.own_sd
            return root / theta.sigma[:, None, None]
        scaled = theta.sd[..., None] * theta.corr_chol
        return self.into_working @ scaled / theta.sigma[:, None, None]

    def user_spread(self, theta: Theta) -> tuple[np.ndarray, np.ndarray]:
        """Standard deviations (K, q) and correlations (K, q, q) in the user's coding."""
        return sd_and_corr(self.into_user @ (theta.sd[..., None] * theta.corr_chol))


def _beta_prior(priors: ModelPriors, coordinates: Coordinates) -> BetaPrior:
    block, x = priors.population, coordinates.x
    p = len(block.terms)
    if p == 0:
        return BetaPrior(np.zeros(0), np.zeros((0, 0)))
    to_working = x.to_working @ block.coding.to_user
    mean = to_working @ block.mean - coordinates.y_shift * x.to_working @ x.constant
    back = block.coding.to_centred @ x.from_working  # the inverse, whatever the units
    root = block.precision_root @ back  # precision = root'root
    return BetaPrior(mean, root.T @ root, block.n_flat)


def integrate(design: Design, priors: ModelPriors) -> tuple[MarginalModel, ThetaMap]:
    """A design with its coefficients integrated out under normal priors, and its map of theta."""
    coordinates = Coordinates.from_design(design)
    theta_map = ThetaMap.from_priors(priors, coordinates)
    integrated: MarginalModel
    if len(design.groups) > 1:
        from hierpool.algebra.several.model import SeveralFactors  # compiled loops of their own

        integrated = SeveralFactors.from_design(design, coordinates, theta_map.beta)
    else:
        integrated = OneFactor.from_design(design, coordinates, theta_map.beta, theta_map.own_mean)
    return integrated, theta_map
