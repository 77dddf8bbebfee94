"""Parametric bootstrap: responses simulated from a fit, and the model fitted to each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from hierpool.algebra.correlated.residuals import drawn as drawn_residuals
from hierpool.algebra.covariance_root import sd_and_corr
from hierpool.core.arguments import check_count, check_seed
from hierpool.core.design import Design
from hierpool.core.errors import DataError
from hierpool.core.results import Estimate, pair_values, residual_entries
from hierpool.reml import pooling_limits
from hierpool.reml.criterion import Criterion, Method
from hierpool.reml.estimate import (
    SNAP_GAIN,
    hessian_at,
    lower_root,
    on_boundary,
    root_in_user_coding,
)
from hierpool.reml.refit import Refit, new_effects
from hierpool.reml.starts import first_looks, starts

if TYPE_CHECKING:
    from hierpool.reml.families.refits import FamilyRefits
    from hierpool.reml.random_scale_profiles import ScaleRefits

type Seeds = Sequence[np.random.SeedSequence]


# What calls a function on many jobs, in order: in a loop, or in threads with a bar.
type Each[Job, Done] = Callable[[Callable[[Job], Done], Sequence[Job]], list[Done]]


def seeds(simulations: int, seed: int | None) -> tuple[int, Seeds]:
    """The seed, fresh where none is given, and one of its own for each simulation."""
    check_count("simulations", simulations)
    own = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else check_seed(seed)
    return own, np.random.SeedSequence(own).spawn(simulations)


def simulate(design: Design, estimate: Estimate, seed: np.random.SeedSequence) -> np.ndarray:
    """Shape (n,): a response from the fitted model, with new levels of every factor."""
    rng = np.random.default_rng(seed)
    if design.family is not None:
        from hierpool.reml.families.refits import simulate as simulate_family

        return simulate_family(design, estimate, rng)
    y = design.offset + design.X @ estimate.beta + new_effects(design, estimate, rng)
    z, sigma, phi = rng.standard_normal((1, design.n)), estimate.sigma, estimate.residual_parameters
    parameters = None if phi is None else phi[None]
    s = design.residual.structure
    if parameters is not None and s is not None and s.scale is not None:
        parameters = s.with_new_groups(parameters, rng.standard_normal((1, len(s.scale.labels))))
    return np.asarray(y + drawn_residuals(design, np.array([sigma]), parameters, z)[0])


def refits(
    design: Design, estimate: Estimate, method: Method = "ML"
) -> Refits | FamilyRefits | ScaleRefits:
    """A model to be fitted to other responses like the one it has been fitted to.

    By the method of the fit; ``method`` is the likelihood of least squares.
    """
    if design.family is not None:
        from hierpool.reml.families.refits import FamilyRefits

        return FamilyRefits.from_estimate(design, estimate)
    if design.scale_factor:
        from hierpool.reml.random_scale_profiles import ScaleRefits

        return ScaleRefits(design)
    return Refits.from_estimate(design, estimate, method)


@dataclass(frozen=True)
class Refits:
    """A model of a Gaussian response to be fitted to others.

    Attributes
    ----------
    design, method
        The model.
    start, inverse
        Shapes (k,) and (k, k): theta of its fit and the inverse Hessian there; None for least
        squares.
    """

    design: Design
    method: Method
    start: np.ndarray | None = None
    inverse: np.ndarray | None = None

    @classmethod
    def from_estimate(cls, design: Design, estimate: Estimate, method: Method = "ML") -> Refits:
        """By the method of the fit; ``method`` is the likelihood of least squares."""
        if estimate.method == "least squares":
            return cls(design, method)
        criterion = Criterion.from_design(design, estimate.method)
        theta = criterion.theta_of(
            estimate.relative_covariance_factor, estimate.residual_parameters
        )
        values, vectors = np.linalg.eigh(hessian_at(criterion, theta))
        # BFGS needs a positive definite start, which a Hessian at a boundary need not be.
        half = vectors / np.sqrt(np.maximum(np.abs(values), 1e-3 * np.abs(values).max(initial=1.0)))
        inverse = half @ half.T
        return cls(design, estimate.method, theta, (inverse + inverse.T) / 2)

    def to(self, y: np.ndarray) -> Refit | None:
        """The model fitted to another response; None where that fails."""
        changed = self.design.with_response(y)
        try:
            if self.start is None:
                return _least_squares(changed, self.method)
            with np.errstate(all="ignore"):
                return self._optimum(changed, Criterion.from_design(changed, self.method))
        except DataError:  # a response that is fitted exactly
            return None

    def _optimum(self, design: Design, criterion: Criterion) -> Refit | None:
        theta, deviance = self._near(criterion) or self._afresh(criterion)
        if not np.isfinite(deviance):
            return None
        at = criterion.at(theta).marginal
        ss = max(float(at.penalized_ss[0]), 0.0)
        sigma = float(np.sqrt(ss / criterion.df)) if design.residual.has_sigma else 1.0
        root = root_in_user_coding(criterion, theta) * sigma
        values = [*criterion.coordinates.beta_to_user(at.beta)[0]]
        for group, columns in zip(design.groups, design.group_columns, strict=True):
            sd, corr = sd_and_corr(root[columns, columns], undefined=np.nan)
            values += [*sd, *pair_values(group.schema, corr)]
        values += [sigma] if design.residual.has_sigma else []
        values += reported_of_residuals(design, sigma, criterion.phi(theta))
        return Refit(np.array(values), -deviance / 2)

    def _near(self, criterion: Criterion) -> tuple[np.ndarray, float] | None:
        """theta and deviance of the optimum next to that of the fit; None where it is no inner one."""
        found = self._search(criterion, np.asarray(self.start), np.asarray(self.inverse))
        if not np.isfinite(found[1]) or on_boundary(criterion, found[0]) is not None:
            return None
        return found

    def _afresh(self, criterion: Criterion) -> tuple[np.ndarray, float]:
        """The better of the optima from two starts, with directions of no variance at zero."""
        first, _, tilted = starts(criterion, first_looks(criterion))
        found = [self._search(criterion, s, np.eye(len(s))) for s in (first, tilted)]
        if not np.isfinite([value for _, value in found]).any():
            return first, np.nan
        theta, deviance = min(found, key=lambda pair: (np.isnan(pair[1]), pair[1]))
        flat = on_boundary(criterion, theta)
        if flat is not None:
            flat = np.concatenate([flat, theta[criterion.n_free :]])
            value = float(criterion.deviance(flat[None])[0])
            if value <= deviance + SNAP_GAIN:
                theta, deviance = flat, value
        own = theta if criterion.structure is not None else None
        return criterion.theta(lower_root(criterion.matrix(theta)), own), deviance

    @staticmethod
    def _search(
        criterion: Criterion, start: np.ndarray, inverse: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Where a quasi-Newton search ends, and the deviance there; NaN where it did not end."""
        found = optimize.minimize(
            criterion.value_and_gradient,
            start,
            jac=True,
            method="BFGS",
            options={"gtol": 1e-4, "maxiter": 100, "hess_inv0": inverse},
        )
        # a search that ends for want of precision is at a minimum as far as it can tell
        return np.asarray(found.x), float(found.fun) if found.status in (0, 2) else np.nan


def reported_of_residuals(design: Design, sigma: float, phi: np.ndarray | None) -> list[float]:
    """What is reported of a residual structure, in the order of its rows; nothing without one."""
    s = design.residual.structure
    if s is None or phi is None:
        return []
    found = s.reported(phi[None], np.array([sigma]))
    return [float(found[name][(0, *at)]) for _, name, at in residual_entries(design.schema)]


def _least_squares(design: Design, method: Method) -> Refit:
    whole = design.spec.pooling == "complete"
    e = pooling_limits.complete_pooling(design) if whole else pooling_limits.no_pooling(design)
    values = np.concatenate([e.beta, [e.sigma] if design.residual.has_sigma else []])
    return Refit(values, pooling_limits.restricted_loglik(design) if method == "REML" else e.loglik)
