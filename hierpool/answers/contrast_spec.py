"""What is compared, as combinations of coefficients: levels, values of a predictor, names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from hierpool.algebra.mixed_model_equations import Combinations, LevelPart
from hierpool.answers.arguments import choose_terms
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import (
    ArgumentError,
    NotEstimableError,
    UnsupportedModelError,
    listed,
    nearest,
)
from hierpool.core.estimable import Beyond
from hierpool.core.label_matching import find_label, find_level

Of = Literal["coefficients", "deviations"]
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
    constant
        Shape (m,): what is added to them.
    """

    index: pd.Index[Any]
    combinations: Combinations
    constant: np.ndarray


def read(
    design: Design,
    what: str | Mapping[Any, Any],
    levels: Sequence[Any] | Mapping[Any, float] | None,
    term: str | None,
    at: Mapping[str, Any] | None,
    of: Of,
) -> Compared:
    """What is asked, as combinations of coefficients."""
    if of not in get_args(Of):
        raise ArgumentError(f"of={of!r}: choose 'coefficients' or 'deviations'", "unknown-choice")
    factors = [g.factor for g in design.groups]
    if isinstance(what, Mapping):
        _refuse("a dict of names", levels=levels, term=term, at=at)
        return _of_names(design, what, of)
    if what in factors:
        _refuse(f"the group {what!r}", at=at)
        return _of_levels(design, design.group(what), levels, term, of)
    if what in design.predictors:
        _refuse(f"the predictor {what!r}", term=term)
        return _of_predictor(design, what, levels, at or {})
    known = [*factors, *design.predictors]
    raise ArgumentError(
        f"nothing to compare is called {what!r} in {design.spec.formula}; {nearest(what, known)}. "
        "A single coefficient goes into a dict: {'Days': 1}",
        "unknown-choice",
    )


