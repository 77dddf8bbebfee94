"""A design with its coefficients integrated out: what is left is a density of theta alone.

Whoever has values of theta (the exact engine, NUTS, an optimum) gets from here the log density of
the response, exact draws of every coefficient, and the density of each row given all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hierpool.core.design import Design, Grouping
from hierpool.core.gaussian import BetaPrior, Conditional, Marginal, condition
from hierpool.core.moments import Coordinates, Moments, Rows, by_level, single_group

LEVELS_AT_ONCE = 256  # levels drawn with one seed
_BLOCK_NUMBERS = 4_000_000  # floats in one block of a computation over draws x rows or levels


@dataclass(frozen=True)
class Integrated:
    """Cross-products, rows and coefficient priors of a design, in working coordinates.

    Attributes
    ----------
    design
        The rows as the user knows them.
    coordinates
        Working coordinates.
    rows
        Rows in working coordinates; for no pooling less the prior mean of the own coefficients.
    moments
        Their cross-products.
    prior
        Normal prior of the population coefficients, in working coordinates.
    own_mean
        Shape (q,): prior mean of the own coefficients of no pooling; zero otherwise.
    """

    design: Design
    coordinates: Coordinates
    rows: Rows
    moments: Moments
    prior: BetaPrior
    own_mean: np.ndarray

    @classmethod
    def of(
        cls, design: Design, coordinates: Coordinates, prior: BetaPrior, own_mean: np.ndarray
    ) -> Integrated:
        """Integrate the coefficients of a design out under these priors."""
        rows = Rows.of(design, coordinates)
        if own_mean.any():
            rows = replace(rows, y=rows.y - rows.Z @ own_mean)
        return cls(design, coordinates, rows, Moments.of(rows), prior, own_mean)

    def condition(self, sigma: np.ndarray, Lambda: np.ndarray) -> Conditional:
        """Distribution of the coefficients at K values of theta: sigma (K,), Lambda (K, q, q).

        In numpy, K x levels at once: for one value of theta or a few. The methods below are
        compiled, and take any number.
        """
        return condition(self.moments, sigma, Lambda, self.prior)

    def marginal(self, sigma: np.ndarray, Lambda: np.ndarray) -> Marginal:
        """The population's part, levels eliminated, at K values of theta."""
        from hierpool.core import kernels  # numba loads when first needed

        m = self.moments
        counts = m.counts.astype(float)
        sums = kernels.level_sums(Lambda, m.A, m.C, m.b_sum, m.b_root, counts)
        return Marginal.of(m, self.prior, sigma, *sums)

    def log_density(self, sigma: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | theta), every coefficient integrated out."""
        return self.marginal(sigma, Lambda).log_density

    def blocks(self, n_draws: int, per_draw: int) -> Iterator[slice]:
        """Slices of the draws that keep one block of ``per_draw`` numbers a draw in bounds."""
        step = max(1, _BLOCK_NUMBERS // max(per_draw, 1))
        for start in range(0, n_draws, step):
            yield slice(start, min(start + step, n_draws))

    def draw_beta(
        self, sigma: np.ndarray, Lambda: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """One exact draw of beta for each of K values of theta, working coordinates, (K, p)."""
        return self.marginal(sigma, Lambda).draw_beta(rng)

    def draw_coefficients(
        self, sigma: np.ndarray, Lambda: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta; keys as in ``to_user``."""
        beta = self.draw_beta(sigma, Lambda, rng)
        return self.draw_all_levels(sigma, Lambda, beta, int(rng.integers(2**62)))

    def draw_all_levels(
        self, sigma: np.ndarray, Lambda: np.ndarray, beta: np.ndarray, seed: int
    ) -> dict[str, np.ndarray]:
        """Coefficients of every level given theta and ``beta``; keys as in ``to_user``."""
        out: dict[str, np.ndarray] = {}
        for run in self.level_runs():
            part = self.draw_levels(sigma, Lambda, beta, run, seed)
            if run.stop - run.start == self.moments.n_levels:
                return part
            for name, values in part.items():
                if name == "beta":
                    out[name] = values
                    continue
                if name not in out:
                    out[name] = np.empty((len(beta), self.moments.n_levels, self.moments.q))
                out[name][:, run] = values
        return out or self.to_user(beta, np.zeros((len(beta), 0, 0)))

    def draw_levels(
        self, sigma: np.ndarray, Lambda: np.ndarray, beta: np.ndarray, levels: slice, seed: int
    ) -> dict[str, np.ndarray]:
        """Coefficients of some levels given theta and ``beta`` (K, p), exact draws, user's coding.

        Keys as in ``to_user``. Given theta and beta the levels are independent, and the noise of
        each run of ``LEVELS_AT_ONCE`` levels has a seed of its own: the same levels come out the
        same whether they are drawn with the others or alone, so runs must begin at its multiples.
        """
        m = self.moments
        J = len(range(*levels.indices(m.n_levels)))
        rng = np.random.default_rng([seed, levels.start // LEVELS_AT_ONCE])
        noise = rng.standard_normal((len(sigma), J, m.q))
        noise *= sigma[:, None, None]
        return self.to_user(beta, self._deviations(Lambda, beta, noise, levels))

    def level_runs(self) -> Iterator[slice]:
        """The levels in runs of ``LEVELS_AT_ONCE``."""
        for start in range(0, self.moments.n_levels, LEVELS_AT_ONCE):
            yield slice(start, min(start + LEVELS_AT_ONCE, self.moments.n_levels))

    def mean_coefficients(self, sigma: np.ndarray, Lambda: np.ndarray) -> dict[str, np.ndarray]:
        """Conditional means of all coefficients at K values of theta; keys as for the draws."""
        beta = self.marginal(sigma, Lambda).beta
        every = slice(0, self.moments.n_levels)
        return self.to_user(beta, self._deviations(Lambda, beta, np.zeros((0, 0, 0)), every))

    def _deviations(
        self, Lambda: np.ndarray, beta: np.ndarray, noise: np.ndarray, levels: slice
    ) -> np.ndarray:
        from hierpool.core import kernels

        m = self.moments
        used, design_of = np.unique(m.design_of[levels], return_inverse=True)
        by_design = np.argsort(design_of, kind="stable").astype(np.int64)
        edges = np.arange(len(used) + 1)
        starts = np.searchsorted(design_of[by_design], edges).astype(np.int64)
        A, C = m.A[used], m.C[used]
        return kernels.deviations(Lambda, beta, A, C, m.b[levels], by_design, starts, noise)

    def to_user(self, beta: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
        """Coefficients (K, p) and (K, J, q) of working coordinates in the user's coding."""
        out = {"beta": self.coordinates.beta_to_user(beta)}
        group = single_group(self.design)
        if group is None:
            return out
        own = self.coordinates.u_to_user(u + self.own_mean if self.own_mean.any() else u, beta)
        if not group.is_pooled:
            return {**out, "coef": own}
        padded = np.concatenate([out["beta"], np.zeros((len(beta), 1))], axis=1)
        return {**out, "u": own, "coef": own + padded[:, None, group.population]}

    def log_density_of_rows(
        self,
        sigma: np.ndarray,
        Lambda: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> np.ndarray:
        """Shape (K, rows): log p(y_i | y_-i, theta), every coefficient integrated out."""
        which = slice(None) if rows is None else rows
        return self.rows.of_response(self._leave_one_out(sigma, Lambda, rows, True)[0], which)

    def densities_by_row(
        self, sigma: np.ndarray, Lambda: np.ndarray, rows: np.ndarray, marginal: Marginal
    ) -> np.ndarray:
        """Shape (rows, K): the log densities of ``log_density_of_rows``, a row's draws together."""
        from hierpool.core import kernels

        m, data = self.moments, self.rows
        y, X, Z, codes = data.y[rows], data.X[rows], data.Z[rows], data.codes[rows]
        A, C = (m.A, m.C) if m.q else (np.zeros((1, 0, 0)), np.zeros((1, 0, m.p)))
        b = m.b if m.q else np.zeros((1, 0))
        plan = kernels.RowPlan.of(X, Z, codes, m.design_of)
        densities = kernels.row_densities(
            sigma, Lambda, marginal.R, marginal.beta, A, C, b, plan, y, X, Z
        )
        self.rows.of_response(densities.T, rows)
        return densities

    def log_density_of_levels(
        self, sigma: np.ndarray, Lambda: np.ndarray, grouping: Grouping
    ) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta).

        ``grouping`` is the model's factor, or any factor of a model without group terms.
        """
        from hierpool.core import kernels

        m, data = self.moments, self.rows
        marginal = self.marginal(sigma, Lambda)
        codes, n_levels, p = grouping.codes, grouping.n_levels, m.p
        products = by_level(data.X, np.hstack([data.X, data.y[:, None]]), codes, n_levels)
        half = marginal.half[..., 0]
        total = 0.5 * ((half**2).sum(axis=-1) / sigma**2 - marginal.log_det_population)
        is_factor = m.q > 0
        densities = kernels.leave_level_out(
            sigma,
            Lambda,
            marginal.R @ np.swapaxes(marginal.R, -1, -2),
            marginal.s,
            m.A[m.design_of] if is_factor else np.zeros((n_levels, 0, 0)),
            m.C[m.design_of] if is_factor else np.zeros((n_levels, 0, p)),
            m.b if is_factor else np.zeros((n_levels, 0)),
            products[..., :p],
            products[..., p],
            np.bincount(codes, weights=data.y**2, minlength=n_levels),
            grouping.n_rows,
            total,
        )
        return densities - np.bincount(codes, data.log_sd, n_levels)[:, None]

    def without(self, left_out: np.ndarray) -> Integrated:
        """The same model less some rows (positions), with coordinates and priors as they are."""
        rows = self.rows.take(np.setdiff1d(np.arange(len(self.rows.y)), left_out))
        return replace(self, rows=rows, moments=Moments.of(rows))

    def prediction_of_rows(
        self, sigma: np.ndarray, Lambda: np.ndarray, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of y_i given y_-i and theta, shapes (K, rows), in the user's units."""
        mean, sd = self._leave_one_out(sigma, Lambda, rows, False)
        which = slice(None) if rows is None else rows
        scale = np.broadcast_to(self.rows.sd, self.rows.y.shape)[which]
        return self.design.y[which] - scale * (self.rows.y[which] - mean), scale * sd

    def _leave_one_out(
        self,
        sigma: np.ndarray,
        Lambda: np.ndarray,
        rows: np.ndarray | None,
        is_density: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        from hierpool.core import kernels

        m, data = self.moments, self.rows
        which = np.arange(len(data.y)) if rows is None else np.asarray(rows)
        y, X, Z, codes = data.y[which], data.X[which], data.Z[which], data.codes[which]
        marginal = self.marginal(sigma, Lambda)
        A, C = (m.A, m.C) if m.q else (np.zeros((1, 0, 0)), np.zeros((1, 0, m.p)))
        return kernels.leave_one_out(
            sigma,
            Lambda,
            marginal.R,
            marginal.beta,
            A,
            C,
            m.b,
            kernels.RowPlan.of(X, Z, codes, m.design_of),
            y,
            X,
            Z,
            is_density,
        )
