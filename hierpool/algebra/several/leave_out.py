"""Rows left out of models with several factors: each row, or the rows of a level, given the others.

Given theta, with T = [Z Lambda, X], the rows J and their joint leverage H = T_J M^-1 T_J':

    y_J | y_-J, theta ~ N(y_J - (I - H)^-1 e_J, sigma^2 (I - H)^-1)       e = y - T c

Rows of one level that touch the same levels of every factor are first turned into as many rows as
their columns have rank, which changes neither H nor e'e beyond a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI, BetaPrior, Marginal
from hierpool.algebra.several import row_kernels
from hierpool.algebra.several.factorise import Fronts
from hierpool.algebra.several.kernels import BY_HAND
from hierpool.algebra.several.plan import ManyRows

_RANK = 1e-12  # singular values below this share of the largest are none
_AGAIN = 4.0  # cost of leaving a level out by its rows, in evaluations, from which it is refitted


def leave_one_out(
    fronts: Fronts,
    sigma: np.ndarray,
    Lambda: np.ndarray,
    marginal: Marginal,
    which: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of each row given all the others and theta, shapes (K, rows).

    ``marginal`` is that of ``fronts`` at the same thetas; ``which`` are positions, default all.
    """
    leverage, residual = leverages(fronts, Lambda, marginal, which)
    y = fronts.rows.y if which is None else fronts.rows.y[which]
    # Near zero where this row alone determines a coefficient; not clipped, as with one factor.
    left = 1 - leverage
    return y - residual / left, sigma[:, None] / np.sqrt(left)


def log_density_of_rows(
    fronts: Fronts,
    sigma: np.ndarray,
    Lambda: np.ndarray,
    marginal: Marginal,
    which: np.ndarray | None = None,
) -> np.ndarray:
    """Shape (rows, K): log p(y_i | y_-i, theta), every coefficient integrated out."""
    leverage, residual = leverages(fronts, Lambda, marginal, which)
    left = 1 - leverage
    scale = sigma[:, None]
    density = 0.5 * (np.log(left / scale**2) - (residual / scale) ** 2 / left)
    return np.ascontiguousarray((density - 0.5 * LOG_2PI).T)


