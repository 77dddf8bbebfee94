"""A model whose response is not Gaussian, the levels of one factor integrated by quadrature.

What is left is a density of theta and gamma = (beta, v of the other factors), where v are standardised
deviations: u = mean + Lambda v. The factor with the most levels is integrated, level by level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg

from hierpool.algebra.factorisation import runs
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.quadrature import lattice
from hierpool.algebra.quadrature.constants import Constants
from hierpool.algebra.quadrature.draws import draw_deviations, moments
from hierpool.algebra.quadrature.laplace import Laplace, Start, laplace
from hierpool.algebra.quadrature.left_out_effects import log_ratio
from hierpool.algebra.quadrature.level_scores import log_density_of_levels
from hierpool.algebra.quadrature.row_scores import (
    cdf_of_rows,
    log_density_of_rows,
    probabilities_of_rows,
)
from hierpool.algebra.quadrature.rows import LevelRows
from hierpool.core.design import Design, Grouping
from hierpool.core.families.family import Family
from hierpool.core.theta import FamilyPoint, FamilyTheta
from hierpool.core.threads import one_blas_thread, over_threads

STEP = 1.0  # between the nodes of one effect, in posterior sds of the level
DROP = 11.0  # g at the outermost nodes is that far below its top; at 9 a thousand levels add up to bias
FINER_STEP, FINER_DROP = 0.5, 8.0  # of a check: times the step, and beyond the drop
LEVELS_PER_PASS = 500  # levels drawn at a time where they are too many to draw all
FINER_LATTICE, FINER_REACH = 1 / 1.5, 1.5


@dataclass(frozen=True)
class Levels:
    """What the levels contribute at K points.

    Attributes
    ----------
    log_density
        Shape (K, U): log p(rows of a level | beta, theta) without the family's constants.
    error
        Shape (K, U): relative difference e of the sums over even and odd nodes. The quadrature's own
        error is about e^2.
    rim
        Shape (K, U): share of the outermost nodes.
    """

    log_density: np.ndarray
    error: np.ndarray
    rim: np.ndarray


@dataclass(frozen=True)
class QuadratureModel:
    """Rows and coefficient priors of a model whose response is not Gaussian.

    Attributes
    ----------
    design
        The rows as the user knows them.
    coordinates
        Working coordinates; the response is left as it is.
    prior
        Normal prior of the population coefficients, in working coordinates.
    u_mean
        Shape (Q,): prior mean of the levels' coefficients; zero unless they are unpooled.
    family
        Distribution and link.
    integrated
        Position of the integrated factor among the design's groups; -1 without groups.
    rows
        The rows by level of the integrated factor.
    constants
        What the compiled densities leave out.
    start
        Where searches for modes begin.
    """

    design: Design
    coordinates: Coordinates
    prior: BetaPrior
    u_mean: np.ndarray
    family: Family
    integrated: int
    rows: LevelRows
    constants: Constants
    start: Start

    @classmethod
    def from_design(
        cls,
        design: Design,
        coordinates: Coordinates,
        prior: BetaPrior,
        u_mean: np.ndarray | None = None,
    ) -> QuadratureModel:
        """A design under these priors of its coefficients, in working coordinates."""
        family = design.family
        assert family is not None
        coordinates = replace(coordinates, y_shift=0.0)
        n_columns = sum(len(g.terms) for g in design.groups)
        mean = np.zeros(n_columns) if u_mean is None else u_mean
        sizes = [g.grouping.n_levels for g in design.groups]
        integrated = int(np.argmax(sizes)) if sizes else -1
        rows = LevelRows.from_design(design, coordinates, integrated, mean)
        gamma = np.concatenate([prior.mean, np.zeros(rows.others.n_effects)])
        constants, start = Constants.from_rows(family, rows), Start.of_rows(gamma, rows)
        return cls(design, coordinates, prior, mean, family, integrated, rows, constants, start)

    def of_rows(self, rows: LevelRows) -> QuadratureModel:
        """The same model of other rows: some of the design's, or in other levels."""
        constants = Constants.from_rows(self.family, rows)
        start = Start.of_rows(self.start.gamma, rows)
        return replace(self, rows=rows, constants=constants, start=start)

    def without(self, left_out: np.ndarray) -> QuadratureModel:
        """The same model less some of the design's rows, by position; priors and coordinates stay."""
        kept = np.setdiff1d(np.arange(len(self.rows.place)), left_out)
        group = self.design.groups[self.integrated] if self.integrated >= 0 else None
        codes = np.zeros(len(kept), dtype=np.intp) if group is None else group.codes[kept]
        levels, codes = np.unique(codes, return_inverse=True)
        return self.of_rows(self.rows.regrouped(kept, codes.reshape(-1), len(levels)))

    def density_of_sets(
        self, rest: QuadratureModel, point: FamilyPoint, sets: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Joint log density of sets of held-out rows given the rows of ``rest`` and the point.

        As ``MarginalModel.density_of_sets``; shape (sets, K).
        """
        held = np.concatenate(sets)
        before = rest.log_density_of_points(point)
        each = [self.without(np.setdiff1d(held, own)).log_density_of_points(point) for own in sets]
        return np.stack(each) - before

    def started_at(self, start: Start) -> QuadratureModel:
        """The same model, its searches beginning elsewhere: at the modes of a theta near those asked."""
        return replace(self, start=start)

    @property
    def q(self) -> int:
        """Columns of the integrated factor."""
        return int(self.rows.Z.shape[1])

    @property
    def n_gamma(self) -> int:
        """P: population coefficients, and coefficients of the levels that are not integrated."""
        return len(self.prior.mean) + self.rows.others.n_effects

    @cached_property
    def gamma_mean(self) -> np.ndarray:
        """Shape (P,): prior mean of gamma."""
        return np.concatenate([self.prior.mean, np.zeros(self.rows.others.n_effects)])

    @cached_property
    def gamma_precision(self) -> np.ndarray:
        """Shape (P, P): prior precision of gamma."""
        return linalg.block_diag(self.prior.precision, np.eye(self.rows.others.n_effects))

    @cached_property
    def places(self) -> np.ndarray:
        """Shape (N, p + b): which of gamma each of a row's columns belongs to."""
        p = len(self.prior.mean)
        own = np.broadcast_to(np.arange(p), (len(self.rows.y), p))
        return np.ascontiguousarray(np.hstack([own, p + self.rows.others.places]), dtype=np.int64)

    @property
    def n_random_effects(self) -> int:
        """Coefficients of levels, all factors together."""
        return len(self.rows.level_of) * self.q + self.rows.others.n_effects

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""
        nodes = (1, 15, 60, 320)[min(self.q, 3)]
        return len(self.rows.y) * (2 * self.n_gamma + 4 * nodes)

    def blocks(self, n_draws: int, per_draw: int) -> Iterator[slice]:
        """Slices of the draws that keep one block of ``per_draw`` numbers a draw in bounds."""
        return runs(n_draws, per_draw)

    @cached_property
    def is_same(self) -> bool:
        """Whether all rows have the same column of the integrated factor: an intercept."""
        return self.q == 1 and bool(np.ptp(self.rows.Z, axis=0).max(initial=0.0) == 0.0)

    def factors_of(self, theta: FamilyTheta) -> tuple[np.ndarray, np.ndarray]:
        """Lambda of the integrated factor (K, q, q), and of the other factors (K, b, b)."""
        others = self.rows.others.blocks
        own = np.setdiff1d(np.arange(theta.Lambda.shape[-1]), others)
        Lambda = theta.Lambda
        return (
            np.ascontiguousarray(Lambda[:, own[:, None], own]),
            np.ascontiguousarray(Lambda[:, others[:, None], others]),
        )

    def fisher_share(self, theta: FamilyTheta) -> np.ndarray:
        """Shape (K,): average curvature in units of the weight that is safe to climb by."""
        if self.family.name != "student":
            return np.ones(len(theta))
        nu = theta.par[:, self.family.parameters.index("nu")]
        return np.asarray((nu + 1) / (nu + 3))

    def point(self, gamma: np.ndarray, theta: FamilyTheta) -> FamilyPoint:
        """Theta with the coefficients that gamma (K, P) stands for."""
        p, others = len(self.prior.mean), self.rows.others
        effects = np.tile(others.mean, (len(theta), 1))
        _, Lambda = self.factors_of(theta)
        first, column = p, 0
        for f, group in enumerate(self.design.groups):
            if f == self.integrated:
                continue
            q, size = len(group.terms), len(group.terms) * group.grouping.n_levels
            v = gamma[:, first : first + size].reshape(len(theta), -1, q)
            own = slice(column, column + q)
            u = np.einsum("kja,kba->kjb", v, Lambda[:, own, own])
            effects[:, first - p : first - p + size] += u.reshape(len(theta), size)
            first, column = first + size, column + q
        return FamilyPoint.at(theta, np.ascontiguousarray(gamma[:, :p]), effects)

    def point_of_draws(
        self, theta: FamilyTheta, beta: np.ndarray, u: Mapping[str, np.ndarray]
    ) -> FamilyPoint:
        """Theta with drawn coefficients: beta (K, p) and, by factor, u (K, J, q), in the user's coding.

        The factor that is integrated is not among them.
        """
        c = self.coordinates
        effects = np.empty((len(theta), self.rows.others.n_effects))
        first = 0
        for f, group in enumerate(self.design.groups):
            if f != self.integrated:
                working = (u[group.factor] @ c.zs[f].to_working.T).reshape(len(theta), -1)
                effects[:, first : first + working.shape[1]] = working
                first += working.shape[1]
        working_beta = np.ascontiguousarray(c.beta_from_user(beta))
        return FamilyPoint.at(theta, working_beta, effects)

    def laplace(self, theta: FamilyTheta, start: Start | None = None) -> Laplace:
        """Joint modes of all coefficients, and Laplace log p(y | theta), at K values of theta."""
        return laplace(self, theta, start)

    def log_density(self, gamma: np.ndarray, theta: FamilyTheta, finer: bool = False) -> np.ndarray:
        """Shape (K,): log p(y | gamma, theta); ``finer`` for more nodes that reach further.

        ``gamma`` (K, P). Where it cannot be computed it is -inf.
        """
        return self.log_density_of_points(self.point(gamma, theta), finer)

    def log_density_of_points(self, point: FamilyPoint, finer: bool = False) -> np.ndarray:
        """Shape (K,): log p(y | beta, effects, theta)."""
        return self.density_and_error(point, finer)[0]

    def density_and_error(
        self, point: FamilyPoint, finer: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """log p(y | beta, effects, theta), and the largest e^2 of a level, shapes (K,).

        e^2 is about the error of the level's log density; 1 where it cannot be computed.
        """
        total, largest = np.empty(len(point)), np.empty(len(point))
        for some in self.runs(len(point)):
            part = self.levels(point[some], finer)
            total[some] = part.log_density @ self.rows.counts
            largest[some] = np.max(part.error**2, axis=1, initial=0.0)
        total += self.constants.total(point.par)
        return np.where(np.isfinite(total), total, -np.inf), np.nan_to_num(largest, nan=1.0)

    def total_error(self, point: FamilyPoint, finer: bool = False) -> np.ndarray:
        """Shape (K,): sum of e^2 over all levels, about the largest error that they can add up to."""
        out = np.empty(len(point))
        for some in self.runs(len(point)):
            out[some] = self.levels(point[some], finer).error ** 2 @ self.rows.counts
        return out

    def quadrature_errors(self, gamma: np.ndarray, theta: FamilyTheta) -> np.ndarray:
        """Shape (K,): largest e^2 of a level at each point."""
        return self.density_and_error(self.point(gamma, theta))[1]

    def log_density_of_levels(self, point: FamilyPoint, grouping: Grouping) -> np.ndarray:
        """Shape (levels, K): log p(rows of a level | all other rows, beta, other effects, theta).

        Deviations of the integrated factor are integrated. So are effects of the other factors that the
        level alone has, as far as the K points, draws of one posterior, tell how: ``left_out_effects``.
        """
        codes, n_levels = grouping.codes, grouping.n_levels
        found = log_density_of_levels(self, point, codes, n_levels)
        return (
            found + log_ratio(self, point, codes, n_levels) if self.rows.others.n_effects else found
        )

    def log_density_of_rows(self, point: FamilyPoint, rows: np.ndarray | None = None) -> np.ndarray:
        """Shape (K, rows): log p(y_i | other rows of its level, beta, effects, theta).

        Of rows alike one is left out; the row of a level with no other has the density of the level.
        """
        which = np.arange(len(self.rows.place)) if rows is None else np.asarray(rows)
        return log_density_of_rows(self, point, which)

    def marginal(self, point: FamilyPoint) -> None:
        """What densities of several runs of rows share: nothing, the coefficients are the point's."""

    def densities_by_row(
        self, point: FamilyPoint, rows: np.ndarray, marginal: None = None
    ) -> np.ndarray:
        """Shape (rows, K): as ``log_density_of_rows``."""
        return log_density_of_rows(self, point, np.asarray(rows)).T

    def cdf_of_rows(self, point: FamilyPoint, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P(Y < y_i) and P(Y <= y_i) given what ``log_density_of_rows`` is given, (rows, K) each."""
        return cdf_of_rows(self, point, np.asarray(rows))

    def probabilities_of_rows(self, point: FamilyPoint, rows: np.ndarray) -> np.ndarray:
        """Of a success, or of each rating or a lower one, given the same, (m, rows, K)."""
        return probabilities_of_rows(self, point, np.asarray(rows))

    def conditional_moments(self, point: FamilyPoint) -> tuple[np.ndarray, np.ndarray]:
        """Mean (K, J, q) and covariance (K, J, q, q) of v of the integrated levels."""
        mean, covariance = moments(self, point)
        return mean[:, self.rows.level_of], covariance[:, self.rows.level_of]

    def draw(
        self, point: FamilyPoint, seed: int, sums: None = None, with_sums: bool = True
    ) -> dict[str, np.ndarray]:
        """One draw of all coefficients for each of K points, in the user's coding.

        Keys ``beta`` (K, p), ``u_<factor>`` and ``coef_<factor>``; ``with_sums=False`` leaves the
        last out where it is ``u`` plus the population's coefficients.
        """
        v = draw_deviations(self, point, seed) if self.q else np.zeros((len(point), 0, 0))
        return self._named(point, v, with_sums)

    def draw_levels(
        self, point: FamilyPoint, beta: np.ndarray, levels: slice, seed: int
    ) -> dict[str, np.ndarray]:
        """Coefficients of some levels of the one factor, keys as for ``draw``; the point has beta.

        As ``LevelsOnRequest.draw_levels``: ``levels`` is one of ``level_runs``.
        """
        codes = self.design.groups[self.integrated].codes
        rows = np.flatnonzero((codes >= levels.start) & (codes < levels.stop))
        own = self.rows.regrouped(rows, codes[rows] - levels.start, levels.stop - levels.start)
        v = draw_deviations(self.of_rows(own), point, seed, levels.start)
        return self._named(point, v, True)

    def level_runs(self) -> Iterator[slice]:
        """The levels in runs of ``LEVELS_PER_PASS``."""
        n = len(self.rows.level_of)
        for start in range(0, n, LEVELS_PER_PASS):
            yield slice(start, min(start + LEVELS_PER_PASS, n))

    def draw_population(self, point: FamilyPoint) -> dict[str, np.ndarray]:
        """The ``beta`` of ``draw`` alone, no level drawn."""
        return {"beta": self.coordinates.beta_to_user(point.beta)}

    def mean_coefficients(self, point: FamilyPoint) -> dict[str, np.ndarray]:
        """Conditional means of the integrated levels, the point's other coefficients; keys as draws."""
        v = self.conditional_moments(point)[0] if self.q else np.zeros((len(point), 0, 0))
        return self._named(point, v, True)

    def _named(self, point: FamilyPoint, v: np.ndarray, with_sums: bool) -> dict[str, np.ndarray]:
        """Coefficients in the user's coding, from deviations of the integrated levels (K, J, q)."""
        K, c = len(point), self.coordinates
        beta = c.beta_to_user(point.beta)
        out, first = {"beta": beta}, 0
        # A term that the population lacks is -1 in group.population: the zero at the end.
        padded = np.concatenate([beta, np.zeros((K, 1))], axis=1)
        for f, (group, own) in enumerate(
            zip(self.design.groups, self.design.group_columns, strict=True)
        ):
            q, J = len(group.terms), group.grouping.n_levels
            if f == self.integrated:
                working = self.u_mean[own] + v @ np.swapaxes(point.Lambda[:, own, own], -1, -2)
            else:
                working = point.effects[:, first : first + J * q].reshape(K, J, q)
                first += J * q
            user = working @ c.zs[f].from_working.T
            if len(self.design.groups) == 1 and not self.family.has_thresholds:
                user = user + c.u_shift(point.beta)[:, None, :]
            out[group.level_variable] = user
            if with_sums and group.is_pooled:
                out[f"coef_{group.factor}"] = user + padded[:, None, group.population]
        return out

    def predictor(self, point: FamilyPoint) -> np.ndarray:
        """Shape (K, N): linear predictor of the rows, deviations of the integrated factor at zero."""
        rows = self.rows
        with one_blas_thread():
            eta = point.beta @ rows.X.T
        eta += rows.offset
        for column, place in zip(rows.others.columns.T, rows.others.places.T, strict=True):
            eta += column * point.effects[:, place]
        return eta

    def levels(self, point: FamilyPoint, finer: bool = False) -> Levels:
        """What the levels contribute at K points, all at once."""
        from hierpool.algebra.quadrature import level_kernels  # numba loads when first needed

        shape = len(point), self.rows.n_levels
        found = np.empty(shape), np.zeros(shape), np.zeros(shape)
        over_threads(
            level_kernels.level_densities,
            len(point),
            *self.for_kernels(point, finer),
            *found,
            alone=max(1, min(64, 200_000 // max(len(self.rows.y), 1))),
        )
        return Levels(*found)

    def for_kernels(
        self, point: FamilyPoint, finer: bool = False, drop: float = DROP, is_wide: bool = False
    ) -> tuple[Any, ...]:
        """What the compiled loops over levels take first: family, rows, K points and nodes.

        ``drop`` is for one effect; with several ``is_wide`` takes rings until they hold nothing.
        """
        rows = self.rows
        return (
            *(self.family.code, self.is_same),
            *(rows.y, rows.trials, rows.weight, rows.Z, rows.start),
            *(self.predictor(point), self.factors_of(point)[0], np.ascontiguousarray(point.par)),
            *(self.fisher_share(point), self.start.v, *self._nodes(finer, drop, is_wide)),
        )

    def _nodes(self, finer: bool, drop: float, is_wide: bool) -> tuple[Any, ...]:
        """Step and drop of one effect; log volume of a cell, and lattice, of several."""
        if self.q < 2:
            empty = np.zeros((self.q, 0)), np.zeros(0, np.int64), np.zeros(0, np.int64)
            step = STEP
            if finer:
                step, drop = step * FINER_STEP, drop + FINER_DROP
            return (step, drop, *empty, 0.0, 0.0)
        step, reach = lattice.STEP, lattice.REACH
        if finer:
            step, reach = step * FINER_LATTICE, reach + FINER_REACH
        found = lattice.lattice(self.q, step, reach)
        arrays = found.nodes, found.is_even, found.ring_ends
        rim_share = lattice.TAIL_SHARE if is_wide else found.rim_share
        return (found.log_cell, 0.0, *arrays, rim_share, lattice.TAIL_SHARE)

    def runs(self, n_points: int) -> Iterator[slice]:
        """Slices of K points whose linear predictors are in bounds."""
        return runs(n_points, len(self.rows.y) + 3 * self.rows.n_levels)
