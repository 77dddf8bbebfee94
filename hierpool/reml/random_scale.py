"""Maximum likelihood of groups that differ in their residual sd at random, the scales integrated.

The log-likelihood p(y | beta, theta) is that of ``algebra.correlated.random_scale``; all of beta,
theta, the sd of the log sds and the fixed part of these are searched for together. Random effects are
E(u | y) at the optimum: averages over the conditional distributions of the scales, at quantiles of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize

from hierpool.algebra.correlated.random_scale import RandomScaleResiduals
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.moments import Coordinates
from hierpool.core.design import EXACT_FIT, Design, exact_fit
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.group_nouns import nouns
from hierpool.core.results import Estimate, FactorEstimate, Status
from hierpool.core.theta import ResidualTheta, ScaleTheta
from hierpool.reml import pooling_limits
from hierpool.reml.criterion import Criterion
from hierpool.reml.estimate import estimate as without_scale
from hierpool.reml.estimate import on_boundary, singular_text

STARTS = (0.2, 0.6)  # omega
STEP = 1e-4  # of the free numbers, for gradients
HESSIAN_STEP = 1e-3
ZERO = 1e-3  # omega below which it is tried at zero
SNAP_GAIN = 1e-6  # deviance that omega, or a variance, must buy to be kept off zero
STEEP = 0.02  # largest slope of the deviance at an optimum, in standard errors
QUANTILES = 200  # of the distribution of each group's scale


def maximum_likelihood(design: Design) -> Estimate:
    """ML fit of a design whose groups differ in their residual sd.

    Raises
    ------
    DataError
        The response is fitted exactly, so that no residual sd can be estimated.
    """
    search, start = Search.from_design(design)
    found = [search.climb(search.start(start, omega)) for omega in STARTS]
    x = search.snapped(min(found, key=search.value))
    sigma = float(np.exp(x[-1]))
    if not sigma > EXACT_FIT * design.schema.response_scale.largest_sigma:
        raise exact_fit(design.schema, sigma)
    return _estimate(search, x)


def without_scales(design: Design) -> Design:
    """The design with the fixed part of its residual sds alone, none that differ between groups."""
    term = replace(design.spec.residual, scale="")
    structure = design.residual.structure
    assert structure is not None
    assert structure.scale is not None
    alone = None
    if term.is_structured:
        classes = structure.scale.spread_of[structure.classes]
        alone = replace(structure, scale=None, classes=classes)
    spec = replace(design.spec, residual=term)
    return Design(replace(design.schema, spec=spec), replace(design.observations, structure=alone))


@dataclass(frozen=True)
class Search:
    """The deviance as a function of D free numbers.

    They are beta in standard errors, the free entries of the root T, the weights of the log sds,
    omega and log sigma.

    Attributes
    ----------
    design, model
        With random scales.
    criterion
        Of the design without them, whose root T it has.
    centre, root
        Shapes (p,) and (p, p): beta is centre + root x, in working coordinates.
    """

    design: Design
    model: RandomScaleResiduals
    criterion: Criterion
    centre: np.ndarray
    root: np.ndarray

    @classmethod
    def from_design(cls, design: Design) -> tuple[Search, Estimate]:
        """Around the optimum of the design without random scales, and that."""
        plain = without_scales(design)
        is_bare = not plain.groups and plain.residual.structure is None
        start = pooling_limits.complete_pooling(plain) if is_bare else without_scale(plain, "ML")
        if np.isnan(start.beta).any() or not np.isfinite(start.beta_covariance).all():
            raise UnsupportedModelError(
                f"{design.spec.shown}: the coefficients cannot all be estimated from these rows: "
                "use model.fit()",
                "no-optimum",
            )
        coordinates = Coordinates.from_design(design)
        flat = BetaPrior.flat(len(design.terms))
        model = RandomScaleResiduals.from_design(design, coordinates, flat)
        x = coordinates.x
        covariance = x.to_working @ start.beta_covariance @ x.to_working.T
        centre = coordinates.beta_from_user(start.beta[None])[0]
        criterion = Criterion.from_design(plain, "ML")
        return cls(design, model, criterion, centre, np.linalg.cholesky(covariance)), start

    @cached_property
    def p(self) -> int:
        """Coefficients of the population."""
        return len(self.centre)

    @cached_property
    def k(self) -> int:
        """Free entries of T."""
        return self.criterion.n_free

    def start(self, start: Estimate, omega: float) -> np.ndarray:
        """Shape (D,): the optimum without random scales, and this omega."""
        T = np.zeros(0)
        if self.k:
            T = self.criterion.theta_of(start.relative_covariance_factor)[: self.k]
            T = np.where(np.abs(T) < 0.05, 0.05, T)  # off the boundary, where slopes are zero
        phi = start.residual_parameters
        weights = np.zeros(0) if phi is None else phi
        return np.concatenate([np.zeros(self.p), T, weights, [omega, np.log(start.sigma)]])

    def at(self, estimate: Estimate) -> np.ndarray:
        """Shape (D,): the point of an ML fit."""
        beta = self.model.coordinates.beta_from_user(estimate.beta[None])[0]
        T, phi = np.zeros(0), estimate.residual_parameters
        if self.k:
            T = self.criterion.theta_of(estimate.relative_covariance_factor)[: self.k]
        assert phi is not None
        own = phi[: self.model.correlated.structure.n_estimated]
        w = np.linalg.solve(self.root, beta - self.centre)
        return np.concatenate([w, T, own, [np.log(estimate.sigma)]])

    def theta(self, x: np.ndarray) -> ScaleTheta:
        """Values of theta at K points (K, D)."""
        p, k = self.p, self.k
        Q = self.criterion.size
        Lambda = self.criterion.factor(x[:, p : p + k]) if Q else np.zeros((len(x), 0, 0))
        phi = np.hstack([x[:, p + k : -2], np.abs(x[:, -2:-1])])
        beta = self.centre + x[:, :p] @ self.root.T
        return ScaleTheta(np.exp(x[:, -1]), Lambda, phi, beta)

    def deviance(self, x: np.ndarray) -> np.ndarray:
        """Shape (K,): -2 log p(y | beta, theta) at K points (K, D)."""
        with np.errstate(all="ignore"):
            found = -2 * self.model.log_density(self.theta(x))
        return np.where(np.isfinite(found), found, 1e12)

    def value(self, x: np.ndarray) -> float:
        """At one point (D,)."""
        return float(self.deviance(x[None])[0])

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Shape (D,): by central differences."""
        steps = STEP * np.eye(len(x))
        values = self.deviance(np.concatenate([x + steps, x - steps]))
        return np.asarray((values[: len(x)] - values[len(x) :]) / (2 * STEP))

    def hessian(self, x: np.ndarray) -> np.ndarray:
        """Shape (D, D): by central differences."""
        D, h = len(x), HESSIAN_STEP
        i, j = np.tril_indices(D)
        e = h * np.eye(D)
        points = [x + s * e[i] + t * e[j] for s in (1, -1) for t in (1, -1)]
        values = self.deviance(np.concatenate(points)).reshape(4, -1)
        out = np.zeros((D, D))
        out[i, j] = out[j, i] = (values[0] - values[1] - values[2] + values[3]) / (4 * h**2)
        return out

    def climb(self, x: np.ndarray) -> np.ndarray:
        """A minimum of the deviance: quasi-Newton, then steps of Newton."""
        options: Any = {"gtol": 1e-4, "maxiter": 300}
        x = optimize.minimize(self.value, x, jac=self.gradient, method="BFGS", options=options).x
        for _ in range(3):
            slope = self.gradient(x)
            values, vectors = np.linalg.eigh(self.hessian(x))
            damped = np.maximum(np.abs(values), 1e-6 * np.abs(values).max())
            trial = x - vectors @ ((vectors.T @ slope) / damped)
            if not self.value(trial) < self.value(x):
                break
            x = trial
        return np.asarray(x)

    def snapped(self, x: np.ndarray) -> np.ndarray:
        """The same with omega, and directions of negligible variance, at exactly zero."""
        x = x.copy()
        x[-2] = abs(x[-2])
        if x[-2] < np.sqrt(ZERO):
            zero = x.copy()
            zero[-2] = 0.0
            x = zero if self.value(zero) <= self.value(x) + SNAP_GAIN else x
        flat = on_boundary(self.criterion, x[self.p : self.p + self.k]) if self.k else None
        if flat is not None:
            zero = x.copy()
            zero[self.p : self.p + self.k] = flat
            x = zero if self.value(zero) <= self.value(x) + SNAP_GAIN else x
        return x


