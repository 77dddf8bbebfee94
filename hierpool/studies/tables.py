"""The tables of a study at full precision, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hierpool.answers.term_effects import term_effects
from hierpool.core.errors import UnsupportedModelError
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.studies.result import StudyResult


def tables_of(study: StudyResult) -> dict[str, pd.DataFrame]:
    """The answer term by term, comparisons, estimates beside those of REML, shrinkage and findings."""
    by_group, ladder = study.comparison_by_group, study.residual_ladder
    new_groups = pd.concat(by_group, names=["factor", "model"]) if by_group else None
    return {
        **answer_table(study),
        **({} if study.comparison.empty else {"comparison": study.comparison}),
        **({} if new_groups is None else {"comparison_by_group": new_groups}),
        "fixed_effects": _with_reml(study.fits, study.blups, "fixed_effects"),
        "variance_components": _with_reml(study.fits, study.blups, "variance_components"),
        **({} if ladder is None else {"residual_structures": ladder.table}),
        **({} if study.shrinkage.empty else {"shrinkage": study.shrinkage}),
        **({} if study.compare_blups.empty else {"compare_blups": study.compare_blups}),
        "findings": study.findings.table,
    }


def answer_table(study: StudyResult) -> dict[str, pd.DataFrame]:
    """The table of ``hp.term_effects`` of the recommended model, as ``answer``.

    On the right of the posterior what REML (ML of a family) and complete pooling (its posterior mean)
    say of the same comparison, with REML's F test of the term. A sentence stands in the first row of
    its term.
    """
    try:
        posterior = term_effects(study.fit)
        pooled = term_effects(study.fits["complete_pooling"])
    except UnsupportedModelError:  # more combinations of categories than can be averaged
        return {}
    if posterior.empty:
        return {}
    index = posterior.index
    terms = index.get_level_values("term")
    said = [posterior.attrs["sentences"][term] for term in terms]
    table = pd.DataFrame(posterior).assign(
        **_tests(study.optimum, index),
        complete_pooling=pooled["mean"].reindex(index),
        sentence=np.where(terms.duplicated(), "", said),
    )
    table.attrs.clear()
    return {"answer": table}


def _tests(blup: LikelihoodFit | None, index: pd.Index[Any]) -> dict[str, Any]:
    """Estimates and F tests of the terms by the optimum; nothing where it has none."""
    try:
        table = None if blup is None else term_effects(blup)
    except UnsupportedModelError:
        table = None
    if blup is None or table is None or "F" not in table:
        return {}
    tests = {name: table[name].reindex(index) for name in ("num_df", "den_df", "F", "p")}
    is_ml = blup.design.family is not None or bool(blup.design.scale_factor)
    method = blup.method.lower() if is_ml else "reml"
    return {
        method: table["estimate"].reindex(index),
        **tests,
        "df_method": table.attrs["df_method"],
    }


def _with_reml(
    fits: Mapping[str, PosteriorFit], blups: Mapping[str, LikelihoodFit], method: str
) -> pd.DataFrame:
    """A table of every posterior with that of its REML or least-squares fit on its right."""
    parts = {}
    for name, fit in fits.items():
        posterior = getattr(fit, method)()
        has_reml = fit.design.family is None and not fit.design.scale_factor
        if len(posterior) and name not in blups and not has_reml:
            parts[name] = posterior
        if len(posterior) and name in blups:
            plain = {"df": "normal"} if method == "fixed_effects" else {}  # no df are shown
            other = getattr(blups[name], method)(**plain).assign(method=blups[name].method)
            parts[name] = posterior.join(other[["method", "estimate", "se"]])
    return pd.concat(parts, names=["model"])
