"""Schema: labels, sizes and levels of a model, without its data."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.coding import Coding, stable_mean
from hierpool.core.covariance import Covariance
from hierpool.core.families.family import Family
from hierpool.core.findings import Finding
from hierpool.core.relationship import LevelRelationship
from hierpool.core.residual import Residual
from hierpool.core.spec import Spec
from hierpool.core.summed_rows import Shares, SummedColumns


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
class FactorLevels:
    """The levels of a factor.

    Attributes
    ----------
    factor
        Name of the column.
    levels
        Their labels, in category order, else sorted; only levels that have rows.
    n_rows
        Shape (levels,): rows of each level.
    parts
        One for each of the factor's columns where there are several, as in ``a:b``.
    """

    factor: str
    levels: pd.Index[Any]
    n_rows: np.ndarray
    parts: tuple[FactorPart, ...] = ()

    @property
    def n_levels(self) -> int:
        """Number of levels that have rows."""
        return len(self.levels)

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
        How their coefficients vary together.
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

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs (i, j), j < i, of the factor's columns whose correlation is estimated."""
        first = self.start
        return [(first + i, first + j) for i, j in self.covariance.pairs(self.size)]

    @property
    def patterns(self) -> list[np.ndarray]:
        """Patterns of the covariance of the block's parameters, shapes (size, size)."""
        return list(self.covariance.patterns(self.size))


@dataclass(frozen=True)
class GroupSchema:
    """Labels of the columns whose coefficients vary over the levels of one factor.

    Attributes
    ----------
    grouping
        The factor's levels.
    terms
        Names of the q columns.
    blocks
        Partition of the columns by covariance structure, one per group term of the formula.
    population
        Shape (q,): position of the same column in the schema's ``terms``, or -1.
    coding
        Means and scales of the columns.
    block_codings
        The same of each block for itself, as far as its covariance structure allows.
    dropped
        Names of columns that the rows cannot tell from those before them, or that are 0.
    related
        How the levels are related; None for independent ones.
    """

    grouping: FactorLevels
    terms: tuple[str, ...]
    blocks: tuple[Block, ...]
    population: np.ndarray
    coding: Coding
    block_codings: tuple[Coding, ...]
    dropped: tuple[str, ...] = ()
    related: LevelRelationship | None = None

    @classmethod
    def from_columns(
        cls,
        grouping: FactorLevels,
        terms: tuple[str, ...],
        blocks: tuple[Block, ...],
        population: np.ndarray,
        Z: np.ndarray,
        dropped: tuple[str, ...] = (),
        summed: SummedColumns | None = None,
        related: LevelRelationship | None = None,
    ) -> GroupSchema:
        """Of columns, shape (n, q); ``summed`` where their rows stand in for many."""
        whole, each = Coding.from_columns(Z, summed), []
        for block in blocks if len(blocks) > 1 else ():
            known = None if summed is None else summed.take(list(range(block.start, block.stop)))
            each.append(Coding.from_columns(Z[:, block.columns], known))
        each = each or [whole]
        own = tuple(b.covariance.coding(coding) for b, coding in zip(blocks, each, strict=True))
        return cls(grouping, terms, blocks, population, whole, own, dropped, related)

    @property
    def factor(self) -> str:
        """Name of the factor."""
        return self.grouping.factor

    @property
    def is_pooled(self) -> bool:
        """Whether the levels share a distribution (False for no pooling)."""
        return any(b.covariance.is_estimated for b in self.blocks)

    @property
    def has_correlation(self) -> bool:
        """Whether some block has a correlation to estimate."""
        return any(b.pairs for b in self.blocks)

    @property
    def level_variable(self) -> str:
        """The variable that multiplies Z: deviations ``u_<factor>``, ``coef_<factor>`` if unpooled."""
        return f"{'u' if self.is_pooled else 'coef'}_{self.factor}"


