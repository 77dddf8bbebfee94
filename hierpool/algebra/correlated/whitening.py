"""Whitening: rows times R^-1/2, group by group, at K values of the residual's parameters.

R = D C D, D the sds of the rows in units of sigma and C their correlation within a group. Of a
Markov correlation no matrix is formed: with r_t the correlation of row t with the one before,

    b_t <- (b_t - r_t b_(t-1)) / sqrt(1 - r_t^2)        log det C = sum of log(1 - r_t^2)

Of others, each pattern of occasions has one Cholesky factor, however many groups have it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from hierpool.algebra.triangular import cholesky
from hierpool.core.residual import RowStructure


@dataclass(frozen=True)
class Tables:
    """What whitening takes at K values of the parameters.

    Attributes
    ----------
    log_sd
        Shape (K, classes).
    r
        Shape (K, steps): correlation with the row before, 0 for the first step.
    inverse
        Shape (K, numbers): inverse Cholesky factors of the patterns, one after the other.
    """

    log_sd: np.ndarray
    r: np.ndarray
    inverse: np.ndarray


def order_of(structure: RowStructure) -> np.ndarray:
    """Shape (n,): the rows by group and occasion."""
    return np.lexsort((structure.places, structure.groups))


def noise(structure: RowStructure, phi: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Shape (K, n): residuals in units of sigma, of parameters (K, m) and standard normals (K, n)."""
    order = order_of(structure)
    out = np.empty_like(z)
    out[:, order] = Whitening.from_structure(structure.take(order)).correlated(phi, z[:, order])
    return out * np.exp(structure.log_sds(phi))[:, structure.classes]


