"""A polynomial in place of a log posterior whose evaluations are expensive.

Near its mode, in whitened coordinates, a log likelihood of many rows is smooth: a polynomial of degree
four, fitted to a few hundred exact evaluations, follows it to about a hundredth within a guarded
radius, and is nonsense beyond it. Draws from it are therefore checked: exact evaluations at some of
them say how far off it is, correct the marginal likelihood, and join the points of the fit where it is
too far. Theta of the exact engine (``surrogate``) and of families (``quadrature.stand_in``) use it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from scipy import special, stats

from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.exact.proposal import Mixture, Student
from hierpool.bayes.exact.target import log_normal

DEGREE = 4
RADIUS = 4.5  # whitened distance up to which the polynomial is used
PER_TERM = 1.7  # points for each coefficient of the polynomial
CHECKED = 64  # draws at which it is compared with the exact log posterior
CLOSE = 0.05  # sd of the differences there with which it is good enough
ROUNDS = 3
COLLAPSED = (-2.0, -2.5, -3.0, -4.0)  # z of an sd at which mass near zero would be seen
MISSED = 0.01  # share of the posterior that it may miss, or invent, where its draws do not come
NEGLIGIBLE = 1e-6  # share of which it is not asked what lies around
FLATTEST = 0.1  # precision, where that of the prior is 1, that a direction is given at least
_CANDIDATES = 6000  # proposals from which the checked draws are chosen by weight


class Dear(Protocol):
    """A log posterior in coordinates where its prior is standard normal, expensive to evaluate."""

    @property
    def coordinates(self) -> PriorCoordinates:
        """Of theta, whose scalars are the first coordinates."""

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): at z (K, d)."""

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log likelihood and log prior."""


@dataclass(frozen=True)
class Start:
    """Where the fit begins.

    Attributes
    ----------
    centre, covariance
        Shapes (d,) and (d, d): about the mode, and the curvature there.
    scattered, values
        Shapes (n, d) and (n,): draws of the prior, and the exact log likelihood there.
    """

    centre: np.ndarray
    covariance: np.ndarray
    scattered: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Polynomial[T: Dear]:
    """The polynomial, with what tells how far it is from what it stands in for.

    Attributes
    ----------
    target
        The exact log posterior.
    centre, root
        Shapes (d,) and (d, d): z = centre + root x, with x the whitened coordinates.
    powers, coefficients
        Shapes (terms, d) and (terms,): the log likelihood less its largest value, in x.
    top
        That value.
    errors
        Shape (CHECKED,): exact less approximate log posterior at draws of the latter.
    missed
        Shape (1 + sds,): share of the posterior, about, that it misses or invents where those
        draws do not come: over the prior at large, and where each sd is nearly zero.
    n_evaluations
        Exact evaluations that it took.
    """

    target: T
    centre: np.ndarray
    root: np.ndarray
    powers: np.ndarray
    coefficients: np.ndarray
    top: float
    errors: np.ndarray
    missed: np.ndarray
    n_evaluations: int

    @classmethod
    def around(cls, counted: Counted[T], start: Start, rng: np.random.Generator) -> Self:
        """Fit, check and refit; ``is_close`` says whether the last one is good enough."""
        target, centre, covariance = counted.target, start.centre, start.covariance
        d = len(centre)
        powers = _powers(d)
        points, values = np.zeros((0, d)), np.zeros(0)
        found: Self | None = None
        for _ in range(ROUNDS):
            root = np.linalg.cholesky(covariance)
            x = _design(int(PER_TERM * len(powers)), d, rng)
            new = centre + x @ root.T
            points = np.concatenate([points, new])
            values = np.concatenate([values, counted.log_likelihood(new)])
            found = cls._fit(target, centre, root, powers, points, values)
            draws, mean, covariance = found._draws(rng)
            exact = counted.log_likelihood(draws)
            errors = exact - found.log_likelihood(draws)
            points, values = np.concatenate([points, draws]), np.concatenate([values, exact])
            far = found._misses_far_out(start.scattered, start.values)
            missed = np.append(far, found._near_zero(counted))
            found = cls(*found._parts, errors, missed, counted.n)
            if found.is_close:
                break
            centre = mean
        assert found is not None
        return found

    @classmethod
    def _fit(
        cls,
        target: T,
        centre: np.ndarray,
        root: np.ndarray,
        powers: np.ndarray,
        z: np.ndarray,
        values: np.ndarray,
    ) -> Self:
        """Weighted least squares: what lies near the centre counts most."""
        x = np.linalg.solve(root, (z - centre).T).T
        distance = (x**2).sum(axis=1)
        used = np.isfinite(values) & (distance < RADIUS**2)
        top = float(values[used].max())
        weight = np.exp(-distance[used] / 8)[:, None]
        # lstsq squares the weight to exp(-distance^2 / 4): about the root of the posterior's own density.
        columns = _monomials(x[used], powers)
        coefficients = np.linalg.lstsq(weight * columns, weight[:, 0] * (values[used] - top))[0]
        return cls(target, centre, root, powers, coefficients, top, np.zeros(0), np.zeros(0), 0)

    @property
    def _parts(self) -> tuple[T, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
        return self.target, self.centre, self.root, self.powers, self.coefficients, self.top

    @property
    def is_close(self) -> bool:
        """Whether it is near enough to the exact log posterior where that has its mass."""
        near = np.isfinite(self.errors).all() and self.errors.std() < CLOSE
        return bool(near and (self.missed < MISSED).all())

    @property
    def log_correction(self) -> tuple[float, float]:
        """What is added to the log evidence of the polynomial, and its standard error."""
        # Over draws from the polynomial, E[exact / approximate] is the ratio of the two evidences.
        weights = np.exp(self.errors)
        error = weights.std(ddof=1) / np.sqrt(len(weights)) / weights.mean()
        return float(np.log(weights.mean())), float(error)

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): the polynomial; beyond the radius it falls as a normal density would."""
        x = np.linalg.solve(self.root, (z - self.centre).T).T
        distance = np.sqrt((x**2).sum(axis=1))
        inside = np.minimum(1.0, RADIUS / np.maximum(distance, 1e-300))
        value = _monomials(x * inside[:, None], self.powers) @ self.coefficients
        beyond = np.maximum(distance, RADIUS) ** 2 - RADIUS**2
        return np.asarray(self.top + value - 0.5 * beyond)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log likelihood and log prior, approximately."""
        return self.log_likelihood(z) + log_normal(z)

    @property
    def _log_whole(self) -> float:
        """log of the integral of likelihood and prior less ``top``, by the curvature at the centre."""
        d = len(self.centre)
        log_volume = 0.5 * d * np.log(2 * np.pi) + np.log(np.diag(self.root)).sum()
        return float(log_normal(self.centre[None])[0] + log_volume)

    def _misses_far_out(self, z: np.ndarray, exact: np.ndarray) -> float:
        """Share of the posterior that is missed or invented, told by prior draws."""
        gaps = _mass(exact - self.top) - _mass(self.log_likelihood(z) - self.top)
        return float(np.abs(gaps).mean() / np.exp(self._log_whole))

    def _near_zero(self, target: Counted[T]) -> np.ndarray:
        """Shape (sds,): shares that are missed or invented where one sd is nearly zero.

        That sd is integrated over its prior. What lies around it in the other directions is told
        by slope and curvature of the log posterior there, beside the curvature at the centre.
        """
        vanishing = self.target.coordinates.vanishing
        precision = np.diag(np.linalg.inv(self.root @ self.root.T))
        shares = np.zeros(len(vanishing))
        for k, (sd, _) in enumerate(vanishing):
            points = np.tile(self.centre, (len(COLLAPSED), 1))
            points[:, sd] = np.minimum(COLLAPSED, self.centre[sd])
            gaps = _mass(target.log_likelihood(points) - self.top)
            gaps = np.abs(gaps - _mass(self.log_likelihood(points) - self.top))
            # z has a standard normal prior: prior mass between two points is a difference of Phi.
            below = special.ndtr(points[:, sd])
            between = np.append(-np.diff(below), below[-1])
            parts = between * np.append((gaps[:-1] + gaps[1:]) / 2, gaps[-1])
            width = stats.norm.pdf(self.centre[sd]) * np.sqrt(2 * np.pi / precision[sd])
            shares[k] = parts.sum() / width
            if shares[k] > NEGLIGIBLE:
                shares[k] *= self._around(target, points[np.argmax(parts)], sd, precision)
        return np.nan_to_num(shares, nan=np.inf)

    def _around(self, target: Counted[T], z: np.ndarray, sd: int, precision: np.ndarray) -> float:
        """Volume of the posterior around z in all directions but one, in units of the centre's."""
        others = np.delete(np.arange(len(z)), sd)
        h = 1 / np.sqrt(precision[others])
        steps = np.zeros((len(others), len(z)))
        steps[np.arange(len(others)), others] = h
        values = target(np.concatenate([z + steps, z - steps, z[None]]))
        up, down, here = np.split(values, [len(others), 2 * len(others)])
        slope, curvature = (up - down) / (2 * h), (2 * here - up - down) / h**2
        # Laplace's method beside the mode: the integral of exp(s x - c x^2 / 2), over the centre's.
        curvature = np.maximum(curvature, FLATTEST)
        log_volume = slope**2 / (2 * curvature) + 0.5 * np.log(precision[others] / curvature)
        return float(_mass(log_volume.sum()))

    def _draws(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws from the approximate posterior, and its mean and covariance."""
        d = len(self.centre)
        scale = self.root @ self.root.T
        proposal = Mixture((Student.with_scale(self.centre, 1.2 * scale, 6.0),), np.ones(1))
        z = proposal.draw(_CANDIDATES, rng)
        log_weight = self(z) - proposal.log_density(z)
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        mean = weight @ z
        centred = z - mean
        covariance = (centred * weight[:, None]).T @ centred + 1e-8 * np.eye(d)
        chosen = rng.choice(len(z), size=CHECKED, p=weight)
        return z[chosen], mean, covariance


class Counted[T: Dear]:
    """A target that counts its evaluations."""

    def __init__(self, target: T) -> None:
        self.target, self.n = target, 0

    def log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,), at z (K, d)."""
        self.n += len(z)
        return self.target.log_likelihood(z)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Shape (K,): log likelihood and log prior."""
        return self.log_likelihood(z) + log_normal(z)


def _mass(log_density: np.ndarray) -> np.ndarray:
    # exp(710) is infinite, and the difference of two such masses NaN.
    return np.exp(np.minimum(log_density, 700.0))


def _powers(d: int) -> np.ndarray:
    """Shape (terms, d): exponents of every monomial up to the degree."""
    out = []
    for degree in range(DEGREE + 1):
        for chosen in itertools.combinations_with_replacement(range(d), degree):
            out.append([chosen.count(k) for k in range(d)])
    return np.array(out)


def _monomials(x: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Shape (K, terms): products of powers of the columns of x."""
    table = np.stack([x**p for p in range(DEGREE + 1)])
    out = np.ones((len(x), len(powers)))
    for k in range(x.shape[1]):
        out *= table[powers[:, k], :, k].T
    return out


def _design(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Shape (n, d): whitened points, half of them spread wider than the posterior."""
    x = rng.standard_normal((n, d))
    x[n // 2 :] *= 1.8
    distance = np.sqrt((x**2).sum(axis=1))
    return x * np.minimum(1.0, 0.98 * RADIUS / distance)[:, None]