def _estimate(search: Search, x: np.ndarray) -> Estimate:
    design, p = search.design, search.p
    status = _status(search, x)
    hessian = search.hessian(x)
    covariance = _covariance(hessian, p)
    if status.word != "converged":
        covariance[p:, :] = covariance[:, p:] = np.nan
    coordinates = search.model.coordinates
    into = coordinates.x.from_working @ search.root
    beta = coordinates.beta_to_user(search.theta(x[None]).beta)[0]
    sigma = float(np.exp(x[-1]))
    spread = _standard_errors(search, x, covariance)
    scales, moments = _levels(search, x)
    own = reported(search, x)
    Q = search.criterion.size
    n_theta = Q + Q * (Q - 1) // 2
    theta = search.theta(x[None])
    phi = np.concatenate([theta.phi[0], scales])
    deviation_se = moments.scale_sd
    fitted = design.X @ beta + design.offset
    factors = _factors(search, own, spread, beta, into @ covariance[:p, :p] @ into.T, moments)
    for group, e in zip(design.groups, factors, strict=True):
        fitted = fitted + np.einsum("nq,nq->n", group.Z, e.u[group.codes])
    return Estimate(
        method="ML",
        beta=beta,
        beta_covariance=into @ covariance[:p, :p] @ into.T,
        sigma=sigma,
        sigma_se=float(spread[-1]),
        factors=factors,
        fitted=fitted,
        loglik=-search.value(x) / 2,
        n_parameters=len(x),
        relative_covariance_factor=theta.Lambda[0],
        status=status,
        residual_parameters=phi,
        residual_se=np.concatenate([spread[n_theta:-1], deviation_se]),
    )


