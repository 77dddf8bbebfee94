"""How NUTS sees the coefficients of the groups: the words, and which term has which.

References
----------
Papaspiliopoulos, Roberts, Skold (2007), Statistical Science 22, 59-73.
Betancourt, Girolami (2015), Hamiltonian Monte Carlo for hierarchical models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, nearest

Parameterization = Literal["noncentered", "centered"]
PARAMETERIZATIONS: tuple[Parameterization, ...] = ("noncentered", "centered")
ByTerm = Mapping[str, Mapping[str, Parameterization]]  # factor -> term -> word
Asked = str | Mapping[str, str | Mapping[str, str]]
AUTO = "auto"


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
    said = [word for terms in words.values() for word in terms.values()]
    for word in [*said, *([asked] if isinstance(asked, str) else [])]:
        if word not in (AUTO, *PARAMETERIZATIONS):
            raise ArgumentError(
                f"no parameterization {word!r}: {nearest(word, (*PARAMETERIZATIONS, AUTO))}",
                "unknown-parameterization",
            )
    found = chosen() if AUTO in said else {}
    return {
        factor: {t: found[factor][t] if word == AUTO else word for t, word in terms.items()}  # type: ignore[misc]
        for factor, terms in words.items()
    }


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
