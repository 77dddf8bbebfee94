"""What has to be summed for a formula: its keys, its atoms, and the expressions of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import narwhals.stable.v2 as nw

from hierpool.core.cells import Pieces
from hierpool.core.errors import DataError, nearest
from hierpool.core.spec import Spec
from hierpool.formula.complete_rows import ModelTexts
from hierpool.formula.function_calls import Factor
from hierpool.formula.functions import BASES
from hierpool.formula.terms import terms_of


@dataclass(frozen=True)
class Plan:
    """Columns of a table by their part in a model.

    Attributes
    ----------
    texts
        The formula, read.
    schema
        Column -> type, of the columns that are used.
    keys
        Columns whose values are told apart: groups, categories, and numbers that have to be.
    atoms
        Products of factors that are summed.
    pieces
        Those of the keys that are cut into intervals, whose powers are summed.
    """

    texts: ModelTexts
    schema: Mapping[str, nw.dtypes.DType]
    keys: tuple[str, ...]
    atoms: tuple[tuple[Factor, ...], ...]
    pieces: Mapping[str, Pieces] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        """What was asked."""
        return self.texts.spec

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that are read."""
        return self.texts.columns

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns that the atoms and offsets are made of."""
        factors = [*(f for atom in self.atoms for f in atom), *self.texts.offsets]
        columns = dict.fromkeys(c for f in factors for c in f.columns)
        return tuple(c for c in columns if c not in self.keys)

    @property
    def ranged(self) -> tuple[str, ...]:
        """Columns whose means, sds and ends are wanted."""
        return (*self.numbers, *self.pieces)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The atoms by the texts of their factors, powers of intervals last."""
        powers = (name for column, own in self.pieces.items() for name in own.atoms(column))
        return (*as_texts(self.atoms), *((name,) for name in powers))

    @property
    def bases(self) -> tuple[tuple[Factor, str], ...]:
        """Factors that need the values of a number, or its intervals, and the number."""
        apart = {c for f in self.texts.factors if f.kind == "category" for c in f.columns}
        apart |= set(self.texts.group_columns)
        every = [(f, c) for f in self.texts.factors if has_basis(f) for c in f.columns]
        return tuple((f, c) for f, c in every if c not in apart)

    @property
    def responses(self) -> tuple[Factor, ...]:
        """The response, and the offsets that are taken off it; none where the response is a key."""
        return () if self.spec.family is not None else (self.texts.response, *self.texts.offsets)

    @classmethod
    def of(cls, spec: Spec, schema: Mapping[str, nw.dtypes.DType]) -> Plan:
        """For a table with these columns.

        Raises
        ------
        DataError
            A column that is not there, or holds what the formula cannot use.
        """
        texts = ModelTexts.from_spec(spec, schema)
        for name in texts.columns:
            if name not in schema:
                hint = nearest(name, list(schema))
                if (
                    f"{name}_1" in schema
                ):  # as DuckDB renames what differs from another in case only
                    hint = "DuckDB does not tell it from another that differs in capitals only. Rename it"
                raise DataError(
                    f"column {name!r} is not in the table; {hint}",
                    "unknown-column",
                )
        own = {name: schema[name] for name in texts.columns}
        if spec.family is not None:  # rows that are alike in all columns are counted
            return cls(texts, own, tuple(dict.fromkeys([*texts.group_columns, *texts.columns])), ())
        keys = _keys(texts, own)
        _check_numbers(texts, own, keys)
        return cls(texts, own, keys, _atoms(texts, keys))


def is_text(dtype: nw.dtypes.DType) -> bool:
    """Whether a column holds labels."""
    return isinstance(dtype, (nw.String, nw.Categorical, nw.Enum))


def has_basis(factor: Factor) -> bool:
    """Whether a factor makes columns for which each value of its column counts."""
    return any(f"{name}(" in factor.code for name in BASES)


def _keys(texts: ModelTexts, schema: Mapping[str, nw.dtypes.DType]) -> tuple[str, ...]:
    apart = [
        c
        for f in texts.factors
        for c in f.columns
        if f.kind == "category" or has_basis(f) or is_text(schema[c]) or schema[c] == nw.Boolean
    ]
    return tuple(dict.fromkeys([*texts.group_columns, *apart]))


def _atoms(texts: ModelTexts, keys: Sequence[str]) -> tuple[tuple[Factor, ...], ...]:
    """Which products of summed factors the terms hold, in order."""
    found: dict[tuple[Factor, ...], None] = {}
    for side in texts.sides.values():
        for term in terms_of(side.pieces):
            atom = tuple(f for f in term if not set(f.columns) <= set(keys))
            if atom:
                found.setdefault(atom)
    distinct = {frozenset(atom): atom for atom in reversed(found)}
    return tuple(reversed(distinct.values()))


def _check_numbers(
    texts: ModelTexts, schema: Mapping[str, nw.dtypes.DType], keys: Sequence[str]
) -> None:
    """Raise where a number must stand and the column has another type."""
    roles = dict.fromkeys(texts.response.columns, "the response")
    roles |= {c: "an offset" for f in texts.offsets for c in f.columns}
    roles |= {c: word for word, c in texts.spec.residual.arguments.items()}
    for f in texts.factors:
        if f.kind == "number" or (f.kind == "column" and f.columns[0] not in keys):
            role = "a predictor" if f.kind == "column" else f"the argument of {f.text}"
            roles |= {c: role for c in f.columns if c not in roles}
    for name, role in roles.items():
        dtype = schema[name]
        if is_text(dtype):
            raise DataError(
                f"column {name!r} is text or categories, and {role} must be a number",
                "text-not-number",
            )
        if dtype.is_temporal():
            raise DataError(
                f"column {name!r} holds dates or times, and {role} must be a number. Make one in the "
                "table, such as the days since the first, and use it",
                "time-not-number",
            )
        if dtype == nw.Boolean and role == "the response":
            raise DataError(
                f"column {name!r} is true or false: write family='bernoulli', or make a column of 0 "
                "and 1 in the table",
                "boolean-response",
            )
        if not (dtype.is_numeric() or dtype == nw.Boolean):
            raise DataError(
                f"column {name!r} holds {dtype}, and {role} must be a number", "mixed-column"
            )


def as_texts(atoms: Sequence[Sequence[Factor]]) -> tuple[tuple[str, ...], ...]:
    """Atoms by the texts of their factors."""
    return tuple(tuple(f.text for f in atom) for atom in atoms)