def _refuse(beside: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(
                f"{name}= says nothing beside {beside}: leave it out.", "bad-contrast"
            )


def _of_names(design: Design, what: Mapping[Any, Any], of: Of) -> Compared:
    """A dict, name -> weight, or a dict of dicts."""
    nested = {k: v for k, v in what.items() if isinstance(v, Mapping)}
    if nested and len(nested) < len(what):
        raise ArgumentError(
            "some values are weights and some are dicts: give one dict, name -> weight, or a dict "
            "of them, label -> dict.",
            "bad-contrast",
        )
    rows = nested or {" ".join(_signed(w, _named(k)) for k, w in what.items()).lstrip("+ "): what}
    index = pd.Index([str(label) for label in rows], name="contrast")
    return _combined(design, list(rows.values()), of, index)


def _named(key: Any) -> str:
    return ":".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _signed(weight: Any, name: str) -> str:
    """A weight and what it belongs to, as one would write it: ``"- 0.5 309"``."""
    value = _number(weight)
    size = "" if abs(value) == 1 else f"{abs(value):g} "
    return f"{'-' if value < 0 else '+'} {size}{name}"


def _of_levels(
    design: Design,
    group: GroupDesign,
    levels: Sequence[Any] | Mapping[Any, float] | None,
    term: str | None,
    of: Of,
) -> Compared:
    """Levels of a group compared, term by term."""
    every, factor = group.grouping.levels, group.factor
    chosen = _weighted(
        levels,
        list(every),
        f"levels of {factor!r}",
        lambda v: every[find_level(v, group.schema.grouping)],
    )
    keys, rows = [], []
    for label, weights in chosen:
        for name in choose_terms(group, term):
            keys.append((factor, label, name))
            rows.append({(factor, level, name): w for level, w in weights.items()})
    index = pd.MultiIndex.from_tuples(keys, names=["factor", "contrast", "term"])
    return _combined(design, rows, of, index)


def _weighted(
    given: Sequence[Any] | Mapping[Any, float] | None,
    every: Sequence[Any] | None,
    what: str,
    find: Callable[[Any], Any],
) -> list[tuple[str, dict[Any, float]]]:
    """Label of each comparison, and the weights of what it compares."""
    if isinstance(given, Mapping):
        weights = {find(value): _number(weight) for value, weight in given.items()}
        words = " ".join(_signed(w, str(value)) for value, w in weights.items())
        return [(words.lstrip("+ "), weights)]
    if given is None and every is None:
        raise ArgumentError(
            f"{what} are numbers: say which to compare, e.g. levels=[1, 0].", "bad-contrast"
        )
    if isinstance(given, (str, bytes)):
        given = [given]
    values = list(
        dict.fromkeys(map(find, given)) if given is not None else every if every is not None else ()
    )
    if len(values) < 2:
        raise ArgumentError(
            f"a comparison takes two {what} at least; given: {listed(values) or 'none'}.",
            "bad-contrast",
        )
    n = math.comb(len(values), 2)
    if n > MOST_PAIRS:
        raise ArgumentError(
            f"{len(values)} {what} make {n} pairs; {MOST_PAIRS} are the most. Name those to "
            "compare, levels=[...], or ask hp.ranks(fit) which is best.",
            "bad-contrast",
        )
    return [(f"{a} - {b}", {a: 1.0, b: -1.0}) for a, b in itertools.combinations(values, 2)]


def _number(weight: Any) -> float:
    is_number = isinstance(weight, (int, float, np.integer, np.floating))
    if not is_number or isinstance(weight, bool) or not math.isfinite(weight):
        raise ArgumentError(f"a weight is a number; given: {weight!r}.", "bad-contrast")
    return float(weight)


def _of_predictor(
    design: Design,
    name: str,
    values: Sequence[Any] | Mapping[Any, float] | None,
    at: Mapping[str, Any],
) -> Compared:
    """Expected values of an average level compared where a predictor has one value and another."""
    if design.groups and not design.groups[0].is_pooled:
        factor = design.groups[0].factor
        raise UnsupportedModelError(
            f"no pooling has no effect of {name!r} that is common to the levels of {factor!r}. "
            f"Compare its own coefficients: hp.contrast(fit, {factor!r}, term=...)",
            "no-random-effects",
        )
    for other in at:
        if other not in design.predictors or other == name:
            known = [p for p in design.predictors if p != name]
            raise ArgumentError(f"at= names {other!r}; {nearest(other, known)}", "unknown-choice")
    held = design.frame.assign(**at)
    sources = {s.column: s.categories for s in design.encoder.sources}
    categories = sources.get(name)

    def find(value: Any) -> Any:
        return value if categories is None else find_label(value, categories, name)

    every = None if categories is None else list(categories)
    chosen = _weighted(values, every, f"values of {name!r}", find)
    rows, beyond = {}, {}
    for value in dict.fromkeys(v for _, weights in chosen for v in weights):
        encoded = design.encoder.encode(held.assign(**{name: value}), factors="none")
        rows[value] = np.append(encoded.X.mean(axis=0), encoded.offset.mean())
        n = len(encoded.X)
        beyond[value] = encoded.beyond.combined(np.full((1, n), 1 / n))
    _check_estimable(chosen, beyond, name)
    sums = np.array([sum(w * rows[v] for v, w in weights.items()) for _, weights in chosen])
    index = pd.Index([label for label, _ in chosen], name="contrast")
    empty = tuple(_no_levels(g) for g in design.groups)
    return Compared(index, Combinations(sums[:, :-1], empty), sums[:, -1])


def _check_estimable(
    chosen: Sequence[tuple[str, Mapping[Any, float]]], beyond: Mapping[Any, Beyond], name: str
) -> None:
    """Raise where a comparison needs columns that the model had to drop."""
    weights = np.array([[given.get(v, 0.0) for v in beyond] for _, given in chosen])
    together = Beyond.stacked(list(beyond.values())).combined(weights)
    together.check(
        [label for label, _ in chosen],
        ("contrast", "contrasts"),
        f"Compare other values of {name!r} with levels=[...], hold the predictors that it "
        "interacts with at values that the data have beside it, at={...}, or leave the term of "
        "the dropped column out of the formula",
    )


def _no_levels(group: GroupDesign) -> LevelPart:
    none = np.zeros(0, dtype=np.intp)
    return LevelPart(none, none, np.zeros((0, len(group.terms))))


def _combined(
    design: Design, rows: Sequence[Mapping[Any, Any]], of: Of, index: pd.Index[Any]
) -> Compared:
    """Combinations from the weights of named coefficients."""
    X = np.zeros((len(rows), len(design.terms)))
    parts: list[dict[tuple[int, int], np.ndarray]] = [{} for _ in design.groups]
    for i, weights in enumerate(rows):
        if not weights:
            raise ArgumentError("a combination of no coefficients.", "bad-contrast")
        for key, given in weights.items():
            weight = _number(given)
            if isinstance(key, tuple):
                f, level, k = _find_level(design, key)
                group = design.groups[f]
                own = parts[f].setdefault((i, level), np.zeros(len(group.terms)))
                own[k] += weight
                if of == "coefficients" and group.is_pooled and group.population[k] >= 0:
                    X[i, group.population[k]] += weight
                _check_deviations(group, of)
            else:
                X[i, _find_term(design, key)] += weight
    made = tuple(_as_part(g, own) for g, own in zip(design.groups, parts, strict=True))
    return Compared(index, Combinations(X, made), np.zeros(len(rows)))


def _as_part(group: GroupDesign, own: Mapping[tuple[int, int], np.ndarray]) -> LevelPart:
    if not own:
        return _no_levels(group)
    which, levels = np.array(list(own), dtype=np.intp).T
    return LevelPart(which, levels, np.stack(list(own.values())))


def _check_deviations(group: GroupDesign, of: Of) -> None:
    if of == "deviations" and not group.is_pooled:
        raise UnsupportedModelError(
            f"of='deviations': in no pooling the levels of {group.factor!r} share no distribution "
            "to deviate from. Leave it out.",
            "no-random-effects",
        )


def _find_term(design: Design, name: Any) -> int:
    if name in design.dropped:
        raise NotEstimableError(
            f"contrast {name!r} is not estimable: the column was dropped, because the data of the "
            "model do not tell it from the others. Leave it out, or compare expected values: "
            "hp.contrast(fit, predictor, levels=[...])",
            "not-estimable",
            [name],
        )
    if name not in design.terms:
        raise ArgumentError(
            f"no fixed effect is called {name!r}; {nearest(name, design.terms)}", "unknown-choice"
        )
    return design.terms.index(name)


def _find_level(design: Design, key: tuple[Any, ...]) -> tuple[int, int, int]:
    """Positions of the factor, of its level and of its term."""
    factors = [g.factor for g in design.groups]
    if len(key) != 3:
        raise ArgumentError(
            f"a coefficient of a level is (factor, level, term); given: {key!r}.", "bad-contrast"
        )
    factor, level, term = key
    if factor not in factors:
        raise ArgumentError(
            f"no coefficients vary over {factor!r}; {nearest(factor, factors)}", "unknown-choice"
        )
    group = design.group(factor)
    (name,) = choose_terms(group, term)
    place = find_level(level, group.schema.grouping)
    return factors.index(factor), place, group.terms.index(name)