def _covariance(hessian: np.ndarray, p: int) -> np.ndarray:
    """Shape (D, D): inverse of the observed information; of beta alone where that is singular."""
    size = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    scaled = hessian / np.outer(size, size)
    if np.linalg.eigvalsh(scaled).min() > 1e-8:
        return np.asarray(2 * np.linalg.inv(scaled) / np.outer(size, size))
    out = np.full(hessian.shape, np.nan)
    out[:p, :p] = 2 * np.linalg.pinv(hessian[:p, :p], hermitian=True)
    return out


def reported(search: Search, x: np.ndarray) -> np.ndarray:
    """Sds and correlations below the diagonal, what is reported of the sds, and sigma."""
    theta, s = search.theta(x[None]), search.model.correlated.structure
    sigma = theta.sigma[0]
    root = search.criterion.coordinates.u_from_working @ theta.Lambda[0] * sigma
    covariance = root @ root.T
    sd = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = (covariance / np.outer(sd, sd))[np.tril_indices(len(sd), -1)]
    deviations = np.zeros((1, 0 if s.scale is None else len(s.scale.labels)))
    named = s.reported(np.hstack([theta.phi, deviations]), theta.sigma)
    of_sds = [v.reshape(-1) for k, v in named.items() if k != "log_sigma_deviation"]
    return np.concatenate([sd, corr, *of_sds, [sigma]])


