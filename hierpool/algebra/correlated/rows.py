"""Rows in blocks that are independent given the coefficients: the levels of the factor, or groups.

A block is padded to the size of the largest with rows of zeros, which say nothing. Blocks whose
columns, occasions and classes are equal are one design: of their responses the sum and an R factor
are kept, of the raw responses, since the metric in which they are squared changes with theta.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.algebra.correlated.whitening import Tables, Whitening
from hierpool.algebra.moments import Rows
from hierpool.core.residual import RowStructure

_KEY_DIGITS = 11


@dataclass(frozen=True)
class Blocks:
    """Rows in order, padded into blocks.

    Attributes
    ----------
    whitening
        Of the rows.
    columns
        Shape (n, w): what is whitened.
    where
        Shape (n,): place of each row, block times size plus position.
    n_blocks, size
        Number of blocks, and rows of the largest.
    """

    whitening: Whitening
    columns: np.ndarray
    where: np.ndarray
    n_blocks: int
    size: int

    def padded(self, columns: np.ndarray) -> np.ndarray:
        """Shape (blocks, size, w): columns (n, w) in their places, not whitened."""
        out = np.zeros((self.n_blocks * self.size, columns.shape[1]))
        out[self.where] = columns
        return out.reshape(self.n_blocks, self.size, -1)

    def at(self, tables: Tables, first: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Whitened columns (K, blocks, size, w) and logs of det R^(1/2) by block (K, blocks).

        Of the ``first`` columns, or of all.
        """
        flat, columns = self.n_blocks * self.size, self.columns[:, :first]
        white, log_det = self.whitening.apply(tables, columns, self.where, flat)
        K = len(white)
        starts = np.flatnonzero(np.diff(self.where // self.size, prepend=-1) != 0)
        each = np.add.reduceat(log_det, starts, axis=1)
        return white.reshape(K, self.n_blocks, self.size, -1), each

    def log_roots(self, tables: Tables) -> np.ndarray:
        """Shape (K, blocks, size): less the logs of the diagonal of W, 0 where there is no row."""
        flat = self.n_blocks * self.size
        _, log_det = self.whitening.apply(tables, self.columns[:, :0], self.where, flat)
        out = np.zeros((len(log_det), flat))
        out[:, self.where] = log_det
        return out.reshape(len(log_det), self.n_blocks, self.size)

    def roots(self, tables: Tables) -> np.ndarray:
        """Shape (K, blocks, size, size): W of each block, with R^-1 = W'W."""
        unit = np.zeros((len(self.where), self.size))
        unit[np.arange(len(unit)), self.where % self.size] = 1.0
        flat = self.n_blocks * self.size
        white, _ = self.whitening.apply(tables, unit, self.where, flat)
        return white.reshape(len(white), self.n_blocks, self.size, self.size)


@dataclass(frozen=True)
class Designs:
    """Blocks whose columns, occasions and classes are equal are one design.

    Attributes
    ----------
    blocks
        One block for each design.
    counts
        Shape (designs,): how many blocks have it.
    of_block
        Shape (blocks,): which of them each block has.
    """

    blocks: Blocks
    counts: np.ndarray
    of_block: np.ndarray

    @cached_property
    def first(self) -> np.ndarray:
        """Shape (designs,): the first block that has it."""
        return np.unique(self.of_block, return_index=True)[1]

    @cached_property
    def members(self) -> tuple[np.ndarray, np.ndarray]:
        """The blocks by design (blocks,), and where those of each begin (designs + 1,)."""
        ends = np.cumsum(np.bincount(self.of_block, minlength=len(self.counts)))
        return np.argsort(self.of_block, kind="stable"), np.concatenate([[0], ends])


@dataclass(frozen=True)
class CorrelatedRows:
    """Rows of a design in working coordinates, with their structure.

    Attributes
    ----------
    rows
        As the user has them, divided by what is known of their residual sds.
    structure
        Theirs.
    marks
        Shape (n, k): what tells blocks apart beside their columns; None for nothing.
    """

    rows: Rows
    structure: RowStructure
    marks: np.ndarray | None = None

    @cached_property
    def order(self) -> np.ndarray:
        """Shape (n,): the rows by block, group and occasion."""
        s = self.structure
        return np.lexsort((s.places, s.groups, self._units))

    @property
    def _units(self) -> np.ndarray:
        """Shape (n,): what is independent given beta: levels of the factor, groups, or rows."""
        if self.rows.Z.shape[1]:
            return self.rows.codes
        if self.structure.correlation is None:
            return np.arange(len(self.rows.y))
        return self.structure.groups

    @cached_property
    def blocks(self) -> np.ndarray:
        """Shape (n,): block of each row, in the user's order; blocks without rows are left out."""
        return np.unique(self._units, return_inverse=True)[1].reshape(-1)

    @cached_property
    def levels(self) -> np.ndarray:
        """Shape (blocks,): which level of the factor each block is."""
        return np.unique(self._units)

    @cached_property
    def every(self) -> Blocks:
        """All blocks, columns Z, X and y."""
        r, order = self.rows, self.order
        columns = np.column_stack([r.Z, r.X, r.y])[order]
        return self._blocks(order, columns, self.blocks[order])

    @cached_property
    def place(self) -> np.ndarray:
        """Shape (n,): place of each row of the user's in ``every``."""
        out = np.empty(len(self.order), dtype=np.intp)
        out[self.order] = self.every.where
        return out

    def whitened(self, phi: np.ndarray) -> tuple[Rows, float, Tables]:
        """The rows at one set of parameters (m,), in the user's order, log det R, and by what."""
        every, raw = self.every, self.rows
        tables = every.whitening.tables(phi[None])
        white, log_sd = every.at(tables)
        flat = white.reshape(-1, white.shape[-1])[self.place]
        q = raw.Z.shape[1]
        rows = Rows(flat[:, -1], flat[:, q:-1], flat[:, :q], raw.codes)
        return rows, 2 * float(log_sd.sum()), tables

    def _blocks(self, which: np.ndarray, columns: np.ndarray, block: np.ndarray) -> Blocks:
        counts = np.bincount(block)
        within = np.arange(len(block)) - np.repeat(np.cumsum(counts) - counts, counts)
        size = int(counts.max(initial=1))
        whitening = Whitening.from_structure(self.structure.take(which))
        return Blocks(whitening, columns, block * size + within, len(counts), size)

    @cached_property
    def designs(self) -> Designs:
        """Blocks that are alike, put together; columns Z, X, sum and root of the y."""
        whole, s = self.every, self.structure
        order, r = self.order, self.rows
        width = r.Z.shape[1] + r.X.shape[1]
        scale = np.maximum(np.abs(whole.columns[:, :width]).max(axis=0, initial=0.0), 1e-300)
        key = np.round(whole.columns[:, :width] / scale, _KEY_DIGITS) + 0.0
        groups = s.groups[order]
        is_new = np.diff(groups, prepend=-1) != 0
        extra = np.column_stack([s.by[order], s.classes[order], s.places[order], is_new])
        if s.correlation is None:
            extra = extra[:, 1:2]
        marks = np.zeros((len(key), 0)) if self.marks is None else self.marks[order]
        key = np.column_stack([key, extra, marks])
        starts = np.append(np.flatnonzero(np.diff(whole.where // whole.size, prepend=-1)), len(key))
        found: dict[bytes, list[int]] = {}
        mixed = key @ np.sin(
            np.arange(1.0, key.shape[1] + 1)
        )  # differs where designs do, or nearly always
        if len(np.unique(np.add.reduceat(mixed, starts[:-1]))) < whole.n_blocks:
            for b in range(whole.n_blocks):
                found.setdefault(key[starts[b] : starts[b + 1]].tobytes(), []).append(b)
        if (
            not found or len(found) == whole.n_blocks
        ):  # all differ, and each y is its own sum and root
            y = whole.columns[:, -1:]
            columns, each = np.hstack([whole.columns[:, :width], y, y]), np.arange(whole.n_blocks)
            return Designs(replace(whole, columns=columns), np.ones(len(each)), each)
        members, of_block = list(found.values()), np.empty(whole.n_blocks, dtype=np.int64)
        for u, own in enumerate(members):
            of_block[own] = u
        return Designs(*self._compressed(whole, starts, members), of_block)

    def _compressed(
        self, whole: Blocks, starts: np.ndarray, members: list[list[int]]
    ) -> tuple[Blocks, np.ndarray]:
        width = whole.columns.shape[1] - 1
        y, which, block, parts = whole.columns[:, -1], [], [], []
        rank = max(min(len(m), int(starts[m[0] + 1] - starts[m[0]])) for m in members)
        for u, own in enumerate(members):
            rows = np.arange(starts[own[0]], starts[own[0] + 1])
            Y = np.stack([y[starts[b] : starts[b + 1]] for b in own])
            root = Y if len(Y) <= Y.shape[1] else np.linalg.qr(Y, mode="r")
            padded = np.zeros((len(rows), rank))
            padded[:, : len(root)] = root.T
            parts.append(np.column_stack([whole.columns[rows, :width], Y.sum(axis=0), padded]))
            which.append(self.order[rows])
            block.append(np.full(len(rows), u))
        made = self._blocks(np.concatenate(which), np.concatenate(parts), np.concatenate(block))
        return made, np.array([len(m) for m in members], dtype=float)
