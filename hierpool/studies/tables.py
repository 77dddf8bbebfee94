"""The tables of a study at full precision, by name."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.studies.result import StudyResult


def tables_of(study: StudyResult) -> dict[str, pd.DataFrame]:
    """Comparisons, estimates beside those of REML, shrinkage and findings."""
    by_group = study.comparison_by_group
    new_groups = pd.concat(by_group, names=["factor", "model"]) if by_group else None
    return {
        "comparison": study.comparison,
        **({} if new_groups is None else {"comparison_by_group": new_groups}),
        "fixed_effects": _with_reml(study.fits, study.blups, "fixed_effects"),
        "variance_components": _with_reml(study.fits, study.blups, "variance_components"),
        "shrinkage": study.shrinkage,
        "compare_blups": study.compare_blups,
        "findings": study.findings.table,
    }


def _with_reml(
    fits: Mapping[str, PosteriorFit], blups: Mapping[str, LikelihoodFit], method: str
) -> pd.DataFrame:
    """A table of every posterior with that of its REML or least-squares fit on its right."""
    parts = {}
    for name, fit in fits.items():
        posterior = getattr(fit, method)()
        if len(posterior) and name in blups:
            plain = {"df": "normal"} if method == "fixed_effects" else {}  # no df are shown
            other = getattr(blups[name], method)(**plain).assign(method=blups[name].method)
            parts[name] = posterior.join(other[["method", "estimate", "se"]])
    return pd.concat(parts, names=["model"])
