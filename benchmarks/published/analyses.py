"""An analysis: its table, its fit, and a reader for each quantity that was published of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hierpool as hp

from .numbers import Key

Prepare = Callable[..., pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its name: bundled with hierpool, or files of the folder that holds the others."""

    names: tuple[str, ...]
    is_bundled: bool
    prepare: Prepare | None = None

    def load(self, folder: Path | None) -> pd.DataFrame:
        """Its rows, made ready for the formulas; ``prepare`` takes one frame for each name."""
        if self.is_bundled:
            frames = [hp.datasets.load(name) for name in self.names]
        elif folder is not None:
            frames = [pd.read_csv(folder / f"{name}.csv") for name in self.names]
        else:
            raise FileNotFoundError(f"{self.names[0]} is not bundled with hierpool")
        return frames[0] if self.prepare is None else self.prepare(*frames)


def bundled(name: str, prepare: Prepare | None = None) -> Table:
    return Table((name,), True, prepare)


def outside(*names: str, prepare: Prepare | None = None) -> Table:
    return Table(names, False, prepare)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was published as one fit.

    Attributes
    ----------
    case, model, method
        As in the published numbers.
    table
        Its rows.
    fit
        From the rows to whatever the readers read.
    quantities
        Published quantity -> reader of the fit.
    is_quick
        Whether it belongs to the quick tests.
    note
        What a reader should know of how our numbers were made.
    """

    case: str
    model: str
    method: str
    table: Table
    fit: Callable[[pd.DataFrame], Any]
    quantities: Mapping[str, Callable[[Any], float]] = field(repr=False)
    is_quick: bool = True
    note: str = ""

    @property
    def key(self) -> Key:
        return self.case, self.model, self.method

    def answers(self, folder: Path | None = None) -> dict[str, float]:
        """Quantity -> our number."""
        found = _fitted(self.fit, self.table, folder)
        return {name: float(np.asarray(read(found))) for name, read in self.quantities.items()}


@lru_cache(maxsize=1)  # what a fit has to say is often published in several places, side by side
def _fitted(fit: Callable[[pd.DataFrame], Any], table: Table, folder: Path | None) -> Any:
    return fit(table.load(folder))
