"""Situations with a known fault, and clean ones: what every check is held against.

A fault belongs into the file of its subject, ``faults_<subject>.py``, in its tuple ``FAULTS``; the
tests collect them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

import hierpool as hp
from hierpool.core.findings import Findings
from tests.support.tables import grouped, lines

Simulate = Callable[[np.random.Generator], pd.DataFrame]
Stage = Literal["model", "reml", "posterior"]
DRAWS = 250  # of each of 4 chains, enough for what the checks read off theta


@dataclass(frozen=True)
class Situation:
    """Data with one fault of a stated size.

    Attributes
    ----------
    name
        The fault, in words that a test can be called by.
    codes
        Codes of the findings of which one has to appear.
    effect
        What was built in, and how large.
    simulate
        Random generator -> table with the columns of the formula.
    formula
        The model, which does not know of the fault.
    stage
        What is checked: the model before fitting, its REML fit, or its posterior.
    known_se
        Column of known standard errors.
    """

    name: str
    codes: tuple[str, ...]
    effect: str
    simulate: Simulate
    formula: str = "y ~ x + (x | g)"
    stage: Stage = "reml"
    known_se: str | None = None

    def check(self, seed: int) -> Findings:
        """Findings of one simulated table."""
        data = self.simulate(np.random.default_rng(seed))
        return check_at(hp.Model(self.formula, data, known_se=self.known_se), self.stage)

    def is_found(self, seed: int) -> bool:
        """Whether the fault of one simulated table is found."""
        return bool({*self.codes} & {*self.check(seed).codes})

    def __str__(self) -> str:
        return self.name


def check_at(model: hp.Model, stage: Stage) -> Findings:
    """Findings of a model, of its REML fit, or of a lean posterior."""
    if stage == "model":
        return hp.check(model)
    if stage == "reml":
        return hp.check(model.reml())
    return hp.check(model.fit(engine="exact", draws=DRAWS, seed=1, progress=False))


def unbalanced(rng: np.random.Generator) -> pd.DataFrame:
    """65 levels with 3 to 14 rows each, at uneven values of x."""
    g = np.repeat(np.arange(65), rng.integers(3, 15, 65))
    return lines(rng, g, rng.uniform(-1.2, 1.2, len(g)))


CLEAN: dict[str, Simulate] = {
    "8 levels of 10": lambda rng: grouped(rng, 10, 8),
    "20 levels of 5": lambda rng: grouped(rng, 5, 20),
    "129 levels of 4": lambda rng: grouped(rng, 4, 129),
    "65 unbalanced levels": unbalanced,
}
