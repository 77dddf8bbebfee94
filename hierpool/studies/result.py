"""The record of a study, as plain data; ``Study`` adds its tables, figures and printed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hierpool.core.design import Design
from hierpool.core.findings import Findings
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.model import Model


@dataclass(frozen=True, repr=False)
class StudyResult:
    """What a study was asked and what it found; ``Study`` describes each attribute.

    ``findings`` and ``answer`` are worked out from all the others.
    """

    formula: str
    group: str
    label: str
    seed: int
    models: Mapping[str, Model]
    fits: Mapping[str, PosteriorFit]
    blups: Mapping[str, LikelihoodFit]
    comparison: pd.DataFrame
    comparison_by_group: pd.DataFrame | None
    recommended: str
    partial: str
    shrinkage: pd.DataFrame
    compare_blups: pd.DataFrame
    findings: Findings = field(default_factory=Findings)
    answer: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def design(self) -> Design:
        """Rows and columns of the partially pooled model."""
        return self.fits[self.partial].design
