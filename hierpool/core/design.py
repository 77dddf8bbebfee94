"""Design: the labelled rows of a model. Made by ``hierpool.formula.build`` alone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.errors import DataError
from hierpool.core.findings import Finding
from hierpool.core.residual import EQUAL_ROWS, Residual
from hierpool.core.spec import Covariance, Spec

EXACT_FIT = 1e-6  # residual sd, in sds of the response, below which there is nothing to estimate


@dataclass(frozen=True)
class FactorPart:
    """The labels of one column of a factor; ``a:b`` has two parts.

    Attributes
    ----------
    column
        The user's column.
    labels
        Its labels that have rows.
    places
        Shape (levels,): position in ``labels`` of each level's label.
    """

    column: str
    labels: pd.Index[Any]
    places: np.ndarray


@dataclass(frozen=True)
class Grouping:
    """Which row belongs to which level of a factor.

    Attributes
    ----------
    factor
        Name of the column.
    levels
        Labels of the levels, in category order, else sorted; only levels that have rows.
    codes
        Shape (n,): position in ``levels`` of each row.
    parts
        One for each of its columns where there are several, as in ``a:b``.
    """

    factor: str
    levels: pd.Index[Any]
    codes: np.ndarray
    parts: tuple[FactorPart, ...] = ()

    @property
    def n_levels(self) -> int:
        """Number of levels that have rows."""
        return len(self.levels)

    @cached_property
    def n_rows(self) -> np.ndarray:
        """Shape (levels,): rows of each level."""
        return np.bincount(self.codes, minlength=len(self.levels))

    def codes_of(self, places: Sequence[np.ndarray]) -> np.ndarray:
        """Position of each pair of labels of the parts, given by their own positions; -1: none."""
        sizes = [len(part.labels) for part in self.parts]
        known = np.ravel_multi_index([part.places for part in self.parts], sizes)
        asked = np.ravel_multi_index(tuple(np.maximum(p, 0) for p in places), sizes)
        found = pd.Index(known).get_indexer(pd.Index(asked))
        return np.asarray(np.where(np.min(places, axis=0) < 0, -1, found), dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Block:
    """A run of a factor's columns that share one covariance structure.

    Attributes
    ----------
    start, stop
        The columns ``start:stop`` of the factor's Z.
    covariance
        As in ``GroupTerm``.
    """

    start: int
    stop: int
    covariance: Covariance

    @property
    def columns(self) -> slice:
        """The block's columns as a slice."""
        return slice(self.start, self.stop)

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.stop - self.start


@dataclass(frozen=True)
class GroupDesign:
    """The columns whose coefficients vary over the levels of one factor.

    Attributes
    ----------
    grouping
        Rows to levels.
    terms
        Names of the q columns.
    Z
        Shape (n, q), in the user's coding.
    blocks
        Partition of the columns by covariance structure, one per group term of the formula.
    population
        Shape (q,): position of the same column in the design's ``terms``, or -1.
    dropped
        Names of columns that the rows cannot tell from those before them, or that are 0.
    """

    grouping: Grouping
    terms: tuple[str, ...]
    Z: np.ndarray
    blocks: tuple[Block, ...]
    population: np.ndarray
    dropped: tuple[str, ...] = ()

    @property
    def factor(self) -> str:
        """Name of the factor."""
        return self.grouping.factor

    @property
    def is_pooled(self) -> bool:
        """Whether the levels share a distribution (False for no pooling)."""
        return any(b.covariance != "none" for b in self.blocks)

    @property
    def has_correlation(self) -> bool:
        """Whether some block has a correlation to estimate."""
        return any(b.covariance == "correlated" and b.size > 1 for b in self.blocks)


@dataclass(frozen=True)
class Design:
    """Rows of a model: response, population columns, group columns, all labelled.

    Attributes
    ----------
    spec
        What was asked.
    y
        Shape (n,): the response, transformed as the formula says.
    X
        Shape (n, p): population columns in the user's coding. For no pooling only the columns
        that stay common.
    terms
        Names of the p columns.
    groups
        One entry per factor with group terms.
    groupings
        Factor -> Grouping, also for a factor that only names the levels.
    rows
        The user's index of the n rows that are used.
    frame
        The user's own columns that the model needs, rows as in ``rows``.
    predictors
        Names of the user's columns on the right-hand side, factors of bars left out; those of
        offsets last.
    notices
        What happened on the way: rows dropped, unused categories, predictors that stay common.
    residual
        How the rows vary about their means.
    offset
        Shape (n,): added to the linear predictor of each row; the number 0 where nothing is.
    label
        Name to show for the data, e.g. "boars (simulated)"; empty where there is none.
    dropped
        Names of population columns that the rows cannot tell from those before them.
    encoder
        Object that turns new data into the same columns (``hierpool.formula.build.Encoder``).
    """

    spec: Spec
    y: np.ndarray
    X: np.ndarray
    terms: tuple[str, ...]
    groups: tuple[GroupDesign, ...]
    groupings: Mapping[str, Grouping]
    rows: pd.Index[Any]
    frame: pd.DataFrame
    predictors: tuple[str, ...]
    notices: tuple[Finding, ...] = ()
    residual: Residual = EQUAL_ROWS
    offset: np.ndarray | float = 0.0
    label: str = ""
    dropped: tuple[str, ...] = ()
    encoder: Any = field(default=None, repr=False)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def y_less_offset(self) -> np.ndarray:
        """Shape (n,): y less its offset, which is what the coefficients explain."""
        return self.y - self.offset

    @cached_property
    def sd_y(self) -> float:
        """Sample sd of the response less its offset: the scale of default priors."""
        return float(np.std(self.y_less_offset, ddof=1))

    @cached_property
    def largest_sigma(self) -> float:
        """Sigma of a constant alone: sd(y), each row counted by its weight."""
        return self.residual.sd_of_constant(self.y_less_offset)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of rows and response: equal exactly for fits of the same rows and response."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.y, dtype=float).tobytes())
        digest.update(pd.util.hash_pandas_object(self.rows).to_numpy().tobytes())
        return digest.hexdigest()[:32]

    @property
    def group_columns(self) -> tuple[slice, ...]:
        """Each factor's columns among those of all factors side by side."""
        edges = np.cumsum([0, *(len(g.terms) for g in self.groups)]).tolist()
        return tuple(slice(a, b) for a, b in itertools.pairwise(edges))

    def group(self, factor: str) -> GroupDesign:
        """The group design of one factor; KeyError where the model has none for it."""
        return next(g for g in self.groups if g.factor == factor)


def exact_fit(design: Design, sigma: float) -> DataError:
    """The error for a response that the columns fit exactly, with a residual sd of ``sigma``."""
    return DataError(
        f"{design.spec.formula} fits {design.spec.response} exactly (residual sd {sigma:.2g}): "
        "there is no variation left to tell the model from the data. Use fewer terms.",
        "exact-fit",
    )
