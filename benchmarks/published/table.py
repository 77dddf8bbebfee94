"""The table: published, ours, difference, tolerance, verdict; and its counts."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import bates, bayes, families, growth, radon, rats, sas, schools, shrinkage, sleep
from .analyses import Analysis
from .numbers import Key, Published
from .scope import explanation, left_out

MODULES = (sleep, bates, schools, growth, sas, radon, shrinkage, bayes, rats, families)
ANALYSES: tuple[Analysis, ...] = tuple(a for module in MODULES for a in module.ANALYSES)
HALF_DIGIT = 1e-9  # slack of a comparison of decimal numbers in binary


def by_key() -> dict[Key, Analysis]:
    """Every analysis by its key."""
    return {analysis.key: analysis for analysis in ANALYSES}


@dataclass(frozen=True, slots=True)
class Compared:
    """A published number beside ours; NaN where there is none."""

    number: Published
    ours: float
    why: str

    @property
    def difference(self) -> float:
        return self.ours - self.number.value

    @property
    def is_within(self) -> bool:
        slack = self.number.tolerance * (1 + HALF_DIGIT)
        return bool(np.abs(self.difference) <= slack)

    @property
    def verdict(self) -> str:
        """``yes``, ``no`` or ``missing``."""
        if np.isnan(self.ours):
            return "missing"
        return "yes" if self.is_within else "no"


def compared(numbers: Sequence[Published], folder: Path | None) -> Iterable[Compared]:
    """Every number in scope beside ours; each analysis is fitted once, when it is first met."""
    known, found = by_key(), dict[Key, dict[str, float]]()
    for number in numbers:
        if left_out(number):
            continue
        if number.analysis not in found:
            found[number.analysis] = _answers(known.get(number.analysis), folder)
        ours = found[number.analysis].get(number.quantity, np.nan)
        yield Compared(number, ours, explanation(number))


def _answers(analysis: Analysis | None, folder: Path | None) -> dict[str, float]:
    """Our numbers; none where the code does not get that far, and the error is shown."""
    if analysis is None:
        return {}
    try:
        return analysis.answers(folder)
    except Exception:
        traceback.print_exc()
        return {}


def counts(rows: Sequence[Compared]) -> pd.DataFrame:
    """By case: numbers in scope, within their tolerance, and the share."""
    cases = pd.Series([row.number.case for row in rows], name="case")
    within = (
        pd.Series([row.is_within for row in rows]).groupby(cases, sort=False).agg(["size", "sum"])
    )
    table = within.rename(columns={"size": "in scope", "sum": "within"}).astype(int)
    table.loc["all"] = table.sum()
    table["share"] = table["within"] / table["in scope"]
    return table


def out_of_scope(numbers: Sequence[Published]) -> pd.DataFrame:
    """Case and reason -> how many numbers, in the order of the file."""
    keys = [(n.case, left_out(n)) for n in numbers if left_out(n)]
    table = pd.DataFrame(keys, columns=["case", "reason"]).value_counts(sort=False)
    order = list(dict.fromkeys(keys))
    return table.reindex(pd.MultiIndex.from_tuples(order, names=table.index.names)).to_frame(
        "numbers"
    )
