"""Columns of numbers from the user's columns: the only importer of formulaic.

formulaic evaluates any Python, so it only ever sees text that ``hierpool.formula.function_calls`` has read,
and columns that are there, clean and complete.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from formulaic import Formula
from formulaic.errors import DataMismatchWarning

from hierpool.core.design import Design
from hierpool.core.errors import DataError, listed
from hierpool.core.estimable import Beyond
from hierpool.core.label_matching import Place, as_known
from hierpool.core.labels import plain_labels
from hierpool.core.residual import Residual
from hierpool.core.row_labels import rows_named
from hierpool.core.schema import FactorLevels, PopulationTerm
from hierpool.core.spec import INDEPENDENT, ResidualTerm
from hierpool.formula import tables
from hierpool.formula.aliasing import Span
from hierpool.formula.categories import categories_of, in_order, made_contrasts
from hierpool.formula.category_coding import CategoryCoding
from hierpool.formula.contrasts import population_terms, type_three
from hierpool.formula.function_calls import Factor, FactorKind, quote
from hierpool.formula.functions import ELEMENTWISE, OFFSET
from hierpool.formula.grammar import Columns
from hierpool.formula.levels import read_levels
from hierpool.formula.table_column import TableColumn
from hierpool.formula.written_numbers import check_no_written_numbers

_CONTEXT = {name: getattr(np, name) for name in ELEMENTWISE if name != "I"} | {OFFSET: np.asarray}


@dataclass(frozen=True, slots=True)
class Source:
    """How one column of the model's own frame is made from the user's.

    Attributes
    ----------
    key
        Its name there, a stand-in: a column may be called ``C`` or ``np``, or anything else.
    column
        The user's column.
    shown
        How it is written in names of columns.
    categories
        Labels in order; None for a number.
    """

    key: str
    column: str
    shown: str
    categories: pd.Index[Any] | None = None

    @property
    def labels(self) -> tuple[Any, ...]:
        """Its categories; none for a number."""
        return () if self.categories is None else tuple(self.categories)

    def values(self, frame: pd.DataFrame, user: str) -> Any:
        """The column's numbers, or its categories as they were when the model was made."""
        column = frame[self.column]
        if self.categories is None:
            return tables.to_numbers(column, self.column, user)
        place = Place(self.column, frame.index)
        labels = as_known(self.categories, plain_labels(pd.Index(column)), place)
        codes = self.categories.get_indexer(labels)
        unseen = codes < 0
        if unseen.any():
            names = listed(dict.fromkeys(labels[unseen]))
            raise DataError(
                f"column {self.column!r} has categories that are not in the model: {names} in "
                f"{rows_named(frame.index[unseen])}; the model has "
                f"{listed(self.categories)}. Leave these rows out",
                "unseen-category",
            )
        return pd.Categorical.from_codes(codes, categories=self.categories)

    def own_values(self, column: TableColumn) -> Any:
        """The same for the rows that the model is made with, whose levels are known."""
        if self.categories is None:
            return tables.to_numbers(column.cells, self.column, "a predictor")
        levels, codes = column.levels
        place = self.categories.get_indexer(levels)
        return pd.Categorical.from_codes(place[codes], categories=self.categories)


