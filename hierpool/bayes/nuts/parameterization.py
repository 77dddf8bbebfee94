"""How NUTS sees the coefficients of the groups: the words, and which term has which.

References
----------
Papaspiliopoulos, Roberts, Skold (2007), Statistical Science 22, 59-73.
Betancourt, Girolami (2015), Hamiltonian Monte Carlo for hierarchical models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import ArgumentError, nearest

Parameterization = Literal["noncentered", "centered", "partial"]
PARAMETERIZATIONS: tuple[Parameterization, ...] = ("noncentered", "centered", "partial")
ByTerm = Mapping[str, Mapping[str, Parameterization]]  # factor -> term -> word
Asked = str | Mapping[str, str | Mapping[str, str]]
AUTO = "auto"


@dataclass(frozen=True)
class Near:
    """Where the population coefficients are looked for: an optimum, in the user's coding.

    Attributes
    ----------
    beta, covariance
        Shapes (p,) and (p, p).
    """

    beta: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Seen:
    """How NUTS sees the coefficients: of the groups by term, and of the population."""

    by_term: ByTerm
    near: Near | None = None


def settled(asked: Asked, design: Design, chosen: Callable[[], ByTerm]) -> ByTerm:
    """The parameterization of each term: as asked for, else as chosen from the data.

    Parameters
    ----------
    asked
        A word for all terms, or factor -> word, or factor -> term -> word. What is "auto" or not
        named is chosen.
    chosen
        Called only where something is left to choose.

    Raises
    ------
    ArgumentError
        An unknown word, factor or term.
    """
    pooled = {g.factor: g.terms for g in design.groups if g.is_pooled}
    if isinstance(asked, Mapping):
        _known("factor", asked, pooled)
    words: dict[str, dict[str, str]] = {}
    for factor, terms in pooled.items():
        own = asked.get(factor, AUTO) if isinstance(asked, Mapping) else asked
        if isinstance(own, Mapping):
            _known("term", own, terms)
        words[factor] = {t: own.get(t, AUTO) if isinstance(own, Mapping) else own for t in terms}
        if {"centered", "partial"} <= set(words[factor].values()):
            raise ArgumentError(
                f"parameterization has both 'centered' and 'partial' terms of {factor!r}: "
                "of one factor, 'partial' goes with 'noncentered' only",
                "unknown-parameterization",
            )
    said = [word for terms in words.values() for word in terms.values()]
    for word in [*said, *([asked] if isinstance(asked, str) else [])]:
        if word not in (AUTO, *PARAMETERIZATIONS):
            raise ArgumentError(
                f"no parameterization {word!r}: {nearest(word, (*PARAMETERIZATIONS, AUTO))}",
                "unknown-parameterization",
            )
    found = chosen() if AUTO in said else {}
    return {factor: _filled(words[factor], found.get(factor, {})) for factor in words}


def _filled(words: Mapping[str, str], found: Mapping[str, Parameterization]) -> dict[str, Any]:
    """Words of one factor, where nothing was said from ``found`` as far as it goes with them."""
    fits = dict(zip(PARAMETERIZATIONS, PARAMETERIZATIONS, strict=True))
    if "centered" in words.values():
        fits["partial"] = "noncentered"
    elif "partial" in words.values():
        fits["centered"] = "partial"
    return {t: fits[found[t]] if word == AUTO else word for t, word in words.items()}


def in_order(design: Design) -> list[GroupDesign]:
    """Factors whose levels are pooled, outer ones first: each is sampled given those before it."""
    pooled = (g for g in design.groups if g.is_pooled)
    return sorted(pooled, key=lambda g: g.grouping.n_levels)


def noncentered(design: Design) -> ByTerm:
    """Every term non-centred."""
    return {g.factor: dict.fromkeys(g.terms, "noncentered") for g in design.groups if g.is_pooled}


def _known(kind: str, named: Iterable[str], known: Iterable[str]) -> None:
    for name in named:
        if name not in known:
            raise ArgumentError(
                f"parameterization names no {kind} of this model: {name!r}; "
                f"{nearest(name, list(known))}",
                "unknown-parameterization",
            )
