"""The way from theta into the algebra.

theta is held in the coordinates of the priors, part by part (``bayes.parts``). ``ThetaMap`` knows the
way to working coordinates (where the algebra runs) and to the user's coding (what is reported).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from hierpool.algebra.choose import marginal_model, quadrature_model
from hierpool.algebra.covariance_root import sd_and_corr
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.algebra.moments import Coordinates
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.design import Design, check_gaussian
from hierpool.core.theta import BETA, FamilyTheta, ResidualTheta, ScaleTheta, Theta, WorkingTheta

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel


@dataclass(frozen=True)
class ThetaMap:
    """The way from theta to working coordinates and to the user's coding.

    Attributes
    ----------
    priors
        Whose parts theta consists of.
    into_working
        Shape (Q, Q): u in working coordinates from u in the coordinates of the priors.
    beta
        Normal prior of the population coefficients in working coordinates.
    mean
        Shape (Q,): prior mean of the levels' coefficients in working coordinates; zero unless they
        are unpooled.
    """

    priors: ModelPriors
    into_working: np.ndarray
    beta: BetaPrior
    mean: np.ndarray

    @classmethod
    def from_priors(cls, priors: ModelPriors, coordinates: Coordinates) -> ThetaMap:
        """Map of a model whose coefficients have normal priors."""
        beta = _beta_prior(priors, coordinates)
        into_working = coordinates.u_to_working @ into_user(priors)
        means = [part.mean for part in priors.group_parts]
        mean = into_working @ np.concatenate([np.zeros(0), *means])
        if priors.unpooled is not None:  # they carry the level of the response
            (z,) = coordinates.zs
            mean = mean - coordinates.y_shift * z.to_working @ z.constant
        return cls(priors, into_working, beta, mean)

    def working(self, theta: Theta) -> WorkingTheta:
        """The same values as the algebra takes them."""
        if self.priors.family is not None:
            return self.of_family(theta)
        sigma = theta.sigma
        Lambda = self.into_working @ root_of(self.priors, theta) / sigma[:, None, None]
        own = self.priors.residual_structure
        if own is None:
            return WorkingTheta(sigma, Lambda)
        found = ResidualTheta(sigma, Lambda, own.phi(theta))
        return ScaleTheta.at(found, theta.values[BETA]) if BETA in theta.values else found

    def of_family(self, theta: Theta) -> FamilyTheta:
        """The same values for a response that is not Gaussian: Lambda is no multiple of sigma."""
        family = self.priors.family
        assert family is not None
        Lambda = self.into_working @ root_of(self.priors, theta)
        columns = [theta.values[name][:, None] for name in family.parameters]
        if family.has_thresholds:
            columns.append(theta.values["thresholds"])
        par = np.concatenate([np.zeros((len(theta), 0)), *columns], axis=1)
        return FamilyTheta(np.ones(len(theta)), Lambda, par)

    def sd_and_corr(self, theta: Theta) -> tuple[np.ndarray, np.ndarray]:
        """Standard deviations (K, Q) and correlations (K, Q, Q) in the user's coding."""
        return sd_and_corr(into_user(self.priors) @ root_of(self.priors, theta))


def into_user(priors: ModelPriors) -> np.ndarray:
    """Shape (Q, Q): u in the user's coding from u in the coordinates of the priors."""
    parts = [part.coding.to_user for part in priors.group_parts]
    return linalg.block_diag(*parts) if parts else np.zeros((0, 0))


def root_of(priors: ModelPriors, theta: Theta) -> np.ndarray:
    """Shape (K, Q, Q): root of the covariance of all factors' terms, in the priors' coordinates."""
    placed = [(part.root(theta), at) for part, at in priors.places()]
    if len(placed) == 1:
        return placed[0][0]
    Q = placed[-1][1].stop if placed else 0
    out = np.zeros((len(theta), Q, Q))
    for root, at in placed:
        out[:, at, at] = root
    return out


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
    """A design with its coefficients integrated out under normal priors, and its map of theta.

    Raises
    ------
    UnsupportedModelError
        A response that is not Gaussian, of which only one factor's coefficients can be.
    """
    check_gaussian(design.schema, "this question")
    coordinates = Coordinates.from_design(design)
    theta_map = ThetaMap.from_priors(priors, coordinates)
    model = marginal_model(design, coordinates, theta_map.beta, theta_map.mean)
    return model, theta_map


def integrate_family(design: Design, priors: ModelPriors) -> tuple[QuadratureModel, ThetaMap]:
    """The same for a response that is not Gaussian: one factor's coefficients by quadrature."""
    coordinates = Coordinates.from_design(design)
    theta_map = ThetaMap.from_priors(priors, coordinates)
    model = quadrature_model(design, coordinates, theta_map.beta, theta_map.mean)
    return model, theta_map