def _standard_errors(search: Search, x: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Of ``reported``, by the delta method."""
    steps = 1e-6 * np.eye(len(x))[search.p :]
    ends = [(reported(search, x + e) - reported(search, x - e)) / 2e-6 for e in steps]
    by = np.array(ends).T
    own = covariance[search.p :, search.p :]
    variance = np.einsum("ia,ab,ib->i", by, own, by)
    return np.sqrt(np.where(variance >= 0, variance, np.nan))


@dataclass(frozen=True)
class Levels:
    """Moments of the groups given the rows, at the optimum, in the user's coding.

    Attributes
    ----------
    u, covariance
        Shapes (J, q) and (J, q, q): means and covariances of the random effects.
    sensitivity
        Shape (J, q, p): how the means fall with beta.
    scale_sd
        Shape (J,): sds of the logs of the residual sds.
    """

    u: np.ndarray
    covariance: np.ndarray
    sensitivity: np.ndarray
    scale_sd: np.ndarray


def _levels(search: Search, x: np.ndarray) -> tuple[np.ndarray, Levels]:
    """Deviations of the log sds (J,) whose precision is the expected one, and moments of the groups."""
    model, coordinates = search.model, search.model.coordinates
    at = np.zeros(QUANTILES, dtype=int)
    theta = search.theta(x[None])[at]
    uniform = np.broadcast_to((np.arange(QUANTILES) + 0.5)[:, None] / QUANTILES, (QUANTILES, 1))
    s = model.scales_at(theta, uniform)
    deviations = np.abs(x[-2]) * s
    scales = -0.5 * np.log(np.exp(-2 * deviations).mean(axis=0))
    J, q, p = s.shape[1], search.criterion.size, search.p
    if not q:
        none = np.zeros((J, 0)), np.zeros((J, 0, 0)), np.zeros((J, 0, p))
        return scales, Levels(*none, deviations.std(axis=0))
    whole = ResidualTheta(theta.sigma, theta.Lambda, np.hstack([theta.phi, deviations]))
    z = coordinates.zs[0].from_working
    means, within = model.level_moments(whole, theta.beta)
    plugged = np.hstack([theta.phi[:1], scales[None]])
    levels = model.at(theta.Lambda[0], plugged[0]).levels()[0]
    sensitivity = z @ levels.sensitivity @ coordinates.x.to_working
    between = means - means.mean(axis=0)
    covariance = within.mean(axis=0) + np.einsum("kja,kjb->jab", between, between) / QUANTILES
    return scales, Levels(means.mean(axis=0), covariance, sensitivity, deviations.std(axis=0))


def _factors(
    search: Search,
    own: np.ndarray,
    spread: np.ndarray,
    beta: np.ndarray,
    beta_covariance: np.ndarray,
    levels: Levels,
) -> tuple[FactorEstimate, ...]:
    if not search.design.groups:
        return ()
    (group,) = search.design.groups
    q = len(group.terms)
    low = np.tril_indices(q, -1)
    corr, corr_se = np.eye(q), np.full((q, q), np.nan)
    corr[low] = own[q : q + len(low[0])]
    corr_se[low] = spread[q : q + len(low[0])]
    corr, corr_se = (
        np.tril(corr) + np.tril(corr, -1).T,
        np.where(np.isnan(corr_se), corr_se.T, corr_se),
    )
    index = group.population
    into = np.zeros((q, len(beta)))
    into[index >= 0, index[index >= 0]] = 1.0
    W, u = levels.sensitivity, levels.u
    error = levels.covariance + W @ beta_covariance @ np.swapaxes(W, -1, -2)
    whole = levels.covariance + (into - W) @ beta_covariance @ np.swapaxes(into - W, -1, -2)
    coef = np.where(index >= 0, np.append(beta, 0.0)[index], 0.0) + u
    sd, sd_se = own[:q], spread[:q]
    return (
        FactorEstimate(
            group.factor, sd, sd_se, corr, corr_se, u, coef, error, levels.covariance, whole
        ),
    )


def _status(search: Search, x: np.ndarray) -> Status:
    slope, hessian = search.gradient(x), search.hessian(x)
    in_errors = slope / np.sqrt(np.maximum(np.diag(hessian) / 2, 1e-6))
    T = x[search.p : search.p + search.k]
    said = []
    for group, at in zip(search.design.groups, search.design.group_columns, strict=True):
        said.append(singular_text(search.criterion.matrix(T)[at, at], group))
    if x[-2] == 0.0:
        said.append(f"residual sds do not differ between {nouns(search.design.scale_factor)}")
    said = [text for text in said if text]
    if np.abs(in_errors).max() > STEEP and not said:
        steepest = float(np.abs(in_errors).max())
        return Status(
            "failed",
            "the search for the ML optimum did not converge: the largest slope of the deviance at its "
            f"end is {steepest:.2g} a standard error.",
        )
    if not said:
        return Status("converged", "the ML optimum is not on the boundary.")
    return Status("singular", f"the ML optimum is on the boundary: {' and '.join(said)}.")
