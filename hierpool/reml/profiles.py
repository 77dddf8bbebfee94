"""Profile likelihood of ML: how the deviance rises when one quantity is held and all others follow.

The deviance of (Lambda, log sigma), fixed effects at their best values or one of them held, is

    d = log det M_u + n log(2 pi) + 2 n log sigma + r2 / sigma^2

References
----------
Venzon, Moolgavkar (1988), Appl. Stat. 37, 87-94.
Bates, Maechler, Bolker, Walker (2015), J. Stat. Softw. 67(1), section 5.1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, cast

import numpy as np
from scipy import optimize

from hierpool.algebra.gaussian import LOG_2PI
from hierpool.core.correlation import OfLag
from hierpool.core.design import Design
from hierpool.core.errors import HierpoolWarning
from hierpool.core.results import residual_entries, variance_component_name
from hierpool.reml.criterion import Criterion, HasResiduals
from hierpool.reml.estimate import minimise
from hierpool.reml.held import Block, Held, Root

STEPS = 200  # that a search may take
_COLLAPSED = -8.0  # log of what an sd is multiplied by to begin near zero
_CLOSE, _HELD = 1e-10, 1e-6  # of a constrained search: of the deviance, and of what is held
_RESTARTS = 3  # of a constrained search that stops early
_SEARCHED = 60  # doublings of a step before an end is said to be infinite


class Surface(Protocol):
    """A deviance around its optimum.

    Beside the root it depends on what is left over, ``rest`` (r,): log sigma of Gaussian responses,
    coefficients and parameters of others.
    """

    @property
    def basis(self) -> np.ndarray:
        """Shape (Q, Q): Lambda = basis T."""

    @property
    def least(self) -> float:
        """The deviance at the optimum."""

    def profile(self, held: Held) -> Profile:
        """Of one quantity."""

    @property
    def is_in_sigmas(self) -> bool:
        """Whether the root is in units of sigma, the exponential of the last of the rest."""

    def rest(self, held: Held) -> np.ndarray:
        """What is left over at the optimum, less what is held."""

    def log_sigma(self, rest: np.ndarray, held: Held, value: float) -> float:
        """What the root is multiplied by, as a logarithm."""

    def deviance(
        self, Lambda: np.ndarray, rest: np.ndarray, held: Held, value: float
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Deviance with its derivatives by Lambda (Q, Q) and by the rest."""