@dataclass(frozen=True)
class Encoding:
    """Columns of numbers from one text such as ``"1 + Days"``, with what they remember.

    Attributes
    ----------
    names
        Names of the columns, as formulaic gives them: ``"Intercept"``, ``"Sex[T.Female]"``.
    terms
        Each term as it must be typed in a formula, with the positions of its columns.
    memory
        formulaic's own state: means, knots, contrasts.
    context
        What its expressions name beside columns: functions, and contrasts of categories.
    span
        Which of the columns the rows of the model can tell; None: not asked.
    """

    names: tuple[str, ...]
    terms: tuple[tuple[str, tuple[int, ...]], ...]
    memory: Any
    context: Mapping[str, Any]
    span: Span | None = None

    @property
    def kept(self) -> tuple[int, ...]:
        """Positions of the columns that the rows of the model can tell."""
        return tuple(range(len(self.names))) if self.span is None else self.span.kept

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of the others."""
        return () if self.span is None else tuple(self.names[k] for k in self.span.dropped)

    def encode(self, frame: pd.DataFrame, labels: pd.Index[Any]) -> np.ndarray:
        """The columns, shape (n, k), from the model's own frame."""
        if not self.names:
            return np.zeros((len(frame), 0))
        X = _evaluated(lambda: self.memory.get_model_matrix(frame, context=self.context))
        _check_finite(X, self.names, labels)
        return X

    def sum_coded(self, frame: pd.DataFrame) -> np.ndarray:
        """The same terms with categories coded to sum to zero, shape (n, k).

        For the rows of the model alone.
        """
        if not self.names:
            return np.zeros((len(frame), 0))
        text = " + ".join(
            ["0", *(":".join(map(self._summing, term.factors)) for term in self.memory.formula)]
        )
        state = copy.deepcopy(dict(self.memory.transform_state))
        return _evaluated(
            lambda: Formula(text).get_model_matrix(
                frame, context=_CONTEXT, output="numpy", transform_state=state
            )
        )

    def _summing(self, factor: Any) -> str:
        """A factor of formulaic's as text, categories coded to sum to zero."""
        kind, _ = self.memory.encoder_state.get(factor.expr, (None, None))
        if kind is None or kind.value != "categorical":
            return str(factor.expr)
        key = factor.expr.removeprefix("C(").split(",")[0]
        return f"C({key}, contrasts=contr.sum)"


def _evaluated(make: Any) -> np.ndarray:
    """What formulaic makes, as floats; its errors as ours."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", DataMismatchWarning)
            return np.asarray(make(), dtype=float)  # log(0) is caught later, with its row
    except DataMismatchWarning as error:
        raise DataError(
            "the levels= of a C() in the formula omits categories that the data contain. Name "
            f"every category, or omit levels= ({error})",
            "unseen-category",
        ) from error
    except Exception as error:  # formulaic raises anything; it calls numpy and scipy
        raise DataError(
            f"the formula cannot be evaluated with these data: {error} Compute the column "
            "yourself, data['z'] = ..., and use it",
            "cannot-evaluate",
        ) from error


def _check_finite(X: np.ndarray, names: Sequence[str], labels: pd.Index[Any]) -> None:
    finite = np.isfinite(X)
    if finite.all():
        for name, column in zip(names, X.T, strict=True):
            tables.check_magnitude(column, name)
        return
    k = int(np.flatnonzero(~finite.all(axis=0))[0])
    values = ", ".join(sorted({str(v) for v in X[~finite[:, k], k]}))
    raise DataError(
        f"{names[k]!r} is not a finite number ({values}) in "
        f"{rows_named(labels[~finite[:, k]])}. Correct the column or leave these rows out",
        "infinite-values",
    )


@dataclass(frozen=True)
class Piece:
    """Some columns of an encoding."""

    encoding: Encoding
    columns: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of these columns."""
        return tuple(self.encoding.names[k] for k in self.columns)


@dataclass(frozen=True)
class EncodedRows:
    """New rows in the columns of a model.

    Attributes
    ----------
    X
        Shape (n, p): population columns.
    Z
        Factor -> shape (n, q).
    codes
        Factor -> shape (n,): position of each row's level in the model, -1 where it has none.
    labels
        Factor -> label of each row.
    index
        The user's index of the rows.
    offset
        Shape (n,): added to the linear predictor of each row.
    residual
        How the rows vary about their means; equal where it was not asked for.
    beyond
        What the rows need of columns that the population had to drop.
    varying_beyond
        Factor -> the same of the columns that vary over it, for factors that dropped some.
    trials
        Shape (n,): numbers of trials of binomial rows, where they were read.
    frame
        The columns that were read.
    """

    X: np.ndarray
    Z: Mapping[str, np.ndarray]
    codes: Mapping[str, np.ndarray]
    labels: Mapping[str, pd.Index[Any]]
    index: pd.Index[Any]
    offset: np.ndarray
    residual: Residual
    beyond: Beyond
    varying_beyond: Mapping[str, Beyond]
    trials: np.ndarray | None = None
    frame: pd.DataFrame | None = None


