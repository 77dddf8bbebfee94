"""The complete rows of the columns that models need: read once, encoded once for all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.design import Grouping
from hierpool.core.errors import DataError, ResponseError
from hierpool.core.families.family import Family
from hierpool.core.findings import Finding
from hierpool.core.residual import Residual
from hierpool.core.row_labels import rows_named
from hierpool.core.schema import ResponseScale
from hierpool.core.spec import ResidualTerm, Spec
from hierpool.core.summed_rows import SummedColumns
from hierpool.formula import tables
from hierpool.formula.aliasing import Span
from hierpool.formula.alike_labels import alike_labels
from hierpool.formula.encoder import Encoding, Piece, Source, find_sources, join, learn
from hierpool.formula.function_calls import Factor
from hierpool.formula.grammar import Columns
from hierpool.formula.levels import make_grouping
from hierpool.formula.missing import drop_missing
from hierpool.formula.parse import read_columns, read_offset, read_response
from hierpool.formula.table_column import TableColumn
from hierpool.formula.written_numbers import check_no_unit_row


@dataclass(frozen=True)
class ModelTexts:
    """The texts of a spec, read.

    Attributes
    ----------
    spec
        Whose they are.
    response, offsets
        Left side, and what is added to the linear predictor as it is.
    sides
        Text -> columns that it makes: of the population and of each bar.
    made_of
        Group factor -> the user's columns it is made of.
    """

    spec: Spec
    response: Factor
    offsets: tuple[Factor, ...]
    sides: Mapping[str, Columns]
    made_of: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_spec(cls, spec: Spec, names: Collection[str]) -> ModelTexts:
        """Those of a spec, for a table with columns of these names."""
        texts = dict.fromkeys([spec.population, *(t.columns for t in spec.groups)])
        response = read_response(spec.response)
        sides = {text: read_columns(text) for text in texts}
        made_of = {f: tables.factor_columns(f, names) for f in spec.factors}
        return cls(spec, response, tuple(map(read_offset, spec.offsets)), sides, made_of)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Every factor of the right-hand side that makes columns, each once."""
        return tuple(dict.fromkeys(f for side in self.sides.values() for f in side.factors))

    @property
    def predictors(self) -> tuple[str, ...]:
        """The user's columns that they and the offsets need, each once."""
        return tuple(dict.fromkeys(c for f in (*self.factors, *self.offsets) for c in f.columns))

    @property
    def group_columns(self) -> tuple[str, ...]:
        """The user's columns of the group factors."""
        return tuple(c for columns in self.made_of.values() for c in columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """All of the user's columns that the model needs, each once."""
        residual = self.spec.residual
        beside = [*self.trials, *residual.arguments.values(), *residual.columns]
        every = [*self.response.columns, *self.predictors, *beside, *self.group_columns]
        return tuple(dict.fromkeys(every))

    @property
    def trials(self) -> tuple[str, ...]:
        """The column of trials, if there is one."""
        return (self.spec.trials,) if self.spec.trials else ()

    @property
    def numeric(self) -> tuple[str, ...]:
        """The user's columns that may have to be numbers."""
        several = (self.response, *self.factors, *self.offsets)
        made_of = [c for f in several if f.kind != "category" for c in f.columns]
        return (*made_of, *self.trials, *self.spec.residual.arguments.values())


@dataclass(frozen=True, eq=False)
class Response:
    """The left side of a formula.

    Attributes
    ----------
    y
        Shape (n,): numbers.
    family
        Its family, with what the rows tell of it, such as the number of ratings; None: Gaussian.
    trials
        Shape (n,): number of trials of each row; None unless the family has them.
    summed, scale
        Where the rows stand in for many: what is known of y beside, less the offset, which is off
        it, and where it lies.
    """

    y: np.ndarray
    family: Family | None = None
    trials: np.ndarray | None = None
    summed: SummedColumns | None = None
    scale: ResponseScale | None = None


@dataclass(frozen=True, eq=False)
class EncodedText:
    """Columns of numbers that one text makes of the rows of a model.

    Attributes
    ----------
    encoding
        What makes them again.
    X
        Shape (n, k).
    summed
        Where the rows stand in for many: what is known of the columns beside.
    """

    encoding: Encoding
    X: np.ndarray
    summed: SummedColumns | None = None

    @cached_property
    def span(self) -> Span:
        """Which of them the rows can tell."""
        return Span.of(self.X)


@dataclass(frozen=True, eq=False)
class EncodedFactors:
    """Factors of a right-hand side as columns of numbers and categories, each text encoded once.

    Attributes
    ----------
    found
        How the columns of each factor are made.
    own
        The frame that formulaic sees.
    index
        The user's index of its rows.
    """

    found: Mapping[Factor, Sequence[Source]]
    own: pd.DataFrame
    index: pd.Index[Any]
    _made: dict[str, EncodedText] = field(default_factory=dict)

    @classmethod
    def from_columns(
        cls, factors: Iterable[Factor], columns: Mapping[str, TableColumn], index: pd.Index[Any]
    ) -> EncodedFactors:
        """Of the rows of a model."""
        found = find_sources(factors, columns)
        own = {
            s.key: s.own_values(columns[s.column]) for several in found.values() for s in several
        }
        return cls(found, pd.DataFrame(own, index=pd.RangeIndex(len(index))), index)

    @property
    def sources(self) -> tuple[Source, ...]:
        """How its columns are made, each once."""
        return tuple({s.key: s for several in self.found.values() for s in several}.values())

    def encoded(self, side: Columns) -> EncodedText:
        """The columns of one text."""
        if side.text not in self._made:
            self._made[side.text] = EncodedText(*learn(side, self.found, self.own, self.index))
        return self._made[side.text]

    def offset(self, factor: Factor) -> Piece:
        """What makes the one column of an offset."""
        rows = pd.RangeIndex(len(self.own))
        return Piece(learn(Columns(False, (" + ", factor)), self.found, self.own, rows)[0], (0,))

    def joined(self, pieces: Iterable[Piece]) -> np.ndarray:
        """The columns of several pieces side by side, shape (n, k)."""
        return join(pieces, self.own, self.index)


@dataclass(frozen=True, eq=False)
class CompleteRows:
    """Rows without missing values of the columns that one model needs, or several.

    Whatever is made of them is made once: levels, numbers, the columns of a text.

    Attributes
    ----------
    frame
        The user's own columns, rows as they are used.
    dropped
        A notice of the rows that were left out.
    label
        Name to show for the data; empty where there is none.
    """

    frame: pd.DataFrame
    dropped: tuple[Finding, ...]
    label: str
    _groupings: dict[tuple[str, ...], Grouping] = field(default_factory=dict)
    _responses: dict[tuple[Factor, Family | None, str], Response] = field(default_factory=dict)
    _encoded: dict[tuple[Factor, ...], EncodedFactors] = field(default_factory=dict)

    @classmethod
    def from_table(cls, spec: Spec, data: Any) -> CompleteRows:
        """Those of a table, for this spec and all others that need no other columns."""
        whole = tables.read_frame(data)
        texts = ModelTexts.from_spec(spec, [str(c) for c in whole.columns])
        selected = tables.select(whole, texts.columns)
        tables.check_factor_names(spec.factors)
        check_no_unit_row(selected, texts.numeric)
        return cls(*drop_missing(selected, texts.group_columns), _label(data))

    @cached_property
    def columns(self) -> dict[str, TableColumn]:
        """The user's name -> column."""
        return {str(name): TableColumn(str(name), self.frame[name]) for name in self.frame.columns}

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.frame)

    def residual(self, term: ResidualTerm) -> Residual:
        """How the rows vary about their means."""
        return tables.residual(self.frame, term)

    @cached_property
    def _unused(self) -> dict[str, tuple[Finding, ...]]:
        return {name: tables.unused_categories(column) for name, column in self.columns.items()}

    @cached_property
    def _alike(self) -> dict[str, tuple[Finding, ...]]:
        return {name: alike_labels(column) for name, column in self.columns.items()}

    def notices(self, names: Iterable[str]) -> tuple[Finding, ...]:
        """What there is to say of these columns before a model is made of them."""
        names = list(names)
        every = [*(self._unused[name] for name in names), *(self._alike[name] for name in names)]
        return (*self.dropped, *(notice for found in every for notice in found))

    def part(self, names: Sequence[str]) -> pd.DataFrame:
        """The frame with these columns alone."""
        same = list(names) == list(self.frame.columns)
        return self.frame if same else self.frame[list(names)]

    def grouping(self, factor: str, made_of: Sequence[str]) -> Grouping:
        """Rows to levels of a factor."""
        key = (factor, *made_of)
        if key not in self._groupings:
            self._groupings[key] = make_grouping(factor, [self.columns[c] for c in made_of])
        return self._groupings[key]

    def encoded(self, factors: tuple[Factor, ...]) -> EncodedFactors:
        """Factors of a right-hand side as columns."""
        if factors not in self._encoded:
            index = self.frame.index
            self._encoded[factors] = EncodedFactors.from_columns(factors, self.columns, index)
        return self._encoded[factors]

    def response(self, texts: ModelTexts) -> Response:
        """The response as numbers, as its family wants it."""
        spec = texts.spec
        key = (texts.response, spec.family, spec.trials)
        if key not in self._responses:
            self._responses[key] = self._response(texts)
        return self._responses[key]

    def _response(self, texts: ModelTexts) -> Response:
        spec, factor = texts.spec, texts.response
        if spec.family is None:
            return Response(self._numbers(factor))
        trials = None
        if spec.trials:
            trials = tables.to_numbers(self.columns[spec.trials].cells, spec.trials, "trials")
        column = self.columns[factor.columns[0]] if factor.kind == "column" else None
        try:
            if column is not None and column.kind != "number" and spec.family.takes_labels:
                y, family = spec.family.from_labels(column.cells, column.name)
            else:
                y, family = spec.family.from_numbers(self._numbers(factor), factor.text, trials)
        except ResponseError as error:
            raise error.in_rows(rows_named(self.frame.index[[error.place]])) from error
        return Response(y, family, trials)

    def _numbers(self, factor: Factor) -> np.ndarray:
        for column in (self.columns[name] for name in factor.columns):
            name = column.name
            if column.kind == "boolean":
                raise DataError(
                    f"column {name!r} is true or false: write family='bernoulli'. To treat it as the "
                    f"numbers 0 and 1, write data[{name!r}] = data[{name!r}].astype(float)",
                    "boolean-response",
                )
            tables.to_numbers(column.cells, name, "the response")
        y = self.encoded((factor,)).encoded(Columns(False, (" + ", factor))).X
        if y.shape[1] != 1:
            raise DataError(
                f"the response {factor.text!r} makes {y.shape[1]} columns, and a model has one response. "
                "Write a column or a function with one value for each row",
                "many-responses",
            )
        return y[:, 0]


def _label(data: Any) -> str:
    own = data.attrs.get("hierpool", {}) if isinstance(data, pd.DataFrame) else {}
    return str(own.get("label", "")) if isinstance(own, Mapping) else ""
