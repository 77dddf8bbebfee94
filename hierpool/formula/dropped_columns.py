"""Notices about dropped columns: which, why, and the consequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from hierpool.core.errors import listed
from hierpool.core.findings import Finding
from hierpool.core.spec import Spec
from hierpool.core.text import joined
from hierpool.formula.encoder import Encoding
from hierpool.formula.parse import group_text
from hierpool.formula.varying_columns import TermColumns

SPLINES = ("cr(", "cc(", "cs(")  # they sum to a constant


def dropped_notices(
    learned: Mapping[str, tuple[Encoding, np.ndarray]], terms: Iterable[TermColumns], spec: Spec
) -> Iterator[Finding]:
    """Say which columns are dropped, and why, of the population and of each bar."""
    population, pooled = learned[spec.population][0], spec.pooling != "none"
    found = [("the fixed effects", spec.population, population)] if pooled else []
    for part in terms:
        place = group_text(part.term) if pooled else "the formula"
        found.append((place, part.term.columns, part.piece.encoding))
    alike: dict[tuple[str, tuple[str, ...]], list[tuple[str, Encoding]]] = {}
    for place, text, encoding in found:
        if encoding.dropped:
            alike.setdefault((text, encoding.dropped), []).append((place, encoding))
    for (text, _), several in alike.items():
        yield _dropped_columns([place for place, _ in several], several[0][1], learned[text][1])


def _dropped_columns(places: list[str], encoding: Encoding, X: np.ndarray) -> Finding:
    span, names = encoding.span, encoding.names
    assert span is not None
    causes: dict[str, list[str]] = {}
    for k, parts in zip(span.dropped, span.made_of, strict=True):
        others = [names[i] for i in parts]
        causes.setdefault(_cause(X[:, k], others), []).append(names[k])
    told = "; ".join(f"{listed(cause)} {why}" for why, cause in causes.items())
    n, one = len(span.dropped), len(span.dropped) == 1
    text = (
        f"{n} {'column' if one else 'columns'} of {joined(places)} cannot be estimated from "
        f"these data and {'is' if one else 'are'} dropped: {told}"
    )
    meaning = (
        "Fitted values do not change. The other coefficients are those with the dropped ones set "
        "to zero. Predictions and contrasts that need a dropped column are refused as not "
        "estimable."
    )
    if any(name.startswith(SPLINES) for name in encoding.dropped):
        meaning += " With an intercept, write constraints='center' in the spline."
    return Finding("columns-dropped", "warning", text, meaning)


def _cause(column: np.ndarray, parts: list[str]) -> str:
    """Why a column is dropped, in words."""
    if (column == column[0]).all():
        return f"({column[0]:.15g} in every row)"
    shown = [name for name in parts if name != "Intercept"] or parts
    return f"(a combination of {listed(shown)})"
