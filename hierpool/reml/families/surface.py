"""The deviance of a response that is not Gaussian around its optimum, for profiles.

The likelihood is the one that was maximised: by quadrature of one factor, else the Laplace approximation.
What is left over beside the root is the population coefficients in working coordinates and the family's
free numbers. A coefficient in the user's coding is held through the working one that it says most
about, a threshold through the first of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hierpool.algebra.quadrature.slopes import slopes
from hierpool.core.design import Design
from hierpool.core.results import Estimate
from hierpool.core.theta import FamilyPoint, FamilyTheta
from hierpool.reml.families.criterion import LAPLACE_STEP, STEP, FamilyCriterion
from hierpool.reml.families.profile import FamilyProfile
from hierpool.reml.held import Held, Root

LARGEST = 20.0  # free number of a parameter, beyond which it is at its limit
_LEAST_STEP = 0.2  # first step from an sd of zero, of the scale of the predictor


@dataclass(frozen=True)
class FamilySurface:
    """The deviance of a family.

    Attributes
    ----------
    design
        The rows.
    criterion
        The log-likelihood.
    beta, theta, free
        Shapes (p,), (k,), (P,): the optimum.
    covariance
        Shape (p + k + P,) squared: inverse of the information there.
    least
        The deviance there.
    """

    design: Design
    criterion: FamilyCriterion
    beta: np.ndarray
    theta: np.ndarray
    free: np.ndarray
    covariance: np.ndarray
    least: float

    @classmethod
    def from_estimate(cls, design: Design, estimate: Estimate) -> FamilySurface:
        """Around an estimate that is not one without pooling."""
        c, own = FamilyCriterion.from_design(design), estimate.family
        assert own is not None
        T = np.linalg.solve(c.basis, estimate.relative_covariance_factor)
        beta = c.model.coordinates.beta_from_user(estimate.beta[None])[0]
        free = c.parameters.free(own.working_par)
        return cls(design, c, beta, c.theta(T), free, own.covariance, -2 * estimate.loglik)

    @property
    def basis(self) -> np.ndarray:
        """Shape (Q, Q): Lambda = basis T."""
        return self.criterion.basis

    def profile(self, held: Held) -> FamilyProfile:
        """Of one quantity."""
        return FamilyProfile(self, held)

    @property
    def is_in_sigmas(self) -> bool:
        """There is no sigma."""
        return False

    def log_sigma(self, rest: np.ndarray, held: Held, value: float) -> float:
        """Of one."""
        return 0.0

    @property
    def _scale(self) -> float:
        """Of the linear predictor."""
        on_scale = self.criterion.parameters.family.is_on_response_scale
        return self.design.schema.response_scale.sd if on_scale else 1.0

    @cached_property
    def quantities(self) -> list[Held]:
        """Fixed effects, sds, correlations and parameters."""
        c = self.criterion
        into_user = c.model.coordinates.u_from_working @ c.basis
        root = Root(self.design, c.basis, into_user, c.matrix(self.theta))
        held = self._coefficients(root)
        for f in range(len(self.design.groups)):
            held += root.held(f, 1.0, _LEAST_STEP * self._scale)
        return held + self._parameters(root)

    def _coefficients(self, root: Root) -> list[Held]:
        p, plain, held = self.criterion.p, root.blocks(), []
        for term, c in zip(self.design.terms, self.design.schema.coding.from_working, strict=True):
            step = 2 * float(np.sqrt(c @ self.covariance[:p, :p] @ c))
            value, limits = float(c @ self.beta), (-np.inf, np.inf)
            held.append(Held(f"beta[{term}]", value, limits, step, plain, "beta", contrast=c))
        return held

    def _parameters(self, root: Root) -> list[Held]:
        parameters, plain, held = self.criterion.parameters, root.blocks(), []
        variances = np.diag(self.covariance)[self.criterion.spread.stop :]
        for k, (name, variance) in enumerate(zip(parameters.names, variances, strict=True)):
            step = 2 * float(np.sqrt(variance)) if variance > 0 else 1.0
            if parameters.family.has_thresholds:
                value, limits = (
                    float(parameters.par(self.free)[k] + self._means @ self.beta),
                    np.inf,
                )
            else:
                value, limits = float(np.clip(self.free[k], -LARGEST, LARGEST)), LARGEST
            kind = "threshold" if parameters.family.has_thresholds else "parameter"
            held.append(Held(name, value, (-limits, limits), step, plain, kind, position=k))
        return held

    @property
    def _means(self) -> np.ndarray:
        """Shape (p,): what a threshold moves by, per working coefficient, from the means to zero."""
        x = self.design.schema.coding
        return np.asarray(x.means @ x.from_working)

    def in_user_coding(self, held: Held, ends: tuple[float, float]) -> tuple[float, float]:
        """Ends of an interval: free numbers of a parameter as the parameter, infinite at its limits."""
        if held.kind != "parameter":
            return ends
        free = np.tile(self.free, (2, 1))
        free[:, held.position] = [
            np.sign(end) * (np.inf if abs(end) >= LARGEST else abs(end)) for end in ends
        ]
        low, high = self.criterion.parameters.without_bounds(free)[:, held.position]
        return float(low), float(high)

    def rest(self, held: Held) -> np.ndarray:
        """Coefficients and free numbers, less the one that what is held decides."""
        whole = np.concatenate([self.beta, self.free])
        return np.delete(whole, self._decided(held))

    def _decided(self, held: Held) -> list[int]:
        """Position of the coefficient or free number that follows from the others."""
        p = self.criterion.p
        if held.kind == "beta":
            return [int(np.argmax(np.abs(held.contrast)))]
        return {"parameter": [p + held.position], "threshold": [p]}.get(held.kind, [])

    def _whole(self, rest: np.ndarray, held: Held, value: float) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and free numbers (m,), and their derivatives (m, r) by the rest."""
        decided, p = self._decided(held), self.criterion.p
        m = len(rest) + len(decided)
        others = np.setdiff1d(np.arange(m), decided)
        whole, by = np.zeros(m), np.zeros((m, len(rest)))
        whole[others], by[others, np.arange(len(rest))] = rest, 1.0
        if held.kind == "beta":
            at, c = decided[0], np.zeros(m)
            c[:p] = held.contrast
            whole[at] = (value - c @ whole) / c[at]
            by[at] = -c[others] / c[at]
        elif held.kind == "parameter":
            whole[decided] = value
        elif held.kind == "threshold":
            gaps = np.exp(whole[p + 1 : p + 1 + held.position])
            whole[p] = value - self._means @ whole[:p] - gaps.sum()
            moved = np.zeros(m)
            moved[:p], moved[p + 1 : p + 1 + held.position] = self._means, gaps
            by[p] = -moved[others]
        return whole, by

    def deviance(
        self, Lambda: np.ndarray, rest: np.ndarray, held: Held, value: float
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Deviance with its derivatives by Lambda and by the rest."""
        whole, by = self._whole(rest, held, value)
        how = self._of_slopes if self.criterion.by_quadrature else self._of_differences
        loglik, by_Lambda, by_whole = how(Lambda, whole)
        return -2 * loglik, -2 * by_Lambda, -2 * by_whole @ by

    def _point(self, Lambda: np.ndarray, whole: np.ndarray) -> FamilyPoint:
        """K points of roots (K, Q, Q) and coefficients with free numbers (K, m)."""
        p, c = self.criterion.p, self.criterion
        par = np.ascontiguousarray(c.parameters.par(whole[:, p:]))
        theta = FamilyTheta(np.ones(len(whole)), np.ascontiguousarray(Lambda), par)
        return c.point_of(theta, np.ascontiguousarray(whole[:, :p]))

    def _of_slopes(
        self, Lambda: np.ndarray, whole: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """By the slopes of the quadrature, those of the parameters by differences."""
        p, c = self.criterion.p, self.criterion
        found = slopes(c.model, self._point(Lambda[None], whole[None]), finer=True)
        moves = STEP * np.eye(len(whole))[p:]
        points = np.concatenate([whole + moves, whole - moves])
        values = c.values_of(self._point(np.tile(Lambda, (len(points), 1, 1)), points))
        own = (values[: len(moves)] - values[len(moves) :]) / (2 * STEP)
        return float(found.log_density[0]), found.Lambda[0], np.concatenate([found.beta[0], own])

    def _of_differences(
        self, Lambda: np.ndarray, whole: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """All by differences, where the likelihood is a Laplace approximation."""
        rows, columns = self._entries
        e, p, m = len(rows), self.criterion.p, len(whole)
        h = np.full(e + m, LAPLACE_STEP)
        h[: e + p] *= self._scale
        moves = np.concatenate([np.zeros((1, e + m)), np.diag(h), -np.diag(h)])
        Lambdas = np.tile(Lambda, (len(moves), 1, 1))
        Lambdas[:, rows, columns] += moves[:, :e]
        values = self.criterion.values_of(self._point(Lambdas, whole + moves[:, e:]))
        by = (values[1 : 1 + e + m] - values[1 + e + m :]) / (2 * h)
        by_Lambda = np.zeros_like(Lambda)
        by_Lambda[rows, columns] = by[:e]
        return float(values[0]), by_Lambda, by[e:]

    @cached_property
    def _entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Entries of Lambda that are not zero for every root."""
        Q = len(self.basis)
        free = np.zeros((Q, Q), dtype=bool)
        for group, at in zip(self.design.groups, self.design.group_columns, strict=True):
            for block in group.blocks:
                own = slice(at.start + block.start, at.start + block.stop)
                free[own, own] = True
        rows, columns = np.nonzero(free)
        return rows, columns