@dataclass(frozen=True)
class PopulationTerm:
    """A term of the fixed effects.

    Attributes
    ----------
    name
        As it must be typed in a formula.
    columns
        The user's columns in it, in order, each once.
    places
        Positions of its coefficients among those of the design; those of dropped columns are left
        out.
    """

    name: str
    columns: tuple[str, ...]
    places: tuple[int, ...]


@dataclass(frozen=True)
class ResponseScale:
    """Where a response lies, less its offset.

    Attributes
    ----------
    mean, sd
        Over the rows; the sd is the scale of default priors.
    largest_sigma
        Sigma of a constant alone: the sd with each row counted by its weight.
    """

    mean: float
    sd: float
    largest_sigma: float

    @classmethod
    def from_response(
        cls, y_less_offset: np.ndarray, residual: Residual, shares: Shares | None = None
    ) -> ResponseScale:
        """Of the responses of rows, shape (n,); ``shares`` where they stand in for many."""
        if shares is not None:
            mean = float(np.average(y_less_offset, weights=shares.counts))
            squares = (shares.counts * (y_less_offset - mean) ** 2).sum()
            sd = float(np.sqrt(squares / max(shares.n - 1, 1)))
            return cls(mean, sd, sd)
        sd = float(np.std(y_less_offset, ddof=1))
        mean = float(stable_mean(y_less_offset))
        return cls(mean, sd, residual.sd_of_constant(y_less_offset))


@dataclass(frozen=True)
class Schema:
    """What a model is about, without its rows.

    Attributes
    ----------
    spec
        What was asked.
    n
        Number of rows.
    terms
        Names of the p population columns.
    groups
        One entry per factor with group terms.
    groupings
        Factor -> its levels, also for a factor that only names the levels.
    coding, column_means
        Means and scales of the population columns: those that centre them where a constant is in
        their span, and plain means, shape (p,).
    response_scale
        Mean and spread of the response.
    predictors
        Names of the user's columns on the right-hand side, factors of bars left out; those of
        offsets last.
    notices
        What happened on the way: rows dropped, unused categories, predictors that stay common.
    label
        Name to show for the data, e.g. "boars (simulated)"; empty where there is none.
    dropped
        Names of population columns that the rows cannot tell from those before them.
    encoder
        Object that turns new data into the same columns (``hierpool.formula.build.Encoder``).
    family
        Of the response, with what the rows tell of it; None: Gaussian.
    residual_dims, residual_coords
        Dims of what is reported of a structure of the residuals, by name, and their labels.
    residual_priors
        Bounds and shapes of the priors of its parameters, as ``RowStructure`` gives them.
    """

    spec: Spec
    n: int
    terms: tuple[str, ...]
    groups: tuple[GroupSchema, ...]
    groupings: Mapping[str, FactorLevels]
    coding: Coding
    column_means: np.ndarray
    response_scale: ResponseScale
    predictors: tuple[str, ...]
    notices: tuple[Finding, ...] = ()
    label: str = ""
    dropped: tuple[str, ...] = ()
    encoder: Any = field(default=None, repr=False)
    family: Family | None = None
    residual_dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    residual_coords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    residual_priors: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def has_sigma(self) -> bool:
        """Whether there is a residual sd to estimate."""
        return self.spec.residual.has_sigma

    @property
    def is_only_sampled(self) -> bool:
        """Whether coefficients can be sampled, and not integrated out: related groups of a family."""
        return self.family is not None and any(g.related is not None for g in self.groups)

    @property
    def group_columns(self) -> tuple[slice, ...]:
        """Each factor's columns among those of all factors side by side."""
        edges = np.cumsum([0, *(len(g.terms) for g in self.groups)]).tolist()
        return tuple(slice(a, b) for a, b in itertools.pairwise(edges))

    def group(self, factor: str) -> GroupSchema:
        """The columns of one factor; StopIteration where the model has none for it."""
        return next(g for g in self.groups if g.factor == factor)