@dataclass(frozen=True)
class GaussianSurface:
    """The ML deviance of a Gaussian response around its optimum.

    Attributes
    ----------
    design
        The rows.
    criterion
        The profiled one, with the algebra.
    """

    design: Design
    criterion: Criterion

    @classmethod
    def from_design(cls, design: Design) -> GaussianSurface:
        """Of a partially pooled design."""
        return cls(design, Criterion.from_design(design, "ML"))

    @cached_property
    def theta(self) -> np.ndarray:
        """Shape (k,): the optimum."""
        return minimise(self.criterion).theta

    @cached_property
    def least(self) -> float:
        """Deviance there."""
        return float(self.criterion.deviance(self.theta[None])[0])

    @cached_property
    def best(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Sigma, fixed effects and their covariance in the user's coding, at the optimum."""
        at, x = self.criterion.at(self.theta).marginal, self.criterion.coordinates.x
        sigma = 1.0
        if self.criterion.has_sigma:
            sigma = float(np.sqrt(at.penalized_ss[0] / self.criterion.df))
        beta = self.criterion.coordinates.beta_to_user(at.beta)[0]
        return sigma, beta, sigma**2 * x.from_working @ at.beta_covariance[0] @ x.from_working.T

    @property
    def quantities(self) -> list[Held]:
        """Everything that can be held: fixed effects, sds, correlations, sigma."""
        sigma, beta, covariance = self.best
        coordinates, plain = self.criterion.coordinates, self._root.blocks()
        held = [
            Held(
                f"beta[{term}]",
                float(beta[k]),
                (-np.inf, np.inf),
                float(2 * np.sqrt(covariance[k, k])),
                plain,
                "beta",
                contrast=coordinates.x.from_working[k],
                shift=coordinates.y_shift * float(coordinates.x.constant[k]),
            )
            for k, term in enumerate(self.design.terms)
        ]
        for f in range(len(self.design.groups)):
            held += self._root.held(f, sigma, 0.2 * sigma)
        if self.criterion.has_sigma:
            held.append(Held("sigma", sigma, (0.0, np.inf), 0.2 * sigma, plain, "sigma"))
        return [*held, *self._of_residuals(sigma, plain)]

    def _of_residuals(self, sigma: float, plain: tuple[Block, ...]) -> Iterator[Held]:
        """Parameters of a residual structure; sds of its classes."""
        s = self.criterion.structure
        if s is None:
            return
        first = s.n_correlations
        for key, name, at in residual_entries(self.design.schema):
            shown = variance_component_name(*key)
            if name == "sd_residual":
                log_sd = np.zeros(s.size)
                log_sd[first : first + s.n_spread] = s.basis[at[-1]]
                sd = sigma * float(np.exp(log_sd @ self._residual))
                yield Held(shown, sd, (0.0, np.inf), 0.2 * sd, plain, "sigma", contrast=log_sd)
                continue
            if s.correlation is not None and name == "corr_residual":
                first = s.correlation.size * (at[0] if s.by_labels else 0)
                yield self._of_occasions(shown, first, (at[-2], at[-1]), plain)
                continue
            k = s.size - 1
            if name != "log_sd_slope" and s.correlation is not None:
                k = s.correlation.size * (at[0] if at else 0) + s.correlation.names.index(name)
            x = float(self._residual[k])
            yield Held(shown, x, (-np.inf, np.inf), 0.5, plain, "residual", position=k)

    def _of_occasions(
        self, shown: str, first: int, pair: tuple[int, int], plain: tuple[Block, ...]
    ) -> Held:
        """A correlation of two occasions, on Fisher's scale; of equal ones the first stands for all."""
        s = self.criterion.structure
        if s is not None and isinstance(s.correlation, OfLag):
            pair = (0, pair[1] - pair[0])
        held = Held(
            shown, 0.0, (-np.inf, np.inf), 0.5, plain, "occasions", position=first, pair=pair
        )
        value, _ = self.constraint(self._residual, held)
        return replace(held, estimate=value)

    def constraint(self, rest: np.ndarray, held: Held) -> tuple[float, np.ndarray]:
        """A correlation of two occasions on Fisher's scale, with its derivatives by the rest."""
        s = self.criterion.structure
        assert s is not None
        assert s.correlation is not None
        own = slice(held.position, held.position + s.correlation.size)
        places = [np.array(held.pair, dtype=float)]
        phi = s.correlation.from_free(rest[None, own])
        r = float(np.real(s.correlation.blocks(phi, places)[0][0, 0, 1]))
        by = np.zeros(len(rest))
        by[own] = s.correlation.slopes(rest[own], places)[0][:, 0, 1] / (1 - r**2)
        return float(np.arctanh(r)), by

    @property
    def _residual(self) -> np.ndarray:
        """Shape (m,): free parameters of the residuals at the optimum."""
        return self.theta[self.criterion.n_free :]

    def in_user_coding(self, held: Held, ends: tuple[float, float]) -> tuple[float, float]:
        """An interval of what is reported of a free parameter."""
        s = self.criterion.structure
        if held.kind == "occasions":
            return float(np.tanh(ends[0])), float(np.tanh(ends[1]))
        if held.kind != "residual" or s is None:
            return ends
        x = np.tile(self._residual, (2, 1))
        x[:, held.position] = ends
        with np.errstate(over="ignore"):
            low, high = s.from_free(x)[:, held.position]
        is_slope = held.position >= s.n_correlations
        unit = s.unit if is_slope else 1.0
        return float(low / unit), float(high / unit)

    @cached_property
    def _root(self) -> Root:
        c = self.criterion
        into_user = c.coordinates.u_from_working @ c.basis
        return Root(self.design, c.basis, into_user, c.matrix(self.theta))

    @property
    def basis(self) -> np.ndarray:
        """Shape (Q, Q): Lambda = basis T."""
        return self.criterion.basis

    def profile(self, held: Held) -> Profile:
        """Of one quantity."""
        return Profile(self, held)

    @property
    def is_in_sigmas(self) -> bool:
        """Unless sigma is known."""
        return self.criterion.has_sigma

    def rest(self, held: Held) -> np.ndarray:
        """Free parameters of the residuals, less what is held; log sigma, unless it is known or held."""
        has_sigma = self.criterion.has_sigma and held.kind != "sigma"
        own = self._residual
        own = np.delete(own, held.position) if held.kind == "residual" else own
        return np.concatenate([own, [np.log(self.best[0])] if has_sigma else []])

    def _parameters(self, rest: np.ndarray, held: Held, value: float) -> np.ndarray:
        """Shape (m,): free parameters of the residuals."""
        own = rest[: len(self._residual) - (held.kind == "residual")]
        return np.insert(own, held.position, value) if held.kind == "residual" else own

    def log_sigma(self, rest: np.ndarray, held: Held, value: float) -> float:
        """Of the residuals."""
        if held.kind == "sigma":
            own = self._parameters(rest, held, value)
            return float(np.log(value)) - (
                float(held.contrast @ own) if len(held.contrast) else 0.0
            )
        return float(rest[-1]) if len(rest) else 0.0

    def deviance(
        self, Lambda: np.ndarray, rest: np.ndarray, held: Held, value: float
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Deviance with its derivatives by Lambda and by the rest."""
        log_sigma, s = self.log_sigma(rest, held, value), self.criterion.structure
        phi = None if s is None else s.from_free(self._parameters(rest, held, value))
        point = self.criterion.algebra.at(Lambda, phi)
        at, beta, n = point.marginal, None, self.criterion.moments.n
        ss = float(at.penalized_ss[0])
        if held.kind == "beta":
            # The least rise of r2 under c'beta = value: beta moves along its covariance with c'beta.
            turned = at.beta_covariance[0] @ held.contrast
            away = value - held.shift - float(held.contrast @ at.beta[0])
            beta = at.beta[0] + turned * away / float(held.contrast @ turned)
            ss += away**2 / float(held.contrast @ turned)
        log_det, by_ss = point.gradient(False, beta)
        precision = np.exp(-2 * log_sigma)
        constant = n * LOG_2PI + 2 * self.criterion.moments.log_sd + self.criterion.coding_constant
        total = float(at.log_det_levels[0]) + constant + 2 * n * log_sigma + ss * precision
        by_sigma = 2 * n - 2 * ss * precision
        by_phi = np.zeros(0)
        if s is not None:
            by_each = cast("HasResiduals", point).residual_gradient(False, beta)
            by_phi = np.array([1.0, precision]) @ by_each
            if held.kind == "sigma" and len(held.contrast):
                by_phi = by_phi - by_sigma * held.contrast
            by_phi = np.delete(by_phi, held.position) if held.kind == "residual" else by_phi
        has_sigma = len(rest) > len(by_phi)
        by_rest = np.concatenate([by_phi, [by_sigma] if has_sigma else []])
        return total, log_det + precision * by_ss, by_rest


class Profile:
    """The deviance as a function of one quantity; remembers where its minima were.

    The free vector holds the entries of the blocks that the held quantity leaves free, in order,
    then the rest of the surface. For a correlation T_11 and the length of (T_21, T_22) stand there as
    logarithms: of either sign the correlation would turn.

    Attributes
    ----------
    closeness
        Of an end of an interval, in units of the distance that it is searched over.
    """

    closeness = 1e-6

    def __init__(self, surface: Surface, held: Held) -> None:
        self.surface, self.held = surface, held
        self.free = [np.ones(len(b.rows), dtype=bool) for b in held.blocks]
        if held.kind in {"sd", "corr"}:
            self.free[0][0 if held.kind == "sd" else 1] = False
        start = [
            b.start[b.rows, b.cols][own] for b, own in zip(held.blocks, self.free, strict=True)
        ]
        if held.kind == "corr":
            T = held.blocks[0].start
            lengths = np.array([T[0, 0], np.hypot(*T[1, :2])])
            start[0][:2] = np.log(np.maximum(lengths, 1e-3 * np.linalg.norm(T) + 1e-12))
        rest = surface.rest(held)
        self.n_entries = sum(map(len, start))
        self.start = np.concatenate([*start, rest])
        self.known = [(held.estimate, self.start)]
        self.unfinished = 0
        self.inverse = self._curvature()

    def rise(self, value: float) -> float:
        """Deviance at the value less the smallest one, never below zero."""
        found = [self._search(value, start) for start in self._starts(value)]
        deviance, free, ended = min(found, key=lambda one: one[0])
        self.unfinished += not ended
        if np.isfinite(deviance):
            self.known.append((value, free))
        return max(deviance - self.surface.least, 0.0)

    def _starts(self, value: float) -> list[np.ndarray]:
        """The minimum at the nearest value, the optimum, and for a correlation of one an sd of zero."""
        nearest = min(self.known, key=lambda pair: abs(pair[0] - value))[1]
        starts = [nearest] if nearest is self.start else [nearest, self.start]
        if self.held.kind == "corr" and value in self.held.limits:
            starts += [self.start + move for move in _COLLAPSED * np.eye(2, len(self.start))]
        return starts

    def _search(self, value: float, start: np.ndarray) -> tuple[float, np.ndarray, bool]:
        """The smallest deviance near a start, infinite where there is none; where, and if it ended."""
        if self.held.kind == "occasions":
            return self._constrained(value, start)

        def at(free: np.ndarray) -> tuple[float, np.ndarray]:
            return self._value_and_gradient(free, value)

        with np.errstate(all="ignore"):
            if not len(start):
                return at(start)[0], start, True
            found = optimize.minimize(
                at,
                start,
                jac=True,
                method="BFGS",
                options={"gtol": 1e-4, "maxiter": STEPS, "hess_inv0": self.inverse},
            )
        deviance = float(found.fun)
        # a search that stops for want of precision (2) is at a minimum as far as it can tell
        ended = found.status in (0, 2)
        return (deviance if np.isfinite(deviance) else np.inf), np.asarray(found.x), ended

    def _constrained(self, value: float, start: np.ndarray) -> tuple[float, np.ndarray, bool]:
        """The same where the held quantity is a function of several parameters.

        In standard errors from the start, where the deviance is nearly a sum of squares.
        """
        root, k = np.linalg.cholesky(self.inverse), self.n_entries
        surface = cast("GaussianSurface", self.surface)

        def at(z: np.ndarray) -> tuple[float, np.ndarray]:
            total, by = self._value_and_gradient(start + root @ z, value)
            return total - surface.least, root.T @ by

        def away(z: np.ndarray) -> float:
            return surface.constraint((start + root @ z)[k:], self.held)[0] - value

        def slope(z: np.ndarray) -> np.ndarray:
            by = np.zeros(len(start))
            by[k:] = surface.constraint((start + root @ z)[k:], self.held)[1]
            return np.asarray(root.T @ by)

        z = np.zeros(len(start))
        for _ in range(_RESTARTS):
            with np.errstate(all="ignore"):
                found = optimize.minimize(
                    at,
                    z,
                    jac=True,
                    method="SLSQP",
                    constraints=[{"type": "eq", "fun": away, "jac": slope}],
                    options={"ftol": _CLOSE, "maxiter": STEPS},
                )
            if found.success or not np.isfinite(found.x).all():
                break
            z = found.x
        is_held = np.isfinite(found.fun) and abs(away(found.x)) < _HELD
        deviance = float(found.fun) + surface.least if is_held else np.inf
        return deviance, start + root @ found.x, bool(found.success)

    def _value_and_gradient(self, free: np.ndarray, value: float) -> tuple[float, np.ndarray]:
        """Deviance and gradient of the free vector."""
        held, rest = self.held, free[self.n_entries :]
        log_sigma = self.surface.log_sigma(rest, held, value)
        Lambda = np.zeros_like(self.surface.basis)
        done, entries = 0, []
        for k, block in enumerate(held.blocks):
            count = int(self.free[k].sum())
            T = np.zeros_like(block.start)
            own = free[done : done + count]
            T[block.rows[self.free[k]], block.cols[self.free[k]]] = own
            if k == 0:
                self._hold(T, own, value, log_sigma)
            Lambda[:, block.columns] = block.left @ T
            entries.append(T)
            done += count
        total, by_Lambda, by_rest = self.surface.deviance(Lambda, rest, held, value)
        gradient = []
        for k, block in enumerate(held.blocks):
            by_T = block.left.T @ by_Lambda[:, block.columns]
            if k == 0 and held.kind == "sd" and self.surface.is_in_sigmas:
                # The sd is held, so T_11 = sd / (unit sigma) follows log sigma with slope -T_11.
                by_rest[-1] -= by_T[0, 0] * entries[0][0, 0]
            if k == 0 and held.kind == "corr":
                # Chain rule: T_21 and T_22 are one length times value and sqrt(1 - value^2), and the free
                # vector has logarithms.
                by_T[1, 1] = by_T[1, 0] * value + by_T[1, 1] * np.sqrt(1 - value**2)
                by_T[[0, 1], [0, 1]] *= np.exp(free[:2])
            gradient.append(by_T[block.rows[self.free[k]], block.cols[self.free[k]]])
        return total, np.concatenate([*gradient, by_rest])

    def _hold(self, T: np.ndarray, own: np.ndarray, value: float, log_sigma: float) -> None:
        """Write the held entries into the first block."""
        if self.held.kind == "sd":
            T[0, 0] = value / self.held.unit * np.exp(-log_sigma)
        elif self.held.kind == "corr":
            T[0, 0], length = np.exp(own[:2])
            T[1, 0], T[1, 1] = value * length, np.sqrt(1 - value**2) * length

    def _curvature(self) -> np.ndarray:
        """Inverse Hessian of the free vector at the optimum, for the first step of each search."""
        steps = 1e-4 * np.maximum(np.abs(self.start), 1e-2)
        rows = []
        with np.errstate(all="ignore"):
            for move, step in zip(np.diag(steps), steps, strict=True):
                up, down = (
                    self._value_and_gradient(self.start + s * move, self.held.estimate)[1]
                    for s in (1, -1)
                )
                rows.append((up - down) / (2 * step))
        H = np.array(rows).reshape(len(steps), len(steps))
        if not np.isfinite(H).all():
            return np.eye(len(H))
        values, vectors = np.linalg.eigh((H + H.T) / 2)
        floor = 1e-6 * max(float(np.abs(values).max(initial=0.0)), 1.0)
        half = vectors / np.sqrt(np.maximum(np.abs(values), floor))
        inverse = half @ half.T
        return np.asarray((inverse + inverse.T) / 2)


def interval(surface: Surface, held: Held, cut: float) -> tuple[float, float]:
    """Where the deviance has risen by ``cut`` on either side; a limit that it does not reach."""
    sides = [(surface.profile(held), side) for side in (-1, 1)]
    low, high = (_end(profile, side, np.sqrt(cut)) for profile, side in sides)
    if missed := sum(profile.unfinished for profile, _ in sides):
        warnings.warn(
            f"the profile interval of {held.name} may be too narrow: the search for the smallest "
            f"deviance had not converged after {STEPS} steps at {missed} of its values. Use "
            "confint(method='bootstrap').",
            HierpoolWarning,
            stacklevel=2,
        )
    return low, high


def _end(profile: Profile, side: int, cut: float) -> float:
    """Where the root of the rise crosses ``cut``, below (-1) or above (1) the estimate."""
    held = profile.held
    limit = held.limits[0 if side < 0 else 1]

    def excess(value: float) -> float:
        # The root, since it is nearly linear in the value: zeta in Bates and others (2015), section 5.1.
        return float(np.sqrt(profile.rise(value))) - cut

    if held.kind in {"sd", "corr"} and np.isfinite(limit):
        if held.estimate == limit:
            return limit
        if excess(limit) <= 0:
            return limit
        return _between(excess, held.estimate, limit, -cut, profile.closeness)
    near, below = held.estimate, -cut
    for k in range(_SEARCHED):
        step = side * held.step * 2.0**k
        far = (
            held.estimate + step
            if held.kind != "sigma"
            else held.estimate * np.exp(side * 0.2 * 2.0**k)
        )
        far = min(max(far, held.limits[0]), held.limits[1])
        above = excess(far)
        if not np.isfinite(above):
            break
        if above > 0:
            return _between(excess, near, far, below, profile.closeness)
        if far == limit:
            break
        near, below = far, above
    return limit


def _between(
    excess: Callable[[float], float],
    inner: float,
    outer: float,
    at_inner: float,
    closeness: float,
) -> float:
    """Root between two values, known to lie there; the rise is nearly linear in its root."""

    def known(value: float) -> float:
        return at_inner if value == inner else excess(value)

    xtol = closeness * abs(outer - inner) + 1e-300
    return float(optimize.brentq(known, inner, outer, xtol=xtol, rtol=1e-9))
