"""Designs with one factor or none, their coefficients integrated out.

Levels with equal cross-products share a factorisation; compiled loops run over levels and rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hierpool.algebra import held_out
from hierpool.algebra.factorisation import runs
from hierpool.algebra.gaussian import BetaPrior, Conditional, Marginal, condition
from hierpool.algebra.marginal_model import LevelsOnRequest, LevelSums, MarginalModel
from hierpool.algebra.moments import Coordinates, Moments, Rows, by_level, single_group
from hierpool.algebra.one_factor_factorisation import OneFactorFactorisation
from hierpool.algebra.triangular import solve_lower
from hierpool.algebra.weighted_products import OneFactorProducts
from hierpool.core.design import Design, Grouping
from hierpool.core.theta import WorkingTheta
from hierpool.core.threads import over_pieces

if TYPE_CHECKING:
    from hierpool.algebra.one_factor_row_kernels import Columns, Points, Products, RowPlan

LEVELS_AT_ONCE = 64  # levels drawn with one seed
LEVELS_PER_PASS = 4 * LEVELS_AT_ONCE  # levels drawn for a table when they are not stored


@dataclass(frozen=True)
class OneFactor(LevelsOnRequest):
    """Cross-products, rows and coefficient priors of a design with one factor or none.

    Attributes
    ----------
    design, coordinates, prior
        As in ``MarginalModel``.
    rows
        Rows in working coordinates, less the prior mean of the levels' coefficients.
    moments
        Their cross-products.
    mean_of_levels
        Shape (q,): prior mean of the levels' coefficients; zero unless they are unpooled.
    """

    design: Design
    coordinates: Coordinates
    rows: Rows
    moments: Moments
    prior: BetaPrior
    mean_of_levels: np.ndarray

    @classmethod
    def from_design(
        cls, design: Design, coordinates: Coordinates, prior: BetaPrior, mean_of_levels: np.ndarray
    ) -> OneFactor:
        """Integrate the coefficients of a design out under these priors."""
        rows = Rows.from_design(design, coordinates)
        if mean_of_levels.any():
            rows = replace(rows, y=rows.y - rows.Z @ mean_of_levels)
        return cls(design, coordinates, rows, Moments.from_rows(rows), prior, mean_of_levels)

    @property
    def scaled_rows(self) -> Rows:
        """The rows in working coordinates."""
        return self.rows

    @property
    def totals(self) -> Moments:
        """Cross-products of the population columns and the response."""
        return self.moments

    def at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> OneFactorFactorisation:
        """The model at one relative factor."""
        factor = self.design.groups[0].factor if self.design.groups else ""
        return OneFactorFactorisation.from_rows(self.rows, self.moments, factor, Lambda)

    def population_at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> Marginal:
        """The population's part at K relative factors."""
        m, one = self.moments, np.ones(len(Lambda))
        flat = BetaPrior.flat(m.p)
        if not m.has_many_designs:
            return condition(m, one, Lambda, flat).marginal
        return Marginal.from_sums(m, flat, one, *self._sums(Lambda).theta_first)

    def weighted_products(self, basis: np.ndarray, T: np.ndarray) -> OneFactorProducts:
        """Cross-products of the levels' columns weighted by V^-1."""
        return OneFactorProducts.from_moments(self.moments, basis, T)

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""
        m = self.moments
        return len(m.counts) * (m.q + 1) ** 2

    @property
    def n_random_effects(self) -> int:
        """Coefficients of the levels."""
        return self.moments.n_levels * self.moments.q

    def condition(self, theta: WorkingTheta) -> Conditional:
        """Distribution of the coefficients at K values of theta: sigma (K,), Lambda (K, q, q).

        In numpy, K x levels at once: for one value of theta or a few. The methods below are
        compiled, and take any number.
        """
        return condition(self.moments, theta.sigma, theta.Lambda, self.prior)

    def level_sums(self, theta: WorkingTheta) -> LevelSums:
        """What the levels contribute at K values of theta."""
        return self._sums(theta.Lambda)

    def _sums(self, Lambda: np.ndarray) -> LevelSums:
        from hierpool.algebra import one_factor_kernels  # numba loads when first needed

        m = self.moments
        counts = m.counts.astype(float)
        return LevelSums(*one_factor_kernels.level_sums(Lambda, m.A, m.columns, counts, m.p))

    def draw(
        self,
        theta: WorkingTheta,
        seed: int,
        sums: LevelSums | None = None,
        with_sums: bool = True,
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta, in the user's coding."""
        beta = self.draw_beta(theta, seed, sums)
        every = slice(0, self.moments.n_levels)
        return self._levels(theta, beta, every, seed, with_sums)

    def draw_beta(
        self, theta: WorkingTheta, seed: int, sums: LevelSums | None = None
    ) -> np.ndarray:
        """Shape (K, p): the beta of ``draw``, in working coordinates."""
        rng = np.random.default_rng(seed)
        return self.marginal(theta, sums).draw_beta(rng)

    def draw_levels(
        self, theta: WorkingTheta, beta: np.ndarray, levels: slice, seed: int
    ) -> dict[str, np.ndarray]:
        """Coefficients of some levels given theta and ``beta`` (K, p), exact draws, user's coding.

        Keys as for ``draw``. Given theta and beta the levels are independent, and the noise of
        each run of ``LEVELS_AT_ONCE`` levels has a seed of its own: the same levels come out the
        same whether they are drawn with the others or alone, so ``levels`` must begin at one of
        its multiples.
        """
        return self._levels(theta, beta, levels, seed)

    def level_runs(self) -> Iterator[slice]:
        """The levels in runs of ``LEVELS_PER_PASS``."""
        for start in range(0, self.moments.n_levels, LEVELS_PER_PASS):
            yield slice(start, min(start + LEVELS_PER_PASS, self.moments.n_levels))

    def mean_coefficients(self, theta: WorkingTheta) -> dict[str, np.ndarray]:
        """Conditional means of all coefficients at K values of theta; keys as for the draws."""
        beta = self.marginal(theta).beta
        return self._levels(theta, beta, slice(0, self.moments.n_levels), None)

    def mean_beta(self, theta: WorkingTheta) -> np.ndarray:
        """Shape (K, p): the ``beta`` of ``mean_coefficients``, without those of the levels."""
        return self.coordinates.beta_to_user(self.marginal(theta).beta)

    def _levels(
        self,
        theta: WorkingTheta,
        beta: np.ndarray,
        levels: slice,
        seed: int | None,
        with_sums: bool = True,
    ) -> dict[str, np.ndarray]:
        """Draws, or conditional means without a seed; keys as for ``draw``."""
        from hierpool.algebra import one_factor_kernels

        sigma, Lambda = theta.sigma, theta.Lambda
        m, z, group = self.moments, self.coordinates.z, single_group(self.design)
        user_beta = self.coordinates.beta_to_user(beta)
        out = {"beta": user_beta}
        if group is None or z is None:
            return out
        shift = self.coordinates.u_shift(beta) + z.from_working @ self.mean_of_levels
        shape = (len(beta), levels.stop - levels.start, m.q)
        first, second = np.empty(shape), np.zeros((0, 0, 0))
        out[group.level_variable] = first
        if group.is_pooled and with_sums:
            out[f"coef_{group.factor}"] = second = np.empty(shape)
        population = _padded(user_beta)[:, group.population]

        def run(start: int) -> None:
            some = slice(start, min(start + LEVELS_AT_ONCE, levels.stop))
            used, design_of = np.unique(m.design_of[some], return_inverse=True)
            own = slice(some.start - levels.start, some.stop - levels.start)
            rng = None if seed is None else np.random.default_rng([seed, start // LEVELS_AT_ONCE])
            one_factor_kernels.level_coefficients(
                Lambda,
                beta,
                m.A[used],
                m.C[used],
                m.b[some],
                design_of,
                sigma,
                rng,
                z.from_working,
                shift,
                population,
                first[:, own],
                second[:, own] if second.size else second,
            )

        over_pieces(run, range(levels.start, levels.stop, LEVELS_AT_ONCE))
        return out

    def conditional_variances(
        self, theta: WorkingTheta
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Var(u | y, beta, theta) of the levels, in the user's coding."""
        if self.coordinates.z is None:
            return ()
        m, q = self.moments, self.moments.q
        found = [own for _, own in self.variances_by_design(theta)]
        none = np.zeros((len(theta), 0, q))
        return ((np.concatenate([none, *found], axis=1), m.design_of),)

    def variances_by_design(self, theta: WorkingTheta) -> Iterator[tuple[slice, np.ndarray]]:
        """The same of as many designs at a time as keep a block in bounds: which, and (K, designs, q)."""
        from hierpool.algebra import one_factor_kernels

        m, z = self.moments, self.coordinates.z
        assert z is not None
        for some in runs(len(m.A), 4 * len(theta) * m.q):  # 4: who asks makes several of each
            yield (
                some,
                one_factor_kernels.conditional_variances(
                    theta.sigma, theta.Lambda, m.A[some], z.from_working
                ),
            )

    def densities_by_row(
        self, theta: WorkingTheta, rows: np.ndarray, marginal: Marginal
    ) -> np.ndarray:
        """Shape (rows, K): log p(y_i | y_-i, theta), every coefficient integrated out."""
        from hierpool.algebra import one_factor_row_kernels

        arrays = self._planned(theta, rows, marginal)
        densities = one_factor_row_kernels.row_densities(*arrays)
        self.rows.to_response_density(densities.T, rows)
        return densities

    def _planned(
        self, theta: WorkingTheta, rows: np.ndarray, marginal: Marginal
    ) -> tuple[Points, Products, RowPlan, Columns]:
        """What the compiled loops over rows take."""
        from hierpool.algebra import one_factor_row_kernels as kernels

        m, data = self.moments, self.rows
        columns = kernels.Columns(data.y[rows], data.X[rows], data.Z[rows])
        plan = kernels.RowPlan.from_rows(columns.X, columns.Z, data.codes[rows], m.design_of)
        no_factor = np.zeros((1, 0, 0)), np.zeros((1, 0, m.p)), np.zeros((1, 0))
        products = kernels.Products(*((m.A, m.C, m.b) if m.q else no_factor))
        points = kernels.Points(theta.sigma, theta.Lambda, marginal.R, marginal.beta)
        return points, products, plan, columns

    def leverages(self, theta: WorkingTheta, rows: Design) -> tuple[np.ndarray, np.ndarray]:
        """Leverages and residuals (K, rows), in units of sigma, of any rows given all of this model."""
        from hierpool.algebra import one_factor_row_kernels

        others = Rows.from_design(rows, self.coordinates)
        if self.mean_of_levels.any():
            others = replace(others, y=others.y - others.Z @ self.mean_of_levels)
        every = np.arange(len(others.y))
        arrays = replace(self, rows=others)._planned(theta, every, self.marginal(theta))
        mean, sd = one_factor_row_kernels.leave_one_out(*arrays)
        left = np.square(theta.sigma[:, None] / sd)
        return 1 - left, (others.y - mean) * left

    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta).

        ``grouping`` is the model's factor or another one; of another one the rows of a level can
        be of several groups of the model, and the elimination of several factors takes them.
        """
        return np.concatenate([found for _, found in self.densities_by_level(theta, grouping)])

    def densities_by_level(
        self, theta: WorkingTheta, grouping: Grouping
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """The same of as many levels at a time as keep a block in bounds."""
        from hierpool.algebra import one_factor_row_kernels as kernels

        if self.design.groups and not np.array_equal(grouping.codes, self.rows.codes):
            across = self._across_groups().log_density_of_levels(theta, grouping)
            yield slice(0, grouping.n_levels), across
            return
        m, data, p = self.moments, self.rows, self.moments.p
        codes, n_levels = grouping.codes, grouping.n_levels
        marginal = self.marginal(theta)
        half = marginal.half[..., 0]
        total = 0.5 * ((half**2).sum(axis=-1) / theta.sigma**2 - marginal.log_det_population)
        S = marginal.R @ np.swapaxes(marginal.R, -1, -2)
        at = kernels.PopulationAt(theta.sigma, theta.Lambda, S, marginal.s, total)
        products = by_level(data.X, np.hstack([data.X, data.y[:, None]]), codes, n_levels)
        squares = np.bincount(codes, weights=data.y**2, minlength=n_levels)
        log_sd = np.bincount(codes, data.log_sd, n_levels)
        for some in runs(n_levels, len(theta)):
            own, J = m.design_of[some], some.stop - some.start
            levels = kernels.LevelProducts(
                m.A[own] if m.q else np.zeros((J, 0, 0)),
                m.C[own] if m.q else np.zeros((J, 0, p)),
                m.b[some] if m.q else np.zeros((J, 0)),
                products[some, :, :p],
                products[some, :, p],
                squares[some],
                grouping.n_rows[some].astype(float),
            )
            yield some, kernels.leave_level_out(at, levels) - log_sd[some, None]

    def _across_groups(self) -> MarginalModel:
        """The same model, eliminated as designs with several factors are."""
        from hierpool.algebra.several.factorise import Fronts
        from hierpool.algebra.several.model import SeveralFactors
        from hierpool.algebra.several.plan import ManyRows

        rows = replace(ManyRows.from_design(self.design, self.coordinates), y=self.rows.y)
        return SeveralFactors(self.design, self.coordinates, self.prior, Fronts.from_rows(rows))

    def density_of_sets(
        self, rest: OneFactor, theta: WorkingTheta, sets: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Joint log density of held-out rows, or of the rows of held-out levels; shape (sets, K)."""
        if all(len(rows) == 1 for rows in sets):
            held = self.rows.take(np.concatenate(sets))
            return held_out.of_rows(rest.moments, rest.prior, theta, held)
        others = rest.marginal(theta)
        return np.stack([held_out.of_level(others, theta, self.rows.take(rows)) for rows in sets])

    def population_without_levels(
        self, theta: WorkingTheta, grouping: Grouping
    ) -> tuple[np.ndarray, np.ndarray]:
        """Population part of M and its right-hand side without each level, by downdates."""
        m, data = self.moments, self.rows
        products = by_level(
            data.X, np.hstack([data.X, data.y[:, None]]), grouping.codes, grouping.n_levels
        )
        # S and s are sums over levels, so that a level goes by subtraction. Few digits are left where
        # the level held nearly all the information on a coefficient.
        own, right = products[None, ..., :-1], products[None, ..., -1]
        marginal = self.marginal(theta)
        if m.q:
            at = self.condition(theta)
            G = at.G[:, m.design_of]
            lam_b = np.einsum("kab,ja->kjb", theta.Lambda, m.b)
            half = solve_lower(at.L[:, m.design_of], lam_b[..., None])[..., 0]
            own = own - np.swapaxes(G, -1, -2) @ G
            right = right - np.einsum("kjqp,kjq->kjp", G, half)
        whole = marginal.R @ np.swapaxes(marginal.R, -1, -2)
        return whole[:, None] - own, marginal.s[:, None] - right

    def without(self, left_out: np.ndarray) -> OneFactor:
        """The same model less some rows (positions), with coordinates and priors as they are."""
        rows = self.rows.take(np.setdiff1d(np.arange(len(self.rows.y)), left_out))
        return replace(self, rows=rows, moments=Moments.from_rows(rows))

    def prediction_of_rows(
        self, theta: WorkingTheta, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of y_i given y_-i and theta, shapes (K, rows), in the user's units."""
        from hierpool.algebra import one_factor_row_kernels

        self.design.check_rows("the prediction of each row from all others")
        data = self.rows
        which = np.arange(len(data.y)) if rows is None else np.asarray(rows)
        arrays = self._planned(theta, which, self.marginal(theta))
        mean, sd = one_factor_row_kernels.leave_one_out(*arrays)
        scale = np.broadcast_to(data.sd, data.y.shape)[which]
        return self.design.y[which] - scale * (data.y[which] - mean), scale * sd


def _padded(beta: np.ndarray) -> np.ndarray:
    """A column of zeros at the end, where -1 points."""
    return np.concatenate([beta, np.zeros((len(beta), 1))], axis=1)
