"""Derivatives of log determinants and sums of squares by the free parameters of the residuals.

All of them are those of sums of squares of whitened columns, c'R^-1 c, whose coefficients stay as they
are: d(c'R^-1 c) = -c'R^-1 dR R^-1 c. Of a Markov correlation with b = (c_t - r c_(t-1)) / s,
s = sqrt(1 - r^2), they are sums over rows:

    d(b^2)/dr = 2 b (r b / s^2 - c_(t-1) / s)        d log det C / dr = -2 r / s^2

Of others they are sums over patterns, whose groups are put together first.
"""

from __future__ import annotations

import numpy as np

from hierpool.algebra.correlated.whitening import Tables, Whitening


def slopes(way: Whitening, phi: np.ndarray, tables: Tables, columns: np.ndarray) -> np.ndarray:
    """Derivatives (2, m) at parameters (m,): of log det R and all columns but the last, of the last.

    ``tables`` are those of ``phi``; ``columns`` (n, w) are not whitened, in the order of the rows.
    """
    s = way.structure
    scaled = columns * np.exp(-tables.log_sd[0][s.classes])[:, None]
    by_row, by_correlation = (_markov if way.is_markov else _by_pattern)(way, phi, tables, scaled)
    out = np.zeros((2, s.size))
    out[:, : s.n_correlations] = by_correlation
    if s.n_spread:
        of_classes = [np.bincount(s.classes, own, s.n_classes) for own in by_row]
        out[:, s.n_correlations : s.n_correlations + s.n_spread] = of_classes @ s.basis
    return out


def _apart(squares: np.ndarray) -> np.ndarray:
    """Shape (2, n): sums of all rows (w, n) but the last, and the last."""
    return np.stack([squares[:-1].sum(axis=0), squares[-1]])


def _markov(
    way: Whitening, phi: np.ndarray, tables: Tables, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """By the log sd of each row (2, n), and by the parameters of the correlation."""
    s, c = way.structure, np.ascontiguousarray(c.T)
    r = tables.r[0][way.step]
    left = 1 - r**2
    before = np.empty_like(c)
    before[:, :1], before[:, 1:] = 0.0, c[:, :-1]
    half = (c - r * before) / left  # b / s
    by_row = np.zeros((2, c.shape[1]))
    if s.n_spread:
        by_row = -2 * _apart(half * c)
        by_row[:, :-1] += 2 * _apart(half * r * before)[:, 1:]
        by_row[0] += 2
    if s.correlation is None:
        return by_row, np.zeros((2, 0))
    by_r = 2 * _apart(half * (r * half - before))
    by_r[0] -= 2 * r / left
    of_steps = np.stack([np.bincount(way.step, own, len(way.steps) + 1)[1:] for own in by_r])
    free = s.correlations(s.to_free(phi))
    out = np.zeros((2, s.n_by, s.correlation.size))
    for g in range(s.n_by):
        own = way.steps[:, 0] == g
        _, before_at, after_at = way.steps[own].T
        out[:, g] = (
            of_steps[:, own] @ s.correlation.neighbour_slopes(free[g], before_at, after_at).T
        )
    return by_row, out.reshape(2, -1)


def _by_pattern(
    way: Whitening, phi: np.ndarray, tables: Tables, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same, pattern by pattern."""
    s, found = way.structure, _slopes_of_patterns(way, phi)
    assert s.correlation is not None
    by_row, out = np.zeros((2, len(c))), np.zeros((2, s.n_by, s.correlation.size))
    order = np.argsort(way.pattern, kind="stable")
    ends = np.cumsum(np.bincount(way.pattern, minlength=len(way.patterns)))
    for k, groups in enumerate(np.split(order, ends[:-1])):
        by, places = way.patterns[k]
        m = len(places)
        rows = way.starts[:-1][groups][:, None] + np.arange(m)
        root = tables.inverse[0, way.offsets[k] : way.offsets[k + 1]].reshape(m, m)
        inverse = root.T @ root
        own = np.moveaxis(c[rows], 1, 0)  # (m, groups, w)
        solved = (inverse @ own.reshape(m, -1)).reshape(own.shape)
        if s.n_spread:
            squares = np.moveaxis(own * solved, -1, 0)  # (w, m, groups)
            by_row[:, rows.T] = -2 * _apart(squares)
        first, last = solved[..., :-1].reshape(m, -1), solved[..., -1]
        by_C = np.stack([len(groups) * inverse - first @ first.T, -last @ last.T])
        out[:, by] += np.einsum("kij,cij->ck", found[k], by_C, optimize=True)
    if s.n_spread:
        by_row[0] += 2
    return by_row, out.reshape(2, -1)


def _slopes_of_patterns(way: Whitening, phi: np.ndarray) -> list[np.ndarray]:
    """Derivatives of the patterns' correlations by the free parameters of their class."""
    s = way.structure
    assert s.correlation is not None
    free = s.correlations(s.to_free(phi))
    out = [np.zeros(0)] * len(way.patterns)
    for g in range(s.n_by):
        which = [k for k, (by, _) in enumerate(way.patterns) if by == g]
        found = s.correlation.slopes(free[g], [way.patterns[k][1] for k in which])
        for k, own in zip(which, found, strict=True):
            out[k] = own
    return out
