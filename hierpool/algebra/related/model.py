"""Designs with related levels, their coefficients integrated out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI, BetaPrior, Marginal
from hierpool.algebra.left_out_rows import LeftOutRows
from hierpool.algebra.marginal_model import LevelSums
from hierpool.algebra.moments import Coordinates, Moments
from hierpool.algebra.related.columns import RelatedColumns
from hierpool.algebra.related.factorisation import RelatedFactorisation
from hierpool.algebra.several.plan import ManyRows
from hierpool.algebra.triangular import log_det, solve_lower
from hierpool.algebra.weighted_products import DenseProducts
from hierpool.core.design import Design, Grouping
from hierpool.core.theta import WorkingTheta
from hierpool.core.threads import one_blas_thread


@dataclass(frozen=True)
class RelatedLevels(LeftOutRows):
    """A design some of whose factors have related levels.

    Attributes
    ----------
    design, coordinates, prior
        As in ``MarginalModel``.
    own
        The columns of all factors.
    """

    design: Design
    coordinates: Coordinates
    prior: BetaPrior
    own: RelatedColumns

    @classmethod
    def from_design(
        cls, design: Design, coordinates: Coordinates, prior: BetaPrior
    ) -> RelatedLevels:
        """Integrate the coefficients of a design out under this prior of beta."""
        rows = ManyRows.from_design(design, coordinates)
        return cls(design, coordinates, prior, RelatedColumns.from_design(design, rows))

    @property
    def scaled_rows(self) -> ManyRows:
        """The rows in working coordinates."""
        return self.own.rows

    @cached_property
    def totals(self) -> Moments:
        """Counts of the rows; their cross-products stand in ``level_sums``."""
        return self.own.rows.counts_alone

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""
        r, N, p = len(self.own.D), self.own.n_others, self.own.p
        return r * (N + p + 1) ** 2 + N**3 // 3

    def at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> RelatedFactorisation:
        """The model at one relative factor."""
        return RelatedFactorisation(self.own, self.totals, tuple(self.design.group_columns), Lambda)

    def population_at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> Marginal:
        """The population's part at K relative factors."""
        flat = replace(self, prior=BetaPrior.flat(self.own.p))
        return flat.marginal(WorkingTheta(np.ones(len(Lambda)), Lambda))

    def weighted_products(self, basis: np.ndarray, T: np.ndarray) -> DenseProducts:
        """Cross-products of the levels' columns weighted by V^-1."""
        at = self.at(basis @ T)
        columns = tuple(self.design.group_columns)
        sizes = [f.size for f in self.own.factors]
        blocks = [
            self.own.T * basis[c, c][0, 0] if k == self.own.main else self._scaled(k, basis[c, c])
            for k, c in enumerate(columns)
        ]
        return DenseProducts.of(at, self.own.rows.X, blocks, sizes)

    def _scaled(self, k: int, basis: np.ndarray) -> np.ndarray:
        factor = self.own.factors[k]
        block = self.own.B[:, factor.at]
        each = block.reshape(len(block), -1, factor.size) @ basis
        return np.asarray(each.reshape(block.shape))

    def level_sums(self, theta: WorkingTheta) -> LevelSums:
        """What the levels contribute at K values of theta."""
        own, p = self.own, self.own.p
        if own.n_others:
            with one_blas_thread():
                each = [self.at(Lambda).marginal for Lambda in theta.Lambda]
            return self._put_together(each)
        sd = own.main_sd(theta.Lambda, tuple(self.design.group_columns))
        along, scaled = own.along, np.square(sd)[:, None] * own.D[own.D > 0]
        products = (along[:, :, None] * along[:, None, :]).reshape(len(along), -1)
        left = -own.across - ((1 / (1 + scaled)) @ products).reshape(-1, p + 1, p + 1)
        return LevelSums.from_products(np.log1p(scaled).sum(axis=1), left)

    def _put_together(self, each: list[Marginal]) -> LevelSums:
        """From population parts with a flat prior: XX - S and Xy - s are what the levels take."""
        m = self.totals
        S = np.stack([e.R[0] @ e.R[0].T for e in each], axis=-1)
        s = np.stack([e.s[0] for e in each], axis=-1)
        return LevelSums(
            np.array([e.log_det_levels[0] for e in each]),
            m.XX[..., None] - S,
            m.Xy[:, None] - s,
            np.array([e.g_squared[0] for e in each]),
        )

    def draw(
        self,
        theta: WorkingTheta,
        seed: int,
        sums: LevelSums | None = None,
        with_sums: bool = True,
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta, in the user's coding."""
        rng = np.random.default_rng(seed)
        beta = self.marginal(theta, sums).draw_beta(rng)
        return self._coefficients(theta, beta, rng, with_sums)

    def mean_coefficients(self, theta: WorkingTheta) -> dict[str, np.ndarray]:
        """Conditional means of all coefficients at K values of theta; keys as for the draws."""
        return self._coefficients(theta, self.marginal(theta).beta, None, True)

    def _coefficients(
        self,
        theta: WorkingTheta,
        beta: np.ndarray,
        rng: np.random.Generator | None,
        with_sums: bool,
    ) -> dict[str, np.ndarray]:
        if not self.own.n_others:
            u = (self._main_levels(theta, beta, rng),)
            return self._with_population(self.coordinates.beta_to_user(beta), u, with_sums)
        r, N = len(self.own.D), self.own.n_others
        found: list[list[np.ndarray]] = [[] for _ in self.design.groups]
        with one_blas_thread():
            for k, (sigma, Lambda) in enumerate(zip(theta.sigma, theta.Lambda, strict=True)):
                noise = None
                if rng is not None:
                    noise = sigma * rng.standard_normal(r), sigma * rng.standard_normal(N)
                at = self.at(Lambda)
                levels = at.deviations(*at.coefficients(beta[k], noise))
                for own, each in zip(found, levels, strict=True):
                    own.append(each)
        u = tuple(
            np.stack(own) @ z.from_working.T
            for own, z in zip(found, self.coordinates.zs, strict=True)
        )
        return self._with_population(self.coordinates.beta_to_user(beta), u, with_sums)

    def _main_levels(
        self, theta: WorkingTheta, beta: np.ndarray, rng: np.random.Generator | None
    ) -> np.ndarray:
        """Shape (K, J, 1): where there is the main factor alone, all values of theta at once."""
        own = self.own
        sd = own.main_sd(theta.Lambda, tuple(self.design.group_columns))[:, None]
        d = 1 + np.square(sd) * own.D
        v = sd * (own.C[:, -1] - beta @ own.C[:, :-1].T) / d
        if rng is not None:
            v += theta.sigma[:, None] * rng.standard_normal(v.shape) / np.sqrt(d)
        turned, z = own.factors[own.main].into, self.coordinates.zs[own.main]
        assert turned is not None
        return np.asarray((sd * v) @ turned.T)[..., None] * z.from_working[0, 0]

    def conditional_variances(
        self, theta: WorkingTheta
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Var(u | y, beta, theta) of the levels, in the user's coding."""
        found: list[list[np.ndarray]] = [[] for _ in self.design.groups]
        with one_blas_thread():
            for sigma, Lambda in zip(theta.sigma, theta.Lambda, strict=True):
                levels = self.at(Lambda).levels()
                for own, level, z in zip(found, levels, self.coordinates.zs, strict=True):
                    user = z.from_working @ level.conditional @ z.from_working.T
                    own.append(sigma**2 * np.einsum("jaa->ja", user))
        return tuple((np.stack(own), np.arange(own[0].shape[0])) for own in found)

    def _inverse_rows(
        self, theta: WorkingTheta, marginal: Marginal
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Position of a theta, V^-1 (y - X beta), and Q with K^-1 = I - Q Q' (in units of sigma^2).

        K is the covariance of the rows with beta in it.
        """
        own, p = self.own, self.own.p
        for k, Lambda in enumerate(theta.Lambda):
            at = self.at(Lambda)
            main = own.T * (at.sd / np.sqrt(at.d))
            E, X = np.zeros((own.rows.n, 0)), own.rows.X
            w = at.sd**2 / at.d
            if own.n_others:
                left = own.B - own.T @ (w[:, None] * own.C[:, : own.n_others])
                E = at._lower(at._others(left.T, transposed=True)).T
            X = X - own.T @ (w[:, None] * own.C[:, own.n_others : -1]) - E @ at.G[:, :p]
            taken = solve_lower(marginal.R[k], X.T).T
            beta = marginal.beta[k]
            left_y = own.rows.y - own.rows.X @ beta
            score = left_y - own.T @ (w * (own.C[:, -1] - own.C[:, own.n_others : -1] @ beta))
            score = score - E @ (at.G[:, p] - at.G[:, :p] @ beta)
            yield k, score, np.hstack([main, E, taken])

    def _left_out(self, theta: WorkingTheta, marginal: Marginal) -> tuple[np.ndarray, np.ndarray]:
        """y_i less its mean given y_-i, and the variance of that in units of sigma^2, (K, n) each."""
        off, variance = np.empty((2, len(theta), self.own.rows.n))
        with one_blas_thread():
            for k, score, Q in self._inverse_rows(theta, marginal):
                variance[k] = 1 / (1 - np.square(Q).sum(axis=1))
                off[k] = score * variance[k]
        return off, variance

    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta)."""
        J, order = grouping.n_levels, np.argsort(grouping.codes, kind="stable")
        of_level = np.split(order, np.cumsum(np.bincount(grouping.codes, minlength=J))[:-1])
        by_size: dict[int, list[int]] = {}
        for level, rows in enumerate(of_level):
            by_size.setdefault(len(rows), []).append(level)
        sets = [np.array([of_level[j] for j in levels]) for levels in by_size.values()]
        out = np.empty((J, len(theta)))
        with one_blas_thread():
            for k, score, Q in self._inverse_rows(theta, self.marginal(theta)):
                for rows, levels in zip(sets, by_size.values(), strict=True):
                    own = Q[rows]
                    blocks = np.eye(own.shape[1]) - own @ np.swapaxes(own, 1, 2)
                    own = log_density_of_sets(score[rows], blocks, theta.sigma[k])
                    out[levels, k] = own
        return out - np.bincount(grouping.codes, self.scaled_rows.log_sd, J)[:, None]

    def without(self, left_out: np.ndarray) -> RelatedLevels:
        """The same model less some rows (positions), with coordinates and priors as they are."""
        kept = np.setdiff1d(np.arange(self.own.rows.n), left_out)
        return replace(self, own=self.own.take(kept))


def log_density_of_sets(score: np.ndarray, precision: np.ndarray, sigma: float) -> np.ndarray:
    """Shape (m,): of sets of rows given all others, from the blocks (m, size, size) of their precision.

    ``score`` (m, size) is the precision of all rows times their deviations.
    """
    size = score.shape[1]
    L = np.linalg.cholesky(precision)
    half = np.linalg.solve(L, score[..., None])[..., 0]
    squares = np.square(half).sum(axis=1) / sigma**2
    constant = size * (LOG_2PI + 2 * np.log(sigma))
    return np.asarray(-0.5 * (constant - log_det(L) + squares))
