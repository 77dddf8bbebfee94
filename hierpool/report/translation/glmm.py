"""R code for families: glmer, glmmTMB, and clmm of the package ordinal."""

from __future__ import annotations

from hierpool.core.families.family import Family
from hierpool.report.translation.r import (
    WITH_EXTRA_ZEROS,
    double_bar_notes,
    in_r,
    r_notes,
    right_of_family,
)
from hierpool.report.translation.wording import Wording, Written, written

_IN_R = {
    "bernoulli": 'binomial("{link}")',
    "binomial": 'binomial("{link}")',
    "poisson": 'poisson("{link}")',
    "negbinomial": "nbinom2",
    "student": "t_family",
    "gamma": 'Gamma("{link}")',
    "beta": 'beta_family("{link}")',
    "zero_inflated_poisson": "poisson",
    "zero_inflated_negbinomial": "nbinom2",
    "hurdle_poisson": "truncated_poisson",
    "hurdle_negbinomial": "truncated_nbinom2",
}


def glmm(wording: Wording, family: Family) -> Written:
    """For glmer where it has the family, for clmm of ratings, else for glmmTMB."""
    spec, notes = wording.spec, [*r_notes(wording), *double_bar_notes(wording)]
    y, right = in_r(spec.response), right_of_family(wording)
    has_groups, w = spec.pooling == "partial", spec.residual.column
    weights = f", weights = {w}" if w else ""
    if family.has_thresholds:
        call = "clmm" if has_groups else "clm"
        text = f'{call}(factor({y}) ~ {right}, data = data, link = "{family.link}"{weights})'
        return written("ordinal", text, notes)
    if spec.trials:
        y = f"cbind({y}, {in_r(spec.trials)} - {y})"
    how = _IN_R[family.name].format(link=family.link)
    more = ", ziformula = ~ 1" if family.name.startswith(WITH_EXTRA_ZEROS) else ""
    is_glm = family.name in ("bernoulli", "binomial", "poisson")
    if is_glm:
        one = len(wording.groups) == 1 and len(wording.groups[0]) == 1 and has_groups
        if one:
            notes.append("nAGQ = 25 integrates as here; the default of glmer is Laplace's method.")
        elif has_groups:
            notes.append(
                "glmer uses Laplace's method here, which is less exact for few rows a group."
            )
        call, nodes = ("glmer", ", nAGQ = 25" if one else "") if has_groups else ("glm", "")
        text = f"{call}({y} ~ {right}, data = data, family = {how}{nodes}{weights})"
        return written("lme4", text, notes)
    notes.append("glmmTMB uses Laplace's method, which is less exact for few rows a group.")
    return written(
        "glmmTMB", f"glmmTMB({y} ~ {right}, data = data, family = {how}{more}{weights})", notes
    )
