"""Designs with several factors, their coefficients integrated out, by way of ``fronts``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.marginal_model import LevelSums, MarginalModel
from hierpool.algebra.moments import Coordinates, Moments
from hierpool.algebra.several import draws, leave_out
from hierpool.algebra.several.factorisation import SeveralFactorsFactorisation
from hierpool.algebra.several.factorise import Fronts
from hierpool.algebra.several.plan import ManyRows
from hierpool.algebra.weighted_products import SeveralFactorsProducts
from hierpool.core.design import Design, Grouping
from hierpool.core.theta import WorkingTheta

_AT_ONCE = 2_000_000  # rows x thetas worked at once


@dataclass(frozen=True)
class SeveralFactors(MarginalModel):
    """Fronts, rows and coefficient priors of a design with several factors.

    Attributes
    ----------
    design, coordinates, prior
        As in ``MarginalModel``.
    fronts
        The rows in working coordinates, and the plan of their elimination.
    """

    design: Design
    coordinates: Coordinates
    prior: BetaPrior
    fronts: Fronts

    @classmethod
    def from_design(
        cls, design: Design, coordinates: Coordinates, prior: BetaPrior
    ) -> SeveralFactors:
        """Integrate the coefficients of a design out under this prior of beta."""
        return cls(
            design, coordinates, prior, Fronts.from_rows(ManyRows.from_design(design, coordinates))
        )

    @property
    def scaled_rows(self) -> ManyRows:
        """The rows in working coordinates."""
        return self.fronts.rows

    @property
    def totals(self) -> Moments:
        """Cross-products of the population columns and the response."""
        return self.fronts.moments

    def at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> SeveralFactorsFactorisation:
        """The model at one relative factor."""
        return SeveralFactorsFactorisation(self.fronts, Lambda, self.fronts.factored(Lambda))

    def population_at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> Marginal:
        """The population's part at K relative factors."""
        flat = BetaPrior.flat(self.fronts.moments.p)
        return self.fronts.marginal(np.ones(len(Lambda)), Lambda, flat)

    def weighted_products(self, basis: np.ndarray, T: np.ndarray) -> SeveralFactorsProducts:
        """Cross-products of the levels' columns weighted by V^-1."""
        return SeveralFactorsProducts.from_rows(self.fronts.rows, basis, T)

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""
        return int(self.fronts.plan.structure.offset[-1]) + self.fronts.n_rest**3 // 8

    @property
    def n_random_effects(self) -> int:
        """Coefficients of levels, all factors together."""
        return self.fronts.n_coefficients

    def level_sums(self, theta: WorkingTheta) -> LevelSums:
        """What the levels contribute at K values of theta."""
        Lambda = theta.Lambda
        log_det, GG, Gg, squared = self.fronts.sums(Lambda)
        return LevelSums(
            log_det,
            np.ascontiguousarray(np.moveaxis(GG, 0, -1)),
            np.ascontiguousarray(Gg.T),
            np.ascontiguousarray(squared),
        )

    def draw(
        self,
        theta: WorkingTheta,
        seed: int,
        sums: LevelSums | None = None,
        with_sums: bool = True,
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta, in the user's coding."""
        sigma, Lambda = theta.sigma, theta.Lambda
        beta, u = draws.draw_many(self.fronts, sigma, Lambda, self.prior, seed)
        return self._named(beta, u, with_sums)

    def mean_coefficients(self, theta: WorkingTheta) -> dict[str, np.ndarray]:
        """Conditional means of all coefficients at K values of theta; keys as for the draws."""
        Lambda = theta.Lambda
        beta = self.marginal(theta).beta
        return self._named(beta, self.fronts.deviations(Lambda, beta), True)

    def _named(
        self, beta: np.ndarray, u: tuple[np.ndarray, ...], with_sums: bool
    ) -> dict[str, np.ndarray]:
        zs = self.coordinates.zs
        user = tuple(
            (own.reshape(-1, own.shape[-1]) @ z.from_working.T).reshape(own.shape)
            for own, z in zip(u, zs, strict=True)
        )
        return self._with_population(self.coordinates.beta_to_user(beta), user, with_sums)

    def conditional_variances(
        self, theta: WorkingTheta
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Var(u | y, beta, theta) of the levels, in the user's coding; a factorisation a theta."""
        sigma, Lambda = theta.sigma, theta.Lambda
        zs, found = self.coordinates.zs, []
        marginal = self.marginal(theta)
        for k in range(len(sigma)):
            at = self.fronts.factored(Lambda[k])
            own = self.fronts.variances(at, marginal.R[k]).conditional
            found.append(
                [
                    sigma[k] ** 2 * np.einsum("ka,jab,kb->jk", z.from_working, v, z.from_working)
                    for v, z in zip(own, zs, strict=True)
                ]
            )
        every = (np.stack([one[f] for one in found]) for f in range(len(zs)))
        return tuple((values, np.arange(values.shape[1])) for values in every)

    def densities_by_row(
        self, theta: WorkingTheta, rows: np.ndarray, marginal: Marginal
    ) -> np.ndarray:
        """Shape (rows, K): log p(y_i | y_-i, theta), every coefficient integrated out."""
        sigma, Lambda = theta.sigma, theta.Lambda
        out = np.empty((len(rows), len(sigma)))
        step = max(1, _AT_ONCE // max(len(rows), 1))
        for start in range(0, len(sigma), step):
            some = slice(start, start + step)
            out[:, some] = leave_out.log_density_of_rows(
                self.fronts, sigma[some], Lambda[some], marginal.at(some), np.asarray(rows)
            )
        self.scaled_rows.to_response_density(out.T, rows)
        return out

    def leverages(self, theta: WorkingTheta, rows: Design) -> tuple[np.ndarray, np.ndarray]:
        """Leverages and residuals (K, rows), in units of sigma, of any rows given all of this model."""
        others = replace(self.fronts, rows=ManyRows.from_design(rows, self.coordinates))
        return leave_out.leverages(others, theta.Lambda, self.marginal(theta))

    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta)."""
        sigma, Lambda = theta.sigma, theta.Lambda
        codes, J = grouping.codes, grouping.n_levels
        densities = leave_out.log_density_of_levels(
            self.fronts, sigma, Lambda, self.prior, codes, J
        )
        return densities - np.bincount(codes, self.scaled_rows.log_sd, J)[:, None]

    def prediction_of_rows(
        self, theta: WorkingTheta, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of y_i given y_-i and theta, shapes (K, rows), in the user's units."""
        sigma, Lambda = theta.sigma, theta.Lambda
        self.design.check_rows("the prediction of each row from all others")
        which = np.arange(self.design.n) if rows is None else np.asarray(rows)
        marginal, data = self.marginal(theta), self.scaled_rows
        mean, sd = leave_out.leave_one_out(self.fronts, sigma, Lambda, marginal, which)
        scale = np.broadcast_to(data.sd, data.y.shape)[which]
        return self.design.y[which] - scale * (data.y[which] - mean), scale * sd

    def without(self, left_out: np.ndarray) -> SeveralFactors:
        """The same model less some rows (positions), with coordinates and priors as they are."""
        kept = np.setdiff1d(np.arange(self.scaled_rows.n), left_out)
        return replace(self, fronts=Fronts.from_rows(self.scaled_rows.take(kept)))