@dataclass(frozen=True)
class Encoder:
    """Turns new data into the columns that a model was made with.

    Attributes
    ----------
    sources
        Columns of the model's own frame.
    population
        What X is made of, piece by piece.
    groups
        Factor -> what its Z is made of.
    groupings
        Factor -> its levels.
    factor_columns
        Factor -> the user's columns it is made of.
    offsets
        What is added to the linear predictor, one column each.
    residual
        How the rows vary about their means.
    trials
        Column of the numbers of trials; empty where there is none.
    """

    sources: tuple[Source, ...]
    population: tuple[Piece, ...]
    groups: Mapping[str, tuple[Piece, ...]]
    groupings: Mapping[str, FactorLevels]
    factor_columns: Mapping[str, tuple[str, ...]]
    offsets: tuple[Piece, ...] = ()
    residual: ResidualTerm = INDEPENDENT
    trials: str = ""

    def terms(self, design: Design) -> tuple[PopulationTerm, ...]:
        """Terms of the fixed effects of the design that it made."""
        return population_terms(design)

    def type_three(self, design: Design) -> tuple[tuple[str, np.ndarray], ...]:
        """Their hypotheses, for the floors that only know the design."""
        return type_three(design)

    def encode(
        self,
        data: Any,
        factors: Literal["known", "none"] | Collection[str] = "known",
        residual: bool = False,
        anew: Collection[str] = (),
    ) -> EncodedRows:
        """New rows in the model's columns, with the means, knots and categories it was made with.

        Parameters
        ----------
        data
            A table with the predictors; the response may be missing.
        factors
            ``"known"``: the columns of the groups are there too, and a level that the model has
            not seen gets the code -1. ``"none"``: they are not read, and Z holds nothing. Names
            of factors: the columns of these are read, and Z holds all.
        residual
            Whether the column of weights or known sds is read, in models that have one, and that of
            trials. Weights of a family multiply a log density, and say nothing of a new row.
        anew
            Factors whose levels are none of the model's, whatever they are called. They are not read
            where their columns are missing.
        """
        wanted = {"known": list(self.groupings), "none": []}
        read = wanted[factors] if isinstance(factors, str) else factors
        table = tables.read_frame(data)
        chosen = [f for f in self.groupings if f in read]
        chosen = [f for f in chosen if f not in anew or set(self.factor_columns[f]) <= set(table)]
        names = [s.column for s in self.sources]
        names += [c for f in chosen for c in self.factor_columns[f]]
        is_read = residual and self.residual.structure != "family"
        term = self.residual if is_read else INDEPENDENT
        names += [*term.arguments.values(), *term.columns]
        counted = [self.trials] if residual and self.trials else []
        names += counted
        frame = tables.select(table, dict.fromkeys(names))
        _check_complete(frame)
        own = model_frame(frame, self.sources)
        X = join(self.population, own, frame.index)
        varying = {} if factors == "none" else self.groups
        Z = {f: join(p, own, frame.index) for f, p in varying.items()}
        found = {
            f: read_levels(self.groupings[f], self.factor_columns[f], frame, f in anew)
            for f in chosen
        }
        codes = {f: c for f, (c, _) in found.items()}
        labels = {f: v for f, (_, v) in found.items()}
        offset = join(self.offsets, own, frame.index).sum(axis=1)
        varied = tables.residual(frame, term)
        beyond = _beyond(self.population[:1], own, frame.index)
        missed = {f: _beyond(p, own, frame.index) for f, p in varying.items()}
        trials = tables.to_trials(frame[self.trials], self.trials) if counted else None
        rows = EncodedRows(X, Z, codes, labels, frame.index, offset, varied, beyond, missed, trials)
        return replace(rows, frame=frame)

    @cached_property
    def nested(self) -> dict[str, tuple[str, ...]]:
        """Category -> those it is nested in: it stands in no term of the population without them.

        ``site/plot`` nests plot in site, as ``a + a:b`` nests b in a.
        """
        columns = {quote(s.column): s.column for s in self.sources if s.categories is not None}
        texts = [text.split(":") for text, _ in self.population[0].encoding.terms]
        terms = [{columns[p] for p in text if p in columns} for text in texts]
        found = {}
        for name in columns.values():
            own = [t for t in terms if name in t]
            beside = set.intersection(*own) - {name} if own else set()
            # a:b alone nests neither in the other
            outer = [p for p in beside if any(p in t and name not in t for t in terms)]
            if outer:
                found[name] = tuple(sorted(outer))
        return found

    def sum_coded(self, frame: pd.DataFrame) -> np.ndarray:
        """The first piece of the population with categories that sum to zero, shape (n, p).

        For the rows of the model alone.
        """
        return self.population[0].encoding.sum_coded(model_frame(frame, self.sources))


