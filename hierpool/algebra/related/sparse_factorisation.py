"""Factorisation of sparse mixed model equations at one Lambda.

With m = M^-1 Lambda'Z'[X y] the columns whitened are e = V^-1 [X y] = [X y] - Z Lambda m, and their
products [X y]'V^-1 [X y] = e'e + m'K m: a sum of squares, from which nothing is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.factorisation import (
    Factorisation,
    LevelsOf,
    population_part,
)
from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.moments import Moments
from hierpool.algebra.related.equations import Equations
from hierpool.algebra.related.sparse_factor import SparseFactor


@dataclass(frozen=True, eq=False)
class SparseFactorisation(Factorisation):
    """One Lambda.

    Attributes
    ----------
    equations
        The columns.
    totals
        Counts of the rows; their cross-products are zero, and stand in ``products``.
    group_columns
        Columns of each factor in Lambda.
    Lambda
        Shape (Q, Q).
    """

    equations: Equations
    totals: Moments
    group_columns: tuple[slice, ...]
    Lambda: np.ndarray

    @cached_property
    def blocks(self) -> tuple[np.ndarray, ...]:
        """Lambda of each factor, (q, q)."""
        return tuple(self.Lambda[at, at] for at in self.group_columns)

    @cached_property
    def factor(self) -> SparseFactor:
        """M."""
        return self.equations.factor(self.blocks)

    def _times(self, M: np.ndarray, transposed: bool = False) -> np.ndarray:
        return self.equations.times(self.blocks, M, transposed)

    @cached_property
    def m(self) -> np.ndarray:
        """Shape (columns, p + 1)."""
        return self.factor.solve(self._times(self.equations.ZXy, transposed=True))

    @cached_property
    def e(self) -> np.ndarray:
        """Shape (n, p + 1)."""
        own = self.equations
        return np.asarray(own.Xy - own.Z @ self._times(self.m))

    @cached_property
    def products(self) -> np.ndarray:
        """Shape (p + 1, p + 1)."""
        return np.asarray(self.e.T @ self.e + self.m.T @ (self.equations.K @ self.m))

    @property
    def log_det(self) -> float:
        """Of the covariance of the rows, in units of sigma^2."""
        return self.factor.log_det - self.equations.prior.log_det

    @cached_property
    def marginal(self) -> Marginal:
        """The population's part."""
        p, left = self.equations.p, -self.products  # totals are zero
        return Marginal.from_sums(
            self.totals,
            BetaPrior.flat(p),
            np.ones(1),
            np.array([self.log_det]),
            left[None, :p, :p],
            left[None, :p, p],
            np.array([left[p, p]]),
        )

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda, (Q, Q): of the log determinants, and of the sum of squares."""
        own, p = self.equations, self.equations.p
        at = self.marginal.beta[0] if beta is None else beta
        by_det, by_ss = np.zeros_like(self.Lambda), np.zeros_like(self.Lambda)
        self._add_log_det(by_det)
        seen = np.asarray(own.Z.T @ self.e)
        score = seen[:, p] - seen[:, :p] @ at
        v = self.m[:, p] - self.m[:, :p] @ at
        taken = np.zeros((own.size, 0))
        if is_reml and p:
            R = self.marginal.R[0]
            taken = np.linalg.solve(R @ R.T, self.m[:, :p].T).T
        for factor, cols in zip(own.factors, self.group_columns, strict=True):
            shape, here = (factor.n_labels, factor.size), factor.columns
            by_ss[cols, cols] = -2 * score[here].reshape(shape).T @ v[here].reshape(shape)
            if taken.shape[1]:
                each = seen[here, :p].reshape(*shape, p)
                by_det[cols, cols] -= 2 * np.einsum(
                    "jcp,jap->ca", each, taken[here].reshape(*shape, p)
                )
        return by_det, by_ss

    def _add_log_det(self, by_det: np.ndarray) -> None:
        """Add the derivative of log det M: 2 Z'Z Lambda M^-1, summed over the levels."""
        own, cols = self.equations, self.group_columns
        inverse = self.factor.inverse
        for pair, places in zip(own.pairs, own.inverse_places, strict=True):
            C, f, g = inverse[places], pair.f, pair.g
            weighted = np.einsum("bcd,bae->cdae", pair.products, C)
            by_det[cols[f], cols[f]] += 2 * np.einsum("cdae,de->ca", weighted, self.blocks[g])
            if f != g:
                by_det[cols[g], cols[g]] += 2 * np.einsum("cdae,ca->de", weighted, self.blocks[f])

    def values(self, k: int) -> LevelsOf:
        """Coefficients of all labels of a factor, those without rows too."""
        own, p = self.equations, self.equations.p
        factor, L = own.factors[k], self.blocks[k]
        shape = (factor.n_labels, factor.size)
        m = self.m[factor.columns].reshape(*shape, p + 1)
        u = (m[..., p] - m[..., :p] @ self.marginal.beta[0]) @ L.T
        conditional = L @ self.factor.inverse[own.level_places(k)] @ L.T
        return LevelsOf(u, conditional, np.einsum("ac,jcp->jap", L, m[..., :p]))

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels."""
        out = []
        for k, factor in enumerate(self.equations.factors):
            of = self.values(k)
            at = factor.places
            out.append(LevelsOf(of.u[at], of.conditional[at], of.sensitivity[at]))
        return tuple(out)

    def error_variances(self, k: int, into: np.ndarray) -> np.ndarray:
        """Shape (N, q): prediction error variances of all labels of a factor, in units of sigma^2.

        Of coefficients ``into`` (q, q) times those in working coordinates.
        """
        of = self.values(k)
        N, q, p = of.sensitivity.shape
        W = np.einsum("ab,jbp->jap", into, of.sensitivity).reshape(-1, p)
        own = np.einsum("ab,jbc,ac->ja", into, of.conditional, into)
        return np.asarray(own + population_part(self.marginal.R[0], W).reshape(N, q))

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""
        p = self.equations.p
        left = self.e[:, p] - self.e[:, :p] @ self.marginal.beta[0]
        return np.asarray(left * self.equations.rows.sd)

    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances of combinations, in units of sigma^2."""
        own, out = self.equations, np.empty(len(t))
        step = max(1, 4_000_000 // own.size)
        for some, part in t.blocks(step):
            out[some] = self._variance(part)
        return out

    def _variance(self, t: Combinations) -> np.ndarray:
        own, p = self.equations, self.equations.p
        weights = np.zeros((own.size, len(t)))
        for factor, part in zip(own.factors, t.parts, strict=True):
            at = factor.start + factor.size * factor.places[part.levels]
            for a in range(factor.size if len(part.which) else 0):
                np.add.at(weights, (at + a, part.which), part.weights[:, a])
        weights = self._times(weights, transposed=True)
        left = t.X - weights.T @ self.m[:, :p]
        found = np.einsum("nm,nm->m", weights, self.factor.solve(weights))
        return np.asarray(found + population_part(self.marginal.R[0], left))

    @cached_property
    def columns(self) -> sparse.csr_array:
        """Shape (n, columns of all labels): Z Lambda."""
        parts = [
            self.equations.Z[:, own.columns] @ sparse.kron(sparse.eye_array(own.n_labels), L)
            for own, L in zip(self.equations.factors, self.blocks, strict=True)
        ]
        return sparse.csr_array(sparse.hstack(parts, format="csr"))

    def solve(self, right: np.ndarray) -> np.ndarray:
        """(Lambda'Z'Z Lambda + K)^-1 times ``right``, ordered as ``columns``."""
        return self.factor.solve(right)

    def from_new_levels(self, rng: np.random.Generator, m: int) -> np.ndarray:
        """Shape (n, m): what new levels add to the rows, sigma 1."""
        noise = rng.standard_normal((self.equations.size, m))
        return np.asarray(self.columns @ self.equations.prior.spread(noise))

    def leverage_of_levels(self) -> np.ndarray:
        """Shape (n,): t'M^-1 t of each row t of ``columns``, from entries of the inverse."""
        own, inverse = self.equations, self.factor.inverse
        Z = [z @ L for z, L in zip(own.rows.Z, self.blocks, strict=True)]
        out = np.zeros(own.rows.n)
        for pair, places in zip(own.pairs, own.inverse_places, strict=True):
            C = inverse[places][pair.of_row]
            both = np.einsum("na,nab,nb->n", Z[pair.f], C, Z[pair.g], optimize=True)
            out += both if pair.f == pair.g else 2 * both
        return out

    def inverse_block(self, rows: np.ndarray) -> np.ndarray:
        """Shape (rows, rows): of V^-1, between some rows."""
        T = self.columns[rows].toarray()
        return np.asarray(np.eye(len(rows)) - T @ self.factor.solve(T.T))

    def inverse_blocks(self, sets: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """Shape (sets, size, size): blocks of V^-1 for sets of rows (sets, size).

        ``shared`` (sets,): whether the rows of a set lie in one level of every factor: then the
        entries of the inverse that are at hand say all.
        """
        size = sets.shape[1]
        out = np.empty((len(sets), size, size))
        out[:] = np.eye(size)
        own, inverse = self.equations, self.factor.inverse
        Z = [z @ L for z, L in zip(own.rows.Z, self.blocks, strict=True)]
        some = np.flatnonzero(shared)
        for pair, places in zip(own.pairs, own.inverse_places, strict=True):
            C = inverse[places][pair.of_row[sets[some, 0]]]
            one, other = Z[pair.f][sets[some]], Z[pair.g][sets[some]]
            both = one @ C @ np.swapaxes(other, 1, 2)
            out[some] -= both if pair.f == pair.g else both + np.swapaxes(both, 1, 2)
        for k in np.flatnonzero(~shared):
            out[k] = self.inverse_block(sets[k])
        return out
