"""Cells: a table as sums over the rows of each combination of its keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hierpool.core.labels import plain_labels
from hierpool.core.spec import Spec
from hierpool.core.summed_rows import Range

_AT_ONCE = 20_000  # cells whose numbers are copied together
_DIGITS = 9  # of the sums per row, by which tables are told apart


def as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Labels as text, whatever type an engine or a file carried them in."""
    return pd.Series(plain_labels(pd.Index(column)).astype(str), dtype=object)


class Pieces(NamedTuple):
    """Intervals of a number, on each of which the columns that a formula makes of it are polynomials.

    Attributes
    ----------
    degree
        Of the polynomials, at most.
    edges
        Where the intervals begin and end.
    """

    degree: int
    edges: tuple[float, ...]

    @property
    def centres(self) -> np.ndarray:
        """Shape (intervals,): the middle of each."""
        edges = np.array(self.edges)
        return np.asarray(edges[:-1] + np.diff(edges) / 2)

    @property
    def halves(self) -> np.ndarray:
        """Shape (intervals,): half the width of each."""
        return np.asarray(np.diff(self.edges) / 2)

    def atoms(self, column: str) -> tuple[str, ...]:
        """Names of what is summed: powers of the number, from -1 to 1 on each interval."""
        return tuple(f"{column} by intervals, power {p}" for p in range(1, self.degree + 1))


@dataclass(frozen=True, eq=False)
class Cells:
    """What a table amounts to for a formula: one entry a combination of keys that has rows.

    Attributes
    ----------
    spec
        What it was collected for; simpler formulas can be made of it too.
    keys
        One row a cell, sorted: groups, categories, and numbers whose values are told apart. A column
        of categories has all of them, in order.
    counts
        Shape (cells,): rows of each.
    S
        Shape (cells, m + 2, m + 2): cross-products of (1, atoms, response), each row counted by 1 /
        its squared residual sd in units of sigma.
    plain
        Shape (cells, 2, m + 1): sums, and sums of squares, of atoms and response; rows counted alike.
    log_sd, squared_sd
        Shape (cells,): sums over the rows of the logs, and of the squares, of those sds.
    shift, scale
        Shape (m + 1,): taken off atoms and response, and divided by, before they were summed.
    atoms
        Products of factors of the formula, by their texts.
    learned
        What ``center(x)`` and the like remember, by their text: mean and sd.
    numbers
        Columns that the atoms are made of.
    missing
        Column -> rows that were left out because it has no value there.
    n_read
        Rows of the table, those with missing values included.
    label
        Name to show for the table; empty where there is none.
    ranges
        Mean, sd, least and largest value of each of ``numbers``.
    pieces
        Columns that are cut into intervals; among the keys the middle of each stands for it.
    sources
        Digests of the tables that were added up; empty for a single one.
    """

    spec: Spec
    keys: pd.DataFrame
    counts: np.ndarray
    S: np.ndarray
    plain: np.ndarray
    log_sd: np.ndarray
    squared_sd: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    atoms: tuple[tuple[str, ...], ...]
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)
    n_read: int = 0
    label: str = ""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    pieces: Mapping[str, Pieces] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.counts.sum())

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def added(self) -> tuple[str, ...]:
        """Digests of all tables in it."""
        return self.sources or (self.digest,)

    @property
    def nbytes(self) -> int:
        """Bytes of the sums."""
        parts = (self.counts, self.S, self.plain, self.log_sd, self.squared_sd)
        return sum(part.nbytes for part in parts) + int(self.keys.memory_usage(deep=True).sum())

    @cached_property
    def digest(self) -> str:
        """Hash of keys, counts and sums, less their last digits, in which engines differ."""
        keys = pd.DataFrame({c: _text_codes(self.keys[c]) for c in self.keys})
        made = hashlib.blake2b(pd.util.hash_pandas_object(keys).to_numpy().tobytes())
        made.update(np.ascontiguousarray(self.counts.astype(np.int64)).data)
        for start in range(0, len(self), _AT_ONCE):
            S = self.S[start : start + _AT_ONCE]
            made.update(np.ascontiguousarray(np.round(S / S[:, :1, :1], _DIGITS) + 0.0).data)
        for part in (self.shift, self.scale):
            made.update(np.ascontiguousarray(part).data)
        return made.hexdigest()[:32]


def are_of_same_rows(one: Cells, other: Cells) -> bool:
    """Whether two sums are of the same rows with the same response, as far as sums can tell.

    The rows of one are among those of the other unless each was asked for a column with missing values
    that the other was not; of two such the answer is no.
    """
    if (one.n, one.n_read, one.spec.offsets) != (other.n, other.n_read, other.spec.offsets):
        return False
    lost, gone = ({c: k for c, k in own.missing.items() if k} for own in (one, other))
    apart = lost.keys() - gone.keys() and gone.keys() - lost.keys()
    if apart or any(gone[c] != k for c, k in lost.items() if c in gone):
        return False
    if one.spec.family is not None or other.spec.family is not None:  # the response is a key
        return _counts_by_common_keys(one, other)
    n, limit = one.n, 10.0**-_DIGITS
    (a, a2), (b, b2) = (own.plain[:, :, -1].sum(axis=0) for own in (one, other))
    one_sd, other_sd = float(one.scale[-1]), float(other.scale[-1])
    mean = float(one.shift[-1] - other.shift[-1]) + (one_sd * a - other_sd * b) / n
    squares = one_sd**2 * (a2 - a**2 / n) - other_sd**2 * (b2 - b**2 / n)
    return abs(mean) <= limit * one_sd and abs(squares) <= limit * n * one_sd**2


def _counts_by_common_keys(one: Cells, other: Cells) -> bool:
    """Whether as many rows have each combination of the keys that both know."""
    common = [c for c in one.keys if c in other.keys]
    if not common:
        return False
    found = []
    for own in (one, other):
        frame = pd.DataFrame({c: as_text(own.keys[c]) for c in common}).assign(n=own.counts)
        found.append(frame.groupby(common, sort=True)["n"].sum())
    return found[0].equals(found[1])


def _text_codes(column: pd.Series[Any]) -> pd.Series[Any]:
    """``as_text``, each text made once."""
    codes, labels = pd.factorize(column, use_na_sentinel=False)
    places, own = pd.factorize(as_text(pd.Series(labels)))  # 1 and 1.0 may be one text
    return pd.Series(pd.Categorical.from_codes(places[codes], categories=own))
