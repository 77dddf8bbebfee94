"""The section on residual structures, from plain things."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from hierpool.core.design import Design
from hierpool.core.group_nouns import counted, nouns
from hierpool.report.model_words import varying_in_words
from hierpool.report.parts import Part, Picture, Prose, Section, SmallTable
from hierpool.report.residual_words import structure_name

_TITLES = {
    "residual_structure": "Correlations by distance in time, and standard deviations: observed and "
    "fitted",
    "residual_sds": "Residual standard deviations: observed and fitted",
}


@dataclass(frozen=True)
class StructureRow:
    """A model of the comparison of structures.

    Attributes
    ----------
    design
        Of the model.
    is_recommended
        Whether it is the recommended one.
    numbers
        ``parameters``, ``neg2_loglik``, ``aic``, ``aicc``, ``bic``, ``log_evidence``,
        ``elpd_row``, ``elpd_group_diff`` and ``dse``.
    """

    design: Design
    is_recommended: bool
    numbers: Mapping[str, float]

    @property
    def name(self) -> str:
        """Its structure, and what its random effects are: ``"AR(1) (random level)"``."""
        residual, groups = structure_name(self.design.spec.residual), self.design.groups
        if not groups:
            return residual
        said = []
        for group in groups:
            apart = len(group.terms) > 1 and not group.has_correlation
            of = f" of {nouns(group.factor)}" if len(groups) > 1 else ""
            said.append(f"{varying_in_words(group.terms)}{of}{', uncorrelated' * apart}")
        return f"{residual} (random {'; '.join(said)})"


def structures(
    rows: Sequence[StructureRow],
    because: str,
    notes: Sequence[str],
    pictures: Mapping[str, Figure],
    *,
    factor: str,
    n_groups: int,
    method: str,
) -> Section:
    """Residual structures compared: likelihood and criteria, evidence, prediction; correlations by lag."""
    of = nouns(factor)
    columns = [
        "residuals", "parameters", f"−2 log L ({method})", "AIC", "AICC", "BIC", "log evidence",
        "new observations", f"new {of}",
    ]  # fmt: skip
    note = (
        f"Parameters are those of the covariance. −2 log L, AIC, AICC and BIC (n = "
        f"{counted(n_groups, factor)}) are as PROC MIXED prints them; smaller is better. Without random "
        "effects the structure stands in their place. New "
        "observations: elpd, each observation given all others, earlier and later ones of its group "
        f"too. New {of}: difference in elpd from the best structure ± its standard error."
    )
    parts: list[Part] = [
        Prose([because, *notes]),
        SmallTable("Residual structures", columns, [_cells(row) for row in rows], note),
    ]
    parts += [Picture(name, _TITLES[name], picture) for name, picture in pictures.items()]
    return Section("structures", "Residual structure", parts)


def _cells(row: StructureRow) -> list[str]:
    mark = " (recommended)" if row.is_recommended else ""
    numbers = row.numbers
    named = ("neg2_loglik", "aic", "aicc", "bic", "log_evidence", "elpd_row")
    behind = numbers["elpd_group_diff"]
    group = "best" if behind == 0 else f"{_shown(behind)}\u00a0±\u00a0{_shown(numbers['dse'])}"
    return [
        f"{row.name}{mark}",
        f"{numbers['parameters']:.0f}",
        *(_shown(numbers[name]) for name in named),
        group,
    ]


def _shown(value: float) -> str:
    return f"{value:.1f}".replace("-", "−") if math.isfinite(value) else "–"