def _check_complete(frame: pd.DataFrame) -> None:
    for name, column in frame.items():
        missing = column.isna().to_numpy()
        if missing.any():
            raise DataError(
                f"column {name!r} has missing values in "
                f"{rows_named(frame.index[missing])}, so these rows cannot be predicted. "
                "Fill them in or leave the rows out",
                "missing-values",
            )


def join(pieces: Iterable[Piece], own: pd.DataFrame, labels: pd.Index[Any]) -> np.ndarray:
    """Columns of several pieces side by side, shape (n, k)."""
    parts = [p.encoding.encode(own, labels)[:, list(p.columns)] for p in pieces]
    return np.concatenate([np.zeros((len(own), 0)), *parts], axis=1)


def _beyond(pieces: Iterable[Piece], own: pd.DataFrame, labels: pd.Index[Any]) -> Beyond:
    """What rows need of columns that were dropped, of several pieces."""
    out = Beyond.nothing(len(own))
    for encoding in (p.encoding for p in pieces):
        if encoding.span is not None and encoding.span.dropped:
            out = out.beside(encoding.span.beyond(encoding.encode(own, labels), encoding.names))
    return out


def model_frame(frame: pd.DataFrame, sources: Iterable[Source]) -> pd.DataFrame:
    """The frame that formulaic sees: floats and categories, nothing missing, rows 0 to n - 1."""
    columns = {s.key: s.values(frame, "a predictor") for s in sources}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))


def find_sources(
    factors: Iterable[Factor], columns: Mapping[str, TableColumn]
) -> dict[Factor, list[Source]]:
    """How each factor's columns are made, learned from the rows of the model."""
    found = {f: [_source(f, columns[name]) for name in f.columns] for f in factors}
    sources = list(dict.fromkeys(_Key.of(f, s) for f, several in found.items() for s in several))
    labels = [label for several in found.values() for s in several for label in s.labels]
    said = " ".join([*(f.text for f in found), *map(str, labels)])
    stem = "hp"
    while stem in said:  # names of columns are put back by looking for it
        stem += "x"
    return {
        f: [replace(s, key=f"{stem}{sources.index(_Key.of(f, s))}_") for s in several]
        for f, several in found.items()
    }


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes two columns of the model's own frame one."""

    column: str
    kind: FactorKind
    coding: CategoryCoding

    @classmethod
    def of(cls, factor: Factor, source: Source) -> _Key:
        kind: FactorKind = "number" if factor.kind == "offset" else factor.kind
        return cls(source.column, kind, factor.coding)


