"""Responses simulated from a fit of a family, and the model fitted to others like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.algebra.covariance_root import sd_and_corr
from hierpool.core.design import Design
from hierpool.core.errors import HierpoolError
from hierpool.core.results import Estimate, pair_values
from hierpool.reml.estimate import on_boundary
from hierpool.reml.families import search, separation
from hierpool.reml.families.criterion import FamilyCriterion
from hierpool.reml.families.maximum_likelihood import complete
from hierpool.reml.families.parameters import FamilyParameters
from hierpool.reml.families.profile import FLAT, whitened_search
from hierpool.reml.families.surface import FamilySurface
from hierpool.reml.refit import Refit, new_effects


def simulate(design: Design, estimate: Estimate, rng: np.random.Generator) -> np.ndarray:
    """Shape (n,): a response from the fitted model, with new levels of every factor."""
    family = design.family
    assert family is not None
    eta = design.offset + design.X @ estimate.beta + new_effects(design, estimate, rng)
    drawn = family.draw(eta[None], estimate.par[None], np.asarray(design.trials), rng)
    return np.asarray(drawn[0])


@dataclass(frozen=True)
class FamilyRefits:
    """A model of a family to be fitted to other responses.

    Attributes
    ----------
    design
        The model.
    start, inverse
        Shapes (D,), (D, D): the optimum of its fit, and about the inverse Hessian of the deviance there;
        None without groups.
    """

    design: Design
    start: np.ndarray | None
    inverse: np.ndarray | None = None

    @classmethod
    def from_estimate(cls, design: Design, estimate: Estimate) -> FamilyRefits:
        """Searches begin where the fit ended."""
        if not design.groups:
            return cls(design, None)
        s = FamilySurface.from_estimate(design, estimate)
        start = np.concatenate([s.beta, s.theta, s.free])
        values, vectors = np.linalg.eigh(-s.criterion.hessian(start))
        # At a boundary the Hessian need not be definite, and a search takes one that is.
        size = np.maximum(np.abs(values), 1e-3 * np.abs(values).max(initial=1e-3))
        return cls(design, start, (vectors / (2 * size)) @ vectors.T)

    def to(self, y: np.ndarray) -> Refit | None:
        """The model fitted to another response; None where that fails."""
        changed = self.design.with_response(y)
        try:
            with np.errstate(all="ignore"):
                return self._optimum(changed)
        except (HierpoolError, np.linalg.LinAlgError):  # a response without a maximum
            return None

    def _optimum(self, design: Design) -> Refit | None:
        rows, found = complete(design)
        parameters = FamilyParameters(rows.family)
        if separation.direction(rows, found) is not None:
            return None
        x = design.schema.coding.from_working
        if self.start is None:
            beta, par = x @ found.coefficients, parameters.par(found.free)
            return _refit(design, beta, [], par, found.loglik) if found.ended else None
        criterion = FamilyCriterion.from_design(design)
        begin = found.coefficients, found.free
        near = self._near(criterion, *begin) or _searched(criterion, *begin)
        if near is None:
            return None
        at, (best_x, value) = criterion.spread, near
        root = criterion.model.coordinates.u_from_working @ criterion.basis
        root = root @ criterion.matrix(best_x[at])
        spread: list[float] = []
        for group, columns in zip(design.groups, design.group_columns, strict=True):
            sd, corr = sd_and_corr(root[columns, columns], undefined=np.nan)
            spread += [*sd, *pair_values(group.schema, corr)]
        par = parameters.par(best_x[at.stop :])
        return _refit(design, x @ best_x[: criterion.p], spread, par, value)

    def _near(
        self, criterion: FamilyCriterion, beta: np.ndarray, free: np.ndarray
    ) -> tuple[np.ndarray, float] | None:
        """Optimum next to that of the fit, and the log-likelihood; None where a search does not end."""
        assert self.start is not None
        assert self.inverse is not None
        begin = self.start
        if on_boundary(criterion, begin[criterion.spread]) is not None:
            begin = search.starts(criterion, beta, free)[0]  # an sd of zero is a saddle point
        found = _descended(criterion, begin, self.inverse)
        if found is None:
            return None
        x, value = found
        flat = on_boundary(criterion, x[criterion.spread])
        if flat is None:
            return found
        snapped = x.copy()
        snapped[criterion.spread] = flat
        at_zero = _descended(criterion, snapped, self.inverse)
        return at_zero if at_zero is not None and at_zero[1] > value - FLAT**2 else found


def _descended(
    criterion: FamilyCriterion, start: np.ndarray, inverse: np.ndarray
) -> tuple[np.ndarray, float] | None:
    """Where a quasi-Newton search ends, and the log-likelihood there; None where it does not end."""

    def deviance(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = criterion.value_and_gradient(x)
        return -2 * value, -2 * slope

    least, x, ended = whitened_search(deviance, start, inverse)
    is_far = np.abs(x[criterion.spread]).max(initial=0.0) > search.FAR
    on_scale = criterion.parameters.family.is_on_response_scale
    return (x, -least / 2) if ended and np.isfinite(least) and (on_scale or not is_far) else None


def _searched(
    criterion: FamilyCriterion, beta: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, float] | None:
    """The maximum as the fit itself is searched for; None where it has none."""
    best = search.maximise(criterion, beta, free)
    is_far = np.abs(best.x[criterion.spread]).max(initial=0.0) > search.FAR
    on_scale = criterion.parameters.family.is_on_response_scale
    is_good = best.ended and np.isfinite(best.value) and (on_scale or not is_far)
    return (best.x, best.value) if is_good else None


def _refit(
    design: Design, beta: np.ndarray, spread: list[float], par: np.ndarray, loglik: float
) -> Refit:
    """In the user's coding, where thresholds are those at predictors of zero."""
    assert design.family is not None
    if design.family.has_thresholds:
        par = par + float(beta @ design.schema.coding.means)
    return Refit(np.concatenate([beta, spread, par]), loglik)
