"""Design: the labelled rows of a model. Made by ``hierpool.formula.build`` alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.coding import Coding
from hierpool.core.errors import DataError, UnsupportedModelError
from hierpool.core.families.family import Family
from hierpool.core.findings import Finding
from hierpool.core.residual import Residual, RowStructure
from hierpool.core.schema import Block, FactorLevels, GroupSchema, ResponseScale, Schema
from hierpool.core.spec import Spec
from hierpool.core.summed_rows import Shares, SummedRows

_A_SAMPLE = (
    "Fit the model to rows in memory for it, such as a sample of whole groups: "
    "hp.Model(formula, sample)"
)
COLLECT_ONCE = (
    "Make both from one collection, for a formula with the columns of both: "
    "moments = hp.collect(formula, table), then hp.Model(simpler_formula, moments)"
)
EXACT_FIT = 1e-6  # residual sd, in sds of the response, below which there is nothing to estimate


@dataclass(frozen=True)
class Grouping:
    """Which row belongs to which level of a factor.

    Attributes
    ----------
    known
        The levels.
    codes
        Shape (n,): position among the levels of each row.
    """

    known: FactorLevels
    codes: np.ndarray

    @property
    def factor(self) -> str:
        """Name of the factor."""
        return self.known.factor

    @property
    def levels(self) -> pd.Index[Any]:
        """Labels of the levels."""
        return self.known.levels

    @property
    def n_levels(self) -> int:
        """Number of levels that have rows."""
        return self.known.n_levels

    @property
    def n_rows(self) -> np.ndarray:
        """Shape (levels,): rows of each level in the table."""
        return self.known.n_rows

    @property
    def by_level(self) -> list[np.ndarray]:
        """Positions of the rows of each level among those at hand, which may stand in for others."""
        sizes = np.bincount(self.codes, minlength=self.n_levels)
        return np.split(np.argsort(self.codes, kind="stable"), np.cumsum(sizes)[:-1])


@dataclass(frozen=True)
class GroupDesign:
    """The columns whose coefficients vary over the levels of one factor.

    Attributes
    ----------
    schema
        Their labels, and the factor's levels.
    codes
        Shape (n,): position among the levels of each row.
    Z
        Shape (n, q), in the user's coding.
    """

    schema: GroupSchema
    codes: np.ndarray
    Z: np.ndarray

    @cached_property
    def grouping(self) -> Grouping:
        """Rows to levels."""
        return Grouping(self.schema.grouping, self.codes)

    @property
    def factor(self) -> str:
        """Name of the factor."""
        return self.schema.factor

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the q columns."""
        return self.schema.terms

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Partition of the columns by covariance structure."""
        return self.schema.blocks

    @property
    def population(self) -> np.ndarray:
        """Shape (q,): position of the same column in the design's ``terms``, or -1."""
        return self.schema.population

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of columns that are not estimable."""
        return self.schema.dropped

    @property
    def level_variable(self) -> str:
        """The variable that multiplies Z, as in ``GroupSchema``."""
        return self.schema.level_variable

    @property
    def is_pooled(self) -> bool:
        """Whether the levels share a distribution (False for no pooling)."""
        return self.schema.is_pooled

    @property
    def has_correlation(self) -> bool:
        """Whether some block has a correlation to estimate."""
        return self.schema.has_correlation


@dataclass(frozen=True)
class Observations:
    """The rows of a model as numbers.

    Attributes
    ----------
    y
        Shape (n,): the response, transformed as the formula says.
    X
        Shape (n, p): population columns in the user's coding. For no pooling only the columns
        that stay common.
    Z
        Factor -> shape (n, q): the columns that vary over it.
    codes
        Factor -> shape (n,): position of each row's level.
    index
        The user's index of the n rows that are used.
    frame
        The user's own columns that the model needs, rows as in ``index``.
    residual_values
        Shape (n,): weights or known residual sds; None where the rows vary alike.
    offset
        Shape (n,): added to the linear predictor of each row; the number 0 where nothing is.
    trials
        Shape (n,): numbers of trials of a binomial response; None for any other.
    structure
        How residuals are correlated, and which sds they have; None for independent ones alike.
    summed
        What rows that stand in for many carry beside their numbers; None for rows of a table. Their
        index and frame are empty.
    """

    y: np.ndarray
    X: np.ndarray
    Z: Mapping[str, np.ndarray]
    codes: Mapping[str, np.ndarray]
    index: pd.Index[Any]
    frame: pd.DataFrame
    residual_values: np.ndarray | None = None
    offset: np.ndarray | float = 0.0
    trials: np.ndarray | None = None
    structure: RowStructure | None = None
    summed: SummedRows | None = None

    @property
    def shares(self) -> Shares | None:
        """What each row stands for; None where it is a row of a table."""
        return None if self.summed is None else self.summed.shares

    def shifted_response(self, shift: float) -> np.ndarray:
        """Shape (n,): y less its offset and a shift, with all its digits."""
        left = self.y_less_offset - shift
        return left if self.summed is None else left + self.summed.y_rest

    def working_X(self, coding: Coding) -> np.ndarray:
        """Shape (n, p): X centred and scaled."""
        return coding.work(self.X, None if self.summed is None else self.summed.X_rest)

    def working_Z(self, factor: str, coding: Coding) -> np.ndarray:
        """Shape (n, q): a factor's Z centred and scaled."""
        rest = None if self.summed is None else self.summed.Z_rest[factor]
        return coding.work(self.Z[factor], rest)

    @property
    def y_less_offset(self) -> np.ndarray:
        """Shape (n,): y less its offset, which is what the coefficients explain."""
        return self.y - self.offset

    @cached_property
    def fingerprint(self) -> str:
        """Hash of rows and response: equal exactly for fits of the same rows and response."""
        if self.summed is not None:
            return self.summed.digest
        digest = hashlib.blake2b(np.ascontiguousarray(self.y, dtype=float).tobytes())
        digest.update(pd.util.hash_pandas_object(self.index).to_numpy().tobytes())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Design:
    """A model's labels and its rows: response, population columns, group columns.

    Attributes
    ----------
    schema
        Labels, sizes and levels.
    observations
        The rows as numbers.
    """

    schema: Schema
    observations: Observations

    @cached_property
    def groups(self) -> tuple[GroupDesign, ...]:
        """One entry per factor with group terms."""
        rows = self.observations
        return tuple(
            GroupDesign(g, rows.codes[g.factor], rows.Z[g.factor]) for g in self.schema.groups
        )

    @cached_property
    def groupings(self) -> dict[str, Grouping]:
        """Factor -> Grouping, also for a factor that only names the levels."""
        codes = self.observations.codes
        return {f: Grouping(known, codes[f]) for f, known in self.schema.groupings.items()}

    @property
    def is_summed(self) -> bool:
        """Whether there are only sums of the rows (``hp.Moments``)."""
        return self.observations.summed is not None

    def has_rows_of(self, other: Design) -> bool:
        """Whether another design has the same rows and response, as far as sums of both can tell."""
        one, two = self.observations.summed, other.observations.summed
        if one is None or two is None:
            return self.fingerprint == other.fingerprint
        return one.digest == two.digest or one.profile.is_of_rows_of(two.profile)

    def check_rows(self, question: str = "this question", instead: str = _A_SAMPLE) -> Observations:
        """The rows; an error where there are only sums of them, which says what to type instead."""
        if self.is_summed:
            raise UnsupportedModelError(
                f"{question} needs the rows, and this model was made from sums of {self.n:,} rows "
                f"(hp.Moments). {instead}",
                "needs-rows",
            )
        return self.observations

    def group(self, factor: str) -> GroupDesign:
        """The group design of one factor; StopIteration where the model has none for it."""
        return next(g for g in self.groups if g.factor == factor)

    @property
    def spec(self) -> Spec:
        """What was asked."""
        return self.schema.spec

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.schema.n

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the p population columns."""
        return self.schema.terms

    @property
    def predictors(self) -> tuple[str, ...]:
        """Names of the user's columns on the right-hand side."""
        return self.schema.predictors

    @property
    def notices(self) -> tuple[Finding, ...]:
        """What happened on the way to these rows."""
        return self.schema.notices

    @property
    def label(self) -> str:
        """Name to show for the data; empty where there is none."""
        return self.schema.label

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of population columns that are not estimable."""
        return self.schema.dropped

    @property
    def encoder(self) -> Any:
        """Object that turns new data into the same columns."""
        return self.schema.encoder

    @property
    def group_columns(self) -> tuple[slice, ...]:
        """Each factor's columns among those of all factors side by side."""
        return self.schema.group_columns

    @property
    def y(self) -> np.ndarray:
        """Shape (n,): the response, transformed as the formula says."""
        return self.check_rows().y

    @property
    def y_less_offset(self) -> np.ndarray:
        """Shape (n,): y less its offset, which is what the coefficients explain."""
        return self.check_rows().y_less_offset

    @property
    def X(self) -> np.ndarray:
        """Shape (n, p): population columns in the user's coding."""
        return self.check_rows().X

    @property
    def rows(self) -> pd.Index[Any]:
        """The user's index of the n rows that are used."""
        return self.check_rows().index

    @property
    def frame(self) -> pd.DataFrame:
        """The user's own columns that the model needs."""
        return self.check_rows().frame

    @property
    def residual_factor(self) -> str:
        """The factor whose groups have correlated residuals; empty where none has."""
        own = self.spec.residual.correlation
        return own.factor if own is not None else ""

    @property
    def scale_factor(self) -> str:
        """The factor whose groups differ in their residual sd at random; empty where none has."""
        return self.spec.residual.scale

    @property
    def samples_scales(self) -> bool:
        """Whether residual sds of groups stand beside random effects of other groups.

        Given beta these groups are then not independent, and their scales are sampled with theta.
        """
        return bool(self.scale_factor) and any(g.factor != self.scale_factor for g in self.groups)

    @property
    def factor_of_residuals(self) -> str:
        """Either of the two."""
        return self.residual_factor or self.scale_factor

    @cached_property
    def residual(self) -> Residual:
        """How the rows vary about their means."""
        rows = self.observations
        square = None if rows.summed is None else rows.summed.mean_square
        return Residual(self.spec.residual, rows.residual_values, rows.structure, square)

    @property
    def offset(self) -> np.ndarray | float:
        """Shape (n,): added to the linear predictor of each row; the number 0 where nothing is."""
        return self.observations.offset

    @property
    def family(self) -> Family | None:
        """Family of the response; None: Gaussian."""
        return self.schema.family

    @property
    def trials(self) -> np.ndarray:
        """Shape (n,): number of trials of each row; ones where the family has none."""
        given = self.observations.trials
        return np.ones(len(self.observations.y)) if given is None else given

    @property
    def row_weights(self) -> np.ndarray | None:
        """Shape (n,): what the log density of each row is multiplied by; None for ones.

        Of rows that stand in for many: what that of each of these is multiplied by.
        """
        is_family = self.spec.residual.structure == "family"
        return self.observations.residual_values if is_family else None

    @property
    def likelihood_weights(self) -> np.ndarray:
        """Shape (n,): how often the log density of each row counts in the log-likelihood."""
        own, counts = self.row_weights, self.row_counts
        weights = np.ones(len(self.observations.y)) if own is None else np.asarray(own, dtype=float)
        return weights if counts is None else weights * counts

    @property
    def row_counts(self) -> np.ndarray | None:
        """Shape (n,): rows of the table that each row stands for; None where each is one."""
        shares = self.observations.shares
        return None if shares is None else shares.counts

    @property
    def fingerprint(self) -> str:
        """Hash of rows and response: equal exactly for fits of the same rows and response."""
        return self.observations.fingerprint

    def with_response(self, y: np.ndarray) -> Design:
        """The same rows with another response."""
        rows = replace(self.observations, y=y)
        if rows.summed is not None:
            rows = replace(rows, summed=replace(rows.summed, y_rest=np.zeros_like(y)))
        if self.family is not None and not self.family.is_on_response_scale:
            centre = self.family.centre(y, rows.trials, rows.offset, self.row_counts)
            scale = replace(self.schema.response_scale, mean=centre)
            return Design(replace(self.schema, response_scale=scale), rows)
        scale = ResponseScale.from_response(rows.y_less_offset, self.residual, rows.shares)
        return Design(replace(self.schema, response_scale=scale), rows)

    def with_schema(self, **changes: Any) -> Design:
        """The same rows under other labels: fields of ``Schema`` by name."""
        return replace(self, schema=replace(self.schema, **changes))


def check_gaussian(schema: Schema, question: str) -> None:
    """Raise where the response is not Gaussian, for what is answered for Gaussian responses only."""
    if schema.family is not None:
        raise UnsupportedModelError(
            f"{question} is for Gaussian responses, and {schema.spec.formula} has "
            f"family={schema.family.name!r}. fit.loo(), hp.check(fit) and predictions are there for "
            "every family",
            "gaussian-only",
        )


def exact_fit(schema: Schema, sigma: float) -> DataError:
    """The error for a response that the columns fit exactly, with a residual sd of ``sigma``."""
    own = schema.spec.residual.correlation
    if own is not None and not np.isfinite(sigma):
        return DataError(
            f"{own}: the likelihood has no maximum, because correlations of the residuals reach 1. A "
            "structure with fewer parameters, such as toeph, ar1h or ar1, may have one",
            "exact-fit",
        )
    return DataError(
        f"{schema.spec.formula} fits {schema.spec.response} exactly (residual sd {sigma:.2g}), so "
        "no residual variation is left to estimate. Use fewer terms.",
        "exact-fit",
    )
