"""Rows that stand in for many: what cells of a table amount to, as rows that the algebra can take.

A cell of n rows with cross-products S of (1, a) has as many stand-ins as S has rank k, each of the
weight n / k: rows A with A'A = S, turned so that the constant is the same in each of them. Every sum
that a Gaussian likelihood needs is then that of the n rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

_AT_ONCE = 20_000  # cells that are worked out together
_SCATTER = 4e-13  # of what a cell's squares are, below which its scatter is rounding
_RANK = 1e-14  # eigenvalue of a correlation matrix from which a direction counts


@dataclass(frozen=True)
class Shares:
    """What each stand-in has of the rows of the table.

    Attributes
    ----------
    counts
        Shape (n,): number of rows, a fraction; together the rows of the table.
    log_sd
        Shape (n,): part of the sum of their log residual sds, in units of sigma.
    """

    counts: np.ndarray
    log_sd: np.ndarray

    def take(self, which: np.ndarray) -> Shares:
        """Those of some stand-ins."""
        return Shares(self.counts[which], self.log_sd[which])

    @property
    def n(self) -> int:
        """Number of rows of the table."""
        return int(np.rint(self.counts.sum()))

    def by_level(self, codes: np.ndarray, n_levels: int) -> np.ndarray:
        """Shape (levels,): rows of the table of each level; ``codes`` (n,)."""
        return np.rint(np.bincount(codes, self.counts, n_levels)).astype(np.intp)


class Range(NamedTuple):
    """Where a number lies in the rows of the table."""

    mean: float
    sd: float
    low: float
    high: float


class Profile(Protocol):
    """What is known of the predictors of a table without its rows."""

    @property
    def frame(self) -> pd.DataFrame:
        """Combinations of the values that are told apart; of other numbers their means."""

    @property
    def counts(self) -> np.ndarray:
        """Shape (combinations,): rows of the table with each."""

    @property
    def ranges(self) -> Mapping[str, Range]:
        """Those other numbers."""

    def is_of_rows_of(self, other: Profile) -> bool:
        """Whether the sums of another are of the same rows and response, as far as sums can tell."""

    def sum_coded(self) -> np.ndarray:
        """Shape (n, k): columns of the stand-ins with categories that sum to zero."""

    def keys_of_rows(self, names: Sequence[str]) -> pd.DataFrame:
        """Values of the stand-ins in columns whose values are told apart."""


@dataclass(frozen=True)
class SummedRows:
    """What stand-ins carry beside their numbers.

    Attributes
    ----------
    shares
        Of the rows of the table.
    mean_square
        Mean over the rows of the table of the squared residual sd, in units of sigma.
    y_rest, X_rest, Z_rest
        What the floats y, X and Z leave out of the numbers that they stand for: at an offset of 1e9
        a float has 7 digits left for what varies. One row of zeros where that is nothing.
    digest
        Hash of the sums.
    profile
        What is known of the predictors.
    """

    shares: Shares
    mean_square: float
    y_rest: np.ndarray
    X_rest: np.ndarray
    Z_rest: Mapping[str, np.ndarray]
    digest: str
    profile: Profile


@dataclass(frozen=True)
class SummedColumns:
    """Columns of stand-ins: what is known of them beside their numbers, shape (n, k).

    Attributes
    ----------
    rest
        Shape (n, k): what the floats leave out; (1, k), zeros, where that is nothing.
    means, sds
        Shape (k,): over the rows of the table.
    """

    rest: np.ndarray
    means: np.ndarray
    sds: np.ndarray

    def take(self, columns: list[int]) -> SummedColumns:
        """Some of the columns."""
        if columns == list(range(len(self.means))):
            return self
        return SummedColumns(self.rest[:, columns], self.means[columns], self.sds[columns])

    @staticmethod
    def beside(parts: list[SummedColumns]) -> SummedColumns:
        """Columns side by side."""
        if len(parts) == 1:
            return parts[0]
        n = max((len(p.rest) for p in parts), default=1)
        none = SummedColumns(np.zeros((n, 0)), np.zeros(0), np.zeros(0))
        every = [none, *parts]
        return SummedColumns(
            np.concatenate(
                [np.broadcast_to(p.rest, (n, len(p.means))) for p in every],
                axis=1,
            ),
            np.concatenate([p.means for p in every]),
            np.concatenate([p.sds for p in every]),
        )


def stand_ins(S: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the stand-ins, shape (rows, k - 1), and the cell of each, shape (rows,).

    Parameters
    ----------
    S
        Shape (cells, k, k): cross-products of (1, a), summed with weights where there are some.
    n
        Shape (cells,): rows of each cell, from which its scatter has n - 1 directions at most.
    """
    overall = np.einsum("ckk->k", S[:, 1:, 1:]) / S[:, 0, 0].sum()
    found = [
        _stand_ins(S[start : start + _AT_ONCE], n[start : start + _AT_ONCE], overall)
        for start in range(0, len(S), _AT_ONCE)
    ]
    values = np.concatenate([np.zeros((0, S.shape[1] - 1)), *(own for own, _ in found)])
    rows = np.concatenate([np.zeros(0, dtype=np.intp), *(each for _, each in found)])
    return values, np.repeat(np.arange(len(S)), rows)


