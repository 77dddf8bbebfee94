"""Factorisation of a design with several factors: supernode by supernode, then one dense block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, sparse

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.factorisation import (
    Factorisation,
    LevelsOf,
    in_places_of_levels,
    population_part,
)
from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.several import solve_kernels
from hierpool.algebra.several.factorise import Factored, Fronts

_BLOCK_NUMBERS = 4_000_000  # floats in one block of right-hand sides


@dataclass(frozen=True)
class SeveralFactorsFactorisation(Factorisation):
    """Several factors at one Lambda.

    Attributes
    ----------
    fronts
        Rows, plan of elimination and cross-products.
    Lambda
        Shape (Q, Q), block diagonal over the factors.
    factored
        M's block of levels, factored.
    """

    fronts: Fronts
    Lambda: np.ndarray
    factored: Factored

    @cached_property
    def marginal(self) -> Marginal:
        """The population's part."""
        m = self.fronts.moments
        return Marginal.from_sums(m, BetaPrior.flat(m.p), np.ones(1), *self.factored.sums)

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda, shapes (Q, Q)."""
        at = self.marginal.beta[0] if beta is None else beta
        found = self.fronts.gradient(self.factored, self.marginal.R[0], at)
        population = found.log_det_population if is_reml else 0.0
        return found.log_det_levels + population, found.squares

    @cached_property
    def _u(self) -> tuple[np.ndarray, ...]:
        return tuple(u[0] for u in self.fronts.deviations(self.Lambda[None], self.marginal.beta))

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels of each factor."""
        found = self.fronts.variances(self.factored, self.marginal.R[0])
        parts = zip(self._u, found.conditional, found.sensitivity, strict=True)
        return tuple(LevelsOf(*part) for part in parts)

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""
        return self.fronts.rows.residuals(self.marginal.beta[0], self._u)

    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances of combinations, in units of sigma^2."""
        out = np.empty(len(t))
        for some, block in t.blocks(max(1, _BLOCK_NUMBERS // max(self.fronts.n_coefficients, 1))):
            h = self._solved_forward(block)
            left = block.X - h.T @ self.factored.whitened[:, :-1]
            out[some] = np.square(h).sum(axis=0) + population_part(self.marginal.R[0], left)
        return out

    def _solved_forward(self, t: Combinations) -> np.ndarray:
        """Shape (columns of M, m): F^-1 Lambda't."""
        fronts, s = self.fronts, self.fronts.plan.structure
        x = np.zeros((fronts.n_coefficients, len(t)))
        for position, f in enumerate(fronts.plan.order):
            part, i, q = t.parts[f], s.at[position], s.q[position]
            weights = part.weights @ self.Lambda[i : i + q, i : i + q]
            first = s.first[position] + q * part.levels
            np.add.at(x, (first[:, None] + np.arange(q), part.which[:, None]), weights)
        solve_kernels.forward_chain(s, self.factored.values, x)
        if fronts.n_rest:
            rest = x[s.sizes[2] :]
            rest[:] = linalg.solve_triangular(self.factored.U, rest, trans="T")
        return x

    @cached_property
    def columns(self) -> sparse.csr_array:
        """Shape (n, coefficients of all levels): Z Lambda, factor by factor and level by level."""
        rows, made, start = self.fronts.rows, [], 0
        for Z, codes, J in zip(rows.Z, rows.codes, rows.n_levels, strict=True):
            at = slice(start, start + Z.shape[1])
            made.append(in_places_of_levels(Z @ self.Lambda[at, at], codes, J))
            start = at.stop
        return sparse.csr_array(sparse.hstack(made, format="csr"))