@dataclass(frozen=True)
class Whitening:
    """Rows in the order of their groups and occasions, and how each follows from those before.

    Attributes
    ----------
    structure
        Of the rows, in this order.
    is_markov
        Whether the row before is enough.
    step
        Shape (n,): kind of the step from the row before; 0 for the first row of a group.
    steps
        ``by``, place before and place after, of each kind but the first, shape (steps - 1, 3).
    starts
        Shape (groups + 1,): first row of each group.
    pattern
        Shape (groups,): its pattern.
    patterns
        Class of ``by`` and places of each pattern.
    offsets
        Shape (patterns + 1,): where its inverse factor begins.
    """

    structure: RowStructure
    is_markov: bool
    step: np.ndarray
    steps: np.ndarray
    starts: np.ndarray
    pattern: np.ndarray
    patterns: tuple[tuple[int, np.ndarray], ...]
    offsets: np.ndarray

    @classmethod
    def from_structure(cls, s: RowStructure) -> Whitening:
        """Of rows that are in order."""
        n = len(s.groups)
        if s.correlation is None:
            starts = np.arange(n + 1)
        else:
            starts = np.append(np.flatnonzero(np.diff(s.groups, prepend=-1) != 0), n)
        is_first = np.zeros(n, dtype=bool)
        is_first[starts[:-1]] = True
        moves = np.column_stack([s.by, np.roll(s.places, 1), s.places]).astype(float)[~is_first]
        steps, kind = _different(moves)
        step = np.zeros(n, dtype=np.int64)
        step[~is_first] = kind + 1
        pattern, patterns = _patterns(s, starts)
        sizes = [len(places) ** 2 for _, places in patterns]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        is_markov = s.correlation is None or s.correlation.is_markov
        return cls(s, is_markov, step, steps, starts, pattern, tuple(patterns), offsets)

    def tables(self, phi: np.ndarray) -> Tables:
        """At parameters (K, m)."""
        s, K = self.structure, len(phi)
        log_sd = np.ascontiguousarray(s.log_sds(phi))
        r, inverse = np.zeros((K, len(self.steps) + 1)), np.zeros((K, 0))
        if s.correlation is None:
            return Tables(log_sd, r, inverse)
        each = s.correlations(phi)
        if self.is_markov:
            for g in range(s.n_by):
                own = np.flatnonzero(self.steps[:, 0] == g)
                r[:, own + 1] = s.correlation.neighbours(
                    each[:, g], self.steps[own, 1], self.steps[own, 2]
                )
            return Tables(log_sd, r, inverse)
        from hierpool.algebra.correlated import kernels

        inverse = np.empty((K, self.offsets[-1]))
        for k, C in enumerate(self.blocks(phi)):
            kernels.inverse_roots(np.ascontiguousarray(C), self.offsets[k], inverse)
        return Tables(log_sd, r, inverse)

    def correlated(self, phi: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Shape (K, n): standard normals (K, n) made as correlated as the rows; the way back."""
        if self.structure.correlation is None:
            return z
        out = np.empty_like(z)
        if not self.is_markov:
            for k, C in enumerate(self.blocks(phi)):
                rows = self.starts[:-1][self.pattern == k][:, None] + np.arange(C.shape[-1])
                out[:, rows] = z[:, rows] @ np.swapaxes(_cholesky(C), -1, -2)
            return out
        r = self.tables(phi).r[:, self.step]
        position = np.arange(len(self.step)) - np.repeat(self.starts[:-1], np.diff(self.starts))
        for t in range(int(position.max(initial=-1)) + 1):  # all groups at once
            rows = np.flatnonzero(position == t)
            out[:, rows] = np.sqrt(1 - r[:, rows] ** 2) * z[:, rows]
            if t:
                out[:, rows] += r[:, rows] * out[:, rows - 1]
        return out

    def blocks(self, phi: np.ndarray) -> list[np.ndarray]:
        """Correlations (K, n, n) of the rows of each pattern."""
        s = self.structure
        if s.correlation is None:
            return [np.ones((len(phi), 1, 1)) for _ in self.patterns]
        each, out = s.correlations(phi), [np.zeros(0)] * len(self.patterns)
        for g in range(s.n_by):
            own = [k for k, (by, _) in enumerate(self.patterns) if by == g]
            made = s.correlation.blocks(each[:, g], [self.patterns[k][1] for k in own])
            for k, C in zip(own, made, strict=True):
                out[k] = C
        return out

    def apply(
        self, tables: Tables, columns: np.ndarray, where: np.ndarray, n_places: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Whitened columns (K, places, w), row i at ``where[i]``; logs of det R^(1/2) by row (K, n)."""
        from hierpool.algebra.correlated import kernels

        K = len(tables.log_sd)
        out = np.zeros((K, n_places, columns.shape[1]))
        log_det = np.empty((K, len(columns)))
        classes = self.structure.classes.astype(np.int64)
        arrays = np.ascontiguousarray(columns, dtype=float), where.astype(np.int64), classes
        if self.is_markov:
            kernels.markov(*arrays, self.step, tables.log_sd, tables.r, out, log_det)
        else:
            starts = self.starts.astype(np.int64)
            at = starts, self.offsets[self.pattern]
            kernels.by_pattern(*arrays, *at, tables.log_sd, tables.inverse, out, log_det)
        return out, log_det


def _different(moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different rows of moves (n, 3) in order, and which of them each is; column by column, for speed."""
    code = np.zeros(len(moves), dtype=np.int64)
    for column in moves.T:
        values, own = np.unique(column, return_inverse=True)
        code = np.unique(code * len(values) + own.reshape(-1), return_inverse=True)[1].reshape(-1)
    first = np.unique(code, return_index=True)[1]
    return moves[first], code


def _patterns(
    s: RowStructure, starts: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """The pattern of each group, and class of ``by`` and places of each pattern."""
    if s.correlation is None:
        return _different_classes(s.by)
    places = s.places
    if s.correlation.takes_times:
        places = places - np.repeat(places[starts[:-1]], np.diff(starts))
    key = np.round(places, 9)
    found: dict[tuple[int, bytes], int] = {}
    patterns: list[tuple[int, np.ndarray]] = []
    pattern = np.zeros(len(starts) - 1, dtype=np.int64)
    by = s.by[starts[:-1]].tolist()
    for g, (a, b) in enumerate(itertools.pairwise(starts.tolist())):
        own = by[g], key[a:b].tobytes()
        if own not in found:
            found[own] = len(patterns)
            patterns.append((own[0], places[a:b]))
        pattern[g] = found[own]
    return pattern, patterns


def _different_classes(by: np.ndarray) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Of independent rows: one pattern for each class."""
    classes, pattern = np.unique(by, return_inverse=True)
    return pattern.reshape(-1), [(int(k), np.zeros(1)) for k in classes]


def _cholesky(C: np.ndarray) -> np.ndarray:
    """Cholesky factors; NaN where there is none."""
    try:
        return np.linalg.cholesky(C)
    except np.linalg.LinAlgError:  # of one of many
        out = cholesky(C)
        out[np.isnan(out).any(axis=(-1, -2))] = np.nan
        return out
