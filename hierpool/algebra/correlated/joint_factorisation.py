"""Factorisation at one theta of residuals with a structure beside several factors.

The main factor's levels are eliminated block by block; what is left is the system of v, the
coefficients of the other factors, and beta (``joint_system``). Of the rows of a block, P of

    P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1        (REML; V^-1 for ML)

takes only the columns that the block reaches: with C = X - a'G of Q = I - a'a, and A, F and V of the
joint system, P = I - a'a - C_v A C_v' - E V E' and E = C_x - C_v F.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.algebra.correlated.eliminated import Eliminated
from hierpool.algebra.correlated.joint_system import JointSystem
from hierpool.algebra.correlated.near import NearColumns
from hierpool.algebra.correlated.slopes import slopes
from hierpool.algebra.factorisation import Factorisation, LevelsOf, in_places_of_levels
from hierpool.algebra.gaussian import Marginal
from hierpool.algebra.moments import Rows
from hierpool.algebra.triangular import cholesky, solve_lower, solve_lower_transposed

_BLOCK_FLOATS = 4_000_000  # weights of combinations that are held at once


@dataclass(frozen=True, eq=False)
class JointFactorisation(Factorisation):
    """Several factors at one Lambda and one set of parameters of the residuals.

    Attributes
    ----------
    near
        The rows, and which columns of other factors blocks reach.
    system
        Of v and beta.
    n_levels
        Of the main factor.
    Lambda, phi
        Shapes (Q, Q) and (m,).
    """

    near: NearColumns
    system: JointSystem
    n_levels: int
    Lambda: np.ndarray
    phi: np.ndarray

    @cached_property
    def blocks(self) -> Eliminated:
        """All blocks; K = 1."""
        every = self.near.correlated.every
        return Eliminated.of(self.near, every, self.Lambda[None], self.phi[None])

    @cached_property
    def _of_v(self) -> tuple[np.ndarray, np.ndarray]:
        """A (blocks, m, m) and F (blocks, m, p), or 1 in the place of blocks."""
        inverse, falls = self.system.of_blocks()
        return inverse[0], falls[0]

    @property
    def m(self) -> int:
        """Columns of other factors that a block reaches."""
        return self.near.others.size

    @property
    def marginal(self) -> Marginal:
        """The population's part."""
        return self.system.population

    def _at(self, beta: np.ndarray | None) -> np.ndarray:
        """Shape (blocks, w): v at its conditional mean and beta, of the columns of each block."""
        own = self.system.beta if beta is None else self.system.given(beta[None])
        return self.near.of_blocks(own)[0]

    def _main(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v of the main factor (blocks, q), and the whitened residuals (blocks, rows)."""
        e = self.blocks
        left = e.right[0] - e.X[0] @ at[..., None]
        half = e.a[0] @ left
        v = solve_lower_transposed(e.L[0], half)
        return v[..., 0], (left - np.swapaxes(e.a[0], -1, -2) @ half)[..., 0]

    @cached_property
    def _taken(self) -> tuple[np.ndarray, np.ndarray]:
        """C (blocks, rows, w), and E (blocks, rows, p)."""
        e, m = self.blocks, self.m
        C = e.X[0] - np.swapaxes(e.a[0], -1, -2) @ e.G[0]
        return C, C[..., m:] - C[..., :m] @ self._of_v[1]

    def _population_inverse(self, is_reml: bool) -> np.ndarray:
        """V (p, p); zero for ML."""
        R = self.marginal.R[0]
        half = solve_lower(R, np.eye(len(R)))
        return half.T @ half if is_reml else np.zeros(R.shape)

    def gradient(
        self, is_reml: bool, beta: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives by Lambda, shapes (Q, Q)."""
        e, m, own, at = self.blocks, self.m, self.near.others, self._at(beta)
        (C, E), V = self._taken, self._population_inverse(is_reml)
        inverse, falls = self._of_v
        # of C (S^-1)_bb, or of V^-1 in its place for ML, first the columns of v
        of_v = C[..., :m] @ inverse - (E @ V) @ np.swapaxes(falls, -1, -2)
        v, left = self._main(at)
        by_det, by_ss = np.zeros_like(self.Lambda), np.zeros_like(self.Lambda)
        main, G = own.main_columns, e.G[0]
        U = np.concatenate([of_v, E @ V], axis=-1)
        taken = np.swapaxes(e.a[0], -1, -2) - U @ np.swapaxes(G, -1, -2)
        half = np.einsum("bna,bnc->bac", e.Z[0], taken)
        inverse_L = solve_lower(e.L[0], np.broadcast_to(np.eye(half.shape[-1]), e.L[0].shape))
        by_det[main, main] = 2 * (half @ inverse_L).sum(axis=0)
        by_ss[main, main] = -2 * np.einsum("bna,bn,bc->ac", e.Z[0], left, v, optimize=True)
        D = self._white[..., :m]
        for k, (c, q), here in zip(own.which, own.sizes, own.places, strict=True):
            cols = own.group_columns[k]
            shape = (*D.shape[:2], c, q)
            columns = D[..., here].reshape(shape)
            by_det[cols, cols] = 2 * _slots(columns, of_v[..., here].reshape(shape))
            score = np.einsum("bnsa,bn->bsa", columns, left).reshape(-1, c * q)
            mine = np.broadcast_to(at[:, here], score.shape).reshape(-1, q)
            by_ss[cols, cols] = -2 * score.reshape(-1, q).T @ mine
        return by_det, by_ss

    @cached_property
    def _white(self) -> np.ndarray:
        """Shape (blocks, rows, q + m + p + 1): Z, D, X and y whitened, before Lambda."""
        every, q = self.near.correlated.every, self.blocks.Z.shape[-1]
        white, _ = every.at(every.whitening.tables(self.phi[None]))
        return white[0][..., q:]

    def residual_gradient(self, is_reml: bool, beta: np.ndarray | None = None) -> np.ndarray:
        """Derivatives by the free parameters of the residuals, shape (2, m)."""
        every, e, m, at = self.near.correlated.every, self.blocks, self.m, self._at(beta)
        padded = np.zeros((every.n_blocks * every.size, every.columns.shape[1]))
        padded[every.where] = every.columns
        raw = padded.reshape(every.n_blocks, every.size, -1)
        q, main = e.Z.shape[-1], self.near.others.main_columns
        X = self.near.others.scaled(raw[None, ..., q:-1], self.Lambda[None])[0]
        Zt = raw[..., :q] @ self.Lambda[main, main]
        roots = np.swapaxes(solve_lower(e.L[0], np.swapaxes(Zt, -1, -2)), -1, -2)
        C = X - roots @ e.G[0]
        inverse, falls = self._of_v
        taken = [roots, C[..., :m] @ cholesky(inverse)]
        if is_reml and self.near.p:
            E = C[..., m:] - C[..., :m] @ falls
            taken.append(
                np.swapaxes(solve_lower(self.marginal.R[0], np.swapaxes(E, -1, -2)), -1, -2)
            )
        v, _ = self._main(at)
        left = raw[..., -1:] - X @ at[..., None] - Zt @ v[..., None]
        columns = np.concatenate([*taken, left], axis=-1)
        columns = columns.reshape(-1, columns.shape[-1])[every.where]
        tables = every.whitening.tables(self.phi[None])
        return slopes(every.whitening, self.phi, tables, columns)

    def levels(self) -> tuple[LevelsOf, ...]:
        """Coefficients of the levels of each factor."""
        own, out = self.near.every, dict[int, LevelsOf]()
        if own.main is not None:
            out[own.main] = self._main_levels()
        u = own.levels(self.system.beta[:, : own.size], self.Lambda[None])
        each, falls = self.system.of_levels(), self.system.falls[0]
        for k, (J, q), here, A in zip(own.which, own.sizes, own.places, each, strict=True):
            block = self.Lambda[own.group_columns[k], own.group_columns[k]]
            sensitivity = block @ falls[here].reshape(J, q, falls.shape[1])
            out[k] = LevelsOf(u[k][0], block @ A[0] @ block.T, sensitivity)
        return tuple(out[k] for k in range(len(out)))

    def _main_levels(self) -> LevelsOf:
        e, m, main = self.blocks, self.m, self.near.every.main_columns
        Lambda, levels = self.Lambda[main, main], self.near.correlated.levels
        J, q, p = self.n_levels, len(Lambda), self.near.p
        half = np.swapaxes(solve_lower(e.L[0], np.broadcast_to(Lambda.T, e.L[0].shape)), -1, -2)
        W = half @ e.G[0]
        inverse, falls = self._of_v
        u, conditional, sensitivity = np.zeros((J, q)), np.empty((J, q, q)), np.zeros((J, q, p))
        conditional[:] = Lambda @ Lambda.T
        u[levels] = self._main(self._at(None))[0] @ Lambda.T
        of_v = W[..., :m]
        conditional[levels] = half @ np.swapaxes(half, -1, -2) + of_v @ inverse @ np.swapaxes(
            of_v, -1, -2
        )
        sensitivity[levels] = W[..., m:] - of_v @ falls
        return LevelsOf(u, conditional, sensitivity)

    def residuals(self) -> np.ndarray:
        """Shape (n,): residuals of the response, not whitened."""
        raw, own, at = self.near.correlated.rows, self.near.others, self._at(None)
        block, main = self.near.correlated.blocks, own.main_columns
        X = own.scaled(raw.X[None], self.Lambda[None])[0]
        of_rows = np.broadcast_to(at, (len(self.blocks.X[0]), at.shape[1]))[block]
        left = raw.y - np.einsum("nw,nw->n", X, of_rows)
        u = self._main(at)[0] @ self.Lambda[main, main].T
        return np.asarray((left - np.einsum("nq,nq->n", raw.Z, u[block])) * raw.sd)

    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances of combinations, in units of sigma^2."""
        out = np.empty(len(t))
        for some, part in t.blocks(max(1, _BLOCK_FLOATS // self.near.size)):
            out[some] = self._variance(part)
        return out

    def _variance(self, t: Combinations) -> np.ndarray:
        own, size = self.near.every, self.near.size
        x, out = np.zeros((len(t), size + 1)), np.zeros(len(t))
        x[:, own.size : size] = t.X
        for k, (_, q), here in zip(own.which, own.sizes, own.places, strict=True):
            part, cols = t.parts[k], own.group_columns[k]
            at = here.start + part.levels[:, None] * q + np.arange(q)
            np.add.at(x, (part.which[:, None], at), part.weights @ self.Lambda[cols, cols])
        if own.main is not None:
            part, main, e = t.parts[own.main], own.main_columns, self.blocks
            block = np.full(self.n_levels, -1)  # of levels without rows the last, added here
            block[self.near.correlated.levels] = np.arange(e.L.shape[1])
            at = block[part.levels]
            q = e.L.shape[-1]
            L = np.concatenate([e.L[0], np.eye(q)[None]])[at]
            G = np.concatenate([e.G[0], np.zeros((1, *e.G.shape[2:]))])[at]
            h = solve_lower(L, (part.weights @ self.Lambda[main, main])[..., None])[..., 0]
            which = self.near.which[np.zeros_like(at) if self.near.is_all else at]
            np.add.at(x, (part.which[:, None], which), -np.einsum("eqw,eq->ew", G, h))
            out += t.by_combination(part, np.square(h).sum(axis=1))
        return out + self.system.quadratic(x[:, :size])

    def _in_places(self, columns: np.ndarray) -> sparse.csc_array:
        """Shape (n, d): columns (blocks, rows, m) of other factors where they stand among all."""
        correlated, near, m = self.near.correlated, self.near, self.m
        values = columns.reshape(-1, m)[correlated.place]
        which = near.of_levels
        at = np.broadcast_to(which if near.is_all else which[correlated.blocks], values.shape)
        rows, slots = np.nonzero(values)
        entries = values[rows, slots], (rows, at[rows, slots])
        return sparse.csc_array(entries, shape=(len(values), near.d))

    @cached_property
    def columns(self) -> sparse.csr_array:
        """Shape (n, coefficients of all levels): whitened Z Lambda, factor by factor."""
        own, correlated = self.near.every, self.near.correlated
        D = self._in_places(self.blocks.X[0][..., : self.m])
        parts: dict[int, Any] = {k: D[:, at] for k, at in zip(own.which, own.places, strict=True)}
        if own.main is not None:
            Z = self.blocks.Z[0] @ self.Lambda[own.main_columns, own.main_columns]
            flat = Z.reshape(-1, Z.shape[-1])[correlated.place]
            parts[own.main] = in_places_of_levels(flat, correlated.rows.codes, self.n_levels)
        return sparse.csr_array(sparse.hstack([parts[k] for k in range(len(parts))], format="csr"))

    @cached_property
    def _solver(self) -> SuperLU:
        own, main = self.near.every, self.near.every.main_columns
        width, P = self.n_levels * (main.stop - main.start), dict[int, Any]()
        for k, (J, q), precision in zip(own.which, own.sizes, own.precisions, strict=True):
            P[k] = sparse.eye_array(J * q)
            if precision is not None:
                P[k] = sparse.csc_array(np.kron(precision, np.eye(q)))
        if own.main is not None:
            P[own.main] = sparse.eye_array(width)
        prior = sparse.block_diag([P[k] for k in range(len(P))], format="csc")
        return splu(sparse.csc_array(self.columns.T @ self.columns + prior))

    def from_new_levels(self, rng: np.random.Generator, m: int) -> np.ndarray:
        """Shape (n, m): what new levels add to the rows, sigma 1; related as those at hand."""
        own, start = self.near.every, 0
        z = rng.standard_normal((self.columns.shape[1], m))
        widths = {k: J * q for k, (J, q) in zip(own.which, own.sizes, strict=True)}
        main = own.main_columns
        for k in range(len(own.group_columns)):
            width = widths.get(k, self.n_levels * (main.stop - main.start))
            if k in widths:
                at = own.which.index(k)
                precision, q = own.precisions[at], own.sizes[at][1]
                if precision is not None:
                    half = z[start : start + width].reshape(-1, q * m)
                    drawn = solve_lower_transposed(np.linalg.cholesky(precision), half)
                    z[start : start + width] = drawn.reshape(width, m)
            start += width
        return np.asarray(self.columns @ z)

    def variance_of_levels(self, k: int, weights: np.ndarray, into: np.ndarray) -> np.ndarray:
        """Shape (m,): error variances of combinations (m, J) of the levels of a factor.

        Of coefficients ``into`` (q,) times those in working coordinates.
        """
        m, J = weights.shape
        none = np.zeros(0, dtype=np.intp)
        parts = [
            LevelPart(none, none, np.zeros((0, at.stop - at.start)))
            for at in self.near.every.group_columns
        ]
        which, levels = np.divmod(np.arange(m * J), J)
        parts[k] = LevelPart(which, levels, weights.reshape(-1, 1) * into)
        return self.variance(Combinations(np.zeros((m, self.near.p)), tuple(parts)))

    @property
    def whitened(self) -> tuple[Rows, dict[int, np.ndarray]]:
        """The population's rows, and columns of the levels of factors that groups lie across."""
        own, correlated, m = self.near.every, self.near.correlated, self.m
        flat = self._white.reshape(-1, self._white.shape[-1])[correlated.place]
        n = len(flat)
        none = np.zeros((n, 0)), np.zeros(n, dtype=np.intp)
        D, apart = self._in_places(self._white[..., :m]), {}
        for k, at in zip(own.which, own.places, strict=True):
            if k in own.across:
                apart[k] = D[:, at].toarray()
        return Rows(flat[:, -1], flat[:, m:-1], *none), apart


def _slots(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Shape (q, q): sums over blocks, rows and levels of products of columns (B, n, levels, q)."""
    flat = one.reshape(-1, one.shape[-1]), other.reshape(-1, other.shape[-1])
    return np.asarray(flat[0].T @ flat[1])
