"""The record of a study, as plain data; ``Study`` adds its tables, figures and printed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hierpool.checks.advice import Choice
from hierpool.core.design import Design
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.findings import Findings
from hierpool.core.options import options
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.model import Model
from hierpool.studies.residual_ladder import ResidualLadder
from hierpool.studies.structures import StudyStructure


@dataclass(frozen=True, repr=False)
class StudyResult:
    """What a study was asked and what it found; ``Study`` describes each attribute.

    ``findings`` and ``answer`` are worked out from all the others.
    """

    formula: str
    groups: tuple[str, ...]
    along: tuple[str, ...]
    label: str
    seed: int
    models: Mapping[str, Model]
    fits: Mapping[str, PosteriorFit]
    blups: Mapping[str, LikelihoodFit]
    comparison: pd.DataFrame
    comparison_by_group: Mapping[str, pd.DataFrame]
    largest: str
    selected: str
    choice: Choice
    skipped: Mapping[str, str]
    shrinkage: pd.DataFrame
    compare_blups: pd.DataFrame
    findings: Findings = field(default_factory=Findings)
    answer: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    prob: float = field(default_factory=lambda: options.prob)
    structure: StudyStructure | None = None

    @property
    def residual_ladder(self) -> ResidualLadder | None:
        """The residual structures that were compared; None where none were asked for."""
        return None if self.structure is None else self.structure.ladder

    @property
    def group(self) -> str:
        """The grouping factor; the first one of several."""
        return self.groups[0]

    @property
    def recommended(self) -> str:
        """Formula of the recommended model; the larger one where the data do not decide."""
        return self.choice.formula

    @property
    def decided(self) -> bool:
        """Whether the data separate the recommended model from the simpler ones."""
        return self.choice.decided

    @property
    def why(self) -> str:
        """Why this model is recommended, in sentences."""
        said = self.choice.sentence
        if not self.design.groups:
            said = (
                f"We recommend {self.recommended}. It has no random effects; the residual structure "
                "takes their place."
            )
        if self.residual_ladder is None:
            return said
        return f"{said} {self.structure_sentence}"

    @property
    def structure_sentence(self) -> str:
        """The residual structure of the recommended model and why; empty where none was compared."""
        if self.structure is None or self.structure.ladder is None:
            return ""
        made = self.structure.ladder
        name = (
            made.recommended if made.recommended in self.structure.instead else self.structure.name
        )
        typed = f"sigma {name}" if name.startswith("~") else name
        return f"Residual structure: {typed}. {made.because()}"

    @property
    def model(self) -> Model:
        """The recommended model."""
        return self.models[self.selected]

    @property
    def fit(self) -> PosteriorFit:
        """The posterior of the recommended model."""
        return self.fits[self.selected]

    @property
    def reml(self) -> LikelihoodFit:
        """The REML fit of the recommended model; by maximum likelihood with a family.

        Raises
        ------
        UnsupportedModelError
            A family whose likelihood has no such fit here.
        """
        if self.optimum is None:
            raise UnsupportedModelError(
                f"{self.recommended} has no fit by maximum likelihood; use study.fit, the posterior",
                "no-reml",
            )
        return self.optimum

    @property
    def optimum(self) -> LikelihoodFit | None:
        """The same; None where there is none."""
        return self.blups.get(self.selected)

    @property
    def design(self) -> Design:
        """Rows and columns of the recommended model."""
        return self.fit.design
