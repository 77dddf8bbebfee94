"""A design with its coefficients integrated out: what is left is a density of theta alone.

Whoever has values of theta (the exact engine, NUTS, an optimum) gets from here the log density of
the response, exact draws of every coefficient, and the density of each row given all others.
``OneFactor`` answers for designs with one factor or none, ``SeveralFactors`` for several.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple, Self

import numpy as np

from hierpool.algebra.factorisation import Factorisation, runs
from hierpool.algebra.gaussian import LOG_2PI, BetaPrior, Marginal
from hierpool.algebra.moments import Coordinates, Moments, RowsOverSd
from hierpool.algebra.weighted_products import WeightedProducts
from hierpool.core.design import Design, Grouping
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.theta import WorkingTheta


class LevelSums(NamedTuple):
    """What the levels contribute at K values of theta, theta last.

    Attributes
    ----------
    log_det
        Shape (K,): log det of the levels' blocks of M.
    GG, Gg
        Shapes (p, p, K) and (p, K): sums of G'G and G'g, with g = L^-1 Lambda'b.
    squared
        Shape (K,): sum of g'g.
    """

    log_det: np.ndarray
    GG: np.ndarray
    Gg: np.ndarray
    squared: np.ndarray

    @classmethod
    def from_products(cls, log_det: np.ndarray, taken: np.ndarray) -> LevelSums:
        """From what the levels take (K, p + 1, p + 1) of the cross-products of [X, y]."""
        p = taken.shape[1] - 1
        return cls(
            np.ascontiguousarray(log_det),
            np.ascontiguousarray(np.moveaxis(taken[:, :p, :p], 0, -1)),
            np.ascontiguousarray(taken[:, :p, p].T),
            np.ascontiguousarray(taken[:, p, p]),
        )

    @property
    def theta_first(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same with theta first: (K,), (K, p, p), (K, p), (K,)."""
        return self.log_det, np.moveaxis(self.GG, -1, 0), self.Gg.T, self.squared

    def at(self, which: np.ndarray) -> LevelSums:
        """Those of some of the values of theta."""
        return LevelSums(*(values[..., which] for values in self))

    def followed_by(self, other: LevelSums) -> LevelSums:
        """Those of further values of theta behind these."""
        pairs = zip(self, other, strict=True)
        return LevelSums(*(np.concatenate(pair, axis=-1) for pair in pairs))


