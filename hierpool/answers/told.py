"""What a table of effects says of itself: how it was made, and which rows have no answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpool.answers.adjustment import Adjust
from hierpool.answers.expected_values import exposure_columns, is_per_unit
from hierpool.answers.reference_grid import Grid, Predictors, Weights, names_of
from hierpool.answers.response_scale import ResponseScale
from hierpool.answers.summarised import KNOWN_VARIANCES, Asked
from hierpool.core.errors import listed
from hierpool.core.findings import Finding
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.text import short

_ADJUSTED = {
    "tukey": "adjusted by Tukey's method",
    "dunnett": "adjusted by Dunnett's method",
    "holm": "p values adjusted by Holm's method, intervals by Bonferroni's",
    "simultaneous": "intervals that hold together",
}
_MOST_MEANS = 3
_ADVICE = (
    "Ask for combinations of values that occur in the data, e.g. with at={...}, or take the "
    "interaction out of the formula"
)
_OWN_ADVICE = (
    "Pool the groups partially, hp.varying_slope(...), to compare what differs between them."
)


@dataclass(frozen=True)
class Told:
    """How a table was made.

    Attributes
    ----------
    fit, asked, scale, adjust, weights
        What it was made of.
    what
        What a row is called, and several.
    """

    fit: Posterior | Optimum
    asked: Asked
    scale: ResponseScale
    adjust: Adjust
    weights: Weights
    what: tuple[str, str]

    @property
    def df_method(self) -> str:
        """Name of the degrees of freedom; empty for a posterior."""
        if isinstance(self.fit, Posterior):
            return ""
        has_levels = any(k is not None for k in self.asked.linear.held.levels)
        is_exact = self.fit.method == "least squares" or self.fit.design.family is not None
        return KNOWN_VARIANCES if has_levels and not is_exact else str(self.fit.df_method)

    @property
    def attrs(self) -> dict[str, str]:
        """The same in single words, for ``attrs``."""
        held = self.asked.linear.held
        is_linear = self.scale.back is None and self.asked.expected is None
        made = {
            "df_method": self.df_method,
            "adjust": self.adjust,
            "weights": self.weights,
            "groups": held.words,
            "scale": "linear" if is_linear else "response",
        }
        if self.fit.design.family is not None and self.asked.is_difference:
            made["compare"] = self.scale.compare
        return made

    def lines(self, grid: Grid, at: Mapping[str, Any] | None) -> Iterator[str]:
        """The lines under the title of the printed table."""
        given = {k: names_of(v) for k, v in (at or {}).items() if k not in grid.keys}
        held = [f"{name} = {value}" for name, (value, *_) in given.items()]
        averaged = "averaged over the rows of the fit"
        if self.weights == "equal":
            averaged = self._means(grid, at or {})
        at_values = f"at {', '.join(held)}" if held else ""
        yield "; ".join(filter(None, [averaged, at_values, self.asked.linear.held.words]))
        if self.fit.design.family is not None:
            yield self._scale_of_family(at or {})
        elif self.scale.back is not None:
            yield f"back-transformed from {self.scale.response}"
        how = "" if len(self.asked.index) == 1 else "not adjusted"
        least, most = self._adjusted_together()
        if self.adjust != "none" and most > 1:
            rows = f"{most} rows" if least == most else f"{least} to {most} rows"
            how = f"{_ADJUSTED[self.adjust]} ({rows})"
        method = self.df_method or "posterior draws"
        is_df = self.df_method and self.df_method != KNOWN_VARIANCES
        yield "; ".join(filter(None, [f"df: {method}" if is_df else method, how]))

    def _scale_of_family(self, at: Mapping[str, Any]) -> str:
        """On which scale the numbers of a family are, and at which exposure."""
        design, scale = self.fit.design, self.scale
        family = design.family
        words = ["scale: the linear predictor"]
        if scale.compare == "odds ratio":
            words = [f"scale: odds ratios{', for a given group' if design.groups else ''}"]
        elif self.asked.expected is not None:
            words = [f"scale: the response, {scale.measured}, averaged on this scale"]
            if len(self.asked.linear) == len(self.asked.expected.average):
                words = [f"scale: the response, {scale.measured}"]
        elif family is not None and family.link == "identity":
            words = ["scale: the response"]
        named = [*at, *map(str, self.asked.index.names)]
        if is_per_unit(design, named) and not scale.has_ratios:
            words.append(f"per unit of {' and '.join(exposure_columns(design)) or 'exposure'}")
        return "; ".join(words)

    def _adjusted_together(self) -> tuple[int, int]:
        """Rows of the smallest and the largest family; Tukey's counts those not estimable too."""
        family = self.asked.family
        if self.adjust != "tukey":
            family = family[self.asked.is_estimable]
        counts = np.bincount(family) if len(family) else np.zeros(1, dtype=int)
        counts = counts[counts > 0]
        return int(counts.min(initial=len(family))), int(counts.max(initial=0))

    def _means(self, grid: Grid, at: Mapping[str, Any]) -> str:
        """Which numbers are at their means."""
        predictors = Predictors(self.fit.design)
        known = {*predictors.categories, *grid.keys.columns, *at}
        if is_per_unit(self.fit.design, known):
            known |= {*exposure_columns(self.fit.design)}
        names = [n for n in predictors.names if n not in known]
        if len(names) > _MOST_MEANS:
            return f"equal weights, {len(names)} numbers at their means"
        each = [f"{n} at its mean, {short(predictors.mean(n))}" for n in names]
        return "; ".join(["equal weights", *each])

    def findings(self, table: pd.DataFrame) -> tuple[Finding, ...]:
        """Which rows of the table are not estimable; an error where none is."""
        beyond, index = self.asked.beyond, self.asked.index
        bad = np.flatnonzero(~beyond.is_estimable)
        if len(bad) and len(bad) == len(index):
            beyond.check(_labels(index), self.what, _ADVICE)
        needed = beyond.is_needed[bad].any(axis=0)
        names = [t for t, is_needed in zip(beyond.terms, needed, strict=True) if is_needed]
        why = f"they need {listed(names)}, which the data do not determine"
        why = why.replace("they need", "it needs") if len(bad) == 1 else why
        untold = np.flatnonzero(table.isna().all(axis=1) & beyond.is_estimable)
        held = self.asked.linear.held.words.removeprefix("for ")
        return (
            *self._not_estimable(bad, why, f"{_ADVICE}."),
            *self._not_estimable(untold, f"the rows of {held} do not determine it", _OWN_ADVICE),
        )

    def _not_estimable(self, rows: np.ndarray, why: str, advice: str) -> Iterator[Finding]:
        """The finding on some rows, if there are any."""
        if len(rows):
            one = len(rows) == 1
            labels = listed(_labels(self.asked.index)[i] for i in rows)
            text = f"{self.what[not one]} {labels} {'is' if one else 'are'} not estimable: {why}."
            yield Finding("row-not-estimable", "warning", text, advice)


def _labels(index: Any) -> list[str]:
    """Labels of rows as one would say them."""
    return [", ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in index]
