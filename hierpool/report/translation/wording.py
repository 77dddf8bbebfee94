"""What a translation starts from, and what comes out of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hierpool.core.schema import Schema
from hierpool.core.spec import GroupTerm, Spec
from hierpool.report.translation.formula_text import pieces


@dataclass(frozen=True)
class Written:
    """One model for one program.

    Attributes
    ----------
    program
        ``"lme4"``, ``"brms"`` or ``"SAS PROC MIXED"``.
    code
        What to type there.
    notes
        Where it is not the same model, and what else to know; empty where all is said.
    """

    program: str
    code: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wording:
    """A model with what its text alone does not say.

    Attributes
    ----------
    spec
        The model.
    population
        Its population terms, one by one, interactions multiplied out: ``("1", "Days")``.
    groups
        The terms of each bar in the same way; for no pooling those that each level has of its own.
    categories
        Names of the columns that are categories.
    dropped
        Names of columns that cannot be estimated.
    """

    spec: Spec
    population: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] = ()
    categories: Collection[str] = ()
    dropped: Collection[str] = ()

    @property
    def bars(self) -> Iterator[tuple[GroupTerm, tuple[str, ...]]]:
        """Each group term with its terms."""
        return zip(self.spec.groups, self.groups, strict=True)


def wording_of(schema: Schema) -> Wording:
    """The model of a design, with the terms that its formula comes to."""
    encoder, spread = schema.encoder, schema.spec.residual.spread
    of_spread = [spread] if spread and "log_sd_slope" not in schema.residual_dims else []
    pieces = {factor: iter(every) for factor, every in encoder.groups.items()}
    return Wording(
        schema.spec,
        tuple(term for piece in encoder.population for term in _terms_of(piece)),
        tuple(_terms_of(next(pieces[term.factor])) for term in schema.spec.groups),
        (*(s.column for s in encoder.sources if s.categories is not None), *of_spread),
        tuple(schema.dropped),
    )


def _terms_of(piece: Any) -> tuple[str, ...]:
    """Terms that have a column among those of a piece."""
    chosen = set(piece.columns)
    return tuple(term for term, columns in piece.encoding.terms if chosen & set(columns))


def written(program: str, text: str, notes: Sequence[str]) -> Written:
    """With each note once."""
    return Written(program, text, tuple(dict.fromkeys(notes)))


def categories_in(terms: Sequence[str], categories: Collection[str]) -> list[str]:
    """Terms that hold a category."""
    return [t for t in terms if any(is_category(p, categories) for p in pieces(t))]


def is_category(piece: str, categories: Collection[str]) -> bool:
    """Whether this piece of a term is a category."""
    return piece.startswith("C(") or piece.strip("`") in categories


def related_notes(spec: Spec, advice: str) -> Iterator[str]:
    """The advice for each factor whose groups are related."""
    for term in spec.groups:
        if term.relationship is not None:
            yield advice.format(factor=term.factor)