def _stand_ins(S: np.ndarray, n: np.ndarray, overall: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of some of the cells, and how many each has; ``overall`` (k - 1,) are mean squares."""
    weight, total = S[:, 0, 0], S[:, 0, 1:]
    means = total / weight[:, None]
    scatter = S[:, 1:, 1:] - weight[:, None, None] * means[:, :, None] * means[:, None, :]
    rounding = (
        _SCATTER * weight[:, None] * (means**2 + overall)
    )  # scatter that is no more than that
    roots, kept = _roots(scatter, rounding, n)
    rank = kept.sum(axis=1)
    values = np.empty((int((rank + 1).sum()), means.shape[1]))
    starts = np.cumsum(rank + 1) - (rank + 1)
    for r in range(means.shape[1] + 1):
        own = np.flatnonzero(rank == r)
        if not len(own):
            continue
        # Scatter over the weight is the variance; an orthogonal matrix turns (1, root) so that 1 is
        # equal in all of its rows.
        root = roots[own, :r] * np.sqrt((r + 1) / weight[own])[:, None, None]
        own_values = means[own, None, :] + np.einsum("ij,cjk->cik", _turned(r + 1), root)
        values[starts[own, None] + np.arange(r + 1)] = own_values
    return values, rank + 1


def _roots(
    scatter: np.ndarray, rounding: np.ndarray, n: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose cross-products are the scatter, the large ones first, and which of them count."""
    k = scatter.shape[1]
    squares = np.einsum("ckk->ck", scatter)
    varies = squares > rounding
    sd = np.sqrt(np.where(varies, squares, 1.0))
    both = varies[:, :, None] & varies[:, None, :]
    scaled = np.where(both, scatter / sd[:, :, None] / sd[:, None, :], 0.0)
    values, vectors = np.linalg.eigh(scaled)
    values, vectors = values[:, ::-1], vectors[:, :, ::-1]
    kept = (np.arange(k) < n[:, None] - 1) & (values > _RANK)
    size = np.sqrt(np.where(kept, values, 0.0))
    return size[:, :, None] * np.swapaxes(vectors, 1, 2) * (sd * varies)[:, None, :], kept


def _turned(k: int) -> np.ndarray:
    """Shape (k, k - 1): orthonormal columns that sum to zero (Helmert)."""
    out = np.zeros((k, k - 1))
    for j in range(1, k):
        out[:j, j - 1], out[j, j - 1] = 1.0, -float(j)
        out[:, j - 1] /= np.sqrt(j * (j + 1.0))
    return out
