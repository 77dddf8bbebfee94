"""Which algebra suits a design: the one place where that is decided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra.factorisation import Factorisation
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.one_factor import OneFactor
from hierpool.algebra.unpooled import Unpooled
from hierpool.core.design import Design
from hierpool.core.residual import Residual
from hierpool.core.results import Estimate
from hierpool.core.schema import ResponseScale
from hierpool.core.spec import ResidualTerm

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel

MOST_TURNED = 1000  # coefficients of related levels, and those beside them, that are turned


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
    structure = design.residual.structure
    is_related = any(g.schema.related is not None for g in design.groups)
    if design.samples_scales:
        from hierpool.algebra.several.random_scale import SampledScales

        return SampledScales.from_design(design, coordinates, prior)
    is_by_class = structure is not None and structure.correlation is None
    if is_by_class and len(design.groups) > 1 and not is_related:
        from hierpool.algebra.several.by_class import SeveralFactorsByClass

        return SeveralFactorsByClass.from_design(design, coordinates, prior)
    if structure is not None:
        from hierpool.algebra.correlated.model import (
            CorrelatedResiduals,  # compiled loops of its own
        )

        if structure.scale is not None:
            from hierpool.algebra.correlated.random_scale import RandomScaleResiduals

            return RandomScaleResiduals.from_design(design, coordinates, prior)
        return CorrelatedResiduals.from_design(design, coordinates, prior)
    if is_related:
        if has_sparse_equations(design):
            from hierpool.algebra.related.sparse_model import SparseLevels

            return SparseLevels.from_design(design, coordinates, prior)
        from hierpool.algebra.related.model import RelatedLevels

        return RelatedLevels.from_design(design, coordinates, prior)
    if len(design.groups) > 1:
        from hierpool.algebra.several.model import SeveralFactors  # compiled loops of their own

        return SeveralFactors.from_design(design, coordinates, prior)
    zero = np.zeros(sum(len(g.terms) for g in design.groups))
    return OneFactor.from_design(design, coordinates, prior, zero if mean is None else mean)


def has_sparse_equations(design: Design) -> bool:
    """Whether a design has related levels, and is better off with sparse mixed model equations.

    Turning the levels to a diagonal takes dense matrices of all levels, and one factor with one
    column to turn.
    """
    related = [g for g in design.groups if g.schema.related is not None]
    for group in related:
        assert group.schema.related is not None
        if group.schema.related.relationship.precision is None:
            return False
    n_columns = sum(g.grouping.n_levels * len(g.terms) for g in design.groups)
    can_turn = any(len(g.terms) == 1 for g in related)
    return bool(related) and (n_columns > MOST_TURNED or not can_turn)


def quadrature_model(
    design: Design, coordinates: Coordinates, prior: BetaPrior, mean: np.ndarray
) -> QuadratureModel:
    """A design of another family than the Gaussian, one factor's coefficients integrated out."""
    from hierpool.algebra.quadrature.model import QuadratureModel  # compiled loops of its own

    return QuadratureModel.from_design(design, coordinates, prior, mean)


def at_estimate(
    design: Design, coordinates: Coordinates, estimate: Estimate
) -> Factorisation | Unpooled:
    """A design at the theta of its optimum; by least squares where its groups are not pooled.

    Of a family it is that of the working response: see ``at_working_rows``.
    """
    if design.family is not None:
        design = working_design(design, estimate)
        coordinates = Coordinates.from_design(design)
    if design.groups and not design.groups[0].is_pooled:
        return Unpooled.from_design(design, coordinates)
    model = marginal_model(design, coordinates, BetaPrior.flat(len(design.terms)))
    return model.at(estimate.relative_covariance_factor, estimate.residual_parameters)


def working_design(design: Design, estimate: Estimate) -> Design:
    """The Gaussian design that bends like the log-likelihood of a family at its optimum.

    The working response of iterated weighted least squares, eta + slope / curvature, with the residual
    sd 1 / sqrt(curvature).
    """
    own = estimate.family
    assert own is not None
    least = max(float(own.curvature.max(initial=0.0)) * 1e-12, 1e-300)
    curvature = np.maximum(own.curvature, least)
    rows = replace(
        design.observations,
        y=own.eta + own.slope / curvature,
        residual_values=1 / np.sqrt(curvature),
        trials=None,
        summed=None,  # the curvature counts the rows that each stands for
    )
    spec = replace(design.spec, family=None, residual=ResidualTerm("known_se", "curvature"))
    scale = ResponseScale.from_response(
        rows.y_less_offset, Residual(spec.residual, rows.residual_values)
    )
    return Design(replace(design.schema, spec=spec, family=None, response_scale=scale), rows)


def at_working_rows(design: Design, estimate: Estimate) -> Factorisation:
    """The working rows of a family's optimum, at its covariance."""
    working = working_design(design, estimate)
    shifted = Coordinates.from_design(working)
    model = marginal_model(working, shifted, BetaPrior.flat(len(design.terms)))
    return model.at(estimate.relative_covariance_factor)
