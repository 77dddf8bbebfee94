"""How the grouping factors of a study relate, and what share of the variance each accounts for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hierpool.core.design import Grouping
from hierpool.core.group_nouns import nouns
from hierpool.core.text import capital, joined
from hierpool.fits.posterior import PosteriorFit
from hierpool.report.model_words import without_backticks


def is_nested(groupings: Mapping[str, Grouping], inner: str, outer: str) -> bool:
    """Whether every group of one factor lies within one group of another."""
    pairs = np.stack([groupings[inner].codes, groupings[outer].codes])
    return np.unique(pairs, axis=1).shape[1] == groupings[inner].n_levels


def relations(
    groupings: Mapping[str, Grouping], factors: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Of every two factors: the inner one, the outer one, and ``"nested"`` or ``"crossed"``."""
    for k, one in enumerate(factors):
        for other in factors[k + 1 :]:
            if is_nested(groupings, one, other):
                yield one, other, "nested"
            elif is_nested(groupings, other, one):
                yield other, one, "nested"
            else:
                yield one, other, "crossed"


def says_relations(groupings: Mapping[str, Grouping], factors: Sequence[str]) -> str:
    """Which factors are nested and which are crossed, in a sentence; empty for one factor.

    Of factors nested in each other only the next outer one is named.
    """
    names = {f: nouns(f) if nouns(f) != "groups" else f"groups of {f}" for f in factors}
    found = list(relations(groupings, factors))
    nested = {(a, b) for a, b, how in found if how == "nested"}
    next_outer = [
        (a, b) for a, b in nested if not any((a, c) in nested and (c, b) in nested for c in factors)
    ]
    said = [f"{names[a]} are nested in {names[b]}" for a, b in sorted(next_outer)]
    said += [f"{names[a]} are crossed with {names[b]}" for a, b, how in found if how == "crossed"]
    return f"{capital(joined(said))}." if said else ""


def says_shares(fit: PosteriorFit) -> str:
    """What share of the variance that predictors leave each factor accounts for."""
    mean = fit.variance_partition()["mean"].drop("fixed", errors="ignore")
    shares = mean / mean.sum()
    named = [*fit.design.groupings, "residual"]
    parts = [
        f"{100 * shares[part]:.0f} % is "
        f"{'within them' if part == 'residual' else f'between {nouns(part)}'}"
        for part in named
        if part in shares
    ]
    left = " that the predictors leave" if fit.design.predictors else ""
    response = without_backticks(fit.design.spec.response)
    return f"Of the variance of {response}{left}, {joined(parts)}."
