"""Factorisation of a design with related levels at one Lambda.

The main factor's columns T have a diagonal block of M, d = 1 + lambda^2 D; with w = lambda^2 / d

    V_a^-1 = I - T diag(w) T'        H = W'V_a^-1 W = across + sum_k w_k w_k' / d_k        C = T'W

(w_k is W along the k-th direction of T, ``across`` what is left beside them: no difference is taken),
and the other factors are eliminated from H: F F' = Lambda'H_BB Lambda + I, G = F^-1 Lambda'H_B[X y].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, sparse

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.factorisation import (
    Factorisation,
    LevelsOf,
    population_part,
)
from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.moments import Moments
from hierpool.algebra.related.columns import RelatedColumns


@dataclass(frozen=True)
class RelatedFactorisation(Factorisation):
    """One Lambda.

    Attributes
    ----------
    columns_of
        The columns.
    totals
        Counts of the rows; their cross-products are zero, and stand in H.
    group_columns
        Columns of each factor in Lambda.
    Lambda
        Shape (Q, Q).
    """

    columns_of: RelatedColumns
    totals: Moments
    group_columns: tuple[slice, ...]
    Lambda: np.ndarray

    @cached_property
    def sd(self) -> float:
        """Relative sd of the main factor, lambda."""
        return float(self.columns_of.main_sd(self.Lambda, self.group_columns))

    @cached_property
    def d(self) -> np.ndarray:
        """Shape (r,)."""
        return np.asarray(1 + self.sd**2 * self.columns_of.D)

    @cached_property
    def H(self) -> np.ndarray:
        """Shape (N + p + 1, N + p + 1)."""
        return self.columns_of.weighted(self.d)

    def _others(self, M: np.ndarray, transposed: bool = False) -> np.ndarray:
        return self.columns_of.others(M, self.Lambda, self.group_columns, transposed)

    @cached_property
    def F(self) -> np.ndarray:
        """Shape (N, N)."""
        N = self.columns_of.n_others
        half = self._others(self.H[:N, :N], transposed=True)
        return np.linalg.cholesky(self._others(half.T, transposed=True) + np.eye(N))

    @cached_property
    def G(self) -> np.ndarray:
        """Shape (N, p + 1)."""
        N = self.columns_of.n_others
        return self._lower(self._others(self.H[:N, N:], transposed=True))

    def _lower(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        if not len(self.F):
            return right
        if transposed:
            return np.asarray(linalg.solve_triangular(self.F.T, right))
        return np.asarray(linalg.solve_triangular(self.F, right, lower=True))

    @cached_property
    def marginal(self) -> Marginal:
        """The population's part."""
        own, p = self.columns_of, self.columns_of.p
        N = own.n_others
        left = self.G.T @ self.G - self.H[N:, N:]  # totals are zero
        log_det = np.log(self.d).sum() + 2 * np.log(np.diag(self.F)).sum()
        return Marginal.from_sums(
            self.totals,
            BetaPrior.flat(p),
            np.ones(1),
            np.array([log_det]),
            left[None, :p, :p],
            left[None, :p, p],
            np.array([left[p, p]]),
        )

    @cached_property
    def v(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients at the conditional mean of beta: (r,) of the main factor, (N,) of the others."""
        return self.coefficients(self.marginal.beta[0])

    def coefficients(
        self, beta: np.ndarray, noise: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """v given beta; with standard normals times sigma a draw of it."""
        own, p = self.columns_of, self.columns_of.p
        N = own.n_others
        half = self.G[:, p] - self.G[:, :p] @ beta
        if noise is not None:
            half = half + noise[1]
        others = self._lower(half, transposed=True)
        left = own.C[:, -1] - own.C[:, N:-1] @ beta - own.C[:, :N] @ self._apply(others)
        main = self.sd * left / self.d
        if noise is not None:
            main = main + noise[0] / np.sqrt(self.d)
        return main, others

    def _apply(self, others: np.ndarray) -> np.ndarray:
        return self._others(others[:, None])[:, 0]

    def deviations(self, main: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, ...]:
        """Deviations (J, q) of the levels of each factor."""
        scaled = self._apply(others)
        out = []
        for k, factor in enumerate(self.columns_of.factors):
            if k == self.columns_of.main:
                out.append(factor.levels(self.sd * main[:, None]))
            else:
                out.append(factor.levels(scaled[factor.at].reshape(-1, factor.size)))
        return tuple(out)

    @cached_property
    def cross(self) -> np.ndarray:
        """Shape (N, r): F^-1 Lambda'B'T, what the others' columns share with the main ones."""
        N = self.columns_of.n_others
        return self._lower(self._others(self.columns_of.C[:, :N].T, transposed=True))

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda, shapes (Q, Q): 2 sum of Z'P Z Lambda, and -2 sum of Z'e e'Z Lambda."""
        own, p = self.columns_of, self.columns_of.p
        N = own.n_others
        at = self.marginal.beta[0] if beta is None else beta
        # P-weighted products of the columns: those of V^-1 less those that beta takes.
        main = own.D / self.d - np.square(self.cross / self.d).sum(axis=0)
        half = self._lower(self._others(self.H[:N, :N], transposed=True))
        BB = self.H[:N, :N] - half.T @ half
        TX = self._main_products()
        BX = self.H[:N, N:] - half.T @ self.G
        if is_reml and p:
            R = self.marginal.R[0]
            main = main - np.square(linalg.solve_triangular(R, TX[:, :p].T, lower=True)).sum(axis=0)
            taken = linalg.solve_triangular(R, BX[:, :p].T, lower=True)
            BB = BB - taken.T @ taken
        of_main = TX[:, p] - TX[:, :p] @ at
        of_others = BX[:, p] - BX[:, :p] @ at
        by_det, by_ss = np.zeros_like(self.Lambda), np.zeros_like(self.Lambda)
        for k, (factor, cols) in enumerate(zip(own.factors, self.group_columns, strict=True)):
            if k == own.main:
                total, score = main.sum()[None, None], of_main[:, None]
            else:
                total = _blocks(BB[factor.at, factor.at], factor.size)
                score = of_others[factor.at].reshape(-1, factor.size)
            by_det[cols, cols] = 2 * total @ self.Lambda[cols, cols]
            by_ss[cols, cols] = -2 * score.T @ score @ self.Lambda[cols, cols]
        return by_det, by_ss

    def _main_products(self) -> np.ndarray:
        """Shape (r, p + 1): T'V^-1[X y]."""
        own = self.columns_of
        return np.asarray((own.C[:, own.n_others :] - self.cross.T @ self.G) / self.d[:, None])

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels."""
        own, p = self.columns_of, self.columns_of.p
        N, G = own.n_others, self.G[:, :p]
        u = self.deviations(*self.v)
        sensitivity = self._others(self._lower(G, transposed=True))
        in_main = self.sd * (own.C[:, N:-1] - self.cross.T @ G) / self.d[:, None]
        out = []
        for k, factor in enumerate(own.factors):
            if k == own.main:
                turned = factor.into
                assert turned is not None
                spread = np.square(turned) @ (self.sd**2 / self.d)
                shared = self.cross @ (turned * (self.sd**2 / self.d)).T
                spread = spread + np.square(shared).sum(axis=0)
                W = turned @ (self.sd * in_main)
                out.append(LevelsOf(u[k], spread[:, None, None], W[:, None, :]))
                continue
            q = factor.size
            weights = self._places(k)
            h = self._lower(self._others(weights.reshape(-1, N).T, transposed=True))
            h = h.T.reshape(-1, q, N)
            W = weights.reshape(-1, N) @ sensitivity
            out.append(LevelsOf(u[k], h @ np.swapaxes(h, 1, 2), W.reshape(-1, q, p)))
        return tuple(out)

    def _places(self, k: int) -> np.ndarray:
        """Shape (J, q, N): what a level's coefficients are of those of the columns of B."""
        factor = self.columns_of.factors[k]
        N, q = self.columns_of.n_others, factor.size
        r = (factor.at.stop - factor.at.start) // q
        into = np.eye(r) if factor.into is None else factor.into
        out = np.zeros((len(into), q, N))
        for a in range(q):
            out[:, a, factor.at.start + a : factor.at.stop : q] = into
        return out

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""
        own = self.columns_of
        main, others = self.v
        left = own.rows.y - own.rows.X @ self.marginal.beta[0]
        left = left - own.T @ (self.sd * main) - own.B @ self._apply(others)
        return np.asarray(left * own.rows.sd)

    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances of combinations, in units of sigma^2."""
        own = self.columns_of
        main, others = np.zeros((len(t), len(self.d))), np.zeros((len(t), own.n_others))
        for k, (factor, part) in enumerate(zip(own.factors, t.parts, strict=True)):
            if not len(part.which):
                continue
            if k == own.main:
                assert factor.into is not None
                np.add.at(main, part.which, part.weights * factor.into[part.levels])
            else:
                own_places = self._places(k)[part.levels]
                np.add.at(others, part.which, np.einsum("eq,eqn->en", part.weights, own_places))
        return self._variance(t.X, main, others)

    def variance_of_levels(self, k: int, weights: np.ndarray, into: np.ndarray) -> np.ndarray:
        """Shape (m,): error variances of combinations (m, J) of the levels of a factor with one column.

        Of coefficients ``into`` (1,) times those in working coordinates.
        """
        own, weights = self.columns_of, weights * into[0]
        none = np.zeros((len(weights), own.p))
        if k == own.main:
            turned = own.factors[k].into
            assert turned is not None
            return self._variance(none, weights @ turned, np.zeros((len(weights), own.n_others)))
        main = np.zeros((len(weights), len(self.d)))
        return self._variance(none, main, weights @ self._places(k)[:, 0])

    def _variance(self, X: np.ndarray, main: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Of weights of beta, and of the columns of the main factor and of the others."""
        own, p = self.columns_of, self.columns_of.p
        main = main * self.sd
        right = self._others(others.T, transposed=True)
        left = X - (main * (self.sd / self.d)) @ own.C[:, own.n_others : -1]
        right = self._lower(right) - self.cross @ (main * (self.sd / self.d)).T
        left = left - right.T @ self.G[:, :p]
        found = (np.square(main) / self.d).sum(axis=1) + np.square(right).sum(axis=0)
        return np.asarray(found + population_part(self.marginal.R[0], left))

    @cached_property
    def _dense(self) -> np.ndarray:
        """Shape (n, r + N): all columns times Lambda."""
        own = self.columns_of
        return np.hstack([own.T * self.sd, self._others(own.B.T, transposed=True).T])

    @cached_property
    def columns(self) -> sparse.csr_array:
        """Shape (n, r + N): the main factor's columns, then those of the others."""
        return sparse.csr_array(self._dense)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """(Lambda'Z'Z Lambda + I)^-1 times ``right``, ordered as ``columns``."""
        r = len(self.d)
        main, others = right[:r], right[r:]
        half = self._lower(others) - self.cross @ (main * (self.sd / self.d)[:, None])
        found = self._lower(half, transposed=True)
        back = main - self.sd * self.cross.T @ half
        return np.vstack([back / self.d[:, None], found])

    def leverage_of_levels(self) -> np.ndarray:
        """Shape (n,): t'(Lambda'Z'Z Lambda + I)^-1 t of each row t of ``columns``."""
        return np.einsum("nk,kn->n", self._dense, self.solve(self._dense.T))


def _blocks(M: np.ndarray, q: int) -> np.ndarray:
    """Shape (q, q): the sum of the diagonal blocks."""
    return np.einsum("jajb->ab", M.reshape(len(M) // q, q, len(M) // q, q))
