"""Comparisons of groups, values of a predictor and coefficients, as linear combinations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.answers.arguments import choose_terms
from hierpool.answers.reference_grid import names_of
from hierpool.core.errors import (
    ArgumentError,
    NotEstimableError,
    UnsupportedModelError,
    listed,
    nearest,
)
from hierpool.core.label_matching import find_level
from hierpool.core.schema import GroupSchema, Schema

Of = Literal["coefficients", "deviations"]
Levels = Sequence[Any] | Mapping[Any, float] | None
Method = Literal["pairwise", "reference"] | Mapping[Any, Any]
MOST_PAIRS = 1000


@dataclass(frozen=True)
class Compared:
    """Combinations of coefficients, and how the table calls them.

    Attributes
    ----------
    index
        Of the table.
    combinations
        m of them.
    """

    index: pd.Index[Any]
    combinations: Combinations


def read(
    schema: Schema,
    what: str | Mapping[Any, Any],
    levels: Levels,
    method: Method,
    term: str | None,
    of: Of,
) -> Compared:
    """What is asked of named coefficients, or of the groups of a factor, as their combinations."""
    if of not in get_args(Of):
        raise ArgumentError(f"of={of!r}: choose 'coefficients' or 'deviations'", "unknown-choice")
    if isinstance(what, Mapping):
        refuse("a dict of names", levels=levels, term=term)
        return _of_names(schema, what, of)
    return _of_levels(schema, schema.group(what), levels, method, term, of)


def refuse(beside: str, **given: Any) -> None:
    """Raise where an argument has a value that says nothing here."""
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(
                f"{name}= has no effect together with {beside}: leave it out.", "bad-contrast"
            )


def check_name(schema: Schema, what: Any) -> None:
    """Raise unless it is a group or a predictor."""
    known = [*(g.factor for g in schema.groups), *schema.predictors]
    if what not in known:
        term = next((t for t in reversed(schema.terms) if t), "Intercept")
        hint = nearest(what, known)
        raise ArgumentError(
            f"there is nothing called {what!r} to compare in {schema.spec.formula}: {hint}"
            f"{'' if hint.endswith('?') else '.'} For a single coefficient use a dict: "
            f"{{{term!r}: 1}}",
            "unknown-choice",
        )


def _of_names(schema: Schema, what: Mapping[Any, Any], of: Of) -> Compared:
    """A dict, name -> weight, or a dict of dicts."""
    nested = {k: v for k, v in what.items() if isinstance(v, Mapping)}
    if nested and len(nested) < len(what):
        raise ArgumentError(
            "some values are weights and some are dicts: give one dict, name -> weight, or a "
            "dict of dicts, label -> dict.",
            "bad-contrast",
        )
    rows = nested or {" ".join(_signed(w, _named(k)) for k, w in what.items()).lstrip("+ "): what}
    index = pd.Index([str(label) for label in rows], name="contrast")
    return _combined(schema, list(rows.values()), of, index)


def _named(key: Any) -> str:
    return ":".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _signed(weight: Any, name: str) -> str:
    """A weight and what it belongs to, as one would write it: ``"- 0.5 309"``."""
    value = _number(weight)
    size = "" if abs(value) == 1 else f"{abs(value):g} "
    return f"{'-' if value < 0 else '+'} {size}{name}"


def _of_levels(
    schema: Schema,
    group: GroupSchema,
    levels: Levels,
    method: Method,
    term: str | None,
    of: Of,
) -> Compared:
    """Levels of a group compared, term by term."""
    every, factor = group.grouping.levels, group.factor

    def find(label: Any) -> Any:
        return every[find_level(label, group.grouping)]

    chosen = comparisons(levels, method, list(every), f"groups of {factor!r}", find)
    keys, rows = [], []
    for label, weights in chosen:
        for name in choose_terms(group, term):
            keys.append((factor, label, name))
            rows.append({(factor, level, name): w for level, w in weights.items()})
    index = pd.MultiIndex.from_tuples(keys, names=["factor", "contrast", "term"])
    return _combined(schema, rows, of, index)


def comparisons(
    levels: Levels,
    method: Method,
    every: Sequence[Any] | None,
    what: str,
    find: Callable[[Any], Any],
    minus: str = "-",
) -> list[tuple[str, dict[Any, float]]]:
    """Label of each comparison, and the weights of what it compares.

    Parameters
    ----------
    levels
        Those to compare, or a weight of each; None for every one.
    method
        How they are compared.
    every
        All there are, in order; None where they are numbers without end.
    what
        What they are called.
    find
        A value that the user typed, as the model has it.
    minus
        What stands between two that are compared.
    """
    if isinstance(levels, Mapping):
        refuse("a dict of weights in levels=", method=None if method == "pairwise" else method)
        return [_weighted(levels, find)]
    if isinstance(method, Mapping):
        return _custom(
            method, None if levels is None else list(map(find, names_of(levels))), every, find
        )
    if method not in ("pairwise", "reference"):
        raise ArgumentError(
            f"method={method!r}: choose 'pairwise' (every pair), 'reference' (each with the first) "
            "or a dict of weights, label -> {value: weight}",
            "unknown-choice",
        )
    if levels is None and every is None:
        raise ArgumentError(
            f"{what} are numbers: name those to compare, e.g. levels=[1, 0].", "bad-contrast"
        )
    given = every or () if levels is None else map(find, names_of(levels))
    values = list(dict.fromkeys(given))
    if len(values) < 2:
        raise ArgumentError(
            f"a comparison needs at least two {what}; given: {listed(values) or 'none'}.",
            "bad-contrast",
        )
    if method == "reference":
        first = values[0]
        return [(f"{whole(v)} {minus} {whole(first)}", {v: 1.0, first: -1.0}) for v in values[1:]]
    n = math.comb(len(values), 2)
    if n > MOST_PAIRS:
        raise ArgumentError(
            f"{len(values)} {what} make {n} pairs; the limit is {MOST_PAIRS}. Name those to "
            "compare, levels=[...], or use hp.ranks(fit) to see which is best.",
            "bad-contrast",
        )
    return [
        (f"{whole(a)} {minus} {whole(b)}", {a: 1.0, b: -1.0})
        for a, b in itertools.combinations(values, 2)
    ]


def whole(value: Any) -> str:
    """A label as part of a comparison, in parentheses where it looks like one itself."""
    text = str(value)
    return f"({text})" if " - " in text or " / " in text else text


def _weighted(given: Mapping[Any, Any], find: Callable[[Any], Any]) -> tuple[str, dict[Any, float]]:
    """Weights of values, and how one would write them."""
    if not given:
        raise ArgumentError(
            "a contrast without weights: give the weight of a value.", "bad-contrast"
        )
    weights = {find(value): _number(weight) for value, weight in given.items()}
    words = " ".join(_signed(w, str(value)) for value, w in weights.items())
    return words.lstrip("+ "), weights


def _custom(
    method: Mapping[Any, Any],
    levels: Sequence[Any] | None,
    every: Sequence[Any] | None,
    find: Callable[[Any], Any],
) -> list[tuple[str, dict[Any, float]]]:
    """Weights that the user wrote: value -> weight, label -> such a dict, or label -> a list."""
    values = levels if levels is not None else every
    if not any(isinstance(v, (Mapping, list, tuple)) for v in method.values()):
        return [_weighted(method, find)]
    found = []
    for label, given in method.items():
        if isinstance(given, Mapping):
            found.append((str(label), _weighted(given, find)[1]))
        elif isinstance(given, (list, tuple)) and values is not None and len(given) == len(values):
            found.append((str(label), dict(zip(values, map(_number, given), strict=True))))
        else:
            raise ArgumentError(
                f"method= gives {label!r} the weights {given!r}: write a dict, value -> weight"
                + (
                    f", or a list of {len(values)}, one for each of {listed(values)}"
                    if values
                    else ""
                ),
                "bad-contrast",
            )
    return found


def _number(weight: Any) -> float:
    is_number = isinstance(weight, (int, float, np.integer, np.floating))
    if not is_number or isinstance(weight, bool) or not math.isfinite(weight):
        raise ArgumentError(f"a weight must be a number; given: {weight!r}.", "bad-contrast")
    return float(weight)


def _no_levels(group: GroupSchema) -> LevelPart:
    none = np.zeros(0, dtype=np.intp)
    return LevelPart(none, none, np.zeros((0, len(group.terms))))


def _combined(
    schema: Schema, rows: Sequence[Mapping[Any, Any]], of: Of, index: pd.Index[Any]
) -> Compared:
    """Combinations from the weights of named coefficients."""
    X = np.zeros((len(rows), len(schema.terms)))
    parts: list[dict[tuple[int, int], np.ndarray]] = [{} for _ in schema.groups]
    for i, weights in enumerate(rows):
        if not weights:
            raise ArgumentError("a contrast without coefficients.", "bad-contrast")
        for key, given in weights.items():
            weight = _number(given)
            if isinstance(key, tuple):
                f, level, k = _find_level(schema, key)
                group = schema.groups[f]
                own = parts[f].setdefault((i, level), np.zeros(len(group.terms)))
                own[k] += weight
                if of == "coefficients" and group.is_pooled and group.population[k] >= 0:
                    X[i, group.population[k]] += weight
                _check_deviations(group, of)
            else:
                X[i, _find_term(schema, key)] += weight
    made = tuple(_as_part(g, own) for g, own in zip(schema.groups, parts, strict=True))
    return Compared(index, Combinations(X, made))


def _as_part(group: GroupSchema, own: Mapping[tuple[int, int], np.ndarray]) -> LevelPart:
    if not own:
        return _no_levels(group)
    which, levels = np.array(list(own), dtype=np.intp).T
    return LevelPart(which, levels, np.stack(list(own.values())))


def _check_deviations(group: GroupSchema, of: Of) -> None:
    if of == "deviations" and not group.is_pooled:
        raise UnsupportedModelError(
            f"of='deviations' does not apply to no pooling: the groups of {group.factor!r} have "
            "no common distribution. Leave it out.",
            "no-random-effects",
        )


def _find_term(schema: Schema, name: Any) -> int:
    if name in schema.dropped:
        raise NotEstimableError(
            f"contrast {name!r} is not estimable: its column was dropped, because it cannot be "
            "separated from the others in these data. Leave it out, or compare expected values: "
            "hp.contrast(fit, predictor, levels=[...])",
            "not-estimable",
            [name],
        )
    if name not in schema.terms:
        raise ArgumentError(
            f"no fixed effect is called {name!r}; {nearest(name, schema.terms)}", "unknown-choice"
        )
    return schema.terms.index(name)


def _find_level(schema: Schema, key: tuple[Any, ...]) -> tuple[int, int, int]:
    """Positions of the factor, of its level and of its term."""
    factors = [g.factor for g in schema.groups]
    if len(key) != 3:
        raise ArgumentError(
            f"a coefficient of a group is (factor, group, term); given: {key!r}.", "bad-contrast"
        )
    factor, level, term = key
    if factor not in factors:
        raise ArgumentError(
            f"no coefficients vary over {factor!r}; {nearest(factor, factors)}", "unknown-choice"
        )
    group = schema.group(factor)
    (name,) = choose_terms(group, term)
    place = find_level(level, group.grouping)
    return factors.index(factor), place, group.terms.index(name)
