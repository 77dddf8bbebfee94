"""What terms are called on an axis: the height at age 0, the slope of height per unit of age."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hierpool.bayes.priors.meaning import meaning_of
from hierpool.core.schema import Schema

_INTERCEPT = "Intercept"
_TREATED = re.compile(r"([^\[\]:]+)\[T\.([^\[\]]*)\]")  # a category against the first
_OWN = re.compile(r"([^\[\]:]+)\[([^\[\]]*)\]")  # a category by itself
_MOST_HELD = 3


def terms_in_words(schema: Schema) -> dict[str, str]:
    """Term -> what its coefficient is, in the response's and the predictors' names.

    An intercept is the response where the numbers are 0 and the categories at their reference; a
    slope is per unit, since a column does not say its unit. Where a term has interactions it says
    at what it holds. A term that has no such words (a spline, an interaction) keeps its name.
    """
    every = tuple(dict.fromkeys([*schema.terms, *(t for g in schema.groups for t in g.terms)]))
    response = predictor_in_words(schema)
    held = _references(schema, every)
    is_linked = schema.family is not None and not schema.family.is_on_response_scale
    return {term: _words(term, response, every, held, is_linked) for term in every}


def predictor_in_words(schema: Schema) -> str:
    """What coefficients are on the scale of: the response, or its log odds, its log mean."""
    response = schema.spec.response.replace("`", "")
    if schema.family is None:
        return response
    return meaning_of(schema.family).of_sds.format(response=response).removeprefix("the ")


def _references(schema: Schema, terms: Iterable[str]) -> dict[str, str]:
    """Each predictor at the value where it adds nothing: ``{"age": "age 0", "Sex": "Sex Female"}``."""
    categories = {
        s.column: [str(c) for c in s.categories]
        for s in schema.encoder.sources
        if s.categories is not None
    }
    held: dict[str, str] = {}
    for term in terms:
        for part in term.split(":"):
            if found := _TREATED.fullmatch(part):
                column = found[1]
                coded = {t.removeprefix(f"{column}[T.").removesuffix("]") for t in terms}
                left = [c for c in categories.get(column, []) if c not in coded]
                held[column] = f"{column} {left[0]}" if len(left) == 1 else f"{column} reference"
            elif part != _INTERCEPT and "[" not in part and not _is_made_of(part, held):
                held[part] = f"{part} 0"
    return held


def _is_made_of(part: str, held: Mapping[str, str]) -> bool:
    """Whether a term such as ``I(time ** 2)`` is 0 where one before it is."""
    return any(re.fullmatch(rf"I\({re.escape(name)} ?\*\* ?\d+\)", part) for name in held)


def _words(
    term: str, response: str, every: tuple[str, ...], held: Mapping[str, str], is_linked: bool
) -> str:
    if term == _INTERCEPT:
        if any("[" in t and not _TREATED.search(t) for t in every) or len(held) > _MOST_HELD:
            return f"intercept of {response}"
        first = next(iter(held), "")
        joint = (
            ", " if any(_TREATED.match(t) and t.startswith(f"{first}[") for t in every) else " at "
        )
        if not held:
            return response if is_linked else f"mean of {response}"
        return f"{response}{joint}{', '.join(held.values())}"
    at = _held_with(term, every, held)
    if found := _TREATED.fullmatch(term):
        base = held[found[1]].removeprefix(f"{found[1]} ")
        return f"difference in {response}, {found[1]} {found[2]} − {base}{at}"
    if (found := _OWN.fullmatch(term)) and "(" not in found[1]:
        return f"{response}, {found[1]} {found[2]}{at}"
    if term in held and f"I({term} ** 2)" not in every:
        return f"slope of {response} per unit of {term}{at}"
    return term


def _held_with(term: str, every: tuple[str, ...], held: Mapping[str, str]) -> str:
    """Where the coefficient of a term that others interact with holds: ``", Sex Female"``."""
    beside: dict[str, str] = {}
    for other in every:
        parts = other.split(":")
        if len(parts) > 1 and term in parts:
            names = [part.split("[T.")[0] for part in parts if part != term]
            beside |= {name: held[name] for name in names if name in held}
    return "".join(f", {words}" for words in beside.values())
