"""Estimability of predictions and contrasts when columns of a formula were dropped.

A combination of coefficients is estimable if it is one of rows of the model (Searle 1971): if each
dropped column has in it the value that the kept columns imply. This is linear, so that what holds
for rows holds for their sums and differences.

References
----------
Searle (1971), Linear Models, section 5.4. Lenth (2015), R package estimability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierpool.core.errors import NotEstimableError, listed


@dataclass(frozen=True)
class Beyond:
    """How far m combinations are from what the kept columns imply for d dropped ones.

    Attributes
    ----------
    terms
        Names of the dropped columns.
    excess
        Shape (m, d): value of the dropped column less the implied one, in its sds.
    slack
        Shape (m, d): how much of it may be rounding, or what the rows of the model have too.
    """

    terms: tuple[str, ...]
    excess: np.ndarray
    slack: np.ndarray

    @classmethod
    def nothing(cls, m: int) -> Beyond:
        """Of m combinations where no column was dropped."""
        return cls((), np.zeros((m, 0)), np.zeros((m, 0)))

    @classmethod
    def stacked(cls, several: Sequence[Beyond]) -> Beyond:
        """Combinations of one model, those of each after the other."""
        return cls(
            several[0].terms,
            np.concatenate([b.excess for b in several]),
            np.concatenate([b.slack for b in several]),
        )

    def beside(self, other: Beyond) -> Beyond:
        """These dropped columns and others, of the same combinations."""
        return Beyond(
            (*self.terms, *other.terms),
            np.concatenate([self.excess, other.excess], axis=1),
            np.concatenate([self.slack, other.slack], axis=1),
        )

    def combined(self, weights: np.ndarray) -> Beyond:
        """Sums of the combinations, weights (r, m)."""
        return Beyond(self.terms, weights @ self.excess, np.abs(weights) @ self.slack)

    @property
    def is_needed(self) -> np.ndarray:
        """Shape (m, d): whether the combination needs the dropped column."""
        return ~(np.abs(self.excess) <= self.slack)

    @property
    def is_estimable(self) -> np.ndarray:
        """Shape (m,)."""
        return ~self.is_needed.any(axis=1)

    def check(self, labels: Sequence[object], what: tuple[str, str], advice: str) -> None:
        """Raise where a combination is not estimable.

        Parameters
        ----------
        labels
            Names of the m combinations.
        what
            What one of them is called, and several: ``("row", "rows")``.
        advice
            What to write instead.
        """
        bad = np.flatnonzero(~self.is_estimable).tolist()
        if not bad:
            return
        needed = self.is_needed[bad].any(axis=0)
        names = [t for t, is_needed in zip(self.terms, needed, strict=True) if is_needed]
        shown = [labels[i] for i in bad]
        columns = "a column" if len(names) == 1 else "columns"
        verb = "is" if len(bad) == 1 else "are"
        raise NotEstimableError(
            f"{what[len(bad) > 1]} {listed(shown)} {verb} not estimable, because the model "
            f"dropped {columns}, {listed(names)}. {advice}",
            "not-estimable",
            shown,
        )