class MarginalModel(ABC):
    """A design, its rows in working coordinates, and the priors of its coefficients.

    Attributes
    ----------
    design
        The rows as the user knows them.
    coordinates
        Working coordinates.
    prior
        Normal prior of the population coefficients, in working coordinates.
    """

    design: Design
    coordinates: Coordinates
    prior: BetaPrior

    @property
    @abstractmethod
    def scaled_rows(self) -> RowsOverSd:
        """The rows in working coordinates."""

    @property
    @abstractmethod
    def totals(self) -> Moments:
        """Cross-products of the population columns and the response."""

    @property
    @abstractmethod
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""

    @property
    def n_random_effects(self) -> int:
        """Coefficients of levels, all factors together."""
        return sum(g.grouping.n_levels * len(g.terms) for g in self.design.groups)

    @property
    def flops_per_density(self) -> int:
        """The same of the log density alone."""
        return self.flops_per_theta

    @abstractmethod
    def at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> Factorisation:
        """The model at one relative factor (Q, Q), with sigma = 1 and a flat prior on beta.

        ``phi`` (m,): parameters of a residual structure, where there is one.
        """

    @abstractmethod
    def population_at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> Marginal:
        """The population's part at K relative factors (K, Q, Q), sigma = 1, flat prior on beta.

        ``phi`` (K, m): parameters of a residual structure, where there is one.
        """

    def weighted_products(self, basis: np.ndarray, T: np.ndarray) -> WeightedProducts:
        """Cross-products of the levels' columns weighted by V^-1, at Lambda = basis T.

        Raises
        ------
        UnsupportedModelError
            Unless a model says otherwise: Kenward and Roger's method needs covariances that are linear
            in theta, and small enough to be dense.
        """
        raise UnsupportedModelError(
            "Kenward and Roger's method is not available for models with residual structures, nor "
            "with large relationships: use df='satterthwaite'",
            "no-kenward-roger",
        )

    @abstractmethod
    def level_sums(self, theta: WorkingTheta) -> LevelSums:
        """What the levels contribute at K values of theta."""

    @abstractmethod
    def draw(
        self,
        theta: WorkingTheta,
        seed: int,
        sums: LevelSums | None = None,
        with_sums: bool = True,
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta, in the user's coding.

        Keys ``beta`` (K, p), ``u_<factor>`` and ``coef_<factor>``; ``with_sums=False`` leaves the last
        out where it is ``u`` plus the population's coefficients.
        """

    @abstractmethod
    def mean_coefficients(self, theta: WorkingTheta) -> dict[str, np.ndarray]:
        """Conditional means of all coefficients at K values of theta; keys as for the draws."""

    def mean_beta(self, theta: WorkingTheta) -> np.ndarray:
        """Shape (K, p): the ``beta`` of ``mean_coefficients``, without those of the levels."""
        return self.mean_coefficients(theta)["beta"]

    @abstractmethod
    def conditional_variances(
        self, theta: WorkingTheta
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Var(u | y, beta, theta) of the levels at K values of theta, in the user's coding.

        For each factor the diagonals (K, U, q) of its different designs, and the design of each
        level (J,).
        """

    @abstractmethod
    def densities_by_row(
        self, theta: WorkingTheta, rows: np.ndarray, marginal: Marginal
    ) -> np.ndarray:
        """Shape (rows, K): log p(y_i | y_-i, theta), every coefficient integrated out."""

    @abstractmethod
    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta)."""

    def densities_by_level(
        self, theta: WorkingTheta, grouping: Grouping
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """``log_density_of_levels`` of some levels after the other: which, and shape (levels, K).

        All at once unless a model says otherwise.
        """
        yield slice(0, grouping.n_levels), self.log_density_of_levels(theta, grouping)

    @abstractmethod
    def prediction_of_rows(
        self, theta: WorkingTheta, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of y_i given y_-i and theta, shapes (K, rows), in the user's units."""

    def leverages(self, theta: WorkingTheta, rows: Design) -> tuple[np.ndarray, np.ndarray]:
        """Leverages and residuals (K, rows), in units of sigma, of any rows given all of this model.

        ``rows`` has the labels of ``design``, and rows in its levels, of which the model may know the
        sums alone.

        Raises
        ------
        UnsupportedModelError
            Unless a model says otherwise: rows whose residuals are independent are asked for.
        """
        raise UnsupportedModelError(
            f"{self.design.spec.formula} has residuals or groups with a structure, and leverages of "
            "single rows are not worked out for it. Fit the model to rows in memory",
            "needs-rows",
        )

    @abstractmethod
    def without(self, left_out: np.ndarray) -> Self:
        """The same model less some rows (positions), with coordinates and priors as they are."""

    def marginal(self, theta: WorkingTheta, sums: LevelSums | None = None) -> Marginal:
        """The population's part, levels eliminated, at K values of theta."""
        sigma = theta.sigma
        s = self.level_sums(theta) if sums is None else sums
        return Marginal.from_sums(self.totals, self.prior, sigma, *s.theta_first)

    def log_density(self, theta: WorkingTheta, sums: LevelSums | None = None) -> np.ndarray:
        """Shape (K,): log p(y | theta), every coefficient integrated out."""
        from hierpool.algebra import one_factor_kernels

        sigma = theta.sigma
        m, prior = self.totals, self.prior
        df = m.n - (m.p if prior.is_flat else prior.n_flat)
        return one_factor_kernels.log_density(
            sigma,
            self.level_sums(theta) if sums is None else sums,
            m.XX,
            m.Xy,
            prior.precision,
            prior.weighted_mean,
            np.array([m.yy, prior.mean @ prior.weighted_mean]),
            m.n - m.p,
            -0.5 * (df * LOG_2PI - prior.log_det_precision) - m.log_sd,
        )

    def density_of_sets(
        self, rest: Self, theta: WorkingTheta, sets: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Joint log density of sets of held-out rows given the rows of ``rest`` and theta.

        ``rest`` is the model less every row of the sets; a set is one row, or all rows of one
        level. Shape (sets, K). By differences of evidences, an evaluation a set.
        """
        # p(set | rest) = p(set and rest) / p(rest): all held rows but the set's own are taken out.
        held = np.concatenate(sets)
        before = rest.log_density(theta)
        each = [self.without(np.setdiff1d(held, own)).log_density(theta) for own in sets]
        return np.stack(each) - before

    def population_without_levels(
        self, theta: WorkingTheta, grouping: Grouping
    ) -> tuple[np.ndarray, np.ndarray]:
        """Population part of M and its right-hand side without each level, (K, J, p, p), (K, J, p)."""
        S, s = [], []
        for level in range(grouping.n_levels):
            rest = self.without(np.flatnonzero(grouping.codes == level)).marginal(theta)
            S.append(rest.R @ np.swapaxes(rest.R, -1, -2))
            s.append(rest.s)
        return np.stack(S, axis=1), np.stack(s, axis=1)

    def blocks(self, n_draws: int, per_draw: int) -> Iterator[slice]:
        """Slices of the draws that keep one block of ``per_draw`` numbers a draw in bounds."""
        return runs(n_draws, per_draw)

    def log_density_of_rows(
        self, theta: WorkingTheta, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Shape (K, rows): log p(y_i | y_-i, theta), every coefficient integrated out."""
        self.design.check_rows("the density of each row")
        which = np.arange(self.design.n) if rows is None else np.asarray(rows)
        marginal = self.marginal(theta)
        return self.densities_by_row(theta, which, marginal).T

    def draw_coefficients(
        self, theta: WorkingTheta, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta; keys as for ``draw``."""
        return self.draw(theta, int(rng.integers(2**62)))

    def _with_population(
        self, beta: np.ndarray, u: tuple[np.ndarray, ...], with_sums: bool
    ) -> dict[str, np.ndarray]:
        """beta (K, p) and deviations (K, J_f, q_f), in the user's coding, by their names."""
        out = {"beta": beta}
        # A term that the population lacks is -1 in group.population, which points at the zero at the end.
        padded = np.concatenate([beta, np.zeros((len(beta), 1))], axis=1)
        for group, own in zip(self.design.groups, u, strict=True):
            out[f"u_{group.factor}"] = own
            if with_sums:
                out[f"coef_{group.factor}"] = own + padded[:, None, group.population]
        return out


class LevelsOnRequest(MarginalModel):
    """A model whose levels can be drawn later, given theta and beta: when they are asked for.

    Attributes
    ----------
    draws_are_dear
        Whether they are left until then even if they are few enough to keep.
    """

    draws_are_dear: ClassVar[bool] = False

    @abstractmethod
    def draw_beta(
        self, theta: WorkingTheta, seed: int, sums: LevelSums | None = None
    ) -> np.ndarray:
        """Shape (K, p): the beta of ``draw``, in working coordinates."""

    @abstractmethod
    def draw_levels(
        self, theta: WorkingTheta, beta: np.ndarray, levels: slice, seed: int
    ) -> dict[str, np.ndarray]:
        """Coefficients of some levels given theta and ``beta`` (K, p), exact draws, user's coding.

        Keys as for ``draw``. The same levels come out the same whether they are drawn with the
        others or alone.
        """

    @abstractmethod
    def level_runs(self) -> Iterator[slice]:
        """The levels in runs that can be drawn at a time."""
