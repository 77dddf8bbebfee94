"""Which algebra suits a design: the one place where that is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra.factorisation import Factorisation
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.one_factor import OneFactor
from hierpool.algebra.unpooled import Unpooled
from hierpool.core.design import Design
from hierpool.core.results import Estimate

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel


def marginal_model(
    design: Design, coordinates: Coordinates, prior: BetaPrior, mean: np.ndarray | None = None
) -> MarginalModel:
    """A design with its coefficients integrated out.

    Parameters
    ----------
    design, coordinates
        The rows, and their working coordinates.
    prior
        Normal prior of the population coefficients, in working coordinates; flat for REML.
    mean
        Shape (Q,): prior mean of the levels' coefficients, in working coordinates; None for zero.
    """
    if len(design.groups) > 1:
        from hierpool.algebra.several.model import SeveralFactors  # compiled loops of their own

        return SeveralFactors.from_design(design, coordinates, prior)
    zero = np.zeros(sum(len(g.terms) for g in design.groups))
    return OneFactor.from_design(design, coordinates, prior, zero if mean is None else mean)


def quadrature_model(
    design: Design, coordinates: Coordinates, prior: BetaPrior, mean: np.ndarray
) -> QuadratureModel:
    """A design of another family than the Gaussian, one factor's coefficients integrated out."""
    from hierpool.algebra.quadrature.model import QuadratureModel  # compiled loops of its own

    return QuadratureModel.from_design(design, coordinates, prior, mean)


def at_estimate(
    design: Design, coordinates: Coordinates, estimate: Estimate
) -> Factorisation | Unpooled:
    """A design at the theta of its optimum; by least squares where its groups are not pooled."""
    if design.groups and not design.groups[0].is_pooled:
        return Unpooled.from_design(design, coordinates)
    model = marginal_model(design, coordinates, BetaPrior.flat(design.X.shape[1]))
    return model.at(estimate.relative_covariance_factor)
