"""Log-likelihood of a partially pooled model whose response is not Gaussian, with its gradient.

x holds the population coefficients in working coordinates, the free entries of the root T (signs free,
so that an sd of zero is an inner point), and the family's parameters without bounds.

Of one factor with up to three effects a level the deviations are integrated by quadrature. Of several
factors, or more effects, by the Laplace approximation, as glmer and glmmTMB do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.algebra.choose import quadrature_model
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.quadrature.laplace import Laplace, Start, laplace, laplace_given_beta
from hierpool.algebra.quadrature.model import QuadratureModel
from hierpool.algebra.quadrature.slopes import Slopes, slopes
from hierpool.core.design import Design
from hierpool.core.theta import FamilyPoint, FamilyTheta
from hierpool.reml.criterion import Free, free_entries
from hierpool.reml.families.parameters import FamilyParameters

MOST_EFFECTS = 3  # a level, that quadrature takes
STEP = 1e-3  # of the family's free parameters, in differences of the log-likelihood
LAPLACE_STEP = 1e-2  # of all, where the Laplace approximation has no gradient of its own


@dataclass(frozen=True)
class FamilyCriterion:
    """The log-likelihood as a function of x (D,).

    Attributes
    ----------
    design, model
        The rows, and their algebra under flat priors.
    basis, free
        Lambda = basis T; the free entries of T.
    parameters
        The family's.
    by_quadrature
        Whether it is exact up to quadrature; else by the Laplace approximation.
    """

    design: Design
    model: QuadratureModel
    basis: np.ndarray
    free: Free
    parameters: FamilyParameters
    by_quadrature: bool

    @classmethod
    def from_design(cls, design: Design) -> FamilyCriterion:
        """Of a partially pooled design."""
        assert design.family is not None
        coordinates = Coordinates.from_design(design)
        codings, free = free_entries(design)
        zero = np.zeros(len(codings))
        model = quadrature_model(
            design, coordinates, BetaPrior.flat(design.observations.X.shape[1]), zero
        )
        by_quadrature = len(design.groups) == 1 and model.q <= MOST_EFFECTS
        basis = coordinates.u_to_working @ codings
        return cls(design, model, basis, free, FamilyParameters(design.family), by_quadrature)

    @property
    def p(self) -> int:
        """Population coefficients."""
        return self.design.observations.X.shape[1]

    @cached_property
    def k(self) -> int:
        """Free entries of T."""
        return int(self.free.whose.max(initial=-1)) + 1

    @property
    def spread(self) -> slice:
        """Where the free entries of T stand in x."""
        return slice(self.p, self.p + self.k)

    @property
    def size(self) -> int:
        """D."""
        return self.p + self.k + self.parameters.size

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        """Shape (..., Q, Q): T from its free entries (..., k)."""
        return self.free.matrix(theta, len(self.basis))

    def theta(self, T: np.ndarray) -> np.ndarray:
        """Shape (k,): the free entries of T."""
        return self.free.mean(T)

    def family_theta(self, x: np.ndarray) -> FamilyTheta:
        """Theta at points (K, D)."""
        Lambda = self.basis @ self.matrix(x[:, self.spread])
        par = self.parameters.par(x[:, self.spread.stop :])
        return FamilyTheta(np.ones(len(x)), Lambda, np.ascontiguousarray(par))

    def point(self, x: np.ndarray) -> FamilyPoint:
        """Theta and population coefficients at points (K, D)."""
        return self.point_of(self.family_theta(x), np.ascontiguousarray(x[:, : self.p]))

    def point_of(self, theta: FamilyTheta, beta: np.ndarray) -> FamilyPoint:
        """K values of theta with population coefficients (K, p)."""
        effects = np.zeros((len(beta), self.model.rows.others.n_effects))
        return FamilyPoint.at(theta, beta, effects)

    def values(self, x: np.ndarray) -> np.ndarray:
        """Shape (K,): log-likelihood at points (K, D); -inf where there is none."""
        return self.values_of(self.point(x))

    def values_of(self, point: FamilyPoint) -> np.ndarray:
        """Shape (K,): log-likelihood at K points; -inf where there is none."""
        if self.by_quadrature:
            return self.model.log_density_of_points(point, finer=True)
        each = [self._laplace(point[k : k + 1]) for k in range(len(point))]
        found = np.array([one.log_density[0] for one in each])
        return np.where(np.isfinite(found), found, -np.inf)

    def laplace(self, x: np.ndarray, start: Start | None = None) -> Laplace:
        """The Laplace approximation at one point (D,), with the modes of all levels."""
        return self._laplace(self.point(x[None]), start)

    def _laplace(self, point: FamilyPoint, start: Start | None = None) -> Laplace:
        first = self.model.start
        begin = Start(first.gamma[self.p :], first.v) if start is None else start
        return laplace_given_beta(self.model, point, begin)

    def gap_of_largest(self, x: np.ndarray, modes: Laplace) -> float:
        """Of several factors: what the Laplace approximation adds, for the largest factor alone.

        Its log p(y | effects of the other factors at their modes) less that by quadrature; NaN where
        quadrature does not take the largest factor.
        """
        if self.model.q > MOST_EFFECTS:
            return np.nan
        theta = self.family_theta(x[None])
        gamma = np.concatenate([x[: self.p], modes.gamma[0]])[None]
        point = self.model.point(gamma, theta)
        rows, others = self.model.rows, self.model.rows.others
        alone = np.setdiff1d(np.arange(len(self.basis)), others.blocks)
        none = replace(
            others,
            columns=np.zeros((len(rows.y), 0)),
            places=np.zeros((len(rows.y), 0), dtype=np.intp),
            blocks=np.zeros(0, dtype=np.intp),
            n_effects=0,
            mean=np.zeros(0),
        )
        offset, X = self.model.predictor(point)[0], np.zeros((len(rows.y), 0))
        given = replace(
            self.model,
            rows=replace(rows, offset=offset, X=X, others=none),
            prior=BetaPrior.flat(0),
        )
        own = FamilyTheta(theta.sigma, theta.Lambda[:, alone[:, None], alone], theta.par)
        begin = Start(np.zeros(0), modes.start.v)
        approximate = laplace(given, own, laplace(given, own, begin).start).log_density[0]
        exact = self.model.log_density_of_points(point, finer=True)[0]
        return float(approximate - exact)

    def gradients(self, x: np.ndarray) -> np.ndarray:
        """Shape (K, D): at points (K, D)."""
        if not self.by_quadrature:
            return np.array([self._by_differences(one, range(self.size)) for one in x])
        return self._gradients(x, slopes(self.model, self.point(x), finer=True))

    def _gradients(self, x: np.ndarray, found: Slopes) -> np.ndarray:
        by_T = np.swapaxes(self.basis, 0, 1) @ found.Lambda
        entries = np.array([self.free.sum(each) for each in by_T]).reshape(len(x), self.k)
        own = [self._of_parameters(x, k) for k in range(self.spread.stop, self.size)]
        return np.column_stack([found.beta, entries, *own])

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """At one point (D,)."""
        if not self.by_quadrature:
            return self._by_two_differences(x)
        found = slopes(self.model, self.point(x[None]), finer=True)
        return float(found.log_density[0]), self._gradients(x[None], found)[0]

    def _by_two_differences(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        moves = LAPLACE_STEP * np.eye(self.size)
        found = self.values(np.concatenate([x[None], x + moves, x - moves]))
        up, down = found[1 : 1 + self.size], found[1 + self.size :]
        return float(found[0]), (up - down) / (2 * LAPLACE_STEP)

    def _of_parameters(self, x: np.ndarray, k: int) -> np.ndarray:
        """Shape (K,): slope by one of the family's free parameters."""
        move = STEP * np.eye(self.size)[k]
        both = self.values(np.concatenate([x + move, x - move]))
        return np.asarray((both[: len(x)] - both[len(x) :]) / (2 * STEP))

    def _by_differences(self, x: np.ndarray, which: range) -> np.ndarray:
        """Slopes by differences with an error of the fourth order."""
        h, out = LAPLACE_STEP, []
        for k in which:
            e = h * np.eye(self.size)[k]
            a, b, c, d = self.values(np.array([x + e, x - e, x + 2 * e, x - 2 * e]))
            out.append((8 * (a - b) - (c - d)) / (12 * h))
        return np.array(out)

    def hessian(self, x: np.ndarray) -> np.ndarray:
        """Shape (D, D): of the log-likelihood at one point (D,)."""
        return self._of_gradients(x) if self.by_quadrature else self._of_values(x)

    def _of_gradients(self, x: np.ndarray) -> np.ndarray:
        D, h = self.size, 3 * STEP
        moves = h * np.eye(D)
        found = self.gradients(np.concatenate([x + moves, x - moves]))
        H = (found[:D] - found[D:]) / (2 * h)
        return np.asarray((H + H.T) / 2)

    def _of_values(self, x: np.ndarray) -> np.ndarray:
        D, h = self.size, 2 * LAPLACE_STEP
        pairs = [(i, j) for i in range(D) for j in range(i + 1)]
        E = h * np.eye(D)
        points = [
            x + s * (E[i] + t * E[j] * (i != j)) for i, j in pairs for s in (1, -1) for t in (1, -1)
        ]
        value = self.values(np.array(points)).reshape(-1, 2, 2)
        here, H = float(self.values(x[None])[0]), np.empty((D, D))
        for (i, j), v in zip(pairs, value, strict=True):
            if i == j:
                H[i, i] = (v[0, 0] - 2 * here + v[1, 0]) / h**2
            else:
                H[i, j] = H[j, i] = (v[0, 0] + v[1, 0] - v[0, 1] - v[1, 1]) / (4 * h**2)
        return H
