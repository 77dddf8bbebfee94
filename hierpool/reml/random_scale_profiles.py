"""Profiles and refits of groups that differ in their residual sd at random.

The deviance is the one that was minimised, -2 log p(y | beta, theta) with the scales integrated; its
slopes are by differences. What is left over beside the root is beta in standard errors, the weights of
the log sds, omega and log sigma.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hierpool.core.design import Design
from hierpool.core.errors import HierpoolError
from hierpool.core.results import Estimate, pair_values, residual_entries, variance_component_name
from hierpool.core.theta import ScaleTheta
from hierpool.reml.families.profile import FamilyProfile
from hierpool.reml.held import Held, Root
from hierpool.reml.random_scale import STEP, Search, maximum_likelihood
from hierpool.reml.refit import Refit


@dataclass(frozen=True)
class ScaleSurface:
    """The deviance around an ML fit.

    Attributes
    ----------
    search
        The deviance.
    x
        Shape (D,): the optimum.
    """

    search: Search
    x: np.ndarray

    @classmethod
    def from_estimate(cls, design: Design, estimate: Estimate) -> ScaleSurface:
        """Around an ML fit."""
        search, _ = Search.from_design(design)
        return cls(search, search.at(estimate))

    @property
    def basis(self) -> np.ndarray:
        """Shape (Q, Q): Lambda = basis T."""
        return self.search.criterion.basis

    @cached_property
    def least(self) -> float:
        """Deviance at the optimum."""
        return self.search.value(self.x)

    def profile(self, held: Held) -> FamilyProfile:
        """Of one quantity."""
        return FamilyProfile(self, held)

    @property
    def is_in_sigmas(self) -> bool:
        """Sigma is estimated."""
        return True

    @cached_property
    def _root(self) -> Root:
        c, p = self.search.criterion, self.search.p
        into_user = c.coordinates.u_from_working @ c.basis
        return Root(self.search.design, c.basis, into_user, c.matrix(self.x[p : p + self.search.k]))

    @cached_property
    def quantities(self) -> list[Held]:
        """Fixed effects, sds, correlations, sigma and what is reported of the residual sds."""
        design, sigma, held = self.search.design, float(np.exp(self.x[-1])), self._coefficients()
        for f in range(len(design.groups)):
            held += self._root.held(f, sigma, 0.2 * sigma)
        plain = self._root.blocks()
        held.append(Held("sigma", sigma, (0.0, np.inf), 0.2 * sigma, plain, "sigma"))
        return held + self._of_residuals(sigma)

    def _coefficients(self) -> list[Held]:
        search, plain, held = self.search, self._root.blocks(), []
        coordinates, w = search.model.coordinates, self.x[: search.p]
        for k, term in enumerate(search.design.terms):
            in_errors = coordinates.x.from_working[k] @ search.root
            shift = coordinates.y_shift * float(coordinates.x.constant[k])
            shift += float(coordinates.x.from_working[k] @ search.centre)
            value, step = float(in_errors @ w) + shift, 2 * float(np.linalg.norm(in_errors))
            limits, name = (-np.inf, np.inf), f"beta[{term}]"
            held.append(
                Held(name, value, limits, step, plain, "beta", contrast=in_errors, shift=shift)
            )
        return held

    def _of_residuals(self, sigma: float) -> list[Held]:
        search, plain, held = self.search, self._root.blocks(), []
        s, own = search.model.correlated.structure, self.x[search.p + search.k : -1]
        for key, name, at in residual_entries(search.design.schema):
            shown = variance_component_name(*key)
            if name == "sd_residual":
                log_sd = np.append(s.basis[at[-1]], 0.0)
                sd = sigma * float(np.exp(log_sd @ own))
                step = 0.2 * sd
                held.append(Held(shown, sd, (0.0, np.inf), step, plain, "sigma", contrast=log_sd))
                continue
            position = len(own) - (1 if name == "sd_log_sigma" else 2)
            low = 0.0 if name == "sd_log_sigma" else -np.inf
            value, step = float(own[position]), 0.2
            held.append(
                Held(shown, value, (low, np.inf), step, plain, "residual", position=position)
            )
        return held

    def in_user_coding(self, held: Held, ends: tuple[float, float]) -> tuple[float, float]:
        """Ends of an interval: a slope in units of its column."""
        is_slope = held.kind == "residual" and held.limits[0] < 0
        unit = self.search.model.correlated.structure.unit if is_slope else 1.0
        return ends[0] / unit, ends[1] / unit

    def rest(self, held: Held) -> np.ndarray:
        """Beta in standard errors, weights, omega and log sigma, less what is held."""
        p, k = self.search.p, self.search.k
        w, own = self.x[:p], self.x[p + k :]
        if held.kind == "beta":
            w = _across(held.contrast).T @ w
        elif held.kind == "sigma":
            own = own[:-1]
        elif held.kind == "residual":
            own = np.delete(own, held.position)
        return np.concatenate([w, own])

    def _whole(self, rest: np.ndarray, held: Held, value: float) -> tuple[np.ndarray, np.ndarray]:
        """Beta in standard errors (K, p), and weights, omega and log sigma, of rests (K, r)."""
        p = self.search.p - (held.kind == "beta")
        w, own = rest[:, :p], rest[:, p:]
        if held.kind == "beta":
            c = held.contrast
            w = w @ _across(c).T + c * (value - held.shift) / (c @ c)
        elif held.kind == "sigma":
            of_weights = own @ held.contrast if len(held.contrast) else np.zeros(len(own))
            own = np.column_stack([own, np.log(value) - of_weights])
        elif held.kind == "residual":
            own = np.insert(own, held.position, value, axis=1)
        return w, own

    def log_sigma(self, rest: np.ndarray, held: Held, value: float) -> float:
        """Of the residuals of the average group."""
        with np.errstate(divide="ignore"):
            return float(self._whole(rest[None], held, value)[1][0, -1])

    def deviance(
        self, Lambda: np.ndarray, rest: np.ndarray, held: Held, value: float
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Deviance with its derivatives by Lambda and by the rest, by differences."""
        rows, columns = np.nonzero(self._pattern)
        e, m = len(rows), len(rows) + len(rest)
        moves = np.concatenate([np.zeros((1, m)), STEP * np.eye(m), -STEP * np.eye(m)])
        Lambdas = np.tile(Lambda, (len(moves), 1, 1))
        Lambdas[:, rows, columns] += moves[:, :e]
        w, own = self._whole(rest + moves[:, e:], held, value)
        beta = self.search.centre + w @ self.search.root.T
        phi = np.hstack([own[:, :-2], np.abs(own[:, -2:-1])])
        with np.errstate(all="ignore"):
            theta = ScaleTheta(np.exp(own[:, -1]), Lambdas, phi, beta)
            values = -2 * self.search.model.log_density(theta)
        by = (values[1 : 1 + m] - values[1 + m :]) / (2 * STEP)
        by_Lambda = np.zeros_like(Lambda)
        by_Lambda[rows, columns] = by[:e]
        return float(values[0]), by_Lambda, by[e:]

    @cached_property
    def _pattern(self) -> np.ndarray:
        """Shape (Q, Q): entries of Lambda that are not zero for every root."""
        free = np.zeros(self.basis.shape, dtype=bool)
        for block in self._root.blocks():
            free[block.columns, block.columns] = True
        return free


def _across(c: np.ndarray) -> np.ndarray:
    """Shape (p, p - 1): directions at right angles to c (p,)."""
    return np.asarray(np.linalg.qr(c[:, None], mode="complete")[0][:, 1:])


@dataclass(frozen=True)
class ScaleRefits:
    """The model to be fitted to other responses.

    Attributes
    ----------
    design
        The model.
    """

    design: Design

    def to(self, y: np.ndarray) -> Refit | None:
        """The model fitted to another response; None where that fails."""
        changed = self.design.with_response(y)
        try:
            made = maximum_likelihood(changed)
        except HierpoolError:
            return None
        if not made.status.is_trustworthy:
            return None
        values = [*made.beta]
        for group in changed.groups:
            e = made.of(group.factor)
            values += [*e.sd, *pair_values(group.schema, e.corr)]
        s, phi = changed.residual.structure, made.residual_parameters
        assert s is not None
        assert phi is not None
        named = s.reported(phi[None], np.array([made.sigma]))
        values.append(made.sigma)
        values += [named[name][(0, *at)] for _, name, at in residual_entries(changed.schema)]
        return Refit(np.array(values, dtype=float), made.loglik)
