"""A design with its coefficients integrated out: what is left is a density of theta alone.

Whoever has values of theta (the exact engine, NUTS, an optimum) gets from here the log density of
the response, exact draws of every coefficient, and the density of each row given all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hierpool.core.design import Design
from hierpool.core.gaussian import LOG_2PI, BetaPrior, Conditional, condition
from hierpool.core.moments import Coordinates, Moments, Rows, single_group

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
            rows = Rows(rows.y - rows.Z @ own_mean, rows.X, rows.Z, rows.codes)
        return cls(design, coordinates, rows, Moments.of(rows), prior, own_mean)

    def condition(self, sigma: np.ndarray, Lambda: np.ndarray) -> Conditional:
        """Distribution of the coefficients at K values of theta: sigma (K,), Lambda (K, q, q)."""
        return condition(self.moments, sigma, Lambda, self.prior)

    def blocks(self, n_draws: int, per_draw: int) -> Iterator[slice]:
        """Slices of the draws that keep one block of ``per_draw`` numbers a draw in bounds."""
        step = max(1, _BLOCK_NUMBERS // max(per_draw, 1))
        for start in range(0, n_draws, step):
            yield slice(start, min(start + step, n_draws))

    def draw_coefficients(
        self, sigma: np.ndarray, Lambda: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta, user's coding.

        Keys ``beta`` (K, p), ``u`` (K, J, q) (absent for no pooling), ``coef`` (K, J, q).
        """
        m = self.moments
        K = len(sigma)
        beta, u = np.empty((K, m.p)), np.empty((K, m.n_levels, m.q))
        for part in self.blocks(K, 4 * max(m.n_levels, 1) * max(m.q, 1) * max(m.q, m.p, 1)):
            beta[part], u[part] = self.condition(sigma[part], Lambda[part]).draw(rng)
        return self.to_user(beta, u)

    def to_user(self, beta: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
        """Coefficients (K, p) and (K, J, q) of working coordinates in the user's coding."""
        out = {"beta": self.coordinates.beta_to_user(beta)}
        group = single_group(self.design)
        if group is None:
            return out
        own = self.coordinates.u_to_user(u + self.own_mean, beta)
        if not group.is_pooled:
            return {**out, "coef": own}
        padded = np.concatenate([out["beta"], np.zeros((len(beta), 1))], axis=1)
        return {**out, "u": own, "coef": own + padded[:, None, group.population]}

    def log_density_of_rows(self, sigma: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
        """Shape (K, n): log p(y_i | y_-i, theta), every coefficient integrated out."""
        out = np.empty((len(sigma), len(self.rows.y)))
        for part in self.blocks(len(sigma), self._per_row):
            mean, sd = self.condition(sigma[part], Lambda[part]).leave_one_out(self.rows)
            out[part] = -0.5 * LOG_2PI - np.log(sd) - 0.5 * ((self.rows.y - mean) / sd) ** 2
        return out

    @property
    def _per_row(self) -> int:
        m = self.moments
        return len(self.rows.y) * (m.q + m.p + 2) * max(m.q, 1)