def leverages(
    fronts: Fronts, Lambda: np.ndarray, marginal: Marginal, which: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Leverages and residuals of rows, shapes (K, rows)."""
    rows = fronts.rows if which is None else fronts.rows.take(which)
    arrays = _dense(rows.y, rows.X, np.hstack(rows.Z))
    arrays += _tables(fronts, rows)
    K = len(Lambda)
    Lambda, R, beta = _dense(Lambda, marginal.R, marginal.beta)
    leverage, residual = np.empty((K, rows.n)), np.empty((K, rows.n))
    if fronts.n_rest <= BY_HAND:
        kernel = row_kernels.judge_many
        fronts.over_thetas(kernel, K, Lambda, beta, R, *arrays, leverage, residual)
        return leverage, residual
    structure = fronts.plan.structure

    def work(begin: int, end: int, *_: Any) -> None:
        for k in range(begin, end):
            at = fronts.factored(Lambda[k])
            made = at.Lambda, at.selected, at.rest, at.solved
            row_kernels.leave_row_out_density(
                structure, *made, beta[k], R[k], *arrays, leverage[k], residual[k]
            )

    fronts.over_thetas(work, K)
    return leverage, residual


def _tables(fronts: Fronts, rows: ManyRows) -> list[np.ndarray]:
    """For each row the first column of its level of each factor, and where blocks begin."""
    s, F = fronts.plan.structure, len(fronts.plan.order)
    cols = _first_columns(fronts, rows)
    blocks = np.zeros((rows.n, F * F), dtype=np.int64)
    total = fronts.n_coefficients
    front_of = np.repeat(np.arange(len(s.front_col)), np.diff(s.nb_start))
    keys = front_of * total + s.nb_col
    for f in range(fronts.plan.n_chain):
        front = np.searchsorted(s.front_col, cols[:, f])
        blocks[:, f * F + f] = s.offset[front]
        for g in range(f + 1, F):
            found = np.searchsorted(keys, front * total + cols[:, g])
            blocks[:, f * F + g] = s.offset[front] + s.nb_local[found] * s.q[f]
    return [cols, blocks]


def _first_columns(fronts: Fronts, rows: ManyRows) -> np.ndarray:
    """Shape (rows, F): first column of the level of each factor, all in internal order."""
    s = fronts.plan.structure
    return np.stack(
        [
            s.first[g] + s.q[g] * np.asarray(rows.codes[f], dtype=np.int64)
            for g, f in enumerate(fronts.plan.order)
        ],
        axis=1,
    )


def log_density_of_levels(
    fronts: Fronts,
    sigma: np.ndarray,
    Lambda: np.ndarray,
    prior: BetaPrior,
    codes: np.ndarray,
    n_levels: int,
) -> np.ndarray:
    """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta).

    ``codes`` (n,) are those of any factor, also of one that is not in the model.
    """
    K = len(sigma)
    marginal = fronts.marginal(sigma, Lambda, prior)
    held = _Held.from_rows(fronts.rows, np.asarray(codes), n_levels)
    is_large = held.sizes**2 * (held.sizes + fronts.n_rest) > _AGAIN * _cost(fronts)
    out = np.empty((n_levels, K))
    small = np.flatnonzero(~is_large)
    if len(small):
        out[small] = _by_rows(fronts, sigma, Lambda, marginal, held.take(small))
    for j in np.flatnonzero(is_large):
        # Rows by rows costs the cube of the level's size; for a large level two evidences are cheaper.
        others = Fronts.from_rows(fronts.rows.take(codes != j))
        out[j] = marginal.log_density - others.marginal(sigma, Lambda, prior).log_density
    return out


def _cost(fronts: Fronts) -> float:
    """Rough number of operations of one evaluation."""
    return fronts.n_rest**3 / 8 + 20.0 * float(fronts.plan.structure.offset[-1])


@dataclass(frozen=True)
class _Held:
    """Rows to leave out, level after level, compressed.

    Attributes
    ----------
    rows
        At most as many as there were.
    starts
        Shape (J + 1,): where each level begins.
    n_rows
        Shape (J,): rows of each level before compression.
    left_out
        Shape (J,): squares of the response that no column of the level's rows reaches.
    """

    rows: ManyRows
    starts: np.ndarray
    n_rows: np.ndarray
    left_out: np.ndarray

    @classmethod
    def from_rows(cls, rows: ManyRows, codes: np.ndarray, n_levels: int) -> _Held:
        """Compress the rows of each level."""
        keys = np.stack([codes, *rows.codes], axis=1)
        cells, cell = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(cell.reshape(-1), kind="stable")
        sizes = np.bincount(cell.reshape(-1), minlength=len(cells))
        table = np.hstack([*rows.Z, rows.X, rows.y[:, None]])[order]
        left_out = np.zeros(n_levels)
        edges = np.concatenate([[0], np.cumsum(sizes)])
        keep = np.ones(len(table), dtype=bool)
        for c in np.flatnonzero(sizes > 2):
            own = slice(edges[c], edges[c + 1])
            left, size, right = np.linalg.svd(table[own, :-1], full_matrices=False)
            rank = int((size > _RANK * size[:1]).sum())
            y = left[:, :rank].T @ table[own, -1]
            rest = table[own, -1] - left[:, :rank] @ y
            left_out[cells[c, 0]] += rest @ rest
            table[edges[c] : edges[c] + rank, :-1] = size[:rank, None] * right[:rank]
            table[edges[c] : edges[c] + rank, -1] = y
            keep[edges[c] + rank : edges[c + 1]] = False
        of_row = cells[np.repeat(np.arange(len(cells)), sizes)][keep]
        kept = table[keep]
        q = np.cumsum(rows.q)
        compressed = ManyRows(
            kept[:, -1],
            kept[:, q[-1] : -1],
            tuple(np.split(kept[:, : q[-1]], q[:-1], axis=1)),
            tuple(of_row[:, 1:].T),
            rows.n_levels,
        )
        starts = np.searchsorted(of_row[:, 0], np.arange(n_levels + 1))
        return cls(compressed, starts, rows.n_by_level(codes, n_levels), left_out)

    @property
    def sizes(self) -> np.ndarray:
        """Shape (J,): rows of each level after compression."""
        return np.diff(self.starts).astype(float)

    def take(self, levels: np.ndarray) -> _Held:
        """Some of the levels."""
        which = np.concatenate([np.arange(self.starts[j], self.starts[j + 1]) for j in levels])
        starts = np.concatenate([[0], np.cumsum(np.diff(self.starts)[levels])])
        rows = self.rows.take(which)
        return _Held(rows, starts, self.n_rows[levels], self.left_out[levels])


def _by_rows(
    fronts: Fronts, sigma: np.ndarray, Lambda: np.ndarray, marginal: Marginal, held: _Held
) -> np.ndarray:
    """Log densities (J, K) by the joint leverages of the rows of each level."""
    K, s, rows = len(sigma), fronts.plan.structure, held.rows
    sizes = _dense(held.starts.astype(np.int64), held.n_rows.astype(float), held.left_out)
    arrays = sizes + _dense(rows.y, rows.X, np.hstack(rows.Z), _first_columns(fronts, rows))
    Lambda, sigma, beta, R = _dense(Lambda, sigma, marginal.beta, marginal.R)
    out = np.empty((len(held.n_rows), K))
    if fronts.n_rest <= BY_HAND:
        kernel = row_kernels.judge_levels_many
        fronts.over_thetas(kernel, K, Lambda, sigma, beta, R, *arrays, out)
        return out

    def work(begin: int, end: int, *_: Any) -> None:
        for k in range(begin, end):
            at = fronts.factored(Lambda[k])
            made = at.Lambda, at.values, at.rest, at.solved
            row_kernels.leave_level_out_density(s, *made, sigma[k], beta[k], R[k], *arrays, k, out)

    fronts.over_thetas(work, K)
    return out


def _dense(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays in C order, as the compiled loops expect them."""
    return [np.ascontiguousarray(a) for a in arrays]