def _source(factor: Factor, column: TableColumn) -> Source:
    """How a column is made; its key is yet to be chosen."""
    name, kind, cells = column.name, column.kind, column.cells
    if factor.kind == "category":
        categories = in_order(categories_of(column), factor.coding, name)
        return Source("", name, quote(name, in_call=True), categories)
    if factor.kind == "column" and kind in ("text", "mixed"):
        check_no_written_numbers(cells, name)
    if factor.kind == "column" and kind in ("text", "category"):
        return Source("", name, name, categories_of(column))
    if factor.kind == "column" and kind == "mixed":
        raise DataError(
            f"column {name!r} mixes numbers with text or other values, and a predictor must be "
            f"one or the other. Write data[{name!r}] = data[{name!r}].astype(str) for categories, "
            f"or pandas.to_numeric(data[{name!r}], errors='coerce') for numbers",
            "mixed-column",
        )
    user = "a predictor" if factor.kind == "column" else f"the argument of {factor.text}"
    tables.to_numbers(cells, name, user)
    return Source("", name, name if factor.kind == "column" else quote(name, in_call=True))


@dataclass(frozen=True)
class _Written:
    """Factors as formulaic is given them: no name and no label of the user's is among it.

    Attributes
    ----------
    expressions
        Each factor in stand-ins.
    shown
        What stands for a stand-in, or for a whole call, in the name of a column.
    context
        The contrasts of categories by their stand-ins.
    """

    expressions: dict[Factor, str]
    shown: dict[str, str]
    context: dict[str, Any]

    @classmethod
    def of(cls, found: Mapping[Factor, Sequence[Source]]) -> _Written:
        expressions: dict[Factor, str] = {}
        shown: dict[str, str] = {}
        context: dict[str, Any] = {}
        for factor, sources in found.items():
            shown |= {s.key: s.shown for s in sources}
            keys = tuple(s.key for s in sources)
            if factor.kind != "category":
                expressions[factor] = (
                    keys[0] if factor.kind == "column" else factor.with_names(keys)
                )
                continue
            (source,) = sources
            contrasts = made_contrasts(factor.coding, source.labels)
            context[f"{source.key}coding"] = contrasts
            expressions[factor] = f"C({source.key}, {source.key}coding)"
            shown[expressions[factor]] = factor.text
        return cls(expressions, shown, context)

    def readable(self, text: str) -> str:
        """The name of a column with the user's names in it."""
        every = "|".join(map(re.escape, sorted(self.shown, key=len, reverse=True)))
        return re.sub(every, lambda m: self.shown[m[0]], text) if every else text

    def typed(self, expression: str) -> str:
        """A factor of formulaic's as it must be typed in a formula."""
        return next(
            (f.text for f, e in self.expressions.items() if e == expression),
            self.readable(expression),
        )


def learn(
    columns: Columns,
    found: Mapping[Factor, Sequence[Source]],
    own: pd.DataFrame,
    labels: pd.Index[Any],
    state: Mapping[str, Any] | None = None,
) -> tuple[Encoding, np.ndarray]:
    """The encoding of one text, with what it must remember from these rows; and their columns.

    ``state``: what functions remember, by their text, where these rows cannot tell; the columns may
    then be no finite numbers.
    """
    written = _Written.of({f: found[f] for f in columns.factors})
    context = _CONTEXT | written.context
    matrix: list[Any] = []

    def make() -> Any:
        formula = Formula(columns.written(written.expressions))
        known = {} if state is None else {"transform_state": copy.deepcopy(dict(state))}
        matrix.append(
            formula.get_model_matrix(
                own, context=context, na_action="ignore", output="numpy", **known
            )
        )
        return matrix[0]

    X = _evaluated(make)
    memory = matrix[0].model_spec
    terms = tuple(
        (
            ":".join(written.typed(f.expr) for f in term.factors),
            tuple(range(*where.indices(len(memory.column_names)))),
        )
        for term, where in memory.term_slices.items()
    )
    names = tuple(written.readable(n) for n in memory.column_names)
    encoding = Encoding(names, terms, memory, context)
    if not encoding.names:
        return encoding, np.zeros((len(own), 0))
    if state is None:
        _check_finite(X, encoding.names, labels)
    return encoding, X
